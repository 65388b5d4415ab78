"""What Python knows of links and devices: plain state, changed by `plc.scan` only.

A *device* has *watches* (tags with their rows); devices with the same `link_key` share a *link*, whose plan is made of
the requests of all of them. A plan is *pending* from the event that hands it over until the engine says that it is
adopted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from bifrost._native import records
from bifrost._native.records import Action, Counters
from bifrost.core.contracts import Driver, Request
from bifrost.core.tag import Tag
from bifrost.plc.plan import LinkPlan, requests_per_second

__all__ = ["Device", "DeviceStatus", "Link", "LinkStatus", "Planned", "Watch"]

_log = logging.getLogger("bifrost.plc.scan")

_CLOSE_REASONS = {
    records.CLOSE_PEER: "the peer closed the connection",
    records.CLOSE_SILENT: "the peer does not answer any more",
    records.CLOSE_FRAMING: "what the peer sends are no frames of this protocol",
    records.CLOSE_STOPPED: "stopped",
    records.CLOSE_FAILED: "no connection could be made",
}


class Watch:
    """Tags of one device that are polled together, and what they are compiled to."""

    def __init__(self, tags: Sequence[Tag], rows: Sequence[int], requests: Sequence[Request]) -> None:
        self.tags = tags
        self.rows = rows
        self.requests = requests


class Device:
    """A device as `Scanner.add_device` hands it out. Attributes are read only.

    Attributes:
        name: For logs and status.
        driver: As given.
        link: The link it shares with devices of the same `link_key`.
        watches: What is polled.
        refused: Labels of the blocks that it refuses now, with the code it answers.
        lessons_count: How often its driver learned something after which it plans otherwise.
    """

    def __init__(self, name: str, driver: Driver, link: Link) -> None:
        self.name = name
        self.driver = driver
        self.link = link
        self.watches: list[Watch] = []
        self.refused: dict[str, int] = {}
        self.lessons_count = 0

    def status(self) -> DeviceStatus:
        """How it is now."""
        requests = self.requests
        tags = sum(len(watch.rows) for watch in self.watches)
        return DeviceStatus(self.name, tags, len(requests), requests_per_second(requests), dict(self.driver.learned))

    @property
    def requests(self) -> list[Request]:
        """Everything that is polled, compiled."""
        return [request for watch in self.watches for request in watch.requests]


class Planned(NamedTuple):
    """A plan with the device that each request belongs to (by ``id``; the plan keeps the requests alive)."""

    plan: LinkPlan
    owners: dict[int, Device]


class Link:
    """One link and all that Python knows of it."""

    def __init__(self, index: int, key: str, options: records.LinkOptions, group: asyncio.TaskGroup) -> None:
        self.index = index
        self.key = key
        self.options = options
        self.group = group
        self.devices: list[Device] = []
        self.generation = 0
        self.adopted: Planned | None = None
        self.pending: Planned | None = None
        self.is_dirty = False
        self.replan_timer: asyncio.TimerHandle | None = None
        self.when_planned: list[Callable[[], None]] = []
        self.session: asyncio.Task[None] | None = None
        self.is_up = False
        self.is_removed = False
        self.reason = "not connected yet"
        self.since_ns = 0
        self.waiters: set[asyncio.Future[None]] = set()
        self.units_open: set[int] = set()

    def on_up(self, notice: Action) -> None:
        """The engine polls it from now on."""
        self.is_up, self.reason, self.since_ns = True, "", notice.time_ns
        self.units_open.clear()
        _log.info("%s: connected", self.key)
        self.wake_waiters(None)

    def on_down(self, notice: Action) -> None:
        """It is closed; the engine will want another connection by itself."""
        self.is_up, self.since_ns = False, notice.time_ns
        self.reason = _CLOSE_REASONS.get(notice.code, f"closed (code {notice.code})")
        if notice.code != records.CLOSE_STOPPED:
            _log.warning("%s: connection lost: %s", self.key, self.reason)

    def on_unit(self, notice: Action) -> None:
        """One of its units stopped answering, or answers again."""
        units = self.adopted.plan.units if self.adopted else ()
        unit = units[notice.number] if notice.number < len(units) else notice.number
        if notice.code == records.UNIT_OPEN:
            self.units_open.add(unit)
            _log.warning("%s: unit %d does not answer; asked less often until it does", self.key, unit)
        else:
            self.units_open.discard(unit)
            _log.info("%s: unit %d answers again", self.key, unit)

    def wake_waiters(self, error: Exception | None) -> None:
        """Ends the wait of whoever waits for the link to be up."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def run_when_planned(self) -> None:
        """Nothing writes the rows of former plans any more: calls whoever waits for that, once."""
        callbacks, self.when_planned = self.when_planned, []
        for callback in callbacks:
            callback()

    def status(self, counters: Counters) -> LinkStatus:
        """How it is now; `counters` come from the engine."""
        return LinkStatus(
            key=self.key,
            is_up=self.is_up,
            reason=self.reason,
            since_ns=self.since_ns,
            generation=self.generation,
            counters=counters,
            units_open=tuple(sorted(self.units_open)),
            plan_bytes=self.adopted.plan.memory_bytes if self.adopted else 0,
            devices=tuple(device.status() for device in self.devices),
        )


class DeviceStatus(msgspec.Struct, frozen=True):
    """One device now. `learned` is what its driver learned about it, `requests_per_second` what polling it costs."""

    name: str
    tags_count: int
    requests_count: int
    requests_per_second: float
    learned: dict[str, list[str]]


class LinkStatus(msgspec.Struct, frozen=True):
    """One link now. `reason` says why it is not up; `units_open` are the units whose circuit breaker is open."""

    key: str
    is_up: bool
    reason: str
    since_ns: int
    generation: int
    counters: Counters
    units_open: tuple[int, ...]
    plan_bytes: int
    devices: tuple[DeviceStatus, ...]
