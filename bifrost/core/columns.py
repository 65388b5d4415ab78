"""Tags as columns: 100,000 tags are not 100,000 Python objects.

A tag is a row number, its *id*. Numbers stand in arrays, texts in one blob per column with their end offsets, and
what repeats (types, units, groups, periods) is stored once and referred to by a small number. A `Tag` object is made
when somebody asks for one and is not kept.

States: filling (`begin_device`, `append`), then frozen (`freeze`), which builds the index from full name to id and
finds names used twice. The rows of one device are neighbours, so a device is a range of ids. Invariant: a frozen
object never changes.
"""

from __future__ import annotations

import fnmatch
import re
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import msgspec

from bifrost.core.datatypes import ByteOrder, DataType
from bifrost.core.errors import ConfigError, LimitError
from bifrost.core.limits import PROBLEMS_COUNT_MAX
from bifrost.core.tag import Tag

__all__ = ["Clash", "TagColumns", "TagView"]

_FLAG_WRITABLE = 1
_FLAG_RANGE = 2
_FLAG_INT_ADDRESS = 4
_ORDER_SHIFT = 4
_ORDERS = tuple(ByteOrder)
_ORDER_FLAGS = {order: number << _ORDER_SHIFT for number, order in enumerate(_ORDERS)}
_DISTINCT_COUNT_MAX = 65_536  # A column of 16-bit numbers refers to the distinct values.
_INDEX_LOAD_PERCENT = 60  # Open addressing: about 1.3 looks for a name that is there.

_T = TypeVar("_T", bound=Hashable)


class Clash(msgspec.Struct, frozen=True):
    """Two things of one parent with the same name.

    Attributes:
        tag_id: The later tag.
        other_id: The tag that had the name before, or a tag of the group with that name.
        with_group: Whether the other thing is a group.
    """

    tag_id: int
    other_id: int
    with_group: bool = False


class TagColumns(Sequence[Tag]):
    """All tags of a configuration. `columns[id]` makes the `Tag`; a slice is a `TagView`.

    Args:
        tags_count_max: Rows allowed; one more raises LimitError.
    """

    def __init__(self, tags_count_max: int) -> None:
        self._tags_count_max = tags_count_max
        self._devices: list[str] = []
        self._device_starts = array("I")
        self._device_ranges: dict[str, range] = {}
        self._names = _TextColumn()
        self._addresses = _TextColumn()
        self._descriptions = _TextColumn()
        self._groups = _DistinctColumn[str]("distinct groups")
        self._units = _DistinctColumn[str]("distinct units")
        self._types = _DistinctColumn["str | None"]("distinct types")
        self._scans = _DistinctColumn[int]("distinct scan periods")
        self._max_intervals = _DistinctColumn[int]("distinct max_intervals")
        self._files = _DistinctColumn[str]("tag tables")
        self._flags = bytearray()
        self._scales = array("d")
        self._offsets = array("d")
        self._lows = array("d")
        self._highs = array("d")
        self._deadbands = array("d")
        self._lines = array("I")
        self._index = array("I")

    # ------------------------------------------------------------------ filling

    def begin_device(self, name: str) -> None:
        """Rows appended from now on belong to device `name`, which must be new. Raises ValueError if it is not."""
        if name in self._device_ranges:
            raise ValueError(f"device {name!r} began before")
        self._end_device()
        self._devices.append(name)
        self._device_starts.append(len(self._flags))
        self._device_ranges[name] = range(len(self._flags), len(self._flags))

    def append(self, tag: Tag, *, file: str = "", line: int = 0) -> int:
        """Add a row for `tag` (its `device` is ignored: the row belongs to the device begun last) and return its id.

        Args:
            tag: The tag; its texts are copied.
            file: Path as the user typed it, and
            line: 1-based line there, both for messages.

        Raises:
            LimitError: `tags_count_max` rows are there, or one column has more than 65,536 distinct values.
        """
        tag_id = len(self._flags)
        if tag_id >= self._tags_count_max:
            raise LimitError("tags_count_max", self._tags_count_max, "there are more tags")
        if not self._devices or self._index:
            raise ValueError("tags are appended after begin_device() and before freeze()")
        self._groups.append(tag.group)
        self._units.append(tag.unit)
        self._types.append(None if tag.datatype is None else str(tag.datatype))
        self._scans.append(tag.scan_ns)
        self._max_intervals.append(tag.max_interval_ns)
        self._files.append(file)
        self._append_plain(tag, line)
        return tag_id

    def _append_plain(self, tag: Tag, line: int) -> None:
        flags = _ORDER_FLAGS[tag.byte_order]
        if tag.writable:
            flags |= _FLAG_WRITABLE
        if isinstance(tag.address, int):
            flags |= _FLAG_INT_ADDRESS
        low, high = 0.0, 0.0
        if tag.range is not None:
            flags |= _FLAG_RANGE
            low, high = tag.range
        self._names.append(tag.name)
        self._addresses.append(str(tag.address))
        self._descriptions.append(tag.description)
        self._scales.append(tag.scale)
        self._offsets.append(tag.offset)
        self._lows.append(low)
        self._highs.append(high)
        self._deadbands.append(tag.deadband)
        self._lines.append(line)
        self._flags.append(flags)

    def freeze(self) -> list[Clash]:
        """End filling: build the index by name.

        Returns:
            Names used twice within their parent, up to 20 of them; the later tag cannot be found by name.
        """
        self._end_device()
        self._trim()
        slots_count = 8
        while slots_count * _INDEX_LOAD_PERCENT < len(self) * 100:
            slots_count *= 2
        self._index = array("I", bytes(4 * slots_count))
        clashes: list[Clash] = []
        for tag_id in range(len(self)):
            slot, holder = self._find(self.full_name(tag_id))
            if holder is None:
                self._index[slot] = tag_id + 1
            elif len(clashes) < PROBLEMS_COUNT_MAX:
                clashes.append(Clash(tag_id, holder))
        return clashes + self._group_clashes(PROBLEMS_COUNT_MAX - len(clashes))

    def _trim(self) -> None:
        """Give back the room that arrays keep for growing: about a tenth."""
        for texts in (self._names, self._addresses, self._descriptions):
            texts.trim()
        self._scales, self._offsets = self._scales[:], self._offsets[:]
        self._lows, self._highs = self._lows[:], self._highs[:]
        self._deadbands, self._lines = self._deadbands[:], self._lines[:]

    def _end_device(self) -> None:
        if self._devices:
            self._device_ranges[self._devices[-1]] = range(self._device_starts[-1], len(self._flags))

    def _group_clashes(self, count_max: int) -> list[Clash]:
        """Tags whose full name is that of a group beside them."""
        if self._groups.values in ([], [""]):
            return []
        clashes: dict[int, Clash] = {}
        seen: set[tuple[int, int]] = set()
        for device_index, device in enumerate(self._devices):
            for tag_id in self._device_ranges[device]:
                pair = (device_index, self._groups.numbers[tag_id])
                group = self._groups.values[pair[1]]
                if not group or pair in seen:
                    continue
                seen.add(pair)
                holder = self.id_of(f"{device}.{group}")
                if holder is not None:
                    clashes[holder] = Clash(holder, tag_id, with_group=True)
                if len(clashes) >= count_max:
                    break
        return [clashes[holder] for holder in sorted(clashes)]

    # ------------------------------------------------------------------ reading rows

    def __len__(self) -> int:
        return len(self._flags)

    @overload
    def __getitem__(self, index: int) -> Tag: ...
    @overload
    def __getitem__(self, index: slice) -> TagView: ...
    def __getitem__(self, index: int | slice) -> Tag | TagView:
        ids = range(len(self))[index]
        return self._tag(ids) if isinstance(ids, int) else TagView(self, ids)

    def __iter__(self) -> Iterator[Tag]:
        return map(self._tag, range(len(self)))

    def _tag(self, tag_id: int) -> Tag:
        flags = self._flags[tag_id]
        address = self._addresses[tag_id]
        return Tag(
            name=self._names[tag_id],
            address=int(address) if flags & _FLAG_INT_ADDRESS else address,
            datatype=_datatype(self._types[tag_id]),
            byte_order=_ORDERS[flags >> _ORDER_SHIFT],
            scale=self._scales[tag_id],
            offset=self._offsets[tag_id],
            unit=self._units[tag_id],
            range=(self._lows[tag_id], self._highs[tag_id]) if flags & _FLAG_RANGE else None,
            deadband=self._deadbands[tag_id],
            max_interval_ns=self._max_intervals[tag_id],
            scan_ns=self._scans[tag_id],
            writable=bool(flags & _FLAG_WRITABLE),
            description=self._descriptions[tag_id],
            group=self._groups[tag_id],
            device=self.device_of(tag_id),
        )

    def full_name(self, tag_id: int) -> str:
        """Full name of a tag, without making the tag."""
        device = self._devices[bisect_right(self._device_starts, tag_id) - 1]
        group = self._groups[tag_id]
        name = self._names[tag_id]
        return f"{device}.{group}.{name}" if group else f"{device}.{name}"

    def full_names(self) -> Iterator[str]:
        """Full names of all tags by id, made one at a time."""
        return map(self.full_name, range(len(self)))

    def scan_ns(self, tag_id: int) -> int:
        """Scan period of a tag in nanoseconds; 0: its device's."""
        return self._scans[tag_id]

    def max_interval_ns(self, tag_id: int) -> int:
        """Longest time between two reports of a tag, in nanoseconds; 0: only changes are reported."""
        return self._max_intervals[tag_id]

    def name(self, tag_id: int) -> str:
        """Name of a tag within its device or group."""
        return self._names[tag_id]

    def group(self, tag_id: int) -> str:
        """Group of a tag; empty: none."""
        return self._groups[tag_id]

    def description(self, tag_id: int) -> str:
        """Description of a tag; empty: none."""
        return self._descriptions[tag_id]

    def engineering_range(self, tag_id: int) -> tuple[float, float] | None:
        """Lowest and highest expected value of a tag, in engineering units; None: not given."""
        if not self._flags[tag_id] & _FLAG_RANGE:
            return None
        return self._lows[tag_id], self._highs[tag_id]

    def unit(self, tag_id: int) -> str:
        """Engineering unit of a tag; empty: none."""
        return self._units[tag_id]

    def deadband(self, tag_id: int) -> float:
        """Absolute deadband of a tag, in engineering units."""
        return self._deadbands[tag_id]

    def is_writable(self, tag_id: int) -> bool:
        """Whether the tag itself allows writes."""
        return bool(self._flags[tag_id] & _FLAG_WRITABLE)

    def place(self, tag_id: int) -> tuple[str, int]:
        """File and 1-based line where the tag stands; ``("", 0)`` for one made by a program."""
        return self._files[tag_id], self._lines[tag_id]

    def error(self, tag_id: int, key: str, message: str) -> ConfigError:
        """A ConfigError that names file, line and the tag's key, for example for an AddressError of the driver.

        Args:
            tag_id: The tag.
            key: Which of its settings is wrong, for example ``address``.
            message: What is wrong and what would be right.
        """
        file, line = self.place(tag_id)
        device, _, rest = self.full_name(tag_id).partition(".")
        return ConfigError(message, file=file or None, line=line or None, key=f"device.{device}.tag.{rest}.{key}")

    # ------------------------------------------------------------------ finding rows

    @property
    def devices(self) -> Sequence[str]:
        """Names of the devices in the order of their rows."""
        return tuple(self._devices)

    def device_of(self, tag_id: int) -> str:
        """Name of the device that a tag belongs to."""
        return self._devices[bisect_right(self._device_starts, tag_id) - 1]

    @property
    def ids(self) -> Sequence[int]:
        """Ids of all tags, in the order of the configuration."""
        return range(len(self))

    def has_id(self, tag_id: int) -> bool:
        """Whether a tag has this id."""
        return 0 <= tag_id < len(self)

    def device_range(self, device: str) -> Sequence[int]:
        """Ids of one device's tags. Raises KeyError for a device that is not there."""
        if self._devices and device == self._devices[-1]:
            return range(self._device_starts[-1], len(self))
        return self._device_ranges[device]

    def of_device(self, device: str) -> TagView:
        """One device's tags. Raises KeyError for a device that is not there."""
        return TagView(self, self.device_range(device))

    def id_of(self, full_name: str) -> int | None:
        """Id of the tag with this full name, or None. Only after `freeze()`."""
        return self._find(full_name)[1] if self._index else None

    def select(self, globs: Iterable[str]) -> array[int]:
        """Ids whose full name matches any of `globs`, ascending, as ``array('I')``.

        Args:
            globs: Shell patterns, case-sensitive; ``*`` matches dots as well, so ``boiler.*`` is every tag of the
                device.
        """
        patterns = [re.compile(fnmatch.translate(glob)).match for glob in globs]
        selected = array("I")
        for tag_id in range(len(self)):
            name = self.full_name(tag_id)
            if any(match(name) for match in patterns):
                selected.append(tag_id)
        return selected

    def has_match(self, glob: str) -> bool:
        """Whether any full name matches `glob`, as in `select`."""
        return any(map(re.compile(fnmatch.translate(glob)).match, self.full_names()))

    @property
    def id_bytes(self) -> int:
        """Bytes of all full names and descriptions together, at most."""
        prefixes = sum(len(name) * len(self._device_ranges[name]) for name in self._devices)
        groups = sum(map(len, self._groups.values)) and max(map(len, self._groups.values)) * len(self)
        return prefixes + groups + 2 * len(self) + self._names.text_bytes + self._descriptions.text_bytes

    def memory_bytes(self) -> int:
        """Bytes that the columns and the index take now."""
        arrays = (self._scales, self._offsets, self._lows, self._highs, self._deadbands, self._lines, self._index)
        texts = (self._names, self._addresses, self._descriptions)
        distinct = (self._groups, self._units, self._types, self._scans, self._max_intervals, self._files)
        total = len(self._flags) + sum(len(column) * column.itemsize for column in arrays)
        total += sum(column.memory_bytes() for column in texts)
        return total + sum(column.memory_bytes() for column in distinct)

    def _find(self, full_name: str) -> tuple[int, int | None]:
        """The index slot of a name, and the id in it; a free slot and None if the name is not there."""
        mask = len(self._index) - 1
        slot = zlib.crc32(full_name.encode()) & mask
        for _ in range(len(self._index)):
            entry = self._index[slot]
            if entry == 0:
                return slot, None
            if self.full_name(entry - 1) == full_name:
                return slot, entry - 1
            slot = (slot + 1) & mask
        raise AssertionError("the index has free slots")


class TagView(Sequence[Tag]):
    """Some tags, without a copy. `view.ids[i]` is the id of `view[i]`."""

    def __init__(self, columns: TagColumns, ids: Sequence[int]) -> None:
        self.columns = columns
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Tag: ...
    @overload
    def __getitem__(self, index: slice) -> TagView: ...
    def __getitem__(self, index: int | slice) -> Tag | TagView:
        ids = self.ids[index]
        return self.columns[ids] if isinstance(ids, int) else TagView(self.columns, ids)


class _TextColumn:
    """Texts in one blob, with the offset where each ends."""

    def __init__(self) -> None:
        self._blob = bytearray()
        self._ends = array("I", [0])

    def append(self, text: str) -> None:
        self._blob += text.encode()
        self._ends.append(len(self._blob))

    @property
    def text_bytes(self) -> int:
        return len(self._blob)

    def trim(self) -> None:
        self._blob, self._ends = bytearray(self._blob), self._ends[:]

    def __getitem__(self, row: int) -> str:
        return self._blob[self._ends[row] : self._ends[row + 1]].decode()

    def memory_bytes(self) -> int:
        return len(self._blob) + len(self._ends) * self._ends.itemsize


class _DistinctColumn(Generic[_T]):
    """Values that repeat: each is kept once, a row holds its 16-bit number."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._number_of: dict[_T, int] = {}
        self.values: list[_T] = []
        self.numbers = array("H")

    def append(self, value: _T) -> None:
        number = self._number_of.get(value)
        if number is None:
            number = len(self.values)
            if number >= _DISTINCT_COUNT_MAX:
                raise LimitError("distinct_values_max", _DISTINCT_COUNT_MAX, f"too many {self._what}")
            self._number_of[value] = number
            self.values.append(value)
        self.numbers.append(number)

    def __getitem__(self, row: int) -> _T:
        return self.values[self.numbers[row]]

    def memory_bytes(self) -> int:
        per_value = 120  # A dict entry, a list entry and a short text, rounded up.
        return len(self.numbers) * self.numbers.itemsize + len(self.values) * per_value


def _datatype(text: str | None) -> DataType | str | None:
    """A scalar type as its `DataType`, any other as the text it was declared with."""
    if text is None or text not in _SCALARS:
        return text
    return _SCALARS[text]


_SCALARS = {data_type.value: data_type for data_type in DataType if data_type is not DataType.STRING}
