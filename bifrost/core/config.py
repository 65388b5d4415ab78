"""Loading a configuration: TOML files, tag tables in CSV, and the environment, into one frozen `Config`.

Order matters and is this: the file's size and syntax; `[limits]`, since they bound the rest; sections one by one;
tags into columns; checks across sections. Mistakes are collected, so that a person sees all of them at once; nothing
is opened, connected or written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from bifrost.core import config_checks as checks
from bifrost.core import plugins
from bifrost.core.columns import TagColumns
from bifrost.core.config_environ import apply_overrides
from bifrost.core.config_files import read_source
from bifrost.core.config_lines import KeyPath
from bifrost.core.config_read import Place, Problems, SectionReader, TomlSource
from bifrost.core.config_rules import Integer, Rule, Size, nearest
from bifrost.core.config_sections import (
    BufferConfig,
    DeviceConfig,
    GatewayConfig,
    HttpConfig,
    Key,
    KeySpec,
    OpcUaConfig,
    UplinkConfig,
)
from bifrost.core.config_tags import DeviceTags, TagReader
from bifrost.core.errors import ConfigError, LimitError
from bifrost.core.limits import LimitInfo, Limits, limit_infos

__all__ = ["Config", "ConfigCheckError", "load_config", "read_config", "read_gateway"]

_SECTIONS = ("gateway", "limits", "device", "opcua", "uplink", "http")
_SECTIONS_OF_ONE = ("gateway", "limits", "opcua", "http")
_INNER_SECTIONS = {"tag": "[[device.tag]]", "tags": "[[device.tag]]", "buffer": "[uplink.buffer]"}
_STALE_DEFAULT_NS = 5_000_000_000
_STALE_DEFAULT_SCANS = 3  # Two answers may be lost before a value is called bad.


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a gateway is told.

    Attributes:
        file: Path as the user typed it.
        gateway: `[gateway]`, defaults filled in.
        limits: `[limits]`, for the tags and devices configured.
        limits_chosen: Those that `[limits]` itself sets.
        devices: `[[device]]` in the order of the file.
        tags: All tags; a device's are `tags.of_device(name)`.
        uplinks: `[[uplink]]` in the order of the file.
        opcua: `[opcua]`; None if the section is not there.
        http: `[http]`.
        warnings: What works but is hardly meant, each with its place.
        places: Where the keys of all sections but `[[device]]` come from, which knows its own, by dotted key.
    """

    file: str
    gateway: GatewayConfig
    limits: Limits
    limits_chosen: Mapping[str, int] = {}
    devices: tuple[DeviceConfig, ...]
    tags: TagColumns
    uplinks: tuple[UplinkConfig, ...] = ()
    opcua: OpcUaConfig | None = None
    http: HttpConfig = HttpConfig()
    warnings: tuple[str, ...] = ()
    places: Mapping[str, Place] = {}

    def located(self, error: ConfigError) -> ConfigError:
        """`error` with the place of its key, or of the section that the key would stand in; as it is when it has one."""
        if error.line is not None or error.key is None:
            return error
        place = self.places.get(error.key)
        section = error.key
        while place is None and "." in section:
            section = section.rpartition(".")[0]
            place = self.places.get(section)
        if place is None:
            return ConfigError(error.message, file=error.file or self.file, key=error.key)
        key = place.key if section == error.key else error.key
        return ConfigError(error.message, file=place.file, line=place.line, key=key)


class ConfigCheckError(ConfigError):
    """Several mistakes at once; the text has a line for each.

    Args:
        problems: The mistakes shown, each a ConfigError with its place.
        problems_count: How many there were in all.
    """

    def __init__(self, problems: tuple[ConfigError, ...], problems_count: int) -> None:
        self.problems = problems
        self.problems_count = problems_count
        lines = [str(problem) for problem in problems]
        if problems_count > len(problems):
            lines.append(f"... and {problems_count - len(problems)} more")
        super().__init__("\n".join(lines))


def load_config(path: str, environ: Mapping[str, str]) -> Config:
    """The configuration in `path`.

    Args:
        path: The TOML file; paths in it are relative to its directory.
        environ: The environment, for ``${VAR}``, overrides and systemd's directories.

    Raises:
        ConfigError: The mistake, or `ConfigCheckError` with all of them.
    """
    config, problems = read_config(path, environ)
    if config is not None:
        return config
    if problems.errors_count == 1:
        raise problems.errors[0]
    raise ConfigCheckError(tuple(problems.errors), problems.errors_count)


def read_config(path: str, environ: Mapping[str, str]) -> tuple[Config | None, Problems]:
    """Like `load_config`, but with mistakes and warnings side by side; raises nothing, None stands for mistakes."""
    problems = Problems()
    try:
        source = read_source(path, problems)
        config = None if source is None else _Loader(source, environ, problems).load()
    except ConfigError as error:
        problems.add(error)
        config = None
    problems.sort(path)
    return config, problems


def read_gateway(path: str, environ: Mapping[str, str]) -> GatewayConfig:
    """`[gateway]` alone, for commands that only have to find the running gateway; the rest is not looked at.

    Raises:
        ConfigError: The file cannot be read, or the section is wrong.
    """
    problems = Problems()
    source = read_source(path, problems)
    gateway = None if source is None else _Loader(source, environ, problems).read_gateway()
    if gateway is not None:
        return gateway
    raise problems.errors[0] if problems.errors else ConfigError("the section is missing", file=path, key="gateway")


class _Loader:
    """One pass over one file."""

    def __init__(self, source: TomlSource, environ: Mapping[str, str], problems: Problems) -> None:
        self._source = source
        self._environ = environ
        self._problems = problems
        for problem in apply_overrides(source.document, environ, _SECTIONS):
            problems.add(problem)
        self._sections = SectionReader(source, environ, problems, Limits.small().text_bytes_max)

    def load(self) -> Config | None:
        self._check_sections()
        chosen = self._read_limits()
        bounds = Limits.small()
        bounds = msgspec.structs.replace(
            bounds, **{name: value for name, value in chosen.items() if name in _BOUNDS_OF_READING}
        )
        self._sections.text_bytes_max = bounds.text_bytes_max
        self._source.require_size(bounds.config_bytes_max)
        gateway = self.read_gateway()
        tags = TagColumns(chosen.get("tags_count_max", limit_infos()["tags_count_max"].high))
        devices = self._read_devices(tags, bounds.csv_rows_max)
        uplinks = self._read_uplinks()
        opcua = self._read_single("opcua", OpcUaConfig)
        http = self._read_single("http", HttpConfig)
        limits = self._limits(len(tags), len(devices), len(uplinks), opcua is not None, chosen)
        self._check(gateway, devices, tags, uplinks, opcua, http)
        if self._problems.errors_count or gateway is None or limits is None:
            return None
        return Config(
            file=self._source.file,
            gateway=gateway,
            limits=limits,
            limits_chosen=chosen,
            devices=tuple(devices),
            tags=tags,
            uplinks=tuple(uplinks.values()),
            opcua=opcua,
            http=http or HttpConfig(),
            warnings=tuple(self._problems.warnings),
            places=self._places(uplinks),
        )

    def _check_sections(self) -> None:
        for name, value in self._source.document.items():
            if name in _SECTIONS:
                continue
            if not isinstance(value, dict | list):
                message = f"the key stands outside of every section; sections: {', '.join(_SECTIONS)}"
            elif name in _INNER_SECTIONS:
                message = f"unknown section; did you mean {_INNER_SECTIONS[name]!r}?"
            else:
                message = f"unknown section{nearest(name, _SECTIONS)}"
            self._sections.fault((name,), name, message)

    def _read_limits(self) -> dict[str, int]:
        chosen: dict[str, int] = {}
        if not self._sections.has_table(("limits",), "limits"):
            return chosen
        for name, value in self._source.table_at(("limits",)).items():
            path = ("limits", name)
            info = limit_infos().get(name)
            if info is None:
                self._sections.fault(path, f"limits.{name}", f"unknown limit{nearest(name, limit_infos())}", value)
                continue
            spec = KeySpec(Key(name, _limit_rule(name, info), info.meaning), name, required=False)
            try:
                chosen[name] = self._sections.parse(spec, value)
            except ValueError as error:
                self._sections.fault(path, f"limits.{name}", str(error), value)
        return chosen

    def _limits(
        self, tags_count: int, devices_count: int, uplinks_count: int, has_opcua: bool, chosen: dict[str, int]
    ) -> Limits | None:
        try:
            return Limits.for_gateway(
                tags_count,
                links_configured=devices_count,
                uplinks_configured=uplinks_count,
                has_opcua=has_opcua,
                chosen=chosen,
            )
        except LimitError as error:
            self._sections.fault(("limits", error.name), f"limits.{error.name}", str(error))
            return None

    def read_gateway(self) -> GatewayConfig | None:
        if not self._sections.has_table(("gateway",), "gateway"):
            if "gateway" not in self._source.document:
                self._sections.fault(("gateway",), "gateway", "the section is missing; it must give the gateway a name")
            return None
        values = self._sections.read(GatewayConfig, ("gateway",), "gateway")
        if values is None:
            return None
        data_dir = values.setdefault(
            "data_dir", self._environ.get("STATE_DIRECTORY", "").split(":")[0] or os.path.join(".", "bifrost-data")
        )
        run_dir = self._environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or data_dir
        values.setdefault("control", os.path.join(run_dir, "control.sock"))
        return GatewayConfig(**values)

    def _read_devices(self, tags: TagColumns, csv_rows_max: int) -> list[DeviceConfig]:
        reader = TagReader(self._sections, tags, csv_rows_max)
        devices: list[DeviceConfig] = []
        places: dict[str, str] = {}
        try:
            for path in self._sections.tables(("device",), "device"):
                name, label = self._unique_name(path, "device", places)
                values = self._sections.read(DeviceConfig, path, label, others=("tag",))
                if name is None:
                    continue
                scan_ns = (values or {}).get("scan_ns", DeviceConfig.__struct_defaults__[0])
                about = DeviceTags(name, scan_ns, slowest_scan_ns=0)
                tags.begin_device(name)
                found_before = self._problems.errors_count
                self._read_tags(reader, about, path)
                if not tags.device_range(name) and self._problems.errors_count == found_before:
                    file, line = self._source.file_of(path), self._source.line(path)
                    self._problems.warn("the device has no tags", file=file, line=line, key=label)
                if values is not None:
                    devices.append(self._device(values, path, about))
        except LimitError as error:
            self._sections.fault(("limits", error.name), f"limits.{error.name}", str(error))
        return devices

    def _unique_name(self, path: KeyPath, section: str, places: dict[str, str]) -> tuple[str | None, str]:
        """The name that a table gives itself, or None if it has none of its own; and its label in messages."""
        name = self._source.table_at(path).get("name")
        if not isinstance(name, str) or not name:
            return None, f"{section}.?"
        label = f"{section}.{name}"
        at = (*path, "name")
        if name in places:
            self._sections.fault(at, f"{label}.name", f"the {section} in {places[name]} has the same name")
            return None, label
        places[name] = f"{self._source.file_of(at)}:{self._source.line(at)}"
        return name, label

    def _read_tags(self, reader: TagReader, about: DeviceTags, path: KeyPath) -> None:
        for tag_path in self._sections.tables((*path, "tag"), f"device.{about.name}.tag"):
            reader.read_inline(about, tag_path)
        table = self._source.table_at(path).get("tags")
        if isinstance(table, str) and table:
            names_it = self._source.file_of(path)
            file = os.path.join(os.path.dirname(names_it), table)
            at = (names_it, self._source.line((*path, "tags")), f"device.{about.name}.tags")
            reader.read_table(about, file, file, at)

    def _device(self, values: dict[str, Any], path: KeyPath, about: DeviceTags) -> DeviceConfig:
        slowest_ns = about.slowest_scan_ns or about.scan_ns
        values.setdefault("stale_ns", max(_STALE_DEFAULT_NS, _STALE_DEFAULT_SCANS * slowest_ns))
        device = DeviceConfig(**values, file=self._source.file_of(path), lines=self._source.lines_below(path))
        try:
            plugins.check_scheme(plugins.DRIVERS, device.url.scheme, device.url.host)
        except ValueError as error:
            self._problems.add(device.error("url", str(error)))
        checks.check_stale(device, slowest_ns, self._problems)
        return device

    def _read_uplinks(self) -> dict[KeyPath, UplinkConfig]:
        uplinks: dict[KeyPath, UplinkConfig] = {}
        places: dict[str, str] = {}
        for path in self._sections.tables(("uplink",), "uplink"):
            name, label = self._unique_name(path, "uplink", places)
            values = self._sections.read(UplinkConfig, path, label, others=("buffer",))
            buffer = BufferConfig()
            if self._sections.has_table((*path, "buffer"), f"{label}.buffer"):
                buffer_values = self._sections.read(BufferConfig, (*path, "buffer"), f"{label}.buffer")
                buffer = BufferConfig(**(buffer_values or {}))
            if values is not None and name is not None:
                uplinks[path] = UplinkConfig(**values, buffer=buffer)
        return uplinks

    def _places(self, uplinks: Mapping[KeyPath, UplinkConfig]) -> dict[str, Place]:
        document, table_at = self._source.document, self._source.table_at
        tables: dict[KeyPath, str] = {(name,): name for name in _SECTIONS_OF_ONE if name in document}
        for path, uplink in uplinks.items():
            tables[path] = f"uplink.{uplink.name}"
            if "buffer" in table_at(path):
                tables[*path, "buffer"] = f"uplink.{uplink.name}.buffer"
        places: dict[str, Place] = {}
        for path, label in tables.items():
            places |= self._source.places(path, label)
        return places

    def _read_single(self, name: str, section: type[Any]) -> Any:
        """A section that can be there once; None if it is not there or was wrong."""
        if not self._sections.has_table((name,), name):
            return None
        values = self._sections.read(section, (name,), name)
        return None if values is None else section(**values)

    def _check(
        self,
        gateway: GatewayConfig | None,
        devices: list[DeviceConfig],
        tags: TagColumns,
        uplinks: dict[KeyPath, UplinkConfig],
        opcua: OpcUaConfig | None,
        http: HttpConfig | None,
    ) -> None:
        checks.check_clashes(tags, tags.freeze(), self._problems)
        checks.check_devices(devices, self._problems)
        if gateway is not None:
            checks.check_control(gateway, self._sections)
            checks.check_writes(gateway, tags, self._sections)
        if opcua is not None:
            checks.check_opcua(opcua, self._sections)
        checks.check_uplinks(uplinks, tags, self._sections)
        if http is not None:
            checks.check_http(http, self._sections)
        if "device" not in self._source.document:
            self._problems.warn("there is no [[device]]: nothing will be read", file=self._source.file)


_BOUNDS_OF_READING = ("config_bytes_max", "csv_rows_max", "text_bytes_max")


def _limit_rule(name: str, info: LimitInfo) -> Rule:
    """Limits of bytes take a size with a unit, all others a whole number."""
    return Size(info.low, info.high) if "bytes" in name else Integer(info.low, info.high)
