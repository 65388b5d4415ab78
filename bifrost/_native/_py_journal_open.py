"""Opening a journal: whatever lies in the directory, a journal comes of it. The twin of `csrc/journal_open.c`.

Only the headers of segments are read, and the records of the last one. What is no segment of this store is set aside;
what is damaged is kept as `damaged.bad`; what was never finished is deleted. At the end all that is left is durable.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from bifrost._native import _py_journal_format as f
from bifrost._native import journal_records as j
from bifrost._native import records as r
from bifrost._native._py_journal_disk import DAMAGED_NAME, SPARE_NAME, Disk
from bifrost._native._py_journal_parts import Mark
from bifrost._native._py_journal_ranges import Ranges
from bifrost._native._py_journal_scan import Reader, Scan, Segment, count_buffered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bifrost._native.contract import JournalIO

_ASIDE_CURSOR: Final = "cursor.aside"
_WINDOW_BYTES_MIN: Final = 32 << 10
_TRIES: Final = 3


def window_bytes(limits: j.JournalLimits) -> int:
    """Through how many bytes at once segments are read."""
    return max(_WINDOW_BYTES_MIN, (f.FRAME_BYTES + limits.record_bytes_max + 7) & ~7)


def open_disk(
    io: JournalIO, limits: j.JournalLimits, store_id: bytes, now_ns: int, numbers: Sequence[int], last_number: int
) -> Disk:
    """The disk side of the journal in the directory of `io`.

    Args:
        io: The directory.
        limits: Sizes, which fit.
        store_id: Of a store that is new.
        now_ns: See `contract.Backend.open_journal`.
        numbers: Segment files there are, in order.
        last_number: Highest number that any file has, 0: none.

    Raises:
        OSError: Nothing can be read just now; nothing was changed that matters.
    """
    disk = Disk(io, limits, store_id, window_bytes(limits), Ranges())
    disk.last_number = last_number
    disk.now_ns = now_ns
    io.unlink(SPARE_NAME)
    cursor = _open_cursor(disk)
    is_identified = cursor is not None
    unreadable: list[int] = []
    for number in numbers:
        is_identified = _open_segment(disk, number, is_identified, unreadable)
    if unreadable and not (disk.segments and limits.flags & j.JOURNAL_SALVAGE):
        raise _refused(disk, disk.error)
    for number in unreadable:
        disk.alarms |= j.ALARM_SET_ASIDE
        io.rename(f.segment_name(number), _aside(number))
    _start_from(disk, cursor)
    _scan_tail(disk)
    _use_tail(disk)
    disk.ranges.settle(disk.written.sequence, disk.written.samples)
    if disk.save_cursor(True) != r.OK:
        disk.alarms |= j.ALARM_WRITE_FAILED
    if disk.is_directory_dirty and disk.io.sync_directory() == 0:
        disk.is_directory_dirty = False
    return disk


def _open_cursor(disk: Disk) -> f.Cursor | None:
    """The newest slot of the cursor file, which is durable now."""
    io = disk.io
    disk.is_directory_dirty = True  # What was created or deleted before a kill may not be durable yet.
    fd = io.open(f.CURSOR_NAME, False)
    if fd < 0:
        if fd != -errno.ENOENT:
            raise _refused(disk, -fd)
        return None
    found: list[f.Cursor | int | None] = []
    for at in (0, f.SLOT_AT):
        taken = _read(disk, fd, at, f.SLOT_AT)
        found.append(None if taken is None else f.unpack_cursor(taken))
    if disk.error and not disk.limits.flags & j.JOURNAL_SALVAGE:
        io.close(fd)
        raise _refused(disk, disk.error)
    cursors = [(slot.generation, index) for index, slot in enumerate(found) if isinstance(slot, f.Cursor)]
    if not cursors:
        io.close(fd)
        if any(isinstance(slot, int) for slot in found) or disk.error:
            disk.alarms |= j.ALARM_SET_ASIDE
            io.rename(f.CURSOR_NAME, _ASIDE_CURSOR)
        return None
    _, slot_number = max(cursors)
    cursor = found[slot_number]
    assert isinstance(cursor, f.Cursor)
    disk.cursor.fd = fd
    disk.cursor.durable_slot = slot_number
    if io.sync(fd) < 0:
        disk.alarms |= j.ALARM_SYNC_FAILED
        disk.cursor.durable_slot = 1 - slot_number  # This one may be in memory only.
    disk.store_id = cursor.store_id
    return cursor


def _open_segment(disk: Disk, number: int, is_identified: bool, unreadable: list[int]) -> bool:
    """Takes one file into the list, or out of the way; whether the store's identity is known now."""
    name = f.segment_name(number)
    fd = _open_again(disk, name)
    head = _read(disk, fd, 0, f.RECORDS_AT) if fd >= 0 else None
    if fd >= 0:
        disk.io.close(fd)
    if head is None:
        unreadable.append(number)
        return is_identified
    header = f.unpack_header(head)
    is_reused = isinstance(header, f.SegmentHeader) and header.number != number
    if is_reused or not head.strip(b"\0"):
        disk.io.unlink(name)  # A power cut came before its own first bytes were durable, or after they were given away.
        return is_identified
    if isinstance(header, int) or (header is not None and is_identified and header.store_id != disk.store_id):
        disk.alarms |= j.ALARM_SET_ASIDE
        disk.io.rename(name, _aside(number))
        return is_identified
    start = (header.first_sequence, header.first_samples) if header is not None else (0, 0)
    before = disk.segments[-1].header if disk.segments else None
    is_in_order = before is None or (start[0] >= before.first_sequence and start[1] >= before.first_samples)
    if header is None or not is_in_order:
        disk.alarms |= j.ALARM_DAMAGE
        disk.io.rename(name, DAMAGED_NAME)
        return is_identified
    disk.store_id = header.store_id
    disk.segments.append(Segment(header, header.segment_bytes))
    return True


def _start_from(disk: Disk, cursor: f.Cursor | None) -> None:
    """Takes over what the cursor says, or what the first segment says if there is none."""
    if cursor is not None:
        disk.ranges.base = cursor.base
        disk.ranges.done = list(cursor.done)
        disk.ranges.ranges = list(cursor.ranges)
        disk.cursor.durable_base = cursor.base
        disk.generation, disk.counters = cursor.generation, cursor.counters
        disk.was_clean = cursor.is_clean
    elif disk.segments:
        first = disk.segments[0].header
        disk.ranges.base = first.first_sequence
        disk.ranges.done[j.DONE_WITH_ACKNOWLEDGED] = first.first_samples
        disk.alarms |= j.ALARM_CURSOR_LOST
        disk.was_clean = False
    if not disk.segments:
        last = disk.ranges.ranges[-1][1] + 1 if disk.ranges.ranges else disk.ranges.base
        disk.ranges.raise_base(last)


def _scan_tail(disk: Disk) -> None:
    """Finds the end of what was written: in the last segment, and in the one before if that one has no commit record."""
    written = Mark(0, 0)
    for index in range(len(disk.segments) - 1, max(len(disk.segments) - 3, -1), -1):
        mark, has_commit = _scan_segment(disk, index)
        written = max(written, mark)
        if has_commit:
            break
    ranges = disk.ranges
    floor = max(ranges.ranges[-1][1] + 1 if ranges.ranges else ranges.base, 1)
    disk.written = written
    if floor > written.sequence:
        # Records that were delivered are gone: they were not durable, or the disk lied. What is left is counted.
        ranges.pass_over(written.sequence, floor)
        tally = Reader(disk.io, disk.segments, disk.window_bytes)
        start = disk.segments[0].header.first_sequence if disk.segments else 0
        left = count_buffered(tally, ranges, start, written) if disk.segments else 0
        disk.written = Mark(floor, max(written.samples, sum(ranges.done) + left))
    disk.durable = disk.batch_start = disk.written
    disk.synced_at = disk.segments[-1].end if disk.segments else 0


def _scan_segment(disk: Disk, index: int) -> tuple[Mark, bool]:
    """Where a segment ends, and whether it has a commit record; takes names and counters over."""
    segment = disk.segments[index]
    header = segment.header
    is_last = index == len(disk.segments) - 1
    mark = Mark(header.first_sequence, header.first_samples)
    fd = _open_again(disk, f.segment_name(header.number))
    if fd < 0:
        raise _refused(disk, disk.error)
    ceiling = f.SEQUENCE_MAX if is_last else disk.segments[index + 1].header.first_sequence
    scan = Scan(disk.io, fd, segment, f.RECORDS_AT, ceiling, disk.window_bytes)
    end, has_commit = f.RECORDS_AT, False
    frame = scan.next()
    while frame is not None:
        if frame.type == j.RECORD_DATA:
            mark = Mark(frame.sequence + 1, mark.samples + frame.samples)
        elif frame.type == j.RECORD_STREAM:
            _take_name(disk, frame)
        elif frame.type == j.RECORD_COMMIT:
            commit = f.unpack_commit(frame.payload)
            if commit is not None:
                has_commit = True
                mark = Mark(max(mark.sequence, frame.sequence), max(mark.samples, commit[1]))
                if commit[0] >= disk.generation:
                    disk.generation, disk.counters = commit[0], commit[2]
        end = frame.next_at
        frame = scan.next()
    disk.io.close(fd)
    if scan.error:
        raise _refused(disk, -scan.error)
    if is_last:
        segment.end = end
        disk.streams_written = len(disk.streams) if has_commit else 0
    return mark, has_commit


def _take_name(disk: Disk, frame: f.Frame) -> None:
    if frame.stream >= j.JOURNAL_STREAMS_MAX or not 0 < len(frame.payload) <= j.JOURNAL_STREAM_NAME_BYTES_MAX:
        return
    while len(disk.streams) <= frame.stream:
        disk.streams.append(b"")
    disk.streams[frame.stream] = frame.payload


def _use_tail(disk: Disk) -> None:
    """Goes on in the last segment if it can be made durable; else another one is begun.

    What was promised of it was durable before; and it can't be written again elsewhere now, since a kill in the middle
    of that would hide the rest.
    """
    if not disk.segments:
        return
    tail = disk.segments[-1]
    fd = disk.io.open(f.segment_name(tail.header.number), False)
    refused = disk.io.sync(fd) if fd >= 0 else fd
    if refused < 0:
        disk.error = -refused
        disk.alarms |= j.ALARM_SYNC_FAILED
    is_full = tail.end + 2 * f.COMMIT_FRAME_BYTES_MAX > tail.header.segment_bytes
    if refused == 0 and not is_full:
        disk.active_fd = fd
    elif fd >= 0:
        disk.io.close(fd)


def _open_again(disk: Disk, name: str) -> int:
    """Opens a file, in the second or third try if it must be."""
    fd = -1
    for _ in range(_TRIES):
        fd = disk.io.open(name, False)
        if fd >= 0:
            return fd
    disk.error = -fd
    return fd


def _read(disk: Disk, fd: int, at: int, size: int) -> bytes | None:
    """Reads, in the second or third try if it must be. None: in none, and `disk.error` says why."""
    error = 0
    for _ in range(_TRIES):
        taken = disk.io.read(fd, at, size)
        if isinstance(taken, bytes):
            return taken
        error = -taken
    disk.error = error
    return None


def _aside(number: int) -> str:
    return f"{number:08x}.aside"


def _refused(disk: Disk, error: int) -> OSError:
    """What to raise, after giving up what is open."""
    disk.cursor.close()
    return OSError(error, "the journal can't be read")
