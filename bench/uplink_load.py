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
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.interop.peers.live_uplink import LiveUplink

DEVICES = 10
TAGS = 1000
RAW_WINDOW = 20  # What mosquitto takes in flight unless it is told otherwise; MQTT 5.0, 3.3.4.
PATIENCE_S = 300.0


def load(directory: Path, port: int) -> LiveUplink:
    """An uplink to a broker at `port`, not running."""
    more = '[uplink.buffer]\ndisk_bytes_max = "64 MiB"\n'
    return LiveUplink(directory, f"mqtt://127.0.0.1:{port}", devices=DEVICES, tags=TAGS, more=more)


# ---------------------------------------------------------------------------------------------------------------- roles


async def fill(directory: Path, port: int) -> dict[str, float]:
    """Fills the buffer to its cap while nobody listens at `port`."""
    live = load(directory, port)
    async with live.running():
        await live.until(lambda: bool(live.ledger()))
        while not live.ledger()["dropped"]["cap"]:
            live.put(TAGS)
            await asyncio.sleep(0.001)
    return {}


async def drain(directory: Path, port: int) -> dict[str, float]:
    """Empties it into the broker."""
    live = load(directory, port)
    begin_s, cpu_s = time.perf_counter(), time.process_time()
    async with live.running():
        await live.until(lambda: bool(live.ledger()))
        samples = live.ledger()["buffered"]
        messages, disk_bytes = _messages(live)
        await live.until_sent()
        seconds, cpu_s = time.perf_counter() - begin_s, time.process_time() - cpu_s
    return {"samples": samples, "seconds": seconds, "cpu_s": cpu_s, "messages": messages, "bytes": disk_bytes}


def _messages(live: LiveUplink) -> tuple[int, int]:
    journal = live.record()["journal"]
    return journal["next_sequence"] - journal["base_sequence"], journal["disk_bytes"]


async def steady(directory: Path, port: int, per_second: int, seconds: float) -> dict[str, float]:
    """Sends what changes, `per_second` samples a second, until all of it is acknowledged."""
    live = load(directory, port)
    async with live.running():
        await live.until(lambda: live.uplink.is_connected)
        cpu_s = time.process_time()
        fed = await live.feed(per_second, seconds)
        await live.until_sent()
        return {"samples": fed, "cpu_s": time.process_time() - cpu_s}


async def feeding(directory: Path, port: int, per_second: int, seconds: float) -> dict[str, float]:
    """The same changes while no uplink runs: what the table and this program cost alone."""
    live = load(directory, port)
    cpu_s = time.process_time()
    fed = await live.feed(per_second, seconds)
    live.thread.close()
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
