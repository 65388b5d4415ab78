/* test_journal_threads.c: the two sides of the journal on two threads, for the thread sanitizer.
 *
 * One thread appends, acknowledges and begins, the other one commits and reads; they take turns at `begin` only, as a gateway does. In the end
 * everything that was appended has come out once.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory_files.h"

#define RECORDS 3000u
#define AT_ONCE 64u

static const bf_journal_limits LIMITS = {8192, 4, 4096, 100, 256, 0};

typedef struct {
    bf_journal *journal;
    uint8_t bytes[4096];
    uint64_t position;
    bf_journal_record records[AT_ONCE];
    size_t got;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int state; /* 0 nothing to do, 1 a job waits, 2 it is done, 3 the end */
} shared;

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "test_journal_threads: %s\n", what);
        abort();
    }
}

static void *disk_side(void *context)
{
    shared *s = context;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (s->state != 1 && s->state != 3) {
            pthread_cond_wait(&s->changed, &s->lock);
        }
        int state = s->state;
        pthread_mutex_unlock(&s->lock);
        if (state == 3) {
            return NULL;
        }
        int32_t status = bf_journal_commit(s->journal, BF_COMMIT_SYNC);
        require(status == BF_OK || status == BF_E_FULL, "commit");
        require(bf_journal_read(s->journal, s->position, UINT64_MAX, s->records, AT_ONCE, s->bytes, &s->got) == BF_OK, "read");
        pthread_mutex_lock(&s->lock);
        s->state = 2;
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->lock);
    }
}

static void set_state(shared *s, int state)
{
    pthread_mutex_lock(&s->lock);
    s->state = state;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static int is_done(shared *s)
{
    pthread_mutex_lock(&s->lock);
    int done = s->state == 2;
    pthread_mutex_unlock(&s->lock);
    return done;
}

int main(void)
{
    static memory_files files;
    static shared s = {.position = 1, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    size_t needed = bf_journal_bytes(&LIMITS, 0);
    void *memory = malloc(needed);
    bf_journal_io io = files_io(&files);
    uint8_t id[16] = {0};
    int32_t error = 0;
    require(bf_journal_open(memory, needed, &LIMITS, &io, id, NULL, 0, 0, 1, &s.journal, &error) == BF_OK, "open");
    require(bf_journal_stream(s.journal, (const uint8_t *)"plant", 5) == 0, "stream");
    pthread_t thread;
    require(pthread_create(&thread, NULL, disk_side, &s) == 0, "thread");
    uint64_t appended = 0;
    uint64_t delivered = 0;
    while (delivered < RECORDS) {
        (void)bf_journal_begin(s.journal, (const uint8_t *)&appended, sizeof appended, 1, 0);
        set_state(&s, 1);
        do {
            if (appended < RECORDS && bf_journal_append(s.journal, 0, 0, 1, 1, 1, (const uint8_t *)&appended, sizeof appended) > 0) {
                appended++;
            }
        } while (!is_done(&s));
        for (size_t i = 0; i < s.got; i++) {
            uint64_t value;
            memcpy(&value, s.bytes + s.records[i].offset, sizeof value);
            require(s.records[i].type == BF_RECORD_DATA && value == delivered, "order");
            uint32_t one = 1;
            require(bf_journal_acknowledge(s.journal, 1, &s.records[i].sequence, &one, &one, 0) == BF_OK, "acknowledge");
            delivered++;
            s.position = s.records[i].sequence + 1;
        }
    }
    set_state(&s, 3);
    require(pthread_join(thread, NULL) == 0, "join");
    require(bf_journal_close(s.journal) == BF_OK, "close");
    free(memory);
    return 0;
}
