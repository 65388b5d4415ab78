"""Tags that come and go while clients are connected, without a restart of the server."""

from __future__ import annotations

import asyncio

import pytest

from tests.interop.opcua_bench import Follower, add_users, client, compiled_only, face, node, run, until

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

BAD_NODE_ID_UNKNOWN = 0x80340000


class EventFollower(Follower):
    """Collects events too."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[object] = []

    def event_notification(self, event):
        self.events.append(event)


@pytest.fixture
def server(tmp_path):
    add_users(tmp_path)
    with face(tmp_path, "--stack", "open62541", "--extra", "10") as process:
        process.obey(put={name: [1.0, 0, 0] for name in ("plant.locked", "plant.level", "plant.many.n0")})
        yield process


async def status_of(connected, name):
    answer = await node(connected, name).read_attribute(ua.AttributeIds.Value, raise_on_bad_status=False)
    return answer.StatusCode.value


async def names_below(connected, name):
    return {str(child.nodeid.Identifier) for child in await node(connected, name).get_children()}


def test_vanished_tag_is_unknown_and_others_go_on(server):
    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            subscription = await connected.create_subscription(50, follower)
            await subscription.subscribe_data_change(
                [node(connected, name) for name in ("plant.locked", "plant.level")]
            )
            await until(lambda: len(follower.values) == 2)
            server.obey(hide=["plant.locked"])
            await until(lambda: follower.values["plant.locked"][-1].StatusCode.value == BAD_NODE_ID_UNKNOWN)
            assert await status_of(connected, "plant.locked") == BAD_NODE_ID_UNKNOWN
            assert "plant.locked" not in await names_below(connected, "plant")
            server.put("plant.level", 2.0)
            await until(lambda: follower.values["plant.level"][-1].Value.Value == 2.0)
            assert len(follower.values["plant.level"]) == 2  # nothing was told twice

    run(work())


def test_item_whose_tag_comes_back_goes_on_with_a_fresh_value(server):
    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            subscription = await connected.create_subscription(50, follower)
            watched = [node(connected, name) for name in ("plant.locked", "plant.level")]
            await subscription.subscribe_data_change(watched, queuesize=10)
            await until(lambda: len(follower.values) == 2)
            for _ in range(2):
                server.obey(hide=["plant.locked"])
                server.obey(hide=["plant.locked", "plant.many.n0"])  # another reload while it is away
                server.put("plant.locked", 7.0, 0, 1_700_000_000_000_000_000)
                server.obey(hide=["plant.many.n0"])
                await until(lambda: last(follower) == (0, 7.0))
                assert follower.values["plant.locked"][-1].SourceTimestamp.year == 2023
                server.put("plant.locked", 8.0)
                await until(lambda: last(follower) == (0, 8.0))
            found = [(status(one), one.Value.Value) for one in follower.values["plant.locked"]]
            assert found == [(0, 1.0)] + [(BAD_NODE_ID_UNKNOWN, None), (0, 7.0), (0, 8.0)] * 2
            assert server.obey(counters=True)["items_pushed"] == 2

    run(work())


def status(value):
    return 0 if value.StatusCode is None else value.StatusCode.value


def last(follower):
    """Status and value that came last of the tag that comes and goes."""
    value = follower.values["plant.locked"][-1]
    return status(value), value.Value.Value


def test_item_that_is_enabled_while_its_tag_is_away_lives_when_it_is_back(server):
    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            subscription = await connected.create_subscription(50, follower)
            await subscription.subscribe_data_change(node(connected, "plant.locked"))
            await until(lambda: bool(follower.values))
            server.obey(hide=["plant.locked"])
            await until(lambda: last(follower) == (BAD_NODE_ID_UNKNOWN, None))
            for mode in (ua.MonitoringMode.Disabled, ua.MonitoringMode.Reporting):
                (result,) = await subscription.set_monitoring_mode(mode)
                assert result.is_good()
            server.obey(hide=[])
            server.put("plant.locked", 9.0)
            await until(lambda: last(follower) == (0, 9.0))

    run(work())


def test_tag_that_comes_is_there_for_connected_clients(server):
    async def work():
        server.obey(hide=["plant.locked"])
        async with client(server.url) as connected:
            assert await status_of(connected, "plant.locked") == BAD_NODE_ID_UNKNOWN
            server.obey(hide=[])
            assert await status_of(connected, "plant.locked") == 0
            assert "plant.locked" in await names_below(connected, "plant")

    run(work())


def test_clients_that_ask_for_it_are_told(server):
    async def work():
        async with client(server.url) as connected:
            follower = EventFollower()
            subscription = await connected.create_subscription(50, follower)
            await subscription.subscribe_events(
                connected.nodes.server, ua.NodeId(ua.ObjectIds.GeneralModelChangeEventType)
            )
            server.obey(hide=["plant.locked"])
            await until(lambda: bool(follower.events))

    run(work())


def test_many_replacements_hold_no_more_memory(server):
    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            subscription = await connected.create_subscription(50, follower)
            await subscription.subscribe_data_change(node(connected, "plant.level"))
            await until(lambda: bool(follower.values))
            server.obey(hide=[])
            held = server.obey(counters=True)["memory_bytes"]
            for number in range(100):
                server.obey(hide=[f"plant.many.n{number % 10}"])
            server.obey(hide=[])
            await asyncio.sleep(0.3)
            assert server.obey(counters=True)["memory_bytes"] - held < 16 << 10
            server.put("plant.level", 5.0)
            await until(lambda: follower.values["plant.level"][-1].Value.Value == 5.0)

    run(work())
