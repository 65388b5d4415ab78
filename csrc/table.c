/* table.c: the tag table: what every tag's value is now, and whether a new one is worth reporting.
 *
 * The idea: a row belongs to one writer, so what was last reported of it needs no lock; its slot is a sequence lock, so readers need none either.
 * Every call checks all it was given before it writes anything: a batch is taken whole or not at all.
 */
#include <assert.h>
#include <sched.h>
#include <string.h>

#include "table.h"

#define READ_ATTEMPTS_MAX 65536 /* a slot is written in nanoseconds: more is a writer that died in the middle */
#define READ_SPINS_MAX 64       /* then the writer was interrupted: let it run */
#define ALIGNMENT 64u           /* of the columns: a cache line */

/* ---- memory --------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t slots;
    uint64_t rows;
    uint64_t cells;
    uint64_t changes;
    uint64_t bodies;
    uint64_t end;
} table_layout;

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool is_power_of_two(uint32_t number)
{
    return number != 0 && (number & (number - 1)) == 0;
}

/* Where each column begins; false when the limits are impossible. Sums of 32-bit numbers do not overflow here. */
static bool layout_make(const bf_table_limits *limits, table_layout *layout)
{
    bool bodies_fit = limits->ring_body_bytes == 0 ||
                      (is_power_of_two(limits->ring_body_bytes) && limits->ring_body_bytes >= 2 * BF_WORD_BYTES);
    if (limits->tags_count_max == 0 || !is_power_of_two(limits->ring_changes_count) || !bodies_fit ||
        limits->ring_changes_count / 2 < limits->tags_count_max) {
        return false;
    }
    layout->slots = aligned(sizeof(bf_table));
    layout->rows = layout->slots + aligned((uint64_t)limits->tags_count_max * sizeof(bf_slot_words));
    layout->cells = layout->rows + aligned((uint64_t)limits->tags_count_max * sizeof(bf_row));
    layout->changes = layout->cells + aligned((uint64_t)bf_words(limits->cell_bytes) * BF_WORD_BYTES);
    layout->bodies = layout->changes + aligned((uint64_t)limits->ring_changes_count * sizeof(bf_change));
    layout->end = layout->bodies + aligned(limits->ring_body_bytes);
    return layout->end <= SIZE_MAX / 2;
}

size_t bf_table_bytes(const bf_table_limits *limits)
{
    table_layout layout;
    return layout_make(limits, &layout) ? (size_t)layout.end : 0;
}

int32_t bf_table_init(void *memory, size_t bytes, const bf_table_limits *limits, bf_table **table)
{
    table_layout layout;
    if (memory == NULL || (uintptr_t)memory % sizeof(uint64_t) != 0 || !layout_make(limits, &layout)) {
        return BF_E_ARGUMENT;
    }
    if (bytes < layout.end) {
        return BF_E_SPACE;
    }
    uint8_t *base = memory;
    bf_table *made = memory;
    memset(made, 0, sizeof *made);
    made->slots = (bf_slot_words *)(void *)(base + layout.slots);
    made->rows = (bf_row *)(void *)(base + layout.rows);
    made->cells = (_Atomic uint64_t *)(void *)(base + layout.cells);
    made->changes = (_Atomic uint64_t *)(void *)(base + layout.changes);
    made->bodies = (_Atomic uint64_t *)(void *)(base + layout.bodies);
    made->tags_count = limits->tags_count_max;
    made->changes_count = limits->ring_changes_count;
    made->bodies_bytes = limits->ring_body_bytes;
    made->cell_words = (uint32_t)bf_words(limits->cell_bytes);
    if (pthread_mutex_init(&made->append, NULL) != 0) {
        return BF_E_SYSTEM;
    }
    memset(base + layout.slots, 0, layout.changes - layout.slots); /* the rings are never read before they are written */
    for (uint32_t i = 0; i < made->tags_count; i++) {
        atomic_init(&made->slots[i].status, BF_BAD_WAITING);
    }
    bf_watchers_init(made);
    *table = made;
    return BF_OK;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------------------- */

static bool row_is_defined(const bf_table *table, uint32_t tag)
{
    return tag < table->tags_count && table->rows[tag].kind != 0;
}

static bool tuning_is_possible(double deadband, int64_t max_interval_ns)
{
    return deadband >= 0 && max_interval_ns >= 0; /* NaN is not >= 0 */
}

static void row_tune(bf_row *row, double deadband, int64_t max_interval_ns)
{
    atomic_store_explicit(&row->deadband, deadband, memory_order_relaxed);
    atomic_store_explicit(&row->max_interval_ns, max_interval_ns, memory_order_relaxed);
}

int32_t bf_table_define(bf_table *table, uint32_t first, uint32_t count, const uint8_t *kinds, const double *deadbands,
                        const int64_t *max_intervals, const uint32_t *cell_sizes)
{
    if (first > table->tags_count || count > table->tags_count - first) {
        return BF_E_ARGUMENT;
    }
    bool fits = true;
    uint64_t words = table->cell_words_used;
    for (uint32_t i = 0; i < count; i++) {
        if (table->rows[first + i].kind != 0 || kinds[i] < BF_KIND_BOOL || kinds[i] > BF_KIND_ARRAY) {
            return BF_E_ARGUMENT;
        }
        if (!tuning_is_possible(deadbands[i], max_intervals[i])) {
            return BF_E_ARGUMENT;
        }
        if (bf_kind_has_cell(kinds[i])) {
            uint64_t record_bytes = ((uint64_t)bf_words(cell_sizes[i]) + 1) * BF_WORD_BYTES;
            fits = fits && cell_sizes[i] <= table->bodies_bytes / 2 && record_bytes <= table->bodies_bytes;
            words += bf_words(cell_sizes[i]);
        }
    }
    if (!fits || words > table->cell_words) {
        return BF_E_SPACE;
    }
    for (uint32_t i = 0; i < count; i++) {
        bf_row *row = &table->rows[first + i];
        row->kind = kinds[i];
        row_tune(row, deadbands[i], max_intervals[i]);
        if (bf_kind_has_cell(kinds[i])) {
            row->cell_first = table->cell_words_used;
            row->cell_bytes = cell_sizes[i];
            table->cell_words_used += (uint32_t)bf_words(cell_sizes[i]);
        }
    }
    return BF_OK;
}

int32_t bf_table_retune(bf_table *table, size_t count, const uint32_t *tags, const double *deadbands, const int64_t *max_intervals)
{
    for (size_t i = 0; i < count; i++) {
        if (!row_is_defined(table, tags[i]) || !tuning_is_possible(deadbands[i], max_intervals[i])) {
            return BF_E_ARGUMENT;
        }
    }
    for (size_t i = 0; i < count; i++) {
        row_tune(&table->rows[tags[i]], deadbands[i], max_intervals[i]);
    }
    return BF_OK;
}

/* ---- slots ---------------------------------------------------------------------------------------------------------------------- */

static uint64_t word_load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void word_store(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint32_t slot_status(const bf_slot_words *slot)
{
    return atomic_load_explicit(&slot->status, memory_order_relaxed);
}

static void slot_begin(bf_slot_words *slot)
{
    uint32_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);
    assert(sequence % 2 == 0);
    atomic_store_explicit(&slot->sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* whoever sees a word below has to see the odd sequence */
}

static void slot_end(bf_slot_words *slot)
{
    uint32_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);
    assert(sequence % 2 == 1);
    atomic_store_explicit(&slot->sequence, sequence + 1, memory_order_release);
}

static void slot_write(bf_slot_words *slot, uint64_t value, int64_t source_time, int64_t server_time, uint32_t status)
{
    slot_begin(slot);
    word_store(&slot->value, value);
    word_store(&slot->source_time, (uint64_t)source_time);
    word_store(&slot->server_time, (uint64_t)server_time);
    atomic_store_explicit(&slot->status, status, memory_order_relaxed);
    slot_end(slot);
}

/* Only the status: value and source time stay. */
static void slot_mark(bf_slot_words *slot, int64_t server_time, uint32_t status)
{
    slot_write(slot, word_load(&slot->value), (int64_t)word_load(&slot->source_time), server_time, status);
}

/* ---- what is worth reporting ------------------------------------------------------------------------------------------------------ */

static double as_double(uint64_t bits)
{
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* A value as its kind keeps it: one NaN, and a bool is 0 or 1. */
static uint64_t value_normal(uint8_t kind, uint64_t value)
{
    if (kind == BF_KIND_BOOL) {
        return value != 0;
    }
    if (kind == BF_KIND_FLOAT) {
        double number = as_double(value);
        return number == number ? value : UINT64_C(0x7FF8000000000000);
    }
    return value;
}

/* Whether `value` is further from the last reported value than the deadband. */
static bool value_differs(const bf_row *row, uint64_t value)
{
    const uint64_t last = row->reported_value;
    const double deadband = atomic_load_explicit(&row->deadband, memory_order_relaxed);
    if (value == last || deadband == 0) {
        return value != last;
    }
    if (row->kind == BF_KIND_FLOAT) {
        double difference = as_double(value) - as_double(last);
        return difference != difference || difference > deadband || -difference > deadband;
    }
    bool above = row->kind == BF_KIND_INT ? (int64_t)value > (int64_t)last : value > last;
    uint64_t difference = above ? value - last : last - value; /* exact also between the ends of int64 */
    return (double)difference > deadband;
}

static bool interval_passed(const bf_row *row, int64_t now_ns)
{
    const int64_t longest_ns = atomic_load_explicit(&row->max_interval_ns, memory_order_relaxed);
    if (longest_ns == 0 || now_ns < row->reported_ns) {
        return false;
    }
    return (uint64_t)now_ns - (uint64_t)row->reported_ns >= (uint64_t)longest_ns;
}

static void scalar_put(bf_batch *batch, uint32_t tag, uint64_t value, uint32_t status)
{
    bf_slot_words *slot = &batch->table->slots[tag];
    const bf_row *row = &batch->table->rows[tag];
    assert(!bf_kind_has_cell(row->kind));
    bool report = status != slot_status(slot);
    if (bf_status_is_bad(status)) {
        slot_mark(slot, batch->server_time, status);
    } else {
        value = value_normal(row->kind, value);
        report = report || value_differs(row, value) || interval_passed(row, batch->now_ns);
        slot_write(slot, value, batch->source_time, batch->server_time, status);
    }
    if (report) {
        bf_batch_report(batch, tag);
    }
}

static uint64_t bytes_word(const uint8_t *bytes, size_t length, size_t index)
{
    size_t left = length - index * BF_WORD_BYTES;
    uint64_t word = 0;
    memcpy(&word, bytes + index * BF_WORD_BYTES, left < sizeof word ? left : sizeof word);
    return word;
}

static bool cell_differs(const _Atomic uint64_t *cell, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < bf_words(length); i++) {
        if (word_load(&cell[i]) != bytes_word(bytes, length, i)) {
            return true;
        }
    }
    return false;
}

static void bytes_put(bf_batch *batch, uint32_t tag, const uint8_t *bytes, size_t length, uint32_t status)
{
    bf_slot_words *slot = &batch->table->slots[tag];
    const bf_row *row = &batch->table->rows[tag];
    assert(bf_kind_has_cell(row->kind) && length <= row->cell_bytes);
    _Atomic uint64_t *cell = &batch->table->cells[row->cell_first];
    bool report = status != slot_status(slot);
    if (bf_status_is_bad(status)) {
        slot_mark(slot, batch->server_time, status);
    } else {
        report = report || word_load(&slot->value) != length || cell_differs(cell, bytes, length) ||
                 interval_passed(row, batch->now_ns);
        slot_begin(slot);
        for (size_t i = 0; i < bf_words(length); i++) {
            word_store(&cell[i], bytes_word(bytes, length, i));
        }
        word_store(&slot->value, length);
        word_store(&slot->source_time, (uint64_t)batch->source_time);
        word_store(&slot->server_time, (uint64_t)batch->server_time);
        atomic_store_explicit(&slot->status, status, memory_order_relaxed);
        slot_end(slot);
    }
    if (report) {
        bf_batch_report(batch, tag);
    }
}

/* ---- writing -------------------------------------------------------------------------------------------------------------------- */

int32_t bf_table_put(bf_table *table, size_t count, const uint32_t *tags, const uint64_t *values, const uint32_t *statuses,
                     int64_t source_time, int64_t server_time, int64_t now_ns, uint32_t flags)
{
    for (size_t i = 0; i < count; i++) {
        if (!row_is_defined(table, tags[i]) || bf_kind_has_cell(table->rows[tags[i]].kind)) {
            return BF_E_ARGUMENT;
        }
    }
    bf_batch batch = {table, source_time, server_time, now_ns, flags, false};
    for (size_t i = 0; i < count; i++) {
        scalar_put(&batch, tags[i], values[i], statuses[i]);
    }
    bf_batch_end(&batch);
    return BF_OK;
}

int32_t bf_table_put_bytes(bf_table *table, uint32_t tag, const uint8_t *bytes, size_t length, uint32_t status, int64_t source_time,
                           int64_t server_time, int64_t now_ns, uint32_t flags)
{
    if (!row_is_defined(table, tag) || !bf_kind_has_cell(table->rows[tag].kind) || (bytes == NULL && length > 0)) {
        return BF_E_ARGUMENT;
    }
    if (length > table->rows[tag].cell_bytes) {
        return BF_E_SPACE;
    }
    bf_batch batch = {table, source_time, server_time, now_ns, flags, false};
    bytes_put(&batch, tag, bytes, length, status);
    bf_batch_end(&batch);
    return BF_OK;
}

static uint32_t strided_tag(const uint32_t *tags, size_t stride, size_t index)
{
    uint32_t tag;
    memcpy(&tag, (const uint8_t *)tags + index * stride, sizeof tag);
    return tag;
}

int32_t bf_table_mark(bf_table *table, size_t count, const uint32_t *tags, size_t stride, uint32_t status, uint32_t rule,
                      int64_t server_time, int64_t now_ns, uint32_t flags)
{
    if (stride < sizeof *tags || rule > BF_MARK_GOOD_ONLY) {
        return BF_E_ARGUMENT;
    }
    for (size_t i = 0; i < count; i++) {
        if (!row_is_defined(table, strided_tag(tags, stride, i))) {
            return BF_E_ARGUMENT;
        }
    }
    bf_batch batch = {table, 0, server_time, now_ns, flags, false};
    for (size_t i = 0; i < count; i++) {
        uint32_t tag = strided_tag(tags, stride, i);
        bf_slot_words *slot = &table->slots[tag];
        uint32_t old_status = slot_status(slot);
        if (rule == BF_MARK_GOOD_ONLY && !bf_status_is_good(old_status)) {
            continue;
        }
        slot_mark(slot, server_time, status);
        if (status != old_status) {
            bf_batch_report(&batch, tag);
        }
    }
    bf_batch_end(&batch);
    return BF_OK;
}

/* BF_OK when every entry fits the row it names. */
static int32_t entries_check(const bf_table *table, const bf_decode *entries, size_t count, size_t scratch_bytes)
{
    bool fits = true;
    for (size_t i = 0; i < count; i++) {
        uint8_t kind = bf_entry_kind(&entries[i]);
        if (!row_is_defined(table, entries[i].tag) || table->rows[entries[i].tag].kind != kind) {
            return BF_E_ARGUMENT;
        }
        size_t bytes = bf_entry_bytes(&entries[i]);
        fits = fits && bytes <= scratch_bytes && bytes <= (size_t)table->rows[entries[i].tag].cell_bytes;
    }
    return fits ? BF_OK : BF_E_SPACE;
}

int32_t bf_table_scatter(bf_table *table, const uint8_t *body, size_t length, uint8_t walk, const bf_decode *entries, size_t count,
                         int64_t source_time, int64_t server_time, int64_t now_ns, uint32_t flags, uint8_t *scratch,
                         size_t scratch_bytes)
{
    if (walk > BF_WALK_CIP || (body == NULL && length > 0) || (entries == NULL && count > 0)) {
        return BF_E_ARGUMENT;
    }
    int32_t status = entries_check(table, entries, count, scratch_bytes);
    if (status != BF_OK) {
        return status;
    }
    bf_batch batch = {table, source_time, server_time, now_ns, flags, false};
    bf_walker walker;
    bf_walker_start(&walker, body, length, walk);
    for (size_t i = 0; i < count; i++) {
        bf_decoded decoded;
        status = bf_entry_decode(&walker, &entries[i], &decoded, scratch, scratch_bytes);
        assert(status == BF_OK); /* entries_check has seen that there is room */
        if (bf_kind_has_cell(table->rows[entries[i].tag].kind)) {
            bytes_put(&batch, entries[i].tag, scratch, decoded.length, decoded.status);
        } else {
            scalar_put(&batch, entries[i].tag, decoded.value, decoded.status);
        }
    }
    bf_batch_end(&batch);
    return BF_OK;
}

/* ---- reading -------------------------------------------------------------------------------------------------------------------- */

/* Copies a slot and, when `bytes` is not NULL, as much of the cell as its length says and `size` allows. BF_E_SYSTEM: its writer died. */
static int32_t slot_read(const bf_slot_words *slot, bf_slot *out, const _Atomic uint64_t *cell, uint8_t *bytes, size_t size)
{
    for (unsigned attempt = 0; attempt < READ_ATTEMPTS_MAX; attempt++) {
        if (attempt >= READ_SPINS_MAX) {
            sched_yield();
        }
        uint32_t sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);
        if (sequence % 2 != 0) {
            continue;
        }
        *out = (bf_slot){.value = word_load(&slot->value),
                         .source_time = (int64_t)word_load(&slot->source_time),
                         .server_time = (int64_t)word_load(&slot->server_time),
                         .status = slot_status(slot),
                         .sequence = sequence};
        size_t length = bytes == NULL ? 0 : out->value < size ? (size_t)out->value : size;
        for (size_t i = 0; i < bf_words(length); i++) {
            uint64_t word = word_load(&cell[i]);
            size_t left = length - i * BF_WORD_BYTES;
            memcpy(bytes + i * BF_WORD_BYTES, &word, left < sizeof word ? left : sizeof word);
        }
        atomic_thread_fence(memory_order_acquire); /* a word from a later write brings its odd sequence along */
        if (atomic_load_explicit(&slot->sequence, memory_order_relaxed) == sequence) {
            return BF_OK;
        }
    }
    return BF_E_SYSTEM;
}

int32_t bf_table_read(const bf_table *table, size_t count, const uint32_t *tags, bf_slot *out)
{
    for (size_t i = 0; i < count; i++) {
        if (tags[i] >= table->tags_count) {
            return BF_E_ARGUMENT;
        }
    }
    int32_t status = BF_OK;
    for (size_t i = 0; i < count && status == BF_OK; i++) {
        status = slot_read(&table->slots[tags[i]], &out[i], NULL, NULL, 0);
    }
    return status;
}

int32_t bf_table_read_bytes(const bf_table *table, uint32_t tag, bf_slot *out, uint8_t *bytes, size_t size, size_t *length)
{
    if (!row_is_defined(table, tag) || !bf_kind_has_cell(table->rows[tag].kind) || (bytes == NULL && size > 0)) {
        return BF_E_ARGUMENT;
    }
    bf_slot slot;
    int32_t status = slot_read(&table->slots[tag], &slot, &table->cells[table->rows[tag].cell_first], bytes, size);
    if (status != BF_OK) {
        return status;
    }
    if (slot.value > size) {
        return BF_E_SPACE;
    }
    assert(slot.value <= table->rows[tag].cell_bytes);
    *out = slot;
    *length = (size_t)slot.value;
    return BF_OK;
}
