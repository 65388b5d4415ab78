"""Tags and data points: names, types and times as a person sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from bifrost.core.datatypes import DataType, TypeSpec, ValueKind
from bifrost.core.status import StatusCode
from bifrost.core.tag import DataPoint, Tag, value_kind

DEFAULT = TypeSpec(DataType.UINT16)


def test_full_name_leaves_out_what_is_empty():
    assert Tag("t", 1).full_name == "t"
    assert Tag("t", 1, group="g").full_name == "g.t"
    assert Tag("t", 1, group="g", device="d").full_name == "d.g.t"


@pytest.mark.parametrize(
    ("datatype", "spec"),
    [
        (None, DEFAULT),
        (DataType.FLOAT32, TypeSpec(DataType.FLOAT32)),
        ("REAL", TypeSpec(DataType.FLOAT32)),
        ("string[8]", TypeSpec(DataType.STRING, 8)),
        ("int16[3]", TypeSpec(DataType.INT16, 3, is_array=True)),
    ],
)
def test_type_is_the_declared_one_or_the_default(datatype, spec):
    assert Tag("t", 1, datatype).type_spec(DEFAULT) == spec


def test_string_without_its_length_is_refused():
    with pytest.raises(ValueError, match="needs its length"):
        Tag("t", 1, DataType.STRING).type_spec(DEFAULT)


def test_scaled_number_is_a_float_and_nothing_else_is():
    assert Tag("t", 1, scale=2.0).is_scaled
    assert Tag("t", 1, offset=1.0).is_scaled
    assert not Tag("t", 1).is_scaled
    assert value_kind(DEFAULT, True) is ValueKind.FLOAT
    assert value_kind(DEFAULT, False) is ValueKind.UINT
    assert value_kind(TypeSpec(DataType.STRING, 4), True) is ValueKind.TEXT
    assert value_kind(TypeSpec(DataType.INT16, 4, is_array=True), True) is ValueKind.ARRAY


def test_times_are_exact_to_the_microsecond_and_know_their_zone():
    point = DataPoint("t", 1, StatusCode.Good, 1_700_000_000_123_456_999, 1)
    assert point.source_time == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert point.server_time == datetime(1970, 1, 1, tzinfo=UTC)
    assert point.source_time is not None
    assert point.source_time.utcoffset() == timedelta(0)
    assert point.source_time.astimezone(timezone(timedelta(hours=1))) == point.source_time


def test_time_that_never_was_is_none():
    point = DataPoint("t", None, StatusCode.BadWaitingForInitialData, 0, 0)
    assert (point.source_time, point.server_time) == (None, None)


def test_quality_is_the_name_of_the_status():
    good = DataPoint("t", 1, StatusCode.Good, 1, 1)
    uncertain = DataPoint("t", 1, StatusCode.UncertainNoCommunicationLastUsableValue, 1, 1)
    bad = DataPoint("t", 1, 0x8FFF0000, 1, 1)
    assert [point.quality for point in (good, uncertain, bad)] == [
        "Good",
        "UncertainNoCommunicationLastUsableValue",
        "0x8FFF0000",
    ]
    assert [(point.is_good, point.is_bad) for point in (good, uncertain, bad)] == [
        (True, False),
        (False, False),
        (False, True),
    ]
