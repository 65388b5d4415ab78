"""The types a tag can have, their aliases, and what each is once it is in the table.

A type text is `NAME`, `string[n]` (n bytes) or `NAME[n]` (an array of n elements). Names follow CONTRACT; IEC 61131-3
and PLC spellings (``REAL``, ``DINT``, ``WORD``) are aliases, in any case.
"""

from __future__ import annotations

import difflib
import re
from enum import StrEnum

import msgspec

__all__ = ["ByteOrder", "DataType", "TypeSpec", "ValueKind", "parse_type"]


class DataType(StrEnum):
    """Type of a value on the wire. `code` is its number in the C API (``BF_TYPE_…``)."""

    BOOL = "bool"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"
    BCD16 = "bcd16"
    BCD32 = "bcd32"

    @property
    def code(self) -> int:
        """Number of this type in the C API, from 1."""
        return _CODES[self]

    @property
    def element_bytes(self) -> int:
        """Bytes of one element on the wire; 0 for `bool` (a bit), 1 for `string` (a byte)."""
        return _ELEMENT_BYTES[self]


class ByteOrder(StrEnum):
    """Order of the bytes of a value, by letters: A is the most significant byte of 32 bits; MSB first is ABCD.

    64-bit values extend the same rule: CDAB reverses the 16-bit words, BADC swaps the bytes in each word, DCBA does
    both.
    """

    ABCD = "ABCD"
    BADC = "BADC"
    CDAB = "CDAB"
    DCBA = "DCBA"

    @property
    def code(self) -> int:
        """Bit 0: the bytes in each 16-bit word are swapped; bit 1: the words are reversed."""
        return _ORDER_CODES[self]


class ValueKind(StrEnum):
    """What a tag's value is in the table. `code` is its number in the C API (``BF_KIND_…``)."""

    BOOL = "bool"
    INT = "int"
    UINT = "uint"
    FLOAT = "float"
    TEXT = "text"
    ARRAY = "array"

    @property
    def code(self) -> int:
        """Number of this kind in the C API, from 1."""
        return _KIND_CODES[self]


_CODES = {data_type: number for number, data_type in enumerate(DataType, start=1)}
_ORDER_CODES = {ByteOrder.ABCD: 0, ByteOrder.BADC: 1, ByteOrder.CDAB: 2, ByteOrder.DCBA: 3}
_KIND_CODES = {kind: number for number, kind in enumerate(ValueKind, start=1)}
_ELEMENT_BYTES = {
    DataType.BOOL: 0,
    DataType.INT8: 1,
    DataType.UINT8: 1,
    DataType.INT16: 2,
    DataType.UINT16: 2,
    DataType.INT32: 4,
    DataType.UINT32: 4,
    DataType.INT64: 8,
    DataType.UINT64: 8,
    DataType.FLOAT32: 4,
    DataType.FLOAT64: 8,
    DataType.STRING: 1,
    DataType.BCD16: 2,
    DataType.BCD32: 4,
}
_KINDS = {
    DataType.BOOL: ValueKind.BOOL,
    DataType.INT8: ValueKind.INT,
    DataType.UINT8: ValueKind.UINT,
    DataType.INT16: ValueKind.INT,
    DataType.UINT16: ValueKind.UINT,
    DataType.INT32: ValueKind.INT,
    DataType.UINT32: ValueKind.UINT,
    DataType.INT64: ValueKind.INT,
    DataType.UINT64: ValueKind.UINT,
    DataType.FLOAT32: ValueKind.FLOAT,
    DataType.FLOAT64: ValueKind.FLOAT,
    DataType.STRING: ValueKind.TEXT,
    DataType.BCD16: ValueKind.UINT,
    DataType.BCD32: ValueKind.UINT,
}
# IEC 61131-3, table 10 and 11, and the spellings that PLC programmers and other gateways use.
_ALIASES = {
    "boolean": DataType.BOOL,
    "bit": DataType.BOOL,
    "sint": DataType.INT8,
    "usint": DataType.UINT8,
    "byte": DataType.UINT8,
    "int": DataType.INT16,
    "short": DataType.INT16,
    "uint": DataType.UINT16,
    "word": DataType.UINT16,
    "ushort": DataType.UINT16,
    "dint": DataType.INT32,
    "long": DataType.INT32,
    "udint": DataType.UINT32,
    "dword": DataType.UINT32,
    "lint": DataType.INT64,
    "ulint": DataType.UINT64,
    "lword": DataType.UINT64,
    "real": DataType.FLOAT32,
    "float": DataType.FLOAT32,
    "lreal": DataType.FLOAT64,
    "double": DataType.FLOAT64,
    "bcd": DataType.BCD16,
    "lbcd": DataType.BCD32,
}
_TYPE_TEXT = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)\s*(?:\[\s*([0-9]+)\s*\])?\s*")
_COUNT_MAX = 65_535  # A decode entry counts its elements in 16 bits.


class TypeSpec(msgspec.Struct, frozen=True):
    """A tag's type: base type, how many elements, and whether it is an array.

    Attributes:
        base: Type of one element.
        count: Elements of an array, bytes of a string, 1 for a scalar.
        is_array: Whether the value is an array (`int16[1]` is an array of one).
    """

    base: DataType
    count: int = 1
    is_array: bool = False

    @property
    def kind(self) -> ValueKind:
        """What the value is in the table, before scaling (a scaled number is a float)."""
        return ValueKind.ARRAY if self.is_array else _KINDS[self.base]

    @property
    def element_kind(self) -> ValueKind:
        """Kind of one element."""
        return _KINDS[self.base]

    @property
    def wire_bytes(self) -> int:
        """Bytes that the whole value takes on the wire; bits are rounded up to whole bytes."""
        if self.base is DataType.BOOL:
            return (self.count + 7) // 8
        return self.base.element_bytes * self.count

    def __str__(self) -> str:
        if self.is_array or self.base is DataType.STRING:
            return f"{self.base.value}[{self.count}]"
        return self.base.value


def parse_type(text: str) -> TypeSpec:
    """The type that `text` spells.

    Args:
        text: `NAME`, `string[n]` or `NAME[n]`, any case, aliases allowed; n from 1 to 65,535.

    Raises:
        ValueError: Unknown name (the nearest known one is named), or a count that is missing or out of range.
    """
    found = _TYPE_TEXT.fullmatch(text)
    base = _base_type(found.group(1)) if found else None
    if found is None or base is None:
        raise ValueError(f"unknown type {text!r}{_nearest(found.group(1) if found else text)}")
    count_text = found.group(2)
    if count_text is not None and not 1 <= int(count_text) <= _COUNT_MAX:
        raise ValueError(f"count of {text!r} must be 1 to {_COUNT_MAX}")
    if base is DataType.STRING:
        if count_text is None:
            raise ValueError("a string needs its length in bytes, for example string[16]")
        return TypeSpec(base, int(count_text))
    if count_text is None:
        return TypeSpec(base)
    return TypeSpec(base, int(count_text), is_array=True)


def _base_type(name: str) -> DataType | None:
    lower = name.lower()
    try:
        return DataType(lower)
    except ValueError:
        return _ALIASES.get(lower)


def _nearest(name: str) -> str:
    known = [*(data_type.value for data_type in DataType), *_ALIASES]
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return (
        f"; did you mean {close[0]!r}?"
        if close
        else f"; known types: {', '.join(data_type.value for data_type in DataType)}"
    )
