"""Faults of net, disk and clock under a whole uplink: nothing crashes, nothing is lost, the ledger is right, it goes on by itself.

Disk faults are tried on each native core and at every so-many-th call of the disk; that the Nth call may be any is in `tests/crash`.
"""

from __future__ import annotations

import asyncio
import errno
import json
from typing import Any

import pytest

from tests.interop.peers import brokers, uplink_faults
from tests.interop.peers.uplink_faults import SCENARIOS, Suffered, bad_disk, full_disk, wrong_clock

pytestmark = pytest.mark.interop

OF_THE_NET = ("half open", "black hole", "reset", "slow", "refusing", "expired certificate")


def check(suffered: Suffered) -> None:
    assert suffered.ledger["acknowledged"] == suffered.ledger["acquired"] == suffered.fed, suffered.ledger
    assert suffered.live.record()["ledger"] is None, "it was stopped, and not by a failure"


@pytest.mark.parametrize("name", OF_THE_NET)
def test_what_happens_on_the_way_loses_nothing(name, tmp_path):
    check(asyncio.run(SCENARIOS[name](tmp_path)))


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(
    ("kinds", "outcome"),
    [
        (("open", "allocate", "read", "write", "sync"), -errno.EIO),
        (("allocate", "write"), -errno.ENOSPC),
        (("write",), 0),
        (("sync",), -errno.EIO),
    ],
    ids=["EIO", "ENOSPC", "short write", "failing fsync"],
)
def test_disk_that_fails_loses_nothing(backend, kinds, outcome, every, tmp_path):
    check(asyncio.run(bad_disk(tmp_path, kinds, outcome, every, backend)))


def test_disk_that_was_full_loses_nothing(backend, tmp_path):
    check(asyncio.run(full_disk(tmp_path, backend)))


def test_samples_of_a_wrong_clock_say_so_and_keep_their_order(tmp_path):
    port = brokers.free_port()
    samples: list[dict[str, Any]] = []

    async def run() -> None:
        with brokers.mosquitto(tmp_path, uplink_faults.listener(port), port):
            subscriber = brokers.Subscriber(port, "bifrost/#", {"-q": "1", "-F": "%p"})
            try:
                (tmp_path / "uplink").mkdir()
                suffered = await wrong_clock(tmp_path / "uplink", port)
                check(suffered)
                while len(samples) < suffered.fed:
                    for line in await asyncio.to_thread(subscriber.lines, 1):
                        samples.extend(json.loads(line)["samples"])
            finally:
                subscriber.close()

    asyncio.run(run())
    values = [sample["value"] for sample in samples]
    firsts = list(dict.fromkeys(values))  # What was in flight when the line was held up may come twice.
    assert firsts == sorted(firsts)
    years = [sample["source_time"][:4] for sample in samples]
    assert years[0] == "1970"
    assert "clock" not in samples[-1]
    assert all(
        sample.get("clock") == "unsynchronised" for sample, year in zip(samples, years, strict=True) if year == "1970"
    )
