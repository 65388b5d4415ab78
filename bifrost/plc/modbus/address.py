"""Modbus addresses: every spelling that people use, to one small record, and back to one canonical text.

| spelling | base | example (all but the last three: the first holding register) |
|---|---|---|
| reference number, int or 5/6 digits | 1 | ``40001``, ``"400001"``; coils: ``1``, ``"00001"`` |
| table name and colon | 0 | ``hr:0``, ``ir:0``, ``di:0``, ``co:0`` |
| table name and number | 1 | ``HR1``, ``IR1``, ``DI1``, ``C1`` |
| table digit and x | 1 | ``4x1``, ``3x1``, ``1x1``, ``0x1`` |
| bit of a register, 0 = least significant | 0 | ``40001.3``, ``hr:0.3`` |
| unit prefix | | ``1!400001`` |
| type and byte order | | ``hr:0:REAL@CDAB``, ``40001:string[16]``, ``hr:0@CDAB`` |

Pure, and quick: a configuration of 100,000 tags parses 100,000 of these at start. The canonical text is
``[unit!]table:offset[.bit][:type][@ORDER]``; parsing it gives an equal record.
"""

from __future__ import annotations

import difflib
import re
from enum import StrEnum
from functools import lru_cache
from typing import NoReturn

import msgspec

from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec, parse_type
from bifrost.core.errors import AddressError

__all__ = [
    "TABLE_ITEMS_MAX",
    "AddressRange",
    "ModbusAddress",
    "Table",
    "item_count",
    "parse_address",
    "parse_range",
    "resolve_type",
]

TABLE_ITEMS_MAX = 65_536  # Each table has 65,536 items, numbered from 0 in the PDU; AP V1.1b3, 4.4.
REGISTER_BITS = 16
UNIT_MAX = 255  # The unit id is one byte; TG V1.0b, 3.1.3.
_TEXT_CHARS_MAX = 80  # Longer than any address; bounds what the grammar is given.


class Table(StrEnum):
    """The four tables of a Modbus device (AP V1.1b3, 4.3). The value is the name in canonical addresses."""

    COIL = "co"
    DISCRETE_INPUT = "di"
    INPUT_REGISTER = "ir"
    HOLDING_REGISTER = "hr"

    @property
    def is_bits(self) -> bool:
        """Whether an item of this table is one bit (else a 16-bit register)."""
        return self is Table.COIL or self is Table.DISCRETE_INPUT

    @property
    def is_writable(self) -> bool:
        """Whether the standard has function codes that write this table."""
        return self is Table.COIL or self is Table.HOLDING_REGISTER

    @property
    def title(self) -> str:  # type: ignore[override]  # str.title is of no use on a table's name
        """The table's name in the standard, for messages."""
        return _TITLES[self]


_TITLES = {
    Table.COIL: "coil",
    Table.DISCRETE_INPUT: "discrete input",
    Table.INPUT_REGISTER: "input register",
    Table.HOLDING_REGISTER: "holding register",
}
_DIGIT_TABLES = {0: Table.COIL, 1: Table.DISCRETE_INPUT, 3: Table.INPUT_REGISTER, 4: Table.HOLDING_REGISTER}
_TABLE_DIGITS = {table: digit for digit, table in _DIGIT_TABLES.items()}
_COLON_TABLES = {table.value: table for table in Table}
_PLAIN_TABLES = {"hr": Table.HOLDING_REGISTER, "ir": Table.INPUT_REGISTER, "di": Table.DISCRETE_INPUT, "c": Table.COIL}
_ORDERS = {order.value: order for order in ByteOrder}
_BOOL = TypeSpec(DataType.BOOL)
_UINT16 = TypeSpec(DataType.UINT16)


class ModbusAddress(msgspec.Struct, frozen=True):
    """One place in a device.

    Attributes:
        table: One of the four tables.
        offset: Item in the table as the PDU counts it, 0 to 65,535.
        bit: Bit of a register, 0 (least significant) to 15; None: the whole item.
        unit: Unit id 0 to 255; None: the device's own.
        spec: Type from the suffix; None: none was written.
        byte_order: Byte order from the suffix; None: none was written.
    """

    table: Table
    offset: int
    bit: int | None = None
    unit: int | None = None
    spec: TypeSpec | None = None
    byte_order: ByteOrder | None = None

    def __str__(self) -> str:
        unit = "" if self.unit is None else f"{self.unit}!"
        bit = "" if self.bit is None else f".{self.bit}"
        spec = "" if self.spec is None else f":{self.spec}"
        order = "" if self.byte_order is None else f"@{self.byte_order.value}"
        return f"{unit}{self.table.value}:{self.offset}{bit}{spec}{order}"


class AddressRange(msgspec.Struct, frozen=True):
    """A run of items in one table, both ends included: offsets `first` to `last`, of one unit or (None) of all."""

    table: Table
    first: int
    last: int
    unit: int | None = None

    def __str__(self) -> str:
        unit = "" if self.unit is None else f"{self.unit}!"
        return f"{unit}{self.table.value}:{self.first}-{self.last}"


def parse_address(address: str | int) -> ModbusAddress:
    """The place that `address` spells; see the module's table of spellings. Letters may be of either case.

    Raises:
        AddressError: `address` is no Modbus address; the message says why and what would be right.
    """
    if type(address) is int:
        return _reference_address(address, 5 if address < 100_000 else 6, address)
    if not isinstance(address, str):
        _refuse_type(address)
    if address.isdecimal() and address.isascii() and len(address) <= 6:
        return _reference_address(int(address), len(address), address)
    return _parse_text(address)


def parse_range(text: str) -> AddressRange:
    """The run of items that `text` spells: one (``hr:7``), or two ends (``hr:100-120``, ``40101-40121``, ``2!HR1-9``).

    Raises:
        AddressError: An end is no address, has a bit, a type or a byte order, or the ends are the wrong way round.
    """
    first_text, dash, last_text = text.strip().partition("-")
    first = parse_address(first_text)
    if dash:
        last_text = last_text.strip()
        spelled = _RANGE_PREFIX.match(first_text.strip())
        last = parse_address(spelled.group() + last_text if spelled and last_text.isdecimal() else last_text)
    else:
        last = first
    for end in (first, last):
        if end.bit is not None or end.spec is not None or end.byte_order is not None:
            raise AddressError(
                f"range {text!r} is of whole items: write it without bit, type and byte order, for example 'hr:100-120'"
            )
    if last.table is not first.table or last.unit not in (None, first.unit):
        raise AddressError(
            f"range {text!r} must begin and end in the same table of the same unit, for example 'hr:100-120'"
        )
    if last.offset < first.offset:
        turned = AddressRange(first.table, last.offset, first.offset, first.unit)
        raise AddressError(f"range {text!r} ends before it begins; did you mean '{turned}'?")
    return AddressRange(first.table, first.offset, last.offset, first.unit)


def resolve_type(address: ModbusAddress, declared: TypeSpec | None) -> TypeSpec:
    """The type of the value at `address`: suffix, else `declared`, else `bool` for a bit and `uint16` for a register.

    Args:
        address: Where the value is.
        declared: The tag's own type; None when the tag declares none.

    Raises:
        AddressError: Suffix and declared type differ, the type cannot be there, or the value runs past the table's end.
    """
    suffix = address.spec
    if suffix is not None and declared is not None and suffix != declared:
        raise AddressError(f"address '{address}' says {suffix} but the tag says {declared}: keep one of the two")
    spec = suffix or declared
    if address.table.is_bits or address.bit is not None:
        spec = spec or _BOOL
        if spec.base is not DataType.BOOL:
            where = f"a {address.table.title}" if address.table.is_bits else f"bit {address.bit} of a register"
            raise AddressError(f"address '{address}' is {where}, which is a bool, not {spec}")
    else:
        spec = spec or _UINT16
        if spec.base is DataType.BOOL:
            raise AddressError(
                f"address '{address}': a bool in a register needs its bit, 0 (least significant) to 15, "
                f"for example '{_untyped(address)}.0'"
            )
    count = item_count(spec, address.table, address.bit or 0)
    if address.offset + count > TABLE_ITEMS_MAX:
        raise AddressError(
            f"{spec} at '{_untyped(address)}' takes {count} {address.table.title}s and runs past the last one, "
            f"'{address.table.value}:65535'"
        )
    return spec


def item_count(spec: TypeSpec, table: Table, bit: int = 0) -> int:
    """Items of `table` that a value takes: bits in the bit tables, else 16-bit registers, the last one rounded up.

    Args:
        spec: Type of the value.
        table: Where it lies.
        bit: First bit of a bool (or an array of them) in registers, 0 to 15.
    """
    if table.is_bits:
        return spec.count
    if spec.base is DataType.BOOL:
        return (bit + spec.count + REGISTER_BITS - 1) // REGISTER_BITS
    return (spec.wire_bytes + 1) // 2


# ------------------------------------------------------------------ spellings

_GRAMMAR = re.compile(
    r"(?:(?P<unit>\d+)!)?"
    r"(?:(?P<colon>[a-z]{2}):(?P<zero>\d+)|(?P<plain>hr|ir|di|c)(?P<one>\d+)|(?P<digit>\d)x(?P<x>\d+)|(?P<reference>\d+))"
    r"(?:\.(?P<bit>\d+))?"
    r"(?::(?P<type>[^@]*))?"
    r"(?:@(?P<order>.*))?",
    re.ASCII | re.IGNORECASE,
)
_RANGE_PREFIX = re.compile(r"(?:\d+!)?(?:[a-z]+:|[a-z]+|\dx)", re.ASCII | re.IGNORECASE)


def _parse_text(address: str) -> ModbusAddress:
    text = address.strip()
    if len(text) > _TEXT_CHARS_MAX:
        raise AddressError(
            f"address '{text[:20]}…' has {len(text)} characters; the longest Modbus address has {_TEXT_CHARS_MAX}"
        )
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        _refuse_text(text)
    unit_text, colon, zero, plain, one, digit, x, reference, bit_text, type_text, order_text = found.groups()
    if colon is not None:
        table = _COLON_TABLES.get(colon.lower())
        if table is None:
            _refuse_text(text)
        offset = _offset(int(zero), 0, table, text)
    elif reference is not None:
        if len(reference) > 6:
            _refuse_reference(text)
        place = _reference_address(int(reference), len(reference), text)
        table, offset = place.table, place.offset
    elif plain is not None:
        table = _PLAIN_TABLES[plain.lower()]
        offset = _offset(int(one), 1, table, text)
    else:
        table = _digit_table(int(digit), text)
        offset = _offset(int(x), 1, table, text)
    unit = None if unit_text is None else _unit(int(unit_text), text)
    bit = None if bit_text is None else _bit(int(bit_text), table, text)
    spec = None if type_text is None else _type(type_text, text)
    order = None if order_text is None else _order(order_text, text)
    if spec is not None:
        resolve_type(ModbusAddress(table, offset, bit, unit, spec, order), None)
    return ModbusAddress(table, offset, bit, unit, spec, order)


def _reference_address(number: int, digits: int, address: str | int) -> ModbusAddress:
    """A 1-based reference number: its first digit is the table. Fewer than 5 digits are a coil."""
    table_number, item = divmod(number, 10_000 if digits <= 5 else 100_000)
    table = _DIGIT_TABLES.get(table_number)
    if table is None or not 1 <= item <= TABLE_ITEMS_MAX:
        _refuse_reference(address)
    return ModbusAddress(table, item - 1)


def _offset(number: int, base: int, table: Table, text: str) -> int:
    offset = number - base
    if not 0 <= offset < TABLE_ITEMS_MAX:
        last = TABLE_ITEMS_MAX - 1 + base
        raise AddressError(
            f"address {text!r} is out of range: in this spelling {table.title}s are numbered {base} to {last}"
        )
    return offset


def _digit_table(digit: int, text: str) -> Table:
    table = _DIGIT_TABLES.get(digit)
    if table is None:
        raise AddressError(f"address {text!r}: the digit before 'x' is {_DIGITS_HINT}")
    return table


def _unit(number: int, text: str) -> int:
    if number > UNIT_MAX:
        raise AddressError(f"address {text!r}: the unit before '!' must be 0 to {UNIT_MAX}")
    return number


def _bit(number: int, table: Table, text: str) -> int:
    if table.is_bits:
        raise AddressError(f"address {text!r}: a {table.title} is one bit already; write it without '.{number}'")
    if number >= REGISTER_BITS:
        raise AddressError(f"address {text!r}: a register has bits 0 (least significant) to 15, not {number}")
    return number


@lru_cache(maxsize=256)
def _known_type(type_text: str) -> TypeSpec:
    return parse_type(type_text)


def _type(type_text: str, text: str) -> TypeSpec:
    try:
        return _known_type(type_text)
    except ValueError as error:
        raise AddressError(f"address {text!r}: {error}") from error


def _order(order_text: str, text: str) -> ByteOrder:
    order = _ORDERS.get(order_text.strip().upper())
    if order is None:
        close = difflib.get_close_matches(order_text.upper(), _ORDERS, n=1)
        hint = f"; did you mean '@{close[0]}'?" if close else ""
        raise AddressError(f"address {text!r}: byte order after '@' must be one of {', '.join(_ORDERS)}{hint}")
    return order


def _untyped(address: ModbusAddress) -> ModbusAddress:
    return ModbusAddress(address.table, address.offset, unit=address.unit)


# ------------------------------------------------------------------ what is wrong, and what would be right


_DIGITS_HINT = "0 (coil), 1 (discrete input), 3 (input register) or 4 (holding register)"
_LAST_HINT = "they have at most 6 digits, and the last one is 465536 (holding register 65536)"


def _refuse_type(address: object) -> NoReturn:
    if isinstance(address, float):
        raise AddressError(
            f"address {address!r} is a float, in which bit 1 and bit 10 look the same (40001.1 = 40001.10): "
            f"put it in quotes, '{address!r}'"
        )
    raise AddressError(f"an address is a text or an int, for example 'hr:0' or 40001, not {type(address).__name__}")


def _refuse_reference(address: str | int) -> NoReturn:
    if isinstance(address, int) and not -1_000_000 < address < 1_000_000:
        raise AddressError(f"an address of more than 6 digits is not a reference number: {_LAST_HINT}")
    shown = repr(address)
    digits = str(address).strip().partition("!")[2] or str(address).strip()
    digits = re.split(r"[.:@]", digits)[0]
    number = int(digits) if digits.lstrip("-").isdecimal() else -1
    if number <= 0:
        why = "they begin at 1: the first coil is 1 (or 'co:0'), the first holding register is 40001 (or 'hr:0')"
    elif len(digits) > 6:
        why = _LAST_HINT
    elif number >= 50_000 and len(digits) <= 5:
        item = number - 40_000
        why = f"5 digits reach item 9999; holding register {item} is {400_000 + item} (or 'hr:{item - 1}')"
    elif (first := number // (10_000 if len(digits) <= 5 else 100_000)) not in _DIGIT_TABLES:
        why = f"its first digit is {_DIGITS_HINT}"
    else:
        table = _DIGIT_TABLES[first]
        base = first * (10_000 if len(digits) <= 5 else 100_000)
        last = base + (9_999 if len(digits) <= 5 else TABLE_ITEMS_MAX)
        why = f"{table.title}s have the reference numbers {base + 1} to {last} ('{table.value}:0' is the first)"
    raise AddressError(f"address {shown} is not a reference number: {why}")


_NAMES = {
    "hr": Table.HOLDING_REGISTER,
    "holding": Table.HOLDING_REGISTER,
    "holding-register": Table.HOLDING_REGISTER,
    "register": Table.HOLDING_REGISTER,
    "ir": Table.INPUT_REGISTER,
    "input": Table.INPUT_REGISTER,
    "input-register": Table.INPUT_REGISTER,
    "di": Table.DISCRETE_INPUT,
    "discrete": Table.DISCRETE_INPUT,
    "discrete-input": Table.DISCRETE_INPUT,
    "co": Table.COIL,
    "c": Table.COIL,
    "coil": Table.COIL,
}
_NAMED = re.compile(
    r"(?:\d+!)?(?P<name>[A-Za-z][A-Za-z_-]*)\s*(?P<colon>:?)\s*(?P<number>-?\d*)(?:\.\d*)?(?:[:@].*)?", re.ASCII
)
_SPELLINGS = "write for example 40001, 'hr:0', 'HR1', '4x1', '40001.3' or 'hr:0:float32@CDAB'"


def _refuse_text(text: str) -> NoReturn:
    if not text:
        raise AddressError(f"the address is empty; {_SPELLINGS}")
    if re.search(r"\dx[0-9a-f]*[a-f]", text, re.IGNORECASE):
        raise AddressError(
            f"address {text!r} looks hexadecimal; numbers are decimal, and '4x1' is the first holding register"
        )
    found = _NAMED.fullmatch(text)
    close = difflib.get_close_matches(found["name"].lower().replace("_", "-"), _NAMES, n=1, cutoff=0.5) if found else []
    if found is not None and close:
        table = _NAMES[close[0]]
        if found["number"].startswith("-"):
            raise AddressError(f"address {text!r} has a negative number; {table.title}s begin at '{table.value}:0'")
        plain = "C" if table is Table.COIL else table.value.upper()
        if found["colon"]:
            right = f"'{table.value}:{found['number'] or 0}' (the first is 0)"
        else:
            number = max(int(found["number"] or 1), 1)
            right = f"'{plain}{number}' (the first is 1) or '{table.value}:{number - 1}' (the first is 0)"
        raise AddressError(f"address {text!r} is not understood; did you mean {right}?")
    raise AddressError(f"address {text!r} is not understood; {_SPELLINGS}")
