"""Bursts of dropped samples: reported once when they begin and once when they have ended, and not sample by sample.

Every drop is in the ledger at once; this is for log and audit log, which a broker that is away for a day must not fill.
Pure: times are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from bifrost.bridge.ledger import Ledger, Reason

__all__ = ["Burst", "DropWatch"]

_QUIET_NS: Final = 60_000_000_000  # A burst has ended when nothing was dropped for this long.
_SILENT: Final = frozenset({Reason.DEADBAND})  # Held back as configured: that is no event.


class Burst(NamedTuple):
    """Something to report.

    Attributes:
        reason: Why samples were dropped.
        samples: How many so far.
        is_over: Whether the burst has ended.
    """

    reason: Reason
    samples: int
    is_over: bool


class _Running:
    def __init__(self, before: int, at_ns: int) -> None:
        self.before = before
        self.last_ns = at_ns


class DropWatch:
    """Looks at one ledger now and then.

    Args:
        ledger: What it says now is old news.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen = {reason: ledger.dropped(reason) for reason in Reason}
        self._running: dict[Reason, _Running] = {}

    def look(self, now_ns: int) -> Iterator[Burst]:
        """What began or ended since the last look."""
        for reason in Reason:
            if reason in _SILENT:
                continue
            seen, dropped = self._seen[reason], self._ledger.dropped(reason)
            self._seen[reason] = dropped
            running = self._running.get(reason)
            if dropped > seen and running is None:
                self._running[reason] = _Running(seen, now_ns)
                yield Burst(reason, dropped - seen, is_over=False)
            elif dropped > seen and running is not None:
                running.last_ns = now_ns
            elif running is not None and now_ns - running.last_ns >= _QUIET_NS:
                del self._running[reason]
                yield Burst(reason, dropped - running.before, is_over=True)
