"""The table of the contract over the compiled module, and the memory that all its objects lie in."""

from __future__ import annotations

import mmap
from array import array
from typing import TYPE_CHECKING, Any, Final

from bifrost._native import records
from bifrost._native._core import ffi, lib

if TYPE_CHECKING:
    from bifrost._native.contract import Readable
    from bifrost._native.records import TableLimits

_UINT8: Final = ffi.typeof("uint8_t[]")
_UINT32: Final = ffi.typeof("uint32_t[]")
_UINT64: Final = ffi.typeof("uint64_t[]")
_INT64: Final = ffi.typeof("int64_t[]")
_DOUBLE: Final = ffi.typeof("double[]")
_DECODES: Final = ffi.typeof("bf_decode[]")
_DECODE_BYTES: Final = records.DECODE.size
_CHANGE_BYTES: Final = records.CHANGE.size
_from_buffer: Final = ffi.from_buffer


def allocate(size: int, what: str) -> Any:
    """Zeroed memory of `size` bytes that takes no room before it is touched.

    Raises:
        ValueError: `size` is 0: the limits of `what` are impossible.
        MemoryError: There is not so much.
    """
    if size == 0:
        raise ValueError(f"the limits of the {what} are impossible")
    try:
        # Private: a child after fork must not write into its parent's.
        return _from_buffer(_UINT8, mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no memory for the {what}: {size} bytes") from error


def as_decodes(entries: Readable) -> Any:
    """Packed `bf_decode` records as C sees them, aligned as a `bytes` object is; None when a record is torn."""
    if len(entries) % _DECODE_BYTES != 0:
        return None
    return _from_buffer(_DECODES, entries if type(entries) is bytes else bytes(entries))


class Table:
    """`contract.Table` over `bf_table`."""

    __slots__ = ("_cell_bytes_max", "_memory", "_table")

    def __init__(self, limits: TableLimits) -> None:
        c_limits = ffi.new("bf_table_limits *", limits)
        self._memory = allocate(lib.bf_table_bytes(c_limits), "tag table")
        self._cell_bytes_max = 0  # of all rows: room that any one text or array fits
        made = ffi.new("bf_table **")
        status = lib.bf_table_init(self._memory, len(self._memory), c_limits, made)
        assert status == records.OK, status
        self._table = made[0]

    def addresses(self) -> tuple[int, int]:
        """Where the table and the functions to read it lie, for a C module that is not linked with this one.

        They are valid as long as this object is alive.
        """
        table, api = self._table, lib.bf_table_api_get()
        return int(ffi.cast("uintptr_t", table)), int(ffi.cast("uintptr_t", api))

    def define(
        self,
        first: int,
        kinds: bytes,
        deadbands: array[float],
        max_intervals: array[int],
        cell_sizes: array[int],
    ) -> int:
        """See `contract.Table.define`."""
        if not len(kinds) == len(deadbands) == len(max_intervals) == len(cell_sizes):
            return records.E_ARGUMENT
        status: int = lib.bf_table_define(
            self._table,
            first,
            len(kinds),
            _from_buffer(_UINT8, kinds),
            _from_buffer(_DOUBLE, deadbands),
            _from_buffer(_INT64, max_intervals),
            _from_buffer(_UINT32, cell_sizes),
        )
        if status == records.OK:
            with_cell = (size for size, kind in zip(cell_sizes, kinds, strict=True) if kind >= records.KIND_TEXT)
            self._cell_bytes_max = max(self._cell_bytes_max, *with_cell, 0)
        return status

    def retune(self, tags: array[int], deadbands: array[float], max_intervals: array[int]) -> int:
        """See `contract.Table.retune`."""
        if not len(tags) == len(deadbands) == len(max_intervals):
            return records.E_ARGUMENT
        return lib.bf_table_retune(  # type: ignore[no-any-return]  # cffi has no types
            self._table,
            len(tags),
            _from_buffer(_UINT32, tags),
            _from_buffer(_DOUBLE, deadbands),
            _from_buffer(_INT64, max_intervals),
        )

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
            return records.E_ARGUMENT
        return lib.bf_table_put(  # type: ignore[no-any-return]  # cffi has no types
            self._table,
            len(tags),
            _from_buffer(_UINT32, tags),
            _from_buffer(_UINT64, values),
            _from_buffer(_UINT32, statuses),
            source_time,
            server_time,
            now_ns,
            flags,
        )

    def put_bytes(
        self, tag: int, data: Readable, status: int, source_time: int, server_time: int, now_ns: int, flags: int
    ) -> int:
        """See `contract.Table.put_bytes`."""
        source = _from_buffer(_UINT8, data)
        return lib.bf_table_put_bytes(  # type: ignore[no-any-return]  # cffi has no types
            self._table, tag, source, len(source), status, source_time, server_time, now_ns, flags
        )

    def mark(self, tags: array[int], status: int, rule: int, server_time: int, now_ns: int, flags: int) -> int:
        """See `contract.Table.mark`."""
        return lib.bf_table_mark(  # type: ignore[no-any-return]  # cffi has no types
            self._table, len(tags), _from_buffer(_UINT32, tags), 4, status, rule, server_time, now_ns, flags
        )

    def scatter(
        self, body: Readable, walk: int, entries: Readable, source_time: int, server_time: int, now_ns: int, flags: int
    ) -> int:
        """See `contract.Table.scatter`."""
        packed = as_decodes(entries)
        if packed is None:
            return records.E_ARGUMENT
        source = _from_buffer(_UINT8, body)
        scratch = ffi.new(_UINT8, self._cell_bytes_max)
        return lib.bf_table_scatter(  # type: ignore[no-any-return]  # cffi has no types
            self._table,
            source,
            len(source),
            walk,
            packed,
            len(packed),
            source_time,
            server_time,
            now_ns,
            flags,
            scratch,
            self._cell_bytes_max,
        )

    def read(self, tags: array[int]) -> bytes:
        """See `contract.Table.read`."""
        slots = ffi.new("bf_slot[]", len(tags))
        status = lib.bf_table_read(self._table, len(tags), _from_buffer(_UINT32, tags), slots)
        return ffi.buffer(slots)[:] if status == records.OK else b""

    def read_bytes(self, tag: int) -> tuple[int, bytes, bytes]:
        """See `contract.Table.read_bytes`."""
        slot = ffi.new("bf_slot *")
        taken = ffi.new(_UINT8, self._cell_bytes_max)
        length = ffi.new("size_t *")
        status = lib.bf_table_read_bytes(self._table, tag, slot, taken, self._cell_bytes_max, length)
        if status != records.OK:
            return status, b"", b""
        return status, ffi.buffer(slot)[:], ffi.buffer(taken, length[0])[:]

    def ring_head(self) -> int:
        """See `contract.Table.ring_head`."""
        return lib.bf_ring_head(self._table)  # type: ignore[no-any-return]  # cffi has no types

    def ring_count(self, tags: array[int]) -> tuple[int, int, int]:
        """See `contract.Table.ring_count`."""
        head = ffi.new("uint64_t *")
        changes = ffi.new("uint64_t *")
        status = lib.bf_ring_count(self._table, len(tags), _from_buffer(_UINT32, tags), head, changes)
        return status, head[0], changes[0]

    def ring_read(self, position: int, count: int) -> tuple[int, int, bytes]:
        """See `contract.Table.ring_read`."""
        count = max(0, min(count, lib.bf_ring_head(self._table) - position))  # no memory for changes that are not there
        moved = ffi.new("uint64_t *", position)
        missed = ffi.new("uint64_t *")
        changes = ffi.new("bf_change[]", count)
        copied = lib.bf_ring_read(self._table, moved, changes, count, missed)
        return moved[0], missed[0], ffi.buffer(changes, copied * _CHANGE_BYTES)[:]

    def ring_bytes(self, change: Readable) -> tuple[int, bytes]:
        """See `contract.Table.ring_bytes`."""
        if len(change) != _CHANGE_BYTES:
            return records.E_ARGUMENT, b""
        c_change = ffi.new("bf_change *")
        ffi.memmove(c_change, change, _CHANGE_BYTES)
        taken = ffi.new(_UINT8, self._cell_bytes_max)
        length = ffi.new("size_t *")
        status = lib.bf_ring_bytes(self._table, c_change, taken, self._cell_bytes_max, length)
        return status, ffi.buffer(taken, length[0])[:] if status == records.OK else b""
