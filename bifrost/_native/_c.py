"""The contract over the compiled module `_core`: converts arguments, keeps memory alive, and decides nothing.

The compiled functions read and write the caller's own buffers; nothing is copied on the way in but what `records`
packs. A call releases the interpreter's lock, so no call shares scratch memory with another one, except where the
contract allows only one caller at a time.
"""

from __future__ import annotations

import mmap
import weakref
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from bifrost._native import records
from bifrost._native._core import ffi, lib
from bifrost._native.records import Action, Counters, Event, ScanLimits, ShellLimits, TableLimits

if TYPE_CHECKING:
    from bifrost._native import contract
    from bifrost._native.contract import Readable, Writable

BACKEND = "c"

_NULL: Final = ffi.NULL
_UINT8: Final = ffi.typeof("uint8_t[]")
_UINT32: Final = ffi.typeof("uint32_t[]")
_UINT64: Final = ffi.typeof("uint64_t[]")
_INT64: Final = ffi.typeof("int64_t[]")
_DOUBLE: Final = ffi.typeof("double[]")
_DECODES: Final = ffi.typeof("bf_decode[]")
_ITEMS_EACH: Final = (0, 1, 0, 0, 1, 1, 2, 2, 4, 4, 2, 4)  # bits or registers of an element, by type code
_DECODE_BYTES: Final = records.DECODE.size
_CHANGE_BYTES: Final = records.CHANGE.size

_from_buffer: Final = ffi.from_buffer
_answer_decode: Final = lib.bf_modbus_answer_decode
_crc16: Final = lib.bf_crc16


def crc16(data: Readable) -> int:
    """See `contract.Backend.crc16`."""
    source = data if type(data) is bytes else _from_buffer(_UINT8, data)
    return int(_crc16(source, len(source)))


def modbus_answer_decode(
    frame: Readable, transaction: int, unit: int, function: int, count: int, type_code: int, order: int, out: Writable
) -> tuple[int, int, int]:
    """See `contract.Backend.modbus_answer_decode`."""
    source = frame if type(frame) is bytes else _from_buffer(_UINT8, frame)
    target = _from_buffer(_UINT8, out, True)
    # What C would write through the last two pointers follows from arguments and frame: no memory is made for it.
    status = _answer_decode(
        source, len(source), transaction, unit, function, count, type_code, order, target, len(target), _NULL, _NULL
    )
    if status == 0:
        return 0, count // _ITEMS_EACH[type_code], 0
    return status, 0, frame[8] if status == records.E_EXCEPTION else 0


def gather(body: Readable, walk: int, entries: Readable, bytes_max: int) -> tuple[int, array[int], array[int], bytes]:
    """See `contract.Backend.gather`."""
    packed = _decodes(entries)
    if packed is None:
        return records.E_ARGUMENT, array("Q"), array("I"), b""
    source = _from_buffer(_UINT8, body)
    values = array("Q", bytes(8 * len(packed)))
    statuses = array("I", bytes(4 * len(packed)))
    taken = ffi.new(_UINT8, bytes_max)
    status = lib.bf_gather(
        source,
        len(source),
        walk,
        packed,
        len(packed),
        _from_buffer(_UINT64, values),
        _from_buffer(_UINT32, statuses),
        taken,
        bytes_max,
    )
    if status != records.OK:
        return status, array("Q"), array("I"), b""
    return status, values, statuses, ffi.buffer(taken, _used(packed, values, statuses))[:]


def _used(packed: Any, values: array[int], statuses: array[int]) -> int:
    """End of the last text or array that was appended."""
    for index in range(len(values) - 1, -1, -1):
        entry = packed[index]
        has_bytes = entry.type == records.TYPE_STRING or entry.flags & records.DECODE_ARRAY
        if has_bytes and statuses[index] == records.GOOD:
            return (values[index] >> 32) + (values[index] & 0xFFFF_FFFF)
    return 0


def table_bytes(limits: TableLimits) -> int:
    """See `contract.Backend.table_bytes`."""
    return int(lib.bf_table_bytes(ffi.new("bf_table_limits *", limits)))


def make_table(limits: TableLimits) -> Table:
    """See `contract.Backend.make_table`."""
    return Table(limits)


def scan_bytes(limits: ScanLimits) -> int:
    """See `contract.Backend.scan_bytes`."""
    return int(lib.bf_scan_bytes(ffi.new("bf_scan_limits *", limits)))


def make_scan(limits: ScanLimits, table: contract.Table, seed: int) -> Scan:
    """See `contract.Backend.make_scan`."""
    return Scan(limits, cast("Table", table), seed)


def shell_bytes(limits: ShellLimits, scan_limits: ScanLimits) -> int:
    """See `contract.Backend.shell_bytes`."""
    return int(lib.bf_shell_bytes(ffi.new("bf_shell_limits *", limits), ffi.new("bf_scan_limits *", scan_limits)))


def make_shell(limits: ShellLimits, scan_limits: ScanLimits, scan: contract.Scan) -> Shell | None:
    """See `contract.Backend.make_shell`."""
    return Shell(limits, scan_limits, cast("Scan", scan))


def _memory(size: int, what: str) -> Any:
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


def _decodes(entries: Readable) -> Any:
    """Packed `bf_decode` records as C sees them, aligned as a `bytes` object is; None when a record is torn."""
    if len(entries) % _DECODE_BYTES != 0:
        return None
    return _from_buffer(_DECODES, entries if type(entries) is bytes else bytes(entries))


class Table:
    """`contract.Table` over `bf_table`."""

    __slots__ = ("_cell_bytes_max", "_memory", "_table")

    def __init__(self, limits: TableLimits) -> None:
        c_limits = ffi.new("bf_table_limits *", limits)
        self._memory = _memory(lib.bf_table_bytes(c_limits), "tag table")
        self._cell_bytes_max = 0  # of all rows: room that any one text or array fits
        made = ffi.new("bf_table **")
        status = lib.bf_table_init(self._memory, len(self._memory), c_limits, made)
        assert status == records.OK, status
        self._table = made[0]

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
        packed = _decodes(entries)
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


class _Plans:
    """Keeps what `BF_EVENT_PLAN` handed over, by link and generation, until `BF_ACTION_PLANNED` says it is free."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], list[Any]] = {}

    def c_plan(self, link: int, plan: records.Plan) -> Any:
        """`bf_plan` of `plan`, with the engine's own memory for its notes; kept from now on.

        Raises ValueError when the link has a plan of this generation: the engine could not tell which is free.
        """
        if (link, plan.generation) in self._kept:
            raise ValueError(f"link {link} has a plan {plan.generation} already")
        counts = (
            len(plan.exchanges) // records.EXCHANGE.size,
            len(plan.decodes) // _DECODE_BYTES,
            len(plan.groups) // records.GROUP.size,
        )
        parts = [
            _from_buffer(ffi.typeof(ctype), packed)
            for ctype, packed in (
                ("bf_exchange[]", plan.exchanges),
                ("bf_decode[]", plan.decodes),
                ("bf_group[]", plan.groups),
                ("bf_code[]", plan.codes),
                ("uint8_t[]", plan.requests),
            )
        ]
        states = [
            ffi.new("bf_exchange_state[]", counts[0]),
            ffi.new("bf_group_state[]", counts[2]),
            ffi.new("bf_unit_state[]", plan.unit_count),
        ]
        fields = (
            plan.generation,
            *counts,
            plan.unit_count,
            len(plan.codes) // records.CODE.size,
            *parts,
            len(plan.requests),
            *states,
        )
        c_plan = ffi.new("bf_plan *", fields)
        self._kept[link, plan.generation] = [c_plan, *parts, *states]
        return c_plan

    def release(self, link: int, generation: int) -> None:
        """Lets a plan go that the engine no longer uses, or never took."""
        self._kept.pop((link, generation), None)


def _event_data(event: Event, plans: _Plans) -> tuple[Any, int]:
    """Memory and length of what an event carries; the caller keeps the memory until the event is taken."""
    data = event.data
    if data is None:
        return _NULL, 0
    if isinstance(data, bytes):
        return _from_buffer(data), len(data)
    if isinstance(data, records.Plan):
        return plans.c_plan(event.link, data), ffi.sizeof("bf_plan")
    if isinstance(data, records.OneShot):
        # bf_oneshot: the exchange, then the timeout; then the request.
        packed = data.exchange.pack() + data.timeout_ns.to_bytes(8, "little", signed=True) + data.request
    else:
        packed = data.pack()
    return _from_buffer(packed), len(packed)


def _fill_event(target: Any, event: Event, data: Any, length: int) -> None:
    target.kind = event.kind
    target.link = event.link
    target.index = event.number
    target.token = event.token
    target.value = event.value
    target.data = data
    target.length = length


def _action(source: Any, data: bytes) -> Action:
    return Action(
        source.kind,
        source.link,
        source.index,
        source.code,
        source.status,
        source.generation,
        source.token,
        source.time_ns,
        data,
    )


class Scan:
    """`contract.Scan` over `bf_scan`."""

    def __init__(self, limits: ScanLimits, table: Table, seed: int) -> None:
        c_limits = ffi.new("bf_scan_limits *", limits)
        self._table = table  # The engine writes it: it must live as long.
        self._memory = _memory(lib.bf_scan_bytes(c_limits), "scan engine")
        self._plans = _Plans()
        made = ffi.new("bf_scan **")
        status = lib.bf_scan_init(self._memory, len(self._memory), c_limits, table._table, seed, made)
        assert status == records.OK, status
        self._scan = made[0]
        self._actions = ffi.new("bf_action[]", lib.bf_scan_actions_min(c_limits))
        self._made: list[Action] = []

    def step(self, now_ns: int, events: Sequence[Event]) -> tuple[list[Action], int]:
        """See `contract.Scan.step`."""
        c_events = ffi.new("bf_event[]", len(events))
        kept = [_event_data(event, self._plans) for event in events]
        for index, event in enumerate(events):
            _fill_event(c_events[index], event, *kept[index])
        taken = ffi.new("size_t *")
        made = ffi.new("size_t *")
        wake_ns = ffi.new("int64_t *")
        done = 0
        status = records.PARTIAL
        while status == records.PARTIAL:
            status = lib.bf_scan_step(
                self._scan,
                now_ns,
                c_events + done,
                len(events) - done,
                taken,
                self._actions,
                len(self._actions),
                made,
                wake_ns,
            )
            done += taken[0]
            self._made += [self._copy(self._actions[index]) for index in range(made[0])]
        if status != records.OK:
            for event in events[max(done - 1, 0) :]:
                if isinstance(event.data, records.Plan):
                    self._plans.release(event.link, event.data.generation)
            raise ValueError(f"impossible time {now_ns} or event {events[done - 1].kind if done else ''}")
        actions, self._made = self._made, []
        return actions, wake_ns[0]

    def _copy(self, action: Any) -> Action:
        """`action` with its bytes, which the next step overwrites."""
        if action.kind == records.ACTION_PLANNED:
            self._plans.release(action.link, action.index)
        return _action(action, ffi.buffer(action.data, action.length)[:] if action.length else b"")

    def counters(self, link: int) -> Counters:
        """See `contract.Scan.counters`."""
        counters = ffi.new("bf_counters *")
        status = lib.bf_scan_counters(self._scan, link, counters)
        assert status == records.OK, status
        return Counters(*(getattr(counters, name) for name in Counters._fields))


def _stop(shell: Any, kept: tuple[Any, ...]) -> None:
    """Ends the thread while all memory that it uses, `kept`, is still there."""
    lib.bf_shell_stop(shell)


class Shell:
    """`contract.Shell` over `bf_shell`. Stops its thread when it is forgotten."""

    def __init__(self, limits: ShellLimits, scan_limits: ScanLimits, scan: Scan) -> None:
        c_limits = ffi.new("bf_shell_limits *", limits)
        c_scan_limits = ffi.new("bf_scan_limits *", scan_limits)
        memory = _memory(lib.bf_shell_bytes(c_limits, c_scan_limits), "shell")
        made = ffi.new("bf_shell **")
        status = lib.bf_shell_init(memory, len(memory), c_limits, c_scan_limits, scan._scan, made)
        if status != records.OK:
            raise OSError(ffi.errno, "the shell cannot be made")
        self._shell = made[0]
        self._plans = _Plans()
        self._notice = ffi.new("bf_action *")
        self._notice_bytes = ffi.new(_UINT8, limits.notice_bytes_max)
        self._kept = (memory, scan, self._plans)
        self._end = weakref.finalize(self, _stop, self._shell, self._kept)

    def start(self) -> None:
        """See `contract.Shell.start`."""
        status = lib.bf_shell_start(self._shell)
        if status != records.OK:
            raise OSError(ffi.errno, "the scan thread cannot be started")

    def post(self, event: Event) -> int:
        """See `contract.Shell.post`."""
        data, length = _event_data(event, self._plans)
        c_event = ffi.new("bf_event *")
        _fill_event(c_event, event, data, length)
        status: int = lib.bf_shell_post(self._shell, c_event)
        if status != records.OK and isinstance(event.data, records.Plan):
            self._plans.release(event.link, event.data.generation)
        return status

    def take(self) -> Action | None:
        """See `contract.Shell.take`."""
        notice = self._notice
        status = lib.bf_shell_take(self._shell, notice, self._notice_bytes, len(self._notice_bytes))
        if status != records.OK:
            return None
        if notice.kind == records.ACTION_PLANNED:
            self._plans.release(notice.link, notice.index)
        return _action(notice, ffi.buffer(self._notice_bytes, notice.length)[:])

    def fileno(self) -> int:
        """See `contract.Shell.fileno`."""
        return lib.bf_shell_fd(self._shell)  # type: ignore[no-any-return]  # cffi has no types

    def dropped(self) -> int:
        """See `contract.Shell.dropped`."""
        return lib.bf_shell_dropped(self._shell)  # type: ignore[no-any-return]  # cffi has no types

    def cpu_ns(self) -> int:
        """See `contract.Shell.cpu_ns`."""
        return lib.bf_shell_cpu_ns(self._shell)  # type: ignore[no-any-return]  # cffi has no types

    def stop(self) -> None:
        """See `contract.Shell.stop`."""
        self._end()
