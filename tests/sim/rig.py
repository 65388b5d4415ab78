"""An engine with one link, for tests that play the plant, the clock and the session by hand."""

from __future__ import annotations

from array import array
from typing import Any, Final

from bifrost._native import records as r
from bifrost._native.contract import Backend
from tests.sim import plant
from tests.sim.plant import SECOND, Block, Cycle

START: Final = 1_000 * SECOND
PERIOD: Final = SECOND
STALE: Final = 3 * SECOND
WHOLE: Final = Block(1, 0, 4)


class Rig:
    """An engine with one link, and everything that it said."""

    def __init__(self, backend: Backend, **options: Any) -> None:
        self.table = plant.make_table(backend)
        self.scan = backend.make_scan(plant.SCAN_LIMITS, self.table, 7)
        self.now = START
        self.wake = START
        self.actions: list[r.Action] = []
        self.requests: list[bytes] = []
        self.step(r.Event(r.EVENT_LINK, data=plant.OPTIONS._replace(**options)))

    def step(self, *events: r.Event) -> list[r.Action]:
        actions, self.wake = self.scan.step(self.now, events)
        self.actions += actions
        for action in actions:
            if action.kind == r.ACTION_SEND:
                self.requests += plant.split_requests(action.data)
        return actions

    def at(self, time_ns: int, *events: r.Event) -> list[r.Action]:
        """Steps whenever the engine wants it until `time_ns` after the start, and then with `events`."""
        made = []
        while self.wake < START + time_ns:
            self.now = max(self.now, self.wake)
            made += self.step()
        self.now = START + time_ns
        return made + self.step(*events)

    def up(self, *cycles: Cycle, generation: int = 1) -> None:
        self.step(r.Event(r.EVENT_PLAN, data=plant.make_plan(generation, cycles)))
        self.step(r.Event(r.EVENT_OPEN))

    def receive(self, frame: bytes) -> list[r.Action]:
        return self.step(r.Event(r.EVENT_BYTES, data=frame))

    def answer(self, step: int = 1, at: int = -1) -> list[r.Action]:
        """The plant answers request `at`."""
        return self.receive(plant.answer(self.requests[at], step))

    def slot(self, tag: int) -> r.Slot:
        return r.Slot(*r.SLOT.unpack(self.table.read(array("I", [tag]))))

    def statuses(self, block: Block) -> set[int]:
        return {self.slot(tag).status for tag in range(block.first, block.first + block.tags)}

    @property
    def counters(self) -> r.Counters:
        return self.scan.counters(0)


def kinds(actions: list[r.Action]) -> list[int]:
    return [action.kind for action in actions]
