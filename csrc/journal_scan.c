/* journal_scan.c: reading segments: every whole record from some place on, and exactly what is missing between them.
 *
 * The idea: a scan walks one file through a window of fixed size; where the bytes are no record it looks for the next one at every fourth byte.
 * A reader walks all segments in order and tells of gaps in the numbers: how many records are gone, and, from the totals in the next
 * commit record or segment header, how many samples they held.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "journal.h"

#define TRIES 3u
#define BLOCK_BYTES 4096u /* what a disk gives or does not give; a bad one must not take the others along */

/* ---- one segment -------------------------------------------------------------------------------------------------------------------- */

void bf_journal_scan_start(bf_journal_scan *scan, int fd, const bf_segment *segment, uint64_t at, uint64_t ceiling)
{
    assert(scan->io != NULL && scan->window != NULL);
    scan->fd = fd;
    scan->salt = bf_segment_salt(&segment->header);
    scan->first_sequence = scan->floor = segment->header.first_sequence;
    scan->at = scan->window_at = at;
    scan->end = segment->end;
    scan->ceiling = ceiling;
    scan->window_length = 0;
    scan->error = 0;
}

/* The window in small parts, with zeros for those that can't be read, unless nothing can be read any more. Bytes taken, or -errno. */
static int64_t scan_read_blocks(bf_journal_scan *scan, size_t size)
{
    size_t failed = 0;
    size_t taken = 0;
    for (size_t at = 0; at < size; at += BLOCK_BYTES) {
        size_t wanted = size - at < BLOCK_BYTES ? size - at : BLOCK_BYTES;
        int64_t part = -1;
        for (unsigned i = 0; i < TRIES && part < 0; i++) {
            part = scan->io->read(scan->io->context, scan->fd, scan->at + at, scan->window + at, wanted);
        }
        if (part < 0) {
            failed += wanted;
            memset(scan->window + at, 0, wanted);
            part = (int64_t)wanted;
        }
        taken += (size_t)part;
        if ((size_t)part < wanted) {
            break;
        }
    }
    if (failed == size) {
        uint8_t header[BF_HEADER_BYTES];
        int64_t first = scan->io->read(scan->io->context, scan->fd, 0, header, sizeof header);
        if (first < 0) {
            return first;
        }
    }
    return (int64_t)taken;
}

/* Whether `size` bytes from `at` on are, or can be brought, in the window. */
static bool scan_have(bf_journal_scan *scan, size_t size)
{
    if (scan->at + size > scan->end) {
        return false;
    }
    if (scan->window_at <= scan->at && scan->at + size <= scan->window_at + scan->window_length) {
        return true;
    }
    size_t wanted = scan->end - scan->at < scan->window_bytes ? (size_t)(scan->end - scan->at) : scan->window_bytes;
    int64_t taken = scan->io->read(scan->io->context, scan->fd, scan->at, scan->window, wanted);
    if (taken == -EIO) {
        taken = scan_read_blocks(scan, wanted);
    }
    if (taken < 0) {
        scan->window_length = 0;
        scan->error = (int)taken;
        return false;
    }
    assert((size_t)taken <= wanted);
    scan->window_at = scan->at;
    scan->window_length = (size_t)taken;
    return size <= (size_t)taken;
}

/* The record at `at`, if there is one. */
static bool scan_frame(bf_journal_scan *scan, bf_frame *frame)
{
    uint8_t type;
    size_t size = BF_FRAME_BYTES + bf_frame_length(scan->window + (scan->at - scan->window_at), &type);
    if (type == 0 || size > scan->window_bytes || !scan_have(scan, size)) {
        return false;
    }
    const uint8_t *bytes = scan->window + (scan->at - scan->window_at);
    if (!bf_frame_unpack(bytes, scan->salt, scan->first_sequence, scan->at, frame) || frame->sequence < scan->floor ||
        frame->sequence > scan->ceiling) {
        return false;
    }
    return type != BF_RECORD_DATA || (frame->sequence != scan->ceiling && frame->samples != 0);
}

bool bf_journal_scan_next(bf_journal_scan *scan, bf_frame *frame)
{
    while (scan_have(scan, BF_FRAME_BYTES)) { /* each turn moves `at` on, or ends */
        bool is_frame = scan_frame(scan, frame);
        if (scan->error != 0) {
            return false;
        }
        if (is_frame) {
            scan->at = frame->next_at;
            uint64_t after = frame->sequence + (frame->type == BF_RECORD_DATA);
            scan->floor = after > scan->floor ? after : scan->floor;
            return true;
        }
        scan->at += 4;
    }
    return false;
}

/* Goes back to where `frame` is the next. */
static void scan_rewind(bf_journal_scan *scan, const bf_frame *frame)
{
    scan->at = frame->at;
    scan->floor = frame->sequence;
}

/* ---- all segments ------------------------------------------------------------------------------------------------------------------- */

/* Index of the segment that the reader stands in. Numbers are in order. */
static size_t reader_index(const bf_journal_reader *reader)
{
    const bf_segments *segments = reader->segments;
    size_t low = 0;
    size_t high = segments->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (segments->list[middle].header.number < reader->number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    assert(low < segments->count && segments->list[low].header.number == reader->number);
    return low;
}

static const bf_segment *reader_following(const bf_journal_reader *reader)
{
    size_t index = reader_index(reader) + 1;
    return index < reader->segments->count ? &reader->segments->list[index] : NULL;
}

static bf_mark segment_start(const bf_segment *segment)
{
    return (bf_mark){segment->header.first_sequence, segment->header.first_samples};
}

void bf_journal_reader_close(bf_journal_reader *reader)
{
    if (reader->number != 0) {
        (void)reader->scan.io->close(reader->scan.io->context, reader->scan.fd);
    }
    reader->number = 0;
    reader->sequence = 0;
    reader->has_hole = false;
}

static bool reader_enter(bf_journal_reader *reader, const bf_segment *segment)
{
    bf_journal_reader_close(reader);
    char name[BF_NAME_BYTES];
    bf_segment_name(segment->header.number, ".bfs", name);
    int fd = reader->scan.io->open(reader->scan.io->context, name, 0);
    if (fd < 0) {
        reader->error = fd;
        return false;
    }
    reader->number = segment->header.number;
    reader->sequence = segment->header.first_sequence;
    reader->samples = segment->header.first_samples;
    const bf_segment *following = reader_following(reader);
    uint64_t ceiling = following == NULL ? UINT64_MAX : following->header.first_sequence;
    bf_journal_scan_start(&reader->scan, fd, segment, BF_RECORDS_AT, ceiling);
    return true;
}

/* Everything up to `end`, in stretches of what a count can hold. */
static void reader_missing(bf_journal_reader *reader, bf_mark end, bf_entry *entry)
{
    assert(end.sequence > reader->sequence);
    reader->segments->list[reader_index(reader)].is_damaged = true;
    uint64_t samples = end.samples > reader->samples ? end.samples - reader->samples : 0;
    uint64_t records = end.sequence - reader->sequence;
    *entry = (bf_entry){.type = BF_RECORD_DAMAGED,
                        .sequence = reader->sequence,
                        .records = records > UINT32_MAX ? UINT32_MAX : (uint32_t)records,
                        .samples = samples > UINT32_MAX ? UINT32_MAX : (uint32_t)samples};
    reader->sequence += entry->records;
    reader->samples += entry->samples;
}

/* Samples of all records before `frame`: from the next total that is known, less what lies between. */
static uint64_t reader_total_before(bf_journal_reader *reader, const bf_frame *frame, uint64_t end_samples)
{
    bf_journal_scan *scan = &reader->scan;
    const bf_segment *following = reader_following(reader);
    uint64_t total = following == NULL ? end_samples : following->header.first_samples;
    uint64_t between = frame->samples;
    bf_frame later;
    while (bf_journal_scan_next(scan, &later)) {
        bf_commit commit;
        if (bf_commit_unpack(&later, &commit)) {
            total = commit.samples_total;
            break;
        }
        between += later.type == BF_RECORD_DATA ? later.samples : 0;
    }
    scan->error = 0;
    uint64_t before = total > between ? total - between : 0;
    return before > reader->samples ? before : reader->samples;
}

uint64_t bf_journal_reader_place(const bf_journal_reader *reader)
{
    return reader->has_hole ? reader->hole.sequence : reader->sequence;
}

bool bf_entry_narrow(const bf_ranges *ranges, bf_entry *entry)
{
    assert(entry->type == BF_RECORD_DAMAGED && entry->records > 0);
    uint64_t first = entry->sequence;
    uint64_t last = first + entry->records - 1;
    if (!bf_ranges_undone(ranges, &first, &last)) {
        return false;
    }
    uint32_t records = (uint32_t)(last - first + 1);
    entry->samples = records == entry->records ? entry->samples : 0;
    entry->sequence = first;
    entry->records = records;
    return true;
}

bool bf_journal_reader_seek(bf_journal_reader *reader, uint64_t sequence, const bf_mark *end)
{
    reader->error = 0;
    if (reader->number != 0 && bf_journal_reader_place(reader) == sequence) {
        return true;
    }
    bf_journal_reader_close(reader);
    const bf_segment *place = NULL;
    for (size_t i = 0; i < reader->segments->count && reader->segments->list[i].header.first_sequence <= sequence; i++) {
        place = &reader->segments->list[i];
    }
    if (place == NULL || !reader_enter(reader, place)) {
        return false;
    }
    bf_entry passed;
    while (reader->sequence < sequence) {
        if (!bf_journal_reader_next(reader, end, &passed)) {
            return reader->error == 0;
        }
    }
    if (reader->sequence > sequence) { /* more is missing than when the cursor was moved into it */
        uint32_t records = (uint32_t)(reader->sequence - sequence);
        reader->hole = (bf_entry){.type = BF_RECORD_DAMAGED, .sequence = sequence, .records = records};
        reader->has_hole = true;
    }
    return true;
}

/* What is at the end of a segment: a gap, or another segment. False: `entry` was made, or there is nothing more. */
static bool reader_turn(bf_journal_reader *reader, const bf_mark *end, bf_entry *entry, bool *has_entry)
{
    if (reader->scan.error != 0) {
        int error = reader->scan.error;
        bf_journal_reader_close(reader);
        reader->error = error;
        return false;
    }
    const bf_segment *following = reader_following(reader);
    bf_mark limit = following == NULL ? *end : segment_start(following);
    if (reader->sequence < limit.sequence) {
        reader_missing(reader, limit, entry);
        *has_entry = true;
        return false;
    }
    return following != NULL && reader_enter(reader, following);
}

bool bf_journal_reader_next(bf_journal_reader *reader, const bf_mark *end, bf_entry *entry)
{
    reader->error = 0;
    if (reader->has_hole) {
        *entry = reader->hole;
        reader->has_hole = false;
        return true;
    }
    while (reader->number != 0) { /* each turn takes a record or a segment */
        reader->scan.end = reader->segments->list[reader_index(reader)].end;
        bf_frame frame;
        if (!bf_journal_scan_next(&reader->scan, &frame)) {
            bool has_entry = false;
            if (!reader_turn(reader, end, entry, &has_entry)) {
                return has_entry;
            }
            continue;
        }
        bf_commit commit;
        bool is_commit = bf_commit_unpack(&frame, &commit);
        if (frame.sequence > reader->sequence && (frame.type == BF_RECORD_DATA || frame.type == BF_RECORD_COMMIT)) {
            uint64_t total = is_commit ? commit.samples_total : reader_total_before(reader, &frame, end->samples);
            scan_rewind(&reader->scan, &frame);
            reader_missing(reader, (bf_mark){frame.sequence, total}, entry);
            return true;
        }
        if (is_commit && commit.samples_total > reader->samples) {
            reader->samples = commit.samples_total;
        }
        if (frame.type == BF_RECORD_DATA) {
            reader->sequence = frame.sequence + 1;
            reader->samples += frame.samples;
            *entry = (bf_entry){.type = BF_RECORD_DATA, .sequence = frame.sequence, .records = 1, .samples = frame.samples, .frame = frame};
            return true;
        }
    }
    return false;
}

void bf_journal_reader_give_back(bf_journal_reader *reader, const bf_frame *frame)
{
    scan_rewind(&reader->scan, frame);
    reader->sequence = frame->sequence;
    reader->samples -= frame->samples;
}
