"""What a configuration would do, without doing it: every mistake with its place, requests a second, blocks, bytes of memory, warnings.

`inspect_file` is the dry run that `bifrost check` shows and the gateway makes before it starts: a configuration that passes here is not
refused there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

from bifrost._native import backend
from bifrost.core.config import Config, read_config
from bifrost.core.config_read import Problems
from bifrost.core.config_sections import WINDOW_PROBE, DeviceConfig
from bifrost.core.contracts import Driver, Request
from bifrost.core.errors import AddressError, ConfigError, LimitError
from bifrost.core.limits import Region
from bifrost.core.runtime import BackendSizes
from bifrost.core.table import RowColumns
from bifrost.gateway.devices import address_errors, link_errors, make_driver
from bifrost.gateway.memory import config_regions
from bifrost.gateway.opcua import check_opcua
from bifrost.gateway.uplinks import check_uplinks, missing_secrets
from bifrost.plc.plan import requests_per_second

__all__ = ["Block", "DeviceReport", "Inspection", "LinkReport", "check_file", "inspect_config", "inspect_file"]

_ANSWER_FAST_S = 0.010  # Few devices answer a Modbus read faster; a plan that needs it is worth a warning.


class Block(msgspec.Struct, frozen=True):
    """One read request of the plan.

    Attributes:
        range: What it reads, as the protocol spells it: ``1!hr:0-124``.
        period_ns: How often.
        tags: Tags that come from it.
    """

    range: str
    period_ns: int
    tags: int


class DeviceReport(msgspec.Struct, frozen=True):
    """What polling one device means.

    Attributes:
        name: Of the device.
        url: As configured.
        link: Key of the link that it shares with other devices at the same address.
        tags: How many.
        requests_per_s: That polling costs.
        blocks: The reads.
    """

    name: str
    url: str
    link: str
    tags: int
    requests_per_s: float
    blocks: tuple[Block, ...]


class LinkReport(msgspec.Struct, frozen=True):
    """One connection: devices on it, requests a second of all of them, requests in flight."""

    link: str
    devices: int
    requests_per_s: float
    window: int


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a dry run.

    Attributes:
        file: As the user typed it.
        errors: Mistakes, each with its place; at most 20.
        errors_count: All of them.
        warnings: What works but is hardly meant.
        config: None if there are mistakes in the file itself.
        devices: Empty if there are mistakes.
        links: Likewise.
        regions: Regions of memory.
        memory_bytes: Their sum.
    """

    file: str
    errors: tuple[ConfigError, ...] = ()
    errors_count: int = 0
    warnings: tuple[str, ...] = ()
    config: Config | None = None
    devices: tuple[DeviceReport, ...] = ()
    links: tuple[LinkReport, ...] = ()
    regions: tuple[Region, ...] = ()
    memory_bytes: int = 0

    @property
    def messages(self) -> list[str]:
        """The mistakes as texts, and one for those that are not shown."""
        messages = [str(error) for error in self.errors]
        if self.errors_count > len(self.errors):
            messages.append(f"... and {self.errors_count - len(self.errors)} more")
        return messages


def check_file(path: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Messages about every mistake in the configuration file `path`; none when a gateway would start with it."""
    return inspect_file(path, environ).messages


def inspect_file(path: str, environ: Mapping[str, str] | None = None) -> Inspection:
    """Reads and plans the configuration in `path`; opens no connection and writes nothing.

    Args:
        path: The TOML file.
        environ: Environment for variables and overrides; None: that of this process.
    """
    config, problems = read_config(path, os.environ if environ is None else environ)
    if config is None:
        return _refused(path, problems)
    return inspect_config(config)


def inspect_config(config: Config) -> Inspection:
    """The dry run of a configuration that has been read."""
    problems = Problems()
    problems.warnings.extend(config.warnings)
    sizes = BackendSizes(config.limits)
    try:
        config.limits.require_memory(sizes, config_regions(config))
    except LimitError as error:
        problems.add(_limit_error(config, error))
    planner = _Planner(config, problems)
    devices = [report for device in config.devices if (report := planner.plan(device)) is not None]
    planner.check_links()
    refusal = check_opcua(config, is_core_compiled=backend.BACKEND == "c")
    if refusal is not None:
        problems.add(config.located(refusal))
    for uplink_error in check_uplinks(config):
        problems.add(uplink_error)
    for key, message in missing_secrets(config):
        problems.warn(message, file=config.file, key=key)
    if problems.errors_count:
        return _refused(config.file, problems, config)
    regions = config.limits.regions(sizes, config_regions(config))
    return Inspection(
        file=config.file,
        warnings=tuple(problems.warnings),
        config=config,
        devices=tuple(devices),
        links=tuple(planner.links.values()),
        regions=regions,
        memory_bytes=sum(region.bytes for region in regions),
    )


class _Planner:
    """Plans device by device and adds up what they share."""

    def __init__(self, config: Config, problems: Problems) -> None:
        self.links: dict[str, LinkReport] = {}
        self._config = config
        self._problems = problems
        self._cell_bytes = 0

    def plan(self, device: DeviceConfig) -> DeviceReport | None:
        """What polling `device` means; None when there is a mistake in it."""
        try:
            driver = make_driver(device)
        except ConfigError as error:
            self._problems.add(error)
            return None
        for problem in link_errors(device, driver, self._config.limits):
            self._problems.add(problem)
        view = self._config.tags.of_device(device.name)
        try:
            requests = driver.plan(view, range(len(view)))
        except AddressError as error:
            self._add_address_errors(driver, device, error)
            return None
        self._count_cells(device, requests)
        report = DeviceReport(
            name=device.name,
            url=device.url.text,
            link=driver.link_key,
            tags=len(view),
            requests_per_s=requests_per_second(requests),
            blocks=tuple(Block(request.label, request.period_ns, len(request.rows)) for request in requests),
        )
        self._add_to_link(report, device)
        return report

    def check_links(self) -> None:
        """Compares what is shared with the limits, once every device is planned."""
        limits = self._config.limits
        if self._cell_bytes > limits.cell_bytes:
            text = f"texts and arrays of the tags take {self._cell_bytes} bytes"
            self._problems.add(_limit_error(self._config, LimitError("cell_bytes", limits.cell_bytes, text)))
        for link in self.links.values():
            answer_s = link.window / link.requests_per_s if link.requests_per_s else _ANSWER_FAST_S
            if answer_s < _ANSWER_FAST_S:
                self._problems.warn(
                    f"{link.link} is asked {link.requests_per_s:.4g} times a second: each answer must come within {answer_s * 1e3:.2g} ms, "
                    "or periods are skipped; scan slower or join reads with gap_registers",
                    file=self._config.file,
                )

    def _add_address_errors(self, driver: Driver, device: DeviceConfig, error: AddressError) -> None:
        count_before = self._problems.errors_count
        for problem in address_errors(driver, self._config.tags, device.name):
            self._problems.add(problem)
        if self._problems.errors_count == count_before:  # Each tag by itself is right: it is about several.
            self._problems.add(device.error("", str(error)))

    def _count_cells(self, device: DeviceConfig, requests: Sequence[Request]) -> None:
        count = len(self._config.tags.device_range(device.name))
        columns = RowColumns.from_decodes(0, count, (request.decodes for request in requests))
        self._cell_bytes += sum(columns.cell_sizes)

    def _add_to_link(self, report: DeviceReport, device: DeviceConfig) -> None:
        window = 1 if device.window == WINDOW_PROBE else device.window
        before = self.links.get(report.link, LinkReport(report.link, 0, 0.0, window))
        self.links[report.link] = LinkReport(
            report.link, before.devices + 1, before.requests_per_s + report.requests_per_s, max(window, before.window)
        )


def _limit_error(config: Config, error: LimitError) -> ConfigError:
    return config.located(ConfigError(str(error), key=f"limits.{error.name}"))


def _refused(path: str, problems: Problems, config: Config | None = None) -> Inspection:
    return Inspection(
        file=path,
        errors=tuple(problems.errors),
        errors_count=problems.errors_count,
        warnings=tuple(problems.warnings),
        config=config,
    )
