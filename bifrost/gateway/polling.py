"""Devices into the table: rows defined once, then a child a link that polls the devices on it.

A child a link and not a device, since devices behind one address share its connection: a bug met while connecting one link never stops
another.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from functools import partial

from bifrost.core.columns import TagColumns
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.contracts import Driver, Request
from bifrost.core.table import RowColumns, TagTable
from bifrost.gateway.supervisor import Child
from bifrost.plc.plan import requests_per_second
from bifrost.plc.scan import Device, Scanner

__all__ = ["Polled", "define_rows", "link_children"]


class Polled:
    """A device of the configuration, its driver, and once it is polled its place in the scanner.

    Attributes:
        config: Its section.
        driver: Its driver.
        rows: Its rows of the table, which are the ids of its tags.
        requests_per_s: What polling it costs, as planned at start.
        device: As the scanner knows it; None while its link's child is not running.
    """

    def __init__(self, config: DeviceConfig, driver: Driver, rows: range, requests: Sequence[Request]) -> None:
        self.config = config
        self.driver = driver
        self.rows = rows
        self.requests_per_s = requests_per_second(requests)
        self.device: Device | None = None
        self._planned: Sequence[Request] | None = requests

    def add_to(self, scanner: Scanner, columns: TagColumns, group: asyncio.TaskGroup) -> None:
        """Begins to poll it. The first time as it was planned at start, afterwards as the driver plans by then."""
        view = columns.of_device(self.config.name)
        planned, self._planned = self._planned, None
        self.device = scanner.add_device(
            self.driver, view, view.ids, group=group, name=self.config.name, requests=planned
        )

    def remove_from(self, scanner: Scanner) -> None:
        """Ends polling; does nothing when it is not polled."""
        if self.device is not None:
            scanner.remove(self.device)
            self.device = None


def define_rows(table: TagTable, columns: TagColumns, config: DeviceConfig, driver: Driver) -> Polled:
    """Defines the rows of one device's tags; devices are to be defined in the order of their tags.

    Raises:
        AddressError: The driver cannot read a tag.
        LimitError: The table is too small.
    """
    view = columns.of_device(config.name)
    ids = view.ids
    requests = driver.plan(view, ids)
    rows = RowColumns.from_decodes(ids.start, len(ids), (request.decodes for request in requests))
    rows.deadbands = array("d", map(columns.deadband, ids))
    rows.max_intervals = array("q", map(columns.max_interval_ns, ids))
    first = table.define(rows)
    assert first == ids.start, "rows are defined in the order of the tags"
    return Polled(config, driver, ids, requests)


def link_children(scanner: Scanner, columns: TagColumns, devices: Sequence[Polled]) -> list[Child]:
    """A child for each link, named by its key."""
    by_link: dict[str, list[Polled]] = {}
    for polled in devices:
        by_link.setdefault(polled.driver.link_key, []).append(polled)
    return [Child(f"link {key}", partial(_poll_link, scanner, columns, on_link)) for key, on_link in by_link.items()]


async def _poll_link(scanner: Scanner, columns: TagColumns, devices: Sequence[Polled]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for polled in devices:
                polled.add_to(scanner, columns, group)
            await asyncio.Event().wait()
    finally:
        for polled in devices:
            polled.remove_from(scanner)
