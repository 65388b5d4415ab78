"""A pymodbus server with fixed values, in a process of its own: `python -m tests.interop.peers.pymodbus_registers PORT`.

Unit 1; register n of 100 holds 1000 + n until somebody writes it. It prints `ready` once it listens and serves until it is killed. After
SIGUSR1 it answers every request with exception 4 (server device failure), until SIGUSR2.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

DEVICE_FAILURE = 4


class Fault:
    """Whether the device has one; what pymodbus calls for each message."""

    def __init__(self) -> None:
        self.is_present = False

    def set(self, is_present: bool) -> None:
        self.is_present = is_present

    def __call__(self, is_sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        if not (is_sending and self.is_present):
            return pdu
        return ExceptionResponse(pdu.function_code, DEVICE_FAILURE, pdu.dev_id, pdu.transaction_id)


async def serve(port: int) -> None:
    values = [1000 + number for number in range(100)]
    device = SimDevice(1, simdata=[SimData(0, values=values, datatype=DataType.REGISTERS)])
    fault = Fault()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, fault.set, True)
    loop.add_signal_handler(signal.SIGUSR2, fault.set, False)
    server = ModbusTcpServer(device, address=("127.0.0.1", port), trace_pdu=fault)
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
