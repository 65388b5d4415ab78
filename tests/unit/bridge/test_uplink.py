"""An uplink, whole: it keeps what the plant says while it runs, over failures of its parts, stops and starts."""

from __future__ import annotations

import asyncio
import errno
import json
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bifrost._native import backend as native
from bifrost._native import records
from bifrost._native._py_journal_io import SystemIO
from bifrost.bridge.buffering.journal import SyncThread
from bifrost.bridge.drops import Burst
from bifrost.bridge.ledger import Reason
from bifrost.bridge.uplink import Place, Uplink, journal_limits, uplink_region
from bifrost.core.clock import Clock
from bifrost.core.config import Config, load_config
from bifrost.core.contracts import Outcome
from bifrost.core.datatypes import parse_type
from bifrost.core.errors import ConfigError, StorageError
from bifrost.core.table import Batch, RowColumns, TagTable
from tests.unit.bridge.rig import FakeClock, FakeConnector

CONFIGURATION = """
[gateway]
name = "line-3"
data_dir = "{directory}"
[[device]]
name = "boiler"
url = "modbus-tcp://127.0.0.1:502"
{tags}
[[uplink]]
name = "plant"
url = "mqtt://127.0.0.1:1883"
linger = "10 ms"
{uplink}
"""
TAG = '[[device.tag]]\nname = "{name}"\naddress = {address}\ntype = "int16"\n'
RING = 256


class House:
    """What an uplink shares with its gateway, and the uplink."""

    def __init__(self, directory: Path, uplink: str = "", tags: str = "abc") -> None:
        self.directory = directory
        self.config = self.load(uplink, tags)
        self.bursts: list[tuple[str, Burst]] = []
        self.connector = FakeConnector()
        self.thread = SyncThread()
        table = TagTable(native.make_table(records.TableLimits(64, RING, 64, 64)), 64)
        table.define(RowColumns.from_types([(parse_type("int16"), False)] * 8))
        table.name_of = lambda row: self.config.tags.full_name(row)
        self.table = table
        self.place = Place(
            gateway="line-3",
            directory=directory,
            table=table,
            tags=self.config.tags,
            limits=self.config.limits,
            clock=Clock(),
            thread=self.thread,
            on_burst=lambda name, burst: self.bursts.append((name, burst)),
        )
        self.uplink = Uplink(self.config.uplinks[0], self.connector, self.place)

    def load(self, uplink: str, tags: str) -> Config:
        path = self.directory / "gateway.toml"
        lines = "".join(TAG.format(name=name, address=40_001 + index) for index, name in enumerate(tags))
        path.write_text(CONFIGURATION.format(directory=self.directory, tags=lines, uplink=uplink))
        return load_config(str(path), {})

    def put(self, row: int, *values: int) -> None:
        clock = self.place.clock
        for value in values:
            batch = Batch(array("I", [row]), [value], clock.utc_ns())
            self.table.put(batch, server_time_ns=clock.utc_ns(), now_ns=clock.now_ns())

    def ledger(self) -> dict[str, Any]:
        record: dict[str, Any] = self.uplink.record()
        return record["ledger"] or {}

    async def until(self, **expected: int) -> None:
        """Waits until the ledger says so."""
        async with asyncio.timeout(10):
            while any(
                self.ledger().get(name) != count for name, count in expected.items()
            ):  # what is waited for has no event
                await asyncio.sleep(0.005)

    def delivered(self) -> list[tuple[str, int]]:
        samples = [sample for record in self.connector.delivered for sample in json.loads(record.payload)["samples"]]
        return [(sample["tag"], sample["value"]) for sample in samples]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.uplink.run())
            try:
                yield
            finally:
                task.cancel()


@asynccontextmanager
async def house(directory: Path, **settings: str) -> AsyncIterator[House]:
    made = House(directory, **settings)
    try:
        yield made
        await made.uplink.close()
        await made.uplink.close()
    finally:
        made.thread.close()


def test_changes_reach_the_destination_as_the_contract_spells_them(tmp_path):
    async def run():
        async with house(tmp_path) as made, made.running():
            made.put(0, 1, 2)
            made.put(2, 7)
            await made.until(acknowledged=3, buffered=0)
            (record,) = made.connector.delivered
            payload = json.loads(record.payload)
            assert record.topic == "bifrost/line-3/boiler"
            assert (payload["gateway"], payload["device"], payload["stream"], payload["seq"]) == (
                "line-3",
                "boiler",
                "plant",
                1,
            )
            assert made.delivered() == [("a", 1), ("a", 2), ("c", 7)]
            assert made.uplink.record()["state"] == "connected"

    asyncio.run(run())


def test_only_the_tags_chosen_and_only_changes_beyond_the_deadband_are_sent(tmp_path):
    async def run():
        async with house(tmp_path, uplink='tags = ["*.b"]\ndeadband = 5') as made, made.running():
            made.put(0, 1, 2)
            made.put(1, 10, 12, 16, 17, 22)
            await made.until(acknowledged=3)
            assert made.delivered() == [("b", 10), ("b", 16), ("b", 22)]
            assert made.ledger()["acquired"] == 5
            assert made.ledger()["dropped"]["deadband"] == 2

    asyncio.run(run())


def test_what_was_read_before_a_stop_is_delivered_after_the_next_start(tmp_path):
    async def run():
        async with house(tmp_path) as made:
            made.connector.refuse_open = "nobody is there"
            async with made.running():
                made.put(0, 1)
                await made.until(acquired=1)
            made.put(0, *range(2, 50))  # After the last reading, before the stop.
        async with house(tmp_path) as made, made.running():
            await made.until(acknowledged=49, buffered=0)
            assert [value for _, value in made.delivered()] == list(range(1, 50))
            assert made.ledger()["unclean_stop"] is None

    asyncio.run(run())


def test_part_that_fails_costs_no_sample(tmp_path):
    async def run():
        async with house(tmp_path) as made:
            made.connector.answer = lambda record: Outcome[f"{record.sequence}"]  # A bug in the connector.
            made.put(0, 1)
            with pytest.raises(ExceptionGroup, match="unhandled"):
                await made.uplink.run()
            made.put(0, 2, 3)
            made.connector.answer = lambda record: Outcome.DELIVERED
            async with made.running():
                await made.until(acknowledged=3, buffered=0, acquired=3)
            assert [value for _, value in made.delivered()] == [1, 2, 3]

    asyncio.run(run())


def test_uplink_follows_the_tags_of_a_reload_without_losing_what_was_there(tmp_path):
    async def run():
        async with house(tmp_path, uplink='tags = ["*.a", "*.d"]') as made, made.running():
            await made.until(acquired=0)
            made.put(0, 1)
            made.put(3, 8)
            made.config = made.load('tags = ["*.a", "*.d"]', "abcd")
            made.uplink.follow(made.config.tags, made.config.tags.select(made.uplink.config.tags))
            made.put(0, 2)
            made.put(3, 9)
            await made.until(acknowledged=3, buffered=0)
            assert made.delivered() == [("a", 1), ("a", 2), ("d", 9)]
            assert made.uplink.position == made.table.native.ring_head()

    asyncio.run(run())


def test_burst_of_lapped_samples_is_reported_and_counted(tmp_path):
    async def run():
        async with house(tmp_path) as made:
            made.put(0, *range(1, RING + 11))
            async with made.running():
                await made.until(acquired=RING + 10, buffered=0)
                async with asyncio.timeout(10):
                    while not made.bursts:  # what is waited for has no event
                        await asyncio.sleep(0.01)
            assert made.bursts == [("plant", Burst(Reason.LAPPED, 10, is_over=False))]
            assert made.ledger()["dropped"]["lapped"] == 10

    asyncio.run(run())


def test_settings_that_cannot_work_are_refused_before_anything_is_opened(tmp_path):
    def refusal(uplink: str) -> str:
        config = House(tmp_path).load(uplink, "abc")
        with pytest.raises(ConfigError) as caught:
            Uplink.check(config.uplinks[0], "line-3", config.limits)
        return str(caught.value)

    assert "needs a buffer of" in refusal('batch_bytes_max = "1 MiB"\n[uplink.buffer]\ndisk_bytes_max = "2 MiB"')
    assert "batch_bytes_max" in refusal('batch_bytes_max = "256 MiB"\n[uplink.buffer]\ndisk_bytes_max = "10 GiB"')


@pytest.mark.parametrize("disk", ["1 MiB", "10 MiB", "256 MiB", "10 GiB"])
def test_journal_stays_within_the_disk_it_may_use(tmp_path, disk):
    config = House(tmp_path).load(f'[uplink.buffer]\ndisk_bytes_max = "{disk}"', "a")
    uplink = config.uplinks[0]
    sizes = journal_limits(uplink, config.limits)
    files_count = sizes.segments_count_max + 2  # Beside the segments: what is kept of a damaged one, and one to spare.
    assert sizes.segment_bytes * files_count + (8 << 10) <= uplink.buffer.disk_bytes_max
    assert sizes.segments_count_max >= 4
    assert native.journal_bytes(sizes) > 0
    assert uplink_region(uplink, config.limits).bytes > native.journal_bytes(sizes)


class HalfReadable:
    """A native core on a disk that gives the first segment of a journal back no more."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def journal_bytes(self, limits: Any) -> int:
        return int(self.backend.journal_bytes(limits))

    def open_journal(self, directory: str, limits: Any, store_id: bytes, now_ns: int, io: None = None) -> Any:
        class Disk(SystemIO):
            def open(self, name: str, create: bool) -> int:
                return -errno.EIO if name == "00000001.bfs" and not create else super().open(name, create)

        return self.backend.open_journal(directory, limits, store_id, now_ns, Disk(directory))


def test_journal_that_cannot_be_opened_is_opened_after_a_minute_without_what_cannot_be_read(backend, tmp_path):
    settings = 'batch_bytes_max = "1 KiB"\n[uplink.buffer]\ndisk_bytes_max = "1 MiB"'

    async def run():
        async with house(tmp_path, uplink=settings) as made:
            made.connector.refuse_open = "away"
            async with made.running():
                await made.until(acquired=0)
                while made.uplink.record()["journal"]["disk_bytes"] < 300_000:
                    made.put(0, *range(100))
                    await asyncio.sleep(0.005)
        async with house(tmp_path, uplink=settings) as made:
            clock = FakeClock()
            made.uplink = Uplink(
                made.config.uplinks[0], made.connector, made.place._replace(native=HalfReadable(backend), clock=clock)
            )
            for _ in range(3):
                with pytest.raises(StorageError):
                    await made.uplink.run()
                clock.ns += 25_000_000_000
            async with made.running():
                await made.until(buffered=0)
                ledger = made.ledger()
                assert ledger["dropped"]["damage"] > 0
                assert ledger["acquired"] == ledger["acknowledged"] + ledger["dropped"]["damage"]
                assert "a file was set aside" in made.uplink.record()["journal"]["alarms"]

    asyncio.run(run())


@pytest.mark.parametrize("on_full", ["block", "drop_newest"])
def test_stop_with_a_full_buffer_counts_what_it_could_not_keep(tmp_path, on_full):
    settings = f'[uplink.buffer]\non_full = "{on_full}"\ndisk_bytes_max = "1 MiB"'

    async def run():
        acquired = 0
        async with house(tmp_path, uplink=settings) as made:
            made.connector.refuse_open = "nobody is there"
            async with made.running():
                async with asyncio.timeout(60):
                    while not made.uplink.record().get("journal", {"failure": ""})["failure"]:
                        made.put(0, *range(RING))
                        acquired += RING
                        await asyncio.sleep(0.01)  # The outbox's turn, and the disk's.
                made.put(0, *range(2 * RING))
                acquired += 2 * RING
                await made.until(acquired=acquired)
            await made.uplink.close(is_last=True)
        async with house(tmp_path, uplink=settings) as made:
            made.connector.refuse_open = "nobody is there"
            async with made.running():
                await made.until(acquired=acquired)
                ledger = made.ledger()
                assert ledger["acquired"] == ledger["buffered"] + sum(ledger["dropped"].values())
                assert ledger["dropped"]["cap"] > 0

    asyncio.run(run())
