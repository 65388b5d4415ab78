/* test_threads.c: readers of the table and of the ring never see half a value, while writers write as fast as they can.
 *
 * Every number that a writer writes is derived from one counter, so a reader can tell a mixture. Slots are checked for that; a cursor must see the
 * numbers of each tag rise, and count what it missed exactly; a text is one letter all over. Built with ThreadSanitizer by `make sanitize`.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bifrost.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);         \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

#define WRITERS 2u
#define TAGS_EACH 4u /* the last one is a text */
#define TAGS (WRITERS * TAGS_EACH)
#define WRITES 60000u
#define CELL_BYTES 48u

static bf_table *table;
static atomic_uint writers_left = WRITERS;
static atomic_ullong reported;

static uint8_t is_text(uint32_t tag)
{
    return tag % TAGS_EACH == TAGS_EACH - 1;
}

static void table_make(void)
{
    const bf_table_limits limits = {TAGS, 64, 256, TAGS * CELL_BYTES};
    uint8_t kinds[TAGS];
    double deadbands[TAGS] = {0};
    int64_t max_intervals[TAGS] = {0};
    uint32_t cell_sizes[TAGS];
    for (uint32_t tag = 0; tag < TAGS; tag++) {
        kinds[tag] = is_text(tag) ? BF_KIND_TEXT : BF_KIND_UINT;
        cell_sizes[tag] = is_text(tag) ? CELL_BYTES : 0;
    }
    size_t bytes = bf_table_bytes(&limits);
    CHECK(bytes > 0);
    void *memory = malloc(bytes);
    CHECK(memory != NULL);
    CHECK(bf_table_init(memory, bytes, &limits, &table) == BF_OK);
    CHECK(bf_table_define(table, 0, TAGS, kinds, deadbands, max_intervals, cell_sizes) == BF_OK);
}

/* Write number `number` of a writer: scalars are `number`, and both times are made of it. */
static void *writer(void *argument)
{
    uint32_t first = *(const uint32_t *)argument * TAGS_EACH;
    for (uint32_t number = 1; number <= WRITES; number++) {
        uint32_t tags[TAGS_EACH - 1];
        uint64_t values[TAGS_EACH - 1];
        uint32_t statuses[TAGS_EACH - 1];
        for (uint32_t i = 0; i < TAGS_EACH - 1; i++) {
            tags[i] = first + i;
            values[i] = number;
            statuses[i] = BF_GOOD;
        }
        CHECK(bf_table_put(table, TAGS_EACH - 1, tags, values, statuses, number * 100, number * 300, number, 0) == BF_OK);
        uint8_t text[CELL_BYTES];
        size_t length = number % CELL_BYTES + 1;
        memset(text, 'a' + (int)(number % 26), length);
        CHECK(bf_table_put_bytes(table, first + TAGS_EACH - 1, text, length, BF_GOOD, number * 100, number * 300, number, 0) ==
              BF_OK);
        atomic_fetch_add(&reported, TAGS_EACH);
    }
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

static void text_check(const uint8_t *text, size_t length, int64_t source_time)
{
    uint64_t number = (uint64_t)source_time / 100;
    CHECK(length == number % CELL_BYTES + 1);
    for (size_t i = 0; i < length; i++) {
        CHECK(text[i] == 'a' + number % 26);
    }
}

static void *slot_reader(void *argument)
{
    (void)argument;
    uint32_t tags[TAGS];
    for (uint32_t tag = 0; tag < TAGS; tag++) {
        tags[tag] = tag;
    }
    while (atomic_load(&writers_left) > 0) {
        bf_slot slots[TAGS];
        CHECK(bf_table_read(table, TAGS, tags, slots) == BF_OK);
        for (uint32_t tag = 0; tag < TAGS; tag++) {
            CHECK(slots[tag].sequence % 2 == 0);
            CHECK(slots[tag].server_time == slots[tag].source_time * 3);
            CHECK(is_text(tag) || (int64_t)slots[tag].value * 100 == slots[tag].source_time);
            CHECK(slots[tag].source_time == (int64_t)slots[tag].sequence / 2 * 100);
        }
        bf_slot slot;
        uint8_t text[CELL_BYTES];
        size_t length;
        CHECK(bf_table_read_bytes(table, TAGS_EACH - 1, &slot, text, sizeof text, &length) == BF_OK);
        if (slot.source_time != 0) {
            text_check(text, length, slot.source_time);
        }
    }
    return NULL;
}

/* Changes of all tags, counted tag by tag; they are as many as the head says, however many are being written. */
static uint64_t changes_counted(void)
{
    uint32_t tags[TAGS];
    for (uint32_t tag = 0; tag < TAGS; tag++) {
        tags[tag] = tag;
    }
    uint64_t head;
    uint64_t changes;
    CHECK(bf_ring_count(table, TAGS, tags, &head, &changes) == BF_OK);
    CHECK(changes == head);
    return changes;
}

static void *cursor(void *argument)
{
    (void)argument;
    uint64_t position = 0;
    uint64_t seen = 0;
    uint64_t missed_sum = 0;
    uint64_t texts = 0;
    int64_t last[TAGS] = {0};
    while (atomic_load(&writers_left) > 0 || position != bf_ring_head(table)) {
        (void)changes_counted();
        bf_change changes[16];
        uint64_t missed;
        size_t count = bf_ring_read(table, &position, changes, 16, &missed);
        seen += count;
        missed_sum += missed;
        CHECK(position == seen + missed_sum);
        for (size_t i = 0; i < count; i++) {
            const bf_change *change = &changes[i];
            CHECK(change->tag < TAGS && change->status == BF_GOOD);
            CHECK(change->source_time > last[change->tag]);
            CHECK(change->when == change->source_time * 2 / 100 * 65536);
            last[change->tag] = change->source_time;
            if (!is_text(change->tag)) {
                CHECK((int64_t)change->value * 100 == change->source_time);
                continue;
            }
            uint8_t text[CELL_BYTES];
            size_t length;
            int32_t status = bf_ring_bytes(table, change, text, sizeof text, &length);
            CHECK(status == BF_OK || status == BF_LOST);
            if (status == BF_OK) {
                text_check(text, length, change->source_time);
                texts++;
            }
        }
    }
    CHECK(seen + missed_sum == atomic_load(&reported));
    CHECK(changes_counted() == seen + missed_sum);
    CHECK(seen > 0);
    printf("cursor: %llu seen, %llu missed, %llu texts\n", (unsigned long long)seen, (unsigned long long)missed_sum,
           (unsigned long long)texts);
    return NULL;
}

int main(void)
{
    table_make();
    pthread_t threads[WRITERS + 3];
    uint32_t numbers[WRITERS];
    for (uint32_t i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, writer, &numbers[i]) == 0);
    }
    CHECK(pthread_create(&threads[WRITERS], NULL, slot_reader, NULL) == 0);
    CHECK(pthread_create(&threads[WRITERS + 1], NULL, cursor, NULL) == 0);
    CHECK(pthread_create(&threads[WRITERS + 2], NULL, cursor, NULL) == 0);
    for (uint32_t i = 0; i < WRITERS + 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    free(table);
    puts("threads: no reader saw half a value");
    return 0;
}
