"""The clock: the only place that asks the system what time it is.

Everything inside runs on the monotonic clock, which no operator and no NTP server can step. UTC is made from it:
``utc = monotonic + offset``. A table holds the offset of each stretch of this boot, so that a stamp made before a
step of the system clock keeps its meaning:

* the system clock jumps **forward**: a new stretch begins, at once;
* it jumps **back a little** (up to 10 s): a new stretch begins, in which time stands still until it has caught up, so
  that no later sample is stamped before an earlier one;
* it jumps **back a lot** (a wrong battery clock was corrected): a new stretch begins with the right time, counted and
  reported. Stamps jump; the order of samples is their sequence, never their stamp.

`is_synchronised` says whether somebody disciplines the system clock. It is data for the reader of a sample, never a
reason to stop.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

__all__ = ["Clock", "Stretch", "clock_is_synchronised", "format_time_ns", "parse_time_ns"]

_STEP_NS = 1_000_000  # Smaller differences are the jitter of reading two clocks one after the other.
_HOLD_MAX_NS = 10_000_000_000  # Longer standing still would hide what happened in the plant meanwhile.
_STRETCHES_COUNT_MAX = 64  # Of one boot; a clock that steps more often is broken, and the oldest stretch is forgotten.
_READ_TRIES = 3
_SYNCHRONISED_PATH = "/run/systemd/timesync/synchronized"  # systemd-timesyncd.service(8)
_NS_PER_S = 1_000_000_000


class Stretch(msgspec.Struct, frozen=True):
    """A time with one offset between monotonic clock and UTC.

    Attributes:
        since_ns: Monotonic time when it began.
        offset_ns: UTC minus monotonic time.
        floor_ns: No stamp of this stretch is below this UTC time; 0: no floor.
    """

    since_ns: int
    offset_ns: int
    floor_ns: int = 0

    def utc_ns(self, monotonic_ns: int) -> int:
        """UTC for a monotonic time of this stretch."""
        return max(monotonic_ns + self.offset_ns, self.floor_ns)


class Clock:
    """Monotonic time and the UTC made from it. `update()` is to be called about once a second.

    Args:
        monotonic_ns: The monotonic clock; a test brings its own.
        wall_ns: The system clock, UTC.
        is_synchronised: Whether the system clock is disciplined.
    """

    def __init__(
        self,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        is_synchronised: Callable[[], bool] | None = None,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._ask_synchronised = clock_is_synchronised if is_synchronised is None else is_synchronised
        now_ns, offset_ns = self._read()
        self._stretches = [Stretch(now_ns, offset_ns)]
        self._starts = [now_ns]
        self.steps_count = 0
        self.is_synchronised = self._ask_synchronised()

    def now_ns(self) -> int:
        """Monotonic time in nanoseconds; its zero means nothing."""
        return self._monotonic_ns()

    def utc_ns(self, monotonic_ns: int | None = None) -> int:
        """UTC, nanoseconds since 1970, of a monotonic time of this boot; without one, of now."""
        if monotonic_ns is None:
            return self._stretches[-1].utc_ns(self._monotonic_ns())
        index = max(0, bisect_right(self._starts, monotonic_ns) - 1)
        return self._stretches[index].utc_ns(monotonic_ns)

    @property
    def stretch(self) -> Stretch:
        """The stretch of now: what the scan engine needs to stamp by itself."""
        return self._stretches[-1]

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """All stretches of this boot that are remembered, oldest first."""
        return tuple(self._stretches)

    def update(self) -> int:
        """Compare with the system clock, and begin a new stretch if that was stepped.

        Returns:
            By how many nanoseconds it was stepped, negative for back; 0: it was not.
        """
        self.is_synchronised = self._ask_synchronised()
        now_ns, offset_ns = self._read()
        step_ns = offset_ns - self._stretches[-1].offset_ns
        if abs(step_ns) < _STEP_NS:
            return 0
        latest_ns = self._stretches[-1].utc_ns(now_ns)
        is_held = 0 < latest_ns - (now_ns + offset_ns) <= _HOLD_MAX_NS
        self._stretches.append(Stretch(now_ns, offset_ns, latest_ns if is_held else 0))
        self._starts.append(now_ns)
        if len(self._stretches) > _STRETCHES_COUNT_MAX:
            del self._stretches[0], self._starts[0]
        self.steps_count += 1
        return step_ns

    def _read(self) -> tuple[int, int]:
        """Monotonic time and offset, read as close together as a busy machine allows."""
        best_ns, now_ns, offset_ns = -1, 0, 0
        for _ in range(_READ_TRIES):
            before_ns = self._monotonic_ns()
            wall_ns = self._wall_ns()
            gap_ns = self._monotonic_ns() - before_ns
            if best_ns < 0 or gap_ns < best_ns:
                best_ns, now_ns = gap_ns, before_ns + gap_ns
                offset_ns = wall_ns - (before_ns + gap_ns // 2)
        return now_ns, offset_ns


def clock_is_synchronised() -> bool:
    """Whether systemd-timesyncd has set the system clock since boot; without that service, no."""
    return os.path.exists(_SYNCHRONISED_PATH)


def format_time_ns(time_ns: int) -> str:
    """`time_ns`, UTC nanoseconds since 1970, as ISO 8601 with microseconds: ``2026-11-22T09:00:00.123456Z``."""
    seconds, rest_ns = divmod(time_ns, _NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"


def parse_time_ns(text: str) -> int:
    """UTC nanoseconds since 1970 of an ISO 8601 text with its offset from UTC (``Z`` or ``+01:00``).

    Raises:
        ValueError: No such text, or no offset: local time means something else on every machine.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} does not say its offset from UTC; end it with 'Z'")
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds) * 1_000
