/* test_watch.c: a watcher sleeps through no change, and its eventfd may be closed once it has unwatched.
 *
 * Two writers append changes, each of tags of its own, sometimes after a pause, so that the watcher falls asleep between; the watcher polls
 * without a time limit of its own and must see all changes in the end. Then watchers come and go while the writers still run. Under the thread
 * sanitizer this is the proof that table_api.c needs no lock of its own. */
#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "bifrost.h"

#define TAGS 8
#define BATCHES 3000
#define POLL_MS 10000 /* a wake-up that is lost shows as this */
#define CHURNS 200
#define RING 65536

static bf_table *table;

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "test_watch: %s\n", what);
        exit(1);
    }
}

static void *write_changes(void *argument)
{
    uint32_t first = *(const uint32_t *)argument;
    for (int64_t batch = 1; batch <= BATCHES; batch++) {
        uint32_t tags[TAGS / 2];
        uint64_t values[TAGS / 2];
        uint32_t statuses[TAGS / 2] = {0};
        for (uint32_t i = 0; i < TAGS / 2; i++) {
            tags[i] = first + i;
            values[i] = (uint64_t)batch;
        }
        int32_t status = bf_table_put(table, TAGS / 2, tags, values, statuses, batch, batch, batch, 0);
        require(status == BF_OK, "a batch was refused");
        if (batch % 16 == 0) {
            struct timespec pause = {.tv_nsec = 100000};
            nanosleep(&pause, NULL);
        }
    }
    return NULL;
}

static uint64_t read_all(const bf_table_api *api, uint64_t *position)
{
    static bf_change changes[256];
    uint64_t seen = 0;
    uint64_t missed = 0;
    size_t count;
    do {
        count = api->ring_read(table, position, changes, 256, &missed);
        seen += count + missed;
    } while (count > 0);
    return seen;
}

static void see_every_change(const bf_table_api *api)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int32_t watcher = api->watch(table, fd);
    require(watcher >= 0, "there is room for a watcher");
    pthread_t writers[2];
    uint32_t firsts[2] = {0, TAGS / 2};
    uint64_t position = 0;
    uint64_t seen = 0;
    for (int i = 0; i < 2; i++) {
        require(pthread_create(&writers[i], NULL, write_changes, &firsts[i]) == 0, "a thread starts");
    }
    while (seen < (uint64_t)BATCHES * TAGS) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        require(poll(&wait, 1, POLL_MS) == 1, "the watcher is woken for every change");
        uint64_t count;
        require(read(fd, &count, sizeof count) == (ssize_t)sizeof count, "the fd was readable");
        api->watch_ready(table, watcher);
        seen += read_all(api, &position);
    }
    require(seen == (uint64_t)BATCHES * TAGS, "no change is seen twice");
    for (int i = 0; i < 2; i++) {
        pthread_join(writers[i], NULL);
    }
    api->unwatch(table, watcher);
    close(fd);
}

static void come_and_go(const bf_table_api *api)
{
    pthread_t writer;
    uint32_t first = 0;
    require(pthread_create(&writer, NULL, write_changes, &first) == 0, "a thread starts");
    for (int churn = 0; churn < CHURNS; churn++) {
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        int32_t watcher = api->watch(table, fd);
        require(watcher >= 0, "an unwatched place is free again");
        api->watch_ready(table, watcher);
        api->unwatch(table, watcher);
        close(fd); /* a writer that used it now would write into somebody else's file */
    }
    pthread_join(writer, NULL);
}

static void be_refused_beyond_the_last_place(const bf_table_api *api)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (int32_t i = 0; i < BF_WATCHERS_MAX; i++) {
        require(api->watch(table, fd) == i, "places are given in order");
    }
    require(api->watch(table, fd) == BF_E_FULL, "one more is refused");
    for (int32_t i = 0; i < BF_WATCHERS_MAX; i++) {
        api->unwatch(table, i);
    }
    close(fd);
}

int main(void)
{
    bf_table_limits limits = {.tags_count_max = TAGS, .ring_changes_count = RING, .ring_body_bytes = 0, .cell_bytes = 0};
    size_t bytes = bf_table_bytes(&limits);
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    require(memory != NULL && bf_table_init(memory, bytes, &limits, &table) == BF_OK, "a table is made");
    uint8_t kinds[TAGS];
    double deadbands[TAGS] = {0};
    int64_t intervals[TAGS] = {0};
    uint32_t cells[TAGS] = {0};
    for (int i = 0; i < TAGS; i++) {
        kinds[i] = BF_KIND_UINT;
    }
    require(bf_table_define(table, 0, TAGS, kinds, deadbands, intervals, cells) == BF_OK, "rows are defined");
    const bf_table_api *api = bf_table_api_get();
    require(api->version == BF_TABLE_API_VERSION, "the version is this one");
    see_every_change(api);
    come_and_go(api);
    be_refused_beyond_the_last_place(api);
    free(memory);
    return 0;
}
