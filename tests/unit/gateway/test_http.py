"""Metrics and health over HTTP: the three pages, and that nobody can hold, flood or confuse the server."""

import asyncio
import contextlib

import pytest

from bifrost.core.config import load_config
from bifrost.core.config_rules import Endpoint
from bifrost.core.errors import ConnectError
from bifrost.gateway.app import Gateway
from bifrost.gateway.http import HttpServer, Page, make_http

_PATIENCE_S = 10

PAGES = {
    "/metrics": lambda: Page("bifrost_tags 3\n", "text/plain; version=0.0.4; charset=utf-8"),
    "/livez": lambda: Page("ok\n"),
    "/readyz": lambda: Page("uplink plant is waiting\n", is_well=False),
}


async def until(holds):
    """Waits until `holds()`; the caller sets the time limit."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.001)


def run(scenario, **options):
    async def work():
        settings = {"clients_count_max": 2, "request_bytes_max": 512, **options}
        server = HttpServer(Endpoint("127.0.0.1", 0), PAGES, **settings)
        async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
            task = group.create_task(server.run(), name="http")
            await until(lambda: server.port)
            try:
                await scenario(server)
            finally:
                task.cancel()

    asyncio.run(work())


async def ask(server, request):
    """The whole answer to `request`: head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request)
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        return head, body
    finally:
        writer.close()


def get(path, method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_pages_are_served_with_their_type_and_length():
    async def scenario(server):
        head, body = await ask(server, get("/metrics?x=1"))
        assert head.splitlines()[0] == "HTTP/1.1 200 OK"
        assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
        assert f"Content-Length: {len(body)}" in head
        assert "Connection: close" in head
        assert body == "bifrost_tags 3\n"
        assert server.requests == 1

    run(scenario)


def test_what_is_not_well_is_503_and_says_why():
    async def scenario(server):
        head, body = await ask(server, get("/readyz"))
        assert (head.split(" ")[1], body) == ("503", "uplink plant is waiting\n")

    run(scenario)


def test_head_is_the_same_without_a_body():
    async def scenario(server):
        with_body, _ = await ask(server, get("/livez"))
        assert await ask(server, get("/livez", "HEAD")) == (with_body, "")

    run(scenario)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), "404"),
        (get("/../etc/passwd"), "404"),
        (get("/livez", "POST"), "405"),
        (get("/livez", "get"), "405"),
        (b"hello\r\n\r\n", "400"),
        (b"GET /livez SIP/2.0\r\n\r\n", "400"),
        (b"GET  /livez HTTP/1.1\r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\r\n\r\n", "400"),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 2_000 + b"\r\n\r\n", "431"),
    ],
)
def test_other_requests_are_refused(request_, status):
    async def scenario(server):
        head, _ = await ask(server, request_)
        assert head.split(" ")[1] == status

    run(scenario)


def test_client_that_says_nothing_is_disconnected():
    async def scenario(server):
        assert await ask(server, b"GET /livez HT") == ("", "")
        assert server.refused == 1

    run(scenario, timeout_s=0.05)


def test_one_client_too_many_is_closed_and_the_others_are_served():
    async def scenario(server):
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        await until(lambda: not (len(server._clients) < 2))
        with contextlib.suppress(ConnectionError):
            assert await ask(server, get("/livez")) == ("", "")
        assert server.refused == 1
        for reader, writer in held:
            writer.write(get("/livez"))
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()

    run(scenario)


def test_address_in_use_is_a_connect_error():
    async def scenario(server):
        other = HttpServer(Endpoint("127.0.0.1", server.port), PAGES, clients_count_max=1, request_bytes_max=512)
        with pytest.raises(ConnectError, match="the address is in use"):
            await other.run()

    run(scenario)


def test_pages_of_a_gateway(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(f'[gateway]\nname = "x"\ndata_dir = "{tmp_path}/data"\n[http]\nbind = "127.0.0.1:0"\n')

    async def work():
        with Gateway(load_config(str(path), {}), {}) as gateway:
            pages = make_http(gateway)._pages
            stop = asyncio.Event()
            async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
                group.create_task(gateway.run(stop), name="gateway")
                await until(lambda: gateway.supervisor.statuses)
                await until(lambda: pages["/readyz"]().is_well)
                assert "bifrost_build_info" in pages["/metrics"]().text
                assert pages["/livez"]() == Page("ok\n")
                stop.set()
            assert not pages["/readyz"]().is_well
            assert "control is stopped" in pages["/readyz"]().text

    asyncio.run(work())
