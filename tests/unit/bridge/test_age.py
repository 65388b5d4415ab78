"""How old a record is does not depend on what the system clock does: a day off, a year off, or 1970 until somebody sets it.

A real clock on a system clock that is stepped. Commits come every ten minutes, as the committer's housekeeping does more often.
"""

from __future__ import annotations

import asyncio

import pytest

from bifrost.bridge.age import AgeClock, stamp_ns
from bifrost.bridge.ledger import Reason
from bifrost.core.clock import Clock
from tests.unit.bridge.rig import T0, FakeEncoder, Rig, opened

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
PER_SEGMENT = 16  # Messages of a kilobyte.


class SteppedClock(Clock):
    """A clock whose system clock is `ahead_ns` ahead, and whose monotonic clock stands still at `ns`."""

    def __init__(self, ahead_ns: int, *, is_synchronised: bool = True) -> None:
        self.ns = DAY
        self.ahead_ns = ahead_ns
        super().__init__(lambda: self.ns, lambda: max(0, T0 + self.ns + self.ahead_ns), lambda: is_synchronised)


async def pass_time(rig: Rig, clock: SteppedClock, duration_ns: int) -> None:
    for _ in range(duration_ns // (10 * MINUTE)):
        clock.ns += 10 * MINUTE
        clock.update()
        await rig.keep(3)


@pytest.mark.parametrize(
    ("before_ns", "after_ns"),
    [(0, DAY), (0, -DAY), (DAY, 0), (-DAY, 0), (0, 400 * DAY), (400 * DAY, 0), (-T0, 0)],
    ids=["a day ahead", "a day back", "was ahead", "was behind", "a year ahead", "was a year ahead", "was 1970"],
)
def test_step_of_the_clock_makes_no_record_older_or_younger(tmp_path, before_ns, after_ns):
    async def run():
        rig = Rig(tmp_path)
        rig.age_max_ns = 8 * HOUR
        rig.limits = rig.limits._replace(segments_count_max=60)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        rig.clock = clock = SteppedClock(before_ns)
        async with opened(rig):
            await pass_time(rig, clock, 6 * HOUR)
            kept = rig.balance()["buffered"]
            clock.ahead_ns = after_ns
            await pass_time(rig, clock, HOUR)
            assert rig.dropped(Reason.AGE) == 0
            assert rig.balance()["buffered"] == kept + 3 * 6
            await pass_time(rig, clock, 10 * HOUR)
            dropped = rig.dropped(Reason.AGE)
            assert dropped > 0
            # What is left is not older than 8 hours, and what of their first segments and the one under way is not told apart.
            assert 3 * 48 <= rig.balance()["buffered"] <= 3 * (48 + 3 * PER_SEGMENT)

    asyncio.run(run())


def test_clock_that_nobody_sets_makes_nothing_expire(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        rig.age_max_ns = HOUR
        rig.limits = rig.limits._replace(segments_count_max=60)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        rig.clock = clock = SteppedClock(-T0)
        async with opened(rig):
            await pass_time(rig, clock, 20 * HOUR)
            assert rig.dropped(Reason.AGE) == 0

    asyncio.run(run())


def test_clock_that_was_never_set_says_no_age_and_gives_no_stamp():
    clock = SteppedClock(-T0)
    age = AgeClock(clock, HOUR, 0)
    assert age.stamp_ns() == stamp_ns(clock) == 0
    assert age.expire_before_ns() == 0


@pytest.mark.parametrize(("is_synchronised", "off_ns"), [(True, DAY), (False, 0)])
def test_time_in_which_the_gateway_was_off_counts_if_the_clock_is_synchronised(is_synchronised, off_ns):
    clock = SteppedClock(DAY, is_synchronised=is_synchronised)
    committed_ns = clock.utc_ns() - DAY
    age = AgeClock(clock, HOUR, committed_ns)
    assert age.expire_before_ns() == committed_ns + off_ns - HOUR
    clock.ns += HOUR
    assert age.expire_before_ns() == age.stamp_ns() - HOUR


def test_what_the_process_before_wrote_is_not_older_by_a_step_either():
    clock = SteppedClock(0)
    committed_ns = clock.utc_ns() - 10 * MINUTE
    clock.ns += MINUTE
    age = AgeClock(clock, HOUR, committed_ns)
    clock.ahead_ns = DAY
    clock.update()
    assert age.expire_before_ns() == committed_ns + 11 * MINUTE - HOUR


def test_record_is_looked_at_once_more_before_it_is_sent_and_no_step_makes_it_too_old(backend, tmp_path):
    async def run():
        rig = Rig(tmp_path, backend)
        rig.age_max_ns = HOUR
        rig.clock = clock = SteppedClock(-T0)
        async with opened(rig):
            for ahead_ns in (-T0, 0, DAY, -DAY, -T0, 400 * DAY):
                clock.ahead_ns = ahead_ns
                clock.update()
                await rig.keep(30)
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert rig.values(rig.connector.delivered) == list(range(1, 181)), "all, in the order they came"

    asyncio.run(run())
