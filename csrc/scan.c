/* scan.c: the scan engine's memory, its events and its time.
 *
 * The idea: bf_scan_step takes events one by one, each for one link, and advances that link at once; then it sweeps the links whose time has
 * come. What an event or an advance can make is bounded (bf_scan_actions_min), so room is looked for once, before it; when there is none the
 * step is cut there and goes on with the next call. A step that was cut is still one step: a link sends at most once in it.
 */
#include <assert.h>
#include <string.h>

#include "scan.h"

#define LINKS_COUNT_MAX 100000u
#define WINDOW_MAX 256u
#define ONESHOTS_COUNT_MAX 65536u
#define SCRATCH_BYTES_MAX (1u << 30)

static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "counters are read by other threads without a lock");
static_assert(sizeof(bf_counters) == COUNTERS_COUNT * sizeof(uint64_t), "COUNT_… follow bf_counters");
static_assert(sizeof(bf_exchange) == 104 && sizeof(bf_group) == 32 && sizeof(bf_decode) == 32, "layouts of bifrost.h");
static_assert(sizeof(bf_link_options) == 72 && sizeof(bf_code) == 8, "layouts of bifrost.h");
static_assert(sizeof(bf_scan_link) % 8 == 0 && sizeof(bf_flight) % 8 == 0 && sizeof(bf_waiting) % 8 == 0, "they lie side by side");

/* Where the regions of one engine begin. */
typedef struct {
    uint64_t wake, links, flights, waiting, requests, partials, sends, scratch, end;
} layout;

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + 7) & ~(uint64_t)7;
}

/* False when the limits are impossible. */
static bool lay_out(const bf_scan_limits *limits, layout *out)
{
    assert(out != NULL);
    if (limits == NULL || limits->links_count_max < 1 || limits->links_count_max > LINKS_COUNT_MAX || limits->window_max < 1 ||
        limits->window_max > WINDOW_MAX || limits->frame_bytes_max < 4 || limits->frame_bytes_max > UINT16_MAX ||
        limits->request_bytes_max < 1 || limits->request_bytes_max > UINT16_MAX ||
        limits->oneshots_count_max > ONESHOTS_COUNT_MAX || limits->scratch_bytes > SCRATCH_BYTES_MAX) {
        return false;
    }
    const uint64_t links = limits->links_count_max;
    out->wake = round_up(sizeof(bf_scan));
    out->links = out->wake + links * sizeof(int64_t);
    out->flights = out->links + links * sizeof(bf_scan_link);
    out->waiting = out->flights + links * limits->window_max * sizeof(bf_flight);
    out->requests = out->waiting + limits->oneshots_count_max * sizeof(bf_waiting);
    out->partials = out->requests + (uint64_t)limits->oneshots_count_max * limits->request_bytes_max;
    out->sends = out->partials + links * 2 * limits->frame_bytes_max;
    out->scratch = round_up(out->sends + links * limits->window_max * limits->request_bytes_max);
    out->end = round_up(out->scratch + limits->scratch_bytes);
    return out->end <= SIZE_MAX / 2;
}

size_t bf_scan_bytes(const bf_scan_limits *limits)
{
    layout at;
    return lay_out(limits, &at) ? (size_t)at.end : 0;
}

int32_t bf_scan_init(void *memory, size_t bytes, const bf_scan_limits *limits, bf_table *table, uint64_t seed, bf_scan **scan)
{
    layout at;
    if (memory == NULL || (uintptr_t)memory % 8 != 0 || table == NULL || scan == NULL || !lay_out(limits, &at)) {
        return BF_E_ARGUMENT;
    }
    if (bytes < at.end) {
        return BF_E_SPACE;
    }
    uint8_t *base = memory;
    memset(base, 0, (size_t)at.flights); /* the rest is cleared when it is used, so that memory nobody needs is never touched */
    bf_scan *made = memory;
    made->limits = *limits;
    made->table = table;
    made->wake_ns = (int64_t *)(void *)(base + at.wake);
    made->links = (bf_scan_link *)(void *)(base + at.links);
    made->flights = (bf_flight *)(void *)(base + at.flights);
    made->waiting = (bf_waiting *)(void *)(base + at.waiting);
    made->requests = base + at.requests;
    made->partials = base + at.partials;
    made->sends = base + at.sends;
    made->scratch = base + at.scratch;
    made->random = seed ^ UINT64_C(0x9E3779B97F4A7C15);
    made->random = made->random != 0 ? made->random : 1; /* xorshift never leaves 0 */
    made->flags = BF_CHANGE_CLOCK_UNSYNCHRONISED;
    made->waiting_free = BF_NONE;
    *scan = made;
    return BF_OK;
}

size_t bf_scan_actions_min(const bf_scan_limits *limits)
{
    /* A flight makes UNIT, EXCHANGE and DONE, a queued request DONE, a link CONNECT, UP, SEND, CLOSE, DOWN and PLANNED. */
    return limits == NULL ? 0 : (size_t)limits->window_max * 3 + limits->oneshots_count_max + 6;
}

int32_t bf_scan_counters(const bf_scan *scan, uint32_t link, bf_counters *out)
{
    if (scan == NULL || out == NULL || link >= scan->limits.links_count_max) {
        return BF_E_ARGUMENT;
    }
    uint64_t values[COUNTERS_COUNT];
    for (size_t i = 0; i < COUNTERS_COUNT; i++) {
        values[i] = atomic_load_explicit(&scan->links[link].counters[i], memory_order_relaxed);
    }
    memcpy(out, values, sizeof values);
    return BF_OK;
}

/* ---- shared by the parts ---------------------------------------------------------------------------------------------------------- */

bf_action *bf_scan_act(bf_scan *scan, const bf_scan_link *link, uint32_t kind, uint32_t code)
{
    assert(scan->actions_count < scan->actions_size);
    bf_action *action = &scan->actions[scan->actions_count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    action->link = bf_link_number(scan, link);
    action->code = code;
    action->time_ns = scan->now_ns;
    return action;
}

void bf_scan_done(bf_scan *scan, const bf_scan_link *link, uint64_t token, uint32_t code)
{
    bf_scan_act(scan, link, BF_ACTION_DONE, code)->token = token;
}

/* A number from 0 to `bound`: xorshift64*. */
int64_t bf_scan_draw(bf_scan *scan, int64_t bound)
{
    assert(bound >= 0);
    assert(scan->random != 0);
    uint64_t x = scan->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    scan->random = x;
    return (int64_t)(((x * UINT64_C(0x2545F4914F6CDD1D)) >> 1) % ((uint64_t)bound + 1));
}

/* ---- events ----------------------------------------------------------------------------------------------------------------------- */

static bool is_duration(int64_t ns)
{
    return ns > 0 && ns <= BF_DURATION_NS_MAX;
}

static bool options_are_valid(const bf_link_options *o, const bf_scan_limits *limits)
{
    const bool frames = o->length_offset + 2 <= o->frame_bytes_min && o->frame_bytes_min <= o->frame_bytes_max &&
                        o->frame_bytes_max <= limits->frame_bytes_max && o->sync_length <= sizeof o->sync &&
                        o->sync_offset + o->sync_length <= o->frame_bytes_min;
    const bool numbers = (o->transaction_bytes == 2 || (o->transaction_bytes == 0 && o->window == 1)) &&
                         o->transaction_offset + o->transaction_bytes <= o->frame_bytes_min;
    const bool times = is_duration(o->timeout_ns) && is_duration(o->reconnect_min_ns) && is_duration(o->reconnect_max_ns) &&
                       is_duration(o->breaker_min_ns) && is_duration(o->breaker_max_ns);
    return frames && numbers && times && o->window >= 1 && o->window <= limits->window_max && o->timeouts_to_close >= 1 &&
           o->breaker_failures >= 1;
}

int32_t bf_event_check(const bf_scan *scan, const bf_event *event)
{
    assert(scan != NULL);
    assert(event != NULL);
    bool is_valid = event->kind >= BF_EVENT_LINK && event->kind <= BF_EVENT_STOP;
    if (event->kind == BF_EVENT_CLOCK) {
        is_valid = event->value > -BF_TIME_NS_MAX && event->value < BF_TIME_NS_MAX && event->token < (uint64_t)BF_TIME_NS_MAX;
    } else if (event->link >= scan->limits.links_count_max) {
        is_valid = false;
    } else if (event->kind == BF_EVENT_LINK) {
        is_valid = event->data != NULL && options_are_valid(event->data, &scan->limits);
    } else if (event->kind == BF_EVENT_PLAN) {
        is_valid = event->data != NULL && bf_plan_is_valid(event->data, scan);
    } else if (event->kind == BF_EVENT_ONESHOT) {
        bf_oneshot oneshot;
        is_valid = event->data != NULL && event->length > sizeof oneshot &&
                   event->length - sizeof oneshot <= scan->limits.request_bytes_max;
        if (is_valid) {
            memcpy(&oneshot, event->data, sizeof oneshot);
            is_valid = oneshot.timeout_ns >= 0 && oneshot.timeout_ns <= BF_DURATION_NS_MAX &&
                       bf_exchange_is_valid(&oneshot.exchange, &scan->limits);
        }
    } else if (event->kind == BF_EVENT_BYTES) {
        is_valid = event->data != NULL || event->length == 0;
    }
    return is_valid ? BF_OK : BF_E_ARGUMENT;
}

static void make_link(bf_scan *scan, bf_scan_link *link, const bf_link_options *options)
{
    const uint32_t number = bf_link_number(scan, link);
    const bf_scan_limits *limits = &scan->limits;
    if (link->is_made) {
        bf_link_stop(scan, link);
    }
    link->options = *options;
    link->plan = NULL;
    link->flights = scan->flights + (size_t)number * limits->window_max;
    link->partial = scan->partials + (size_t)number * 2 * limits->frame_bytes_max;
    link->sent = scan->sends + (size_t)number * limits->window_max * limits->request_bytes_max;
    memset(link->flights, 0, options->window * sizeof(bf_flight));
    link->age_due_ns = BF_NEVER;
    link->queue_first = BF_NONE;
    link->queue_last = BF_NONE;
    link->attempts = 0;
    link->timeouts_in_row = 0;
    link->partial_length = 0;
    link->transaction = 0;
    link->state = LINK_OFF;
    link->is_blocked = false;
    link->is_made = true;
    for (size_t i = 0; i < COUNTERS_COUNT; i++) {
        atomic_store_explicit(&link->counters[i], 0, memory_order_relaxed);
    }
    scan->wake_ns[number] = BF_NEVER;
    while (scan->links_used <= number) {
        scan->wake_ns[scan->links_used++] = BF_NEVER;
    }
}

static int32_t take_without_link(bf_scan *scan, const bf_scan_link *link, const bf_event *event)
{
    if (event->kind == BF_EVENT_ONESHOT || event->kind == BF_EVENT_POLL) {
        bf_scan_done(scan, link, event->token, BF_DONE_CLOSED);
    } else if (event->kind == BF_EVENT_OPEN) {
        bf_scan_act(scan, link, BF_ACTION_CLOSE, BF_CLOSE_STOPPED);
    }
    return event->kind == BF_EVENT_PLAN ? BF_E_ARGUMENT : BF_OK;
}

static int32_t take_for_link(bf_scan *scan, bf_scan_link *link, const bf_event *event)
{
    switch (event->kind) {
    case BF_EVENT_PLAN:
        return bf_plan_adopt(scan, link, event->data);
    case BF_EVENT_OPEN:
        bf_link_open(scan, link);
        break;
    case BF_EVENT_FAILED:
        if (link->state == LINK_CONNECTING) {
            bf_plan_fail_all(scan, link);
            bf_link_retry_later(scan, link);
        }
        break;
    case BF_EVENT_BYTES:
        bf_link_bytes(scan, link, event->data, event->length);
        break;
    case BF_EVENT_CLOSED:
        if (link->state == LINK_UP) {
            bf_link_down(scan, link, BF_CLOSE_PEER);
        }
        break;
    case BF_EVENT_BLOCKED:
        link->is_blocked = link->state == LINK_UP;
        break;
    case BF_EVENT_DRAINED:
        link->is_blocked = false;
        break;
    case BF_EVENT_STOP:
        bf_link_stop(scan, link);
        break;
    default:
        return bf_link_enqueue(scan, link, event);
    }
    return BF_OK;
}

static int64_t next_wake(const bf_scan_link *link)
{
    int64_t wake = link->plan != NULL ? link->age_due_ns : BF_NEVER;
    if (link->state == LINK_WAIT && link->connect_due_ns < wake) {
        wake = link->connect_due_ns;
    }
    if (link->state != LINK_UP) {
        return wake;
    }
    for (uint32_t i = 0; i < link->plan->group_count; i++) {
        const int64_t due = link->plan->group_states[i].due_ns;
        wake = due < wake ? due : wake;
    }
    for (uint32_t i = 0; i < link->options.window; i++) {
        const bf_flight *flight = &link->flights[i];
        wake = flight->kind != FLIGHT_NONE && flight->deadline_ns < wake ? flight->deadline_ns : wake;
    }
    return wake;
}

/* Does all that is due on one link and notes when it wants to be called again. */
static void advance(bf_scan *scan, bf_scan_link *link)
{
    assert(link->is_made);
    assert((link->state == LINK_OFF) == (link->plan == NULL));
    bool is_deferred = false;
    if (link->state == LINK_WAIT && scan->now_ns >= link->connect_due_ns) {
        link->state = LINK_CONNECTING;
        bf_scan_act(scan, link, BF_ACTION_CONNECT, 0);
    }
    if (link->state == LINK_UP) {
        bf_link_expire(scan, link);
    }
    if (link->state == LINK_UP) {
        bf_plan_start_cycles(scan, link);
    }
    if (link->plan != NULL && scan->now_ns >= link->age_due_ns) {
        bf_plan_age(scan, link);
    }
    if (link->state == LINK_UP && !link->is_blocked) {
        is_deferred = bf_link_fill(scan, link);
    }
    scan->wake_ns[bf_link_number(scan, link)] = is_deferred ? scan->now_ns : next_wake(link);
}

static int32_t take(bf_scan *scan, const bf_event *event)
{
    if (bf_event_check(scan, event) != BF_OK) {
        return BF_E_ARGUMENT;
    }
    if (event->kind == BF_EVENT_CLOCK) {
        const int64_t stamped_ns = bf_scan_utc_ns(scan); /* with the old offset, since stamps were made with it until now */
        const int64_t floor_ns = (int64_t)event->token;
        scan->utc_floor_ns = floor_ns == 0 || floor_ns > stamped_ns ? floor_ns : stamped_ns;
        scan->utc_offset_ns = event->value;
        scan->flags = event->index != 0 ? 0 : BF_CHANGE_CLOCK_UNSYNCHRONISED;
        return BF_OK;
    }
    bf_scan_link *link = &scan->links[event->link];
    if (event->kind == BF_EVENT_LINK) {
        make_link(scan, link, event->data);
        return BF_OK;
    }
    if (!link->is_made) {
        return take_without_link(scan, link, event);
    }
    const int32_t status = take_for_link(scan, link, event);
    if (status == BF_OK) {
        advance(scan, link);
    }
    return status;
}

/* ---- the step --------------------------------------------------------------------------------------------------------------------- */

/* Whether `event` fits into this call: there is room for its actions, and it does not overwrite bytes that an action points to. */
static bool fits_call(const bf_scan *scan, const bf_event *event)
{
    if (scan->actions_size - scan->actions_count < bf_scan_actions_min(&scan->limits)) {
        return false;
    }
    return event->kind != BF_EVENT_BYTES || event->link >= scan->links_used || scan->links[event->link].lent_call != scan->call;
}

/* Advances every link whose time has come. */
static int32_t sweep(bf_scan *scan)
{
    const size_t room = bf_scan_actions_min(&scan->limits);
    for (; scan->swept < scan->links_used; scan->swept++) {
        if (scan->wake_ns[scan->swept] <= scan->now_ns) {
            if (scan->actions_size - scan->actions_count < room) {
                return BF_PARTIAL;
            }
            advance(scan, &scan->links[scan->swept]);
        }
        if (scan->wake_ns[scan->swept] < scan->swept_wake_ns) {
            scan->swept_wake_ns = scan->wake_ns[scan->swept];
        }
    }
    return BF_OK;
}

int32_t bf_scan_step(bf_scan *scan, int64_t now_ns, const bf_event *events, size_t events_count, size_t *consumed, bf_action *actions,
                     size_t actions_size, size_t *actions_count, int64_t *wake_ns)
{
    if (scan == NULL || (events == NULL && events_count > 0) || consumed == NULL || actions == NULL || actions_count == NULL ||
        wake_ns == NULL || actions_size < bf_scan_actions_min(&scan->limits) || now_ns < 0 || now_ns > BF_TIME_NS_MAX) {
        return BF_E_ARGUMENT;
    }
    scan->now_ns = now_ns;
    scan->call++;
    scan->actions = actions;
    scan->actions_size = actions_size;
    scan->actions_count = 0;
    if (!scan->is_partial) {
        scan->step++;
        scan->swept = 0;
        scan->swept_wake_ns = BF_NEVER;
    }
    int32_t status = BF_OK;
    size_t taken = 0;
    while (taken < events_count && status == BF_OK) {
        if (fits_call(scan, &events[taken])) {
            status = take(scan, &events[taken++]);
        } else {
            status = BF_PARTIAL;
        }
    }
    if (status == BF_OK) {
        status = sweep(scan);
    }
    assert(scan->actions_count <= actions_size);
    assert(status != BF_PARTIAL || taken > 0 || scan->actions_count > 0);
    scan->is_partial = status == BF_PARTIAL;
    *consumed = taken;
    *actions_count = scan->actions_count;
    *wake_ns = status == BF_OK ? scan->swept_wake_ns : now_ns;
    return status;
}
