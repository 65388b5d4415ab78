"""What the scan engine promises about units, connections, plans and one-shots; one promise a test, on both backends.

Each test is a short conversation with one link, in which the test plays the plant, the clock and the session. The plant is
`tests.sim.plant`: a value says whose it is and at which step it was made.
"""

from __future__ import annotations

import struct
from array import array
from typing import Any

import pytest

from bifrost._native import records as r
from tests.sim import plant
from tests.sim.plant import MS, SECOND, Block, Cycle
from tests.sim.rig import PERIOD, STALE, START, WHOLE, Rig, kinds


@pytest.fixture
def rig(backend):
    return Rig(backend)


# ---- units --------------------------------------------------------------------------------------------------------------


def poll_both(rig: Rig, seconds: int) -> list[int]:
    """Unit 2 is dead, unit 1 answers after 10 ms; gives the unit of each request."""
    answered = len(rig.requests) - 1
    for time_ns in range(rig.now - START, rig.now - START + seconds * SECOND, 10 * MS):
        rig.at(time_ns)
        if len(rig.requests) > answered:
            answered = len(rig.requests)
            if rig.requests[-1][6] == 1:
                rig.answer(step=time_ns // SECOND)
    return [request[6] for request in rig.requests]


def test_dead_unit_does_not_stall_its_neighbours(rig):
    rig.up(Cycle(PERIOD, STALE, [Block(1, 0, 4), Block(2, 10, 4), Block(2, 20, 4), Block(1, 4, 4)]))
    units = poll_both(rig, 60)
    assert rig.counters.skipped == 0
    assert rig.statuses(Block(1, 0, 8)) == {r.GOOD}
    assert rig.statuses(Block(2, 10, 4)) == {r.BAD_NO_COMMUNICATION}
    assert units.count(1) == 120
    assert units.count(2) <= 15
    assert rig.counters.closes == 0


def test_breaker_probes_with_one_request(backend):
    rig = Rig(backend, breaker_min_ns=200 * MS)
    rig.up(Cycle(PERIOD, STALE, [Block(2, 10, 4), Block(2, 20, 4), Block(1, 0, 4)]))
    opened = rig.at(700 * MS)
    assert [(a.number, a.code) for a in opened if a.kind == r.ACTION_UNIT] == [(1, r.UNIT_OPEN)]
    rig.answer()
    before = len(rig.requests)
    rig.at(PERIOD + 100 * MS)  # The unit may be probed in this cycle: once, though it has two blocks.
    assert [request[6] for request in rig.requests[before:]] == [2]
    rig.at(PERIOD + 300 * MS)
    assert [request[6] for request in rig.requests[before:]] == [2, 1]


def test_a_probe_that_is_answered_closes_the_breaker(backend):
    rig = Rig(backend, breaker_min_ns=200 * MS)
    rig.up(Cycle(PERIOD, STALE, [Block(2, 10, 4), Block(2, 20, 4)]))
    rig.at(PERIOD)
    assert rig.requests[-1][6] == 2
    actions = rig.answer()
    assert [(a.number, a.code) for a in actions if a.kind == r.ACTION_UNIT] == [(0, r.UNIT_CLOSED)]
    rig.answer()
    assert rig.statuses(Block(2, 10, 4)) == rig.statuses(Block(2, 20, 4)) == {r.GOOD}


def test_a_gateway_that_says_its_device_is_silent_opens_the_breaker(rig):
    rig.up(Cycle(PERIOD, STALE, [Block(2, 10, 4), Block(2, 20, 4), Block(2, 30, 4), Block(1, 0, 4)]))
    rig.receive(plant.refusal(rig.requests[-1], 11))
    actions = rig.receive(plant.refusal(rig.requests[-1], 11))
    assert [(a.number, a.code) for a in actions if a.kind == r.ACTION_UNIT] == [(1, r.UNIT_OPEN)]
    assert rig.requests[-1][6] == 1, "the third block of the silent device is passed over"
    assert rig.statuses(Block(2, 10, 4)) == {r.BAD_NO_COMMUNICATION}


# ---- connection ---------------------------------------------------------------------------------------------------------


def test_reconnect_waits_with_full_jitter(backend):
    waits = []
    for seed in range(40):
        table = plant.make_table(backend)
        scan = backend.make_scan(plant.SCAN_LIMITS, table, seed)
        plan = plant.make_plan(1, [Cycle(PERIOD, STALE, [WHOLE])])
        _, now = scan.step(START, [r.Event(r.EVENT_LINK, data=plant.OPTIONS), r.Event(r.EVENT_PLAN, data=plan)])
        now, row = START, []
        for _ in range(9):
            scan.step(now, [r.Event(r.EVENT_FAILED)])
            begin = now
            while True:
                now = max(now, scan.step(now, [])[1])
                if r.ACTION_CONNECT in kinds(scan.step(now, [])[0]):
                    break
            row.append(now - begin)
        waits.append(row)
    for attempt in range(9):
        bound = min(plant.OPTIONS.reconnect_min_ns << attempt, plant.OPTIONS.reconnect_max_ns)
        column = sorted(row[attempt] for row in waits)
        assert column[-1] <= bound
        assert column[0] < bound * 0.3, "from nothing …"
        assert column[-1] > bound * 0.7, "… to the bound"


def test_an_answer_makes_the_next_reconnect_quick_again(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    for _ in range(8):
        rig.step(r.Event(r.EVENT_CLOSED))
        while r.ACTION_CONNECT not in kinds(rig.at(rig.wake - START)):
            pass
        rig.step(r.Event(r.EVENT_OPEN))
    rig.answer()
    rig.step(r.Event(r.EVENT_CLOSED))
    down = rig.now
    while r.ACTION_CONNECT not in kinds(rig.at(rig.wake - START)):
        pass
    assert rig.now - down <= plant.OPTIONS.reconnect_min_ns


def test_a_silent_link_is_closed(rig):
    rig.up(Cycle(100 * MS, STALE, [Block(unit, unit, 1) for unit in range(1, 9)]))
    actions = rig.at(5 * 300 * MS)
    downs = [action for action in actions if action.kind == r.ACTION_DOWN]
    assert [action.code for action in downs] == [r.CLOSE_SILENT]
    assert rig.counters.timeouts == plant.OPTIONS.timeouts_to_close


def test_a_descriptor_that_nobody_asked_for_is_closed(rig):
    assert [(a.kind, a.code) for a in rig.step(r.Event(r.EVENT_OPEN))] == [(r.ACTION_CLOSE, r.CLOSE_STOPPED)]
    assert kinds(rig.step(r.Event(r.EVENT_OPEN, 5))) == [r.ACTION_CLOSE]


def test_a_blocked_link_sends_nothing_until_it_is_drained(rig):
    rig.up(Cycle(PERIOD, STALE, [Block(1, 0, 2), Block(1, 2, 2)]))
    assert rig.step(r.Event(r.EVENT_BLOCKED)) == []
    assert rig.answer() == []
    actions = rig.step(r.Event(r.EVENT_DRAINED))
    assert kinds(actions) == [r.ACTION_SEND]


def test_a_link_sends_once_in_a_step_and_asks_to_be_called_again(rig):
    rig.up(Cycle(PERIOD, STALE, [Block(1, at, 1) for at in range(4)]))
    rig.answer()
    assert len(rig.requests) == 2
    frame = plant.answer(rig.requests[1], 1)
    guess = plant.answer(plant.read_request(1, 2, 1, transaction=2), 1)
    actions = rig.step(r.Event(r.EVENT_BYTES, data=frame), r.Event(r.EVENT_BYTES, data=guess))
    assert kinds(actions) == [r.ACTION_SEND]
    assert rig.wake == rig.now
    assert kinds(rig.step()) == [r.ACTION_SEND]


# ---- plans --------------------------------------------------------------------------------------------------------------


def test_answer_for_old_plan_is_ignored(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    actions = rig.step(r.Event(r.EVENT_PLAN, data=plant.make_plan(2, [Cycle(PERIOD, STALE, [Block(1, 100, 4)])])))
    assert [(a.kind, a.generation, a.number) for a in actions] == [(r.ACTION_PLANNED, 2, 1)]
    actions = rig.answer(step=3)
    assert rig.statuses(WHOLE) == rig.statuses(Block(1, 100, 4)) == {r.BAD_WAITING}
    assert rig.requests[-1] == plant.read_request(1, 100, 4, transaction=1)
    rig.answer(step=4)
    assert rig.statuses(Block(1, 100, 4)) == {r.GOOD}


def test_stop_closes_the_link_and_gives_the_plan_back(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]), generation=3)
    actions = rig.step(r.Event(r.EVENT_STOP))
    assert kinds(actions) == [r.ACTION_CLOSE, r.ACTION_DOWN, r.ACTION_PLANNED]
    assert (actions[2].generation, actions[2].number) == (0, 3)
    assert rig.at(1000 * SECOND) == []


def test_a_link_that_is_made_again_starts_at_rest(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer()
    actions = rig.step(r.Event(r.EVENT_LINK, data=plant.OPTIONS._replace(window=2)))
    assert kinds(actions) == [r.ACTION_CLOSE, r.ACTION_DOWN, r.ACTION_PLANNED]
    assert rig.counters == r.Counters()


GOOD_PLAN = plant.make_plan(9, [Cycle(PERIOD, STALE, [WHOLE])])
EXCHANGE = r.unpack_exchange(GOOD_PLAN.exchanges)


def _with(**fields: Any) -> r.Plan:
    return GOOD_PLAN._replace(exchanges=EXCHANGE._replace(**fields).pack())


def _with_group(*fields: int) -> r.Plan:
    return GOOD_PLAN._replace(groups=r.GROUP.pack(*fields))


def _with_byte(at: int, value: int) -> r.Plan:
    packed = bytearray(GOOD_PLAN.exchanges)
    packed[at] = value
    return GOOD_PLAN._replace(exchanges=bytes(packed))


BAD_PLANS = {
    "generation 0": GOOD_PLAN._replace(generation=0),
    "requests beyond their bytes": _with(request_offset=1),
    "request empty": _with(request_length=0),
    "request without room for the transaction number": _with(request_length=1),
    "decodes beyond their count": _with(decode_first=1),
    "unit beyond its count": _with(unit=1),
    "body beyond the answer": _with(body_offset=26),
    "body beyond the least answer": _with(answer_length=0, answer_length_min=8),
    "answer longer than a frame": _with(answer_length=261),
    "error code of three bytes": _with(error_code_bytes=3),
    "error code beyond the error": _with(error_code_offset=9),
    "unknown walk": _with(walk=3),
    "expect too long": _with_byte(29, 17),
    "error expect too long": _with_byte(31, 17),
    "tag beyond the table": GOOD_PLAN._replace(decodes=r.DecodeEntry(256, 0, r.TYPE_UINT32).pack() * 4),
    "period 0": _with_group(0, 0, 0, 0, 1),
    "phase below 0": _with_group(1, -1, 0, 0, 1),
    "stale below 0": _with_group(1, 0, -1, 0, 1),
    "period without end": _with_group((1 << 58) + 1, 0, 0, 0, 1),
    "group beyond the exchanges": _with_group(1, 0, 0, 1, 1),
    "generation used already": GOOD_PLAN._replace(generation=1),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_a_bad_plan_is_refused_and_changes_nothing(rig, name):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    with pytest.raises(ValueError):
        rig.step(r.Event(r.EVENT_PLAN, data=BAD_PLANS[name]))
    assert rig.answer() == []
    assert rig.statuses(WHOLE) == {r.GOOD}
    actions = rig.step(r.Event(r.EVENT_PLAN, data=GOOD_PLAN))
    assert actions[0]._replace(time_ns=0) == r.Action(r.ACTION_PLANNED, 0, 1, generation=9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": 5},
        {"frame_bytes_max": 261},
        {"frame_bytes_min": 5},
        {"frame_bytes_min": 261},
        {"sync_offset": 7},
        {"transaction_bytes": 1},
        {"transaction_offset": 7},
        {"transaction_bytes": 0, "window": 2},
        {"timeout_ns": 0},
        {"reconnect_min_ns": 0},
        {"breaker_max_ns": (1 << 58) + 1},
        {"timeouts_to_close": 0},
        {"breaker_failures": 0},
    ],
    ids=str,
)
def test_impossible_options_are_refused(rig, wrong):
    with pytest.raises(ValueError):
        rig.step(r.Event(r.EVENT_LINK, 1, data=plant.OPTIONS._replace(**wrong)))
    assert rig.scan.counters(1) == r.Counters()


def test_impossible_events_are_refused_and_what_was_done_is_told_by_the_next_step(rig):
    with pytest.raises(ValueError):
        rig.step(r.Event(r.EVENT_OPEN), r.Event(99))
    with pytest.raises(ValueError):
        rig.step(r.Event(r.EVENT_OPEN, plant.SCAN_LIMITS.links_count_max))
    with pytest.raises(ValueError):
        rig.step(r.Event(r.EVENT_PLAN, 1, data=GOOD_PLAN))
    with pytest.raises(ValueError):
        rig.scan.step(-1, [])
    assert kinds(rig.step()) == [r.ACTION_CLOSE]


@pytest.mark.parametrize("wrong", [{"links_count_max": 0}, {"window_max": 257}, {"request_bytes_max": 0}], ids=str)
def test_impossible_limits_are_refused(backend, wrong):
    with pytest.raises(ValueError):
        backend.make_scan(plant.SCAN_LIMITS._replace(**wrong), plant.make_table(backend), 1)


# ---- one-shots ----------------------------------------------------------------------------------------------------------


def oneshot(token: int, timeout_ns: int = 0, unit: int = 1) -> r.Event:
    exchange = plant.read_exchange(Block(unit, 50, 2), 0)._replace(decode_count=0)
    return r.Event(r.EVENT_ONESHOT, token=token, data=r.OneShot(exchange, plant.read_request(unit, 50, 2), timeout_ns))


def test_a_oneshot_goes_ahead_of_polls_and_its_answer_comes_back(rig):
    rig.up(Cycle(PERIOD, STALE, [Block(1, 0, 2), Block(1, 2, 2)]))
    rig.step(oneshot(77))
    rig.answer()
    assert rig.requests[-1] == plant.read_request(1, 50, 2, transaction=1)
    frame = plant.answer(rig.requests[-1], 3)
    actions = rig.receive(frame)
    assert kinds(actions) == [r.ACTION_DONE, r.ACTION_SEND]
    assert actions[0] == r.Action(r.ACTION_DONE, 0, code=r.DONE_GOOD, token=77, time_ns=rig.now, data=frame)
    assert rig.slot(50).status == r.BAD_WAITING


def test_a_refused_oneshot_says_the_code_and_what_it_means(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer()
    rig.step(oneshot(5))
    done = rig.receive(plant.refusal(rig.requests[-1], 6))[0]
    assert (done.kind, done.code, done.number, done.status) == (r.ACTION_DONE, r.DONE_ERROR, 6, plant.CODES[6])


def test_a_oneshot_times_out_by_its_own_time(rig):
    rig.up(Cycle(10 * PERIOD, STALE, [WHOLE]))
    rig.answer()
    rig.step(oneshot(5, timeout_ns=2 * SECOND))
    assert r.ACTION_DONE not in kinds(rig.at(2 * SECOND - 1))
    actions = rig.at(2 * SECOND)
    assert [(a.token, a.code) for a in actions if a.kind == r.ACTION_DONE] == [(5, r.DONE_TIMEOUT)]


def test_oneshots_end_when_the_link_closes(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.answer()
    rig.step(oneshot(1), oneshot(2), oneshot(3))
    actions = rig.step(r.Event(r.EVENT_CLOSED))
    done = [(a.token, a.code) for a in actions if a.kind == r.ACTION_DONE]
    assert done == [(1, r.DONE_CLOSED), (2, r.DONE_CLOSED), (3, r.DONE_CLOSED)]
    assert [(a.kind, a.code) for a in rig.step(oneshot(4))] == [(r.ACTION_DONE, r.DONE_CLOSED)]


def test_too_many_oneshots_are_refused(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    actions = rig.step(*(oneshot(token) for token in range(10)))
    done = [(a.token, a.code) for a in actions if a.kind == r.ACTION_DONE]
    assert done == [(8, r.DONE_FULL), (9, r.DONE_FULL)]
    rig.answer()
    assert rig.step(oneshot(10)) == []


def test_a_oneshot_that_cannot_be_is_refused(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    good = oneshot(1).data
    assert isinstance(good, r.OneShot)
    for wrong in (
        good._replace(request=b""),
        good._replace(request=b"\0"),
        good._replace(request=bytes(261)),
        good._replace(timeout_ns=-1),
        good._replace(exchange=good.exchange._replace(body_offset=200)),
    ):
        with pytest.raises(ValueError):
            rig.step(r.Event(r.EVENT_ONESHOT, token=1, data=wrong))


def test_a_poll_reads_a_planned_exchange_now_and_writes_the_table(rig):
    rig.up(Cycle(100 * PERIOD, 100 * PERIOD, [Block(1, 0, 2), Block(1, 2, 2)]))
    rig.answer(step=1)
    rig.answer(step=1)
    rig.step(r.Event(r.EVENT_POLL, number=1, token=9, value=1))
    actions = rig.answer(step=6)
    assert [(a.kind, a.token, a.code) for a in actions] == [(r.ACTION_DONE, 9, r.DONE_GOOD)]
    assert rig.slot(2).value == plant.value_of(2, 6)
    assert rig.slot(0).value == plant.value_of(0, 1)


def test_a_poll_of_a_plan_that_is_gone_ends(rig):
    rig.up(Cycle(PERIOD, STALE, [WHOLE]))
    rig.step(r.Event(r.EVENT_POLL, number=0, token=1, value=1), r.Event(r.EVENT_POLL, number=9, token=2, value=1))
    rig.answer()
    assert rig.requests[-1] == plant.read_request(1, 0, 4, transaction=1)
    actions = rig.step(r.Event(r.EVENT_PLAN, data=plant.make_plan(2, [])))
    assert [(a.token, a.code) for a in actions if a.kind == r.ACTION_DONE] == [(1, r.DONE_REPLANNED)]
    actions = rig.answer()
    assert [(a.token, a.code) for a in actions if a.kind == r.ACTION_DONE] == [(2, r.DONE_REPLANNED)]


# ---- other framings -----------------------------------------------------------------------------------------------------


def test_a_protocol_without_transaction_numbers_and_little_endian_lengths(backend):
    table = plant.make_table(backend)
    scan = backend.make_scan(plant.SCAN_LIMITS, table, 7)
    options = plant.OPTIONS._replace(
        frame_bytes_min=4,
        length_add=4,
        length_offset=2,
        length_little=1,
        transaction_bytes=0,
        sync_offset=0,
        sync=b"\x03\x00",
    )
    exchange = r.Exchange(
        request_length=3,
        answer_length=0,
        answer_length_min=6,
        body_offset=4,
        expect_offset=0,
        expect=b"\x03",
        decode_count=1,
    )
    plan = r.Plan(
        1,
        exchange.pack(),
        r.DecodeEntry(7, 0, r.TYPE_UINT16).pack(),
        r.pack_groups([r.Group(SECOND, 0, SECOND, 0, 1)]),
        b"",
        b"abc",
        1,
    )
    scan.step(0, [r.Event(r.EVENT_LINK, data=options), r.Event(r.EVENT_PLAN, data=plan)])
    actions, _ = scan.step(0, [r.Event(r.EVENT_OPEN)])
    assert actions[-1].data == b"abc"
    scan.step(1, [r.Event(r.EVENT_BYTES, data=b"\x03\x00" + struct.pack("<H", 2) + b"\x01\x02")])
    assert scan.counters(0).answers_good == 1
    assert r.Slot(*r.SLOT.unpack(table.read(array("I", [7])))).value == 0x0102
