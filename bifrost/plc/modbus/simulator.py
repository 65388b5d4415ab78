"""The simulated plant on Modbus TCP: its published register map, its tag table for the demonstration, and its server.

Three units behind one port, as behind a gateway: `station` (1: pump and tank), `meter` (2: energy meter, word order
CDAB) and `analyser` (3: fails now and then). `POINTS` is the register map, and the only place that knows it: registers,
tag table and demonstration configuration all come from it.

``python -m bifrost.plc.modbus.simulator --port 5020`` serves it until it is interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import io
import json
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec, parse_type
from bifrost.plc.modbus.address import ModbusAddress, Table, parse_address, parse_range
from bifrost.plc.modbus.faults import FaultPlan
from bifrost.plc.modbus.frame import (
    ExceptionCode,
    MaskWriteRequest,
    ReadWriteRequest,
    Request,
    WriteRequest,
    pack_bits,
)
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.plant import TICK_NS, AnalyserState, Plant, Signal
from bifrost.plc.modbus.server import ModbusServer

__all__ = ["POINTS", "UNITS", "Point", "Simulator", "demo_devices", "encode_value", "running_simulator", "tag_table"]


class Point(msgspec.Struct, frozen=True):
    """One row of the register map; the fields are the columns of a tag table (CONTRACT, "Configuration")."""

    device: str
    group: str
    name: str
    address: str
    type: str
    unit: str = ""
    description: str = ""
    byte_order: ByteOrder = ByteOrder.ABCD
    scale: float = 1.0
    low: float | None = None
    high: float | None = None
    writable: bool = False

    @property
    def full_name(self) -> str:
        """Full tag name, by which the plant knows the signal."""
        return ".".join(part for part in (self.device, self.group, self.name) if part)


UNITS: Final[Mapping[str, int]] = {"station": 1, "meter": 2, "analyser": 3}
_HOLES: Final[Mapping[str, Sequence[str]]] = {"station": ("hr:4-5",), "meter": (), "analyser": ()}
_IDENTIFICATION: Final[Mapping[str, Mapping[int, bytes]]] = {
    device: {0: b"Bifrost", 1: f"SIM-{device.upper()}".encode(), 2: b"1.0", 4: f"Simulated {device}".encode()}
    for device in UNITS
}
_station = partial(Point, "station")
_meter = partial(Point, "meter", "", byte_order=ByteOrder.CDAB)

POINTS: Final[Sequence[Point]] = (
    _station("pump", "run", "co:0", "bool", "", "Run command; driven by the station in automatic mode", writable=True),
    _station("pump", "automatic", "co:1", "bool", "", "Pump follows the level of the tank", writable=True),
    _station("pump", "running", "di:0", "bool", "", "Pump turns"),
    _station("tank", "high", "di:1", "bool", "", "High level switch"),
    _station("tank", "low", "di:2", "bool", "", "Low level switch"),
    _station(
        "pump", "speed_setpoint", "hr:0", "uint16", "Hz", "Speed set point", scale=0.01, low=0, high=50, writable=True
    ),
    _station("tank", "valve", "hr:1", "uint16", "%", "Outlet valve opening", scale=0.1, low=0, high=100, writable=True),
    _station("pump", "starts", "hr:2", "uint16", "", "Starts since commissioning"),
    _station("pump", "run_time", "hr:6", "uint32", "s", "Time the pump has turned"),
    _station("pump", "at_speed", "hr:8.1", "bool", "", "Status word, bit 1: speed has reached its set point"),
    _station("pump", "overload", "hr:8.2", "bool", "", "Status word, bit 2: motor current too high"),
    _station("pump", "speed", "ir:0", "uint16", "Hz", "Speed", scale=0.01, low=0, high=50),
    _station("pump", "flow", "ir:1", "float32", "m³/h", "Flow into the tank", low=0, high=30),
    _station("pump", "current", "ir:3", "float32", "A", "Motor current", low=0, high=12),
    _station("pump", "pressure", "ir:5", "int16", "bar", "Discharge pressure", scale=0.01, low=0, high=6),
    _station("tank", "level", "ir:6", "float32", "%", "Level", low=0, high=100),
    _station("tank", "temperature", "ir:8", "int16", "°C", "Temperature", scale=0.1, low=0, high=60),
    _station("tank", "outflow", "ir:9", "float32", "m³/h", "Flow out of the tank", low=0, high=30),
    _meter("voltage_l1", "ir:0", "float32", "V", "Voltage L1-N", low=0, high=300),
    _meter("voltage_l2", "ir:2", "float32", "V", "Voltage L2-N", low=0, high=300),
    _meter("voltage_l3", "ir:4", "float32", "V", "Voltage L3-N", low=0, high=300),
    _meter("currents", "ir:6", "float32[3]", "A", "Currents L1 to L3"),
    _meter("power", "ir:12", "float32", "kW", "Active power", low=0, high=20),
    _meter("reactive_power", "ir:14", "int32", "var", "Reactive power"),
    _meter("power_factor", "ir:16", "int16", "", "Power factor", scale=0.001, low=-1, high=1),
    _meter("frequency", "ir:17", "float32", "Hz", "Frequency", low=45, high=65),
    _meter("energy", "ir:20", "uint32", "kWh", "Active energy, 0.01 kWh a count", scale=0.01),
    _meter("energy_exact", "ir:22", "float64", "kWh", "Active energy"),
    _meter("energy_pulses", "ir:26", "uint64", "Wh", "Active energy in watt-hours"),
    _meter("tariff", "ir:30", "bcd16", "", "Tariff in force"),
    Point("meter", "", "serial_number", "hr:0", "string[16]", "", "Serial number"),
    Point("analyser", "", "turbidity", "ir:0", "float32", "NTU", "Turbidity", low=0, high=10),
    Point("analyser", "", "ph", "ir:2", "int16", "", "pH", scale=0.01, low=0, high=14),
    Point("analyser", "", "samples", "ir:3", "uint32", "", "Samples since start"),
)

# ---------------------------------------------------------------- values to wire bytes

_STRUCT_CODES: Final = {
    DataType.INT16: "h",
    DataType.UINT16: "H",
    DataType.INT32: "i",
    DataType.UINT32: "I",
    DataType.INT64: "q",
    DataType.UINT64: "Q",
    DataType.FLOAT32: "f",
    DataType.FLOAT64: "d",
}
_SWAPS_BYTES: Final = (ByteOrder.BADC, ByteOrder.DCBA)
_REVERSES_WORDS: Final = (ByteOrder.CDAB, ByteOrder.DCBA)


def encode_value(value: Signal, spec: TypeSpec, order: ByteOrder) -> bytes:
    """Wire bytes of the registers that hold `value`; written apart from the codec, so that each can prove the other.

    Raises:
        ValueError: A type that the simulator has no register for (a bit, or one byte).
    """
    if spec.base is DataType.STRING:
        return str(value).encode("ascii").ljust((spec.count + 1) // 2 * 2, b"\0")
    elements = value if isinstance(value, tuple) else (value,)
    return b"".join(_encode_element(element, spec.base, order) for element in elements)


def _encode_element(value: Signal, base: DataType, order: ByteOrder) -> bytes:
    if base in (DataType.BCD16, DataType.BCD32):
        data = bytes.fromhex(f"{value:0{base.element_bytes * 2}d}")
    elif base in _STRUCT_CODES:
        data = struct.pack(f">{_STRUCT_CODES[base]}", value)
    else:
        raise ValueError(f"the simulator has no registers of type {base}")
    words = [data[index : index + 2] for index in range(0, len(data), 2)]
    if order in _SWAPS_BYTES:
        words = [word[::-1] for word in words]
    if order in _REVERSES_WORDS:
        words.reverse()
    return b"".join(words)


# ---------------------------------------------------------------- the plant in registers


class _Place(msgspec.Struct, frozen=True):
    """Where a point's value goes."""

    memory: Memory
    point: Point
    address: ModbusAddress
    spec: TypeSpec


class Simulator:
    """The plant and its registers. `units` is what a `ModbusServer` serves.

    `step` takes the clients' writes into the plant, advances it, and publishes its signals. Pure but for the memory.
    """

    def __init__(self, plant: Plant | None = None) -> None:
        self.plant = plant or Plant()
        guards = {"station": self._guard_station, "analyser": self._guard_analyser}
        self._memories = {
            device: Memory(
                coils=16,
                discrete_inputs=16,
                input_registers=64,
                holding_registers=64,
                holes=[parse_range(text) for text in _HOLES[device]],
                identification=_IDENTIFICATION[device],
                guard=guards.get(device),
            )
            for device in UNITS
        }
        self.units = {UNITS[device]: memory for device, memory in self._memories.items()}
        self._places = [
            _Place(self._memories[point.device], point, parse_address(point.address), parse_type(point.type))
            for point in POINTS
        ]
        self._register_maxima = {
            place.address.offset: round(place.point.high / place.point.scale)
            for place in self._places
            if place.point.writable and place.point.high is not None
        }
        self._publish()

    def step(self, now_ns: int) -> None:
        """Advances to `now_ns` of a monotonic clock."""
        station = self._memories["station"]
        run, automatic = (station.read(Table.COIL, offset, 1) != b"\0" for offset in (0, 1))
        self.plant.run, self.plant.automatic = run, automatic
        self.plant.speed_setpoint_hz = int.from_bytes(station.read(Table.HOLDING_REGISTER, 0, 1), "big") * 0.01
        self.plant.valve_percent = int.from_bytes(station.read(Table.HOLDING_REGISTER, 1, 1), "big") * 0.1
        if self.plant.step(now_ns):
            self._publish()

    def _publish(self) -> None:
        """Writes every signal to its registers; all between two requests, so that no reader sees half of it."""
        signals = self.plant.signals()
        for place in self._places:
            value = signals[place.point.full_name]
            address, memory = place.address, place.memory
            if address.table.is_bits:
                memory.write(address.table, address.offset, 1, pack_bits([bool(value)]))
            elif address.bit is not None:
                word = int.from_bytes(memory.read(address.table, address.offset, 1), "big")
                word = word & ~(1 << address.bit) | bool(value) << address.bit
                memory.write(address.table, address.offset, 1, word.to_bytes(2, "big"))
            else:
                if place.point.scale != 1.0 and isinstance(value, int | float):
                    value = round(value / place.point.scale)
                data = encode_value(value, place.spec, place.point.byte_order)
                memory.write(address.table, address.offset, len(data) // 2, data)
        self._memories["analyser"].is_answering = self.plant.analyser is not AnalyserState.SILENT

    def _guard_station(self, request: Request) -> int:
        """Set points beyond their range are refused as illegal values."""
        memory = self._memories["station"]
        for offset, value in _registers_written(request, memory):
            if value > self._register_maxima.get(offset, 0xFFFF):
                return ExceptionCode.ILLEGAL_DATA_VALUE
        return 0

    def _guard_analyser(self, request: Request) -> int:
        return ExceptionCode.SERVER_DEVICE_FAILURE if self.plant.analyser is AnalyserState.FAILED else 0


def _registers_written(request: Request, memory: Memory) -> Iterator[tuple[int, int]]:
    """Offset and new value of each holding register that `request` would write."""
    if isinstance(request, MaskWriteRequest):
        old = int.from_bytes(memory.read(Table.HOLDING_REGISTER, request.offset, 1), "big")
        yield request.offset, old & request.and_mask | request.or_mask & ~request.and_mask & 0xFFFF
    elif isinstance(request, ReadWriteRequest):
        for index, (value,) in enumerate(struct.iter_unpack(">H", request.data)):
            yield request.write_offset + index, value
    elif isinstance(request, WriteRequest) and request.function in (6, 16):
        for index, (value,) in enumerate(struct.iter_unpack(">H", request.data)):
            yield request.offset + index, value


# ---------------------------------------------------------------- the demonstration's configuration

_COLUMNS: Final = (
    "group",
    "name",
    "address",
    "type",
    "byte_order",
    "scale",
    "unit",
    "low",
    "high",
    "writable",
    "description",
)


def tag_table(device: str) -> str:
    """Tag table of `device` as CSV text with a header row (CONTRACT, "Configuration").

    Raises:
        KeyError: The plant has no such device.
    """
    if device not in UNITS:
        raise KeyError(device)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for point in POINTS:
        if point.device == device:
            cells = (getattr(point, column) for column in _COLUMNS)
            writer.writerow(
                "" if cell is None else str(cell).lower() if isinstance(cell, bool) else cell for cell in cells
            )
    return text.getvalue()


def demo_devices(port: int, host: str = "127.0.0.1") -> str:
    """The `[[device]]` sections of a configuration that reads the whole plant at `host`:`port`, as TOML text."""
    lines: list[str] = []
    for device, unit in UNITS.items():
        lines += [
            "[[device]]",
            f"name = {json.dumps(device)}",
            f"url = {json.dumps(f'modbus-tcp://{host}:{port}?unit={unit}')}",
            'scan = "500 ms"',
            'timeout = "500 ms"',
            'stale = "5 s"',
        ]
        if _HOLES[device]:
            lines.append(f"forbidden = {json.dumps(_HOLES[device])}")
        for point in POINTS:
            if point.device == device:
                lines += ["", "[[device.tag]]", *_tag_lines(point)]
        lines.append("")
    return "\n".join(lines)


def _tag_lines(point: Point) -> Iterator[str]:
    for key in ("group", "name", "address", "type", "unit", "description"):
        if getattr(point, key):
            yield f"{key} = {json.dumps(getattr(point, key), ensure_ascii=False)}"
    if point.byte_order is not ByteOrder.ABCD:
        yield f"byte_order = {json.dumps(point.byte_order.value)}"
    if point.scale != 1.0:
        yield f"scale = {point.scale}"
    if point.low is not None:
        yield f"range = [{point.low}, {point.high}]"
    if point.writable:
        yield "writable = true"


# ---------------------------------------------------------------- on a socket


@contextlib.asynccontextmanager
async def running_simulator(
    simulator: Simulator,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Callable[[], int] = time.monotonic_ns,
    faults: Callable[[], FaultPlan] | None = None,
) -> AsyncIterator[ModbusServer]:
    """Serves `simulator` and keeps it in step with `clock` (monotonic, nanoseconds) as long as the context lasts.

    Raises:
        OSError: The address cannot be listened on.
    """
    server = ModbusServer(simulator.units, host=host, port=port, faults=faults)
    async with server.running(), asyncio.TaskGroup() as group:
        ticking = group.create_task(_keep_in_step(simulator, clock), name="modbus-simulator-tick")
        try:
            yield server
        finally:
            ticking.cancel()


async def _keep_in_step(simulator: Simulator, clock: Callable[[], int]) -> None:
    while True:
        simulator.step(clock())
        await asyncio.sleep(TICK_NS / 1e9)


async def _serve(host: str, port: int, seed: int) -> None:
    async with running_simulator(Simulator(Plant(seed)), host=host, port=port) as server:
        sys.stdout.write(f"simulated plant at modbus-tcp://{host}:{server.port}, units {UNITS}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serves the plant until interrupted. The first line on standard output says where."""
    parser = argparse.ArgumentParser(description="Bifrost's simulated plant on Modbus TCP")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: any free one")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.host, arguments.port, arguments.seed))


if __name__ == "__main__":
    main()
