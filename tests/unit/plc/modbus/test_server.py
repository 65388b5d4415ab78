"""The server: frames in any pieces are answered in order, what is no frame ends the connection, clients are bounded."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from bifrost.plc.modbus import frame
from bifrost.plc.modbus.address import Table
from bifrost.plc.modbus.faults import Fault, FaultKind, FaultPlan
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ModbusServer, ServerCore, UnknownUnit, WhenFull

READ = frame.ReadRequest(3, 0, 1)
PDU = frame.encode_request(READ)
WAIT_S = 5.0


def memory():
    unit = Memory(holding_registers=10)
    unit.write(Table.HOLDING_REGISTER, 0, 1, b"\x12\x34")
    return unit


def request(transaction=0, unit=1, pdu=PDU):
    return frame.encode_adu(transaction, unit, pdu)


def answer(transaction=0, unit=1, pdu=b"\x03\x02\x12\x34"):
    return frame.encode_adu(transaction, unit, pdu)


def test_request_in_any_pieces_is_answered_once_it_is_whole():
    core = ServerCore({1: memory()})
    whole = request(9)
    for byte in whole[:-1]:
        assert core.feed(bytes((byte,))) == []
    assert core.feed(whole[-1:] + whole[:3]) == [answer(9)]
    assert core.feed(whole[3:]) == [answer(9)]


def test_merged_requests_are_answered_in_order_sixteen_at_a_time():
    core = ServerCore({1: memory()})
    answers = core.feed(b"".join(request(number) for number in range(20)))
    assert answers == [answer(number) for number in range(16)]
    assert core.is_pending
    assert core.feed(b"") == [answer(number) for number in range(16, 20)]
    assert not core.is_pending
    assert core.counters.requests_count == 20
    assert core.counters.requests[1, 3] == 20


def test_exactly_sixteen_leave_nothing_pending():
    core = ServerCore({1: memory()})
    assert len(core.feed(request() * 16 + request()[:5])) == 16
    assert not core.is_pending


def test_unknown_unit_is_silent_or_told_so():
    assert ServerCore({1: memory()}).feed(request(unit=9)) == []
    gateway = ServerCore({1: memory()}, UnknownUnit.EXCEPTION)
    assert gateway.feed(request(5, unit=9)) == [answer(5, 9, b"\x83\x0b")]
    assert gateway.counters.exceptions[11] == 1


def test_unit_without_power_is_silent():
    unit = memory()
    unit.is_answering = False
    core = ServerCore({1: unit, 2: memory()})
    assert core.feed(request(unit=1) + request(unit=2)) == [answer(unit=2)]


def test_other_protocol_is_skipped():
    core = ServerCore({1: memory()})
    other = bytearray(request(1))
    other[3] = 1
    assert core.feed(bytes(other) + request(2)) == [answer(2)]
    assert not core.is_lost


@pytest.mark.parametrize("length", [0, 1, 255, 65_535])
def test_impossible_length_loses_the_connection(length):
    core = ServerCore({1: memory()})
    assert core.feed(request(1) + b"\0\2\0\0" + length.to_bytes(2, "big") + b"\1\3") == [answer(1)]
    assert core.is_lost


def test_impossible_length_is_found_behind_sixteen_requests():
    core = ServerCore({1: memory()})
    core.feed(request() * 16 + b"\0\0\0\0\0\0")
    assert core.is_pending
    core.feed(b"")
    assert core.is_lost


# ---------------------------------------------------------------- on a socket


@contextlib.asynccontextmanager
async def connected(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(reader, writer, data=None, size=11):
    writer.write(data or request())
    return await reader.readexactly(size)


async def send_for_ever(writer, data):
    while True:
        writer.write(data)
        await writer.drain()


def run(coroutine):
    async def within():
        async with asyncio.timeout(WAIT_S):
            await coroutine

    asyncio.run(within())


def test_client_is_served_over_tcp():
    async def scene():
        async with ModbusServer({1: memory()}).running() as server:
            assert server.port
            async with connected(server) as (reader, writer):
                assert await ask(reader, writer, request(7)) == answer(7)
                merged = b"".join(request(number) for number in range(40))
                expected = b"".join(answer(number) for number in range(40))
                assert await ask(reader, writer, merged, len(expected)) == expected
            assert server.counters.requests_count == 41

    run(scene())


def test_lost_connection_is_closed():
    async def scene():
        async with ModbusServer({1: memory()}).running() as server, connected(server) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read() == b""

    run(scene())


def test_idle_client_is_disconnected():
    async def scene():
        server = ModbusServer({1: memory()}, idle_timeout_s=0.05)
        async with server.running(), connected(server) as (reader, writer):
            assert await ask(reader, writer) == answer()
            assert await reader.read() == b""
            assert server.clients_count == 0

    run(scene())


def test_client_that_takes_no_answers_is_disconnected():
    """It sends requests for ever and reads nothing; when the buffers are full, the idle time runs."""

    async def scene():
        unit = Memory(holding_registers=125)
        server = ModbusServer({1: unit}, idle_timeout_s=0.2)
        flood = request(pdu=frame.encode_request(frame.ReadRequest(3, 0, 125))) * 300
        async with server.running(), connected(server) as (_, writer):
            with pytest.raises(OSError, match=r"reset|lost|[Bb]roken pipe"):
                await send_for_ever(writer, flood)
            assert server.clients_count == 0

    run(scene())


def test_longest_idle_client_makes_room():
    async def scene():
        server = ModbusServer({1: memory()}, clients_count_max=2)
        async with server.running(), connected(server) as first, connected(server) as second:
            for client in (first, second, first):
                await ask(*client)
            async with connected(server) as third:
                assert await ask(*third) == answer()
                assert await second[0].read() == b""
                assert await ask(*first) == answer()
            assert (server.counters.clients, server.counters.clients_dropped) == (3, 1)

    run(scene())


def test_client_too_many_is_refused():
    async def scene():
        server = ModbusServer({1: memory()}, clients_count_max=1, when_full=WhenFull.REFUSE)
        async with server.running(), connected(server) as first:
            await ask(*first)
            async with connected(server) as second:
                assert await second[0].read() == b""
            assert await ask(*first) == answer()

    run(scene())


def test_all_clients_are_disconnected_when_the_server_ends_and_it_starts_again():
    async def scene():
        server = ModbusServer({1: memory()})
        async with server.running(), connected(server) as client:
            await ask(*client)
            server.disconnect_all()
            assert await client[0].read() == b""
            async with connected(server) as again:
                await ask(*again)
        port = server.port
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        async with server.running(), connected(server) as client:
            assert server.port == port
            assert await ask(*client) == answer()

    run(scene())


def test_faults_reach_the_wire():
    async def scene():
        plan = FaultPlan(
            [Fault(FaultKind.TEAR), Fault(FaultKind.DELAY, at=1, delay_ns=1000), Fault(FaultKind.CUT, at=2)]
        )
        server = ModbusServer({1: memory()}, faults=lambda: plan)
        async with server.running(), connected(server) as (reader, writer):
            assert await ask(reader, writer, request(1)) == answer(1)
            assert await ask(reader, writer, request(2)) == answer(2)
            writer.write(request(3))
            assert await reader.read() == answer(3)[:5]

    run(scene())


def test_server_needs_room_for_a_client():
    with pytest.raises(ValueError, match="one client"):
        ModbusServer({}, clients_count_max=0)
