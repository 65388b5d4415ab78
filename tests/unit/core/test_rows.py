"""Rows that are given back are used again, only by tags of the same definition, and show nothing of the tag before."""

from __future__ import annotations

from array import array

import pytest

from bifrost._native import records
from bifrost.core.clock import Clock
from bifrost.core.datatypes import parse_type
from bifrost.core.errors import LimitError
from bifrost.core.rows import RowPool
from bifrost.core.table import Batch, RowColumns, TagTable


def make_pool(backend, tags: int = 4) -> tuple[TagTable, RowPool]:
    table = TagTable(backend.make_table(records.TableLimits(tags, 16, 256, 256)), tags)
    return table, RowPool(table, Clock())


def columns(*types: str, deadband: float = 0.0) -> RowColumns:
    made = RowColumns.from_types([(parse_type(text), False) for text in types])
    made.deadbands = array("d", [deadband] * len(types))
    return made


def test_row_is_used_again_by_a_tag_of_the_same_definition(backend):
    table, pool = make_pool(backend)
    [row] = pool.take(columns("int16"), ["a"])
    table.put(Batch(array("I", [row]), [5], 1000), server_time_ns=1000, now_ns=1)
    pool.give([row])
    assert pool.free_count == 1
    assert pool.take(columns("int32"), ["b"]) == [row]  # The table keeps both as an int.
    [point] = table.snapshot([row])
    assert (point.tag, point.value, point.quality) == ("b", None, "BadWaitingForInitialData")
    assert pool.free_count == 0


def test_row_is_not_used_by_a_tag_of_another_definition(backend):
    _, pool = make_pool(backend)
    rows = pool.take(columns("int16", "string[4]"), ["a", "b"])
    pool.give(rows)
    others = pool.take(columns("uint16"), ["c"]) + pool.take(columns("int16", deadband=1.0), ["d"])
    assert not set(others) & set(rows)
    assert sorted(pool.take(columns("string[4]", "int16"), ["b", "a"])) == sorted(rows)


def test_when_there_is_no_room_nothing_is_taken(backend):
    table, pool = make_pool(backend, tags=2)
    pool.give(pool.take(columns("int16"), ["a"]))
    with pytest.raises(LimitError, match="tags_count_max = 2"):
        pool.take(columns("int16", "float32", "float64"), ["a", "b", "c"])
    assert (pool.free_count, table.rows_count) == (1, 1)
    assert len(pool.take(columns("int16", "float32"), ["a", "b"])) == 2
