"""Gather-decode by hand-made bodies: every type, order, bit and scale, and the items of S7 and CIP answers.

S7 items are as the field's servers send them (notes in the decoder); CIP items follow CIP Vol 1, 2-4.2 and A-4.10 and the Logix Read Tag
reply, whose data begin with a type code that the entry's offset steps over.
"""

from __future__ import annotations

import math
import struct

import pytest

from bifrost._native import records as r
from bifrost._native.records import DecodeEntry as Entry


def gather(backend, body, *entries, walk=r.WALK_NONE, room=1000):
    status, values, statuses, taken = backend.gather(body, walk, b"".join(entry.pack() for entry in entries), room)
    return status, values.tolist(), statuses.tolist(), taken


def one(backend, body, entry, walk=r.WALK_NONE):
    """Value bits and StatusCode of a single entry."""
    status, values, statuses, _ = gather(backend, body, entry, walk=walk)
    assert status == r.OK
    return values[0], statuses[0]


def text_or_array(backend, body, entry):
    status, values, statuses, taken = gather(backend, body, entry)
    assert (status, statuses) == (r.OK, [r.GOOD])
    assert values == [len(taken)]
    return taken


def float_bits(number: float) -> int:
    return int.from_bytes(struct.pack("<d", number), "little")


BODY = bytes.fromhex("FFFE 8000 0001 0203 0405 0607 0809")


@pytest.mark.parametrize(
    ("type_code", "offset", "value"),
    [
        (r.TYPE_INT8, 0, 2**64 - 1),
        (r.TYPE_UINT8, 0, 0xFF),
        (r.TYPE_INT16, 0, 2**64 - 2),
        (r.TYPE_UINT16, 0, 0xFFFE),
        (r.TYPE_INT32, 2, 2**64 - 2**31 + 1),
        (r.TYPE_UINT32, 2, 0x8000_0001),
        (r.TYPE_INT64, 0, 0xFFFE_8000_0001_0203),
        (r.TYPE_UINT64, 4, 0x0001_0203_0405_0607),
        (r.TYPE_BCD16, 6, 203),
        (r.TYPE_BCD32, 6, 2030405),
    ],
)
def test_integers_at_their_offset(backend, type_code, offset, value):
    assert one(backend, BODY, Entry(0, offset, type_code)) == (value, r.GOOD)


@pytest.mark.parametrize(
    ("order", "wire"),
    [(0, "0102030405060708"), (1, "0201040306050807"), (2, "0708050603040102"), (3, "0807060504030201")],
    ids=["ABCD", "BADC", "CDAB", "DCBA"],
)
def test_orders_of_all_widths(backend, order, wire):
    body = bytes.fromhex(wire)
    assert one(backend, body, Entry(0, 0, r.TYPE_UINT64, order=order)) == (0x0102_0304_0506_0708, r.GOOD)
    first_four = {0: body[:4], 1: body[:4], 2: body[4:], 3: body[4:]}[order]
    assert one(backend, first_four, Entry(0, 0, r.TYPE_UINT32, order=order)) == (0x0102_0304, r.GOOD)
    first_two = {0: body[:2], 1: body[:2], 2: body[6:], 3: body[6:]}[order]
    assert one(backend, first_two, Entry(0, 0, r.TYPE_UINT16, order=order)) == (0x0102, r.GOOD)


def test_bytes_and_texts_follow_swapped_bytes_only(backend):
    body = b"ebll\0oXX"
    swapped = {"order": r.ORDER_SWAP_BYTES}
    assert text_or_array(backend, body, Entry(0, 0, r.TYPE_STRING, elements=7, **swapped)) == b"bello"
    assert one(backend, body, Entry(0, 0, r.TYPE_UINT8, **swapped)) == (ord("b"), r.GOOD)
    array_entry = Entry(0, 0, r.TYPE_UINT8, elements=3, flags=r.DECODE_ARRAY, **swapped)
    assert text_or_array(backend, body, array_entry) == b"bel"
    assert text_or_array(backend, body, array_entry._replace(order=r.ORDER_SWAP_WORDS)) == b"ebl"


def test_floats_are_widened_and_every_nan_is_the_same(backend):
    body = struct.pack(">ff", 0.1, -0.0) + bytes.fromhex("FFA00001 7FF0000000000001")
    as_float = Entry(0, 0, r.TYPE_FLOAT32)
    assert one(backend, body, as_float)[0] == float_bits(struct.unpack(">f", body[:4])[0])
    assert one(backend, body, as_float._replace(offset=4))[0] == 1 << 63
    assert one(backend, body, as_float._replace(offset=8)) == (r.NAN_BITS, r.GOOD)
    assert one(backend, body, Entry(0, 12, r.TYPE_FLOAT64)) == (r.NAN_BITS, r.GOOD)


def test_bit_runs_on_over_the_next_bytes_and_over_a_register(backend):
    body = bytes([0b0000_0100, 0b1000_0000])
    assert [one(backend, body, Entry(0, 0, r.TYPE_BOOL, bit=bit))[0] for bit in (2, 3, 15, 14)] == [1, 0, 1, 0]
    # Bit n of a big-endian register: its low byte comes second.
    register = Entry(0, 0, r.TYPE_BOOL, order=r.ORDER_SWAP_BYTES)
    assert [one(backend, body, register._replace(bit=bit))[0] for bit in (7, 10, 2)] == [1, 1, 0]
    assert one(backend, body, Entry(0, 1, r.TYPE_BOOL, bit=8)) == (0, r.BAD_DECODING)
    assert one(backend, body[:1], register._replace(bit=8)) == (0, r.BAD_DECODING)


def test_scaled_value_is_raw_times_scale_plus_bias_in_two_roundings(backend):
    entry = Entry(0, 0, r.TYPE_INT16, flags=r.DECODE_SCALED, scale=0.1, bias=-1e-3)
    assert one(backend, struct.pack(">h", -317), entry)[0] == float_bits(-317 * 0.1 + -1e-3)
    unsigned = Entry(0, 0, r.TYPE_UINT64, flags=r.DECODE_SCALED, scale=3.0)
    assert one(backend, b"\xff" * 8, unsigned)[0] == float_bits(float(2**64 - 1) * 3.0)
    # A fused multiply-add would give -(2**-60) here instead of 0.
    fused = Entry(0, 0, r.TYPE_FLOAT64, flags=r.DECODE_SCALED, scale=1 - 2**-30, bias=-1.0)
    assert one(backend, struct.pack(">d", 1 + 2**-30), fused)[0] == float_bits((1 + 2**-30) * (1 - 2**-30) - 1.0)
    infinite = Entry(0, 0, r.TYPE_UINT16, flags=r.DECODE_SCALED, scale=math.inf)
    assert one(backend, bytes(2), infinite) == (r.NAN_BITS, r.GOOD)


@pytest.mark.parametrize("body", ["12A4", "A234", "123F"])
def test_wrong_bcd_digit_is_bad_decoding(backend, body):
    assert one(backend, bytes.fromhex(body), Entry(0, 0, r.TYPE_BCD16)) == (0, r.BAD_DECODING)
    in_array = Entry(0, 0, r.TYPE_BCD16, elements=1, flags=r.DECODE_ARRAY)
    assert gather(backend, bytes.fromhex(body), in_array) == (r.OK, [0], [r.BAD_DECODING], b"")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Entry(0, 0, r.TYPE_INT16, elements=2), struct.pack("<2h", 0x1234, -2)),
        (Entry(0, 0, r.TYPE_UINT32, elements=1, order=2), struct.pack("<I", 0xFFFE_1234)),
        (Entry(0, 0, r.TYPE_BCD16, elements=1), struct.pack("<H", 1234)),
        (Entry(0, 1, r.TYPE_BOOL, elements=5, bit=2), bytes([1, 0, 1, 1, 0])),
        (Entry(0, 0, r.TYPE_INT16, elements=2, flags=r.DECODE_SCALED, scale=0.5), struct.pack("<2d", 2330.0, -1.0)),
        (Entry(0, 1, r.TYPE_BOOL, elements=1, bit=2, flags=r.DECODE_SCALED, bias=1.0), struct.pack("<d", 2.0)),
        (Entry(0, 0, r.TYPE_INT16, elements=0), b""),
    ],
)
def test_arrays_are_little_endian_elements(backend, entry, expected):
    body = bytes.fromhex("1234 FFFE")
    taken = text_or_array(backend, body, entry._replace(flags=entry.flags | r.DECODE_ARRAY))
    assert taken == expected


def test_texts_and_arrays_follow_each_other_in_the_bytes(backend):
    body = b"pump\0xxx\x12\x34"
    text = Entry(0, 0, r.TYPE_STRING, elements=8)
    numbers = Entry(0, 8, r.TYPE_UINT16, elements=1, flags=r.DECODE_ARRAY)
    outside = Entry(0, 9, r.TYPE_UINT16, elements=1, flags=r.DECODE_ARRAY)
    status, values, statuses, taken = gather(backend, body, text, outside, numbers, text)
    assert (status, statuses) == (r.OK, [r.GOOD, r.BAD_DECODING, r.GOOD, r.GOOD])
    assert values == [4, 0, 4 << 32 | 2, 6 << 32 | 4]
    assert taken == b"pump\x34\x12pump"


def test_too_little_room_for_a_text_is_said(backend):
    text = Entry(0, 0, r.TYPE_STRING, elements=4)
    assert gather(backend, b"pump", text, room=3) == (r.E_SPACE, [], [], b"")
    assert gather(backend, b"pu\0\0", text, room=3) == (r.OK, [2], [r.GOOD], b"pu")
    numbers = Entry(0, 0, r.TYPE_UINT16, elements=2, flags=r.DECODE_ARRAY)
    assert gather(backend, b"pump", numbers, room=3) == (r.E_SPACE, [], [], b"")


@pytest.mark.parametrize(
    "entry",
    [
        Entry(0, 3, r.TYPE_UINT16),
        Entry(0, 5, r.TYPE_UINT8),
        Entry(0, 2**32 - 1, r.TYPE_UINT64),
        Entry(0, 0, r.TYPE_STRING, elements=65535),
        Entry(0, 0, r.TYPE_FLOAT64, elements=65535, flags=r.DECODE_ARRAY),
        Entry(0, 0, 0),
        Entry(0, 0, 15),
    ],
)
def test_entry_outside_the_body_is_one_bad_tag(backend, entry):
    good = Entry(0, 0, r.TYPE_UINT16)
    assert gather(backend, b"\0\x07\0\0", entry, good) == (r.OK, [0, 7], [r.BAD_DECODING, r.GOOD], b"")


def test_impossible_arguments_are_our_own_bug(backend):
    assert gather(backend, b"", walk=3)[0] == r.E_ARGUMENT
    assert backend.gather(b"", 0, bytes(31), 0)[0] == r.E_ARGUMENT


# ---- S7 Read Var: return code, transport size, length, data


def s7_item(data: bytes, size: int = 4) -> bytes:
    length = len(data) * 8 if size in (3, 4, 5) else len(data)
    return struct.pack(">BBH", 0xFF, size, length) + data + bytes(len(data) % 2)


def s7(backend, body, *entries):
    status, values, statuses, _ = gather(backend, body, *entries, walk=r.WALK_S7)
    assert status == r.OK
    return list(zip(values, statuses, strict=True))


def test_s7_items_of_every_transport_size(backend):
    body = (
        struct.pack(">BBHB", 0xFF, 3, 1, 1) + b"\0"  # one bit, in one byte, padded
        + s7_item(b"\x12\x34", 4)
        + s7_item(b"\x56\x78", 5)
        + s7_item(struct.pack(">i", -5), 6)
        + s7_item(struct.pack(">f", 1.5), 7)
        + s7_item(b"\x09", 9)
    )  # fmt: skip
    entries = (
        Entry(0, 0, r.TYPE_BOOL, item=0),
        Entry(0, 0, r.TYPE_UINT16, item=1),
        Entry(0, 0, r.TYPE_UINT16, item=2),
        Entry(0, 0, r.TYPE_INT32, item=3),
        Entry(0, 0, r.TYPE_FLOAT32, item=4),
        Entry(0, 0, r.TYPE_UINT8, item=5),
    )
    values = [1, 0x1234, 0x5678, 2**64 - 5, float_bits(1.5), 9]
    for whole in (body, body[:-1]):  # the last item has no padding
        assert s7(backend, whole, *entries) == [(value, r.GOOD) for value in values]


def test_s7_items_are_found_in_any_order(backend):
    body = b"".join(s7_item(bytes([number])) for number in range(6))
    asked = (5, 0, 3, 3, 1, 9, 0, 5, 2)
    found = s7(backend, body, *(Entry(0, 0, r.TYPE_UINT8, item=item) for item in asked))
    assert found == [(item, r.GOOD) if item < 6 else (0, r.BAD_DECODING) for item in asked]


@pytest.mark.parametrize("length", [4, 0], ids=["native server", "Python server"])
def test_s7_failed_item_has_no_data_whatever_its_length_says(backend, length):
    body = s7_item(b"\x01\x02") + struct.pack(">BBH", 0x0A, 0, length) + s7_item(b"\x03\x04")
    found = s7(backend, body, *(Entry(0, 0, r.TYPE_UINT16, item=item) for item in range(3)))
    assert found == [(0x0102, r.GOOD), (0, r.BAD_DEVICE_FAILURE), (0x0304, r.GOOD)]


def test_s7_items_after_a_torn_or_unknown_one_are_bad_decoding(backend):
    good = s7_item(b"\x01\x02")
    entries = [Entry(0, 0, r.TYPE_UINT16, item=item) for item in range(3)]
    expected = [(0x0102, r.GOOD), (0, r.BAD_DECODING), (0, r.BAD_DECODING)]
    assert s7(backend, good + b"\xff\x04\0\x20\x01\x02\x03", *entries) == expected
    assert s7(backend, good + b"\xff\x08\0\x02\x01\x02" + good, *entries) == expected
    assert s7(backend, good + b"\xff\x04\0", *entries) == expected


def test_s7_entry_never_reads_the_next_item(backend):
    body = s7_item(b"\x01\x02") + s7_item(b"\x03\x04")
    assert s7(backend, body, Entry(0, 1, r.TYPE_UINT16, item=0)) == [(0, r.BAD_DECODING)]


# ---- CIP Multiple Service Packet: count, offsets, items of service, 0, status, extended words, data


def cip_item(data: bytes, status: int = 0, extended: bytes = b"", service: int = 0xCC) -> bytes:
    return bytes([service, 0, status, len(extended) // 2]) + extended + data


def cip_body(*items: bytes) -> bytes:
    offsets, at = [], 2 + 2 * len(items)
    for item in items:
        offsets.append(at)
        at += len(item)
    return struct.pack(f"<H{len(items)}H", len(items), *offsets) + b"".join(items)


def cip(backend, body, *entries):
    status, values, statuses, _ = gather(backend, body, *entries, walk=r.WALK_CIP)
    assert status == r.OK
    return list(zip(values, statuses, strict=True))


def test_cip_items_with_type_code_status_and_extended_status(backend):
    body = cip_body(
        cip_item(struct.pack("<Hi", 0x00C4, -7)),  # DINT
        cip_item(b"", status=5, extended=b"\0\0"),  # path destination unknown
        cip_item(struct.pack("<HHf", 0x02A0, 0x0FCE, 2.5), extended=b"\x01\x02"),  # a structure: type code and handle
    )
    entries = (
        Entry(0, 2, r.TYPE_INT32, item=0, order=3),
        Entry(0, 2, r.TYPE_INT32, item=1, order=3),
        Entry(0, 4, r.TYPE_FLOAT32, item=2, order=3),
        Entry(0, 2, r.TYPE_INT32, item=3, order=3),
    )
    assert cip(backend, body, *entries) == [
        (2**64 - 7, r.GOOD),
        (0, r.BAD_DEVICE_FAILURE),
        (float_bits(2.5), r.GOOD),
        (0, r.BAD_DECODING),
    ]


def test_cip_entry_never_reads_the_next_item(backend):
    body = cip_body(cip_item(b"\xc3\0\x01\0"), cip_item(b"\xc3\0\x02\0"))
    entry = Entry(0, 2, r.TYPE_UINT16, order=3)
    assert cip(backend, body, entry, entry._replace(offset=3)) == [(1, r.GOOD), (0, r.BAD_DECODING)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01",
        b"\x01\0",
        b"\x02\0\x06\0",
        b"\x01\0\x02\0" + cip_item(b"\x01\x02"),  # the offset points into the offsets
        b"\x01\0\x09\0" + cip_item(b"\x01\x02"),  # less than a header is left
        b"\x01\0\xff\xff" + cip_item(b"\x01\x02"),
        b"\x02\0\x0a\0\x06\0" + cip_item(b"\x01\x02") * 2,  # the end comes before the start
        cip_body(cip_item(b"\x01\x02", service=0x4C)),  # a request, no reply
        cip_body(bytes([0xCC, 0, 0, 9]) + b"\x01\x02"),  # more extended status than there is
    ],
)
def test_cip_item_that_is_not_as_specified_is_bad_decoding(backend, body):
    assert cip(backend, body, Entry(0, 0, r.TYPE_UINT16)) == [(0, r.BAD_DECODING)]
