"""Which message waits for which acknowledgement: the state of an MQTT session, without any input or output.

A message in flight has a packet identifier and, usually, an *owner*: a batch, and its place in it. When the connection
is lost, its owner is told at once to send it again; the message becomes an *orphan*. If the broker still has the
session, the orphans go out again by themselves, under their old identifiers (MQTT 5.0, 4.4), and may even be
acknowledged before their owner comes back. The owner then *claims* them by their identity, instead of sending them a
second time. If the session is gone, so are the orphans.

Invariants: a place in a batch is settled once. Messages in flight and answers not yet claimed are not more than there
were messages in flight when the connection was lost, or as the window is now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bifrost.core.contracts import Ack, Outcome, Record

__all__ = ["Batch", "InFlight"]


class Batch:
    """The records of one `send` and what became of each.

    Args:
        records: The records.
        on_done: Called once, when all are settled; at once if there are none.
    """

    def __init__(self, records: Sequence[Record], on_done: Callable[[], None]) -> None:
        self.records = records
        self._acks: list[Ack | None] = [None] * len(records)
        self._left_count = len(records)
        self._on_done = on_done
        if not records:
            on_done()

    def settle(self, index: int, outcome: Outcome, reason: str = "") -> None:
        """Says what became of a record; a record that was settled before stays as it was."""
        if self._acks[index] is None:
            self._acks[index] = Ack(self.records[index].sequence, outcome, reason)
            self._left_count -= 1
            if self._left_count == 0:
                self._on_done()

    def acks(self) -> list[Ack]:
        """One for each record, once all are settled."""
        return [ack for ack in self._acks if ack is not None]


class _Answer(NamedTuple):
    """What an orphan was answered before it was claimed."""

    outcome: Outcome
    reason: str


class _Message:
    """A message in flight; without a batch it is an orphan."""

    __slots__ = ("batch", "identity", "index")

    def __init__(self, batch: Batch | None, index: int, identity: str) -> None:
        self.batch = batch
        self.index = index
        self.identity = identity


class InFlight:
    """The messages in flight of one session."""

    def __init__(self) -> None:
        self._messages: dict[int, _Message] = {}
        self._orphans: dict[str, _Message | _Answer] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def sent(self, packet_id: int, batch: Batch, index: int) -> None:
        """A record of `batch` left as the message `packet_id`, which must not be in flight."""
        assert packet_id not in self._messages
        self._messages[packet_id] = _Message(batch, index, batch.records[index].identity)

    def answered(self, packet_id: int, outcome: Outcome, reason: str = "") -> bool:
        """The message was acknowledged or refused. False: no such message is in flight."""
        message = self._messages.pop(packet_id, None)
        if message is None:
            return False
        if message.batch is not None:
            message.batch.settle(message.index, outcome, reason)
        elif message.identity in self._orphans:
            self._orphans[message.identity] = _Answer(outcome, reason)
        return True

    def lost(self, reason: str) -> None:
        """The connection was lost: all owners are to send again; the messages stay, as orphans."""
        messages = list(self._messages.values())
        self._orphans = {message.identity: message for message in messages if message.identity}
        for message in messages:
            batch, message.batch = message.batch, None
            if batch is not None:
                batch.settle(message.index, Outcome.AGAIN, reason)

    def leave(self, batch: Batch) -> None:
        """Nobody waits for `batch` any more: what it has in flight becomes orphans. Older answers are forgotten."""
        for message in self._messages.values():
            if message.batch is batch:
                message.batch = None
        orphans = (message for message in self._messages.values() if message.batch is None and message.identity)
        self._orphans = {message.identity: message for message in orphans}

    def claim(self, batch: Batch, index: int) -> bool:
        """Whether a record of `batch` is in flight or answered already; if so, it belongs to the batch now."""
        found = self._orphans.pop(batch.records[index].identity, None)
        if found is None:
            return False
        if isinstance(found, _Answer):
            batch.settle(index, found.outcome, found.reason)
        else:
            found.batch, found.index = batch, index
        return True

    def forget(self) -> None:
        """The session is gone, and with it every orphan. Owners must have been told before."""
        self._messages.clear()
        self._orphans.clear()
