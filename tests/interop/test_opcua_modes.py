"""Monitored items: modes, triggering, and what can be watched at all, asked for by a foreign client.

Only the compiled stack has these services whole. Each change is put when the one before was told (`opcua_raw.put`), so that what is
to come is exact; that nothing more comes, a keep-alive says.
"""

from __future__ import annotations

import itertools
import math

import pytest

from tests.interop.opcua_bench import compiled_face, compiled_only
from tests.interop.opcua_raw import (
    DISABLED,
    REPORTING,
    SAMPLING,
    call,
    code,
    content,
    put,
    read,
    run_with_subscription,
    values,
    wanted,
)

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

LEVEL = "plant.level"
NUMBER = "plant.types.float64"
INT16 = "plant.types.int16"
ARRAY = "plant.types.int16x4"
TEXT = "plant.types.stringx32"
BAD_ATTRIBUTE = 0x80350000
BAD_ITEM_ID = 0x80420000
BAD_NODE_UNKNOWN = 0x80340000
BAD_NOTHING_TO_DO = 0x800F0000
BAD_RANGE_INVALID = 0x80360000
BAD_RANGE_NO_DATA = 0x80370000
BAD_SUBSCRIPTION_ID = 0x80280000
Times = ua.TimestampsToReturn


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with compiled_face(tmp_path_factory.mktemp("modes"), 100) as process:
        yield process


# ---- modes


def test_disabled_tells_nothing_sampling_queues_and_reporting_begins_with_the_current_value(server):
    async def work(connected, subscription):
        await put(connected, server, NUMBER, 0.0)
        item = await subscription.item(NUMBER, mode=DISABLED)
        await put(connected, server, NUMBER, 1.0)
        assert await subscription.is_quiet()
        assert await subscription.set_mode(SAMPLING, item) == [0]
        for number in (2.0, 3.0):
            await put(connected, server, NUMBER, number)
        assert await subscription.is_quiet()
        assert await subscription.set_mode(REPORTING, item) == [0]
        assert await subscription.contents(3) == [1.0, 2.0, 3.0]
        assert await subscription.set_mode(DISABLED, item) == [0]
        await put(connected, server, NUMBER, 4.0)
        assert await subscription.is_quiet()
        assert await subscription.set_mode(REPORTING, item) == [0]
        assert await subscription.contents(1) == [4.0]
        assert await subscription.set_mode(DISABLED, item) == [0]
        assert await subscription.set_mode(REPORTING, item) == [0]
        assert await subscription.contents(1) == [4.0]  # the same value again: it is the first one of a new start
        await put(connected, server, NUMBER, 5.0)
        assert await subscription.contents(1) == [5.0]

    run_with_subscription(server, work)


def test_disabled_item_stays_so_while_its_subscription_and_parameters_are_modified(server):
    """At creation it has a sampling interval that is the publishing interval, which the subscription then changes."""

    async def work(connected, subscription):
        await put(connected, server, NUMBER, 0.0)
        item = await subscription.item(NUMBER, mode=DISABLED, sampling_ms=200.0)
        assert (await subscription.modify(item, sampling_ms=150.0)).StatusCode.is_good()
        for interval in (150.0, 20.0):
            await call(connected, "ModifySubscription", SubscriptionId=subscription.id, RequestedPublishingInterval=interval,
                       RequestedLifetimeCount=3_000, RequestedMaxKeepAliveCount=1)  # fmt: skip
        for number in (1.0, 2.0):
            await put(connected, server, NUMBER, number)
        assert await subscription.is_quiet()
        assert await subscription.set_mode(REPORTING, item) == [0]
        assert await subscription.contents(1) == [2.0]

    run_with_subscription(server, work)


def test_mode_of_an_unknown_item_is_refused(server):
    async def work(connected, subscription):
        item = await subscription.item(NUMBER)
        item.MonitoredItemId += 1_000
        assert await subscription.set_mode(SAMPLING, item) == [BAD_ITEM_ID]

    run_with_subscription(server, work)


# ---- triggering


async def link(subscription, trigger, *, add=(), remove=()):
    answer = await call(
        subscription.connected, "SetTriggering", SubscriptionId=subscription.id, TriggeringItemId=trigger.MonitoredItemId,
        LinksToAdd=[one.MonitoredItemId for one in add], LinksToRemove=[one.MonitoredItemId for one in remove],
    )  # fmt: skip
    return [one.value for one in answer.AddResults or []], [one.value for one in answer.RemoveResults or []]


@pytest.mark.parametrize("trigger_mode", [REPORTING, SAMPLING])
def test_triggered_item_is_reported_when_its_trigger_is(server, trigger_mode):
    async def work(connected, subscription):
        await put(connected, server, LEVEL, 0.0)
        await put(connected, server, NUMBER, 0.0)
        trigger = await subscription.item(LEVEL, mode=trigger_mode)
        followed = await subscription.item(NUMBER, mode=SAMPLING)
        if trigger_mode == REPORTING:
            await subscription.collect(1)
        assert await link(subscription, trigger, add=[followed]) == ([0], [])
        for number in (1.0, 2.0):
            await put(connected, server, NUMBER, number)
        assert await subscription.is_quiet()
        await put(connected, server, LEVEL, 1.0)
        came = await subscription.collect_until(
            lambda came: (2, 2.0) in [(handle, content(value)) for handle, value in came]
        )
        told = [content(value) for handle, value in came if handle == 1]
        assert told == ([1.0] if trigger_mode == REPORTING else [])
        assert await subscription.is_quiet()
        assert await link(subscription, trigger, remove=[followed]) == ([], [0])
        await put(connected, server, NUMBER, 3.0)
        await put(connected, server, LEVEL, 2.0)
        if trigger_mode == REPORTING:
            assert await subscription.contents(1) == [2.0]
        assert await subscription.is_quiet()

    run_with_subscription(server, work)


def test_triggering_is_refused_with_what_is_wrong(server):
    async def work(connected, subscription):
        trigger, followed, gone = [await subscription.item(name) for name in (LEVEL, NUMBER, INT16)]
        await call(
            connected, "DeleteMonitoredItems", SubscriptionId=subscription.id, MonitoredItemIds=[gone.MonitoredItemId]
        )
        assert await link(subscription, trigger, add=[gone, followed], remove=[followed]) == (
            [BAD_ITEM_ID, 0],
            [BAD_ITEM_ID],
        )
        for fields, status in (
            ({"TriggeringItemId": gone.MonitoredItemId, "LinksToAdd": [followed.MonitoredItemId]}, BAD_ITEM_ID),
            ({"SubscriptionId": 999_999, "LinksToAdd": [followed.MonitoredItemId]}, BAD_SUBSCRIPTION_ID),
            ({}, BAD_NOTHING_TO_DO),
        ):
            asked = {"SubscriptionId": subscription.id, "TriggeringItemId": trigger.MonitoredItemId} | fields
            with pytest.raises(ua.UaStatusCodeError) as error:
                await call(connected, "SetTriggering", **asked)
            assert error.value.code == status

    run_with_subscription(server, work)


# ---- what can be watched


def test_index_range_of_an_array_tells_that_part(server):
    async def work(connected, subscription):
        await put(connected, server, ARRAY, [1, 2, 3, 4])
        assert (await subscription.item(wanted(ARRAY, index_range="1:2"))).StatusCode.is_good()
        await put(connected, server, ARRAY, [1, 20, 3, 4])
        await put(connected, server, ARRAY, [9, 20, 3, 9])  # nothing of that part
        await put(connected, server, ARRAY, [9, 20, 30, 9])
        assert await subscription.contents(3) == [[2, 3], [20, 3], [20, 30]]
        assert await subscription.is_quiet()

    run_with_subscription(server, work)


def test_index_range_of_a_text_tells_that_part(server):
    async def work(connected, subscription):
        await put(connected, server, TEXT, "abcdef")
        assert (await subscription.item(wanted(TEXT, index_range="1:2"))).StatusCode.is_good()
        await put(connected, server, TEXT, "xyzdef")
        assert await subscription.contents(2) == ["bc", "yz"]

    run_with_subscription(server, work)


def test_index_range_beyond_the_value_waits_and_one_that_is_none_is_refused(server):
    async def work(connected, subscription):
        await put(connected, server, TEXT, "ab")
        assert (await subscription.item(wanted(TEXT, index_range="4:5"))).StatusCode.is_good()
        ((_, value),) = await subscription.collect(1)
        assert (content(value), code(value)) == (None, BAD_RANGE_NO_DATA)
        await put(connected, server, TEXT, "abcdef")
        assert await subscription.contents(1) == ["ef"]
        for text in ("3:1", "a", "1:", "-1", "2:2"):
            assert (await subscription.item(wanted(ARRAY, index_range=text))).StatusCode.value == BAD_RANGE_INVALID, (
                text
            )

    run_with_subscription(server, work)


@pytest.mark.parametrize(
    "what",
    [
        wanted(LEVEL, attribute=ua.AttributeIds.DisplayName),
        wanted(LEVEL, attribute=ua.AttributeIds.DataType),
        wanted(LEVEL, attribute=ua.AttributeIds.NodeClass),
        wanted("plant", attribute=ua.AttributeIds.BrowseName),
        wanted(LEVEL + "#EURange"),
        wanted(LEVEL + "#EngineeringUnits"),
    ],
)
def test_what_never_changes_is_told_once(server, what):
    async def work(connected, subscription):
        item = await subscription.item(what)
        assert item.StatusCode.is_good()
        (expected,) = await read(connected, what)
        assert await subscription.contents(1) == [content(expected)]
        assert await subscription.is_quiet()
        assert await subscription.set_mode(DISABLED, item) == [0]
        assert await subscription.set_mode(REPORTING, item) == [0]
        assert await subscription.contents(1) == [content(expected)]
        await subscription.delete()

    run_with_subscription(server, work)


@pytest.mark.parametrize(
    ("what", "status"),
    [
        (wanted("plant.none"), BAD_NODE_UNKNOWN),
        (wanted(LEVEL, attribute=ua.AttributeIds.Executable), BAD_ATTRIBUTE),
        (wanted("plant", attribute=ua.AttributeIds.Value), BAD_ATTRIBUTE),
        (wanted(LEVEL, encoding=ua.QualifiedName("Default XML", 0)), 0x80390000),  # BadDataEncodingUnsupported
        (
            wanted(LEVEL, attribute=ua.AttributeIds.DisplayName, encoding=ua.QualifiedName("Default Binary", 0)),
            0x80380000,
        ),
    ],
)
def test_what_cannot_be_watched_is_refused(server, what, status):
    async def work(connected, subscription):
        assert (await subscription.item(what)).StatusCode.value == status

    run_with_subscription(server, work)


def test_diagnostics_row_is_told_by_exception(server):
    async def work(connected, subscription):
        item = await subscription.item("plant#Connected")
        assert (item.StatusCode.value, item.RevisedSamplingInterval) == (0, 0.0)
        await subscription.collect(1)

    run_with_subscription(server, work)


@pytest.mark.parametrize(("sampling_ms", "revised_ms"), [(200.0, 200.0), (10.0, 100.0), (math.nan, None), (0.0, None)])
def test_time_of_the_server_is_sampled(server, sampling_ms, revised_ms):
    """Its node says that 100 ms is the least."""

    async def work(connected, subscription):
        item = await subscription.item(ua.ObjectIds.Server_ServerStatus_CurrentTime, sampling_ms=sampling_ms, queue=100)
        assert item.StatusCode.is_good()
        assert revised_ms in (None, item.RevisedSamplingInterval)
        times = await subscription.contents(5)
        assert all(earlier < later for earlier, later in itertools.pairwise(times))
        changed = await subscription.modify(item, sampling_ms=math.nan)
        assert (changed.StatusCode.value, changed.RevisedSamplingInterval) == (0, 100.0)
        assert len(await subscription.contents(3)) >= 3

    run_with_subscription(server, work)


def test_many_items_at_a_time_end_with_their_own_results(server):
    async def work(connected, subscription):
        names = [f"plant.many.n{index}" for index in range(100)]
        server.obey(put={name: [float(index), 0, 0] for index, name in enumerate(names)})
        requests = [
            ua.MonitoredItemCreateRequest(wanted(name), REPORTING, ua.MonitoringParameters(index, 0.0, None, 2, True))
            for index, name in enumerate([*names, "plant.none"])
        ]
        answer = await call(
            connected,
            "CreateMonitoredItems",
            SubscriptionId=subscription.id,
            TimestampsToReturn=Times.Both,
            ItemsToCreate=requests,
        )
        statuses = [one.StatusCode.value for one in answer.Results]
        assert statuses == [0] * 100 + [BAD_NODE_UNKNOWN]
        ids = [one.MonitoredItemId for one in answer.Results[:100]]
        await subscription.collect_until(lambda came: {handle for handle, _ in came} == set(range(100)))
        answer = await call(
            connected,
            "DeleteMonitoredItems",
            SubscriptionId=subscription.id,
            MonitoredItemIds=[ids[0], ids[0], *ids[1:]],
        )
        assert [one.value for one in answer.Results] == [0, BAD_ITEM_ID] + [0] * 99
        assert values(await subscription.publish()) == []

    run_with_subscription(server, work)
