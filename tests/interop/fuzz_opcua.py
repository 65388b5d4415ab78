"""The OPC UA port against a client that means no good: recorded requests of an honest one, sent again with faults in them.

    python -m tests.interop.fuzz_opcua [SECONDS [SEED]]     60 s, against the module with the sanitizers in it

An honest session (asyncua: browse, read, write, subscribe, all that it has) is recorded through a proxy. Each round opens a connection and
sends it again: with its own channel, token and session put in, so that most of it is understood; some messages get bits, lengths or
bytes wrong, are cut, doubled, left out or split. In between whole messages are unfinished and connections vanish. The server must stay,
serve an honest client after it, and hold no byte in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from csrc.builder import sanitized
from tests.interop.opcua_bench import Follower, add_users, client, make_certificate, node, secure_client
from tests.interop.opcua_stress import BUFFER_BYTES, HEADER_BYTES, StressProcess, counted, receive, stressed
from tests.interop.peers.opcua_face import TYPES, tag_name

from asyncua import ua  # isort: skip  # as in opcua_bench

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)
SYMMETRIC_BYTES = 24
"""Message header, channel, token, sequence number, request id; OPC 10000-6, 6.7.2."""
TOKEN_BYTES = 19
"""A node id with a GUID in it, which is what this server gives as session id and as authentication token."""
CREATE_SESSION_ANSWER = b"\x01\x00\xd0\x01"
TOKEN_AT = SYMMETRIC_BYTES + 4 + 24 + TOKEN_BYTES
"""Where the token is in the answer to CreateSession: behind type id, response header and session id; OPC 10000-4, 5.6.2."""


# ---- recording


class Recording:
    """What one honest connection sent, a chunk each, and the authentication token it was given."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.token = b""


async def record(url: str, scenario) -> Recording:
    """Runs `scenario(url of a proxy)`; gives what it sent on the connection that sent most."""
    address = urlsplit(url)
    made: list[Recording] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recording = Recording()
        made.append(recording)
        far_reader, far_writer = await asyncio.open_connection(address.hostname, address.port)

        async def answers() -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    one = await read_chunk(far_reader)
                    if one[SYMMETRIC_BYTES : SYMMETRIC_BYTES + 4] == CREATE_SESSION_ANSWER:
                        recording.token = one[TOKEN_AT : TOKEN_AT + TOKEN_BYTES]
                    writer.write(one)
            writer.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(answers(), name="answers")
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    one = await read_chunk(reader)
                    recording.chunks.append(one)
                    far_writer.write(one)
            far_writer.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy:
        with contextlib.suppress(ua.UaError, ConnectionError, TimeoutError):
            await scenario(f"opc.tcp://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        await asyncio.sleep(0.2)
    return max(made, key=lambda recording: len(recording.chunks))


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(HEADER_BYTES)
    return head + await reader.readexactly(struct.unpack_from("<I", head, 4)[0] - HEADER_BYTES)


async def honest_session(url: str) -> None:
    """All services that a client of ours has a word for."""
    async with client(url, None) as connected:
        nodes = [node(connected, name) for name in ["plant.level", *(f"plant.types.{tag_name(one)}" for one in TYPES)]]
        await node(connected, "plant").get_children()
        await connected.read_attributes(nodes)
        await nodes[0].get_properties()
        await connected.register_nodes(nodes[:3])
        await connected.nodes.root.get_child(["0:Objects", "2:Bifrost"])
        await nodes[0].write_value(3.0, ua.VariantType.Double)
        await node(connected, "plant.types.int16x4").write_value([1, 2, 3, 4], ua.VariantType.Int16)
        await node(connected, "plant.types.stringx32").write_value("text", ua.VariantType.String)
        follower = Follower()
        subscription = await connected.create_subscription(50, follower)
        await subscription.subscribe_data_change(nodes, queuesize=10)
        await subscription.deadband_monitor([nodes[0]], 1.0, ua.DeadbandType.Percent, 10)
        with contextlib.suppress(ua.UaError):
            await subscription.subscribe_events()
        with contextlib.suppress(ua.UaError):
            await connected.nodes.server.call_method(
                ua.NodeId(ua.ObjectIds.Server_GetMonitoredItems), subscription.subscription_id
            )
        with contextlib.suppress(ua.UaError):
            await nodes[0].read_raw_history(None, None, 10)
        modification = ua.ModifySubscriptionParameters(subscription.subscription_id, 100.0, 100, 10)
        await connected.uaclient.modify_subscription(modification)
        await subscription.delete()


# ---- faults


def spoil(random_: random.Random, message: bytes) -> bytes:
    """`message` with one to three faults in it."""
    made = bytearray(message)
    for _ in range(random_.randint(1, 3)):
        if not made:
            break
        at = random_.randrange(len(made))
        match random_.randrange(8):
            case 0:
                made[at] ^= 1 << random_.randrange(8)
            case 1:
                made[at] = random_.choice(NUMBERS) & 0xFF
            case 2 | 3:
                made[at : at + 4] = struct.pack("<I", random_.choice(NUMBERS))
            case 4:
                del made[at : at + random_.randint(1, 16)]
            case 5:
                made[at:at] = made[at : at + random_.randint(1, 64)]
            case 6:
                del made[at:]
            case _:
                made[at:at] = random_.randbytes(random_.randint(1, 32))
    return bytes(made)


class Attack:
    """One connection that repeats a recording."""

    def __init__(self, url: str, recording: Recording, random_: random.Random) -> None:
        address = urlsplit(url)
        self._raw = socket.create_connection((address.hostname or "", address.port or 0), timeout=0.1)
        self._recording = recording
        self._random = random_
        self._channel = struct.pack("<II", 0, 0)
        self._token = recording.token
        self._sequence = 1

    def run(self) -> None:
        """Ends when the server has had enough."""
        faults = self._random.choice((0.0, 0.05, 0.3, 1.0))
        chunks = list(self._recording.chunks)
        if self._random.random() < 0.2:
            head, rest = chunks[:4], chunks[4:]
            self._random.shuffle(rest)
            chunks = head + rest
        with self._raw, contextlib.suppress(OSError, struct.error):
            for number, one in enumerate(chunks):
                is_spoilt = self._random.random() < (faults if number >= 4 else faults / 5)
                self._send(one, is_spoilt)
                if number < 4 and not is_spoilt:
                    self._learn(receive(self._raw))
                else:
                    self._listen()

    def _send(self, one: bytes, is_spoilt: bool) -> None:
        message = one
        if one[:3] in (b"MSG", b"CLO"):
            payload = (
                one[SYMMETRIC_BYTES:].replace(self._recording.token, self._token)
                if self._recording.token
                else one[SYMMETRIC_BYTES:]
            )
            if is_spoilt and self._random.random() < 0.8:  # inside a message that is otherwise well-formed
                payload, is_spoilt = spoil(self._random, payload), False
            self._sequence += 1
            parts = [payload]
            if len(payload) > 2 and self._random.random() < 0.1:
                cut = self._random.randrange(1, len(payload))
                parts = [payload[:cut], payload[cut:]]
            message = b"".join(self._chunk(one[:3], part, part is parts[-1]) for part in parts)
        if is_spoilt:
            message = spoil(self._random, message)
        self._raw.sendall(message)

    def _chunk(self, kind: bytes, payload: bytes, is_last: bool) -> bytes:
        body = self._channel + struct.pack("<II", self._sequence, self._sequence) + payload
        self._sequence += 0 if is_last else 1
        return kind + (b"F" if is_last else b"C") + struct.pack("<I", HEADER_BYTES + len(body)) + body

    def _learn(self, answer: bytes) -> None:
        if answer[:3] == b"OPN" and len(answer) > HEADER_BYTES + 60:
            (policy_bytes,) = struct.unpack_from("<i", answer, HEADER_BYTES + 4)
            at = HEADER_BYTES + 8 + max(0, policy_bytes) + 8 + 8 + 4 + 24 + 4
            self._channel = answer[at : at + 8]
        if answer[SYMMETRIC_BYTES : SYMMETRIC_BYTES + 4] == CREATE_SESSION_ANSWER:
            self._token = answer[TOKEN_AT : TOKEN_AT + TOKEN_BYTES]

    def _listen(self) -> None:
        """Takes what has come, waits for nothing; sometimes does not read at all."""
        if self._random.random() < 0.7:
            with contextlib.suppress(BlockingIOError):
                if not self._raw.recv(BUFFER_BYTES, socket.MSG_DONTWAIT):
                    raise ConnectionResetError


def attack(process: StressProcess, recordings: Sequence[Recording], seconds: float, seed: int) -> int:
    """Attacks for so long; gives the number of connections. Fails if the server ends."""
    random_ = random.Random(seed)
    until_s = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < until_s:
        with contextlib.suppress(ConnectionError, TimeoutError):
            Attack(process.url, random_.choice(recordings), random.Random(random_.getrandbits(64))).run()
        rounds += 1
        assert process.process.poll() is None, f"seed {seed}, connection {rounds}: {process.log.read_text()[-20_000:]}"
    return rounds


def fuzz(directory: Path, seconds: float, seed: int, environment: dict[str, str] | None = None) -> int:
    """Records, attacks, and asks whether all is well; gives the number of connections."""
    add_users(directory)
    limits = {
        "opcua_sessions_max": 500,
        "opcua_connections_max": 500,
        "opcua_subscriptions_max": 5_000,
        "opcua_session_timeout_max_ms": 2_000,
    }
    limits["opcua_login_failures_per_minute_max"] = 10_000  # sessions whose client vanished live on for a while
    options = [
        "--extra",
        "50",
        *(option for name, value in limits.items() for option in ("--limit", f"{name}={value}")),
    ]
    with stressed(directory, *options, environment=environment) as process:
        process.obey(
            anonymous="write"
        )  # a recorded password is of no use: it was encrypted with the server's last nonce
        certificate = make_certificate(directory, "honest")
        (directory / "pki" / "trusted" / "honest.der").write_bytes(certificate[0].read_bytes())

        async def secure_session(url: str) -> None:
            async with secure_client(url, "Basic256Sha256", ua.MessageSecurityMode.SignAndEncrypt, certificate):
                pass

        recordings = [
            asyncio.run(record(process.url, scenario)) for scenario in (honest_session, honest_session, secure_session)
        ]
        assert len(recordings[0].chunks) > 20
        assert recordings[0].token
        rounds = attack(process, recordings, seconds, seed)
        counters = counted(process)
        assert counters["sessions_opened"] > rounds // 4, "most of it is not understood: nothing is proved"
        assert counters["writes"] + counters["writes_refused"] > rounds // 4
        asyncio.run(honest_session(process.url))
    return rounds


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)
    with tempfile.TemporaryDirectory() as directory:
        rounds = fuzz(Path(directory), seconds, seed, sanitized.environment())
    sys.stderr.write(f"{rounds} connections in {seconds:.0f} s, seed {seed}: nothing found\n")


if __name__ == "__main__":
    main()
