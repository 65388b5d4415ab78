"""The uplink that the benchmarks measure, and what it is measured against; each in a process of its own, since CPU time is a process's.

`python -m bench.uplink_load ROLE PORT …` prints one JSON object. A thousand float tags of ten devices change in turns, by batches of the
table, as a plant that is polled makes them; between table and broker everything is what a gateway has.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bifrost._native import backend, records
from bifrost.bridge.buffering.journal import SyncThread
from bifrost.bridge.connectors.mqtt import MqttConnector
from bifrost.bridge.uplink import Place, Uplink
from bifrost.core.clock import Clock
from bifrost.core.config import load_config
from bifrost.core.datatypes import parse_type
from bifrost.core.table import Batch, RowColumns, TagTable

DEVICES = 10
TAGS = 1000
RING = 1 << 16
TICK_S = 0.02
RAW_WINDOW = 20  # What mosquitto takes in flight unless it is told otherwise; MQTT 5.0, 3.3.4.
PATIENCE_S = 300.0
BUFFER = 'disk_bytes_max = "64 MiB"\n'


class Load:
    """A table with an uplink.

    Args:
        directory: For configuration and journal.
        port: Of the broker.
    """

    def __init__(self, directory: Path, port: int) -> None:
        path = directory / "gateway.toml"
        path.write_text(_configuration(directory, port))
        config = load_config(str(path), {})
        self.clock = Clock()
        self.thread = SyncThread()
        limits = records.TableLimits(TAGS, RING, 64, 64)
        self.table = TagTable(backend.make_table(limits), TAGS)
        self.table.define(RowColumns.from_types([(parse_type("float64"), False)] * TAGS))
        self.table.name_of = config.tags.full_name
        place = Place(
            gateway="line-3",
            directory=directory,
            table=self.table,
            tags=config.tags,
            limits=config.limits,
            clock=self.clock,
            thread=self.thread,
            on_burst=lambda name, burst: None,
        )
        (settings,) = config.uplinks
        self.uplink = Uplink(settings, MqttConnector(settings, "line-3", lambda secret: ""), place)
        self._row = 0
        self._value = 0.0

    def put(self, count: int) -> None:
        """`count` tags have new values, all of one moment."""
        rows = array("I", [(self._row + index) % TAGS for index in range(count)])
        self._row = (self._row + count) % TAGS
        self._value = round(self._value + 0.1, 1) % 1000
        batch = Batch(rows, [self._value + index for index in range(count)], self.clock.utc_ns())
        self.table.put(batch, server_time_ns=self.clock.utc_ns(), now_ns=self.clock.now_ns())

    def ledger(self) -> dict[str, Any]:
        """The uplink's; empty while its journal is not open."""
        ledger: Any = self.uplink.record()["ledger"]
        return ledger or {}

    async def feed(self, per_second: int, seconds: float) -> int:
        """New values at a steady rate; how many there were."""
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        fed = 0
        while (elapsed_s := loop.time() - begin_s) < seconds:
            due = int(elapsed_s * per_second)
            while fed < due:
                count = min(TAGS, due - fed)
                self.put(count)
                fed += count
            await asyncio.sleep(TICK_S)
        return fed

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The uplink runs; in the end its journal is closed."""
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self.uplink.run(), name="uplink")
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        yield
                finally:
                    task.cancel()
            await self.uplink.close()
        finally:
            self.thread.close()


def _configuration(directory: Path, port: int) -> str:
    text = f'[gateway]\nname = "line-3"\ndata_dir = "{directory}"\n[limits]\nring_changes_count = {RING}\n'
    for device in range(DEVICES):
        text += f'[[device]]\nname = "d{device}"\nurl = "modbus-tcp://127.0.0.1:502"\n'
        for tag in range(TAGS // DEVICES):
            text += f'[[device.tag]]\ngroup = "g{tag % 5}"\nname = "value{tag}"\naddress = "hr:{4 * tag}"\ntype = "float64"\n'
    return text + f'[[uplink]]\nname = "plant"\nurl = "mqtt://127.0.0.1:{port}"\n[uplink.buffer]\n{BUFFER}'


async def until(is_true: Callable[[], bool]) -> None:
    """Looks a hundred times a second."""
    while not is_true():  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0.01)


# ---------------------------------------------------------------------------------------------------------------- roles


async def fill(directory: Path, port: int) -> dict[str, float]:
    """Fills the buffer to its cap while nobody listens at `port`."""
    load = Load(directory, port)
    async with load.running():
        await until(lambda: bool(load.ledger()))
        while not load.ledger()["dropped"]["cap"]:
            load.put(TAGS)
            await asyncio.sleep(0.001)
    return {}


async def drain(directory: Path, port: int) -> dict[str, float]:
    """Empties it into the broker."""
    load = Load(directory, port)
    begin_s, cpu_s = time.perf_counter(), time.process_time()
    async with load.running():
        await until(lambda: bool(load.ledger()))
        samples = load.ledger()["buffered"]
        messages, disk_bytes = _messages(load)
        await until(lambda: load.ledger()["buffered"] == 0)
        seconds, cpu_s = time.perf_counter() - begin_s, time.process_time() - cpu_s
    return {"samples": samples, "seconds": seconds, "cpu_s": cpu_s, "messages": messages, "bytes": disk_bytes}


def _messages(load: Load) -> tuple[int, int]:
    journal: Any = load.uplink.record()["journal"]
    return journal["next_sequence"] - journal["base_sequence"], journal["disk_bytes"]


async def steady(directory: Path, port: int, per_second: int, seconds: float) -> dict[str, float]:
    """Sends what changes, `per_second` samples a second, until all of it is acknowledged."""
    load = Load(directory, port)
    async with load.running():
        await until(lambda: load.uplink.is_connected)
        cpu_s = time.process_time()
        fed = await load.feed(per_second, seconds)
        await until(lambda: load.ledger()["buffered"] == 0)
        return {"samples": fed, "cpu_s": time.process_time() - cpu_s}


async def feeding(directory: Path, port: int, per_second: int, seconds: float) -> dict[str, float]:
    """The same changes while no uplink runs: what the table and this program cost alone."""
    load = Load(directory, port)
    cpu_s = time.process_time()
    fed = await load.feed(per_second, seconds)
    load.thread.close()
    return {"samples": fed, "cpu_s": time.process_time() - cpu_s}


def paho(_directory: Path, port: int, messages: int) -> dict[str, float]:
    """A paho client publishes a sample a message, one by one: the next when the one before is acknowledged."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    begin_s, cpu_s = time.perf_counter(), time.process_time()
    for number in range(messages):
        sample = {
            "tag": "g0.value1",
            "value": number / 10,
            "quality": "Good",
            "source_time": "2026-11-22T09:00:00.123456Z",
            "server_time": "2026-11-22T09:00:00.131022Z",
        }
        message = {"gateway": "line-3", "device": "d0", "stream": "plant", "seq": number, "samples": [sample]}
        client.publish("bifrost/line-3/d0", json.dumps(message), qos=1).wait_for_publish(PATIENCE_S)
    seconds, cpu_s = time.perf_counter() - begin_s, time.process_time() - cpu_s
    client.disconnect()
    client.loop_stop()
    return {"samples": messages, "seconds": seconds, "cpu_s": cpu_s}


def floor(_directory: Path, port: int, messages: int, size: int) -> dict[str, float]:
    """What broker and loopback allow: messages that were made before, on a socket, with no client at all."""
    topic = b"bifrost/line-3/d0"
    body_bytes = 2 + len(topic) + 2 + 1 + size
    head = b"\x32" + _length(body_bytes) + len(topic).to_bytes(2, "big") + topic
    rest = b"\0" + bytes(size)
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(b"\x10\x13\0\x04MQTT\x05\x02\0\x3c\0\0\x06floor1")  # MQTT 5.0, 3.1.
        answer = line.recv(64)
        assert answer[0] == 0x20, answer
        begin_s = time.perf_counter()
        sent = acknowledged = 0
        kept = b""
        while acknowledged < messages:
            while sent < messages and sent - acknowledged < RAW_WINDOW:
                sent += 1
                line.sendall(head + (1 + sent % 60_000).to_bytes(2, "big") + rest)
            kept += line.recv(4096)
            while len(kept) >= 2 and len(kept) >= 2 + kept[1]:  # PUBACK is short; MQTT 5.0, 3.4.
                acknowledged += kept[0] == 0x40
                kept = kept[2 + kept[1] :]
        return {"seconds": time.perf_counter() - begin_s}


def _length(count: int) -> bytes:
    """A variable byte integer; MQTT 5.0, 1.5.5."""
    encoded = bytearray()
    while count > 127:
        encoded.append(count & 127 | 128)
        count >>= 7
    return bytes([*encoded, count])


def main(role: str, directory: str, port: str, *numbers: str) -> None:
    """Plays a role, and prints what it measured."""
    act: Any = {"fill": fill, "drain": drain, "steady": steady, "feeding": feeding, "paho": paho, "floor": floor}[role]
    result = act(Path(directory), int(port), *map(int, numbers))
    print(json.dumps(asyncio.run(result) if asyncio.iscoroutine(result) else result))


if __name__ == "__main__":
    main(*sys.argv[1:])
