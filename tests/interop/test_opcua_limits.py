"""Each limit of the OPC UA server, reached by a real client: what is beyond it is answered, and everybody else is served on.

Also that what is promised costs no more than `bifrost.opcua.memory` adds up.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil

import pytest

from bifrost.opcua import memory
from tests.interop.opcua_bench import (
    Follower,
    add_users,
    client,
    compiled_only,
    face,
    make_certificate,
    node,
    run,
    secure_client,
    until,
)

from asyncua import Client, ua  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.uaerrors import UaError, UaStatusCodeError  # isort: skip  # likewise

pytestmark = [pytest.mark.interop, compiled_only]

BAD_TOO_MANY_OPERATIONS = 0x80100000
BAD_TOO_MANY_SESSIONS = 0x80560000
BAD_TOO_MANY_SUBSCRIPTIONS = 0x80770000
BAD_TOO_MANY_MONITORED_ITEMS = 0x80DB0000
BAD_TIMEOUT = 0x800A0000
BAD_OUT_OF_MEMORY = 0x80030000
LEVEL = "plant.level"


@pytest.fixture
def serve(tmp_path):
    """Starts a face with the limits given."""
    add_users(tmp_path)
    with contextlib.ExitStack() as stack:

        def start(extra=0, **limits):
            options = [f"--limit=opcua_{name}={value}" for name, value in limits.items()]
            process = stack.enter_context(face(tmp_path, "--stack", "open62541", f"--extra={extra}", *options))
            process.put(LEVEL, 21.5)
            return process

        yield start


async def refused_with(work):
    """Awaits `work` and gives the StatusCode that it fails with."""
    with pytest.raises(UaStatusCodeError) as error:
        await work
    return error.value.code


async def is_told(server, limit):
    """Waits until the face has reported that limit."""
    await until(
        lambda: ["limit_reached", limit] in [[name, one.get("limit")] for name, _, one in server.obey(reports=True)]
    )


async def enter(opened):
    async with opened:
        pass


def test_one_session_too_many_is_refused_and_the_others_go_on(serve):
    server = serve(sessions_max=3, connections_max=10)

    async def work():
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(client(server.url)) for _ in range(3)]
            assert await refused_with(enter(client(server.url))) == BAD_TOO_MANY_SESSIONS
            for connected in clients:
                assert await node(connected, LEVEL).read_value() == 21.5
            await is_told(server, "opcua_sessions_max")
        async with client(server.url) as connected:
            assert await node(connected, LEVEL).read_value() == 21.5

    run(work())


def test_session_that_nobody_logs_in_to_lives_for_the_time_of_a_login(serve):
    """Requests that need no login do not lengthen it; a login does."""
    server = serve(login_timeout_ms=500)

    async def work():
        stranger = Client(server.url)
        await stranger.connect_socket()
        await stranger.send_hello()
        await stranger.open_secure_channel()
        await stranger.create_session()
        async with client(server.url) as connected:
            while server.obey(counters=True)["sessions"] > 1:
                with contextlib.suppress(UaStatusCodeError):  # its time is over, and it is not yet closed
                    await stranger.get_endpoints()
                await asyncio.sleep(0.1)
            assert await node(connected, LEVEL).read_value() == 21.5
        stranger.disconnect_socket()

    run(work())


def test_strangers_with_a_session_on_every_connection_keep_nobody_out(serve):
    server = serve(sessions_max=4, connections_max=4)

    async def work():
        strangers = [Client(server.url) for _ in range(6)]
        for stranger in strangers:
            await stranger.connect_socket()
            await stranger.send_hello()
            await stranger.open_secure_channel()
            await stranger.create_session()
        async with client(server.url) as connected:
            assert await node(connected, LEVEL).read_value() == 21.5
        for stranger in strangers:
            stranger.disconnect_socket()

    run(work())


def test_half_open_connections_do_not_keep_clients_out(serve):
    server = serve(sessions_max=2, connections_max=8)
    host, port = server.url.removeprefix("opc.tcp://").split(":")

    async def work():
        async with client(server.url) as first:
            idle = [await asyncio.open_connection(host, int(port)) for _ in range(30)]
            assert await node(first, LEVEL).read_value() == 21.5
            async with client(server.url) as second:
                assert await node(second, LEVEL).read_value() == 21.5
            assert server.obey(counters=True)["connections"] <= 8
            for _, writer in idle:
                writer.close()

    run(work())


def test_subscriptions_of_a_session_and_of_all(serve):
    server = serve(subscriptions_max=3, subscriptions_per_session_max=2)

    async def work():
        async with client(server.url) as one, client(server.url) as other:
            for _ in range(2):
                await one.create_subscription(100, Follower())
            assert await refused_with(one.create_subscription(100, Follower())) == BAD_TOO_MANY_SUBSCRIPTIONS
            await other.create_subscription(100, Follower())
            assert await refused_with(other.create_subscription(100, Follower())) == BAD_TOO_MANY_SUBSCRIPTIONS
            await is_told(server, "opcua_subscriptions_max")
            assert await node(other, LEVEL).read_value() == 21.5

    run(work())


def test_monitored_items_beyond_the_limit_are_refused_one_by_one(serve):
    server = serve(extra=20, monitored_items_max=10)

    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            subscription = await connected.create_subscription(50, follower)
            nodes = [node(connected, f"plant.many.n{index}") for index in range(20)]
            results = await subscription.subscribe_data_change(nodes)
            made = [one for one in results if isinstance(one, int)]
            codes = {one.value for one in results if not isinstance(one, int)}
            assert len(made) == 10
            assert codes == {BAD_TOO_MANY_MONITORED_ITEMS}
            await subscription.unsubscribe(made[:1])
            assert isinstance(await subscription.subscribe_data_change(node(connected, LEVEL)), int)

    run(work())


def test_queues_are_revised_by_their_own_limit_and_by_the_sum(serve):
    server = serve(extra=10, queue_size_max=50, monitored_items_max=20, notifications_max=120)

    async def work():
        async with client(server.url) as connected:
            subscription = await connected.create_subscription(100, Follower())
            for index in range(10):
                await subscription.subscribe_data_change(node(connected, f"plant.many.n{index}"), queuesize=1_000)
                await until(lambda index=index: server.obey(counters=True)["monitored_items"] == index + 1)
                granted = server.obey(counters=True)["notifications_granted"]
                assert granted <= (50 if index == 0 else 120)

    run(work())


@pytest.mark.parametrize(
    ("limit", "name"),
    [("nodes_per_read_max", "read"), ("nodes_per_write_max", "write"), ("nodes_per_browse_max", "browse")],
)
def test_request_for_too_many_nodes_is_refused_whole(serve, limit, name):
    server = serve(extra=20, **{limit: 10})

    async def work():
        async with client(server.url) as connected:
            nodes = [node(connected, f"plant.many.n{index}") for index in range(20)]
            requests = {
                "read": lambda some: connected.read_attributes(some),
                "write": lambda some: connected.write_values(
                    some, [ua.Variant(1.0)] * len(some), raise_on_partial_error=False
                ),
                "browse": lambda some: connected.browse_nodes(some),
            }
            assert await refused_with(requests[name](nodes)) == BAD_TOO_MANY_OPERATIONS
            assert len(await requests[name](nodes[:10])) == 10

    run(work())


def test_longest_publishing_and_session_times_are_revised(serve):
    server = serve(publishing_interval_min_ms=50, lifetime_count_max=30, session_timeout_max_ms=60_000)

    async def work():
        async with client(server.url) as connected:
            parameters = ua.CreateSubscriptionParameters(RequestedPublishingInterval=1, RequestedLifetimeCount=10_000)
            answer = await connected.uaclient.create_subscription(parameters, lambda *_: None)
            assert answer.RevisedPublishingInterval == 50
            assert answer.RevisedLifetimeCount == 30
            assert connected.session_timeout <= 60_000

    run(work())


def test_write_that_the_device_does_not_answer_ends_at_the_limit(serve):
    server = serve(write_timeout_ms=500)
    server.obey(writes={"delay_s": 3})

    async def work():
        async with client(server.url) as connected:
            write = node(connected, LEVEL).write_value(1.0, ua.VariantType.Double)
            assert await refused_with(write) == BAD_TIMEOUT
            await until(lambda: "write_abandoned" in [name for name, _, _ in server.obey(reports=True)])

    run(work())


def test_writes_beyond_those_that_may_wait_are_refused_at_once(serve):
    server = serve(writes_parked_max=3)
    server.obey(writes={"delay_s": 2})

    async def work():
        async with client(server.url, timeout_s=20) as connected:
            point = node(connected, LEVEL)
            writes = [point.write_value(float(number), ua.VariantType.Double) for number in range(6)]
            results = await asyncio.gather(*writes, return_exceptions=True)
            codes = [one.code for one in results if isinstance(one, UaStatusCodeError)]
            assert codes == [BAD_TOO_MANY_OPERATIONS] * 3
            assert results.count(None) == 3
            await is_told(server, "opcua_writes_parked_max")

    run(work())


def test_text_too_long_for_its_limit_is_refused(serve):
    server = serve(array_bytes_max=64)

    async def work():
        async with client(server.url) as connected:
            write = node(connected, "plant.types.stringx32").write_value("x" * 200, ua.VariantType.String)
            assert await refused_with(write) == 0x803C0000

    run(work())


def test_failed_logins_are_counted_and_then_refused_without_a_look(serve):
    server = serve(login_failures_per_minute_max=3)

    async def work():
        for _ in range(3):
            assert await refused_with(enter(client(server.url, "operator", "wrong password"))) == 0x801F0000
        assert await refused_with(enter(client(server.url, "operator"))) == 0x801F0000
        async with client(server.url, None) as connected:
            assert await node(connected, LEVEL).read_value() == 21.5
        await is_told(server, "opcua_login_failures_per_minute_max")

    run(work())


def test_rejected_certificates_are_kept_up_to_the_limit_the_newest(serve, tmp_path):
    server = serve(rejected_certificates_max=2)
    made = [make_certificate(tmp_path, f"stranger-{number}") for number in range(4)]

    async def work():
        for certificate in made:
            with contextlib.suppress(UaError, ConnectionError, TimeoutError, OSError):
                await enter(
                    secure_client(server.url, "Basic256Sha256", ua.MessageSecurityMode.SignAndEncrypt, certificate)
                )
            await asyncio.sleep(0.02)
        rejected = [path.read_bytes() for path in (tmp_path / "pki" / "rejected").iterdir()]
        assert len(rejected) <= 2
        assert made[-1][0].read_bytes() in rejected

    run(work())


def test_memory_at_its_end_refuses_items_and_serves_on(serve):
    """More items with longer queues than the sum allows: new ones are refused, reads and new clients go on."""
    server = serve(extra=2_000, monitored_items_max=1_000_000, notifications_max=100_000_000, queue_size_max=100_000)

    async def work():
        limit = await asyncio.to_thread(server.obey, limit_memory=12 << 20)
        assert limit is None
        async with client(server.url, timeout_s=30) as connected:
            codes = set()
            for _ in range(10):
                subscription = await connected.create_subscription(10_000, Follower())
                nodes = [node(connected, f"plant.many.n{index}") for index in range(2_000)]
                results = await subscription.subscribe_data_change(nodes, queuesize=100)
                codes |= {one.value for one in results if not isinstance(one, int)}
            assert codes == {BAD_OUT_OF_MEMORY}
            assert await node(connected, LEVEL).read_value() == 21.5
            async with client(server.url) as other:
                assert await node(other, LEVEL).read_value() == 21.5
            await is_told(server, "memory")

    run(work())


def test_what_is_promised_costs_no_more_than_is_added_up(serve, tmp_path):
    server = serve(extra=1_000)
    certificate = make_certificate(tmp_path)
    shutil.copy(certificate[0], tmp_path / "pki" / "trusted")

    def held():
        return server.obey(counters=True)["memory_bytes"]

    async def work():
        base = held()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(
                    secure_client(server.url, "Basic256Sha256", ua.MessageSecurityMode.SignAndEncrypt, certificate)
                )
            session_bytes = (held() - base) / 8
            assert session_bytes <= memory._CONNECTION_BYTES + memory._SESSION_BYTES
        async with client(server.url) as connected:
            before = held()
            subscription = await connected.create_subscription(100, Follower())
            await asyncio.sleep(0.5)
            assert held() - before <= memory._SUBSCRIPTION_BYTES
            before = held()
            nodes = [node(connected, f"plant.many.n{index}") for index in range(1_000)]
            await subscription.subscribe_data_change(nodes)
            await asyncio.sleep(0.5)
            assert (held() - before) / 1_000 <= memory._ITEM_BYTES
        await until(lambda: server.obey(counters=True)["sessions"] == 0)
        assert held() - base < 64 << 10

    run(work())
