"""The OPC UA face against a foreign client, asyncua, in another process: what a SCADA does on an ordinary day.

Each test runs against both stacks that can serve the face, with the same expectations.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime

import pytest

from tests.interop.opcua_bench import STACKS, Follower, add_users, client, face, node, run, until
from tests.interop.peers.opcua_face import SCALARS, tag_name

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.uaerrors import UaStatusCodeError  # isort: skip  # likewise

pytestmark = pytest.mark.interop

BAD_WAITING = 0x80320000
UNCERTAIN = 0x408F0000
NO_COMMUNICATION = 0x80310000
VALUES = {
    "bool": True,
    "int8": -5,
    "uint8": 250,
    "int16": -30_000,
    "uint16": 60_000,
    "int32": -2_000_000_000,
    "uint32": 4_000_000_000,
    "int64": -(1 << 62),
    "uint64": (1 << 63) + 1,
    "float32": 0.5,
    "float64": -1e300,
    "bcd16": 1_234,
    "bcd32": 12_345_678,
}
VARIANTS = {
    "bool": "Boolean",
    "int8": "SByte",
    "uint8": "Byte",
    "int16": "Int16",
    "uint16": "UInt16",
    "int32": "Int32",
    "uint32": "UInt32",
    "int64": "Int64",
    "uint64": "UInt64",
    "float32": "Float",
    "float64": "Double",
    "bcd16": "UInt16",
    "bcd32": "UInt32",
}


@pytest.fixture(scope="module", params=STACKS)
def stack(request):
    return request.param


@pytest.fixture(scope="module")
def server(stack, tmp_path_factory):
    directory = tmp_path_factory.mktemp(stack)
    add_users(directory)
    with face(directory, "--stack", stack) as process:
        yield process


def status_of(error):
    return error.value.code


async def read(connected, name, attribute=ua.AttributeIds.Value):
    """The whole data value, whatever its status."""
    return await node(connected, name).read_attribute(attribute, raise_on_bad_status=False)


# ---- browsing


def test_tree_is_the_contract_s(server):
    async def work():
        async with client(server.url) as connected:
            assert await connected.get_namespace_index("urn:bifrost:tags") == 2
            root = await connected.nodes.objects.get_child("2:Bifrost")
            names = [(await child.read_browse_name()).to_string() for child in await root.get_children()]
            assert names == ["2:plant", "2:_Gateway"]
            plant = node(connected, "plant")
            groups = {str(child.nodeid.Identifier) for child in await plant.get_children()}
            assert {"plant.types", "plant.many", "plant._Diagnostics", "plant.locked", "plant.level"} - groups <= {
                "plant.many"
            }
            level = await root.get_child(["2:plant", "2:level"])
            assert level.nodeid == ua.NodeId("plant.level", 2)
            assert (await level.get_parent()).nodeid == plant.nodeid
            diagnostics = await node(connected, "plant._Diagnostics").get_children()
            assert [str(child.nodeid.Identifier) for child in diagnostics] == ["plant#Connected"]

    run(work())


def test_every_attribute_of_every_node_answers(server):
    """A value or BadAttributeIdInvalid, and for values perhaps BadWaitingForInitialData: never anything else."""

    async def work():
        async with client(server.url) as connected:
            pending = [await connected.nodes.objects.get_child("2:Bifrost")]
            seen = []
            while pending:
                current = pending.pop()
                seen.append(current)
                pending += await current.get_children()
                answers = await connected.read_attributes([current] * 1, ua.AttributeIds.NodeClass)
                assert answers[0].StatusCode.is_good()
                for attribute in ua.AttributeIds:
                    answer = await current.read_attribute(attribute, raise_on_bad_status=False)
                    code = answer.StatusCode.value
                    assert code in (0, 0x80350000, BAD_WAITING), (current, attribute, hex(code))
            assert len(seen) > 30

    run(work())


def test_level_is_an_analog_item_with_unit_range_and_description(server):
    async def work():
        async with client(server.url) as connected:
            level = node(connected, "plant.level")
            properties = {(await one.read_browse_name()).Name: one for one in await level.get_properties()}
            extent = await properties["EURange"].read_value()
            unit = await properties["EngineeringUnits"].read_value()
            assert (extent.Low, extent.High) == (0.0, 150.0)
            assert (unit.UnitId, unit.DisplayName.Text) == (4408652, "°C")
            assert unit.NamespaceUri == "http://www.opcfoundation.org/UA/units/un/cefact"
            assert properties["EURange"].nodeid == ua.NodeId("plant.level#EURange", 2)
            assert (await level.read_description()).Text == "Steam drum"

    run(work())


def test_unknown_node_is_said_to_be_unknown(server):
    async def work():
        async with client(server.url) as connected:
            for name in ("plant.none", "plant.level#None", "", "plant."):
                answer = await read(connected, name)
                assert answer.StatusCode.value == 0x80340000

    run(work())


# ---- reading


def test_tag_that_was_never_read_waits_for_data(server):
    async def work():
        async with client(server.url) as connected:
            answer = await read(connected, "plant.locked")
            assert answer.StatusCode.value == BAD_WAITING

    run(work())


@pytest.mark.parametrize("status", [0x80890000, NO_COMMUNICATION])
def test_bad_status_of_a_tag_that_never_had_a_value_is_read_as_it_is(server, status):
    server.put("plant.locked", None, status)

    async def work():
        async with client(server.url) as connected:
            deadline_s = time.monotonic() + 10
            while (answer := await read(connected, "plant.locked")).StatusCode.value != status:
                assert time.monotonic() < deadline_s, hex(answer.StatusCode.value)
            assert answer.Value is None or answer.Value.Value is None

    run(work())


@pytest.mark.parametrize("datatype", SCALARS)
def test_scalar_and_array_of_each_type_are_read(server, datatype):
    value = VALUES[datatype]
    server.put(f"plant.types.{datatype}", value)
    server.put(f"plant.types.{tag_name(datatype + '[4]')}", [value] * 4)

    async def work():
        async with client(server.url) as connected:
            answer = await read_when_good(connected, f"plant.types.{datatype}")
            assert (answer.Value.VariantType.name, answer.Value.Value) == (VARIANTS[datatype], value)
            array = await read_when_good(connected, f"plant.types.{tag_name(datatype + '[4]')}")
            assert (array.Value.VariantType.name, array.Value.Value) == (VARIANTS[datatype], [value] * 4)

    run(work())


async def read_when_good(connected, name):
    deadline_s = time.monotonic() + 10
    while True:
        answer = await read(connected, name)
        if answer.StatusCode.is_good():
            return answer
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


def test_text_is_read_as_unicode(server):
    server.put("plant.types.stringx32", "Dampfkessel °C µ")

    async def work():
        async with client(server.url) as connected:
            answer = await read_when_good(connected, "plant.types.stringx32")
            assert answer.Value.Value == "Dampfkessel °C µ"

    run(work())


def test_quality_and_both_times_are_the_table_s(server):
    source_ns = time.time_ns() // 10_000_000_000 * 10_000_000_000 - 3_600_000_000_000 + 123_456_700
    server.put("plant.level", 21.5, 0, source_ns)

    async def work():
        async with client(server.url) as connected:
            answer = await read_when_good(connected, "plant.level")
            assert answer.SourceTimestamp.timestamp() == pytest.approx(source_ns / 1e9, abs=2e-6)
            server.put("plant.level", 21.5, UNCERTAIN, source_ns)
            follower = Follower()
            subscription = await connected.create_subscription(20, follower)
            await subscription.subscribe_data_change(node(connected, "plant.level"))
            values = follower.values.setdefault("plant.level", [])
            await until(lambda: bool(values) and values[-1].StatusCode.value == UNCERTAIN)
            assert values[-1].Value.Value == 21.5
            assert values[-1].SourceTimestamp == answer.SourceTimestamp
            assert abs(values[-1].ServerTimestamp.timestamp() - time.time()) < 60
            server.put("plant.level", None, NO_COMMUNICATION)
            await until(lambda: values[-1].StatusCode.value == NO_COMMUNICATION)
            server.put("plant.level", 22.0)
            await until(lambda: values[-1].StatusCode.is_good() and values[-1].Value.Value == 22.0)

    run(work())


# ---- subscriptions


def test_change_arrives_with_its_value(server):
    server.put("plant.types.int32", 1)

    async def work():
        async with client(server.url) as connected:
            follower = Follower()
            subscription = await connected.create_subscription(10, follower)
            await subscription.subscribe_data_change(node(connected, "plant.types.int32"))
            values = follower.values.setdefault("plant.types.int32", [])
            await until(lambda: bool(values) and values[-1].Value.Value == 1)
            server.put("plant.types.int32", 2)
            await until(lambda: values[-1].Value.Value == 2)
            await subscription.delete()

    run(work())


# ---- writing


@pytest.mark.parametrize("datatype", [*SCALARS, "string[32]"])
def test_write_reaches_the_device_with_the_client_s_value(server, datatype):
    name = f"plant.types.{tag_name(datatype)}"
    value, variant = ("Grüße", "String") if datatype == "string[32]" else (VALUES[datatype], VARIANTS[datatype])

    async def work():
        async with client(server.url) as connected:
            data = ua.DataValue(ua.Variant(value, ua.VariantType[variant]))
            await node(connected, name).write_attribute(ua.AttributeIds.Value, data)
            (_, written, who) = server.obey(written=True)[-1]
            assert written == value
            assert who.startswith("opcua:operator")

    run(work())


def test_array_with_source_time_and_status_is_written(server):
    async def work():
        async with client(server.url) as connected:
            variant = ua.Variant([1, 2, 3, 4], ua.VariantType.UInt16)
            data = ua.DataValue(variant, ua.StatusCode(0), datetime.now(UTC))
            await node(connected, "plant.types.uint16x4").write_attribute(ua.AttributeIds.Value, data)
            assert server.obey(written=True)[-1][1] == [1, 2, 3, 4]

    run(work())


def test_write_like_uawrite_with_a_source_time_is_taken(server):
    """What asyncua's `write_value` sends: a value with SourceTimestamp."""

    async def work():
        async with client(server.url) as connected:
            await node(connected, "plant.level").write_value(33.5, ua.VariantType.Double)
            assert server.obey(written=True)[-1][1] == 33.5

    run(work())


@pytest.mark.parametrize("status", [0x808B0000, 0x803C0000, 0x80310000])
def test_device_s_answer_is_the_client_s(server, status):
    server.obey(writes={"status": status})

    async def work():
        async with client(server.url) as connected:
            with pytest.raises(UaStatusCodeError) as error:
                await node(connected, "plant.level").write_value(1.0, ua.VariantType.Double)
            assert status_of(error) == status

    try:
        run(work())
    finally:
        server.obey(writes={})


def test_what_may_not_be_written_is_refused_before_the_device(server):
    async def work():
        before = len(server.obey(written=True))
        async with client(server.url) as connected:
            refused = {
                "plant.locked": 0x803B0000,
                "plant#Connected": 0x803B0000,
                "plant.none": 0x80340000,
            }
            for name, status in refused.items():
                with pytest.raises(UaStatusCodeError) as error:
                    await node(connected, name).write_value(1.0, ua.VariantType.Double)
                assert status_of(error) == status, name
            with pytest.raises(UaStatusCodeError) as error:
                await node(connected, "plant.level").write_value("text", ua.VariantType.String)
            assert status_of(error) == 0x80740000
        for user in ("reader", None):
            async with client(server.url, user) as connected:
                with pytest.raises(UaStatusCodeError) as error:
                    await node(connected, "plant.level").write_value(1.0, ua.VariantType.Double)
                assert status_of(error) in (0x801F0000, 0x803B0000)
        assert len(server.obey(written=True)) == before

    run(work())


def test_slow_device_holds_up_its_writer_and_nobody_else(server):
    """A write that takes 3 s: the writer gets the device's status then; another client's subscription shows no gap."""
    server.obey(writes={"delay_s": 3.0, "status": 0x808B0000})
    server.put("plant.types.float64", 0.0)

    async def work():
        async with client(server.url, timeout_s=20) as writer, client(server.url) as reader:
            follower = Follower()
            subscription = await reader.create_subscription(100, follower)
            await subscription.subscribe_data_change(node(reader, "plant.types.float64"))
            await until(lambda: bool(follower.times_s))
            started_s = time.monotonic()
            server.begin(ramp="plant.types.float64", count=80, period_s=0.05)
            with pytest.raises(UaStatusCodeError) as error:
                await node(writer, "plant.level").write_value(1.0, ua.VariantType.Double)
            took_s = time.monotonic() - started_s
            assert status_of(error) == 0x808B0000
            assert 2.9 < took_s < 4.0
            during = [at for at in follower.times_s if at < started_s + took_s]
            gaps = [later - earlier for earlier, later in itertools.pairwise(during)]
            assert max(gaps) < 0.2 + 0.1
            assert len(during) > 25
            await asyncio.to_thread(server.finish)

    try:
        run(work())
    finally:
        server.obey(writes={})


# ---- users


def test_wrong_password_is_refused_and_reported(server):
    async def work():
        for user, password in (("operator", "wrong password"), ("nobody", "operator password"), ("operator", "")):
            with pytest.raises(UaStatusCodeError) as error:
                async with client(server.url, user, password):
                    pass
            assert status_of(error) in (0x801F0000, 0x80200000, 0x80210000), hex(status_of(error))
        names = [report[0] for report in server.obey(reports=True)]
        assert "login_failed" in names

    run(work())
