"""The tag table: what a slot holds after each kind of write, and which writes are worth reporting.

The rule: a change is reported when the status changed, or the value is further from the last reported one than the deadband, or the longest
interval has passed and a good answer came.
"""

from __future__ import annotations

import math
import struct
import threading
from array import array

import pytest

from bifrost._native import records as r

LIMITS = r.TableLimits(tags_count_max=8, ring_changes_count=16, ring_body_bytes=128, cell_bytes=64)
UNCERTAIN = r.UNCERTAIN_LAST_USABLE
BAD = r.BAD_NO_COMMUNICATION
# Rows of the table that `make` gives: one of each kind.
BOOL, INT, UINT, FLOAT, TEXT, ARRAY = range(6)


def make(backend, deadband=0.0, max_interval=0):
    table = backend.make_table(LIMITS)
    kinds = bytes([r.KIND_BOOL, r.KIND_INT, r.KIND_UINT, r.KIND_FLOAT, r.KIND_TEXT, r.KIND_ARRAY])
    cells = array("I", [0, 0, 0, 0, 16, 24])
    assert table.define(0, kinds, array("d", [deadband] * 6), array("q", [max_interval] * 6), cells) == r.OK
    return table


def bits(number: float) -> int:
    return int.from_bytes(struct.pack("<d", number), "little")


def put(table, tag, value, status=r.GOOD, *, source_time=10, server_time=20, now_ns=0, flags=0):
    """Writes one value and says how many changes that reported."""
    head = table.ring_head()
    value = bits(value) if isinstance(value, float) else value & 2**64 - 1
    columns = array("I", [tag]), array("Q", [value]), array("I", [status])
    assert table.put(*columns, source_time, server_time, now_ns, flags) == r.OK
    return table.ring_head() - head


def slot(table, tag) -> r.Slot:
    return r.Slot(*r.SLOT.unpack(table.read(array("I", [tag]))))


def changes(table, position=0) -> list[r.Change]:
    return [r.Change(*fields) for fields in r.CHANGE.iter_unpack(table.ring_read(position, 100)[2])]


# ---- rows


def test_batch_becomes_visible_as_a_whole(backend):
    """One thread writes batches of all rows, each with the same number; another one never finds half a batch in the ring."""
    if backend.BACKEND == "py":
        pytest.skip("where Python keeps the table, one thread does everything")
    rows_count, heads_count = 64, 10
    sizes = r.TableLimits(tags_count_max=rows_count, ring_changes_count=4096, ring_body_bytes=0, cell_bytes=0)
    table = backend.make_table(sizes)
    columns = bytes([r.KIND_UINT]) * rows_count, array("d", bytes(8 * rows_count)), array("q", bytes(8 * rows_count))
    assert table.define(0, *columns, array("I", bytes(4 * rows_count))) == r.OK
    rows, statuses = array("I", range(rows_count)), array("I", bytes(4 * rows_count))

    heads: set[int] = set()

    def write():
        number = 0
        while len(heads) < heads_count:  # However late the other thread has its turn.
            number += 1
            table.put(rows, array("Q", [number]) * rows_count, statuses, number, number, number, 0)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        heads.add(table.ring_head())
    writer.join()
    assert not [head for head in heads if head % rows_count]


def test_row_that_was_never_written_waits_for_its_first_value(backend):
    table = make(backend)
    assert all(slot(table, tag) == (0, 0, 0, r.BAD_WAITING, 0) for tag in range(8))  # two of them are not even defined
    assert table.ring_head() == 0


def test_rows_beyond_the_table_are_refused(backend):
    table = make(backend)
    assert table.read(array("I", [0, 8])) == b""
    assert table.read_bytes(8)[0] == r.E_ARGUMENT
    assert table.mark(array("I", [0, 8]), BAD, r.MARK_ALL, 1, 1, 0) == r.E_ARGUMENT
    batch = array("I", [INT, 8]), array("Q", [1, 1]), array("I", [0, 0])
    assert table.put(*batch, 1, 1, 1, 0) == r.E_ARGUMENT
    assert table.put_bytes(8, b"", 0, 1, 1, 1, 0) == r.E_ARGUMENT
    assert slot(table, INT).sequence == 0  # a batch is taken whole or not at all


def test_row_that_is_not_defined_takes_nothing(backend):
    table = make(backend)
    assert table.put(array("I", [6]), array("Q", [1]), array("I", [0]), 1, 1, 1, 0) == r.E_ARGUMENT
    assert table.mark(array("I", [6]), BAD, r.MARK_ALL, 1, 1, 0) == r.E_ARGUMENT
    assert table.scatter(b"\0\0", 0, r.DecodeEntry(6, 0, r.TYPE_INT16).pack(), 1, 1, 1, 0) == r.E_ARGUMENT


@pytest.mark.parametrize(
    ("first", "kind", "deadband", "interval", "cell", "status"),
    [
        (0, r.KIND_INT, 0.0, 0, 0, r.E_ARGUMENT),  # defined already
        (8, r.KIND_INT, 0.0, 0, 0, r.E_ARGUMENT),  # beyond the table
        (6, 0, 0.0, 0, 0, r.E_ARGUMENT),
        (6, 7, 0.0, 0, 0, r.E_ARGUMENT),
        (6, r.KIND_INT, -0.5, 0, 0, r.E_ARGUMENT),
        (6, r.KIND_INT, math.nan, 0, 0, r.E_ARGUMENT),
        (6, r.KIND_INT, 0.0, -1, 0, r.E_ARGUMENT),
        (6, r.KIND_TEXT, 0.0, 0, 25, r.E_SPACE),  # 24 of the 64 bytes of cells are left, in words of 8
        (6, r.KIND_TEXT, 0.0, 0, 65, r.E_SPACE),  # more than half the ring's bytes
        (6, r.KIND_TEXT, 0.0, 0, 24, r.OK),
        (7, r.KIND_FLOAT, 0.0, 0, 10**6, r.OK),  # a scalar needs no cell
    ],
)
def test_definition_is_checked(backend, first, kind, deadband, interval, cell, status):
    table = make(backend)
    columns = array("d", [deadband]), array("q", [interval]), array("I", [cell])
    assert table.define(first, bytes([kind]), *columns) == status


def test_refused_definition_defines_nothing(backend):
    table = backend.make_table(LIMITS)
    kinds = bytes([r.KIND_INT, r.KIND_TEXT])
    columns = array("d", bytes(16)), array("q", bytes(16))
    assert table.define(0, kinds, *columns, array("I", [0, 65])) == r.E_SPACE
    assert table.define(0, kinds, *columns, array("I", [0, 64])) == r.OK


def test_columns_of_different_length_are_refused(backend):
    table = make(backend)
    assert table.define(6, b"\x01", array("d"), array("q", [0]), array("I", [0])) == r.E_ARGUMENT
    assert table.put(array("I", [INT]), array("Q"), array("I", [0]), 1, 1, 1, 0) == r.E_ARGUMENT


@pytest.mark.parametrize(
    "wrong",
    [
        {"tags_count_max": 0},
        {"ring_changes_count": 24},
        {"ring_changes_count": 8},
        {"ring_changes_count": 0},
        {"ring_body_bytes": 100},
        {"ring_body_bytes": 8},
    ],
)
def test_impossible_limits_are_refused(backend, wrong):
    limits = LIMITS._replace(**wrong)
    assert backend.table_bytes(limits) == 0
    with pytest.raises(ValueError, match="the limits of the tag table are impossible"):
        backend.make_table(limits)


def test_table_without_texts_needs_no_bytes_for_them(backend):
    limits = LIMITS._replace(ring_body_bytes=0, cell_bytes=0)
    assert 0 < backend.table_bytes(limits) < backend.table_bytes(LIMITS)
    table = backend.make_table(limits)
    columns = array("d", [0.0]), array("q", [0]), array("I", [0])
    assert table.define(0, bytes([r.KIND_TEXT]), *columns) == r.E_SPACE
    assert table.define(0, bytes([r.KIND_INT]), *columns) == r.OK


def test_missing_memory_is_a_memory_error(backend, monkeypatch):
    def refuse(*_, **__):
        raise OSError("cannot allocate memory")

    if backend.BACKEND == "py":
        pytest.skip("Python asks its own allocator, which raises MemoryError by itself")
    monkeypatch.setattr("mmap.mmap", refuse)
    with pytest.raises(MemoryError, match=r"no memory for the tag table: [0-9]+ bytes"):
        backend.make_table(LIMITS)


# ---- slots


def test_good_value_is_in_the_slot_with_its_times(backend):
    table = make(backend)
    put(table, INT, -5, source_time=111, server_time=222)
    assert slot(table, INT) == (2**64 - 5, 111, 222, r.GOOD, 2)
    put(table, INT, -5, source_time=333, server_time=444)
    assert slot(table, INT) == (2**64 - 5, 333, 444, r.GOOD, 4)


def test_bad_status_keeps_the_value_and_its_source_time(backend):
    table = make(backend)
    put(table, INT, 7, source_time=111, server_time=222)
    put(table, INT, 9, BAD, source_time=333, server_time=444)
    assert slot(table, INT) == (7, 111, 444, BAD, 4)
    assert changes(table)[1][:4] == (INT, BAD, 111, 7)


def test_uncertain_value_is_taken(backend):
    table = make(backend)
    put(table, INT, 9, UNCERTAIN)
    assert slot(table, INT)[0::3] == (9, UNCERTAIN)


def test_value_is_kept_as_its_kind_is(backend):
    table = make(backend)
    put(table, BOOL, 5)
    assert slot(table, BOOL).value == 1
    put(table, FLOAT, 0xFFF8_0000_0000_0001)
    assert slot(table, FLOAT).value == r.NAN_BITS


def test_scalars_and_texts_do_not_mix(backend):
    table = make(backend)
    assert table.put(array("I", [TEXT]), array("Q", [1]), array("I", [0]), 1, 1, 1, 0) == r.E_ARGUMENT
    assert table.put_bytes(INT, b"7", 0, 1, 1, 1, 0) == r.E_ARGUMENT
    assert table.read_bytes(INT) == (r.E_ARGUMENT, b"", b"")


# ---- marks


def test_mark_sets_the_status_alone(backend):
    table = make(backend)
    put(table, INT, 7, source_time=111, server_time=222)
    assert table.mark(array("I", [INT, FLOAT]), BAD, r.MARK_ALL, 333, 1, 0) == r.OK
    assert slot(table, INT) == (7, 111, 333, BAD, 4)
    assert slot(table, FLOAT) == (0, 0, 333, BAD, 2)
    assert [change[:4] for change in changes(table, 1)] == [(INT, BAD, 111, 7), (FLOAT, BAD, 0, 0)]


def test_last_usable_value_is_said_only_of_good_ones(backend):
    table = make(backend)
    put(table, INT, 7)
    put(table, UINT, 7, 0x4000_0000)
    head = table.ring_head()
    assert table.mark(array("I", [BOOL, INT, UINT]), UNCERTAIN, r.MARK_GOOD_ONLY, 333, 1, 0) == r.OK
    assert [slot(table, tag).status for tag in (BOOL, INT, UINT)] == [r.BAD_WAITING, UNCERTAIN, 0x4000_0000]
    assert [change.tag for change in changes(table, head)] == [INT]
    assert slot(table, BOOL).sequence == 0


def test_same_mark_again_is_no_change(backend):
    table = make(backend)
    table.mark(array("I", [INT]), BAD, r.MARK_ALL, 1, 1, 0)
    table.mark(array("I", [INT]), BAD, r.MARK_ALL, 2, 2, 0)
    assert table.ring_head() == 1
    assert slot(table, INT).server_time == 2


def test_unknown_rule_is_refused(backend):
    assert make(backend).mark(array("I", [INT]), BAD, 2, 1, 1, 0) == r.E_ARGUMENT


# ---- what is reported


def test_first_value_is_reported_even_if_it_is_zero(backend):
    assert put(make(backend, deadband=5.0), INT, 0) == 1


@pytest.mark.parametrize(
    ("tag", "deadband", "last", "value", "reported"),
    [
        (INT, 0.0, 5, 5, 0),
        (INT, 0.0, 5, 6, 1),
        (INT, 2.0, 5, 7, 0),  # not more than the deadband
        (INT, 2.0, 5, 8, 1),
        (INT, 2.0, -1, 1, 0),
        (INT, 2.0, 1, -2, 1),
        (INT, 1.5e19, -(2**63), 2**63 - 1, 1),  # the difference is exact, beyond int64
        (INT, 1e20, -(2**63), 2**63 - 1, 0),
        (UINT, 2.0, 2**64 - 1, 2**64 - 3, 0),
        (UINT, 2.0, 2**64 - 1, 0, 1),
        (BOOL, 0.5, 0, 1, 1),
        (FLOAT, 0.0, 0.0, -0.0, 1),  # the bits differ
        (FLOAT, 0.5, 0.0, -0.0, 0),
        (FLOAT, 0.5, 1.0, 1.5, 0),
        (FLOAT, 0.5, 1.0, 1.5000001, 1),
        (FLOAT, 0.5, 1.5000001, 1.0, 1),
        (FLOAT, 0.5, math.nan, math.nan, 0),
        (FLOAT, 0.5, 1.0, math.nan, 1),
        (FLOAT, 0.5, math.nan, 1.0, 1),
        (FLOAT, 0.5, math.inf, math.inf, 0),
        (FLOAT, 0.5, math.inf, -math.inf, 1),
        (FLOAT, math.inf, 1.0, 1e300, 0),
    ],
)
def test_deadband(backend, tag, deadband, last, value, reported):
    table = make(backend, deadband=deadband)
    put(table, tag, last)
    assert put(table, tag, value) == reported
    assert slot(table, tag).value == (bits(value) if isinstance(value, float) else value & 2**64 - 1)


def test_deadband_counts_from_the_last_reported_value_so_that_a_drift_is_seen(backend):
    table = make(backend, deadband=1.0)
    reported = [put(table, FLOAT, value) for value in (0.0, 0.6, 1.2, 1.8, 2.4)]
    assert reported == [1, 0, 1, 0, 1]


def test_change_of_status_is_reported_with_the_newest_value_and_moves_the_deadband(backend):
    table = make(backend, deadband=1.0)
    put(table, FLOAT, 0.0)
    put(table, FLOAT, 0.8)
    assert put(table, FLOAT, 0.0, BAD) == 1
    assert changes(table, 1)[0].value == bits(0.8)
    assert put(table, FLOAT, 1.7) == 1  # good again
    assert put(table, FLOAT, 2.6) == 0


def test_retuned_row_compares_with_its_new_deadband_and_interval(backend):
    table = make(backend, deadband=1.0)
    put(table, FLOAT, 0.0, now_ns=0)
    assert put(table, FLOAT, 0.8, now_ns=1) == 0
    rows, deadbands, intervals = array("I", [FLOAT]), array("d", [0.5]), array("q", [100])
    assert table.retune(rows, deadbands, intervals) == r.OK
    assert put(table, FLOAT, 0.8, now_ns=2) == 1  # what was held back is further away than the new one
    assert put(table, FLOAT, 0.9, now_ns=101) == 0
    assert put(table, FLOAT, 0.9, now_ns=102) == 1


@pytest.mark.parametrize(
    ("tag", "deadband", "interval"), [(FLOAT, -1.0, 0), (FLOAT, math.nan, 0), (FLOAT, 0.0, -1), (4_000, 0.0, 0)]
)
def test_impossible_retuning_changes_nothing(backend, tag, deadband, interval):
    table = make(backend, deadband=1.0)
    put(table, FLOAT, 0.0)
    rows = array("I", [FLOAT, tag])
    assert table.retune(rows, array("d", [0.0, deadband]), array("q", [0, interval])) == r.E_ARGUMENT
    assert table.retune(rows, array("d", [0.0]), array("q", [0, 0])) == r.E_ARGUMENT
    assert put(table, FLOAT, 0.8) == 0


def test_longest_interval_repeats_a_value_that_does_not_change(backend):
    table = make(backend, deadband=10.0, max_interval=100)
    assert put(table, INT, 1, now_ns=1000) == 1
    assert put(table, INT, 2, now_ns=1099) == 0
    assert put(table, INT, 2, now_ns=1100) == 1
    assert put(table, INT, 2, now_ns=1199) == 0
    assert put(table, INT, 2, BAD, now_ns=1300) == 1
    assert put(table, INT, 2, BAD, now_ns=1500) == 0  # only a good answer repeats
    assert put(table, INT, 2, now_ns=1501) == 1


def test_interval_survives_the_ends_of_time(backend):
    table = make(backend, max_interval=2**63 - 1)
    put(table, INT, 1, now_ns=-(2**63))
    assert put(table, INT, 1, now_ns=-2) == 0
    assert put(table, INT, 1, now_ns=-1) == 1
    assert put(table, INT, 1, now_ns=-(2**63)) == 0


# ---- texts and arrays


def test_text_is_kept_and_reported_when_its_bytes_differ(backend):
    table = make(backend)
    for text in (b"", b"", b"pump", b"pump", b"pumq", b"pumpumpumpum", b"pum"):
        assert table.put_bytes(TEXT, bytearray(text), r.GOOD, 1, 2, 3, 0) == r.OK
        assert table.read_bytes(TEXT)[2] == text
    found = [table.ring_bytes(r.CHANGE.pack(*change)) for change in changes(table)]
    assert found == [(r.OK, text) for text in (b"", b"pump", b"pumq", b"pumpumpumpum", b"pum")]
    status, packed, _ = table.read_bytes(TEXT)
    assert (status, r.Slot(*r.SLOT.unpack(packed)).value) == (r.OK, 3)


def test_bad_status_keeps_the_text_and_reports_it_again(backend):
    table = make(backend)
    table.put_bytes(TEXT, b"pump", r.GOOD, 10, 20, 0, 0)
    assert table.put_bytes(TEXT, b"", BAD, 30, 40, 0, 0) == r.OK
    assert table.mark(array("I", [TEXT]), UNCERTAIN, r.MARK_ALL, 50, 0, 0) == r.OK
    status, packed, body = table.read_bytes(TEXT)
    assert (status, body, r.Slot(*r.SLOT.unpack(packed))) == (r.OK, b"pump", (4, 10, 50, UNCERTAIN, 6))
    assert [table.ring_bytes(r.CHANGE.pack(*change)) for change in changes(table)] == [(r.OK, b"pump")] * 3


def test_longest_interval_repeats_a_text(backend):
    table = make(backend, max_interval=100)
    for now_ns in (0, 99, 100, 199, 200):
        table.put_bytes(TEXT, b"pump", r.GOOD, 1, 2, now_ns, 0)
    assert table.ring_head() == 3


def test_text_longer_than_its_cell_is_refused(backend):
    table = make(backend)
    assert table.put_bytes(TEXT, b"x" * 16, r.GOOD, 1, 2, 3, 0) == r.OK
    assert table.put_bytes(TEXT, b"y" * 17, r.GOOD, 1, 2, 3, 0) == r.E_SPACE
    assert table.read_bytes(TEXT)[2] == b"x" * 16


# ---- scatter


def test_scatter_decodes_straight_into_the_table(backend):
    table = make(backend)
    body = b"\x80\xff\xfb\x41\x20\0\0pump\0\0\0\x01\0\x02"
    entries = [
        r.DecodeEntry(BOOL, 0, r.TYPE_BOOL, bit=7),
        r.DecodeEntry(INT, 1, r.TYPE_INT16),
        r.DecodeEntry(FLOAT, 3, r.TYPE_FLOAT32),
        r.DecodeEntry(TEXT, 7, r.TYPE_STRING, elements=6),
        r.DecodeEntry(ARRAY, 13, r.TYPE_UINT16, elements=2, flags=r.DECODE_ARRAY),
        r.DecodeEntry(UINT, 16, r.TYPE_UINT16),  # outside
    ]
    packed = b"".join(entry.pack() for entry in entries)
    assert table.scatter(memoryview(body), 0, memoryview(packed), 111, 222, 333, r.CHANGE_CLOCK_UNSYNCHRONISED) == r.OK
    assert slot(table, BOOL) == (1, 111, 222, r.GOOD, 2)
    assert slot(table, INT) == (2**64 - 5, 111, 222, r.GOOD, 2)
    assert slot(table, FLOAT).value == bits(10.0)
    assert slot(table, UINT) == (0, 0, 222, r.BAD_DECODING, 2)
    assert table.read_bytes(TEXT)[2] == b"pump"
    assert table.read_bytes(ARRAY)[2] == struct.pack("<2H", 1, 2)
    assert [change.tag for change in changes(table)] == [BOOL, INT, FLOAT, TEXT, ARRAY, UINT]
    assert changes(table)[0].flags == r.CHANGE_CLOCK_UNSYNCHRONISED


def test_scatter_of_items_gives_each_tag_its_own_status(backend):
    table = make(backend)
    body = b"\xff\x04\0\x10\x12\x34" + b"\x0a\0\0\x04"
    entries = r.DecodeEntry(INT, 0, r.TYPE_INT16).pack() + r.DecodeEntry(UINT, 0, r.TYPE_UINT16, item=1).pack()
    assert table.scatter(body, r.WALK_S7, entries, 1, 2, 3, 0) == r.OK
    assert [slot(table, tag).status for tag in (INT, UINT)] == [r.GOOD, r.BAD_DEVICE_FAILURE]


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        (r.DecodeEntry(INT, 0, r.TYPE_FLOAT32), r.E_ARGUMENT),  # the row holds integers
        (r.DecodeEntry(INT, 0, r.TYPE_INT16, flags=r.DECODE_SCALED), r.E_ARGUMENT),
        (r.DecodeEntry(TEXT, 0, r.TYPE_UINT8, flags=r.DECODE_ARRAY), r.E_ARGUMENT),
        (r.DecodeEntry(INT, 0, 99), r.E_ARGUMENT),
        (r.DecodeEntry(TEXT, 0, r.TYPE_STRING, elements=17), r.E_SPACE),
        (r.DecodeEntry(ARRAY, 0, r.TYPE_BOOL, elements=4, flags=r.DECODE_ARRAY | r.DECODE_SCALED), r.E_SPACE),
    ],
)
def test_entry_that_does_not_fit_its_row_is_our_own_bug(backend, entry, status):
    table = make(backend)
    good = r.DecodeEntry(INT, 0, r.TYPE_INT16)
    assert table.scatter(bytes(64), 0, good.pack() + entry.pack(), 1, 2, 3, 0) == status
    assert table.ring_head() == 0


def test_torn_entries_and_unknown_walks_are_refused(backend):
    table = make(backend)
    assert table.scatter(b"", 0, bytes(31), 1, 2, 3, 0) == r.E_ARGUMENT
    assert table.scatter(b"", 3, b"", 1, 2, 3, 0) == r.E_ARGUMENT
