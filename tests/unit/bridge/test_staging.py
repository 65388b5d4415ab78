"""Samples come out of staging as the change ring held them, also those it no longer has the bytes of."""

from __future__ import annotations

import tracemalloc
from array import array

import pytest

from bifrost._native import records
from bifrost.bridge.staging import Staging, staging_bytes
from bifrost.bridge.stream import Stream
from bifrost.core.datatypes import parse_type
from bifrost.core.status import StatusCode
from bifrost.core.table import Batch, RowColumns, TagTable

T0 = 1_700_000_000_000_000_000


def make(backend, *types: str, rows: int = 0) -> tuple[TagTable, Stream]:
    count = rows or len(types)
    table = TagTable(
        backend.make_table(records.TableLimits(count, 1 << max(4, (4 * count).bit_length()), 64, 256)), count
    )
    specs = [(parse_type(text), False) for text in types] * (count // len(types))
    table.define(RowColumns.from_types(specs), [f"boiler.steam.temperature_{row}" for row in range(count)])
    return table, Stream(table, array("I", range(count)))


def put(table: TagTable, row: int, value, *, status: int = StatusCode.Good, at: int = T0, flags: int = 0) -> None:
    table.put(Batch(array("I", [row]), [value], at, status), server_time_ns=at + 500, now_ns=at, flags=flags)


def staged(table: TagTable, stream: Stream):
    staging = Staging(64, 10_000, table.name_of)
    staging.add(stream.read(64))
    return staging.take()


def test_samples_have_name_value_quality_times_and_the_mark_of_the_clock(backend):
    table, stream = make(backend, "float64", "string[8]", "int16[2]", "bool")
    put(table, 0, 1.5)
    put(table, 1, "Öl", at=T0 + 1000)
    put(table, 2, [-1, 2])
    put(table, 3, True, flags=records.CHANGE_CLOCK_UNSYNCHRONISED)
    samples = staged(table, stream)
    assert list(samples.values) == [1.5, "Öl", [-1, 2], True]
    assert samples.tags[0] == "boiler.steam.temperature_0"
    assert list(samples.source_times_ns) == [T0, T0 + 1000, T0, T0]
    assert list(samples.server_times_ns) == [T0 + 500, T0 + 1500, T0 + 500, T0 + 500]
    assert list(samples.statuses) == [StatusCode.Good] * 4
    assert list(samples.unsynchronised) == [0, 0, 0, 1]


def test_text_that_was_overwritten_before_it_was_read_says_so(backend):
    table, stream = make(backend, "string[16]")
    for text in ("first" * 3, "second" * 2, "third" * 3, "fourth" * 2):
        put(table, 0, text)
    samples = staged(table, stream)
    assert list(samples.values) == [None, None, "third" * 3, "fourth" * 2]
    assert list(samples.statuses) == [StatusCode.BadDataLost] * 2 + [StatusCode.Good] * 2


def test_bad_quality_of_a_tag_that_never_had_a_value_has_the_time_it_was_set(backend):
    table, stream = make(backend, "int16")
    table.mark(array("I", [0]), StatusCode.BadNoCommunication, server_time_ns=T0, now_ns=1)
    samples = staged(table, stream)
    assert list(samples.values) == [None]
    assert list(samples.source_times_ns) == list(samples.server_times_ns) == [T0]
    assert samples.unsynchronised == b""


def test_bad_quality_keeps_the_last_value_and_its_time(backend):
    table, stream = make(backend, "int16")
    put(table, 0, 7)
    table.mark(array("I", [0]), StatusCode.BadNoCommunication, server_time_ns=T0 + 10_000_000, now_ns=1)
    samples = staged(table, stream)
    assert list(samples.values) == [7, 7]
    assert list(samples.source_times_ns) == [T0, T0]
    assert list(samples.server_times_ns) == [T0 + 500, T0 + 10_000_000]


def test_long_texts_use_up_the_room_before_the_count_does(backend):
    table, stream = make(backend, "string[16]")
    staging = Staging(64, 20, table.name_of)
    for text in ("a" * 16, "b" * 16):
        put(table, 0, text)
        staging.add(stream.read(1))
    assert (len(staging), staging.room) == (2, 0)
    staging.take()
    assert staging.room == 64


@pytest.mark.parametrize("type_text", ["float64", "int64"])
def test_memory_is_what_the_limits_count(backend, type_text):
    table, stream = make(backend, type_text, rows=2000)
    for row in range(2000):
        put(table, row, row * 1000)
    changes = stream.read(2000)
    tracemalloc.start()
    try:
        staging = Staging(2000, 1000, lambda row: f"boiler.steam.temperature_{row}")
        before, _ = tracemalloc.get_traced_memory()
        staging.add(changes)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before <= staging_bytes(2000, 0)
