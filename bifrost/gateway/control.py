"""The control socket: live commands over a Unix socket, one JSON request and one JSON answer a line.

A request is an object with `command`; what it may be is `gateway.commands`' affair. Every answer has `ok`; when it is false, `error` is a
sentence and `code` the exit code that the command line gives (1 failed, 2 wrong request, 3 cannot reach). An answer with `more` true is
continued in the next line, so that no line is longer than the limit however many tags there are.

Everything is bounded: clients, bytes of a line, time between two requests, time to take an answer. Who does not keep to it is told so, if
that is possible, and disconnected; `dropped` counts the reasons. No client can make another one, or the gateway, wait. The socket has mode
0660.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bifrost.core.errors import BifrostError, ConfigError, TransportError
from bifrost.core.log import fields
from bifrost.core.secrets import SECRETS
from bifrost.gateway.exits import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_WRONG
from bifrost.gateway.supervisor import failure_of

__all__ = ["ControlServer", "ControlSession", "bind_socket"]

_log = logging.getLogger("bifrost.gateway.control")

_SOCKET_MODE = 0o660  # CONTRACT: owner and group, nobody else.
_PATH_BYTES_MAX = 107  # sun_path has 108 with the final zero; unix(7).
_FRAME_BYTES = 64  # What an answer line holds beside its head and its items.
_PEER_CREDENTIALS = struct.Struct("=iII")  # Process, user, group; SO_PEERCRED of unix(7).
_IDLE_TIMEOUT_S = 60.0
_SEND_TIMEOUT_S = 5.0

Command = Callable[[Mapping[str, Any], "ControlSession"], Awaitable[None]]


class ControlSession:
    """One client's side of the server, as a command sees it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, line_bytes_max: int, send_timeout_s: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._line_bytes_max = line_bytes_max
        self._send_timeout_s = send_timeout_s
        writer.transport.set_write_buffer_limits(
            high=0
        )  # `drain` then waits until the line is gone: one line a client.

    @property
    def who(self) -> str:
        """The user at the other end as the kernel knows it, for the audit log: ``control:uid=1000``."""
        size = _PEER_CREDENTIALS.size
        peer = self._writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return f"control:uid={_PEER_CREDENTIALS.unpack(peer)[1]}"

    async def send(self, answer: Mapping[str, Any], *, ok: bool = True) -> None:
        """Sends one answer line and waits until the client has taken it.

        Raises:
            ClientTooSlowError: It does not take it in time.
            OSError: It is gone.
        """
        await self._write(msgspec.json.encode({"ok": ok, **answer}))

    async def send_items(self, head: Mapping[str, Any], name: str, items: Iterable[Any], *, more: bool = False) -> None:
        """Sends `items` as the list `name`, in as many lines as they need; all but the last say ``more``.

        Args:
            head: Stands in each line.
            name: Of the list.
            items: Anything that JSON has; one by itself must fit into a line.
            more: Whether the last line says ``more`` too, since the caller goes on.

        Raises what `send` raises.
        """
        part: list[msgspec.Raw] = []
        head_bytes = len(msgspec.json.encode(head)) + _FRAME_BYTES
        part_bytes = head_bytes
        for item in items:
            encoded = msgspec.json.encode(item)
            if part and part_bytes + len(encoded) + 1 > self._line_bytes_max:
                await self.send({**head, "more": True, name: part})
                part, part_bytes = [], head_bytes
            part.append(msgspec.Raw(encoded))
            part_bytes += len(encoded) + 1
        await self.send({**head, **({"more": True} if more else {}), name: part})

    async def is_gone_after(self, seconds: float) -> bool:
        """Waits `seconds`, or until the client leaves or sends anything, which ends a stream; whether it did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._reader.read(1)
                return True
        return self._writer.is_closing()

    async def _write(self, line: bytes) -> None:
        self._writer.write(line + b"\n")
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await self._writer.drain()
        except TimeoutError:
            raise ClientTooSlowError from None
        await asyncio.sleep(0)  # A long answer to a fast client lets everybody else run between two lines.


class ClientTooSlowError(Exception):
    """A client does not take its answers in time."""


class ControlServer:
    """Serves `command` on a Unix socket.

    Args:
        path: Where the socket is made; a stale one is replaced.
        command: Carries out one request: sends its answers to the session; raises BifrostError or ValueError, which become error answers.
        clients_count_max: Most clients at a time (`Limits.control_clients_max`).
        line_bytes_max: Longest request and longest answer line (`Limits.control_line_bytes_max`).
        idle_timeout_s: A client that sends no request for this long is disconnected.
        send_timeout_s: So is one that does not take an answer.
    """

    def __init__(
        self,
        path: str,
        command: Command,
        *,
        clients_count_max: int,
        line_bytes_max: int,
        idle_timeout_s: float = _IDLE_TIMEOUT_S,
        send_timeout_s: float = _SEND_TIMEOUT_S,
    ) -> None:
        self.path = path
        self.requests = 0
        """Requests since start."""
        self.dropped: Counter[str] = Counter()
        """Clients disconnected by us, by reason."""
        self._command = command
        self._clients_count_max = clients_count_max
        self._line_bytes_max = line_bytes_max
        self._idle_timeout_s = idle_timeout_s
        self._send_timeout_s = send_timeout_s
        self._clients: set[asyncio.StreamWriter] = set()

    @property
    def clients_count(self) -> int:
        """Clients connected now."""
        return len(self._clients)

    async def run(self) -> None:
        """Serves until cancelled; then every client is disconnected and the socket's file is gone.

        Raises:
            ConfigError: The path cannot be a socket, or another program serves it.
            OSError: The system refuses.
        """
        listener = bind_socket(self.path)
        try:
            async with asyncio.TaskGroup() as group:
                accept = partial(self._accept, group)
                server = await asyncio.start_unix_server(accept, sock=listener, limit=self._line_bytes_max)
                try:
                    await asyncio.Event().wait()
                finally:
                    server.close()
                    for writer in self._clients:
                        writer.transport.abort()
        finally:
            listener.close()
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def _accept(self, group: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= self._clients_count_max:
            self._refuse(
                writer, "too many clients", f"the control socket serves {self._clients_count_max} clients at a time"
            )
            return
        self._clients.add(writer)
        group.create_task(self._serve(reader, writer), name="control-client")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = ControlSession(
            reader, writer, line_bytes_max=self._line_bytes_max, send_timeout_s=self._send_timeout_s
        )
        try:
            while not writer.is_closing():
                async with asyncio.timeout(self._idle_timeout_s):
                    line = await reader.readline()
                if not line.endswith(b"\n"):
                    break
                self.requests += 1
                await self._answer(line, session)
        except TimeoutError:
            self._refuse(writer, "idle", f"no request for {self._idle_timeout_s:g} s")
        except ClientTooSlowError:
            self.dropped["too slow"] += 1
            writer.transport.abort()
        except ValueError:  # What readline says of a line over the limit.
            self._refuse(writer, "line too long", f"a request has {self._line_bytes_max} bytes at most")
        except OSError:
            writer.transport.abort()
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, line: bytes, session: ControlSession) -> None:
        try:
            request = msgspec.json.decode(line)
        except (ValueError, RecursionError) as error:  # Brackets nested thousands deep are not JSON for us.
            await session.send({"error": f"the request is not JSON: {error}", "code": EXIT_WRONG}, ok=False)
            return
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            text = 'a request is an object with a command, for example {"command": "status"}'
            await session.send({"error": text, "code": EXIT_WRONG}, ok=False)
            return
        failure = await failure_of(partial(self._command, request, session))
        if isinstance(failure, ClientTooSlowError | OSError):
            raise failure
        if isinstance(failure, BifrostError | ValueError):
            await session.send({"error": SECRETS.redacted(str(failure)), "code": _exit_code(failure)}, ok=False)
        elif failure is not None:
            _log.error("command failed", extra=fields(command=request["command"]), exc_info=failure)
            await session.send(
                {"error": SECRETS.redacted(f"internal error: {failure!r}"), "code": EXIT_FAILED}, ok=False
            )

    def _refuse(self, writer: asyncio.StreamWriter, reason: str, text: str) -> None:
        """Says why and closes; what the client does not take at once is lost with the connection."""
        self.dropped[reason] += 1
        writer.write(msgspec.json.encode({"ok": False, "error": text, "code": EXIT_FAILED}) + b"\n")
        writer.close()


def bind_socket(path: str) -> socket.socket:
    """A listening Unix socket at `path`, mode 0660; its directory is made when it is not there. A socket nobody serves is replaced.

    Raises:
        ConfigError: The path is too long, is another kind of file, or somebody serves it.
        OSError: The system refuses, for example for lack of rights.
    """
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise ConfigError(
            f"the path has {len(os.fsencode(path))} bytes; a Unix socket has {_PATH_BYTES_MAX} at most: {path}",
            key="gateway.control",
        )
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_socket():
        if _is_served(path):
            raise ConfigError(f"another program serves {path}", key="gateway.control")
        place.unlink()
    elif place.exists():
        raise ConfigError(f"{path} is there and is not a socket", key="gateway.control")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o777 & ~_SOCKET_MODE)  # The mode is right from the first moment.
    try:
        listener.bind(path)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # Its backlog is full: somebody is there.
            return True
    return True


def _exit_code(error: Exception) -> int:
    own_code = getattr(error, "exit_code", None)
    if isinstance(own_code, int):
        return own_code
    if isinstance(error, TransportError):
        return EXIT_UNREACHABLE
    return EXIT_WRONG if isinstance(error, ConfigError | ValueError) else EXIT_FAILED
