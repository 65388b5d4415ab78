"""The ledger of one uplink, in samples: `acquired = acknowledged + buffered + dropped`, at every moment.

A sample is acquired when its change entered the ring for a tag of the uplink. From there it is buffered (in the ring, in
memory, in the journal) until exactly one thing happens to it: the destination acknowledges it, or it is dropped for a
reason that has a name. What happens once it is in the journal, the journal counts, and gets right after any crash; what
happens before, is counted here and stored with each commit. So `acquired` is a sum that cannot miss a term; that it
agrees with the ring is what tests hold it to.

After an unclean stop the counters are those of the last commit. What was acquired after it, for as long as it takes to
commit, nobody knows: `unclean_stop` says since when.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bifrost._native import journal_records as j
from bifrost.core.clock import format_time_ns

if TYPE_CHECKING:
    from bifrost._native.journal_records import JournalReport

__all__ = ["Ledger", "Reason"]

_HEAD: Final = struct.Struct("<BBqq")  # Format, number of counters, time of this commit, time of the last unclean stop.
_FORMAT: Final = 1
_COUNTER: Final = struct.Struct("<Q")


class Reason(StrEnum):
    """Why a sample was dropped. The order is that of the stored form: append only."""

    LAPPED = "lapped"
    """Overwritten in the change ring before the outbox had read it."""
    DEADBAND = "deadband"
    """Held back by the uplink's own deadband, as configured."""
    CAP = "cap"
    """`disk_bytes_max` was reached."""
    AGE = "age"
    """Older than `age_max`."""
    QUARANTINE = "quarantine"
    """The destination will never take it; a copy lies in the quarantine, as far as there is room."""
    DAMAGE = "damage"
    """The disk gave back something else than was written."""


_IN_JOURNAL: Final[Mapping[Reason, int]] = {
    Reason.CAP: j.DONE_WITH_CAP,
    Reason.AGE: j.DONE_WITH_AGE,
    Reason.QUARANTINE: j.DONE_WITH_QUARANTINE,
    Reason.DAMAGE: j.DONE_WITH_DAMAGED,
}


class Ledger:
    """Counters of one uplink.

    Args:
        report: Of its journal, just opened.

    Attributes:
        staged: Samples read from the ring and not yet in the journal.
        overwritten: Of those waiting in the ring, how many are overwritten for sure; as of the last look.
        unclean_since_ns: UTC nanoseconds of the last commit before the last unclean stop; 0: every stop was clean.
        committed_ns: UTC nanoseconds of the last commit of the process before; 0: there was none.
    """

    def __init__(self, report: JournalReport) -> None:
        self.staged = 0
        self.overwritten = 0
        self.unclean_since_ns = 0
        self._report = report
        self._journaled = report.samples_total
        self._lost = dict.fromkeys(Reason, 0)
        self.committed_ns = self._restore(report.counters)
        if not report.was_clean:
            self.unclean_since_ns = self.committed_ns

    @property
    def acknowledged(self) -> int:
        """Samples the destination has taken over, as of the last commit; each counts once, however often it was sent."""
        return self._report.done[j.DONE_WITH_ACKNOWLEDGED]

    @property
    def buffered(self) -> int:
        """Samples in memory and journal."""
        return self.staged + self._journaled - sum(self._report.done)

    @property
    def acquired(self) -> int:
        """All samples that left the ring."""
        return self.staged + self._journaled + sum(self._lost.values())

    def dropped(self, reason: Reason) -> int:
        """Samples dropped for `reason`."""
        kept = _IN_JOURNAL.get(reason)
        if reason is Reason.LAPPED:
            return self._lost[reason] + self.overwritten
        return self._lost[reason] + (self._report.done[kept] if kept is not None else 0)

    def lose(self, reason: Reason, count: int) -> None:
        """`count` samples, not staged (any more), were dropped before they came into the journal."""
        self._lost[reason] += count

    def give_up(self) -> None:
        """What is staged, and what the journal has in memory only, will not be written: its buffer is full."""
        self._lost[Reason.CAP] += self.staged + self._journaled - self._report.samples_total
        self.staged, self._journaled = 0, self._report.samples_total

    def journal(self, count: int) -> None:
        """`count` staged samples are in the journal."""
        assert 0 <= count <= self.staged, (count, self.staged)
        self.staged -= count
        self._journaled += count

    def update(self, report: JournalReport) -> None:
        """The journal has committed, and stands where `report` says."""
        self._report = report

    def pack(self, utc_ns: int) -> bytes:
        """What the journal does not count itself, for storing with a commit at `utc_ns`: little-endian, 64 bits each."""
        counters = [self._lost[reason] + (self.overwritten if reason is Reason.LAPPED else 0) for reason in Reason]
        return _HEAD.pack(_FORMAT, len(counters), utc_ns, self.unclean_since_ns) + b"".join(
            map(_COUNTER.pack, counters)
        )

    def _restore(self, packed: bytes) -> int:
        """Takes back what `pack` gave, and gives its time; bytes of another format count nothing."""
        if len(packed) < _HEAD.size or packed[0] != _FORMAT:
            return 0
        _, count, committed_ns, self.unclean_since_ns = _HEAD.unpack_from(packed)
        count = min(count, (len(packed) - _HEAD.size) // _COUNTER.size)
        counters = packed[_HEAD.size : _HEAD.size + count * _COUNTER.size]
        for reason, (lost,) in zip(Reason, _COUNTER.iter_unpack(counters), strict=False):
            self._lost[reason] = lost
        return int(committed_ns)

    def record(self, waiting: int = 0) -> dict[str, object]:
        """The ledger for people and programs.

        Args:
            waiting: Samples that are in the ring and not read yet; they are acquired as well, and those of them that are
                not `overwritten` buffered.
        """
        return {
            "acquired": self.acquired + waiting,
            "acknowledged": self.acknowledged,
            "buffered": self.buffered + waiting - self.overwritten,
            "dropped": {str(reason): self.dropped(reason) for reason in Reason},
            "unclean_stop": {"since": format_time_ns(self.unclean_since_ns)} if self.unclean_since_ns else None,
        }
