"""From what tags need to what is asked: spans of items, then the packed plan of a link. Pure.

`plan_spans` is the block planner: it joins neighbours into as few reads as the rules allow (holes up to `gap` are read
over, forbidden items never, no read longer than `count_max`) and never splits one value over two reads, since the two
halves could be from different moments. `compile_plan` lays the requests of all devices of a link out as the records the
scan engine works on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bifrost._native import records
from bifrost.core.contracts import Request

__all__ = ["LinkPlan", "Span", "compile_plan", "plan_spans", "requests_per_second"]


class Span(NamedTuple):
    """One read: `items` items from `first` on, and which of the planned values are in it, by their first item."""

    first: int
    items: int
    members: list[int]


def plan_spans(
    starts: Sequence[int],
    counts: Sequence[int],
    *,
    gap: int,
    count_max: int,
    forbidden: Sequence[tuple[int, int]] = (),
    cuts: Sequence[int] = (),
) -> list[Span]:
    """The fewest reads, from left to right, that cover all values.

    Args:
        starts: First item of each value.
        counts: Items of each value, 1 to `count_max`; values may overlap.
        gap: Unwanted items between two values that are read rather than paid for with one more request.
        count_max: Longest read, in items.
        forbidden: Ranges (first, last), ascending, that no read of several values may touch. A value inside one is read
            alone.
        cuts: Items, ascending, at which no read may continue: what was learned about blocks the device refuses.

    Returns:
        Spans by ascending first item; each value is in exactly one.
    """
    spans: list[Span] = []
    first = end = 0
    members: list[int] = []
    alone = False
    for index in sorted(range(len(starts)), key=starts.__getitem__):
        start = starts[index]
        stop = start + counts[index]
        is_alone = bool(forbidden) and _touches(forbidden, start, stop)
        joins = (
            bool(members)
            and not alone
            and not is_alone
            and start - end <= gap
            and max(stop, end) - first <= count_max
            and not (forbidden and start > end and _touches(forbidden, end, start))
            and not (cuts and _cut_between(cuts, first, max(start, first)))
        )
        if joins:
            members.append(index)
            end = max(end, stop)
            continue
        if members:
            spans.append(Span(first, end - first, members))
        first, end, members, alone = start, stop, [index], is_alone
    if members:
        spans.append(Span(first, end - first, members))
    return spans


def _touches(ranges: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Whether any of the ascending, disjoint `ranges` (both ends included) has an item in start … stop - 1."""
    at = bisect_left(ranges, start, key=lambda pair: pair[1])
    return at < len(ranges) and ranges[at][0] < stop


def _cut_between(cuts: Sequence[int], first: int, start: int) -> bool:
    """Whether a cut lies behind `first` and not behind `start`."""
    at = bisect_left(cuts, first + 1)
    return at < len(cuts) and cuts[at] <= start


class LinkPlan(msgspec.Struct, frozen=True):
    """A packed plan, and what each of its numbers stands for.

    Attributes:
        plan: What the engine gets.
        requests: By exchange number.
        units: By unit index: the unit's number as the protocol counts it.
    """

    plan: records.Plan
    requests: tuple[Request, ...]
    units: tuple[int, ...]

    def exchange_of(self, row: int) -> int | None:
        """Number of the exchange that reads table row `row`, or None."""
        for number, request in enumerate(self.requests):
            if row in request.rows:
                return number
        return None

    @property
    def memory_bytes(self) -> int:
        """Bytes of the packed records and of the engine's notes about them."""
        plan = self.plan
        notes = 16 * len(self.requests) + 16 * (len(plan.groups) // records.GROUP.size) + 24 * plan.unit_count
        packed = (plan.exchanges, plan.decodes, plan.groups, plan.codes, plan.requests)
        return notes + sum(len(part) for part in packed)


def compile_plan(
    generation: int, requests: Iterable[Request], codes: Mapping[int, int], *, phase: float = 0.0
) -> LinkPlan:
    """The plan of one link.

    Args:
        generation: From 1; different for each plan of the link.
        requests: Of all devices on the link.
        codes: Device error code -> StatusCode.
        phase: Where in its period the link polls, 0.0 to 1.0: spreads links so that requests do not bunch.
    """
    ordered = sorted(requests, key=lambda request: (request.period_ns, request.stale_ns))
    units = tuple(sorted({request.unit for request in ordered})) or (0,)
    unit_index = {unit: index for index, unit in enumerate(units)}
    exchanges, decodes, blob = bytearray(), bytearray(), bytearray()
    groups: list[records.Group] = []
    for number, request in enumerate(ordered):
        exchanges += request.exchange._replace(
            request_offset=len(blob),
            request_length=len(request.request),
            decode_first=len(decodes) // records.DECODE.size,
            decode_count=len(request.rows),
            unit=unit_index[request.unit],
        ).pack()
        decodes += request.decodes
        blob += request.request
        last = groups[-1] if groups else None
        if last is not None and (last.period_ns, last.stale_ns) == (request.period_ns, request.stale_ns):
            groups[-1] = last._replace(exchanges=last.exchanges + 1)
        else:
            phase_ns = int(phase * request.period_ns)
            groups.append(records.Group(request.period_ns, phase_ns, request.stale_ns, number, 1))
    plan = records.Plan(
        generation,
        bytes(exchanges),
        bytes(decodes),
        records.pack_groups(groups),
        records.pack_codes(dict(codes)),
        bytes(blob),
        len(units),
    )
    return LinkPlan(plan, tuple(ordered), units)


def requests_per_second(requests: Iterable[Request]) -> float:
    """Requests a second that polling costs."""
    return sum(1e9 / request.period_ns for request in requests)
