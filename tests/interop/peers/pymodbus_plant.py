"""A plant made of pymodbus, in a process of its own: `python -m tests.interop.peers.pymodbus_plant PORT STEP_MS`.

All registers change at once, every STEP_MS milliseconds. It prints `ready` and then obeys lines on its standard input, answering each
with one
line: `step` (the present step), `freeze` (stop changing), `count` (requests since the last count), `quit`.
"""

from __future__ import annotations

import asyncio
import sys
import time

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.interop.peers.plant_values import REGISTERS, STEPS, plant_tags, registers_at


class Plant:
    """The present step, and how often somebody asked."""

    def __init__(self, step_ms: float) -> None:
        self.step_s = step_ms / 1000
        self.started = time.monotonic()
        self.frozen_at: int | None = None
        self.requests = 0
        self.cached_step = -1
        self.cached: list[int] = []
        self.tags = plant_tags()

    def step(self) -> int:
        if self.frozen_at is not None:
            return self.frozen_at
        return min(int((time.monotonic() - self.started) / self.step_s), STEPS - 1)

    async def on_access(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: object
    ) -> None:
        """What pymodbus calls for each request, before it answers: the registers get what they hold at this moment."""
        self.requests += 1
        step = self.step()
        if step != self.cached_step:
            self.cached_step, self.cached = step, registers_at(step, self.tags)
        registers[: len(self.cached)] = self.cached


async def serve(port: int, step_ms: float) -> None:
    plant = Plant(step_ms)
    data = SimData(0, count=REGISTERS, values=0, datatype=DataType.REGISTERS)
    device = SimDevice(1, simdata=[data], action=plant.on_access)
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while True:
        line = (await loop.run_in_executor(None, sys.stdin.readline)).strip()
        if line == "step":
            print(plant.step(), flush=True)
        elif line == "freeze":
            plant.frozen_at = plant.step()
            print(plant.frozen_at, flush=True)
        elif line == "count":
            print(plant.requests, flush=True)
            plant.requests = 0
        else:
            await server.shutdown()
            return


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
