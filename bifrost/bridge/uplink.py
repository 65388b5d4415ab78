"""One uplink, whole: stream, outbox, journal, committer, delivery and connector, put together and kept.

The journal is opened once and stays open to the end, as do ledger and staged samples, so that a failure of one part, for
which the supervisor starts `run` again, costs no sample. `close` writes what is left to the disk; what is on the disk is
delivered after the next start.
"""

from __future__ import annotations

import asyncio
import logging
import random
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bifrost._native import backend
from bifrost._native import journal_records as j
from bifrost.bridge.age import AgeClock, stamp_ns
from bifrost.bridge.buffering.journal import Journal, SyncThread
from bifrost.bridge.committer import Committer, Durability
from bifrost.bridge.delivery import Delivery, DeliverySettings, DeliveryState
from bifrost.bridge.drops import Burst, DropWatch
from bifrost.bridge.envelope import ENVELOPE_BYTES_MAX
from bifrost.bridge.ledger import Ledger
from bifrost.bridge.outbox import Outbox, OutboxSettings
from bifrost.bridge.quarantine import Quarantine
from bifrost.bridge.staging import Staging, staging_bytes
from bifrost.bridge.stream import Deadband, Stream, deadband_bytes
from bifrost.bridge.transformers import make_encoder
from bifrost.core.columns import TagColumns
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.errors import ConfigError, StorageError
from bifrost.core.limits import Limits, Region
from bifrost.core.log import fields
from bifrost.core.quantity import format_size
from bifrost.core.runtime import table_limits
from bifrost.core.table import TagTable

if TYPE_CHECKING:
    from bifrost._native import contract
    from bifrost.core.clock import Clock
    from bifrost.core.contracts import Connector

__all__ = ["Place", "Uplink", "journal_limits", "uplink_region"]

_log = logging.getLogger("bifrost.bridge")

_SEGMENTS_COUNT: Final = 32  # The least that can be dropped is a segment: a thirty-second of the disk, as a rule.
_SEGMENT_BYTES_MAX: Final = 4 << 20
_SEGMENT_BYTES_MIN: Final = 64 << 10
_PAGE_BYTES: Final = 4 << 10
_FILES_BESIDE_COUNT: Final = 2  # That are no segments and as long: see docs/reference/formats.md, `damaged.bad`.
_CURSOR_BYTES: Final = 8 << 10
_SALVAGE_AFTER_NS: Final = 60_000_000_000  # A disk that answers by then is one whose files will not come back.
_RECORD_BYTES_MIN: Final = 64 << 10  # The longest value there is, an array of a whole frame, fits as JSON.
_LOOK_S: Final = 1.0
_CLOSE_ROUNDS_MAX: Final = 16  # A ring of the usual size takes one or two; a plant that goes on changing has no end.


_ALARMS: Final = {
    j.ALARM_SYNC_FAILED: "a sync failed",
    j.ALARM_DAMAGE: "damage was found",
    j.ALARM_WRITE_FAILED: "writing failed",
    j.ALARM_CURSOR_LOST: "the cursor was lost: records are sent again",
    j.ALARM_SET_ASIDE: "a file was set aside",
}


class Place(NamedTuple):
    """What an uplink shares with its gateway.

    Attributes:
        gateway: The gateway's name.
        directory: Its data directory.
        table: The table; its `name_of` knows the tags.
        tags: The tags to begin with, whose ids are rows of the table.
        limits: All sizes.
        clock: Monotonic time and UTC.
        thread: That waits for the disk.
        on_burst: Told of samples dropped: name of the uplink, and the burst. Must not raise.
        native: Opens the journal; another one in tests only.
    """

    gateway: str
    directory: Path
    table: TagTable
    tags: TagColumns
    limits: Limits
    clock: Clock
    thread: SyncThread
    on_burst: Callable[[str, Burst], None]
    native: contract.Backend = backend


def journal_limits(config: UplinkConfig, limits: Limits) -> j.JournalLimits:
    """Sizes of an uplink's journal, within its `disk_bytes_max`."""
    disk_bytes_max = config.buffer.disk_bytes_max
    record_bytes_max = max(config.batch_bytes_max, _RECORD_BYTES_MIN) + ENVELOPE_BYTES_MAX
    segment_bytes = min(max(disk_bytes_max // _SEGMENTS_COUNT, _SEGMENT_BYTES_MIN), _SEGMENT_BYTES_MAX)
    segment_bytes = _up(max(segment_bytes, 2 * record_bytes_max), _PAGE_BYTES)
    return j.JournalLimits(
        segment_bytes=segment_bytes,
        segments_count_max=max(2, (disk_bytes_max - _CURSOR_BYTES) // segment_bytes - _FILES_BESIDE_COUNT),
        batch_bytes=max(limits.outbox_batch_bytes, _up(record_bytes_max, _PAGE_BYTES)),
        record_bytes_max=record_bytes_max,
        acknowledgements_count_max=2 * limits.uplink_records_out_max,
        flags=j.JOURNAL_DROP_OLDEST if config.buffer.on_full == "drop_oldest" else 0,
    )


def uplink_region(config: UplinkConfig, limits: Limits) -> Region:
    """Memory of an uplink, for `Limits.regions`."""
    sizes = journal_limits(config, limits)
    selection = limits.rows_count_max + 4 * limits.tags_count_max
    columns = deadband_bytes(limits.rows_count_max) if config.deadband else 0
    staged = staging_bytes(limits.outbox_samples_max, limits.outbox_batch_bytes + limits.ring_body_bytes)
    messages = limits.outbox_samples_max * OutboxSettings._field_defaults["sample_bytes"]
    out = limits.uplink_bytes_out_max + sizes.batch_bytes
    return Region(
        f"uplink {config.name}",
        selection + columns + staged + messages + out + backend.journal_bytes(sizes),
        "samples on their way to the journal and messages out: outbox_samples_max, outbox_batch_bytes,"
        " uplink_bytes_out_max, tags_count_max",
    )


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


class Uplink:
    """One uplink.

    Args:
        config: Its section.
        connector: To its destination, closed.
        place: What it shares.
        chance: Uniform numbers in [0, 1), for the jitter of its tries.

    Raises:
        ConfigError: Its payload or topic cannot work.
    """

    def __init__(
        self, config: UplinkConfig, connector: Connector, place: Place, *, chance: Callable[[], float] = random.random
    ) -> None:
        self.check(config, place.gateway, place.limits)  # Refused now, and not when the journal is open.
        self.config = config
        self._connector = connector
        self._place = place
        self._chance = chance
        self._stream = Stream(place.table, place.tags.select(config.tags), self._deadband())
        self._staging = Staging(place.limits.outbox_samples_max, place.limits.outbox_batch_bytes, self._name_of)
        directory = place.directory / "quarantine"
        self._quarantine = Quarantine(str(directory / f"{config.name}.jsonl"), place.limits.quarantine_bytes_max)
        self._parts: _Parts | None = None
        self._unopened_since_ns = 0
        self._unopened_reason = ""

    @staticmethod
    def check(config: UplinkConfig, gateway: str, limits: Limits) -> None:
        """Raises ConfigError when payload, topic or sizes of an uplink cannot work."""
        make_encoder(config, gateway, "")
        sizes = journal_limits(config, limits)
        needed = sizes.segment_bytes * (sizes.segments_count_max + _FILES_BESIDE_COUNT) + _CURSOR_BYTES
        if needed > config.buffer.disk_bytes_max:
            message = f"batch_bytes_max = {format_size(config.batch_bytes_max)} needs a buffer of {format_size(needed)}"
            raise ConfigError(message, key=f"uplink.{config.name}.buffer.disk_bytes_max")
        if backend.journal_bytes(sizes) == 0:
            message = f"{format_size(config.batch_bytes_max)} is longer than the journal can keep"
            raise ConfigError(message, key=f"uplink.{config.name}.batch_bytes_max")

    def _deadband(self) -> Deadband | None:
        if not self.config.deadband:
            return None
        tags, table = self._place.tags, self._place.table
        intervals = ((row, tags.max_interval_ns(row)) for row in tags.ids if tags.max_interval_ns(row))
        return Deadband(self.config.deadband, table.tags_count_max, table.kind, intervals)

    def _name_of(self, row: int) -> str:
        return self._place.table.name_of(row)  # Which knows those of tags that a reload has just taken away, too.

    @property
    def position(self) -> int:
        """In the change ring: it needs no change before it any more, nor the names of their rows."""
        return self._stream.position

    def follow(self, tags: TagColumns, selected: array[int]) -> None:
        """After a reload: the same uplink, with the tags there are now, of which it has those `selected`.

        Raises LimitError, see `Stream.select`.
        """
        self._place = self._place._replace(tags=tags)
        self._stream.select(selected, self._deadband())

    def succeed(self, predecessor: Uplink) -> None:
        """Goes on reading the ring where `predecessor`, closed, has ended; it was the same uplink with other settings."""
        self._stream = predecessor._stream
        self._stream.select(self._place.tags.select(self.config.tags), self._deadband())

    @property
    def is_connected(self) -> bool:
        """Whether its destination can be reached now."""
        return self._parts is not None and self._parts.delivery.state is DeliveryState.CONNECTED

    @property
    def committing_since_ns(self) -> int:
        """Monotonic time since which its journal waits for the disk; 0: it does not."""
        return 0 if self._parts is None else self._parts.committer.busy_since_ns

    async def run(self) -> None:
        """Works until it is cancelled. Raises StorageError when the journal's directory cannot be made."""
        if self._parts is None:
            self._parts = await self._open()
        parts = self._parts
        async with asyncio.TaskGroup() as group:
            name = self.config.name
            group.create_task(parts.outbox.run(), name=f"uplink {name} outbox")
            group.create_task(parts.committer.run(), name=f"uplink {name} committer")
            group.create_task(parts.delivery.run(), name=f"uplink {name} delivery")
            group.create_task(self._watch(parts), name=f"uplink {name} watch")

    async def _watch(self, parts: _Parts) -> None:
        """Reports what was dropped."""
        while True:
            self._look(parts)
            for burst in parts.drops.look(self._place.clock.now_ns()):
                self._place.on_burst(self.config.name, burst)
            await asyncio.sleep(_LOOK_S)

    def _look(self, parts: _Parts) -> None:
        """While the outbox is blocked, nobody reads the ring: what is overwritten there is told all the same."""
        changes_count = table_limits(self._place.limits).ring_changes_count
        parts.ledger.overwritten = self._stream.overwritten_count(changes_count)

    async def _open_journal(self) -> Journal:
        """Opens the journal; after a minute of failures without those of its files that cannot be read."""
        config, place = self.config, self._place
        limits, now_ns = journal_limits(config, place.limits), place.clock.now_ns()
        since_ns = self._unopened_since_ns or now_ns
        if now_ns - since_ns >= _SALVAGE_AFTER_NS:
            limits = limits._replace(flags=limits.flags | j.JOURNAL_SALVAGE)
            _log.error("the journal is opened without what cannot be read", extra=fields(uplink=config.name))
        try:
            directory = place.directory / "journal" / config.name
            journal = await Journal.open(
                directory, limits, place.thread, now_ns=stamp_ns(place.clock), native=place.native
            )
        except StorageError as error:
            self._unopened_since_ns, self._unopened_reason = since_ns, str(error)
            raise
        self._unopened_since_ns = 0
        return journal

    async def _open(self) -> _Parts:
        config, place = self.config, self._place
        journal = await self._open_journal()
        number = await journal.stream(config.name)
        ledger = Ledger(journal.report)
        drops = DropWatch(ledger)
        age = AgeClock(place.clock, config.buffer.age_max_ns, ledger.committed_ns)
        durability = Durability.parse(config.buffer.durability)
        window = min(self._connector.capabilities.in_flight_max, place.limits.uplink_records_out_max)
        committer = Committer(config.name, journal, ledger, place.clock, age, durability=durability, window=window)
        delivery = Delivery(
            config.name,
            journal,
            self._connector,
            committer,
            self._quarantine,
            place.clock,
            age,
            DeliverySettings(place.limits.uplink_records_out_max, place.limits.uplink_bytes_out_max),
            self._chance,
        )
        is_newest = config.buffer.on_full == "drop_newest"
        outbox = Outbox(
            self._stream,
            self._staging,
            make_encoder(config, place.gateway, journal.report.store_id.hex()),
            journal,
            number,
            ledger,
            committer,
            self._quarantine,
            place.clock,
            OutboxSettings(config.linger_ns, config.batch_bytes_max, is_newest),
            lambda: delivery.payload_bytes_max,
        )
        details = fields(
            uplink=config.name,
            buffered=ledger.buffered,
            was_clean=journal.report.was_clean,
            disk_bytes=journal.report.disk_bytes,
            alarms=", ".join(name for bit, name in _ALARMS.items() if journal.report.alarms & bit),
        )
        _log.info("journal is open", extra=details)
        return _Parts(journal, ledger, drops, committer, outbox, delivery)

    async def close(self, *, is_last: bool = False) -> None:
        """Writes what was read and not written, and closes the journal. `run` has ended. May be called twice.

        With `is_last` nobody will `succeed` it: what a full buffer leaves in the ring is dropped, and counted.
        """
        parts, self._parts = self._parts, None
        if parts is None:
            return
        parts.ledger.overwritten = 0  # Of what is in the ring a successor knows by itself.
        try:
            for _ in range(_CLOSE_ROUNDS_MAX):
                while parts.outbox.step(self._place.clock.now_ns(), is_last=True):
                    pass
                await parts.committer.commit(is_last=True)
                if parts.outbox.is_empty:
                    break
        except StorageError as error:
            _log.error("not everything could be written", extra=fields(uplink=self.config.name, reason=error))
            if parts.journal.is_full:
                self._look(parts)
                await self._give_up(parts, with_ring=is_last)
        await parts.journal.close()

    async def _give_up(self, parts: _Parts, *, with_ring: bool) -> None:
        """Counts what a full buffer does not take, and stores the counters, which a full one does take."""
        parts.outbox.give_up(with_ring=with_ring)
        if not with_ring:
            parts.ledger.overwritten = 0
        try:
            await parts.committer.commit(is_last=True)
        except StorageError as error:
            _log.debug("the buffer is full", extra=fields(uplink=self.config.name, reason=error))

    def record(self) -> dict[str, object]:
        """How it is doing, for people and programs."""
        parts = self._parts
        head = {"name": self.config.name, "url": self.config.url.text}
        if parts is None:
            reason = self._unopened_reason or "its journal is not open"
            return head | {"state": DeliveryState.WAITING, "reason": reason, "ledger": None}
        self._look(parts)
        report = parts.journal.report
        return head | {
            "state": parts.delivery.state,
            "reason": parts.delivery.reason,
            "breaker": parts.delivery.breaker_state,
            "connects": parts.delivery.connects_count,
            "records_out": parts.delivery.out_count,
            "records_resent": parts.delivery.resent_count,
            "ledger": parts.ledger.record(parts.outbox.waiting_count()),
            "journal": {
                "next_sequence": report.next_sequence,
                "durable_sequence": report.durable_sequence,
                "base_sequence": report.base_sequence,
                "disk_bytes": report.disk_bytes,
                "records_damaged": report.records_damaged,
                "failure": parts.committer.failure,
                "alarms": [name for bit, name in _ALARMS.items() if report.alarms & bit],
            },
        }


class _Parts(NamedTuple):
    """What exists while the journal is open."""

    journal: Journal
    ledger: Ledger
    drops: DropWatch
    committer: Committer
    outbox: Outbox
    delivery: Delivery
