"""Limits of the OPC UA face are reached with everything else going on, also by clients that mean no good, and nobody else notices.

While a limit is reached a *witness*, another client, follows twenty tags that change fifty times a second, and must get every value of
each, in order. What each limit answers, alone, is in `test_opcua_limits`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.interop.opcua_bench import Follower, add_users, client, compiled_only, node, run, until
from tests.interop.opcua_stress import (
    begin_channel,
    begin_message,
    chunk,
    connect,
    counted,
    cut,
    get_endpoints,
    hello,
    inside,
    receive,
    stressed,
    told,
)

from asyncua import Client, ua  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.uaerrors import UaError, UaStatusCodeError  # isort: skip  # likewise

pytestmark = [pytest.mark.interop, compiled_only]

BAD_TOO_MANY_OPERATIONS = 0x80100000
BAD_USER_ACCESS_DENIED = 0x801F0000
BAD_NOT_WRITABLE = 0x803B0000
BAD_NO_CONTINUATION_POINTS = 0x804B0000
BAD_TOO_MANY_SESSIONS = 0x80560000
BAD_TOO_MANY_SUBSCRIPTIONS = 0x80770000
BAD_TOO_MANY_PUBLISH_REQUESTS = 0x80780000
BAD_TCP_MESSAGE_TOO_LARGE = 0x80800000
BAD_TOO_MANY_MONITORED_ITEMS = 0x80DB0000

LIMITS = {
    "ring_changes_count": 1 << 17,  # five seconds: a busy machine that gives the server no time is no abuse
    "opcua_connections_max": 64,
    "opcua_sessions_max": 6,
    "opcua_subscriptions_max": 10,
    "opcua_subscriptions_per_session_max": 4,
    "opcua_monitored_items_max": 400,
    "opcua_queue_size_max": 1_000,
    "opcua_notifications_max": 40_000,
    "opcua_publish_requests_per_session_max": 10,
    "opcua_message_bytes_max": 1 << 20,
    "opcua_nodes_per_read_max": 100,
    "opcua_nodes_per_write_max": 20,
    "opcua_nodes_per_browse_max": 20,
    "opcua_nodes_per_translate_max": 20,
    "opcua_nodes_per_register_max": 20,
    "opcua_items_per_call_max": 100,
    "opcua_references_per_node_max": 100,
    "opcua_browse_continuations_max": 3,
    "opcua_writes_parked_max": 8,
}
WATCHED = [f"plant.many.n{index}" for index in range(20)]
ROUND_S = 0.02
QUEUE = 1_000
RESERVE_BYTES = 8 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("abuse")
    add_users(directory)
    options = [option for name, value in LIMITS.items() for option in ("--limit", f"{name}={value}")]
    with stressed(directory, "--extra", "500", *options) as process:
        process.obey(flood=1, period_s=ROUND_S)
        process.obey(flood=1_000_000, period_s=ROUND_S, wait=False)
        yield process


@contextlib.asynccontextmanager
async def witness(server) -> AsyncIterator[Any]:
    """A client beside; it must get each value of each tag it watches, up to half a second after the abuse."""
    async with client(server.url, "reader") as connected:
        follower = Follower()
        subscription = await connected.create_subscription(100, follower)
        await subscription.subscribe_data_change([node(connected, name) for name in WATCHED], queuesize=QUEUE)
        await until(lambda: len(follower.values) == len(WATCHED))
        yield connected
        count = len(follower.times_s)
        await until(lambda: len(follower.times_s) > count + 25 * len(WATCHED))
        for name in WATCHED:
            values = follower.values[name]
            assert {0 if one.StatusCode is None else one.StatusCode.value for one in values} == {0}
            numbers = [one.Value.Value for one in values]
            assert numbers == [numbers[0] + step for step in range(len(numbers))], name


@contextlib.contextmanager
def refused(status: int):
    with pytest.raises(UaStatusCodeError) as error:
        yield
    assert error.value.code == status, hex(error.value.code)


async def until_alone(server):
    await until(lambda: counted(server)["sessions"] == 0)
    counters = counted(server)
    assert (counters["subscriptions"], counters["monitored_items"], counters["notifications_granted"]) == (0, 0, 0)


# ---- connections and sessions


@pytest.mark.parametrize("manner", ["silent", "half a hello", "hello", "channel"])
def test_half_open_connections_keep_nobody_out(server, manner):
    """1,000 in all; those beyond the limit are closed, the oldest first."""

    async def work():
        opened: list[socket.socket] = []
        async with witness(server):
            for number in range(250):
                opened.append(half_open(server.url, manner))
                if number % 50 == 49:
                    async with client(server.url) as connected:
                        assert await node(connected, WATCHED[0]).read_value() > 0
                    await asyncio.sleep(0)
            assert counted(server)["connections"] <= LIMITS["opcua_connections_max"]
        for raw in opened:
            raw.close()
        await until(lambda: counted(server)["connections"] == 0)

    run(work())


def half_open(url: str, manner: str) -> socket.socket:
    if manner == "channel":
        return begin_channel(url)[0]
    raw = connect(url)
    if manner != "silent":
        greeting = hello(url)
        raw.sendall(greeting if manner == "hello" else greeting[:20])
    return raw


def test_session_beyond_the_limit_is_refused_and_let_in_when_one_has_gone(server):
    async def work():
        async with witness(server), contextlib.AsyncExitStack() as held:
            for _ in range(LIMITS["opcua_sessions_max"] - 2):
                await held.enter_async_context(client(server.url))
            async with client(server.url):  # the last one there is room for
                with refused(BAD_TOO_MANY_SESSIONS):
                    await held.enter_async_context(client(server.url))
            async with client(server.url) as connected:
                assert await node(connected, WATCHED[0]).read_value() > 0
        await until_alone(server)

    run(work())


def test_sessions_never_activated_keep_nobody_out(server):
    """OPC 10000-4, 5.6.2: the oldest of them is closed before the maximum is reached."""

    async def work():
        held = []
        async with witness(server):
            try:
                held.extend([await stranger(server.url) for _ in range(LIMITS["opcua_sessions_max"] + 5)])
                async with client(server.url) as connected:
                    assert await node(connected, WATCHED[0]).read_value() > 0
            finally:
                for one in held:
                    with contextlib.suppress(UaError, ConnectionError):
                        await one.close_session()
                    one.disconnect_socket()
        await until_alone(server)

    run(work())


async def stranger(url: str) -> Client:
    """Asks for a session, and never says who it is."""
    made = Client(url)
    await made.connect_socket()
    await made.send_hello()
    await made.open_secure_channel()
    with contextlib.suppress(UaStatusCodeError):
        await made.create_session()
    return made


# ---- subscriptions and items


def test_subscriptions_beyond_the_limits_are_refused(server):
    async def work():
        async with witness(server), contextlib.AsyncExitStack() as held:
            left = LIMITS["opcua_subscriptions_max"] - 1
            while left > 0:
                connected = await held.enter_async_context(client(server.url))
                for _ in range(min(left, LIMITS["opcua_subscriptions_per_session_max"])):
                    await connected.create_subscription(100, Follower())
                    left -= 1
                with refused(BAD_TOO_MANY_SUBSCRIPTIONS):
                    await connected.create_subscription(100, Follower())
        await until_alone(server)

    run(work())


def test_items_and_queues_beyond_the_limits_are_refused_and_revised(server):
    async def work():
        async with witness(server), client(server.url) as connected:
            subscription = await connected.create_subscription(60_000, Follower())
            with refused(BAD_TOO_MANY_OPERATIONS):
                await make_items(connected, subscription, LIMITS["opcua_items_per_call_max"] + 1, 1)
            results = []
            for _ in range(4):
                results += await make_items(connected, subscription, LIMITS["opcua_items_per_call_max"], 1_000)
            free = LIMITS["opcua_monitored_items_max"] - len(WATCHED)
            assert [one.StatusCode.value for one in results] == [0] * free + [BAD_TOO_MANY_MONITORED_ITEMS] * len(
                WATCHED
            )
            queues = [one.RevisedQueueSize for one in results[:free]]
            assert (min(queues), max(queues)) == (1, LIMITS["opcua_queue_size_max"])
            granted = sum(queues) + len(WATCHED) * QUEUE
            assert granted == counted(server)["notifications_granted"] <= LIMITS["opcua_notifications_max"]
            await subscription.delete()
        await until_alone(server)

    run(work())


async def make_items(connected, subscription, count, queue) -> list[Any]:
    items = [
        ua.MonitoredItemCreateRequest(
            ua.ReadValueId(ua.NodeId(f"plant.many.n{index}", 2), ua.AttributeIds.Value),
            ua.MonitoringMode.Reporting,
            ua.MonitoringParameters(index + 1, 0.0, None, queue, True),
        )
        for index in range(count)
    ]
    request = ua.CreateMonitoredItemsParameters(subscription.subscription_id, ua.TimestampsToReturn.Both, items)
    found: list[Any] = await connected.uaclient.create_monitored_items(request)
    return found


def test_publish_requests_beyond_the_limit_are_answered_the_oldest_first(server):
    async def work():
        async with witness(server), client(server.url) as connected:
            most = LIMITS["opcua_publish_requests_per_session_max"]
            await connected.create_subscription(60_000, Follower())
            waiting = [asyncio.create_task(publish(connected)) for _ in range(3 * most)]
            done, pending = await asyncio.wait(waiting, timeout=1.5)
            assert (
                BAD_TOO_MANY_PUBLISH_REQUESTS in {task.result() for task in done} <= {BAD_TOO_MANY_PUBLISH_REQUESTS, 0}
            )
            assert len(pending) <= most
            assert all(task.done() for task in waiting[:most])
            for task in pending:
                task.cancel()
            await asyncio.wait(waiting)

    run(work())


async def publish(connected) -> int:
    try:
        await connected.uaclient.publish([])
    except UaStatusCodeError as error:
        return int(error.code)
    return 0


# ---- requests


def test_failed_logins_stop_nobody(server):
    """More than are allowed: the passwords are not looked at any more, but for those that were right before."""

    async def work():
        async with client(server.url):  # this password was right
            pass
        async with witness(server):
            for _ in range(30):
                with refused(BAD_USER_ACCESS_DENIED):
                    async with client(server.url, "operator", "wrong"):
                        pass
            assert ["limit_reached", "opcua_login_failures_per_minute_max"] in told(server)
            async with client(server.url) as connected:
                assert await node(connected, WATCHED[0]).read_value() > 0

    run(work())


@pytest.mark.parametrize("service", ["read", "write", "browse", "translate", "register"])
def test_request_with_too_many_operations_is_refused(server, service):
    async def work():
        async with witness(server), client(server.url) as connected:
            most = LIMITS[f"opcua_nodes_per_{service}_max"]
            await ask(connected, service, most)
            with refused(BAD_TOO_MANY_OPERATIONS):
                await ask(connected, service, most + 1)
            await ask(connected, service, most)

    run(work())


async def ask(connected, service, count) -> None:
    nodes = [node(connected, f"plant.many.n{index}") for index in range(count)]
    ids = [one.nodeid for one in nodes]
    if service == "read":
        await connected.read_attributes(nodes)
    elif service == "write":
        await connected.uaclient.write_attributes(ids, [ua.DataValue(1.0)] * count)
    elif service == "register":
        await connected.register_nodes(nodes)
    elif service == "translate":
        element = ua.RelativePathElement(ua.NodeId(33), False, True, ua.QualifiedName("Bifrost", 2))
        path = ua.BrowsePath(ua.NodeId(ua.ObjectIds.ObjectsFolder), ua.RelativePath([element]))
        await connected.uaclient.translate_browsepaths_to_nodeids([path] * count)
    else:
        description = ua.BrowseDescription(ids[0], ua.BrowseDirection.Both, ua.NodeId(33), True, 0, 63)
        await connected.uaclient.browse(ua.BrowseParameters(ua.ViewDescription(), 0, [description] * count))


def test_continuation_points_of_a_session_are_counted(server):
    async def work():
        async with witness(server), client(server.url) as connected:
            most = LIMITS["opcua_browse_continuations_max"]
            many = ua.BrowseDescription(
                ua.NodeId("plant.many", 2), ua.BrowseDirection.Forward, ua.NodeId(33), True, 0, 63
            )
            found = await connected.uaclient.browse(ua.BrowseParameters(ua.ViewDescription(), 0, [many] * (most + 2)))
            assert [one.StatusCode.value for one in found] == [0] * most + [BAD_NO_CONTINUATION_POINTS] * 2
            assert {len(one.References) for one in found[:most]} == {LIMITS["opcua_references_per_node_max"]}
            points = [one.ContinuationPoint for one in found[:most]]
            await connected.uaclient.browse_next(ua.BrowseNextParameters(True, points))  # gives them back
            (again,) = await connected.uaclient.browse(ua.BrowseParameters(ua.ViewDescription(), 0, [many]))
            assert again.StatusCode.is_good()

    run(work())


@pytest.mark.parametrize(("chunks", "size"), [(20, 65_000), (200, 1)], ids=["bytes", "chunks"])
def test_message_that_is_too_large_closes_its_connection_only(server, chunks, size):
    async def work():
        async with witness(server):
            raw, channel = begin_channel(server.url)
            with raw, contextlib.suppress(ConnectionError):
                for number in range(chunks):
                    raw.sendall(chunk(channel, 2 + number, b"\0" * size, b"C"))
                answer = receive(raw)
                assert answer[:3] == b"ERR"
                assert int.from_bytes(answer[8:12], "little") == BAD_TCP_MESSAGE_TOO_LARGE

    run(work())


def test_unfinished_messages_take_nothing_from_promised_clients(server):
    """Clients that never logged in begin as large messages as they may, on many connections, and never end them."""

    async def work():
        async with witness(server):
            opened = [begin_channel(server.url) for _ in range(40)]
            for raw, channel in opened:
                with contextlib.suppress(ConnectionError):
                    for number in range(15):
                        raw.sendall(chunk(channel, 2 + number, b"\0" * 65_000, b"C"))
                await asyncio.sleep(0)
            await asyncio.sleep(1.0)  # until all of it was taken in
            memory = counted(server)
            for raw, _ in opened:
                raw.close()
            assert memory["refused_count"] == 0
            assert memory["live_bytes"] + RESERVE_BYTES < memory["limit_bytes"], "queues act as full from here on"

    run(work())


def test_unfinished_messages_of_clients_that_logged_in_share_one_budget(server):
    """They begin more than it holds; a client beside sends a message that is larger than a connection's own part."""

    async def work():
        async with witness(server):
            abusers = [await inside(server.url) for _ in range(3)]
            for abuser in abusers:
                begin_message(abuser, 900_000)
            await until(lambda: ["limit_reached", "opcua_buffered_bytes_max"] in told(server))
            async with client(server.url) as connected:
                text = ua.DataValue(ua.Variant("x" * 100_000, ua.VariantType.String))
                watched = [node(connected, name) for name in WATCHED]
                answers = await connected.uaclient.write_attributes([watched[0].nodeid], [text])
                assert [one.value for one in answers] == [BAD_NOT_WRITABLE]
                assert min(one.Value.Value for one in await connected.read_attributes(watched)) > 0
            memory = counted(server)
            for abuser in abusers:
                await cut(abuser)
            assert memory["refused_count"] == 0
            assert memory["live_bytes"] + RESERVE_BYTES < memory["limit_bytes"]

    run(work())


# ---- clients that do not read


def test_client_that_stops_reading_stops_nobody_and_gets_all_of_it_later(server):
    """It asks for 18 MB, more than the kernel keeps, and is not served further than its answers fit into the budget."""

    async def work():
        patient = Client(server.url, timeout=90, watchdog_intervall=90)  # else it gives up by itself
        async with witness(server), patient as connected:
            transport = connected.uaclient.protocol.transport
            transport.pause_reading()
            asked = [asyncio.create_task(look_around(connected)) for _ in range(300)]
            async with client(server.url) as other:
                for _ in range(50):
                    assert await node(other, WATCHED[0]).read_value() > 0
                    await asyncio.sleep(0.02)
            memory = counted(server)
            assert not any(task.done() for task in asked)
            transport.resume_reading()
            assert [await task for task in asked] == [20] * len(asked)
            assert memory["refused_count"] == 0
            assert memory["live_bytes"] + RESERVE_BYTES < memory["limit_bytes"]

    run(work())


async def look_around(connected: Client) -> int:
    """Asks for some 60 kB."""
    description = ua.BrowseDescription(
        ua.NodeId("plant.types", 2), ua.BrowseDirection.Forward, ua.NodeId(33), True, 0, 63
    )
    found = await connected.uaclient.browse(ua.BrowseParameters(ua.ViewDescription(), 0, [description] * 20))
    return len(found)


def test_strangers_that_do_not_read_hold_next_to_nothing(server):
    async def work():
        async with witness(server):
            opened = []
            for _ in range(10):
                raw, channel = begin_channel(server.url)
                opened.append(raw)
                raw.settimeout(0.5)
                question = get_endpoints(server.url)
                with contextlib.suppress(OSError):
                    for number in range(4_000):
                        raw.sendall(chunk(channel, 2 + number, question))
                await asyncio.sleep(0)
            memory = counted(server)
            for raw in opened:
                raw.close()
            assert memory["refused_count"] == 0
            assert memory["live_bytes"] + RESERVE_BYTES < memory["limit_bytes"]

    run(work())


# ---- writes


def test_writes_beyond_those_that_may_wait_are_refused_and_the_others_get_the_device_s_answer(server):
    async def work():
        server.obey(writes={"delay_s": 1.0})
        async with witness(server), client(server.url) as connected:
            most = LIMITS["opcua_writes_parked_max"]
            async with asyncio.TaskGroup() as group:
                written = [group.create_task(write(connected, float(number))) for number in range(most + 3)]
            assert sorted(task.result() for task in written) == [0] * most + [BAD_TOO_MANY_OPERATIONS] * 3
            assert counted(server)["writes_parked"] == 0

    try:
        run(work())
    finally:
        server.obey(writes={})


async def write(connected, value: float) -> int:
    try:
        await node(connected, "plant.level").write_value(value, ua.VariantType.Double)
    except UaStatusCodeError as error:
        return int(error.code)
    return 0
