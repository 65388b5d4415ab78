"""The scan engine: what an answered request costs, in the step alone and, over loopback, in the whole process against pymodbus asyncio."""

from __future__ import annotations

import asyncio
import importlib
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from bench.ratio import Timer, measure, require
from bifrost._native import records as r
from bifrost._native.contract import Backend, Scan, Shell
from csrc.builder import checks
from tests.sim import plant
from tests.sim.plant import MS, SECOND, Block, Cycle

LINKS = 100
TAGS = 50
PORT = 22_000
PERIOD_S = 0.005
RUN_S = 2.0
ROUNDS = 5
TABLE_LIMITS = r.TableLimits(tags_count_max=TAGS * LINKS, ring_changes_count=16_384, ring_body_bytes=0, cell_bytes=0)
SCAN_LIMITS = plant.SCAN_LIMITS._replace(links_count_max=LINKS)
SHELL_LIMITS = r.ShellLimits(256, 256, 260, 260, 32 * 300)
OPTIONS = plant.OPTIONS._replace(timeout_ns=5 * SECOND)


@pytest.fixture
def c() -> Backend:
    return importlib.import_module("bifrost._native._c")


@pytest.fixture
def py() -> Backend:
    return importlib.import_module("bifrost._native._py")


def make_scan(backend: Backend) -> Scan:
    return backend.make_scan(SCAN_LIMITS, plant.make_table(backend, TABLE_LIMITS), 1)


def plans(period_ns: int, spread_ns: int = 0) -> list[r.Plan]:
    """One request for each link: TAGS tags of its own; their phases are spread over `spread_ns`."""
    made = []
    for link in range(LINKS):
        plan = plant.make_plan(1, [Cycle(period_ns, 10 * SECOND, [Block(1, 0, TAGS)], spread_ns * link // LINKS)])
        decodes = [r.DecodeEntry(link * TAGS + at, 4 * at, r.TYPE_UINT32) for at in range(TAGS)]
        made.append(plan._replace(decodes=b"".join(entry.pack() for entry in decodes)))
    return made


def opening(scan: Scan) -> None:
    """Every link is up and has its first request out."""
    events = [r.Event(r.EVENT_LINK, link, data=OPTIONS) for link in range(LINKS)]
    events += [r.Event(r.EVENT_PLAN, link, data=plan) for link, plan in enumerate(plans(MS))]
    events += [r.Event(r.EVENT_OPEN, link) for link in range(LINKS)]
    actions, _ = scan.step(0, events)
    assert sum(action.kind == r.ACTION_SEND for action in actions) == LINKS


def answers(number: int) -> list[r.Event]:
    """Every link gets its answer; values change."""
    frame = plant.answer(plant.read_request(1, 0, TAGS, number & 0xFFFF), number & 0xFFFFF)
    return [r.Event(r.EVENT_BYTES, link, data=frame) for link in range(LINKS)]


def python_step(py: Backend) -> Timer:
    scan = make_scan(py)
    opening(scan)
    numbers = iter(range(1 << 40))

    def round_ns() -> float:
        number = next(numbers)
        events = answers(number)
        begin = time.perf_counter_ns()
        scan.step((number + 1) * MS, events)
        taken = time.perf_counter_ns() - begin
        assert scan.counters(LINKS - 1).answers_good == number + 1
        return taken / LINKS

    return round_ns


def c_step(c: Backend) -> Timer:
    """`bf_scan_step` itself, as the shell calls it: what the adapter for tests does around it is left out."""
    core = importlib.import_module("bifrost._native._core")
    ffi, lib = core.ffi, core.lib
    scan = make_scan(c)
    opening(scan)
    numbers = iter(range(1 << 40))
    events = ffi.new("bf_event[]", LINKS)
    actions = ffi.new("bf_action[]", 1024)
    taken, made, wake_ns = ffi.new("size_t *"), ffi.new("size_t *"), ffi.new("int64_t *")

    def round_ns() -> float:
        number = next(numbers)
        kept = [ffi.from_buffer(event.data) for event in answers(number)]
        for link, data in enumerate(kept):
            events[link].kind, events[link].link, events[link].data = r.EVENT_BYTES, link, data
            events[link].length = len(data)
        begin = time.perf_counter_ns()
        status = lib.bf_scan_step(
            scan._scan,  # type: ignore[attr-defined]  # of the adapter
            (number + 1) * MS,
            events,
            LINKS,
            taken,
            actions,
            1024,
            made,
            wake_ns,
        )
        ended = time.perf_counter_ns()
        assert (status, taken[0], made[0]) == (r.OK, LINKS, LINKS)
        return (ended - begin) / LINKS

    return round_ns


def test_step_in_c_against_python(c: Backend, py: Backend) -> None:
    taken = measure({"c": c_step(c), "py": python_step(py)})
    require("scan_step", taken["py"], taken["c"])


# ---- over loopback ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def plants() -> Iterator[None]:
    """LINKS endpoints in a process of their own."""
    program = checks.build_program(Path(__file__).with_name("plants.c"), ("-DNDEBUG",))
    command = [str(program), str(PORT), str(LINKS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield
    process.communicate()


class Polling:
    """Our shell polling all endpoints; the session is as small as it can be."""

    def __init__(self, backend: Backend) -> None:
        table = plant.make_table(backend, TABLE_LIMITS)
        self.scan = backend.make_scan(SCAN_LIMITS, table, 1)
        shell = backend.make_shell(SHELL_LIMITS, SCAN_LIMITS, self.scan)
        assert shell is not None
        self.table, self.shell = table, shell
        shell.start()
        for link, plan in enumerate(plans(round(PERIOD_S * SECOND), round(PERIOD_S * SECOND))):
            _post(shell, r.Event(r.EVENT_LINK, link, data=OPTIONS))
            _post(shell, r.Event(r.EVENT_PLAN, link, data=plan))
        self._connect()

    def _connect(self) -> None:
        ups = 0
        while ups < LINKS:
            select.select([self.shell.fileno()], [], [], 10)
            while (notice := self.shell.take()) is not None:
                ups += notice.kind == r.ACTION_UP
                if notice.kind == r.ACTION_CONNECT:
                    one = socket.create_connection(("127.0.0.1", PORT + notice.link))
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    _post(self.shell, r.Event(r.EVENT_OPEN, notice.link, value=one.detach()))

    def answered(self) -> int:
        """Good answers of all links; nothing else may have come."""
        counters = [self.scan.counters(link) for link in range(LINKS)]
        assert sum(one.timeouts + one.closes for one in counters) == 0
        return sum(one.answers_good for one in counters)

    def round_ns(self) -> float:
        """CPU of this process for each answered request."""
        cpu_ns, answered = time.process_time_ns(), self.answered()
        time.sleep(RUN_S)
        return (time.process_time_ns() - cpu_ns) / (self.answered() - answered)


def _post(shell: Shell, event: r.Event) -> None:
    while shell.post(event) != r.OK:
        time.sleep(0.001)


async def _peer_poll(client: AsyncModbusTcpClient, phase_s: float, end: float) -> int:
    """Polls one endpoint on the grid of its period, as pymodbus is used; gives the number of answers."""
    loop = asyncio.get_running_loop()
    count = 0
    due = loop.time() + phase_s
    while due < end:
        await asyncio.sleep(due - loop.time())
        answer = await client.read_holding_registers(0, count=2 * TAGS, device_id=1)
        assert not answer.isError()
        count += 1
        due += PERIOD_S
    return count


async def _peer_round() -> float:
    clients = [AsyncModbusTcpClient("127.0.0.1", port=PORT + number) for number in range(LINKS)]
    for client in clients:
        assert await client.connect()
    cpu_ns, end = time.process_time_ns(), asyncio.get_running_loop().time() + RUN_S
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_peer_poll(client, PERIOD_S * number / LINKS, end))
            for number, client in enumerate(clients)
        ]
    taken = (time.process_time_ns() - cpu_ns) / sum(task.result() for task in tasks)
    for client in clients:
        client.close()
    return taken


def test_cpu_per_request_polling_100_endpoints(c: Backend, plants: None) -> None:
    ours, peer = [], []
    for _ in range(ROUNDS):
        polling = Polling(c)
        ours.append(polling.round_ns())
        polling.shell.stop()
        peer.append(asyncio.run(_peer_round()))
    require("poll_cpu", peer, ours)
