/* journal_segments.c: segment files: how one begins and ends, when one is deleted, and what is done when one can't be trusted.
 *
 * The idea: only the last segment is ever written. Before another one follows it is synced whole. A segment goes when the cursor that has
 * passed it is durable; at the cap the oldest is counted record by record and passed so. A segment whose sync failed is given up: what
 * of it was not durable is written again to a new one, from the batch, or else from what the system still gives back.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "journal.h"

#define NAMES_MAX 16u /* numbers tried for a new segment when files are in the way */

int32_t bf_disk_refuse(bf_disk *disk, int refused)
{
    assert(refused < 0);
    disk->error = -refused;
    return BF_E_SYSTEM;
}

/* ---- deleting ----------------------------------------------------------------------------------------------------------------------- */

/* Deletes the file of the oldest segment, or keeps it for the next one. The last one that was damaged is kept for whoever wants to know why. */
static int32_t segments_delete_oldest(bf_disk *disk)
{
    bf_segment *oldest = &disk->segments.list[0];
    if (disk->reader.number == oldest->header.number) {
        bf_journal_reader_close(&disk->reader);
    }
    char name[BF_NAME_BYTES];
    bf_segment_name(oldest->header.number, ".bfs", name);
    bool is_spare = !disk->has_spare && oldest->header.segment_bytes == disk->limits.segment_bytes;
    int refused;
    if (oldest->is_damaged) {
        refused = disk->io.rename(disk->io.context, name, BF_DAMAGED_NAME);
    } else if (is_spare) {
        refused = disk->io.rename(disk->io.context, name, BF_SPARE_NAME);
    } else {
        refused = disk->io.unlink(disk->io.context, name);
    }
    if (refused < 0 && refused != -ENOENT) {
        return bf_disk_refuse(disk, refused);
    }
    disk->has_spare = disk->has_spare || (is_spare && !oldest->is_damaged && refused >= 0);
    disk->segments.count--;
    memmove(oldest, oldest + 1, disk->segments.count * sizeof *oldest);
    return BF_OK;
}

static bool is_rescue_source(const bf_disk *disk, const bf_segment *segment)
{
    return disk->rescue.is_needed && disk->rescue.segment.header.number == segment->header.number;
}

int32_t bf_disk_free_segments(bf_disk *disk)
{
    bool is_deleted = false;
    int32_t status = BF_OK;
    while (status == BF_OK && disk->segments.count > 1) { /* each turn deletes one */
        uint64_t base = disk->segments.list[1].header.first_sequence;
        if (base > disk->ranges.base || is_rescue_source(disk, &disk->segments.list[0])) {
            break;
        }
        if (disk->cursor.durable_base < base) {
            status = bf_disk_save_cursor(disk, true, false);
        }
        if (status == BF_OK) {
            status = segments_delete_oldest(disk);
            is_deleted = is_deleted || status == BF_OK;
        }
    }
    if (is_deleted) {
        int refused = disk->io.sync_directory(disk->io.context);
        if (refused < 0 && status == BF_OK) {
            status = bf_disk_refuse(disk, refused);
        }
    }
    return status;
}

static void count_dropped(bf_dropped *dropped, const bf_frame *frame)
{
    dropped->by_stream[frame->stream % BF_JOURNAL_STREAMS_MAX] += frame->samples;
    bool is_first = dropped->first_ns == 0 && dropped->last_ns == 0;
    int64_t last_ns = bf_frame_last_ns(frame);
    if (is_first || frame->first_ns < dropped->first_ns) {
        dropped->first_ns = frame->first_ns;
    }
    if (is_first || last_ns > dropped->last_ns) {
        dropped->last_ns = last_ns;
    }
}

uint64_t bf_disk_count_buffered(bf_disk *disk, uint64_t first, const bf_mark *end)
{
    bf_journal_reader *tally = &disk->tally;
    first = disk->ranges.base > first ? disk->ranges.base : first;
    uint64_t samples = 0;
    tally->error = 0;
    bool is_open = first < end->sequence && bf_journal_reader_seek(tally, first, end);
    bf_entry entry;
    while (is_open && bf_journal_reader_place(tally) < end->sequence && bf_journal_reader_next(tally, end, &entry)) {
        if (entry.type == BF_RECORD_DAMAGED) {
            samples += bf_entry_narrow(&disk->ranges, &entry) ? entry.samples : 0;
        } else if (!bf_ranges_is_done(&disk->ranges, entry.sequence)) {
            samples += entry.samples;
        }
    }
    bf_journal_reader_close(tally);
    return samples;
}

/* What a segment that can't be read held is what is missing in the sum; that takes reading all others. */
static int32_t count_unreadable(bf_disk *disk, uint64_t first)
{
    if (disk->rescue.is_needed) {
        return bf_disk_refuse(disk, -EIO); /* the sum does not hold before everything is in its place again */
    }
    uint64_t known = bf_ranges_sum(&disk->ranges) + bf_disk_count_buffered(disk, first, &disk->written);
    if (disk->tally.error != 0) {
        return bf_disk_refuse(disk, disk->tally.error); /* the others can't be read either: the disk is in trouble, not a segment */
    }
    if (known < disk->written.samples) {
        disk->ranges.done[BF_DONE_WITH_DAMAGED] += disk->written.samples - known;
    }
    return BF_OK;
}

/* Counts what is in the oldest segment and not done with. False: it can't be read to its end. */
static bool count_oldest(bf_disk *disk, bf_mark end, uint32_t reason)
{
    bf_journal_reader *tally = &disk->tally;
    bool is_open = bf_journal_reader_seek(tally, disk->segments.list[0].header.first_sequence, &end);
    bf_entry entry;
    while (is_open && tally->sequence < end.sequence && bf_journal_reader_next(tally, &disk->written, &entry)) {
        if (entry.sequence >= end.sequence) {
            break;
        }
        if (entry.type == BF_RECORD_DAMAGED) {
            if (bf_entry_narrow(&disk->ranges, &entry)) {
                disk->ranges.done[BF_DONE_WITH_DAMAGED] += entry.samples;
                disk->dropped.records_damaged += entry.records;
            }
        } else if (!bf_ranges_is_done(&disk->ranges, entry.sequence)) {
            disk->ranges.done[reason] += entry.samples;
            count_dropped(&disk->dropped, &entry.frame);
        }
    }
    bool is_whole = tally->error == 0;
    bf_journal_reader_close(tally);
    return is_whole;
}

/* Drops the oldest segment of two or more, and counts what was in it and not done with. */
static int32_t segments_drop_oldest(bf_disk *disk, uint32_t reason)
{
    assert(disk->segments.count > 1 && reason < BF_JOURNAL_REASONS);
    const bf_mark end = {disk->segments.list[1].header.first_sequence, disk->segments.list[1].header.first_samples};
    disk->dropped_before = disk->dropped;
    uint64_t done[BF_JOURNAL_REASONS];
    memcpy(done, disk->ranges.done, sizeof done);
    if (!count_oldest(disk, end, reason)) {
        disk->dropped = disk->dropped_before;
        memcpy(disk->ranges.done, done, sizeof done);
        int32_t status = count_unreadable(disk, end.sequence);
        if (status != BF_OK) {
            return status;
        }
    }
    bf_ranges_raise_base(&disk->ranges, end.sequence);
    disk->is_cursor_dirty = true;
    return bf_disk_free_segments(disk);
}

/* When the oldest segment was full at the latest: all others were begun after that, whatever the clock said in between. 0: none of them says,
 * since the clock was not trusted. */
static int64_t segments_oldest_full_ns(const bf_segments *segments)
{
    int64_t full_ns = 0;
    for (size_t i = 1; i < segments->count; i++) {
        int64_t begun_ns = segments->list[i].header.created_ns;
        if (begun_ns > 0 && (full_ns == 0 || begun_ns < full_ns)) {
            full_ns = begun_ns;
        }
    }
    return full_ns;
}

int32_t bf_disk_expire(bf_disk *disk)
{
    int32_t status = BF_OK;
    while (status == BF_OK && disk->segments.count > 1) { /* each turn drops one */
        int64_t full_ns = segments_oldest_full_ns(&disk->segments);
        if (full_ns == 0 || full_ns >= disk->expire_before_ns || is_rescue_source(disk, &disk->segments.list[0])) {
            break;
        }
        status = segments_drop_oldest(disk, BF_DONE_WITH_AGE);
    }
    return status;
}

/* Sees to it that one more segment is allowed. */
static int32_t segments_make_room(bf_disk *disk)
{
    int32_t status = bf_disk_free_segments(disk);
    while (disk->segments.count >= disk->limits.segments_count_max) {
        if ((disk->limits.flags & BF_JOURNAL_DROP_OLDEST) == 0) {
            return BF_E_FULL;
        }
        status = segments_drop_oldest(disk, BF_DONE_WITH_CAP);
        if (status != BF_OK) {
            return status;
        }
    }
    return status;
}

/* ---- beginning and ending ----------------------------------------------------------------------------------------------------------- */

size_t bf_disk_name_frame(const bf_disk *disk, const bf_segment_header *header, uint32_t stream, uint8_t *bytes)
{
    const bf_stream_name *name = &disk->streams[stream];
    bf_frame frame = {
        .type = BF_RECORD_STREAM, .stream = (uint8_t)stream, .payload = name->bytes, .length = name->length};
    size_t length = bf_frame_pack(bytes, &frame);
    bf_frame_seal(bytes, bf_segment_salt(header), (uint32_t)(disk->written.sequence - header->first_sequence));
    return length;
}

/* Header, names and a commit record: what every segment begins with. */
static size_t preamble_pack(const bf_disk *disk, const bf_segment_header *header)
{
    bf_header_pack(header, disk->preamble);
    size_t length = BF_RECORDS_AT;
    for (uint32_t i = 0; i < disk->streams_count; i++) {
        length += bf_disk_name_frame(disk, header, i, disk->preamble + length);
    }
    length += bf_commit_pack(disk->preamble + length, bf_segment_salt(header), 0, disk->generation, disk->written.samples,
                             &disk->counters);
    assert(length <= BF_PREAMBLE_BYTES_MAX);
    return length;
}

/* Descriptor of the file of a segment that is done with, under a new name; negative: there is none. Its blocks have been written before, so that
 * a sync has nothing to tell the file system, which halves its time. */
static int segments_reuse_spare(bf_disk *disk, char name[BF_NAME_BYTES])
{
    if (!disk->has_spare) {
        return -ENOENT;
    }
    disk->has_spare = false;
    bf_segment_name(disk->last_number + 1, ".bfs", name);
    int refused = disk->io.rename(disk->io.context, BF_SPARE_NAME, name);
    if (refused < 0) {
        return refused;
    }
    disk->last_number++;
    int fd = disk->io.open(disk->io.context, name, 0);
    if (fd < 0) {
        (void)disk->io.unlink(disk->io.context, name);
    }
    return fd;
}

int32_t bf_disk_create_segment(bf_disk *disk)
{
    int32_t status = segments_make_room(disk);
    if (status != BF_OK) {
        return status;
    }
    assert(disk->segments.count < disk->segments.size);
    char name[BF_NAME_BYTES];
    int fd = segments_reuse_spare(disk, name);
    bool is_spare = fd >= 0;
    for (unsigned i = 0; i < NAMES_MAX && !is_spare && (i == 0 || fd == -EEXIST); i++) {
        bf_segment_name(++disk->last_number, ".bfs", name);
        fd = disk->io.open(disk->io.context, name, 1);
    }
    if (fd < 0) {
        return bf_disk_refuse(disk, fd);
    }
    bf_segment_header header = {.number = disk->last_number,
                                .first_sequence = disk->written.sequence,
                                .first_samples = disk->written.samples,
                                .created_ns = disk->now_ns,
                                .segment_bytes = disk->limits.segment_bytes};
    memcpy(header.store_id, disk->store_id, sizeof header.store_id);
    size_t length = preamble_pack(disk, &header);
    int refused = is_spare ? 0 : disk->io.allocate(disk->io.context, fd, header.segment_bytes);
    if (refused >= 0 || refused == -EOPNOTSUPP) {
        refused = bf_journal_write_all(&disk->io, fd, 0, disk->preamble, length);
    }
    if (refused < 0) {
        (void)disk->io.close(disk->io.context, fd);
        (void)disk->io.unlink(disk->io.context, name);
        return bf_disk_refuse(disk, refused);
    }
    disk->segments.list[disk->segments.count++] = (bf_segment){.header = header, .end = length};
    disk->active_fd = fd;
    disk->synced_at = length;
    disk->streams_written = disk->streams_count;
    disk->is_directory_dirty = true;
    return BF_OK;
}

/* Ends the active segment, which becomes durable, and begins another one. */
int32_t bf_disk_roll(bf_disk *disk)
{
    int32_t status = bf_disk_sync_active(disk);
    if (status != BF_OK) {
        return status;
    }
    (void)disk->io.close(disk->io.context, disk->active_fd);
    disk->active_fd = -1;
    return bf_disk_create_segment(disk);
}

int32_t bf_disk_sync_active(bf_disk *disk)
{
    int refused = disk->active_fd >= 0 ? disk->io.sync(disk->io.context, disk->active_fd) : 0;
    if (refused < 0) {
        disk->alarms |= BF_ALARM_SYNC_FAILED;
        bf_disk_distrust_active(disk);
        return bf_disk_refuse(disk, refused);
    }
    if (disk->is_directory_dirty) {
        refused = disk->io.sync_directory(disk->io.context);
        if (refused < 0) {
            disk->alarms |= BF_ALARM_SYNC_FAILED;
            return bf_disk_refuse(disk, refused);
        }
        disk->is_directory_dirty = false;
    }
    disk->durable = disk->written;
    if (disk->segments.count > 0) {
        disk->synced_at = bf_disk_active(disk)->end;
    }
    if (!disk->rescue.is_needed || disk->rescue.is_copied) {
        disk->rescue.is_needed = false;
        disk->batch_durable = disk->batch_written;
        disk->batch_start = disk->written;
    }
    return BF_OK;
}

void bf_disk_distrust_active(bf_disk *disk)
{
    assert(disk->segments.count > 0 && disk->active_fd >= 0);
    bf_segment *segment = bf_disk_active(disk);
    (void)disk->io.close(disk->io.context, disk->active_fd);
    disk->active_fd = -1;
    bf_journal_reader_close(&disk->reader);
    if (disk->rescue.is_needed) {
        disk->rescue.is_copied = false;
    } else if (disk->durable.sequence < disk->batch_start.sequence) {
        disk->rescue = (bf_rescue){.is_needed = true, .segment = *segment, .at = disk->synced_at};
    }
    segment->end = disk->synced_at;
    if (!is_rescue_source(disk, segment) && disk->durable.sequence == segment->header.first_sequence) {
        char name[BF_NAME_BYTES];
        bf_segment_name(segment->header.number, ".bfs", name);
        disk->segments.count--;
        (void)disk->io.unlink(disk->io.context, name);
    }
    disk->written = disk->durable;
    disk->batch_written = disk->batch_durable;
}
