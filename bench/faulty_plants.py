"""Plants that count and plants that misbehave: `python -m bench.faulty_plants PORT HEALTHY FAULTY IS_FAULTY`.

Each listens on a port of its own from PORT on; register 0 counts the requests, so that every poll is a change. With IS_FAULTY 1 the last
FAULTY plants misbehave, each in its own way; with 0 all are healthy.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial

Send = Callable[[bytes], None]
Fault = Callable[[asyncio.AbstractEventLoop, asyncio.Transport, bytes], None]


def answer_to(request: bytes, value: int) -> bytes:
    """Good answer to a read of one register."""
    return request[:4] + b"\0\5" + request[6:8] + b"\2" + (value & 0xFFFF).to_bytes(2, "big")


def hang(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, answer: bytes) -> None:
    """Never answers."""


def hang_up(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, answer: bytes) -> None:
    """Closes instead of answering."""
    transport.close()


def be_late(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, answer: bytes) -> None:
    """Answers long after the time-out."""
    loop.call_later(0.7, transport.write, answer)


def confuse(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, answer: bytes) -> None:
    """Answers with another transaction number, another unit, another function and too much data."""
    wrong = (b"\xaa" + answer[1:], answer[:6] + b"\x63" + answer[7:], answer[:7] + b"\4" + answer[8:])
    transport.write(b"".join(wrong) + answer[:4] + b"\0\7" + answer[6:8] + b"\4" + bytes(4))


def talk_nonsense(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, answer: bytes) -> None:
    """Sends what no Modbus frame can be."""
    transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


FAULTS: tuple[Fault, ...] = (hang, hang_up, be_late, confuse, talk_nonsense)


class Connection(asyncio.Protocol):
    """One client; requests come one at a time and whole, since the window is 1."""

    def __init__(self, counter: list[int], fault: Fault | None) -> None:
        self._counter = counter
        self._fault = fault

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._counter[0] += 1
        answer = answer_to(data, self._counter[0])
        if self._fault is None:
            self._transport.write(answer)
        else:
            self._fault(asyncio.get_running_loop(), self._transport, answer)


async def serve(port: int, healthy: int, faulty: int, is_faulty: bool) -> None:
    """Serves until the standard input ends."""
    loop = asyncio.get_running_loop()
    for number in range(healthy + faulty):
        fault = FAULTS[number % len(FAULTS)] if is_faulty and number >= healthy else None
        await loop.create_server(partial(Connection, [0], fault), "127.0.0.1", port + number)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"))
