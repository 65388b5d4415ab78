"""Strangers at our Modbus server: two foreign clients read and write every function, and raw bad requests get the standard's answer.

The clients run in processes of their own (`peers/modbus_client.py`); the server runs here, on loopback.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from bifrost.plc.modbus.address import Table
from bifrost.plc.modbus.frame import pack_bits
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.plant import Plant
from bifrost.plc.modbus.server import ModbusServer
from bifrost.plc.modbus.simulator import Simulator, running_simulator

pytestmark = pytest.mark.interop

CLIENT = Path(__file__).parent / "peers" / "modbus_client.py"
WAIT_S = 30.0
EXPECTED = {
    "write_coil": False,
    "write_coils": False,
    "coils": [index in (3, 10, 12) for index in range(16)],
    "discrete_inputs": [index % 3 == 0 for index in range(9)],
    "write_register": False,
    "write_registers": False,
    "mask_write": False,
    "holding_registers": [0x12CD, 1, 2, 65_535],
    "input_registers": [1060, 1061, 1062, 1063],
    "read_write": [2, 77],
    "illegal_address": 2,
    "illegal_function": 1,
    "identification": {"0": "Bifrost", "1": "TEST", "2": "1.0"},
}


def memory():
    unit = Memory(
        coils=64,
        discrete_inputs=64,
        input_registers=64,
        holding_registers=64,
        identification={0: b"Bifrost", 1: b"TEST", 2: b"1.0"},
    )
    unit.write(Table.DISCRETE_INPUT, 0, 64, pack_bits([index % 3 == 0 for index in range(64)]))
    unit.write(Table.INPUT_REGISTER, 0, 64, b"".join((1000 + index).to_bytes(2, "big") for index in range(64)))
    return unit


async def in_a_process(*arguments):
    """Standard output of a Python script that ends well."""
    process = await asyncio.create_subprocess_exec(sys.executable, *map(str, arguments), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def run(coroutine):
    async def within():
        async with asyncio.timeout(WAIT_S):
            return await coroutine

    return asyncio.run(within())


@pytest.mark.parametrize("peer", ["pymodbus", "pyModbusTCP"])
def test_foreign_client_reads_and_writes_every_function(peer):
    async def scene():
        async with ModbusServer({1: memory()}).running() as server:
            found = json.loads(await in_a_process(CLIENT, peer, server.port))
            return found, {function for _, function in server.counters.requests}

    found, functions = run(scene())
    assert found == EXPECTED
    assert functions == {1, 2, 3, 4, 5, 6, 7, 15, 16, 22, 23, 43}


READ_TANK_LEVEL = """
import sys
from pymodbus.client import ModbusTcpClient
client = ModbusTcpClient("127.0.0.1", port=int(sys.argv[1]), timeout=5)
client.connect()
registers = client.read_input_registers(6, count=2, device_id=1).registers
level = client.convert_from_registers(registers, client.DATATYPE.FLOAT32)
registers = client.read_input_registers(22, count=4, device_id=2).registers
energy = client.convert_from_registers(registers, client.DATATYPE.FLOAT64, word_order="little")
registers = client.read_holding_registers(0, count=8, device_id=2).registers
print([level, energy, client.convert_from_registers(registers, client.DATATYPE.STRING)])
"""


def test_foreign_client_understands_the_simulated_plant():
    """The plant's clock stands still, so that what is expected is known."""

    async def scene():
        simulator = Simulator(Plant(1))
        async with running_simulator(simulator, clock=lambda: 0) as server:
            return await in_a_process("-c", READ_TANK_LEVEL, server.port), simulator.plant.signals()

    output, signals = run(scene())
    level, energy, serial_number = json.loads(output.replace("'", '"'))
    assert level == pytest.approx(signals["station.tank.level"])
    assert energy == signals["meter.energy_exact"]
    assert serial_number.rstrip("\0") == signals["meter.serial_number"]


def test_simulator_runs_as_a_program_and_says_where():
    async def scene():
        arguments = ("-m", "bifrost.plc.modbus.simulator", "--port", "0", "--seed", "3")
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        line = (await process.stdout.readline()).decode()
        port = int(line.partition("127.0.0.1:")[2].partition(",")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes.fromhex("00 01 00 00 00 06 02 03 00 00 00 07"))
        answer = await reader.readexactly(23)
        writer.close()
        process.send_signal(signal.SIGINT)
        return answer[9:], await process.wait()

    assert run(scene()) == (b"BF-EM3-004711\0", 0)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("00 01 00 00 00 06 01 03 00 00 00 00", "00 01 00 00 00 03 01 83 03"),
        ("00 01 00 00 00 06 01 03 00 00 00 7E", "00 01 00 00 00 03 01 83 03"),
        ("00 01 00 00 00 06 01 01 00 00 07 D1", "00 01 00 00 00 03 01 81 03"),
        ("00 01 00 00 00 04 01 03 00 00", "00 01 00 00 00 03 01 83 03"),
        ("00 01 00 00 00 02 01 03", "00 01 00 00 00 03 01 83 03"),
        ("00 01 00 00 00 06 01 05 00 00 12 34", "00 01 00 00 00 03 01 85 03"),
        ("00 01 00 00 00 02 01 63", "00 01 00 00 00 03 01 E3 01"),
        ("00 01 00 00 00 06 01 03 00 40 00 01", "00 01 00 00 00 03 01 83 02"),
        ("00 01 00 00 00 06 01 06 FF FF 00 01", "00 01 00 00 00 03 01 86 02"),
        ("00 01 00 07 00 06 01 03 00 00 00 01 00 02 00 00 00 02 01 63", "00 02 00 00 00 03 01 E3 01"),
        ("00 01 00 00 00 06 09 03 00 00 00 01 00 02 00 00 00 02 01 63", "00 02 00 00 00 03 01 E3 01"),
        ("00 01 00 00 00 00 01 03", ""),
        ("00 01 00 00 FF FF 01 03", ""),
    ],
    ids=[
        "quantity 0",
        "quantity 126",
        "2001 coils",
        "truncated",
        "function alone",
        "coil value 1234",
        "unknown function",
        "address behind the end",
        "last address",
        "wrong protocol id is skipped",
        "unknown unit is silent",
        "length 0 closes",
        "length 65535 closes",
    ],
)
def test_bad_request_gets_what_the_standard_says(request_, answer):
    async def scene():
        async with ModbusServer({1: memory()}).running() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(bytes.fromhex(request_))
            received = await (reader.readexactly(9) if answer else reader.read())
            writer.close()
            return received.hex(" ").upper()

    assert run(scene()) == answer


def test_sixteen_requests_in_one_segment_get_sixteen_answers():
    async def scene():
        async with ModbusServer({1: memory()}).running() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"".join(bytes((0, number, 0, 0, 0, 6, 1, 4, 0, number, 0, 1)) for number in range(16)))
            answers = [await reader.readexactly(11) for _ in range(16)]
            writer.close()
            return [(answer[1], int.from_bytes(answer[9:], "big")) for answer in answers]

    assert run(scene()) == [(number, 1000 + number) for number in range(16)]
