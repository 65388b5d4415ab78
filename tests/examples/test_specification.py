"""The examples of the specification that touch Modbus run, word for word but for the device's address.

Changed: the device is our own server on loopback, so host and port are its; ``00001`` is no number in Python 3 and
stands in quotes. What the specification leaves to the reader (``process_snapshot``) ends the example after some
snapshots.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import textwrap
import time
from array import array

import pytest

from bifrost.plc.modbus.address import Table
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ModbusServer

TIMEOUT_S = 20
SNAPSHOTS = 3

UNIFIED_API = """\
from bifrost.plc import PLCConnection, ProtocolType
from bifrost.plc.datatypes import Tag, DataType

# Protocol-agnostic connection
async with PLCConnection(
    protocol=ProtocolType.MODBUS_TCP,
    host="192.168.1.100",
    port=502
) as plc:
    # Define tags with automatic type conversion
    tags = [
        Tag("temperature", address=40001, datatype=DataType.FLOAT32),
        Tag("pressure", address=40003, datatype=DataType.FLOAT32),
        Tag("status", address=00001, datatype=DataType.BOOL)
    ]

    # Bulk read with native performance
    values = await plc.read_tags(tags)  # Returns typed values

    # High-frequency polling
    async for snapshot in plc.poll(tags, interval_ms=10):
        await process_snapshot(snapshot)
"""

MVP_DEMO = """\
# Working example that showcases performance
from bifrost.plc import ModbusConnection

async with ModbusConnection("192.168.1.100") as plc:
    # Read 1000 registers in < 50ms
    values = await plc.read_holding_registers(40001, count=1000)
"""


class EnoughError(Exception):
    """Raised by `process_snapshot`: the example itself has no end."""


def run_example(text: str, changes: dict[str, str], memory: Memory, **names) -> dict[str, object]:
    """Runs an example against a server with `memory`, whose port is "PORT" in `changes`; gives its variables."""

    async def run() -> None:
        server = ModbusServer({1: memory})
        async with asyncio.timeout(TIMEOUT_S), server.running():
            changed = text
            for old, new in changes.items():
                assert old in changed
                changed = changed.replace(old, new.replace("PORT", str(server.port)))
            source = f"async def example():\n{textwrap.indent(changed, '    ')}"
            source += "    return values\n"
            exec(compile(source, "<specification>", "exec"), names)
            with contextlib.suppress(EnoughError):
                names["values"] = await names["example"]()

    asyncio.run(run())
    return names


def test_unified_api_reads_and_polls():
    memory = Memory(coils=10, holding_registers=10)
    memory.write(Table.HOLDING_REGISTER, 0, 4, struct.pack(">ff", 21.5, 1.25))
    memory.write(Table.COIL, 0, 1, b"\x01")
    snapshots = []

    async def process_snapshot(snapshot):
        snapshots.append(snapshot)
        if len(snapshots) == SNAPSHOTS:
            raise EnoughError

    changes = {'host="192.168.1.100"': 'host="127.0.0.1"', "port=502": "port=PORT", "00001": '"00001"'}
    with pytest.raises(SyntaxError, match="leading zeros"):
        compile("address=00001", "<specification>", "exec")
    run_example(UNIFIED_API, changes, memory, process_snapshot=process_snapshot)
    for snapshot in snapshots:
        assert {name: point.value for name, point in snapshot.items()} == {
            "temperature": 21.5,
            "pressure": 1.25,
            "status": True,
        }
        assert all(point.is_good for point in snapshot.values())
    times = [snapshot.time_ns for snapshot in snapshots]
    assert times == sorted(times)


def test_mvp_demo_reads_a_thousand_registers():
    memory = Memory(holding_registers=1000)
    for offset in range(1000):
        memory.write(Table.HOLDING_REGISTER, offset, 1, offset.to_bytes(2, "big"))
    before = time.perf_counter()
    names = run_example(MVP_DEMO, {'"192.168.1.100"': '"127.0.0.1", port=PORT'}, memory)
    assert names["values"] == array("H", range(1000))
    assert time.perf_counter() - before < TIMEOUT_S
