"""Subscriptions that change hands or come to their end, that have many clients, or are asked after, with foreign clients.

A lost network is a reset TCP connection; what was sent is known because the test alone publishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from tests.interop.opcua_bench import Follower, client, compiled_face, compiled_only, node, run, until
from tests.interop.opcua_raw import (
    SAMPLING,
    SUBSCRIPTION_LIMITS,
    Subscription,
    call,
    content,
    count_up,
    numbers,
    put,
    refusal,
    reset,
    set_publishing,
    status_change,
)

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

NUMBER = "plant.types.float64"
LEVEL = "plant.level"
BAD_NO_SUBSCRIPTION = 0x80790000
BAD_SUBSCRIPTION_ID = 0x80280000
BAD_TIMEOUT = 0x800A0000
GOOD_TRANSFERRED = 0x002D0000
BAD_USER_ACCESS = 0x801F0000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with compiled_face(tmp_path_factory.mktemp("transfer"), 50, SUBSCRIPTION_LIMITS) as process:
        yield process


# ---- transfer


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("way", ["alive", "reset", "closed"])
def test_subscription_is_transferred_with_all_that_is_queued_once_and_in_order(server, way, initial):
    """The client that made it is there, lost its network, or closed its session and left the subscription."""

    async def work():
        async with client(server.url, None) as heir, contextlib.AsyncExitStack() as stack:
            await put(heir, server, NUMBER, 0.0)
            await put(heir, server, LEVEL, 7.0)
            connected = await stack.enter_async_context(client(server.url, None))
            subscription = await Subscription.create(connected, most=10)
            await subscription.item(NUMBER, queue=100)
            await subscription.item(LEVEL, queue=100)
            await subscription.item("plant.types.int16", mode=SAMPLING)
            await subscription.collect(2)
            held = list(subscription.unacknowledged)
            told = (
                asyncio.create_task(call(connected, "Publish", SubscriptionAcknowledgements=[]))
                if way == "alive"
                else None
            )
            if way == "reset":
                reset(connected)
            elif way == "closed":
                await call(connected, "CloseSession", DeleteSubscriptions=False)
            if told is not None:
                await set_publishing(connected, False, subscription.id)
            await count_up(heir, server, NUMBER, 1, 25)
            answer = await call(
                heir, "TransferSubscriptions", SubscriptionIds=[subscription.id, 999_999], SendInitialValues=initial
            )
            assert [one.StatusCode.value for one in answer.Results] == [0, BAD_SUBSCRIPTION_ID]
            assert answer.Results[0].AvailableSequenceNumbers == held
            if told is not None:
                while status_change(last := await told) is None:  # a keep-alive may have been first
                    told = asyncio.create_task(call(connected, "Publish", SubscriptionAcknowledgements=[]))
                assert (last.SubscriptionId, status_change(last)) == (subscription.id, GOOD_TRANSFERRED)
            subscription.connected = heir
            await set_publishing(heir, True, subscription.id)
            came = await subscription.collect(26 if initial else 25)
            assert [content(value) for handle, value in came if handle == 1] == numbers(1, 25)
            assert [content(value) for handle, value in came if handle == 2] == ([7.0] if initial else [])
            assert await subscription.is_quiet()
            await put(heir, server, LEVEL, 8.0)
            assert [content(value) for _, value in await subscription.collect(1)] == [8.0]

    run(work())


def test_transferred_subscription_holds_one_place_only(server):
    """Whose original has no session left to tell; over and over, beyond the limit of subscriptions."""

    async def work():
        async with client(server.url, None) as heir, client(server.url, None) as other:
            await put(heir, server, NUMBER, 0.0)
            for _ in range(SUBSCRIPTION_LIMITS["subscriptions_max"] + 5):
                async with client(server.url, None) as connected:
                    subscription = await Subscription.create(connected, life=10_000)
                    await subscription.item(NUMBER)
                    await call(connected, "CloseSession", DeleteSubscriptions=False)
                answer = await call(
                    heir, "TransferSubscriptions", SubscriptionIds=[subscription.id], SendInitialValues=False
                )
                assert answer.Results[0].StatusCode.is_good()
                subscription.connected = heir
                assert await subscription.contents(1) == [0.0]
                await subscription.delete()
            await (await Subscription.create(other)).delete()

    run(work())


def test_subscription_of_another_user_is_not_handed_over(server):
    async def work():
        async with client(server.url, "operator") as connected, client(server.url, "reader") as thief:
            subscription = await Subscription.create(connected)
            await subscription.item(NUMBER)
            answer = await call(
                thief, "TransferSubscriptions", SubscriptionIds=[subscription.id], SendInitialValues=True
            )
            assert answer.Results[0].StatusCode.value == BAD_USER_ACCESS
            await subscription.collect(1)

    run(work())


# ---- the end of a life


async def method(connected, which, argument):
    """Status and results of a method of the Server object that takes one argument."""
    asked = ua.CallMethodRequest(ua.NodeId(ua.ObjectIds.Server), ua.NodeId(which), [argument])
    result = (await call(connected, "Call", MethodsToCall=[asked])).Results[0]
    return result.StatusCode.value, [one.Value for one in result.OutputArguments or []]


async def is_over(connected, subscription):
    """Waits for the end of a subscription, by the one request about it that does not prolong its life."""
    number = ua.Variant(subscription.id, ua.VariantType.UInt32)
    while (await method(connected, ua.ObjectIds.Server_GetMonitoredItems, number))[0] != BAD_SUBSCRIPTION_ID:
        await asyncio.sleep(0.01)


def test_end_of_a_life_is_told_with_the_next_publish(server):
    """To the session that neglected it; the other subscription of that session goes on."""

    async def work():
        async with client(server.url, None) as connected:
            lasting = await Subscription.create(connected, 20.0, keep_alive=100)
            await lasting.item(NUMBER)
            short = [await Subscription.create(connected, 10.0, life=3) for _ in range(2)]
            for one in short:
                await one.item(NUMBER)
            for one in short:
                await is_over(connected, one)
            ends = [await lasting.publish() for _ in short]
            assert sorted(one.SubscriptionId for one in ends) == sorted(one.id for one in short)
            assert [status_change(one) for one in ends] == [BAD_TIMEOUT] * 2
            lasting.unacknowledged.clear()
            assert len(await lasting.collect(1)) == 1
            assert await refusal(short[0].item(NUMBER)) == BAD_SUBSCRIPTION_ID

    run(work())


def test_end_of_the_only_subscription_is_told_before_there_is_none(server):
    async def work():
        async with client(server.url, None) as connected:
            subscription = await Subscription.create(connected, 10.0, life=3)
            await is_over(connected, subscription)
            known = [ua.SubscriptionAcknowledgement(subscription.id, 1)]
            answer = await call(connected, "Publish", SubscriptionAcknowledgements=known)
            assert (answer.SubscriptionId, status_change(answer)) == (subscription.id, BAD_TIMEOUT)
            assert [one.value for one in answer.Results] == [BAD_SUBSCRIPTION_ID]
            assert await refusal(subscription.publish()) == BAD_NO_SUBSCRIPTION

    run(work())


# ---- many clients


def test_twenty_clients_get_every_change_of_the_same_tags_once_in_order(server):
    names = [f"plant.many.n{index}" for index in range(10)]
    rounds = 100

    async def work():
        async with contextlib.AsyncExitStack() as stack:
            server.obey(put={name: [0.0, 0, 0] for name in names})
            followers = []
            for number in range(20):
                connected = await stack.enter_async_context(client(server.url, None))
                follower = Follower()
                followers.append(follower)
                subscription = await connected.create_subscription([1, 10, 50, 200][number % 4], follower)
                await subscription.subscribe_data_change(
                    [node(connected, name) for name in names], queuesize=200, sampling_interval=0
                )
            await until(lambda: all(len(follower.values) == len(names) for follower in followers))
            for number in range(1, rounds + 1):
                await asyncio.to_thread(server.obey, put={name: [float(number), 0, 0] for name in names})
            for follower, name in itertools.product(followers, names):
                came = follower.values[name]
                await until(lambda came=came: came[-1].Value.Value == rounds)
                assert [one.Value.Value for one in came] == numbers(0, rounds)

    run(work(), 120)


def test_methods_of_the_server_object_know_the_items_that_are_told_by_exception(server):
    """GetMonitoredItems and ResendData: OPC 10000-5, 9.1 and 9.2."""

    async def work():
        async with client(server.url, None) as connected, client(server.url, None) as other:
            await put(connected, server, NUMBER, 5.0)
            await put(connected, server, LEVEL, 6.0)
            subscription = await Subscription.create(connected)
            items = [
                await subscription.item(NUMBER),
                await subscription.item(LEVEL),
                await subscription.item(LEVEL, mode=SAMPLING),
            ]
            await subscription.collect(2)
            number = ua.Variant(subscription.id, ua.VariantType.UInt32)
            status, (server_handles, client_handles) = await method(
                connected, ua.ObjectIds.Server_GetMonitoredItems, number
            )
            assert status == 0
            assert dict(zip(client_handles, server_handles, strict=True)) == {
                place + 1: item.MonitoredItemId for place, item in enumerate(items)
            }
            await put(connected, server, NUMBER, 7.0)
            await subscription.collect(1)
            assert await method(connected, ua.ObjectIds.Server_ResendData, number) == (0, [])
            came = await subscription.collect(2)
            assert sorted((handle, content(value)) for handle, value in came) == [(1, 7.0), (2, 6.0)]
            assert await subscription.is_quiet()
            for which in (ua.ObjectIds.Server_GetMonitoredItems, ua.ObjectIds.Server_ResendData):
                assert (await method(other, which, number))[0] == BAD_USER_ACCESS
                unknown = ua.Variant(999_999, ua.VariantType.UInt32)
                assert (await method(connected, which, unknown))[0] == BAD_SUBSCRIPTION_ID
                text = ua.Variant("text", ua.VariantType.String)
                assert (await method(connected, which, text))[0] & 0x80000000

    run(work())
