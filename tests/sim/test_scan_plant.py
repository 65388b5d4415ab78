"""A simulated plant full of faults: both scan engines say the same, and no value is wrong, old, or of the wrong tag.

A failing test names its seed; `World(seed, …).run()` repeats it exactly.
"""

from __future__ import annotations

import pytest

from tests.sim.world import World


@pytest.mark.parametrize("seed", range(4))
def test_ten_minutes_of_faults(seed):
    seen = World(seed, links=3, seconds=600, trouble_s=1.0).run()
    assert seen["good changes"] > 1_000


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_day_of_faults():
    seen = World(86_400, links=8, seconds=86_400, trouble_s=5.0).run()
    assert seen["good changes"] > 500_000
    for what in (
        "down 1",
        "down 2",
        "down 3",
        "down 4",
        "unit 0",
        "unit 1",
        "done 0",
        "done 1",
        "done 2",
        "done 3",
        "done 5",
    ):
        assert seen[what] > 0, what
