"""From a value in engineering units to its bytes on the wire: the inverse of gather-decode. Pure.

Reading is done a million times and is C; writing is done by a person now and then and is this. A property test holds
the two together.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from bifrost.core.conversion import raw_value
from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec
from bifrost.core.status import StatusCode
from bifrost.core.tag import Value

__all__ = ["encode_value"]

_FORMATS: Final = {
    DataType.INT8: ">b",
    DataType.UINT8: ">B",
    DataType.INT16: ">h",
    DataType.UINT16: ">H",
    DataType.INT32: ">i",
    DataType.UINT32: ">I",
    DataType.INT64: ">q",
    DataType.UINT64: ">Q",
    DataType.FLOAT32: ">f",
    DataType.FLOAT64: ">d",
}


def encode_value(value: Value, spec: TypeSpec, order: ByteOrder, scale: float = 1.0, offset: float = 0.0) -> bytes:
    """Wire bytes of `value`.

    Args:
        value: In engineering units; a list for an array; text for a string (UTF-8, padded with NUL).
        spec: Type on the wire; not `bool`, whose place is a bit and not a byte.
        order: Order of the bytes.
        scale: As declared for reading; `core.conversion` takes it back.
        offset: See `scale`.

    Raises:
        ValueError: The value is out of the type's range, or a text longer than its room.
        TypeError: Not a value of this kind: a fraction for an integer, another number of elements.
    """
    status, raw = raw_value(value, spec, scale=scale, offset=offset)
    if status is StatusCode.BadTypeMismatch:
        raise TypeError(f"{value!r} is no value of type {spec}")
    if status is not StatusCode.Good:
        raise ValueError(f"{value!r} is out of range for {spec}")
    if isinstance(raw, str):
        data = raw.encode().ljust(spec.count + spec.count % 2, b"\0")
        return _ordered(data, spec.base.element_bytes, order)
    items: Sequence[object] = raw if isinstance(raw, list) else [raw]
    data = b"".join(_encode_number(item, spec.base) for item in items)
    if not spec.is_array and spec.base.element_bytes == 1:
        return data  # Which half of a word a byte is in is for the protocol to say.
    return _ordered(data, spec.base.element_bytes, order)


def _encode_number(number: object, base: DataType) -> bytes:
    if base in (DataType.BCD16, DataType.BCD32):
        return bytes.fromhex(f"{number:0{2 * base.element_bytes}d}")
    return struct.pack(_FORMATS[base], number)


def _ordered(data: bytes, element_bytes: int, order: ByteOrder) -> bytes:
    """`data`, given most significant byte first, in `order`: bytes swapped in words, words reversed in an element."""
    if order.code & 2 and element_bytes > 2:
        words = element_bytes // 2
        data = b"".join(
            data[at + 2 * word : at + 2 * word + 2]
            for at in range(0, len(data), element_bytes)
            for word in reversed(range(words))
        )
    if order.code & 1:
        swapped = bytearray(data + b"\0" * (len(data) % 2))
        swapped[0::2], swapped[1::2] = swapped[1::2], swapped[0::2]
        data = bytes(swapped)
    return data
