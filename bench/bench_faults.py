"""Sick plants do not slow healthy ones: the period error of healthy links, beside faulty ones and without them, in turns."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import subprocess
import sys
from pathlib import Path

from bench.ratio import device, require_at_most
from bifrost.core.config import load_config
from bifrost.gateway.app import Gateway

ROOT = Path(__file__).parents[1]
PORT = 23_000
HEALTHY = 10
FAULTY = 10
PERIOD_S = 0.05
RUN_S = 6.0
ROUNDS = 3


def write_configuration(directory: Path) -> Path:
    """Ten healthy devices, then ten that may be faulty; one tag each."""
    sections = [
        f'[[device]]\nname = "plc{number}"\nurl = "modbus-tcp://127.0.0.1:{PORT + number}"\nscan = "50 ms"\n'
        'timeout = "200 ms"\nstale = "2 s"\n[[device.tag]]\nname = "count"\naddress = "hr:0"\n'
        for number in range(HEALTHY + FAULTY)
    ]
    path = directory / "gateway.toml"
    path.write_text(f'[gateway]\nname = "faults"\ndata_dir = "{directory / "data"}"\n' + "".join(sections))
    return path


async def period_errors(path: Path) -> list[float]:
    """How far each interval between two values of a healthy tag was from the period, in seconds."""
    config = load_config(str(path), {})
    stop = asyncio.Event()
    times: dict[int, list[int]] = {row: [] for row in range(HEALTHY)}
    with Gateway(config) as gateway:
        async with asyncio.TaskGroup() as group:
            group.create_task(gateway.run(stop), name="gateway")
            await asyncio.sleep(1.0)
            cursor = gateway.runtime.table.cursor()
            await asyncio.sleep(RUN_S)
            for row, point in cursor.read(1_000_000).points():
                if row in times and point.is_good:
                    times[row].append(point.source_time_ns)
            stop.set()
    assert all(len(found) > 0.8 * RUN_S / PERIOD_S for found in times.values()), "a healthy link was not polled"
    return [
        abs((later - earlier) / 1e9 - PERIOD_S)
        for found in times.values()
        for earlier, later in itertools.pairwise(found)
    ]


def p95(directory: Path, *, is_faulty: bool) -> float:
    """The 95th percentile of one run, in seconds."""
    command = [sys.executable, "-m", "bench.faulty_plants", str(PORT), str(HEALTHY), str(FAULTY), str(int(is_faulty))]
    plants = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert plants.stdout is not None
    assert plants.stdout.readline() == "ready\n"
    try:
        errors = asyncio.run(period_errors(write_configuration(directory)))
    finally:
        plants.communicate()
    return statistics.quantiles(errors, n=20)[-1]


def test_healthy_links_keep_their_period_beside_faulty_ones(tmp_path: Path) -> None:
    found = [(p95(tmp_path, is_faulty=False), p95(tmp_path, is_faulty=True)) for _ in range(ROUNDS)]
    calm, faulty = (statistics.median(column) * 1e6 for column in zip(*found, strict=True))
    print(f"\np95 of the period error: {calm:,.0f} us without faults, {faulty:,.0f} us beside them; {device()}")
    require_at_most("period_error_beside_faults", faulty / calm)
