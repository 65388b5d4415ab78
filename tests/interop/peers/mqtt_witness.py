"""A witness before the broker, in a process of its own: `python -m tests.interop.peers.mqtt_witness PORT BROKER_PORT LOG DELAY_MS`.

It passes bytes on between MQTT clients and the broker, and writes down each message at the moment its PUBACK passes: what is in LOG was
acknowledged, and nothing else. What the broker says takes DELAY_MS to get through, as on a long line. One JSON object a line:
`{"connection": 3, "topic": …, "payload": …}`, the payload as JSON if it is that. It prints `ready` once it listens and serves until it is
killed. It parses MQTT 3.1.1 and 5 by itself and knows nothing of Bifrost.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

CONNECT, PUBLISH, PUBACK = 1, 3, 4  # MQTT 5.0, 2.1.2


class Packets:
    """Cuts a stream of bytes into packets: type, flags, body."""

    def __init__(self) -> None:
        self.buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        self.buffer += data
        while len(self.buffer) >= 2:
            length, size = varint(self.buffer, 1)
            if size == 0 or len(self.buffer) < 1 + size + length:
                return
            first, body = self.buffer[0], self.buffer[1 + size : 1 + size + length]
            self.buffer = self.buffer[1 + size + length :]
            yield first >> 4, first & 15, body


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and how many bytes it takes; 0: there are not enough yet. MQTT 5.0, 1.5.5."""
    value = 0
    for size in range(1, 5):
        if at + size > len(data):
            return 0, 0
        byte = data[at + size - 1]
        value |= (byte & 127) << 7 * (size - 1)
        if not byte & 128:
            return value, size
    raise ValueError("no variable byte integer")


class Connection:
    """What one client sent and is not acknowledged yet."""

    def __init__(self, number: int, log: TextIO) -> None:
        self.number = number
        self.log = log
        self.version = 4
        self.waiting: dict[int, dict[str, Any]] = {}
        self.from_client = Packets()
        self.from_broker = Packets()

    def client_sent(self, data: bytes) -> None:
        for kind, flags, body in self.from_client.feed(data):
            if kind == CONNECT:
                self.version = body[2 + int.from_bytes(body[:2], "big")]
            elif kind == PUBLISH and flags >> 1 & 3:
                self.publish(body)

    def publish(self, body: bytes) -> None:
        at = 2 + int.from_bytes(body[:2], "big")
        topic, packet_id = body[2:at].decode(), int.from_bytes(body[at : at + 2], "big")
        at += 2
        if self.version == 5:
            length, size = varint(body, at)
            at += size + length
        try:
            payload = json.loads(body[at:])
        except ValueError:
            payload = body[at:].decode("latin-1")
        self.waiting[packet_id] = {"connection": self.number, "topic": topic, "payload": payload}

    def broker_sent(self, data: bytes) -> None:
        for kind, _, body in self.from_broker.feed(data):
            refused = len(body) > 2 and body[2] >= 128
            message = self.waiting.pop(int.from_bytes(body[:2], "big"), None) if kind == PUBACK else None
            if message is not None and not refused:
                self.log.write(json.dumps(message) + "\n")
                self.log.flush()


class Proxy:
    """Listens, and passes on whatever is said between a client and the broker."""

    def __init__(self, broker_port: int, log: TextIO, delay_s: float) -> None:
        self.delay_s = delay_s
        self.broker_port = broker_port
        self.log = log
        self.count = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        connection = Connection(self.count, self.log)
        try:
            broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self.broker_port)
        except OSError:
            writer.close()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self.pass_on(reader, broker_writer, connection.client_sent, 0.0), name="to broker")
            group.create_task(
                self.pass_on(broker_reader, writer, connection.broker_sent, self.delay_s), name="to client"
            )

    async def pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None], delay_s: float
    ) -> None:
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(delay_s)
                note(data)  # Written down first: what the client sees acknowledged is in the log.
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


async def serve(port: int, proxy: Proxy) -> None:
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", port)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with open(sys.argv[3], "a", encoding="utf-8") as file:
        asyncio.run(serve(int(sys.argv[1]), Proxy(int(sys.argv[2]), file, float(sys.argv[4]) / 1000)))
