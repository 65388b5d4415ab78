"""Sources that are not polled: they hand over a `Batch` when they have one, and the table takes it.

The other way into the table beside the scan engine, for what is not request and answer: a client that is sent values,
a simulation, a calculation. `plc.drivers.sine` is the example to copy.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from bifrost.core.clock import Clock
from bifrost.core.errors import TransportError
from bifrost.core.status import StatusCode
from bifrost.core.table import Batch, RowColumns, TagTable
from bifrost.core.tag import Tag

__all__ = ["BatchSource", "follow"]


class BatchSource(Protocol):
    """What a driver offers whose device is not polled."""

    def columns(self, tags: Sequence[Tag]) -> RowColumns:
        """What the rows of `tags` are to hold. Raises AddressError for a tag that the source does not have."""
        ...

    async def run(self, tags: Sequence[Tag], rows: Sequence[int], clock: Clock, write: Callable[[Batch], None]) -> None:
        """Writes values of `tags` (row of each in `rows`) until it is cancelled.

        Raises:
            TransportError: The source is gone; the owner starts it again after a while.
        """
        ...


async def follow(source: BatchSource, tags: Sequence[Tag], rows: Sequence[int], table: TagTable, clock: Clock) -> None:
    """Runs `source` into `table`. When it ends, for whatever reason, its good values become the last usable ones.

    Raises:
        TransportError: As the source did.
    """

    def write(batch: Batch) -> None:
        table.put(batch, server_time_ns=clock.utc_ns(), now_ns=clock.now_ns())

    try:
        await source.run(tags, rows, clock, write)
        raise TransportError("the source ended by itself")
    finally:
        status = StatusCode.UncertainNoCommunicationLastUsableValue
        table.mark(array("I", rows), status, server_time_ns=clock.utc_ns(), now_ns=clock.now_ns(), good_only=True)
