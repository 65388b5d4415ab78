"""The tag table and the change ring in C and in Python stay the same, byte for byte, through any sequence of calls.

Each step is drawn against a small table with every kind of row, so that rings wrap, cursors are lapped and texts are lost; after each
step both cores must have given the same answer, and at the end every slot, cell, change and body is compared.
"""

from __future__ import annotations

import struct
from array import array
from types import ModuleType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bifrost._native import records as r

LIMITS = r.TableLimits(tags_count_max=8, ring_changes_count=16, ring_body_bytes=64, cell_bytes=64)
KINDS = bytes([r.KIND_BOOL, r.KIND_INT, r.KIND_UINT, r.KIND_FLOAT, r.KIND_FLOAT, r.KIND_TEXT, r.KIND_ARRAY])
CELL_SIZES = (0, 0, 0, 0, 0, 13, 24)
DEADBANDS = st.sampled_from([0.0, 0.5, 1.0, 2.5, 1e18, float("inf")])
INTERVALS = st.sampled_from([0, 1, 10, 2**63 - 1])
STATUSES = st.sampled_from(
    [r.GOOD, r.GOOD, r.GOOD, r.UNCERTAIN_LAST_USABLE, r.BAD_DECODING, r.BAD_WAITING, 0x4000_0000]
)
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, 0.25, 0.75, 1.0, 1.5, 2.5])
VALUES = (
    st.integers(0, 4)
    | st.integers(2**63 - 2, 2**63 + 2)
    | st.integers(2**64 - 3, 2**64 - 1)
    | st.integers(0, 2**64 - 1)
    | FLOATS.map(lambda number: struct.unpack("<Q", struct.pack("<d", number))[0])
    | st.sampled_from([0x7FF0_0000_0000_0001, 0xFFF8_0000_0000_0000])
)
TAGS = st.integers(0, 7) | st.sampled_from([8, 2**32 - 1])
SCALARS = st.integers(0, 4)
TIMES = st.integers(0, 1000) | st.sampled_from([-(2**63), 2**63 - 1, 1_700_000_000_000_000_000])
FLAGS = st.sampled_from([0, 1, 2, 0xFFFF, 0x10001])

puts = st.tuples(
    st.just("put"), st.lists(st.tuples(SCALARS | TAGS, VALUES, STATUSES), max_size=5), TIMES, TIMES, TIMES, FLAGS
)
put_bytes = st.tuples(
    st.just("put_bytes"),
    st.sampled_from([5, 6]) | TAGS,
    st.binary(max_size=26) | st.sampled_from([b"", b"a", b"b"]),
    STATUSES,
    TIMES,
    TIMES,
    TIMES,
    FLAGS,
)
marks = st.tuples(st.just("mark"), st.lists(TAGS, max_size=4), STATUSES, st.integers(0, 2), TIMES, TIMES, FLAGS)
entries = st.builds(
    r.DecodeEntry,
    tag=st.integers(0, 6),
    offset=st.integers(0, 6),
    type=st.integers(1, 14),
    elements=st.integers(0, 4),
    order=st.integers(0, 3),
    bit=st.integers(0, 17),
    flags=st.sampled_from([0, 0, 1, 2, 3]),
    scale=st.sampled_from([1.0, 0.1, -3.0]),
    item=st.integers(0, 3),
    bias=st.sampled_from([0.0, 1.5]),
)
FITTING = st.sampled_from(
    [
        r.DecodeEntry(0, 0, r.TYPE_BOOL, bit=3),
        r.DecodeEntry(1, 0, r.TYPE_INT16),
        r.DecodeEntry(2, 2, r.TYPE_BCD16),
        r.DecodeEntry(3, 2, r.TYPE_FLOAT32, order=2),
        r.DecodeEntry(4, 0, r.TYPE_INT32, flags=r.DECODE_SCALED, scale=0.1, bias=-1.0),
        r.DecodeEntry(5, 1, r.TYPE_STRING, elements=5),
        r.DecodeEntry(6, 0, r.TYPE_INT16, elements=3, flags=r.DECODE_ARRAY),
    ]
)
scatters = st.tuples(
    st.just("scatter"),
    st.binary(max_size=12),
    st.sampled_from([0, 0, 0, 1, 2, 3]),
    st.lists(FITTING | FITTING | FITTING | entries, max_size=4),
    TIMES,
    TIMES,
    TIMES,
    FLAGS,
)
retunes = st.tuples(
    st.just("retune"),
    st.lists(st.tuples(SCALARS | TAGS, DEADBANDS | st.sampled_from([-1.0, float("nan")]), INTERVALS), max_size=3),
)
ring_reads = st.tuples(st.just("ring_read"), st.integers(0, 60), st.integers(0, 20))
STEPS = st.lists(st.one_of(puts, put_bytes, marks, scatters, retunes, ring_reads), max_size=40)


def apply(table: Any, step: tuple[Any, ...]) -> Any:
    name, *arguments = step
    if name == "put":
        batch, *rest = arguments
        columns = (array(code, (row[at] for row in batch)) for at, code in enumerate("IQI"))
        return table.put(*columns, *rest)
    if name == "retune":
        columns = (array(code, (row[at] for row in arguments[0])) for at, code in enumerate("Idq"))
        return table.retune(*columns)
    if name == "mark":
        return table.mark(array("I", arguments[0]), *arguments[1:])
    if name == "scatter":
        body, walk, found, *rest = arguments
        return table.scatter(body, walk, b"".join(entry.pack() for entry in found), *rest)
    return getattr(table, name)(*arguments)


def state(table: Any) -> tuple[Any, ...]:
    """Everything that a reader can see."""
    head = table.ring_head()
    position, missed, changes = table.ring_read(0, LIMITS.ring_changes_count * 2)
    bodies = [table.ring_bytes(changes[at : at + r.CHANGE.size]) for at in range(0, len(changes), r.CHANGE.size)]
    cells = [table.read_bytes(tag) for tag in (0, 5, 6, 7, 8)]
    slots = table.read(array("I", range(8))), table.read(array("I", [8]))
    counts = [table.ring_count(array("I", tags)) for tags in ([], *([tag] for tag in range(9)), [1, 5])]
    return head, position, missed, changes, bodies, cells, slots, counts


def make(core: ModuleType, deadbands: list[float], intervals: list[int]) -> Any:
    table = core.make_table(LIMITS)
    columns = (array("d", deadbands), array("q", intervals), array("I", CELL_SIZES))
    assert table.define(0, KINDS, *columns) == r.OK
    return table


@settings(max_examples=300)
@given(st.lists(DEADBANDS, min_size=7, max_size=7), st.lists(INTERVALS, min_size=7, max_size=7), STEPS)
def test_any_sequence_of_calls_gives_the_same_table_and_ring(cores, deadbands, intervals, steps):
    c, py = (make(core, deadbands, intervals) for core in cores)
    for step in steps:
        assert apply(c, step) == apply(py, step), step
    assert state(c) == state(py)


@given(STEPS, st.sets(st.integers(0, 7)), st.integers(1, 5))
def test_lapped_reader_knows_how_many_changes_of_its_own_tags_it_missed(cores, steps, mine, chunk):
    for core in cores:
        table = make(core, [0.0] * 7, [0] * 7)
        position = seen = 0
        written: list[int] = []
        for step in steps:
            before = table.ring_head()
            apply(table, step)
            after = table.ring_head()
            if after - before <= LIMITS.ring_changes_count:
                written += [fields[0] for fields in r.CHANGE.iter_unpack(table.ring_read(before, after - before)[2])]
            position, _, changes = table.ring_read(position, chunk)
            seen += sum(fields[0] in mine for fields in r.CHANGE.iter_unpack(changes))
        status, head, count = table.ring_count(array("I", sorted(mine)))
        assert (status, head) == (r.OK, table.ring_head())
        assert count == sum(tag in mine for tag in written)
        assert count - seen >= 0


@given(STEPS, st.integers(1, 5))
def test_cursor_sees_each_change_once_or_counts_it_as_missed(cores, steps, chunk):
    for core in cores:
        table = make(core, [0.0] * 7, [0] * 7)
        position = seen = missed_sum = 0
        for step in steps:
            apply(table, step)
            position, missed, changes = table.ring_read(position, chunk)
            seen += len(changes) // r.CHANGE.size
            missed_sum += missed
        assert position == seen + missed_sum
        position, missed, changes = table.ring_read(position, 100)
        assert position == table.ring_head() == seen + missed_sum + missed + len(changes) // r.CHANGE.size


definitions = st.tuples(
    st.integers(0, 9),
    st.lists(
        st.tuples(
            st.integers(0, 7),
            st.sampled_from([0.0, 1.5, float("inf"), -0.0, -1.0, float("nan")]),
            st.sampled_from([0, 1, -1]),
            st.sampled_from([0, 1, 8, 9, 32, 33, 2**32 - 1]),
        ),
        max_size=4,
    ),
)


@given(st.lists(definitions, max_size=5))
def test_any_definitions_are_taken_or_refused_by_both_cores(cores, steps):
    tables = [core.make_table(LIMITS) for core in cores]
    for first, rows in steps:
        columns = [array(code, (row[at] for row in rows)) for at, code in ((1, "d"), (2, "q"), (3, "I"))]
        results = [table.define(first, bytes(row[0] for row in rows), *columns) for table in tables]
        assert results[0] == results[1]
    for tag in range(9):
        answers = [
            (
                table.put(array("I", [tag]), array("Q", [1]), array("I", [0]), 1, 1, 1, 0),
                table.put_bytes(tag, b"x" * 9, 0, 1, 1, 1, 0),
                table.put_bytes(tag, b"", 0, 1, 1, 1, 0),
            )
            for table in tables
        ]
        assert answers[0] == answers[1]
    assert state(tables[0]) == state(tables[1])


@given(
    st.builds(
        r.TableLimits,
        st.integers(0, 20),
        st.sampled_from([0, 1, 2, 3, 16, 32, 64]),
        st.sampled_from([0, 1, 8, 16, 24, 64]),
        st.integers(0, 100),
    )
)
def test_both_cores_know_which_limits_are_impossible(cores, limits):
    c, py = cores
    assert (c.table_bytes(limits) == 0) == (py.table_bytes(limits) == 0)


@given(
    st.binary(min_size=24, max_size=40) | st.tuples(TAGS, VALUES).map(lambda c: r.CHANGE.pack(c[0], 0, 0, c[1], 0)),
    STEPS,
)
def test_any_bytes_as_a_change_give_the_same_answer(cores, change, steps):
    tables = [make(core, [0.0] * 7, [0] * 7) for core in cores]
    for table in tables:
        for step in steps:
            apply(table, step)
    assert tables[0].ring_bytes(change) == tables[1].ring_bytes(change)
