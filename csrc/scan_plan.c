/* scan_plan.c: what the scan engine knows of a plan: its checks, its cycles, the age of its values, and its units' circuit breakers.
 *
 * The idea: a plan is checked once, every index against its range, when it is adopted; from then on nothing looks twice. Its notes (…_state) lie
 * beside it in the caller's memory, and a new plan starts with fresh ones.
 */
#include <assert.h>
#include <string.h>

#include "scan.h"

/* ---- checks ----------------------------------------------------------------------------------------------------------------------- */

bool bf_exchange_is_valid(const bf_exchange *exchange, const bf_scan_limits *limits)
{
    assert(limits != NULL);
    const unsigned least = exchange->answer_length != 0 ? exchange->answer_length : exchange->answer_length_min;
    const bool has_code = exchange->error_length == 0 ||
                          ((exchange->error_code_bytes == 1 || exchange->error_code_bytes == 2) &&
                           exchange->error_code_offset + exchange->error_code_bytes <= exchange->error_length);
    return has_code && exchange->body_offset <= least && least <= limits->frame_bytes_max &&
           exchange->expect_length <= sizeof exchange->expect && exchange->error_expect_length <= sizeof exchange->error_expect &&
           exchange->walk <= BF_WALK_CIP;
}

static bool exchanges_are_valid(const bf_plan *plan, const bf_scan_limits *limits)
{
    for (uint32_t i = 0; i < plan->exchange_count; i++) {
        const bf_exchange *exchange = &plan->exchanges[i];
        if (!bf_exchange_is_valid(exchange, limits) || exchange->unit >= plan->unit_count || exchange->request_length < 1 ||
            exchange->request_length > limits->request_bytes_max ||
            (uint64_t)exchange->request_offset + exchange->request_length > plan->requests_bytes ||
            (uint64_t)exchange->decode_first + exchange->decode_count > plan->decode_count) {
            return false;
        }
    }
    return true;
}

static bool groups_are_valid(const bf_plan *plan)
{
    for (uint32_t i = 0; i < plan->group_count; i++) {
        const bf_group *group = &plan->groups[i];
        if (group->period_ns < 1 || group->period_ns > BF_DURATION_NS_MAX || group->phase_ns < 0 ||
            group->phase_ns > BF_DURATION_NS_MAX || group->stale_ns < 0 || group->stale_ns > BF_DURATION_NS_MAX ||
            (uint64_t)group->first + group->count > plan->exchange_count) {
            return false;
        }
    }
    return true;
}

static bool tags_are_valid(const bf_plan *plan, const bf_table *table)
{
    bf_slot slot;
    for (uint32_t i = 0; i < plan->decode_count; i++) {
        if (bf_table_read(table, 1, &plan->decodes[i].tag, &slot) != BF_OK) {
            return false;
        }
    }
    return true;
}

bool bf_plan_is_valid(const bf_plan *plan, const bf_scan *scan)
{
    const bool has_parts = (plan->exchange_count == 0 ||
                            (plan->exchanges != NULL && plan->exchange_states != NULL && plan->requests != NULL)) &&
                           (plan->group_count == 0 || (plan->groups != NULL && plan->group_states != NULL)) &&
                           (plan->decode_count == 0 || plan->decodes != NULL) && (plan->code_count == 0 || plan->codes != NULL) &&
                           (plan->unit_count == 0 || plan->unit_states != NULL);
    return has_parts && plan->generation != 0 && exchanges_are_valid(plan, &scan->limits) && groups_are_valid(plan) &&
           tags_are_valid(plan, scan->table);
}

/* What depends on the link: room for the transaction number in every request, and a generation that the caller can tell from the last one. */
static bool suits_link(const bf_plan *plan, const bf_scan_link *link)
{
    const int least = link->options.transaction_offset + link->options.transaction_bytes;
    for (uint32_t i = 0; i < plan->exchange_count; i++) {
        if (link->options.transaction_bytes != 0 && plan->exchanges[i].request_length < least) {
            return false;
        }
    }
    return link->plan == NULL || link->plan->generation != plan->generation;
}

/* ---- cycles ----------------------------------------------------------------------------------------------------------------------- */

static void clear_notes(const bf_scan *scan, const bf_plan *plan)
{
    for (uint32_t i = 0; i < plan->exchange_count; i++) {
        plan->exchange_states[i] = (bf_exchange_state){.last_good_ns = scan->now_ns, .state = BF_EXCHANGE_NEW};
    }
    for (uint32_t i = 0; i < plan->group_count; i++) {
        plan->group_states[i] = (bf_group_state){.next = plan->groups[i].count};
    }
    for (uint32_t i = 0; i < plan->unit_count; i++) {
        plan->unit_states[i] = (bf_unit_state){.state = BF_UNIT_CLOSED};
    }
}

int32_t bf_plan_adopt(bf_scan *scan, bf_scan_link *link, const bf_plan *plan)
{
    const uint32_t old_generation = link->plan != NULL ? link->plan->generation : 0;
    if (!suits_link(plan, link)) {
        return BF_E_ARGUMENT;
    }
    for (uint32_t i = 0; i < link->options.window; i++) {
        bf_flight *flight = &link->flights[i];
        if (flight->kind == FLIGHT_POLLED || flight->kind == FLIGHT_POLL) {
            if (flight->kind == FLIGHT_POLL) {
                bf_scan_done(scan, link, flight->token, BF_DONE_REPLANNED);
            }
            flight->kind = FLIGHT_ORPHAN;
            flight->exchange = NULL;
        }
    }
    clear_notes(scan, plan);
    link->plan = plan;
    link->epoch_ns = scan->now_ns;
    link->group_next = 0;
    link->age_due_ns = scan->now_ns;
    if (link->state == LINK_UP) {
        bf_plan_begin(scan, link);
    } else if (link->state == LINK_OFF) {
        link->state = LINK_WAIT;
        link->connect_due_ns = scan->now_ns;
    }
    bf_action *planned = bf_scan_act(scan, link, BF_ACTION_PLANNED, 0);
    planned->index = old_generation;
    planned->generation = plan->generation;
    return BF_OK;
}

/* Starts a cycle of every group at once; the next one begins at the first point of its grid that is half a period away at least. */
void bf_plan_begin(bf_scan *scan, bf_scan_link *link)
{
    assert(link->state == LINK_UP);
    for (uint32_t i = 0; i < link->plan->group_count; i++) {
        const bf_group *group = &link->plan->groups[i];
        int64_t due = link->epoch_ns + group->phase_ns;
        const int64_t earliest = scan->now_ns + group->period_ns / 2;
        if (due < earliest) {
            due += ((earliest - due - 1) / group->period_ns + 1) * group->period_ns;
        }
        link->plan->group_states[i].next = 0;
        link->plan->group_states[i].due_ns = due;
    }
}

void bf_plan_start_cycles(bf_scan *scan, bf_scan_link *link)
{
    assert(link->state == LINK_UP);
    for (uint32_t i = 0; i < link->plan->group_count; i++) {
        const bf_group *group = &link->plan->groups[i];
        bf_group_state *state = &link->plan->group_states[i];
        if (state->due_ns > scan->now_ns) {
            continue;
        }
        int64_t missed = (scan->now_ns - state->due_ns) / group->period_ns;
        state->due_ns += (missed + 1) * group->period_ns;
        if (state->next < group->count || state->in_flight > 0) {
            missed++;
        } else {
            state->next = 0;
        }
        bf_count(link, COUNT_SKIPPED, (uint64_t)missed);
    }
}

/* ---- quality ---------------------------------------------------------------------------------------------------------------------- */

static void mark(bf_scan *scan, const bf_plan *plan, const bf_exchange *exchange, uint32_t status, uint32_t rule)
{
    if (exchange->decode_count > 0) {
        bf_table_mark(scan->table, exchange->decode_count, &plan->decodes[exchange->decode_first].tag, sizeof(bf_decode), status, rule,
                      bf_scan_utc_ns(scan), scan->now_ns, scan->flags);
    }
}

/* No tag stays good longer than period + stale after its last answer, nor uncertain longer than stale. */
void bf_plan_age(bf_scan *scan, bf_scan_link *link)
{
    const bf_plan *plan = link->plan;
    link->age_due_ns = BF_NEVER;
    for (uint32_t i = 0; i < plan->group_count; i++) {
        const bf_group *group = &plan->groups[i];
        for (uint32_t at = group->first; at < group->first + group->count; at++) {
            bf_exchange_state *state = &plan->exchange_states[at];
            if (state->state == BF_EXCHANGE_STALE) {
                continue;
            }
            int64_t deadline = state->last_good_ns + group->stale_ns;
            if (state->state != BF_EXCHANGE_UNCERTAIN) {
                deadline += group->period_ns;
            }
            if (scan->now_ns >= deadline) {
                state->state = BF_EXCHANGE_STALE;
                mark(scan, plan, &plan->exchanges[at], BF_BAD_NO_COMMUNICATION, BF_MARK_ALL);
            } else if (deadline < link->age_due_ns) {
                link->age_due_ns = deadline;
            }
        }
    }
}

/* No answer came for exchange `number`: its good values become the last usable ones. */
void bf_plan_fail(bf_scan *scan, bf_scan_link *link, uint32_t number)
{
    assert(number < link->plan->exchange_count);
    bf_exchange_state *state = &link->plan->exchange_states[number];
    if (state->state == BF_EXCHANGE_UNCERTAIN || state->state == BF_EXCHANGE_STALE) {
        return;
    }
    state->state = BF_EXCHANGE_UNCERTAIN;
    mark(scan, link->plan, &link->plan->exchanges[number], BF_UNCERTAIN_LAST_USABLE, BF_MARK_GOOD_ONLY);
    link->age_due_ns = scan->now_ns; /* the sweep finds its deadline: uncertain ages sooner than good */
}

void bf_plan_fail_all(bf_scan *scan, bf_scan_link *link)
{
    assert(link->plan != NULL);
    for (uint32_t i = 0; i < link->plan->exchange_count; i++) {
        bf_plan_fail(scan, link, i);
    }
}

uint32_t bf_plan_status(const bf_plan *plan, uint32_t code)
{
    for (uint32_t i = 0; i < plan->code_count; i++) {
        if (plan->codes[i].code == code) {
            return plan->codes[i].status;
        }
    }
    return BF_BAD_DEVICE_FAILURE;
}

void bf_plan_answered(bf_scan *scan, bf_scan_link *link, uint32_t number, const bf_answer *answer)
{
    const bf_plan *plan = link->plan;
    assert(number < plan->exchange_count);
    const bf_exchange *exchange = &plan->exchanges[number];
    bf_exchange_state *state = &plan->exchange_states[number];
    if (!answer->is_error) {
        assert(exchange->body_offset <= answer->length);
        const int64_t utc = bf_scan_utc_ns(scan);
        if (exchange->decode_count > 0) {
            bf_table_scatter(scan->table, answer->frame + exchange->body_offset, answer->length - exchange->body_offset, exchange->walk,
                             plan->decodes + exchange->decode_first, exchange->decode_count, utc, utc, scan->now_ns, scan->flags,
                             scan->scratch, scan->limits.scratch_bytes);
        }
        state->state = BF_EXCHANGE_GOOD;
        state->last_good_ns = scan->now_ns;
    } else if (exchange->hold_code == 0 || answer->code != exchange->hold_code) {
        mark(scan, plan, exchange, answer->status, BF_MARK_ALL);
        state->state = BF_EXCHANGE_ERROR;
        state->last_good_ns = scan->now_ns;
    }
    if (answer->code != state->last_code) {
        state->last_code = answer->code;
        bf_action *news = bf_scan_act(scan, link, BF_ACTION_EXCHANGE, answer->code);
        news->index = number;
        news->status = answer->status;
        news->generation = plan->generation;
        news->data = answer->frame;
        news->length = answer->length;
    }
}

/* ---- units ------------------------------------------------------------------------------------------------------------------------ */

/* Whether a cycle may send to `unit`. One request to an open unit whose time has come is the probe. */
bool bf_unit_may_poll(const bf_scan *scan, const bf_plan *plan, uint16_t unit)
{
    assert(unit < plan->unit_count);
    bf_unit_state *state = &plan->unit_states[unit];
    if (state->state == BF_UNIT_OPEN && scan->now_ns >= state->open_until_ns) {
        state->state = BF_UNIT_PROBING;
        return true;
    }
    return state->state == BF_UNIT_CLOSED;
}

static void tell_unit(bf_scan *scan, const bf_scan_link *link, uint16_t unit, uint32_t code)
{
    bf_action *action = bf_scan_act(scan, link, BF_ACTION_UNIT, code);
    action->index = unit;
    action->generation = link->plan->generation;
}

/* Counts a request that `unit` did not answer; opens its breaker when there were too many, for longer each time. */
void bf_unit_failed(bf_scan *scan, bf_scan_link *link, uint16_t unit)
{
    const bf_plan *plan = link->plan;
    assert(unit < plan->unit_count);
    bf_unit_state *state = &plan->unit_states[unit];
    const uint32_t was = state->state;
    state->failures += state->failures < UINT32_MAX;
    if (was == BF_UNIT_OPEN || (was == BF_UNIT_CLOSED && state->failures < link->options.breaker_failures)) {
        return;
    }
    int64_t backoff = state->backoff_ns * 2;
    backoff = backoff > link->options.breaker_min_ns ? backoff : link->options.breaker_min_ns;
    backoff = backoff < link->options.breaker_max_ns ? backoff : link->options.breaker_max_ns;
    state->backoff_ns = backoff;
    state->open_until_ns = scan->now_ns + backoff / 2 + bf_scan_draw(scan, backoff / 2);
    state->state = BF_UNIT_OPEN;
    if (was == BF_UNIT_CLOSED) {
        for (uint32_t i = 0; i < plan->exchange_count; i++) {
            if (plan->exchanges[i].unit == unit) {
                bf_plan_fail(scan, link, i);
            }
        }
        tell_unit(scan, link, unit, BF_UNIT_OPEN);
    }
}

void bf_unit_good(bf_scan *scan, bf_scan_link *link, uint16_t unit)
{
    assert(unit < link->plan->unit_count);
    bf_unit_state *state = &link->plan->unit_states[unit];
    if (state->state != BF_UNIT_CLOSED) {
        tell_unit(scan, link, unit, BF_UNIT_CLOSED);
    }
    state->state = BF_UNIT_CLOSED;
    state->failures = 0;
    state->backoff_ns = 0;
}
