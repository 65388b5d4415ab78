/* ring.c: the change ring, and beside it the bytes of texts and arrays.
 *
 * The idea: one ring of values that never waits for a reader. A writer says how far it will write (`reserved`), writes, and at the end of its batch
 * says how far it has written (`head`), so that a batch becomes visible as a whole; writers take turns by a lock. A reader copies without one and
 * looks at `reserved` afterwards: what lies more than a ring behind it may have been overwritten while it was copied, and is thrown away and
 * counted. Positions count from 0 and never wrap.
 */
#include <assert.h>
#include <string.h>

#include "table.h"

#define READ_ATTEMPTS_MAX 8 /* a reader that is lapped again and again while it copies gives up for now */
#define WHEN_MAX (INT64_C(1) << 47)
#define FLAGS_MASK 0xFFFF

static void word_store(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint64_t word_load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* (server - source) in 100 ns, rounded down, saturating at 47 bits and a sign; then the flags. */
static int64_t change_when(int64_t server_time, int64_t source_time, uint32_t flags)
{
    int64_t difference;
    if (__builtin_sub_overflow(server_time, source_time, &difference)) {
        difference = server_time > source_time ? INT64_MAX : INT64_MIN;
    }
    int64_t ticks = difference / 100 - (difference % 100 < 0);
    ticks = ticks < -WHEN_MAX ? -WHEN_MAX : ticks;
    ticks = ticks > WHEN_MAX - 1 ? WHEN_MAX - 1 : ticks;
    return ticks * 65536 + (int64_t)(flags & FLAGS_MASK);
}

/* Copies the cell of a row to the byte ring and returns its position there. The caller holds the lock and is the tag's writer. */
static uint64_t body_append(bf_table *table, const bf_row *row, uint64_t length)
{
    assert(length <= row->cell_bytes);
    size_t words = bf_words((size_t)length);
    assert((words + 1) * BF_WORD_BYTES <= table->bodies_bytes);
    size_t mask = table->bodies_bytes / BF_WORD_BYTES - 1;
    uint64_t position = word_load(&table->bodies_reserved);
    word_store(&table->bodies_reserved, position + (words + 1) * BF_WORD_BYTES);
    atomic_thread_fence(memory_order_release); /* whoever sees a word below has to see the reservation */
    size_t first = (size_t)(position / BF_WORD_BYTES);
    word_store(&table->bodies[first & mask], length);
    for (size_t i = 0; i < words; i++) {
        word_store(&table->bodies[(first + 1 + i) & mask], word_load(&table->cells[row->cell_first + i]));
    }
    return position;
}

void bf_batch_report(bf_batch *batch, uint32_t tag)
{
    bf_table *table = batch->table;
    assert(tag < table->tags_count);
    if (!batch->locked) {
        pthread_mutex_lock(&table->append);
        batch->locked = true;
    }
    const bf_slot_words *slot = &table->slots[tag];
    bf_row *row = &table->rows[tag];
    assert(row->kind != 0);
    uint64_t value = word_load(&slot->value);
    uint64_t source_time = word_load(&slot->source_time);
    uint32_t status = atomic_load_explicit(&slot->status, memory_order_relaxed);
    row->reported_value = value;
    row->reported_ns = batch->now_ns;
    if (bf_kind_has_cell(row->kind)) {
        value = body_append(table, row, value);
    }
    uint64_t position = word_load(&table->reserved);
    word_store(&table->reserved, position + 1);
    atomic_thread_fence(memory_order_release); /* whoever sees a word below has to see the reservation */
    _Atomic uint64_t *words = &table->changes[(size_t)(position & (table->changes_count - 1)) * BF_CHANGE_WORDS];
    word_store(&words[0], (uint64_t)status << 32 | tag);
    word_store(&words[1], source_time);
    word_store(&words[2], value);
    word_store(&words[3], (uint64_t)change_when(batch->server_time, (int64_t)source_time, batch->flags));
    row->reports++;
}

void bf_batch_end(bf_batch *batch)
{
    if (batch->locked) {
        atomic_store_explicit(&batch->table->head, word_load(&batch->table->reserved), memory_order_release);
        pthread_mutex_unlock(&batch->table->append);
        batch->locked = false;
        bf_watchers_wake(batch->table);
    }
}

uint64_t bf_ring_head(const bf_table *table)
{
    return atomic_load_explicit(&table->head, memory_order_acquire);
}

int32_t bf_ring_count(bf_table *table, size_t count, const uint32_t *tags, uint64_t *head, uint64_t *changes)
{
    assert(head != NULL && changes != NULL);
    for (size_t i = 0; i < count; i++) {
        if (tags[i] >= table->tags_count) {
            return BF_E_ARGUMENT;
        }
    }
    uint64_t sum = 0;
    pthread_mutex_lock(&table->append);
    for (size_t i = 0; i < count; i++) {
        sum += table->rows[tags[i]].reports;
    }
    *head = word_load(&table->head);
    pthread_mutex_unlock(&table->append);
    *changes = sum;
    return BF_OK;
}

/* The oldest change that no writer has begun to overwrite. */
static uint64_t ring_oldest(const bf_table *table)
{
    uint64_t reserved = word_load(&table->reserved);
    return reserved > table->changes_count ? reserved - table->changes_count : 0;
}

static void ring_copy(const bf_table *table, uint64_t position, bf_change *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t index = (size_t)((position + i) & (table->changes_count - 1));
        const _Atomic uint64_t *words = &table->changes[index * BF_CHANGE_WORDS];
        uint64_t first = word_load(&words[0]);
        out[i] = (bf_change){.tag = (uint32_t)first,
                             .status = (uint32_t)(first >> 32),
                             .source_time = (int64_t)word_load(&words[1]),
                             .value = word_load(&words[2]),
                             .when = (int64_t)word_load(&words[3])};
    }
}

size_t bf_ring_read(const bf_table *table, uint64_t *position, bf_change *out, size_t count, uint64_t *missed)
{
    assert(position != NULL && missed != NULL);
    uint64_t from = *position;
    uint64_t lost = 0;
    size_t copied = 0;
    uint64_t oldest = ring_oldest(table);
    for (unsigned attempt = 0; attempt < READ_ATTEMPTS_MAX; attempt++) {
        if (from < oldest) {
            lost += oldest - from;
            from = oldest;
        }
        uint64_t head = bf_ring_head(table);
        uint64_t available = head > from ? head - from : 0;
        copied = available < count ? (size_t)available : count;
        ring_copy(table, from, out, copied);
        atomic_thread_fence(memory_order_acquire); /* a word from a later lap brings its reservation along */
        oldest = ring_oldest(table);
        if (from >= oldest) {
            break;
        }
        uint64_t overwritten = oldest - from;
        if (overwritten < copied) {
            copied -= (size_t)overwritten;
            memmove(out, out + (size_t)overwritten, copied * sizeof *out);
            lost += overwritten;
            from = oldest;
            break;
        }
        copied = 0;
    }
    assert(copied <= count);
    *position = from + copied;
    *missed = lost;
    return copied;
}

/* Whether the record at `position` was written and no writer has begun to overwrite it. */
static bool body_is_intact(const bf_table *table, uint64_t position, size_t bytes)
{
    uint64_t reserved = word_load(&table->bodies_reserved);
    return position <= reserved && reserved - position >= bytes && reserved - position <= table->bodies_bytes;
}

int32_t bf_ring_bytes(const bf_table *table, const bf_change *change, uint8_t *bytes, size_t size, size_t *length)
{
    assert(change != NULL && length != NULL);
    uint64_t position = change->value;
    if (change->tag >= table->tags_count || !bf_kind_has_cell(table->rows[change->tag].kind) || position % BF_WORD_BYTES != 0) {
        return BF_E_ARGUMENT;
    }
    if (!body_is_intact(table, position, BF_WORD_BYTES)) {
        return BF_LOST;
    }
    size_t mask = table->bodies_bytes / BF_WORD_BYTES - 1;
    size_t first = (size_t)(position / BF_WORD_BYTES);
    uint64_t announced = word_load(&table->bodies[first & mask]);
    if (announced > table->rows[change->tag].cell_bytes) {
        return BF_LOST; /* overwritten since the line above */
    }
    size_t copied = announced < size ? (size_t)announced : size;
    for (size_t i = 0; i < bf_words(copied); i++) {
        uint64_t word = word_load(&table->bodies[(first + 1 + i) & mask]);
        size_t left = copied - i * BF_WORD_BYTES;
        memcpy(bytes + i * BF_WORD_BYTES, &word, left < sizeof word ? left : sizeof word);
    }
    atomic_thread_fence(memory_order_acquire);
    if (!body_is_intact(table, position, (bf_words((size_t)announced) + 1) * BF_WORD_BYTES)) {
        return BF_LOST;
    }
    if (announced > size) {
        return BF_E_SPACE;
    }
    *length = copied;
    return BF_OK;
}
