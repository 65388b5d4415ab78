"""A source that is not polled fills its rows by batches; when it ends, its values are the last usable ones."""

from __future__ import annotations

import asyncio
import math

import pytest

from bifrost._native import records
from bifrost.core.clock import Clock
from bifrost.core.errors import AddressError, TransportError
from bifrost.core.table import TagTable
from bifrost.core.tag import Tag
from bifrost.plc.drivers.sine import SineSource
from bifrost.plc.sources import follow


def make_table(backend) -> TagTable:
    return TagTable(backend.make_table(records.TableLimits(4, 16, 0, 0)), 4)


def test_sine_fills_its_rows_until_it_is_cancelled(backend):
    table, clock, source = make_table(backend), Clock(), SineSource(interval_s=0.001)
    tags = [Tag("slow", 3600, scale=10.0, offset=100.0), Tag("quick", "0.5")]
    first = table.define(source.columns(tags), [tag.full_name for tag in tags])
    rows = range(first, first + 2)

    async def run():
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            following = group.create_task(follow(source, tags, rows, table, clock), name="sine")
            cursor = table.cursor()
            changes = 0
            while changes < 6:
                await asyncio.sleep(0)
                changes += cursor.read(100).changes_count
            slow, quick = table.snapshot(rows)
            assert slow.is_good
            assert 90 <= slow.value <= 110
            angle = 2 * math.pi * quick.source_time_ns / 1e9 / 0.5
            assert quick.value == pytest.approx(math.sin(angle), abs=1e-3)
            following.cancel()

    asyncio.run(run())
    assert {point.quality for point in table.snapshot(rows)} == {"UncertainNoCommunicationLastUsableValue"}


@pytest.mark.parametrize("address", ["fast", 0, "-1", "inf", "nan"])
def test_sine_without_a_period_is_refused(address):
    with pytest.raises(AddressError, match="'a': a sine's address is its period in seconds"):
        SineSource().columns([Tag("a", address)])


def test_source_that_ends_by_itself_is_an_error(backend):
    class Short(SineSource):
        async def run(self, tags, rows, clock, write):
            return

    table = make_table(backend)
    source = Short()
    table.define(source.columns([Tag("a", 1)]))
    with pytest.raises(TransportError, match="ended by itself"):
        asyncio.run(follow(source, [Tag("a", 1)], [0], table, Clock()))
