"""The tag table and its change ring in Python: the twin of `csrc/table.c` and `csrc/ring.c`.

Columns of `array`, one entry a row, and the two rings as `bytearray`s of the same layout as in C, so that positions and
bytes are the same. Every call checks all it was given before it writes anything. There is one thread, so no slot is
ever torn.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Final

from bifrost._native import records as r
from bifrost._native._py_decode import decode_entry, double_bits, entry_bytes, entry_kind, find_items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bifrost._native.contract import Readable
    from bifrost._native.records import TableLimits

_WORD_BYTES: Final = 8
_ROW_BYTES: Final = 32 + 45  # a slot; and last reported value and time, reports, deadband, interval, cell size and kind
_BAD: Final = 0x8000_0000  # OPC UA Part 4, 7.39.1: 00 good, 01 uncertain, 10 bad
_SEVERITY: Final = 0xC000_0000
_SIGN: Final = 1 << 63
_WHEN_MAX: Final = 1 << 47
_FLAGS_MASK: Final = 0xFFFF
_SEQUENCE_MASK: Final = 0xFFFF_FFFF


def _words_bytes(size: int) -> int:
    """`size` rounded up to whole words."""
    return (size + _WORD_BYTES - 1) // _WORD_BYTES * _WORD_BYTES


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & number - 1 == 0


def table_bytes(limits: TableLimits) -> int:
    """See `contract.Backend.table_bytes`."""
    bodies = limits.ring_body_bytes
    bodies_fit = bodies == 0 or (_is_power_of_two(bodies) and bodies >= 2 * _WORD_BYTES)
    if limits.tags_count_max == 0 or not _is_power_of_two(limits.ring_changes_count) or not bodies_fit:
        return 0
    if limits.ring_changes_count // 2 < limits.tags_count_max:
        return 0
    rings = limits.ring_changes_count * r.CHANGE.size + bodies
    return limits.tags_count_max * _ROW_BYTES + rings + _words_bytes(limits.cell_bytes)


def _when(server_time: int, source_time: int, flags: int) -> int:
    """`bf_change.when`."""
    ticks = max(-_WHEN_MAX, min((server_time - source_time) // 100, _WHEN_MAX - 1))
    return ticks * 65536 + (flags & _FLAGS_MASK)


def _as_float(bits: int) -> float:
    number: float = struct.unpack("<d", bits.to_bytes(8, "little"))[0]
    return number


def _normal(kind: int, value: int) -> int:
    """A value as its kind keeps it: one NaN, and a bool is 0 or 1."""
    if kind == r.KIND_BOOL:
        return int(value != 0)
    return double_bits(_as_float(value)) if kind == r.KIND_FLOAT else value


class Table:
    """`contract.Table` in columns."""

    def __init__(self, limits: TableLimits) -> None:
        if table_bytes(limits) == 0:
            raise ValueError("the limits of the tag table are impossible")
        count = limits.tags_count_max
        self._tags_count = count
        self._values = array("Q", bytes(8 * count))
        self._source_times = array("q", bytes(8 * count))
        self._server_times = array("q", bytes(8 * count))
        self._statuses = array("I", [r.BAD_WAITING]) * count
        self._sequences = array("I", bytes(4 * count))
        self._kinds = bytearray(count)  # 0: not defined
        self._deadbands = array("d", bytes(8 * count))
        self._max_intervals = array("q", bytes(8 * count))
        self._reported_values = array("Q", bytes(8 * count))
        self._reported_ns = array("q", bytes(8 * count))
        self._reports = array("Q", bytes(8 * count))
        self._cell_sizes = array("I", bytes(4 * count))
        self._cells: dict[int, bytes] = {}
        self._cells_left = _words_bytes(limits.cell_bytes)
        self._cell_bytes_max = 0
        self._changes = bytearray(limits.ring_changes_count * r.CHANGE.size)
        self._changes_count = limits.ring_changes_count
        self._head = 0
        self._bodies = bytearray(limits.ring_body_bytes)
        self._bodies_head = 0

    # ---- rows

    def define(
        self,
        first: int,
        kinds: bytes,
        deadbands: array[float],
        max_intervals: array[int],
        cell_sizes: array[int],
    ) -> int:
        """See `contract.Table.define`."""
        count = len(kinds)
        if not count == len(deadbands) == len(max_intervals) == len(cell_sizes):
            return r.E_ARGUMENT
        if first + count > self._tags_count or any(self._kinds[first : first + count]):
            return r.E_ARGUMENT
        if not all(r.KIND_BOOL <= kind <= r.KIND_ARRAY for kind in kinds):
            return r.E_ARGUMENT
        if not all(deadband >= 0 for deadband in deadbands) or any(interval < 0 for interval in max_intervals):
            return r.E_ARGUMENT
        cells = [(first + i, cell_sizes[i]) for i in range(count) if kinds[i] >= r.KIND_TEXT]
        bodies = len(self._bodies)
        if any(size > bodies // 2 or _words_bytes(size) + _WORD_BYTES > bodies for _, size in cells):
            return r.E_SPACE
        needed = sum(_words_bytes(size) for _, size in cells)
        if needed > self._cells_left:
            return r.E_SPACE
        self._cells_left -= needed
        self._kinds[first : first + count] = kinds
        self._deadbands[first : first + count] = deadbands
        self._max_intervals[first : first + count] = max_intervals
        for tag, size in cells:
            self._cells[tag] = b""
            self._cell_sizes[tag] = size
            self._cell_bytes_max = max(self._cell_bytes_max, size)
        return r.OK

    def retune(self, tags: array[int], deadbands: array[float], max_intervals: array[int]) -> int:
        """See `contract.Table.retune`."""
        if not len(tags) == len(deadbands) == len(max_intervals) or not all(map(self._kind, tags)):
            return r.E_ARGUMENT
        if not all(deadband >= 0 for deadband in deadbands) or any(interval < 0 for interval in max_intervals):
            return r.E_ARGUMENT
        for tag, deadband, interval in zip(tags, deadbands, max_intervals, strict=True):
            self._deadbands[tag] = deadband
            self._max_intervals[tag] = interval
        return r.OK

    def _kind(self, tag: int) -> int:
        """`KIND_…` of a row; 0 when it is not defined."""
        return self._kinds[tag] if tag < self._tags_count else 0

    # ---- what is worth reporting

    def _differs(self, tag: int, value: int) -> bool:
        """Whether `value` is further from the last reported value than the deadband."""
        last = self._reported_values[tag]
        deadband = self._deadbands[tag]
        if value == last or deadband == 0:
            return value != last
        kind = self._kinds[tag]
        if kind == r.KIND_FLOAT:
            difference = abs(_as_float(value) - _as_float(last))
            return difference != difference or difference > deadband
        if kind == r.KIND_INT:  # moves the range of int64 to that of uint64
            value, last = value ^ _SIGN, last ^ _SIGN
        return float(abs(value - last)) > deadband

    def _interval_passed(self, tag: int, now_ns: int) -> bool:
        interval = self._max_intervals[tag]
        return interval != 0 and now_ns - self._reported_ns[tag] >= interval

    def _report(self, tag: int, server_time: int, now_ns: int, flags: int) -> None:
        """Appends what the slot says now to the change ring."""
        value = self._values[tag]
        self._reported_values[tag] = value
        self._reported_ns[tag] = now_ns
        if self._kinds[tag] >= r.KIND_TEXT:
            value = self._append_body(self._cells[tag])
        source_time = self._source_times[tag]
        r.CHANGE.pack_into(
            self._changes,
            self._head % self._changes_count * r.CHANGE.size,
            tag,
            self._statuses[tag],
            source_time,
            value,
            _when(server_time, source_time, flags),
        )
        self._reports[tag] += 1
        self._head += 1

    def _append_body(self, data: bytes) -> int:
        """Writes a record (length, bytes, padding to words) to the byte ring; gives its position."""
        position = self._bodies_head
        record = len(data).to_bytes(_WORD_BYTES, "little") + data.ljust(_words_bytes(len(data)), b"\0")
        first = position % len(self._bodies)
        before_end = min(len(record), len(self._bodies) - first)
        self._bodies[first : first + before_end] = record[:before_end]
        self._bodies[: len(record) - before_end] = record[before_end:]
        self._bodies_head = position + len(record)
        return position

    # ---- writing

    def _write(self, tag: int, value: int, source_time: int, server_time: int, status: int) -> None:
        self._values[tag] = value
        self._source_times[tag] = source_time
        self._server_times[tag] = server_time
        self._statuses[tag] = status
        self._sequences[tag] = self._sequences[tag] + 2 & _SEQUENCE_MASK

    def _mark(self, tag: int, server_time: int, status: int) -> None:
        """Only the status: value and source time stay."""
        self._write(tag, self._values[tag], self._source_times[tag], server_time, status)

    def _put(
        self, tag: int, value: int, status: int, source_time: int, server_time: int, now_ns: int, flags: int
    ) -> None:
        report = status != self._statuses[tag]
        if status & _BAD:
            self._mark(tag, server_time, status)
        else:
            value = _normal(self._kinds[tag], value)
            report = report or self._differs(tag, value) or self._interval_passed(tag, now_ns)
            self._write(tag, value, source_time, server_time, status)
        if report:
            self._report(tag, server_time, now_ns, flags)

    def _put_cell(
        self, tag: int, data: bytes, status: int, source_time: int, server_time: int, now_ns: int, flags: int
    ) -> None:
        report = status != self._statuses[tag]
        if status & _BAD:
            self._mark(tag, server_time, status)
        else:
            report = report or self._cells[tag] != data or self._interval_passed(tag, now_ns)
            self._cells[tag] = data
            self._write(tag, len(data), source_time, server_time, status)
        if report:
            self._report(tag, server_time, now_ns, flags)

    def put(
        self,
        tags: array[int],
        values: array[int],
        statuses: array[int],
        source_time: int,
        server_time: int,
        now_ns: int,
        flags: int,
    ) -> int:
        """See `contract.Table.put`."""
        if not len(tags) == len(values) == len(statuses):
            return r.E_ARGUMENT
        if not all(r.KIND_BOOL <= self._kind(tag) < r.KIND_TEXT for tag in tags):
            return r.E_ARGUMENT
        for tag, value, status in zip(tags, values, statuses, strict=True):
            self._put(tag, value, status, source_time, server_time, now_ns, flags)
        return r.OK

    def put_bytes(
        self, tag: int, data: Readable, status: int, source_time: int, server_time: int, now_ns: int, flags: int
    ) -> int:
        """See `contract.Table.put_bytes`."""
        if self._kind(tag) < r.KIND_TEXT:
            return r.E_ARGUMENT
        if len(data) > self._cell_sizes[tag]:
            return r.E_SPACE
        self._put_cell(tag, bytes(data), status, source_time, server_time, now_ns, flags)
        return r.OK

    def mark(self, tags: array[int], status: int, rule: int, server_time: int, now_ns: int, flags: int) -> int:
        """See `contract.Table.mark`."""
        if rule not in (r.MARK_ALL, r.MARK_GOOD_ONLY) or not all(self._kind(tag) for tag in tags):
            return r.E_ARGUMENT
        for tag in tags:
            old_status = self._statuses[tag]
            if rule == r.MARK_GOOD_ONLY and old_status & _SEVERITY:
                continue
            self._mark(tag, server_time, status)
            if status != old_status:
                self._report(tag, server_time, now_ns, flags)
        return r.OK

    def _check_entries(self, entries: Sequence[r.DecodeEntry]) -> int:
        """`OK` when every entry fits the row it names."""
        for entry in entries:
            kind = self._kind(entry.tag)
            if kind == 0 or kind != entry_kind(entry):
                return r.E_ARGUMENT
        fits = all(entry_bytes(entry) <= self._cell_sizes[entry.tag] for entry in entries)
        return r.OK if fits else r.E_SPACE

    def scatter(
        self, body: Readable, walk: int, entries: Readable, source_time: int, server_time: int, now_ns: int, flags: int
    ) -> int:
        """See `contract.Table.scatter`."""
        if len(entries) % r.DECODE.size != 0 or not r.WALK_NONE <= walk <= r.WALK_CIP:
            return r.E_ARGUMENT
        unpacked = list(r.iterate_decodes(bytes(entries)))
        checked = self._check_entries(unpacked)
        if checked != r.OK:
            return checked
        body = bytes(body)
        find = find_items(body, walk)
        for entry in unpacked:
            value, status, data = decode_entry(body, find(entry.item), entry, self._cell_bytes_max)
            if self._kinds[entry.tag] >= r.KIND_TEXT:
                self._put_cell(entry.tag, data, status, source_time, server_time, now_ns, flags)
            else:
                self._put(entry.tag, value, status, source_time, server_time, now_ns, flags)
        return r.OK

    # ---- reading

    def _slot(self, tag: int) -> bytes:
        return r.SLOT.pack(
            self._values[tag],
            self._source_times[tag],
            self._server_times[tag],
            self._statuses[tag],
            self._sequences[tag],
        )

    def read(self, tags: array[int]) -> bytes:
        """See `contract.Table.read`."""
        if any(tag >= self._tags_count for tag in tags):
            return b""
        return b"".join(map(self._slot, tags))

    def read_bytes(self, tag: int) -> tuple[int, bytes, bytes]:
        """See `contract.Table.read_bytes`."""
        if self._kind(tag) < r.KIND_TEXT:
            return r.E_ARGUMENT, b"", b""
        return r.OK, self._slot(tag), self._cells[tag]

    def ring_head(self) -> int:
        """See `contract.Table.ring_head`."""
        return self._head

    def ring_count(self, tags: array[int]) -> tuple[int, int, int]:
        """See `contract.Table.ring_count`."""
        if any(tag >= self._tags_count for tag in tags):
            return r.E_ARGUMENT, 0, 0
        return r.OK, self._head, sum(map(self._reports.__getitem__, tags))

    def ring_read(self, position: int, count: int) -> tuple[int, int, bytes]:
        """See `contract.Table.ring_read`."""
        first = max(position, self._head - self._changes_count)
        end = max(first, min(self._head, first + count))
        taken = bytearray()
        while first + len(taken) // r.CHANGE.size < end:  # at most twice: the ring may end in between
            at = first + len(taken) // r.CHANGE.size
            index = at % self._changes_count
            chunk = min(end - at, self._changes_count - index)
            taken += self._changes[index * r.CHANGE.size : (index + chunk) * r.CHANGE.size]
        return end, first - position, bytes(taken)

    def ring_bytes(self, change: Readable) -> tuple[int, bytes]:
        """See `contract.Table.ring_bytes`."""
        if len(change) != r.CHANGE.size:
            return r.E_ARGUMENT, b""
        tag, _, _, position, _ = r.CHANGE.unpack(change)
        if self._kind(tag) < r.KIND_TEXT or position % _WORD_BYTES != 0:
            return r.E_ARGUMENT, b""
        if not self._body_is_intact(position, _WORD_BYTES):
            return r.LOST, b""
        length = int.from_bytes(self._body_at(position, _WORD_BYTES), "little")
        if length > self._cell_sizes[tag] or not self._body_is_intact(position, _words_bytes(length) + _WORD_BYTES):
            return r.LOST, b""
        return r.OK, self._body_at(position + _WORD_BYTES, length)

    def _body_is_intact(self, position: int, size: int) -> bool:
        return size <= self._bodies_head - position <= len(self._bodies)

    def _body_at(self, position: int, size: int) -> bytes:
        first = position % len(self._bodies)
        data = self._bodies[first : first + size]
        return bytes(data + self._bodies[: size - len(data)])
