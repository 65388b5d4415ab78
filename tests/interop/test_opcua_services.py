"""The services that look at the address space, one by one, asked by a foreign client: reading, writing, browsing.

What the standard lets a server refuse is refused with its status.
"""

from __future__ import annotations

from typing import Any

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
    put,
    read,
    refusal,
    run_with_client,
    targets,
    wanted,
)

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

LEVEL = "plant.level"
NUMBER = "plant.types.float64"
ARRAY = "plant.types.int16x4"
TEXT = "plant.types.stringx32"
BAD_ATTRIBUTE = 0x80350000
BAD_CONTINUATION = 0x804A0000
BAD_ENCODING_INVALID = 0x80380000
BAD_ENCODING_UNSUPPORTED = 0x80390000
BAD_NODE_UNKNOWN = 0x80340000
BAD_NO_CONTINUATION = 0x804B0000
BAD_NO_MATCH = 0x806F0000
BAD_NOT_WRITABLE = 0x803B0000
BAD_RANGE_INVALID = 0x80360000
BAD_RANGE_NO_DATA = 0x80370000
BAD_USER_ACCESS = 0x801F0000
BAD_WRITE_UNSUPPORTED = 0x80730000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with compiled_face(tmp_path_factory.mktemp("services"), 20, LIMITS) as process:
        yield process


# ---- reading


def test_index_range_cuts_arrays_and_targets(server):
    async def work(connected):
        await put(connected, server, ARRAY, [1, 2, 3, 4])
        await put(connected, server, TEXT, "abcdef")
        await put(connected, server, LEVEL, 5.0)
        for name, index_range, expected in (
            (ARRAY, "0", [1]), (ARRAY, "1:2", [2, 3]), (ARRAY, "2:9", [3, 4]), (ARRAY, "0:3", [1, 2, 3, 4]),
            (TEXT, "0:2", "abc"), (TEXT, "5:7", "f"),
        ):  # fmt: skip
            (answer,) = await read(connected, wanted(name, index_range=index_range))
            assert (content(answer), code(answer)) == (expected, 0), (name, index_range)
        for name, index_range, status in (
            (ARRAY, "4:5", BAD_RANGE_NO_DATA), (ARRAY, "0:1,0:1", BAD_RANGE_NO_DATA), (LEVEL, "0", BAD_RANGE_NO_DATA),
            (TEXT, "6:7", BAD_RANGE_NO_DATA), (LEVEL + "#EURange", "0", BAD_RANGE_NO_DATA), (ARRAY, "2:1", BAD_RANGE_INVALID),
            (ARRAY, "1:1", BAD_RANGE_INVALID), (ARRAY, "x", BAD_RANGE_INVALID),
            (ARRAY, "1:2:3", BAD_RANGE_INVALID), (ARRAY, "1,", BAD_RANGE_INVALID),
        ):  # fmt: skip
            (answer,) = await read(connected, wanted(name, index_range=index_range))
            assert (content(answer), code(answer)) == (None, status), (name, index_range)
        (answer,) = await read(connected, wanted(LEVEL, attribute=ua.AttributeIds.DisplayName, index_range="0"))
        assert code(answer) in (BAD_RANGE_NO_DATA, BAD_RANGE_INVALID)

    run_with_client(server, work)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (ua.TimestampsToReturn.Source, (True, False)),
        (ua.TimestampsToReturn.Server, (False, True)),
        (ua.TimestampsToReturn.Both, (True, True)),
        (ua.TimestampsToReturn.Neither, (False, False)),
    ],
)
def test_times_and_age_are_what_was_asked_for(server, times, expected):
    async def work(connected):
        await put(connected, server, LEVEL, 5.0)
        for max_age in (0.0, 1_000.0, 1e12):
            (answer,) = await read(connected, wanted(LEVEL), times=times, max_age=max_age)
            assert (answer.SourceTimestamp is not None, answer.ServerTimestamp is not None) == expected
        (answer,) = await read(connected, wanted(LEVEL, attribute=ua.AttributeIds.BrowseName), times=times)
        assert answer.SourceTimestamp is None  # OPC 10000-4, 5.11.2: of values only
        assert await refusal(read(connected, wanted(LEVEL), max_age=-1.0)) == 0x80700000  # BadMaxAgeInvalid
        assert await refusal(read(connected)) == 0x800F0000  # BadNothingToDo

    run_with_client(server, work)


def test_encoding_is_refused_where_none_can_be_chosen(server):
    async def work(connected):
        xml, binary = ua.QualifiedName("Default XML", 0), ua.QualifiedName("Default Binary", 0)
        for what, status in (
            (wanted(LEVEL, attribute=ua.AttributeIds.DisplayName, encoding=binary), BAD_ENCODING_INVALID),
            (wanted(LEVEL, attribute=ua.AttributeIds.NodeClass, encoding=xml), BAD_ENCODING_INVALID),
            (wanted(LEVEL, encoding=xml), BAD_ENCODING_UNSUPPORTED),
            (wanted(LEVEL, encoding=ua.QualifiedName("Modbus", 2)), BAD_ENCODING_INVALID),
        ):
            (answer,) = await read(connected, what)
            assert code(answer) == status, what

    run_with_client(server, work)


def test_attributes_of_a_tag_are_what_its_configuration_says(server):
    expected = {
        ua.AttributeIds.NodeId: ua.NodeId(LEVEL, 2),
        ua.AttributeIds.NodeClass: ua.NodeClass.Variable,
        ua.AttributeIds.BrowseName: ua.QualifiedName("level", 2),
        ua.AttributeIds.DisplayName: ua.LocalizedText("level"),
        ua.AttributeIds.Description: ua.LocalizedText("Steam drum"),
        ua.AttributeIds.WriteMask: 0,
        ua.AttributeIds.UserWriteMask: 0,
        ua.AttributeIds.DataType: ua.NodeId(ua.ObjectIds.Double),
        ua.AttributeIds.ValueRank: -1,
        ua.AttributeIds.AccessLevel: 0x01 | 0x02 | 0x20 | 0x40,
        ua.AttributeIds.MinimumSamplingInterval: 100.0,
        ua.AttributeIds.Historizing: False,
    }

    async def work(connected):
        answers = await read(connected, *(wanted(LEVEL, attribute=attribute) for attribute in expected))
        assert [content(answer) for answer in answers] == list(expected.values())
        ranks = await read(
            connected,
            *(wanted(ARRAY, attribute=one) for one in (ua.AttributeIds.ValueRank, ua.AttributeIds.ArrayDimensions)),
        )
        assert [content(answer) for answer in ranks] == [1, [4]]
        (level,) = await read(connected, wanted("plant.locked", attribute=ua.AttributeIds.UserAccessLevel))
        assert content(level) == 1

    async def as_reader(connected):
        (level,) = await read(connected, wanted(LEVEL, attribute=ua.AttributeIds.UserAccessLevel))
        assert content(level) & 0x02 == 0

    run_with_client(server, work)
    run_with_client(server, as_reader, "reader")


# ---- writing


async def write(connected: Any, *what: tuple[ua.ReadValueId, Any, str]) -> list[int]:
    asked = []
    for one, value, kind in what:
        data = ua.DataValue(ua.Variant(value, ua.VariantType[kind]))
        asked.append(ua.WriteValue(one.NodeId, one.AttributeId, one.IndexRange, data))
    return [one.value for one in (await call(connected, "Write", NodesToWrite=asked)).Results]


@pytest.mark.parametrize("name", [LEVEL, "plant", LEVEL + "#EURange", "plant#Connected"])
def test_no_attribute_but_a_value_is_written(server, name):
    values = {
        ua.AttributeIds.NodeId: (ua.NodeId("x", 2), "NodeId"),
        ua.AttributeIds.NodeClass: (1, "Int32"),
        ua.AttributeIds.BrowseName: (ua.QualifiedName("x", 2), "QualifiedName"),
        ua.AttributeIds.DisplayName: (ua.LocalizedText("x"), "LocalizedText"),
        ua.AttributeIds.Description: (ua.LocalizedText("x"), "LocalizedText"),
        ua.AttributeIds.WriteMask: (1, "UInt32"),
        ua.AttributeIds.UserWriteMask: (1, "UInt32"),
        ua.AttributeIds.EventNotifier: (1, "Byte"),
        ua.AttributeIds.DataType: (ua.NodeId(1), "NodeId"),
        ua.AttributeIds.ValueRank: (1, "Int32"),
        ua.AttributeIds.ArrayDimensions: ([1], "UInt32"),
        ua.AttributeIds.AccessLevel: (3, "Byte"),
        ua.AttributeIds.UserAccessLevel: (3, "Byte"),
        ua.AttributeIds.MinimumSamplingInterval: (1.0, "Double"),
        ua.AttributeIds.Historizing: (True, "Boolean"),
        ua.AttributeIds.Executable: (True, "Boolean"),
    }

    async def work(connected):
        before = len(server.obey(written=True))
        asked = [(wanted(name, attribute=attribute), *value) for attribute, value in values.items()]
        names = {BAD_NOT_WRITABLE, BAD_ATTRIBUTE, BAD_USER_ACCESS, BAD_WRITE_UNSUPPORTED}
        statuses = await write(connected, *asked)
        assert set(statuses) <= names, [hex(status) for status in statuses]
        (description,) = await read(connected, wanted(name, attribute=ua.AttributeIds.DisplayName))
        assert content(description) != ua.LocalizedText("x")
        assert len(server.obey(written=True)) == before

    run_with_client(server, work)


def test_index_range_is_not_written(server):
    """A device is written whole: OPC 10000-4, 5.11.4, BadWriteNotSupported."""

    async def work(connected):
        before = len(server.obey(written=True))
        for name, index_range, value, kind in (
            (ARRAY, "1:2", [7, 8], "Int16"),
            (TEXT, "0:1", "ab", "String"),
            (LEVEL, "0", 1.0, "Double"),
        ):
            (status,) = await write(connected, (wanted(name, index_range=index_range), value, kind))
            assert status in (BAD_WRITE_UNSUPPORTED, BAD_RANGE_NO_DATA, BAD_RANGE_INVALID), (name, hex(status))
        assert len(server.obey(written=True)) == before
        assert await refusal(write(connected)) == 0x800F0000

    run_with_client(server, work)


# ---- browsing


def test_browse_keeps_to_direction_reference_type_class_and_mask(server):
    ids = ua.ObjectIds
    both, inverse = ua.BrowseDirection.Both, ua.BrowseDirection.Inverse
    properties = [LEVEL + "#EURange", LEVEL + "#EngineeringUnits"]
    cases = [
        (
            browse_of(LEVEL),
            [
                str(ids.AnalogItemType.value if hasattr(ids.AnalogItemType, "value") else ids.AnalogItemType),
                *properties,
            ],
        ),
        (browse_of(LEVEL, direction=inverse), ["plant"]),
        (browse_of(LEVEL, direction=both, reference=ids.HierarchicalReferences), ["plant", *properties]),
        (browse_of(LEVEL, reference=ids.HasProperty, subtypes=False), properties),
        (browse_of(LEVEL, reference=ids.Aggregates), properties),
        (browse_of(LEVEL, reference=ids.Aggregates, subtypes=False), []),
        (browse_of(LEVEL, reference=ids.Organizes), []),
        (browse_of(LEVEL, reference=ids.HierarchicalReferences, classes=1), []),
        (browse_of(LEVEL, reference=ids.HierarchicalReferences, classes=2), properties),
        (browse_of(properties[0], direction=inverse), [LEVEL]),
        (browse_of("plant", reference=ids.Organizes, classes=1), ["plant.types", "plant.many", "plant._Diagnostics"]),
        (browse_of("plant", reference=ids.HasComponent), []),
        (browse_of("#Bifrost", direction=inverse), [str(int(ids.ObjectsFolder))]),
    ]

    async def work(connected):
        results = await browse(connected, *(what for what, _ in cases))
        for (what, expected), result in zip(cases, results, strict=True):
            assert result.StatusCode.is_good()
            assert sorted(targets(result)) == sorted(expected), what
        (bare,) = await browse(connected, browse_of("plant", reference=ids.Organizes, mask=0))
        assert all(
            one.BrowseName.Name is None and one.NodeClass == 0 and not one.DisplayName.Text for one in bare.References
        )
        (named,) = await browse(connected, browse_of(LEVEL, reference=ids.HasProperty, mask=8))
        assert [one.BrowseName.Name for one in named.References] == ["EURange", "EngineeringUnits"]
        refused = await browse(
            connected,
            browse_of("plant.none"),
            browse_of(LEVEL, reference=ids.Server),
            ua.BrowseDescription(node_id(LEVEL), 7, ua.NodeId(ids.References), True, 0, 63),
        )
        assert [one.StatusCode.value for one in refused] == [BAD_NODE_UNKNOWN, 0x804C0000, 0x804D0000]
        assert await refusal(browse(connected)) == 0x800F0000

    run_with_client(server, work)


def test_continuation_points_give_the_rest_once_and_are_released(server):
    async def work(connected):
        many = browse_of("plant.many", reference=ua.ObjectIds.Organizes)
        (whole,) = await browse(connected, many)
        (part,) = await browse(connected, many, most=7)
        came, sizes, point = targets(part), [len(part.References)], part.ContinuationPoint
        while point:
            (answer,) = (
                await call(connected, "BrowseNext", ReleaseContinuationPoints=False, ContinuationPoints=[point])
            ).Results
            came += targets(answer)
            sizes.append(len(answer.References))
            used, point = point, answer.ContinuationPoint
        assert (came, sizes) == (targets(whole), [7, 7, 6])
        (answer,) = (
            await call(connected, "BrowseNext", ReleaseContinuationPoints=False, ContinuationPoints=[used])
        ).Results
        assert answer.StatusCode.value == BAD_CONTINUATION
        most = LIMITS["browse_continuations_max"]
        results = await browse(connected, *[many] * (most + 1), most=7)
        assert [one.StatusCode.value for one in results] == [0] * most + [BAD_NO_CONTINUATION]
        points = [one.ContinuationPoint for one in results[:most]]
        released = await call(
            connected, "BrowseNext", ReleaseContinuationPoints=True, ContinuationPoints=[*points, b"none"]
        )
        assert [one.StatusCode.value for one in released.Results] == [0] * most + [BAD_CONTINUATION]
        assert not any(one.References for one in released.Results)
        results = await browse(connected, *[many] * most, most=7)
        assert [one.StatusCode.value for one in results] == [0] * most

    run_with_client(server, work)


def path(start, *names, reference=ua.ObjectIds.HierarchicalReferences):
    made = ua.BrowsePath()
    made.StartingNode = node_id(start)
    made.RelativePath.Elements = [
        ua.RelativePathElement(ua.NodeId(reference), False, True, ua.QualifiedName(name, space))
        for space, name in names
    ]
    return made


def test_paths_lead_to_nodes_that_are_made_on_demand(server):
    to_level = [(2, "Bifrost"), (2, "plant"), (2, "level")]
    cases = [
        (path(ua.ObjectIds.ObjectsFolder, *to_level), LEVEL),
        (path(ua.ObjectIds.ObjectsFolder, *to_level, (0, "EURange")), LEVEL + "#EURange"),
        (
            path(ua.ObjectIds.RootFolder, (0, "Objects"), *to_level, (0, "EngineeringUnits")),
            LEVEL + "#EngineeringUnits",
        ),
        (path("plant", (2, "types"), (2, "float64")), NUMBER),
        (path("plant", (2, "_Diagnostics"), (2, "Connected")), "plant#Connected"),
        (path(LEVEL, (0, "EURange"), reference=ua.ObjectIds.HasProperty), LEVEL + "#EURange"),
    ]
    refused = [
        (path("plant", (2, "none")), BAD_NO_MATCH),
        (path("plant", (0, "level")), BAD_NO_MATCH),
        (path(NUMBER, (0, "EURange")), BAD_NO_MATCH),
        (path("plant.none", (2, "level")), BAD_NODE_UNKNOWN),
        (path("plant"), 0x800F0000),
        (path("plant", (0, None)), 0x80600000),  # BadBrowseNameInvalid
    ]

    async def work(connected):
        answer = await call(connected, "TranslateBrowsePathsToNodeIds", BrowsePaths=[one for one, _ in cases + refused])
        for (_, expected), result in zip(cases, answer.Results, strict=False):
            assert [str(target.TargetId.Identifier) for target in result.Targets] == [expected]
        assert [one.StatusCode.value for one in answer.Results[len(cases) :]] == [status for _, status in refused]

    run_with_client(server, work)


def test_registered_nodes_are_the_nodes(server):
    async def work(connected):
        names = [node_id(LEVEL), node_id(NUMBER), node_id(2258)]
        answer = await call(connected, "RegisterNodes", NodesToRegister=names)
        assert answer.RegisteredNodeIds == names
        await call(connected, "UnregisterNodes", NodesToUnregister=names)
        assert await refusal(call(connected, "RegisterNodes", NodesToRegister=[])) == 0x800F0000

    run_with_client(server, work)
