"""The scan engine in Python: the same transcript as `csrc/scan*.c` for the same events.

A link is OFF (no plan), WAITing to reconnect, CONNECTING, or UP. While it is UP, each group of exchanges starts a cycle at every point of
its grid; `window` requests are in flight at most; an answer is matched by its transaction number and by every header byte, and everything
else is counted and dropped. Times are monotonic nanoseconds given by the caller; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from bifrost._native import contract
from bifrost._native import records as r
from bifrost._native._py_link import (
    CONNECTING,
    NEVER,
    OFF,
    ONESHOT,
    ORPHAN,
    POLL,
    POLLED,
    TIME_NS_MAX,
    UP,
    WAIT,
    Compiled,
    Flight,
    Link,
    Plan,
    Waiting,
    check_event,
    check_limits,
    suits_link,
)

_MASK64 = (1 << 64) - 1
_ATTEMPTS_MAX = 20  # Doublings of the reconnect delay.

# Counters, in the order of `Counters`.
_REQUESTS, _GOOD, _ERROR, _LATE, _MISMATCHED, _TIMEOUTS = range(6)
_SKIPPED, _OPENS, _CLOSES, _FRAMING, _SENT, _RECEIVED = range(6, 12)


class Scan:
    """Twin of `bf_scan`; see `contract.Scan`. Raises ValueError for impossible limits."""

    def __init__(self, limits: r.ScanLimits, table: contract.Table, seed: int) -> None:
        check_limits(limits)
        self._limits = limits
        self._table = table
        self._random = (seed ^ 0x9E3779B97F4A7C15) & _MASK64 or 1  # xorshift never leaves 0.
        self._links: list[Link | None] = [None] * limits.links_count_max
        self._wake = [NEVER] * limits.links_count_max
        self._waiting = 0  # one-shots and POLLs in all queues
        self._offset = 0
        self._floor = 0  # No stamp is below it.
        self._flags = r.CHANGE_CLOCK_UNSYNCHRONISED
        self._now = 0
        self._step = 0
        self._actions: list[r.Action] = []

    def step(self, now_ns: int, events: Sequence[r.Event]) -> tuple[list[r.Action], int]:
        """See `contract.Scan.step`.

        Raises ValueError for an event that is our own bug: it changes nothing, those after it are not taken, and the next step gives the
        actions of those before it.
        """
        if not 0 <= now_ns <= TIME_NS_MAX:
            raise ValueError(f"impossible time {now_ns}")
        self._now = now_ns
        self._step += 1
        for event in events:
            check_event(event, self._limits, self._table)
            self._event(event)
        for number, wake in enumerate(self._wake):
            if wake <= now_ns:
                link = self._links[number]
                assert link is not None, "only a link sets its wake"
                self._advance(number, link)
        actions, self._actions = self._actions, []
        return actions, min(self._wake)

    def counters(self, link: int) -> r.Counters:
        """See `contract.Scan.counters`."""
        found = self._links[link]
        return r.Counters(*found.counters) if found is not None else r.Counters()

    # ---- events ------------------------------------------------------------------------------------------------------

    def _event(self, event: r.Event) -> None:
        kind, number = event.kind, event.link
        if kind == r.EVENT_CLOCK:
            self._floor = max(event.token, self._utc()) if event.token else 0  # Stamps were made with the old offset.
            self._offset = event.value
            self._flags = 0 if event.number else r.CHANGE_CLOCK_UNSYNCHRONISED
            return
        link = self._links[number]
        if kind == r.EVENT_LINK:
            self._make_link(number, link, event.data)
            return
        if link is None:
            self._without_link(event)
            return
        if kind == r.EVENT_PLAN:
            self._adopt(number, link, event.data)
        elif kind == r.EVENT_OPEN:
            self._open(number, link)
        elif kind == r.EVENT_FAILED:
            if link.state == CONNECTING:
                self._fail_all(link)
                self._retry_later(link)
        elif kind == r.EVENT_BYTES:
            self._bytes(number, link, event.data)
        elif kind == r.EVENT_CLOSED:
            if link.state == UP:
                self._down(number, link, r.CLOSE_PEER)
        elif kind == r.EVENT_BLOCKED:
            link.blocked = link.state == UP
        elif kind == r.EVENT_DRAINED:
            link.blocked = False
        elif kind == r.EVENT_STOP:
            self._stop(number, link)
        else:
            self._enqueue(number, link, event)
        self._advance(number, link)

    def _without_link(self, event: r.Event) -> None:
        if event.kind in (r.EVENT_ONESHOT, r.EVENT_POLL):
            self._act(r.ACTION_DONE, event.link, code=r.DONE_CLOSED, token=event.token)
        elif event.kind == r.EVENT_OPEN:
            self._act(r.ACTION_CLOSE, event.link, code=r.CLOSE_STOPPED)
        elif event.kind == r.EVENT_PLAN:
            raise ValueError(f"link {event.link} has no options yet")

    def _make_link(self, number: int, old: Link | None, options: object) -> None:
        assert isinstance(options, r.LinkOptions)
        if old is not None:
            self._stop(number, old)
        self._links[number] = Link(options, old.sent_step if old is not None else 0)
        self._wake[number] = NEVER

    def _adopt(self, number: int, link: Link, plan: object) -> None:
        assert isinstance(plan, r.Plan)
        if not suits_link(plan, link):
            raise ValueError(f"plan {plan.generation} does not suit link {number}")
        old = link.plan
        for flight in link.flights:
            if flight is not None and flight.kind in (POLLED, POLL):
                if flight.kind == POLL:
                    self._act(r.ACTION_DONE, number, code=r.DONE_REPLANNED, token=flight.token)
                flight.kind = ORPHAN
        link.plan = Plan(plan, self._now)
        link.epoch = self._now
        link.group_next = 0
        link.age_due = self._now
        if link.state == UP:
            link.plan.begin(link.epoch, self._now)
        elif link.state == OFF:
            link.state = WAIT
            link.connect_due = self._now
        self._act(r.ACTION_PLANNED, number, old.generation if old is not None else 0, generation=plan.generation)

    def _open(self, number: int, link: Link) -> None:
        if link.state == UP:
            return
        if link.state != CONNECTING:
            self._act(r.ACTION_CLOSE, number, code=r.CLOSE_STOPPED)
            return
        assert link.plan is not None
        link.state = UP
        link.counters[_OPENS] += 1
        link.timeouts_in_row = 0
        link.blocked = False
        link.plan.close_breakers()
        self._act(r.ACTION_UP, number)
        link.plan.begin(link.epoch, self._now)

    def _enqueue(self, number: int, link: Link, event: r.Event) -> None:
        waiting = Waiting(event)
        o = link.options
        if waiting.oneshot is not None and len(waiting.oneshot.request) < o.transaction_offset + o.transaction_bytes:
            raise ValueError("the request has no room for its transaction number")
        if link.state != UP:
            self._act(r.ACTION_DONE, number, code=r.DONE_CLOSED, token=event.token)
        elif self._waiting >= self._limits.oneshots_count_max:
            self._act(r.ACTION_DONE, number, code=r.DONE_FULL, token=event.token)
        else:
            link.queue.append(waiting)
            self._waiting += 1

    def _stop(self, number: int, link: Link) -> None:
        if link.state == UP:
            self._down(number, link, r.CLOSE_STOPPED)
        elif link.state != OFF:
            self._fail_all(link)
        if link.plan is not None:
            self._act(r.ACTION_PLANNED, number, link.plan.generation)
        link.plan = None
        link.state = OFF
        link.age_due = NEVER

    # ---- answers -----------------------------------------------------------------------------------------------------

    def _bytes(self, number: int, link: Link, data: object) -> None:
        assert isinstance(data, bytes)
        if link.state != UP:
            return
        link.counters[_RECEIVED] += len(data)
        received = link.received
        received += data
        at = 0
        while len(received) - at >= link.options.frame_bytes_min:
            length = link.frame_length(at)
            if not length:
                link.counters[_FRAMING] += 1
                self._down(number, link, r.CLOSE_FRAMING)
                return
            if len(received) - at < length:
                break
            self._frame(number, link, bytes(received[at : at + length]))
            at += length
        del received[:at]

    def _frame(self, number: int, link: Link, frame: bytes) -> None:
        slot = link.find(frame)
        flight = link.flights[slot] if slot >= 0 else None
        if flight is None:
            link.counters[_LATE] += 1
            return
        code = 0
        is_error = flight.kind != ORPHAN and not flight.compiled.is_good(frame)
        if is_error:
            if not flight.compiled.is_error(frame):
                link.counters[_MISMATCHED] += 1
                return
            x = flight.compiled.exchange
            code = int.from_bytes(frame[x.error_code_offset : x.error_code_offset + x.error_code_bytes], "big")
        link.flights[slot] = None
        link.timeouts_in_row = 0
        link.attempts = 0
        link.counters[_ERROR if is_error else _GOOD] += 1
        if flight.kind != ORPHAN:
            self._deliver(number, link, flight, frame, is_error, code)

    def _deliver(self, number: int, link: Link, flight: Flight, frame: bytes, is_error: bool, code: int) -> None:
        """What an answer means for its unit, its exchange and who waits for it."""
        plan, unit = link.plan, flight.compiled.exchange.unit
        assert plan is not None
        status = plan.codes.get(code, r.BAD_DEVICE_FAILURE) if is_error else r.GOOD
        if flight.kind == POLLED:
            plan.in_flight[flight.group] -= 1
        if unit < len(plan.unit_state):
            if is_error and status == r.BAD_NO_COMMUNICATION:
                self._unit_failed(number, link, plan, unit)  # A gateway says that its device is not there.
            else:
                self._unit_good(number, plan, unit)
        if flight.kind != ONESHOT:
            self._answered(number, plan, flight.number, frame, is_error, code, status)
        if flight.kind != POLLED:
            done = r.DONE_ERROR if is_error else r.DONE_GOOD
            self._act(r.ACTION_DONE, number, code, code=done, status=status, token=flight.token, data=frame)

    def _answered(self, number: int, plan: Plan, at: int, frame: bytes, is_error: bool, code: int, status: int) -> None:
        x = plan.exchanges[at].exchange
        utc = self._utc()
        if not is_error:
            body = frame[x.body_offset :]
            self._table.scatter(body, x.walk, plan.decodes[at], utc, utc, self._now, self._flags)
            plan.state[at] = r.EXCHANGE_GOOD
            plan.last_good[at] = self._now
        elif not x.hold_code or code != x.hold_code:
            self._table.mark(plan.tags[at], status, r.MARK_ALL, utc, self._now, self._flags)
            plan.state[at] = r.EXCHANGE_ERROR
            plan.last_good[at] = self._now
        if code != plan.last_code[at]:
            plan.last_code[at] = code
            news = (r.ACTION_EXCHANGE, number, at)
            self._act(*news, code=code, status=status, generation=plan.generation, data=frame)

    # ---- time --------------------------------------------------------------------------------------------------------

    def _advance(self, number: int, link: Link) -> None:
        """Does all that is due on one link and says when it wants to be called again."""
        if link.state == WAIT and self._now >= link.connect_due:
            link.state = CONNECTING
            self._act(r.ACTION_CONNECT, number)
        if link.state == UP:
            self._expire(number, link)
        if link.state == UP:
            assert link.plan is not None
            link.counters[_SKIPPED] += link.plan.start_cycles(self._now)
        if link.plan is not None and self._now >= link.age_due:
            self._age(link, link.plan)
        is_deferred = link.state == UP and not link.blocked and self._fill(number, link)
        self._wake[number] = self._now if is_deferred else link.next_wake()

    def _expire(self, number: int, link: Link) -> None:
        plan = link.plan
        assert plan is not None
        for slot, flight in enumerate(link.flights):
            if flight is None or flight.deadline > self._now:
                continue
            link.flights[slot] = None
            link.counters[_TIMEOUTS] += 1
            link.timeouts_in_row += 1
            unit = flight.compiled.exchange.unit
            if flight.kind == POLLED:
                plan.in_flight[flight.group] -= 1
            if flight.kind in (POLLED, POLL):
                self._fail(link, plan, flight.number)
            if flight.kind != ORPHAN and unit < len(plan.unit_state):
                self._unit_failed(number, link, plan, unit)
            if flight.kind in (POLL, ONESHOT):
                self._act(r.ACTION_DONE, number, code=r.DONE_TIMEOUT, token=flight.token)
        if link.timeouts_in_row >= link.options.timeouts_to_close:
            self._down(number, link, r.CLOSE_SILENT)

    def _age(self, link: Link, plan: Plan) -> None:
        """No tag stays good longer than period + stale after its last answer, nor uncertain longer than stale."""
        link.age_due = NEVER
        utc = self._utc()
        for group in plan.groups:
            for at in range(group.first, group.first + group.exchanges):
                state = plan.state[at]
                if state == r.EXCHANGE_STALE:
                    continue
                deadline = plan.last_good[at] + group.stale_ns
                if state != r.EXCHANGE_UNCERTAIN:
                    deadline += group.period_ns
                if self._now >= deadline:
                    plan.state[at] = r.EXCHANGE_STALE
                    self._table.mark(plan.tags[at], r.BAD_NO_COMMUNICATION, r.MARK_ALL, utc, self._now, self._flags)
                else:
                    link.age_due = min(link.age_due, deadline)

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _fill(self, number: int, link: Link) -> bool:
        """Sends as many requests as the window allows, in one SEND; True when it has to wait for the next step."""
        plan = link.plan
        assert plan is not None
        if all(flight is not None for flight in link.flights) or not (link.queue or plan.has_work()):
            return False
        if link.sent_step == self._step:
            return True
        sent = bytearray()
        for slot, busy in enumerate(link.flights):
            if busy is not None:
                continue
            flight = self._pick_waiting(number, link, plan) or self._pick_polled(link, plan)
            if flight is None:
                break
            link.flights[slot] = flight
            sent += self._launch(link, flight)
        if sent:
            link.sent_step = self._step
            link.counters[_SENT] += len(sent)
            self._act(r.ACTION_SEND, number, data=bytes(sent))
        return False

    def _launch(self, link: Link, flight: Flight) -> bytes:
        """The bytes that `flight` puts on the wire."""
        o = link.options
        flight.transaction = link.transaction
        link.counters[_REQUESTS] += 1
        if not o.transaction_bytes:
            return flight.request
        link.transaction = (link.transaction + 1) & 0xFFFF
        field = flight.transaction.to_bytes(2, "little" if o.transaction_little else "big")
        return flight.request[: o.transaction_offset] + field + flight.request[o.transaction_offset + 2 :]

    def _pick_waiting(self, number: int, link: Link, plan: Plan) -> Flight | None:
        """The next one-shot or POLL, in their order."""
        while link.queue:
            waiting = link.queue.popleft()
            self._waiting -= 1
            if waiting.oneshot is not None:
                compiled = Compiled(waiting.oneshot.exchange)
                flight = Flight(ONESHOT, compiled, waiting.oneshot.request, 0, 0, waiting.token)
                flight.deadline = self._now + (waiting.oneshot.timeout_ns or link.options.timeout_ns)
                return flight
            if waiting.generation == plan.generation and waiting.number < len(plan.exchanges):
                return self._planned(POLL, link, plan, waiting.number, 0, waiting.token)
            self._act(r.ACTION_DONE, number, code=r.DONE_REPLANNED, token=waiting.token)
        return None

    def _pick_polled(self, link: Link, plan: Plan) -> Flight | None:
        """The next exchange of a running cycle, groups in turn, passing over units that are not to be polled."""
        for turn in range(len(plan.groups)):
            at = (link.group_next + turn) % len(plan.groups)
            group = plan.groups[at]
            while plan.next[at] < group.exchanges:
                number = group.first + plan.next[at]
                plan.next[at] += 1
                if plan.may_poll(plan.exchanges[number].exchange.unit, self._now):
                    link.group_next = (at + 1) % len(plan.groups)
                    plan.in_flight[at] += 1
                    return self._planned(POLLED, link, plan, number, at, 0)
        return None

    def _planned(self, kind: int, link: Link, plan: Plan, number: int, group: int, token: int) -> Flight:
        flight = Flight(kind, plan.exchanges[number], plan.requests[number], number, group, token)
        flight.deadline = self._now + link.options.timeout_ns
        return flight

    # ---- units, failure, connection ----------------------------------------------------------------------------------

    def _unit_failed(self, number: int, link: Link, plan: Plan, unit: int) -> None:
        """Counts a request that `unit` did not answer; opens its breaker when there were too many, for longer each time."""
        state = plan.unit_state[unit]
        plan.unit_failures[unit] += 1
        if state == r.UNIT_OPEN or (
            state == r.UNIT_CLOSED and plan.unit_failures[unit] < link.options.breaker_failures
        ):
            return
        doubled = plan.unit_backoff[unit] * 2
        backoff = min(max(doubled, link.options.breaker_min_ns), link.options.breaker_max_ns)
        plan.unit_backoff[unit] = backoff
        plan.unit_until[unit] = self._now + backoff // 2 + self._draw(backoff // 2)
        plan.unit_state[unit] = r.UNIT_OPEN
        if state == r.UNIT_CLOSED:
            for at, compiled in enumerate(plan.exchanges):
                if compiled.exchange.unit == unit:
                    self._fail(link, plan, at)
            self._act(r.ACTION_UNIT, number, unit, code=r.UNIT_OPEN, generation=plan.generation)

    def _unit_good(self, number: int, plan: Plan, unit: int) -> None:
        if plan.unit_state[unit] != r.UNIT_CLOSED:
            self._act(r.ACTION_UNIT, number, unit, code=r.UNIT_CLOSED, generation=plan.generation)
        plan.unit_state[unit] = r.UNIT_CLOSED
        plan.unit_failures[unit] = 0
        plan.unit_backoff[unit] = 0

    def _fail(self, link: Link, plan: Plan, at: int) -> None:
        """No answer came for exchange `at`: its good values become the last usable ones."""
        if plan.state[at] in (r.EXCHANGE_UNCERTAIN, r.EXCHANGE_STALE):
            return
        plan.state[at] = r.EXCHANGE_UNCERTAIN
        utc = self._utc()
        self._table.mark(plan.tags[at], r.UNCERTAIN_LAST_USABLE, r.MARK_GOOD_ONLY, utc, self._now, self._flags)
        link.age_due = self._now  # The sweep finds its deadline: uncertain ages sooner than good.

    def _fail_all(self, link: Link) -> None:
        assert link.plan is not None
        for at in range(len(link.plan.exchanges)):
            self._fail(link, link.plan, at)

    def _down(self, number: int, link: Link, code: int) -> None:
        assert link.plan is not None
        self._act(r.ACTION_CLOSE, number, code=code)
        for slot, flight in enumerate(link.flights):
            if flight is not None and flight.kind in (POLL, ONESHOT):
                self._act(r.ACTION_DONE, number, code=r.DONE_CLOSED, token=flight.token)
            link.flights[slot] = None
        while link.queue:
            waiting = link.queue.popleft()
            self._waiting -= 1
            self._act(r.ACTION_DONE, number, code=r.DONE_CLOSED, token=waiting.token)
        link.received.clear()
        link.blocked = False
        link.counters[_CLOSES] += 1
        link.plan.rest()
        self._fail_all(link)
        self._act(r.ACTION_DOWN, number, code=code)
        self._retry_later(link)

    def _retry_later(self, link: Link) -> None:
        cap = min(link.options.reconnect_min_ns << link.attempts, link.options.reconnect_max_ns)
        link.attempts = min(link.attempts + 1, _ATTEMPTS_MAX)
        link.state = WAIT
        link.connect_due = self._now + self._draw(cap)

    def _draw(self, bound: int) -> int:
        """A number from 0 to `bound`: xorshift64*, the same in C."""
        x = self._random
        x ^= x >> 12
        x = (x ^ (x << 25)) & _MASK64
        x ^= x >> 27
        self._random = x
        return (((x * 0x2545F4914F6CDD1D) & _MASK64) >> 1) % (bound + 1)

    def _utc(self) -> int:
        """The time for stamps."""
        return max(self._now + self._offset, self._floor)

    def _act(
        self,
        kind: int,
        link: int,
        number: int = 0,
        *,
        code: int = 0,
        status: int = 0,
        generation: int = 0,
        token: int = 0,
        data: bytes = b"",
    ) -> None:
        self._actions.append(r.Action(kind, link, number, code, status, generation, token, self._now, data))
