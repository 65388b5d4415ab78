"""The ledger's equation holds whatever happens, and what the journal does not count comes back from what was stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost._native import journal_records as j
from bifrost.bridge.drops import Burst, DropWatch
from bifrost.bridge.ledger import Ledger, Reason

T0 = 1_700_000_000_000_000_000
NEW = j.JournalReport(
    bytes(16), 1, 0, 0, 1, 0, (0,) * 8, 0, (0,) * 64, 0, 0, 0, 0, 0, 0, 0, was_clean=True, counters=b""
)
MINUTE_NS = 60_000_000_000

STEPS = st.lists(
    st.tuples(st.sampled_from(["read", "journal", "lose", "done"]), st.sampled_from(Reason), st.integers(0, 1000))
)


def reported(total: int, done: list[int]) -> j.JournalReport:
    return NEW._replace(samples_total=total, done=tuple(done))


@given(STEPS, st.integers(0, 10))
def test_what_was_acquired_is_acknowledged_buffered_or_dropped(steps, waiting):
    ledger = Ledger(NEW)
    acquired = journaled = 0
    done = [0] * 8
    for name, reason, count in steps:
        if name == "read":
            ledger.staged += count
            acquired += count
        elif name == "journal":
            count = min(count, ledger.staged)
            ledger.journal(count)
            journaled += count
        elif name == "lose":
            ledger.lose(reason, count)
            acquired += count
        else:
            done[count % 5] += min(count, journaled - sum(done))
            ledger.update(reported(journaled, done))
    record = ledger.record(waiting)
    assert record["acquired"] == acquired + waiting
    assert record["acquired"] == record["acknowledged"] + record["buffered"] + sum(record["dropped"].values())
    again = Ledger(reported(journaled, done)._replace(counters=ledger.pack(T0)))
    again.staged = ledger.staged
    assert again.record() == ledger.record()


def test_drops_of_outbox_and_journal_add_up():
    ledger = Ledger(reported(20, [5, 4, 3, 2, 1, 0, 0, 0]))
    ledger.lose(Reason.CAP, 10)
    assert [ledger.dropped(reason) for reason in Reason] == [0, 0, 14, 3, 2, 1]
    assert (ledger.acknowledged, ledger.buffered, ledger.acquired) == (5, 5, 30)


def test_unclean_stop_says_since_when_nobody_knows():
    ledger = Ledger(NEW)
    assert ledger.record()["unclean_stop"] is None
    stopped = Ledger(NEW._replace(counters=ledger.pack(T0), was_clean=False))
    assert stopped.record()["unclean_stop"] == {"since": "2023-11-14T22:13:20.000000Z"}
    later = Ledger(NEW._replace(counters=stopped.pack(T0 + 5), was_clean=True))
    assert later.unclean_since_ns == T0


@pytest.mark.parametrize(
    "packed", [b"", b"\x01", b"\x02" + bytes(30), b"\x01\x00" + bytes(16), b"\x01\x09" + bytes(19)]
)
def test_bytes_that_are_no_ledger_count_nothing(packed):
    assert Ledger(NEW._replace(counters=packed)).acquired == 0


def test_ledger_of_a_later_version_is_read_as_far_as_it_is_known():
    packed = b"\x01\x0a" + bytes(16) + b"".join(number.to_bytes(8, "little") for number in range(1, 11))
    ledger = Ledger(NEW._replace(counters=packed))
    assert (ledger.dropped(Reason.LAPPED), ledger.acquired) == (1, sum(range(1, 7)))


def test_burst_of_drops_is_told_twice_and_not_sample_by_sample():
    ledger = Ledger(NEW)
    ledger.lose(Reason.LAPPED, 100)
    watch = DropWatch(ledger)
    assert list(watch.look(0)) == []
    ledger.lose(Reason.LAPPED, 5)
    ledger.lose(Reason.DEADBAND, 5)
    assert list(watch.look(1)) == [Burst(Reason.LAPPED, 5, is_over=False)]
    for second in range(2, 40):
        ledger.lose(Reason.LAPPED, 1)
        assert list(watch.look(second * 1_000_000_000)) == []
    assert list(watch.look(39_000_000_000 + MINUTE_NS - 1)) == []
    assert list(watch.look(39_000_000_000 + MINUTE_NS)) == [Burst(Reason.LAPPED, 43, is_over=True)]
    assert list(watch.look(40 * MINUTE_NS)) == []
