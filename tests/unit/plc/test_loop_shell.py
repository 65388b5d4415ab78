"""The asyncio shell with an engine that is scripted: what it is told to do it does, and what happens to a socket it reports.

A socket pair takes the place of the network; the clock is the test's own.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections import deque

import pytest

from bifrost._native import records
from bifrost._native.records import Action, Event, ShellLimits
from bifrost.plc.loop_shell import LoopShell

LIMITS = ShellLimits(16, 2, 512, 512, 4096)
NEVER = (1 << 63) - 1


def asynchronous(test):
    """Runs an async test in a loop of its own, at most 10 s long."""

    @functools.wraps(test)
    def run(*arguments, **keywords):
        async def timed():
            async with asyncio.timeout(10):
                await test(*arguments, **keywords)

        asyncio.run(timed())

    return run


class ScriptedScan:
    """Records the events of each step; gives the actions and wake times that were put down."""

    def __init__(self) -> None:
        self.steps: list[list[Event]] = []
        self.times: list[int] = []
        self.script: deque[tuple[list[Action], int]] = deque()

    def step(self, now_ns, events):
        self.steps.append(list(events))
        self.times.append(now_ns)
        return self.script.popleft() if self.script else ([], NEVER)

    def counters(self, link):
        return records.Counters()

    @property
    def events(self) -> list[Event]:
        return [event for step in self.steps for event in step]


class Stage:
    """A shell over a scripted engine, with one end of a socket pair as the peer."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.scan = ScriptedScan()
        self.told = asyncio.Event()
        self.now_ns = 0
        self.shell = LoopShell(
            self.scan,
            LIMITS,
            loop=loop,
            watch=loop.add_reader,
            notify=self.told.set,
            now_ns=lambda: int(loop.time() * 1e9),
        )
        self.peer, self.own = socket.socketpair()
        self.peer.setblocking(False)

    def open(self, *actions: Action) -> None:
        self.scan.script.append((list(actions), NEVER))
        assert self.shell.post(Event(records.EVENT_OPEN, 0, value=self.own.detach())) == records.OK

    async def event(self, kind: int) -> Event:
        """Waits for an event of `kind`."""
        for _ in range(5000):
            for event in self.scan.events:
                if event.kind == kind:
                    return event
            await asyncio.sleep(0.001)
        raise AssertionError(f"no event {kind}")

    def end(self) -> None:
        self.shell.stop()
        self.shell.stop()
        self.peer.close()
        self.own.close()


@asynchronous
async def test_bytes_go_out_and_come_in():
    stage = Stage()
    stage.open(Action(records.ACTION_SEND, 0, data=b"question"))
    assert stage.peer.recv(100) == b"question"
    stage.peer.send(b"answer")
    assert (await stage.event(records.EVENT_BYTES)).data == b"answer"
    stage.end()


@asynchronous
async def test_what_does_not_fit_is_sent_later_and_the_engine_knows():
    stage = Stage()
    stage.own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = bytes(range(256)) * 4000
    stage.open(Action(records.ACTION_SEND, 0, data=data))
    assert records.EVENT_BLOCKED in [event.kind for event in stage.scan.events]
    received = b""
    while len(received) < len(data):
        try:
            received += stage.peer.recv(1 << 20)
        except BlockingIOError:
            await asyncio.sleep(0)
    assert received == data
    await stage.event(records.EVENT_DRAINED)
    assert [event.kind for event in stage.scan.events].count(records.EVENT_DRAINED) == 1
    stage.end()


@asynchronous
async def test_peer_that_closes_is_reported_once_and_the_socket_closed_when_told():
    stage = Stage()
    stage.open()
    stage.peer.close()
    assert (await stage.event(records.EVENT_CLOSED)).value == 0
    stage.scan.script.append(([Action(records.ACTION_CLOSE, 0)], NEVER))
    stage.shell.post(Event(records.EVENT_CLOCK))
    assert stage.shell._channels == {}
    assert [event.kind for event in stage.scan.events].count(records.EVENT_CLOSED) == 1
    stage.end()


@asynchronous
async def test_send_to_a_closed_peer_is_reported_with_its_errno():
    stage = Stage()
    stage.peer.close()
    stage.open(Action(records.ACTION_SEND, 0, data=b"x"))
    assert (await stage.event(records.EVENT_CLOSED)).value == errno.EPIPE
    stage.end()


@asynchronous
async def test_peer_that_breaks_while_bytes_wait_is_reported():
    stage = Stage()
    stage.own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    stage.open(Action(records.ACTION_SEND, 0, data=bytes(1_000_000)))
    stage.peer.close()
    closed = await stage.event(records.EVENT_CLOSED)
    assert closed.value in (0, errno.EPIPE, errno.ECONNRESET)
    stage.end()


@asynchronous
async def test_send_for_a_link_without_socket_is_nothing():
    stage = Stage()
    stage.scan.script.append(([Action(records.ACTION_SEND, 3, data=b"x"), Action(records.ACTION_CLOSE, 3)], NEVER))
    stage.shell.post(Event(records.EVENT_CLOCK))
    assert len(stage.scan.steps) == 1
    stage.end()


@asynchronous
async def test_engine_is_stepped_again_at_once_while_it_wants_and_then_in_turns():
    stage = Stage()
    stage.scan.script.extend([([], 0)] * 20)
    stage.shell.post(Event(records.EVENT_CLOCK))
    assert len(stage.scan.steps) == 16
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stage.scan.script
    stage.end()


@asynchronous
async def test_timer_wakes_the_engine_and_an_earlier_one_takes_its_place():
    stage = Stage()
    loop = asyncio.get_running_loop()
    start = int(loop.time() * 1e9)
    stage.scan.script.append(([], start + 60_000_000_000))
    stage.shell.post(Event(records.EVENT_CLOCK))
    stage.scan.script.append(([], start + 5_000_000))
    stage.shell.post(Event(records.EVENT_CLOCK))
    stage.scan.script.append(([Action(records.ACTION_UP, 0)], NEVER))
    await stage.told.wait()
    assert stage.scan.steps[-1] == []
    assert stage.scan.times[-1] >= start + 5_000_000
    stage.end()


@asynchronous
async def test_notices_wait_to_be_taken_and_only_exchanges_are_dropped():
    stage = Stage()
    exchange, done = Action(records.ACTION_EXCHANGE, 0), Action(records.ACTION_DONE, 0, token=7)
    stage.scan.script.append(([exchange, exchange, exchange, done], NEVER))
    stage.shell.post(Event(records.EVENT_CLOCK))
    assert stage.told.is_set()
    assert [stage.shell.take() for _ in range(4)] == [exchange, exchange, done, None]
    assert stage.shell.dropped() == 1
    stage.end()


@asynchronous
async def test_event_posted_during_a_step_is_taken_after_it():
    stage = Stage()
    inner = Event(records.EVENT_FAILED, 1)
    original = stage.scan.step

    def step(now_ns, events):
        if len(stage.scan.steps) == 0:
            stage.shell.post(inner)
        return original(now_ns, events)

    stage.scan.step = step  # the engine's actions may lead to events
    stage.shell.post(Event(records.EVENT_CLOCK))
    assert stage.scan.steps == [[Event(records.EVENT_CLOCK)], [inner]]
    stage.end()


@asynchronous
async def test_stopped_shell_takes_nothing_more():
    stage = Stage()
    stage.shell.start()
    stage.open()
    stage.scan.script.append(([], 1))
    stage.end()
    assert stage.shell.post(Event(records.EVENT_CLOCK)) == records.E_FULL
    assert (stage.shell.fileno(), stage.shell.cpu_ns(), stage.shell.take()) == (-1, 0, None)
    with pytest.raises(OSError):
        stage.peer.getpeername()
