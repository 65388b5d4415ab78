"""Lines between a client and a server that are not well: held up, cut, slow; and whether the event loop is late meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

_TICK_S = 0.002
_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class LoopWatch:
    """How late the loop is, measured all the time that `run` runs."""

    def __init__(self) -> None:
        self.lags_s: list[float] = []

    async def run(self) -> None:
        while True:
            begin_s = time.monotonic()
            await asyncio.sleep(_TICK_S)
            self.lags_s.append(time.monotonic() - begin_s - _TICK_S)

    @property
    def p99_s(self) -> float:
        return sorted(self.lags_s)[int(len(self.lags_s) * 0.99)]


@contextlib.asynccontextmanager
async def serving(serve: _Serve) -> AsyncIterator[int]:
    """A TCP server for the time of the context; gives its port. Nothing of it is left open afterwards."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        writers: list[asyncio.StreamWriter] = []

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            tasks.append(group.create_task(serve(reader, writer), name="serve"))

        server = await asyncio.start_server(accept, "127.0.0.1")
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            for writer in writers:
                writer.transport.abort()


class Relay:
    """A TCP relay before a broker, which can stop passing anything on, be slow, or end everything with a reset.

    Attributes:
        target_port: Of the broker; new connections go there.
        bytes_per_second: 0: as fast as it can.
    """

    def __init__(self, port: int) -> None:
        self.target_port = port
        self.port = 0
        self.bytes_per_second = 0
        self.is_passing = asyncio.Event()
        self.is_passing.set()
        self._writers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        async with serving(self._relay) as self.port:
            yield self

    def reset(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer = writer
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers += [writer, far_writer]
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer), name="there")
                group.create_task(self._pump(far_reader, writer), name="back")
        except OSError:
            pass
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(8_000 if self.bytes_per_second else 65_536):
                await self.is_passing.wait()
                if self.bytes_per_second:
                    await asyncio.sleep(len(data) / self.bytes_per_second)
                writer.write(data)
                await writer.drain()
        writer.close()
