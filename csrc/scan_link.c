/* scan_link.c: one link of the scan engine: it opens and closes, requests go out, answers come in, time runs out.
 *
 * The idea: an answer is matched by its transaction number and by every header byte that its Exchange names. What matches nothing is counted and
 * dropped, and the wait goes on: no wrong value can enter the table. A frame that arrives whole is looked at where it lies.
 */
#include <assert.h>
#include <string.h>

#include "scan.h"

#define ATTEMPTS_MAX 20u /* doublings of the reconnect delay */

/* ---- opening and closing ---------------------------------------------------------------------------------------------------------- */

void bf_link_open(bf_scan *scan, bf_scan_link *link)
{
    if (link->state == LINK_UP) {
        return;
    }
    if (link->state != LINK_CONNECTING) {
        bf_scan_act(scan, link, BF_ACTION_CLOSE, BF_CLOSE_STOPPED);
        return;
    }
    assert(link->plan != NULL);
    assert(link->queue_first == BF_NONE && link->partial_length == 0);
    link->state = LINK_UP;
    link->timeouts_in_row = 0;
    link->is_blocked = false;
    bf_count(link, COUNT_OPENS, 1);
    for (uint32_t i = 0; i < link->plan->unit_count; i++) {
        bf_unit_state *unit = &link->plan->unit_states[i];
        unit->state = BF_UNIT_CLOSED;
        unit->failures = 0;
        unit->backoff_ns = 0;
    }
    bf_scan_act(scan, link, BF_ACTION_UP, 0);
    bf_plan_begin(scan, link);
}

void bf_link_retry_later(bf_scan *scan, bf_scan_link *link)
{
    const int64_t max = link->options.reconnect_max_ns;
    int64_t cap = link->options.reconnect_min_ns;
    for (uint32_t i = 0; i < link->attempts && cap < max; i++) {
        cap *= 2;
    }
    cap = cap < max ? cap : max;
    link->attempts += link->attempts < ATTEMPTS_MAX;
    link->state = LINK_WAIT;
    link->connect_due_ns = scan->now_ns + bf_scan_draw(scan, cap);
}

/* Takes the first entry out of the queue; its contents stay until the next bf_link_enqueue. */
static bf_waiting *unqueue(bf_scan *scan, bf_scan_link *link)
{
    assert(link->queue_first < scan->waiting_made);
    assert(scan->waiting_count > 0);
    const uint32_t index = link->queue_first;
    bf_waiting *waiting = &scan->waiting[index];
    link->queue_first = waiting->next;
    if (link->queue_first == BF_NONE) {
        link->queue_last = BF_NONE;
    }
    waiting->next = scan->waiting_free;
    scan->waiting_free = index;
    scan->waiting_count--;
    return waiting;
}

void bf_link_down(bf_scan *scan, bf_scan_link *link, uint32_t code)
{
    assert(link->state == LINK_UP);
    bf_scan_act(scan, link, BF_ACTION_CLOSE, code);
    for (uint32_t i = 0; i < link->options.window; i++) {
        bf_flight *flight = &link->flights[i];
        if (flight->kind == FLIGHT_POLL || flight->kind == FLIGHT_ONESHOT) {
            bf_scan_done(scan, link, flight->token, BF_DONE_CLOSED);
        }
        flight->kind = FLIGHT_NONE;
    }
    while (link->queue_first != BF_NONE) {
        bf_scan_done(scan, link, unqueue(scan, link)->token, BF_DONE_CLOSED);
    }
    link->partial_length = 0;
    link->is_blocked = false;
    bf_count(link, COUNT_CLOSES, 1);
    for (uint32_t i = 0; i < link->plan->group_count; i++) {
        link->plan->group_states[i].next = link->plan->groups[i].count;
        link->plan->group_states[i].in_flight = 0;
    }
    bf_plan_fail_all(scan, link);
    bf_scan_act(scan, link, BF_ACTION_DOWN, code);
    bf_link_retry_later(scan, link);
}

void bf_link_stop(bf_scan *scan, bf_scan_link *link)
{
    if (link->state == LINK_UP) {
        bf_link_down(scan, link, BF_CLOSE_STOPPED);
    } else if (link->state != LINK_OFF) {
        bf_plan_fail_all(scan, link);
    }
    if (link->plan != NULL) {
        bf_scan_act(scan, link, BF_ACTION_PLANNED, 0)->index = link->plan->generation;
    }
    link->plan = NULL;
    link->state = LINK_OFF;
    link->age_due_ns = BF_NEVER;
}

/* ---- answers ---------------------------------------------------------------------------------------------------------------------- */

static bool fits(const uint8_t *frame, size_t length, size_t offset, size_t count, const uint8_t *expect, const uint8_t *mask)
{
    assert(count <= 16);
    if (offset + count > length) {
        return false;
    }
    unsigned wrong = 0;
    for (size_t i = 0; i < count; i++) {
        wrong |= (unsigned)(frame[offset + i] & mask[i]) ^ expect[i];
    }
    return wrong == 0;
}

static bool is_good(const bf_exchange *exchange, const uint8_t *frame, size_t length)
{
    if (exchange->answer_length != 0 ? length != exchange->answer_length : length < exchange->answer_length_min) {
        return false;
    }
    return fits(frame, length, exchange->expect_offset, exchange->expect_length, exchange->expect, exchange->expect_mask);
}

static bool is_error(const bf_exchange *exchange, const uint8_t *frame, size_t length)
{
    if (exchange->error_length == 0 || length < exchange->error_length) {
        return false;
    }
    return fits(frame, length, exchange->error_expect_offset, exchange->error_expect_length, exchange->error_expect,
                exchange->error_expect_mask);
}

static bf_flight *find_flight(bf_scan_link *link, const uint8_t *frame)
{
    const bf_link_options *o = &link->options;
    const bool is_numbered = o->transaction_bytes != 0;
    const uint16_t transaction = is_numbered ? bf_load_16(frame + o->transaction_offset, o->transaction_little != 0) : 0;
    for (uint32_t i = 0; i < o->window; i++) {
        bf_flight *flight = &link->flights[i];
        if (flight->kind != FLIGHT_NONE && (!is_numbered || flight->transaction == transaction)) {
            return flight;
        }
    }
    return NULL;
}

/* What an answer means for its unit, its exchange and who waits for it. */
static void deliver(bf_scan *scan, bf_scan_link *link, const bf_flight *flight, uint8_t kind, const bf_answer *answer)
{
    assert(kind != FLIGHT_NONE && kind != FLIGHT_ORPHAN);
    if (kind == FLIGHT_POLLED) {
        link->plan->group_states[flight->group].in_flight--;
    }
    if (flight->exchange->unit < link->plan->unit_count) {
        if (answer->is_error && answer->status == BF_BAD_NO_COMMUNICATION) {
            bf_unit_failed(scan, link, flight->exchange->unit); /* a gateway says that its device is not there */
        } else {
            bf_unit_good(scan, link, flight->exchange->unit);
        }
    }
    if (kind != FLIGHT_ONESHOT) {
        bf_plan_answered(scan, link, flight->number, answer);
    }
    if (kind != FLIGHT_POLLED) {
        bf_action *done = bf_scan_act(scan, link, BF_ACTION_DONE, answer->is_error ? BF_DONE_ERROR : BF_DONE_GOOD);
        done->index = answer->code;
        done->status = answer->status;
        done->token = flight->token;
        done->data = answer->frame;
        done->length = answer->length;
    }
}

static void take_frame(bf_scan *scan, bf_scan_link *link, const uint8_t *frame, size_t length)
{
    bf_flight *flight = find_flight(link, frame);
    if (flight == NULL) {
        bf_count(link, COUNT_LATE, 1);
        return;
    }
    bf_answer answer = {.frame = frame, .length = length, .status = BF_GOOD};
    const uint8_t kind = flight->kind;
    if (kind != FLIGHT_ORPHAN && !is_good(flight->exchange, frame, length)) {
        if (!is_error(flight->exchange, frame, length)) {
            bf_count(link, COUNT_MISMATCHED, 1);
            return;
        }
        const uint8_t *code = frame + flight->exchange->error_code_offset;
        answer.is_error = true;
        answer.code = flight->exchange->error_code_bytes == 2 ? bf_load_16(code, false) : *code;
        answer.status = bf_plan_status(link->plan, answer.code);
    }
    flight->kind = FLIGHT_NONE;
    link->timeouts_in_row = 0;
    link->attempts = 0;
    bf_count(link, answer.is_error ? COUNT_ERROR : COUNT_GOOD, 1);
    if (kind != FLIGHT_ORPHAN) {
        deliver(scan, link, flight, kind, &answer);
    }
}

/* Length of the frame that begins here; 0 when it cannot be one. At least frame_bytes_min bytes must be there. */
static size_t frame_length(const bf_link_options *o, const uint8_t *frame)
{
    const int32_t length = bf_load_16(frame + o->length_offset, o->length_little != 0) + o->length_add;
    if (memcmp(frame + o->sync_offset, o->sync, o->sync_length) != 0 || length < o->frame_bytes_min || length > o->frame_bytes_max) {
        return 0;
    }
    return (size_t)length;
}

static void lose_step(bf_scan *scan, bf_scan_link *link)
{
    bf_count(link, COUNT_FRAMING, 1);
    bf_link_down(scan, link, BF_CLOSE_FRAMING);
}

/* Moves bytes from `data` to `partial` until it holds `wanted`; false when there are not enough. */
static bool top_up(bf_scan_link *link, uint8_t *partial, size_t wanted, const uint8_t *data, size_t length, size_t *at)
{
    assert(wanted <= link->options.frame_bytes_max);
    if (link->partial_length >= wanted) {
        return true;
    }
    const size_t missing = wanted - link->partial_length;
    const size_t moved = missing < length - *at ? missing : length - *at;
    memcpy(partial + link->partial_length, data + *at, moved);
    link->partial_length += (uint32_t)moved;
    *at += moved;
    return moved == missing;
}

/* Completes the frame whose beginning came before; false when it is not complete yet or the link went down. */
static bool finish_partial(bf_scan *scan, bf_scan_link *link, const uint8_t *data, size_t length, size_t *at)
{
    assert(link->lent_call != scan->call);
    uint8_t *partial = link->partial + (size_t)link->partial_half * scan->limits.frame_bytes_max;
    if (!top_up(link, partial, link->options.frame_bytes_min, data, length, at)) {
        return false;
    }
    const size_t total = frame_length(&link->options, partial);
    if (total == 0) {
        lose_step(scan, link);
        return false;
    }
    if (!top_up(link, partial, total, data, length, at)) {
        return false;
    }
    link->partial_length = 0;
    link->partial_half ^= 1;
    link->lent_call = scan->call;
    take_frame(scan, link, partial, total);
    return true;
}

void bf_link_bytes(bf_scan *scan, bf_scan_link *link, const uint8_t *data, size_t length)
{
    size_t at = 0;
    if (link->state != LINK_UP || length == 0) {
        return;
    }
    bf_count(link, COUNT_RECEIVED, length);
    if (link->partial_length > 0 && !finish_partial(scan, link, data, length, &at)) {
        return;
    }
    while (length - at >= link->options.frame_bytes_min) {
        const size_t total = frame_length(&link->options, data + at);
        if (total == 0) {
            lose_step(scan, link);
            return;
        }
        if (length - at < total) {
            break;
        }
        take_frame(scan, link, data + at, total);
        at += total;
    }
    assert(length - at < link->options.frame_bytes_max);
    uint8_t *partial = link->partial + (size_t)link->partial_half * scan->limits.frame_bytes_max;
    memcpy(partial, data + at, length - at);
    link->partial_length = (uint32_t)(length - at);
}

void bf_link_expire(bf_scan *scan, bf_scan_link *link)
{
    assert(link->state == LINK_UP);
    for (uint32_t i = 0; i < link->options.window; i++) {
        bf_flight *flight = &link->flights[i];
        if (flight->kind == FLIGHT_NONE || flight->deadline_ns > scan->now_ns) {
            continue;
        }
        const uint8_t kind = flight->kind;
        flight->kind = FLIGHT_NONE;
        bf_count(link, COUNT_TIMEOUTS, 1);
        link->timeouts_in_row++;
        if (kind == FLIGHT_POLLED) {
            link->plan->group_states[flight->group].in_flight--;
        }
        if (kind == FLIGHT_POLLED || kind == FLIGHT_POLL) {
            bf_plan_fail(scan, link, flight->number);
        }
        if (kind != FLIGHT_ORPHAN && flight->exchange->unit < link->plan->unit_count) {
            bf_unit_failed(scan, link, flight->exchange->unit);
        }
        if (kind == FLIGHT_POLL || kind == FLIGHT_ONESHOT) {
            bf_scan_done(scan, link, flight->token, BF_DONE_TIMEOUT);
        }
    }
    if (link->timeouts_in_row >= link->options.timeouts_to_close) {
        bf_link_down(scan, link, BF_CLOSE_SILENT);
    }
}

/* ---- requests --------------------------------------------------------------------------------------------------------------------- */

int32_t bf_link_enqueue(bf_scan *scan, bf_scan_link *link, const bf_event *event)
{
    const bool is_oneshot = event->kind == BF_EVENT_ONESHOT;
    const size_t request_length = is_oneshot ? event->length - sizeof(bf_oneshot) : 0;
    assert(is_oneshot || event->kind == BF_EVENT_POLL);
    assert(request_length <= scan->limits.request_bytes_max);
    if (is_oneshot && request_length < (size_t)link->options.transaction_offset + link->options.transaction_bytes) {
        return BF_E_ARGUMENT;
    }
    if (link->state != LINK_UP || scan->waiting_count >= scan->limits.oneshots_count_max) {
        bf_scan_done(scan, link, event->token, link->state != LINK_UP ? BF_DONE_CLOSED : BF_DONE_FULL);
        return BF_OK;
    }
    const uint32_t index = scan->waiting_free != BF_NONE ? scan->waiting_free : scan->waiting_made++;
    bf_waiting *waiting = &scan->waiting[index];
    if (scan->waiting_free != BF_NONE) {
        scan->waiting_free = waiting->next;
    }
    scan->waiting_count++;
    waiting->token = event->token;
    waiting->generation = event->value;
    waiting->number = event->index;
    waiting->kind = is_oneshot ? FLIGHT_ONESHOT : FLIGHT_POLL;
    waiting->request_length = (uint16_t)request_length;
    if (is_oneshot) {
        const uint8_t *data = event->data;
        memcpy(&waiting->oneshot, data, sizeof waiting->oneshot);
        memcpy(scan->requests + (size_t)index * scan->limits.request_bytes_max, data + sizeof waiting->oneshot, request_length);
    }
    waiting->next = BF_NONE;
    if (link->queue_last != BF_NONE) {
        scan->waiting[link->queue_last].next = index;
    } else {
        link->queue_first = index;
    }
    link->queue_last = index;
    return BF_OK;
}

/* Puts a request into `target` and its flight into the air; returns its length. */
static size_t launch(bf_scan_link *link, bf_flight *flight, const uint8_t *request, size_t length, uint8_t *target)
{
    const bf_link_options *o = &link->options;
    assert(length > 0);
    assert(length >= (size_t)o->transaction_offset + o->transaction_bytes);
    flight->transaction = link->transaction;
    memcpy(target, request, length);
    bf_count(link, COUNT_REQUESTS, 1);
    if (o->transaction_bytes != 0) {
        target[o->transaction_offset + (o->transaction_little != 0)] = (uint8_t)(link->transaction >> 8);
        target[o->transaction_offset + (o->transaction_little == 0)] = (uint8_t)link->transaction;
        link->transaction++;
    }
    return length;
}

static size_t launch_planned(const bf_scan *scan, bf_scan_link *link, bf_flight *flight, uint32_t number, uint8_t *target)
{
    const bf_plan *plan = link->plan;
    assert(number < plan->exchange_count);
    const bf_exchange *exchange = &plan->exchanges[number];
    flight->exchange = exchange;
    flight->number = number;
    flight->deadline_ns = scan->now_ns + link->options.timeout_ns;
    return launch(link, flight, plan->requests + exchange->request_offset, exchange->request_length, target);
}

/* The next one-shot or POLL, in their order; 0 when there is none. */
static size_t pick_waiting(bf_scan *scan, bf_scan_link *link, bf_flight *flight, uint8_t *target)
{
    while (link->queue_first != BF_NONE) {
        const size_t index = link->queue_first;
        const bf_waiting *waiting = unqueue(scan, link);
        flight->token = waiting->token;
        if (waiting->kind == FLIGHT_ONESHOT) {
            const int64_t timeout_ns = waiting->oneshot.timeout_ns != 0 ? waiting->oneshot.timeout_ns : link->options.timeout_ns;
            flight->kind = FLIGHT_ONESHOT;
            flight->own = waiting->oneshot.exchange;
            flight->exchange = &flight->own;
            flight->deadline_ns = scan->now_ns + timeout_ns;
            return launch(link, flight, scan->requests + index * scan->limits.request_bytes_max, waiting->request_length, target);
        }
        if (waiting->generation == link->plan->generation && waiting->number < link->plan->exchange_count) {
            flight->kind = FLIGHT_POLL;
            return launch_planned(scan, link, flight, waiting->number, target);
        }
        bf_scan_done(scan, link, waiting->token, BF_DONE_REPLANNED);
    }
    return 0;
}

/* The next exchange of a running cycle, groups in turn, passing over units that are not to be polled; 0 when there is none. */
static size_t pick_polled(const bf_scan *scan, bf_scan_link *link, bf_flight *flight, uint8_t *target)
{
    const bf_plan *plan = link->plan;
    for (uint32_t turn = 0; turn < plan->group_count; turn++) {
        const uint32_t at = (link->group_next + turn) % plan->group_count;
        const bf_group *group = &plan->groups[at];
        bf_group_state *state = &plan->group_states[at];
        while (state->next < group->count) {
            const uint32_t number = group->first + state->next++;
            if (bf_unit_may_poll(scan, plan, plan->exchanges[number].unit)) {
                link->group_next = (at + 1) % plan->group_count;
                state->in_flight++;
                flight->kind = FLIGHT_POLLED;
                flight->group = at;
                return launch_planned(scan, link, flight, number, target);
            }
        }
    }
    return 0;
}

static bool has_work(const bf_scan_link *link)
{
    bool has = link->queue_first != BF_NONE;
    for (uint32_t i = 0; i < link->plan->group_count && !has; i++) {
        has = link->plan->group_states[i].next < link->plan->groups[i].count;
    }
    return has;
}

bool bf_link_fill(bf_scan *scan, bf_scan_link *link)
{
    assert(link->state == LINK_UP && !link->is_blocked);
    uint32_t slot = 0;
    while (slot < link->options.window && link->flights[slot].kind != FLIGHT_NONE) {
        slot++;
    }
    if (slot == link->options.window || !has_work(link)) {
        return false;
    }
    if (link->sent_step == scan->step) {
        return true;
    }
    size_t length = 0;
    size_t picked = 1;
    for (; slot < link->options.window && picked > 0; slot++) {
        bf_flight *flight = &link->flights[slot];
        if (flight->kind == FLIGHT_NONE) {
            picked = pick_waiting(scan, link, flight, link->sent + length);
            picked = picked > 0 ? picked : pick_polled(scan, link, flight, link->sent + length);
            length += picked;
        }
    }
    if (length > 0) {
        link->sent_step = scan->step;
        bf_count(link, COUNT_SENT, length);
        bf_action *send = bf_scan_act(scan, link, BF_ACTION_SEND, 0);
        send->data = link->sent;
        send->length = length;
    }
    return false;
}
