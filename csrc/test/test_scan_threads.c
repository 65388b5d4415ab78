/* test_scan_threads.c: the shell's thread, a thread that posts and takes, and readers of table and counters, for the thread sanitizer.
 *
 * Four links are polled over socket pairs every millisecond. The main thread is the plant: it answers, closes now and then, and connects again. A
 * second thread hands in one-shots and takes notices; two more read slots, changes and counters all the time. At the end every slot must hold a
 * value of its own tag, and every token must have come back once.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bifrost.h"

#define LINKS 4u
#define TAGS_PER_LINK 8u
#define TAGS (LINKS * TAGS_PER_LINK)
#define ROUNDS 3000u
#define TOKENS 500u
#define MS INT64_C(1000000)
#define REQUIRE(what)                                                      \
    do {                                                                   \
        if (!(what)) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            exit(1);                                                       \
        }                                                                  \
    } while (0)

static const bf_scan_limits SCAN_LIMITS = {LINKS, 1, 260, 260, 16, 0};
static const bf_shell_limits SHELL_LIMITS = {32, 16, 260, 260, 16384};
static const bf_table_limits TABLE_LIMITS = {TAGS, 1024, 0, 0};

typedef struct {
    bf_exchange exchange;
    bf_decode decodes[TAGS_PER_LINK];
    bf_group group;
    uint8_t request[12];
    bf_exchange_state exchange_state;
    bf_group_state group_state;
    bf_unit_state unit_state;
    bf_plan plan;
} link_plan;

static bf_table *table;
static bf_scan *scan;
static bf_shell *shell;
static link_plan plans[LINKS];
static _Atomic int peers[LINKS]; /* our end of each connection; -1: none */
static _Atomic bool is_done;
static _Atomic unsigned tokens_back;

static void *memory_of(size_t bytes)
{
    REQUIRE(bytes > 0);
    void *memory = calloc(1, bytes);
    REQUIRE(memory != NULL);
    return memory;
}

/* Function 3 of unit 1, registers 0 to 15; MBAP as in TG 3.1.3. */
static void make_plan(uint32_t link)
{
    static const uint8_t request[12] = {0, 0, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2 * TAGS_PER_LINK};
    static const uint8_t expect[7] = {0, 0, 0, 3 + 4 * TAGS_PER_LINK, 1, 3, 4 * TAGS_PER_LINK};
    link_plan *p = &plans[link];
    memcpy(p->request, request, sizeof request);
    p->exchange = (bf_exchange){.decode_count = TAGS_PER_LINK,
                                .request_length = sizeof request,
                                .answer_length = 9 + 4 * TAGS_PER_LINK,
                                .body_offset = 9,
                                .expect_offset = 2,
                                .expect_length = sizeof expect};
    memcpy(p->exchange.expect, expect, sizeof expect);
    memset(p->exchange.expect_mask, 0xFF, sizeof expect);
    for (uint32_t i = 0; i < TAGS_PER_LINK; i++) {
        p->decodes[i] = (bf_decode){.tag = link * TAGS_PER_LINK + i, .offset = 4 * i, .count = 1, .type = BF_TYPE_UINT32, .scale = 1};
    }
    p->group = (bf_group){.period_ns = MS, .stale_ns = 100 * MS, .count = 1};
    p->plan = (bf_plan){.generation = 1,
                        .exchange_count = 1,
                        .decode_count = TAGS_PER_LINK,
                        .group_count = 1,
                        .unit_count = 1,
                        .exchanges = &p->exchange,
                        .decodes = p->decodes,
                        .groups = &p->group,
                        .requests = p->request,
                        .requests_bytes = sizeof request,
                        .exchange_states = &p->exchange_state,
                        .group_states = &p->group_state,
                        .unit_states = &p->unit_state};
}

static void post(const bf_event *event)
{
    int32_t status = BF_E_FULL;
    while (status == BF_E_FULL) {
        status = bf_shell_post(shell, event);
    }
    REQUIRE(status == BF_OK);
}

static void take_notices(void)
{
    bf_action notice;
    uint8_t bytes[260];
    while (bf_shell_take(shell, &notice, bytes, sizeof bytes) == BF_OK) {
        if (notice.kind == BF_ACTION_DONE) {
            atomic_fetch_add(&tokens_back, 1);
        } else if (notice.kind == BF_ACTION_CONNECT) {
            int pair[2];
            REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
            post(&(bf_event){.kind = BF_EVENT_OPEN, .link = notice.link, .value = pair[0]});
            atomic_store(&peers[notice.link], pair[1]);
        }
    }
}

static void *session(void *unused)
{
    uint8_t data[sizeof(bf_oneshot) + 12];
    unsigned posted = 0;
    while (!atomic_load(&is_done) || atomic_load(&tokens_back) < posted) {
        take_notices();
        if (posted < TOKENS && !atomic_load(&is_done) && atomic_load(&tokens_back) + 8 > posted) {
            const bf_oneshot oneshot = {.exchange = plans[0].exchange, .timeout_ns = 20 * MS};
            memcpy(data, &oneshot, sizeof oneshot);
            memcpy(data + sizeof oneshot, plans[0].request, 12);
            post(&(bf_event){
                .kind = BF_EVENT_ONESHOT, .link = posted % LINKS, .length = sizeof data, .token = posted, .data = data});
            posted++;
        }
    }
    REQUIRE(atomic_load(&tokens_back) == posted);
    return unused;
}

static void *reader(void *unused)
{
    bf_slot slots[TAGS_PER_LINK];
    bf_change changes[8];
    uint32_t tags[TAGS_PER_LINK];
    uint64_t position = 0;
    for (uint32_t link = 0; !atomic_load(&is_done); link = (link + 1) % LINKS) {
        uint64_t missed;
        bf_counters counters;
        for (uint32_t i = 0; i < TAGS_PER_LINK; i++) {
            tags[i] = link * TAGS_PER_LINK + i;
        }
        REQUIRE(bf_table_read(table, TAGS_PER_LINK, tags, slots) == BF_OK);
        for (uint32_t i = 0; i < TAGS_PER_LINK; i++) {
            REQUIRE(slots[i].source_time == 0 || slots[i].value >> 24 == tags[i]);
        }
        const size_t count = bf_ring_read(table, &position, changes, 8, &missed);
        for (size_t i = 0; i < count; i++) {
            REQUIRE(changes[i].source_time == 0 || changes[i].value >> 24 == changes[i].tag);
        }
        REQUIRE(bf_scan_counters(scan, link, &counters) == BF_OK);
        bf_shell_dropped(shell);
    }
    return unused;
}

/* Answers what `link` was asked; closes it now and then. */
static void serve(uint32_t link, uint32_t round)
{
    uint8_t request[12];
    uint8_t answer[9 + 4 * TAGS_PER_LINK] = {0, 0, 0, 0, 0, 3 + 4 * TAGS_PER_LINK, 1, 3, 4 * TAGS_PER_LINK};
    const int peer = atomic_load(&peers[link]);
    if (peer < 0) {
        return;
    }
    if (round % 400 == 100 * link) {
        close(peer);
        int expected = peer;
        atomic_compare_exchange_strong(&peers[link], &expected, -1);
        return;
    }
    while (recv(peer, request, sizeof request, MSG_DONTWAIT) == (ssize_t)sizeof request) {
        memcpy(answer, request, 2);
        for (uint32_t i = 0; i < TAGS_PER_LINK; i++) {
            const uint8_t value[4] = {(uint8_t)(link * TAGS_PER_LINK + i), 0, (uint8_t)(round >> 8), (uint8_t)round};
            memcpy(answer + 9 + (size_t)4 * i, value, sizeof value);
        }
        if (send(peer, answer, sizeof answer, MSG_NOSIGNAL) < 0) {
            return;
        }
    }
}

static void set_up(void)
{
    static uint8_t kinds[TAGS];
    static const double deadbands[TAGS];
    static const int64_t intervals[TAGS];
    static const uint32_t cells[TAGS];
    static const bf_link_options options = {.timeout_ns = 20 * MS,
                                     .reconnect_min_ns = MS,
                                     .reconnect_max_ns = 2 * MS,
                                     .breaker_min_ns = MS,
                                     .breaker_max_ns = MS,
                                     .window = 1,
                                     .timeouts_to_close = 5,
                                     .breaker_failures = 3,
                                     .frame_bytes_max = 260,
                                     .frame_bytes_min = 8,
                                     .length_add = 6,
                                     .length_offset = 4,
                                     .transaction_bytes = 2,
                                     .sync_offset = 2,
                                     .sync_length = 2};
    memset(kinds, BF_KIND_UINT, sizeof kinds);
    const size_t table_bytes = bf_table_bytes(&TABLE_LIMITS);
    REQUIRE(bf_table_init(memory_of(table_bytes), table_bytes, &TABLE_LIMITS, &table) == BF_OK);
    REQUIRE(bf_table_define(table, 0, TAGS, kinds, deadbands, intervals, cells) == BF_OK);
    const size_t scan_bytes = bf_scan_bytes(&SCAN_LIMITS);
    REQUIRE(bf_scan_init(memory_of(scan_bytes), scan_bytes, &SCAN_LIMITS, table, 1, &scan) == BF_OK);
    const size_t shell_bytes = bf_shell_bytes(&SHELL_LIMITS, &SCAN_LIMITS);
    REQUIRE(bf_shell_init(memory_of(shell_bytes), shell_bytes, &SHELL_LIMITS, &SCAN_LIMITS, scan, &shell) == BF_OK);
    REQUIRE(bf_shell_start(shell) == BF_OK);
    for (uint32_t link = 0; link < LINKS; link++) {
        atomic_store(&peers[link], -1);
        make_plan(link);
        post(&(bf_event){.kind = BF_EVENT_LINK, .link = link, .data = &options});
        post(&(bf_event){.kind = BF_EVENT_PLAN, .link = link, .data = &plans[link].plan});
    }
}

int main(void)
{
    pthread_t threads[3];
    set_up();
    REQUIRE(pthread_create(&threads[0], NULL, session, NULL) == 0);
    REQUIRE(pthread_create(&threads[1], NULL, reader, NULL) == 0);
    REQUIRE(pthread_create(&threads[2], NULL, reader, NULL) == 0);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        for (uint32_t link = 0; link < LINKS; link++) {
            serve(link, round);
        }
        usleep(300); /* the plant's own pace; nothing waits for it */
    }
    atomic_store(&is_done, true);
    for (size_t i = 0; i < 3; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
    REQUIRE(bf_shell_cpu_ns(shell) > 0);
    REQUIRE(bf_shell_stop(shell) == BF_OK && bf_shell_stop(shell) == BF_OK);
    uint64_t good = 0;
    for (uint32_t link = 0; link < LINKS; link++) {
        bf_counters counters;
        REQUIRE(bf_scan_counters(scan, link, &counters) == BF_OK);
        good += counters.answers_good;
        close(atomic_load(&peers[link]));
    }
    printf("%llu good answers, %u tokens\n", (unsigned long long)good, atomic_load(&tokens_back));
    REQUIRE(good > 100 && atomic_load(&tokens_back) == TOKENS);
    free(shell);
    free(scan);
    free(table);
    return 0;
}
