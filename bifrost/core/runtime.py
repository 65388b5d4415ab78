"""`Runtime` owns what exists once per event loop: the tag table, its change ring, and the scan engine.

Everything is allocated here, at once, after the sum of all regions was compared with the limit; nothing grows later.
The gateway makes one with its own limits; library use makes one with `Limits.small()` at the first `connect()`. What
drives the engine (`plc.scan`) asks for a shell and registers how to stop it, so that closing the runtime ends threads
before the memory they use.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bifrost._native import backend as _selected
from bifrost._native import contract, records
from bifrost.core.limits import Limits
from bifrost.core.table import TagTable

__all__ = ["BackendSizes", "Runtime", "scan_limits", "shell_limits", "table_limits"]

_SCRATCH_PER_BYTE = 8  # The widest a byte of an answer gets in a cell: eight bools of one byte, or one scaled float64.
_READ_FRAMES = 8  # Frames that one read of a link takes at most.
_ARENAS = 2  # A reload builds the new plans beside the old ones (ARCHITECTURE, 5).
_TAGS_PER_EXCHANGE = 8  # Counted for plan arenas; real plans have 10 to 100.
_EXCHANGE_STATE_BYTES = 16  # bf_exchange_state
_BODY_RING_BYTES_MIN = 16  # The native byte ring holds two words at least, or there is none.


def table_limits(limits: Limits) -> records.TableLimits:
    """Sizes of the tag table; rings are rounded up to powers of two."""
    return _table_limits(limits.rows_count_max, limits.ring_changes_count, limits.ring_body_bytes, limits.cells_bytes)


def _table_limits(tags: int, ring_changes: int, ring_body_bytes: int, cell_bytes: int) -> records.TableLimits:
    bodies = _power_of_two(max(ring_body_bytes, _BODY_RING_BYTES_MIN)) if ring_body_bytes else 0
    return records.TableLimits(tags, _power_of_two(ring_changes), bodies, cell_bytes)


def scan_limits(limits: Limits) -> records.ScanLimits:
    """Sizes of the scan engine."""
    return records.ScanLimits(
        limits.links_count_max,
        limits.window_max,
        limits.frame_bytes_max,
        limits.frame_bytes_max,
        limits.oneshots_count_max,
        limits.frame_bytes_max * _SCRATCH_PER_BYTE,
    )


def shell_limits(limits: Limits) -> records.ShellLimits:
    """Sizes of the shell: its two queues and its read buffer."""
    return records.ShellLimits(
        limits.commands_count_max,
        limits.notices_count_max,
        limits.frame_bytes_max,
        limits.frame_bytes_max,
        limits.frame_bytes_max * _READ_FRAMES,
    )


class BackendSizes:
    """What `Limits.regions` asks about the native core, answered by one backend.

    Args:
        limits: Those whose memory is added up.
        backend: The backend that will allocate.
    """

    def __init__(self, limits: Limits, backend: contract.Backend = _selected) -> None:
        self._limits = limits
        self._backend = backend

    def table_bytes(self, tags: int, cells_bytes: int, ring_changes: int, ring_body_bytes: int) -> int:
        """Bytes of the tag table."""
        return self._backend.table_bytes(_table_limits(tags, ring_changes, ring_body_bytes, cells_bytes))

    def engine_bytes(self, links: int, window: int, frame_bytes: int, tags: int, queued: int) -> int:
        """Bytes of engine, shell and two plan arenas; links, window, frames and queues are those of the limits."""
        scan = scan_limits(self._limits)
        per_tag = records.DECODE.size + (records.EXCHANGE.size + _EXCHANGE_STATE_BYTES) // _TAGS_PER_EXCHANGE
        shell = self._backend.shell_bytes(shell_limits(self._limits), scan)
        return self._backend.scan_bytes(scan) + shell + _ARENAS * tags * per_tag


class Runtime:
    """Table and engine of one event loop. A context manager; `close` may be called twice.

    Args:
        limits: All sizes.
        backend: Which core to use; the one selected at import.
        seed: Of the engine's jitter, 64 bits; None: a random one.

    Attributes:
        limits: As given.
        backend: As given.
        table: The tag table.
        scan: The engine. It belongs to the shell while one runs.

    Raises:
        LimitError: The limits need more memory than they allow.
        ValueError: The limits are impossible for the core.
        MemoryError: There is less memory than allowed.
    """

    def __init__(self, limits: Limits, *, backend: contract.Backend = _selected, seed: int | None = None) -> None:
        limits.require_memory(BackendSizes(limits, backend))
        self.limits = limits
        self.backend = backend
        self.table = TagTable(backend.make_table(table_limits(limits)), limits.rows_count_max)
        self.scan = backend.make_scan(
            scan_limits(limits), self.table.native, secrets.randbits(64) if seed is None else seed
        )
        self.is_closed = False
        self._closers: list[Callable[[], None]] = []

    def make_shell(self) -> contract.Shell | None:
        """A thread that drives the engine, not started yet; None where the backend has none (asyncio serves then)."""
        return self.backend.make_shell(shell_limits(self.limits), scan_limits(self.limits), self.scan)

    def on_close(self, closer: Callable[[], None]) -> None:
        """`closer` is called by `close`, last registered first; it must not raise."""
        self._closers.append(closer)

    def close(self) -> None:
        """Stops whatever uses the engine. The table can still be read."""
        self.is_closed = True
        while self._closers:
            self._closers.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _power_of_two(count: int) -> int:
    """The least power of two that is not below `count`; the native rings have such sizes."""
    return 1 << max(count - 1, 0).bit_length()
