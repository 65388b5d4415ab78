/* table_api.c: the table for a module that is not linked with this one: functions behind pointers, and a wake-up when there are changes.
 *
 * The idea: a watcher sleeps on an eventfd. It says "ready", then reads all changes there are; a writer that appends changes and finds it not
 * awake marks it awake and writes the fd, so that ten thousand changes cost one system call. No change is slept over: a change is appended before
 * the mark is looked at, and the mark is taken away before changes are read. The system call is made after the ring is unlocked.
 */
#include <assert.h>
#include <sched.h>
#include <unistd.h>

#include "table.h"

#define NO_FD (-1)

void bf_watchers_init(bf_table *table)
{
    for (size_t i = 0; i < BF_WATCHERS_MAX; i++) {
        atomic_init(&table->watchers[i].fd, NO_FD);
        atomic_init(&table->watchers[i].awake, 0);
    }
    atomic_init(&table->waking, 0);
}

void bf_watchers_wake(bf_table *table)
{
    atomic_fetch_add(&table->waking, 1); /* from here on unwatch waits for us */
    for (size_t i = 0; i < BF_WATCHERS_MAX; i++) {
        bf_watcher *watcher = &table->watchers[i];
        int32_t fd = atomic_load(&watcher->fd);
        if (fd != NO_FD && atomic_exchange(&watcher->awake, 1) == 0) {
            uint64_t one = 1;
            ssize_t written = write(fd, &one, sizeof one);
            (void)written; /* it fails only if the counter is full: then the watcher is awake anyway */
        }
    }
    atomic_fetch_sub(&table->waking, 1);
}

static int32_t watch(bf_table *table, int fd)
{
    assert(fd >= 0);
    for (int32_t i = 0; i < BF_WATCHERS_MAX; i++) {
        int32_t expected = NO_FD;
        if (atomic_compare_exchange_strong(&table->watchers[i].fd, &expected, fd)) {
            atomic_store(&table->watchers[i].awake, 0);
            return i;
        }
    }
    return BF_E_FULL;
}

static void watch_ready(bf_table *table, int32_t watcher)
{
    assert(watcher >= 0 && watcher < BF_WATCHERS_MAX);
    atomic_store(&table->watchers[watcher].awake, 0);
}

static void unwatch(bf_table *table, int32_t watcher)
{
    assert(watcher >= 0 && watcher < BF_WATCHERS_MAX);
    atomic_store(&table->watchers[watcher].fd, NO_FD);
    while (atomic_load(&table->waking) != 0) { /* as long as one write(2) to an eventfd takes, which never blocks for long */
        sched_yield();
    }
}

static int32_t row(const bf_table *table, uint32_t tag, uint8_t *kind, uint32_t *cell_bytes)
{
    if (tag >= table->tags_count) {
        return BF_E_ARGUMENT;
    }
    *kind = table->rows[tag].kind;
    *cell_bytes = table->rows[tag].cell_bytes;
    return BF_OK;
}

const bf_table_api *bf_table_api_get(void)
{
    static const bf_table_api api = {
        .version = BF_TABLE_API_VERSION,
        .read = bf_table_read,
        .read_bytes = bf_table_read_bytes,
        .ring_head = bf_ring_head,
        .ring_read = bf_ring_read,
        .ring_bytes = bf_ring_bytes,
        .row = row,
        .watch = watch,
        .watch_ready = watch_ready,
        .unwatch = unwatch,
    };
    return &api;
}
