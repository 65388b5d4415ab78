"""What the scan engine promises about values: polling, answers, quality; one promise a test, on both backends.

Each test is a short conversation with one link, in which the test plays the plant, the clock and the session. The plant is
`tests.sim.plant`: a value says whose it is and at which step it was made.
"""

from __future__ import annotations

import pytest

from bifrost._native import records as r
from tests.sim import plant
from tests.sim.plant import MS, SECOND, Block, Cycle
from tests.sim.rig import PERIOD, STALE, START, WHOLE, Rig, kinds


@pytest.fixture
def rig(backend):
    return Rig(backend)


# ---- polling ------------------------------------------------------------------------------------------------------------


def test_a_plan_makes_the_link_connect_and_an_open_link_is_polled_at_once(rig):
    actions = rig.step(r.Event(r.EVENT_PLAN, data=plant.make_plan(7, [Cycle(PERIOD, STALE, [WHOLE])])))
    assert kinds(actions) == [r.ACTION_PLANNED, r.ACTION_CONNECT]
    assert (actions[0].generation, actions[0].number) == (7, 0)
    actions = rig.step(r.Event(r.EVENT_OPEN))
    assert kinds(actions) == [r.ACTION_UP, r.ACTION_SEND]
    assert actions[1].data == plant.read_request(1, 0, 4, transaction=0)


def test_an_answer_becomes_good_values_with_its_time(rig):
    rig.step(r.Event(r.EVENT_CLOCK, number=1, value=50 * SECOND))
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    assert rig.slot(0).status == r.BAD_WAITING
    rig.at(20 * MS)
    assert rig.answer(step=5) == []
    for tag in range(4):
        slot = rig.slot(tag)
        assert (slot.value, slot.status) == (plant.value_of(tag, 5), r.GOOD)
        assert slot.source_time == slot.server_time == START + 20 * MS + 50 * SECOND


def test_periods_keep_to_their_grid(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE], phase_ns=300 * MS))
    sent = []
    for time_ns in range(0, 4 * SECOND, 10 * MS):
        if any(action.kind == r.ACTION_SEND for action in rig.at(time_ns)):
            sent.append(time_ns // MS)
        if len(rig.requests) > rig.counters.answers_good:
            rig.answer()
    assert sent == [1300, 2300, 3300]  # The first went out when the link came up, and the point at 300 ms was too near.
    assert rig.counters.requests == 4
    assert rig.counters.skipped == 0


def test_window_one_waits_for_each_answer(rig):
    rig.up(Cycle(PERIOD, STALE, [Block(1, 0, 2), Block(1, 2, 2), Block(1, 4, 2)]))
    assert len(rig.requests) == 1
    rig.answer()
    assert len(rig.requests) == 2
    rig.answer()
    assert len(rig.requests) == 3


def test_a_wider_window_sends_its_requests_in_one_piece_and_takes_answers_in_any_order(backend):
    rig = Rig(backend, window=3)
    rig.up(Cycle(PERIOD, STALE, [Block(1, 2 * at, 2) for at in range(4)]))
    assert len(rig.requests) == 3
    assert kinds(rig.actions).count(r.ACTION_SEND) == 1
    rig.answer(step=9, at=2)
    assert rig.statuses(Block(1, 4, 2)) == {r.GOOD}
    assert rig.statuses(Block(1, 0, 4)) == {r.BAD_WAITING}
    assert len(rig.requests) == 4
    rig.answer(step=9, at=0)
    assert rig.statuses(Block(1, 0, 2)) == {r.GOOD}


def test_groups_take_turns(rig):
    fast = [Block(1, at, 1) for at in range(3)]
    slow = [Block(2, 10 + at, 1) for at in range(3)]
    rig.up(Cycle(PERIOD, STALE, fast), Cycle(2 * PERIOD, STALE, slow))
    for _ in range(5):
        rig.answer()
    assert [request[6] for request in rig.requests] == [1, 2, 1, 2, 1, 2]


def test_skipped_periods_are_counted(rig):
    rig.up(Cycle(100 * MS, STALE, [WHOLE]))
    rig.at(50 * MS)
    rig.answer()
    rig.now = START + 570 * MS  # The caller overslept: grid points 100 to 500.
    rig.step()
    assert rig.counters.skipped == 4
    assert rig.counters.requests == 2
    rig.at(650 * MS)  # The request is still out when the period of 600 begins.
    assert rig.counters.skipped == 5
    assert rig.counters.requests == 2


def test_transaction_numbers_wrap(rig):
    rig.up(Cycle(MS, STALE, [WHOLE]))
    for number in range(0x10003):
        rig.now += MS
        assert int.from_bytes(rig.requests[-1][:2], "big") == number & 0xFFFF
        rig.answer()
        rig.requests[:-1] = []
    assert rig.counters.answers_late == 0


# ---- answers that are none ----------------------------------------------------------------------------------------------


def test_late_answer_after_timeout_is_dropped(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.at(300 * MS)
    assert rig.counters.timeouts == 1
    rig.answer(step=3)
    assert rig.counters.answers_late == 1
    assert rig.slot(0).source_time == 0


@pytest.mark.parametrize(
    ("at", "name"), [(6, "unit"), (7, "function"), (8, "byte count")], ids=["unit", "function", "byte count"]
)
def test_an_answer_with_a_wrong_header_is_dropped_and_the_right_one_still_counts(rig, at, name):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    frame = bytearray(plant.answer(rig.requests[0], 1))
    frame[at] ^= 1
    rig.receive(bytes(frame))
    assert rig.counters.answers_mismatched == 1, name
    assert rig.statuses(WHOLE) == {r.BAD_WAITING}
    rig.answer()
    assert rig.statuses(WHOLE) == {r.GOOD}


def test_an_answer_of_another_length_is_dropped(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    shorter = plant.answer(plant.read_request(1, 0, 3), 1)
    rig.receive(shorter)
    assert rig.counters.answers_mismatched == 1
    assert rig.statuses(WHOLE) == {r.BAD_WAITING}


def test_an_answer_to_nobody_is_dropped(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.receive(b"\x12\x34" + plant.answer(rig.requests[0], 1)[2:])
    assert rig.counters.answers_late == 1
    assert rig.statuses(WHOLE) == {r.BAD_WAITING}


def test_an_answer_counts_once(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    frame = plant.answer(rig.requests[0], 1)
    rig.receive(frame + frame)
    assert (rig.counters.answers_good, rig.counters.answers_late) == (1, 1)


@pytest.mark.parametrize("cut", range(1, 25))
def test_torn_frames_are_put_together(rig, cut):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    frame = plant.answer(rig.requests[0], 1)
    assert len(frame) == 25
    rig.receive(frame[:cut])
    assert rig.statuses(WHOLE) == {r.BAD_WAITING}
    rig.receive(frame[cut:])
    assert rig.statuses(WHOLE) == {r.GOOD}


def test_frames_byte_by_byte_are_put_together(backend):
    rig = Rig(backend, window=2)
    rig.up(Cycle(PERIOD, STALE, [Block(1, 0, 2), Block(1, 2, 2)]))
    for byte in b"".join(plant.answer(request, 1) for request in rig.requests):
        rig.receive(bytes([byte]))
    assert rig.statuses(WHOLE) == {r.GOOD}


def test_merged_and_torn_frames_are_taken_apart(backend):
    rig = Rig(backend, window=3)
    rig.up(Cycle(PERIOD, STALE, [Block(1, 2 * at, 2) for at in range(3)]))
    data = b"".join(plant.answer(request, 1) for request in rig.requests)
    rig.step(*(r.Event(r.EVENT_BYTES, data=part) for part in (data[:5], data[5:22], data[22:40], data[40:])))
    assert rig.statuses(Block(1, 0, 6)) == {r.GOOD}


@pytest.mark.parametrize("header", [b"\0\0\0\1\0\6", b"\0\0\0\0\0\1", b"\0\0\0\0\xff\xff"])
def test_bytes_that_are_no_frames_close_the_link(rig, header):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    actions = rig.receive(header + b"\1\3\0\0")
    assert kinds(actions)[:2] == [r.ACTION_CLOSE, r.ACTION_DOWN]
    assert {actions[0].code, actions[1].code} == {r.CLOSE_FRAMING}
    assert rig.counters.framing_errors == 1


def test_the_rest_of_a_closed_connection_is_forgotten(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.receive(plant.answer(rig.requests[0], 1)[:10])
    rig.step(r.Event(r.EVENT_CLOSED))
    rig.at(SECOND)
    rig.step(r.Event(r.EVENT_OPEN))
    rig.answer(step=2)
    assert rig.slot(0).value == plant.value_of(0, 2)


# ---- the device says no -------------------------------------------------------------------------------------------------


def test_an_exception_becomes_its_status_and_is_told_once(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer()
    rig.at(PERIOD)
    actions = rig.receive(plant.refusal(rig.requests[-1], 6))
    assert kinds(actions) == [r.ACTION_EXCHANGE]
    assert (actions[0].number, actions[0].code, actions[0].status) == (0, 6, plant.CODES[6])
    assert actions[0].data == plant.refusal(rig.requests[-1], 6)
    assert rig.statuses(WHOLE) == {plant.CODES[6]}
    assert rig.slot(1).value == plant.value_of(1, 1)
    rig.at(2 * PERIOD)
    assert rig.receive(plant.refusal(rig.requests[-1], 6)) == []
    rig.at(3 * PERIOD)
    actions = rig.answer(step=4)
    assert [(action.kind, action.code) for action in actions] == [(r.ACTION_EXCHANGE, 0)]
    assert rig.statuses(WHOLE) == {r.GOOD}


def test_an_unknown_exception_is_a_device_failure(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.receive(plant.refusal(rig.requests[-1], 77))
    assert rig.statuses(WHOLE) == {r.BAD_DEVICE_FAILURE}


def test_an_exception_without_a_code_is_a_device_failure(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.receive(plant.refusal(rig.requests[-1], 0))
    assert rig.statuses(WHOLE) == {r.BAD_DEVICE_FAILURE}
    assert rig.counters.answers_error == 1


def test_an_illegal_address_changes_no_quality_until_python_has_split_the_block(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer()
    rig.at(PERIOD)
    actions = rig.receive(plant.refusal(rig.requests[-1], plant.HOLD_CODE))
    assert [(action.kind, action.code) for action in actions] == [(r.ACTION_EXCHANGE, plant.HOLD_CODE)]
    assert rig.statuses(WHOLE) == {r.GOOD}


# ---- quality ------------------------------------------------------------------------------------------------------------


def test_a_missing_answer_makes_good_values_last_usable_and_then_bad(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer()
    rig.at(PERIOD + 300 * MS - 1)
    assert rig.statuses(WHOLE) == {r.GOOD}
    rig.at(PERIOD + 300 * MS)
    assert rig.statuses(WHOLE) == {r.UNCERTAIN_LAST_USABLE}
    assert rig.slot(2).value == plant.value_of(2, 1)
    rig.at(STALE - 1)
    assert rig.statuses(WHOLE) == {r.UNCERTAIN_LAST_USABLE}
    rig.at(STALE)
    assert rig.statuses(WHOLE) == {r.BAD_NO_COMMUNICATION}


def test_what_was_never_read_is_not_called_last_usable(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.at(300 * MS)
    assert rig.statuses(WHOLE) == {r.BAD_WAITING}
    rig.at(STALE)
    assert rig.statuses(WHOLE) == {r.BAD_NO_COMMUNICATION}


def test_a_blocked_link_does_not_leave_its_values_good(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer()
    rig.at(PERIOD, r.Event(r.EVENT_BLOCKED))
    rig.at(PERIOD + STALE)
    assert rig.statuses(WHOLE) == {r.BAD_NO_COMMUNICATION}


def test_a_lost_link_makes_all_its_values_last_usable_at_once(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer()
    actions = rig.step(r.Event(r.EVENT_CLOSED, value=104))
    assert kinds(actions)[:2] == [r.ACTION_CLOSE, r.ACTION_DOWN]
    assert rig.statuses(WHOLE) == {r.UNCERTAIN_LAST_USABLE}


def test_values_that_come_again_are_good_again(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.at(STALE)
    assert rig.statuses(WHOLE) == {r.BAD_NO_COMMUNICATION}
    rig.answer(step=8)
    assert rig.statuses(WHOLE) == {r.GOOD}


def test_stamps_stand_still_after_a_small_step_back_of_the_clock(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.step(r.Event(r.EVENT_CLOCK, number=1, value=50 * SECOND))
    rig.answer(step=1)
    for step in range(2, 6):
        if step == 2:
            rig.step(r.Event(r.EVENT_CLOCK, number=1, value=48 * SECOND, token=START + 50 * SECOND))
        rig.at((step - 1) * PERIOD)
        rig.answer(step=step)
    changes = [r.Change(*fields) for fields in r.CHANGE.iter_unpack(rig.table.ring_read(0, 100)[2])]
    stamps = [change.source_time for change in changes if change.status == r.GOOD and change.tag == 0]
    assert stamps == sorted(stamps)
    assert stamps[0] == stamps[1] == START + 50 * SECOND
    assert stamps[-1] == START + 48 * SECOND + 4 * PERIOD


def test_changes_say_that_the_clock_is_not_synchronised(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer(step=1)
    rig.step(r.Event(r.EVENT_CLOCK, number=1, value=7))
    rig.at(PERIOD)
    rig.answer(step=2)
    changes = [r.Change(*fields) for fields in r.CHANGE.iter_unpack(rig.table.ring_read(0, 100)[2])]
    flags = [change.flags for change in changes if change.status == r.GOOD and change.tag == 0]
    assert flags == [r.CHANGE_CLOCK_UNSYNCHRONISED, 0]
