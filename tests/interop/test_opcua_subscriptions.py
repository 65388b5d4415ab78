"""Subscriptions that miss nothing, against a foreign client: every change once, in order, with its own time and status.

Only the compiled stack promises this; the other one copies values several times a second.
"""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest

from tests.interop.opcua_bench import Follower, add_users, client, compiled_only, face, node, run, until

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

OVERFLOW = 0x480  # InfoType DataValue, Overflow; OPC 10000-4, 7.39.1.
TAG = "plant.types.float64"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("subscriptions")
    add_users(directory)
    with face(directory, "--stack", "open62541", "--extra", "200", "--limit=opcua_notifications_max=20000") as process:
        yield process


async def follow(connected, follower, names, *, publishing_ms=100, queue=200, sampling_ms=0.0, deadband=None):
    subscription = await connected.create_subscription(publishing_ms, follower)
    nodes = [node(connected, name) for name in names]
    if deadband is not None:
        await subscription.deadband_monitor(nodes, deadband[1], deadband[0], queuesize=queue)
    else:
        await subscription.subscribe_data_change(nodes, queuesize=queue, sampling_interval=sampling_ms)
    return subscription


def is_marked(value):
    return value.StatusCode is not None and value.StatusCode.value & OVERFLOW == OVERFLOW


async def kept_up(attempt):
    """What `attempt` gives, which is lists of values, from the first time that the client kept up.

    The client shares the processors with other tests. If it asks for nothing until a queue is full, the server says so by the overflow bit,
    and it is tried again; a change that is missing without the bit is never excused.
    """
    for _ in range(4):
        lists = await attempt()
        if not any(is_marked(value) for values in lists for value in values):
            return lists
    pytest.fail("the client never kept up")


def test_change_every_millisecond_for_ten_seconds_arrives_once_in_order(server):
    count = 10_000
    start = datetime(1970, 1, 1, tzinfo=UTC)

    async def follow_ramp():
        nonlocal start
        async with client(server.url) as connected:
            server.put(TAG, 0.0)
            follower = Follower()
            await follow(connected, follower, [TAG])
            values = follower.values.setdefault(TAG, [])
            await until(lambda: bool(values) and values[-1].Value.Value == 0.0)  # what the item has to begin with
            values.clear()
            first_ns, _ = await asyncio.to_thread(server.obey, ramp=TAG, count=count, period_s=0.001)
            await until(lambda: bool(values) and values[-1].Value.Value == float(count))
            await asyncio.sleep(0.3)
            start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=first_ns // 1_000)
            return [values]

    async def work():
        (got,) = await kept_up(follow_ramp)
        assert [one.Value.Value for one in got] == [float(number + 1) for number in range(count)]
        assert all(one.StatusCode is None or one.StatusCode.value == 0 for one in got)
        for number, one in enumerate(got):
            expected = start + timedelta(milliseconds=number)
            assert abs(one.SourceTimestamp - expected) <= timedelta(microseconds=2), number

    run(work(), patience_s=120)


def test_short_queue_keeps_the_newest_and_sets_the_overflow_bit(server):
    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            await follow(connected, follower, [TAG], publishing_ms=500, queue=5)
            values = follower.values.setdefault(TAG, [])
            await until(lambda: len(values) == 1)
            await asyncio.to_thread(server.obey, ramp=TAG, count=20, period_s=0.001)
            await until(lambda: bool(values) and values[-1].Value.Value == 20.0)
            numbers = [one.Value.Value for one in values[1:]]
            assert numbers[-5:] == [16.0, 17.0, 18.0, 19.0, 20.0]
            flagged = [
                one for one in values[1:] if one.StatusCode is not None and one.StatusCode.value & OVERFLOW == OVERFLOW
            ]
            assert flagged
            assert len(numbers) < 20

    run(work())


def test_queue_of_one_has_the_newest_and_no_bit(server):
    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            await follow(connected, follower, [TAG], publishing_ms=500, queue=1)
            values = follower.values.setdefault(TAG, [])
            await until(lambda: len(values) == 1)
            await asyncio.to_thread(server.obey, ramp=TAG, count=20, period_s=0.001)
            await until(lambda: values[-1].Value.Value == 20.0)
            assert all(one.StatusCode is None or one.StatusCode.value == 0 for one in values)

    run(work())


def test_two_clients_with_different_intervals_both_get_every_change(server):
    async def work():
        async with client(server.url) as one, client(server.url, "reader") as other:
            followers = [Follower(), Follower()]
            await follow(one, followers[0], [TAG], publishing_ms=20)
            await follow(other, followers[1], [TAG], publishing_ms=300, queue=1_000)
            lists = [follower.values.setdefault(TAG, []) for follower in followers]
            await until(lambda: all(len(values) == 1 for values in lists))
            await asyncio.to_thread(server.obey, ramp=TAG, count=500, period_s=0.001)
            await until(lambda: all(len(values) >= 501 for values in lists))
            for values in lists:
                assert [value.Value.Value for value in values[1:]] == [float(number + 1) for number in range(500)]

    run(work())


def test_item_made_in_a_burst_never_sees_time_go_backward(server):
    async def follow_burst():
        async with client(server.url) as connected:
            server.put(TAG, 500.0)
            server.begin(ramp=TAG, count=1_500, period_s=0.001)
            followers = []
            for _ in range(10):
                follower = Follower()
                followers.append(follower)
                await follow(connected, follower, [TAG], publishing_ms=50, queue=1_000)
                await asyncio.sleep(0.05)
            await asyncio.to_thread(server.finish)
            for follower in followers:
                values = follower.values.setdefault(TAG, [])
                await until(lambda values=values: bool(values) and values[-1].Value.Value == 1_500.0)
            return [follower.values[TAG] for follower in followers]

    async def work():
        for values in await kept_up(follow_burst):
            numbers = [value.Value.Value for value in values]
            steps = [(earlier, later) for earlier, later in itertools.pairwise(numbers) if later != earlier + 1]
            assert steps in ([], [(500.0, 1.0)])  # what it had before the burst

    run(work(), patience_s=120)


@pytest.mark.parametrize(
    ("deadband", "expected"),
    [
        ((ua.DeadbandType.Absolute, 4.5), [5.0, 10.0, 15.0, 20.0]),
        ((ua.DeadbandType.Percent, 3.0), [5.0, 10.0, 15.0, 20.0]),
    ],
    ids=["absolute", "percent"],
)
def test_deadband_of_the_client_filters(server, deadband, expected):
    """Absolute, and in percent of the tag's EURange, which is 0 to 150."""

    async def work():
        async with client(server.url) as connected:
            server.put("plant.level", 0.0)
            follower = Follower()
            await follow(connected, follower, ["plant.level"], publishing_ms=50, deadband=deadband)
            values = follower.values.setdefault("plant.level", [])
            await until(lambda: len(values) == 1 and values[0].Value.Value == 0.0)
            await asyncio.to_thread(server.obey, ramp="plant.level", count=20, period_s=0.002)
            await until(lambda: values[-1].Value.Value == 20.0)
            assert [value.Value.Value for value in values[1:]] == expected

    run(work())


def test_texts_and_arrays_are_pushed_like_numbers(server):
    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            names = ["plant.types.stringx32", "plant.types.int16x4", "plant.types.boolx4"]
            await follow(connected, follower, names, publishing_ms=50)
            for name in names:
                follower.values.setdefault(name, [])
            await until(lambda: all(follower.values[name] for name in names))
            rows = {
                names[0]: [f"text {number}" for number in range(20)],
                names[1]: [[number, -number, 0, 1] for number in range(20)],
                names[2]: [[number % 2 == 0, True, False, True] for number in range(20)],
            }
            for number in range(20):
                server.obey(put={name: [rows[name][number], 0, 0] for name in names})
            for name in names:
                await until(lambda name=name: len(follower.values[name]) >= 21)
                assert [value.Value.Value for value in follower.values[name][1:]] == rows[name]

    run(work())


def test_quality_alone_is_a_change(server):
    async def work():
        async with client(server.url) as connected:
            server.put(TAG, 5.0)
            follower = Follower()
            await follow(connected, follower, [TAG], publishing_ms=20)
            values = follower.values.setdefault(TAG, [])
            await until(lambda: bool(values) and values[-1].Value.Value == 5.0)
            for status in (0x408F0000, 0x80310000, 0x408F0000):
                server.put(TAG, 5.0, status)
                await until(lambda status=status: values[-1].StatusCode.value == status)
            server.put(TAG, 5.0)
            await until(lambda: values[-1].StatusCode is None or values[-1].StatusCode.value == 0)

    run(work())


def test_many_items_all_get_their_first_value(server):
    names = [f"plant.many.n{index}" for index in range(200)]
    server.obey(put={name: [float(index), 0, 0] for index, name in enumerate(names)})

    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            await follow(connected, follower, names, publishing_ms=50, queue=10)
            await until(lambda: len(follower.values) == 200)
            for index, name in enumerate(names):
                assert follower.values[name][-1].Value.Value == float(index)

    run(work())


def test_slower_sampling_on_request_gets_fewer_values(server):
    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            await follow(connected, follower, [TAG], publishing_ms=50, queue=100, sampling_ms=500.0)
            values = follower.values.setdefault(TAG, [])
            await until(lambda: bool(values))
            await asyncio.to_thread(server.obey, ramp=TAG, count=2_000, period_s=0.001)
            await until(lambda: values[-1].Value.Value == 2_000.0)
            assert len(values) < 12

    run(work())


def test_flood_beyond_the_ring_ends_with_the_newest_values_marked_and_never_goes_backward(tmp_path):
    """A hundred tags change faster than they can be told, through a small ring; a client that watches another one sees none of it."""
    add_users(tmp_path)
    names = [f"plant.many.n{index}" for index in range(100)]
    ring = "--limit=ring_changes_count=2048"
    quiet = "plant.level"

    async def work(server):
        server.obey(put={name: [0.0, 0, 0] for name in [*names, quiet]})
        async with client(server.url) as flooded, client(server.url, "reader") as other:
            queued, single, bystander = Follower(), Follower(), Follower()
            await follow(flooded, queued, names, publishing_ms=50, queue=10)
            await follow(flooded, single, names[:5], publishing_ms=50, queue=1)
            await follow(other, bystander, [quiet], publishing_ms=20, queue=100)
            await until(lambda: len(queued.values) == 100 and len(single.values) == 5 and len(bystander.values) == 1)
            rounds = 1_000
            while server.obey(counters=True)["changes_missed"] < 10_000:
                rounds += 1_000  # so that the last value is a new one
                await asyncio.to_thread(server.obey, burst=names, rounds=rounds)
            for name in names:
                await until(lambda name=name: queued.values[name][-1].Value.Value == rounds)
            for name in names[:5]:
                await until(lambda name=name: single.values[name][-1].Value.Value == rounds)
                assert not any(is_marked(value) for value in single.values[name])
            for values in queued.values.values():
                stamps = [value.SourceTimestamp for value in values]
                assert stamps == sorted(stamps)
                assert any(is_marked(value) for value in values)
            server.put(quiet, 1.0)
            await until(lambda: bystander.values[quiet][-1].Value.Value == 1.0)
            assert [(value.Value.Value, is_marked(value)) for value in bystander.values[quiet]] == [
                (0.0, False),
                (1.0, False),
            ]
            server.put(names[0], 0.5)
            await until(lambda: queued.values[names[0]][-1].Value.Value == 0.5)
            assert not is_marked(queued.values[names[0]][-1])

    with face(
        tmp_path, "--stack", "open62541", "--extra", "100", "--limit=opcua_notifications_max=10000", ring
    ) as server:
        run(work(server))
