"""Connecting without holding up the event loop: the one place in Bifrost that starts a thread of Python.

Looking up a name, connecting, TLS handshake and WebSocket upgrade are blocking calls of libraries that offer nothing
else. They run in a thread that lives for one attempt; each dialer has at most one. Its attempt has a deadline, and the
loop can cut it short: the socket at which the thread waits is shut down. Only a name lookup cannot be cut; while one
hangs, further attempts of the same dialer wait for it, and those of other dialers go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from bifrost.core.errors import BifrostError, ConnectError

__all__ = ["Attempt", "Dialer"]


class _Closable(Protocol):
    def close(self) -> object: ...


_T = TypeVar("_T", bound=_Closable)


class Attempt:
    """What a connecting thread and its loop share. Its `stage` says what the thread is doing, for messages."""

    def __init__(self) -> None:
        self.stage = "starting"
        self._lock = threading.Lock()
        self._held: socket.socket | None = None
        self._is_cut = False

    def hold(self, connection: socket.socket) -> None:
        """The thread is about to wait at `connection`. Raises ConnectionAbortedError when the attempt was cut."""
        with self._lock:
            if self._is_cut:
                raise ConnectionAbortedError("the attempt was given up")
            self._held = connection

    def cut(self) -> None:
        """Nobody waits for the attempt any more: wakes its thread."""
        with self._lock:
            self._is_cut = True
            if self._held is not None:
                with contextlib.suppress(OSError):  # It may have been closed by now.
                    socket.socket.shutdown(self._held, socket.SHUT_RDWR)  # Not SSLSocket's, which changes its state.


class Dialer(Generic[_T]):
    """Makes connections, one at a time.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._run: _Run[_T] | None = None

    async def dial(self, connect: Callable[[Attempt], _T], attempt: Attempt) -> _T:
        """Runs `connect` in the thread and gives what it made. The caller sets the time limit.

        Args:
            connect: Connects; blocks as long as it likes, and calls `Attempt.hold` before it waits at a socket. What it
                makes is closed if nobody waits for it any more.
            attempt: For `connect`.

        Raises:
            OSError, ValueError, BifrostError: What `connect` raised.
        """
        if self._run is not None:
            attempt.stage = "the attempt before still hangs in the lookup of the name"
            await self._run.ended.wait()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._run = _Run(connect, attempt, loop, future)
        threading.Thread(target=self._run.run, name=self._name, daemon=True).start()
        try:
            return await future
        finally:
            if not future.done() or future.cancelled():
                attempt.cut()


class _Run(Generic[_T]):
    """One attempt, seen from its thread."""

    def __init__(
        self,
        connect: Callable[[Attempt], _T],
        attempt: Attempt,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[_T],
    ) -> None:
        self.ended = asyncio.Event()
        self._connect = connect
        self._attempt = attempt
        self._loop = loop
        self._future = future
        self._made: _T | None = None
        self._error: OSError | ValueError | BifrostError = ConnectError("the attempt ended in a fault of Bifrost")

    def run(self) -> None:
        """The thread."""
        try:
            self._made = self._connect(self._attempt)
        except (OSError, ValueError, BifrostError) as error:
            self._error = error
        finally:
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # The loop was closed meanwhile.
                self._discard()

    def _deliver(self) -> None:
        self.ended.set()
        if self._future.done():
            self._discard()
        elif self._made is not None:
            self._future.set_result(self._made)
        else:
            self._future.set_exception(self._error)

    def _discard(self) -> None:
        if self._made is not None:
            self._made.close()
