"""The small records that the disk side of a journal works with. In C they are in `csrc/journal.h`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from bifrost._native import _py_journal_format as f
from bifrost._native import journal_records as j

if TYPE_CHECKING:
    from bifrost._native._py_journal_scan import Segment


class Mark(NamedTuple):
    """A place between two records: number of the next one, and samples of all before."""

    sequence: int
    samples: int


START: Final = Mark(1, 0)


class Pending(NamedTuple):
    """One record of the batch, without what only its segment knows."""

    payload: bytes
    stream: int
    flags: int
    samples: int
    first_ns: int
    span_ms: int


@dataclass(slots=True)
class Rescue:
    """Records of a segment whose sync failed, from `at` to `end`, that are to be written to another one."""

    segment: Segment
    at: int
    end: int
    is_copied: bool = False


@dataclass(slots=True)
class Dropped:
    """What nobody will get, since open; as in `JournalReport`."""

    records_damaged: int = 0
    by_stream: list[int] = field(default_factory=lambda: [0] * j.JOURNAL_STREAMS_MAX)
    first_ns: int = 0
    last_ns: int = 0

    def count(self, frame: f.Frame) -> None:
        """Adds one record."""
        self.by_stream[frame.stream % j.JOURNAL_STREAMS_MAX] += frame.samples
        record = f.record_of(frame)
        is_first = self.first_ns == 0 and self.last_ns == 0
        self.first_ns = record.first_ns if is_first else min(self.first_ns, record.first_ns)
        self.last_ns = record.last_ns if is_first else max(self.last_ns, record.last_ns)
