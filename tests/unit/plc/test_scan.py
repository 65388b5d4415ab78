"""The Scanner against our own server on loopback, with every shell: the C thread, and the loop over either core.

What is proved: plans, one-shots and read-backs reach the device and the table; the state of links and units is told
rightly and once; nothing is left behind. The server is asked what it saw; waiting is for a condition, never for a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from bifrost._native import select
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.device_url import parse_url
from bifrost.core.errors import BifrostError, ClosedError, ConnectError, DeviceError, LimitError, NoAnswerError
from bifrost.core.limits import Limits
from bifrost.core.runtime import Runtime
from bifrost.core.table import RowColumns
from bifrost.core.tag import Tag
from bifrost.plc.modbus.address import Table, parse_range
from bifrost.plc.modbus.core import compile_oneshot
from bifrost.plc.modbus.driver import ModbusDriver
from bifrost.plc.modbus.frame import ReadRequest
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ModbusServer
from bifrost.plc.scan import Device, Scanner

TIMEOUT_S = 20
SHELLS = [("py", False)] if os.environ.get("BIFROST_BACKEND") == "py" else [("c", True), ("c", False), ("py", False)]
HOUR_NS = 3_600_000_000_000


def asynchronous(test):
    """Runs an async test in a loop of its own, at most `TIMEOUT_S` long."""

    @functools.wraps(test)
    def run(*arguments, **keywords):
        async def timed():
            async with asyncio.timeout(TIMEOUT_S):
                await test(*arguments, **keywords)

        asyncio.run(timed())

    return run


class Bench:
    """A runtime with its scanner, a server, and a group for the tasks."""

    def __init__(self, scanner: Scanner, server: ModbusServer, group: asyncio.TaskGroup) -> None:
        self.scanner = scanner
        self.table = scanner.runtime.table
        self.server = server
        self.group = group

    def driver(self, *, unit: int = 1, port: int | None = None, **config) -> ModbusDriver:
        url = parse_url(f"modbus-tcp://127.0.0.1:{port or self.server.port}?unit={unit}")
        return ModbusDriver(DeviceConfig(name=f"unit{unit}", url=url, **{"timeout_ns": 200_000_000} | config))

    def define(self, driver: ModbusDriver, tags: list[Tag]) -> range:
        first = self.table.rows_count
        rows = range(first, first + len(tags))
        requests = driver.plan(tags, rows)
        columns = RowColumns.from_decodes(first, len(tags), [request.decodes for request in requests])
        self.table.define(columns, [tag.full_name for tag in tags])
        return rows

    def add(self, tags: list[Tag], *, unit: int = 1, port: int | None = None, **config) -> tuple[Device, range]:
        driver = self.driver(unit=unit, port=port, **config)
        rows = self.define(driver, tags)
        name = f"unit{unit}"
        return self.scanner.add_device(driver, tags, rows, group=self.group, name=name), rows

    def values(self, rows: range) -> list[object]:
        return [point.value for point in self.table.snapshot(rows)]

    def qualities(self, rows: range) -> list[str]:
        return [point.quality for point in self.table.snapshot(rows)]


@pytest.fixture(params=SHELLS, ids=lambda shell: f"{shell[0]}-{'thread' if shell[1] else 'loop'}")
def bench(request):
    """What makes a bench with each shell; keywords change the limits of library use."""

    @contextlib.asynccontextmanager
    async def make(units: dict[int, Memory], *, on_learned: Callable[[Device], None] | None = None, **limits: int):
        name, is_threaded = request.param
        server = ModbusServer(units)
        changed = msgspec.structs.replace(Limits.small(), **limits)
        with Runtime(changed, backend=select(name), seed=1) as runtime:
            async with server.running(), asyncio.TaskGroup() as group:
                scanner = Scanner(runtime, is_threaded=is_threaded, on_learned=on_learned)
                yield Bench(scanner, server, group)
                scanner.close()

    return make


def registers(count: int = 200, **changes) -> Memory:
    memory = Memory(holding_registers=count, coils=count, **changes)
    for offset in range(count):
        with contextlib.suppress(LookupError, ValueError):
            memory.write(Table.HOLDING_REGISTER, offset, 1, offset.to_bytes(2, "big"))
    return memory


async def until(condition: Callable[[], object]) -> None:
    """Returns once `condition` holds; the test's own time-out is the limit."""
    for _ in range(TIMEOUT_S * 1000):
        if condition():
            return
        await asyncio.sleep(0.001)


async def error_of(waiting: Awaitable[object]) -> BifrostError | None:
    """The error that ends `waiting`; a task that raised it would end its siblings."""
    try:
        await waiting
    except BifrostError as error:
        return error
    return None


def tags_of(*offsets: int, scan_ns: int = 10_000_000) -> list[Tag]:
    return [Tag(f"r{offset}", f"hr:{offset}", scan_ns=scan_ns) for offset in offsets]


@asynchronous
async def test_tags_are_polled_into_the_table_with_the_time_of_their_answer(bench):
    async with bench({1: registers()}) as b:
        before = time.time_ns()
        _, rows = b.add(tags_of(1, 2, 100))
        await until(lambda: None not in b.values(rows))
        assert b.values(rows) == [1, 2, 100]
        for point in b.table.snapshot(rows):
            assert before - 5_000_000 <= point.source_time_ns <= time.time_ns() + 5_000_000
        [status] = b.scanner.status()
        assert status.is_up
        assert status.counters.requests >= status.counters.answers_good >= 2
        assert [(one.name, one.tags_count, one.requests_count) for one in status.devices] == [("unit1", 3, 2)]
        assert status.devices[0].requests_per_second == pytest.approx(200)


@asynchronous
async def test_devices_with_the_same_key_share_one_connection(bench):
    async with bench({1: registers(), 2: registers()}) as b:
        _, first = b.add(tags_of(1))
        other, second = b.add(tags_of(2), unit=2)
        await until(lambda: None not in b.values(first) + b.values(second))
        assert b.server.counters.clients == 1
        b.scanner.remove(other)
        await until(lambda: len(b.scanner.status()[0].devices) == 1)
        assert b.server.clients_count == 1


@asynchronous
async def test_read_back_brings_the_new_value_at_once(bench):
    memory = registers()
    async with bench({1: memory}) as b:
        device, rows = b.add(tags_of(5, scan_ns=HOUR_NS))
        await until(lambda: b.values(rows) == [5])
        memory.write(Table.HOLDING_REGISTER, 5, 1, b"\x01\x00")
        await b.scanner.poll_now(device, rows[0])
        assert b.values(rows) == [256]
        with pytest.raises(ValueError, match="row 77 is not polled"):
            await b.scanner.poll_now(device, 77)
        memory.holes = (parse_range("hr:5"),)
        with pytest.raises(DeviceError, match="code 2"):
            await b.scanner.poll_now(device, rows[0])
        assert b.qualities(rows) == ["BadConfigurationError"]
        memory.is_answering = False
        with pytest.raises(NoAnswerError, match="unit1 did not answer in time"):
            await b.scanner.poll_now(device, rows[0])


@asynchronous
async def test_hole_in_a_block_is_found_and_remembered_and_said_once(bench, caplog):
    caplog.set_level(logging.INFO, logger="bifrost.plc.scan")
    learned = []
    async with bench({1: registers(holes=[parse_range("hr:33")])}, on_learned=learned.append) as b:
        device, rows = b.add(tags_of(*range(20, 50)))
        await until(lambda: "BadWaitingForInitialData" not in b.qualities(rows))
        await until(lambda: b.qualities(rows).count("Good") == 29)
        assert b.qualities(rows)[13] == "BadConfigurationError"
        await until(lambda: device.driver.learned == {"holes": ["1!hr:33-33"]})  # told after the quality is set
        assert set(map(id, learned)) == {id(device)}
        assert b.scanner.status()[0].devices[0].learned == device.driver.learned
        await until(lambda: "is refused" in caplog.text)
        requests = b.server.counters.requests_count
        await until(lambda: b.server.counters.requests_count > requests + 20)
    refused = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert refused == ["unit1: 1!hr:33-33 is refused with code 2 (BadConfigurationError)"]


@asynchronous
async def test_device_that_says_no_and_yes_again_is_logged_once_each(bench, caplog):
    caplog.set_level(logging.INFO, logger="bifrost.plc.scan")
    memory = registers()
    async with bench({1: memory}) as b:
        _, rows = b.add(tags_of(1))
        await until(lambda: b.qualities(rows) == ["Good"])
        memory.guard = lambda request: 4
        await until(lambda: b.qualities(rows) == ["BadDeviceFailure"])
        memory.guard = None
        await until(lambda: b.qualities(rows) == ["Good"])
        await until(lambda: "good again" in caplog.text)
    assert [record.getMessage() for record in caplog.records][1:3] == [
        "unit1: 1!hr:1-1 is refused with code 4 (BadDeviceFailure)",
        "unit1: 1!hr:1-1 is good again",
    ]


@asynchronous
async def test_single_requests_are_answered_or_end_with_their_error(bench):
    memory = registers()
    async with bench({1: memory}) as b:
        device, _ = b.add([])
        await b.scanner.wait_up(device, 5)
        answer = await b.scanner.execute(device, compile_oneshot(ReadRequest(3, 7, 2), 1, unit_index=1))
        assert answer[-4:] == b"\x00\x07\x00\x08"
        with pytest.raises(DeviceError, match=r"unit1 refused the request with code 2 \(BadConfigurationError\)") as no:
            await b.scanner.execute(device, compile_oneshot(ReadRequest(3, 5000, 1), 1, unit_index=1))
        assert no.value.code == 2
        with pytest.raises(NoAnswerError):
            await b.scanner.execute(device, compile_oneshot(ReadRequest(3, 7, 1), 9, unit_index=9))
        many = [compile_oneshot(ReadRequest(3, offset, 1), 1, unit_index=1) for offset in range(50)]
        assert [end.frame[-1] for end in await b.scanner.execute_all(device, many)] == list(range(50))
        b.scanner.remove(device)
        with pytest.raises(ClosedError, match="unit1 was closed"):
            await b.scanner.execute(device, many[0])


@asynchronous
async def test_more_waiting_requests_than_the_limit_are_refused(bench):
    memory = registers()
    async with bench({1: memory}, oneshots_count_max=2) as b:
        device, _ = b.add([])
        await b.scanner.wait_up(device, 5)
        memory.is_answering = False
        many = [compile_oneshot(ReadRequest(3, 0, 1), 1, unit_index=1)] * 10
        with pytest.raises(LimitError, match="oneshots_count_max = 2"):
            await b.scanner.execute_all(device, many)
        memory.is_answering = True


@asynchronous
async def test_request_on_a_lost_link_ends_as_closed(bench):
    memory = registers()
    async with bench({1: memory}) as b:
        device, _ = b.add([], timeout_ns=5_000_000_000)
        await b.scanner.wait_up(device, 5)
        memory.is_answering = False
        async with asyncio.TaskGroup() as group:
            request = compile_oneshot(ReadRequest(3, 0, 1), 1, unit_index=1)
            asking = group.create_task(error_of(b.scanner.execute(device, request)), name="ask")
            await until(lambda: b.server.counters.requests_count == 1)
            b.server.disconnect_all()
            assert isinstance(await asking, ClosedError)
        assert b.scanner.notices_dropped == 0


@asynchronous
async def test_link_that_is_lost_comes_back_and_quality_tells(bench, caplog):
    caplog.set_level(logging.INFO, logger="bifrost.plc.scan")
    async with bench({1: registers()}) as b:
        device, rows = b.add(tags_of(1))
        await until(lambda: b.qualities(rows) == ["Good"])
        b.server.disconnect_all()
        await until(lambda: b.qualities(rows) == ["UncertainNoCommunicationLastUsableValue"])
        await b.scanner.wait_up(device, 10)
        await until(lambda: b.qualities(rows) == ["Good"])
        await until(lambda: b.scanner.status()[0].is_up)
    key = device.link.key
    assert [record.getMessage() for record in caplog.records][:3] == [
        f"{key}: connected",
        f"{key}: connection lost: the peer closed the connection",
        f"{key}: connected",
    ]


@asynchronous
async def test_device_that_cannot_be_reached_is_said_once_however_often_it_is_tried(bench, caplog):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with bench({1: registers()}) as b:
            device, rows = b.add(tags_of(1), port=port)
            for _ in range(2):
                with pytest.raises(ConnectError, match=f"modbus-tcp://127.0.0.1:{port}: Connection refused"):
                    await b.scanner.wait_up(device, 15)
            assert b.qualities(rows) == ["BadWaitingForInitialData"]
            assert not b.scanner.status()[0].is_up
    assert caplog.text.count("Connection refused") == 1


@asynchronous
async def test_connecting_that_takes_too_long_is_given_up(bench, monkeypatch):
    monkeypatch.setattr("bifrost.plc.scan._CONNECT_TIMEOUT_S", 0.05)

    async def never(self):
        await asyncio.Event().wait()

    monkeypatch.setattr(ModbusDriver, "open", never)
    async with bench({1: registers()}) as b:
        device, _ = b.add([], timeout_ns=1_000_000)
        with pytest.raises(ConnectError, match=r"no connection within 0\.05 s"):
            await b.scanner.wait_up(device, 5)
        with pytest.raises(ConnectError, match="is not connected"):
            await b.scanner.wait_up(device, 0)


@asynchronous
async def test_dead_unit_opens_its_breaker_and_its_neighbour_stays_good(bench):
    dead = registers()
    async with bench({1: registers(), 2: dead}) as b:
        _, good = b.add(tags_of(1), timeout_ns=20_000_000)
        _, other = b.add(tags_of(2), unit=2, timeout_ns=20_000_000)
        await until(lambda: b.qualities(good) + b.qualities(other) == ["Good", "Good"])
        dead.is_answering = False
        await until(lambda: b.scanner.status()[0].units_open == (2,))
        await until(lambda: b.qualities(other) == ["UncertainNoCommunicationLastUsableValue"])
        assert b.qualities(good) == ["Good"]
        dead.is_answering = True
        await until(lambda: b.scanner.status()[0].units_open == ())
        await until(lambda: b.qualities(other) == ["Good"])


@asynchronous
async def test_watch_that_ends_frees_its_rows_when_nothing_writes_them_any_more(bench):
    async with bench({1: registers()}) as b:
        device, rows = b.add(tags_of(1))
        extra = tags_of(50)
        more = b.define(device.driver, extra)
        watch = b.scanner.watch(device, extra, more)
        await until(lambda: b.values(more) == [50])
        freed = asyncio.Event()
        b.scanner.unwatch(device, watch, freed.set)
        b.scanner.unwatch(device, watch, lambda: pytest.fail("it has ended before"))
        await freed.wait()
        [before] = b.table.snapshot(more)
        requests = b.server.counters.requests_count
        await until(lambda: b.server.counters.requests_count > requests + 5)
        assert b.table.snapshot(more) == [before]
        assert b.values(rows) == [1]
        last = b.scanner.watch(device, extra, more)
        b.scanner.remove(device)
        ended = asyncio.Event()
        b.scanner.unwatch(device, last, ended.set)
        await ended.wait()


@asynchronous
async def test_links_are_limited_and_used_again(bench):
    async with bench({1: registers()}, links_count_max=1) as b:
        first = b.scanner.add_device(b.driver(), group=b.group)
        await b.scanner.wait_up(first, 5)
        with pytest.raises(LimitError, match="links_count_max = 1"):
            b.scanner.add_device(b.driver(), group=b.group, shares_link=False)
        b.scanner.remove(first)
        b.scanner.remove(first)
        await until(lambda: not b.server.clients_count)
        second = None
        while second is None:
            with contextlib.suppress(LimitError):
                second = b.scanner.add_device(b.driver(), group=b.group)
            await asyncio.sleep(0)
        await b.scanner.wait_up(second, 5)


@asynchronous
async def test_closing_fails_those_who_wait_and_leaves_nothing(bench):
    memory = registers()
    async with bench({1: memory}) as b:
        device, _ = b.add([], timeout_ns=5_000_000_000)
        await b.scanner.wait_up(device, 5)
        memory.is_answering = False
        async with asyncio.TaskGroup() as group:
            request = compile_oneshot(ReadRequest(3, 0, 1), 1, unit_index=1)
            asking = group.create_task(error_of(b.scanner.execute(device, request)), name="ask")
            await until(lambda: b.server.counters.requests_count == 1)
            b.scanner.close()
            b.scanner.close()
            assert str(await asking) == "unit1: the connection closed"
        with pytest.raises(ClosedError):
            await b.scanner.execute(device, request)
        with pytest.raises(ClosedError):
            b.scanner.add_device(b.driver(), group=b.group)
        await until(lambda: not b.server.clients_count)
        b.scanner.remove(device)


@asynchronous
async def test_thread_reports_its_cpu_time_and_the_loop_none(bench):
    async with bench({1: registers()}) as b:
        _, rows = b.add(tags_of(1))
        await until(lambda: b.values(rows) == [1])
        is_threaded = b.scanner._shell.fileno() >= 0
        assert (b.scanner.cpu_ns > 0) == is_threaded


@asynchronous
async def test_link_that_is_removed_before_it_began_leaves_its_place(bench):
    async with bench({1: registers()}, links_count_max=1) as b:
        b.scanner.remove(b.scanner.add_device(b.driver(), group=b.group))
        device = b.scanner.add_device(b.driver(), group=b.group)
        await b.scanner.wait_up(device, 5)


@asynchronous
async def test_owner_that_is_ending_connects_no_more(bench):
    async with bench({1: registers()}) as b:
        async with asyncio.TaskGroup() as ended:
            pass
        device = b.scanner.add_device(b.driver(), group=ended)
        with pytest.raises(ConnectError, match="its owner is stopping"):
            await b.scanner.wait_up(device, 5)
        b.scanner.remove(device)
