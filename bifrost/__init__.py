"""Bifrost: industrial edge gateway. Everything the plant says in one table of fixed size; out by OPC UA and MQTT.

For programs: ``async with bifrost.connect("modbus://10.0.0.5") as plc:``. Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bifrost.core.datatypes import DataType
    from bifrost.core.tag import DataPoint, Tag
    from bifrost.plc.connection import connect, list_protocols

__all__ = ["DataPoint", "DataType", "Tag", "__version__", "connect", "list_protocols"]

__version__ = "0.1.0"

_MODULES = {
    "DataPoint": "bifrost.core.tag",
    "DataType": "bifrost.core.datatypes",
    "Tag": "bifrost.core.tag",
    "connect": "bifrost.plc.connection",
    "list_protocols": "bifrost.plc.connection",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'bifrost' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
