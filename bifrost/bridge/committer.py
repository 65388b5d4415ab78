"""The committer: the one task of an uplink that makes its journal durable, whenever somebody wants it.

Whoever appended or acknowledged says `want`; what came while one commit ran goes with the next, together. With each
commit the ledger is stored. A disk that fails or is full is tried again, at growing intervals, for ever: its records wait
in memory, and whoever appends finds no room there and does what `on_full` says.

Records and cursor are made durable by rules of their own. Records: with each commit, or at an interval, or never. The
cursor only says what need not be sent again: it is written with every commit, which survives a killed process, and synced
once a second or after as many acknowledgements as the destination's window holds, whichever comes first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from bifrost._native import journal_records as j
from bifrost.core.clock import Clock
from bifrost.core.errors import StorageError
from bifrost.core.log import fields
from bifrost.core.quantity import parse_duration_ns

if TYPE_CHECKING:
    from bifrost.bridge.age import AgeClock
    from bifrost.bridge.buffering.journal import Journal
    from bifrost.bridge.ledger import Ledger

__all__ = ["Committer", "Durability"]

_log = logging.getLogger("bifrost.bridge")

_CURSOR_SYNC_NS: Final = 1_000_000_000
_HOUSEKEEPING_S: Final = 30.0  # Records expire, although nothing comes and nothing goes.
_RETRY_MIN_S: Final = 0.1
_RETRY_MAX_S: Final = 5.0


class Durability(msgspec.Struct, frozen=True):
    """When records are synced: `interval_ns` after the last time at most; 0: with each commit; None: never."""

    interval_ns: int | None

    @classmethod
    def parse(cls, text: str) -> Durability:
        """From the configuration's text, which was checked: ``commit``, ``interval:1 s`` or ``none``."""
        if text == "none":
            return cls(None)
        return cls(parse_duration_ns(text.removeprefix("interval:")) if text != "commit" else 0)


class Committer:
    """Commits one journal.

    Args:
        name: Of the uplink, for log lines.
        journal: Open.
        ledger: Its ledger.
        clock: Monotonic time.
        age: Says when segments are begun, and which are too old.
        durability: When records are synced.
        window: Acknowledgements after which the cursor is synced, 1 or more.

    Attributes:
        failure: Why the last commit failed; empty: it did not.
        begun_count: Commits that have begun.
        saved_count: Of these, the number of the last one that wrote the cursor, from 1 on; a full disk does not keep it from that.
        busy_since_ns: Monotonic time at which the commit under way began; 0: none is.
        on_end: Called when a commit has ended, well or not.
    """

    def __init__(
        self,
        name: str,
        journal: Journal,
        ledger: Ledger,
        clock: Clock,
        age: AgeClock,
        *,
        durability: Durability,
        window: int,
    ) -> None:
        self._name = name
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._age = age
        self._durability = durability
        self._window = window
        self._wanted = asyncio.Event()
        self._synced_sequence = journal.report.durable_sequence
        self._synced_ns = self._cursor_synced_ns = clock.now_ns()
        self._acknowledged_count = 0
        self.failure = ""
        self.begun_count = 0
        self.saved_count = 0
        self.busy_since_ns = 0
        self.on_end: Callable[[], None] = _nothing

    @property
    def deliverable_sequence(self) -> int:
        """Last record that may be sent: it is as durable as it is ever going to be."""
        report = self._journal.report
        return report.written_sequence if self._durability.interval_ns is None else report.durable_sequence

    def want(self, acknowledged_count: int = 0) -> None:
        """There is something to commit, among it `acknowledged_count` acknowledgements."""
        self._acknowledged_count += acknowledged_count
        self._wanted.set()

    async def run(self) -> None:
        """Commits until it is cancelled."""
        retry_s = _RETRY_MIN_S
        while True:
            try:
                async with asyncio.timeout(self._wait_s()):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            try:
                await self.commit()
                retry_s = _RETRY_MIN_S
            except StorageError:
                self._wanted.set()
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _RETRY_MAX_S)

    def _wait_s(self) -> float:
        """Until something is to be synced, although nobody wants a commit."""
        interval_ns = self._durability.interval_ns
        if interval_ns and self._journal.report.written_sequence > self._synced_sequence:
            return max(0.0, (self._synced_ns + interval_ns - self._clock.now_ns()) / 1e9)
        return _CURSOR_SYNC_NS / 1e9 if self._acknowledged_count else _HOUSEKEEPING_S

    async def commit(self, *, is_last: bool = False) -> None:
        """Commits now; with `is_last` everything is synced.

        Raises:
            StorageError: The disk failed or is full; nothing is lost, a later commit tries again.
        """
        self._wanted.clear()
        now_ns, stamp_ns = self._clock.now_ns(), self._age.stamp_ns()
        flags, acknowledged_count = self._flags(now_ns, is_last), self._acknowledged_count
        appended_sequence = self._journal.appended_sequence
        self.begun_count += 1
        number = self.begun_count
        self.busy_since_ns = now_ns
        try:
            await self._journal.commit(
                now_ns=stamp_ns,
                counters=self._ledger.pack(stamp_ns),
                flags=flags,
                expire_before_ns=self._age.expire_before_ns(),
            )
            self.saved_count = number
            self._note_failure("")
        except StorageError as error:
            if self._journal.is_full:
                self.saved_count = number
                if flags & j.COMMIT_SYNC_CURSOR:
                    self._cursor_synced_ns = now_ns
            self._note_failure(str(error))
            raise
        finally:
            self.busy_since_ns = 0
            self._ledger.update(self._journal.report)
            self.on_end()
        if flags & j.COMMIT_SYNC:
            self._synced_sequence, self._synced_ns = appended_sequence, now_ns
        if flags & j.COMMIT_SYNC_CURSOR:
            self._acknowledged_count -= acknowledged_count
            self._cursor_synced_ns = now_ns

    def _flags(self, now_ns: int, is_last: bool) -> int:
        interval_ns = self._durability.interval_ns
        if interval_ns is None:
            return j.COMMIT_SYNC | j.COMMIT_SYNC_CURSOR if is_last else 0
        flags = 0
        is_new = self._journal.appended_sequence > self._synced_sequence
        if is_last or (is_new and now_ns - self._synced_ns >= interval_ns):
            flags |= j.COMMIT_SYNC
        is_due = now_ns - self._cursor_synced_ns >= _CURSOR_SYNC_NS or self._acknowledged_count >= self._window
        has_news = self._acknowledged_count > 0 or self._journal.is_full  # A full one has its counters there alone.
        if is_last or (has_news and is_due):
            flags |= j.COMMIT_SYNC_CURSOR
        return flags

    def _note_failure(self, failure: str) -> None:
        if failure and not self.failure:
            _log.error("the journal cannot be written", extra=fields(uplink=self._name, reason=failure))
        elif self.failure and not failure:
            _log.info("the journal is written again", extra=fields(uplink=self._name))
        self.failure = failure


def _nothing() -> None:
    """Nobody wants to know."""
