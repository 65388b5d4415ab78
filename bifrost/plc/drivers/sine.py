"""A source of sine waves: the driver to copy. A tag's address is the period of its wave in seconds, ``10`` or ``"0.5"``."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Callable, Sequence

from bifrost.core.clock import Clock
from bifrost.core.datatypes import DataType, TypeSpec
from bifrost.core.errors import AddressError
from bifrost.core.table import Batch, RowColumns
from bifrost.core.tag import Tag

__all__ = ["SineSource"]


class SineSource:
    """See `plc.sources.BatchSource`. A value is ``scale * sin(2 pi t / period) + offset``; t is UTC, so all waves agree.

    Args:
        interval_s: Time between two batches, in seconds.
    """

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s

    def columns(self, tags: Sequence[Tag]) -> RowColumns:
        """Every tag is a float64."""
        for tag in tags:
            _period_s(tag)
        return RowColumns.from_types([(TypeSpec(DataType.FLOAT64), False)] * len(tags))

    async def run(self, tags: Sequence[Tag], rows: Sequence[int], clock: Clock, write: Callable[[Batch], None]) -> None:
        """A batch of all tags every interval."""
        waves = [(_period_s(tag), tag.scale, tag.offset) for tag in tags]
        while True:
            now_ns = clock.utc_ns()
            angle = 2 * math.pi * now_ns / 1e9
            write(
                Batch(
                    array("I", rows), [scale * math.sin(angle / period) + add for period, scale, add in waves], now_ns
                )
            )
            await asyncio.sleep(self._interval_s)


def _period_s(tag: Tag) -> float:
    try:
        period = float(tag.address)
    except ValueError:
        period = math.nan
    if not 0 < period < math.inf:
        raise AddressError(f"tag {tag.full_name!r}: a sine's address is its period in seconds, not {tag.address!r}")
    return period
