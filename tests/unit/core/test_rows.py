"""Rows that are given back are used again, only by tags that the table keeps the same way, and show nothing of the tag before."""

from __future__ import annotations

from array import array

import pytest

from bifrost._native import records
from bifrost.core.clock import Clock
from bifrost.core.datatypes import parse_type
from bifrost.core.errors import LimitError
from bifrost.core.rows import RowPool
from bifrost.core.table import Batch, RowColumns, TagTable


def make_pool(backend, tags: int = 4, **options) -> tuple[TagTable, RowPool]:
    table = TagTable(backend.make_table(records.TableLimits(tags, 16, 256, 256)), tags)
    return table, RowPool(table, Clock(), **options)


def columns(*types: str, deadband: float = 0.0) -> RowColumns:
    made = RowColumns.from_types([(parse_type(text), False) for text in types])
    made.deadbands = array("d", [deadband] * len(types))
    return made


def put(table, row, value):
    table.put(Batch(array("I", [row]), [value], 1000), server_time_ns=1000, now_ns=1)


def test_row_is_used_again_by_a_tag_of_the_same_definition(backend):
    table, pool = make_pool(backend)
    [row] = pool.take(columns("int16"), ["a"])
    put(table, row, 5)
    pool.give([row], columns("int16"))
    assert pool.free_count == 1
    assert pool.take(columns("int32"), ["b"]) == [row]  # The table keeps both as an int.
    [point] = table.snapshot([row])
    assert (point.tag, point.value, point.quality) == ("b", None, "BadWaitingForInitialData")
    assert pool.free_count == 0


def test_row_that_is_used_again_has_the_deadband_of_its_new_tag(backend):
    table, pool = make_pool(backend)
    pool.give(pool.take(columns("int16", deadband=10.0), ["a"]), columns("int16"))
    [row] = pool.take(columns("int16", deadband=1.0), ["b"])
    for value in (0, 1, 3):
        put(table, row, value)
    changes = [records.Change(*fields) for fields in records.CHANGE.iter_unpack(table.native.ring_read(0, 16)[2])]
    assert [change.value for change in changes if change.status == 0] == [0, 3]


def test_row_is_not_used_by_a_tag_of_another_definition(backend):
    _, pool = make_pool(backend)
    rows = pool.take(columns("int16", "string[4]"), ["a", "b"])
    pool.give(rows, columns("int16", "string[4]"))
    others = pool.take(columns("uint16"), ["c"]) + pool.take(columns("string[5]"), ["d"])
    assert not set(others) & set(rows)
    assert sorted(pool.take(columns("string[4]", "int16"), ["b", "a"])) == sorted(rows)


def test_when_there_is_no_room_nothing_is_taken(backend):
    table, pool = make_pool(backend, tags=2)
    pool.give(pool.take(columns("int16"), ["a"]), columns("int16"))
    with pytest.raises(LimitError, match="tags_count_max = 2"):
        pool.take(columns("int16", "float32", "float64"), ["a", "b", "c"])
    assert (pool.free_count, table.rows_count) == (1, 1)
    assert len(pool.take(columns("int16", "float32"), ["a", "b"])) == 2


def test_retired_row_is_free_once_every_reader_has_passed_its_changes(backend):
    passed = 0
    table, pool = make_pool(backend, rows_count_max=2, passed=lambda: passed)
    first, second = pool.take(columns("int16", "int16"), ["a", "b"])
    put(table, first, 5)
    pool.retire([first], columns("int16"))
    with pytest.raises(LimitError, match="3 rows of tags are needed"):
        pool.take(columns("int16"), ["c"])
    passed = 1
    assert pool.take(columns("int16"), ["c"]) == [first]
    assert (pool.retired_count, table.rows_count) == (0, 2)
    assert second != first


def test_rows_of_others_in_the_same_table_are_not_counted(backend):
    table, pool = make_pool(backend, rows_count_max=2, rows_count=1)
    table.define(columns("int16", "int16"))
    assert pool.take(columns("int16"), ["c"]) == [2]
    with pytest.raises(LimitError):
        pool.take(columns("int16"), ["d"])
