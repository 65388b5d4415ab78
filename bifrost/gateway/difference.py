"""What is different between the configuration that runs and another one, tag by tag, by full name. Pure.

A tag that is the same in both is not mentioned at all, and nobody touches it. One whose *definition* changed (address, type, byte order,
scale, offset) begins anew; other settings (deadband, scan, range, unit, description, whether it is writable) change under a running tag.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from bifrost.core.config import Config
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.errors import ConfigError
from bifrost.core.tag import Tag

__all__ = ["NO_ROW", "DeviceDifference", "Difference", "compare", "restart_errors"]

NO_ROW = -1
_RESTART = "takes effect at a restart only; nothing was changed"


class DeviceDifference(NamedTuple):
    """One device of the new configuration that is not as it was.

    Attributes:
        config: Its section.
        is_new: It was not there before.
        is_moved: It has another URL: whatever it says, it is another device that says it.
        has_settings: Any of its own settings changed.
        rows: For each of its tags the row that it has; `NO_ROW` for one that was not there.
        is_same: For each of its tags whether its definition is the same; 0 for one that was not there.
        is_replanned: The scan period of a tag changed.
        removed: Rows of tags that are gone.
        added_count: Tags that were not there.
        changed_count: Tags that are the same no more, in whatever setting.
    """

    config: DeviceConfig
    is_new: bool
    is_moved: bool
    has_settings: bool
    rows: array[int]
    is_same: bytearray
    is_replanned: bool
    removed: array[int]
    added_count: int
    changed_count: int

    @property
    def is_any(self) -> bool:
        """Whether there is any difference."""
        return bool(self.is_new or self.has_settings or self.added_count or self.changed_count or self.removed)


class Difference(NamedTuple):
    """Everything that is different.

    Attributes:
        devices: Those that are new or changed, by name, in the order of the configuration.
        same: Rows of the tags of all others, by name of the device.
        removed: Names of devices that are gone.
        others: Names of sections that changed: ``uplink``, ``http``, ``gateway.writes``.
    """

    devices: dict[str, DeviceDifference]
    same: dict[str, array[int]]
    removed: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def is_any(self) -> bool:
        """Whether there is any difference."""
        return bool(self.devices or self.removed or self.others)

    def counts(self, config: Config) -> dict[str, int]:
        """Tags added, removed and changed, for people. `config` is the one before."""
        gone = sum(len(config.tags.device_range(name)) for name in self.removed)
        devices = self.devices.values()
        return {
            "tags_added": sum(device.added_count for device in devices),
            "tags_removed": gone + sum(len(device.removed) for device in devices),
            "tags_changed": sum(device.changed_count for device in devices),
            "devices_added": sum(device.is_new for device in devices),
            "devices_removed": len(self.removed),
            "devices_changed": sum(device.has_settings and not device.is_new for device in devices),
        }


def compare(before: Config, after: Config) -> Difference:
    """How `after` differs from `before`, whose tags have their rows as ids. About 10 µs a tag."""
    old = {device.name: device for device in before.devices}
    all_devices = [_compare_device(before, after, old.get(device.name), device) for device in after.devices]
    names = {device.config.name for device in all_devices}
    others = [
        section
        for section, is_changed in (
            ("uplink", before.uplinks != after.uplinks),
            ("http", before.http != after.http),
            ("gateway.writes", before.gateway.writes != after.gateway.writes),
        )
        if is_changed
    ]
    return Difference(
        devices={device.config.name: device for device in all_devices if device.is_any},
        same={device.config.name: array("I", device.rows) for device in all_devices if not device.is_any},
        removed=tuple(device.name for device in before.devices if device.name not in names),
        others=tuple(others),
    )


def restart_errors(before: Config, after: Config) -> Iterator[ConfigError]:
    """What of `after` cannot change while the gateway runs."""
    for key in ("name", "data_dir", "control"):
        if getattr(before.gateway, key) != getattr(after.gateway, key):
            yield after.located(ConfigError(_RESTART, key=f"gateway.{key}"))
    for name in sorted({*before.limits_chosen, *after.limits_chosen}):
        if before.limits_chosen.get(name) != after.limits_chosen.get(name):
            yield after.located(ConfigError(_RESTART, key=f"limits.{name}"))
    if before.opcua != after.opcua:
        yield after.located(ConfigError(_RESTART, key="opcua"))


def _compare_device(
    before: Config, after: Config, old_config: DeviceConfig | None, config: DeviceConfig
) -> DeviceDifference:
    tags = after.tags.of_device(config.name)
    gone = set(before.tags.device_range(config.name)) if old_config is not None else set()
    rows, is_same = array("q"), bytearray()
    is_replanned = False
    added_count = changed_count = 0
    for tag in tags:
        row = before.tags.id_of(tag.full_name) if old_config is not None else None
        if row is None:
            rows.append(NO_ROW)
            is_same.append(False)
            added_count += 1
            continue
        gone.discard(row)
        rows.append(row)
        old = before.tags[row]
        is_same.append(old == tag or _definition(old) == _definition(tag))
        if old != tag:
            changed_count += 1
            is_replanned |= old.scan_ns != tag.scan_ns
    return DeviceDifference(
        config=config,
        is_new=old_config is None,
        is_moved=old_config is not None and old_config.url != config.url,
        has_settings=old_config is not None and _settings(old_config) != _settings(config),
        rows=rows,
        is_same=is_same,
        is_replanned=is_replanned,
        removed=array("I", sorted(gone)),
        added_count=added_count,
        changed_count=changed_count,
    )


def _definition(tag: Tag) -> tuple[object, ...]:
    return tag.address, tag.datatype, tag.byte_order, tag.scale, tag.offset


def _settings(device: DeviceConfig) -> DeviceConfig:
    """A device without where it is written."""
    return msgspec.structs.replace(device, table="", file="", lines={})
