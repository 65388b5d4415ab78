"""Client (the engine) and server as streams: any split gives the same outcome, any bytes are survived, no fault is believed.

The server side is `ServerCore` over a memory whose every register holds its own address, so that a value that reached
the wrong request would be seen.
"""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bifrost._native import records
from bifrost.plc.modbus import frame
from bifrost.plc.modbus.address import Table
from bifrost.plc.modbus.faults import FaultKind, FaultPlan
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ServerCore, UnknownUnit
from tests.engine_client import EngineClient

REGISTERS = 1000
MS = 1_000_000


def numbered_memory():
    memory = Memory(holding_registers=REGISTERS, input_registers=REGISTERS)
    for table, first in ((Table.HOLDING_REGISTER, 0), (Table.INPUT_REGISTER, 30_000)):
        data = b"".join((first + offset).to_bytes(2, "big") for offset in range(REGISTERS))
        memory.write(table, 0, REGISTERS, data)
    return memory


MEMORY = numbered_memory()
reads = st.builds(frame.ReadRequest, st.sampled_from([3, 4]), st.integers(0, 800), st.integers(1, 125))


def expected(request):
    table = Table.HOLDING_REGISTER if request.function == 3 else Table.INPUT_REGISTER
    return MEMORY.read(table, request.offset, request.count)


def pieces(data, cuts):
    """`data` cut at the places of `cuts`."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


# The fixture is a module and keeps nothing from one example to the next.
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(st.lists(reads, min_size=1, max_size=8), st.lists(st.integers(0, 5000), max_size=12))
def test_any_split_gives_the_same_answers(backend, requests, cuts):
    client = EngineClient(backend, window=8)
    sent = b"".join(client.send(request, 1)[1] for request in requests)
    server = ServerCore({1: MEMORY})
    answered = b"".join(answer for piece in pieces(sent, cuts) for answer in server.feed(piece))
    ended = [done for piece in pieces(answered, cuts) for done in client.feed(piece)]
    assert [done.data for done in ended] == [expected(request) for request in requests]
    assert client.counters.answers_late == client.counters.answers_mismatched == 0


@relaxed
@given(st.integers(0, 2**32), st.lists(reads, min_size=1, max_size=30))
def test_no_fault_is_ever_believed(backend, seed, requests):
    """A value that is granted is the value of its own request, whatever happens to the answers on the way."""
    plan = FaultPlan(seed=seed, probability=0.5, delay_ns=60 * MS)
    server, client = ServerCore({1: MEMORY}), EngineClient(backend)
    now, wire = 0, []  # What is under way to the client, as (time, data, close).
    for request in requests:
        if client.is_broken:
            server, client, wire = ServerCore({1: MEMORY}), EngineClient(backend), []
        deadline = now + 50 * MS
        _, sent = client.send(request, 1, now, 50 * MS)
        arrival = max([now, *(when for when, _, _ in wire)])
        for answer in server.feed(sent):
            for emission in plan.apply(answer):
                arrival += emission.delay_ns
                wire.append((arrival, emission.data, emission.close))
        done = []
        while not done:
            if wire and wire[0][0] < deadline:
                now, data, close = wire.pop(0)
                done = client.feed(data, now)
                if close and not done:
                    done = client.close(now)
            else:
                now = deadline
                done = client.expire(now)
        assert len(done) == 1
        assert done[0].code != records.DONE_ERROR
        if done[0].code == records.DONE_GOOD:
            assert done[0].data == expected(request)


@relaxed
@given(st.integers(0, 2**32), st.sampled_from(FaultKind), reads)
def test_every_kind_of_fault_is_harmless_alone(backend, seed, kind, request):
    client = EngineClient(backend)
    _, sent = client.send(request, 1)
    plan = FaultPlan(seed=seed, probability=1.0, kinds=(kind,), delay_ns=0)
    for answer in ServerCore({1: MEMORY}).feed(sent):
        for emission in plan.apply(answer):
            for done in client.feed(emission.data):
                assert done.code == records.DONE_CLOSED or done.data == expected(request)


@relaxed
@given(st.lists(st.binary(max_size=300), max_size=10))
def test_client_survives_any_bytes(backend, chunks):
    client = EngineClient(backend, window=4)
    requests = [frame.ReadRequest(3, 0, 2), frame.WriteRequest(6, 0, 1, b"\0\0"), frame.IdentificationRequest(1)]
    for request in requests:
        client.send(request, 0, 0, 10)
    ended = [done for chunk in chunks for done in client.feed(chunk)]
    ended += client.expire(10)
    assert len(ended) == len(requests)
    assert not client.close(10)


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_server_survives_any_bytes(chunks):
    core = ServerCore({0: numbered_memory()}, UnknownUnit.EXCEPTION)
    for chunk in chunks:
        for answer in core.feed(chunk):
            assert frame.next_frame(answer)[0] is frame.FrameStatus.WHOLE


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=1, max_size=253)), max_size=20))
def test_server_answers_every_frame_with_one_frame(requests):
    core = ServerCore({1: numbered_memory()}, UnknownUnit.EXCEPTION)
    stream = b"".join(frame.encode_adu(number, unit, pdu) for number, (unit, pdu) in enumerate(requests))
    answers = core.feed(stream)
    while core.is_pending:
        answers += core.feed(b"")
    headers = [frame.next_frame(answer)[1] for answer in answers]
    assert [(header.transaction, header.unit) for header in headers] == [
        (number, unit) for number, (unit, _) in enumerate(requests)
    ]
    for answer, (_, pdu) in zip(answers, requests, strict=True):
        assert answer[7] & 0x7F == pdu[0] & 0x7F
