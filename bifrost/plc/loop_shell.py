"""`LoopShell`: the engine's shell on the asyncio loop instead of a thread of its own.

The same step, the same interface (`_native.contract.Shell`); it serves where there is no C thread, for links whose
bytes are not plain (TLS), and for library use, where waking a thread costs more than it saves. It has no task: it
lives in the loop's callbacks. Each link has one non-blocking socket; bytes that do not fit into it wait here, one SEND
at most, since the engine sends nothing while it is told "blocked".
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from bifrost._native import contract, records
from bifrost._native.records import Action, Event

__all__ = ["LoopShell"]

_ROUNDS_MAX = 16  # Steps without giving the loop a turn.


class _Channel:
    """The socket of one link."""

    __slots__ = ("socket", "unsent")

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.socket.setblocking(False)
        self.unsent = b""


class LoopShell:
    """See `contract.Shell` for what is not said here.

    Args:
        scan: The engine; nobody else may step it until `stop`.
        limits: Its queues and read buffer.
        loop: The running loop.
        watch: ``loop.add_reader``: descriptors are watched from `plc.scan` only.
        notify: Called when notices wait, in the loop; it takes them with `take`.
        now_ns: Monotonic nanoseconds, of the loop's own clock.
    """

    def __init__(
        self,
        scan: contract.Scan,
        limits: records.ShellLimits,
        *,
        loop: asyncio.AbstractEventLoop,
        watch: Callable[..., Any],
        notify: Callable[[], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._scan = scan
        self._limits = limits
        self._loop = loop
        self._watch = watch
        self._notify = notify
        self._now_ns = now_ns
        self._channels: dict[int, _Channel] = {}
        self._events: list[Event] = []
        self._notices: deque[Action] = deque()
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_stepping = False
        self._is_stopped = False

    # ---- contract.Shell ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Nothing to start: the first `post` steps the engine."""

    def post(self, event: Event) -> int:
        """Steps the engine with `event`, at once unless a step is under way. `OK`, and `E_FULL` after `stop`."""
        if self._is_stopped:
            return records.E_FULL
        if event.kind == records.EVENT_OPEN:
            self._open(event.link, event.value)
        self._events.append(event)
        self._run()
        return records.OK

    def take(self) -> Action | None:
        """The next notice, or None."""
        return self._notices.popleft() if self._notices else None

    def fileno(self) -> int:
        """-1: there is nothing to watch, `notify` is called instead."""
        return -1

    def dropped(self) -> int:
        """EXCHANGE notices dropped because nobody took them."""
        return self._dropped

    def cpu_ns(self) -> int:
        """0: the work is done in the loop's thread and counted there."""
        return 0

    def stop(self) -> None:
        """Closes every socket and forgets all events. May be called twice."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for link in list(self._channels):
            self._close(link)
        self._events.clear()

    # ---- steps -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Steps until the engine has nothing to do now, then sets the timer and tells that there are notices."""
        if self._is_stepping or self._is_stopped:
            return
        self._is_stepping = True
        wake_ns = 0
        try:
            for _ in range(_ROUNDS_MAX):
                events, self._events = self._events, []
                now = self._now_ns()
                actions, wake_ns = self._scan.step(now, events)
                for action in actions:
                    self._carry_out(action)
                if not self._events and wake_ns > now:
                    break
            else:
                wake_ns = 0
        finally:
            self._is_stepping = False
        self._set_timer(wake_ns)
        if self._notices:
            self._notify()

    def _set_timer(self, wake_ns: int) -> None:
        """An earlier timer is left alone: a step with nothing to do is cheaper than a new timer for each request."""
        if self._is_stopped:
            return
        wake = wake_ns / 1e9
        if self._timer is not None:
            if self._timer.when() <= wake:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(wake, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._run()

    def _carry_out(self, action: Action) -> None:
        if action.kind == records.ACTION_SEND:
            self._send(action.link, action.data)
        elif action.kind == records.ACTION_CLOSE:
            self._close(action.link)
        elif action.kind == records.ACTION_EXCHANGE and len(self._notices) >= self._limits.notices_count_max:
            self._dropped += 1
        else:
            self._notices.append(action)

    # ---- sockets -----------------------------------------------------------------------------------------------------

    def _open(self, link: int, descriptor: int) -> None:
        self._close(link)
        channel = self._channels[link] = _Channel(descriptor)
        self._watch(channel.socket, self._readable, link)

    def _readable(self, link: int) -> None:
        channel = self._channels[link]
        try:
            data = channel.socket.recv(self._limits.read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(link, error.errno or 0)
        else:
            if data:
                self._events.append(Event(records.EVENT_BYTES, link, data=data))
            else:
                self._lose(link, 0)
        self._run()

    def _send(self, link: int, data: bytes) -> None:
        channel = self._channels.get(link)
        if channel is None:
            return
        sent = 0
        try:
            sent = channel.socket.send(data)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._lose(link, error.errno or 0)
            return
        if sent < len(data):
            channel.unsent = data[sent:]
            self._loop.add_writer(channel.socket, self._writable, link)
            self._events.append(Event(records.EVENT_BLOCKED, link))

    def _writable(self, link: int) -> None:
        channel = self._channels[link]
        try:
            sent = channel.socket.send(channel.unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(link, error.errno or 0)
        else:
            channel.unsent = channel.unsent[sent:]
            if channel.unsent:
                return
            self._loop.remove_writer(channel.socket)
            self._events.append(Event(records.EVENT_DRAINED, link))
        self._run()

    def _lose(self, link: int, error_number: int) -> None:
        """The peer closed, or the socket failed: it is not watched any more, and the engine says to close it."""
        self._unwatch(self._channels[link])
        self._events.append(Event(records.EVENT_CLOSED, link, value=error_number))

    def _close(self, link: int) -> None:
        channel = self._channels.pop(link, None)
        if channel is not None:
            self._unwatch(channel)
            with contextlib.suppress(OSError):
                channel.socket.close()

    def _unwatch(self, channel: _Channel) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(channel.socket)
            self._loop.remove_writer(channel.socket)
