"""A plant, its network, the sessions and both scan engines in one thread, with a seed and a fake clock.

`World.run` goes from event to event: what the engines send reaches a server some milliseconds later, its answer comes back through
`FaultPlan`, and every few seconds something breaks: servers die and come back, units fall silent, sockets block, plans change, the clock is
set. After every step both engines must have said the same; and all the time the world checks what must be true of them:

- A good value belongs to its tag and never goes back; no good or last usable value is older than period + stale + time-out.
- No more requests are in flight than the window allows, and to an open unit no more than the probe.
- Every token of a one-shot or POLL comes back exactly once.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from itertools import count

from bifrost._native import records as r
from bifrost.plc.modbus.faults import FaultKind, FaultPlan
from tests.sim import plant
from tests.sim.pair import Pair
from tests.sim.plant import MS, SECOND, Block, Cycle

PERIODS_S = (1, 2, 5, 10)
STALE = 5 * SECOND
TAGS_PER_LINK = 32
SETTLE_NS = 120 * SECOND  # Nothing breaks any more: everything must become good.
GATEWAY_UNIT = 3  # Answers exception 11 for itself when it is dead, as a gateway does; the others fall silent.


class Peer:
    """One link as the plant and the session see it."""

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.options = plant.OPTIONS._replace(window=window)
        self.tags = range(number * TAGS_PER_LINK, (number + 1) * TAGS_PER_LINK)
        self.generation = 0
        self.cycles: list[Cycle] = []
        self.planned_ns = 0
        self.connection = 0  # Odd while there is one.
        self.is_up = True
        self.dead: set[int] = set()
        self.faults = FaultPlan()
        self.faults_probability = 0.0
        self.delivered_ns = 0  # Answers of one connection keep their order.
        self.lost_requests = 0  # In flight when a connection ended.
        self.open_units: set[int] = set()
        self.probes: Counter[int] = Counter()

    def limit_ns(self, tag: int) -> int | None:
        """How old a good value of `tag` may be; None when nobody polls it any more."""
        for cycle in self.cycles:
            if any(block.first <= tag < block.first + block.tags for block in cycle.blocks):
                # The step was made up to a time-out before the answer came, and it counts whole seconds.
                return cycle.period_ns + cycle.stale_ns + self.options.timeout_ns + SECOND
        return None


class World:
    """`links` servers, polled for `seconds` of simulated time; something breaks every `trouble_s` on average."""

    def __init__(self, seed: int, links: int, seconds: int, trouble_s: float) -> None:
        self.random = random.Random(seed)
        self.pair = Pair(seed)
        self.now = self.random.randrange(1, 1 << 50)
        self.origin = self.now
        self.end = self.now + seconds * SECOND
        self.trouble_s = trouble_s
        self.peers = [Peer(number, 1 + number % 3) for number in range(links)]
        self.queue: list[tuple[int, int, Callable[[], r.Event | None]]] = []
        self.order = count()
        self.tokens = count(1)
        self.tokens_out: set[int] = set()
        self.polls_out: set[int] = set()
        self.steps_of_tags = [0] * plant.TABLE_LIMITS.tags_count_max
        self.compared_ns = 0
        self.seen: Counter[str] = Counter()

    def step_at(self, time_ns: int) -> int:
        """The plant's step: seconds since it began."""
        return (time_ns - self.origin) // SECOND

    def later(self, delay_ns: int, what: Callable[[], r.Event | None]) -> None:
        """Does `what` after `delay_ns`; it may be an event for the engines."""
        heapq.heappush(self.queue, (self.now + delay_ns, next(self.order), what))

    def run(self) -> Counter[str]:
        """Runs to the end; gives how often what happened."""
        for peer in self.peers:
            self.later(0, lambda peer=peer: r.Event(r.EVENT_LINK, peer.number, data=peer.options))  # type: ignore[misc]  # mypy has no type for a bound default
            self.later(0, lambda peer=peer: self.new_plan(peer))  # type: ignore[misc]  # mypy has no type for a bound default
        self.later(SECOND, self.trouble)
        wake = self.now
        while self.now < self.end:
            self.now = max(self.now, min(wake, self.queue[0][0] if self.queue else self.end, self.end))
            wake = self.step(self.due())
        self.step([r.Event(r.EVENT_STOP, peer.number) for peer in self.peers])
        assert self.tokens_out == set(), "a token that never came back"
        return self.seen

    def due(self) -> list[r.Event]:
        """The events whose time has come."""
        events = []
        while self.queue and self.queue[0][0] <= self.now:
            event = heapq.heappop(self.queue)[2]()
            if event is not None:
                events.append(event)
        return events

    def step(self, events: list[r.Event]) -> int:
        actions, wake = self.pair.step(self.now, events)
        for action in actions:
            self.carry_out(self.peers[action.link], action)
        if self.now - self.compared_ns >= SECOND:
            self.compared_ns = self.now
            self.check_values()
        return wake

    # ---- what the engines say ------------------------------------------------------------------------------------------------

    def carry_out(self, peer: Peer, action: r.Action) -> None:
        match action.kind:
            case r.ACTION_SEND:
                self.sent(peer, action.data)
            case r.ACTION_CONNECT:
                self.later(self.random.randrange(MS, 50 * MS), lambda: self.connected(peer))
            case r.ACTION_CLOSE:
                peer.connection += peer.connection % 2
            case r.ACTION_DOWN:
                self.seen[f"down {action.code}"] += 1
                counters = self.pair.counters(peer.number)
                peer.lost_requests = _out(counters)
                peer.open_units.clear()
            case r.ACTION_UNIT:
                units = sorted({block.unit for cycle in peer.cycles for block in cycle.blocks})
                self.seen[f"unit {action.code}"] += 1
                peer.probes[units[action.number]] = 0
                (peer.open_units.add if action.code == r.UNIT_OPEN else peer.open_units.discard)(units[action.number])
            case r.ACTION_DONE:
                self.seen[f"done {action.code}"] += 1
                self.tokens_out.remove(action.token)
                self.polls_out.discard(action.token)
            case r.ACTION_EXCHANGE:
                self.seen["exchange"] += 1

    def connected(self, peer: Peer) -> r.Event:
        if not peer.is_up:
            return r.Event(r.EVENT_FAILED, peer.number)
        peer.connection += 1
        is_settling = self.now > self.end - SETTLE_NS
        kinds = [kind for kind in FaultKind if kind is not FaultKind.HANG or self.random.random() < 0.2]
        peer.faults_probability = 0.0 if is_settling else self.random.choice((0.0, 0.01, 0.1))
        peer.faults = FaultPlan(
            seed=self.random.randrange(1 << 30),
            probability=peer.faults_probability,
            kinds=kinds,
            delay_ns=600 * MS,
        )
        peer.delivered_ns = self.now
        return r.Event(r.EVENT_OPEN, peer.number)

    def sent(self, peer: Peer, data: bytes) -> None:
        counters = self.pair.counters(peer.number)
        assert _out(counters) - peer.lost_requests <= peer.options.window, f"link {peer.number}: window"
        requests = plant.split_requests(data)
        self.check_probes(peer, requests)
        connection = peer.connection
        delay = self.random.randrange(MS // 2, 20 * MS)
        if self.random.random() < 0.02:
            blocked_ns = self.random.randrange(MS, 200 * MS)
            delay += blocked_ns
            self.later(0, lambda: r.Event(r.EVENT_BLOCKED, peer.number) if peer.connection == connection else None)
            self.later(
                blocked_ns, lambda: r.Event(r.EVENT_DRAINED, peer.number) if peer.connection == connection else None
            )
        self.later(delay, lambda: self.serve(peer, connection, requests))

    def check_probes(self, peer: Peer, requests: list[bytes]) -> None:
        """Requests to an open unit: one per window of its back-off, of at least half breaker_min."""
        if self.polls_out or not peer.open_units:
            return
        probed = Counter(request[6] for request in requests if request[6] in peer.open_units and request[7] == 3)
        assert all(number == 1 for number in probed.values()), f"link {peer.number}: two probes at once"

    # ---- the plant -------------------------------------------------------------------------------------------------------------

    def serve(self, peer: Peer, connection: int, requests: list[bytes]) -> None:
        if peer.connection != connection:
            return
        for request in requests:
            frame = plant.answer(request, self.step_at(self.now))
            if request[6] in peer.dead:
                if request[6] != GATEWAY_UNIT:
                    continue
                frame = plant.refusal(request, 11)
            elif peer.faults_probability > 0 and self.random.random() < peer.faults_probability / 4:
                frame = self.another_answer(request)
            for emission in peer.faults.apply(frame):
                if emission.data:
                    self.deliver(
                        peer, connection, emission.delay_ns, r.Event(r.EVENT_BYTES, peer.number, data=emission.data)
                    )
                if emission.close:
                    self.deliver(peer, connection, emission.delay_ns, r.Event(r.EVENT_CLOSED, peer.number, value=104))

    def another_answer(self, request: bytes) -> bytes:
        """Whole, with the right transaction number, and full of other tags' values: only its header tells that it is wrong."""
        transaction, unit = int.from_bytes(request[:2], "big"), request[6]
        other = self.random.randrange(plant.TABLE_LIMITS.tags_count_max - 8)
        tags = request[11] // 2
        match self.random.randrange(3):
            case 0:
                return plant.answer(plant.read_request(unit ^ 1, other, tags, transaction), 0)
            case 1:
                return plant.answer(plant.read_request(unit, other, tags + 1, transaction), 0)
            case _:
                frame = plant.answer(plant.read_request(unit, other, tags, transaction), 0)
                return frame[:7] + b"\x17" + frame[8:]  # Not 4: a second fault makes 3 of it.

    def deliver(self, peer: Peer, connection: int, delay_ns: int, event: r.Event) -> None:
        peer.delivered_ns = max(peer.delivered_ns, self.now + delay_ns + self.random.randrange(MS // 2, 5 * MS))
        self.later(peer.delivered_ns - self.now, lambda: event if peer.connection == connection else None)

    # ---- trouble ---------------------------------------------------------------------------------------------------------------

    def trouble(self) -> r.Event | None:
        """One more thing breaks or changes."""
        if self.now > self.end - SETTLE_NS:
            return None
        self.later(round(self.random.expovariate(1 / self.trouble_s) * SECOND), self.trouble)
        peer = self.random.choice(self.peers)
        kinds: tuple[Callable[[Peer], r.Event | None], ...]
        kinds = (self.kill, self.die, self.new_plan, self.oneshot, self.poll, self.set_clock, self.noise, self.remake)
        chosen = self.random.choices(kinds, (4, 4, 2, 8, 8, 1, 1, 1))[0]
        self.seen[chosen.__name__] += 1
        return chosen(peer)

    def some_time(self) -> int:
        return self.random.choice((100 * MS, SECOND, 10 * SECOND, 60 * SECOND))

    def kill(self, peer: Peer) -> r.Event | None:
        peer.is_up = False
        self.later(self.some_time(), lambda: setattr(peer, "is_up", True))
        return r.Event(r.EVENT_CLOSED, peer.number) if peer.connection % 2 else None

    def die(self, peer: Peer) -> None:
        unit = self.random.randint(1, 3)
        peer.dead.add(unit)
        self.later(self.some_time(), lambda: peer.dead.discard(unit))

    def new_plan(self, peer: Peer) -> r.Event:
        """Some of the link's tags, four to a block, in cycles of different periods."""
        blocks = [Block(1 + at % 3, peer.tags[4 * at], 4) for at in range(TAGS_PER_LINK // 4)]
        blocks = self.random.sample(blocks, self.random.randint(1, len(blocks)))
        middle = self.random.randint(0, len(blocks))
        peer.cycles = []
        for part in (blocks[:middle], blocks[middle:]):
            period_ns = self.random.choice(PERIODS_S) * SECOND
            peer.cycles.append(Cycle(period_ns, STALE, part, self.random.randrange(period_ns)))
        peer.generation += 1
        peer.planned_ns = self.now
        peer.open_units.clear()
        return r.Event(r.EVENT_PLAN, peer.number, data=plant.make_plan(peer.generation, peer.cycles))

    def oneshot(self, peer: Peer) -> r.Event:
        token = next(self.tokens)
        self.tokens_out.add(token)
        self.polls_out.add(token)
        block = Block(self.random.randint(1, 3), peer.tags[0], 1)
        exchange = plant.read_exchange(block, block.unit - 1)._replace(decode_count=0)
        return r.Event(r.EVENT_ONESHOT, peer.number, token=token, data=r.OneShot(exchange, plant.read_request(*block)))

    def poll(self, peer: Peer) -> r.Event:
        token = next(self.tokens)
        self.tokens_out.add(token)
        self.polls_out.add(token)
        generation = peer.generation - (self.random.random() < 0.2)
        return r.Event(r.EVENT_POLL, peer.number, self.random.randrange(8), token, generation)

    def set_clock(self, peer: Peer) -> r.Event:
        return r.Event(
            r.EVENT_CLOCK,
            number=self.random.randrange(2),
            value=self.random.randrange(1 << 60),
            token=self.random.choice((0, self.random.randrange(1 << 60))),
        )

    def noise(self, peer: Peer) -> r.Event:
        return r.Event(r.EVENT_BYTES, peer.number, data=self.random.randbytes(self.random.randint(1, 40)))

    def remake(self, peer: Peer) -> r.Event:
        peer.options = peer.options._replace(window=self.random.randint(1, plant.SCAN_LIMITS.window_max))
        peer.lost_requests = 0
        self.later(0, lambda: self.new_plan(peer))
        return r.Event(r.EVENT_LINK, peer.number, data=peer.options)

    # ---- what must be true -------------------------------------------------------------------------------------------------

    def check_values(self) -> None:
        changes, slots = self.pair.compare()
        newest = self.step_at(self.now)
        for change in changes:
            if change.status == r.GOOD:
                tag, step = change.value >> plant.STEP_BITS, change.value & ((1 << plant.STEP_BITS) - 1)
                assert tag == change.tag, f"tag {change.tag} got a value of tag {tag}"
                assert self.steps_of_tags[tag] <= step <= newest, (
                    f"tag {tag} went from {self.steps_of_tags[tag]} to {step}"
                )
                self.steps_of_tags[tag] = step
                self.seen["good changes"] += 1
        for peer in self.peers:
            for tag in peer.tags:
                self.check_quality(peer, tag, slots[tag], newest)

    def check_quality(self, peer: Peer, tag: int, slot: r.Slot, newest: int) -> None:
        limit_ns = peer.limit_ns(tag)
        if limit_ns is None:
            return
        # A tag that no plan has read for a while keeps its quality, which is Python's affair, and a new plan gives it the usual time.
        if slot.status in (r.GOOD, r.UNCERTAIN_LAST_USABLE) and self.now - peer.planned_ns > limit_ns:
            age_ns = (newest - (slot.value & ((1 << plant.STEP_BITS) - 1))) * SECOND
            assert age_ns <= limit_ns, f"tag {tag} is called {slot.status:#x} after {age_ns} ns"
        assert slot.status == r.GOOD or self.now < self.end - SECOND, (
            f"tag {tag} is not good in a healthy plant: {slot}"
        )


def _out(counters: r.Counters) -> int:
    """Requests that neither were answered nor timed out; among them those that were lost with a connection."""
    return counters.requests - counters.answers_good - counters.answers_error - counters.timeouts
