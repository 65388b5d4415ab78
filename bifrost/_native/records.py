"""What crosses the seam, as records: the layouts of `csrc/bifrost.h` and the named tuples that make and read them.

The C structs have no padding and are little-endian, so `struct` packs the same bytes on every machine; a test compares
sizes and offsets with the compiled header. Inside, data stays packed (`bytes`, `array`); the tuples are for building
plans, for tests and for events.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

# Status of a call at the seam.
OK: Final = 0
PARTIAL: Final = 1
LOST: Final = 2
E_ARGUMENT: Final = -1
E_SPACE: Final = -2
E_FULL: Final = -3
E_SYSTEM: Final = -4
E_TRANSACTION: Final = -10
E_PROTOCOL: Final = -11
E_LENGTH: Final = -12
E_UNIT: Final = -13
E_FUNCTION: Final = -14
E_COUNT: Final = -15
E_EXCEPTION: Final = -16

TYPE_BOOL: Final = 1
TYPE_INT8: Final = 2
TYPE_UINT8: Final = 3
TYPE_INT16: Final = 4
TYPE_UINT16: Final = 5
TYPE_INT32: Final = 6
TYPE_UINT32: Final = 7
TYPE_INT64: Final = 8
TYPE_UINT64: Final = 9
TYPE_FLOAT32: Final = 10
TYPE_FLOAT64: Final = 11
TYPE_STRING: Final = 12
TYPE_BCD16: Final = 13
TYPE_BCD32: Final = 14

KIND_BOOL: Final = 1
KIND_INT: Final = 2
KIND_UINT: Final = 3
KIND_FLOAT: Final = 4
KIND_TEXT: Final = 5
KIND_ARRAY: Final = 6

ORDER_SWAP_BYTES: Final = 1
ORDER_SWAP_WORDS: Final = 2

GOOD: Final = 0
UNCERTAIN_LAST_USABLE: Final = 0x408F0000
BAD_DECODING: Final = 0x80070000
BAD_NO_COMMUNICATION: Final = 0x80310000
BAD_WAITING: Final = 0x80320000
BAD_DEVICE_FAILURE: Final = 0x808B0000

DECODE_SCALED: Final = 1
DECODE_ARRAY: Final = 2
WALK_NONE: Final = 0
WALK_S7: Final = 1
WALK_CIP: Final = 2

CHANGE_CLOCK_UNSYNCHRONISED: Final = 1
CHANGE_VALUE_LOST: Final = 2
MARK_ALL: Final = 0
MARK_GOOD_ONLY: Final = 1

EXCHANGE_NEW: Final = 0
EXCHANGE_GOOD: Final = 1
EXCHANGE_ERROR: Final = 2
EXCHANGE_UNCERTAIN: Final = 3
EXCHANGE_STALE: Final = 4
UNIT_CLOSED: Final = 0
UNIT_OPEN: Final = 1
UNIT_PROBING: Final = 2

EVENT_LINK: Final = 1
EVENT_PLAN: Final = 2
EVENT_OPEN: Final = 3
EVENT_FAILED: Final = 4
EVENT_BYTES: Final = 5
EVENT_CLOSED: Final = 6
EVENT_BLOCKED: Final = 7
EVENT_DRAINED: Final = 8
EVENT_ONESHOT: Final = 9
EVENT_POLL: Final = 10
EVENT_CLOCK: Final = 11
EVENT_STOP: Final = 12

ACTION_SEND: Final = 1
ACTION_CLOSE: Final = 2
ACTION_CONNECT: Final = 3
ACTION_UP: Final = 4
ACTION_DOWN: Final = 5
ACTION_EXCHANGE: Final = 6
ACTION_UNIT: Final = 7
ACTION_DONE: Final = 8
ACTION_PLANNED: Final = 9
CLOSE_PEER: Final = 1
CLOSE_SILENT: Final = 2
CLOSE_FRAMING: Final = 3
CLOSE_STOPPED: Final = 4
CLOSE_FAILED: Final = 5
DONE_GOOD: Final = 0
DONE_ERROR: Final = 1
DONE_TIMEOUT: Final = 2
DONE_CLOSED: Final = 3
DONE_FULL: Final = 4
DONE_REPLANNED: Final = 5

NAN_BITS: Final = 0x7FF8_0000_0000_0000  # Every NaN in the table has these bits, so that C and Python agree.

SLOT: Final = struct.Struct("<QqqII")
CHANGE: Final = struct.Struct("<IIqQq")
DECODE: Final = struct.Struct("<IIHHBBBBdd")
EXCHANGE: Final = struct.Struct("<3I7H6B2I16s16s16s16s")
GROUP: Final = struct.Struct("<qqqII")
CODE: Final = struct.Struct("<II")
LINK_OPTIONS: Final = struct.Struct("<5q5Hh7B4s9x")


class Slot(NamedTuple):
    """The latest value of a tag (`bf_slot`)."""

    value: int
    source_time: int
    server_time: int
    status: int
    sequence: int


class Change(NamedTuple):
    """One reported change (`bf_change`); `server_time` and `flags` unpack its `when`."""

    tag: int
    status: int
    source_time: int
    value: int
    when: int

    @property
    def server_time(self) -> int:
        """UTC nanoseconds, to 100 ns."""
        return self.source_time + (self.when >> 16) * 100

    @property
    def flags(self) -> int:
        """`CHANGE_…` bits."""
        return self.when & 0xFFFF


class DecodeEntry(NamedTuple):
    """How one tag is found in a body (`bf_decode`)."""

    tag: int
    offset: int
    type: int
    item: int = 0
    elements: int = 1
    order: int = 0
    bit: int = 0
    flags: int = 0
    scale: float = 1.0
    bias: float = 0.0

    def pack(self) -> bytes:
        """The 32 bytes of `bf_decode`."""
        return DECODE.pack(
            self.tag,
            self.offset,
            self.item,
            self.elements,
            self.type,
            self.order,
            self.bit,
            self.flags,
            self.scale,
            self.bias,
        )


class Exchange(NamedTuple):
    """One compiled request and what its answer must look like (`bf_exchange`).

    Masks default to "every bit of expect counts".
    """

    request_length: int
    answer_length: int
    body_offset: int
    expect_offset: int
    expect: bytes
    request_offset: int = 0
    decode_first: int = 0
    decode_count: int = 0
    unit: int = 0
    answer_length_min: int = 0
    error_length: int = 0
    error_code_offset: int = 0
    error_code_bytes: int = 1
    walk: int = WALK_NONE
    error_expect_offset: int = 0
    error_expect: bytes = b""
    hold_code: int = 0
    items_count: int = 0
    expect_mask: bytes | None = None
    error_expect_mask: bytes | None = None

    def pack(self) -> bytes:
        """The 104 bytes of `bf_exchange`."""
        return EXCHANGE.pack(
            self.request_offset,
            self.decode_first,
            self.decode_count,
            self.request_length,
            self.unit,
            self.answer_length,
            self.answer_length_min,
            self.body_offset,
            self.error_length,
            self.error_code_offset,
            self.error_code_bytes,
            self.walk,
            self.expect_offset,
            len(self.expect),
            self.error_expect_offset,
            len(self.error_expect),
            self.hold_code,
            self.items_count,
            self.expect,
            self.expect_mask if self.expect_mask is not None else b"\xff" * len(self.expect),
            self.error_expect,
            self.error_expect_mask if self.error_expect_mask is not None else b"\xff" * len(self.error_expect),
        )


def unpack_exchange(packed: bytes | memoryview, offset: int = 0) -> Exchange:
    """The `Exchange` that `pack` made."""
    f = EXCHANGE.unpack_from(packed, offset)
    expect_length, error_length = f[13], f[15]
    return Exchange(
        request_offset=f[0],
        decode_first=f[1],
        decode_count=f[2],
        request_length=f[3],
        unit=f[4],
        answer_length=f[5],
        answer_length_min=f[6],
        body_offset=f[7],
        error_length=f[8],
        error_code_offset=f[9],
        error_code_bytes=f[10],
        walk=f[11],
        expect_offset=f[12],
        error_expect_offset=f[14],
        hold_code=f[16],
        items_count=f[17],
        expect=f[18][:expect_length],
        expect_mask=f[19][:expect_length],
        error_expect=f[20][:error_length],
        error_expect_mask=f[21][:error_length],
    )


class Group(NamedTuple):
    """Exchanges `first` … `first + exchanges - 1`, polled together (`bf_group`). Times in nanoseconds."""

    period_ns: int
    phase_ns: int
    stale_ns: int
    first: int
    exchanges: int


class LinkOptions(NamedTuple):
    """How a link frames, waits and comes back (`bf_link_options`). Times in nanoseconds."""

    timeout_ns: int
    reconnect_min_ns: int
    reconnect_max_ns: int
    breaker_min_ns: int
    breaker_max_ns: int
    window: int
    timeouts_to_close: int
    breaker_failures: int
    frame_bytes_max: int
    frame_bytes_min: int
    length_add: int
    length_offset: int
    length_little: int
    transaction_offset: int
    transaction_bytes: int
    transaction_little: int
    sync_offset: int
    sync: bytes

    def pack(self) -> bytes:
        """The 72 bytes of `bf_link_options`."""
        return LINK_OPTIONS.pack(*self[:17], len(self.sync), self.sync)


class Plan(NamedTuple):
    """All exchanges of one link, packed (`bf_plan`). Immutable; the engine keeps its own notes beside it.

    Attributes:
        generation: From 1, different for each plan of a link.
        exchanges: `bf_exchange` records, 104 bytes each.
        decodes: `bf_decode` records, 32 bytes each.
        groups: `bf_group` records, 32 bytes each.
        codes: `bf_code` records, 8 bytes each.
        requests: Request bytes of all exchanges.
        unit_count: Units (circuit breakers) on the link.
    """

    generation: int
    exchanges: bytes
    decodes: bytes
    groups: bytes
    codes: bytes
    requests: bytes
    unit_count: int


def pack_groups(groups: Iterable[Group]) -> bytes:
    """`bf_group` records."""
    return b"".join(GROUP.pack(*group) for group in groups)


def pack_codes(codes: dict[int, int]) -> bytes:
    """`bf_code` records: device error code -> StatusCode."""
    return b"".join(CODE.pack(code, status) for code, status in codes.items())


def iterate_decodes(packed: bytes | memoryview) -> Iterator[DecodeEntry]:
    """The entries of packed `bf_decode` records."""
    for tag, offset, item, count, type_code, order, bit, flags, scale, bias in DECODE.iter_unpack(packed):
        yield DecodeEntry(tag, offset, type_code, item, count, order, bit, flags, scale, bias)


class OneShot(NamedTuple):
    """An Exchange of its own, ahead of polls (`bf_oneshot`). `timeout_ns` 0: the link's."""

    exchange: Exchange
    request: bytes
    timeout_ns: int = 0


class Event(NamedTuple):
    """One event for the engine (`bf_event`; `number` is its `index`); `data` by kind, or the bytes received."""

    kind: int
    link: int = 0
    number: int = 0
    token: int = 0
    value: int = 0
    data: LinkOptions | Plan | OneShot | bytes | None = None


class Action(NamedTuple):
    """One thing the engine wants done or known (`bf_action`; `number` is its `index`)."""

    kind: int
    link: int
    number: int = 0
    code: int = 0
    status: int = 0
    generation: int = 0
    token: int = 0
    time_ns: int = 0
    data: bytes = b""


class Counters(NamedTuple):
    """Counters of one link since it was made (`bf_counters`)."""

    requests: int = 0
    answers_good: int = 0
    answers_error: int = 0
    answers_late: int = 0
    answers_mismatched: int = 0
    timeouts: int = 0
    skipped: int = 0
    opens: int = 0
    closes: int = 0
    framing_errors: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class TableLimits(NamedTuple):
    """Sizes of the tag table (`bf_table_limits`)."""

    tags_count_max: int
    ring_changes_count: int
    ring_body_bytes: int
    cell_bytes: int


class ScanLimits(NamedTuple):
    """Sizes of the scan engine (`bf_scan_limits`)."""

    links_count_max: int
    window_max: int
    frame_bytes_max: int
    request_bytes_max: int
    oneshots_count_max: int
    scratch_bytes: int


class ShellLimits(NamedTuple):
    """Sizes of the shell (`bf_shell_limits`)."""

    commands_count_max: int
    notices_count_max: int
    notice_bytes_max: int
    request_bytes_max: int
    read_bytes: int
