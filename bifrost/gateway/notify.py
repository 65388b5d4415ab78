"""What the service manager is told: ready, reloading, stopping, a line of status, and that the gateway still works.

The watchdog is fed only while the scan engine answers and the journals move, so that a gateway that hangs in any of its threads is started
again by systemd. Without a service manager nothing of this happens. Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bifrost.core.errors import BifrostError
from bifrost.core.log import fields
from bifrost.core.secrets import SECRETS

__all__ = ["Notifier"]

_log = logging.getLogger("bifrost.gateway.notify")

_US_PER_S: Final = 1_000_000
_STATUS_PERIOD_S: Final = 10.0
_FEEDS_PER_PERIOD: Final = 3  # One feed may come late, or find the engine busy, and nothing is ended.


class Notifier:
    """The datagram socket of the service manager; calls do nothing where there is none, or when it does not take them.

    Args:
        environ: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` of systemd.
        status: One line for `systemctl status`.
        beat: Returns once everything that has to move has moved; raises a BifrostError for what does not.
    """

    def __init__(
        self, environ: Mapping[str, str], *, status: Callable[[], str], beat: Callable[[], Awaitable[None]]
    ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(environ) if self._address else 0.0
        self._status = status
        self._beat = beat
        self._is_heard = True

    @property
    def is_needed(self) -> bool:
        """Whether there is a service manager that listens."""
        return bool(self._address)

    def ready(self) -> None:
        """The gateway serves: after the start, and again after a reload."""
        self._send("READY=1", f"STATUS={self._status()}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}", "STATUS=reloading")

    def stopping(self) -> None:
        """The gateway is about to end."""
        self._send("STOPPING=1", "STATUS=stopping")

    async def run(self) -> None:
        """Tells the status and feeds the watchdog, until cancelled."""
        period_s = self._watchdog_s / _FEEDS_PER_PERIOD if self._watchdog_s else _STATUS_PERIOD_S
        while True:
            try:
                async with asyncio.timeout(period_s):
                    await self._beat()
            except (BifrostError, TimeoutError) as error:
                reason = SECRETS.redacted(str(error)) or "the scan engine does not answer"
                _log.error("the watchdog is not fed", extra=fields(reason=reason))
                self._send(f"STATUS=hangs: {reason}")
            else:
                fed = ("WATCHDOG=1",) if self._watchdog_s else ()
                self._send(*fed, f"STATUS={self._status()}")
            await asyncio.sleep(period_s)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.connect(self._address)
                sender.send("\n".join(lines).encode())
            self._is_heard = True
        except OSError as error:
            if self._is_heard:  # Said once, until it listens again.
                _log.warning("the service manager does not listen", extra=fields(error=error))
            self._is_heard = False


def _address(text: str) -> str:
    """The socket's address; one that begins with ``@`` is abstract (unix(7)); others than paths are not for us."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """How often the watchdog wants to be fed, in seconds; 0: there is none, or it is meant for another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / _US_PER_S if text.isascii() and text.isdigit() else 0.0
