"""How late the event loop is while net, disk or clock of an uplink are not well, and that everything arrives all the same.

The scenarios are those of `tests/interop/test_uplink_faults.py`, each for a few seconds with 1,000 samples a second, the faulty relay and
the plant in the same loop. Measured is from the first sample to the last acknowledgement.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.ratio import require_at_most
from tests.interop.peers.uplink_faults import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_loop_goes_on(name: str, tmp_path: Path) -> None:
    suffered = asyncio.run(SCENARIOS[name](tmp_path))
    assert suffered.ledger["acknowledged"] == suffered.fed
    print(
        f"\n{name}: {suffered.fed:,} samples, all acknowledged; the loop was late by {max(suffered.watch.lags_s) * 1e3:.1f} ms at most"
    )
    require_at_most("uplink_loop_lag_ms", suffered.watch.p99_s * 1e3)
