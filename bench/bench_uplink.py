"""The uplink against a paho client that publishes one by one: emptying a full buffer, and a sample's way from table to acknowledgement.

Both talk MQTT 5 with QoS 1 to the same mosquitto on loopback, in turns; `bench.uplink_load` has both sides. The floor is the same messages
written to a bare socket: what broker and loopback leave for any client.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.ratio import device, require
from tests.interop.peers import brokers

ROOT = Path(__file__).parents[1]
RUNS = 3
PAHO_MESSAGES = 5_000
PER_SECOND = 10_000
SECONDS = 8


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder on the disk of this checkout: the journal is to wait for a disk."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as folder:
        yield Path(folder)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a mosquitto."""
    free = brokers.free_port()
    with brokers.mosquitto(tmp_path, f"listener {free} 127.0.0.1\nallow_anonymous true\n", free):
        yield free


def play(role: str, directory: Path, port: int, *numbers: int) -> dict[str, Any]:
    """What a role of `bench.uplink_load` measured, in a process of its own."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "bench.uplink_load", role, str(directory), str(port), *map(str, numbers)]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_a_full_buffer_is_emptied(place: Path, port: int) -> None:
    ours, theirs = [], []
    for number in range(RUNS):
        directory = place / str(number)
        play("fill", directory, brokers.free_port())
        drained = play("drain", directory, port)
        bare = play("floor", directory, port, drained["messages"], drained["bytes"] // drained["messages"])
        published = play("paho", directory, port, PAHO_MESSAGES)
        ours.append(drained["seconds"] / drained["samples"] * 1e9)
        theirs.append(published["seconds"] / published["samples"] * 1e9)
        print(
            f"\ndrain: {drained['samples']:,} samples in {drained['messages']:,} messages, {drained['bytes'] / 1e6:.0f} MB,"
            f" {drained['seconds']:.2f} s from opening the journal; the same messages on a bare socket {bare['seconds']:.2f} s;"
            f" paho {published['samples'] / published['seconds']:,.0f} samples/s; {device()}"
        )
    require("uplink_drain", theirs, ours)


def test_cpu_of_a_sample_from_the_table_to_its_acknowledgement(place: Path, port: int) -> None:
    ours, theirs = [], []
    for number in range(RUNS):
        directory = place / str(number)
        sent = play("steady", directory, port, PER_SECOND, SECONDS)
        fed = play("feeding", directory, port, PER_SECOND, SECONDS)
        published = play("paho", directory, port, PAHO_MESSAGES)
        ours.append((sent["cpu_s"] / sent["samples"] - fed["cpu_s"] / fed["samples"]) * 1e9)
        theirs.append(published["cpu_s"] / published["samples"] * 1e9)
    require("uplink_cpu_per_sample", theirs, ours)
