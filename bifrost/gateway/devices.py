"""Devices of the configuration as drivers, and what is wrong with their addresses, each with its place in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from bifrost.core.columns import TagColumns
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.contracts import Driver
from bifrost.core.errors import AddressError, ConfigError
from bifrost.core.limits import Limits
from bifrost.core.plugins import DRIVERS, load

__all__ = ["address_errors", "link_errors", "make_driver"]


def make_driver(device: DeviceConfig) -> Driver:
    """The driver of `device`; imports its module. Nothing is connected.

    Raises:
        ConfigError: There is none, or it refuses the device's settings; with the place.
    """
    try:
        factory = cast("Callable[[DeviceConfig], Driver]", load(DRIVERS, device.url.scheme))
        return factory(device)
    except ConfigError as error:
        if error.file is not None:
            raise
        raise device.error(error.key or "url", error.message) from error
    except AddressError as error:
        raise device.error("url", str(error)) from error


def address_errors(driver: Driver, columns: TagColumns, device_name: str) -> Iterator[ConfigError]:
    """Goes through the device's tags one by one and gives an error for each that its driver cannot read."""
    for tag_id in columns.device_range(device_name):
        tag = columns[tag_id]
        try:
            driver.check(tag)
        except AddressError as error:
            yield columns.error(tag_id, "address", str(error))


def link_errors(device: DeviceConfig, driver: Driver, limits: Limits) -> Iterator[ConfigError]:
    """What of the device's link does not fit into the limits of the scan engine."""
    if device.window > limits.window_max:
        yield device.error("window", f"{device.window} is above the limit window_max = {limits.window_max}")
    frame_bytes = driver.link_options.frame_bytes_max
    if frame_bytes > limits.frame_bytes_max:
        message = (
            f"frames of this protocol have {frame_bytes} bytes; the limit frame_bytes_max is {limits.frame_bytes_max}"
        )
        yield device.error("url", message)
