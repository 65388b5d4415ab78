"""`RowPool`: rows of the table that come and go with the tags of library users.

The native table defines a row once. A row that is free again is given only to a tag of the very same definition (kind,
deadband, longest interval, cell), and shows nothing of its former tag. A gateway has no need of this: its rows are
those of its configuration.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence

from bifrost.core.clock import Clock
from bifrost.core.errors import LimitError
from bifrost.core.status import StatusCode
from bifrost.core.table import RowColumns, TagTable

__all__ = ["RowPool"]

_Definition = tuple[int, int, int, float, int]


class RowPool:
    """Free rows of one table, by definition.

    Args:
        table: Whose rows; nobody else defines any.
        clock: For the times of rows that are used again.
    """

    def __init__(self, table: TagTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._free: defaultdict[_Definition, list[int]] = defaultdict(list)
        self._definitions: dict[int, _Definition] = {}

    @property
    def free_count(self) -> int:
        """Rows that wait to be used again."""
        return sum(len(rows) for rows in self._free.values())

    def take(self, columns: RowColumns, names: Sequence[str]) -> list[int]:
        """Rows defined like `columns`, in their order, waiting for data and named `names`.

        Raises:
            LimitError: The table has no room for them; none is taken then.
        """
        wanted = [_definition(columns, index) for index in range(len(columns))]
        rows: list[int | None] = [self._free[one].pop() if self._free[one] else None for one in wanted]
        used_again = array("I", [row for row in rows if row is not None])
        missing = [index for index, row in enumerate(rows) if row is None]
        try:
            first = self._table.define(columns.pick(missing)) if missing else 0
        except LimitError:
            self.give(used_again)
            raise
        for offset, index in enumerate(missing):
            rows[index] = first + offset
            self._definitions[first + offset] = wanted[index]
        status = StatusCode.BadWaitingForInitialData
        self._table.mark(used_again, status, server_time_ns=self._clock.utc_ns(), now_ns=self._clock.now_ns())
        taken = [row for row in rows if row is not None]
        self._table.rename(taken, names)
        return taken

    def give(self, rows: Iterable[int]) -> None:
        """Takes back rows that nothing writes any more."""
        for row in rows:
            self._free[self._definitions[row]].append(row)


def _definition(columns: RowColumns, index: int) -> _Definition:
    return (
        columns.kinds[index],
        columns.types[index],
        columns.cell_sizes[index],
        columns.deadbands[index],
        columns.max_intervals[index],
    )
