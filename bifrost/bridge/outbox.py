"""The outbox of one uplink: changes from the ring become messages in the journal, before anything else is done with them.

    ring ── pull ──► staging ── write (encode) ──► pages ──► journal's memory ── committer ──► disk

Nothing here waits for the disk. When the disk is slow, full or broken, the journal's memory fills and takes no more:

* `drop_oldest`: the journal itself makes room on the disk; while the disk fails altogether it is as with `block`;
* `drop_newest`: what finds no room is dropped and counted as `cap`;
* `block`: the outbox stops reading; what is overwritten in the ring meanwhile is counted as `lapped`.

Each message is one record of the journal, and the number in its payload is the record's. So a destination can see that
nothing is missing, and the journal can forget messages one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from bifrost.bridge.envelope import VOID, seal
from bifrost.bridge.ledger import Ledger, Reason
from bifrost.bridge.quarantine import Quarantine
from bifrost.bridge.staging import Staging
from bifrost.bridge.stream import Stream
from bifrost.core.contracts import Record

if TYPE_CHECKING:
    from bifrost.bridge.buffering.journal import Journal
    from bifrost.bridge.committer import Committer
    from bifrost.bridge.transformers.samples import Encoder
    from bifrost.core.clock import Clock

__all__ = ["Outbox", "OutboxSettings"]

_TICK_MAX_S: Final = 0.02  # The ring must be read before it laps: 4096 changes last 20 ms at 200,000 a second.
_TICK_MIN_S: Final = 0.002
_READ_CHANGES_MAX: Final = 1024  # At once: some milliseconds of the event loop.


class OutboxSettings(NamedTuple):
    """How an outbox batches.

    Attributes:
        linger_ns: How long a sample waits for others.
        batch_bytes_max: Messages are not longer; a batch whose samples would about fill one is written at once.
        drops_newest: Whether `on_full` is `drop_newest`.
        sample_bytes: About how long a sample is in a message, to begin with; it learns.
    """

    linger_ns: int
    batch_bytes_max: int
    drops_newest: bool
    sample_bytes: int = 150


class Outbox:
    """The way from ring to journal of one uplink.

    Args:
        stream: Its changes.
        staging: For its samples, empty.
        encoder: Makes messages.
        journal: Open.
        number: Of the stream in the journal.
        ledger: Where everything is counted.
        committer: Of the journal.
        quarantine: For messages the journal cannot hold.
        clock: Monotonic time and UTC.
        settings: How to batch.
        payload_bytes_max: Gives the longest message that the destination takes, as far as is known.
    """

    def __init__(
        self,
        stream: Stream,
        staging: Staging,
        encoder: Encoder,
        journal: Journal,
        number: int,
        ledger: Ledger,
        committer: Committer,
        quarantine: Quarantine,
        clock: Clock,
        settings: OutboxSettings,
        payload_bytes_max: Callable[[], int],
    ) -> None:
        self._stream = stream
        self._staging = staging
        self._encoder = encoder
        self._journal = journal
        self._number = number
        self._ledger = ledger
        self._committer = committer
        self._quarantine = quarantine
        self._clock = clock
        self._settings = settings
        self._payload_bytes_max = payload_bytes_max
        self._sample_bytes: float = settings.sample_bytes
        self._staged_since_ns = 0
        self._messages: deque[_Message] = deque()

    async def run(self) -> None:
        """Reads, encodes and appends until it is cancelled; what is staged then stays, for `flush`."""
        tick_s = min(max(self._settings.linger_ns / 1e9, _TICK_MIN_S), _TICK_MAX_S)
        while True:
            is_more = self.step(self._clock.now_ns())
            await asyncio.sleep(0 if is_more else tick_s)

    def step(self, now_ns: int, *, is_last: bool = False) -> bool:
        """Reads what there is, and writes a batch when it is due; with `is_last` it is due. True: there is more."""
        is_more = self._pull(now_ns)
        if self._messages or (len(self._staging) and (is_last or self._is_due(now_ns))):
            self._write()
        return is_more and not self._messages

    @property
    def is_empty(self) -> bool:
        """Whether everything that was read is in the journal's memory, and the ring is read."""
        return not self._messages and not len(self._staging) and self._stream.waiting_count() == 0

    def waiting_count(self) -> int:
        """Samples in the ring, not read yet."""
        return self._stream.waiting_count()

    def give_up(self, *, with_ring: bool) -> None:
        """The buffer is full, and nobody will come back to what it did not take; `with_ring`: nor to what is in the ring."""
        ledger = self._ledger
        if with_ring:
            ledger.lose(Reason.CAP, self.waiting_count() - ledger.overwritten)
            ledger.lose(Reason.LAPPED, ledger.overwritten)
            ledger.overwritten = 0
        ledger.give_up()

    # ---- from the ring to staging

    def _pull(self, now_ns: int) -> bool:
        room = self._staging.room
        if room == 0 or self._messages:
            return False
        suppressed, read = self._stream.suppressed_count, self._stream.read_count
        changes = self._stream.read(min(room, _READ_CHANGES_MAX))
        if changes.changes_count and not len(self._staging):
            self._staged_since_ns = now_ns
        self._staging.add(changes)
        self._ledger.staged += changes.changes_count
        self._ledger.lose(Reason.DEADBAND, self._stream.suppressed_count - suppressed)
        if changes.missed:
            self._ledger.lose(Reason.LAPPED, changes.missed)
            self._committer.want()
        return self._stream.read_count - read > 0

    def _is_due(self, now_ns: int) -> bool:
        if now_ns - self._staged_since_ns >= self._settings.linger_ns or self._staging.room == 0:
            return True
        return len(self._staging) * self._sample_bytes >= self._settings.batch_bytes_max

    # ---- from staging to the journal

    def _write(self) -> None:
        if not self._messages:
            self._encode()
        appended = False
        while self._messages and self._append(self._messages[0]):
            self._messages.popleft()
            appended = True
        if self._messages and self._settings.drops_newest and self._committer.failure:
            self._drop_newest()
        if appended or self._messages:
            self._committer.want()

    def _encode(self) -> None:
        samples = self._staging.take()
        sequence = self._journal.appended_sequence + 1
        # When they came, by the gateway's clock: a device with a wrong clock has no old samples.
        first_ns, last_ns = min(samples.server_times_ns), max(samples.server_times_ns)
        self._encoder.message_bytes_max = min(self._settings.batch_bytes_max, self._payload_bytes_max())
        records = self._encoder.encode(sequence, samples)
        self._messages.extend(_Message(record, first_ns, last_ns) for record in records)
        encoded_bytes = sum(len(record.payload) for record in records)
        self._sample_bytes += (encoded_bytes / len(samples.tags) - self._sample_bytes) / 8

    def _append(self, message: _Message) -> bool:
        """False: there is no room now."""
        record = message.record
        try:
            sequence = self._put(seal(record), message)
        except ValueError as error:  # It keeps its number, so that those after it have the right one.
            sequence = self._put(VOID, message)
            if sequence is not None:
                self._quarantine.keep(record, str(error), self._clock.utc_ns())
        if sequence is None:
            return False
        assert sequence == record.sequence, (sequence, record.sequence)
        self._ledger.journal(record.samples_count)
        return True

    def _put(self, kept: bytes, message: _Message) -> int | None:
        return self._journal.append(self._number, kept, message.record.samples_count, message.first_ns, message.last_ns)

    def _drop_newest(self) -> None:
        count = sum(message.record.samples_count for message in self._messages)
        self._messages.clear()
        self._ledger.staged -= count
        self._ledger.lose(Reason.CAP, count)


class _Message(NamedTuple):
    """An encoded message on its way into the journal."""

    record: Record
    first_ns: int
    last_ns: int
