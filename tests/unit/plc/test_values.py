"""Values to wire bytes, and back by gather-decode: the two must be each other's inverse on every type and order."""

import math
import re
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bifrost._native import records
from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec, parse_type
from bifrost.core.table import decode_value
from bifrost.plc.values import encode_value

ABCD = ByteOrder.ABCD


@pytest.mark.parametrize(
    ("order", "wire"),
    [("ABCD", "12345678"), ("BADC", "34127856"), ("CDAB", "56781234"), ("DCBA", "78563412")],
)
def test_byte_orders_are_those_of_their_letters(order, wire):
    assert encode_value(0x12345678, TypeSpec(DataType.UINT32), ByteOrder(order)).hex() == wire


@pytest.mark.parametrize(
    ("value", "type_text", "scale", "offset", "wire"),
    [
        (-2, "int16", 1.0, 0.0, "fffe"),
        (21.5, "int16", 0.1, 0.0, "00d7"),
        (1.25, "int16", 0.5, 0.0, "0002"),  # 2.5 rounds half to even
        (1.75, "int16", 0.5, 0.0, "0004"),  # 3.5 rounds half to even
        (30, "uint16", 2, 10, "000a"),
        (1234, "bcd16", 1.0, 0.0, "1234"),
        (12345678, "bcd32", 1.0, 0.0, "12345678"),
        (1.5, "float32", 1.0, 0.0, "3fc00000"),
        (3.0, "int16", 1.0, 0.0, "0003"),
        ([1, -1], "int16[2]", 1.0, 0.0, "0001ffff"),
        ("ab", "string[4]", 1.0, 0.0, "61620000"),
    ],
)
def test_values_are_encoded_as_declared(value, type_text, scale, offset, wire):
    assert encode_value(value, parse_type(type_text), ABCD, scale, offset).hex() == wire


@pytest.mark.parametrize(
    ("value", "type_text"),
    [
        (70_000, "uint16"),
        (-1, "uint16"),
        (math.nan, "int32"),
        (math.inf, "float32"),
        (10_000, "bcd16"),
        (-1, "bcd16"),
        (1e39, "float32"),
        ("abcde", "string[4]"),
    ],
)
def test_a_value_out_of_range_is_refused(value, type_text):
    with pytest.raises(ValueError, match=f"out of range for {re.escape(type_text)}"):
        encode_value(value, parse_type(type_text), ABCD)


@pytest.mark.parametrize(
    ("value", "type_text"),
    [
        ("1", "int16"),
        (True, "int16"),
        (None, "float32"),
        (1, "string[2]"),
        (1.5, "int16"),
        ([1], "int16[2]"),
        (1, "int16[2]"),
    ],
)
def test_a_value_of_another_kind_is_refused(value, type_text):
    with pytest.raises(TypeError, match=f"no value of type {re.escape(type_text)}"):
        encode_value(value, parse_type(type_text), ABCD)


def test_scaling_is_taken_back_for_every_element():
    assert encode_value([0.5, 1.0], parse_type("int16[2]"), ABCD, 0.5).hex() == "00010002"


_NUMBERS = [t for t in DataType if t not in (DataType.BOOL, DataType.STRING, DataType.BCD16, DataType.BCD32)]
_FORMATS = dict(zip(_NUMBERS, "bBhHiIqQfd", strict=True))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture is a module and keeps nothing
@given(st.data(), st.sampled_from(_NUMBERS), st.sampled_from(ByteOrder), st.integers(1, 6), st.booleans())
def test_decoding_gives_back_what_was_encoded(backend, data, base, order, count, is_array):
    width = struct.calcsize(_FORMATS[base])
    raw = data.draw(st.binary(min_size=count * width, max_size=count * width))
    values = [v if math.isfinite(v) else 0.0 for v in struct.unpack(f"<{count}{_FORMATS[base]}", raw)]
    spec = TypeSpec(base, count, is_array=True) if is_array else TypeSpec(base)
    value = values if is_array else values[0]
    wire = encode_value(value, spec, order)
    code = order.code & (records.ORDER_SWAP_BYTES if width == 1 and is_array else 3) if width > 1 or is_array else 0
    flags = records.DECODE_ARRAY if is_array else 0
    entry = records.DecodeEntry(0, 0, base.code, elements=spec.count, order=code, flags=flags)
    status, bits, statuses, cells = backend.gather(wire, records.WALK_NONE, entry.pack(), 4096)
    assert (status, statuses[0]) == (records.OK, records.GOOD)
    assert decode_value(base.code, flags, bits[0], cells) == value
