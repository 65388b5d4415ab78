"""The library API against our own server on loopback: values arrive, and what cannot be is said rightly.

Each test runs on each backend that is there. The server is asked what it saw; nothing waits for a fixed time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from array import array

import pytest

from bifrost.core.datatypes import ByteOrder, DataType
from bifrost.core.errors import AddressError, ClosedError, ConfigError, ConnectError, DeviceError, NoAnswerError
from bifrost.core.runtime import Runtime
from bifrost.core.tag import Tag
from bifrost.plc import connection as connection_module
from bifrost.plc.connection import PLCConnection, ProtocolType, connect, list_protocols
from bifrost.plc.modbus.address import Table, parse_range
from bifrost.plc.modbus.connection import ModbusConnection
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ModbusServer

TIMEOUT_S = 20


def asynchronous(test):
    """Runs an async test in a loop of its own, at most `TIMEOUT_S` long."""

    @functools.wraps(test)
    def run(*arguments, **keywords):
        async def timed():
            async with asyncio.timeout(TIMEOUT_S):
                await test(*arguments, **keywords)

        asyncio.run(timed())

    return run


@pytest.fixture(autouse=True)
def _use_backend(backend, monkeypatch):
    monkeypatch.setattr(connection_module, "Runtime", functools.partial(Runtime, backend=backend, seed=1))


async def until(condition):
    """Returns once `condition` holds; the test's own time-out is the limit."""
    for _ in range(TIMEOUT_S * 1000):
        if condition():
            return
        await asyncio.sleep(0.001)


def make_memory(**changes) -> Memory:
    sizes = {"coils": 3000, "discrete_inputs": 100, "input_registers": 1200, "holding_registers": 1200} | changes
    memory = Memory(**sizes)
    for table in (Table.HOLDING_REGISTER, Table.INPUT_REGISTER):
        for offset in range(memory.sizes[table]):
            if not any(hole.table is table and hole.first <= offset <= hole.last for hole in memory.holes):
                memory.write(table, offset, 1, offset.to_bytes(2, "big"))
    return memory


def set_registers(memory: Memory, offset: int, data: bytes) -> None:
    memory.write(Table.HOLDING_REGISTER, offset, len(data) // 2, data)


@contextlib.asynccontextmanager
async def plant(memory: Memory | None = None, **options):
    server = ModbusServer({1: memory or make_memory()}, **options)
    async with server.running():
        yield server


def url(server: ModbusServer) -> str:
    return f"modbus://127.0.0.1:{server.port}"


@asynchronous
async def test_tags_are_read_in_the_order_asked_with_their_types():
    memory = make_memory()
    set_registers(memory, 0, bytes.fromhex("41c80000"))
    set_registers(memory, 10, b"Ofen 1")
    memory.write(Table.COIL, 3, 1, b"\x01")
    tags = [
        Tag("name", "hr:10", "string[6]"),
        Tag("temperature", 40001, DataType.FLOAT32),
        Tag("on", "co:3", DataType.BOOL),
        Tag("scaled", "hr:100", "uint16", scale=0.5, offset=1.0),
        Tag("some", "ir:5", "uint16[3]"),
    ]
    async with plant(memory) as server, connect(url(server)) as plc:
        values = await plc.read_tags(tags)
        assert list(values) == ["name", "temperature", "on", "scaled", "some"]
        assert [point.value for point in values.values()] == ["Ofen 1", 25.0, True, 51.0, [5, 6, 7]]
        assert all(point.is_good and point.source_time == point.server_time for point in values.values())


@asynchronous
async def test_names_of_declared_tags_can_be_used():
    async with plant() as server, connect(url(server), tags=[Tag("level", "hr:7")]) as plc:
        assert (await plc.read_tags(["level"]))["level"].value == 7
        with pytest.raises(ValueError, match="no tag is named 'lvl'; known names: level"):
            await plc.read_tags(["lvl"])
        with pytest.raises(ValueError, match="given twice"):
            await plc.read_tags(["level", Tag("level", "hr:8")])


@asynchronous
async def test_url_and_parts_give_the_same_connection():
    async with plant() as server:
        parts = PLCConnection(protocol=ProtocolType.MODBUS_TCP, host="127.0.0.1", port=server.port, unit=1)
        whole = connect(f"{url(server)}?unit=1")
        assert type(parts) is type(whole)
        assert parts.driver.link_key == whole.driver.link_key
        async with parts, whole:
            assert await parts.read_tags([Tag("a", "hr:1")]) != {}
            assert (await whole.read_tags([Tag("a", "hr:1")]))["a"].value == 1
            assert server.clients_count == 2


@asynchronous
async def test_one_illegal_address_costs_only_its_own_tag():
    memory = make_memory(holes=[parse_range("hr:50"), parse_range("hr:60-61")])
    tags = [Tag(f"r{offset}", f"hr:{offset}") for offset in range(40, 80)]
    async with plant(memory) as server, connect(url(server)) as plc:
        values = await plc.read_tags(tags)
        bad = {name: point.quality for name, point in values.items() if not point.is_good}
        assert bad == dict.fromkeys(["r50", "r60", "r61"], "BadConfigurationError")
        assert all(point.value == int(name[1:]) for name, point in values.items() if point.is_good)
        before = server.counters.requests_count
        assert not (await plc.read_tags(tags))["r50"].is_good
        assert server.counters.requests_count - before <= 6  # What was learned is remembered.


@asynchronous
async def test_unit_that_is_silent_is_data_unless_nothing_answers():
    tags = [Tag("here", "hr:1"), Tag("there", "7!hr:1")]
    async with plant() as server, connect(url(server), timeout_s=0.1) as plc:
        values = await plc.read_tags(tags)
        assert values["here"].value == 1
        assert (values["there"].value, values["there"].quality) == (None, "BadNoCommunication")
        with pytest.raises(NoAnswerError, match=r"127\.0\.0\.1 did not answer in time"):
            await plc.read_tags(tags[1:])


@asynchronous
async def test_address_that_modbus_cannot_have_is_an_error_of_the_call():
    async with plant() as server, connect(url(server)) as plc:
        with pytest.raises(AddressError, match="tag 'a'"):
            await plc.read_tags([Tag("a", "DB1.DBX0.0")])


@asynchronous
async def test_written_values_are_read_back_and_arrive():
    memory = make_memory()
    tags = {
        Tag("setpoint", "hr:20", "float32", byte_order=ByteOrder.CDAB, writable=True): 0.1,
        Tag("scaled", "hr:22", "int16", scale=0.1, writable=True): -12.3,
        Tag("on", "co:9", writable=True): True,
        Tag("text", "hr:30", "string[4]", writable=True): "ab",
        Tag("bit", "hr:40.15", writable=True): True,
        Tag("some", "hr:41", "uint16[2]", writable=True): [1, 65535],
    }
    async with plant(memory) as server, connect(url(server)) as plc:
        values = await plc.write_tags(tags)
        assert list(values) == ["setpoint", "scaled", "on", "text", "bit", "some"]
        assert values["setpoint"].value == pytest.approx(0.1)
        assert values["scaled"].value == pytest.approx(-12.3)
        assert [values[name].value for name in ("on", "text", "bit", "some")] == [True, "ab", True, [1, 65535]]
        assert memory.read(Table.HOLDING_REGISTER, 40, 1) == b"\x80\x28"  # 40 = 0x0028: the other bits stay.
        pairs = await plc.write_tags([(Tag("on", "co:9", writable=True), False)])
        assert pairs["on"].value is False


@asynchronous
async def test_write_that_is_not_allowed_sends_nothing():
    good = Tag("good", "hr:1", writable=True)
    refused = [
        (Tag("plain", "hr:2"), 1, ValueError, "'plain' is not writable: declare it with writable=True"),
        (Tag("input", "ir:2", writable=True), 1, AddressError, "'input'"),
        (Tag("far", "hr:2", writable=True, range=(0, 10)), 11, ValueError, "'far': 11 is outside its range 0 to 10"),
        (Tag("wide", "hr:2", "int16", writable=True), 70000, ValueError, "70000"),
    ]
    async with plant() as server, connect(url(server)) as plc:
        for tag, value, error, words in refused:
            with pytest.raises(error, match=words):
                await plc.write_tags([(good, 5), (tag, value)])
        assert server.counters.requests_count == 0


@asynchronous
async def test_write_that_the_device_refuses_has_the_status_of_a_write():
    memory = make_memory(guard=lambda request: 3 if request.function == 6 else 0)
    async with plant(memory) as server, connect(url(server)) as plc:
        with pytest.raises(DeviceError, match=r"tag 'a': .* refused 5 with code 3 \(BadOutOfRange\)") as caught:
            await plc.write_tags([(Tag("a", "hr:1", writable=True), 5)])
        assert caught.value.code == 3


@asynchronous
async def test_value_that_reads_back_differently_is_an_error_unless_expected():
    memory = make_memory()
    original = memory.write

    def reset(table, offset, count, data):
        original(table, offset, count, bytes(len(data)))

    memory.write = reset  # a device that resets what is written
    async with plant(memory) as server, connect(url(server)) as plc:
        command = Tag("start", "hr:1", writable=True)
        with pytest.raises(DeviceError, match="'start': 1 was written, but the device shows 0"):
            await plc.write_tags([(command, 1)])
        assert (await plc.write_tags([(command, 1)], verify=False))["start"].value == 0


@asynchronous
async def test_poll_yields_snapshots_that_follow_the_device():
    memory = make_memory()
    tags = [Tag("a", "hr:1"), Tag("b", "co:3")]
    async with plant(memory) as server, connect(url(server)) as plc:
        seen = []
        async for snapshot in plc.poll(tags, interval_ms=10):
            assert list(snapshot) == ["a", "b"]
            assert snapshot.time_ns >= snapshot["a"].source_time_ns > 0
            seen.append(snapshot["a"].value)
            set_registers(memory, 1, (len(seen) + 100).to_bytes(2, "big"))
            if seen[-1] >= 103:
                break
        assert seen[0] == 1
        assert seen == sorted(seen)


@asynchronous
async def test_poll_that_ends_early_stops_polling_and_its_rows_are_used_again():
    async with plant() as server, connect(url(server)) as plc:
        shared = connection_module._of_loop[asyncio.get_running_loop()]
        for number in range(3):
            async for snapshot in plc.poll([Tag(f"t{number}", f"hr:{number}")], interval_ms=5):
                assert snapshot[f"t{number}"].value == number
                break
            gc.collect()
            await until(lambda: shared.rows.free_count)
        assert shared.runtime.table.rows_count == 1
        before = server.counters.requests_count
        await plc.read_tags([Tag("a", "hr:1")])
        assert server.counters.requests_count == before + 1


@asynchronous
async def test_slow_reader_of_a_poll_is_told_what_it_missed():
    async with plant() as server, connect(url(server)) as plc:
        polling = plc.poll([Tag("a", "hr:1")], interval_ms=2)
        assert (await anext(polling)).missed == 0
        await asyncio.sleep(0.05)
        assert (await anext(polling)).missed >= 15
        await polling.aclose()


@asynchronous
async def test_read_goes_ahead_of_a_poll_on_the_same_connection():
    async with plant() as server, connect(url(server)) as plc:
        async for snapshot in plc.poll([Tag("a", "hr:1")], interval_ms=5):
            assert snapshot["a"].value == 1
            assert (await plc.read_tags([Tag("b", "hr:2")]))["b"].value == 2
            break
        assert server.clients_count == 1


@asynchronous
async def test_poll_goes_on_with_bad_quality_while_the_device_is_away_and_recovers():
    async with plant() as server, connect(url(server), timeout_s=0.2) as plc:
        qualities = []
        async for snapshot in plc.poll([Tag("a", "hr:1")], interval_ms=5):
            quality = snapshot["a"].quality
            if not qualities or qualities[-1] != quality:
                qualities.append(quality)
            if len(qualities) == 1:
                server.disconnect_all()
            if len(qualities) == 3:
                break
        assert qualities == ["Good", "UncertainNoCommunicationLastUsableValue", "Good"]


@asynchronous
async def test_poll_ends_with_an_error_when_the_connection_is_closed():
    async with plant() as server:
        plc = await connect(url(server)).open()
        polling = plc.poll([Tag("a", "hr:1")], interval_ms=5)
        await anext(polling)
        await plc.close()
        with pytest.raises(ClosedError, match="was closed"):
            await anext(polling)


@asynchronous
async def test_poll_of_nonsense_is_refused():
    async with plant() as server, connect(url(server)) as plc:
        with pytest.raises(ValueError, match="interval_ms is 1 or more"):
            plc.poll([Tag("a", "hr:1")], interval_ms=0)
        with pytest.raises(AddressError):
            await anext(plc.poll([Tag("a", "nonsense")]))


@asynchronous
async def test_device_that_cannot_be_reached_is_named_with_the_reason():
    async with plant() as server:
        port = server.port
    with pytest.raises(ConnectError, match=rf"modbus-tcp://127\.0\.0\.1:{port}: Connection refused"):
        await connect(f"modbus://127.0.0.1:{port}").open()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@asynchronous
async def test_connection_that_was_lost_comes_back_for_the_next_read():
    async with plant() as server, connect(url(server), timeout_s=1.0) as plc:
        assert plc.is_connected
        server.disconnect_all()
        await until(lambda: not plc.is_connected)
        assert (await plc.read_tags([Tag("a", "hr:1")]))["a"].value == 1
        assert server.counters.clients == 2


@asynchronous
async def test_use_before_open_and_after_close_is_refused_and_closing_twice_is_not():
    async with plant() as server:
        plc = connect(url(server))
        with pytest.raises(ClosedError, match="is not open"):
            await plc.read_tags([Tag("a", "hr:1")])
        await plc.close()
        assert await plc.open() is plc
        assert await plc.open() is plc
        await plc.close()
        await plc.close()
        with pytest.raises(ClosedError):
            await plc.read_tags([Tag("a", "hr:1")])
        async with plc:
            assert (await plc.read_tags([Tag("a", "hr:1")]))["a"].is_good


@asynchronous
async def test_error_in_the_block_comes_out_as_it_is():
    async with plant() as server:
        with pytest.raises(KeyError):
            async with connect(url(server)):
                raise KeyError("mine")


@asynchronous
async def test_cancelled_read_leaves_the_connection_usable():
    memory = make_memory()
    async with plant(memory) as server, connect(url(server), timeout_s=0.3) as plc:
        memory.is_answering = False
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await plc.read_tags([Tag("a", "hr:1")])
        memory.is_answering = True
        assert (await plc.read_tags([Tag("a", "hr:2")]))["a"].value == 2


@asynchronous
async def test_runtime_is_shared_and_closed_with_the_last_connection():
    async with plant() as server:
        first, second = connect(url(server)), connect(url(server))
        async with first:
            shared = connection_module._of_loop[asyncio.get_running_loop()]
            async with second:
                assert connection_module._of_loop[asyncio.get_running_loop()] is shared
            assert not shared.runtime.is_closed
        assert shared.runtime.is_closed
        async with first:
            assert connection_module._of_loop[asyncio.get_running_loop()] is not shared


def test_impossible_connections_are_refused():
    with pytest.raises(ValueError, match="either the url, or protocol and host"):
        PLCConnection()
    with pytest.raises(ValueError, match="say which protocol"):
        PLCConnection(host="10.0.0.5")
    with pytest.raises(ConfigError, match="no driver for 'modbis://'; did you mean 'modbus'"):
        connect("modbis://10.0.0.5")
    with pytest.raises(ConfigError, match="unknown key 'unti'"):
        connect("modbus://10.0.0.5?unti=1")
    with pytest.raises(ValueError, match="window 1 to 256"):
        connect("modbus://10.0.0.5", window=0)
    assert "modbus-tcp" in list_protocols()
    assert PLCConnection(protocol="modbus-tcp", host="fe80::1").driver.link_key


@asynchronous
async def test_thousand_registers_take_eight_requests():
    async with plant() as server, ModbusConnection("127.0.0.1", server.port) as plc:
        values = await plc.read_holding_registers(40001, count=1000)
        assert values == array("H", range(1000))
        assert server.counters.requests_count == 8
        assert await plc.read_input_registers("ir:5", 2) == array("H", [5, 6])


@asynchronous
async def test_bits_are_read_and_written_whatever_their_number():
    async with plant() as server, ModbusConnection("127.0.0.1", server.port, window=4) as plc:
        pattern = [index % 3 == 0 for index in range(2500)]
        await plc.write_coils("co:0", pattern[:1968])
        await plc.write_coils("co:1968", pattern[1968:])
        assert await plc.read_coils(1, count=2500) == pattern
        await plc.write_coil(2, True)
        assert await plc.read_coils("co:0", 3) == [True, True, False]
        assert await plc.read_discrete_inputs("di:0", 10) == [False] * 10


@asynchronous
async def test_registers_are_written_singly_and_together():
    async with plant() as server, ModbusConnection("127.0.0.1", server.port) as plc:
        await plc.write_register(40001, -1)
        await plc.write_registers("hr:1", [1, 65535, -32768])
        assert await plc.read_holding_registers("hr:0", 4) == array("H", [65535, 1, 65535, 32768])


@asynchronous
async def test_register_calls_that_cannot_be_made_are_refused():
    async with plant() as server, ModbusConnection("127.0.0.1", server.port, timeout_s=0.1) as plc:
        with pytest.raises(AddressError, match="is a coil, not a holding register: write for example 'hr:0'"):
            await plc.read_holding_registers(1)
        with pytest.raises(AddressError, match="count is 1 to 1 from 'hr:65535' on"):
            await plc.read_holding_registers("hr:65535", 2)
        with pytest.raises(AddressError, match="are for tags"):
            await plc.read_holding_registers("hr:0:float32")
        with pytest.raises(ValueError, match="65536 does not fit"):
            await plc.write_register(40001, 65536)
        with pytest.raises(TypeError, match="a register is an int"):
            await plc.write_register(40001, 1.5)
        with pytest.raises(ValueError, match="one write takes 1 to 123 items"):
            await plc.write_registers(40001, [0] * 124)
        assert server.counters.requests_count == 0
        with pytest.raises(DeviceError, match=r"holding registers 5000 to 5000: exception 2 \(illegal data address\)"):
            await plc.read_holding_registers("hr:5000")
        with pytest.raises(DeviceError, match=r"write at offset 5000: exception 2"):
            await plc.write_register("hr:5000", 1)
        with pytest.raises(NoAnswerError):
            await plc.read_holding_registers("9!hr:0")
