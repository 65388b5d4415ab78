"""The clock on fake clocks: steps forward, a little back, a lot back; and times as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost.core.clock import Clock, clock_is_synchronised, format_time_ns, parse_time_ns

_S = 1_000_000_000
_NOON = 1_800_000_000 * _S


class FakeClocks:
    """A monotonic clock and a system clock that can be stepped."""

    def __init__(self):
        self.monotonic_ns = 50 * _S
        self.wall_ns = _NOON
        self.is_synchronised = False

    def pass_time(self, time_ns):
        self.monotonic_ns += time_ns
        self.wall_ns += time_ns

    def make(self):
        return Clock(lambda: self.monotonic_ns, lambda: self.wall_ns, lambda: self.is_synchronised)


@pytest.fixture
def clocks():
    return FakeClocks()


def test_utc_follows_the_monotonic_clock(clocks):
    clock = clocks.make()
    assert (clock.now_ns(), clock.utc_ns()) == (50 * _S, _NOON)
    clocks.pass_time(3 * _S)
    clocks.wall_ns += 400_000  # Less than a step: jitter.
    assert clock.update() == 0
    assert clock.utc_ns() == _NOON + 3 * _S
    assert clock.utc_ns(51 * _S) == _NOON + 1 * _S


def test_a_step_forward_is_taken_at_once_and_old_stamps_keep_their_meaning(clocks):
    clock = clocks.make()
    clocks.pass_time(_S)
    clocks.wall_ns += 3_600 * _S
    assert clock.utc_ns() == _NOON + _S
    assert clock.update() == 3_600 * _S
    assert clock.utc_ns() == _NOON + 3_601 * _S
    assert clock.utc_ns(50 * _S) == _NOON
    assert clock.utc_ns(0) == _NOON - 50 * _S
    assert clock.steps_count == 1


def test_after_a_small_step_back_time_stands_still_until_it_has_caught_up(clocks):
    clock = clocks.make()
    clocks.pass_time(_S)
    clocks.wall_ns -= 5 * _S
    assert clock.update() == -5 * _S
    assert clock.utc_ns() == _NOON + _S
    clocks.pass_time(4 * _S)
    assert clock.utc_ns() == _NOON + _S
    clocks.pass_time(2 * _S)
    assert clock.utc_ns() == clocks.wall_ns == _NOON + 2 * _S
    assert clock.stretch.floor_ns == _NOON + _S


def test_a_large_step_back_is_taken_at_once(clocks):
    clock = clocks.make()
    clocks.wall_ns -= 365 * 86_400 * _S
    assert clock.update() < 0
    assert clock.utc_ns() == clocks.wall_ns
    assert clock.stretch.floor_ns == 0


@given(st.lists(st.tuples(st.integers(0, 10 * _S), st.integers(-3 * _S, 100 * _S)), max_size=20))
def test_no_later_sample_is_stamped_before_an_earlier_one(moves):
    clocks = FakeClocks()
    clock = clocks.make()
    latest = clock.utc_ns()
    for passed, step in moves:
        clocks.pass_time(passed)
        assert clock.utc_ns() >= latest
        latest = clock.utc_ns()
        clocks.wall_ns += step
        held = clock.stretch.utc_ns(clock.now_ns()) - clocks.wall_ns
        clock.update()
        if held > 10 * _S:
            latest = clock.utc_ns()
        assert clock.utc_ns() >= latest


def test_a_clock_that_steps_without_end_is_remembered_in_part(clocks):
    clock = clocks.make()
    for _ in range(100):
        clocks.pass_time(_S)
        clocks.wall_ns += _S
        clock.update()
    assert (len(clock.stretches), clock.steps_count) == (64, 100)
    assert clock.utc_ns() == clocks.wall_ns


def test_synchronised_is_asked_again_at_each_update(clocks):
    clock = clocks.make()
    assert clock.is_synchronised is False
    clocks.is_synchronised = True
    clock.update()
    assert clock.is_synchronised is True


def test_offset_is_taken_from_the_closest_pair_of_readings():
    monotonic = iter([0, 100, 100, 110, 110, 210])
    clock = Clock(lambda: next(monotonic), lambda: 1_000, lambda: True)
    assert (clock.stretch.since_ns, clock.stretch.offset_ns) == (110, 1_000 - 105)


def test_the_real_clock_runs():
    clock = Clock()
    assert clock.utc_ns() > 1_700_000_000 * _S
    assert clock.is_synchronised is clock_is_synchronised()


def test_times_as_text():
    assert format_time_ns(1_795_338_000_123_456_789) == "2026-11-22T09:00:00.123456Z"
    assert format_time_ns(0) == "1970-01-01T00:00:00.000000Z"
    assert format_time_ns(-1_000) == "1969-12-31T23:59:59.999999Z"
    assert parse_time_ns("2026-11-22T10:00:00.123456+01:00") == 1_795_338_000_123_456_000
    with pytest.raises(ValueError, match="offset from UTC"):
        parse_time_ns("2026-11-22T10:00:00")


@given(st.integers(-(10**9), 4 * 10**9), st.integers(0, 999_999))
def test_text_of_a_time_reads_back(seconds, microseconds):
    time_ns = seconds * _S + microseconds * 1_000
    assert parse_time_ns(format_time_ns(time_ns)) == time_ns
