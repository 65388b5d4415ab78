"""The block planner: as few reads as the rules allow, and no value in two of them; and the packed plan of a link."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from bifrost._native import records
from bifrost.core.contracts import Request
from bifrost.plc.plan import Span, compile_plan, plan_spans, requests_per_second


def test_contiguous_registers_take_reads_of_the_longest_length():
    spans = plan_spans(range(1000), [1] * 1000, gap=0, count_max=125)
    assert [(span.first, span.items) for span in spans] == [(first, 125) for first in range(0, 1000, 125)]


def test_a_value_is_never_split_over_two_reads():
    spans = plan_spans(range(0, 130, 2), [2] * 65, gap=0, count_max=125)
    assert [(span.first, span.items) for span in spans] == [(0, 124), (124, 6)]


def test_holes_up_to_the_gap_are_read_over():
    assert plan_spans([0, 9], [1, 1], gap=8, count_max=125) == [Span(0, 10, [0, 1])]
    assert plan_spans([0, 10], [1, 1], gap=8, count_max=125) == [Span(0, 1, [0]), Span(10, 1, [1])]


def test_forbidden_items_are_not_read_over():
    assert plan_spans([0, 4], [1, 1], gap=8, count_max=125, forbidden=[(2, 2)]) == [Span(0, 1, [0]), Span(4, 1, [1])]


def test_a_value_in_a_hole_is_read_alone():
    spans = plan_spans([0, 1, 2], [1, 1, 1], gap=8, count_max=125, forbidden=[(1, 1)])
    assert spans == [Span(0, 1, [0]), Span(1, 1, [1]), Span(2, 1, [2])]


def test_no_read_goes_on_at_a_cut():
    assert plan_spans([0, 1, 2], [1, 1, 1], gap=8, count_max=125, cuts=[2]) == [Span(0, 2, [0, 1]), Span(2, 1, [2])]


def test_overlapping_values_share_a_read():
    assert plan_spans([4, 5, 4], [4, 1, 1], gap=0, count_max=4) == [Span(4, 4, [0, 2, 1])]


def test_nothing_wanted_is_nothing_read():
    assert plan_spans([], [], gap=8, count_max=125) == []


_VALUES = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 8)), max_size=60)


@given(_VALUES, st.integers(0, 20), st.integers(8, 125), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5))))
def test_every_value_is_in_exactly_one_read_that_keeps_the_rules(values, gap, count_max, holes):
    forbidden = _disjoint(holes)
    spans = plan_spans(
        [start for start, _ in values], [n for _, n in values], gap=gap, count_max=count_max, forbidden=forbidden
    )
    assert sorted(index for span in spans for index in span.members) == list(range(len(values)))
    for span in spans:
        assert span.items <= max(count_max, *(values[index][1] for index in span.members))
        wanted = set()
        for index in span.members:
            start, items = values[index]
            assert span.first <= start
            assert start + items <= span.first + span.items
            wanted |= set(range(start, start + items))
        unwanted = set(range(span.first, span.first + span.items)) - wanted
        assert not any(low <= item <= high for item in unwanted for low, high in forbidden)
        if len(span.members) > 1:
            assert not any(low <= item <= high for item in wanted for low, high in forbidden)


def _disjoint(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    taken: list[tuple[int, int]] = []
    for first, more in sorted(holes):
        if not taken or first > taken[-1][1]:
            taken.append((first, first + more))
    return taken


def _request(period: int, unit: int, rows: list[int]) -> Request:
    exchange = records.Exchange(4, 9, 2, 2, b"\0\0")
    decodes = b"".join(records.DecodeEntry(row, 0, records.TYPE_UINT16).pack() for row in rows)
    return Request(exchange, b"read", decodes, array("I", rows), period, 5 * period, unit, "hr:0-1")


def test_a_plan_groups_requests_by_period_and_numbers_units():
    plan = compile_plan(7, [_request(20, 9, [3]), _request(10, 1, [0, 1]), _request(10, 9, [2])], {2: 5})
    assert plan.units == (1, 9)
    groups = [records.Group(*fields) for fields in records.GROUP.iter_unpack(plan.plan.groups)]
    assert groups == [records.Group(10, 0, 50, 0, 2), records.Group(20, 0, 100, 2, 1)]
    size = records.EXCHANGE.size
    exchanges = [records.unpack_exchange(plan.plan.exchanges, at) for at in range(0, 3 * size, size)]
    assert [(x.unit, x.decode_first, x.decode_count, x.request_offset, x.request_length) for x in exchanges] == [
        (0, 0, 2, 0, 4),
        (1, 2, 1, 4, 4),
        (1, 3, 1, 8, 4),
    ]
    assert [plan.exchange_of(row) for row in range(5)] == [0, 0, 1, 2, None]
    assert plan.plan.unit_count == 2
    assert plan.memory_bytes > 3 * size


def test_phase_moves_each_group_within_its_period():
    plan = compile_plan(1, [_request(10, 1, [0]), _request(1000, 1, [1])], {}, phase=0.25)
    phases = [fields[1] for fields in records.GROUP.iter_unpack(plan.plan.groups)]
    assert phases == [2, 250]


def test_an_empty_plan_keeps_a_link_open():
    plan = compile_plan(1, [], {})
    assert plan.plan.exchanges == b""
    assert plan.plan.unit_count == 1


def test_load_is_the_sum_of_rates():
    assert requests_per_second([_request(10**9, 1, [0]), _request(10**8, 1, [1])]) == 11.0
