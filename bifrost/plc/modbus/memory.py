"""What a Modbus server serves: the four tables of one unit, and the answer to one request. Pure.

`Memory.answer` follows the state diagrams of AP 6 and 7: is the function supported (exception 1), are quantities and
values legal (3), does the address range exist (2), and last what the device itself says (`guard`: 4, 5, 6 or a refused
value). Nothing is changed unless every check has passed.

Source: Modbus Application Protocol V1.1b3 (AP).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from bifrost.plc.modbus.address import TABLE_ITEMS_MAX, AddressRange, Table
from bifrost.plc.modbus.frame import (
    PDU_BYTES_MAX,
    READ_FUNCTIONS,
    ExceptionCode,
    Function,
    Identification,
    IdentificationRequest,
    MaskWriteRequest,
    ReadRequest,
    ReadWriteRequest,
    Request,
    WriteRequest,
    decode_request,
    encode_answer,
    encode_exception,
    encode_identification,
)

__all__ = ["Guard", "Memory"]

Guard: TypeAlias = Callable[[Request], int]
"""What the device says to a request that the tables allow: 0, or the exception code it refuses with."""

_DataRequest: TypeAlias = ReadRequest | WriteRequest | MaskWriteRequest | ReadWriteRequest

_READ_TABLES: Final = {function: table for table, function in READ_FUNCTIONS.items()}
_WRITE_TABLES: Final = {
    Function.WRITE_SINGLE_COIL: Table.COIL,
    Function.WRITE_MULTIPLE_COILS: Table.COIL,
    Function.WRITE_SINGLE_REGISTER: Table.HOLDING_REGISTER,
    Function.WRITE_MULTIPLE_REGISTERS: Table.HOLDING_REGISTER,
    Function.MASK_WRITE_REGISTER: Table.HOLDING_REGISTER,
    Function.READ_WRITE_MULTIPLE_REGISTERS: Table.HOLDING_REGISTER,
}
_OBJECTS_BYTES_MAX: Final = PDU_BYTES_MAX - 7  # What Read Device Identification leaves for objects; AP 6.21.
_OBJECT_BYTES_MAX: Final = _OBJECTS_BYTES_MAX - 2  # An object has an id and a length.
_CODE_LAST_OBJECT: Final = {1: 0x02, 2: 0x7F, 3: 0xFF}  # Last object id of basic, regular and extended; AP 6.21.
_INDIVIDUAL: Final = 0x80  # Conformity bit: single objects can be asked for too; AP 6.21.
_ONE_OBJECT: Final = 4


class Memory:
    """The tables of one unit.

    Args:
        coils: Size of the table in items, 0 (no such table) to 65,536; and so on for the other three.
        holes: Ranges that answer "illegal data address" to whatever touches them.
        identification: Identification objects by id 0 to 255, each up to 244 bytes; none: function 43 is refused.
        functions: Supported function codes.
        guard: See `Guard`.
    """

    def __init__(
        self,
        *,
        coils: int = 0,
        discrete_inputs: int = 0,
        input_registers: int = 0,
        holding_registers: int = 0,
        holes: Sequence[AddressRange] = (),
        identification: Mapping[int, bytes] | None = None,
        functions: frozenset[int] = frozenset(Function),
        guard: Guard | None = None,
    ) -> None:
        self.sizes = {
            Table.COIL: coils,
            Table.DISCRETE_INPUT: discrete_inputs,
            Table.INPUT_REGISTER: input_registers,
            Table.HOLDING_REGISTER: holding_registers,
        }
        self.holes = tuple(holes)
        self.identification = dict(sorted((identification or {}).items()))
        self.functions = functions
        self.guard = guard
        self.is_answering = True
        """False: requests to this unit are not answered, as if it had no power."""
        if any(not 0 <= size <= TABLE_ITEMS_MAX for size in self.sizes.values()):
            raise ValueError(f"a table has 0 to {TABLE_ITEMS_MAX} items")
        if any(not 0 <= key <= 255 or len(text) > _OBJECT_BYTES_MAX for key, text in self.identification.items()):
            raise ValueError(f"an identification object has an id of 0 to 255 and at most {_OBJECT_BYTES_MAX} bytes")
        self._data = {
            table: bytearray((size + 7) // 8 if table.is_bits else size * 2) for table, size in self.sizes.items()
        }

    def read(self, table: Table, offset: int, count: int) -> bytes:
        """Wire bytes of `count` items from `offset` on: registers big-endian, bits packed.

        Raises:
            IndexError: The table has no such items.
        """
        self._require(table, offset, count)
        data = self._data[table]
        if not table.is_bits:
            return bytes(data[offset * 2 : (offset + count) * 2])
        number = int.from_bytes(data[offset // 8 : (offset + count + 7) // 8], "little") >> offset % 8
        return (number & (1 << count) - 1).to_bytes((count + 7) // 8, "little")

    def write(self, table: Table, offset: int, count: int, data: bytes) -> None:
        """Stores wire bytes `data` in `count` items from `offset` on; any table, as the device itself does.

        Raises:
            IndexError: The table has no such items.
            ValueError: `data` has not the length that `count` needs.
        """
        self._require(table, offset, count)
        if len(data) != ((count + 7) // 8 if table.is_bits else count * 2):
            raise ValueError(f"{len(data)} bytes for {count} {table.title}s")
        target = self._data[table]
        if not table.is_bits:
            target[offset * 2 : (offset + count) * 2] = data
            return
        first, last = offset // 8, (offset + count + 7) // 8
        mask = (1 << count) - 1
        number = int.from_bytes(target[first:last], "little") & ~(mask << offset % 8)
        number |= (int.from_bytes(data, "little") & mask) << offset % 8
        target[first:last] = number.to_bytes(last - first, "little")

    def answer(self, pdu: bytes) -> bytes:
        """The PDU that answers request `pdu`; AP 7."""
        function = pdu[0]
        if function not in self.functions:
            return encode_exception(function, ExceptionCode.ILLEGAL_FUNCTION)
        request = decode_request(pdu)
        if isinstance(request, ExceptionCode):
            return encode_exception(function, request)
        if isinstance(request, IdentificationRequest):
            return self._identify(request)
        refusal = self._refusal(request)
        return encode_exception(function, refusal) if refusal else self._execute(request)

    def _require(self, table: Table, offset: int, count: int) -> None:
        if not (offset >= 0 and count >= 1 and offset + count <= self.sizes[table]):
            raise IndexError(f"{table.value}:{offset} and {count - 1} after it; the table has {self.sizes[table]}")

    def _refusal(self, request: _DataRequest) -> int:
        """0, or the exception code of addresses that are not there, or of a device that will not."""
        ranges = []
        if isinstance(request, ReadRequest):
            ranges.append((_READ_TABLES[Function(request.function)], request.offset, request.count))
        elif isinstance(request, ReadWriteRequest):
            ranges.append((Table.HOLDING_REGISTER, request.offset, request.count))
            ranges.append((Table.HOLDING_REGISTER, request.write_offset, len(request.data) // 2))
        else:
            count = 1 if isinstance(request, MaskWriteRequest) else request.count
            ranges.append((_WRITE_TABLES[Function(request.function)], request.offset, count))
        if not all(self._has(*span) for span in ranges):
            return ExceptionCode.ILLEGAL_DATA_ADDRESS
        return self.guard(request) if self.guard else 0

    def _has(self, table: Table, offset: int, count: int) -> bool:
        if offset + count > self.sizes[table]:
            return False
        return not any(
            hole.table is table and hole.first < offset + count and hole.last >= offset for hole in self.holes
        )

    def _execute(self, request: _DataRequest) -> bytes:
        if isinstance(request, ReadRequest):
            table = _READ_TABLES[Function(request.function)]
            return encode_answer(request, self.read(table, request.offset, request.count))
        if isinstance(request, ReadWriteRequest):
            # The write comes first; AP 6.17.
            self.write(Table.HOLDING_REGISTER, request.write_offset, len(request.data) // 2, request.data)
            return encode_answer(request, self.read(Table.HOLDING_REGISTER, request.offset, request.count))
        if isinstance(request, MaskWriteRequest):
            old = int.from_bytes(self.read(Table.HOLDING_REGISTER, request.offset, 1), "big")
            new = old & request.and_mask | request.or_mask & ~request.and_mask & 0xFFFF
            self.write(Table.HOLDING_REGISTER, request.offset, 1, new.to_bytes(2, "big"))
        else:
            self.write(_WRITE_TABLES[Function(request.function)], request.offset, request.count, request.data)
        return encode_answer(request)

    def _identify(self, request: IdentificationRequest) -> bytes:
        """As many objects as fit from the one asked on; an unknown id begins again at the first; AP 6.21."""
        objects = self.identification
        if not objects:
            return encode_exception(request.function, ExceptionCode.ILLEGAL_FUNCTION)
        level = next(level for level, last in _CODE_LAST_OBJECT.items() if max(objects) <= last)
        if request.code == _ONE_OBJECT:
            if request.object_id not in objects:
                return encode_exception(request.function, ExceptionCode.ILLEGAL_DATA_ADDRESS)
            one = {request.object_id: objects[request.object_id]}
            return encode_answer(request, encode_identification(Identification(level | _INDIVIDUAL, None, one)))
        first = request.object_id if request.object_id in objects else 0
        part: dict[int, bytes] = {}
        room = _OBJECTS_BYTES_MAX
        next_object_id = None
        for object_id, text in objects.items():
            if not first <= object_id <= _CODE_LAST_OBJECT[request.code]:
                continue
            if len(text) + 2 > room:
                next_object_id = object_id
                break
            part[object_id] = text
            room -= len(text) + 2
        return encode_answer(request, encode_identification(Identification(level | _INDIVIDUAL, next_object_id, part)))
