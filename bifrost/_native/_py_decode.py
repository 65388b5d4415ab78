"""Gather-decode in Python: the twin of `csrc/decode.c`.

A tag's place in an answer is data (`bf_decode`), so one loop reads every protocol. An entry that cannot be decoded is
one bad tag, never a failed frame. `array` and `struct` move the bytes; no loop here runs over single bytes.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from bifrost._native import records as r

if TYPE_CHECKING:
    from collections.abc import Callable

    from bifrost._native.contract import Readable

MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF
# Bytes on the wire, by type code; 0 for BOOL and for what is no type.
TYPE_BYTES: Final = (0, 0, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 1, 2, 4)

_FORMATS: Final = ("", "", "b", "B", "h", "H", "i", "I", "q", "Q", "f", "d", "", "H", "I")
_ARRAY_CODES: Final = {2: "H", 4: "I", 8: "Q"}
_KINDS: Final = (
    0,
    r.KIND_BOOL,
    r.KIND_INT,
    r.KIND_UINT,
    r.KIND_INT,
    r.KIND_UINT,
    r.KIND_INT,
    r.KIND_UINT,
    r.KIND_INT,
    r.KIND_UINT,
    r.KIND_FLOAT,
    r.KIND_FLOAT,
    r.KIND_TEXT,
    r.KIND_UINT,
    r.KIND_UINT,
)
_BITS: Final = tuple(bytes(number >> bit & 1 for bit in range(8)) for number in range(256))
_DOUBLE: Final = struct.Struct("<d")
_BITS_64: Final = struct.Struct("<Q")

# Scalars whose order struct knows: big-endian is ABCD, little-endian is DCBA. The other two are put in order first.
_SCALARS: Final = {
    (code, order): struct.Struct(endian + _FORMATS[code])
    for code, width in enumerate(TYPE_BYTES)
    if width > 1
    for order, endian in ((0, ">"), (r.ORDER_SWAP_BYTES | r.ORDER_SWAP_WORDS, "<"))
}

_S7_ITEM_HEADER_BYTES: Final = 4
_S7_RETURN_CODE_GOOD: Final = 0xFF
_S7_SIZES_IN_BITS: Final = (3, 4, 5)
_S7_SIZES_IN_BYTES: Final = (6, 7, 9)
_CIP_ITEM_HEADER_BYTES: Final = 4
_CIP_REPLY_FLAG: Final = 0x80


class NoRoomError(Exception):
    """A text or array is longer than the room for it; becomes `E_SPACE` at the seam."""


class Item(NamedTuple):
    """Where an item's data lie in a body, or the status that its tags get."""

    status: int
    first: int = 0
    end: int = 0


_NO_ITEM: Final = Item(r.BAD_DECODING)
_FAILED_ITEM: Final = Item(r.BAD_DEVICE_FAILURE)


def reorder(data: bytes, width: int, order: int) -> bytes:
    """Elements of `width` bytes as on the wire -> little-endian.

    Args:
        data: Whole elements; with width 1 and SWAP_BYTES an even number of them.
        width: 1, 2, 4 or 8.
        order: `ORDER_…` bits.
    """
    if width == 1:
        return _swap(data, "H") if order & r.ORDER_SWAP_BYTES else data
    if width > 2 and not order & r.ORDER_SWAP_WORDS:
        data = _swap(data, _ARRAY_CODES[width])  # reverses the words and swaps the bytes in each
        order ^= r.ORDER_SWAP_BYTES
    return data if order & r.ORDER_SWAP_BYTES else _swap(data, "H")


def _swap(data: bytes, code: str) -> bytes:
    elements = array(code, data)
    elements.byteswap()
    return elements.tobytes()


def unpack_bits(data: bytes, first: int, count: int) -> bytes:
    """One byte (0 or 1) for each of `count` bits from bit `first` on, least significant first."""
    return b"".join(map(_BITS.__getitem__, data))[first : first + count]


def double_bits(number: float) -> int:
    """The 64 bits of `number`; every NaN is `records.NAN_BITS`."""
    bits: int = _BITS_64.unpack(_DOUBLE.pack(number))[0]
    return bits if number == number else r.NAN_BITS


def entry_kind(entry: r.DecodeEntry) -> int:
    """`KIND_…` of the entry's value; 0 when its type is none."""
    code, flags = entry.type, entry.flags
    if not r.TYPE_BOOL <= code <= r.TYPE_BCD32 or code == r.TYPE_STRING:
        return r.KIND_TEXT if code == r.TYPE_STRING else 0
    if flags & r.DECODE_ARRAY:
        return r.KIND_ARRAY
    return r.KIND_FLOAT if flags & r.DECODE_SCALED else _KINDS[code]


def entry_bytes(entry: r.DecodeEntry) -> int:
    """The most bytes that an entry of TEXT or ARRAY can give; 0 for scalars."""
    if entry.type == r.TYPE_STRING:
        return entry.elements
    if not entry.flags & r.DECODE_ARRAY:
        return 0
    if entry.flags & r.DECODE_SCALED:
        return entry.elements * 8
    if entry.type == r.TYPE_BOOL:
        return entry.elements
    return entry.elements * TYPE_BYTES[entry.type] if entry.type <= r.TYPE_BCD32 else 0


def find_items(body: bytes, walk: int) -> Callable[[int], Item]:
    """What finds the data of item `number` of `body`; without items every number is the whole body."""
    if walk == r.WALK_S7:
        items = _s7_items(body)
        return lambda number: items[number] if number < len(items) else _NO_ITEM
    if walk == r.WALK_CIP:
        return lambda number: _cip_item(body, number)
    whole = Item(r.GOOD, 0, len(body))
    return lambda number: whole


def _s7_items(body: bytes) -> list[Item]:
    """All items up to the first that is not whole. Each takes four bytes or more. See `s7_item_next` in decode.c."""
    items = []
    position = 0
    while position + _S7_ITEM_HEADER_BYTES <= len(body):
        code, size, announced = struct.unpack_from(">BBH", body, position)
        position += _S7_ITEM_HEADER_BYTES
        if code != _S7_RETURN_CODE_GOOD:
            items.append(_FAILED_ITEM)  # It has no data, whatever its length says.
            continue
        if size not in _S7_SIZES_IN_BITS and size not in _S7_SIZES_IN_BYTES:
            break
        data_bytes = (announced + 7) // 8 if size in _S7_SIZES_IN_BITS else announced
        if data_bytes > len(body) - position:
            break
        items.append(Item(r.GOOD, position, position + data_bytes))
        position += data_bytes + data_bytes % 2
    return items


def _cip_item(body: bytes, number: int) -> Item:
    """See `cip_item_find` in decode.c."""
    if len(body) < 2:
        return _NO_ITEM
    count = int.from_bytes(body[:2], "little")
    offsets_end = 2 + 2 * count
    if number >= count or offsets_end > len(body):
        return _NO_ITEM
    first = int.from_bytes(body[2 + 2 * number : 4 + 2 * number], "little")
    end = int.from_bytes(body[4 + 2 * number : 6 + 2 * number], "little") if number + 1 < count else len(body)
    if first < offsets_end or end > len(body) or end - first < _CIP_ITEM_HEADER_BYTES:
        return _NO_ITEM
    data_first = first + _CIP_ITEM_HEADER_BYTES + 2 * body[first + 3]
    if not body[first] & _CIP_REPLY_FLAG or data_first > end:
        return _NO_ITEM
    return _FAILED_ITEM if body[first + 2] != 0 else Item(r.GOOD, data_first, end)


def decode_entry(body: bytes, item: Item, entry: r.DecodeEntry, room: int) -> tuple[int, int, bytes]:
    """Decodes one entry: value bits (0 for TEXT and ARRAY), StatusCode, bytes of a TEXT or ARRAY.

    Raises:
        NoRoomError: The text or array is longer than `room`.
    """
    if item.status != r.GOOD:
        return 0, item.status, b""
    kind = entry_kind(entry)
    first = item.first + entry.offset
    end = first + _span(entry)
    if kind == 0 or end > item.end:
        return 0, r.BAD_DECODING, b""
    if end == first:
        return 0, r.GOOD, b""
    if kind == r.KIND_TEXT:
        return 0, r.GOOD, _text(body[first:end], entry, room)
    if kind == r.KIND_ARRAY:
        if entry_bytes(entry) > room:
            raise NoRoomError
        taken = _array(body[first:end], entry)
        return (0, r.BAD_DECODING, b"") if taken is None else (0, r.GOOD, taken)
    value = _scalar(body, first, end, entry)
    return (0, r.BAD_DECODING, b"") if value is None else (value, r.GOOD, b"")


def _span(entry: r.DecodeEntry) -> int:
    """Bytes that the entry reads from its offset on. Swapped bytes come in pairs."""
    is_many = entry.flags & r.DECODE_ARRAY or entry.type == r.TYPE_STRING
    count = entry.elements if is_many else 1
    if count == 0 or entry.type > r.TYPE_BCD32:
        return 0
    width = TYPE_BYTES[entry.type]
    span = (entry.bit + count - 1) // 8 + 1 if entry.type == r.TYPE_BOOL else count * width
    return span + span % 2 if width <= 1 and entry.order & r.ORDER_SWAP_BYTES else span


def _text(data: bytes, entry: r.DecodeEntry, room: int) -> bytes:
    text = reorder(data, 1, entry.order)[: entry.elements].partition(b"\0")[0]
    if len(text) > room:
        raise NoRoomError
    return text


def _scalar(body: bytes, first: int, end: int, entry: r.DecodeEntry) -> int | None:
    code = entry.type
    if code == r.TYPE_BOOL:
        number = int.from_bytes(reorder(body[first:end], 1, entry.order), "little") >> entry.bit & 1
    elif (known := _SCALARS.get((code, entry.order))) is not None:
        number = known.unpack_from(body, first)[0]
    else:
        width = TYPE_BYTES[code]
        number = struct.unpack("<" + _FORMATS[code], reorder(body[first:end], width, entry.order)[:width])[0]
    if code >= r.TYPE_BCD16:
        decimal = _bcd(number, code)
        if decimal is None:
            return None
        number = decimal
    if entry.flags & r.DECODE_SCALED:
        return _scaled_bits(number, entry)
    return double_bits(number) if _KINDS[code] == r.KIND_FLOAT else number & MASK_64


def _scaled_bits(number: float, entry: r.DecodeEntry) -> int:
    return double_bits(float(number) * entry.scale + entry.bias)


def _bcd(raw: int, code: int) -> int | None:
    """The number whose decimal digits are the hexadecimal ones of `raw`; None when one is above 9."""
    digits = f"{raw:0{8 if code == r.TYPE_BCD32 else 4}x}"
    return int(digits) if digits.isdecimal() else None


def _array(data: bytes, entry: r.DecodeEntry) -> bytes | None:
    code, count = entry.type, entry.elements
    scaled = entry.flags & r.DECODE_SCALED
    width = TYPE_BYTES[code]
    ordered = reorder(data, max(width, 1), entry.order)
    if code == r.TYPE_BOOL:
        ordered = unpack_bits(ordered, entry.bit, count)
        code, width = r.TYPE_UINT8, 1
    ordered = ordered[: count * width]
    if code < r.TYPE_BCD16 and not scaled:
        return ordered
    numbers = struct.unpack(f"<{count}{_FORMATS[code]}", ordered)
    if code >= r.TYPE_BCD16:
        decimals = [_bcd(number, code) for number in numbers]
        if None in decimals:
            return None
        numbers = tuple(decimals)
    if scaled:
        return struct.pack(f"<{count}Q", *(_scaled_bits(number, entry) for number in numbers))
    return struct.pack(f"<{count}{_FORMATS[code]}", *numbers)


def gather(body: Readable, walk: int, entries: Readable, bytes_max: int) -> tuple[int, array[int], array[int], bytes]:
    """See `contract.Backend.gather`."""
    values, statuses, taken = array("Q"), array("I"), bytearray()
    if len(entries) % r.DECODE.size != 0 or not r.WALK_NONE <= walk <= r.WALK_CIP:
        return r.E_ARGUMENT, values, statuses, b""
    body = bytes(body)
    find = find_items(body, walk)
    try:
        for entry in r.iterate_decodes(bytes(entries)):
            value, status, data = decode_entry(body, find(entry.item), entry, bytes_max - len(taken))
            if status == r.GOOD and entry_kind(entry) >= r.KIND_TEXT:
                value = len(taken) << 32 | len(data)
                taken += data
            values.append(value)
            statuses.append(status)
    except NoRoomError:
        return r.E_SPACE, array("Q"), array("I"), b""
    return r.OK, values, statuses, bytes(taken)
