"""The tag table: what goes in by kind comes out as the same Python value, with its quality and times, from slots and from changes.

Every test runs on each backend that is there; times are made up, nothing reads a clock.
"""

from __future__ import annotations

import math
from array import array
from datetime import UTC, datetime

import pytest

from bifrost._native import records
from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec, parse_type
from bifrost.core.errors import LimitError
from bifrost.core.status import StatusCode
from bifrost.core.table import Batch, RowColumns, TagTable, decode_text, decode_value
from bifrost.core.tag import Value

T0 = 1_700_000_000_123_456_700  # UTC, a multiple of the ring's 100 ns


def make_table(backend, tags: int = 64, ring: int = 128) -> TagTable:
    limits = records.TableLimits(tags, ring, 4096, 4096)
    return TagTable(backend.make_table(limits), tags)


def define(table: TagTable, *types: str, is_scaled: bool = False) -> int:
    columns = RowColumns.from_types([(parse_type(text), is_scaled) for text in types])
    return table.define(columns, [f"d.{number}" for number in range(len(types))])


def put(table: TagTable, rows: list[int], values: list[Value], status: int = StatusCode.Good, at: int = T0) -> None:
    table.put(Batch(array("I", rows), values, at, status), server_time_ns=at + 500, now_ns=at)


@pytest.mark.parametrize(
    ("type_text", "value"),
    [
        ("bool", True),
        ("bool", False),
        ("int16", -32768),
        ("int64", -(2**63)),
        ("uint64", 2**64 - 1),
        ("float32", -0.5),
        ("float64", 1e300),
        ("float64", math.inf),
        ("bcd16", 9999),
        ("string[12]", "Dämpfer"),
        ("string[12]", ""),
        ("int16[3]", [-1, 0, 32767]),
        ("bool[4]", [True, False, True, True]),
        ("float32[2]", [0.5, -2.0]),
        ("uint64[2]", [0, 2**64 - 1]),
    ],
)
def test_value_comes_out_of_slot_and_change_as_it_went_in(backend, type_text, value):
    table = make_table(backend)
    row = define(table, type_text)
    cursor = table.cursor()
    put(table, [row], [value])
    [point] = table.snapshot([row])
    [(changed_row, change)] = cursor.read(10).points()
    assert (point.value, type(point.value)) == (value, type(value))
    assert (change.value, type(change.value), changed_row) == (value, type(value), row)
    assert point.tag == change.tag == "d.0"
    assert (point.source_time_ns, point.server_time_ns) == (T0, T0 + 500)
    assert (change.source_time_ns, change.server_time_ns) == (T0, T0 + 500)


def test_nan_comes_out_as_nan(backend):
    table = make_table(backend)
    row = define(table, "float64")
    put(table, [row], [math.nan])
    [point] = table.snapshot([row])
    assert isinstance(point.value, float)
    assert math.isnan(point.value)


def test_scaled_number_and_scaled_array_are_floats(backend):
    table = make_table(backend)
    row = define(table, "int16", "uint16[2]", "string[4]", is_scaled=True)
    put(table, [row, row + 1, row + 2], [1.5, [0.25, 2.0], "ab"])
    assert [point.value for point in table.snapshot(range(row, row + 3))] == [1.5, [0.25, 2.0], "ab"]


def test_row_never_written_waits_for_initial_data(backend):
    table = make_table(backend)
    row = define(table, "int16", "string[4]")
    for point in table.snapshot([row, row + 1]):
        assert (point.value, point.quality, point.source_time) == (None, "BadWaitingForInitialData", None)
        assert point.is_bad


def test_bad_status_keeps_the_last_value_and_its_time(backend):
    table = make_table(backend)
    row = define(table, "float64", "string[8]")
    put(table, [row, row + 1], [20.5, "on"])
    put(table, [row, row + 1], [None, None], StatusCode.BadNoCommunication, T0 + 10**9)
    number, text = table.snapshot([row, row + 1])
    assert (number.value, number.quality, number.source_time_ns) == (20.5, "BadNoCommunication", T0)
    assert (text.value, text.quality) == ("on", "BadNoCommunication")


def test_exceptions_of_a_batch_have_their_own_status(backend):
    table = make_table(backend)
    row = define(table, "int16", "int16", "int16")
    batch = Batch(array("I", [row, row + 1, row + 2]), [1, None, 3], T0, exceptions={1: StatusCode.BadDeviceFailure})
    table.put(batch, server_time_ns=T0, now_ns=0)
    assert list(table.statuses(array("I", [row, row + 1, row + 2]))) == [0, StatusCode.BadDeviceFailure, 0]
    assert [point.value for point in table.snapshot([row, row + 1, row + 2])] == [1, None, 3]


def test_mark_good_only_leaves_bad_rows_alone(backend):
    table = make_table(backend)
    row = define(table, "int16", "int16")
    put(table, [row], [7])
    uncertain = StatusCode.UncertainNoCommunicationLastUsableValue
    table.mark(array("I", [row, row + 1]), uncertain, server_time_ns=T0, now_ns=1, good_only=True)
    assert list(table.statuses(array("I", [row, row + 1]))) == [uncertain, StatusCode.BadWaitingForInitialData]
    table.mark(array("I", [row]), StatusCode.BadConfigurationError, server_time_ns=T0, now_ns=2)
    assert table.snapshot([row])[0].quality == "BadConfigurationError"
    table.mark(array("I"), StatusCode.BadConfigurationError, server_time_ns=T0, now_ns=2)


def test_row_used_again_shows_nothing_of_its_former_tag(backend):
    table = make_table(backend)
    row = define(table, "int16")
    put(table, [row], [7])
    table.mark(array("I", [row]), StatusCode.BadWaitingForInitialData, server_time_ns=T0, now_ns=1)
    table.rename([row], ["other"])
    [point] = table.snapshot([row])
    assert (point.tag, point.value, point.source_time_ns) == ("other", None, 0)


def test_cursor_that_is_lapped_goes_on_at_the_oldest_change_and_counts(backend):
    table = make_table(backend, tags=4, ring=8)
    row = define(table, "uint16")
    cursor = table.cursor()
    for value in range(20):
        put(table, [row], [value], at=T0 + value * 1000)
    changes = cursor.read(100)
    values = [point.value for _, point in changes.points()]
    assert changes.missed + changes.changes_count == 20
    assert values == list(range(20 - len(values), 20))
    assert cursor.missed == changes.missed
    assert cursor.read(100).changes_count == 0


def test_change_whose_text_was_overwritten_has_no_value(backend):
    table = make_table(backend)
    row = define(table, "string[1000]")
    cursor = table.cursor()
    for number in range(10):
        put(table, [row], [chr(97 + number) * 1000], at=T0 + number)
    values = [point.value for _, point in cursor.read(100).points()]
    assert values[0] is None
    assert values[-1] == "j" * 1000


def test_snapshot_of_a_row_that_is_not_there_is_refused(backend):
    table = make_table(backend)
    with pytest.raises(ValueError, match="not defined"):
        table.snapshot([1000])


def test_more_rows_than_the_limit_are_refused_and_none_is_defined(backend):
    table = make_table(backend, tags=2, ring=4)
    with pytest.raises(LimitError, match="tags_count_max"):
        define(table, "int16", "int16", "int16")
    assert table.rows_count == 0
    with pytest.raises(LimitError, match="cell_bytes"):
        define(table, "string[5000]")
    assert define(table, "int16", "int16") == 0


@pytest.mark.parametrize(
    ("type_text", "value", "error"),
    [
        ("int16", "text", TypeError),
        ("int16", 1.5, TypeError),
        ("int16", [1], TypeError),
        ("uint16", -1, ValueError),
        ("int64", 2**63, ValueError),
        ("string[4]", 5, TypeError),
        ("string[4]", "12345", ValueError),
        ("int16[2]", 5, TypeError),
        ("int16[2]", [70000], ValueError),
        ("int16[2]", [1, 2, 3], ValueError),
    ],
)
def test_value_of_another_kind_is_refused(backend, type_text, value, error):
    table = make_table(backend)
    row = define(table, type_text)
    with pytest.raises(error):
        put(table, [row], [value])


def test_batch_for_a_row_that_is_not_defined_or_of_uneven_columns_is_refused(backend):
    table = make_table(backend)
    define(table, "int16")
    with pytest.raises(ValueError):
        put(table, [5], [1])
    with pytest.raises(ValueError, match="2 rows but 1 values"):
        put(table, [0, 0], [1])


def entry(row: int, data_type: DataType, **fields: int) -> bytes:
    return records.DecodeEntry(row, 0, data_type.code, **fields).pack()


def test_rows_take_their_definition_from_decode_entries(backend):
    table = make_table(backend)
    first = define(table, "int16")
    decodes = [
        entry(2, DataType.STRING, elements=6) + entry(1, DataType.INT16, flags=records.DECODE_SCALED),
        entry(3, DataType.UINT16, elements=2, flags=records.DECODE_ARRAY) + entry(4, DataType.BOOL),
    ]
    columns = RowColumns.from_decodes(first + 1, 4, decodes)
    assert table.define(columns) == 1
    kinds = [records.KIND_FLOAT, records.KIND_TEXT, records.KIND_ARRAY, records.KIND_BOOL]
    assert [table.kind(row) for row in range(1, 5)] == kinds
    put(table, [1, 2, 3, 4], [0.5, "abcdef", [1, 65535], True])
    assert [point.value for point in table.snapshot([1, 2, 3, 4])] == [0.5, "abcdef", [1, 65535], True]
    assert table.snapshot([4])[0].tag == "4"


def test_decode_entries_that_miss_a_row_or_name_another_are_refused():
    with pytest.raises(ValueError, match="what row 8 is"):
        RowColumns.from_decodes(7, 2, [entry(7, DataType.INT16)])
    with pytest.raises(ValueError, match="row 9 is not one of 7 to 8"):
        RowColumns.from_decodes(7, 2, [entry(9, DataType.INT16)])


def test_gathered_values_are_those_the_table_would_give(backend):
    body = b"\xff\xfe" + b"ab\0c" + b"\x00\x01\x00\x02"
    entries = [
        records.DecodeEntry(0, 0, DataType.INT16.code),
        records.DecodeEntry(1, 2, DataType.STRING.code, elements=4),
        records.DecodeEntry(2, 6, DataType.UINT16.code, elements=2, flags=records.DECODE_ARRAY),
        records.DecodeEntry(3, 0, DataType.INT16.code, flags=records.DECODE_SCALED, scale=0.5, bias=1.0),
        records.DecodeEntry(4, 0, DataType.UINT32.code, order=ByteOrder.CDAB.code),
    ]
    status, bits, statuses, cells = backend.gather(body, 0, b"".join(e.pack() for e in entries), 100)
    assert status == records.OK
    assert list(statuses) == [0] * 5
    values = [decode_value(e.type, e.flags, b, cells) for e, b in zip(entries, bits, strict=True)]
    assert values == [-2, "ab", [1, 2], 0.0, int.from_bytes(b"ab\xff\xfe", "big")]


def test_text_that_is_not_utf8_is_latin1():
    assert decode_text(b"\xb0C\0rest") == "°C"
    assert decode_text("°C".encode()) == "°C"


def test_times_are_utc_to_the_microsecond(backend):
    table = make_table(backend)
    row = define(table, "int16")
    put(table, [row], [1])
    [point] = table.snapshot([row])
    assert point.source_time == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert point.server_time == datetime(2023, 11, 14, 22, 13, 20, 123457, tzinfo=UTC)


def test_types_of_the_columns_follow_the_type_not_the_scale_for_text():
    columns = RowColumns.from_types([(TypeSpec(DataType.STRING, 4), True), (TypeSpec(DataType.INT8, 3, True), True)])
    assert list(columns.kinds) == [records.KIND_TEXT, records.KIND_ARRAY]
    assert list(columns.cell_sizes) == [4, 24]
