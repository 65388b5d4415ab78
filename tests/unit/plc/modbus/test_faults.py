"""Faults on purpose: each kind does what its name says to an answer, at the planned place, repeatably from a seed."""

from __future__ import annotations

import pytest

from bifrost.plc.modbus import frame
from bifrost.plc.modbus.faults import Emission, Fault, FaultKind, FaultPlan

READ = frame.ReadRequest(3, 0, 2)
ANSWER = frame.encode_adu(7, 1, frame.encode_answer(READ, b"\0\1\0\2"))
OTHER = frame.encode_adu(8, 1, frame.encode_answer(READ, b"\0\3\0\4"))


def emitted(kind, answer=ANSWER, **more):
    return FaultPlan([Fault(kind, **more)]).apply(answer)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FaultKind.WRONG_TRANSACTION, "80 07 00 00 00 07 01 03 04 00 01 00 02"),
        (FaultKind.WRONG_PROTOCOL, "00 07 00 01 00 07 01 03 04 00 01 00 02"),
        (FaultKind.WRONG_LENGTH, "00 07 00 00 00 00 01 03 04 00 01 00 02"),
        (FaultKind.WRONG_UNIT, "00 07 00 00 00 07 41 03 04 00 01 00 02"),
        (FaultKind.WRONG_FUNCTION, "00 07 00 00 00 07 01 04 04 00 01 00 02"),
        (FaultKind.WRONG_COUNT, "00 07 00 00 00 05 01 03 02 00 01"),
        (FaultKind.WRONG_BYTE_COUNT, "00 07 00 00 00 07 01 03 06 00 01 00 02"),
        (FaultKind.TRAILING, "00 07 00 00 00 08 01 03 04 00 01 00 02 00"),
    ],
)
def test_wrong_fields(kind, expected):
    assert emitted(kind) == [Emission(0, bytes.fromhex(expected))]


def test_wrong_count_of_one_register_and_of_an_echo():
    one = frame.encode_adu(7, 1, b"\x03\x02\x00\x05")
    assert emitted(FaultKind.WRONG_COUNT, one)[0].data.hex() == "00070000000701030400050000"
    echo = frame.encode_adu(7, 1, bytes.fromhex("10 00 01 00 02"))
    assert emitted(FaultKind.WRONG_COUNT, echo)[0].data[-2:] == b"\0\3"


def test_what_is_not_sent_as_one_whole_piece():
    assert emitted(FaultKind.DROP) == []
    assert emitted(FaultKind.CLOSE) == [Emission(0, b"", close=True)]
    assert emitted(FaultKind.CUT) == [Emission(0, ANSWER[:6], close=True)]
    assert emitted(FaultKind.DELAY, delay_ns=5) == [Emission(5, ANSWER)]
    torn = emitted(FaultKind.TEAR)
    assert len(torn) == 3
    assert b"".join(piece.data for piece in torn) == ANSWER
    assert [piece.delay_ns for piece in torn] == [0, 1_000_000, 1_000_000]
    assert emitted(FaultKind.REPEAT) == [Emission(0, ANSWER * 2)]


def test_merge_keeps_back_until_the_next_one():
    plan = FaultPlan([Fault(FaultKind.MERGE, count=2), Fault(FaultKind.DROP, at=4)])
    assert plan.apply(ANSWER) == []
    assert plan.apply(OTHER) == []
    assert plan.apply(ANSWER) == [Emission(0, ANSWER + OTHER + ANSWER)]
    assert plan.apply(OTHER) == [Emission(0, OTHER)]


def test_what_was_kept_back_goes_out_even_if_the_next_is_dropped():
    plan = FaultPlan([Fault(FaultKind.MERGE), Fault(FaultKind.DROP, at=1)])
    assert plan.apply(ANSWER) == []
    assert plan.apply(OTHER) == [Emission(0, ANSWER)]


def test_stale_repeats_the_answer_before():
    plan = FaultPlan([Fault(FaultKind.STALE, at=1)])
    assert plan.apply(ANSWER) == [Emission(0, ANSWER)]
    assert plan.apply(OTHER) == [Emission(0, ANSWER + OTHER)]


def test_hang_lasts():
    plan = FaultPlan([Fault(FaultKind.HANG, at=1)])
    assert [len(plan.apply(ANSWER)) for _ in range(4)] == [1, 0, 0, 0]
    assert plan.answers_count == 4


def test_faults_come_at_their_place():
    plan = FaultPlan([Fault(FaultKind.DROP, at=2, count=2)])
    assert [len(plan.apply(ANSWER)) for _ in range(5)] == [1, 1, 0, 0, 1]


def test_same_seed_gives_the_same_faults():
    def run(seed):
        plan = FaultPlan(seed=seed, probability=0.3)
        return [plan.apply(ANSWER) for _ in range(50)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    kinds = (FaultKind.DROP,)
    assert FaultPlan(seed=1, probability=1.0, kinds=kinds).apply(ANSWER) == []
