"""The disk side of a journal: segments, cursor, and what a commit does to them. The twin of `csrc/journal_disk.c`.

The order of calls is what keeps a power cut from costing anything, and no step may be moved:
records are synced before they count as durable; the directory is synced with the first records of a new file; the
cursor is synced before a segment that it passed is deleted; and of the two slots of the cursor only the one that is not
the durable one is ever written. A file whose sync failed is never trusted again: what it was to make durable is written
to a new one.
"""

from __future__ import annotations

import errno
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bifrost._native import _py_journal_format as f
from bifrost._native import journal_records as j
from bifrost._native import records as r
from bifrost._native._py_journal_cursor import CursorFile, write_all
from bifrost._native._py_journal_parts import START, Dropped, Mark, Pending, Rescue
from bifrost._native._py_journal_ranges import Ranges
from bifrost._native._py_journal_scan import Hole, Reader, Scan, Segment, count_buffered

if TYPE_CHECKING:
    from bifrost._native.contract import JournalIO

NAMES_MAX: Final = 16  # Numbers tried for a new segment when files are in the way.
DAMAGED_NAME: Final = "damaged.bad"
SPARE_NAME: Final = "spare.free"


@dataclass(slots=True)
class Disk:
    """State of the disk side. Everything but `commit`, `save_cursor` and `close` is for `_py_journal_open`."""

    io: JournalIO
    limits: j.JournalLimits
    store_id: bytes
    window_bytes: int
    ranges: Ranges
    segments: list[Segment] = field(default_factory=list)
    streams: list[bytes] = field(default_factory=list)
    written: Mark = START
    durable: Mark = START
    last_number: int = 0
    generation: int = 0
    counters: bytes = b""
    now_ns: int = 0
    expire_before_ns: int = 0
    batch: list[Pending] = field(default_factory=list)
    batch_written: int = 0  # Records of the batch that are in a file …
    batch_durable: int = 0  # … and that are synced.
    batch_start: Mark = START  # Before the first that is not.
    active_fd: int = -1
    synced_at: int = 0  # In the active segment.
    streams_written: int = 0  # Names that the active segment has.
    is_directory_dirty: bool = False
    has_spare: bool = False
    rescue: Rescue | None = None
    is_cursor_dirty: bool = False
    saved_counters: bytes = b""
    error: int = 0
    alarms: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    was_clean: bool = True
    reader: Reader = field(init=False)
    cursor: CursorFile = field(init=False)

    def __post_init__(self) -> None:
        self.reader = Reader(self.io, self.segments, self.window_bytes)
        self.cursor = CursorFile(self.io)

    # ---- commit

    def commit(self, flags: int) -> int:
        """See `contract.Journal.commit`."""
        self.generation += 1
        self.is_cursor_dirty |= self.ranges.apply(self.written.sequence, self.written.samples)
        status = self._expire()
        had_active = self.active_fd >= 0
        stored = self._store(flags)
        if stored == r.E_SYSTEM and had_active and self.active_fd < 0:
            stored = self._store(flags)  # Once more, into a new segment.
        status = stored if stored != r.OK else status
        saved = r.OK
        if self.is_cursor_dirty or self.counters != self.saved_counters or not self.cursor.is_saved:
            saved = self.save_cursor(False)
        if saved == r.OK and flags & j.COMMIT_SYNC_CURSOR:
            saved = self._sync_cursor()
        freed = self._free_segments()
        for each in (saved, freed):
            status = each if status == r.OK else status
        if status == r.OK:
            self.alarms &= ~j.ALARM_WRITE_FAILED
        else:
            self.alarms |= j.ALARM_WRITE_FAILED
        return status

    def has_work(self) -> bool:
        """Whether a commit has something to do."""
        is_unsynced = self.durable.sequence < self.written.sequence
        return bool(self.batch or self.ranges.pending or is_unsynced or self.rescue or not self.cursor.is_saved)

    def _store(self, flags: int) -> int:
        """Writes the batch, and what must be written again, and syncs."""
        if self.batch or self.rescue is not None:
            status = self._write()
            if status != r.OK:
                return status
        if flags & j.COMMIT_SYNC and (self.written != self.durable or self.is_directory_dirty):
            status = self._sync_active()
            if status != r.OK:
                return status
        if self.batch and self.batch_written == len(self.batch):
            self.saved_counters = self.counters
            self.batch.clear()
            self.batch_written = self.batch_durable = 0
            self.batch_start = self.written
        return r.OK

    def _write(self) -> int:
        if self.active_fd < 0:
            status = self._create_segment()
            if status != r.OK:
                return status
        if self.rescue is not None and not self.rescue.is_copied:
            status = self._write_again()
            if status != r.OK:
                return status
        status = self._write_names()
        while status == r.OK and self.batch_written < len(self.batch):
            status = self._write_run()
        return status

    def _write_run(self) -> int:
        """Writes as many records of the batch as the active segment has room for, with a commit record if it is all."""
        header, at = self.segments[-1].header, self.segments[-1].end
        room = header.segment_bytes - at - f.COMMIT_FRAME_BYTES_MAX
        parts: list[bytes] = []
        mark, index, length = self.written, self.batch_written, 0
        while index < len(self.batch):
            pending = self.batch[index]
            if length + f.aligned(f.FRAME_BYTES + len(pending.payload)) > room:
                break
            delta = mark.sequence - header.first_sequence
            parts.append(f.pack_frame(header.salt, delta, j.RECORD_DATA, *pending))
            length += len(parts[-1])
            mark = Mark(mark.sequence + 1, mark.samples + pending.samples)
            index += 1
        if index == self.batch_written:
            return self._roll()
        if index == len(self.batch):
            delta = mark.sequence - header.first_sequence
            parts.append(f.pack_commit(header.salt, delta, self.generation, mark.samples, self.counters))
        status = self._put(b"".join(parts))
        if status == r.OK:
            self.batch_written, self.written = index, mark
        return status

    def _write_names(self) -> int:
        """Writes the names of streams that the active segment does not have yet."""
        status = r.OK
        while status == r.OK and self.streams_written < len(self.streams):
            header = self.segments[-1].header
            if self.segments[-1].end + 2 * f.COMMIT_FRAME_BYTES_MAX > header.segment_bytes:
                return self._roll()
            status = self._put(self._name_frame(header, self.streams_written))
            self.streams_written += status == r.OK
        return status

    def _name_frame(self, header: f.SegmentHeader, stream: int) -> bytes:
        delta = self.written.sequence - header.first_sequence
        return f.pack_frame(header.salt, delta, j.RECORD_STREAM, self.streams[stream], stream)

    def _write_again(self) -> int:
        """Copies what the segment of `rescue` was to make durable, but for what the batch still has."""
        rescue = self.rescue
        assert rescue is not None
        fd = self.io.open(f.segment_name(rescue.segment.header.number), False)
        if fd < 0:
            return self._refuse(fd)
        source = Segment(rescue.segment.header, rescue.end)
        scan = Scan(self.io, fd, source, rescue.at, self.batch_start.sequence, self.window_bytes)
        scan.floor = self.durable.sequence
        self.segments[-1].end = self.synced_at  # What an earlier try has copied is copied again.
        self.written = self.durable
        status = r.OK
        frame = scan.next()
        while status == r.OK and frame is not None:
            if frame.type == j.RECORD_DATA:
                status = self._put_again(frame)
            frame = scan.next()
        self.io.close(fd)
        if scan.error and status == r.OK:
            status = self._refuse(scan.error)
        return self._end_rescue(rescue) if status == r.OK else status

    def _end_rescue(self, rescue: Rescue) -> int:
        """Everything is copied. A commit record says what the total is, also of what was missing in the source."""
        header = self.segments[-1].header
        self.written = self.batch_start
        delta = self.written.sequence - header.first_sequence
        commit = f.pack_commit(header.salt, delta, self.generation, self.written.samples, self.counters)
        status = self._put(commit)
        rescue.is_copied = status == r.OK
        return status

    def _put_again(self, frame: f.Frame) -> int:
        size = f.aligned(f.FRAME_BYTES + len(frame.payload))
        if self.segments[-1].end + size + f.COMMIT_FRAME_BYTES_MAX > self.segments[-1].header.segment_bytes:
            status = self._roll()
            if status != r.OK:
                return status
        header = self.segments[-1].header
        fields = (frame.stream, frame.flags, frame.samples, frame.first_ns, frame.span_ms)
        delta = frame.sequence - header.first_sequence
        status = self._put(f.pack_frame(header.salt, delta, j.RECORD_DATA, frame.payload, *fields))
        if status == r.OK:
            self.written = Mark(frame.sequence + 1, self.written.samples + frame.samples)
        return status

    def _put(self, data: bytes) -> int:
        """Appends to the active segment."""
        refused = write_all(self.io, self.active_fd, self.segments[-1].end, data)
        if refused == 0:
            self.segments[-1].end += len(data)
            return r.OK
        if refused != -errno.ENOSPC:
            self._distrust_active()
        return self._refuse(refused)

    # ---- segments

    def _create_segment(self) -> int:
        status = self._make_room()
        if status != r.OK:
            return status
        fd = self._reuse_spare()
        is_spare = fd >= 0
        for _ in range(0 if is_spare else NAMES_MAX):
            self.last_number += 1
            fd = self.io.open(f.segment_name(self.last_number), True)
            if fd != -errno.EEXIST:
                break
        if fd < 0:
            return self._refuse(fd)
        header = f.SegmentHeader(self.last_number, self.store_id, *self.written, self.now_ns, self.limits.segment_bytes)
        names = b"".join(self._name_frame(header, stream) for stream in range(len(self.streams)))
        commit = f.pack_commit(header.salt, 0, self.generation, self.written.samples, self.counters)
        preamble = header.pack() + names + commit
        refused = 0 if is_spare else self.io.allocate(fd, header.segment_bytes)
        if refused in (0, -errno.EOPNOTSUPP):
            refused = write_all(self.io, fd, 0, preamble)
        if refused < 0:
            self.io.close(fd)
            self.io.unlink(f.segment_name(header.number))
            return self._refuse(refused)
        self.segments.append(Segment(header, len(preamble)))
        self.active_fd = fd
        self.synced_at = len(preamble)
        self.streams_written = len(self.streams)
        self.is_directory_dirty = True
        return r.OK

    def _reuse_spare(self) -> int:
        """Descriptor of the file of a segment that is done with, under a new name; negative: there is none.

        Its blocks have been written before, so that a sync has nothing to tell the file system, which halves its time.
        """
        if not self.has_spare:
            return -errno.ENOENT
        self.has_spare = False
        name = f.segment_name(self.last_number + 1)
        refused = self.io.rename(SPARE_NAME, name)
        if refused < 0:
            return refused
        self.last_number += 1
        fd = self.io.open(name, False)
        if fd < 0:
            self.io.unlink(name)
        return fd

    def _roll(self) -> int:
        """Ends the active segment, which becomes durable, and begins another one."""
        status = self._sync_active()
        if status != r.OK:
            return status
        self.io.close(self.active_fd)
        self.active_fd = -1
        return self._create_segment()

    def _sync_active(self) -> int:
        """Makes all that is written durable."""
        refused = self.io.sync(self.active_fd) if self.active_fd >= 0 else 0
        if refused < 0:
            self.alarms |= j.ALARM_SYNC_FAILED
            status = self._refuse(refused)
            self._distrust_active()
            return status
        if self.is_directory_dirty:
            refused = self.io.sync_directory()
            if refused < 0:
                self.alarms |= j.ALARM_SYNC_FAILED
                return self._refuse(refused)
            self.is_directory_dirty = False
        self.durable = self.written
        if self.segments:
            self.synced_at = self.segments[-1].end
        if self.rescue is None or self.rescue.is_copied:
            self.rescue = None
            self.batch_durable, self.batch_start = self.batch_written, self.written
        return r.OK

    def _distrust_active(self) -> None:
        """Gives the active segment up: what of it is not durable will be written again."""
        segment = self.segments[-1]
        self.io.close(self.active_fd)
        self.active_fd = -1
        self.reader.close()
        if self.rescue is not None:
            self.rescue.is_copied = False
        elif self.durable.sequence < self.batch_start.sequence:
            self.rescue = Rescue(segment, self.synced_at, segment.end)
        is_source = self.rescue is not None and self.rescue.segment is segment
        segment.end = self.synced_at
        if not is_source and self.durable.sequence == segment.header.first_sequence:
            self.segments.pop()
            self.io.unlink(f.segment_name(segment.header.number))
        self.written = self.durable
        self.batch_written = self.batch_durable

    def _make_room(self) -> int:
        """Sees to it that one more segment is allowed."""
        status = self._free_segments()
        while len(self.segments) >= self.limits.segments_count_max:
            if not self.limits.flags & j.JOURNAL_DROP_OLDEST:
                return r.E_FULL
            status = self._drop_oldest(j.DONE_WITH_CAP)
            if status != r.OK:
                return status
        return status

    def _expire(self) -> int:
        """Drops segments that were full before the time that `begin` said."""
        status = r.OK
        while status == r.OK and len(self.segments) > 1:
            # All others were begun after the oldest was full, whatever the clock said; those of a clock not trusted don't say.
            begun_ns = (each.header.created_ns for each in self.segments[1:] if each.header.created_ns > 0)
            if min(begun_ns, default=self.expire_before_ns) >= self.expire_before_ns:
                break
            if self.rescue is not None and self.rescue.segment is self.segments[0]:
                break
            status = self._drop_oldest(j.DONE_WITH_AGE)
        return status

    def _drop_oldest(self, reason: int) -> int:
        """Drops the oldest segment of two or more, and counts what was in it and not done with."""
        end = self.segments[1].header
        done, dropped = list(self.ranges.done), deepcopy(self.dropped)
        if not self._count_oldest(reason):
            self.ranges.done, self.dropped = done, dropped
            status = self._count_unreadable(end.first_sequence)
            if status != r.OK:
                return status
        self.ranges.raise_base(end.first_sequence)
        self.is_cursor_dirty = True
        return self._free_segments()

    def _count_oldest(self, reason: int) -> bool:
        """Counts what is in the oldest segment and not done with. False: it can't be read to its end."""
        start, end = self.segments[0].header, self.segments[1].header
        tally = Reader(self.io, self.segments, self.window_bytes)
        tally.seek(start.first_sequence, end.first_sequence, end.first_samples)
        while tally.sequence < end.first_sequence and (found := tally.next(*self.written)) is not None:
            if found.sequence >= end.first_sequence:
                break
            if isinstance(found, Hole):
                stretch = self.ranges.undone(found.sequence, found.last)
                part = found.part(*stretch) if stretch is not None else Hole(0, 0, 0)
                self.ranges.count(j.DONE_WITH_DAMAGED, part.samples)
                self.dropped.records_damaged += part.records
            elif not self.ranges.is_done(found.sequence):
                self.ranges.count(reason, found.samples)
                self.dropped.count(found)
        tally.close()
        return tally.error == 0

    def _count_unreadable(self, first: int) -> int:
        """What a segment that can't be read held is what is missing in the sum; that takes reading all others."""
        if self.rescue is not None:
            return self._refuse(-errno.EIO)  # The sum does not hold before everything is in its place again.
        tally = Reader(self.io, self.segments, self.window_bytes)
        left = self.written.samples - sum(self.ranges.done) - count_buffered(tally, self.ranges, first, self.written)
        if tally.error:
            return self._refuse(tally.error)  # The others can't be read either: the disk is in trouble, not a segment.
        self.ranges.count(j.DONE_WITH_DAMAGED, max(0, left))
        return r.OK

    def _free_segments(self) -> int:
        """Deletes the segments whose records are all done with, once the cursor that says so is durable."""
        is_deleted = False
        status = r.OK
        while status == r.OK and len(self.segments) > 1:
            oldest, base = self.segments[0], self.segments[1].header.first_sequence
            is_source = self.rescue is not None and self.rescue.segment is oldest
            if base > self.ranges.base or is_source:
                break
            if self.cursor.durable_base < base:
                status = self.save_cursor(True)
            if status == r.OK:
                status = self._delete(oldest)
                is_deleted = is_deleted or status == r.OK
        if is_deleted:
            refused = self.io.sync_directory()
            status = self._refuse(refused) if refused < 0 and status == r.OK else status
        return status

    def _delete(self, segment: Segment) -> int:
        """Deletes the file of the oldest segment, or keeps it for the next one.

        The last one that was damaged is kept for whoever wants to know why.
        """
        if self.reader.segment is segment:
            self.reader.close()
        name = f.segment_name(segment.header.number)
        is_spare = not self.has_spare and segment.header.segment_bytes == self.limits.segment_bytes
        if segment.is_damaged:
            refused = self.io.rename(name, DAMAGED_NAME)
        elif is_spare:
            refused = self.io.rename(name, SPARE_NAME)
        else:
            refused = self.io.unlink(name)
        if refused < 0 and refused != -errno.ENOENT:
            return self._refuse(refused)
        self.has_spare = self.has_spare or (is_spare and not segment.is_damaged and refused == 0)
        self.segments.remove(segment)
        return r.OK

    # ---- cursor

    def save_cursor(self, sync: bool, is_clean: bool = False) -> int:
        """Writes the cursor as it is now, and makes it durable if told to."""
        self.generation += 1  # A commit may save more than once, and the last one must be known.
        ranges = self.ranges
        refused = self.cursor.save(
            f.Cursor(
                self.store_id,
                self.generation,
                ranges.base,
                tuple(ranges.done),
                is_clean,
                tuple(ranges.ranges),
                self.counters,
            )
        )
        if refused < 0:
            return self._refuse(refused)
        self.is_cursor_dirty = False
        self.saved_counters = self.counters
        return self._sync_cursor() if sync else r.OK

    def _sync_cursor(self) -> int:
        refused = self.cursor.sync()
        if refused < 0:
            self.alarms |= j.ALARM_SYNC_FAILED
            return self._refuse(refused)
        return r.OK

    # ---- the system

    def _refuse(self, refused: int) -> int:
        self.error = -refused
        return r.E_SYSTEM

    def close(self, *, is_clean: bool) -> int:
        """Leaves the mark of a clean end, if it was one, and closes every file."""
        status = self.save_cursor(True, is_clean=is_clean and not self.batch)
        self.reader.close()
        self.cursor.close()
        if self.active_fd >= 0:
            self.io.close(self.active_fd)
        self.active_fd = -1
        return status
