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
from typing import Annotated

import msgspec

from bifrost.core.errors import LimitError
from bifrost.core.quantity import format_size
from bifrost.core.regions import LimitInfo, NativeSizes, Region

__all__ = [
    "CONFIG_FILES_COUNT_MAX",
    "PROBLEMS_COUNT_MAX",
    "LimitInfo",
    "Limits",
    "NativeSizes",
    "Region",
    "limit_infos",
]

CONFIG_FILES_COUNT_MAX = 1_000  # Files in conf.d; more are refused. Each is read at every load.
PROBLEMS_COUNT_MAX = 20  # Mistakes shown at once for one configuration; the rest is counted. Nobody reads the 21st.

_KIB = 1 << 10
_MIB = 1 << 20
_COLUMN_BYTES_PER_TAG = 128  # Of `core.columns`, with names and descriptions of usual length; a test measures it.
_WRITE_BYTES = 1_024  # One queued write with its future and timer: 880 bytes on CPython 3.11 by tracemalloc.
_HEADS_PER_CLIENT = 2  # A stream reader holds up to twice its limit.
_LINES_PER_CLIENT = 2  # A control client holds one request line and one answer line.
_DIAGNOSTICS_PER_DEVICE = 16  # Rows; `gateway.diagnostics` needs a few less, of each device and of the gateway.
_DIAGNOSTICS_PER_UPLINK = 20  # Likewise.
_UPLINKS_COUNT_MIN = 4  # Have room, so that a reload can add the first ones.
_DIAGNOSTIC_CELL_BYTES = 64  # A row's share; the texts among them have more.
_NOTIFICATIONS_PER_ITEM = 4
_TAG_HEADROOM_PERCENT = 25  # CONTRACT: default 1.25 x configured, so that reload has room.

_REFUSED = "the configuration is refused"
_OLDEST_DROPPED = "the oldest are dropped and counted"
_STATUS = "the request is refused with BadTooManyOperations"
_WAITS = "the sender waits"
_REVISED = "a larger one is revised"
_SUBSCRIPTIONS = "a further one is refused with BadTooManySubscriptions"
_CLOSED = "the connection is closed"
_CLOSED_MOST = "the connection that holds most of them is closed"
_CLOSED_SESSION = "it is closed, sooner where another one needs its place"
_NOT_BELOW = {  # The limit on the left must not be below the one on the right.
    "opcua_connections_max": "opcua_sessions_max",
    "opcua_notifications_max": "opcua_monitored_items_max",
    "write_queue_count_max": "window_max",
    "opcua_buffered_bytes_max": "opcua_message_bytes_max",
}


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
    http_clients_max: Annotated[
        int, LimitInfo("Connections to metrics and health over HTTP.", "a further one is closed", 1, 256)
    ] = 8
    http_request_bytes_max: Annotated[
        int, LimitInfo("Head of one HTTP request.", "the client is told so and disconnected", 256, _MIB)
    ] = 8 * _KIB
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
    outbox_samples_max: Annotated[
        int,
        LimitInfo(
            "Samples of one uplink between change ring and journal.",
            "they are written before linger is over",
            64,
            1 << 20,
        ),
    ] = 4_096
    outbox_batch_bytes: Annotated[
        int,
        LimitInfo(
            "Records of one uplink between two commits; the journal has two such regions, and one for reading.",
            "the journal takes no more before the next commit; see on_full",
            64 * _KIB,
            64 * _MIB,
        ),
    ] = 256 * _KIB
    uplink_records_out_max: Annotated[
        int,
        LimitInfo(
            "Messages of one uplink sent and not yet known to the disk as acknowledged, if its destination takes so many.",
            "no more are sent",
            1,
            65_536,
        ),
    ] = 64
    uplink_bytes_out_max: Annotated[
        int,
        LimitInfo("Payloads of one uplink sent and not acknowledged.", "no more are sent", 64 * _KIB, 1 << 30),
    ] = _MIB
    quarantine_bytes_max: Annotated[
        int,
        LimitInfo(
            "Copies of messages that the destination of one uplink refused, on disk.",
            "further copies are not kept",
            0,
            1 << 40,
        ),
    ] = _MIB
    diagnostics_count_max: Annotated[
        int,
        LimitInfo(
            "Rows of the table for what Bifrost says about itself; default what devices and uplinks need.",
            _REFUSED,
            0,
            1_000_000,
        ),
    ] = 0
    opcua_reserve_bytes: Annotated[
        int,
        LimitInfo(
            "Of the OPC UA stack's memory, what is kept for services when items use up the rest.",
            "new items are refused with BadOutOfMemory, full queues lose their oldest value",
            _MIB,
            1 << 30,
        ),
    ] = 8 * _MIB
    opcua_connections_max: Annotated[
        int,
        LimitInfo(
            "TCP connections of OPC UA clients, half-open ones included.",
            "the oldest one without a session is closed, else the new one",
            1,
            10_000,
        ),
    ] = 64
    opcua_sessions_max: Annotated[
        int, LimitInfo("Sessions of OPC UA clients.", "a further one is refused with BadTooManySessions", 1, 1_000)
    ] = 20
    opcua_subscriptions_max: Annotated[int, LimitInfo("Subscriptions of all sessions.", _SUBSCRIPTIONS, 1, 10_000)] = (
        100
    )
    opcua_subscriptions_per_session_max: Annotated[
        int, LimitInfo("Subscriptions of one session.", _SUBSCRIPTIONS, 1, 10_000)
    ] = 20
    opcua_monitored_items_max: Annotated[
        int,
        LimitInfo(
            "Monitored items of all sessions; default 1.25 x configured tags, 1000 at least.",
            "a further one is refused with BadTooManyMonitoredItems",
            1,
            10_000_000,
        ),
    ] = 1_000
    opcua_queue_size_max: Annotated[
        int, LimitInfo("Values that one monitored item can queue.", _REVISED, 1, 100_000)
    ] = 1_000
    opcua_notifications_max: Annotated[
        int,
        LimitInfo(
            "Sum of the queue sizes of all monitored items; default 4 x opcua_monitored_items_max.",
            "queue sizes are revised, to 1 at least",
            1,
            100_000_000,
        ),
    ] = 4_000
    opcua_notifications_per_publish_max: Annotated[
        int, LimitInfo("Values in one Publish response.", "the rest comes with the next one", 1, 100_000)
    ] = 1_000
    opcua_retransmissions_max: Annotated[
        int, LimitInfo("Sent messages that one session can ask for again.", "the oldest is dropped", 1, 1_000)
    ] = 20
    opcua_publish_requests_per_session_max: Annotated[
        int,
        LimitInfo(
            "Publish requests of one session that wait for data.",
            "the oldest is answered with BadTooManyPublishRequests",
            1,
            1_000,
        ),
    ] = 50
    opcua_message_bytes_max: Annotated[
        int, LimitInfo("One OPC UA request or response.", "the client gets BadTcpMessageTooLarge", 64 * _KIB, 64 * _MIB)
    ] = 4 * _MIB
    opcua_chunks_max: Annotated[
        int, LimitInfo("Chunks of one request.", "the client gets BadTcpMessageTooLarge", 1, 10_000)
    ] = 128
    opcua_nodes_per_read_max: Annotated[int, LimitInfo("Nodes in one Read request.", _STATUS, 1, 100_000)] = 10_000
    opcua_nodes_per_write_max: Annotated[int, LimitInfo("Nodes in one Write request.", _STATUS, 1, 100_000)] = 1_000
    opcua_nodes_per_browse_max: Annotated[int, LimitInfo("Nodes in one Browse request.", _STATUS, 1, 100_000)] = 2_000
    opcua_nodes_per_translate_max: Annotated[
        int, LimitInfo("Nodes in one TranslateBrowsePathsToNodeIds request.", _STATUS, 1, 100_000)
    ] = 10_000
    opcua_nodes_per_register_max: Annotated[
        int, LimitInfo("Nodes in one RegisterNodes request.", _STATUS, 1, 100_000)
    ] = 10_000
    opcua_nodes_per_method_call_max: Annotated[int, LimitInfo("Nodes in one Call request.", _STATUS, 1, 100_000)] = 100
    opcua_items_per_call_max: Annotated[
        int, LimitInfo("Monitored items in one request that makes, changes or deletes them.", _STATUS, 1, 100_000)
    ] = 10_000
    opcua_references_per_node_max: Annotated[
        int,
        LimitInfo("References of one node in one Browse response.", "the rest comes with BrowseNext", 100, 1_000_000),
    ] = 10_000
    opcua_browse_continuations_max: Annotated[
        int,
        LimitInfo(
            "Continuation points of one session.", "a further one is refused with BadNoContinuationPoints", 1, 1_000
        ),
    ] = 10
    opcua_array_bytes_max: Annotated[
        int, LimitInfo("One text or array that a client writes.", "the value is refused with BadOutOfRange", 64, _MIB)
    ] = 16 * _KIB
    opcua_publishing_interval_min_ms: Annotated[
        int, LimitInfo("Shortest publishing interval, in milliseconds.", "a shorter one is revised", 1, 60_000)
    ] = 1
    opcua_session_timeout_max_ms: Annotated[
        int, LimitInfo("Longest time a session lives without a request, in milliseconds.", _REVISED, 1_000, 86_400_000)
    ] = 3_600_000
    opcua_lifetime_count_max: Annotated[
        int, LimitInfo("Publishing intervals that a subscription lives without its client.", _REVISED, 3, 1_000_000)
    ] = 10_000
    opcua_write_timeout_ms: Annotated[
        int,
        LimitInfo(
            "Longest wait of a client for the device's answer to a write, in milliseconds.",
            "the write is answered with BadTimeout",
            100,
            600_000,
        ),
    ] = 10_000
    opcua_writes_parked_max: Annotated[
        int,
        LimitInfo(
            "Values that clients wrote and devices have not answered yet.",
            "the value is refused with BadTooManyOperations",
            1,
            65_536,
        ),
    ] = 256
    opcua_events_max: Annotated[
        int,
        LimitInfo(
            "Logins, refusals and limits reached that Python has not read yet.",
            "further ones are dropped and counted",
            16,
            65_536,
        ),
    ] = 256
    opcua_rejected_certificates_max: Annotated[
        int, LimitInfo("Certificates kept in the folder rejected.", "the oldest is deleted", 1, 1_000)
    ] = 32
    opcua_login_failures_per_minute_max: Annotated[
        int,
        LimitInfo(
            "Failed logins of all clients in one minute.",
            "further logins are refused without a look at the password",
            1,
            10_000,
        ),
    ] = 10
    opcua_login_timeout_ms: Annotated[
        int, LimitInfo("Life of a session without a login, in milliseconds.", _CLOSED_SESSION, 100, 600_000)
    ] = 10_000
    opcua_login_bytes_max: Annotated[
        int, LimitInfo("Requests not ended and answers not taken, before a login.", _CLOSED, 8 * _KIB, _MIB)
    ] = 32 * _KIB
    opcua_buffered_bytes_max: Annotated[
        int, LimitInfo("The same of all connections, beyond that each.", _CLOSED_MOST, 64 * _KIB, 1 << 30)
    ] = 4 * _MIB
    opcua_users_max: Annotated[int, LimitInfo("Users of the OPC UA server.", "a further one is refused", 1, 1_000)] = (
        100
    )

    @classmethod
    def small(cls) -> Limits:
        """Limits of library use: some connections and up to 1,000 tags in one program."""
        return cls().checked()

    @classmethod
    def for_gateway(
        cls,
        tags_configured: int,
        *,
        links_configured: int = 0,
        uplinks_configured: int = 0,
        has_opcua: bool = False,
        chosen: Mapping[str, int] | None = None,
    ) -> Limits:
        """Limits of a gateway: what `chosen` says, and for the rest what the configuration needs.

        Args:
            tags_configured: Tags of the configuration, 0 or more.
            links_configured: Devices of the configuration, 0 or more.
            uplinks_configured: Uplinks of the configuration, 0 or more.
            has_opcua: Whether it has an OPC UA server, which shows diagnostics.
            chosen: Limits by name, as the user set them; values in the unit the name ends with.

        Raises:
            LimitError: A chosen limit is below what is configured, or contradicts another one.
        """
        chosen = dict(chosen or {})
        tags = chosen.get("tags_count_max", max(64, _with_headroom(tags_configured)))
        links = chosen.get("links_count_max", max(16, _with_headroom(links_configured)))
        uplinks = max(_UPLINKS_COUNT_MIN, _with_headroom(uplinks_configured))
        shown = (links + 1) * _DIAGNOSTICS_PER_DEVICE + uplinks * _DIAGNOSTICS_PER_UPLINK
        diagnostics = chosen.get("diagnostics_count_max", shown if has_opcua else 0)
        items = chosen.get("opcua_monitored_items_max", max(cls.small().opcua_monitored_items_max, tags))
        needed = {
            "tags_count_max": tags,
            "ring_changes_count": max(cls.small().ring_changes_count, 2 * (tags + diagnostics)),
            "links_count_max": links,
            "diagnostics_count_max": diagnostics,
            "opcua_monitored_items_max": items,
            "opcua_notifications_max": _NOTIFICATIONS_PER_ITEM * items,
            "opcua_buffered_bytes_max": chosen.get("opcua_message_bytes_max", cls.small().opcua_message_bytes_max),
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
        if self.ring_changes_count < 2 * self.rows_count_max:
            needed = 2 * self.rows_count_max
            raise LimitError(
                "ring_changes_count",
                self.ring_changes_count,
                f"the ring must hold two changes of every tag: {needed} at least",
            )
        for name, least in _NOT_BELOW.items():
            if getattr(self, name) < getattr(self, least):
                raise LimitError(name, getattr(self, name), f"must not be below {least} = {getattr(self, least)}")
        return self

    @property
    def rows_count_max(self) -> int:
        """Rows of the table: tags and diagnostics."""
        return self.tags_count_max + self.diagnostics_count_max

    @property
    def cells_bytes(self) -> int:
        """Bytes of all cells of the table: texts and arrays of tags, texts of diagnostics."""
        return self.cell_bytes + self.diagnostics_count_max * _DIAGNOSTIC_CELL_BYTES

    def regions(self, native: NativeSizes, others: Sequence[Region] = ()) -> tuple[Region, ...]:
        """Every region of memory that is allocated at start, largest owner first as a person would ask.

        Args:
            native: Sizes of the native core, from the backend in use.
            others: Regions of faces and uplinks, which know their own size.
        """
        queued = self.oneshots_count_max + self.notices_count_max + self.commands_count_max
        rows = self.rows_count_max
        table = native.table_bytes(rows, self.cells_bytes, self.ring_changes_count, self.ring_body_bytes)
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
            Region(
                "http",
                self.http_clients_max * self.http_request_bytes_max * _HEADS_PER_CLIENT,
                "requests for metrics and health: http_clients_max, http_request_bytes_max",
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
