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

from bifrost._native.journal_records import JournalLimits, JournalRecord, JournalReport
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

    def retune(self, tags: array[int], deadbands: array[float], max_intervals: array[int]) -> int:
        """Gives defined rows (`I`) another deadband (`d`) and longest interval (`q`, ns), also while they are written."""
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

    def ring_count(self, tags: array[int]) -> tuple[int, int, int]:
        """Status, the ring's head, and how many of all changes before it are of `tags` (`I`), each named once."""
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


class JournalIO(Protocol):
    """The files of one directory, as a journal uses them; tests record the calls and let them fail.

    A call gives 0 or more, or the negative errno. None means the system's own calls.
    """

    def list(self) -> list[str]:
        """Names in the directory. Raises OSError."""
        ...

    def open(self, name: str, create: bool) -> int:
        """Descriptor of a file for reading and writing; `create`: it must not exist yet."""
        ...

    def close(self, fd: int) -> int:
        """Closes `fd`, whatever comes back."""
        ...

    def allocate(self, fd: int, size: int) -> int:
        """Makes the file `size` bytes long, with room on the disk for all of them. -EOPNOTSUPP does no harm."""
        ...

    def read(self, fd: int, offset: int, size: int) -> bytes | int:
        """Bytes from `offset` on, fewer at the end of the file only; or the negative errno."""
        ...

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Bytes written from `offset` on: at least 1, perhaps fewer than given."""
        ...

    def sync(self, fd: int) -> int:
        """Makes data and size of the file durable (fdatasync)."""
        ...

    def unlink(self, name: str) -> int:
        """Deletes a file."""
        ...

    def rename(self, name: str, new_name: str) -> int:
        """Renames a file over what may have the new name."""
        ...

    def sync_directory(self) -> int:
        """Makes created, deleted and renamed names durable."""
        ...


class Journal(Protocol):
    """The journal of one uplink: an append-only log in segment files, and the cursor of its one destination.

    Two sides. `stream`, `append`, `acknowledge` and `begin` work on memory alone and are called on one thread.
    `commit`, `read` and `close` use the disk, wait for it, and may be called on another thread, one at a time. `append`
    and `acknowledge` may be called while one of those runs; `stream`, `begin` and `report` may not.

    Records have sequence numbers from 1 on, without gaps. A record is `appended` (memory), then `written` (survives a
    kill), then `durable` (survives a power cut), then done with: acknowledged, or dropped for a reason. Segments whose
    records are all done with are deleted, after the cursor that says so is durable.
    """

    def stream(self, name: bytes) -> int:
        """Number (0 to 63) of the stream `name` (1 to 64 bytes of UTF-8), the same for the life of the store.

        E_FULL: the store has 64 streams. E_ARGUMENT: the name is empty or too long.
        """
        ...

    def append(self, stream: int, lane: int, samples: int, first_ns: int, last_ns: int, payload: Readable) -> int:
        """Adds one record to the batch in memory and gives its sequence number.

        `samples` is 1 to 65,535. E_FULL: the batch has no room before the next `begin`. E_ARGUMENT: the payload is
        longer than `record_bytes_max`, or the stream is not known.
        """
        ...

    def acknowledge(self, sequences: array[int], counts: array[int], samples: array[int], reason: int) -> int:
        """Says what is done with and why: arrays of `Q`, `I` and `I`, one entry for each record that `read` gave.

        In any order, and twice does no harm; what was dropped meanwhile is ignored. E_FULL: nothing was taken; call
        again after a commit.
        """
        ...

    def begin(self, counters: bytes, now_ns: int, expire_before_ns: int) -> int:
        """Hands what is in memory over to the next `commit`. OK, or PARTIAL when there is nothing to commit.

        While records of a failed commit still wait, the batch stays and they are tried again.

        Args:
            counters: Up to 256 bytes that come back after a restart, in `JournalReport.counters`. They go with the
                commit, not with the records: what waits in memory may be in them or not.
            now_ns: UTC nanoseconds for new segments; 0 while the clock is not trusted: they expire with the next that
                have a time.
            expire_before_ns: Segments that were full before this time are dropped with `DONE_WITH_AGE`; 0: none. A
                segment was full before any later one was begun, by whatever clock.
        """
        ...

    def commit(self, flags: int) -> int:
        """Writes what `begin` handed over, then makes it durable (COMMIT_SYNC). Moves the cursor and deletes segments.

        E_SYSTEM: a system call failed, `report().errno` says why. E_FULL: the disk cap is reached and dropping is not
        allowed. Both times nothing is lost and the next `begin` and `commit` try again.
        """
        ...

    def read(self, sequence: int, through: int, count: int) -> tuple[int, list[JournalRecord]]:
        """Status and up to `count` records from `sequence` on, up to `through` (inclusive) and to what is written.

        Records that a commit knows to be done with are skipped. Gives as many as fit into `batch_bytes`, one at least,
        and 1024 at most. A stretch that can't be read is told whole, also where it ends after `through`.
        Sequential reads go on where the last one ended. E_SYSTEM: what could be read before the failure is given.
        """
        ...

    def streams(self) -> list[bytes]:
        """Names of all streams of the store, by number."""
        ...

    def report(self) -> JournalReport:
        """Where the journal stands."""
        ...

    def close(self) -> int:
        """Commits nothing; makes the cursor durable with the mark of a clean end, and closes every file. Safe twice."""
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

    def tune_heap(self) -> int:
        """Has memory that is freed go back to the system, in all of the process; before much is allocated.

        Returns:
            OK, also where nothing can or need be done; E_SYSTEM: the C library refuses.
        """
        ...

    def journal_bytes(self, limits: JournalLimits) -> int:
        """Memory of a journal, in bytes; 0 when the limits are impossible."""
        ...

    def open_journal(
        self, directory: str, limits: JournalLimits, store_id: bytes, now_ns: int, io: JournalIO | None = None
    ) -> Journal:
        """Opens the journal in `directory`, which exists, or starts one with the identity `store_id` (16 random bytes).

        Whatever lies there, this succeeds: what is damaged is counted, set aside or deleted, and `report().alarms`
        tells. Reads the last segment only, with bounded memory. Waits for the disk.

        Raises:
            ValueError: The limits are impossible.
            OSError: Something can't be read just now; nothing that matters was changed, and a later try may succeed.
                With `JOURNAL_SALVAGE` what can't be read is set aside, unless nothing can.
        """
        ...
