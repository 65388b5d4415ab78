"""The change ring: every reader sees every change once, or is told exactly how many it missed."""

from __future__ import annotations

from array import array

import pytest

from bifrost._native import records as r

LIMITS = r.TableLimits(tags_count_max=4, ring_changes_count=8, ring_body_bytes=64, cell_bytes=96)
NUMBER, TEXT, LONG = range(3)


@pytest.fixture
def table(backend):
    made = backend.make_table(LIMITS)
    kinds = bytes([r.KIND_UINT, r.KIND_TEXT, r.KIND_TEXT])
    assert made.define(0, kinds, array("d", bytes(24)), array("q", bytes(24)), array("I", [0, 16, 32])) == r.OK
    return made


def count_up(table, first, last, *, source_time=0, server_time=0, flags=0):
    """Reports the numbers from `first` to `last`, one change each."""
    for number in range(first, last + 1):
        columns = array("I", [NUMBER]), array("Q", [number]), array("I", [r.GOOD])
        assert table.put(*columns, source_time, server_time, 0, flags) == r.OK


def read(table, position, count=100):
    """New position, missed, and the values of the changes read."""
    position, missed, packed = table.ring_read(position, count)
    return position, missed, [r.Change(*fields).value for fields in r.CHANGE.iter_unpack(packed)]


def texts(table) -> list[tuple[int, bytes]]:
    packed = table.ring_read(0, 100)[2]
    return [table.ring_bytes(packed[at : at + r.CHANGE.size]) for at in range(0, len(packed), r.CHANGE.size)]


def test_empty_ring_has_nothing(table):
    assert table.ring_head() == 0
    assert read(table, 0) == (0, 0, [])


def test_changes_come_in_order_and_once(table):
    count_up(table, 1, 5)
    assert read(table, 0) == (5, 0, [1, 2, 3, 4, 5])
    assert read(table, 5) == (5, 0, [])
    count_up(table, 6, 7)
    assert read(table, 5) == (7, 0, [6, 7])


def test_reader_takes_as_many_as_it_wants(table):
    count_up(table, 1, 5)
    assert read(table, 0, 2) == (2, 0, [1, 2])
    assert read(table, 2, 0) == (2, 0, [])
    assert read(table, 2, 2) == (4, 0, [3, 4])


def test_full_ring_is_read_whole_across_its_end(table):
    count_up(table, 1, 13)
    assert read(table, 5) == (13, 0, list(range(6, 14)))


def test_lapped_reader_goes_on_at_the_oldest_and_knows_what_it_missed(table):
    count_up(table, 1, 21)
    assert read(table, 3) == (21, 10, list(range(14, 22)))
    assert read(table, 3, 3) == (16, 10, [14, 15, 16])
    assert read(table, 3, 0) == (13, 10, [])


def test_position_that_is_not_written_yet_gives_nothing(table):
    count_up(table, 1, 3)
    assert read(table, 7) == (7, 0, [])


def test_batch_larger_than_the_ring_keeps_its_newest_changes(table):
    columns = array("I", [NUMBER] * 20), array("Q", range(1, 21)), array("I", bytes(80))
    assert table.put(*columns, 0, 0, 0, 0) == r.OK
    assert read(table, 0) == (20, 12, list(range(13, 21)))


@pytest.mark.parametrize(
    ("source_time", "server_time", "ticks"),
    [
        (1_000, 1_000, 0),
        (1_000, 1_099, 0),
        (1_000, 1_100, 1),
        (1_000, 999, -1),  # rounded down: never later than it was
        (0, 2**62, 2**47 - 1),
        (-(2**63), 2**63 - 1, 2**47 - 1),
        (2**63 - 1, -(2**63), -(2**47)),
    ],
)
def test_server_time_of_a_change_saturates(table, source_time, server_time, ticks):
    count_up(table, 1, 1, source_time=source_time, server_time=server_time, flags=0x1_FFFF)
    change = r.Change(*r.CHANGE.unpack(table.ring_read(0, 1)[2]))
    assert change.source_time == source_time
    assert (change.when >> 16, change.flags) == (ticks, 0xFFFF)


def test_text_that_was_overwritten_is_lost_and_the_next_ones_are_not(table):
    written = [bytes([65 + number]) * 16 for number in range(4)]
    for text in written:
        table.put_bytes(TEXT, text, r.GOOD, 0, 0, 0, 0)
    # A record has 8 bytes of length and 16 of text: two of them fit into 64 bytes whole.
    assert texts(table) == [(r.LOST, b""), (r.LOST, b""), (r.OK, written[2]), (r.OK, written[3])]


def test_text_is_whole_across_the_end_of_the_byte_ring(table):
    for length in (16, 1, 15, 0, 16, 9):
        table.put_bytes(TEXT, b"abcdefghijklmnop"[:length], r.GOOD, 0, 0, 0, 0)
        assert texts(table)[-1] == (r.OK, b"abcdefghijklmnop"[:length])


def test_longest_text_takes_more_than_half_of_the_ring(table):
    table.put_bytes(LONG, b"x" * 32, r.GOOD, 0, 0, 0, 0)
    table.put_bytes(LONG, b"y" * 32, r.GOOD, 0, 0, 0, 0)
    assert texts(table) == [(r.LOST, b""), (r.OK, b"y" * 32)]


def test_bytes_of_what_is_no_text_are_refused(table):
    count_up(table, 1, 1)
    table.put_bytes(TEXT, b"abc", r.GOOD, 0, 0, 0, 0)
    assert texts(table)[0] == (r.E_ARGUMENT, b"")
    assert table.ring_bytes(r.CHANGE.pack(9, 0, 0, 0, 0)) == (r.E_ARGUMENT, b"")
    assert table.ring_bytes(r.CHANGE.pack(TEXT, 0, 0, 4, 0)) == (r.E_ARGUMENT, b"")
    assert table.ring_bytes(b"torn") == (r.E_ARGUMENT, b"")
    assert table.ring_bytes(r.CHANGE.pack(TEXT, 0, 0, 8000, 0)) == (r.LOST, b"")  # never written
    assert table.ring_bytes(r.CHANGE.pack(TEXT, 0, 0, 8, 0)) == (r.LOST, b"")  # the middle of a record
