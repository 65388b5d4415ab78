"""The bytes of a journal: segment headers, records and cursor slots, as `docs/reference/formats.md` specifies them.

The twin of `csrc/journal_format.c`. Nothing here touches a file. What can't be what it should be is None.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

from bifrost._native import journal_records as j

VERSION: Final = 1
HEADER_BYTES: Final = 64
HEADER_COPY_AT: Final = 512  # In another sector: one that is damaged costs nothing.
RECORDS_AT: Final = 1024
FRAME_BYTES: Final = 28
COMMIT_BYTES: Final = 16
COMMIT_FRAME_BYTES_MAX: Final = FRAME_BYTES + COMMIT_BYTES + j.JOURNAL_COUNTERS_BYTES_MAX
PREAMBLE_BYTES_MAX: Final = (
    RECORDS_AT + j.JOURNAL_STREAMS_MAX * (FRAME_BYTES + j.JOURNAL_STREAM_NAME_BYTES_MAX) + COMMIT_FRAME_BYTES_MAX
)
SEGMENT_BYTES_MAX: Final = 16 << 20  # A length has 24 bits.
SLOT_AT: Final = 4096  # Of the second one: a page of its own, so that a torn write leaves the other alone.
CURSOR_FILE_BYTES: Final = 2 * SLOT_AT
CURSOR_NAME: Final = "cursor.bfc"
SEQUENCE_MAX: Final = (1 << 64) - 1

_HEADER: Final = struct.Struct("<6sHII16sQQqI")
_SEGMENT_MAGIC: Final = b"BFSEG\0"
_FRAME: Final = struct.Struct("<IIIBBHqI")
_COMMIT: Final = struct.Struct("<QQ")
_SLOT: Final = struct.Struct("<6sHII16s10QHHB3x")
_SLOT_PLAIN_AT: Final = 12  # Magic, version and checksum are before it.
_CURSOR_MAGIC: Final = b"BFCUR\0"
_RANGE: Final = struct.Struct("<QQ")
_CLEAN: Final = 1
_LANE_MASK: Final = 1
_SPAN_MAX: Final = 0xFFFF_FFFF
_NS_PER_MS: Final = 1_000_000


def aligned(length: int) -> int:
    """`length` rounded up to what a record starts at."""
    return (length + 3) & ~3


def segment_name(number: int) -> str:
    """File of segment `number`."""
    return f"{number:08x}.bfs"


class SegmentHeader(NamedTuple):
    """What the first bytes of a segment say. `first` fields: of the records in it and after it."""

    number: int
    store_id: bytes
    first_sequence: int
    first_samples: int
    created_ns: int
    segment_bytes: int

    @property
    def salt(self) -> int:
        """Start of each record's checksum: bytes of another segment are no records of this one."""
        return crc32(self.store_id + self.number.to_bytes(4, "little"))

    def pack(self) -> bytes:
        """Header and copy: all that is before the records."""
        head = _HEADER.pack(
            _SEGMENT_MAGIC,
            VERSION,
            self.number,
            self.salt,
            self.store_id,
            self.first_sequence,
            self.first_samples,
            self.created_ns,
            self.segment_bytes,
        )
        head = (head + crc32(head).to_bytes(4, "little")).ljust(HEADER_COPY_AT, b"\0")
        return head + head


def unpack_header(data: bytes) -> SegmentHeader | int | None:
    """Header of a segment from its first bytes; its version if we don't know that; None: both copies are damaged."""
    for at in (0, HEADER_COPY_AT):
        head = data[at : at + HEADER_BYTES]
        if len(head) < HEADER_BYTES or crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
            continue
        magic, version, number, salt, *rest = _HEADER.unpack_from(head)
        if magic != _SEGMENT_MAGIC:
            continue
        if version != VERSION:
            return int(version)
        header = SegmentHeader(number, *rest)
        if header.salt == salt and PREAMBLE_BYTES_MAX <= header.segment_bytes <= SEGMENT_BYTES_MAX:
            return header
    return None


class Frame(NamedTuple):
    """One record in a segment, whole and checked; `at` and `next_at` are offsets in the file."""

    at: int
    next_at: int
    type: int
    stream: int
    flags: int
    samples: int
    sequence: int
    first_ns: int
    span_ms: int
    payload: bytes


def span_ms(first_ns: int, last_ns: int) -> int:
    """How much later than the earliest sample the latest is, in milliseconds, rounded up."""
    return max(0, min(-(-(last_ns - first_ns) // _NS_PER_MS), _SPAN_MAX))


def pack_frame(
    salt: int,
    delta: int,
    record_type: int,
    payload: bytes,
    stream: int = 0,
    flags: int = 0,
    samples: int = 0,
    first_ns: int = 0,
    span: int = 0,
) -> bytes:
    """One record; `delta` is its sequence number less the segment's first."""
    length = len(payload)
    fields = _FRAME.pack(0, length | record_type << 24, delta, stream, flags, samples, first_ns, span)
    checksum = crc32(payload, crc32(fields[4:], crc32(salt.to_bytes(4, "little"))))
    whole = checksum.to_bytes(4, "little") + fields[4:] + payload
    return whole.ljust(aligned(len(whole)), b"\0")


def pack_commit(salt: int, delta: int, generation: int, samples_total: int, counters: bytes) -> bytes:
    """The record that ends a commit."""
    return pack_frame(salt, delta, j.RECORD_COMMIT, _COMMIT.pack(generation, samples_total) + counters)


def unpack_commit(payload: bytes) -> tuple[int, int, bytes] | None:
    """Generation, samples and counters of a commit record."""
    if not COMMIT_BYTES <= len(payload) <= COMMIT_BYTES + j.JOURNAL_COUNTERS_BYTES_MAX:
        return None
    return (*_COMMIT.unpack_from(payload), payload[COMMIT_BYTES:])


def frame_length(window: bytes, at: int) -> tuple[int, int]:
    """Type and payload length that the bytes at `at` claim."""
    word = int.from_bytes(window[at + 4 : at + 8], "little")
    return word >> 24, word & 0xFF_FFFF


def unpack_frame(window: bytes, at: int, salt: int, first_sequence: int, file_at: int) -> Frame | None:
    """The record at `at`, when its checksum holds; `window` has all its bytes, `file_at` is where `at` is in the file."""
    checksum, word, delta, stream, flags, samples, first_ns, span = _FRAME.unpack_from(window, at)
    length = word & 0xFF_FFFF
    end = at + FRAME_BYTES + length
    if crc32(window[at + 4 : end], crc32(salt.to_bytes(4, "little"))) != checksum:
        return None
    payload = window[at + FRAME_BYTES : end]
    sequence = first_sequence + delta
    next_at = file_at + aligned(FRAME_BYTES + length)
    return Frame(file_at, next_at, word >> 24, stream, flags, samples, sequence, first_ns, span, payload)


def record_of(frame: Frame) -> j.JournalRecord:
    """What a reader gets of a data record."""
    last_ns = frame.first_ns + frame.span_ms * _NS_PER_MS
    lane = frame.flags & _LANE_MASK
    return j.JournalRecord(
        frame.sequence, j.RECORD_DATA, 1, frame.stream, lane, frame.samples, frame.first_ns, last_ns, frame.payload
    )


class Cursor(NamedTuple):
    """One slot of the cursor file."""

    store_id: bytes
    generation: int
    base: int
    done: tuple[int, ...]
    is_clean: bool
    ranges: tuple[tuple[int, int], ...]
    counters: bytes

    def pack(self) -> bytes:
        """The slot's bytes, without what is unused after them."""
        tail = b"".join(_RANGE.pack(*each) for each in self.ranges) + self.counters
        used = _SLOT.size + len(tail)
        flags = _CLEAN if self.is_clean else 0
        counts = (len(self.ranges), len(self.counters), flags)
        slot = _SLOT.pack(
            _CURSOR_MAGIC, VERSION, 0, used, self.store_id, self.generation, self.base, *self.done, *counts
        )
        plain = slot[_SLOT_PLAIN_AT:] + tail
        return slot[:8] + crc32(plain).to_bytes(4, "little") + plain


def unpack_cursor(data: bytes) -> Cursor | int | None:
    """One slot; its version if we don't know that; None: damaged or never written."""
    if len(data) < _SLOT.size:
        return None
    magic, version, checksum, used, store_id, generation, base, *rest = _SLOT.unpack_from(data)
    if magic != _CURSOR_MAGIC or not _SLOT.size <= used <= min(len(data), SLOT_AT):
        return None
    if crc32(data[_SLOT_PLAIN_AT:used]) != checksum:
        return None
    if version != VERSION:
        return int(version)
    done, (ranges_count, counters_length, flags) = tuple(rest[:8]), rest[8:]
    counters_at = _SLOT.size + ranges_count * _RANGE.size
    if ranges_count > j.JOURNAL_RANGES_MAX or counters_length > j.JOURNAL_COUNTERS_BYTES_MAX:
        return None
    if used != counters_at + counters_length:
        return None
    ranges = tuple(_RANGE.iter_unpack(data[_SLOT.size : counters_at]))
    floor = base
    for first, last in ranges:
        if not floor < first <= last:
            return None
        floor = last + 1
    return Cursor(store_id, generation, base, done, bool(flags & _CLEAN), ranges, data[counters_at:used])


def limits_fit(limits: j.JournalLimits) -> bool:
    """Whether a journal can be made of `limits`."""
    frame = aligned(FRAME_BYTES + limits.record_bytes_max)
    return (
        limits.segment_bytes <= SEGMENT_BYTES_MAX
        and limits.segment_bytes % 4 == 0
        and limits.record_bytes_max > 0
        and PREAMBLE_BYTES_MAX + frame + COMMIT_FRAME_BYTES_MAX <= limits.segment_bytes
        and 2 <= limits.segments_count_max <= 1 << 20
        and frame <= limits.batch_bytes <= 1 << 30
        and 1 <= limits.acknowledgements_count_max <= 1 << 20
        and 0 <= limits.flags <= j.JOURNAL_DROP_OLDEST | j.JOURNAL_SALVAGE
    )
