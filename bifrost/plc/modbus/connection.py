"""`ModbusConnection`: a Modbus TCP device by coils and registers, for programs that think in those and not in tags.

The same connection as `PLCConnection`, with one method for each kind of read and write of the standard. Reads of any
length are split into requests that the standard allows.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain

from bifrost.core.errors import AddressError, DeviceError, NoAnswerError
from bifrost.core.tag import Tag
from bifrost.plc.connection import PLCConnection, ProtocolType
from bifrost.plc.modbus.address import TABLE_ITEMS_MAX, Table, parse_address
from bifrost.plc.modbus.core import answer_data, compile_oneshot
from bifrost.plc.modbus.frame import (
    READ_COUNT_MAX,
    READ_FUNCTIONS,
    WRITE_COUNT_MAX,
    Function,
    ReadRequest,
    WriteRequest,
    exception_status,
    exception_text,
    pack_bits,
    unpack_bits,
)

__all__ = ["ModbusConnection"]

_PORT = 502  # TG V1.0b, 4.2.2.
_UNIT_DEFAULT = 1
_REGISTERS = 65_536  # Values of a 16-bit register; negative ones are written as two's complement.


class ModbusConnection(PLCConnection):
    """A connection to one Modbus TCP device.

    An `address` is a reference number (``40001``), or any spelling of Modbus addresses (``"hr:0"`` counts from 0).
    All reads and writes raise:

    - `AddressError`: the address is none, is in another table than the method's, or the run is longer than the table;
    - `DeviceError`: the device said no; the message has its exception code and name;
    - `NoAnswerError`, `ConnectError`, `ClosedError`, `LimitError`: see `PLCConnection.read_tags`.

    Args:
        host: Name or address of the device.
        port: TCP port.
        unit: Unit id, 0 to 255.
        timeout_s: Time the device has to answer, in seconds.
        window: Requests in flight, 1 to 16.
        tags: Tags that may be named by text afterwards.
        name: What messages call the device; default its host.
    """

    def __init__(
        self,
        host: str,
        port: int = _PORT,
        *,
        unit: int = _UNIT_DEFAULT,
        timeout_s: float = 1.0,
        window: int = 1,
        tags: Iterable[Tag] = (),
        name: str = "",
    ) -> None:
        super().__init__(
            protocol=ProtocolType.MODBUS_TCP,
            host=host,
            port=port,
            unit=unit,
            timeout_s=timeout_s,
            window=window,
            tags=tags,
            name=name,
        )
        self.unit = unit

    async def read_holding_registers(self, address: str | int, count: int = 1) -> array[int]:
        """`count` holding registers from `address` on, as ``array('H')``. More than 125 take several requests."""
        return await self._read_registers(Table.HOLDING_REGISTER, address, count)

    async def read_input_registers(self, address: str | int, count: int = 1) -> array[int]:
        """`count` input registers from `address` on, as ``array('H')``. More than 125 take several requests."""
        return await self._read_registers(Table.INPUT_REGISTER, address, count)

    async def read_coils(self, address: str | int, count: int = 1) -> list[bool]:
        """`count` coils from `address` on. More than 2,000 take several requests."""
        return await self._read_bits(Table.COIL, address, count)

    async def read_discrete_inputs(self, address: str | int, count: int = 1) -> list[bool]:
        """`count` discrete inputs from `address` on. More than 2,000 take several requests."""
        return await self._read_bits(Table.DISCRETE_INPUT, address, count)

    async def write_register(self, address: str | int, value: int) -> None:
        """Writes one holding register, -32,768 to 65,535 (function 6)."""
        unit, offset = self._place(Table.HOLDING_REGISTER, address, 1)
        await self._write(WriteRequest(Function.WRITE_SINGLE_REGISTER, offset, 1, _register_bytes([value])), unit)

    async def write_registers(self, address: str | int, values: Sequence[int]) -> None:
        """Writes 1 to 123 holding registers at once (function 16), each -32,768 to 65,535."""
        unit, offset = self._place(Table.HOLDING_REGISTER, address, len(values))
        function = Function.WRITE_MULTIPLE_REGISTERS
        _require_count(len(values), function)
        await self._write(WriteRequest(function, offset, len(values), _register_bytes(values)), unit)

    async def write_coil(self, address: str | int, value: bool) -> None:
        """Writes one coil (function 5)."""
        unit, offset = self._place(Table.COIL, address, 1)
        await self._write(WriteRequest(Function.WRITE_SINGLE_COIL, offset, 1, pack_bits([bool(value)])), unit)

    async def write_coils(self, address: str | int, values: Sequence[bool]) -> None:
        """Writes 1 to 1,968 coils at once (function 15)."""
        unit, offset = self._place(Table.COIL, address, len(values))
        function = Function.WRITE_MULTIPLE_COILS
        _require_count(len(values), function)
        await self._write(WriteRequest(function, offset, len(values), pack_bits(values)), unit)

    async def _read_registers(self, table: Table, address: str | int, count: int) -> array[int]:
        registers = array("H", b"".join([data for data, _ in await self._read(table, address, count)]))
        if sys.byteorder == "little":
            registers.byteswap()
        return registers

    async def _read_bits(self, table: Table, address: str | int, count: int) -> list[bool]:
        parts = await self._read(table, address, count)
        return list(chain.from_iterable(unpack_bits(data, items) for data, items in parts))

    async def _read(self, table: Table, address: str | int, count: int) -> list[tuple[bytes, int]]:
        """Wire bytes and number of items of each request that the read takes."""
        unit, offset = self._place(table, address, count)
        function = READ_FUNCTIONS[table]
        longest = READ_COUNT_MAX[function]
        runs = [(first, min(longest, offset + count - first)) for first in range(offset, offset + count, longest)]
        oneshots = [
            compile_oneshot(ReadRequest(function, first, items), unit, unit_index=unit) for first, items in runs
        ]
        scanner, device = await self._ready()
        parts = []
        ends = await scanner.execute_all(device, oneshots)
        for (first, items), oneshot, end in zip(runs, oneshots, ends, strict=True):
            if isinstance(end, NoAnswerError):
                raise end
            if end.code:
                words = f"{self.name}: {table.title}s {first} to {first + items - 1}: {exception_text(end.code)}"
                raise DeviceError(end.status, words, code=end.code)
            parts.append((answer_data(end.frame, oneshot.exchange), items))
        return parts

    async def _write(self, request: WriteRequest, unit: int) -> None:
        scanner, device = await self._ready()
        try:
            await scanner.execute(device, compile_oneshot(request, unit, unit_index=unit))
        except DeviceError as error:
            words = f"{self.name}: write at offset {request.offset}: {exception_text(error.code)}"
            status = int(exception_status(error.code, is_write=True))
            raise DeviceError(status, words, code=error.code) from error

    def _place(self, table: Table, address: str | int, count: int) -> tuple[int, int]:
        """Unit and offset of a run of `count` items."""
        place = parse_address(address)
        if place.table is not table:
            raise AddressError(
                f"address {address!r} is a {place.table.title}, not a {table.title}: write for example '{table.value}:0'"
            )
        if place.bit is not None or place.spec is not None or place.byte_order is not None:
            raise AddressError(f"address {address!r}: bit, type and byte order are for tags; this reads whole items")
        if not 1 <= count <= TABLE_ITEMS_MAX - place.offset:
            last = TABLE_ITEMS_MAX - place.offset
            raise AddressError(f"count is 1 to {last} from {address!r} on, where the {table.title}s end, not {count}")
        return self.unit if place.unit is None else place.unit, place.offset


def _register_bytes(values: Sequence[int]) -> bytes:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"a register is an int, not {value!r}")
        if not -_REGISTERS // 2 <= value < _REGISTERS:
            raise ValueError(f"{value} does not fit into a register: -32768 to 65535")
    return b"".join((value % _REGISTERS).to_bytes(2, "big") for value in values)


def _require_count(count: int, function: Function) -> None:
    if not 1 <= count <= WRITE_COUNT_MAX[function]:
        raise ValueError(f"one write takes 1 to {WRITE_COUNT_MAX[function]} items, not {count}")
