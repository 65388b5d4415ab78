"""The supervisor keeps children alive and apart. Time is faked: `pause` records the delay and yields once."""

import asyncio

import pytest

from bifrost.core.errors import ConfigError
from bifrost.gateway.supervisor import Child, ChildState, Supervisor


async def until(holds):
    """Waits until `holds()`; the caller sets the time limit."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.001)


class Bench:
    """A supervisor whose pauses are recorded and take no time; after `pauses_max` of them it is cancelled."""

    def __init__(self, pauses_max=5):
        self.pauses = []
        self.failures = []
        self.now_s = 0.0
        self.enough = asyncio.Event()
        self.pauses_max = pauses_max
        self.supervisor = Supervisor(
            lambda status, error, delay_s: self.failures.append((status.name, error, delay_s)),
            pause=self.pause,
            now_ns=lambda: int(self.now_s * 1e9),
            chance=lambda: 1.0,
        )

    async def pause(self, seconds):
        self.pauses.append(seconds)
        if len(self.pauses) >= self.pauses_max:
            self.enough.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async def run(self, *children):
        task = asyncio.ensure_future(self.supervisor.run(children))
        waiter = asyncio.ensure_future(self.enough.wait())
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        waiter.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def forever(seen):
    async def run():
        seen.append("start")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("stop")

    return run


def failing(error):
    async def run():
        raise error

    return run


def test_failing_child_is_restarted_with_growing_capped_delay():
    async def scenario():
        bench = Bench(pauses_max=9)
        await bench.run(Child("bad", failing(OSError("no"))))
        return bench

    bench = asyncio.run(scenario())
    assert bench.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert bench.supervisor.statuses[0].restarts == 9
    assert bench.supervisor.statuses[0].last_error == "OSError: no"


def test_failing_child_does_not_take_its_siblings_down():
    seen = []

    async def scenario():
        bench = Bench()
        await bench.run(Child("good", forever(seen)), Child("bad", failing(RuntimeError("bug"))))

    asyncio.run(scenario())
    assert seen == ["start", "stop"]


def test_child_that_ends_by_itself_is_restarted():
    async def end():
        return

    async def scenario():
        bench = Bench(pauses_max=2)
        await bench.run(Child("short", end))
        return bench

    bench = asyncio.run(scenario())
    assert [failure[1] for failure in bench.failures] == [None, None]
    assert bench.supervisor.statuses[0].last_error == "ended by itself"


def test_configuration_error_is_final_and_siblings_go_on():
    seen = []

    async def scenario():
        bench = Bench(pauses_max=1)
        await bench.run(
            Child("wrong", failing(ConfigError("impossible"))),
            Child("good", forever(seen)),
            Child("bad", failing(OSError())),
        )
        return bench

    bench = asyncio.run(scenario())
    wrong, good, bad = bench.supervisor.statuses
    assert (wrong.state, wrong.restarts) == (ChildState.FAILED, 0)
    assert good.state is ChildState.STOPPED
    assert bad.state is ChildState.STOPPED
    assert seen == ["start", "stop"]


def test_child_that_ran_long_enough_starts_again_from_the_shortest_delay():
    async def scenario():
        bench = Bench(pauses_max=4)

        async def run():
            bench.now_s += 100 if len(bench.pauses) == 2 else 1
            raise OSError("gone")

        await bench.run(Child("device", run))
        return bench

    assert asyncio.run(scenario()).pauses == [0.5, 1.0, 0.5, 1.0]


def test_error_inside_a_task_group_is_named():
    async def run():
        async with asyncio.TaskGroup() as group:
            group.create_task(failing(OSError("inner"))())

    async def scenario():
        bench = Bench(pauses_max=1)
        await bench.run(Child("group", run))
        return bench

    assert asyncio.run(scenario()).supervisor.statuses[0].last_error == "OSError: inner"


def test_children_come_and_go_while_the_others_run():
    seen, others = [], []

    async def scenario():
        bench = Bench(pauses_max=1)
        supervisor = bench.supervisor
        with pytest.raises(ValueError, match="while the supervisor runs"):
            supervisor.start(Child("early", forever([])))
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            task = group.create_task(supervisor.run([Child("old", forever(others))]))
            await until(lambda: others)
            supervisor.start(Child("new", forever(seen)))
            with pytest.raises(ValueError, match="named 'new'"):
                supervisor.start(Child("new", forever(seen)))
            await until(lambda: seen)
            await supervisor.stop("new")
            await supervisor.stop("new")
            assert [status.name for status in supervisor.statuses] == ["old"]
            supervisor.start(Child("new", forever(seen)))  # The name is free again.
            await asyncio.sleep(0)
            task.cancel()

    asyncio.run(scenario())
    assert (seen, others) == (["start", "stop", "start", "stop"], ["start", "stop"])


def test_child_is_stopped_while_it_waits_for_its_restart():
    async def scenario():
        bench = Bench(pauses_max=1)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            task = group.create_task(bench.supervisor.run([Child("bad", failing(OSError("no")))]))
            await bench.enough.wait()
            await bench.supervisor.stop("bad")
            assert bench.supervisor.statuses == ()
            task.cancel()

    asyncio.run(scenario())


def test_two_children_of_one_name_are_refused():
    async def scenario():
        await Bench().supervisor.run([Child("a", forever([])), Child("a", forever([]))])

    with pytest.raises(ValueError):
        asyncio.run(scenario())
