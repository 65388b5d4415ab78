"""How much memory the gateway takes, and how soon it has a value: a small one, one with 10,000 tags, one with a million records to send.

Memory is what the kernel says is resident, of the gateway's process alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bifrost._native import journal_records as j
from bifrost.bridge.buffering.journal import Journal, SyncThread
from bifrost.bridge.envelope import seal
from bifrost.core.contracts import Record
from tests.interop.peers.brokers import free_port
from tests.interop.peers.uplink_bench import Broker, Program, wait_for
from tests.interop.test_gateway_process import GatewayProcess

pytestmark = pytest.mark.interop

MB = 1_000_000
IDLE_BYTES_MAX = 40 * MB
LARGE_BYTES_MAX = 60 * MB
BACKLOG_BYTES_MAX = 10 * MB
FIRST_VALUE_S_MAX = 2.0
TAGS_COUNT = 10_000
RECORDS_COUNT = 1_000_000


class Bench:
    """A plant with 65,536 registers, a broker, and a gateway to be configured."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        command = (sys.executable, "-m", "tests.interop.peers.counting_plant", str(self.port), "1000")
        self.plant = Program(*command, log=directory / "plant.log", talks=True)
        self.broker = Broker(directory)
        self.gateway = GatewayProcess(directory, self.port)

    def configure(self, tags_count: int, *, opcua: bool = False, broker_port: int = 0) -> None:
        lines = ["name,address,type", *(f"tag_{number:05d},hr:{number},uint16" for number in range(tags_count))]
        (self.directory / "tags.csv").write_text("\n".join(lines) + "\n")
        text = f"""
            [gateway]
            name = "test"
            data_dir = "{self.gateway.data_dir}"
            [[device]]
            name = "plant"
            url = "modbus-tcp://127.0.0.1:{self.port}"
            tags = "tags.csv"
            [[uplink]]
            name = "up"
            url = "mqtt://127.0.0.1:{broker_port or self.broker.port}"
        """
        self.gateway.config.write_text(text + (f'[opcua]\nbind = "127.0.0.1:{free_port()}"\n' if opcua else ""))

    def resident_bytes(self) -> int:
        assert self.gateway.process is not None
        statm = Path(f"/proc/{self.gateway.process.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def status(self) -> dict[str, Any]:
        shown = self.gateway.bifrost("status", "--json")
        status: dict[str, Any] = json.loads(shown.stdout)
        return status

    def settle(self) -> int:
        """Resident memory once it no longer grows."""
        time.sleep(5)
        return self.resident_bytes()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        made.plant.start()
        made.broker.start()
        yield made
    finally:
        made.gateway.kill()
        made.broker.kill()
        made.plant.kill()


def test_small_gateway_is_small_and_quick(bench: Bench):
    bench.configure(10)
    started_s = time.monotonic()
    bench.gateway.start()
    wait_for(lambda: bench.gateway.quality("plant.tag_00000") == "Good", bench.gateway.log.read_text)
    assert time.monotonic() - started_s < FIRST_VALUE_S_MAX
    assert bench.settle() <= IDLE_BYTES_MAX


@pytest.mark.slow
def test_ten_thousand_tags_that_change_each_second_fit(bench: Bench):
    bench.configure(TAGS_COUNT, opcua=True)
    bench.gateway.start()
    wait_for(lambda: bench.status()["tags"]["good"] == TAGS_COUNT, bench.gateway.log.read_text)
    time.sleep(10)
    resident, ledger = bench.settle(), bench.status()["uplinks"][0]["ledger"]
    assert resident <= LARGE_BYTES_MAX
    assert ledger["acknowledged"] > 10 * TAGS_COUNT
    assert ledger["acquired"] - ledger["acknowledged"] <= 2 * TAGS_COUNT
    assert sum(ledger["dropped"].values()) == 0


@pytest.mark.slow
def test_million_records_to_send_cost_little_at_start(bench: Bench):
    dead_port = free_port()
    bench.configure(10, broker_port=dead_port)
    bench.gateway.start()
    without = bench.settle()
    assert bench.gateway.end(signal.SIGTERM) == 0
    asyncio.run(fill(bench.gateway.data_dir / "journal" / "up", RECORDS_COUNT))
    bench.gateway.start()
    grown = bench.settle() - without
    assert grown <= BACKLOG_BYTES_MAX
    assert bench.status()["uplinks"][0]["ledger"]["buffered"] >= RECORDS_COUNT


async def fill(directory: Path, count: int) -> None:
    """A journal with `count` records of one sample each."""
    thread = SyncThread()
    limits = j.JournalLimits(
        segment_bytes=4 << 20, segments_count_max=63, batch_bytes=8 << 20, record_bytes_max=66 << 10
    )
    journal = await Journal.open(directory, limits, thread, now_ns=time.time_ns())
    number = await journal.stream("up")
    payload = seal(Record(0, b'{"seq":1,"samples":[]}', "bifrost/test/plant", "", "application/json"))
    for _ in range(count):
        while journal.append(number, payload, 1, 1, 1) is None:
            await journal.commit(now_ns=time.time_ns(), flags=0)
    await journal.commit(now_ns=time.time_ns())
    await journal.close()
    thread.close()
