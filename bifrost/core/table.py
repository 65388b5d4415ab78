"""The tag table as Python sees it: rows defined in bulk, values in and out, snapshots, cursors over the change ring.

The native table holds 64 bits a row; here is the one place that knows what those bits mean. Python objects are made
when somebody asks for a value, never for storing one. Pure: times are arguments.

Three ways to read: `snapshot` (latest values, no queue), `Cursor` (a position in the one shared change ring; a reader
that is lapped goes on at the oldest change and is told how many it missed), and packed columns of either for whoever
moves a lot.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from bifrost._native import contract, records
from bifrost.core.datatypes import DataType, TypeSpec, ValueKind
from bifrost.core.errors import LimitError
from bifrost.core.status import StatusCode
from bifrost.core.tag import DataPoint, Value, value_kind

__all__ = ["Batch", "Changes", "Cursor", "RowColumns", "TagTable"]

_BITS: Final = struct.Struct("<Q")
_FLOAT: Final = struct.Struct("<d")
_SIGN: Final = 1 << 63
_STATUS_WORD: Final = 6  # Of the eight words of a packed slot.
_TWO_64: Final = 1 << 64

_KIND_BOOL = ValueKind.BOOL.code
_KIND_INT = ValueKind.INT.code
_KIND_FLOAT = ValueKind.FLOAT.code
_KIND_TEXT = ValueKind.TEXT.code
_KIND_ARRAY = ValueKind.ARRAY.code
_KIND_OF_TYPE = {data_type.code: TypeSpec(data_type).element_kind.code for data_type in DataType}
# Arrays lie in their cells as little-endian elements: 1 byte a bool, bcd as the unsigned number it spells
# (`bf_gather`).
_ARRAY_CODES = {
    DataType.BOOL.code: "B",
    DataType.INT8.code: "b",
    DataType.UINT8.code: "B",
    DataType.INT16.code: "h",
    DataType.UINT16.code: "H",
    DataType.INT32.code: "i",
    DataType.UINT32.code: "I",
    DataType.INT64.code: "q",
    DataType.UINT64.code: "Q",
    DataType.FLOAT32.code: "f",
    DataType.FLOAT64.code: "d",
    DataType.BCD16.code: "H",
    DataType.BCD32.code: "I",
}


class Batch(msgspec.Struct, frozen=True):
    """Values of one moment, as columns: what a source that is not polled by the scan engine hands to the table.

    Attributes:
        rows: Rows of the table, as ``array('I')``.
        values: One value a row, of the row's kind; any sequence.
        source_time_ns: When all of them were measured, UTC nanoseconds.
        status: StatusCode of all of them.
        exceptions: Position in `rows` -> StatusCode, for those that differ. A bad status keeps the old value; the
            value given is ignored.
    """

    rows: array[int]
    values: Sequence[Value]
    source_time_ns: int
    status: int = StatusCode.Good
    exceptions: Mapping[int, int] = {}


class RowColumns:
    """Definitions of neighbouring rows, as columns: what `TagTable.define` takes.

    Made from decode entries (`from_decodes`: the driver's plan says what each row is) or from types (`from_types`).

    Args:
        count: Rows.

    Attributes:
        value_types: Wire type of each value (or its elements) once it is in the table: ``float64`` when it is scaled.
            Not needed to define rows; who shows them to others wants to know.
    """

    def __init__(self, count: int) -> None:
        self.value_types = bytearray(count)
        self.kinds = bytearray(count)
        self.types = bytearray(count)
        self.cell_sizes = array("I", bytes(4 * count))
        self.deadbands = array("d", bytes(8 * count))
        self.max_intervals = array("q", bytes(8 * count))

    def __len__(self) -> int:
        return len(self.kinds)

    def set_type(self, index: int, type_code: int, elements: int, *, is_scaled: bool, is_array: bool) -> None:
        """Row `index` holds a value of the wire type `type_code`; `elements` of an array, bytes of a string."""
        is_number = type_code != DataType.STRING.code
        self.value_types[index] = DataType.FLOAT64.code if is_scaled and is_number else type_code
        if is_array:
            element = DataType.FLOAT64.code if is_scaled else type_code
            self.kinds[index] = _KIND_ARRAY
            self.types[index] = element
            self.cell_sizes[index] = elements * array(_ARRAY_CODES[element]).itemsize
        elif type_code == DataType.STRING.code:
            self.kinds[index] = _KIND_TEXT
            self.cell_sizes[index] = elements
        else:
            self.kinds[index] = _KIND_FLOAT if is_scaled else _KIND_OF_TYPE[type_code]

    def pick(self, indices: Sequence[int]) -> RowColumns:
        """The definitions at `indices`, as columns of their own."""
        picked = RowColumns(0)
        picked.value_types = bytearray(self.value_types[index] for index in indices)
        picked.kinds = bytearray(self.kinds[index] for index in indices)
        picked.types = bytearray(self.types[index] for index in indices)
        picked.cell_sizes = array("I", (self.cell_sizes[index] for index in indices))
        picked.deadbands = array("d", (self.deadbands[index] for index in indices))
        picked.max_intervals = array("q", (self.max_intervals[index] for index in indices))
        return picked

    @classmethod
    def from_types(cls, types: Sequence[tuple[TypeSpec, bool]]) -> RowColumns:
        """Columns for `types`: each with whether it is scaled."""
        columns = cls(len(types))
        for index, (spec, is_scaled) in enumerate(types):
            scaled = is_scaled and (spec.is_array or value_kind(spec, is_scaled) is ValueKind.FLOAT)
            columns.set_type(index, spec.base.code, spec.count, is_scaled=scaled, is_array=spec.is_array)
        return columns

    @classmethod
    def from_decodes(cls, first: int, count: int, decodes: Iterable[bytes]) -> RowColumns:
        """Columns for the rows `first` … `first + count - 1` from packed `bf_decode` records.

        Raises:
            ValueError: A record names a row outside, or a row has no record.
        """
        columns = cls(count)
        for packed in decodes:
            for row, _, _, elements, type_code, _, _, flags, _, _ in records.DECODE.iter_unpack(packed):
                if not first <= row < first + count:
                    raise ValueError(f"row {row} is not one of {first} to {first + count - 1}")
                is_scaled, is_array = bool(flags & records.DECODE_SCALED), bool(flags & records.DECODE_ARRAY)
                columns.set_type(row - first, type_code, elements, is_scaled=is_scaled, is_array=is_array)
        missing = columns.kinds.find(0)
        if missing >= 0:
            raise ValueError(f"no decode entry says what row {first + missing} is")
        return columns


class TagTable:
    """The tag table of one runtime.

    Args:
        native: The native table, empty.
        tags_count_max: Rows that it has.

    Attributes:
        rows_count: Rows defined so far; the next one to define.
        name_of: Row -> full name, for the data points. The gateway puts its columns' `full_name` here; otherwise names
            come from `define`.
    """

    def __init__(self, native: contract.Table, tags_count_max: int) -> None:
        self.native = native
        self.tags_count_max = tags_count_max
        self.rows_count = 0
        self._kinds = bytearray(tags_count_max)
        self._types = bytearray(tags_count_max)
        self._names: dict[int, str] = {}
        self.name_of: Callable[[int], str] = self._own_name

    # ------------------------------------------------------------------ defining

    def define(self, columns: RowColumns, names: Sequence[str] | None = None) -> int:
        """Defines rows after the last one; they are BadWaitingForInitialData until written.

        Args:
            columns: What the rows are.
            names: Their full names; None when `name_of` knows them.

        Returns:
            The first of the new rows.

        Raises:
            LimitError: `tags_count_max` or `cell_bytes` does not allow it; nothing is defined then.
        """
        first, count = self.rows_count, len(columns)
        if first + count > self.tags_count_max:
            raise LimitError("tags_count_max", self.tags_count_max, f"{first + count} tags do not fit into the table")
        status = self.native.define(
            first, bytes(columns.kinds), columns.deadbands, columns.max_intervals, columns.cell_sizes
        )
        if status == records.E_SPACE:
            asked = sum(columns.cell_sizes)
            raise LimitError("cell_bytes", asked, f"texts and arrays of {asked} more bytes do not fit into the table")
        if status != records.OK:
            raise ValueError(f"impossible row definitions (status {status})")
        self._kinds[first : first + count] = columns.kinds
        self._types[first : first + count] = columns.types
        if names is not None:
            self.rename(range(first, first + count), names)
        self.rows_count += count
        return first

    def retune(self, rows: array[int], deadbands: array[float], max_intervals: array[int]) -> None:
        """Gives `rows` (``array('I')``) other deadbands (``'d'``) and longest intervals (``'q'``, ns), also while they are written.

        Raises ValueError when a row is not defined.
        """
        self._check(self.native.retune(rows, deadbands, max_intervals), rows[0] if rows else 0)

    def rename(self, rows: Iterable[int], names: Iterable[str]) -> None:
        """Gives rows the names that data points show, when they are used again for tags of the same definition."""
        self._names.update(zip(rows, names, strict=True))

    def kind(self, row: int) -> int:
        """Kind of a row (``KIND_…``); 0 when it is not defined."""
        return self._kinds[row]

    def _own_name(self, row: int) -> str:
        return self._names.get(row, str(row))

    # ------------------------------------------------------------------ writing

    def put(self, batch: Batch, *, server_time_ns: int, now_ns: int, flags: int = 0) -> None:
        """Writes a batch.

        Args:
            batch: Columns; each of its rows has no other writer.
            server_time_ns: UTC nanoseconds.
            now_ns: Monotonic nanoseconds.
            flags: ``CHANGE_…`` bits for the changes it makes.

        Raises:
            TypeError: A value is not of its row's kind.
            ValueError: A row is not defined, or a value does not fit; nothing after it is written.
        """
        if len(batch.rows) != len(batch.values):
            raise ValueError(f"{len(batch.rows)} rows but {len(batch.values)} values")
        rows, bits, statuses = array("I"), array("Q"), array("I")
        for index, (row, value) in enumerate(zip(batch.rows, batch.values, strict=True)):
            status = batch.exceptions.get(index, batch.status)
            kind = self._kinds[row] if row < self.rows_count else 0
            if kind >= _KIND_TEXT:
                body = b"" if value is None else self._encode_cell(row, kind, value)
                self._check(
                    self.native.put_bytes(row, body, status, batch.source_time_ns, server_time_ns, now_ns, flags), row
                )
                continue
            rows.append(row)
            bits.append(0 if value is None else _encode_bits(kind, value))
            statuses.append(status)
        if rows:
            status = self.native.put(rows, bits, statuses, batch.source_time_ns, server_time_ns, now_ns, flags)
            self._check(status, rows[0])

    def mark(
        self,
        rows: array[int],
        status: int,
        *,
        server_time_ns: int,
        now_ns: int,
        good_only: bool = False,
        flags: int = 0,
    ) -> None:
        """Sets only the status of `rows` (``array('I')``); with `good_only` only where it is good now."""
        rule = records.MARK_GOOD_ONLY if good_only else records.MARK_ALL
        if rows:
            self._check(self.native.mark(rows, status, rule, server_time_ns, now_ns, flags), rows[0])

    def _encode_cell(self, row: int, kind: int, value: Value) -> bytes:
        if kind == _KIND_TEXT:
            if not isinstance(value, str):
                raise TypeError(f"{self.name_of(row)} holds a text, not {type(value).__name__}")
            return value.encode()
        if isinstance(value, str | bool | int | float) or value is None:
            raise TypeError(f"{self.name_of(row)} holds an array, not {type(value).__name__}")
        try:
            return _little(array(_ARRAY_CODES[self._types[row]], value)).tobytes()
        except OverflowError as error:
            raise ValueError(f"{self.name_of(row)}: an element does not fit: {error}") from error

    def _check(self, status: int, row: int) -> None:
        if status == records.E_SPACE:
            raise ValueError(f"{self.name_of(row)}: the value is longer than its cell")
        if status != records.OK:
            raise ValueError(f"row {row} or its neighbours are not defined (status {status})")

    # ------------------------------------------------------------------ reading

    def snapshot(self, rows: Iterable[int]) -> list[DataPoint]:
        """Latest value of each of `rows`, in their order; each is consistent in itself.

        Raises:
            ValueError: A row is not defined.
        """
        wanted = rows if isinstance(rows, array) and rows.typecode == "I" else array("I", rows)
        packed = self.native.read(wanted)
        if len(packed) != len(wanted) * records.SLOT.size:
            raise ValueError("a row is not defined")
        points = []
        for row, (bits, source_time, server_time, status, _) in zip(
            wanted, records.SLOT.iter_unpack(packed), strict=True
        ):
            value: Value
            if self._kinds[row] >= _KIND_TEXT:
                _, slot, body = self.native.read_bytes(row)
                _, source_time, server_time, status, _ = records.SLOT.unpack(slot)
                value = self._decode_cell(row, body)
            else:
                value = _decode_bits(self._kinds[row], bits)
            # A row without a source time never had a value; one that is used again has the value of another tag.
            is_value = source_time != 0 and status != StatusCode.BadWaitingForInitialData
            points.append(
                DataPoint(
                    self.name_of(row), value if is_value else None, status, source_time if is_value else 0, server_time
                )
            )
        return points

    def statuses(self, rows: array[int]) -> array[int]:
        """StatusCodes of `rows`, without making data points."""
        words = array("I")
        words.frombytes(self.native.read(rows))
        if sys.byteorder == "big":
            words.byteswap()
        return words[_STATUS_WORD :: records.SLOT.size // words.itemsize]

    def cursor(self) -> Cursor:
        """A reader of all changes from now on."""
        return Cursor(self, self.native.ring_head())

    def value_of_bits(self, row: int, bits: int) -> Value:
        """Value of a row that is neither text nor array, from its 64 bits."""
        return _decode_bits(self._kinds[row], bits)

    def point_of_change(self, change: tuple[int, int, int, int, int], packed: bytes) -> DataPoint:
        """Data point of one change: its fields, and its 32 bytes (texts and arrays are looked up by them)."""
        row, status, source_time, bits, when = change
        value: Value = None
        if self._kinds[row] < _KIND_TEXT:
            value = _decode_bits(self._kinds[row], bits)
        elif not when & records.CHANGE_VALUE_LOST:
            found, body = self.native.ring_bytes(packed)
            value = self._decode_cell(row, body) if found == records.OK else None
        server_time = source_time + (when >> 16) * 100
        return DataPoint(self.name_of(row), value if source_time else None, status, source_time, server_time)

    def _decode_cell(self, row: int, body: bytes) -> Value:
        if self._kinds[row] == _KIND_TEXT:
            return decode_text(body)
        return decode_array(self._types[row], body)


class Changes(NamedTuple):
    """Some changes, packed; iterating makes a data point at a time.

    Attributes:
        table: Where they come from.
        packed: `bf_change` records, 32 bytes each.
        missed: Changes before these that were overwritten before they were read.
    """

    table: TagTable
    packed: bytes
    missed: int

    @property
    def changes_count(self) -> int:
        """How many there are."""
        return len(self.packed) // records.CHANGE.size

    def points(self) -> Iterator[tuple[int, DataPoint]]:
        """Row and data point of each change, oldest first; the value is None for a text that was overwritten since."""
        for index, change in enumerate(records.CHANGE.iter_unpack(self.packed)):
            start = index * records.CHANGE.size
            packed = self.packed[start : start + records.CHANGE.size]
            yield change[0], self.table.point_of_change(change, packed)


class Cursor:
    """A position in the change ring. Memory does not grow with readers, and a slow reader delays nobody.

    Attributes:
        position: Of the next change to read; counts all changes from 0.
        missed: Changes lost since the cursor was made.
    """

    def __init__(self, table: TagTable, position: int) -> None:
        self._table = table
        self.position = position
        self.missed = 0

    def read(self, changes_count_max: int) -> Changes:
        """Up to `changes_count_max` changes, oldest first; none when there are none yet."""
        self.position, missed, packed = self._table.native.ring_read(self.position, changes_count_max)
        self.missed += missed
        return Changes(self._table, packed, missed)


# ---------------------------------------------------------------------- values and bits


def decode_text(body: bytes) -> str:
    """Text of a string tag: UTF-8, or Latin-1 (which takes any byte) when it is not; up to its first NUL."""
    text, _, _ = body.partition(b"\0")
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def decode_array(type_code: int, body: bytes) -> list[bool] | list[int] | list[float]:
    """Elements of an array tag from the little-endian bytes in its cell; what is no whole element is left out."""
    elements = array(_ARRAY_CODES[type_code])
    elements.frombytes(body[: len(body) - len(body) % elements.itemsize])
    if type_code == DataType.BOOL.code:
        return [element != 0 for element in elements]
    return _little(elements).tolist()


def decode_value(type_code: int, flags: int, bits: int, body: bytes) -> Value:
    """Value of one gathered decode entry (`Backend.gather`), for reads that bypass the table.

    Args:
        type_code: `bf_decode.type`, and
        flags: `bf_decode.flags`.
        bits: The value's 64 bits; for texts and arrays where they lie in `body`.
        body: Bytes of all texts and arrays.
    """
    is_array, is_scaled = flags & records.DECODE_ARRAY, flags & records.DECODE_SCALED
    if is_array or type_code == DataType.STRING.code:
        start, length = bits >> 32, bits & 0xFFFF_FFFF
        cell = body[start : start + length]
        if not is_array:
            return decode_text(cell)
        return decode_array(DataType.FLOAT64.code if is_scaled else type_code, cell)
    return _decode_bits(_KIND_FLOAT if is_scaled else _KIND_OF_TYPE[type_code], bits)


def _decode_bits(kind: int, bits: int) -> bool | int | float:
    if kind == _KIND_FLOAT:
        value: float = _FLOAT.unpack(_BITS.pack(bits))[0]
        return value
    if kind == _KIND_INT:
        return bits - _TWO_64 if bits & _SIGN else bits
    if kind == _KIND_BOOL:
        return bits != 0
    return bits


def _encode_bits(kind: int, value: Value) -> int:
    if isinstance(value, str | list) or value is None:
        raise TypeError(f"a number or bool is needed, not {type(value).__name__}")
    if kind == _KIND_FLOAT:
        number = float(value)
        bits: int = records.NAN_BITS if number != number else _BITS.unpack(_FLOAT.pack(number))[0]
        return bits
    if kind == _KIND_BOOL:
        return int(bool(value))
    if isinstance(value, float) and not value.is_integer():
        raise TypeError(f"a whole number is needed, not {value}")
    number_int = int(value)
    low, high = (-_SIGN, _SIGN) if kind == _KIND_INT else (0, _TWO_64)
    if not low <= number_int < high:
        raise ValueError(f"{number_int} does not fit into 64 bits")
    return number_int & (_TWO_64 - 1)


def _little(elements: array[int] | array[float]) -> array[int] | array[float]:
    if sys.byteorder == "big":
        elements.byteswap()
    return elements
