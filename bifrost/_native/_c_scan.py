"""The scan engine and its shell of the contract over the compiled module.

Python's events become C's, C's actions become Python's, and what C was given to keep is kept alive until C lets it go.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bifrost._native import records
from bifrost._native._c_table import allocate
from bifrost._native._core import ffi, lib
from bifrost._native.records import Action, Counters, Event

if TYPE_CHECKING:
    from bifrost._native._c_table import Table
    from bifrost._native.records import ScanLimits, ShellLimits

_NULL: Final = ffi.NULL
_UINT8: Final = ffi.typeof("uint8_t[]")
_DECODE_BYTES: Final = records.DECODE.size
_from_buffer: Final = ffi.from_buffer


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
        self._memory = allocate(lib.bf_scan_bytes(c_limits), "scan engine")
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
        memory = allocate(lib.bf_shell_bytes(c_limits, c_scan_limits), "shell")
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
