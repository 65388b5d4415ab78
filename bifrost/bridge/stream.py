"""A stream: the changes of some tags, each once, in order, as one uplink wants to have them.

It is one position in the change ring that all readers share, a selection of rows, and the uplink's own deadband, whose
state stands in columns. A stream that is lapped loses changes, and knows exactly how many of **its own** tags it lost:
the table counts changes by tag, and the difference between what was appended and what was seen is what was lapped. So
`acquired = read + lapped` at every position, and what lies beyond the position can be asked for (`waiting_count`).
Pure: times come with the changes.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from bifrost._native import records
from bifrost.core.errors import LimitError
from bifrost.core.table import Changes, TagTable

__all__ = ["Deadband", "Stream", "deadband_bytes"]

_CHANGE_BYTES: Final = records.CHANGE.size
_CHANGE_WORDS: Final = _CHANGE_BYTES // 4  # The first of these 32-bit words is the row.
_FLOAT: Final = struct.Struct("<d")
_BITS: Final = struct.Struct("<Q")
_SIGN: Final = 1 << 63
_SELECT_TRIES_MAX: Final = 10_000
_NEVER: Final = 0xFFFF_FFFF  # No StatusCode: its type bits are reserved (OPC UA Part 4, 7.39.1).
_STATE_BYTES_PER_ROW: Final = 8 + 8 + 4 + 8  # Value, time, status and interval of `Deadband`.


def deadband_bytes(rows_count: int) -> int:
    """Bytes of the columns of a `Deadband` over a table of `rows_count` rows."""
    return rows_count * _STATE_BYTES_PER_ROW


class Deadband:
    """Lets a change pass if its status changed, its number moved far enough, or its tag has to be heard of again.

    Compared is with the last change that passed, not with the last one there was. Bools, texts and arrays always pass:
    the ring holds them only when they differ.

    Args:
        distance: More than this is far enough, in engineering units; above 0.
        rows_count: Rows of the table.
        kind_of: Row -> ``KIND_…``.
        intervals: Row and longest time between two reports of it, in nanoseconds; rows without one are left out.
    """

    def __init__(
        self, distance: float, rows_count: int, kind_of: Callable[[int], int], intervals: Iterable[tuple[int, int]]
    ) -> None:
        self._distance = distance
        self._kind_of = kind_of
        self._values = array("Q", bytes(8 * rows_count))
        self._times = array("q", bytes(8 * rows_count))
        self._statuses = array("I", [_NEVER]) * rows_count
        self._intervals = array("q", bytes(8 * rows_count))
        for row, interval_ns in intervals:
            self._intervals[row] = interval_ns

    def passes(self, change: Sequence[int]) -> bool:
        """Whether the change with these fields (`bf_change`) passes; if so, the next one is compared with it."""
        row, status, source_time, bits, when = change
        server_time = source_time + (when >> 16) * 100
        if status == self._statuses[row] and not self._is_due(row, server_time) and not self._moved(row, bits):
            return False
        self._statuses[row] = status
        self._values[row] = bits
        self._times[row] = server_time
        return True

    def _is_due(self, row: int, server_time: int) -> bool:
        interval = self._intervals[row]
        return interval != 0 and abs(server_time - self._times[row]) >= interval  # A clock may have been set back.

    def _moved(self, row: int, bits: int) -> bool:
        last = self._values[row]
        kind = self._kind_of(row)
        if kind == records.KIND_FLOAT:
            distance = abs(_FLOAT.unpack(_BITS.pack(bits))[0] - _FLOAT.unpack(_BITS.pack(last))[0])
            return bits != last and (distance != distance or distance > self._distance)
        if kind == records.KIND_INT:  # Moves the range of int64 to that of uint64.
            bits, last = bits ^ _SIGN, last ^ _SIGN
        elif kind != records.KIND_UINT:
            return True
        return abs(bits - last) > self._distance


class _Settlement(NamedTuple):
    """What is to be compared when the position arrives at `head`: the changes of the stream's rows before it."""

    head: int
    changes_count: int


class _Switch(NamedTuple):
    """Other rows count from `head` on; before it there were so many changes of the rows until then, and of the others."""

    rows: array[int]
    head: int
    count_before: int
    count_after: int


class Stream:
    """The changes of `rows` from now on.

    Args:
        table: Where they come from.
        rows: Each once, ``array('I')``.
        deadband: The uplink's own; None: every change passes.

    Attributes:
        read_count: Changes of its rows that were read.
        lapped_count: Changes of its rows that were overwritten before they were read, as far as they are known.
        suppressed_count: Of those read, how many the deadband held back.
    """

    def __init__(self, table: TagTable, rows: array[int], deadband: Deadband | None = None) -> None:
        self._table = table
        self._deadband = deadband
        self._cursor = table.cursor()
        self._settlement: _Settlement | None = None
        self._switches: deque[_Switch] = deque()  # One a reload whose changes were not read yet.
        self.read_count = 0
        self.lapped_count = 0
        self.suppressed_count = 0
        self._cursor.position, count = self._count(rows)
        self._take(rows, count)

    @property
    def position(self) -> int:
        """Of the next change to read; those before it are of no interest any more."""
        return self._cursor.position

    @property
    def acquired_count(self) -> int:
        """Changes of its rows before its position: read, or known to be lapped."""
        return self.read_count + self.lapped_count

    def waiting_count(self) -> int:
        """Changes of its rows that are in the ring and not read; after a lap also those not yet known to be lapped."""
        waiting, since = -self._base - self.acquired_count, 0
        for switch in self._switches:
            waiting += switch.count_before - since
            since = switch.count_after
        return waiting + self._count(self._latest_rows)[1] - since

    def overwritten_count(self, ring_changes_count: int) -> int:
        """Of `waiting_count`, how many are overwritten for sure, and will be lapped once they are settled.

        At least so many, since the ring, of `ring_changes_count` changes, holds those of other tags too. Together with
        `lapped_count` it never falls while the stream stands or reads.
        """
        if self._settlement is not None:
            head, count = self._settlement
            return max(0, self._beyond(count) - (head - self._cursor.position))
        head, _ = self._count(self._latest_rows)
        if head - self._cursor.position <= ring_changes_count:
            return 0
        return max(0, self.waiting_count() - ring_changes_count)

    def select(self, rows: array[int], deadband: Deadband | None = None) -> None:
        """Follows `rows` from now on, with another deadband; what is in the ring already belongs to the rows until now.

        Raises:
            LimitError: The ring is appended to without a pause in which two things could be counted.
        """
        for _ in range(_SELECT_TRIES_MAX):
            head, count_before = self._count(self._latest_rows)
            same_head, count_after = self._count(rows)
            if head == same_head:
                self._switches.append(_Switch(rows, head, count_before, count_after))
                self._deadband = deadband
                self._settlement = None
                return
        raise LimitError("select_tries_max", _SELECT_TRIES_MAX, "changes come too fast to choose other tags")

    def read(self, changes_count_max: int) -> Changes:
        """Looks at up to `changes_count_max` changes of all rows and gives those of its own that pass, oldest first.

        `missed` of the answer is how many of its own rows' changes became known as lapped.
        """
        target = self._switches[0] if self._switches else self._settlement
        if target is not None:
            changes_count_max = min(changes_count_max, target.head - self._cursor.position)
        changes = self._cursor.read(changes_count_max)
        lapped_before = self.lapped_count
        mine = self._own(changes)
        if changes.missed and not self._switches:
            self._settlement = _Settlement(*self._count(self._rows))
        if self._settlement is not None and self._cursor.position >= self._settlement.head:
            self._settle(self._settlement.changes_count)
            self._settlement = None
        return Changes(self._table, self._passing(mine), self.lapped_count - lapped_before)

    def _own(self, changes: Changes) -> bytes:
        """The changes of its own rows, whichever were its own when they were appended."""
        first = self._cursor.position - changes.changes_count
        mine, taken = b"", 0
        while self._switches and self._cursor.position >= self._switches[0].head:
            switch = self._switches.popleft()
            end = max(taken, (switch.head - first) * _CHANGE_BYTES)
            mine += self._mine(changes.packed[taken:end])
            taken = end
            self._settle(switch.count_before)
            self._take(switch.rows, switch.count_after)
        return mine + self._mine(changes.packed[taken:])

    @property
    def _latest_rows(self) -> array[int]:
        return self._switches[-1].rows if self._switches else self._rows

    def _take(self, rows: array[int], count: int) -> None:
        """`rows` are its own from the position on, before which there were `count` changes of them."""
        self._rows = rows
        self._base = count - self.acquired_count
        self._is_mine = bytearray(self._table.tags_count_max)
        for row in rows:
            self._is_mine[row] = 1

    def _settle(self, count: int) -> None:
        """The position is where `count` changes of its rows had been counted: those not seen were lapped."""
        self.lapped_count += self._beyond(count)

    def _beyond(self, count: int) -> int:
        return count - self._base - self.acquired_count

    def _count(self, rows: array[int]) -> tuple[int, int]:
        """The ring's head, and how many changes of `rows` there were before it."""
        status, head, count = self._table.native.ring_count(rows)
        assert status == records.OK, status
        return head, count

    def _mine(self, packed: bytes) -> bytes:
        """The changes of its own rows among `packed`, counted."""
        words = array("I", packed)
        if sys.byteorder == "big":
            words.byteswap()
        mine = _picked(packed, list(map(self._is_mine.__getitem__, words[::_CHANGE_WORDS])))
        self.read_count += len(mine) // _CHANGE_BYTES
        return mine

    def _passing(self, packed: bytes) -> bytes:
        if self._deadband is None:
            return packed
        passing = _picked(packed, list(map(self._deadband.passes, records.CHANGE.iter_unpack(packed))))
        self.suppressed_count += (len(packed) - len(passing)) // _CHANGE_BYTES
        return passing


def _picked(packed: bytes, is_picked: Sequence[int]) -> bytes:
    """The changes of `packed` whose place in `is_picked` is true."""
    if all(is_picked):
        return packed
    starts = (index * _CHANGE_BYTES for index, picked in enumerate(is_picked) if picked)
    return b"".join(packed[start : start + _CHANGE_BYTES] for start in starts)
