"""Reading segments: every whole record from some place on, and exactly what is missing between them.

The twin of `csrc/journal_scan.c`. `Scan` walks one file through a window of fixed size; where the bytes are no record it
looks for the next one at every fourth byte. `Reader` walks all segments in order and tells of gaps in the numbers: how
many records are gone, and, from the totals in the next commit record or segment header, how many samples they held.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bifrost._native import _py_journal_format as f
from bifrost._native import journal_records as j

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bifrost._native._py_journal_ranges import Ranges
    from bifrost._native.contract import JournalIO

_COUNT_MAX: Final = 0xFFFF_FFFF
_TRIES: Final = 3
_BLOCK_BYTES: Final = 4096  # What a disk gives or does not give; a bad one must not take the others along.


@dataclass(slots=True)
class Segment:
    """One segment file; `end` is where its records end, as far as that is known."""

    header: f.SegmentHeader
    end: int
    is_damaged: bool = False


class Scan:
    """The records of one open segment from `at` on. `floor` and `ceiling` bound the sequence numbers that can come."""

    def __init__(self, io: JournalIO, fd: int, segment: Segment, at: int, ceiling: int, window_bytes: int) -> None:
        self._io = io
        self._fd = fd
        self._segment = segment
        self._window_bytes = window_bytes
        self._window = b""
        self._window_at = at
        self.at = at
        self.floor = segment.header.first_sequence
        self.ceiling = ceiling
        self.error = 0

    def next(self) -> f.Frame | None:
        """The next record; None at the end of the segment, or when it can't be read: `error` is the negative errno then."""
        while self._have(f.FRAME_BYTES):
            frame = self._frame()
            if self.error:
                return None
            if frame is not None:
                self.at = frame.next_at
                self.floor = max(self.floor, frame.sequence + (frame.type == j.RECORD_DATA))
                return frame
            self.at = self._next_candidate()
        return None

    def rewind(self, frame: f.Frame) -> None:
        """Goes back to where `frame` is the next."""
        self.at, self.floor = frame.at, frame.sequence

    def _have(self, size: int) -> bool:
        """Whether `size` bytes from `at` on are, or can be brought, in the window."""
        end = self._segment.end
        if self.at + size > end:
            return False
        if self._window_at <= self.at and self.at + size <= self._window_at + len(self._window):
            return True
        taken = self._io.read(self._fd, self.at, min(self._window_bytes, end - self.at))
        if taken == -errno.EIO:
            taken = self._read_blocks(min(self._window_bytes, end - self.at))
        if isinstance(taken, int):
            self.error = taken
            return False
        self._window, self._window_at = taken, self.at
        return size <= len(taken)

    def _read_blocks(self, size: int) -> bytes | int:
        """The window in small parts, with zeros for those that can't be read, unless nothing can be read any more."""
        parts, failed = [], 0
        for at in range(0, size, _BLOCK_BYTES):
            wanted = min(_BLOCK_BYTES, size - at)
            part = self._io.read(self._fd, self.at + at, wanted)
            for _ in range(_TRIES - 1):
                if isinstance(part, int):
                    part = self._io.read(self._fd, self.at + at, wanted)
            if isinstance(part, int):
                failed += wanted
                part = bytes(wanted)
            parts.append(part)
            if len(part) < wanted:
                break
        if failed == size:
            first = self._io.read(self._fd, 0, f.HEADER_BYTES)
            if isinstance(first, int):
                return first
        return b"".join(parts)

    def _frame(self) -> f.Frame | None:
        """The record at `at`, if there is one."""
        record_type, length = f.frame_length(self._window, self.at - self._window_at)
        size = f.FRAME_BYTES + length
        if record_type == 0 or size > self._window_bytes or not self._have(size):
            return None
        header = self._segment.header
        at = self.at - self._window_at
        frame = f.unpack_frame(self._window, at, header.salt, header.first_sequence, self.at)
        if frame is None or not self.floor <= frame.sequence <= self.ceiling:
            return None
        if frame.type == j.RECORD_DATA and (frame.sequence == self.ceiling or frame.samples == 0):
            return None
        return frame

    def _next_candidate(self) -> int:
        """The next place where a record could start: zeros are skipped at once."""
        at = self.at + 4
        rest = self._window[at - self._window_at :]
        zeros = len(rest) - len(rest.lstrip(b"\0"))
        last = len(rest) - f.FRAME_BYTES  # From here on the window must move before anything can be said.
        if zeros < 8 or last < 0:
            return at
        return at + min((zeros - 8) // 4 * 4, last // 4 * 4 + 4)


@dataclass(slots=True)
class Hole:
    """Records that are missing before the next one."""

    sequence: int
    records: int
    samples: int

    @property
    def last(self) -> int:
        """The last of them."""
        return self.sequence + self.records - 1

    def part(self, first: int, last: int) -> Hole:
        """These of the records. How many samples a part held is not known: they are counted when all else is."""
        is_all = (first, last) == (self.sequence, self.last)
        return Hole(first, last - first + 1, self.samples if is_all else 0)


class Reader:
    """All records of all segments, in order. `segments` is the journal's own list, which may grow and shrink."""

    def __init__(self, io: JournalIO, segments: Sequence[Segment], window_bytes: int) -> None:
        self._io = io
        self._segments = segments
        self._window_bytes = window_bytes
        self._fd = -1
        self._segment: Segment | None = None
        self._scan: Scan | None = None
        self._held_hole: Hole | None = None
        self.sequence = 0  # of the record that comes next
        self._samples = 0  # of all records before it
        self.error = 0

    @property
    def place(self) -> int:
        """Number of what `next` gives next."""
        return self.sequence if self._held_hole is None else self._held_hole.sequence

    def hold(self, hole: Hole) -> None:
        """`hole` comes next."""
        self._held_hole = hole

    @property
    def segment(self) -> Segment | None:
        """Where it stands."""
        return self._segment

    def close(self) -> None:
        """Forgets the place; the next `next` must be after a `seek`."""
        if self._fd >= 0:
            self._io.close(self._fd)
        self._fd, self._segment, self._scan, self.sequence = -1, None, None, 0
        self._held_hole = None

    def seek(self, sequence: int, end_sequence: int, end_samples: int) -> bool:
        """Goes to `sequence`, which is not below the first segment's. False: it can't be read (`error`)."""
        self.error = 0
        if self._segment is not None and self.place == sequence:
            return True
        self.close()
        places = [s for s in self._segments if s.header.first_sequence <= sequence]
        if not places or not self._enter(places[-1]):
            return False
        while self.sequence < sequence:
            if self.next(end_sequence, end_samples) is None:
                return not self.error
        if self.sequence > sequence:  # More is missing than when the cursor was moved into it.
            self._held_hole = Hole(sequence, self.sequence - sequence, 0)
        return True

    def give_back(self, frame: f.Frame) -> None:
        """`frame`, which `next` gave last, comes again."""
        assert self._scan is not None
        self._scan.rewind(frame)
        self.sequence, self._samples = frame.sequence, self._samples - frame.samples

    def next(self, end_sequence: int, end_samples: int) -> f.Frame | Hole | None:
        """The next record, or what is missing before it; None: there is no more, or it can't be read (`error`).

        `end_sequence` and `end_samples` are those of the next record to be written: what the last segment is held to.
        """
        self.error = 0
        if self._held_hole is not None:
            hole, self._held_hole = self._held_hole, None
            return hole
        while self._scan is not None:
            frame = self._scan.next()
            if frame is None:
                if self._scan.error:
                    self._fail(self._scan.error)
                    return None
                following = self._following()
                end = (end_sequence, end_samples) if following is None else _start(following)
                if self.sequence < end[0]:
                    return self._missing(*end)
                if following is None or not self._enter(following):
                    return None
                continue
            if frame.sequence > self.sequence and frame.type in (j.RECORD_DATA, j.RECORD_COMMIT):
                return self._missing_before(frame, end_samples)
            commit = f.unpack_commit(frame.payload) if frame.type == j.RECORD_COMMIT else None
            if commit is not None:
                self._samples = max(self._samples, commit[1])
            if frame.type == j.RECORD_DATA:
                self.sequence, self._samples = frame.sequence + 1, self._samples + frame.samples
                return frame
        return None

    def _fail(self, error: int) -> None:
        self.close()
        self.error = error

    def _enter(self, segment: Segment) -> bool:
        self.close()
        fd = self._io.open(f.segment_name(segment.header.number), False)
        if fd < 0:
            self.error = fd
            return False
        self._fd, self._segment = fd, segment
        self.sequence, self._samples = _start(segment)
        self._scan = Scan(self._io, fd, segment, f.RECORDS_AT, self._ceiling(), self._window_bytes)
        return True

    def _following(self) -> Segment | None:
        """The segment after this one."""
        assert self._segment is not None
        index = self._segments.index(self._segment) + 1
        return self._segments[index] if index < len(self._segments) else None

    def _ceiling(self) -> int:
        following = self._following()
        return f.SEQUENCE_MAX if following is None else following.header.first_sequence

    def _missing_before(self, frame: f.Frame, end_samples: int) -> Hole:
        """What is missing before `frame`, which stays to come."""
        commit = f.unpack_commit(frame.payload) if frame.type == j.RECORD_COMMIT else None
        total = commit[1] if commit is not None else self._total_before(frame, end_samples)
        assert self._scan is not None
        self._scan.rewind(frame)
        return self._missing(frame.sequence, total)

    def _missing(self, end_sequence: int, end_samples: int) -> Hole:
        """Everything up to `end_sequence`, in stretches of what a count can hold."""
        assert self._segment is not None
        self._segment.is_damaged = True
        samples = max(0, min(end_samples - self._samples, _COUNT_MAX))
        hole = Hole(self.sequence, min(end_sequence - self.sequence, _COUNT_MAX), samples)
        self.sequence += hole.records
        self._samples += samples
        return hole

    def _total_before(self, frame: f.Frame, end_samples: int) -> int:
        """Samples of all records before `frame`: from the next total that is known, less what lies between."""
        scan = self._scan
        assert scan is not None
        between = frame.samples
        following = self._following()
        total = end_samples if following is None else following.header.first_samples
        later = scan.next()
        while later is not None:
            commit = f.unpack_commit(later.payload) if later.type == j.RECORD_COMMIT else None
            if commit is not None:
                total = commit[1]
                break
            between += later.samples if later.type == j.RECORD_DATA else 0
            later = scan.next()
        scan.error = 0
        return max(self._samples, total - between)


def _start(segment: Segment) -> tuple[int, int]:
    return segment.header.first_sequence, segment.header.first_samples


def count_buffered(reader: Reader, ranges: Ranges, first: int, end: tuple[int, int]) -> int:
    """Samples of all records from `first` on, up to `end`, that are not done with, by reading them all.

    `reader.error` says why not all of them could be read.
    """
    first = max(ranges.base, first)
    samples = 0
    if first < end[0] and reader.seek(first, *end):
        while reader.place < end[0] and (found := reader.next(*end)) is not None:
            if isinstance(found, Hole):
                stretch = ranges.undone(found.sequence, found.last)
                samples += found.part(*stretch).samples if stretch is not None else 0
            elif not ranges.is_done(found.sequence):
                samples += found.samples
    reader.close()
    return samples
