"""Events for a shell that is full now and then arrive all, in their order; descriptors that never arrive are closed."""

from __future__ import annotations

import asyncio
import os

import pytest

from bifrost._native import records
from bifrost._native.records import Event
from bifrost.plc.commands import CommandQueue


class FullShell:
    """Takes `room` events and no more until there is room again."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[int] = []

    def post(self, event):
        if not self.room:
            return records.E_FULL
        self.room -= 1
        self.taken.append(event.token)
        return records.OK


async def until(condition):
    """Returns once `condition` holds, within 5 s."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never held")


def test_events_wait_while_the_shell_is_full_and_keep_their_order():
    async def run():
        shell = FullShell(2)
        queue = CommandQueue(shell, asyncio.get_running_loop(), 3)
        for token in range(5):
            queue.send(Event(records.EVENT_CLOCK, token=token))
        assert (shell.taken, queue.is_full) == ([0, 1], True)
        shell.room = 1
        await until(lambda: len(shell.taken) == 3)
        assert not queue.is_full
        shell.room = 10
        await until(lambda: len(shell.taken) == 5)
        queue.send(Event(records.EVENT_CLOCK, token=5))
        assert shell.taken == [0, 1, 2, 3, 4, 5]

    asyncio.run(run())


def test_event_sent_while_one_is_handed_over_comes_after_it():
    async def run():
        shell = FullShell(10)
        queue = CommandQueue(shell, asyncio.get_running_loop(), 3)
        original = shell.post

        def post(event):
            if event.token == 1:
                queue.send(Event(records.EVENT_CLOCK, token=2))
                assert original(event) == records.OK
                return records.OK
            return original(event)

        shell.post = post  # a shell that calls back, as the one on the loop does
        queue.send(Event(records.EVENT_CLOCK, token=1))
        assert sorted(shell.taken) == [1, 2]

    asyncio.run(run())


def test_descriptor_that_was_not_handed_over_is_closed():
    async def run():
        reader, writer = os.pipe()
        queue = CommandQueue(FullShell(0), asyncio.get_running_loop(), 3)
        queue.send(Event(records.EVENT_OPEN, value=reader))
        queue.close()
        queue.send(Event(records.EVENT_OPEN, value=writer))
        for descriptor in (reader, writer):
            with pytest.raises(OSError):
                os.fstat(descriptor)

    asyncio.run(run())
