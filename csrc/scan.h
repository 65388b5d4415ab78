/* scan.h: what the parts of the scan engine share.
 *
 * The idea: one bf_scan_link per link, all in one block of memory, and nothing else. A link is OFF (no plan), WAITs to reconnect, is CONNECTING,
 * or UP. scan.c takes events and keeps time, scan_link.c moves requests and answers, scan_plan.c knows plans, qualities and units. Each does
 * what bifrost/_native/_py_scan.py does, in the same order: the transcripts are equal.
 */
#ifndef BIFROST_SCAN_H
#define BIFROST_SCAN_H

#include <stdatomic.h>
#include <stdbool.h>

#include "bifrost.h"

#define BF_NEVER INT64_MAX
#define BF_DURATION_NS_MAX ((int64_t)1 << 58) /* 9 years; sums of times stay within 64 bits */
#define BF_TIME_NS_MAX ((int64_t)1 << 62)
#define BF_NONE UINT32_MAX /* end of a list */

enum { LINK_OFF, LINK_WAIT, LINK_CONNECTING, LINK_UP };
enum { FLIGHT_NONE, FLIGHT_POLLED, FLIGHT_POLL, FLIGHT_ONESHOT, FLIGHT_ORPHAN };
enum {
    COUNT_REQUESTS, /* in the order of bf_counters */
    COUNT_GOOD,
    COUNT_ERROR,
    COUNT_LATE,
    COUNT_MISMATCHED,
    COUNT_TIMEOUTS,
    COUNT_SKIPPED,
    COUNT_OPENS,
    COUNT_CLOSES,
    COUNT_FRAMING,
    COUNT_SENT,
    COUNT_RECEIVED,
    COUNTERS_COUNT
};

/* One request in flight. */
typedef struct {
    bf_exchange own;             /* of a one-shot */
    const bf_exchange *exchange; /* `own` or the plan's; NULL for an orphan, whose plan is gone */
    uint64_t token;
    int64_t deadline_ns;
    uint32_t number; /* of the exchange in the plan */
    uint32_t group;
    uint16_t transaction;
    uint8_t kind; /* FLIGHT_… */
} bf_flight;

/* A frame that answers a request. */
typedef struct {
    const uint8_t *frame;
    size_t length;
    uint32_t code;   /* the device's error code */
    uint32_t status; /* what it means; BF_GOOD when !is_error */
    bool is_error;   /* the device says no */
} bf_answer;

/* A one-shot or POLL in the queue of its link; its request bytes lie in scan->requests. */
typedef struct {
    bf_oneshot oneshot;
    uint64_t token;
    int64_t generation;
    uint32_t number;
    uint32_t next; /* in the queue, or in the free list */
    uint16_t request_length;
    uint8_t kind; /* FLIGHT_POLL or FLIGHT_ONESHOT */
} bf_waiting;

typedef struct {
    bf_link_options options;
    const bf_plan *plan; /* NULL only while the link is OFF */
    bf_flight *flights;  /* options.window of them */
    uint8_t *partial;    /* two buffers of frame_bytes_max, used in turn: an action may still point into the other one */
    uint8_t *sent;       /* the last SEND */
    int64_t epoch_ns;    /* when the plan was adopted */
    int64_t connect_due_ns;
    int64_t age_due_ns;
    uint64_t sent_step;
    uint64_t lent_call; /* call of bf_scan_step whose actions point into `partial` */
    uint32_t queue_first;
    uint32_t queue_last;
    uint32_t attempts; /* to connect, since the last answer; up to ATTEMPTS_MAX */
    uint32_t timeouts_in_row;
    uint32_t group_next;
    uint32_t partial_length;
    uint32_t partial_half;
    uint16_t transaction;
    uint8_t state; /* LINK_… */
    bool is_made;
    bool is_blocked;
    _Atomic uint64_t counters[COUNTERS_COUNT];
} bf_scan_link;

struct bf_scan {
    bf_scan_limits limits;
    bf_table *table;
    int64_t *wake_ns; /* of each link: BF_NEVER or when it wants to be advanced */
    bf_scan_link *links;
    bf_flight *flights;
    bf_waiting *waiting;
    uint8_t *requests; /* of `waiting`, request_bytes_max each */
    uint8_t *partials;
    uint8_t *sends;
    uint8_t *scratch;
    uint64_t random;
    uint64_t step;
    uint64_t call;
    int64_t now_ns;
    int64_t utc_offset_ns;
    int64_t utc_floor_ns; /* no stamp is below it */
    int64_t swept_wake_ns; /* least wake of the links swept in this step */
    bf_action *actions;
    size_t actions_size;
    size_t actions_count;
    uint32_t flags; /* of changes */
    uint32_t links_used; /* highest link made + 1 */
    uint32_t swept;      /* links swept in this step */
    uint32_t waiting_count;
    uint32_t waiting_made; /* entries used at least once; the others are in no list */
    uint32_t waiting_free;
    bool is_partial; /* the last call ended before its step did */
};

static inline void bf_count(bf_scan_link *link, unsigned counter, uint64_t amount)
{
    /* One writer, many readers: a plain add would tear for a reader on 32 bits, a locked one is not needed. */
    uint64_t value = atomic_load_explicit(&link->counters[counter], memory_order_relaxed);
    atomic_store_explicit(&link->counters[counter], value + amount, memory_order_relaxed);
}

static inline uint16_t bf_load_16(const uint8_t *bytes, bool is_little)
{
    return (uint16_t)(is_little ? bytes[1] << 8 | bytes[0] : bytes[0] << 8 | bytes[1]);
}

static inline uint32_t bf_link_number(const bf_scan *scan, const bf_scan_link *link)
{
    return (uint32_t)(link - scan->links);
}

/* scan.c */
bf_action *bf_scan_act(bf_scan *scan, const bf_scan_link *link, uint32_t kind, uint32_t code);
void bf_scan_done(bf_scan *scan, const bf_scan_link *link, uint64_t token, uint32_t code);
int64_t bf_scan_draw(bf_scan *scan, int64_t bound);
/* What the thread that posts can check of LINK, PLAN and ONESHOT without looking at a link: BF_OK or BF_E_ARGUMENT. */
int32_t bf_event_check(const bf_scan *scan, const bf_event *event);

/* scan_link.c */
void bf_link_open(bf_scan *scan, bf_scan_link *link);
void bf_link_down(bf_scan *scan, bf_scan_link *link, uint32_t code);
void bf_link_stop(bf_scan *scan, bf_scan_link *link);
void bf_link_retry_later(bf_scan *scan, bf_scan_link *link);
void bf_link_bytes(bf_scan *scan, bf_scan_link *link, const uint8_t *data, size_t length);
int32_t bf_link_enqueue(bf_scan *scan, bf_scan_link *link, const bf_event *event);
void bf_link_expire(bf_scan *scan, bf_scan_link *link);
/* Sends as many requests as the window allows, in one SEND; true when it has to wait for the next step. */
bool bf_link_fill(bf_scan *scan, bf_scan_link *link);

/* scan_plan.c */
bool bf_exchange_is_valid(const bf_exchange *exchange, const bf_scan_limits *limits);
bool bf_plan_is_valid(const bf_plan *plan, const bf_scan *scan);
int32_t bf_plan_adopt(bf_scan *scan, bf_scan_link *link, const bf_plan *plan);
void bf_plan_begin(bf_scan *scan, bf_scan_link *link);
void bf_plan_start_cycles(bf_scan *scan, bf_scan_link *link);
void bf_plan_age(bf_scan *scan, bf_scan_link *link);
void bf_plan_fail(bf_scan *scan, bf_scan_link *link, uint32_t number);
void bf_plan_fail_all(bf_scan *scan, bf_scan_link *link);
void bf_plan_answered(bf_scan *scan, bf_scan_link *link, uint32_t number, const bf_answer *answer);
uint32_t bf_plan_status(const bf_plan *plan, uint32_t code);
bool bf_unit_may_poll(const bf_scan *scan, const bf_plan *plan, uint16_t unit);
void bf_unit_failed(bf_scan *scan, bf_scan_link *link, uint16_t unit);
void bf_unit_good(bf_scan *scan, bf_scan_link *link, uint16_t unit);

/* The time for stamps. */
static inline int64_t bf_scan_utc_ns(const bf_scan *scan)
{
    const int64_t utc_ns = scan->now_ns + scan->utc_offset_ns;
    return utc_ns > scan->utc_floor_ns ? utc_ns : scan->utc_floor_ns;
}

#endif
