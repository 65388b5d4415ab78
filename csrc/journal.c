/* journal.c: the journal as others see it: its memory, and the side of it that never waits.
 *
 * The idea: `append` and `acknowledge` write into one half of the memory, `commit` and `read` work with the other half and the disk; `begin`
 * hands the one over to the other. So the two sides may be on two threads without a lock, as long as begin runs beside neither.
 */
#include <assert.h>
#include <string.h>

#include "journal.h"

struct bf_journal {
    /* Memory. */
    bf_batch_bytes batch;
    uint64_t next_sequence;
    bf_acknowledgement *acknowledged;
    size_t acknowledged_count;
    bf_stream_name streams[BF_JOURNAL_STREAMS_MAX];
    uint32_t streams_count;
    bf_journal_counters recovered;
    bool is_closed;
    /* Disk. */
    bf_disk disk;
};

/* ---- memory ------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *memory; /* NULL: only sizes are added up */
    size_t taken;
} arena;

static void *arena_take(arena *from, size_t bytes)
{
    void *part = from->memory == NULL ? NULL : from->memory + from->taken;
    from->taken += (bytes + 7) & ~(size_t)7;
    return part;
}

/* Where each part lies. */
typedef struct {
    bf_journal *journal;
    uint8_t *batches[2];
    bf_acknowledgement *acknowledgements[2];
    bf_segment *segments;
    size_t segments_size;
    uint32_t *unreadable;
    uint8_t *windows[3];
    uint8_t *preamble;
} layout;

static layout journal_lay_out(arena *from, const bf_journal_limits *limits, size_t found)
{
    layout parts;
    parts.journal = arena_take(from, sizeof *parts.journal);
    for (size_t i = 0; i < 2; i++) {
        parts.batches[i] = arena_take(from, (size_t)limits->batch_bytes + BF_COMMIT_FRAME_BYTES_MAX);
        parts.acknowledgements[i] = arena_take(from, limits->acknowledgements_count_max * sizeof(bf_acknowledgement));
    }
    parts.segments_size = (found > limits->segments_count_max ? found : limits->segments_count_max) + 2;
    parts.segments = arena_take(from, parts.segments_size * sizeof(bf_segment));
    parts.unreadable = arena_take(from, found * sizeof(uint32_t));
    for (size_t i = 0; i < 3; i++) {
        parts.windows[i] = arena_take(from, bf_journal_window_bytes(limits));
    }
    parts.preamble = arena_take(from, BF_PREAMBLE_BYTES_MAX);
    return parts;
}

size_t bf_journal_bytes(const bf_journal_limits *limits, size_t segments_found)
{
    if (!bf_journal_limits_fit(limits) || segments_found > UINT32_MAX) {
        return 0;
    }
    arena sizes = {NULL, 0};
    (void)journal_lay_out(&sizes, limits, segments_found);
    return sizes.taken;
}

static void scan_init(bf_journal_scan *scan, const bf_disk *disk, uint8_t *window)
{
    scan->io = &disk->io;
    scan->window = window;
    scan->window_bytes = bf_journal_window_bytes(&disk->limits);
}

int32_t bf_journal_open(void *memory, size_t bytes, const bf_journal_limits *limits, const bf_journal_io *io, const uint8_t *store_id,
                        const uint32_t *numbers, size_t numbers_count, uint32_t last_number, int64_t now_ns, bf_journal **journal,
                        int32_t *error)
{
    size_t needed = bf_journal_bytes(limits, numbers_count);
    if (needed == 0) {
        return BF_E_ARGUMENT;
    }
    if (memory == NULL || bytes < needed) {
        return BF_E_SPACE;
    }
    arena from = {memory, 0};
    const layout parts = journal_lay_out(&from, limits, numbers_count);
    bf_journal *j = parts.journal;
    memset(j, 0, sizeof *j);
    j->batch.bytes = parts.batches[0];
    j->acknowledged = parts.acknowledgements[0];
    bf_disk *disk = &j->disk;
    disk->batch.bytes = parts.batches[1];
    disk->ranges.pending = parts.acknowledgements[1];
    disk->segments = (bf_segments){.list = parts.segments, .size = parts.segments_size};
    disk->unreadable = parts.unreadable;
    disk->preamble = parts.preamble;
    disk->io = *io;
    disk->limits = *limits;
    memcpy(disk->store_id, store_id, sizeof disk->store_id);
    disk->ranges.base = 1;
    disk->written = disk->durable = disk->batch_start = (bf_mark){1, 0};
    disk->last_number = last_number;
    disk->now_ns = now_ns;
    disk->active_fd = -1;
    disk->cursor = (bf_cursor_file){.io = &disk->io, .slot = disk->slot, .fd = -1, .durable_slot = 1, .is_saved = true, .is_synced = true};
    disk->reader.segments = disk->tally.segments = &disk->segments;
    scan_init(&disk->reader.scan, disk, parts.windows[0]);
    scan_init(&disk->tally.scan, disk, parts.windows[1]);
    scan_init(&disk->rescue_scan, disk, parts.windows[2]);
    disk->streams = j->streams;
    int32_t status = bf_disk_open(disk, numbers, numbers_count);
    if (status != BF_OK) {
        *error = disk->error;
        return status;
    }
    j->next_sequence = disk->batch_start.sequence;
    j->streams_count = disk->streams_count;
    j->recovered = disk->counters;
    *journal = j;
    return BF_OK;
}

/* ---- the side of memory ------------------------------------------------------------------------------------------------------------- */

int32_t bf_journal_stream(bf_journal *journal, const uint8_t *name, size_t length)
{
    if (length == 0 || length > BF_JOURNAL_STREAM_NAME_BYTES_MAX) {
        return BF_E_ARGUMENT;
    }
    for (uint32_t i = 0; i < journal->streams_count; i++) {
        if (journal->streams[i].length == length && memcmp(journal->streams[i].bytes, name, length) == 0) {
            return (int32_t)i;
        }
    }
    if (journal->streams_count == BF_JOURNAL_STREAMS_MAX) {
        return BF_E_FULL;
    }
    bf_stream_name *added = &journal->streams[journal->streams_count];
    memcpy(added->bytes, name, length);
    added->length = (uint8_t)length;
    return (int32_t)journal->streams_count++;
}

const uint8_t *bf_journal_stream_name(const bf_journal *journal, uint32_t stream, size_t *length)
{
    if (stream >= journal->streams_count) {
        return NULL;
    }
    *length = journal->streams[stream].length;
    return journal->streams[stream].bytes;
}

int64_t bf_journal_append(bf_journal *journal, uint32_t stream, uint32_t lane, uint32_t samples, int64_t first_ns, int64_t last_ns,
                          const uint8_t *payload, size_t length)
{
    const bf_journal_limits *limits = &journal->disk.limits;
    if (length > limits->record_bytes_max || stream >= journal->streams_count || lane > BF_LANE_BACKFILL || samples == 0 ||
        samples > UINT16_MAX || first_ns == INT64_MIN || first_ns > last_ns) {
        return BF_E_ARGUMENT;
    }
    bf_batch_bytes *batch = &journal->batch;
    if (batch->length + bf_aligned(BF_FRAME_BYTES + length) > limits->batch_bytes) {
        return BF_E_FULL;
    }
    bf_frame frame = {.first_ns = first_ns,
                      .span_ms = bf_span_ms(first_ns, last_ns),
                      .length = (uint32_t)length,
                      .payload = payload,
                      .samples = (uint16_t)samples,
                      .type = BF_RECORD_DATA,
                      .stream = (uint8_t)stream,
                      .flags = (uint8_t)lane};
    batch->length += bf_frame_pack(batch->bytes + batch->length, &frame);
    assert(batch->length <= limits->batch_bytes);
    return (int64_t)journal->next_sequence++;
}

int32_t bf_journal_acknowledge(bf_journal *journal, size_t count, const uint64_t *sequences, const uint32_t *records,
                               const uint32_t *samples, uint32_t reason)
{
    if (reason >= BF_JOURNAL_REASONS) {
        return BF_E_ARGUMENT;
    }
    for (size_t i = 0; i < count; i++) {
        if (records[i] == 0) {
            return BF_E_ARGUMENT;
        }
    }
    if (count > journal->disk.limits.acknowledgements_count_max - journal->acknowledged_count) {
        return BF_E_FULL;
    }
    for (size_t i = 0; i < count; i++) {
        journal->acknowledged[journal->acknowledged_count++] =
            (bf_acknowledgement){.sequence = sequences[i], .records = records[i], .samples = samples[i], .reason = reason};
    }
    return BF_OK;
}

int32_t bf_journal_begin(bf_journal *journal, const uint8_t *counters, size_t length, int64_t now_ns, int64_t expire_before_ns)
{
    bf_disk *disk = &journal->disk;
    if (length > BF_JOURNAL_COUNTERS_BYTES_MAX) {
        return BF_E_ARGUMENT;
    }
    if (length > 0) {
        memcpy(disk->counters.bytes, counters, length);
    }
    disk->counters.length = length;
    disk->now_ns = now_ns;
    disk->expire_before_ns = expire_before_ns;
    disk->streams_count = journal->streams_count;
    bf_ranges *ranges = &disk->ranges;
    size_t room = disk->limits.acknowledgements_count_max - ranges->pending_count;
    size_t moved = journal->acknowledged_count < room ? journal->acknowledged_count : room;
    memcpy(&ranges->pending[ranges->pending_count], journal->acknowledged, moved * sizeof(bf_acknowledgement));
    ranges->pending_count += moved;
    journal->acknowledged_count -= moved;
    memmove(journal->acknowledged, &journal->acknowledged[moved], journal->acknowledged_count * sizeof(bf_acknowledgement));
    if (disk->batch.length == 0) {
        bf_batch_bytes empty = disk->batch;
        disk->batch = journal->batch;
        journal->batch = empty;
        assert(journal->batch.length == 0);
    }
    return bf_disk_has_work(disk) ? BF_OK : BF_PARTIAL;
}

/* ---- the side of the disk ----------------------------------------------------------------------------------------------------------- */

int32_t bf_journal_commit(bf_journal *journal, uint32_t flags)
{
    return journal->is_closed ? BF_E_ARGUMENT : bf_disk_commit(&journal->disk, flags);
}

static void record_damaged(bf_disk *disk, bf_journal_record *record, const bf_entry *entry)
{
    disk->alarms |= BF_ALARM_DAMAGE;
    *record = (bf_journal_record){
        .sequence = entry->sequence, .type = BF_RECORD_DAMAGED, .records = entry->records, .samples = entry->samples};
}

static void record_make(bf_journal_record *record, const bf_frame *frame, uint8_t *bytes, size_t offset)
{
    if (frame->length > 0) {
        memcpy(bytes + offset, frame->payload, frame->length);
    }
    *record = (bf_journal_record){.sequence = frame->sequence,
                                  .type = BF_RECORD_DATA,
                                  .records = 1,
                                  .stream = frame->stream,
                                  .lane = frame->flags & 1,
                                  .samples = frame->samples,
                                  .length = frame->length,
                                  .offset = offset,
                                  .first_ns = frame->first_ns,
                                  .last_ns = bf_frame_last_ns(frame)};
}

/* What is missing before the first segment. */
static void read_before(bf_disk *disk, uint64_t *first, bf_journal_record *record)
{
    bf_mark start = {disk->segments.list[0].header.first_sequence, disk->segments.list[0].header.first_samples};
    uint64_t done = bf_ranges_sum(&disk->ranges);
    uint64_t lost = start.samples > done ? start.samples - done : 0;
    uint64_t count = start.sequence - *first;
    bf_entry entry = {.sequence = *first,
                      .records = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count,
                      .samples = lost > UINT32_MAX ? UINT32_MAX : (uint32_t)lost};
    record_damaged(disk, record, &entry);
    *first = start.sequence;
}

/* What of a gap is not done with, one stretch at a time; how many records that made. */
static size_t read_missing(bf_disk *disk, bf_journal_record *record, bf_entry entry)
{
    bf_entry part = entry;
    if (!bf_entry_narrow(&disk->ranges, &part)) {
        return 0;
    }
    uint64_t after = part.sequence + part.records;
    uint64_t end = entry.sequence + entry.records;
    if (after < end) {
        disk->reader.hole = (bf_entry){.type = BF_RECORD_DAMAGED, .sequence = after, .records = (uint32_t)(end - after)};
        disk->reader.has_hole = true;
    }
    record_damaged(disk, record, &part);
    disk->dropped.records_damaged += part.records;
    return 1;
}

static int32_t read_refuse(bf_disk *disk)
{
    return disk->reader.error == 0 ? BF_OK : bf_disk_refuse(disk, disk->reader.error);
}

int32_t bf_journal_read(bf_journal *journal, uint64_t sequence, uint64_t through, bf_journal_record *records, size_t count,
                        uint8_t *bytes, size_t *got)
{
    bf_disk *disk = &journal->disk;
    *got = 0;
    if (journal->is_closed) {
        return BF_E_ARGUMENT;
    }
    const uint64_t last = disk->written.sequence - 1;
    through = through < last ? through : last;
    if (disk->segments.count == 0 || count == 0) {
        return BF_OK;
    }
    uint64_t first = sequence > disk->ranges.base ? sequence : disk->ranges.base;
    if (first < disk->segments.list[0].header.first_sequence && first <= through) {
        read_before(disk, &first, &records[(*got)++]);
    }
    if (first <= through && !bf_journal_reader_seek(&disk->reader, first, &disk->written)) {
        return read_refuse(disk);
    }
    size_t size = 0;
    while (*got < count && first <= through && bf_journal_reader_place(&disk->reader) <= through) { /* each turn moves the reader on */
        bf_entry entry;
        if (!bf_journal_reader_next(&disk->reader, &disk->written, &entry)) {
            return read_refuse(disk);
        }
        if (entry.type == BF_RECORD_DAMAGED) {
            *got += read_missing(disk, &records[*got], entry);
            continue;
        }
        if (bf_ranges_is_done(&disk->ranges, entry.sequence)) {
            continue;
        }
        if (size + entry.frame.length > disk->limits.batch_bytes) {
            bf_journal_reader_give_back(&disk->reader, &entry.frame);
            break;
        }
        record_make(&records[(*got)++], &entry.frame, bytes, size);
        size += entry.frame.length;
    }
    return BF_OK;
}

void bf_journal_report_get(const bf_journal *journal, bf_journal_report *report)
{
    const bf_disk *disk = &journal->disk;
    *report = (bf_journal_report){.next_sequence = journal->next_sequence,
                                  .written_sequence = disk->written.sequence - 1,
                                  .durable_sequence = disk->durable.sequence - 1,
                                  .base_sequence = disk->ranges.base,
                                  .samples_total = disk->written.samples,
                                  .records_damaged = disk->dropped.records_damaged,
                                  .dropped_first_ns = disk->dropped.first_ns,
                                  .dropped_last_ns = disk->dropped.last_ns,
                                  .segments_count = (uint32_t)disk->segments.count,
                                  .disk_bytes = BF_CURSOR_FILE_BYTES,
                                  .generation = disk->generation,
                                  .alarms = disk->alarms,
                                  .error = disk->error,
                                  .was_clean = disk->was_clean,
                                  .counters_length = (uint32_t)journal->recovered.length};
    memcpy(report->store_id, disk->store_id, sizeof report->store_id);
    memcpy(report->done, disk->ranges.done, sizeof report->done);
    memcpy(report->dropped_by_stream, disk->dropped.by_stream, sizeof report->dropped_by_stream);
    memcpy(report->counters, journal->recovered.bytes, journal->recovered.length);
    for (size_t i = 0; i < disk->segments.count; i++) {
        report->disk_bytes += disk->segments.list[i].header.segment_bytes;
    }
}

int32_t bf_journal_close(bf_journal *journal)
{
    if (journal->is_closed) {
        return BF_OK;
    }
    journal->is_closed = true;
    return bf_disk_close(&journal->disk, journal->batch.length == 0);
}
