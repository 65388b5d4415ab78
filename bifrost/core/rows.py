"""`RowPool`: rows of the table that come and go, with the tags of library users or with reloads of a gateway.

The native table defines a row once. A row that is free again is given only to a tag that the table keeps in the same way (kind, element
type, cell), with that tag's deadband and longest interval, and shows nothing of its former tag. A row that readers may still find in the
change ring is *retired* first: it is free once every reader has passed the changes of its former tag.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from bifrost.core.clock import Clock
from bifrost.core.errors import LimitError
from bifrost.core.status import StatusCode
from bifrost.core.table import RowColumns, TagTable

__all__ = ["RowPool"]

_Definition = tuple[int, int, int]


class RowPool:
    """Free rows of one table, by definition.

    Args:
        table: Whose rows.
        clock: For the times of rows that are used again.
        rows_count_max: Most rows of tags, in use, free or retired (limit `tags_count_max`); None: as many as the table has.
        rows_count: Rows of tags that are defined already; whoever retires them says what they are.
        passed: Position in the change ring that every reader has passed; None: nobody retires rows.
    """

    def __init__(
        self,
        table: TagTable,
        clock: Clock,
        *,
        rows_count_max: int | None = None,
        rows_count: int = 0,
        passed: Callable[[], int] | None = None,
    ) -> None:
        self._table = table
        self._clock = clock
        self._rows_count_max = table.tags_count_max if rows_count_max is None else rows_count_max
        self._rows_count = rows_count
        self._passed = passed
        self._free: defaultdict[_Definition, list[int]] = defaultdict(list)
        self._retired: deque[tuple[int, _Definition, int]] = deque()  # By position; then definition and row.

    @property
    def free_count(self) -> int:
        """Rows that wait to be used again."""
        return sum(len(rows) for rows in self._free.values())

    @property
    def retired_count(self) -> int:
        """Rows that readers may still find in the change ring, as of the last `take`."""
        return len(self._retired)

    def take(self, columns: RowColumns, names: Sequence[str] | None) -> list[int]:
        """Rows defined like `columns`, in their order, waiting for data and named `names` (None: the table's `name_of` knows).

        Raises:
            LimitError: There is no room for them; none is taken then.
        """
        self._reclaim()
        wanted = [_definition(columns, index) for index in range(len(columns))]
        rows: list[int | None] = [self._free[one].pop() if self._free[one] else None for one in wanted]
        missing = [index for index, row in enumerate(rows) if row is None]
        try:
            first = self._define(columns, missing)
        except LimitError:
            for one, row in zip(wanted, rows, strict=True):
                if row is not None:
                    self._free[one].append(row)
            raise
        used_again = [index for index, row in enumerate(rows) if row is not None]
        for offset, index in enumerate(missing):
            rows[index] = first + offset
        taken = [row for row in rows if row is not None]
        self._prepare(columns, used_again, array("I", [taken[index] for index in used_again]))
        if names is not None:
            self._table.rename(taken, names)
        return taken

    def give(self, rows: Sequence[int], columns: RowColumns) -> None:
        """Takes back `rows`, defined like `columns`, that nothing writes and nobody reads any more."""
        for index, row in enumerate(rows):
            self._free[_definition(columns, index)].append(row)

    def retire(self, rows: Sequence[int], columns: RowColumns) -> None:
        """Takes back `rows`, defined like `columns`; nothing writes them any more, but readers may not have seen all their changes yet."""
        head = self._table.native.ring_head()
        for index, row in enumerate(rows):
            self._retired.append((head, _definition(columns, index), row))

    def _reclaim(self) -> None:
        """Retired rows whose changes every reader has passed become free."""
        if self._retired:
            assert self._passed is not None, "rows are retired where readers are known"
            passed = self._passed()
            while self._retired and self._retired[0][0] <= passed:
                _, definition, row = self._retired.popleft()
                self._free[definition].append(row)

    def _define(self, columns: RowColumns, missing: Sequence[int]) -> int:
        """The first of new rows for the tags at `missing`."""
        if not missing:
            return 0
        if self._rows_count + len(missing) > self._rows_count_max:
            count = self._rows_count + len(missing)
            message = (
                f"{count} rows of tags are needed; that of a tag that goes is free once it is gone and all readers know"
            )
            raise LimitError("tags_count_max", self._rows_count_max, message)
        first = self._table.define(columns.pick(missing))
        self._rows_count += len(missing)
        return first

    def _prepare(self, columns: RowColumns, indices: Sequence[int], rows: array[int]) -> None:
        """Makes rows that are used again look as if they were new."""
        deadbands = array("d", [columns.deadbands[index] for index in indices])
        max_intervals = array("q", [columns.max_intervals[index] for index in indices])
        self._table.retune(rows, deadbands, max_intervals)
        status = StatusCode.BadWaitingForInitialData
        self._table.mark(rows, status, server_time_ns=self._clock.utc_ns(), now_ns=self._clock.now_ns())


def _definition(columns: RowColumns, index: int) -> _Definition:
    return columns.kinds[index], columns.types[index], columns.cell_sizes[index]
