"""How a subscription publishes: modes, parts, acknowledgement and lost networks, with a foreign client.

A lost network is a reset TCP connection; what was sent is known because the test alone publishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from tests.interop.opcua_bench import client, compiled_face, compiled_only, run
from tests.interop.opcua_raw import (
    SUBSCRIPTION_LIMITS,
    Resumed,
    Subscription,
    call,
    content,
    count_up,
    modify,
    numbers,
    put,
    refusal,
    reset,
    set_publishing,
    values,
)

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

NUMBER = "plant.types.float64"
LEVEL = "plant.level"
RETRANSMISSIONS = SUBSCRIPTION_LIMITS["retransmissions_max"]
BAD_MESSAGE_NOT_AVAILABLE = 0x807B0000
BAD_NO_SUBSCRIPTION = 0x80790000
BAD_SEQUENCE_UNKNOWN = 0x807A0000
BAD_SUBSCRIPTION_ID = 0x80280000
BAD_TOO_MANY_PUBLISH = 0x80780000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with compiled_face(tmp_path_factory.mktemp("publishing"), 50, SUBSCRIPTION_LIMITS) as process:
        yield process


# ---- publishing


def test_disabled_publishing_keeps_what_comes_and_its_keep_alives_keep_their_pace(server):
    """With a keep-alive count of 1, requests are answered once an interval, not as fast as they come."""

    async def work():
        async with client(server.url, None) as connected:
            await put(connected, server, NUMBER, 0.0)
            subscription = await Subscription.create(connected, 200.0)
            await subscription.item(NUMBER)
            assert await subscription.contents(1) == [0.0]
            assert await set_publishing(connected, False, subscription.id, 999_999) == [0, BAD_SUBSCRIPTION_ID]
            await count_up(connected, server, NUMBER, 1, 3)
            times = []
            for _ in range(10):
                answer = await subscription.publish()
                assert not values(answer)
                assert not answer.MoreNotifications
                times.append(answer.NotificationMessage.PublishTime)
            assert (times[-1] - times[0]).total_seconds() > 9 * 0.2 / 2
            assert await set_publishing(connected, True, subscription.id) == [0]
            assert await subscription.contents(3) == numbers(1, 3)

    run(work())


def test_parts_of_many_notifications_come_in_order_and_say_that_there_are_more(server):
    async def work():
        async with client(server.url, None) as connected:
            await put(connected, server, NUMBER, 0.0)
            subscription = await Subscription.create(connected, most=4, enabled=False)
            await subscription.item(NUMBER, queue=100)
            await count_up(connected, server, NUMBER, 1, 9)
            await set_publishing(connected, True, subscription.id)
            answers = [await subscription.publish() for _ in range(3)]
            assert [[content(value) for _, value in values(answer)] for answer in answers] == [
                numbers(0, 3),
                numbers(4, 7),
                numbers(8, 9),
            ]
            assert [answer.MoreNotifications for answer in answers] == [True, True, False]
            sent = [answer.NotificationMessage.SequenceNumber for answer in answers]
            assert sent == list(range(sent[0], sent[0] + 3))
            assert await subscription.is_quiet()

    run(work())


def test_modified_subscription_answers_with_what_holds_then(server):
    async def work():
        async with client(server.url, None) as connected:
            await put(connected, server, NUMBER, 0.0)
            subscription = await Subscription.create(connected, 60_000.0, keep_alive=100)
            await subscription.item(NUMBER, queue=100)
            await count_up(connected, server, NUMBER, 1, 3)
            answer = await modify(subscription, publishing_ms=20.0, life=10, keep_alive=7, most=2)
            assert answer.RevisedPublishingInterval == 20.0
            assert (answer.RevisedLifetimeCount, answer.RevisedMaxKeepAliveCount) == (
                21,
                7,
            )  # three keep-alives at least
            assert [content(value) for _, value in values(await subscription.publish())] == numbers(0, 1)
            assert await subscription.contents(2) == numbers(2, 3)
            answer = await modify(subscription, publishing_ms=0.0, life=10**9, keep_alive=0, priority=9)
            assert answer.RevisedPublishingInterval == 1.0
            assert (answer.RevisedLifetimeCount, answer.RevisedMaxKeepAliveCount) == (10_000, 1)
            await count_up(connected, server, NUMBER, 4, 9)
            assert await subscription.contents(6) == numbers(4, 9)
            subscription.id += 1_000
            assert await refusal(modify(subscription)) == BAD_SUBSCRIPTION_ID

    run(work())


def test_keep_alive_comes_after_its_count_and_uses_up_no_number(server):
    async def work():
        async with client(server.url, None) as connected:
            subscription = await Subscription.create(connected, 20.0, keep_alive=5)
            first = await subscription.publish()  # the first one comes at once
            later = [await subscription.publish() for _ in range(3)]
            messages = [one.NotificationMessage for one in (first, *later)]
            assert [message.SequenceNumber for message in messages] == [1] * 4
            assert not any(message.NotificationData for message in messages)
            gaps = [
                (after.PublishTime - before.PublishTime).total_seconds()
                for before, after in itertools.pairwise(messages)
            ]
            assert min(gaps) > 0.06
            await subscription.item(LEVEL)
            assert (await subscription.publish()).NotificationMessage.SequenceNumber == 1

    run(work())


def test_publish_without_a_subscription_and_one_too_many_are_refused(server):
    async def work():
        async with client(server.url, None) as connected:
            assert await refusal(call(connected, "Publish", SubscriptionAcknowledgements=[])) == BAD_NO_SUBSCRIPTION
            subscription = await Subscription.create(connected, 60_000.0, keep_alive=100)
            requests = [asyncio.create_task(subscription.publish()) for _ in range(60)]
            refused = 0
            for request in asyncio.as_completed(requests[:9]):
                refused += await refusal(request) == BAD_TOO_MANY_PUBLISH
            assert refused == 9
            await subscription.delete()
            codes = [await refusal(request) for request in requests[10:]]
            assert set(codes) == {BAD_NO_SUBSCRIPTION}

    run(work())


# ---- acknowledgement


def test_unacknowledged_message_can_be_had_again_until_it_is_acknowledged(server):
    async def work():
        async with client(server.url, None) as connected:
            await put(connected, server, NUMBER, 0.0)
            subscription = await Subscription.create(connected)
            await subscription.item(NUMBER)
            sent = []
            for number in range(1, 4):
                sent.append(await subscription.publish(acknowledge=False))
                await put(connected, server, NUMBER, float(number))
            held = [one.NotificationMessage.SequenceNumber for one in sent]
            assert sent[-1].AvailableSequenceNumbers == held
            for one in sent:
                again = await call(connected, "Republish", SubscriptionId=subscription.id,
                                   RetransmitSequenceNumber=one.NotificationMessage.SequenceNumber)  # fmt: skip
                assert again.NotificationMessage == one.NotificationMessage
            known = [ua.SubscriptionAcknowledgement(subscription.id, number) for number in (held[1], held[1], 999)]
            known.append(ua.SubscriptionAcknowledgement(999_999, 1))
            answer = await call(connected, "Publish", SubscriptionAcknowledgements=known)
            results = [one.value for one in answer.Results]
            assert results == [0, BAD_SEQUENCE_UNKNOWN, BAD_SEQUENCE_UNKNOWN, BAD_SUBSCRIPTION_ID]
            assert answer.AvailableSequenceNumbers == [held[0], held[2], held[2] + 1]
            for number, status in ((held[1], BAD_MESSAGE_NOT_AVAILABLE), (999, BAD_MESSAGE_NOT_AVAILABLE)):
                asked = call(connected, "Republish", SubscriptionId=subscription.id, RetransmitSequenceNumber=number)
                assert await refusal(asked) == status
            asked = call(connected, "Republish", SubscriptionId=999_999, RetransmitSequenceNumber=1)
            assert await refusal(asked) == BAD_SUBSCRIPTION_ID

    run(work())


def test_full_retransmission_queue_drops_the_oldest(server):
    async def work():
        async with client(server.url, None) as connected:
            await put(connected, server, NUMBER, 0.0)
            subscription = await Subscription.create(connected)
            await subscription.item(NUMBER)
            for number in range(1, RETRANSMISSIONS + 11):
                answer = await subscription.publish(acknowledge=False)
                await put(connected, server, NUMBER, float(number))
            last = answer.NotificationMessage.SequenceNumber
            assert answer.AvailableSequenceNumbers == list(range(last - RETRANSMISSIONS + 1, last + 1))
            asked = call(
                connected, "Republish", SubscriptionId=subscription.id, RetransmitSequenceNumber=last - RETRANSMISSIONS
            )
            assert await refusal(asked) == BAD_MESSAGE_NOT_AVAILABLE

    run(work())


# ---- lost networks


def test_session_that_comes_back_gets_what_was_lost_and_all_that_came_meanwhile(server):
    async def work():
        async with client(server.url, None) as helper, contextlib.AsyncExitStack() as stack:
            await put(helper, server, NUMBER, 0.0)
            connected = await stack.enter_async_context(client(server.url, None))
            subscription = await Subscription.create(connected)
            await subscription.item(NUMBER, queue=100)
            assert await subscription.contents(1) == [0.0]
            await put(helper, server, NUMBER, 1.0)
            lost = await subscription.publish(acknowledge=False)  # let it be one that the client never saw
            reset(connected)
            await count_up(helper, server, NUMBER, 2, 30)
            resumed = await stack.enter_async_context(Resumed(server.url, connected))
            subscription.connected = resumed
            number = lost.NotificationMessage.SequenceNumber
            again = await call(resumed, "Republish", SubscriptionId=subscription.id, RetransmitSequenceNumber=number)
            assert [content(one.Value) for one in again.NotificationMessage.NotificationData[0].MonitoredItems] == [1.0]
            assert await subscription.contents(29) == numbers(2, 30)
            assert await subscription.is_quiet()

    run(work())
