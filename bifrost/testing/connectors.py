"""What every connector promises (`core.contracts.Connector`), as one check to call from a test.

async def test_ours_keeps_the_contract():
    await check_connector(OurConnector(...), received)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from bifrost.core.contracts import Ack, Connector, Outcome, Record

__all__ = ["check_connector"]

_TIMEOUT_S: Final = 30.0
_COUNT: Final = 250  # More than most windows.
_LONG_BYTES_MAX: Final = 8 << 20  # A longer payload is not tried.


async def check_connector(
    connector: Connector,
    received: Callable[[int], Awaitable[Sequence[bytes]]],
    *,
    topic: str = "bifrost/check",
    timeout_s: float = _TIMEOUT_S,
) -> None:
    """Checks one connector against a real destination; takes seconds. The connector is closed at the end.

    Args:
        connector: Made, not opened, with a destination that is there and keeps what it gets.
        received: Waits until the destination has this many payloads and gives all of them, in the order they came.
        topic: Where the records go.
        timeout_s: For each step.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    check = _Check(connector, topic, timeout_s)
    await check.is_closed_at_first()
    await check.opens()
    await check.delivers_in_order()
    await check.takes_calls_that_overlap()
    await check.refuses_what_is_too_long()
    await check.goes_on_after_cancellation()
    await check.closes_and_opens_again()
    payloads = await asyncio.wait_for(received(len(check.delivered)), timeout_s)
    assert _first_of_each(payloads, check.delivered) == check.delivered, "records arrive whole and in their order"
    await connector.close()


class _Check:
    """One run; `delivered` are the payloads that were acknowledged, in order."""

    def __init__(self, connector: Connector, topic: str, timeout_s: float) -> None:
        self._connector = connector
        self._topic = topic
        self._timeout_s = timeout_s
        self._sequence = 0
        self.delivered: list[bytes] = []

    def _records(self, count: int) -> list[Record]:
        first, self._sequence = self._sequence + 1, self._sequence + count
        return [
            Record(
                sequence,
                b'{"seq":%d}' % sequence,
                self._topic,
                identity=f"check/check/{sequence}",
                content_type="application/json",
            )
            for sequence in range(first, first + count)
        ]

    async def _send(self, records: Sequence[Record]) -> Sequence[Ack]:
        acks = await asyncio.wait_for(self._connector.send(records), self._timeout_s)
        assert [ack.sequence for ack in acks] == [record.sequence for record in records], "one ack a record, in order"
        assert all(ack.reason for ack in acks if ack.outcome is not Outcome.DELIVERED), "what failed says why"
        return acks

    async def _delivers(self, records: Sequence[Record]) -> None:
        acks = await self._send(records)
        assert {ack.outcome for ack in acks} <= {Outcome.DELIVERED}, f"all is delivered, not {acks[-1]}"
        self.delivered += [record.payload for record in records]

    async def is_closed_at_first(self) -> None:
        assert not self._connector.is_open, "it is not open before open()"
        await self._connector.close()
        await self._sends_nothing()

    async def _sends_nothing(self) -> None:
        acks = await self._send(self._records(3))
        assert {ack.outcome for ack in acks} == {Outcome.AGAIN}, "what is sent while it is closed is to be sent again"

    async def opens(self) -> None:
        await asyncio.wait_for(self._connector.open(), self._timeout_s)
        assert self._connector.is_open, "it is open after open()"
        await asyncio.wait_for(self._connector.open(), self._timeout_s)
        assert self._connector.is_open, "a second open() changes nothing"
        capabilities = self._connector.capabilities
        assert capabilities.payload_bytes_max > 0, "payload_bytes_max is 1 or more"
        assert capabilities.in_flight_max > 0, "in_flight_max is 1 or more"
        assert capabilities.records_per_second_max >= 0, "records_per_second_max is not negative"

    async def delivers_in_order(self) -> None:
        assert list(await self._send([])) == [], "no record, no ack"
        await self._delivers(self._records(_COUNT))

    async def takes_calls_that_overlap(self) -> None:
        batches = [self._records(20) for _ in range(5)]
        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(self._send(batch), name=f"send {number}") for number, batch in enumerate(batches)]
        assert {ack.outcome for task in sent for ack in task.result()} == {Outcome.DELIVERED}, "all calls deliver"
        self.delivered += [record.payload for batch in batches for record in batch]

    async def refuses_what_is_too_long(self) -> None:
        bytes_max = self._connector.capabilities.payload_bytes_max
        if bytes_max > _LONG_BYTES_MAX:
            return
        before, long, after = self._records(3)
        acks = await self._send([before, long._replace(payload=bytes(bytes_max + (64 << 10))), after])
        outcomes = [ack.outcome for ack in acks]
        expected = [Outcome.DELIVERED, Outcome.REFUSED, Outcome.DELIVERED]
        assert outcomes == expected, f"a payload that is too long is refused, its neighbours pass; not {outcomes}"
        self.delivered += [before.payload, after.payload]

    async def goes_on_after_cancellation(self) -> None:
        records = self._records(50)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._connector.send(records), name="send, to be cancelled")
            await asyncio.sleep(0)
            sending.cancel()
        await self._delivers(records)

    async def closes_and_opens_again(self) -> None:
        await asyncio.wait_for(self._connector.close(), self._timeout_s)
        assert not self._connector.is_open, "it is not open after close()"
        await self._connector.close()
        await self._sends_nothing()
        await self.opens()
        await self._delivers(self._records(5))


def _first_of_each(payloads: Sequence[bytes], expected: Sequence[bytes]) -> list[bytes]:
    """`payloads` that are expected, without repetitions: at least once is enough."""
    wanted = set(expected)
    return [payload for payload in dict.fromkeys(payloads) if payload in wanted]
