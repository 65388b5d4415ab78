"""A Modbus TCP server: `ServerCore` turns bytes into answer frames, without I/O; `ModbusServer` puts it on a socket.

States of a connection: open, and lost once a header is impossible (its length is not 2 to 254), after which nothing
that follows can be trusted and the connection is to be closed. A frame of another protocol is skipped without an
answer. Requests may come merged or in pieces; they are answered in their order, at most 16 at a time (TG 4.2.1 has 1 to
16 server transactions).

Memory is bounded: each client has one receive buffer, the number of clients is limited, and who does not take its
answers or sends nothing for the idle time is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import Final

from bifrost.plc.modbus.faults import FaultPlan
from bifrost.plc.modbus.frame import (
    ADU_BYTES_MAX,
    LENGTH_END,
    MBAP_BYTES,
    ExceptionCode,
    FrameStatus,
    encode_adu,
    encode_exception,
    next_frame,
)
from bifrost.plc.modbus.memory import Memory

__all__ = ["ModbusServer", "ServerCore", "ServerCounters", "UnknownUnit", "WhenFull"]

TRANSACTIONS_MAX: Final = 16  # TG 4.2.1: NumberMaxOfServerTransaction.
_READ_BYTES: Final = TRANSACTIONS_MAX * ADU_BYTES_MAX
_CLIENTS_COUNT_MAX: Final = 32
_IDLE_TIMEOUT_S: Final = 300.0


class UnknownUnit(StrEnum):
    """What a request to a unit that is not there gets."""

    SILENT = "silent"
    """No answer, like a device that is not addressed."""
    EXCEPTION = "exception"
    """Exception 11, like a gateway whose target does not respond (AP 7)."""


class WhenFull(StrEnum):
    """What happens when one more client comes than there may be."""

    DROP_OLDEST = "drop_oldest"
    """The client that has been idle longest is disconnected."""
    REFUSE = "refuse"
    """The new client is disconnected."""


class ServerCounters:
    """What a server has done since it was made; shared by its connections.

    Attributes:
        requests: Requests received, by `(unit, function code)`; unanswered ones too.
        exceptions: Requests refused, by exception code.
        clients: Connections accepted.
        clients_dropped: Connections closed or refused because there were too many.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[int, int]] = Counter()
        self.exceptions: Counter[int] = Counter()
        self.clients = 0
        self.clients_dropped = 0

    @property
    def requests_count(self) -> int:
        """Requests received, of all units and functions."""
        return self.requests.total()


class ServerCore:
    """One connection's server side, without I/O.

    Args:
        units: Memory by unit id. A device that is reached directly is listed under 0 and 255 too (TG 4.4.2.3).
        unknown_unit: What other unit ids get.
        counters: Where requests are counted; None: its own.
    """

    def __init__(
        self,
        units: Mapping[int, Memory],
        unknown_unit: UnknownUnit = UnknownUnit.SILENT,
        counters: ServerCounters | None = None,
    ) -> None:
        self.counters = counters or ServerCounters()
        self.is_lost = False
        """True: the peer's bytes make no frames any more; close the connection."""
        self.is_pending = False
        """True: there are more requests at hand than one call answers; call `feed` again."""
        self._units = units
        self._unknown_unit = unknown_unit
        self._received = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Takes the bytes received and gives the answer frames to at most 16 requests, in their order."""
        received = self._received
        received += data
        answers: list[bytes] = []
        place = 0
        self.is_pending = False
        for _ in range(TRANSACTIONS_MAX):
            status, header = next_frame(received, place)
            if header is None:
                self.is_lost = status is FrameStatus.WRONG_LENGTH
                break
            end = place + LENGTH_END + header.length
            if status is FrameStatus.WHOLE:
                pdu = self._answer(header.unit, bytes(received[place + MBAP_BYTES : end]))
                if pdu:
                    answers.append(encode_adu(header.transaction, header.unit, pdu))
            place = end
        else:
            self.is_pending = next_frame(received, place)[0] is not FrameStatus.PARTIAL
        del received[:place]
        return answers

    def _answer(self, unit: int, pdu: bytes) -> bytes:
        """PDU of the answer; empty: none."""
        self.counters.requests[unit, pdu[0]] += 1
        memory = self._units.get(unit)
        if memory is not None:
            answer = memory.answer(pdu) if memory.is_answering else b""
        elif self._unknown_unit is UnknownUnit.EXCEPTION:
            answer = encode_exception(pdu[0], ExceptionCode.GATEWAY_TARGET_FAILED_TO_RESPOND)
        else:
            answer = b""
        if answer and answer[0] & 0x80:
            self.counters.exceptions[answer[1]] += 1
        return answer


class ModbusServer:
    """A Modbus TCP server on asyncio streams; use it as ``async with server.running():``.

    Args:
        units: Memory by unit id; read at each request, so the owner may change values, units and guards at any time.
        host: Address to listen on.
        port: TCP port; 0: any free one, which `port` then says. (The standard's own is 502.)
        unknown_unit: What requests to other units get.
        clients_count_max: Most clients at a time, 1 or more.
        when_full: What one client more brings about.
        idle_timeout_s: A client that sends nothing, or takes no answer, for this long is disconnected; in seconds.
        faults: Makes the fault plan of a new connection; None: no faults.
    """

    def __init__(
        self,
        units: Mapping[int, Memory],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        unknown_unit: UnknownUnit = UnknownUnit.SILENT,
        clients_count_max: int = _CLIENTS_COUNT_MAX,
        when_full: WhenFull = WhenFull.DROP_OLDEST,
        idle_timeout_s: float = _IDLE_TIMEOUT_S,
        faults: Callable[[], FaultPlan] | None = None,
    ) -> None:
        if clients_count_max < 1:
            raise ValueError("a server needs room for one client at least")
        self.units = units
        self.host = host
        self.port = port
        self.counters = ServerCounters()
        self._unknown_unit = unknown_unit
        self._clients_count_max = clients_count_max
        self._when_full = when_full
        self._idle_timeout_s = idle_timeout_s
        self._faults = faults
        self._is_running = False
        # Longest idle first: a client that sends moves to the end.
        self._clients: OrderedDict[asyncio.StreamWriter, asyncio.Task[None]] = OrderedDict()

    @property
    def clients_count(self) -> int:
        """Clients connected now."""
        return len(self._clients)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ModbusServer]:
        """Listens and serves as long as the context lasts; on leaving, every client is disconnected.

        Raises:
            OSError: The address cannot be listened on.
        """
        async with asyncio.TaskGroup() as group:
            listener = await asyncio.start_server(partial(self._accept, group), self.host, self.port, limit=_READ_BYTES)
            self.port = listener.sockets[0].getsockname()[1]
            self._is_running = True
            try:
                yield self
            finally:
                self._is_running = False
                listener.close()
                self.disconnect_all()

    def disconnect_all(self) -> None:
        """Closes every connection; the server goes on listening."""
        while self._clients:
            self._drop(*self._clients.popitem())

    def _drop(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        writer.transport.abort()  # A task that is cancelled before it first runs closes nothing.
        task.cancel()

    def _accept(self, group: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._is_running:  # It was accepted while the context was being left.
            writer.transport.abort()
            return
        self.counters.clients += 1
        if len(self._clients) >= self._clients_count_max:
            self.counters.clients_dropped += 1
            if self._when_full is WhenFull.REFUSE:
                writer.transport.abort()
                return
            self._drop(*self._clients.popitem(last=False))
        name = f"modbus-server-{self.port}-client-{self.counters.clients}"
        self._clients[writer] = group.create_task(self._serve(reader, writer), name=name)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        core = ServerCore(self.units, self._unknown_unit, self.counters)
        plan = self._faults() if self._faults else None
        is_open = True
        try:
            while is_open and not core.is_lost:
                data = b""
                if not core.is_pending:
                    async with asyncio.timeout(self._idle_timeout_s):
                        data = await reader.read(_READ_BYTES)
                    if not data:
                        break
                    if writer in self._clients:
                        self._clients.move_to_end(writer)
                answers = core.feed(data)
                if plan is None:
                    writer.write(b"".join(answers))
                else:
                    is_open = await _emit(writer, plan, answers)
                if writer.transport.get_write_buffer_size():
                    async with asyncio.timeout(self._idle_timeout_s):
                        await writer.drain()
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._clients.pop(writer, None)
            writer.close()


async def _emit(writer: asyncio.StreamWriter, plan: FaultPlan, answers: list[bytes]) -> bool:
    """Sends what the plan makes of `answers`; False: the connection is to be closed."""
    for answer in answers:
        for emission in plan.apply(answer):
            if emission.delay_ns:
                await asyncio.sleep(emission.delay_ns / 1e9)
            writer.write(emission.data)
            if emission.close:
                return False
    return True
