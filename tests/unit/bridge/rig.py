"""A bench for the way of a sample: a table, the parts of one uplink, a destination that obeys, and a disk that fails when told.

Time stands still unless a test moves it. The journal is the real one, in a directory of the test.
"""

from __future__ import annotations

import asyncio
import errno
import json
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bifrost._native import _py, contract, records
from bifrost._native import journal_records as j
from bifrost._native._py_journal_io import SystemIO
from bifrost.bridge.age import AgeClock, stamp_ns
from bifrost.bridge.buffering.journal import Journal, SyncThread
from bifrost.bridge.committer import Committer, Durability
from bifrost.bridge.delivery import Delivery, DeliverySettings
from bifrost.bridge.ledger import Ledger, Reason
from bifrost.bridge.outbox import Outbox, OutboxSettings
from bifrost.bridge.quarantine import Quarantine
from bifrost.bridge.staging import Staging
from bifrost.bridge.stream import Stream
from bifrost.bridge.transformers.samples import Samples
from bifrost.core.clock import Clock, Stretch
from bifrost.core.contracts import Ack, Capabilities, Outcome, Record
from bifrost.core.datatypes import parse_type
from bifrost.core.errors import ConnectError
from bifrost.core.table import Batch, RowColumns, TagTable

T0 = 1_760_000_000_000_000_000
ROWS = 8
RING = 64
PATIENCE_S = 10.0


class FakeClock(Clock):
    """Monotonic time and UTC that stand still."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000
        self.offset_ns = T0
        self.is_synchronised = True

    def now_ns(self) -> int:
        return self.ns

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        return (Stretch(0, self.offset_ns),)

    def utc_ns(self, monotonic_ns: int | None = None) -> int:
        return self.offset_ns + (self.ns if monotonic_ns is None else monotonic_ns)


class FakeEncoder:
    """A message for each `per_message` samples: `{"seq": 7, "samples": [["d.0", 1], …]}`."""

    def __init__(self, per_message: int = 3, pad: int = 0) -> None:
        self.message_bytes_max = 1 << 20
        self.per_message = per_message
        self.pad = pad

    def encode(self, sequence: int, samples: Samples) -> list[Record]:
        pairs = list(zip(samples.tags, samples.values, strict=True))
        parts = [pairs[at : at + self.per_message] for at in range(0, len(pairs), self.per_message)]
        return [
            Record(number, self.payload(number, part), "a/topic", f"x/{number}", "application/json", len(part))
            for number, part in enumerate(parts, sequence)
        ]

    def payload(self, number: int, part: Sequence[Any]) -> bytes:
        return json.dumps({"seq": number, "samples": part, "pad": "x" * self.pad}).encode()


class FakeConnector:
    """A destination. `answer` says what becomes of each record; `hold` keeps answers back until it is released."""

    def __init__(self, in_flight_max: int = 4) -> None:
        self.capabilities = Capabilities(1 << 20, in_flight_max)
        self.is_open = False
        self.opens = 0
        self.refuse_open = ""
        self.sent: list[Record] = []
        self.delivered: list[Record] = []
        self.answer: Callable[[Record], Outcome] = lambda record: Outcome.DELIVERED
        self.released = asyncio.Event()
        self.released.set()
        self.changed = asyncio.Event()
        self.out_max = 0
        self._out = 0

    async def open(self) -> None:
        self.opens += 1
        self.changed.set()
        if self.refuse_open:
            raise ConnectError(self.refuse_open)
        self.is_open = True

    async def send(self, batch: Sequence[Record]) -> Sequence[Ack]:
        self.sent += batch
        self._out += len(batch)
        self.out_max = max(self.out_max, self._out)
        self.changed.set()
        try:
            await self.released.wait()
            await asyncio.sleep(0)
            return [self._answered(record) for record in batch]
        finally:
            self._out -= len(batch)

    def _answered(self, record: Record) -> Ack:
        outcome = self.answer(record) if self.is_open else Outcome.AGAIN
        if outcome is Outcome.DELIVERED:
            self.delivered.append(record)
        return Ack(record.sequence, outcome, "" if outcome is Outcome.DELIVERED else "because")

    def lose(self) -> None:
        self.is_open = False
        self.released.set()

    async def close(self) -> None:
        self.lose()


class FakeDisk(SystemIO):
    """The files of a directory, on a disk that is full or broken when it is told."""

    is_full = False
    is_broken = False

    def allocate(self, fd: int, size: int) -> int:
        return -errno.ENOSPC if self.is_full else super().allocate(fd, size)

    def write(self, fd: int, offset: int, data: bytes) -> int:
        return -errno.EIO if self.is_broken else super().write(fd, offset, data)


class Rig:
    """The parts of one uplink, put together as `bridge.uplink` does. Made by `opened`."""

    table: TagTable
    stream: Stream
    staging: Staging
    journal: Journal
    ledger: Ledger
    committer: Committer
    outbox: Outbox
    delivery: Delivery
    disk: FakeDisk

    def __init__(self, directory: Path, native: contract.Backend = _py) -> None:
        self.directory = directory
        self.native = native
        self.clock = FakeClock()
        self.connector = FakeConnector()
        self.encoder: Any = FakeEncoder()
        self.quarantine = Quarantine(str(directory / "quarantine" / "u.jsonl"), 10_000)
        self.limits = j.JournalLimits(
            segment_bytes=16 << 10, segments_count_max=4, batch_bytes=8 << 10, record_bytes_max=4 << 10
        )
        self.settings = OutboxSettings(linger_ns=0, batch_bytes_max=1 << 20, drops_newest=False)
        self.durability = "commit"
        self.age_max_ns = 1 << 62
        self.value = 0
        self.make_table()

    def make_table(self) -> None:
        self.table = TagTable(_py.make_table(records.TableLimits(ROWS, RING, 256, 256)), ROWS)
        self.table.define(RowColumns.from_types([(parse_type("int64"), False)] * ROWS))

    async def open(self, thread: SyncThread) -> None:
        (self.directory / "journal").mkdir(exist_ok=True)
        self.disk = FakeDisk(str(self.directory / "journal"))
        self.journal = await Journal.open(
            self.directory / "journal",
            self.limits,
            thread,
            now_ns=stamp_ns(self.clock),
            io=self.disk,
            native=self.native,
        )
        number = await self.journal.stream("u")
        self.stream = Stream(self.table, array("I", range(ROWS)))
        self.staging = Staging(32, 1000, lambda row: f"d.{row}")
        self.ledger = Ledger(self.journal.report)
        self.age = AgeClock(self.clock, self.age_max_ns, self.ledger.committed_ns)
        self.committer = Committer(
            "u",
            self.journal,
            self.ledger,
            self.clock,
            self.age,
            durability=Durability.parse(self.durability),
            window=4,
        )
        self.outbox = Outbox(
            self.stream,
            self.staging,
            self.encoder,
            self.journal,
            number,
            self.ledger,
            self.committer,
            self.quarantine,
            self.clock,
            self.settings,
            lambda: self.delivery.payload_bytes_max,
        )
        self.delivery = Delivery(
            "u",
            self.journal,
            self.connector,
            self.committer,
            self.quarantine,
            self.clock,
            self.age,
            DeliverySettings(64, 1 << 20),
            lambda: 0.0,
        )

    def put(self, count: int, row: int = 0) -> None:
        """The plant has `count` new values, 1, 2, 3, …, in one row."""
        for _ in range(count):
            self.value += 1
            batch = Batch(array("I", [row]), [self.value], self.clock.utc_ns())
            self.table.put(batch, server_time_ns=self.clock.utc_ns(), now_ns=self.clock.ns)

    def step(self, *, is_last: bool = True) -> None:
        """The outbox reads all there is, and appends what fits."""
        while self.outbox.step(self.clock.ns, is_last=is_last):
            pass

    async def keep(self, count: int) -> None:
        """`count` new values come into the journal."""
        self.put(count)
        self.step()
        await self.committer.commit()

    def balance(self) -> dict[str, Any]:
        """The ledger, once its equation was checked."""
        record: dict[str, Any] = self.ledger.record(self.outbox.waiting_count())
        assert record["acquired"] == record["acknowledged"] + record["buffered"] + sum(record["dropped"].values())
        return record

    def dropped(self, reason: Reason) -> int:
        return self.ledger.dropped(reason)

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Delivery and committer run."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.delivery.run()), group.create_task(self.committer.run())]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    yield
            finally:
                for task in tasks:
                    task.cancel()

    async def until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():  # what is waited for has no event
            await asyncio.sleep(0.001)

    def values(self, sent: Sequence[Record]) -> list[int]:
        """Values of the samples in messages, in order."""
        return [value for record in sent for _, value in json.loads(record.payload)["samples"]]


@asynccontextmanager
async def opened(rig: Rig) -> AsyncIterator[Rig]:
    """The rig with its journal open; it is closed cleanly in the end."""
    thread = SyncThread()
    try:
        await rig.open(thread)
        yield rig
        await rig.journal.close()
    finally:
        thread.close()


@asynccontextmanager
async def killed(rig: Rig) -> AsyncIterator[Rig]:
    """The rig with its journal open; then the process is killed: nothing is closed."""
    thread = SyncThread()
    try:
        await rig.open(thread)
        yield rig
    finally:
        thread.close()
