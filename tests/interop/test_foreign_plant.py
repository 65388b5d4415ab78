"""A plant that others wrote: three pymodbus servers in processes of their own, 1,000 registers each, polled by a whole gateway.

The value of a register says which tag it belongs to and at which step of the plant it was read, so that a value that strayed, was torn
between two steps, or came back from the past would be seen. See `peers/plant_values.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bifrost.core.config import load_config
from bifrost.core.tag import DataPoint
from bifrost.gateway.app import Gateway
from tests.interop.peers.plant_values import STEPS, PlantTag, plant_tags, value_at

pytestmark = pytest.mark.interop

PLANTS = 3
SCAN_MS = 100
STEP_MS = 40
RUN_S = 8.0
ROOT = Path(__file__).parents[2]


class Plant:
    """One pymodbus server process; `ask` sends it a word and gives its number."""

    def __init__(self, port: int) -> None:
        self.port = port
        command = [sys.executable, "-m", "tests.interop.peers.pymodbus_plant", str(port), str(STEP_MS)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, word: str) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def plants() -> Iterator[list[Plant]]:
    with contextlib.ExitStack() as stack:
        started = [Plant(port) for port in free_ports(PLANTS)]
        for plant in started:
            stack.callback(plant.kill)
        yield started


def write_configuration(directory: Path, plants: list[Plant]) -> Path:
    rows = ["name,address,type,byte_order"]
    rows += [f"{tag.name},{tag.address},{tag.type},{tag.order}" for tag in plant_tags()]
    (directory / "plant.csv").write_text("\n".join(rows) + "\n")
    lines = [f'[gateway]\nname = "test"\ndata_dir = "{directory / "data"}"']
    lines += [
        f'[[device]]\nname = "plant{number}"\nurl = "modbus-tcp://127.0.0.1:{plant.port}"\nscan = "{SCAN_MS} ms"\n'
        'tags = "plant.csv"'
        for number, plant in enumerate(plants)
    ]
    path = directory / "gateway.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.asynccontextmanager
async def running_gateway(path: Path) -> AsyncIterator[Gateway]:
    config = load_config(str(path), {})
    stop = asyncio.Event()
    with Gateway(config) as gateway:
        async with asyncio.TaskGroup() as group:
            group.create_task(gateway.run(stop), name="gateway")
            try:
                yield gateway
            finally:
                stop.set()


class Witness:
    """Checks every change against what the plant can have had, tag by tag."""

    def __init__(self, tags: list[PlantTag]) -> None:
        self.tags = tags
        self.steps = [0] * (PLANTS * len(tags))
        self.seen = [0] * (PLANTS * len(tags))

    def check(self, row: int, point: DataPoint, newest: int) -> None:
        tag = self.tags[row % len(self.tags)]
        if not point.is_good:
            assert self.seen[row] == 0, f"{point.tag} lost its quality: {point.quality}"
            return
        fitting = (step for step in range(self.steps[row], newest + 1) if value_at(tag, step) == point.value)
        step = next(fitting, None)
        assert step is not None, (
            f"{point.tag} = {point.value!r} was never its value from step {self.steps[row]} to {newest}"
        )
        self.steps[row] = step
        self.seen[row] += 1


async def follow(gateway: Gateway, witness: Witness, plants: list[Plant], seconds: float) -> None:
    """Reads every change for a while. A step is asked for after its changes were read, so it is never behind them."""
    cursor = gateway.runtime.table.cursor()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(SCAN_MS / 1000)
        changes = cursor.read(1_000_000)
        assert changes.missed == 0
        newest = await asyncio.to_thread(lambda: max(plant.ask("step") for plant in plants))
        for row, point in changes.points():
            witness.check(row, point, newest)


def test_every_value_belongs_to_its_tag_and_steps_never_go_back(tmp_path: Path, plants: list[Plant]) -> None:
    asyncio.run(every_value_belongs_to_its_tag_and_steps_never_go_back(tmp_path, plants))


async def every_value_belongs_to_its_tag_and_steps_never_go_back(tmp_path: Path, plants: list[Plant]) -> None:
    tags = plant_tags()
    witness = Witness(tags)
    async with running_gateway(write_configuration(tmp_path, plants)) as gateway:
        await follow(gateway, witness, plants, RUN_S)
        assert min(witness.seen) > 0, "some tag never had a value"
        assert sum(witness.seen) > 20 * len(witness.seen)

        frozen = [plant.ask("freeze") for plant in plants]
        assert max(frozen) < STEPS - 1, "the plant ran out of steps: the test proves nothing"
        await asyncio.sleep(2 * SCAN_MS / 1000)
        points = gateway.runtime.table.snapshot(range(PLANTS * len(tags)))
        for row, point in enumerate(points):
            number, index = divmod(row, len(tags))
            assert (point.value, point.quality) == (value_at(tags[index], frozen[number]), "Good"), point.tag


def test_thousand_contiguous_registers_cost_eight_requests_a_cycle(tmp_path: Path, plants: list[Plant]) -> None:
    asyncio.run(thousand_contiguous_registers_cost_eight_requests_a_cycle(tmp_path, plants))


async def thousand_contiguous_registers_cost_eight_requests_a_cycle(tmp_path: Path, plants: list[Plant]) -> None:
    async with running_gateway(write_configuration(tmp_path, plants)) as gateway:
        await asyncio.sleep(10 * SCAN_MS / 1000)
        assert all(point.is_good for point in gateway.runtime.table.snapshot(range(len(gateway.config.tags))))
        await asyncio.to_thread(lambda: [plant.ask("count") for plant in plants])
        started = time.monotonic()
        await asyncio.sleep(3.0)
        counts = await asyncio.to_thread(lambda: [plant.ask("count") for plant in plants])
        cycles = (time.monotonic() - started) / (SCAN_MS / 1000)
    for count in counts:
        assert 8 * (cycles - 2) <= count <= 8 * (cycles + 2), f"{count} requests in {cycles:.1f} cycles"
