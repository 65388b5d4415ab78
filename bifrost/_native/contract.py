"""What both backends offer: every name, signature and docstring, written once, here only.

`_c.py` (over the compiled module) and `_py.py` (pure Python) are checked against these protocols by mypy and against
each other by differential tests: same bytes in, same status and bytes out. Bad input is never an exception here: calls
return a status of `records`. The semantics of each call stand beside its C twin in `csrc/bifrost.h`; here is what
differs in Python.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from bifrost._native.records import Action, Counters, Event, ScanLimits, ShellLimits, TableLimits

Readable = bytes | bytearray | memoryview
Writable = bytearray | memoryview | array  # type: ignore[type-arg]  # any item type: the C side sees bytes

AnswerDecoder = Callable[[bytes, int], int]


class Table(Protocol):
    """The tag table and its change ring."""

    def define(
        self,
        first: int,
        kinds: bytes,
        deadbands: array[float],
        max_intervals: array[int],
        cell_sizes: array[int],
    ) -> int:
        """Defines `len(kinds)` rows from `first` on: arrays of `d`, `q` (ns) and `I` (bytes), of one length."""
        ...

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
        """Writes a batch of scalars: arrays of `I`, `Q` (bits by kind) and `I`."""
        ...

    def put_bytes(
        self, tag: int, data: Readable, status: int, source_time: int, server_time: int, now_ns: int, flags: int
    ) -> int:
        """Writes one text or array."""
        ...

    def mark(self, tags: array[int], status: int, rule: int, server_time: int, now_ns: int, flags: int) -> int:
        """Sets only the status of `tags` (`I`), by `MARK_…` rule."""
        ...

    def scatter(
        self, body: Readable, walk: int, entries: Readable, source_time: int, server_time: int, now_ns: int, flags: int
    ) -> int:
        """Decodes `body` by packed `bf_decode` entries straight into the table."""
        ...

    def read(self, tags: array[int]) -> bytes:
        """Packed `bf_slot` of each of `tags` (`I`), 32 bytes each; empty when a tag is out of range."""
        ...

    def read_bytes(self, tag: int) -> tuple[int, bytes, bytes]:
        """Status, packed slot, and bytes of a text or array."""
        ...

    def ring_head(self) -> int:
        """Position after the newest change."""
        ...

    def ring_read(self, position: int, count: int) -> tuple[int, int, bytes]:
        """New position, changes missed, and up to `count` packed `bf_change` records."""
        ...

    def ring_bytes(self, change: Readable) -> tuple[int, bytes]:
        """Status (`OK` or `LOST`) and bytes of the text or array of one packed change."""
        ...


class Scan(Protocol):
    """The scan engine: sans-IO, no clock, no thread."""

    def step(self, now_ns: int, events: Sequence[Event]) -> tuple[list[Action], int]:
        """Takes all `events` at monotonic `now_ns`; gives the actions in order and the latest time to call again."""
        ...

    def counters(self, link: int) -> Counters:
        """Counters of `link`."""
        ...


class Shell(Protocol):
    """The thread that carries out what `Scan` says. Owns the Scan from `start` to `stop`."""

    def start(self) -> None:
        """Starts the thread. Raises OSError when the system refuses."""
        ...

    def post(self, event: Event) -> int:
        """Hands one event over; `OK` or `E_FULL`. With `EVENT_OPEN` the descriptor in `value` becomes the shell's."""
        ...

    def take(self) -> Action | None:
        """The next notice, or None."""
        ...

    def fileno(self) -> int:
        """Descriptor that is readable while notices wait."""
        ...

    def dropped(self) -> int:
        """EXCHANGE notices dropped because nobody took them."""
        ...

    def cpu_ns(self) -> int:
        """CPU time of the thread, in nanoseconds."""
        ...

    def stop(self) -> None:
        """Ends the thread and closes every descriptor. Safe to call twice."""
        ...


class Backend(Protocol):
    """A backend module."""

    @property
    def BACKEND(self) -> str:  # noqa: N802  # a module constant
        """`"c"` or `"py"`."""
        ...

    def crc16(self, data: Readable) -> int:
        """CRC-16/MODBUS of `data`."""
        ...

    def modbus_answer_decoder(
        self, unit: int, function: int, count: int, type_code: int, order: int, out: Writable
    ) -> AnswerDecoder:
        """Prepares to check whole answers to one read and to decode their bodies into `out`, which it keeps.

        The decoder takes a frame and its transaction number and gives a status; `out` is written only with `OK`. With
        `E_EXCEPTION` the code is `frame[8]`.
        """
        ...

    def gather(
        self, body: Readable, walk: int, entries: Readable, bytes_max: int
    ) -> tuple[int, array[int], array[int], bytes]:
        """Decodes `body` by packed entries: status, values (`Q`), StatusCodes (`I`), bytes of texts and arrays."""
        ...

    def table_bytes(self, limits: TableLimits) -> int:
        """Memory of a table, in bytes; 0 when the limits are impossible."""
        ...

    def make_table(self, limits: TableLimits) -> Table:
        """A new table. Raises ValueError when the limits are impossible, MemoryError when there is no memory."""
        ...

    def scan_bytes(self, limits: ScanLimits) -> int:
        """Memory of an engine, in bytes."""
        ...

    def make_scan(self, limits: ScanLimits, table: Table, seed: int) -> Scan:
        """A new engine that writes `table`; `seed` drives its jitter."""
        ...

    def shell_bytes(self, limits: ShellLimits, scan_limits: ScanLimits) -> int:
        """Memory of a shell, in bytes; 0 where this backend has none."""
        ...

    def make_shell(self, limits: ShellLimits, scan_limits: ScanLimits, scan: Scan) -> Shell | None:
        """A new shell for `scan`; None where this backend has none (the asyncio shell of `plc.scan` serves instead)."""
        ...
