"""Both backends of the scan engine, stepped together: the first difference fails."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest

from bifrost._native import records as r
from bifrost._native import select
from bifrost._native.contract import Scan, Table
from tests.sim import plant

_ALL_TAGS = array("I", range(plant.TABLE_LIMITS.tags_count_max))
_READ_COUNT = plant.TABLE_LIMITS.ring_changes_count


class Pair:
    """The engine in Python and in C with a table each. Skips the test where C is not built."""

    def __init__(self, seed: int, limits: r.ScanLimits = plant.SCAN_LIMITS) -> None:
        try:
            backends = (select("py"), select("c"))
        except ImportError as error:
            pytest.skip(str(error))
        self.tables: list[Table] = [plant.make_table(backend) for backend in backends]
        self.scans: list[Scan] = [
            backend.make_scan(limits, table, seed) for backend, table in zip(backends, self.tables, strict=True)
        ]
        self._position = 0
        self._links_count = limits.links_count_max

    def step(self, now_ns: int, events: Sequence[r.Event]) -> tuple[list[r.Action], int]:
        """Steps both; gives what both said."""
        python, c = (scan.step(now_ns, events) for scan in self.scans)
        assert c == python, f"at {now_ns} after {events}"
        return python

    def counters(self, link: int) -> r.Counters:
        """Counters of `link`, the same in both."""
        python, c = (scan.counters(link) for scan in self.scans)
        assert c == python, f"counters of link {link}"
        return python

    def compare(self) -> tuple[list[r.Change], list[r.Slot]]:
        """Compares all that the engines left behind; gives the changes since the last call and the slots."""
        python, c = (table.ring_read(self._position, _READ_COUNT) for table in self.tables)
        assert c == python, "changes"
        slots = self.tables[0].read(_ALL_TAGS)
        assert self.tables[1].read(_ALL_TAGS) == slots, "slots"
        for link in range(self._links_count):
            self.counters(link)
        self._position, missed, packed = c
        assert missed == 0, "compare more often"
        return (
            [r.Change(*fields) for fields in r.CHANGE.iter_unpack(packed)],
            [r.Slot(*fields) for fields in r.SLOT.iter_unpack(slots)],
        )
