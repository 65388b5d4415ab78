"""Delivery: committed records go out in order, and the cursor moves only by what the destination answers.

This is the one place that tries again. A connector opens, sends, answers; it is asked for by backoff with full jitter, and
after several failures in a row by the circuit breaker's probes. Of each record the destination says one of three things:

* *delivered*: it is done with, and acknowledged in the journal;
* *again* (or the connection is lost): everything that is out is sent again, from the first record without an answer on;
* *refused*: it will never be taken. A copy goes to the quarantine, the samples count as dropped, the others go on.

A record that is longer than the destination takes goes out in parts, and is done with when all of them are. For one at
which every try fails see `suspicion`.

States: waiting (for the next try), connecting, connected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from bifrost._native import journal_records as j
from bifrost.bridge.age import PLAUSIBLE_NS
from bifrost.bridge.envelope import open_envelope
from bifrost.bridge.suspicion import Suspicion
from bifrost.bridge.transformers.parts import split
from bifrost.bridge.window import Window
from bifrost.core.contracts import Ack, Connector, Outcome, Record
from bifrost.core.errors import BifrostError, StorageError
from bifrost.core.log import fields
from bifrost.core.retry import Backoff, BreakerState, CircuitBreaker
from bifrost.core.secrets import SECRETS

if TYPE_CHECKING:
    from bifrost._native.journal_records import JournalRecord
    from bifrost.bridge.age import AgeClock
    from bifrost.bridge.buffering.journal import Journal
    from bifrost.bridge.committer import Committer
    from bifrost.bridge.quarantine import Quarantine
    from bifrost.core.clock import Clock

__all__ = ["Delivery", "DeliverySettings", "DeliveryState"]

_log = logging.getLogger("bifrost.bridge")

_RETRY_MIN_NS: Final = 1_000_000_000
_RETRY_MAX_NS: Final = 30_000_000_000
_BREAKER_FAILURES: Final = 5
_BREAKER_OPEN_NS: Final = 15_000_000_000
_STEADY_NS: Final = 10_000_000_000  # A connection that lasted this long was a success, also without a record.
_LOOK_S: Final = 0.5  # How soon a connection that was lost while nothing was sent is missed.
_CLOSE_TIMEOUT_S: Final = 0.5  # A stop of the gateway takes less than 2 s.
_NS_PER_S: Final = 1_000_000_000
_CUT: Final = 4  # A part of a suspect is this much shorter than the part before.
_SEVERITY: Final = {Outcome.DELIVERED: 0, Outcome.REFUSED: 1, Outcome.AGAIN: 2}


class DeliveryState(StrEnum):
    """What a delivery is doing."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class DeliverySettings(NamedTuple):
    """Bounds of a delivery.

    Attributes:
        records_out_max: Records out or not yet known to the disk as done with, whatever the destination would take.
        bytes_out_max: Payload bytes out; reached by at most one read of the journal too much.
    """

    records_out_max: int
    bytes_out_max: int


class Delivery:
    """The way from journal to destination of one uplink.

    Args:
        name: Of the uplink.
        journal: Open.
        connector: To the destination, closed.
        committer: Of the journal; its `on_end` is taken.
        quarantine: For what the destination refuses.
        clock: Monotonic time and UTC.
        age: Says which records are too old to be sent.
        settings: Bounds.
        chance: Uniform numbers in [0, 1), for the jitter.

    Attributes:
        state: What it is doing.
        reason: Why it is not connected.
        connects_count: Connections made.
        resent_count: Records sent again.
    """

    def __init__(
        self,
        name: str,
        journal: Journal,
        connector: Connector,
        committer: Committer,
        quarantine: Quarantine,
        clock: Clock,
        age: AgeClock,
        settings: DeliverySettings,
        chance: Callable[[], float],
    ) -> None:
        self._name = name
        self._journal = journal
        self._connector = connector
        self._committer = committer
        self._quarantine = quarantine
        self._clock = clock
        self._age = age
        self._settings = settings
        self._store = journal.report.store_id.hex()
        self._stream_names: Sequence[str] = ()
        self._window = Window(journal.report.base_sequence)
        self._suspicion = Suspicion()
        self._backoff = Backoff(_RETRY_MIN_NS, _RETRY_MAX_NS, chance)
        self._breaker = CircuitBreaker(_BREAKER_FAILURES, _BREAKER_OPEN_NS)
        self._wake = asyncio.Event()
        self._is_again = ""
        self._free_at_ns = 0
        self._sent_sequence = self._window.next_sequence - 1
        committer.on_end = self._on_commit
        self.state = DeliveryState.WAITING
        self.reason = ""
        self.connects_count = 0
        self.resent_count = 0

    @property
    def out_count(self) -> int:
        """Records without an answer."""
        return self._window.out_count

    @property
    def breaker_state(self) -> BreakerState:
        """State of the circuit breaker."""
        return self._breaker.state

    @property
    def payload_bytes_max(self) -> int:
        """Longest message that the destination takes, as far as is known; longer records are sent in parts."""
        return min(self._connector.capabilities.payload_bytes_max, self._suspicion.payload_bytes_max)

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        self._stream_names = await self._journal.streams()
        if self._breaker.state is BreakerState.HALF_OPEN:
            self._breaker.failed(self._clock.now_ns())  # Of its probe nobody will ever tell: it was cancelled.
        try:
            while True:
                await self._connect()
                connected_ns = self._clock.now_ns()
                await self._drain()
                held = self._suspicion.held_sequence
                self._suspicion.failed(self._window.first_out_sequence)
                self._window.rewind(held)
                if self._clock.now_ns() - connected_ns >= _STEADY_NS:
                    self._succeeded()
                await self._fail(self._is_again or "the connection was lost")
        finally:
            self.state = DeliveryState.WAITING
            self._window.rewind(self._suspicion.held_sequence)
            self._suspicion.clear()
            await self._close()

    # ---- connection

    async def _connect(self) -> None:
        while not self._connector.is_open:
            now_ns = self._clock.now_ns()
            if not self._breaker.allows(now_ns):
                await asyncio.sleep(_LOOK_S)
                continue
            self.state = DeliveryState.CONNECTING
            try:
                await self._connector.open()
            except (BifrostError, OSError) as error:
                await self._fail(str(error))
                continue
            self.connects_count += 1
            _log.info("uplink is connected", extra=fields(uplink=self._name))
        self.state = DeliveryState.CONNECTED
        self.reason = ""
        self._is_again = ""

    async def _fail(self, reason: str) -> None:
        """Something failed: waits before the next try."""
        reason = SECRETS.redacted(reason)
        is_new = self.state is not DeliveryState.WAITING and reason != self.reason
        self.reason = reason
        self._breaker.failed(self._clock.now_ns())
        delay_s = self._backoff.next_delay_ns() / _NS_PER_S
        if is_new:
            _log.warning("uplink is not connected", extra=fields(uplink=self._name, reason=reason, retry_in_s=delay_s))
        self.state = DeliveryState.WAITING
        if not self._connector.is_open:
            await self._close()
        await asyncio.sleep(delay_s)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._connector.close()
        except (BifrostError, OSError, TimeoutError) as error:
            _log.warning("uplink was not closed cleanly", extra=fields(uplink=self._name, reason=error))

    # ---- records

    async def _drain(self) -> None:
        """Sends until the connection is lost or something is to be sent again; every call of `send` has ended then."""
        async with asyncio.TaskGroup() as group:
            while self._connector.is_open and not self._is_again:
                self._wake.clear()
                records = await self._next()
                if records:
                    group.create_task(self._send(records), name=f"uplink {self._name} send {records[0].sequence}")
                else:
                    await self._rest()

    async def _rest(self) -> None:
        """Waits for an answer, for a commit, or for a while."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _next(self) -> Sequence[Record]:
        """The records to send now; none when the window is full or there are no more."""
        window, settings = self._window, self._settings
        through = self._committer.deliverable_sequence
        records: list[Record] = []
        while (
            not records
            and (room := self._room()) > 0
            and window.next_sequence <= through
            and window.out_bytes < settings.bytes_out_max
        ):
            try:
                read = await self._journal.read(window.next_sequence, through, room)
            except StorageError as error:
                _log.error("the journal cannot be read", extra=fields(uplink=self._name, reason=error))
                return ()
            if not read:
                window.next_sequence = through + 1  # All of them are done with.
            expire_before_ns = self._age.expire_before_ns()
            opened = [record for kept in read if (record := self._opened(kept, expire_before_ns)) is not None]
            records = [record for record in opened if not self._is_held(record, through)]
        for record in records:
            window.sent(record.sequence, len(record.payload))
            self.resent_count += record.sequence <= self._sent_sequence
            self._sent_sequence = max(self._sent_sequence, record.sequence)
        await self._pace(len(records), self._connector.capabilities.records_per_second_max)
        return records

    def _room(self) -> int:
        """How many more records may be out."""
        if self._suspicion.is_alone:
            return self._window.room(1)
        return self._window.room(min(self._connector.capabilities.in_flight_max, self._settings.records_out_max))

    async def _pace(self, records_count: int, per_second_max: float) -> None:
        """Waits until `records_count` more records may leave."""
        if records_count and per_second_max:
            now_ns = self._clock.now_ns()
            await asyncio.sleep(max(0, self._free_at_ns - now_ns) / _NS_PER_S)
            self._free_at_ns = max(self._free_at_ns, now_ns) + int(records_count / per_second_max * _NS_PER_S)

    def _opened(self, kept: JournalRecord, expire_before_ns: int) -> Record | None:
        """The message in a record; None when it is done with, or is no message and by that done with."""
        self._window.next_sequence = max(self._window.next_sequence, kept.sequence + kept.records)
        if self._window.is_done(kept.sequence):
            return None
        if kept.type == j.RECORD_DAMAGED:
            _log.error("records were damaged", extra=fields(uplink=self._name, first=kept.sequence, count=kept.records))
            self._done(kept, j.DONE_WITH_DAMAGED)
            return None
        if PLAUSIBLE_NS <= kept.last_ns < expire_before_ns:
            self._done(kept, j.DONE_WITH_AGE)
            return None
        try:
            record = open_envelope(kept, self._store, self._stream_names[kept.stream])
        except ValueError as error:
            _log.error("a record is no message", extra=fields(uplink=self._name, reason=error))
            self._done(kept, j.DONE_WITH_QUARANTINE)
            return None
        return record

    def _is_held(self, record: Record, through: int) -> bool:
        """Whether the record is the suspect and not to be sent now: it was refused, or the next one is tried."""
        suspicion = self._suspicion
        if record.sequence != suspicion.suspect_sequence:
            return False
        if suspicion.is_guilty:
            suspicion.clear()
            self._refuse(record, f"every try fails at it, and others pass: {self.reason}")
            return True
        payload_bytes_max = min(len(record.payload), self.payload_bytes_max) // _CUT
        details = fields(uplink=self._name, sequence=record.sequence, payload_bytes_max=payload_bytes_max)
        if len(split(record, payload_bytes_max)) > len(split(record, self.payload_bytes_max)):
            suspicion.shorten(payload_bytes_max)
            _log.warning("every try fails at a message: it is tried in shorter parts", extra=details)
        elif record.sequence < through:
            suspicion.hold()
        return suspicion.held_sequence != 0

    async def _send(self, records: Sequence[Record]) -> None:
        try:
            parts = [part for record in records for part in split(record, self.payload_bytes_max)]
            worst: dict[int, Ack] = {}
            for ack in await self._connector.send(parts):
                before = worst.get(ack.sequence, ack)
                worst[ack.sequence] = max(before, ack, key=lambda one: _SEVERITY[one.outcome])
            for record in records:
                self._settle(record, worst[record.sequence])
        finally:
            self._wake.set()

    def _settle(self, record: Record, ack: Ack) -> None:
        if ack.outcome is Outcome.AGAIN:
            self._is_again = self._is_again or ack.reason or "the destination asks to send again"
            return
        held = self._suspicion.held_sequence
        self._suspicion.answered(record.sequence)
        if ack.outcome is Outcome.DELIVERED:
            self._succeeded()
            self._done(_kept(record), j.DONE_WITH_ACKNOWLEDGED)
        else:
            self._refuse(record, ack.reason)
        if held and not self._suspicion.held_sequence:
            self._window.next_sequence = held

    def _refuse(self, record: Record, reason: str) -> None:
        """The destination will never take the record."""
        is_kept = self._quarantine.keep(record, reason, self._clock.utc_ns())
        details = fields(uplink=self._name, sequence=record.sequence, topic=record.topic, reason=reason, kept=is_kept)
        _log.error("the destination refused a message", extra=details)
        self._done(_kept(record), j.DONE_WITH_QUARANTINE)

    def _succeeded(self) -> None:
        self._backoff.succeeded()
        self._breaker.succeeded()

    def _done(self, kept: JournalRecord, reason: int) -> None:
        """The record is done with; the window holds fewer records than the journal takes acknowledgements."""
        is_taken = self._journal.acknowledge([kept], reason)
        assert is_taken, "more acknowledgements than the window holds"
        self._window.done(kept.sequence, self._committer.begun_count)
        self._committer.want(kept.records)

    def _on_commit(self) -> None:
        self._window.saved(self._committer.saved_count)
        self._wake.set()


def _kept(record: Record) -> JournalRecord:
    """What `Journal.acknowledge` looks at."""
    return j.JournalRecord(record.sequence, j.RECORD_DATA, 1, 0, j.LANE_LIVE, record.samples_count, 0, 0, b"")
