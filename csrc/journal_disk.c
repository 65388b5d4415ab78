/* journal_disk.c: what a commit does.
 *
 * The idea: the order of calls is what keeps a power cut from costing anything, and no step may be moved. Records are synced before they count
 * as durable; the directory is synced with the first records of a new file; the cursor is synced before a segment that it passed is
 * deleted. Whatever fails leaves the batch in memory, and the next commit goes on where this one stopped.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "journal.h"

/* ---- writing ------------------------------------------------------------------------------------------------------------------------ */

/* Appends to the active segment. */
static int32_t disk_put(bf_disk *disk, const uint8_t *bytes, size_t length)
{
    bf_segment *active = bf_disk_active(disk);
    assert(active->end + length <= active->header.segment_bytes);
    int refused = bf_journal_write_all(&disk->io, disk->active_fd, active->end, bytes, length);
    if (refused == 0) {
        active->end += length;
        return BF_OK;
    }
    if (refused != -ENOSPC) {
        bf_disk_distrust_active(disk);
    }
    return bf_disk_refuse(disk, refused);
}

/* Writes the names of streams that the active segment does not have yet. */
static int32_t disk_write_names(bf_disk *disk)
{
    int32_t status = BF_OK;
    while (status == BF_OK && disk->streams_written < disk->streams_count) {
        const bf_segment *active = bf_disk_active(disk);
        if (active->end + 2 * BF_COMMIT_FRAME_BYTES_MAX > active->header.segment_bytes) {
            return bf_disk_roll(disk);
        }
        size_t length = bf_disk_name_frame(disk, &active->header, disk->streams_written, disk->preamble);
        status = disk_put(disk, disk->preamble, length);
        disk->streams_written += status == BF_OK;
    }
    return status;
}

/* Writes as many records of the batch as the active segment has room for, with a commit record if it is all. */
static int32_t disk_write_run(bf_disk *disk)
{
    const bf_segment *active = bf_disk_active(disk);
    const uint64_t taken = active->end + BF_COMMIT_FRAME_BYTES_MAX;
    const uint64_t room = active->header.segment_bytes > taken ? active->header.segment_bytes - taken : 0;
    const uint32_t salt = bf_segment_salt(&active->header);
    uint8_t *run = disk->batch.bytes + disk->batch_written;
    const size_t left = disk->batch.length - disk->batch_written;
    bf_mark mark = disk->written;
    size_t length = 0;
    while (length < left) {
        uint8_t type;
        size_t size = bf_aligned(BF_FRAME_BYTES + bf_frame_length(run + length, &type));
        assert(type == BF_RECORD_DATA && length + size <= left);
        if (length + size > room) {
            break;
        }
        bf_frame_seal(run + length, salt, (uint32_t)(mark.sequence - active->header.first_sequence));
        mark.sequence++;
        mark.samples += (uint64_t)run[length + 14] | (uint64_t)run[length + 15] << 8;
        length += size;
    }
    if (length == 0) {
        return bf_disk_roll(disk);
    }
    size_t commit = 0;
    if (length == left) {
        uint32_t delta = (uint32_t)(mark.sequence - active->header.first_sequence);
        commit = bf_commit_pack(run + length, salt, delta, disk->generation, mark.samples, &disk->counters);
    }
    int32_t status = disk_put(disk, run, length + commit);
    if (status == BF_OK) {
        disk->batch_written += length;
        disk->written = mark;
    }
    return status;
}

static int32_t disk_put_again(bf_disk *disk, const bf_frame *frame)
{
    const bf_segment *active = bf_disk_active(disk);
    size_t size = bf_aligned(BF_FRAME_BYTES + frame->length);
    if (active->end + size + BF_COMMIT_FRAME_BYTES_MAX > active->header.segment_bytes) {
        int32_t status = bf_disk_roll(disk);
        if (status != BF_OK) {
            return status;
        }
        active = bf_disk_active(disk);
    }
    /* In place: the window is the scan's, and has all of the record, padding included, since it is a multiple of 8 bytes long. */
    uint8_t *bytes = disk->rescue_scan.window + (frame->payload - disk->rescue_scan.window) - BF_FRAME_BYTES;
    (void)bf_frame_pack(bytes, frame);
    bf_frame_seal(bytes, bf_segment_salt(&active->header), (uint32_t)(frame->sequence - active->header.first_sequence));
    int32_t status = disk_put(disk, bytes, size);
    if (status == BF_OK) {
        disk->written.sequence = frame->sequence + 1;
        disk->written.samples += frame->samples;
    }
    return status;
}

/* Everything is copied. A commit record says what the total is, also of what was missing in the source. */
static int32_t disk_end_rescue(bf_disk *disk)
{
    const bf_segment_header *header = &bf_disk_active(disk)->header;
    disk->written = disk->batch_start;
    size_t length = bf_commit_pack(disk->preamble, bf_segment_salt(header), (uint32_t)(disk->written.sequence - header->first_sequence),
                                   disk->generation, disk->written.samples, &disk->counters);
    int32_t status = disk_put(disk, disk->preamble, length);
    disk->rescue.is_copied = status == BF_OK;
    return status;
}

/* Copies what a segment that is not trusted was to make durable, but for what the batch still has. */
static int32_t disk_write_again(bf_disk *disk)
{
    char name[BF_NAME_BYTES];
    bf_segment_name(disk->rescue.segment.header.number, ".bfs", name);
    int fd = disk->io.open(disk->io.context, name, 0);
    if (fd < 0) {
        return bf_disk_refuse(disk, fd);
    }
    bf_journal_scan *scan = &disk->rescue_scan;
    bf_journal_scan_start(scan, fd, &disk->rescue.segment, disk->rescue.at, disk->batch_start.sequence);
    scan->floor = disk->durable.sequence;
    bf_disk_active(disk)->end = disk->synced_at; /* what an earlier try has copied is copied again */
    disk->written = disk->durable;
    int32_t status = BF_OK;
    bf_frame frame;
    while (status == BF_OK && bf_journal_scan_next(scan, &frame)) {
        if (frame.type == BF_RECORD_DATA) {
            status = disk_put_again(disk, &frame);
        }
    }
    (void)disk->io.close(disk->io.context, fd);
    if (scan->error != 0 && status == BF_OK) {
        status = bf_disk_refuse(disk, scan->error);
    }
    return status == BF_OK ? disk_end_rescue(disk) : status;
}

static int32_t disk_write(bf_disk *disk)
{
    if (disk->active_fd < 0) {
        int32_t status = bf_disk_create_segment(disk);
        if (status != BF_OK) {
            return status;
        }
    }
    if (disk->rescue.is_needed && !disk->rescue.is_copied) {
        int32_t status = disk_write_again(disk);
        if (status != BF_OK) {
            return status;
        }
    }
    int32_t status = disk_write_names(disk);
    while (status == BF_OK && disk->batch_written < disk->batch.length) {
        status = disk_write_run(disk);
    }
    return status;
}

/* Writes the batch, and what must be written again, and syncs. */
static int32_t disk_store(bf_disk *disk, uint32_t flags)
{
    if (disk->batch.length > 0 || disk->rescue.is_needed) {
        int32_t status = disk_write(disk);
        if (status != BF_OK) {
            return status;
        }
    }
    bool is_durable = disk->written.sequence == disk->durable.sequence && disk->written.samples == disk->durable.samples;
    if ((flags & BF_COMMIT_SYNC) != 0 && (!is_durable || disk->is_directory_dirty)) {
        int32_t status = bf_disk_sync_active(disk);
        if (status != BF_OK) {
            return status;
        }
    }
    if (disk->batch.length > 0 && disk->batch_written == disk->batch.length) {
        disk->saved_counters = disk->counters;
        disk->batch.length = 0;
        disk->batch_written = disk->batch_durable = 0;
        disk->batch_start = disk->written;
    }
    return BF_OK;
}

/* ---- cursor ------------------------------------------------------------------------------------------------------------------------- */

int32_t bf_disk_sync_cursor(bf_disk *disk)
{
    int refused = bf_cursor_file_sync(&disk->cursor);
    if (refused < 0) {
        disk->alarms |= BF_ALARM_SYNC_FAILED;
        return bf_disk_refuse(disk, refused);
    }
    return BF_OK;
}

/* Writes the cursor as it is now, and makes it durable if told to. */
int32_t bf_disk_save_cursor(bf_disk *disk, bool sync, bool is_clean)
{
    disk->generation++; /* a commit may save more than once, and the last one must be known */
    bf_cursor *cursor = &disk->snapshot;
    memcpy(cursor->store_id, disk->store_id, sizeof cursor->store_id);
    cursor->generation = disk->generation;
    cursor->base = disk->ranges.base;
    memcpy(cursor->done, disk->ranges.done, sizeof cursor->done);
    cursor->is_clean = is_clean;
    cursor->ranges_count = (uint32_t)disk->ranges.count;
    memcpy(cursor->ranges, disk->ranges.ranges, disk->ranges.count * sizeof cursor->ranges[0]);
    cursor->counters = disk->counters;
    int refused = bf_cursor_file_save(&disk->cursor, cursor);
    if (refused < 0) {
        return bf_disk_refuse(disk, refused);
    }
    disk->is_cursor_dirty = false;
    disk->saved_counters = disk->counters;
    return sync ? bf_disk_sync_cursor(disk) : BF_OK;
}

/* ---- commit ------------------------------------------------------------------------------------------------------------------------- */

static bool has_new_counters(const bf_disk *disk)
{
    return disk->counters.length != disk->saved_counters.length ||
           memcmp(disk->counters.bytes, disk->saved_counters.bytes, disk->counters.length) != 0;
}

bool bf_disk_has_work(const bf_disk *disk)
{
    return disk->batch.length > 0 || disk->ranges.pending_count > 0 || disk->durable.sequence < disk->written.sequence ||
           disk->rescue.is_needed || !disk->cursor.is_saved || has_new_counters(disk) || disk->expire_before_ns > 0;
}

int32_t bf_disk_commit(bf_disk *disk, uint32_t flags)
{
    disk->generation++;
    bool is_moved = bf_ranges_apply(&disk->ranges, disk->written.sequence, disk->written.samples);
    disk->is_cursor_dirty = disk->is_cursor_dirty || is_moved;
    int32_t status = bf_disk_expire(disk);
    bool had_active = disk->active_fd >= 0;
    int32_t stored = disk_store(disk, flags);
    if (stored == BF_E_SYSTEM && had_active && disk->active_fd < 0) {
        stored = disk_store(disk, flags); /* once more, into a new segment */
    }
    status = stored != BF_OK ? stored : status;
    int32_t saved = BF_OK;
    if (disk->is_cursor_dirty || has_new_counters(disk) || !disk->cursor.is_saved) {
        saved = bf_disk_save_cursor(disk, false, false);
    }
    if (saved == BF_OK && (flags & BF_COMMIT_SYNC_CURSOR) != 0) {
        saved = bf_disk_sync_cursor(disk);
    }
    int32_t freed = bf_disk_free_segments(disk);
    status = status == BF_OK ? saved : status;
    status = status == BF_OK ? freed : status;
    if (status == BF_OK) {
        disk->alarms &= ~(uint32_t)BF_ALARM_WRITE_FAILED;
    } else {
        disk->alarms |= BF_ALARM_WRITE_FAILED;
    }
    return status;
}

int32_t bf_disk_close(bf_disk *disk, bool is_clean)
{
    int32_t status = bf_disk_save_cursor(disk, true, is_clean && disk->batch.length == 0);
    bf_journal_reader_close(&disk->reader);
    bf_cursor_file_close(&disk->cursor);
    if (disk->active_fd >= 0) {
        (void)disk->io.close(disk->io.context, disk->active_fd);
    }
    disk->active_fd = -1;
    return status;
}
