"""Devices into the table: rows defined, then a child a link that polls the devices on it.

A child a link and not a device, since devices behind one address share its connection: a bug met while connecting one link never stops
another. Devices come to a link and leave it while it runs, when a reload says so.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from bifrost.core.background import in_background
from bifrost.core.columns import TagColumns, TagView
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.contracts import Driver, Request
from bifrost.core.table import RowColumns, TagTable
from bifrost.gateway.supervisor import Child
from bifrost.plc.plan import requests_per_second
from bifrost.plc.scan import Device, Scanner

__all__ = [
    "LinkPoller",
    "Polled",
    "child_name",
    "define_rows",
    "describe_rows",
    "group_by_link",
    "make_pollers",
    "poller_children",
]


class Polled:
    """A device of the configuration, its driver, and once it is polled its place in the scanner.

    Attributes:
        config: Its section.
        driver: Its driver.
        tags: Its tags; their ids are its rows of the table.
        requests_per_s: What polling it costs, as planned last.
        definitions: What its rows are.
        planned: What its driver made of its tags before it is polled; used once, since the driver learns.
        device: As the scanner knows it; None while its link's child is not running.
    """

    def __init__(
        self,
        config: DeviceConfig,
        driver: Driver,
        tags: TagView,
        requests: Sequence[Request],
        definitions: RowColumns,
    ) -> None:
        self.config = config
        self.driver = driver
        self.tags = tags
        self.requests_per_s = requests_per_second(requests)
        self.definitions = definitions
        self.planned: Sequence[Request] | None = None
        self.device: Device | None = None

    @property
    def rows(self) -> Sequence[int]:
        """Its rows of the table, in the order of its tags."""
        return self.tags.ids

    async def plan(self) -> None:
        """Plans it in the background, for `add_to`."""
        self.planned = await in_background(partial(self.driver.plan, self.tags, self.tags.ids))

    def add_to(self, scanner: Scanner, group: asyncio.TaskGroup) -> None:
        """Begins to poll it. The first time as it was planned at start, afterwards as the driver plans by then."""
        planned, self.planned = self.planned, None
        self.device = scanner.add_device(
            self.driver, self.tags, self.tags.ids, group=group, name=self.config.name, requests=planned
        )

    def remove_from(self, scanner: Scanner) -> None:
        """Ends polling; does nothing when it is not polled."""
        if self.device is not None:
            scanner.remove(self.device)
            self.device = None

    def retire(self, scanner: Scanner, when_done: Callable[[], None]) -> None:
        """Ends polling; `when_done` is called once nothing writes its rows any more."""
        watches = [] if self.device is None else self.device.watches
        if self.device is not None and watches:
            scanner.unwatch(self.device, watches[0], when_done)
        else:
            when_done()
        self.remove_from(scanner)

    async def poll_others(self, scanner: Scanner, tags: TagView, when_done: Callable[[], None]) -> None:
        """Polls `tags`, with the driver it has now, in place of those before; `when_done` as in `retire`.

        Planning is done in the background. If the device teaches its driver something meanwhile, the plan is too old, and another is made.
        """
        lessons_count = 0 if self.device is None else self.device.lessons_count
        planned = await in_background(partial(self.driver.plan, tags, tags.ids))
        self.tags = tags
        self.planned = None
        if self.device is None:
            when_done()
            return
        self.device.driver = self.driver
        before = list(self.device.watches)
        if tags:
            is_current = self.device.lessons_count == lessons_count
            scanner.watch(self.device, tags, tags.ids, planned if is_current else None)
        for watch in before:
            scanner.unwatch(self.device, watch, when_done)
        if not before:
            when_done()

    def change(
        self,
        config: DeviceConfig,
        driver: Driver,
        tags: TagView,
        requests: Sequence[Request],
        definitions: RowColumns,
    ) -> None:
        """Is another one from now on; what is polled stays until `poll_others`."""
        self.config = config
        self.driver = driver
        self.tags = tags
        self.requests_per_s = requests_per_second(requests)
        self.definitions = definitions
        self.planned = None

    def show_as(self, tags: TagView) -> None:
        """The same tags in the same rows, in columns that were loaded anew."""
        self.tags = tags
        for watch in self.device.watches if self.device is not None else ():
            watch.tags, watch.rows = tags, tags.ids


class LinkPoller:
    """One connection and the devices on it.

    Args:
        scanner: Polls them.
        devices: Those it begins with, one at least; the first one's driver says what the link is like.
    """

    def __init__(self, scanner: Scanner, devices: Sequence[Polled]) -> None:
        self._scanner = scanner
        self._group: asyncio.TaskGroup | None = None
        self.devices = list(devices)
        self.options = devices[0].driver.link_options

    async def run(self) -> None:
        """Polls until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for polled in self.devices:
                    polled.add_to(self._scanner, group)
                await asyncio.Event().wait()
        finally:
            self._group = None
            for polled in self.devices:
                polled.remove_from(self._scanner)

    def add(self, polled: Polled) -> None:
        """One more device; it is polled from now on if the others are."""
        self.devices.append(polled)
        if self._group is not None:
            polled.add_to(self._scanner, self._group)

    def remove(self, polled: Polled) -> None:
        """One device less."""
        self.devices.remove(polled)
        polled.remove_from(self._scanner)


def define_rows(table: TagTable, columns: TagColumns, config: DeviceConfig, driver: Driver) -> Polled:
    """Defines the rows of one device's tags; devices are to be defined in the order of their tags.

    Raises:
        AddressError: The driver cannot read a tag.
        LimitError: The table is too small.
    """
    view = columns.of_device(config.name)
    requests = driver.plan(view, view.ids)
    first = table.rows_count
    rows = describe_rows(view, first, requests)
    defined = table.define(rows)
    assert defined == first, "rows are defined in the order of the tags"
    assert not view or view.ids[0] == first, "rows are defined in the order of the tags"
    polled = Polled(config, driver, view, requests, rows)
    polled.planned = requests
    return polled


def describe_rows(view: TagView, first: int, requests: Sequence[Request]) -> RowColumns:
    """What the rows of a device's tags have to be, if `requests` were planned for rows from `first` on."""
    rows = RowColumns.from_decodes(first, len(view), (request.decodes for request in requests))
    rows.deadbands = array("d", map(view.columns.deadband, view.ids))
    rows.max_intervals = array("q", map(view.columns.max_interval_ns, view.ids))
    return rows


def group_by_link(devices: Iterable[Polled]) -> dict[str, list[Polled]]:
    """The devices on each link, by the link's key."""
    by_link: dict[str, list[Polled]] = {}
    for polled in devices:
        by_link.setdefault(polled.driver.link_key, []).append(polled)
    return by_link


def child_name(link_key: str) -> str:
    """Name of the child that polls a link."""
    return f"link {link_key}"


def make_pollers(scanner: Scanner, devices: Iterable[Polled]) -> dict[str, LinkPoller]:
    """A poller for each link, by the link's key."""
    return {key: LinkPoller(scanner, on_link) for key, on_link in group_by_link(devices).items()}


def poller_children(pollers: dict[str, LinkPoller]) -> list[Child]:
    """The children that run them."""
    return [Child(child_name(key), poller.run) for key, poller in pollers.items()]
