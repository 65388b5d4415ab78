"""`CommandQueue`: events on their way to a shell whose own queue may be full for a moment; their order is kept."""

from __future__ import annotations

import asyncio
import os
from collections import deque

from bifrost._native import contract, records
from bifrost._native.records import Event

__all__ = ["CommandQueue"]

_RETRY_S = 0.002


class CommandQueue:
    """Hands events to a shell, later if it is full.

    What waits here is bounded by who sends: a few events a link, and single requests only while `is_full` is false.

    Args:
        shell: Where events go.
        loop: Whose timer tries again.
        commands_count_max: How many may wait before `is_full`.
    """

    def __init__(self, shell: contract.Shell, loop: asyncio.AbstractEventLoop, commands_count_max: int) -> None:
        self._shell = shell
        self._loop = loop
        self._commands_count_max = commands_count_max
        self._waiting: deque[Event] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether the engine does not keep up."""
        return len(self._waiting) >= self._commands_count_max

    def send(self, event: Event) -> None:
        """Hands `event` over, now or after those that wait. The descriptor of an OPEN is no longer the caller's."""
        self._waiting.append(event)
        if self._is_closed:
            self.close()
        elif self._timer is None:
            self._hand_over()

    def close(self) -> None:
        """Forgets what waits and what is still to come, and closes the descriptors in it."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for event in self._waiting:
            if event.kind == records.EVENT_OPEN:
                os.close(event.value)
        self._waiting.clear()

    def _hand_over(self) -> None:
        self._timer = None
        while self._waiting:
            event = self._waiting.popleft()  # Before the shell has it, which may call back into `send`.
            if self._shell.post(event) != records.OK:
                self._waiting.appendleft(event)
                self._timer = self._loop.call_later(_RETRY_S, self._hand_over)
                return
