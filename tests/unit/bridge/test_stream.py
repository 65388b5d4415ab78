"""A stream gives each change of its own tags once and in order, and counts exactly what was lapped and what its deadband held back."""

from __future__ import annotations

import math
import random
from array import array

import pytest

from bifrost._native import records
from bifrost.bridge.stream import Deadband, Stream, deadband_bytes
from bifrost.core.datatypes import parse_type
from bifrost.core.status import StatusCode
from bifrost.core.table import Batch, RowColumns, TagTable
from bifrost.core.tag import Value

T0 = 1_700_000_000_000_000_000
RING = 16


def make_table(backend, *types: str) -> TagTable:
    table = TagTable(backend.make_table(records.TableLimits(8, RING, 256, 256)), 8)
    table.define(RowColumns.from_types([(parse_type(text), False) for text in types or ["int32"] * 8]))
    return table


def put(table: TagTable, row: int, *values: Value, status: int = StatusCode.Good, at: int = T0) -> None:
    for value in values:
        table.put(Batch(array("I", [row]), [value], at, status), server_time_ns=at, now_ns=at)


def deadband(table: TagTable, distance: float, *intervals: tuple[int, int]) -> Deadband:
    return Deadband(distance, 8, table.kind, intervals)


def values(stream: Stream, count: int = 100) -> list[Value]:
    return [point.value for _, point in stream.read(count).points()]


def test_stream_gives_the_changes_of_its_own_tags_in_order(backend):
    table = make_table(backend)
    put(table, 2, 99)
    stream = Stream(table, array("I", [2, 5]))
    for number in range(6):
        put(table, number, number + 1)
    assert values(stream) == [3, 6]
    assert (stream.acquired_count, stream.lapped_count, stream.waiting_count()) == (2, 0, 0)
    put(table, 5, 7, 8)
    put(table, 4, 7)
    assert stream.waiting_count() == 2
    assert values(stream, 1) == [7]
    assert stream.waiting_count() == 1


def test_lapped_stream_counts_only_what_it_lost_of_its_own_tags(backend):
    table = make_table(backend)
    stream = Stream(table, array("I", [1]))
    put(table, 1, *range(1, 11))
    put(table, 2, *range(1, 11))  # 20 changes into a ring of 16: the first four, all of tag 1, are gone.
    assert stream.waiting_count() == 10
    changes = stream.read(100)
    assert [point.value for _, point in changes.points()] == [5, 6, 7, 8, 9, 10]
    assert changes.missed == stream.lapped_count == 4
    assert (stream.acquired_count, stream.waiting_count()) == (10, 0)


def test_what_is_overwritten_is_known_before_it_is_read_and_never_becomes_less(backend):
    """A blocked outbox reads nothing for days: that its samples are gone must not wait until it reads again."""
    table = make_table(backend)
    stream = Stream(table, array("I", [1, 2]))
    chance = random.Random(5)
    lost = 0
    for number in range(300):
        for _ in range(chance.randrange(8)):
            put(table, chance.randrange(4), number)
        if number % 100 > 60:
            stream.read(chance.randrange(1, 5))
        told = stream.lapped_count + stream.overwritten_count(RING)
        assert lost <= told
        assert stream.overwritten_count(RING) <= stream.waiting_count()
        lost = told
    while stream.waiting_count():
        stream.read(100)
    assert stream.overwritten_count(RING) == 0
    assert stream.lapped_count >= lost > 0


def test_lap_is_known_when_the_stream_has_read_as_far_as_was_counted(backend):
    table = make_table(backend)
    stream = Stream(table, array("I", [1]))
    put(table, 1, *range(1, 21))
    assert values(stream, 3) == [5, 6, 7]
    assert (stream.acquired_count, stream.waiting_count()) == (3, 17)
    put(table, 1, *range(21, 31))  # Laps it again before the first lap was known.
    got = []
    while new := values(stream, 3):
        got += new
    assert got == list(range(15, 31))
    assert (stream.read_count, stream.lapped_count, stream.waiting_count()) == (19, 11, 0)


def test_nothing_is_lost_uncounted_however_the_stream_is_read(backend):
    chance = random.Random(7)
    table = make_table(backend)
    mine = array("I", [0, 3, 4])
    stream = Stream(table, mine)
    written = got = 0
    for number in range(1, 3000):
        row = chance.randrange(8)
        put(table, row, number)
        written += row in mine
        if chance.random() < 0.1:
            got += stream.read(chance.randrange(8)).changes_count
            assert stream.acquired_count + stream.waiting_count() == written
    while stream.waiting_count():
        got += stream.read(5).changes_count
    assert (got, stream.acquired_count) == (stream.read_count, written)
    assert stream.lapped_count > 0


def test_other_tags_are_followed_from_the_moment_they_were_chosen(backend):
    table = make_table(backend)
    stream = Stream(table, array("I", [1, 2]))
    put(table, 1, 1, 2)
    put(table, 3, 1)
    stream.select(array("I", [2, 3]))
    assert stream.waiting_count() == 2
    put(table, 1, 3)
    put(table, 3, 2)
    stream.select(array("I", [4]))
    put(table, 3, 3)
    put(table, 4, 9)
    assert stream.waiting_count() == 4
    got = [value for _ in range(4) for value in values(stream)]
    assert got == [1, 2, 2, 9]
    assert (stream.acquired_count, stream.waiting_count(), stream.lapped_count) == (4, 0, 0)


def test_nothing_is_lost_uncounted_while_tags_are_chosen_and_laps_happen(backend):
    chance = random.Random(11)
    table = make_table(backend)
    mine = {0, 1}
    stream = Stream(table, array("I", sorted(mine)))
    written = got = 0
    for number in range(1, 5000):
        row = chance.randrange(8)
        put(table, row, number)
        written += row in mine
        if chance.random() < 0.03:
            mine = set(chance.sample(range(8), 3))
            stream.select(array("I", sorted(mine)))
        if chance.random() < 0.1:
            got += stream.read(chance.randrange(8)).changes_count
        assert stream.acquired_count + stream.waiting_count() == written
    while stream.waiting_count():
        got += stream.read(5).changes_count
    assert (got, stream.acquired_count) == (stream.read_count, written)
    assert stream.lapped_count > 0


def test_deadband_compares_with_the_last_change_that_passed(backend):
    table = make_table(backend, "float64", "int32", "uint64")
    stream = Stream(table, array("I", [0, 1, 2]), deadband(table, 1.5))
    put(table, 0, 0.0, 1.0, 1.5, 1.6, 3.0, math.nan, math.nan, 3.0)
    assert values(stream) == [0.0, 1.6, pytest.approx(math.nan, nan_ok=True), 3.0]
    put(table, 1, 0, -1, -2, -3, -4)
    assert values(stream) == [0, -2, -4]
    put(table, 2, 2**64 - 1, 2**64 - 2, 2**64 - 3)
    assert values(stream) == [2**64 - 1, 2**64 - 3]
    assert stream.suppressed_count == 3 + 2 + 1
    assert stream.read_count == 7 + 5 + 3
    assert stream.waiting_count() == 0


def test_deadband_lets_every_change_of_quality_and_of_what_is_no_number_pass(backend):
    table = make_table(backend, "bool", "string[4]", "int16")
    stream = Stream(table, array("I", [0, 1, 2]), deadband(table, 1e9))
    put(table, 0, True, False)
    put(table, 1, "a", "b")
    put(table, 2, 1)
    put(table, 2, None, status=StatusCode.BadNoCommunication)
    put(table, 2, 1)
    assert values(stream) == [True, False, "a", "b", 1, 1, 1]
    assert stream.suppressed_count == 0


def test_tag_with_an_interval_is_heard_of_again_although_it_did_not_move(backend):
    table = make_table(backend)
    stream = Stream(table, array("I", [0, 1]), deadband(table, 100.0, (0, 1000)))
    for row in (0, 1):
        put(table, row, 1, at=T0)
        put(table, row, 2, at=T0 + 900)
        put(table, row, 3, at=T0 + 1000)
        put(table, row, 4, at=T0 + 1900)
        put(table, row, 5, at=T0 - 10_000)
    assert values(stream) == [1, 3, 5, 1]


def test_state_takes_what_it_says():
    assert deadband_bytes(1000) == 28_000
