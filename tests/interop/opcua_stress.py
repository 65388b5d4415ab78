"""What abuse and measurements of the OPC UA face share: a process that can be starved, and a client made of plain bytes.

The client knows of OPC UA what a peer needs that means no good: how a connection and a channel begin, and what a chunk looks like
(OPC 10000-6, 6.7.2 and 7.1.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from csrc.builder import sanitized
from tests.interop.opcua_bench import PATIENCE_S, FaceProcess

from asyncua import Client  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.uaerrors import UaError  # isort: skip  # likewise

POLICY_NONE = b"http://opcfoundation.org/UA/SecurityPolicy#None"
BUFFER_BYTES = 65_535
HEADER_BYTES = 8


class StressProcess(FaceProcess):
    """`tests.interop.peers.opcua_stress`; says what was left of its memory when it has ended."""

    MODULE = "tests.interop.peers.opcua_stress"

    def end(self) -> dict[str, int]:
        """Ends it in order; what the stack still held then. Fails if the process failed, with what it said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            line = self.process.stdout.readline()
            status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.stdout.close()
        assert status == 0, self.log.read_text()[-20_000:]
        left: dict[str, int] = json.loads(line)
        return left


@contextlib.contextmanager
def stressed(directory: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[StressProcess]:
    """A process that must end in order, with nothing left of its memory and no block that was not counted.

    It is a sanitized one if the variable of `csrc.builder.sanitized` says so.
    """
    if environment is None and os.environ.get(sanitized.VARIABLE):
        environment = sanitized.environment()
    process = StressProcess(directory, *options, environment=environment)
    try:
        yield process
    except BaseException as error:
        process.process.kill()
        process.process.communicate()
        error.add_note(process.log.read_text()[-20_000:])
        raise
    left = process.end()
    assert left == {"live_bytes": 0, "foreign_count": 0}


# ---- a client made of bytes


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 0), timeout=10)


def text(value: bytes | None) -> bytes:
    return struct.pack("<i", -1) if value is None else struct.pack("<i", len(value)) + value


def hello(url: str, buffer_bytes: int = BUFFER_BYTES, message_bytes: int = 0, chunks: int = 0) -> bytes:
    body = struct.pack("<5I", 0, buffer_bytes, buffer_bytes, message_bytes, chunks) + text(url.encode())
    return b"HELF" + struct.pack("<I", HEADER_BYTES + len(body)) + body


def request_header(handle: int, session: bytes = b"\0\0") -> bytes:
    """`session` is an encoded node id; the null one by default."""
    return session + struct.pack("<qII", 0, handle, 0) + text(None) + struct.pack("<I", 60_000) + b"\0\0\0"


def open_channel(request_id: int = 1, lifetime_ms: int = 60_000) -> bytes:
    """OpenSecureChannel without security."""
    header = (
        struct.pack("<I", 0) + text(POLICY_NONE) + text(None) + text(None) + struct.pack("<II", request_id, request_id)
    )
    request = (
        struct.pack("<BBH", 1, 0, 446)
        + request_header(1)
        + struct.pack("<III", 0, 0, 1)
        + text(b"")
        + struct.pack("<I", lifetime_ms)
    )
    body = header + request
    return b"OPNF" + struct.pack("<I", HEADER_BYTES + len(body)) + body


def chunk(channel: tuple[int, int], request_id: int, payload: bytes, final: bytes = b"F") -> bytes:
    """A symmetric chunk without security; `channel` is its id and its token."""
    body = struct.pack("<IIII", *channel, request_id, request_id) + payload
    return b"MSG" + final + struct.pack("<I", HEADER_BYTES + len(body)) + body


def get_endpoints(url: str) -> bytes:
    """The payload of a GetEndpoints request; a client without a session may ask this."""
    return struct.pack("<BBH", 1, 0, 428) + request_header(1) + text(url.encode()) + struct.pack("<ii", 0, 0)


def receive(raw: socket.socket) -> bytes:
    """One chunk; empty at the end of the connection."""
    got = b""
    while len(got) < HEADER_BYTES or len(got) < struct.unpack_from("<I", got, 4)[0]:
        more = raw.recv(
            HEADER_BYTES - len(got) if len(got) < HEADER_BYTES else struct.unpack_from("<I", got, 4)[0] - len(got)
        )
        if not more:
            return b""
        got += more
    return got


def begin_channel(url: str) -> tuple[socket.socket, tuple[int, int]]:
    """A connection with an open channel, and the channel's id and token."""
    raw = connect(url)
    raw.sendall(hello(url))
    assert receive(raw)[:3] == b"ACK"
    raw.sendall(open_channel())
    answer = receive(raw)
    assert answer[:3] == b"OPN", answer
    # … sequence header (8), type id (4), response header (24 with an empty table of texts), protocol version (4), then the token.
    (channel_id,) = struct.unpack_from("<I", answer, HEADER_BYTES)
    at = HEADER_BYTES + 4 + len(text(POLICY_NONE)) + 4 + 4 + 8 + 4 + 24 + 4
    found_id, token = struct.unpack_from("<II", answer, at)
    assert found_id == channel_id
    return raw, (channel_id, token)


def counted(process: FaceProcess) -> dict[str, Any]:
    """What the face holds and did, and what it takes."""
    counters: dict[str, Any] = process.obey(counters=True)
    return counters | process.obey(memory=True)  # type: ignore[no-any-return]  # what a peer wrote as JSON


def begin_message(connected: Any, size: int) -> None:
    """Sends so many bytes of a message that never ends; `connected` is a client of asyncua."""
    connection = connected.uaclient.protocol._connection
    channel = (connection.security_token.ChannelId, connection.security_token.TokenId)
    for number in range(size // 60_000):
        one = chunk(channel, connection._sequence_number + 1 + number, b"\0" * 60_000, b"C")
        connected.uaclient.protocol.transport.write(one)


def told(process: FaceProcess) -> list[list[object]]:
    """What the face reported: names, and the limit where it was one."""
    return [[name, details.get("limit")] for name, _, details in process.obey(reports=True)]


# ---- a client of asyncua that behaves badly


async def inside(url: str) -> Client:
    """A client that logs in, and will not say good-bye."""
    made = Client(url, timeout=2)
    await made.connect()
    return made


async def cut(connected: Client) -> None:
    if connected.uaclient.protocol.transport is not None:  # else the server has closed it
        connected.uaclient.protocol.transport.abort()
    with contextlib.suppress(UaError, ConnectionError, TimeoutError, asyncio.CancelledError):
        await connected.disconnect()
