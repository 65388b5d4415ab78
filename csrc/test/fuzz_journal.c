/* fuzz_journal.c: the journal under a sanitizer, on a disk that fails and (every other round) gives back wrong bytes or none. Arguments: seconds
 * (60), and a seed to repeat a run.
 *
 * Whatever is done to it, it opens, and what it gives back is what was put in under that number. On a disk that fails but does not lie every
 * sample is either done with or can be read. A record's payload follows from its number, so that one glance tells.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "memory_files.h"

#define RECORDS_AT_ONCE 16u
#define STEPS 400u

static const bf_journal_limits LIMITS = {8192, 4, 1500, 400, 32, BF_JOURNAL_DROP_OLDEST};
static const uint8_t STORE_ID[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

typedef struct {
    uint64_t random_state;
    memory_files files;
    bf_journal *journal;
    void *memory;
    uint8_t *bytes;
    uint64_t position;
    bf_journal_report report;
    bf_journal_record records[RECORDS_AT_ONCE];
    bool is_hurt; /* what is read in this round may be wrong */
} world;

static uint64_t seed; /* of this round */

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_journal: seed %llu: %s\n", (unsigned long long)seed, what);
        abort();
    }
}

static uint32_t below(world *w, uint32_t limit)
{
    w->random_state ^= w->random_state << 13; /* xorshift64, Marsaglia 2003 */
    w->random_state ^= w->random_state >> 7;
    w->random_state ^= w->random_state << 17;
    return (uint32_t)(w->random_state >> 32) % limit;
}

static size_t payload_length(uint64_t sequence)
{
    return (size_t)(sequence * 37 % 400);
}

static void open_journal(world *w)
{
    free(w->memory);
    uint32_t numbers[FILES_MAX];
    uint32_t last = 0;
    size_t count = files_numbers(&w->files, numbers, &last);
    size_t needed = bf_journal_bytes(&LIMITS, count);
    w->memory = malloc(needed);
    require(w->memory != NULL && needed > 0, "no memory");
    bf_journal_io io = files_io(&w->files);
    int32_t error = 0;
    int32_t status = bf_journal_open(w->memory, needed, &LIMITS, &io, STORE_ID, numbers, count, last, 1, &w->journal, &error);
    if (status != BF_OK) {
        require(status == BF_E_SYSTEM && w->files.fails_for > 0, "does not open");
        w->files.fails_for = 0;
        open_journal(w);
        return;
    }
    require(bf_journal_stream(w->journal, (const uint8_t *)"plant", 5) >= 0, "no stream");
    w->position = 1;
}

static void append(world *w)
{
    uint8_t payload[400];
    bf_journal_report_get(w->journal, &w->report);
    uint64_t sequence = w->report.next_sequence;
    for (size_t i = 0; i < payload_length(sequence); i++) {
        payload[i] = (uint8_t)(sequence + i);
    }
    uint32_t samples = (uint32_t)(1 + sequence % 7);
    int64_t given = bf_journal_append(w->journal, 0, below(w, 2), samples, 1, 2, payload, payload_length(sequence));
    require(given == (int64_t)sequence || given == BF_E_FULL, "wrong number");
}

/* Reads some records, checks them, and says what it saw. */
static size_t take(world *w, uint64_t *position, uint64_t through, uint32_t count, uint64_t *samples)
{
    bf_journal_record *records = w->records;
    size_t got = 0;
    int32_t status = bf_journal_read(w->journal, *position, through, records, count, w->bytes, &got);
    require(status == BF_OK || (status == BF_E_SYSTEM && w->files.fails_for > 0), "read");
    for (size_t i = 0; i < got; i++) {
        const bf_journal_record *each = &records[i];
        require(each->sequence >= *position && each->records > 0, "order");
        *position = each->sequence + each->records;
        *samples += each->samples;
        if (each->type != BF_RECORD_DATA) {
            continue;
        }
        require(each->length == payload_length(each->sequence) && each->samples == 1 + each->sequence % 7, "invented");
        for (size_t k = 0; k < each->length; k++) {
            require(w->bytes[each->offset + k] == (uint8_t)(each->sequence + k), "garbage");
        }
    }
    return got;
}

static void deliver(world *w)
{
    const bf_journal_record *records = w->records;
    uint64_t samples = 0;
    bf_journal_report_get(w->journal, &w->report);
    size_t got = take(w, &w->position, w->report.durable_sequence, 1 + below(w, RECORDS_AT_ONCE), &samples);
    for (size_t i = 0; i < got; i++) {
        if (below(w, 4) != 0) {
            uint32_t reason = records[i].type == BF_RECORD_DATA ? BF_DONE_WITH_ACKNOWLEDGED : BF_DONE_WITH_DAMAGED;
            int32_t status =
                bf_journal_acknowledge(w->journal, 1, &records[i].sequence, &records[i].records, &records[i].samples, reason);
            require(status == BF_OK || status == BF_E_FULL, "acknowledge");
        }
    }
}

static void damage(world *w)
{
    memory_file *file = &w->files.files[below(w, FILES_MAX)];
    if (file->name[0] != '\0' && file->length > 0) {
        size_t at = below(w, (uint32_t)file->length);
        for (uint32_t i = below(w, 64); i > 0 && at < file->length; i--, at++) {
            file->bytes[at] = (uint8_t)below(w, 256);
        }
    }
}

/* Without damage and faults: what is buffered is what can be read. */
static void balance(world *w)
{
    w->files.fails_for = 0;
    open_journal(w);
    uint64_t position = 1;
    uint64_t samples = 0;
    while (take(w, &position, UINT64_MAX, RECORDS_AT_ONCE, &samples) > 0) {
    }
    bf_journal_report_get(w->journal, &w->report);
    uint64_t done = 0;
    for (size_t i = 0; i < BF_JOURNAL_REASONS; i++) {
        done += w->report.done[i];
    }
    require(w->is_hurt || w->report.samples_total - done == samples, "ledger");
}

static void step(world *w)
{
    switch (below(w, 16)) {
    case 0:
        if (below(w, 2) == 0) {
            (void)bf_journal_close(w->journal);
        }
        open_journal(w);
        break;
    case 1:
        w->files.fails_at = w->files.calls + below(w, 8);
        w->files.fails_for = 1 + below(w, 12);
        w->files.fails_with = below(w, 2) == 0 ? EIO : ENOSPC;
        break;
    case 2:
        if (w->is_hurt) {
            damage(w);
        }
        break;
    case 3:
    case 4:
    case 5:
        deliver(w);
        break;
    case 6:
    case 7:
    case 8:
    case 9:
        (void)bf_journal_begin(w->journal, STORE_ID, below(w, 17), 1 + below(w, 9), below(w, 9));
        (void)bf_journal_commit(w->journal, below(w, 4));
        break;
    default:
        append(w);
        break;
    }
}

int main(int count, char **arguments)
{
    double seconds = count > 1 ? atof(arguments[1]) : 60;
    seed = count > 2 ? strtoull(arguments[2], NULL, 10) : (uint64_t)time(NULL) << 16;
    time_t end = time(NULL) + (time_t)seconds;
    static world w;
    uint64_t rounds = 0;
    do {
        seed++;
        memset(&w, 0, sizeof w);
        w.random_state = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
        w.bytes = malloc(LIMITS.batch_bytes);
        require(w.bytes != NULL, "no memory");
        w.is_hurt = seed % 2 == 0;
        w.files.reads_fail = w.is_hurt;
        open_journal(&w);
        for (unsigned i = 0; i < STEPS; i++) {
            step(&w);
        }
        balance(&w);
        free(w.memory);
        free(w.bytes);
        rounds++;
    } while (count <= 2 && time(NULL) < end);
    printf("fuzz_journal: %llu rounds\n", (unsigned long long)rounds);
    return 0;
}
