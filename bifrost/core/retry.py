"""When to try again: backoff with full jitter, and a circuit breaker. Pure: time and chance are arguments.

This is the one place for it. Drivers and connectors never retry by themselves; their callers ask here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

__all__ = ["Backoff", "BreakerState", "CircuitBreaker"]

_DOUBLINGS_MAX = 62  # Keeps the product below 64 bits; the cap is reached long before.


class Backoff:
    """Delays that grow with each failure in a row, spread so that many clients do not come back at once.

    The delay before try n is uniform in [0, min(cap, base x 2^n)] ("full jitter"; M. Brooker, AWS Architecture Blog,
    2015).

    Args:
        base_ns: Ceiling of the first delay, more than 0.
        cap_ns: Ceiling of all delays, not below `base_ns`.
        random: Uniform numbers in [0, 1).
    """

    def __init__(self, base_ns: int, cap_ns: int, random: Callable[[], float]) -> None:
        if not 0 < base_ns <= cap_ns:
            raise ValueError(f"0 < base_ns <= cap_ns must hold, not {base_ns} and {cap_ns}")
        self._base_ns = base_ns
        self._cap_ns = cap_ns
        self._random = random
        self.failures_count = 0

    def next_delay_ns(self) -> int:
        """One more failure: how long to wait before the next try, in nanoseconds."""
        ceiling_ns = min(self._cap_ns, self._base_ns << min(self.failures_count, _DOUBLINGS_MAX))
        self.failures_count += 1
        return int(self._random() * ceiling_ns)

    def succeeded(self) -> None:
        """It worked: the next failure begins at the base again."""
        self.failures_count = 0


class BreakerState(StrEnum):
    """State of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class CircuitBreaker:
    """Stops asking what does not answer: closed (all pass), open (none pass), half open (one probe passes).

    Args:
        failures_max: Failures in a row that open it, 1 or more.
        open_ns: Time until one probe is let through.
    """

    def __init__(self, failures_max: int, open_ns: int) -> None:
        if failures_max < 1 or open_ns < 0:
            raise ValueError(f"failures_max >= 1 and open_ns >= 0 must hold, not {failures_max} and {open_ns}")
        self._failures_max = failures_max
        self._open_ns = open_ns
        self._failures_count = 0
        self._probe_at_ns = 0
        self.state = BreakerState.CLOSED

    def allows(self, now_ns: int) -> bool:
        """Whether a request may be made now. A True while it is not closed is the probe: report how it went."""
        if self.state is BreakerState.OPEN and now_ns >= self._probe_at_ns:
            self.state = BreakerState.HALF_OPEN
            return True
        return self.state is BreakerState.CLOSED

    def succeeded(self) -> None:
        """A request was answered."""
        self.state = BreakerState.CLOSED
        self._failures_count = 0

    def failed(self, now_ns: int) -> None:
        """A request was not answered."""
        self._failures_count += 1
        if self.state is BreakerState.HALF_OPEN or self._failures_count >= self._failures_max:
            self.state = BreakerState.OPEN
            self._probe_at_ns = now_ns + self._open_ns
