"""What limits are made of: what each says about itself, and the regions of memory that they add up to."""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["LimitInfo", "NativeSizes", "Region"]


class LimitInfo(msgspec.Struct, frozen=True):
    """What `bifrost limits` and the reference say about one limit.

    Attributes:
        meaning: What is counted.
        at_limit: What happens when the limit is reached.
        low: Lowest allowed value, in the unit the limit's name ends with.
        high: Highest allowed value.
    """

    meaning: str
    at_limit: str
    low: int
    high: int


class Region(msgspec.Struct, frozen=True):
    """One region of memory that exists from start to stop.

    Attributes:
        name: Short name, for example ``table``.
        bytes: Its size.
        meaning: What is in it, and which limits it follows.
    """

    name: str
    bytes: int
    meaning: str


class NativeSizes(Protocol):
    """How large the regions of the native core are; both backends answer the same."""

    def table_bytes(self, tags: int, cells_bytes: int, ring_changes: int, ring_body_bytes: int) -> int:
        """Bytes of the tag table: slots, text and array cells, change ring, byte ring."""
        ...

    def engine_bytes(self, links: int, window: int, frame_bytes: int, tags: int, queued: int) -> int:
        """Bytes of the scan engine: links, frames in flight, two plan arenas; `queued` commands, one-shots, notices."""
        ...
