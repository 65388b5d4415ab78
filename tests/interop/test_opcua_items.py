"""Monitored items: filters, queues and times, asked for by a foreign client.

Only the compiled stack has these services whole. Each change is put when the one before was told (`opcua_raw.put`), so that what is
to come is exact; that nothing more comes, a keep-alive says.
"""

from __future__ import annotations

import math
import time

import pytest

from tests.interop.opcua_bench import compiled_face, compiled_only
from tests.interop.opcua_raw import (
    OVERFLOW,
    call,
    change_filter,
    code,
    content,
    put,
    read,
    run_with_subscription,
    wanted,
)

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

LEVEL = "plant.level"
NUMBER = "plant.types.float64"
INT16 = "plant.types.int16"
ARRAY = "plant.types.int16x4"
TEXT = "plant.types.stringx32"
BOOL = "plant.types.bool"
BAD_DEADBAND = 0x808E0000
BAD_FILTER_NOT_ALLOWED = 0x80450000
BAD_FILTER_UNSUPPORTED = 0x80440000
BAD_NO_COMMUNICATION = 0x80310000
Times = ua.TimestampsToReturn


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with compiled_face(tmp_path_factory.mktemp("items"), 100) as process:
        yield process


# ---- filters


@pytest.mark.parametrize(
    ("name", "range_of", "chosen", "status"),
    [
        (NUMBER, None, change_filter(1, 2, 5.0), BAD_FILTER_UNSUPPORTED),  # no EURange
        (LEVEL, None, change_filter(1, 2, -1.0), BAD_DEADBAND),  # OPC 10000-8, 7.2: 0 to 100
        (LEVEL, None, change_filter(1, 2, 100.5), BAD_DEADBAND),
        (LEVEL, None, change_filter(1, 2, math.nan), BAD_DEADBAND),
        (LEVEL, None, change_filter(1, 1, -1.0), BAD_DEADBAND),
        (LEVEL, None, change_filter(1, 1, math.nan), BAD_DEADBAND),
        (LEVEL, None, change_filter(1, 7, 1.0), BAD_FILTER_UNSUPPORTED),
        (TEXT, None, change_filter(1, 1, 1.0), BAD_FILTER_NOT_ALLOWED),
        (BOOL, None, change_filter(1, 1, 1.0), BAD_FILTER_NOT_ALLOWED),
        (TEXT, None, change_filter(1, 2, 1.0), BAD_FILTER_NOT_ALLOWED),
        (LEVEL + "#EURange", None, change_filter(1, 1, 1.0), BAD_FILTER_NOT_ALLOWED),
        (LEVEL, None, ua.EventFilter(), BAD_FILTER_NOT_ALLOWED),
        (LEVEL, None, change_filter(1, 2, 100.0), 0),
        (LEVEL, None, change_filter(1, 1, 0.0), 0),
        (ARRAY, None, change_filter(1, 1, 2.0), 0),
        (LEVEL, None, change_filter(0), 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("service", ["create", "modify"])
def test_filter_that_does_not_fit_is_refused_with_its_status(server, service, name, range_of, chosen, status):
    async def work(connected, subscription):
        if service == "create":
            assert (await subscription.item(name, chosen=chosen)).StatusCode.value == status
            return
        item = await subscription.item(name)
        assert item.StatusCode.is_good()
        assert (await subscription.modify(item, chosen=chosen)).StatusCode.value == status

    run_with_subscription(server, work)


def test_deadband_on_an_attribute_that_is_no_value_is_not_allowed(server):
    async def work(connected, subscription):
        what = wanted(LEVEL, attribute=ua.AttributeIds.DisplayName)
        assert (
            await subscription.item(what, chosen=change_filter(1, 1, 1.0))
        ).StatusCode.value == BAD_FILTER_NOT_ALLOWED

    run_with_subscription(server, work)


@pytest.mark.parametrize(
    ("name", "chosen", "given", "expected"),
    [
        # A difference that equals the deadband is no change: OPC 10000-4, 7.22.2.
        (LEVEL, change_filter(1, 1, 10.0), [0.0, 10.0, 10.5, 1.0, 0.5, 0.4], [0.0, 10.5, 0.4]),
        (LEVEL, change_filter(1, 2, 10.0), [0.0, 15.0, 15.5, 1.0, 0.5, 0.4], [0.0, 15.5, 0.4]),  # of 0 … 150
        # Differences that do not fit the type.
        (INT16, change_filter(1, 1, 10.0), [-30_000, 30_000, 30_010, -30_000], [-30_000, 30_000, -30_000]),
        ("plant.types.int8", change_filter(1, 1, 10.0), [-128, 127, 120, -100], [-128, 127, -100]),
        ("plant.types.int32", change_filter(1, 1, 10.0), [-(2**31), 2**31 - 1, -(2**31)], [-(2**31), 2**31 - 1, -(2**31)]),
        ("plant.types.int64", change_filter(1, 1, 10.0), [-(2**62) - 2**61, 2**62 + 2**61], [-(2**62) - 2**61, 2**62 + 2**61]),
        ("plant.types.uint64", change_filter(1, 1, 10.0), [2**63, 2**63 + 11, 2**63 + 1, 2**63], [2**63, 2**63 + 11, 2**63]),
        ("plant.types.uint8", change_filter(1, 1, 1.5), [0, 255, 254, 253], [0, 255, 253]),
        # Each element for itself, and then the whole array: OPC 10000-8, 7.2.
        (ARRAY, change_filter(1, 1, 2.0), [[0, 0, 0, 0], [2, 2, -2, 0], [0, 0, 0, 3]], [[0, 0, 0, 0], [0, 0, 0, 3]]),
    ],
)  # fmt: skip
def test_deadband_lets_pass_what_lies_outside_the_last_reported_value(server, name, chosen, given, expected):
    async def work(connected, subscription):
        await put(connected, server, name, given[0])
        await subscription.item(name, chosen=chosen, queue=20)
        for value in given[1:]:
            await put(connected, server, name, value)
        assert await subscription.contents(len(expected)) == expected
        assert await subscription.is_quiet()

    run_with_subscription(server, work)


def test_not_a_number_is_a_change_whatever_the_deadband(server):
    async def work(connected, subscription):
        await put(connected, server, LEVEL, 5.0)
        await subscription.item(LEVEL, chosen=change_filter(1, 1, 10.0), queue=20)
        for value in (math.nan, 5.0, math.inf, 6.0):
            await put(connected, server, LEVEL, value)
        assert [str(value) for value in await subscription.contents(5)] == ["5.0", "nan", "5.0", "inf", "6.0"]
        assert await subscription.is_quiet()

    run_with_subscription(server, work)


def test_status_passes_every_deadband_and_both_ways(server):
    async def work(connected, subscription):
        await put(connected, server, LEVEL, 5.0)
        await subscription.item(LEVEL, chosen=change_filter(1, 1, 10.0), queue=20)
        await put(connected, server, LEVEL, 5.5, 0x408F0000)
        await put(connected, server, LEVEL, None, BAD_NO_COMMUNICATION)
        await put(connected, server, LEVEL, 5.0)
        await put(connected, server, LEVEL, 6.0)
        came = [(content(value), code(value)) for _, value in await subscription.collect(4)]
        assert came == [(5.0, 0), (5.5, 0x408F0000), (None, BAD_NO_COMMUNICATION), (5.0, 0)]
        assert await subscription.is_quiet()

    run_with_subscription(server, work)


@pytest.mark.parametrize("times", [Times.Both, Times.Source, Times.Server, Times.Neither])
@pytest.mark.parametrize(("trigger", "expected"), [(0, [0, 2, 3]), (1, [0, 2, 3, 4]), (2, [0, 1, 2, 3, 4])])
def test_trigger_says_which_changes_count(server, trigger, expected, times):
    """Value, status and source time change one by one. A newer source time alone enters the ring with the tag's `max_interval` only."""
    start_ns = time.time_ns() // 10**9 * 10**9
    steps = [(7.0, 0), (7.0, 0), (7.0, 0x408F0000), (7.0, 0), (8.0, 0)]

    async def work(connected, subscription):
        await put(connected, server, "plant.beat", *steps[0], start_ns)
        await subscription.item("plant.beat", chosen=change_filter(trigger), times=times, queue=20)
        for number, (value, status) in list(enumerate(steps))[1:]:
            await put(connected, server, "plant.beat", value, status, start_ns + number * 10**9)
            await is_read_with(connected, "plant.beat", start_ns + number * 10**9)
        came = [(content(value), code(value)) for _, value in await subscription.collect(len(expected))]
        assert came == [steps[number] for number in expected]
        assert await subscription.is_quiet()

    run_with_subscription(server, work)


async def is_read_with(connected, name, time_ns):
    while True:
        (now,) = await read(connected, wanted(name))
        if abs(now.SourceTimestamp.timestamp() - time_ns / 1e9) < 1e-3:
            return


@pytest.mark.parametrize(
    ("times", "has_source", "has_server"),
    [(Times.Source, True, False), (Times.Server, False, True), (Times.Both, True, True), (Times.Neither, False, False)],
)
def test_times_are_those_that_were_asked_for(server, times, has_source, has_server):
    async def work(connected, subscription):
        await put(connected, server, LEVEL, 1.0)
        item = await subscription.item(LEVEL, times=times)
        await put(connected, server, LEVEL, 2.0)
        for _, value in await subscription.collect(2):
            assert (value.SourceTimestamp is not None, value.ServerTimestamp is not None) == (has_source, has_server)
        await subscription.modify(item, times=Times.Both)  # OPC 10000-4, 5.13.3: for the items that are modified
        await put(connected, server, LEVEL, 3.0)
        ((_, value),) = await subscription.collect(1)
        assert value.SourceTimestamp is not None
        assert value.ServerTimestamp is not None

    run_with_subscription(server, work)


# ---- queues


async def queue_of(server, connected, subscription, *, queue, oldest, count=6):
    await put(connected, server, NUMBER, 0.0)
    await call(connected, "SetPublishingMode", PublishingEnabled=False, SubscriptionIds=[subscription.id])
    item = await subscription.item(NUMBER, queue=queue, oldest=oldest)
    for number in range(1, count):
        await put(connected, server, NUMBER, float(number))
    return item


def flagged(came):
    return [(content(value), code(value) & OVERFLOW == OVERFLOW) for _, value in came]


async def publish_again(connected, subscription):
    await call(connected, "SetPublishingMode", PublishingEnabled=True, SubscriptionIds=[subscription.id])


@pytest.mark.parametrize(
    ("queue", "oldest", "revised", "expected"),
    [
        (0, True, 1, [(5.0, False)]),
        (1, True, 1, [(5.0, False)]),
        (1, False, 1, [(5.0, False)]),
        (3, True, 3, [(3.0, True), (4.0, False), (5.0, False)]),
        (3, False, 3, [(0.0, False), (1.0, False), (5.0, True)]),  # the newest is replaced: OPC 10000-4, 5.13.1.5
        (6, True, 6, [(float(number), False) for number in range(6)]),
        (6, False, 6, [(float(number), False) for number in range(6)]),
        (100_000, True, 1_000, [(float(number), False) for number in range(6)]),
    ],
)
def test_queue_keeps_what_was_asked_for_and_marks_the_gap(server, queue, oldest, revised, expected):
    async def work(connected, subscription):
        item = await queue_of(server, connected, subscription, queue=queue, oldest=oldest)
        assert item.RevisedQueueSize == revised
        await publish_again(connected, subscription)
        assert flagged(await subscription.collect(len(expected))) == expected
        assert await subscription.is_quiet()

    run_with_subscription(server, work)


@pytest.mark.parametrize(
    ("queue", "oldest", "expected"),
    [
        (2, True, [(4.0, True), (5.0, False)]),
        (2, False, [(0.0, False), (5.0, True)]),
        (1, True, [(5.0, False)]),
        (10, True, [(float(number), False) for number in range(6)]),
    ],
)
def test_modified_queue_keeps_what_still_fits(server, queue, oldest, expected):
    async def work(connected, subscription):
        item = await queue_of(server, connected, subscription, queue=6, oldest=True)
        changed = await subscription.modify(item, queue=queue, oldest=oldest)
        assert (changed.StatusCode.value, changed.RevisedQueueSize) == (0, queue)
        await publish_again(connected, subscription)
        assert flagged(await subscription.collect(len(expected))) == expected
        for number in range(6, 9):
            await put(connected, server, NUMBER, float(number))
        await subscription.collect_until(lambda came: bool(came) and content(came[-1][1]) == 8.0)
        assert await subscription.is_quiet()

    run_with_subscription(server, work)


def test_modified_filter_and_interval_hold_from_then_on_without_a_second_first_value(server):
    async def work(connected, subscription):
        await put(connected, server, LEVEL, 0.0)
        item = await subscription.item(LEVEL, queue=20)
        assert await subscription.contents(1) == [0.0]
        assert (
            await subscription.modify(item, handle=9, queue=20, chosen=change_filter(1, 1, 5.0))
        ).StatusCode.is_good()
        assert await subscription.is_quiet()
        for value in (3.0, 6.0):
            await put(connected, server, LEVEL, value)
        assert [(handle, content(value)) for handle, value in await subscription.collect(1)] == [(9, 6.0)]
        changed = await subscription.modify(item, queue=20, sampling_ms=60_000.0)
        assert changed.RevisedSamplingInterval == 60_000.0
        await put(connected, server, LEVEL, 40.0)
        assert await subscription.is_quiet()
        changed = await subscription.modify(item, queue=20)
        assert changed.RevisedSamplingInterval == 0.0
        await put(connected, server, LEVEL, 41.0)
        came = await subscription.collect_until(lambda came: bool(came) and content(came[-1][1]) == 41.0)
        assert [content(value) for _, value in came] in ([41.0], [40.0, 41.0])

    run_with_subscription(server, work)


def test_bad_value_is_told_once_however_often_its_item_is_modified(server):
    async def work(connected, subscription):
        await put(connected, server, LEVEL, 5.0)
        await put(connected, server, LEVEL, None, BAD_NO_COMMUNICATION)
        item = await subscription.item(LEVEL)
        ((_, value),) = await subscription.collect(1)
        assert (content(value), code(value)) == (None, BAD_NO_COMMUNICATION)
        for sampling_ms in (60_000.0, 0.0, 250.0, math.nan):
            assert (await subscription.modify(item, sampling_ms=sampling_ms)).StatusCode.is_good()
            assert await subscription.is_quiet()

    run_with_subscription(server, work)
