"""The supervisor: every long-lived task of the gateway is a named child that is started again when it fails.

A child is an async function that runs until it is cancelled. One that raises, or ends by itself, is restarted after a growing delay with
jitter; its siblings never notice. Errors that a restart cannot mend (`ConfigError`, `AddressError`, `LimitError`) make it *failed*: it
stays down and is reported until the gateway is restarted. This is the only place in Bifrost that catches `Exception`.

States of a child: running, waiting (for its restart), failed, stopped. Children can be added and removed while the others run.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import msgspec

from bifrost.core.errors import AddressError, ConfigError, LimitError
from bifrost.core.retry import Backoff
from bifrost.core.secrets import SECRETS

__all__ = ["Child", "ChildState", "ChildStatus", "Supervisor", "failure_of"]

_RESTART_MIN_NS = 500_000_000
_RESTART_MAX_NS = 30_000_000_000
_HEALTHY_AFTER_NS = 60_000_000_000  # A child that ran this long starts again from the shortest delay.
_HOPELESS = (ConfigError, AddressError, LimitError)


class ChildState(StrEnum):
    """What a child is doing."""

    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPED = "stopped"


class Child(msgspec.Struct, frozen=True):
    """A long-lived task.

    Attributes:
        name: Unique name, for log, status and the task itself.
        run: Does the work until it is cancelled. It is called again for each restart, so it opens what it needs itself.
    """

    name: str
    run: Callable[[], Awaitable[None]]


class ChildStatus(msgspec.Struct):
    """What is known about a child; `Supervisor.statuses` gives it to status pages."""

    name: str
    state: ChildState = ChildState.STOPPED
    restarts: int = 0
    last_error: str = ""


class Supervisor:
    """Runs children until it is cancelled.

    Args:
        on_failure: Told of each failure: the child's status, the exception (None: it ended by itself) and the seconds until the restart
        (None: no
            restart). Must not raise.
        pause: Waits for some seconds.
        now_ns: Monotonic clock.
        chance: Uniform numbers in [0, 1), for the jitter.
    """

    def __init__(
        self,
        on_failure: Callable[[ChildStatus, Exception | None, float | None], None],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_ns: Callable[[], int] = time.monotonic_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._on_failure = on_failure
        self._pause = pause
        self._now_ns = now_ns
        self._chance = chance
        self._statuses: dict[str, ChildStatus] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def statuses(self) -> Sequence[ChildStatus]:
        """Status of each child, in the order they were given to `run`."""
        return tuple(self._statuses.values())

    async def run(self, children: Sequence[Child]) -> None:
        """Runs all `children`; returns only by cancellation, after every child has cleaned up.

        Raises:
            ValueError: Two children have the same name.
        """
        if len({child.name for child in children}) != len(children):
            raise ValueError("two children have the same name")
        self._statuses.clear()
        self._tasks.clear()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for child in children:
                    self.start(child)
                await asyncio.Event().wait()
        finally:
            self._group = None

    def start(self, child: Child) -> None:
        """Runs one more child, while `run` runs.

        Raises:
            ValueError: There is one of that name, or nothing runs.
        """
        if self._group is None:
            raise ValueError("children are started while the supervisor runs")
        if child.name in self._statuses:
            raise ValueError(f"there is a child named {child.name!r}")
        self._statuses[child.name] = ChildStatus(child.name)
        self._tasks[child.name] = self._group.create_task(self._keep_alive(child), name=child.name)

    async def stop(self, name: str) -> None:
        """Cancels one child, waits until it has cleaned up, and forgets it. Does nothing for a name that is not there."""
        task = self._tasks.get(name)
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        del self._tasks[name], self._statuses[name]

    async def _keep_alive(self, child: Child) -> None:
        status = self._statuses[child.name]
        backoff = Backoff(_RESTART_MIN_NS, _RESTART_MAX_NS, self._chance)
        try:
            while True:
                status.state = ChildState.RUNNING
                started_ns = self._now_ns()
                error = await failure_of(child.run)
                if self._now_ns() - started_ns >= _HEALTHY_AFTER_NS:
                    backoff.succeeded()
                last_error = "ended by itself" if error is None else f"{type(error).__name__}: {error}"
                status.last_error = SECRETS.redacted(last_error)
                if isinstance(error, _HOPELESS):
                    status.state = ChildState.FAILED
                    self._on_failure(status, error, None)
                    return
                status.state = ChildState.WAITING
                status.restarts += 1
                delay_s = backoff.next_delay_ns() / 1e9
                self._on_failure(status, error, delay_s)
                await self._pause(delay_s)
        finally:
            if status.state is not ChildState.FAILED:
                status.state = ChildState.STOPPED


async def failure_of(run: Callable[[], Awaitable[None]]) -> Exception | None:
    """Awaits `run` once and gives what it failed with; None: it ended by itself. Cancellation passes through."""
    try:
        await run()
    except Exception as error:  # noqa: BLE001  # the one place: whatever a child did, its siblings go on
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        return error
    return None
