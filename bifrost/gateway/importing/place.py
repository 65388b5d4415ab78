"""Puts an imported table beside a configuration, and its device into it, without touching a byte of what stands there.

Both files are written beside their places, checked there as a whole, and moved into place one after the other: a machine that
stops in between has a table that nobody names yet, never a configuration that names a table which is not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bifrost.core.config import Config, ConfigCheckError, read_config
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.errors import ConfigError, StorageError
from bifrost.gateway.check import inspect_file

__all__ = ["Placement", "plan_placement", "write_placement"]

_NEW_FILE = """\
# Bifrost gateway: `bifrost check` shows what it would do, `bifrost run` runs it.
[gateway]
name = "gateway"  # In topics and payloads: give each gateway of a plant its own.
"""
_TABLES_FOLDER = "tags"


class Placement(msgspec.Struct, frozen=True):
    """What will be written.

    Attributes:
        config: The configuration file.
        table: The tag table, relative to the working directory as `config` is.
        section: Text that is added to the configuration; empty: the device is there and names the table.
        old: What the configuration file holds; None: there is none.
        replaces_table: Whether a table is there already.
    """

    config: str
    table: str
    section: str
    old: bytes | None
    replaces_table: bool

    @property
    def line(self) -> int:
        """Line of the configuration in which the new section begins, from 1."""
        return _with_section(self, "").count(b"\n") + 1


def plan_placement(config: str, device: str, url: str, force: bool, environ: Mapping[str, str]) -> Placement:
    """Where table and device go.

    Args:
        config: Path of the configuration file, which need not be there.
        device: Name of the device.
        url: Its URL; empty: not said.
        force: Whether the table of a device that is there may be replaced.
        environ: For the configuration.

    Raises:
        ConfigError: The configuration is wrong already, the device or its table is there, or its URL is not known.
    """
    old: bytes | None = None
    there: DeviceConfig | None = None
    with contextlib.suppress(FileNotFoundError):
        old = Path(config).read_bytes()
        there = next((one for one in _present(config, environ).devices if one.name == device), None)
    folder = os.path.dirname(config)
    if there is not None:
        return _replacement(config, there, url, force, old)
    table = os.path.join(folder, _TABLES_FOLDER, f"{device}.csv")
    if os.path.exists(table) and not force:
        raise ConfigError("is there already; --force replaces it", file=table)
    if not url:
        raise ConfigError(f"say where device {device!r} is, for example: --url modbus-tcp://10.0.0.5:502?unit=1")
    name, where, tags = (
        json.dumps(text, ensure_ascii=False) for text in (device, url, f"{_TABLES_FOLDER}/{device}.csv")
    )
    section = f"[[device]]\nname = {name}\nurl = {where}\ntags = {tags}\n"
    return Placement(config, table, section, old, os.path.exists(table))


def write_placement(placement: Placement, table_text: str, environ: Mapping[str, str]) -> None:
    """Writes both files, if the configuration passes the check with them.

    Raises:
        ConfigError: It does not; nothing was changed.
        StorageError: A file cannot be written.
    """
    table, config = Path(placement.table), Path(placement.config)
    new_table = table.with_name(f".{table.name}.new")
    new_config = config.with_name(f".{config.name}.new")
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        _write(new_table, table_text.encode())
        if placement.section:
            _write(new_config, _with_section(placement, placement.section.replace(table.name, new_table.name)))
            _require_check(new_config, {new_config.name: config.name, new_table.name: table.name}, environ)
            _write(new_config, _with_section(placement, placement.section))
            if placement.old is not None:
                shutil.copymode(config, new_config)
            os.replace(new_table, table)
            os.replace(new_config, os.path.realpath(config))  # What a link points to, not the link.
        else:
            _replace_table(config, table, new_table, environ)
    except OSError as error:
        raise StorageError(f"{error.filename or table}: cannot be written: {error.strerror}") from error
    finally:
        for left in (new_table, new_config):
            with contextlib.suppress(OSError):
                left.unlink()


def _replace_table(config: Path, table: Path, new_table: Path, environ: Mapping[str, str]) -> None:
    """Puts the new table in place of the old one, which comes back if the configuration does not pass the check with the new one."""
    old = table.read_bytes()
    shutil.copymode(table, new_table)
    os.replace(new_table, table)
    try:
        _require_check(config, {}, environ)
    except ConfigError:
        _write(new_table, old)
        os.replace(new_table, table)
        raise


def _present(config: str, environ: Mapping[str, str]) -> Config:
    loaded, problems = read_config(config, environ)
    if loaded is None:
        raise ConfigError(
            f"{config} is wrong already, and nothing was imported:\n{ConfigCheckError(tuple(problems.errors), problems.errors_count)}"
        )
    return loaded


def _replacement(config: str, there: DeviceConfig, url: str, force: bool, old: bytes | None) -> Placement:
    if not there.table:
        message = f"the device {there.name!r} is there with tags of its own; move them into a table (tags = …), or choose another --device"
        raise ConfigError(message, file=there.file, line=there.lines.get(""))
    if url and url != there.url.text:
        raise ConfigError(
            f"the device {there.name!r} is at {there.url.text}; change that here",
            file=there.file,
            line=there.lines.get("url"),
        )
    table = os.path.join(os.path.dirname(there.file), there.table)
    if not force:
        raise ConfigError(
            f"the device {there.name!r} is there already; --force replaces its table {table}",
            file=there.file,
            line=there.lines.get(""),
        )
    return Placement(config, table, "", old, os.path.exists(table))


def _with_section(placement: Placement, section: str) -> bytes:
    """The configuration with `section` behind what it holds, in the line ends it has."""
    old = _NEW_FILE.encode() if placement.old is None else placement.old
    line_end = b"\r\n" if b"\r\n" in old else b"\n"
    gap = b"" if not old else line_end if old.endswith(b"\n") else line_end * 2
    return old + gap + section.encode().replace(b"\n", line_end)


def _require_check(path: Path, names: Mapping[str, str], environ: Mapping[str, str]) -> None:
    inspection = inspect_file(str(path), environ)
    if inspection.errors:
        text = "\n".join(inspection.messages)
        for temporary, name in names.items():
            text = text.replace(temporary, name)
        raise ConfigError(f"the configuration would not pass the check, and nothing was imported:\n{text}")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
