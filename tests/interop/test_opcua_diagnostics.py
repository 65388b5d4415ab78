"""ServerDiagnostics of the standard: what it says is true, and it costs nothing while nobody asks.

The library would keep nodes for each session; ours are the arrays, made when they are read (OPC 10000-5, 6.3.3).
"""

from __future__ import annotations

import contextlib

import pytest

from tests.interop.opcua_bench import Follower, client, compiled_face, compiled_only, node, run, until

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

IDS = ua.ObjectIds
SESSION_BYTES_MAX = 40_000  # 3,000, and what a connection holds while it sends; the library's nodes: 60,000.


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with compiled_face(tmp_path_factory.mktemp("diagnostics"), 10) as process:
        yield process


def test_summary_and_arrays_tell_of_sessions_and_subscriptions(server):
    async def work():
        async with client(server.url, "reader"), client(server.url) as connected:
            subscription = await connected.create_subscription(100, Follower())
            await subscription.subscribe_data_change(node(connected, "plant.level"))

            async def read(number):
                return await connected.get_node(ua.NodeId(number)).read_value()

            assert await read(IDS.Server_ServerDiagnostics_EnabledFlag) is True
            summary = await read(IDS.Server_ServerDiagnostics_ServerDiagnosticsSummary)
            assert (summary.CurrentSessionCount, summary.CurrentSubscriptionCount) == (2, 1)
            assert await read(IDS.Server_ServerDiagnostics_ServerDiagnosticsSummary_CurrentSessionCount) == 2
            sessions = await read(IDS.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray)
            assert sorted(one.CurrentSubscriptionsCount for one in sessions) == [0, 1]
            (mine,) = (one for one in sessions if one.CurrentSubscriptionsCount)
            assert mine.ReadCount.TotalCount >= 3
            (own,) = await read(IDS.Server_ServerDiagnostics_SubscriptionDiagnosticsArray)
            assert (own.SubscriptionId, own.SessionId) == (subscription.subscription_id, mine.SessionId)
            assert own.MonitoredItemCount == 1

    run(work())


@pytest.mark.parametrize("user", [None, "reader"])
def test_who_else_is_connected_is_for_the_role_to_write(server, user):
    """A read and a monitored item get the status and no value; the counts stay for everybody. OPC 10000-5, 6.3.4 and 6.3.5."""
    summary = IDS.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray
    security = IDS.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionSecurityDiagnosticsArray

    async def work():
        async with client(server.url, user) as stranger, client(server.url) as operator:
            for number in (summary, security):
                hidden = stranger.get_node(ua.NodeId(number))
                with pytest.raises(ua.UaStatusCodeError) as error:
                    await hidden.read_value()
                assert error.value.code == ua.StatusCodes.BadUserAccessDenied
                for connected, expected in ((stranger, 0), (operator, 1)):
                    asked = connected.get_node(ua.NodeId(number)).read_attribute(ua.AttributeIds.UserAccessLevel)
                    assert (await asked).Value.Value == expected
                follower = Follower()
                subscription = await stranger.create_subscription(100, follower)
                await subscription.subscribe_data_change(hidden)
                await until(lambda came=follower.values: bool(came))
                (first,) = follower.values[str(number)]
                assert first.StatusCode.value == ua.StatusCodes.BadUserAccessDenied
                assert first.Value is None or first.Value.Value is None
            assert len(await operator.get_node(ua.NodeId(summary)).read_value()) == 2
            count = IDS.Server_ServerDiagnostics_ServerDiagnosticsSummary_CurrentSessionCount
            assert await stranger.get_node(ua.NodeId(count)).read_value() == 2

    run(work())


def test_session_costs_little_and_leaves_nothing(server):
    def held():
        return server.obey(counters=True)["memory_bytes"]

    async def work():
        async with client(server.url) as connected:
            summary = connected.get_node(ua.NodeId(IDS.Server_ServerDiagnostics_SessionsDiagnosticsSummary))
            before = held()
            children = len(await summary.get_children())
            async with contextlib.AsyncExitStack() as others:
                for _ in range(5):
                    await others.enter_async_context(client(server.url))
                assert len(await summary.get_children()) == children
                await until(lambda: held() - before < 5 * SESSION_BYTES_MAX)
            await until(lambda: held() - before < SESSION_BYTES_MAX)

    run(work())
