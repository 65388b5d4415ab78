"""The control socket over real Unix sockets in a temporary directory: answers, bounds, and that no client harms another one.

Times are tiny where a bound is provoked, and generous where something must arrive.
"""

import asyncio
import contextlib
import os
import socket
import stat

import msgspec
import pytest

from bifrost.core.errors import ConfigError, ConnectError, DeviceError
from bifrost.gateway.control import ControlServer, bind_socket

_PATIENCE_S = 10


async def command(request, session):
    """Commands made for these tests."""
    match request["command"]:
        case "echo":
            await session.send({"text": request["text"]})
        case "items":
            items = ({"number": number, "text": "x" * 50} for number in range(request["count"]))
            await session.send_items({"head": 1}, "items", items)
        case "stream":
            while True:
                await session.send({"tick": True})
                if await session.is_gone_after(request.get("interval_s", 0.001)):
                    return
        case "flood":
            while True:
                await session.send({"text": "x" * 900})
        case "wrong":
            raise ValueError("no such tag")
        case "refused":
            raise DeviceError(0x803B0000, "exception 2")
        case "bug":
            raise ZeroDivisionError
        case "unreachable":
            raise ConnectError("nobody there")


async def until(is_true):
    """Gives the loop turns until `is_true()`; the caller's or pytest's time-out ends a failure."""
    while not is_true():  # what is waited for has no event
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(path, **options):
    options = {"clients_count_max": 4, "line_bytes_max": 1024} | options
    server = ControlServer(str(path), command, **options)
    task = asyncio.ensure_future(server.run())
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await until(lambda: path.is_socket() or task.done())
            yield server
    finally:
        task.cancel()
        await asyncio.wait({task})
        while Client.connected:
            Client.connected.pop().writer.close()
        await asyncio.sleep(0)


class Client:
    connected: list["Client"] = []  # noqa: RUF012  # closed when the server of the test is

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path):
        client = cls(*await asyncio.open_unix_connection(str(path)))
        cls.connected.append(client)
        return client

    async def ask(self, **request):
        await self.send(msgspec.json.encode(request) + b"\n")
        return await self.answer()

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self):
        line = await self.reader.readline()
        return msgspec.json.decode(line) if line else None


def run(scenario):
    asyncio.run(scenario)


def test_request_is_answered_in_order(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock"):
            client = await Client.connect(tmp_path / "c.sock")
            await client.send(b'{"command":"echo","text":"a"}\n{"command":"echo","text":"b"}\n')
            assert await client.answer() == {"ok": True, "text": "a"}
            assert await client.answer() == {"ok": True, "text": "b"}

    run(scenario())


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"not json\n", 2),
        (b"[1]\n", 2),
        (b"{}\n", 2),
        (b"[" * 1000 + b"\n", 2),
        (b'{"command":"\xff"}\n', 2),
        (b'{"command":"bug"}\n', 1),
        (b'{"command":3}\n', 2),
        (b'{"command":"wrong"}\n', 2),
        (b'{"command":"refused"}\n', 1),
        (b'{"command":"unreachable"}\n', 3),
    ],
)
def test_wrong_request_gets_a_sentence_and_the_next_one_works(tmp_path, line, code):
    async def scenario():
        async with serving(tmp_path / "c.sock"):
            client = await Client.connect(tmp_path / "c.sock")
            await client.send(line)
            answer = await client.answer()
            assert (answer["ok"], answer["code"]) == (False, code)
            assert answer["error"]
            assert (await client.ask(command="echo", text="still here"))["ok"]

    run(scenario())


def test_socket_is_for_owner_and_group_only(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock"):
            assert stat.S_IMODE(os.stat(tmp_path / "c.sock").st_mode) == 0o660
        assert not (tmp_path / "c.sock").exists()

    run(scenario())


def test_long_answer_comes_in_lines_within_the_limit(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock"):
            client = await Client.connect(tmp_path / "c.sock")
            await client.send(b'{"command":"items","count":100}\n')
            numbers, more = [], True
            while more:
                line = await client.reader.readline()
                assert len(line) <= 1024
                answer = msgspec.json.decode(line)
                assert answer["head"] == 1
                numbers += [item["number"] for item in answer["items"]]
                more = answer.get("more", False)
            assert numbers == list(range(100))
            assert (await client.ask(command="items", count=0))["items"] == []

    run(scenario())


def test_line_over_the_limit_is_refused_and_the_client_disconnected(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock") as server:
            client = await Client.connect(tmp_path / "c.sock")
            await client.send(b"x" * 5000)
            assert "1024 bytes" in (await client.answer())["error"]
            assert await client.answer() is None
            assert server.dropped["line too long"] == 1

    run(scenario())


def test_client_over_the_limit_is_told_so(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock", clients_count_max=1) as server:
            first = await Client.connect(tmp_path / "c.sock")
            assert (await first.ask(command="echo", text=""))["ok"]
            second = await Client.connect(tmp_path / "c.sock")
            assert "1 clients" in (await second.answer())["error"]
            assert (await first.ask(command="echo", text=""))["ok"]
            first.writer.close()
            await until(lambda: not server.clients_count)
            third = await Client.connect(tmp_path / "c.sock")
            assert (await third.ask(command="echo", text=""))["ok"]

    run(scenario())


def test_idle_client_is_disconnected(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock", idle_timeout_s=0.01) as server:
            client = await Client.connect(tmp_path / "c.sock")
            assert "no request" in (await client.answer())["error"]
            assert await client.answer() is None
            assert server.dropped["idle"] == 1

    run(scenario())


def test_client_that_takes_no_answers_is_dropped_and_the_others_are_served(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock", send_timeout_s=0.05) as server:
            lazy = socket.socket(socket.AF_UNIX)
            lazy.connect(str(tmp_path / "c.sock"))
            lazy.sendall(b'{"command":"flood"}\n')
            client = await Client.connect(tmp_path / "c.sock")
            while not server.dropped["too slow"]:
                assert (await client.ask(command="echo", text="quick"))["ok"]
            lazy.close()

    run(scenario())


def test_stream_ends_when_the_client_leaves(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock") as server:
            client = await Client.connect(tmp_path / "c.sock")
            assert (await client.ask(command="stream"))["tick"]
            client.writer.close()
            await until(lambda: not server.clients_count)

    run(scenario())


def test_stream_ends_when_the_client_sends_anything(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock"):
            client = await Client.connect(tmp_path / "c.sock")
            assert (await client.ask(command="stream", interval_s=1000))["tick"]
            await client.send(b"\n")
            assert (await client.ask(command="echo", text="next"))["text"] == "next"

    run(scenario())


def test_cancelled_session_disconnects_its_client(tmp_path):
    async def scenario():
        async with serving(tmp_path / "c.sock") as server:
            client = await Client.connect(tmp_path / "c.sock")
            assert (await client.ask(command="stream", interval_s=1000))["tick"]
            for task in asyncio.all_tasks():
                if task.get_name() == "control-client":
                    task.cancel()
            assert await client.answer() is None
            assert server.clients_count == 0

    run(scenario())


def test_stale_socket_is_replaced_and_a_served_one_is_not(tmp_path):
    path = str(tmp_path / "c.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    first = bind_socket(path)
    first.listen()
    with pytest.raises(ConfigError, match="another program serves"):
        bind_socket(path)
    first.close()


def test_path_that_cannot_be_a_socket_is_refused(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        bind_socket(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(ConfigError, match="107 at most"):
        bind_socket(str(tmp_path / ("x" * 120)))


def test_missing_directory_is_made(tmp_path):
    bind_socket(str(tmp_path / "run" / "c.sock")).close()
