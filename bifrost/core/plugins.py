"""Which drivers and connectors there are, by URL scheme, without importing any of them.

Built-in ones stand in a table here, since a stripped image may lack the metadata that entry points come from; others
register under the entry point groups ``bifrost.drivers`` and ``bifrost.connectors``, named by their scheme. A module
is imported when its scheme is first used, so that a gateway with Modbus alone never loads S7. A built-in scheme
cannot be taken over by an entry point.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache

import msgspec

from bifrost.core.config_rules import nearest
from bifrost.core.errors import ConfigError

__all__ = ["CONNECTORS", "DRIVERS", "BuiltIn", "check_scheme", "load", "schemes"]

DRIVERS = "bifrost.drivers"
CONNECTORS = "bifrost.connectors"


class BuiltIn(msgspec.Struct, frozen=True):
    """A plug-in that comes with Bifrost.

    Attributes:
        target: ``module:attribute``.
        needs_host: Whether its URL must name a host (a serial port or a simulation has none).
    """

    target: str
    needs_host: bool = True


_BUILT_IN: Mapping[str, Mapping[str, BuiltIn]] = {
    DRIVERS: {"modbus-tcp": BuiltIn("bifrost.plc.modbus.driver:ModbusDriver")},
    CONNECTORS: {
        "mqtt": BuiltIn("bifrost.bridge.connectors.mqtt:MqttConnector"),
        "mqtts": BuiltIn("bifrost.bridge.connectors.mqtt:MqttConnector"),
        "ws": BuiltIn("bifrost.bridge.connectors.mqtt:MqttConnector"),
        "wss": BuiltIn("bifrost.bridge.connectors.mqtt:MqttConnector"),
        "file": BuiltIn("bifrost.bridge.connectors.file:FileConnector", needs_host=False),
    },
}
_ALIASES = {"modbus": "modbus-tcp"}  # CONTRACT, Addresses and types.
_PLANNED = ("modbus-rtu", "modbus-rtu+tcp", "modbus-udp", "modbus-tls", "s7", "eip", "opc.tcp")


def canonical(scheme: str) -> str:
    """`scheme` without its aliases: ``modbus`` means ``modbus-tcp``."""
    return _ALIASES.get(scheme, scheme)


def check_scheme(group: str, scheme: str, host: str) -> None:
    """Raise ValueError unless `group` has a plug-in for `scheme`, and `host` is there if it needs one.

    Looks at installed packages when the scheme is not built in; imports no plug-in.
    """
    built_in = _BUILT_IN[group].get(canonical(scheme))
    if built_in is not None:
        if built_in.needs_host and not host:
            raise ValueError(f"the URL names no host; write for example '{scheme}://10.0.0.5'")
        return
    if scheme in _entry_points(group):
        return
    if scheme in _PLANNED:
        raise ValueError(f"this version has no driver for '{scheme}://' yet; it has: {', '.join(schemes(group))}")
    raise ValueError(f"no driver for '{scheme}://'{nearest(scheme, schemes(group))}")


def schemes(group: str) -> list[str]:
    """All schemes of a group that can be written in a URL, built-in ones first. Looks at installed packages."""
    built_in = [*_BUILT_IN[group], *(alias for alias, scheme in _ALIASES.items() if scheme in _BUILT_IN[group])]
    return [*built_in, *(name for name in sorted(_entry_points(group)) if name not in built_in)]


def load(group: str, scheme: str) -> object:
    """The plug-in for `scheme`: imports its module.

    Raises:
        ConfigError: There is none, or its module cannot be imported; the message names the package at fault.
    """
    scheme = canonical(scheme)
    built_in = _BUILT_IN[group].get(scheme)
    target = built_in.target if built_in is not None else _entry_points(group).get(scheme)
    if target is None:
        raise ConfigError(f"no plug-in for '{scheme}://'{nearest(scheme, schemes(group))}", key="url")
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the plug-in {target!r} for '{scheme}://' cannot be loaded: {error}", key="url") from error


@cache
def _entry_points(group: str) -> Mapping[str, str]:
    """Scheme and target of installed plug-ins."""
    from importlib.metadata import entry_points  # Takes 20 ms and 3 MB, for nothing where all is built in.

    return {point.name: point.value for point in entry_points(group=group)}
