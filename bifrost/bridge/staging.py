"""Samples between ring and journal: columns that are filled change by change and emptied message by message.

Texts and arrays are fetched the moment their change is read, since their bytes in the ring are overwritten soon. One that
was overwritten all the same is a sample without a value and with the quality BadDataLost: there was a change, and this
uplink cannot say what it was.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from bifrost._native import records
from bifrost.bridge.transformers.samples import Samples
from bifrost.core.status import StatusCode, is_good
from bifrost.core.table import Changes, TagTable
from bifrost.core.tag import Value

__all__ = ["Staging", "staging_bytes"]

_TICKS_MAX: Final = (1 << 47) - 1  # Server minus source time does not go further; 162 days (`bf_change`).
_SAMPLE_BYTES: Final = 176  # A name, a boxed number and the columns: 138 bytes on CPython 3.11 by tracemalloc.
_ELEMENT_BYTES: Final = 32  # A boxed number in a list.


def staging_bytes(count_max: int, bodies_bytes_max: int) -> int:
    """Bytes of a `Staging` that is full."""
    return count_max * _SAMPLE_BYTES + bodies_bytes_max


class Staging:
    """Samples in the order of the ring, oldest first.

    Args:
        count_max: Samples it holds at most.
        bodies_bytes_max: Texts and arrays after which it takes no more; the last `add` may exceed it by as many as the
            ring holds.
        name_of: Row -> full name.
    """

    def __init__(self, count_max: int, bodies_bytes_max: int, name_of: Callable[[int], str]) -> None:
        self._count_max = count_max
        self._bodies_bytes_max = bodies_bytes_max
        self._name_of = name_of
        self._clear()

    def _clear(self) -> None:
        self._names: list[str] = []
        self._values: list[Value] = []
        self._statuses = array("I")
        self._source_times = array("q")
        self._server_times = array("q")
        self._marks = bytearray()
        self._bodies_bytes = 0

    def __len__(self) -> int:
        return len(self._names)

    @property
    def room(self) -> int:
        """Samples that can be added."""
        return self._count_max - len(self) if self._bodies_bytes < self._bodies_bytes_max else 0

    def add(self, changes: Changes) -> None:
        """Adds the samples of all `changes`, of which there are no more than `room`."""
        assert changes.changes_count <= self._count_max - len(self)
        table, packed = changes.table, changes.packed
        for index, change in enumerate(records.CHANGE.iter_unpack(packed)):
            row, status, source_time, bits, when = change
            value: Value = None
            if source_time:
                if table.kind(row) < records.KIND_TEXT:
                    value = table.value_of_bits(row, bits)
                else:
                    start = index * records.CHANGE.size
                    value = table.point_of_change(change, packed[start : start + records.CHANGE.size]).value
                    self._bodies_bytes += _body_bytes(value)
                    if value is None and is_good(status):
                        status = int(StatusCode.BadDataLost)
            ticks = when >> 16
            server_time = source_time + ticks * 100 if ticks != _TICKS_MAX else _server_time_now(table, row)
            self._names.append(self._name_of(row))
            self._values.append(value)
            self._statuses.append(status)
            self._source_times.append(source_time or server_time)
            self._server_times.append(server_time)
            self._marks.append(when & records.CHANGE_CLOCK_UNSYNCHRONISED)

    def take(self) -> Samples:
        """All samples; none are left."""
        marks = self._marks if any(self._marks) else b""
        samples = Samples(
            self._names, self._values, self._statuses, self._source_times, self._server_times, bytes(marks)
        )
        self._clear()
        return samples


def _body_bytes(value: Value) -> int:
    """About how much memory a text or array takes."""
    if isinstance(value, str):
        return len(value)
    return len(value) * _ELEMENT_BYTES if isinstance(value, list) else 0


def _server_time_now(table: TagTable, row: int) -> int:
    """When the row was last set, for a change whose own server time did not fit: of a row that never had a value."""
    (slot,) = records.SLOT.iter_unpack(table.native.read(array("I", [row])))
    return int(slot[2])
