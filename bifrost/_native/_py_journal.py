"""The journal in Python: the twin of `csrc/journal.c`. The same calls give the same bytes in the same order.

Here is the memory side; the disk side is in `_py_journal_disk`. They meet in `begin` only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from bifrost._native import _py_journal_format as f
from bifrost._native import journal_records as j
from bifrost._native import records as r
from bifrost._native._py_journal_disk import Disk
from bifrost._native._py_journal_io import SystemIO
from bifrost._native._py_journal_open import open_disk, window_bytes
from bifrost._native._py_journal_parts import Pending
from bifrost._native._py_journal_ranges import Acknowledgement
from bifrost._native._py_journal_scan import Hole

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    from bifrost._native.contract import JournalIO, Readable
    from bifrost._native.journal_records import JournalLimits, JournalRecord, JournalReport

_NUMBERED: Final = re.compile(r"([0-9a-f]{8})\.(bfs|aside)")
_SAMPLES_MAX: Final = 0xFFFF
_TIME_MAX: Final = (1 << 63) - 1
_SEGMENT_BYTES: Final = 400
_ACKNOWLEDGEMENT_BYTES: Final = 160
_OBJECTS_BYTES: Final = 8192  # What a journal is apart from its buffers.


def journal_bytes(limits: JournalLimits) -> int:
    """See `contract.Backend.journal_bytes`."""
    if not f.limits_fit(limits):
        return 0
    memory = 2 * limits.batch_bytes + 3 * window_bytes(limits) + _OBJECTS_BYTES
    return (
        memory
        + limits.segments_count_max * _SEGMENT_BYTES
        + 2 * limits.acknowledgements_count_max * _ACKNOWLEDGEMENT_BYTES
    )


def segment_numbers(names: Iterable[str]) -> tuple[list[int], int]:
    """Numbers of the segment files among `names`, in order, and the highest number that any file has."""
    found = [match for match in map(_NUMBERED.fullmatch, names) if match is not None]
    numbers = sorted(int(match[1], 16) for match in found if match[2] == "bfs")
    return numbers, max((int(match[1], 16) for match in found), default=0)


class Journal:
    """`contract.Journal` in Python."""

    def __init__(self, limits: JournalLimits, disk: Disk, own_io: SystemIO | None) -> None:
        self._limits = limits
        self._disk = disk
        self._own_io = own_io
        self._is_closed = False
        self._next = disk.batch_start.sequence
        self._batch: list[Pending] = []
        self._batch_bytes = 0
        self._acknowledged: list[Acknowledgement] = []
        self._streams = list(disk.streams)
        self._recovered = disk.counters

    def stream(self, name: bytes) -> int:
        """See `contract.Journal.stream`."""
        if not 0 < len(name) <= j.JOURNAL_STREAM_NAME_BYTES_MAX:
            return r.E_ARGUMENT
        if name in self._streams:
            return self._streams.index(name)
        if len(self._streams) == j.JOURNAL_STREAMS_MAX:
            return r.E_FULL
        self._streams.append(name)
        return len(self._streams) - 1

    def streams(self) -> list[bytes]:
        """See `contract.Journal.streams`."""
        return list(self._streams)

    def append(self, stream: int, lane: int, samples: int, first_ns: int, last_ns: int, payload: Readable) -> int:
        """See `contract.Journal.append`."""
        length = len(payload)
        if length > self._limits.record_bytes_max or not 0 <= stream < len(self._streams):
            return r.E_ARGUMENT
        if lane not in (j.LANE_LIVE, j.LANE_BACKFILL) or not 0 < samples <= _SAMPLES_MAX:
            return r.E_ARGUMENT
        if not -_TIME_MAX <= first_ns <= last_ns <= _TIME_MAX:
            return r.E_ARGUMENT
        size = f.aligned(f.FRAME_BYTES + length)
        if self._batch_bytes + size > self._limits.batch_bytes:
            return r.E_FULL
        span = f.span_ms(first_ns, last_ns)
        self._batch.append(Pending(bytes(payload), stream, lane, samples, first_ns, span))
        self._batch_bytes += size
        self._next += 1
        return self._next - 1

    def acknowledge(self, sequences: array[int], counts: array[int], samples: array[int], reason: int) -> int:
        """See `contract.Journal.acknowledge`."""
        if not len(sequences) == len(counts) == len(samples) or not 0 <= reason < j.JOURNAL_REASONS:
            return r.E_ARGUMENT
        if 0 in counts:
            return r.E_ARGUMENT
        if len(self._acknowledged) + len(sequences) > self._limits.acknowledgements_count_max:
            return r.E_FULL
        entries = zip(sequences, counts, samples, strict=True)
        self._acknowledged += [Acknowledgement(*entry, reason) for entry in entries]
        return r.OK

    def begin(self, counters: bytes, now_ns: int, expire_before_ns: int) -> int:
        """See `contract.Journal.begin`."""
        disk = self._disk
        if len(counters) > j.JOURNAL_COUNTERS_BYTES_MAX:
            return r.E_ARGUMENT
        disk.counters, disk.now_ns, disk.expire_before_ns = counters, now_ns, expire_before_ns
        disk.streams = list(self._streams)
        room = self._limits.acknowledgements_count_max - len(disk.ranges.pending)
        disk.ranges.pending += self._acknowledged[:room]
        self._acknowledged = self._acknowledged[room:]
        if not disk.batch:
            disk.batch, self._batch = self._batch, []
            self._batch_bytes = 0
        has_news = counters != disk.saved_counters or expire_before_ns > 0
        return r.OK if has_news or disk.has_work() else r.PARTIAL

    def commit(self, flags: int) -> int:
        """See `contract.Journal.commit`."""
        return r.E_ARGUMENT if self._is_closed else self._disk.commit(flags)

    def read(self, sequence: int, through: int, count: int) -> tuple[int, list[JournalRecord]]:
        """See `contract.Journal.read`."""
        disk, found = self._disk, list[j.JournalRecord]()
        if self._is_closed:
            return r.E_ARGUMENT, found
        through, count = min(through, disk.written.sequence - 1), min(count, j.JOURNAL_READ_RECORDS_MAX)
        if not disk.segments or count <= 0:
            return r.OK, found
        start = disk.segments[0].header
        first = max(sequence, disk.ranges.base)
        if first < start.first_sequence and first <= through:
            lost = max(0, min(start.first_samples - sum(disk.ranges.done), 0xFFFF_FFFF))
            found.append(_damaged(Hole(first, start.first_sequence - first, lost)))
            disk.alarms |= j.ALARM_DAMAGE
            first = start.first_sequence
        size = 0
        reader = disk.reader
        if first <= through and not reader.seek(first, *disk.written):
            return self._refuse(reader.error), found
        while len(found) < count and first <= through and reader.place <= through:
            entry = reader.next(*disk.written)
            if entry is None:
                return self._refuse(reader.error), found
            if isinstance(entry, Hole):
                found += self._missing(entry)
                continue
            if disk.ranges.is_done(entry.sequence):
                continue
            size += len(entry.payload)
            if found and size > self._limits.batch_bytes:
                reader.give_back(entry)
                break
            found.append(f.record_of(entry))
        return r.OK, found

    def _missing(self, hole: Hole) -> list[JournalRecord]:
        """What of a hole is not done with, one stretch at a time."""
        disk = self._disk
        stretch = disk.ranges.undone(hole.sequence, hole.last)
        if stretch is None:
            return []
        part = hole.part(*stretch)
        if part.last < hole.last:
            disk.reader.hold(hole.part(part.last + 1, hole.last))
        disk.alarms |= j.ALARM_DAMAGE
        disk.dropped.records_damaged += part.records
        return [_damaged(part)]

    def _refuse(self, refused: int) -> int:
        if refused == 0:
            return r.OK
        self._disk.error = -refused
        return r.E_SYSTEM

    def report(self) -> JournalReport:
        """See `contract.Journal.report`."""
        disk = self._disk
        sizes = sum(segment.header.segment_bytes for segment in disk.segments)
        return j.JournalReport(
            store_id=disk.store_id,
            next_sequence=self._next,
            written_sequence=disk.written.sequence - 1,
            durable_sequence=disk.durable.sequence - 1,
            base_sequence=disk.ranges.base,
            samples_total=disk.written.samples,
            done=tuple(disk.ranges.done),
            records_damaged=disk.dropped.records_damaged,
            dropped_by_stream=tuple(disk.dropped.by_stream),
            dropped_first_ns=disk.dropped.first_ns,
            dropped_last_ns=disk.dropped.last_ns,
            segments_count=len(disk.segments),
            disk_bytes=sizes + f.CURSOR_FILE_BYTES,
            generation=disk.generation,
            alarms=disk.alarms,
            errno=disk.error,
            was_clean=disk.was_clean,
            counters=self._recovered,
        )

    def close(self) -> int:
        """See `contract.Journal.close`."""
        if self._is_closed:
            return r.OK
        self._is_closed = True
        status = self._disk.close(is_clean=not self._batch)
        if self._own_io is not None:
            self._own_io.close_directory()
        return status


def _damaged(hole: Hole) -> JournalRecord:
    return j.JournalRecord(hole.sequence, j.RECORD_DAMAGED, hole.records, 0, 0, hole.samples, 0, 0, b"")


def open_journal(
    directory: str, limits: JournalLimits, store_id: bytes, now_ns: int, io: JournalIO | None = None
) -> Journal:
    """See `contract.Backend.open_journal`."""
    if journal_bytes(limits) == 0 or len(store_id) != 16:
        raise ValueError("the limits of the journal are impossible")
    own_io = SystemIO(directory) if io is None else None
    files: JournalIO = own_io if own_io is not None else io  # type: ignore[assignment]  # one of them is there
    try:
        numbers, last = segment_numbers(files.list())
        return Journal(limits, open_disk(files, limits, store_id, now_ns, numbers, last), own_io)
    except OSError:
        if own_io is not None:
            own_io.close_directory()
        raise
