"""A pymodbus server with fixed values, in a process of its own: `python -m tests.interop.peers.pymodbus_registers PORT`.

Unit 1; register n of 100 holds 1000 + n until somebody writes it. It prints `ready` once it listens and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def serve(port: int) -> None:
    values = [1000 + number for number in range(100)]
    device = SimDevice(1, simdata=[SimData(0, values=values, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
