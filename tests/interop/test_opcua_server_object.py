"""What the server does not offer, and what it says of itself, asked by a foreign client: it is true."""

from __future__ import annotations

import asyncio

import pytest

from tests.interop.opcua_bench import compiled_face, compiled_only
from tests.interop.opcua_raw import (
    LIMITS,
    browse,
    browse_of,
    call,
    code,
    content,
    node_id,
    read,
    refusal,
    run_with_client,
    targets,
    wanted,
)

from asyncua import Client, ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

LEVEL = "plant.level"
BAD_HISTORY_UNSUPPORTED = 0x80720000
BAD_METHOD = 0x80750000
BAD_NODE_UNKNOWN = 0x80340000
BAD_SERVICE_UNSUPPORTED = 0x800B0000
BAD_USER_ACCESS = 0x801F0000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with compiled_face(tmp_path_factory.mktemp("server"), 20, LIMITS) as process:
        yield process


# ---- what is not offered


def test_history_is_refused(server):
    async def work(connected):
        details = ua.ReadRawModifiedDetails()
        details.NumValuesPerNode = 10
        asked = [ua.HistoryReadValueId(node_id(name)) for name in (LEVEL, "plant")]
        history = call(connected, "HistoryRead", HistoryReadDetails=details, NodesToRead=asked)
        assert await refusal(history) == BAD_HISTORY_UNSUPPORTED
        change = ua.UpdateDataDetails()
        change.NodeId, change.PerformInsertReplace = node_id(LEVEL), ua.PerformUpdateType.Insert
        change.UpdateValues = [ua.DataValue(ua.Variant(1.0))]
        answer = await call(connected, "HistoryUpdate", HistoryUpdateDetails=[change])
        assert [one.StatusCode.value for one in answer.Results] == [BAD_HISTORY_UNSUPPORTED]
        (level,) = await read(connected, wanted(LEVEL, attribute=ua.AttributeIds.AccessLevel))
        assert content(level) & 0x04 == 0

    run_with_client(server, work)


def test_tags_have_no_methods(server):
    async def work(connected):
        asked = [
            ua.CallMethodRequest(node_id(one), node_id(other), [])
            for one, other in ((LEVEL, LEVEL), ("plant", LEVEL), ("none", "none"), ("plant", 11492))
        ]
        answer = await call(connected, "Call", MethodsToCall=asked)
        statuses = [one.StatusCode.value for one in answer.Results]
        assert set(statuses) <= {BAD_METHOD, BAD_NODE_UNKNOWN, 0x805F0000}, [hex(status) for status in statuses]

    run_with_client(server, work)


@pytest.mark.parametrize("user", [None, "operator"])
def test_nobody_changes_the_address_space(server, user):
    async def work(connected):
        added = ua.AddNodesItem()
        added.ParentNodeId, added.ReferenceTypeId = node_id("plant"), ua.NodeId(ua.ObjectIds.Organizes)
        added.RequestedNewNodeId, added.BrowseName = ua.NodeId("plant.new", 2), ua.QualifiedName("new", 2)
        added.NodeClass, added.TypeDefinition = ua.NodeClass.Object, ua.NodeId(ua.ObjectIds.FolderType)
        added.NodeAttributes = ua.ObjectAttributes()
        reference = ua.AddReferencesItem()
        reference.SourceNodeId, reference.TargetNodeId = node_id("plant"), ua.ExpandedNodeId("plant.types", 2)
        reference.ReferenceTypeId, reference.IsForward, reference.TargetNodeClass = (
            ua.NodeId(ua.ObjectIds.Organizes),
            True,
            ua.NodeClass.Object,
        )
        gone = ua.DeleteReferencesItem()
        gone.SourceNodeId, gone.TargetNodeId = node_id("plant"), ua.ExpandedNodeId(LEVEL, 2)
        gone.ReferenceTypeId, gone.IsForward, gone.DeleteBidirectional = ua.NodeId(ua.ObjectIds.Organizes), True, True
        for service, fields in (
            ("AddNodes", {"NodesToAdd": [added]}),
            ("DeleteNodes", {"NodesToDelete": [ua.DeleteNodesItem(node_id(LEVEL), True)]}),
            ("DeleteNodes", {"NodesToDelete": [ua.DeleteNodesItem(node_id(2258), True)]}),
            ("AddReferences", {"ReferencesToAdd": [reference]}),
            ("DeleteReferences", {"ReferencesToDelete": [gone]}),
        ):
            answer = await call(connected, service, **fields)
            (result,) = answer.Results
            assert getattr(result, "StatusCode", result).value == BAD_USER_ACCESS, service
        (level, _) = await read(connected, wanted(LEVEL, attribute=ua.AttributeIds.NodeClass), wanted(2258))
        assert code(level) == 0
        (children,) = await browse(connected, browse_of("plant", reference=ua.ObjectIds.Organizes))
        assert sorted(targets(children)) == sorted(
            {"plant.types", "plant.many", "plant._Diagnostics", LEVEL, "plant.locked", "plant.beat"}
        )

    run_with_client(server, work, user)


def test_queries_are_not_served(server):
    async def work(connected):
        assert await refusal(call(connected, "QueryFirst", NodeTypes=[])) == BAD_SERVICE_UNSUPPORTED

    run_with_client(server, work)


# ---- what the server says of itself


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_endpoints_and_servers_are_named_with_the_url_that_was_asked(server, host):
    """Whatever name the client knows the gateway by, it has to come through it again: OPC 10000-4, 5.4.4."""
    asked = f"opc.tcp://{host}:{server.url.rpartition(':')[2]}"

    async def work():
        found = Client(server.url)
        await found.connect_sessionless()
        try:
            endpoints = (await call(found, "GetEndpoints", EndpointUrl=asked)).Endpoints
            assert endpoints
            assert {one.EndpointUrl.rstrip("/") for one in endpoints} == {asked}
            assert {one.Server.ApplicationType for one in endpoints} == {ua.ApplicationType.Server}
            uri = endpoints[0].Server.ApplicationUri
            (described,) = (await call(found, "FindServers", EndpointUrl=asked)).Servers
            assert described.ApplicationUri == uri
            assert [one.rstrip("/") for one in described.DiscoveryUrls] == [asked]
            assert not (await call(found, "FindServers", EndpointUrl=asked, ServerUris=["urn:none"])).Servers
            udp = "http://opcfoundation.org/UA-Profile/Transport/https-uabinary"
            assert not (await call(found, "GetEndpoints", EndpointUrl=asked, ProfileUris=[udp])).Endpoints
        finally:
            await found.disconnect_sessionless()

    asyncio.run(asyncio.wait_for(work(), 40))


def test_server_object_tells_who_it_is(server):
    async def work(connected):
        ids = ua.ObjectIds
        asked = (ids.Server_NamespaceArray, ids.Server_ServerArray, ids.Server_ServiceLevel, ids.Server_ServerStatus)
        names, servers, level, status, auditing = await read(
            connected, *(wanted(int(one)) for one in (*asked, ids.Server_Auditing))
        )  # fmt: skip
        uri = (await connected.get_endpoints())[0].Server.ApplicationUri
        assert content(names) == ["http://opcfoundation.org/UA/", uri, "urn:bifrost:tags"]
        assert content(servers) == [uri]
        assert content(level) == 255
        assert content(auditing) is False
        told = content(status)
        assert told.State == ua.ServerState.Running
        build = told.BuildInfo
        assert (build.ProductName, build.ManufacturerName, build.ProductUri) == (
            "Bifrost",
            "Bifrost",
            "urn:bifrost:gateway",
        )
        assert (build.SoftwareVersion, build.BuildNumber) == ("0.0.test", "0.0.test")
        for place, expected in (
            (ids.Server_ServerStatus_BuildInfo_ProductName, "Bifrost"),
            (ids.Server_ServerStatus_BuildInfo_SoftwareVersion, "0.0.test"),
        ):
            (single,) = await read(connected, wanted(int(place)))
            assert content(single) == expected

    run_with_client(server, work)


def test_capabilities_are_the_configured_limits(server):
    start = "Server_ServerCapabilities_"
    expected = {
        "MaxSessions": LIMITS["sessions_max"],
        "MaxSubscriptions": LIMITS["subscriptions_max"],
        "MaxSubscriptionsPerSession": LIMITS["subscriptions_per_session_max"],
        "MaxMonitoredItems": LIMITS["monitored_items_max"],
        "MaxMonitoredItemsPerSubscription": LIMITS["monitored_items_max"],
        "MaxMonitoredItemsQueueSize": LIMITS["queue_size_max"],
        "MaxBrowseContinuationPoints": LIMITS["browse_continuations_max"],
        "MaxQueryContinuationPoints": 0,
        "MaxHistoryContinuationPoints": 0,
        "MinSupportedSampleRate": LIMITS["publishing_interval_min_ms"],
        "OperationLimits_MaxNodesPerRead": LIMITS["nodes_per_read_max"],
        "OperationLimits_MaxNodesPerWrite": LIMITS["nodes_per_write_max"],
        "OperationLimits_MaxNodesPerBrowse": LIMITS["nodes_per_browse_max"],
        "OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds": LIMITS["nodes_per_translate_max"],
        "OperationLimits_MaxNodesPerRegisterNodes": LIMITS["nodes_per_register_max"],
        "OperationLimits_MaxNodesPerMethodCall": LIMITS["nodes_per_method_call_max"],
        "OperationLimits_MaxMonitoredItemsPerCall": LIMITS["items_per_call_max"],
    }

    async def work(connected):
        answers = await read(connected, *(wanted(int(getattr(ua.ObjectIds, start + name))) for name in expected))
        assert {name: content(answer) for name, answer in zip(expected, answers, strict=True)} == expected
        capabilities = connected.get_node(ua.ObjectIds.Server_ServerCapabilities)
        shown = {(await one.read_browse_name()).Name for one in await capabilities.get_children()}
        assert {name for name in expected if not name.startswith("Operation")} <= shown
        # Neither more nor less: one beyond a limit is refused, as many as it says are served.
        assert (
            len(await read(connected, *[wanted(LEVEL)] * LIMITS["nodes_per_read_max"])) == LIMITS["nodes_per_read_max"]
        )
        assert await refusal(read(connected, *[wanted(LEVEL)] * (LIMITS["nodes_per_read_max"] + 1))) == 0x80100000

    run_with_client(server, work)


def test_methods_that_are_shown_are_served(server):
    """Of the Server object: each method that a client can see can be called, which is not so of those of the standard's own set."""

    async def work(connected):
        (answer,) = await browse(
            connected, browse_of(int(ua.ObjectIds.Server), reference=ua.ObjectIds.HasComponent, classes=4)
        )
        assert sorted(one.BrowseName.Name for one in answer.References) == ["GetMonitoredItems", "ResendData"]

    run_with_client(server, work)
