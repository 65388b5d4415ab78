"""C = Python for the scan engine on any events, likely or not: the same actions, slots, changes and counters after every step.

Each seed makes a random conversation for three links: good answers, wrong ones, torn and merged ones, noise, events at the wrong time, late
wakes, new plans, one-shots. Nothing here knows what is right (the unit tests and the simulation do); only that both say the same.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from bifrost._native import records as r
from tests.sim import plant
from tests.sim.pair import Pair

LINKS = 3


@dataclass
class Wire:
    """What is known of one link by looking at its actions."""

    options: r.LinkOptions = plant.OPTIONS
    generation: int = 0
    exchanges: int = 0
    is_connecting: bool = False
    requests: deque[bytes] = field(default_factory=lambda: deque(maxlen=64))
    rest: bytes = b""


class Conversation:
    """Random events that hang together now and then."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pair = Pair(seed)
        self.wires = [Wire() for _ in range(LINKS + 1)]  # The last one is never made.
        self.now = self.random.randrange(1 << 40)
        self.token = 0

    def run(self, steps: int) -> None:
        wake = r.EVENT_LINK  # Any past time.
        for number in range(steps):
            events = [self.event(self.random.randrange(LINKS)) for _ in range(self.random.choice((0, 1, 1, 2, 6)))]
            actions, wake = self.pair.step(self.now, events)
            for action in actions:
                self.note(action)
            self.pass_time(wake)
            if number % 16 == 0:
                self.pair.compare()
        self.pair.compare()

    def pass_time(self, wake: int) -> None:
        choice = self.random.random()
        if choice < 0.5:
            self.now = max(self.now, min(wake, self.now + 10 * plant.SECOND))
        elif choice < 0.9:
            self.now += self.random.randrange(50 * plant.MS)
        elif choice < 0.98:
            self.now += self.random.randrange(10 * plant.SECOND)

    def note(self, action: r.Action) -> None:
        wire = self.wires[action.link]
        if action.kind == r.ACTION_CONNECT:
            wire.is_connecting = True
        elif action.kind == r.ACTION_SEND:
            wire.requests.extend(plant.split_requests(action.data))
        elif action.kind == r.ACTION_DOWN:
            wire.rest = b""

    def event(self, link: int) -> r.Event:
        wire = self.wires[link]
        if wire.generation == 0 or self.random.random() < 0.01:
            return self.make(link)
        if wire.is_connecting and self.random.random() < 0.5:
            wire.is_connecting = False
            return r.Event(r.EVENT_OPEN if self.random.random() < 0.8 else r.EVENT_FAILED, link)
        return self.random.choices(
            (self.answer, self.plan, self.oneshot, self.poll, self.odd, self.clock), (80, 2, 4, 4, 6, 1)
        )[0](link)

    def make(self, link: int) -> r.Event:
        wire = self.wires[link]
        window = self.random.randint(1, plant.SCAN_LIMITS.window_max)
        wire.options = plant.OPTIONS._replace(
            window=window,
            transaction_bytes=2 if window > 1 else self.random.choice((0, 2)),
            timeouts_to_close=self.random.randint(1, 6),
            breaker_failures=self.random.randint(1, 3),
            timeout_ns=self.random.randrange(1, plant.SECOND),
        )
        wire.generation = max(wire.generation, 1)
        wire.exchanges = 0
        return r.Event(r.EVENT_LINK, link, data=wire.options)

    def plan(self, link: int) -> r.Event:
        wire = self.wires[link]
        wire.generation += 1
        cycles = []
        for _ in range(self.random.randint(0, 3)):
            blocks = [
                plant.Block(self.random.randint(1, 3), self.random.randrange(200), self.random.randint(1, 8))
                for _ in range(self.random.randint(0, 4))
            ]
            times = [self.random.randrange(1, 3 * plant.SECOND) for _ in range(3)]
            cycles.append(plant.Cycle(times[0], times[1] - 1, blocks, times[2] - 1))
        wire.exchanges = sum(len(cycle.blocks) for cycle in cycles)
        return r.Event(r.EVENT_PLAN, link, data=plant.make_plan(wire.generation, cycles))

    def oneshot(self, link: int) -> r.Event:
        self.token += 1
        block = plant.Block(self.random.randint(1, 3), self.random.randrange(200), self.random.randint(1, 8))
        exchange = plant.read_exchange(block, self.random.randrange(4))._replace(decode_count=0, hold_code=0)
        timeout_ns = self.random.choice((0, 1, plant.SECOND))
        request = plant.read_request(*block)
        return r.Event(r.EVENT_ONESHOT, link, token=self.token, data=r.OneShot(exchange, request, timeout_ns))

    def poll(self, link: int) -> r.Event:
        self.token += 1
        wire = self.wires[link]
        generation = wire.generation - (self.random.random() < 0.1)
        return r.Event(r.EVENT_POLL, link, self.random.randrange(wire.exchanges + 2), self.token, generation)

    def clock(self, link: int) -> r.Event:
        return r.Event(
            r.EVENT_CLOCK,
            number=self.random.randrange(2),
            value=self.random.randrange(1 << 60),
            token=self.random.choice((0, self.random.randrange(1 << 60))),
        )

    def odd(self, link: int) -> r.Event:
        kind = self.random.choice(
            (
                *(r.EVENT_OPEN, r.EVENT_FAILED, r.EVENT_CLOSED, r.EVENT_STOP),
                *(r.EVENT_BLOCKED, r.EVENT_DRAINED, r.EVENT_DRAINED, r.EVENT_DRAINED),
            )
        )
        return r.Event(kind, self.random.choice((link, LINKS)), value=self.random.randrange(200))

    def answer(self, link: int) -> r.Event:
        wire = self.wires[link]
        data = wire.rest
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 3))):
            if wire.requests:
                data += self.frame(wire.requests.popleft())
        cut = len(data) if self.random.random() < 0.7 else self.random.randint(0, len(data))
        wire.rest = data[cut:]
        if self.random.random() < 0.005:
            data = self.random.randbytes(self.random.randint(1, 300))
        return r.Event(r.EVENT_BYTES, link, data=data[:cut])

    def frame(self, request: bytes) -> bytes:
        choice = self.random.random()
        if choice < 0.05:
            return b""
        if choice < 0.15:
            return plant.refusal(request, self.random.choice((0, 1, 2, 4, 11)))
        frame = plant.answer(request, self.random.randrange(1 << plant.STEP_BITS))
        if choice < 0.2:
            at = self.random.choice((0, 1, 6, 7, 8, len(frame) - 1))
            return frame[:at] + bytes([frame[at] ^ 1 << self.random.randrange(8)]) + frame[at + 1 :]
        return frame * 2 if choice < 0.25 else frame


@pytest.mark.parametrize("seed", range(12))
def test_both_backends_give_the_same_transcript(seed):
    Conversation(seed).run(800)


def test_a_step_that_is_cut_is_the_same_step():
    # Room for few actions: with a small queue C has to cut a step with many events into several calls.
    pair = Pair(1, plant.SCAN_LIMITS._replace(window_max=1, oneshots_count_max=1))
    block = plant.Block(1, 0, 2)
    plan = plant.make_plan(1, [plant.Cycle(plant.SECOND, plant.SECOND, [block] * 20)])
    links = range(plant.SCAN_LIMITS.links_count_max)
    events = [r.Event(r.EVENT_LINK, link, data=plant.OPTIONS) for link in links]
    events += [r.Event(r.EVENT_PLAN, link, data=plan) for link in links]
    events += [r.Event(r.EVENT_OPEN, link) for link in links]
    sent: dict[int, bytes] = {}
    for step in range(200):
        actions, _ = pair.step(step, events)
        sent.update({action.link: action.data for action in actions if action.kind == r.ACTION_SEND})
        events = [
            r.Event(r.EVENT_BYTES, link, data=part)
            for link, request in sent.items()
            for frame in [plant.answer(request, step)]
            for part in (frame[:5], frame[5:12], frame[12:] + frame[:3], frame[3:])
        ]
        pair.compare()
