"""Every size in Bifrost, in one frozen struct: nothing else in the tree defines one.

Each limit says what happens when it is reached. `Limits.regions()` is the arithmetic of memory: the gateway computes
the sum, compares it with `memory_bytes_max`, allocates everything, and freezes; it refuses to start if the sum does
not fit. Numbers that a standard fixes (a PDU of 253 bytes) are not limits; they stand beside the protocol with their
clause.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Protocol

import msgspec

from bifrost.core.errors import LimitError
from bifrost.core.quantity import format_size

__all__ = ["PROBLEMS_COUNT_MAX", "LimitInfo", "Limits", "NativeSizes", "Region", "limit_infos"]

PROBLEMS_COUNT_MAX = 20  # Mistakes shown at once for one configuration; the rest is counted. Nobody reads the 21st.

_KIB = 1 << 10
_MIB = 1 << 20
_COLUMN_BYTES_PER_TAG = 128  # Of `core.columns`, with names and descriptions of usual length; a test measures it.
_WRITE_BYTES = 1_024  # One queued write with its future and timer: 880 bytes on CPython 3.11 by tracemalloc.
_LINES_PER_CLIENT = 2  # A control client holds one request line and one answer line.
_TAG_HEADROOM_PERCENT = 25  # CONTRACT: default 1.25 x configured, so that reload has room.

_REFUSED = "the configuration is refused"
_OLDEST_DROPPED = "the oldest are dropped and counted"
_STATUS = "the request is refused with BadTooManyOperations"
_WAITS = "the sender waits"


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


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All limits of one runtime, made by `small()` or `for_gateway()`; both assert the relations between the limits."""

    memory_bytes_max: Annotated[
        int, LimitInfo("Sum of all regions of memory that `bifrost limits` lists.", _REFUSED, _MIB, 1 << 40)
    ] = 64 * _MIB
    tags_count_max: Annotated[
        int,
        LimitInfo(
            "Tags in the table; default 1.25 x configured.", f"{_REFUSED}, at start and at reload", 1, 10_000_000
        ),
    ] = 1_000
    ring_changes_count: Annotated[
        int,
        LimitInfo(
            "Changes in the ring that all readers share.",
            f"{_OLDEST_DROPPED} for the reader that was lapped",
            2,
            1 << 28,
        ),
    ] = 4_096
    ring_body_bytes: Annotated[
        int,
        LimitInfo(
            "Texts and arrays of the changes in the ring.",
            "the oldest body is overwritten and delivered as 'value lost'",
            0,
            1 << 30,
        ),
    ] = 64 * _KIB
    cell_bytes: Annotated[int, LimitInfo("Latest values of all text and array tags.", _REFUSED, 0, 1 << 30)] = 64 * _KIB
    links_count_max: Annotated[int, LimitInfo("Connections and serial ports.", _REFUSED, 1, 100_000)] = 128
    window_max: Annotated[int, LimitInfo("Requests in flight on one link.", _REFUSED, 1, 256)] = 16
    frame_bytes_max: Annotated[
        int,
        LimitInfo(
            "Longest request or answer on the wire.", "the link is closed: the peer broke the standard", 256, 65_535
        ),
    ] = 512
    oneshots_count_max: Annotated[
        int, LimitInfo("Single reads and writes waiting in the scan engine.", _STATUS, 1, 65_536)
    ] = 64
    notices_count_max: Annotated[
        int,
        LimitInfo(
            "Events of the scan engine that Python has not read yet.", "links with news wait, polls go on", 16, 1 << 20
        ),
    ] = 1_024
    commands_count_max: Annotated[
        int, LimitInfo("Commands to the scan engine that it has not read yet.", _WAITS, 16, 1 << 20)
    ] = 256
    write_queue_count_max: Annotated[int, LimitInfo("Writes to devices, waiting or under way.", _STATUS, 1, 65_536)] = (
        256
    )
    control_clients_max: Annotated[
        int, LimitInfo("Clients of the control socket.", "a further client is told so and disconnected", 1, 256)
    ] = 8
    control_line_bytes_max: Annotated[
        int, LimitInfo("One request on the control socket.", "the client is told so and disconnected", _KIB, 16 * _MIB)
    ] = 64 * _KIB
    log_lines_per_second: Annotated[
        int,
        LimitInfo(
            "Log lines a second with the same message key.", "further lines are suppressed and counted", 1, 10_000
        ),
    ] = 20
    audit_bytes_max: Annotated[
        int, LimitInfo("Audit log on disk, in two files.", "the older file is replaced", 64 * _KIB, 1 << 40)
    ] = 4 * _MIB
    config_bytes_max: Annotated[int, LimitInfo("Size of the configuration file.", _REFUSED, _KIB, 16 * _MIB)] = 4 * _MIB
    csv_rows_max: Annotated[int, LimitInfo("Rows of one tag table.", _REFUSED, 1, 10_000_000)] = 1_000_000
    text_bytes_max: Annotated[int, LimitInfo("One text in the configuration.", _REFUSED, 64, 65_535)] = 1_024

    @classmethod
    def small(cls) -> Limits:
        """Limits of library use: some connections and up to 1,000 tags in one program."""
        return cls().checked()

    @classmethod
    def for_gateway(
        cls, tags_configured: int, *, links_configured: int = 0, chosen: Mapping[str, int] | None = None
    ) -> Limits:
        """Limits of a gateway: what `chosen` says, and for the rest what the configuration needs.

        Args:
            tags_configured: Tags of the configuration, 0 or more.
            links_configured: Devices of the configuration, 0 or more.
            chosen: Limits by name, as the user set them; values in the unit the name ends with.

        Raises:
            LimitError: A chosen limit is below what is configured, or contradicts another one.
        """
        chosen = dict(chosen or {})
        tags = chosen.get("tags_count_max", max(64, _with_headroom(tags_configured)))
        needed = {
            "tags_count_max": tags,
            "ring_changes_count": max(cls.small().ring_changes_count, 2 * tags),
            "links_count_max": max(16, _with_headroom(links_configured)),
        }
        limits = cls(**(needed | chosen)).checked()
        _refuse_if_over("tags_count_max", limits.tags_count_max, tags_configured, "tags are configured")
        _refuse_if_over("links_count_max", limits.links_count_max, links_configured, "devices are configured")
        return limits

    def checked(self) -> Limits:
        """These limits, once their relations hold.

        Raises:
            LimitError: A relation between two limits does not hold; the message says which.
        """
        if self.ring_changes_count < 2 * self.tags_count_max:
            needed = 2 * self.tags_count_max
            raise LimitError(
                "ring_changes_count",
                self.ring_changes_count,
                f"the ring must hold two changes of every tag: {needed} at least",
            )
        if self.write_queue_count_max < self.window_max:
            raise LimitError(
                "write_queue_count_max", self.write_queue_count_max, f"must not be below window_max = {self.window_max}"
            )
        return self

    def regions(self, native: NativeSizes, others: Sequence[Region] = ()) -> tuple[Region, ...]:
        """Every region of memory that is allocated at start, largest owner first as a person would ask.

        Args:
            native: Sizes of the native core, from the backend in use.
            others: Regions of faces and uplinks, which know their own size.
        """
        queued = self.oneshots_count_max + self.notices_count_max + self.commands_count_max
        table = native.table_bytes(self.tags_count_max, self.cell_bytes, self.ring_changes_count, self.ring_body_bytes)
        engine = native.engine_bytes(
            self.links_count_max, self.window_max, self.frame_bytes_max, self.tags_count_max, queued
        )
        own = (
            Region(
                "table",
                table,
                "latest values and change ring: tags_count_max, ring_changes_count, cell_bytes, ring_body_bytes",
            ),
            Region(
                "engine", engine, "links, frames in flight, two plans: links_count_max, window_max, frame_bytes_max"
            ),
            Region(
                "tag columns", self.tags_count_max * _COLUMN_BYTES_PER_TAG, "names and settings of tags: tags_count_max"
            ),
            Region("write queue", self.write_queue_count_max * _WRITE_BYTES, "writes under way: write_queue_count_max"),
            Region(
                "control socket",
                self.control_clients_max * self.control_line_bytes_max * _LINES_PER_CLIENT,
                "lines of live commands: control_clients_max, control_line_bytes_max",
            ),
        )
        return (*own, *others)

    def memory_bytes(self, native: NativeSizes, others: Sequence[Region] = ()) -> int:
        """Sum of all regions, in bytes."""
        return sum(region.bytes for region in self.regions(native, others))

    def require_memory(self, native: NativeSizes, others: Sequence[Region] = ()) -> int:
        """Sum of all regions, in bytes, once it fits into `memory_bytes_max`.

        Raises:
            LimitError: It does not fit; the message names the largest region.
        """
        regions = self.regions(native, others)
        total = sum(region.bytes for region in regions)
        if total > self.memory_bytes_max:
            largest = max(regions, key=lambda region: region.bytes)
            raise LimitError(
                "memory_bytes_max",
                self.memory_bytes_max,
                f"the configuration needs {format_size(-(-total // _MIB) * _MIB)}; the largest region is"
                f" {largest.name!r} with {largest.bytes} bytes, which follows {largest.meaning.partition(': ')[2]}",
            )
        return total


@cache
def limit_infos() -> Mapping[str, LimitInfo]:
    """What is known about each limit, by name, in the order of the struct."""
    hints = typing.get_type_hints(Limits, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in Limits.__struct_fields__}


def _with_headroom(count: int) -> int:
    return -(-count * (100 + _TAG_HEADROOM_PERCENT) // 100)


def _refuse_if_over(name: str, limit: int, configured: int, what: str) -> None:
    if configured > limit:
        raise LimitError(name, limit, f"{configured} {what}")
