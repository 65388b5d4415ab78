"""PLC protocols: one connection API over Modbus, S7, EtherNet/IP and others; each protocol has the same files.

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bifrost.plc.connection import PLCConnection, ProtocolType, Snapshot, connect, list_protocols
    from bifrost.plc.datatypes import ByteOrder, DataPoint, DataType, Tag
    from bifrost.plc.modbus.connection import ModbusConnection

__all__ = [
    "ByteOrder",
    "DataPoint",
    "DataType",
    "ModbusConnection",
    "PLCConnection",
    "ProtocolType",
    "Snapshot",
    "Tag",
    "connect",
    "list_protocols",
]

_MODULES = {
    "ByteOrder": "bifrost.plc.datatypes",
    "DataPoint": "bifrost.plc.datatypes",
    "DataType": "bifrost.plc.datatypes",
    "ModbusConnection": "bifrost.plc.modbus.connection",
    "PLCConnection": "bifrost.plc.connection",
    "ProtocolType": "bifrost.plc.connection",
    "Snapshot": "bifrost.plc.connection",
    "Tag": "bifrost.plc.datatypes",
    "connect": "bifrost.plc.connection",
    "list_protocols": "bifrost.plc.connection",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
