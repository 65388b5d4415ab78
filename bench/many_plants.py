"""Many small plants in one process: `python -m bench.many_plants PORT COUNT`. Each serves 100 registers on 127.0.0.1, ports PORT and up."""

from __future__ import annotations

import asyncio
import sys

from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ServerCore

REGISTERS = 1000


class Connection(asyncio.Protocol):
    """One client: bytes in, answers out."""

    def __init__(self, memory: Memory) -> None:
        self._core = ServerCore({1: memory})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        for answer in self._core.feed(data):
            self._transport.write(answer)


async def serve(port: int, count: int) -> None:
    """Serves until the standard input ends."""
    loop = asyncio.get_running_loop()
    memory = Memory(holding_registers=REGISTERS)
    for number in range(count):
        await loop.create_server(lambda: Connection(memory), "127.0.0.1", port + number, backlog=4)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
