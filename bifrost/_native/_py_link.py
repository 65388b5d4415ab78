"""What the scan engine in Python knows of one link and of its plan, and the checks that every event passes first.

The twin of `csrc/scan.h` and of the checks in `csrc/scan_plan.c`: records with notes, and what can be said of them without looking at
anything else. What changes the table or makes actions is in `_py_scan`.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final

from bifrost._native import contract
from bifrost._native import records as r

OFF, WAIT, CONNECTING, UP = range(4)
POLLED, POLL, ONESHOT, ORPHAN = range(4)
NEVER: Final = (1 << 63) - 1
DURATION_NS_MAX: Final = 1 << 58  # 9 years; in C, sums of times stay within 64 bits.
TIME_NS_MAX: Final = 1 << 62
EXPECT_BYTES_MAX: Final = 16
SYNC_BYTES_MAX: Final = 4


class Compiled:
    """An Exchange whose header checks are integers, so that one comparison looks at all bytes."""

    __slots__ = ("_error", "_good", "exchange")

    def __init__(self, exchange: r.Exchange) -> None:
        self.exchange = exchange
        self._good = _compile(exchange.expect_offset, exchange.expect, exchange.expect_mask)
        self._error = _compile(exchange.error_expect_offset, exchange.error_expect, exchange.error_expect_mask)

    def is_good(self, frame: bytes) -> bool:
        """Whether `frame` grants the request."""
        x = self.exchange
        if x.answer_length:
            if len(frame) != x.answer_length:
                return False
        elif len(frame) < x.answer_length_min:
            return False
        return _fits(self._good, frame)

    def is_error(self, frame: bytes) -> bool:
        """Whether `frame` is the device's "no" to the request."""
        return 0 < self.exchange.error_length <= len(frame) and _fits(self._error, frame)


def _compile(offset: int, expect: bytes, mask: bytes | None) -> tuple[int, int, int, int]:
    bits = b"\xff" * len(expect) if mask is None else mask
    return offset, offset + len(expect), int.from_bytes(bits, "big"), int.from_bytes(expect, "big")


def _fits(check: tuple[int, int, int, int], frame: bytes) -> bool:
    first, end, mask, expect = check
    return end <= len(frame) and int.from_bytes(frame[first:end], "big") & mask == expect


class Flight:
    """One request in flight."""

    __slots__ = ("compiled", "deadline", "group", "kind", "number", "request", "token", "transaction")

    def __init__(self, kind: int, compiled: Compiled, request: bytes, number: int, group: int, token: int) -> None:
        self.kind = kind
        self.compiled = compiled
        self.request = request
        self.number = number  # of the exchange in the plan
        self.group = group
        self.token = token
        self.transaction = 0
        self.deadline = 0


class Waiting:
    """A one-shot or POLL in the queue of its link."""

    __slots__ = ("generation", "number", "oneshot", "token")

    def __init__(self, event: r.Event) -> None:
        self.token = event.token
        self.oneshot = event.data if isinstance(event.data, r.OneShot) else None
        self.number = event.number
        self.generation = event.value


class Plan:
    """A plan with the engine's notes about it."""

    def __init__(self, plan: r.Plan, now: int) -> None:
        self.generation = plan.generation
        size = r.EXCHANGE.size
        self.exchanges = [Compiled(r.unpack_exchange(plan.exchanges, at)) for at in range(0, len(plan.exchanges), size)]
        self.groups = [r.Group(*fields) for fields in r.GROUP.iter_unpack(plan.groups)]
        self.codes: dict[int, int] = {}
        for code, status in r.CODE.iter_unpack(plan.codes):
            self.codes.setdefault(code, status)
        self.requests: list[bytes] = []
        self.decodes: list[bytes] = []
        self.tags: list[array[int]] = []
        for compiled in self.exchanges:
            x = compiled.exchange
            self.requests.append(bytes(plan.requests[x.request_offset : x.request_offset + x.request_length]))
            first = x.decode_first * r.DECODE.size
            packed = bytes(plan.decodes[first : first + x.decode_count * r.DECODE.size])
            self.decodes.append(packed)
            self.tags.append(tags_of(packed))
        count = len(self.exchanges)
        self.last_good = [now] * count
        self.last_code = [0] * count
        self.state = [r.EXCHANGE_NEW] * count
        self.due = [0] * len(self.groups)
        self.rest()
        self.unit_until = [0] * plan.unit_count
        self.close_breakers()

    def rest(self) -> None:
        """No cycle runs."""
        self.next = [group.exchanges for group in self.groups]
        self.in_flight = [0] * len(self.groups)

    def close_breakers(self) -> None:
        """Every unit gets its chance."""
        count = len(self.unit_until)
        self.unit_state = [r.UNIT_CLOSED] * count
        self.unit_failures = [0] * count
        self.unit_backoff = [0] * count

    def begin(self, epoch: int, now: int) -> None:
        """Starts a cycle of every group at once; the next begins at a point of its grid, half a period away or more."""
        for number, group in enumerate(self.groups):
            self.next[number] = 0
            due = epoch + group.phase_ns
            earliest = now + group.period_ns // 2
            if due < earliest:
                due += ((earliest - due - 1) // group.period_ns + 1) * group.period_ns
            self.due[number] = due

    def start_cycles(self, now: int) -> int:
        """Starts what is due; gives the number of periods skipped, late or while the last cycle was still running."""
        skipped = 0
        for number, group in enumerate(self.groups):
            if self.due[number] > now:
                continue
            missed = (now - self.due[number]) // group.period_ns
            self.due[number] += (missed + 1) * group.period_ns
            if self.next[number] < group.exchanges or self.in_flight[number] > 0:
                missed += 1
            else:
                self.next[number] = 0
            skipped += missed
        return skipped

    def has_work(self) -> bool:
        """Whether a cycle has exchanges left."""
        return any(left < group.exchanges for left, group in zip(self.next, self.groups, strict=True))

    def may_poll(self, unit: int, now: int) -> bool:
        """Whether a cycle may send to `unit`. One request to an open unit whose time has come is the probe."""
        state = self.unit_state[unit]
        if state == r.UNIT_OPEN and now >= self.unit_until[unit]:
            self.unit_state[unit] = r.UNIT_PROBING
            return True
        return state == r.UNIT_CLOSED


class Link:
    """One link and all that is known of it."""

    def __init__(self, options: r.LinkOptions, sent_step: int) -> None:
        self.options = options
        self.state = OFF
        self.plan: Plan | None = None
        self.epoch = 0
        self.received = bytearray()
        self.flights: list[Flight | None] = [None] * options.window
        self.queue: deque[Waiting] = deque()
        self.transaction = 0
        self.attempts = 0
        self.timeouts_in_row = 0
        self.group_next = 0
        self.connect_due = 0
        self.age_due = NEVER
        self.blocked = False
        self.sent_step = sent_step
        self.counters = [0] * len(r.Counters._fields)

    def find(self, frame: bytes) -> int:
        """Slot of the flight that waits for `frame`'s transaction number; -1 when nobody does."""
        o = self.options
        transaction = 0
        if o.transaction_bytes:
            field = frame[o.transaction_offset : o.transaction_offset + 2]
            transaction = int.from_bytes(field, "little" if o.transaction_little else "big")
        for slot, flight in enumerate(self.flights):
            if flight is not None and (flight.transaction == transaction or not o.transaction_bytes):
                return slot
        return -1

    def frame_length(self, at: int) -> int:
        """Length of the frame that begins at `at` in what was received; 0 when it cannot be one."""
        o = self.options
        first = at + o.length_offset
        field = int.from_bytes(self.received[first : first + 2], "little" if o.length_little else "big")
        length = field + o.length_add
        sync = self.received[at + o.sync_offset : at + o.sync_offset + len(o.sync)]
        return length if sync == o.sync and o.frame_bytes_min <= length <= o.frame_bytes_max else 0

    def next_wake(self) -> int:
        """When this link wants to be advanced next."""
        wake = self.age_due if self.plan is not None else NEVER
        if self.state == WAIT:
            wake = min(wake, self.connect_due)
        if self.state == UP and self.plan is not None:
            wake = min([wake, *self.plan.due, *(flight.deadline for flight in self.flights if flight is not None)])
        return wake


# ---- checks --------------------------------------------------------------------------------------------------------------


def tags_of(packed: bytes) -> array[int]:
    """Rows that packed `bf_decode` records write."""
    return array("I", [fields[0] for fields in r.DECODE.iter_unpack(packed)])


def check_limits(limits: r.ScanLimits) -> None:
    """Raises ValueError when no engine can have these limits."""
    if not (
        1 <= limits.links_count_max <= 100_000
        and 1 <= limits.window_max <= 256
        and 4 <= limits.frame_bytes_max <= 0xFFFF
        and 1 <= limits.request_bytes_max <= 0xFFFF
        and 0 <= limits.oneshots_count_max <= 65_536
        and 0 <= limits.scratch_bytes <= 1 << 30
    ):
        raise ValueError(f"impossible limits of the scan engine: {limits}")


def check_event(event: r.Event, limits: r.ScanLimits, table: contract.Table) -> None:
    """Raises ValueError for an event that is our own bug, so far as it can be told without looking at its link."""
    kind, data = event.kind, event.data
    if kind == r.EVENT_CLOCK:
        valid = -TIME_NS_MAX < event.value < TIME_NS_MAX and 0 <= event.token < TIME_NS_MAX
    elif not (r.EVENT_LINK <= kind <= r.EVENT_STOP and 0 <= event.link < limits.links_count_max):
        valid = False
    elif kind == r.EVENT_LINK:
        valid = isinstance(data, r.LinkOptions) and _options_are_valid(data, limits)
    elif kind == r.EVENT_PLAN:
        valid = isinstance(data, r.Plan) and _plan_is_valid(data, limits, table)
    elif kind == r.EVENT_ONESHOT:
        valid = (
            isinstance(data, r.OneShot)
            and 0 < len(data.request) <= limits.request_bytes_max
            and 0 <= data.timeout_ns <= DURATION_NS_MAX
            and _exchange_is_valid(data.exchange, limits)
        )
    else:
        valid = kind != r.EVENT_BYTES or isinstance(data, bytes)
    if not valid:
        raise ValueError(f"impossible event {kind} for link {event.link}")


def _is_duration(ns: int) -> bool:
    return 0 < ns <= DURATION_NS_MAX


def _options_are_valid(o: r.LinkOptions, limits: r.ScanLimits) -> bool:
    return (
        1 <= o.window <= limits.window_max
        and o.length_offset + 2 <= o.frame_bytes_min <= o.frame_bytes_max <= limits.frame_bytes_max
        and len(o.sync) <= SYNC_BYTES_MAX
        and o.sync_offset + len(o.sync) <= o.frame_bytes_min
        and o.transaction_offset + o.transaction_bytes <= o.frame_bytes_min
        and (o.transaction_bytes == 2 or (o.transaction_bytes == 0 and o.window == 1))
        and all(_is_duration(ns) for ns in o[:5])
        and o.timeouts_to_close >= 1
        and o.breaker_failures >= 1
    )


def _exchange_is_valid(x: r.Exchange, limits: r.ScanLimits) -> bool:
    has_code = x.error_length == 0 or (
        x.error_code_bytes in (1, 2) and x.error_code_offset + x.error_code_bytes <= x.error_length
    )
    return (
        has_code
        and x.body_offset <= (x.answer_length or x.answer_length_min) <= limits.frame_bytes_max
        and len(x.expect) <= EXPECT_BYTES_MAX
        and len(x.error_expect) <= EXPECT_BYTES_MAX
        and x.walk in (r.WALK_NONE, r.WALK_S7, r.WALK_CIP)
    )


def _plan_is_valid(plan: r.Plan, limits: r.ScanLimits, table: contract.Table) -> bool:
    decodes_count = len(plan.decodes) // r.DECODE.size
    size = r.EXCHANGE.size
    exchanges = [r.unpack_exchange(plan.exchanges, at) for at in range(0, len(plan.exchanges), size)]
    tags = tags_of(plan.decodes)
    return (
        plan.generation > 0
        # Unpacking cuts a header check to its 16 bytes: its length is looked at in the record.
        and all(max(x[13], x[15]) <= EXPECT_BYTES_MAX for x in r.EXCHANGE.iter_unpack(plan.exchanges))
        and all(
            _exchange_is_valid(x, limits)
            and x.unit < plan.unit_count
            and 1 <= x.request_length <= limits.request_bytes_max
            and x.request_offset + x.request_length <= len(plan.requests)
            and x.decode_first + x.decode_count <= decodes_count
            for x in exchanges
        )
        and all(
            _is_duration(period)
            and 0 <= phase <= DURATION_NS_MAX
            and 0 <= stale <= DURATION_NS_MAX
            and first + count <= len(exchanges)
            for period, phase, stale, first, count in r.GROUP.iter_unpack(plan.groups)
        )
        and len(table.read(tags)) == len(tags) * r.SLOT.size
    )


def suits_link(plan: r.Plan, link: Link) -> bool:
    """Whether every request has room for the transaction number, and the generation differs from the last one's."""
    o = link.options
    lengths = (fields[3] for fields in r.EXCHANGE.iter_unpack(plan.exchanges))
    has_room = not o.transaction_bytes or all(length >= o.transaction_offset + 2 for length in lengths)
    return has_room and (link.plan is None or link.plan.generation != plan.generation)
