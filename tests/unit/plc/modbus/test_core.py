"""What is taken for the answer to a Modbus request: `core` says what it must look like, the engine (C and Python) compares."""

from __future__ import annotations

import pytest

from bifrost._native import records
from bifrost.plc.modbus import core, frame
from bifrost.plc.modbus.faults import Fault, FaultKind, FaultPlan
from tests.engine_client import EngineClient

READ = frame.ReadRequest(3, 0, 2)
WRITE = frame.WriteRequest(6, 1, 1, b"\0\7")
GOOD = b"\x00\x01\x00\x02"
TIMEOUT = 1000


def answer_frame(transaction=0, unit=1, request=READ, data=GOOD):
    return frame.encode_adu(transaction, unit, frame.encode_answer(request, data))


def test_request_goes_out_and_its_answer_comes_back(backend):
    client = EngineClient(backend)
    token, sent = client.send(READ, 17)
    assert sent.hex(" ") == "00 00 00 00 00 06 11 03 00 00 00 02"
    assert client.feed(answer_frame(unit=17)) == [(token, records.DONE_GOOD, 0, GOOD)]
    assert client.send(READ, 17)[1][:2] == b"\0\1"


def test_answer_may_come_in_any_pieces(backend):
    client = EngineClient(backend)
    client.send(READ, 1)
    whole = answer_frame()
    for byte in whole[:-1]:
        assert client.feed(bytes((byte,))) == []
    assert client.feed(whole[-1:])[0].data == GOOD


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.WRONG_TRANSACTION,
        FaultKind.WRONG_UNIT,
        FaultKind.WRONG_FUNCTION,
        FaultKind.WRONG_COUNT,
        FaultKind.WRONG_BYTE_COUNT,
        FaultKind.TRAILING,
    ],
)
@pytest.mark.parametrize(("request_", "data"), [(READ, GOOD), (WRITE, b"")], ids=["read", "write"])
def test_wrong_answer_is_dropped_and_the_good_one_behind_it_taken(backend, kind, request_, data):
    client = EngineClient(backend)
    client.send(request_, 1)
    good = answer_frame(request=request_, data=data)
    (wrong,) = FaultPlan([Fault(kind)]).apply(good)
    assert client.feed(wrong.data) == []
    assert client.counters.answers_late + client.counters.answers_mismatched == 1
    assert client.feed(good)[0].code == records.DONE_GOOD
    assert not client.is_broken


def test_stale_and_good_in_one_packet(backend):
    client = EngineClient(backend)
    client.send(READ, 1, 0, TIMEOUT)
    client.expire(TIMEOUT)
    client.send(READ, 1, TIMEOUT)
    (ended,) = client.feed(answer_frame(0, data=b"\xff" * 4) + answer_frame(1), TIMEOUT)
    assert ended.data == GOOD
    assert (client.counters.answers_late, client.counters.answers_good) == (1, 1)


def test_late_answer_after_timeout_is_dropped(backend):
    client = EngineClient(backend)
    token, _ = client.send(READ, 1, 0, TIMEOUT)
    assert client.expire(TIMEOUT - 1) == []
    assert client.expire(TIMEOUT) == [(token, records.DONE_TIMEOUT, 0, b"")]
    assert client.feed(answer_frame(0), TIMEOUT) == []
    assert (client.counters.answers_late, client.counters.timeouts) == (1, 1)


@pytest.mark.parametrize("header", ["00 00 00 01 00 07 01 03 04 00 01 00 02", "00 00 00 00 00 00 01 03"])
def test_impossible_header_breaks_the_connection(backend, header):
    client = EngineClient(backend)
    token, _ = client.send(READ, 1)
    assert client.feed(bytes.fromhex(header)) == [(token, records.DONE_CLOSED, 0, b"")]
    assert client.is_broken
    assert client.counters.framing_errors == 1


def test_window_is_kept_and_answers_may_change_places(backend):
    client = EngineClient(backend, window=2)
    first, second = client.send(READ, 1)[0], client.send(READ, 1)[0]
    third, sent = client.send(READ, 1)
    assert sent == b""
    assert [ended.token for ended in client.feed(answer_frame(1) + answer_frame(0))] == [second, first]
    assert client.feed(answer_frame(2))[0].token == third


def test_transaction_numbers_wrap(backend):
    client = EngineClient(backend)
    for number in (0, 1):
        client.send(READ, 1)
        client.feed(answer_frame(number))
    assert client.counters.answers_good == 2


def test_refusal_carries_its_exception_code(backend):
    client = EngineClient(backend)
    token, _ = client.send(READ, 1)
    assert client.feed(frame.encode_adu(0, 1, b"\x83\x02")) == [(token, records.DONE_ERROR, 2, b"")]
    assert client.counters.answers_error == 1


def test_identification_may_have_any_length(backend):
    client = EngineClient(backend)
    client.send(frame.IdentificationRequest(1), 1)
    body = frame.encode_identification(frame.Identification(1, None, {0: b"Bifrost", 1: b"x"}))
    (ended,) = client.feed(frame.encode_adu(0, 1, frame.encode_answer(frame.IdentificationRequest(1), body)))
    assert ended.data == body
    client.send(frame.IdentificationRequest(1), 1)
    assert client.feed(frame.encode_adu(1, 1, b"\x2b\x0e\x02" + body)) == []
    assert client.counters.answers_mismatched == 1


def test_request_that_the_standard_does_not_have_is_refused():
    with pytest.raises(ValueError, match="no such Modbus request"):
        core.compile_exchange(frame.ReadRequest(3, 0, 126), 1)
