"""A whole uplink, its journal full of long messages, against a mosquitto that takes only short ones, whether it says so or just hangs up.

Everything arrives, nothing is dropped, and nobody has to come. The clock of the uplink runs fast, so that the breaker's pauses are short.
"""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from pathlib import Path

import pytest

from bifrost._native import backend as native
from bifrost._native import records
from bifrost.bridge.buffering.journal import SyncThread
from bifrost.bridge.connectors.mqtt import MqttConnector
from bifrost.bridge.uplink import Place, Uplink
from bifrost.core.clock import Clock
from bifrost.core.config import Config, load_config
from bifrost.core.datatypes import parse_type
from bifrost.core.table import Batch, RowColumns, TagTable
from tests.interop.peers import brokers

pytestmark = pytest.mark.interop

HASTE = 30
PATIENCE_S = 60.0
SAMPLES = 3_000
TAGS = 20


def load(directory: Path, port: int, version: str) -> Config:
    text = (
        f'[gateway]\nname = "g"\ndata_dir = "{directory}"\n[[device]]\nname = "d"\nurl = "modbus-tcp://127.0.0.1:502"\n'
    )
    for tag in range(TAGS):
        text += f'[[device.tag]]\nname = "t{tag}"\naddress = "hr:{tag}"\ntype = "int16"\n'
    text += f'[[uplink]]\nname = "up"\nurl = "mqtt://127.0.0.1:{port}"\nversion = "{version}"\ntimeout = "60 s"\n'
    path = directory / "gateway.toml"
    path.write_text(text)
    return load_config(str(path), {})


class Bench:
    """An uplink and its table."""

    def __init__(self, directory: Path, port: int, version: str) -> None:
        config = load(directory, port, version)
        self.table = TagTable(native.make_table(records.TableLimits(TAGS, 1 << 13, 64, 64)), TAGS)
        self.table.define(RowColumns.from_types([(parse_type("int16"), False)] * TAGS))
        self.table.name_of = config.tags.full_name
        self.thread = SyncThread()
        self.clock = Clock(monotonic_ns=lambda: time.monotonic_ns() * HASTE)
        place = Place(
            gateway="g",
            directory=directory,
            table=self.table,
            tags=config.tags,
            limits=config.limits,
            clock=self.clock,
            thread=self.thread,
            on_burst=lambda _name, _burst: None,
        )
        (settings,) = config.uplinks
        connector = MqttConnector(settings, "g", lambda secret: "")
        self.uplink = Uplink(settings, connector, place, chance=lambda: 0.0)

    def put(self, number: int) -> None:
        batch = Batch(array("I", [number % TAGS]), [number], self.clock.utc_ns())
        self.table.put(batch, server_time_ns=self.clock.utc_ns(), now_ns=self.clock.now_ns())

    def ledger(self):
        ledger = self.uplink.record()["ledger"] or {}
        if ledger:
            assert ledger["acquired"] == ledger["acknowledged"] + ledger["buffered"] + sum(ledger["dropped"].values())
        return ledger

    async def until(self, **expected: int) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while any(self.ledger().get(name) != count for name, count in expected.items()):  # no event for it
            assert time.monotonic() < end_s, str(self.uplink.record())
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("version", "setting"), [("5", "max_packet_size"), ("5", "message_size_limit"), ("3.1.1", "max_packet_size")]
)
def test_what_was_written_before_the_limit_was_known_arrives_all_the_same(version, setting, tmp_path):
    port = brokers.free_port()
    got: list[dict] = []

    async def run() -> None:
        bench = Bench(tmp_path, port, version)
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(bench.uplink.run(), name="uplink")
                await bench.until(acquired=0)
                for number in range(SAMPLES):
                    bench.put(number)
                await bench.until(acquired=SAMPLES)
                config = f"{setting} 4000\nlistener {port} 127.0.0.1\nallow_anonymous true\n"
                with brokers.mosquitto(tmp_path, config, port):
                    subscriber = brokers.Subscriber(port, "bifrost/#", {"-q": "1", "-F": "%p"})
                    try:
                        await bench.until(buffered=0)
                        assert bench.ledger()["acknowledged"] == SAMPLES, bench.ledger()
                        while len(samples_of(got)) < SAMPLES:
                            got.extend(json.loads(line) for line in await asyncio.to_thread(subscriber.lines, 1))
                    finally:
                        subscriber.close()
                running.cancel()
            await bench.uplink.close()
        finally:
            bench.thread.close()

    asyncio.run(run())
    assert sorted(samples_of(got).values()) == list(range(SAMPLES))


def samples_of(messages: list[dict]) -> dict[tuple[int, int], int]:
    """Values by the number of their message and their place in it: a sample that came twice is one."""
    return {
        (message["seq"], place): sample["value"]
        for message in messages
        for place, sample in enumerate(message["samples"], message.get("first", 0))
    }
