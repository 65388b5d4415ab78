"""How old what waits is, when the clock cannot be believed: `age_max` must never drop what is young.

What waits was stamped by the clock of its time, and the clock remembers each stretch between two steps. The earliest stamp
that it can have given within `age_max` is the limit: what is older than that is too old, whichever stretch it is of. So
what is wrong is wrong in one direction, things are kept too long, and the disk cap still holds.

What the clock did while the gateway was off nobody knows. Unless it is synchronised, that time counts for nothing: a
machine that starts with the clock of next week has only the last commit to go by.

Pure but for the clock it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bifrost.core.clock import Clock

__all__ = ["PLAUSIBLE_NS", "AgeClock", "stamp_ns"]

PLAUSIBLE_NS: Final = 1_735_689_600_000_000_000
"""2025-01-01: a clock before it was never set, and a stamp before it says no age."""


def stamp_ns(clock: Clock) -> int:
    """UTC for what is written now; 0 while the clock was never set."""
    utc_ns = clock.utc_ns()
    return utc_ns if utc_ns >= PLAUSIBLE_NS else 0


class AgeClock:
    """Time for ages.

    Args:
        clock: Monotonic time and UTC.
        age_max_ns: What is older is to be dropped.
        committed_ns: UTC of the last commit of the process before; 0: there was none, or its clock was not set.
    """

    def __init__(self, clock: Clock, age_max_ns: int, committed_ns: int) -> None:
        self._clock = clock
        self._age_max_ns = age_max_ns
        self._started_ns = clock.now_ns()
        self._committed_ns = 0 if clock.is_synchronised else committed_ns

    def stamp_ns(self) -> int:
        """See `stamp_ns`."""
        return stamp_ns(self._clock)

    def expire_before_ns(self) -> int:
        """What was stamped before this UTC time is too old; 0 while nobody can know."""
        now_ns, before_ns = self._clock.now_ns(), self.stamp_ns() - self._age_max_ns
        then_ns = now_ns - self._age_max_ns
        ended_ns, (first, *_) = now_ns, self._clock.stretches
        for stretch in reversed(self._clock.stretches):
            is_first = stretch is first  # It holds for the process before, too.
            stamp = stretch.utc_ns(then_ns if is_first else max(then_ns, stretch.since_ns))
            if ended_ns >= then_ns and stamp >= PLAUSIBLE_NS:  # Else it was not set then, and has nothing to say.
                before_ns = min(before_ns, stamp)
            ended_ns = stretch.since_ns
        elapsed_ns = now_ns - self._started_ns
        if self._committed_ns and elapsed_ns < self._age_max_ns:
            before_ns = min(before_ns, self._committed_ns + elapsed_ns - self._age_max_ns)
        return max(0, before_ns)
