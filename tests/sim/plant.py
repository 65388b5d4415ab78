"""A plant for tests of the scan engine: Modbus servers as pure functions, and the plans that poll them.

Every value says whose it is and when it was: register pairs hold `tag << 20 | step`, so that a value that reached the
wrong tag, or an older one after a newer one, is seen at once.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from bifrost._native import records as r
from bifrost._native.contract import Backend, Table

MS: Final = 1_000_000
SECOND: Final = 1_000 * MS
STEP_BITS: Final = 20
TABLE_LIMITS: Final = r.TableLimits(tags_count_max=256, ring_changes_count=4096, ring_body_bytes=0, cell_bytes=0)
SCAN_LIMITS: Final = r.ScanLimits(
    links_count_max=8, window_max=4, frame_bytes_max=260, request_bytes_max=260, oneshots_count_max=8, scratch_bytes=0
)
# MBAP: transaction number at 0, protocol 0 at 2, length at 4 counts what follows it; TG 3.1.3.
OPTIONS: Final = r.LinkOptions(
    timeout_ns=300 * MS,
    reconnect_min_ns=100 * MS,
    reconnect_max_ns=5 * SECOND,
    breaker_min_ns=500 * MS,
    breaker_max_ns=8 * SECOND,
    window=1,
    timeouts_to_close=5,
    breaker_failures=2,
    frame_bytes_max=260,
    frame_bytes_min=8,
    length_add=6,
    length_offset=4,
    length_little=0,
    transaction_offset=0,
    transaction_bytes=2,
    transaction_little=0,
    sync_offset=2,
    sync=b"\0\0",
)
# Exceptions 10 and 11: a gateway cannot reach its device; 2 is what a block of the plan is split for. AP 7.
CODES: Final = {2: 0x80890000, 6: 0x80040000, 10: r.BAD_NO_COMMUNICATION, 11: r.BAD_NO_COMMUNICATION}
HOLD_CODE: Final = 2


class Block(NamedTuple):
    """Tags `first` … `first + tags - 1` of one unit, read by one request; the register pair of tag t is at address 2 t."""

    unit: int
    first: int
    tags: int


class Cycle(NamedTuple):
    """Blocks polled together; times in nanoseconds."""

    period_ns: int
    stale_ns: int
    blocks: Sequence[Block]
    phase_ns: int = 0


def make_table(backend: Backend, limits: r.TableLimits = TABLE_LIMITS) -> Table:
    """A table whose every row is an unsigned integer."""
    table = backend.make_table(limits)
    count = limits.tags_count_max
    status = table.define(
        0, bytes([r.KIND_UINT]) * count, array("d", [0.0] * count), array("q", [0] * count), array("I", [0] * count)
    )
    assert status == r.OK
    return table


def read_request(unit: int, first: int, tags: int, transaction: int = 0) -> bytes:
    """Frame that reads the register pairs of `tags` tags; function 3, AP 6.3."""
    return struct.pack(">HHHBBHH", transaction, 0, 6, unit, 3, 2 * first, 2 * tags)


def read_exchange(block: Block, unit_index: int, request_offset: int = 0, decode_first: int = 0) -> r.Exchange:
    """What the answer to `read_request` must look like."""
    body = 4 * block.tags
    return r.Exchange(
        request_offset=request_offset,
        request_length=12,
        decode_first=decode_first,
        decode_count=block.tags,
        unit=unit_index,
        answer_length=9 + body,
        body_offset=9,
        expect_offset=2,
        expect=struct.pack(">HHBBB", 0, 3 + body, block.unit, 3, body),
        error_length=9,
        error_code_offset=8,
        error_expect_offset=2,
        error_expect=struct.pack(">HHBB", 0, 3, block.unit, 0x83),
        hold_code=HOLD_CODE,
    )


def make_plan(generation: int, cycles: Sequence[Cycle]) -> r.Plan:
    """The plan that polls `cycles`; units are numbered in the order of their ids."""
    blocks = [block for cycle in cycles for block in cycle.blocks]
    units = sorted({block.unit for block in blocks})
    exchanges, decodes, requests, groups, first = b"", b"", b"", [], 0
    for block in blocks:
        decode_first = len(decodes) // r.DECODE.size
        exchanges += read_exchange(block, units.index(block.unit), len(requests), decode_first).pack()
        requests += read_request(block.unit, block.first, block.tags)
        for tag in range(block.tags):
            decodes += r.DecodeEntry(block.first + tag, 4 * tag, r.TYPE_UINT32).pack()
    for cycle in cycles:
        groups.append(r.Group(cycle.period_ns, cycle.phase_ns, cycle.stale_ns, first, len(cycle.blocks)))
        first += len(cycle.blocks)
    return r.Plan(generation, exchanges, decodes, r.pack_groups(groups), r.pack_codes(CODES), requests, len(units))


def value_of(tag: int, step: int) -> int:
    """What the register pair of `tag` holds at `step`."""
    return tag << STEP_BITS | step


def answer(request: bytes, step: int) -> bytes:
    """The frame with which a healthy server answers one whole `request` of function 3; others get exception 1 (AP 7)."""
    transaction, _, _, unit, function, address, count = struct.unpack(">HHHBBHH", request[:12])
    if function != 3:
        return struct.pack(">HHHBBB", transaction, 0, 3, unit, function | 0x80, 1)
    values = [value_of(tag, step) for tag in range(address // 2, (address + count) // 2)]
    head = struct.pack(">HHHBBB", transaction, 0, 3 + 4 * len(values), unit, function, 4 * len(values))
    return head + struct.pack(f">{len(values)}I", *values)


def refusal(request: bytes, code: int) -> bytes:
    """The frame with which a server refuses one whole `request`; AP 7."""
    return request[:2] + struct.pack(">HHBBB", 0, 3, request[6], request[7] | 0x80, code)


def split_requests(data: bytes) -> list[bytes]:
    """The whole requests in `data`, which holds nothing else."""
    requests = []
    while data:
        length = 6 + int.from_bytes(data[4:6], "big")
        requests.append(data[:length])
        data = data[length:]
    return requests
