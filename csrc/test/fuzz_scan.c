/* fuzz_scan.c: the scan engine under a sanitizer, with events that nobody thought of. Arguments: seconds (60), and a seed to repeat a run.
 *
 * Whatever is handed in lies in memory of exactly its size and is freed as soon as the engine may no longer look at it: a plan when PLANNED
 * names it, the data of events after their step. What comes out is read to its last byte. Each token must come back once, and never
 * more requests may be out than the window allows. Compiled with BF_LIBFUZZER it is a target of libFuzzer, which steers by the input's bytes.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bifrost.h"

#define LINKS 3u
#define TAGS 16u
#define EVENTS_MAX 6u
#define EXCHANGES_MAX 5u
#define PLANS_MAX 64u
#define TOKENS_MAX 4096u
#define MS INT64_C(1000000)

static const bf_table_limits TABLE_LIMITS = {TAGS, 64, 0, 0};
static const bf_scan_limits SCAN_LIMITS = {LINKS, 3, 64, 40, 4, 0};

typedef struct {
    bf_plan plan;
    uint32_t link; /* LINKS: this place is free */
} kept_plan;

typedef struct {
    const uint8_t *input; /* NULL: random_state says what comes */
    size_t left;
    uint64_t random_state;
    bf_table *table;
    bf_scan *scan;
    bf_action *actions;
    size_t actions_size;
    int64_t now_ns;
    uint32_t generation;
    kept_plan plans[PLANS_MAX];
    bf_link_options options[LINKS];
    uint8_t requests[LINKS][64]; /* the last request of each link */
    uint32_t tokens;
    bool token_is_out[TOKENS_MAX];
} world;

static uint64_t seed; /* of this round */

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_scan: seed %llu: %s\n", (unsigned long long)seed, what);
        abort();
    }
}

static void *memory_of(size_t bytes)
{
    void *memory = calloc(1, bytes > 0 ? bytes : 1);
    require(memory != NULL, "no memory");
    return memory;
}

static uint32_t below(world *w, uint32_t limit)
{
    uint32_t value = 0;
    if (w->input == NULL) {
        w->random_state ^= w->random_state << 13; /* xorshift64, Marsaglia 2003 */
        w->random_state ^= w->random_state >> 7;
        w->random_state ^= w->random_state << 17;
        return (uint32_t)(w->random_state >> 32) % limit;
    }
    for (uint32_t reach = limit - 1; reach > 0 && w->left > 0; reach >>= 8, w->left--) {
        value = value << 8 | *w->input++;
    }
    return value % limit;
}

static void damage(world *w, void *bytes, size_t length)
{
    ((uint8_t *)bytes)[below(w, (uint32_t)length)] = (uint8_t)below(w, 256);
}

static bf_link_options *make_options(world *w)
{
    bf_link_options *o = memory_of(sizeof *o);
    *o = (bf_link_options){.timeout_ns = 1 + below(w, 100) * MS,
                           .reconnect_min_ns = 1 + below(w, 10) * MS,
                           .reconnect_max_ns = 1 + below(w, 100) * MS,
                           .breaker_min_ns = 1 + below(w, 10) * MS,
                           .breaker_max_ns = 1 + below(w, 100) * MS,
                           .window = (uint16_t)(1 + below(w, SCAN_LIMITS.window_max)),
                           .timeouts_to_close = (uint16_t)(1 + below(w, 4)),
                           .breaker_failures = (uint16_t)(1 + below(w, 3)),
                           .frame_bytes_max = 64,
                           .frame_bytes_min = 8,
                           .length_add = 6,
                           .length_offset = 4,
                           .length_little = (uint8_t)below(w, 2),
                           .transaction_bytes = 2,
                           .sync_offset = 2,
                           .sync_length = 2};
    if (below(w, 8) == 0) {
        damage(w, o, sizeof *o);
    }
    return o;
}

static bf_exchange make_exchange(world *w, uint16_t unit)
{
    bf_exchange x = {.request_length = (uint16_t)(8 + below(w, 8)),
                     .unit = unit,
                     .answer_length = (uint16_t)(below(w, 2) ? 16 : 0),
                     .answer_length_min = 8,
                     .body_offset = 8,
                     .error_length = 9,
                     .error_code_offset = 8,
                     .error_code_bytes = 1,
                     .walk = (uint8_t)below(w, 3),
                     .expect_offset = 6,
                     .expect_length = 1,
                     .error_expect_offset = 6,
                     .error_expect_length = 1,
                     .hold_code = below(w, 3)};
    x.expect_mask[0] = 0xFF;
    x.error_expect[0] = 0x80;
    x.error_expect_mask[0] = 0xFF;
    if (below(w, 8) == 0) {
        damage(w, &x, sizeof x);
    }
    return x;
}

/* A plan in memory of its own, part by part; NULL when too many are kept. */
static bf_plan *make_plan(world *w, uint32_t link)
{
    uint32_t place = 0;
    while (place < PLANS_MAX && w->plans[place].link != LINKS) {
        place++;
    }
    if (place == PLANS_MAX) {
        return NULL;
    }
    w->plans[place].link = link;
    bf_plan *p = &w->plans[place].plan;
    const uint32_t count = below(w, EXCHANGES_MAX + 1);
    const uint32_t groups = below(w, 3);
    bf_exchange *exchanges = memory_of(count * sizeof *exchanges);
    bf_decode *decodes = memory_of((size_t)count * 2 * sizeof *decodes);
    bf_group *all_groups = memory_of(groups * sizeof *all_groups);
    bf_code *codes = memory_of(sizeof *codes);
    *codes = (bf_code){3, BF_BAD_NO_COMMUNICATION};
    *p = (bf_plan){.generation = ++w->generation,
                   .exchange_count = count,
                   .decode_count = 2 * count,
                   .group_count = groups,
                   .unit_count = 1 + below(w, 3),
                   .code_count = 1,
                   .exchanges = exchanges,
                   .decodes = decodes,
                   .groups = all_groups,
                   .codes = codes,
                   .requests = memory_of((size_t)count * 16),
                   .requests_bytes = (size_t)count * 16};
    p->exchange_states = memory_of(count * sizeof *p->exchange_states);
    p->group_states = memory_of(groups * sizeof *p->group_states);
    p->unit_states = memory_of(p->unit_count * sizeof *p->unit_states);
    for (uint32_t i = 0; i < count; i++) {
        exchanges[i] = make_exchange(w, (uint16_t)below(w, p->unit_count));
        exchanges[i].request_offset += i * 16;
        exchanges[i].decode_first += i * 2;
        exchanges[i].decode_count += below(w, 3);
        for (uint32_t k = 0; k < 2; k++) {
            decodes[2 * i + k] = (bf_decode){.tag = below(w, TAGS), .offset = 2 * k, .count = 1, .type = BF_TYPE_UINT16, .scale = 1};
        }
    }
    for (uint32_t i = 0; i < groups; i++) {
        const uint32_t first = below(w, count + 1);
        all_groups[i] = (bf_group){.period_ns = 1 + below(w, 50) * MS,
                                   .phase_ns = below(w, 50) * MS,
                                   .stale_ns = below(w, 50) * MS,
                                   .first = first,
                                   .count = below(w, count - first + 1)};
        if (below(w, 16) == 0) {
            damage(w, &all_groups[i], sizeof all_groups[i]);
        }
    }
    return p;
}

static void free_plan(world *w, uint32_t link, uint32_t generation)
{
    for (uint32_t i = 0; i < PLANS_MAX; i++) {
        bf_plan *p = &w->plans[i].plan;
        if (w->plans[i].link == link && p->generation == generation) {
            const void *parts[] = {p->exchanges, p->decodes,         p->groups,       p->codes,
                                   p->requests,  p->exchange_states, p->group_states, p->unit_states};
            for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
                free((void *)(uintptr_t)parts[k]);
            }
            memset(p, 0xEE, sizeof *p);
            w->plans[i].link = LINKS;
            return;
        }
    }
    require(false, "PLANNED frees a plan that is not kept");
}

/* An answer to the last request, or not quite, or noise. */
static uint8_t *make_bytes(world *w, uint32_t link, uint32_t *length)
{
    uint8_t frame[80];
    const uint32_t count = below(w, 4) ? 16 : 9;
    memset(frame, 0, sizeof frame);
    memcpy(frame, w->requests[link], 2);
    frame[w->options[link].length_little ? 4 : 5] = (uint8_t)(count - 6);
    frame[6] = count == 9 ? 0x80 : 0;
    frame[8] = (uint8_t)below(w, 5);
    *length = below(w, 4) ? count : below(w, sizeof frame);
    uint8_t *bytes = memory_of(*length);
    memcpy(bytes, frame, *length);
    if (below(w, 16) == 0 && *length > 0) {
        damage(w, bytes, *length);
    }
    return bytes;
}

static void make_event(world *w, bf_event *event)
{
    static const uint32_t kinds[] = {BF_EVENT_LINK,   BF_EVENT_PLAN,    BF_EVENT_OPEN,    BF_EVENT_OPEN,    BF_EVENT_OPEN,
                                     BF_EVENT_FAILED, BF_EVENT_CLOSED,  BF_EVENT_BLOCKED, BF_EVENT_DRAINED, BF_EVENT_DRAINED,
                                     BF_EVENT_POLL,   BF_EVENT_ONESHOT, BF_EVENT_CLOCK,   BF_EVENT_STOP,    99};
    const uint32_t choice = below(w, 40);
    const uint32_t link = below(w, LINKS);
    *event = (bf_event){.kind = BF_EVENT_BYTES, .link = link, .value = w->generation, .index = below(w, EXCHANGES_MAX)};
    if (choice < sizeof kinds / sizeof *kinds) {
        event->kind = kinds[choice];
    }
    if (w->options[link].window == 0 && event->kind != BF_EVENT_STOP) {
        event->kind = BF_EVENT_LINK;
    }
    if (event->kind == BF_EVENT_LINK) {
        bf_link_options *options = make_options(w);
        w->options[link] = *options;
        event->data = options;
    } else if (event->kind == BF_EVENT_PLAN) {
        event->data = make_plan(w, link);
    } else if (event->kind == BF_EVENT_BYTES) {
        event->data = make_bytes(w, link, &event->length);
    } else if ((event->kind == BF_EVENT_POLL || event->kind == BF_EVENT_ONESHOT) && w->tokens < TOKENS_MAX) {
        event->token = w->tokens++;
        w->token_is_out[event->token] = true;
        if (event->kind == BF_EVENT_ONESHOT) {
            bf_oneshot oneshot = {.exchange = make_exchange(w, (uint16_t)below(w, 4)), .timeout_ns = below(w, 20) * MS};
            event->length = (uint32_t)sizeof oneshot + 1 + below(w, 48);
            uint8_t *data = memory_of(event->length);
            memcpy(data, &oneshot, sizeof oneshot);
            event->data = data;
        }
    } else if (event->kind == BF_EVENT_POLL || event->kind == BF_EVENT_ONESHOT) {
        event->kind = BF_EVENT_DRAINED;
    }
}

static void look_at(world *w, const bf_action *action)
{
    static volatile uint8_t seen;
    require(action->link < LINKS && action->kind >= BF_ACTION_SEND && action->kind <= BF_ACTION_PLANNED, "an impossible action");
    for (size_t i = 0; i < action->length; i++) {
        seen ^= action->data[i]; /* the sanitizer says whether it may be read */
    }
    if (action->kind == BF_ACTION_SEND) {
        require(action->length > 0 && action->length <= (size_t)3 * SCAN_LIMITS.request_bytes_max, "a SEND of impossible length");
        memcpy(w->requests[action->link], action->data, action->length < 8 ? action->length : 8);
    } else if (action->kind == BF_ACTION_DONE) {
        require(action->token < w->tokens && w->token_is_out[action->token], "a token came back twice");
        w->token_is_out[action->token] = false;
    } else if (action->kind == BF_ACTION_PLANNED && action->index != 0) {
        free_plan(w, action->link, action->index);
    }
}

/* A refused event: what it carried was not taken. */
static void refuse(world *w, const bf_event *event)
{
    if (event->kind == BF_EVENT_PLAN && event->data != NULL) {
        free_plan(w, event->link, ((const bf_plan *)event->data)->generation);
    } else if (event->kind == BF_EVENT_ONESHOT || event->kind == BF_EVENT_POLL) {
        w->token_is_out[event->token] = false;
    }
}

static void step(world *w, const bf_event *events, size_t count)
{
    size_t at = 0;
    int32_t status = BF_PARTIAL;
    while (status != BF_OK) {
        size_t taken;
        size_t made;
        int64_t wake_ns;
        status = bf_scan_step(w->scan, w->now_ns, events + at, count - at, &taken, w->actions, w->actions_size, &made, &wake_ns);
        require(taken <= count - at && made <= w->actions_size && (status == BF_OK || taken + made > 0), "a step without end");
        at += taken;
        if (status == BF_E_ARGUMENT) {
            refuse(w, &events[at - 1]);
        }
        for (size_t i = 0; i < made; i++) {
            look_at(w, &w->actions[i]);
        }
        if (status == BF_OK && wake_ns != INT64_MAX && below(w, 2)) {
            w->now_ns = wake_ns > w->now_ns ? wake_ns : w->now_ns;
        }
    }
}

static void set_up(world *w)
{
    static const double deadbands[TAGS];
    static const int64_t intervals[TAGS];
    static const uint32_t cells[TAGS];
    uint8_t kinds[TAGS];
    memset(kinds, BF_KIND_UINT, sizeof kinds);
    const size_t table_bytes = bf_table_bytes(&TABLE_LIMITS);
    const size_t scan_bytes = bf_scan_bytes(&SCAN_LIMITS);
    require(bf_table_init(memory_of(table_bytes), table_bytes, &TABLE_LIMITS, &w->table) == BF_OK, "no table");
    require(bf_table_define(w->table, 0, TAGS, kinds, deadbands, intervals, cells) == BF_OK, "no rows");
    require(bf_scan_init(memory_of(scan_bytes), scan_bytes, &SCAN_LIMITS, w->table, 1, &w->scan) == BF_OK, "no engine");
    w->actions_size = bf_scan_actions_min(&SCAN_LIMITS) + below(w, 4);
    w->actions = memory_of(w->actions_size * sizeof *w->actions);
    for (uint32_t i = 0; i < PLANS_MAX; i++) {
        w->plans[i].link = LINKS;
    }
}

static void tear_down(world *w)
{
    for (uint32_t link = 0; link < LINKS; link++) {
        step(w, &(bf_event){.kind = BF_EVENT_STOP, .link = link}, 1);
    }
    for (uint32_t i = 0; i < PLANS_MAX; i++) {
        require(w->plans[i].link == LINKS, "a plan that never came back");
    }
    for (uint32_t token = 0; token < w->tokens; token++) {
        require(!w->token_is_out[token], "a token that never came back");
    }
    free(w->actions);
    free(w->scan);
    free(w->table);
}

static void run(world *w, uint32_t steps)
{
    set_up(w);
    for (uint32_t i = 0; i < steps && (w->input == NULL || w->left > 0); i++) {
        bf_event *events = memory_of(EVENTS_MAX * sizeof *events);
        const uint32_t count = below(w, EVENTS_MAX + 1);
        for (uint32_t k = 0; k < count; k++) {
            make_event(w, &events[k]);
        }
        w->now_ns += below(w, 4) ? below(w, 20) * MS : below(w, 400) * MS;
        step(w, events, count);
        for (uint32_t k = 0; k < count; k++) {
            if (events[k].kind != BF_EVENT_PLAN) {
                free((void *)(uintptr_t)events[k].data);
            }
        }
        free(events);
    }
    tear_down(w);
}

#ifdef BF_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static world w;
    memset(&w, 0, sizeof w);
    w.input = data;
    w.left = size;
    run(&w, UINT32_MAX);
    return 0;
}
#else
int main(int argc, char **argv)
{
    static world w;
    const long seconds = argc > 1 ? strtol(argv[1], NULL, 10) : 60;
    const time_t end = time(NULL) + seconds;
    uint64_t rounds = 0;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    printf("fuzz_scan: seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    do {
        memset(&w, 0, sizeof w);
        w.random_state = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
        run(&w, 500);
        rounds++;
        seed++;
    } while (time(NULL) < end);
    printf("fuzz_scan: %llu rounds, nothing found\n", (unsigned long long)rounds);
    return 0;
}
#endif
