/* journal_open.c: whatever lies in the directory, a journal comes of it.
 *
 * The idea: only the headers of segments are read, and the records of the last one. What is no segment of this store is set aside; what is
 * damaged is kept as `damaged.bad`; what was never finished is deleted. At the end all that is left is durable. Only what can't be read
 * just now is a reason to stop, and to try again later: nothing that matters was changed then. With BF_JOURNAL_SALVAGE it is set aside.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "journal.h"

#define TRIES 3u

/* Opens a file, in the second or third try if it must be. */
static int open_again(bf_disk *disk, const char *name)
{
    int fd = -1;
    for (unsigned i = 0; i < TRIES && fd < 0; i++) {
        fd = disk->io.open(disk->io.context, name, 0);
    }
    if (fd < 0) {
        disk->error = -fd;
    }
    return fd;
}

/* Reads, in the second or third try if it must be. Bytes read; negative: in none, and disk->error says why. */
static int64_t read_again(bf_disk *disk, int fd, uint64_t at, uint8_t *bytes, size_t size)
{
    int64_t taken = -1;
    for (unsigned i = 0; i < TRIES && taken < 0; i++) {
        taken = disk->io.read(disk->io.context, fd, at, bytes, size);
    }
    if (taken < 0) {
        disk->error = (int)-taken;
    }
    return taken;
}

static void set_aside(bf_disk *disk, uint32_t number)
{
    char name[BF_NAME_BYTES];
    char aside[BF_NAME_BYTES];
    bf_segment_name(number, ".bfs", name);
    bf_segment_name(number, ".aside", aside);
    disk->alarms |= BF_ALARM_SET_ASIDE;
    (void)disk->io.rename(disk->io.context, name, aside);
}

/* ---- cursor ------------------------------------------------------------------------------------------------------------------------- */

/* Finds the newest slot of the cursor file and makes it durable. */
static int32_t cursor_find(bf_disk *disk, bool *is_found)
{
    disk->is_directory_dirty = true; /* what was created or deleted before a kill may not be durable yet */
    *is_found = false;
    int fd = disk->io.open(disk->io.context, BF_CURSOR_NAME, 0);
    if (fd < 0) {
        return fd == -ENOENT ? BF_OK : bf_disk_refuse(disk, fd);
    }
    bool is_unknown = false;
    for (int slot = 0; slot < 2; slot++) {
        int64_t taken = read_again(disk, fd, slot == 0 ? 0 : BF_SLOT_AT, disk->rescue_scan.window, BF_SLOT_AT);
        bf_cursor *found = &disk->found;
        int32_t status = taken < 0 ? BF_E_PROTOCOL : bf_cursor_unpack(disk->rescue_scan.window, (size_t)taken, found);
        is_unknown = is_unknown || status == BF_VERSION_UNKNOWN;
        if (status == BF_OK && (!*is_found || found->generation >= disk->snapshot.generation)) {
            disk->snapshot = *found;
            disk->cursor.durable_slot = slot;
            *is_found = true;
        }
    }
    if (disk->error != 0 && (disk->limits.flags & BF_JOURNAL_SALVAGE) == 0) {
        (void)disk->io.close(disk->io.context, fd);
        return BF_E_SYSTEM;
    }
    if (!*is_found) {
        (void)disk->io.close(disk->io.context, fd);
        if (is_unknown || disk->error != 0) {
            disk->alarms |= BF_ALARM_SET_ASIDE;
            (void)disk->io.rename(disk->io.context, BF_CURSOR_NAME, "cursor.aside");
        }
        disk->cursor.durable_slot = 1;
        return BF_OK;
    }
    memcpy(disk->store_id, disk->snapshot.store_id, sizeof disk->store_id);
    disk->cursor.fd = fd;
    if (disk->io.sync(disk->io.context, fd) < 0) {
        disk->alarms |= BF_ALARM_SYNC_FAILED;
        disk->cursor.durable_slot = 1 - disk->cursor.durable_slot; /* this one may be in memory only */
    }
    return BF_OK;
}

/* Takes over what the cursor says, or what the first segment says if there is none. */
static void start_from(bf_disk *disk, bool has_cursor)
{
    bf_ranges *ranges = &disk->ranges;
    disk->was_clean = true;
    if (has_cursor) {
        const bf_cursor *cursor = &disk->snapshot;
        ranges->base = disk->cursor.durable_base = cursor->base;
        memcpy(ranges->done, cursor->done, sizeof ranges->done);
        ranges->count = cursor->ranges_count;
        memcpy(ranges->ranges, cursor->ranges, cursor->ranges_count * sizeof ranges->ranges[0]);
        disk->generation = cursor->generation;
        disk->counters = cursor->counters;
        disk->was_clean = cursor->is_clean;
    } else if (disk->segments.count > 0) {
        ranges->base = disk->segments.list[0].header.first_sequence;
        ranges->done[BF_DONE_WITH_ACKNOWLEDGED] = disk->segments.list[0].header.first_samples;
        disk->alarms |= BF_ALARM_CURSOR_LOST;
        disk->was_clean = false;
    }
    if (disk->segments.count == 0 && ranges->count > 0) {
        bf_ranges_raise_base(ranges, ranges->ranges[ranges->count - 1].last + 1);
    }
}

/* ---- segments ----------------------------------------------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t length)
{
    size_t i = 0;
    while (i < length && bytes[i] == 0) {
        i++;
    }
    return i == length;
}

/* Takes one file into the list, or out of the way. False: it can't be read. */
static bool segment_open(bf_disk *disk, uint32_t number, bool *is_identified)
{
    char name[BF_NAME_BYTES];
    bf_segment_name(number, ".bfs", name);
    int fd = open_again(disk, name);
    if (fd < 0) {
        return false;
    }
    int64_t taken = read_again(disk, fd, 0, disk->preamble, BF_RECORDS_AT);
    (void)disk->io.close(disk->io.context, fd);
    if (taken < 0) {
        return false;
    }
    bf_segment_header header = {0};
    int32_t status = bf_header_unpack(disk->preamble, (size_t)taken, &header);
    if ((status == BF_OK && header.number != number) || is_zero(disk->preamble, (size_t)taken)) {
        /* A power cut came before its own first bytes were durable, or after they were given away. */
        (void)disk->io.unlink(disk->io.context, name);
        return true;
    }
    bool is_foreign = status == BF_OK && *is_identified && memcmp(header.store_id, disk->store_id, sizeof header.store_id) != 0;
    if (status == BF_VERSION_UNKNOWN || is_foreign) {
        set_aside(disk, number);
        return true;
    }
    const bf_segment_header *before = disk->segments.count > 0 ? &bf_disk_active(disk)->header : NULL;
    bool is_in_order = before == NULL || (header.first_sequence >= before->first_sequence && header.first_samples >= before->first_samples);
    if (status != BF_OK || !is_in_order) {
        disk->alarms |= BF_ALARM_DAMAGE;
        (void)disk->io.rename(disk->io.context, name, BF_DAMAGED_NAME);
        return true;
    }
    memcpy(disk->store_id, header.store_id, sizeof disk->store_id);
    *is_identified = true;
    assert(disk->segments.count < disk->segments.size);
    disk->segments.list[disk->segments.count++] = (bf_segment){.header = header, .end = header.segment_bytes};
    return true;
}

static int32_t segments_open(bf_disk *disk, const uint32_t *numbers, size_t count, bool is_identified)
{
    size_t unreadable = 0;
    for (size_t i = 0; i < count; i++) {
        if (!segment_open(disk, numbers[i], &is_identified)) {
            disk->unreadable[unreadable++] = numbers[i];
        }
    }
    if (unreadable > 0 && (disk->segments.count == 0 || (disk->limits.flags & BF_JOURNAL_SALVAGE) == 0)) {
        return BF_E_SYSTEM;
    }
    for (size_t i = 0; i < unreadable; i++) {
        set_aside(disk, disk->unreadable[i]);
    }
    return BF_OK;
}

/* ---- the end of what was written ---------------------------------------------------------------------------------------------------- */

static void take_name(bf_disk *disk, const bf_frame *frame)
{
    if (frame->stream >= BF_JOURNAL_STREAMS_MAX || frame->length == 0 || frame->length > BF_JOURNAL_STREAM_NAME_BYTES_MAX) {
        return;
    }
    bf_stream_name *name = &disk->streams[frame->stream];
    memcpy(name->bytes, frame->payload, frame->length);
    name->length = (uint8_t)frame->length;
    if (disk->streams_count <= frame->stream) {
        disk->streams_count = (uint32_t)frame->stream + 1;
    }
}

static void take_commit(bf_disk *disk, const bf_frame *frame, const bf_commit *commit, bf_mark *mark)
{
    mark->sequence = frame->sequence > mark->sequence ? frame->sequence : mark->sequence;
    mark->samples = commit->samples_total > mark->samples ? commit->samples_total : mark->samples;
    if (commit->generation >= disk->generation) {
        disk->generation = commit->generation;
        disk->counters.length = commit->counters_length;
        memcpy(disk->counters.bytes, commit->counters, commit->counters_length);
    }
}

/* Where a segment ends, and whether it has a commit record; takes names and counters over. */
static int32_t segment_scan(bf_disk *disk, size_t index, bf_mark *mark, bool *has_commit)
{
    bf_segment *segment = &disk->segments.list[index];
    bool is_last = index + 1 == disk->segments.count;
    char name[BF_NAME_BYTES];
    bf_segment_name(segment->header.number, ".bfs", name);
    int fd = open_again(disk, name);
    if (fd < 0) {
        return BF_E_SYSTEM;
    }
    *mark = (bf_mark){segment->header.first_sequence, segment->header.first_samples};
    *has_commit = false;
    bf_journal_scan *scan = &disk->rescue_scan;
    uint64_t ceiling = is_last ? UINT64_MAX : disk->segments.list[index + 1].header.first_sequence;
    bf_journal_scan_start(scan, fd, segment, BF_RECORDS_AT, ceiling);
    uint64_t end = BF_RECORDS_AT;
    bf_frame frame;
    while (bf_journal_scan_next(scan, &frame)) {
        bf_commit commit;
        if (frame.type == BF_RECORD_DATA) {
            *mark = (bf_mark){frame.sequence + 1, mark->samples + frame.samples};
        } else if (frame.type == BF_RECORD_STREAM) {
            take_name(disk, &frame);
        } else if (bf_commit_unpack(&frame, &commit)) {
            take_commit(disk, &frame, &commit, mark);
            *has_commit = true;
        }
        end = frame.next_at;
    }
    (void)disk->io.close(disk->io.context, fd);
    if (scan->error != 0) {
        return bf_disk_refuse(disk, scan->error);
    }
    if (is_last) {
        segment->end = end;
        disk->streams_written = *has_commit ? disk->streams_count : 0;
    }
    return BF_OK;
}

/* Finds it in the last segment, and in the one before if that one has no commit record. */
static int32_t tail_scan(bf_disk *disk)
{
    bf_mark written = {0, 0};
    bool has_commit = false;
    for (size_t i = 0; i < 2 && i < disk->segments.count && !has_commit; i++) {
        bf_mark mark;
        int32_t status = segment_scan(disk, disk->segments.count - 1 - i, &mark, &has_commit);
        if (status != BF_OK) {
            return status;
        }
        written = mark.sequence > written.sequence || (mark.sequence == written.sequence && mark.samples > written.samples) ? mark : written;
    }
    bf_ranges *ranges = &disk->ranges;
    uint64_t floor = ranges->count > 0 ? ranges->ranges[ranges->count - 1].last + 1 : ranges->base;
    disk->written = written;
    if (floor > written.sequence) {
        /* Records that were delivered are gone: they were not durable, or the disk lied. What is left is counted. */
        bf_ranges_pass_over(ranges, written.sequence, floor);
        uint64_t left = disk->segments.count > 0 ? bf_disk_count_buffered(disk, disk->segments.list[0].header.first_sequence, &written) : 0;
        uint64_t known = bf_ranges_sum(ranges) + left;
        disk->written = (bf_mark){floor, written.samples > known ? written.samples : known};
    }
    disk->durable = disk->batch_start = disk->written;
    disk->synced_at = disk->segments.count > 0 ? bf_disk_active(disk)->end : 0;
    return BF_OK;
}

/* Goes on in the last segment if it can be made durable; else another one is begun. What was promised of it was durable before; and it can't be
 * written again elsewhere now, since a kill in the middle of that would hide the rest. */
static void tail_use(bf_disk *disk)
{
    if (disk->segments.count == 0) {
        return;
    }
    const bf_segment *tail = bf_disk_active(disk);
    char name[BF_NAME_BYTES];
    bf_segment_name(tail->header.number, ".bfs", name);
    int fd = disk->io.open(disk->io.context, name, 0);
    int refused = fd >= 0 ? disk->io.sync(disk->io.context, fd) : fd;
    if (refused < 0) {
        disk->error = -refused;
        disk->alarms |= BF_ALARM_SYNC_FAILED;
    }
    bool is_full = tail->end + 2 * BF_COMMIT_FRAME_BYTES_MAX > tail->header.segment_bytes;
    if (refused >= 0 && !is_full) {
        disk->active_fd = fd;
    } else if (fd >= 0) {
        (void)disk->io.close(disk->io.context, fd);
    }
}

int32_t bf_disk_open(bf_disk *disk, const uint32_t *numbers, size_t numbers_count)
{
    bool has_cursor = false;
    (void)disk->io.unlink(disk->io.context, BF_SPARE_NAME);
    int32_t status = cursor_find(disk, &has_cursor);
    if (status == BF_OK) {
        status = segments_open(disk, numbers, numbers_count, has_cursor);
    }
    if (status == BF_OK) {
        start_from(disk, has_cursor);
        status = tail_scan(disk);
    }
    if (status != BF_OK) {
        bf_cursor_file_close(&disk->cursor);
        return status;
    }
    tail_use(disk);
    (void)bf_ranges_settle(&disk->ranges, disk->written.sequence, disk->written.samples);
    if (bf_disk_save_cursor(disk, true, false) != BF_OK) {
        disk->alarms |= BF_ALARM_WRITE_FAILED;
    }
    if (disk->is_directory_dirty && disk->io.sync_directory(disk->io.context) >= 0) {
        disk->is_directory_dirty = false;
    }
    return BF_OK;
}
