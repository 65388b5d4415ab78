"""`PlacedColumns`: the tags of a configuration with the rows of the table as their ids.

At the start a tag's id is its position in the configuration, and its row. After a reload the configuration has other positions, but a tag
keeps its row for life: this stands between the two, so that whoever holds a row goes on reading the same tag. Ids are then unique, in no
order, and not dense.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from bifrost.core.columns import Clash, TagColumns, TagView
from bifrost.core.errors import ConfigError
from bifrost.core.tag import Tag

__all__ = ["PlacedColumns"]

_NOWHERE = 0xFFFF_FFFF


class PlacedColumns(TagColumns):
    """`columns`, whose tag at position i has the id `rows[i]`.

    Args:
        columns: Frozen, with positions as ids.
        rows: A row for each tag, ``array('I')``; kept.
    """

    def __init__(self, columns: TagColumns, rows: array[int]) -> None:
        self._columns = columns
        self._rows = rows
        self._positions = array("I", [_NOWHERE]) * (max(rows, default=-1) + 1)
        for position, row in enumerate(rows):
            self._positions[row] = position

    @property
    def columns(self) -> TagColumns:
        """The columns below, with positions as ids."""
        return self._columns

    # ------------------------------------------------------------------ by id

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Tag: ...
    @overload
    def __getitem__(self, index: slice) -> TagView: ...
    def __getitem__(self, index: int | slice) -> Tag | TagView:
        """The tag with the id `index`; a slice goes by position."""
        return TagView(self, self._rows[index]) if isinstance(index, slice) else self._columns[self._at(index)]

    def __iter__(self) -> Iterator[Tag]:
        return iter(self._columns)

    def full_name(self, tag_id: int) -> str:
        """See `TagColumns`."""
        return self._columns.full_name(self._at(tag_id))

    def scan_ns(self, tag_id: int) -> int:
        """See `TagColumns`."""
        return self._columns.scan_ns(self._at(tag_id))

    def max_interval_ns(self, tag_id: int) -> int:
        """See `TagColumns`."""
        return self._columns.max_interval_ns(self._at(tag_id))

    def name(self, tag_id: int) -> str:
        """See `TagColumns`."""
        return self._columns.name(self._at(tag_id))

    def group(self, tag_id: int) -> str:
        """See `TagColumns`."""
        return self._columns.group(self._at(tag_id))

    def description(self, tag_id: int) -> str:
        """See `TagColumns`."""
        return self._columns.description(self._at(tag_id))

    def engineering_range(self, tag_id: int) -> tuple[float, float] | None:
        """See `TagColumns`."""
        return self._columns.engineering_range(self._at(tag_id))

    def unit(self, tag_id: int) -> str:
        """See `TagColumns`."""
        return self._columns.unit(self._at(tag_id))

    def deadband(self, tag_id: int) -> float:
        """See `TagColumns`."""
        return self._columns.deadband(self._at(tag_id))

    def is_writable(self, tag_id: int) -> bool:
        """See `TagColumns`."""
        return self._columns.is_writable(self._at(tag_id))

    def place(self, tag_id: int) -> tuple[str, int]:
        """See `TagColumns`."""
        return self._columns.place(self._at(tag_id))

    def error(self, tag_id: int, key: str, message: str) -> ConfigError:
        """See `TagColumns`."""
        return self._columns.error(self._at(tag_id), key, message)

    def device_of(self, tag_id: int) -> str:
        """See `TagColumns`."""
        return self._columns.device_of(self._at(tag_id))

    def has_id(self, tag_id: int) -> bool:
        """See `TagColumns`."""
        return 0 <= tag_id < len(self._positions) and self._positions[tag_id] != _NOWHERE

    def _at(self, tag_id: int) -> int:
        """Position of the tag with this id. Raises IndexError for one that is not there."""
        position = self._positions[tag_id]
        if position == _NOWHERE:
            raise IndexError(f"no tag has the id {tag_id}")
        return position

    # ------------------------------------------------------------------ finding ids

    @property
    def ids(self) -> Sequence[int]:
        """See `TagColumns.ids`."""
        return self._rows

    @property
    def devices(self) -> Sequence[str]:
        """See `TagColumns.devices`."""
        return self._columns.devices

    @property
    def id_bytes(self) -> int:
        """See `TagColumns.id_bytes`."""
        return self._columns.id_bytes

    def full_names(self) -> Iterator[str]:
        """See `TagColumns`."""
        return self._columns.full_names()

    def device_range(self, device: str) -> Sequence[int]:
        """See `TagColumns`."""
        positions = self._columns.device_range(device)
        return self._rows[positions[0] : positions[-1] + 1] if positions else ()

    def of_device(self, device: str) -> TagView:
        """See `TagColumns`."""
        return TagView(self, self.device_range(device))

    def id_of(self, full_name: str) -> int | None:
        """See `TagColumns`."""
        position = self._columns.id_of(full_name)
        return None if position is None else self._rows[position]

    def select(self, globs: Iterable[str]) -> array[int]:
        """See `TagColumns`."""
        return array("I", sorted(map(self._rows.__getitem__, self._columns.select(globs))))

    def has_match(self, glob: str) -> bool:
        """See `TagColumns`."""
        return self._columns.has_match(glob)

    def memory_bytes(self) -> int:
        """See `TagColumns`."""
        own = (len(self._rows) + len(self._positions)) * self._rows.itemsize
        return self._columns.memory_bytes() + own

    # ------------------------------------------------------------------ filling is over

    def begin_device(self, name: str) -> None:
        """See `TagColumns`."""
        raise ValueError("placed columns are frozen")

    def append(self, tag: Tag, *, file: str = "", line: int = 0) -> int:
        """See `TagColumns`."""
        raise ValueError("placed columns are frozen")

    def freeze(self) -> list[Clash]:
        """See `TagColumns`."""
        return []
