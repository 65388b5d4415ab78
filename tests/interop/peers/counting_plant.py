"""A Modbus TCP server with 65,536 holding registers, in a process of its own: `python -m tests.interop.peers.counting_plant PORT STEP_MS`.

Register n holds n plus the present step, modulo 65,536; so all of them change at once, every STEP_MS milliseconds. Only function 3 is
answered. It prints `ready` and serves until it is killed. Source of the frames: Modbus Application Protocol V1.1b3, 6.3.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time

HEADER = struct.Struct(">HHHBBHH")  # Transaction, protocol, length, unit, function, address, count.


class Plant(asyncio.Protocol):
    """One connection."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= HEADER.size:
            transaction, _, _, unit, function, address, count = HEADER.unpack_from(self.buffer)
            self.buffer = self.buffer[HEADER.size :]
            assert function == 3
            step = int(time.monotonic() / self.step_s)
            registers = [(address + index + step) % 65536 for index in range(count)]
            head = struct.pack(">HHHBBB", transaction, 0, 3 + 2 * count, unit, function, 2 * count)
            self.transport.write(head + struct.pack(f">{count}H", *registers))


async def serve(port: int, step_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Plant(step_s), "127.0.0.1", port)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
