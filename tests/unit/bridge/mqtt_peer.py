"""A broker that does exactly what a test says, and no more: packets as tuples, written from the standards alone.

It shares no code with paho, so that a mistake there cannot hide here. Source: MQTT 3.1.1 and MQTT 5.0, chapter 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from tests.interop.peers.lines import serving

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14
_STRING = struct.Struct("!H")


class Packet(NamedTuple):
    """A packet as it came."""

    kind: int
    flags: int
    body: bytes

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def is_duplicate(self) -> bool:
        return bool(self.flags & 8)

    @property
    def packet_id(self) -> int:
        """Of a PUBLISH with QoS, or of any acknowledgement."""
        start = 2 + len(self.topic) if self.kind == PUBLISH else 0
        return int.from_bytes(self.body[start : start + 2])

    @property
    def topic(self) -> str:
        """Of a PUBLISH."""
        return self.body[2 : 2 + int.from_bytes(self.body[:2])].decode()

    @property
    def payload(self) -> bytes:
        """Of a PUBLISH of MQTT 5 with at most 127 bytes of properties."""
        start = 2 + len(self.topic) + (2 if self.qos else 0)
        return self.body[start + 1 + self.body[start] :]

    @property
    def connect_flags(self) -> int:
        """Of a CONNECT."""
        return self.body[7]


async def until(condition: Callable[[], object]) -> None:
    """Waits until `condition` holds."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.001)


class Peer:
    """One connection, seen from the broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def packet(self) -> Packet:
        """The next packet but pings, which are answered. Raises IncompleteReadError at the end."""
        while True:
            (first,) = await self._reader.readexactly(1)
            length, shift = 0, 0
            while True:
                (byte,) = await self._reader.readexactly(1)
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            packet = Packet(first >> 4, first & 15, await self._reader.readexactly(length))
            if packet.kind != PINGREQ:
                return packet
            self.send(PINGRESP, b"")

    async def raw(self, count: int) -> bytes:
        """The next bytes, whatever they are."""
        return await self._reader.readexactly(count)

    async def packets(self, count: int) -> list[Packet]:
        return [await self.packet() for _ in range(count)]

    def send(self, kind: int, body: bytes, flags: int = 0) -> None:
        assert len(body) < 128
        self.writer.write(bytes([kind << 4 | flags, len(body)]) + body)

    async def welcome(self, *, session_present: bool = False, reason: int = 0, properties: bytes = b"") -> Packet:
        """Reads CONNECT and answers as MQTT 5."""
        packet = await self.packet()
        assert packet.kind == CONNECT
        self.send(CONNACK, bytes([session_present, reason, len(properties)]) + properties)
        return packet

    def answer(self, kind: int, packet_id: int, reason: int | None = None) -> None:
        """PUBACK, PUBREC or PUBCOMP."""
        tail = b"" if reason is None else bytes([reason])
        self.send(kind, _STRING.pack(packet_id) + tail)


class Broker:
    """Listens; each connection is served by the next script, and by the last one from then on."""

    def __init__(self, *scripts: Callable[[Peer], Awaitable[None]]) -> None:
        self._scripts = list(scripts)
        self.port = 0
        self.connections_count = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Broker]:
        async with serving(self._serve) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_count += 1
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        try:
            await script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
