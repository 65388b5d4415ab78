"""The journal of one uplink as the outbox uses it: `append` at once, `commit` and `read` awaited.

The idea: the native journal has two sides, memory and disk. Memory belongs to the event loop and never waits; the disk
belongs to one thread, which all journals of the process share, since they share the disk. So a card that takes a second
to sync delays what is committed, never the loop. Jobs of one journal never overlap: commits that come while one runs
are answered by the next one, all together (group commit).

A cancelled `commit` or `read` leaves its job to end by itself; the next job waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bifrost._native import backend
from bifrost._native import journal_records as j
from bifrost._native import records as r
from bifrost.core.errors import LimitError, StorageError

if TYPE_CHECKING:
    from bifrost._native import contract
    from bifrost._native.journal_records import JournalLimits, JournalRecord, JournalReport

__all__ = ["Journal", "SyncThread"]

_STORE_ID_BYTES: Final = 16

T = TypeVar("T")


class SyncThread:
    """The one thread that waits for the disk. Made by the gateway, given to every journal, closed after them."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bifrost-journal")

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Runs `call` on the thread, after all that was submitted before; the future is the running loop's."""
        return asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """Ends the thread after its last job. Waits for that. Safe to call twice."""
        self._executor.shutdown()


class Journal:
    """One journal, open. Made by `open`.

    Attributes:
        report: Where it stood after the last job.
        is_full: Whether the last commit failed for want of room alone: records wait, the cursor was written.
    """

    def __init__(self, native: contract.Journal, thread: SyncThread) -> None:
        self._native = native
        self._thread = thread
        self._job: asyncio.Future[Any] | None = None
        self._is_closed = False
        self._appended = native.report().next_sequence - 1
        self.report: JournalReport = native.report()
        self.is_full = False

    @classmethod
    async def open(
        cls,
        directory: Path,
        limits: JournalLimits,
        thread: SyncThread,
        *,
        now_ns: int,
        io: contract.JournalIO | None = None,
        native: contract.Backend = backend,
    ) -> Journal:
        """Opens the journal in `directory`, which is made if it is missing. What lies there is never a reason to fail.

        Args:
            directory: `data_dir/journal/<uplink>`, used by nobody else.
            limits: Its sizes. With the flag `JOURNAL_SALVAGE` files that can't be read are set aside: for a caller whom
                opening has failed for a minute, so that no person is needed.
            thread: Where its disk work runs.
            now_ns: UTC nanoseconds; 0 while the clock is not trusted.
            io: Files that a test records or lets fail; None: the system's.
            native: The backend; another one in tests only.

        Raises:
            StorageError: The directory can't be made, or the disk gives nothing just now; a later try may succeed.
            ValueError: The limits are impossible.
        """

        def work() -> contract.Journal:
            directory.mkdir(parents=True, exist_ok=True)
            return native.open_journal(str(directory), limits, os.urandom(_STORE_ID_BYTES), now_ns, io)

        try:
            return cls(await thread.submit(work), thread)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StorageError(f"the journal in {directory} can't be opened: {reason}") from error

    async def stream(self, name: str) -> int:
        """Number of the stream `name`, as `append` takes it; the same for the life of the store. Waits for a job.

        Raises:
            LimitError: The store has had 64 streams already.
            ValueError: The name is empty or longer than 64 bytes.
        """
        await self._settle()
        number = self._native.stream(name.encode())
        if number == r.E_FULL:
            raise LimitError("journal_streams_max", j.JOURNAL_STREAMS_MAX, f"no room for the stream {name!r}")
        if number < 0:
            raise ValueError(f"a stream can't be called {name!r}")
        return number

    async def streams(self) -> list[str]:
        """Names of all streams that the store has had, by number. Waits for a job."""
        await self._settle()
        return [name.decode(errors="replace") for name in self._native.streams()]

    @property
    def appended_sequence(self) -> int:
        """Sequence number of the last record appended; 0: none yet."""
        return self._appended

    def append(
        self, stream: int, payload: bytes, samples: int, first_ns: int, last_ns: int, *, lane: int = j.LANE_LIVE
    ) -> int | None:
        """Adds one record to the batch in memory: its sequence number, or None while the batch is full.

        Args:
            stream: What `stream` gave.
            payload: Up to `record_bytes_max` bytes.
            samples: How many samples it holds, 1 to 65,535.
            first_ns: Time of the earliest, UTC nanoseconds.
            last_ns: Time of the latest.
            lane: `LANE_LIVE` or `LANE_BACKFILL`.

        Raises:
            ValueError: An argument is outside its range.
        """
        sequence = self._native.append(stream, lane, samples, first_ns, last_ns, payload)
        if sequence == r.E_FULL:
            return None
        if sequence < 0:
            raise ValueError(f"no record of {len(payload)} bytes with {samples} samples in stream {stream}")
        self._appended = sequence
        return sequence

    def acknowledge(self, records: Sequence[JournalRecord], reason: int = j.DONE_WITH_ACKNOWLEDGED) -> bool:
        """Says that `records`, as `read` gave them, are done with; saying so twice does no harm.

        A damaged stretch counts as damaged, whatever `reason` (one of `DONE_WITH_…`) says of the rest. False: there
        were too many since the last commit (`acknowledgements_count_max`), call again after one.
        """
        data = [record for record in records if record.type == j.RECORD_DATA]
        damaged = [record for record in records if record.type == j.RECORD_DAMAGED]
        return self._done_with(data, reason) and self._done_with(damaged, j.DONE_WITH_DAMAGED)

    def _done_with(self, records: Sequence[JournalRecord], reason: int) -> bool:
        sequences = array("Q", [record.sequence for record in records])
        counts = array("I", [record.records for record in records])
        samples = array("I", [record.samples for record in records])
        return self._native.acknowledge(sequences, counts, samples, reason) == r.OK

    async def commit(
        self, *, now_ns: int, counters: bytes = b"", flags: int = j.COMMIT_SYNC, expire_before_ns: int = 0
    ) -> JournalReport:
        """Writes what was appended and acknowledged before the call, and tells where the journal stands.

        Args:
            now_ns: UTC nanoseconds for new segments; 0 while the clock is not trusted: they expire with the next that
                have a time.
            counters: Up to 256 bytes that come back after a restart, in `report.counters`.
            flags: `COMMIT_SYNC` to make the records durable, `COMMIT_SYNC_CURSOR` for the cursor; 0: a killed process
                loses nothing, a power cut may.
            expire_before_ns: Segments filled before this time are dropped and counted as `DONE_WITH_AGE`; 0: none.

        Raises:
            StorageError: The disk failed or is full. What was on it stays, what was to be written waits in memory and
                is tried by the next commit; `report` is up to date all the same.
        """
        await self._settle()
        self._require_open()
        begun = self._native.begin(counters, now_ns, expire_before_ns)
        if begun == r.E_ARGUMENT:
            raise ValueError(f"{len(counters)} bytes of counters")
        if begun == r.PARTIAL and not flags & j.COMMIT_SYNC_CURSOR:
            return self.report
        status = await self._run(lambda: self._native.commit(flags))
        self.report = self._native.report()
        no_room = status == r.E_SYSTEM and self.report.errno in (errno.ENOSPC, errno.EDQUOT)
        self.is_full = no_room or status == r.E_FULL
        if status == r.E_FULL:
            raise StorageError("the journal is at its disk cap; its records wait in memory")
        if status != r.OK:
            reason = os.strerror(self.report.errno)
            raise StorageError(f"the journal can't be written: {reason}; its records wait in memory")
        return self.report

    async def read(self, sequence: int, through: int, count: int) -> list[JournalRecord]:
        """Up to `count` records from `sequence` on, up to `through` (inclusive) and to what is written.

        What a commit knows to be done with is skipped. An empty list: there is no more. A stretch that can't be read
        comes as one record of type `RECORD_DAMAGED`, to be acknowledged like any other.

        Raises:
            StorageError: The disk can't be read just now, and nothing could be given.
        """
        await self._settle()
        self._require_open()
        status, records = await self._run(lambda: self._native.read(sequence, through, count))
        if status != r.OK and not records:
            reason = os.strerror(self._native.report().errno)
            raise StorageError(f"the journal can't be read: {reason}")
        return records

    async def close(self) -> None:
        """Makes the cursor durable with the mark of a clean end and closes the files; commits nothing. Safe twice."""
        await self._settle()
        if not self._is_closed:
            self._is_closed = True
            await self._run(self._native.close)
            self.report = self._native.report()

    def _require_open(self) -> None:
        if self._is_closed:
            raise ValueError("the journal is closed")

    async def _settle(self) -> None:
        """Waits until no job runs. There is none until the caller's next await."""
        while self._job is not None and not self._job.done():
            await asyncio.wait({self._job})

    async def _run(self, call: Callable[[], T]) -> T:
        """Runs one job; to be called with no await after `_settle`. If cancelled the job ends by itself."""
        job = self._thread.submit(call)
        self._job = job
        await asyncio.wait({job})
        return job.result()
