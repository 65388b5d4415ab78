"""Backoff and circuit breaker, with chance and time given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost.core.retry import Backoff, BreakerState, CircuitBreaker


def test_delays_double_up_to_the_cap_and_begin_again_after_a_success():
    backoff = Backoff(100, 1_000, lambda: 0.5)
    assert [backoff.next_delay_ns() for _ in range(6)] == [50, 100, 200, 400, 500, 500]
    backoff.succeeded()
    assert backoff.next_delay_ns() == 50


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.floats(0, 1, exclude_max=True), st.integers(1, 200))
def test_a_delay_is_never_over_the_cap(base, more, chance, tries):
    backoff = Backoff(base, base + more, lambda: chance)
    for _ in range(tries):
        assert 0 <= backoff.next_delay_ns() <= base + more


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (2, 1), (-1, 1)])
def test_impossible_backoffs_are_refused(base, cap):
    with pytest.raises(ValueError):
        Backoff(base, cap, lambda: 0.0)


def test_breaker_opens_probes_and_closes():
    breaker = CircuitBreaker(2, open_ns=100)
    assert breaker.allows(0)
    breaker.failed(0)
    assert breaker.allows(1)
    breaker.failed(1)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows(100)
    assert breaker.allows(101)
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.allows(102)
    breaker.failed(103)
    assert not breaker.allows(202)
    assert breaker.allows(203)
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    breaker.failed(204)
    assert breaker.allows(205)


@pytest.mark.parametrize(("failures", "open_ns"), [(0, 1), (1, -1)])
def test_impossible_breakers_are_refused(failures, open_ns):
    with pytest.raises(ValueError):
        CircuitBreaker(failures, open_ns)
