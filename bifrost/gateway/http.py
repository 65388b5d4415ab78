"""Metrics and health over HTTP: `/metrics`, `/livez`, `/readyz`, and nothing else.

Just as much of HTTP/1.1 as a scraper and a load balancer need: GET and HEAD, one request a connection, no body. Everything is bounded:
clients, bytes of a request, time for all of it. Nothing can be changed here and nobody has to log in, so it listens nowhere unless
`[http] bind` says so. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from bifrost.core.config_rules import Endpoint
from bifrost.core.errors import ConnectError
from bifrost.core.log import fields
from bifrost.gateway import health

if TYPE_CHECKING:
    from bifrost.gateway.app import Gateway

__all__ = ["HttpServer", "Page", "make_http"]

_log = logging.getLogger("bifrost.gateway.http")

_REQUEST_TIMEOUT_S: Final = 5.0  # For the whole conversation.
_REQUEST_END: Final = b"\r\n\r\n"
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus text exposition format.
_METHODS: Final = ("GET", "HEAD")
_REQUEST_LINE_PARTS: Final = 3  # Method, target, version; RFC 9112, 3.


class Page(NamedTuple):
    """An answer: text, its type, and whether all is well (else the status is 503)."""

    text: str
    content_type: str = "text/plain; charset=utf-8"
    is_well: bool = True


class HttpServer:
    """Serves `pages`.

    Args:
        bind: Where.
        pages: Path -> what makes the page; must not wait.
        clients_count_max: Connections at a time (`Limits.http_clients_max`); a further one is closed.
        request_bytes_max: Longest request head (`Limits.http_request_bytes_max`).
        timeout_s: Time for a conversation.

    Attributes:
        requests: Requests answered so far.
        refused: Connections closed without an answer, since there were too many or they took too long.
    """

    def __init__(
        self,
        bind: Endpoint,
        pages: Mapping[str, Callable[[], Page]],
        *,
        clients_count_max: int,
        request_bytes_max: int,
        timeout_s: float = _REQUEST_TIMEOUT_S,
    ) -> None:
        self._bind = bind
        self._pages = pages
        self._clients_count_max = clients_count_max
        self._request_bytes_max = request_bytes_max
        self._timeout_s = timeout_s
        self._clients: set[asyncio.StreamWriter] = set()
        self._group: asyncio.TaskGroup | None = None
        self.port = 0
        self.requests = 0
        self.refused = 0

    async def run(self) -> None:
        """Serves until cancelled. Raises ConnectError when it cannot listen there."""
        server = await self._listen()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await asyncio.Event().wait()
                finally:
                    for writer in self._clients:
                        writer.transport.abort()
        finally:
            self._group = None
            server.close()

    async def _listen(self) -> asyncio.Server:
        host, port = self._bind.host, self._bind.port
        try:
            server = await asyncio.start_server(self._accept, host, port, limit=self._request_bytes_max)
        except OSError as error:
            reason = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror
            raise ConnectError(f"metrics and health cannot be served on {self._bind}: {reason}") from error
        self.port = server.sockets[0].getsockname()[1]
        _log.info("metrics and health are served", extra=fields(url=f"http://{self._bind}"))
        return server

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._group is None or len(self._clients) >= self._clients_count_max:
            self.refused += 1
            writer.transport.abort()
            return
        self._clients.add(writer)
        self._group.create_task(self._serve(reader, writer), name="http-client")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                writer.write(await self._answer(reader))
                await writer.drain()
                self.requests += 1
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):  # Gone, or too slow.
            self.refused += 1
            writer.transport.abort()
        finally:
            self._clients.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(_REQUEST_END)
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, Page("the request is too long\n"))
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != _REQUEST_LINE_PARTS or not parts[2].startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, Page("this is no HTTP/1.1 request\n"))
        method, target, _ = parts
        has_body = method != "HEAD"
        if method not in _METHODS:
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, Page("GET and HEAD only\n"), "Allow: GET, HEAD\r\n")
        make = self._pages.get(target.partition("?")[0])
        if make is None:
            text = f"there are: {' '.join(self._pages)}\n"
            return _response(HTTPStatus.NOT_FOUND, Page(text), has_body=has_body)
        page = make()
        status = HTTPStatus.OK if page.is_well else HTTPStatus.SERVICE_UNAVAILABLE
        return _response(status, page, has_body=has_body)


def make_http(gateway: Gateway) -> HttpServer:
    """The server of a gateway whose `[http] bind` is set.

    `/livez`: the event loop answers. `/readyz`: every task runs, so tags are polled, served and sent as far as plant and
    destinations let it.
    """
    config, limits = gateway.config, gateway.config.limits
    assert config.http.bind is not None
    return HttpServer(
        config.http.bind,
        {
            "/metrics": lambda: Page(gateway.metrics.render(), _METRICS_TYPE),
            "/livez": lambda: Page("ok\n"),
            "/readyz": lambda: _readiness(gateway),
        },
        clients_count_max=limits.http_clients_max,
        request_bytes_max=limits.http_request_bytes_max,
    )


def _readiness(gateway: Gateway) -> Page:
    missing = health.not_ready(gateway)
    return Page("".join(f"{line}\n" for line in missing) or "ok\n", is_well=not missing)


def _response(status: HTTPStatus, page: Page, more: str = "", *, has_body: bool = True) -> bytes:
    body = page.text.encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode("latin-1") + (body if has_body else b"")
