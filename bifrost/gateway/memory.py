"""Regions of memory that a configuration asks for beside the core's: faces and uplinks know their own size.

And the heap of the process: it is told once, before the configuration is read, to give back what is freed (csrc/heap.c
says how, and why). Without C it stays as it is.
"""

from __future__ import annotations

from typing import Final

from bifrost._native import backend
from bifrost.core.config import Config
from bifrost.core.limits import Limits, Region
from bifrost.gateway.opcua import face_regions
from bifrost.gateway.uplinks import uplink_regions

__all__ = ["PROCESS_BYTES", "config_regions", "service_limits", "tune_heap"]

PROCESS_BYTES: Final = 40 << 20
"""What the interpreter takes beside the regions of `bifrost limits`, measured and rounded up."""

_MIB: Final = 1 << 20
_DATA_BELOW_BYTES: Final = 8 << 20  # So that Python meets its own limit before the kernel ends the service.


def config_regions(config: Config) -> tuple[Region, ...]:
    """For `Limits.regions`."""
    return (*face_regions(config), *uplink_regions(config))


def service_limits(limits: Limits) -> str:
    """What a systemd unit should say for a gateway with these limits."""
    most_bytes = limits.memory_bytes_max + PROCESS_BYTES
    return f"MemoryMax={-(-most_bytes // _MIB)}M LimitDATA={-(-(most_bytes - _DATA_BELOW_BYTES) // _MIB)}M"


def tune_heap() -> None:
    """Has memory that was freed go back to the system. A heap that cannot be told works all the same."""
    backend.tune_heap()
