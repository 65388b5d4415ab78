"""A whole uplink in this process: table, journal, delivery, MQTT connector. Its disk and its clock may be a test's own."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bifrost._native import backend, contract, records
from bifrost.bridge.buffering.journal import SyncThread
from bifrost.bridge.connectors.mqtt import MqttConnector
from bifrost.bridge.uplink import Place, Uplink
from bifrost.core.clock import Clock
from bifrost.core.config import load_config
from bifrost.core.datatypes import parse_type
from bifrost.core.errors import StorageError
from bifrost.core.table import Batch, RowColumns, TagTable

PATIENCE_S = 60.0
_TICK_S = 0.02
_RING = 1 << 16
_CLOCK_S = 1.0


class LiveUplink:
    """An uplink whose tags, floats in groups of five, change by `put` and `feed`.

    Args:
        directory: For configuration and journal.
        url: Of the broker.
        devices: How many, and
        tags: how many in all.
        more: Further lines of the uplink's section.
        native: Opens the journal.
        clock: None: the system's.
        chance: For the jitter of its tries.
    """

    def __init__(
        self,
        directory: Path,
        url: str,
        *,
        devices: int = 1,
        tags: int = 20,
        more: str = "",
        native: contract.Backend = backend,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        path = directory / "gateway.toml"
        path.write_text(_configuration(directory, url, devices, tags, more))
        config = load_config(str(path), {})
        self.tags = tags
        self.clock = clock or Clock()
        self.thread = SyncThread()
        self.table = TagTable(backend.make_table(records.TableLimits(tags, _RING, 64, 64)), tags)
        self.table.define(RowColumns.from_types([(parse_type("float64"), False)] * tags))
        self.table.name_of = config.tags.full_name
        place = Place(
            gateway="line-3",
            directory=directory,
            table=self.table,
            tags=config.tags,
            limits=config.limits,
            clock=self.clock,
            thread=self.thread,
            on_burst=lambda _name, _burst: None,
            native=native,
        )
        (settings,) = config.uplinks
        connector = MqttConnector(settings, "line-3", lambda secret: (directory / secret.name).read_text())
        self.uplink = Uplink(settings, connector, place, chance=chance)
        self._number = 0

    def put(self, count: int) -> None:
        """The next `count` values, 0, 1, 2, … over all, each of the next tag; all of one moment."""
        numbers = range(self._number, self._number + count)
        self._number += count
        rows = array("I", [number % self.tags for number in numbers])
        batch = Batch(rows, [float(number) for number in numbers], self.clock.utc_ns())
        flags = 0 if self.clock.is_synchronised else records.CHANGE_CLOCK_UNSYNCHRONISED
        self.table.put(batch, server_time_ns=self.clock.utc_ns(), now_ns=self.clock.now_ns(), flags=flags)

    async def feed(self, per_second: int, seconds: float) -> int:
        """New values at a steady rate; how many there were."""
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        fed = 0
        while (elapsed_s := loop.time() - begin_s) < seconds:
            due = int(elapsed_s * per_second)
            while fed < due:
                count = min(self.tags, due - fed)
                self.put(count)
                fed += count
            await asyncio.sleep(_TICK_S)
        return fed

    def ledger(self) -> dict[str, Any]:
        """The ledger, once its equation was checked; empty while its journal is not open."""
        ledger: dict[str, Any] = self.record()["ledger"] or {}
        if ledger:
            dropped = sum(ledger["dropped"].values())
            assert ledger["acquired"] == ledger["acknowledged"] + ledger["buffered"] + dropped, ledger
        return ledger

    def record(self) -> Any:
        """The uplink's record."""
        return self.uplink.record()

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Looks a hundred times a second: what is waited for has no event."""
        end_s = time.monotonic() + PATIENCE_S
        while not is_true():
            assert time.monotonic() < end_s, str(self.record())
            await asyncio.sleep(0.01)

    async def until_sent(self) -> None:
        """Until nothing is buffered."""
        await self.until(lambda: self.ledger().get("buffered") == 0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """It runs, as a child of a supervisor does; in the end its journal is closed."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._kept_alive(), name="uplink"),
                    group.create_task(self._clock_is_looked_at(), name="clock"),
                ]
                try:
                    yield
                finally:
                    for task in tasks:
                        task.cancel()
            await self.uplink.close()
        finally:
            self.thread.close()

    async def _kept_alive(self) -> None:
        """Storage errors at the start are tried again; anything else fails the test."""
        while True:
            try:
                await self.uplink.run()
            except* StorageError:
                await asyncio.sleep(_TICK_S)

    async def _clock_is_looked_at(self) -> None:
        while True:
            await asyncio.sleep(_CLOCK_S)
            self.clock.update()


def _configuration(directory: Path, url: str, devices: int, tags: int, more: str) -> str:
    text = f'[gateway]\nname = "line-3"\ndata_dir = "{directory}"\n[limits]\nring_changes_count = {_RING}\n'
    for device in range(devices):
        text += f'[[device]]\nname = "d{device}"\nurl = "modbus-tcp://127.0.0.1:502"\n'
        for tag in range(tags // devices):
            text += f'[[device.tag]]\ngroup = "g{tag % 5}"\nname = "value{tag}"\naddress = "hr:{4 * tag}"\ntype = "float64"\n'
    return text + f'[[uplink]]\nname = "plant"\nurl = "{url}"\n{more}'
