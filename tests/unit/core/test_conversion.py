"""From engineering to raw values: types, ranges, halves to even, and that scaling can be undone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost.core.conversion import raw_value
from bifrost.core.datatypes import DataType, parse_type
from bifrost.core.status import StatusCode

Good, TypeMismatch, OutOfRange = StatusCode.Good, StatusCode.BadTypeMismatch, StatusCode.BadOutOfRange


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        (True, "bool", (Good, True)),
        (1, "bool", (TypeMismatch, None)),
        (5, "int16", (Good, 5)),
        (5.0, "int16", (Good, 5)),
        (5.5, "int16", (TypeMismatch, None)),
        (True, "int16", (TypeMismatch, None)),
        ("5", "int16", (TypeMismatch, None)),
        (None, "int16", (TypeMismatch, None)),
        (32_768, "int16", (OutOfRange, None)),
        (-1, "uint64", (OutOfRange, None)),
        (2**64 - 1, "uint64", (Good, 2**64 - 1)),
        (10_000, "bcd16", (OutOfRange, None)),
        (99_999_999, "bcd32", (Good, 99_999_999)),
        (1, "float32", (Good, 1.0)),
        (0.1, "float32", (Good, 0.10000000149011612)),
        (1e39, "float32", (OutOfRange, None)),
        (1e308, "float64", (Good, 1e308)),
        (10**400, "float64", (OutOfRange, None)),
        (math.nan, "float64", (OutOfRange, None)),
        (math.inf, "int16", (OutOfRange, None)),
        ("äb", "string[3]", (Good, "äb")),
        ("äb", "string[2]", (OutOfRange, None)),
        ("\ud800", "string[8]", (TypeMismatch, None)),
        (5, "string[8]", (TypeMismatch, None)),
        ([1, 2], "int16[2]", (Good, [1, 2])),
        ([1], "int16[2]", (TypeMismatch, None)),
        (1, "int16[2]", (TypeMismatch, None)),
        ([1, 70_000], "int16[2]", (OutOfRange, None)),
        ([1, "x"], "int16[2]", (TypeMismatch, None)),
    ],
)
def test_types(value, datatype, expected):
    assert raw_value(value, parse_type(datatype)) == expected


@pytest.mark.parametrize(("value", "raw"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (2.51, 3)])
def test_halves_round_to_even(value, raw):
    assert raw_value(value * 2, parse_type("int16"), scale=2.0) == (Good, raw)


def test_scale_and_offset_are_inverted():
    assert raw_value(25.0, parse_type("uint16"), scale=0.1, offset=-40.0) == (Good, 650)
    assert raw_value(3.0, parse_type("float32"), scale=2.0, offset=1.0) == (Good, 1.0)
    assert raw_value(1e308, parse_type("uint16"), scale=1e-10) == (OutOfRange, None)
    assert raw_value(1e308, parse_type("float64"), scale=1e-10) == (OutOfRange, None)


def test_the_engineering_range_holds_for_numbers_and_elements():
    spec = parse_type("int16")
    assert raw_value(150, spec, engineering_range=(0, 150)) == (Good, 150)
    assert raw_value(151, spec, engineering_range=(0, 150)) == (OutOfRange, None)
    assert raw_value([1, 200], parse_type("int16[2]"), engineering_range=(0, 150)) == (OutOfRange, None)


@given(st.integers(-(2**15), 2**15 - 1), st.floats(0.001, 1000), st.floats(-1000, 1000))
def test_what_was_read_can_be_written_back(raw, scale, offset):
    assert raw_value(raw * scale + offset, parse_type("int16"), scale=scale, offset=offset) == (Good, raw)


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(_VALUES | st.lists(_VALUES, max_size=3), st.sampled_from(list(DataType)), st.integers(1, 3), st.booleans())
def test_any_value_is_converted_or_refused(value, base, count, is_array):
    text = f"{base.value}[{count}]" if is_array or base is DataType.STRING else base.value
    status, raw = raw_value(value, parse_type(text))
    assert (raw is None) == (status is not Good)
