"""The simulated plant: its registers are what the map says, set points are taken, its configuration reads back."""

from __future__ import annotations

import asyncio
import csv
import io
import struct
import tomllib

import pytest

from bifrost.core.datatypes import ByteOrder, parse_type
from bifrost.plc.modbus import frame
from bifrost.plc.modbus.address import Table, item_count, parse_address
from bifrost.plc.modbus.plant import AnalyserState, Plant
from bifrost.plc.modbus.simulator import (
    POINTS,
    UNITS,
    Simulator,
    demo_devices,
    encode_value,
    running_simulator,
    tag_table,
)

SECOND = 1_000_000_000


def ask(simulator, unit, text):
    return simulator.units[unit].answer(bytes.fromhex(text)).hex(" ").upper()


def registers(simulator, unit, table, offset, count):
    return simulator.units[unit].read(table, offset, count)


@pytest.mark.parametrize(
    ("value", "type_text", "order", "expected"),
    [
        (1.5, "float32", ByteOrder.ABCD, "3F C0 00 00"),
        (1.5, "float32", ByteOrder.CDAB, "00 00 3F C0"),
        (1.5, "float32", ByteOrder.BADC, "C0 3F 00 00"),
        (1.5, "float32", ByteOrder.DCBA, "00 00 C0 3F"),
        (0x0102030405060708, "uint64", ByteOrder.CDAB, "07 08 05 06 03 04 01 02"),
        (-2, "int16", ByteOrder.BADC, "FE FF"),
        (1234, "bcd16", ByteOrder.ABCD, "12 34"),
        (12345678, "bcd32", ByteOrder.CDAB, "56 78 12 34"),
        ("AB1", "string[6]", ByteOrder.ABCD, "41 42 31 00 00 00"),
        ((1, 2), "int16[2]", ByteOrder.ABCD, "00 01 00 02"),
    ],
)
def test_values_become_wire_bytes(value, type_text, order, expected):
    assert encode_value(value, parse_type(type_text), order) == bytes.fromhex(expected)


def test_types_without_registers_are_refused():
    with pytest.raises(ValueError, match="no registers of type bool"):
        encode_value(True, parse_type("bool"), ByteOrder.ABCD)


def test_register_map_has_no_overlaps_and_every_signal_a_place():
    assert {point.full_name for point in POINTS} == set(Plant().signals())
    taken = set()
    for point in POINTS:
        address = parse_address(point.address)
        for item in range(item_count(parse_type(point.type), address.table, address.bit or 0)):
            place = (point.device, address.table, address.offset + item, address.bit)
            assert place not in taken
            taken.add(place)


def test_signals_are_in_their_registers():
    simulator = Simulator(Plant(1))
    simulator.step(0)
    simulator.step(20 * SECOND)
    signals = simulator.plant.signals()
    level = struct.unpack(">f", registers(simulator, 1, Table.INPUT_REGISTER, 6, 2))[0]
    assert level == pytest.approx(signals["station.tank.level"])
    speed = int.from_bytes(registers(simulator, 1, Table.INPUT_REGISTER, 0, 1), "big")
    assert speed * 0.01 == pytest.approx(signals["station.pump.speed"], abs=0.005)
    data = registers(simulator, 2, Table.INPUT_REGISTER, 22, 4)
    words = b"".join(data[index : index + 2] for index in (6, 4, 2, 0))
    assert struct.unpack(">d", words)[0] == signals["meter.energy_exact"]
    assert registers(simulator, 2, Table.HOLDING_REGISTER, 0, 8).rstrip(b"\0") == b"BF-EM3-004711"
    status_word = int.from_bytes(registers(simulator, 1, Table.HOLDING_REGISTER, 8, 1), "big")
    assert bool(status_word & 2) == signals["station.pump.at_speed"]
    assert registers(simulator, 1, Table.DISCRETE_INPUT, 0, 1) == bytes((signals["station.pump.running"],))


def test_set_points_are_taken_and_impossible_ones_refused():
    simulator = Simulator(Plant(1))
    simulator.step(0)
    assert ask(simulator, 1, "05 00 01 00 00") == "05 00 01 00 00"
    assert ask(simulator, 1, "05 00 00 FF 00") == "05 00 00 FF 00"
    assert ask(simulator, 1, "10 00 00 00 02 04 0B B8 00 64") == "10 00 00 00 02"
    simulator.step(SECOND)
    plant = simulator.plant
    assert (plant.automatic, plant.run, plant.speed_setpoint_hz, plant.valve_percent) == (False, True, 30.0, 10.0)
    for refused in (
        "06 00 00 13 89",
        "10 00 00 00 02 04 00 00 03 E9",
        "16 00 00 00 00 FF FF",
        "17 00 00 00 01 00 00 00 01 02 FF FF",
    ):
        assert ask(simulator, 1, refused)[3:] == "03"
    assert ask(simulator, 1, "16 00 00 00 00 00 01") == "16 00 00 00 00 00 01"
    assert ask(simulator, 1, "03 00 03 00 03") == "83 02"


def test_analyser_fails_and_falls_silent():
    simulator = Simulator(Plant(1))
    answers = {}
    for tick in range(2000):
        simulator.step(tick * SECOND // 10)
        answers[simulator.plant.analyser] = (simulator.units[3].is_answering, ask(simulator, 3, "04 00 00 00 02")[:5])
    assert answers == {
        AnalyserState.WORKING: (True, "04 04"),
        AnalyserState.FAILED: (True, "84 04"),
        AnalyserState.SILENT: (False, answers[AnalyserState.SILENT][1]),
    }


def test_every_unit_says_what_it_is():
    for unit in Simulator().units.values():
        assert b"Bifrost" in unit.answer(frame.encode_request(frame.IdentificationRequest(1)))


def test_demo_configuration_names_every_tag_once():
    devices = tomllib.loads(demo_devices(5020))["device"]
    assert [device["url"] for device in devices] == [
        f"modbus-tcp://127.0.0.1:5020?unit={unit}" for unit in UNITS.values()
    ]
    names = {
        ".".join(part for part in (device["name"], tag.get("group"), tag["name"]) if part)
        for device in devices
        for tag in device["tag"]
    }
    assert names == {point.full_name for point in POINTS}
    assert devices[0]["forbidden"] == ["hr:4-5"]
    assert devices[1]["tag"][0] == {
        "name": "voltage_l1",
        "address": "ir:0",
        "type": "float32",
        "byte_order": "CDAB",
        "unit": "V",
        "range": [0, 300],
        "description": "Voltage L1-N",
    }


def test_tag_table_is_csv_with_the_same_rows():
    rows = list(csv.DictReader(io.StringIO(tag_table("station"))))
    assert len(rows) == sum(point.device == "station" for point in POINTS)
    assert rows[5]["address"] == "hr:0"
    assert (rows[5]["scale"], rows[5]["high"], rows[5]["writable"]) == ("0.01", "50", "true")
    with pytest.raises(KeyError):
        tag_table("boiler")


def test_simulator_is_served_and_kept_in_step():
    """The clock is ours: it jumps 10 s at each look, so the pump runs after a few ticks of the real one."""

    async def scene():
        times = iter(range(0, 10_000 * SECOND, 10 * SECOND))
        simulator = Simulator(Plant(1))
        async with asyncio.timeout(5), running_simulator(simulator, clock=lambda: next(times)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            request = frame.encode_adu(1, 3, frame.encode_request(frame.ReadRequest(4, 3, 2)))
            samples = b"\0\0\0\0"
            while samples == b"\0\0\0\0":
                writer.write(request)
                samples = (await reader.readexactly(13))[9:]
            writer.close()
            assert int.from_bytes(samples, "big") == 100

    asyncio.run(scene())
