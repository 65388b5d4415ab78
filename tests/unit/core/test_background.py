"""Work beside the loop: what it gives and raises arrives, the loop goes on meanwhile, and nobody waits for it in vain."""

import asyncio
import threading

import pytest

from bifrost.core.background import in_background


def test_result_arrives_from_another_thread():
    async def scenario():
        return await in_background(threading.get_ident)

    assert asyncio.run(scenario()) != threading.get_ident()


def test_loop_goes_on_meanwhile():
    async def scenario():
        go = threading.Event()
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            work = group.create_task(in_background(lambda: go.wait(30)))
            await asyncio.sleep(0)
            go.set()  # Nobody would get here if the loop were held.
            return await work

    assert asyncio.run(scenario())


def test_what_the_work_raises_is_raised_here():
    def work():
        raise ValueError("lost")

    async def scenario():
        with pytest.raises(ValueError, match="lost"):
            await in_background(work)

    asyncio.run(scenario())


def test_nobody_hears_of_work_that_was_given_up():
    go = threading.Event()

    async def scenario():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_background(lambda: go.wait(30))

    asyncio.run(scenario())  # ends although the work has not
    go.set()
    for thread in threading.enumerate():
        if thread.name == "background":
            thread.join(30)
