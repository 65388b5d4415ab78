"""From the running configuration to another one, without touching what is the same in both.

`prepare` finds a row for every tag, plans every device that is different, and refuses what does not fit; until then nothing has changed.
`carry_out` goes through four steps, so that no row ever has two meanings at a time:

1. *quiet*: what is gone or begins anew is not polled any more, and the engine has said so;
2. *mark*: rows of tags that are gone are BadNodeIdUnknown, those of tags that begin anew BadWaitingForInitialData;
3. *show*: names, writes, OPC UA, uplinks follow the new configuration;
4. *poll*: what is new or begins anew is polled.

A tag that stays keeps its row; so does one that begins anew, if the table can keep its new values there. Devices on one link get one new
plan, which the engine takes over between two polls.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from bifrost.core.background import in_background
from bifrost.core.columns import TagColumns, TagView
from bifrost.core.config import Config
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.contracts import Driver, Request
from bifrost.core.errors import BifrostError, LimitError
from bifrost.core.placed import PlacedColumns
from bifrost.core.status import StatusCode
from bifrost.core.table import RowColumns
from bifrost.gateway.devices import link_errors, make_driver
from bifrost.gateway.difference import NO_ROW, DeviceDifference, Difference
from bifrost.gateway.polling import LinkPoller, Polled, child_name, describe_rows, group_by_link
from bifrost.gateway.supervisor import Child

if TYPE_CHECKING:
    from bifrost.gateway.app import Gateway

__all__ = ["Changeover", "Leftover"]

_QUIET_TIMEOUT_S: Final = 5.0  # The engine takes a plan within a step; what holds it up is a bug.


class Leftover(NamedTuple):
    """Rows that no tag has any more.

    Attributes:
        rows: By full name of the tag they had.
        parts: The same rows with what they are, device by device.
    """

    rows: dict[str, int]
    parts: list[tuple[list[int], RowColumns]]

    def retire(self, gateway: Gateway) -> None:
        """Gives them back, once nobody will ask for them again."""
        for rows, definitions in self.parts:
            gateway.rows.retire(rows, definitions)


class _Outline(NamedTuple):
    """A device that is new or changed, planned before it has rows for all of its tags."""

    tags: TagView
    requests: Sequence[Request]
    definitions: RowColumns
    rows: array[int]  # 0 where there is none yet.
    kept: array[int]
    anew: array[int]
    homeless: list[int]  # Positions of the tags that have no row.


class _Prepared(NamedTuple):
    """A device that is new or changed, planned."""

    difference: DeviceDifference
    driver: Driver
    requests: Sequence[Request]
    definitions: RowColumns
    rows: array[int]
    kept: array[int]  # Positions of its tags that go on as they are.
    anew: array[int]  # Rows that had another meaning before, or none.


class Changeover:
    """One way from the configuration of `gateway` to `config`.

    Args:
        gateway: Running.
        config: Its limits are those of the gateway already.
        difference: Between the two.
        leftover: Rows that tags of `config` had before, from the changeover that is to be undone.

    Attributes:
        leftover: Rows that no tag has any more, once it is carried out.
        failures: What went wrong while it was carried out.
    """

    def __init__(
        self, gateway: Gateway, config: Config, difference: Difference, leftover: Mapping[str, int] | None = None
    ) -> None:
        self._gateway = gateway
        self._before = gateway.config
        self._config = config
        self._base = config.tags.columns if isinstance(config.tags, PlacedColumns) else config.tags
        self._difference = difference
        self._leftover = leftover or {}
        self.leftover = Leftover({}, [])
        self.failures: list[str] = []
        self._polled = {polled.config.name: polled for polled in gateway.devices}
        self._prepared: dict[str, _Prepared] = {}
        self._taken: list[tuple[list[int], RowColumns]] = []
        self._quiet: list[asyncio.Event] = []
        self._repolled: set[str] = set()

    # ---- preparing

    async def prepare(self) -> None:
        """Plans and takes rows. Raises ConfigError, AddressError, LimitError; nothing is changed then."""
        try:
            for name, difference in self._difference.devices.items():
                driver = self._driver_of(difference)
                outline = await in_background(partial(self._outline, difference, driver))
                self._prepared[name] = self._prepare(difference, driver, outline)
            self._check_links()
            if self._gateway.diagnostics is not None:
                self._gateway.diagnostics.require_room(self._config)
            self._config = msgspec.structs.replace(self._config, tags=self._placed())
        except BaseException:
            for rows, columns in self._taken:
                self._gateway.rows.give(rows, columns)
            raise

    def _driver_of(self, difference: DeviceDifference) -> Driver:
        before = self._polled.get(difference.config.name)
        return before.driver if before is not None and not difference.has_settings else self._make_driver(difference)

    def _outline(self, difference: DeviceDifference, driver: Driver) -> _Outline:
        """Plans a device, and finds which of its tags keep their rows. Changes nothing: runs beside the loop."""
        before = self._polled.get(difference.config.name)
        tags = self._base.of_device(difference.config.name)
        requests = driver.plan(tags, range(len(tags)))
        definitions = describe_rows(tags, 0, requests)
        rows = array("I", [0]) * len(tags)
        kept, anew, homeless = array("I"), array("I"), []
        where = {row: index for index, row in enumerate(before.rows)} if before is not None else {}
        for index, row in enumerate(difference.rows):
            if (
                before is None
                or row == NO_ROW
                or not _is_kept_alike(before.definitions, where[row], definitions, index)
            ):
                homeless.append(index)
                continue
            rows[index] = row
            if difference.is_same[index] and not difference.is_moved:
                kept.append(index)
            else:
                anew.append(row)
        return _Outline(tags, requests, definitions, rows, kept, anew, homeless)

    def _prepare(self, difference: DeviceDifference, driver: Driver, outline: _Outline) -> _Prepared:
        """Takes the rows that are missing in `outline`."""
        tags, requests, definitions, rows, kept, anew, homeless = outline
        for index, row in zip(homeless, self._find_rows(tags, definitions, homeless), strict=True):
            rows[index] = row
            anew.append(row)
        return _Prepared(difference, driver, requests, definitions, rows, kept, anew)

    def _check_links(self) -> None:
        allowed = self._gateway.config.limits.links_count_max
        needed = len(self._new_groups())
        if needed > allowed:
            raise LimitError("links_count_max", allowed, f"{needed} connections are needed")

    def _make_driver(self, difference: DeviceDifference) -> Driver:
        config, gateway = difference.config, self._gateway
        driver = make_driver(config)
        for error in link_errors(config, driver, gateway.config.limits):
            raise error
        before = self._polled.get(config.name)
        if before is not None and not difference.is_moved:
            driver.remember(before.driver.learned)
        else:
            driver.remember(gateway.learned.of(config.name, config.url.text))
        return driver

    def _find_rows(self, tags: TagView, definitions: RowColumns, homeless: Sequence[int]) -> list[int]:
        """Rows for tags that have none: that which they had before what is undone now, else a free one."""
        names = [tags.columns.full_name(tags.ids[index]) for index in homeless]
        found = {
            index: self._leftover[name] for index, name in zip(homeless, names, strict=True) if name in self._leftover
        }
        wanted = [index for index in homeless if index not in found]
        columns = definitions.pick(wanted)
        taken = self._gateway.rows.take(columns, None)
        self._taken.append((taken, columns))
        found.update(zip(wanted, taken, strict=True))
        return [found[index] for index in homeless]

    def _placed(self) -> TagColumns:
        """The new columns, with rows as ids."""
        rows = array("I")
        for name in self._base.devices:
            prepared = self._prepared.get(name)
            rows.extend(prepared.rows if prepared is not None else self._difference.same[name])
        return PlacedColumns(self._base, rows)

    # ---- carrying out

    async def carry_out(self) -> None:
        """Goes through all the steps, whatever happens, so that the way back is the same from everywhere.

        What went wrong is in `failures`, in words.
        """
        self._find_leftover()
        await self._make_quiet()
        self._mark()
        await self._show()
        await self._poll()

    def _find_leftover(self) -> None:
        used = set(self._config.tags.ids)
        leftover = self.leftover
        for polled in self._gateway.devices:
            gone = [index for index, row in enumerate(polled.rows) if row not in used]
            if gone:
                rows = [polled.rows[index] for index in gone]
                leftover.rows.update(zip(map(self._before.tags.full_name, rows), rows, strict=True))
                leftover.parts.append((rows, polled.definitions.pick(gone)))

    async def _make_quiet(self) -> None:
        """Step 1. Links whose options change end altogether, as do those that nobody is on any more."""
        gateway, scanner = self._gateway, self._gateway.scanner
        groups = self._new_groups()
        for key, poller in list(gateway.pollers.items()):
            stays = key in groups and groups[key] == poller.options
            for polled in list(poller.devices):
                if not stays or self._leaves(polled, key):
                    polled.retire(scanner, self._awaited())
                    poller.remove(polled)
                    self._repolled.add(polled.config.name)
                    continue
                prepared = self._prepared.get(polled.config.name)
                if prepared is not None and (prepared.anew or prepared.difference.removed):
                    polled.driver = prepared.driver
                    await polled.poll_others(scanner, self._kept_view(prepared), self._awaited())
            if not stays:
                await gateway.supervisor.stop(child_name(key))
                del gateway.pollers[key]
        try:
            async with asyncio.timeout(_QUIET_TIMEOUT_S):
                for event in self._quiet:
                    await event.wait()
        except TimeoutError:
            self.failures.append("the scan engine does not take its new plans")

    def _leaves(self, polled: Polled, key: str) -> bool:
        name = polled.config.name
        prepared = self._prepared.get(name)
        return name in self._difference.removed or (prepared is not None and prepared.driver.link_key != key)

    def _new_groups(self) -> dict[str, object]:
        """Options of each link of the new configuration, by key: those of its first device's driver."""
        groups: dict[str, object] = {}
        for device in self._config.devices:
            prepared = self._prepared.get(device.name)
            driver = prepared.driver if prepared is not None else self._polled[device.name].driver
            groups.setdefault(driver.link_key, driver.link_options)
        return groups

    def _awaited(self) -> Callable[[], None]:
        event = asyncio.Event()
        self._quiet.append(event)
        return event.set

    def _kept_view(self, prepared: _Prepared) -> TagView:
        return TagView(self._config.tags, array("I", [prepared.rows[index] for index in prepared.kept]))

    def _mark(self) -> None:
        """Step 2."""
        table, clock = self._gateway.runtime.table, self._gateway.clock
        mark = partial(table.mark, server_time_ns=clock.utc_ns(), now_ns=clock.now_ns())
        mark(array("I", self.leftover.rows.values()), StatusCode.BadNodeIdUnknown)
        for prepared in self._prepared.values():
            mark(prepared.anew, StatusCode.BadWaitingForInitialData)
            table.retune(prepared.rows, prepared.definitions.deadbands, prepared.definitions.max_intervals)

    async def _show(self) -> None:
        """Step 3."""
        gateway, config = self._gateway, self._config
        gateway.former_names.update((row, name) for name, row in self.leftover.rows.items())
        gateway.devices = [self._polled_as(device) for device in config.devices]
        gateway.config = config
        for row in config.tags.ids:
            gateway.former_names.pop(row, None)
        gateway.delivery.replace(config.tags, gateway.devices)
        gateway.writes.is_enabled = config.gateway.writes
        if gateway.diagnostics is not None:
            gateway.diagnostics.begin(config)
        try:
            await gateway.show_configuration(self._before)
        except BifrostError as error:
            self.failures.append(str(error))
        if gateway.diagnostics is not None:
            gateway.diagnostics.settle()

    def _polled_as(self, config: DeviceConfig) -> Polled:
        """The device as `config` says; polled as before for now, or not yet."""
        tags = self._config.tags.of_device(config.name)
        prepared, polled = self._prepared.get(config.name), self._polled.get(config.name)
        if prepared is None:
            assert polled is not None, "a new device is mentioned"
            polled.show_as(tags)
            polled.config = config
            return polled
        if polled is None:
            return Polled(config, prepared.driver, tags, prepared.requests, prepared.definitions)
        polled.change(config, prepared.driver, tags, prepared.requests, prepared.definitions)
        return polled

    async def _poll(self) -> None:
        """Step 4."""
        gateway = self._gateway
        for key, devices in group_by_link(gateway.devices).items():
            for polled in devices:
                if polled.device is None:
                    await polled.plan()
            poller = gateway.pollers.get(key)
            if poller is None:
                poller = gateway.pollers[key] = LinkPoller(gateway.scanner, devices)
                gateway.supervisor.start(Child(child_name(key), poller.run))
                continue
            for polled in devices:
                if polled not in poller.devices:
                    poller.add(polled)
                elif self._is_to_be_planned(polled.config.name):
                    self._repolled.add(polled.config.name)
                    await polled.poll_others(gateway.scanner, polled.tags, _nothing)
                else:
                    polled.show_as(polled.tags)

    def _is_to_be_planned(self, name: str) -> bool:
        prepared = self._prepared.get(name)
        if prepared is None:
            return False
        difference = prepared.difference
        return bool(difference.has_settings or difference.is_replanned or prepared.anew or difference.removed)

    @property
    def repolled(self) -> frozenset[str]:
        """Devices that were there before and are polled in another way, or over another connection."""
        return frozenset(self._repolled & {device.name for device in self._config.devices})


def _is_kept_alike(one: RowColumns, at: int, other: RowColumns, index: int) -> bool:
    """Whether the table keeps values of both in the same way."""
    return (one.kinds[at], one.types[at], one.cell_sizes[at]) == (
        other.kinds[index],
        other.types[index],
        other.cell_sizes[index],
    )


def _nothing() -> None:
    """Nobody waits for the plan that begins to poll."""
