"""The main job, end to end with foreign programs: pymodbus plants, the gateway, mosquitto and mosquitto_sub, each a process of its own.

1,200 tags change each second, with values that say which tag and which step they are. What mosquitto_sub gets are only values the plant
had, with each tag's steps in order; and every change that was committed to the journal gets there: messages are numbered by their records
without a gap, and their samples are as many as the ledger says.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peers.plant_values import STEPS, PlantTag, plant_tags, value_at
from tests.interop.peers.uplink_bench import Broker, Gateway, Plant, Subscriber, wait_for

pytestmark = pytest.mark.interop

PLANTS = ("north", "south", "west")
STEP_MS = 1000
TAGS = {tag.name: tag for tag in plant_tags()}
CYCLIC = ("bcd16", "uint8", "int8", "bool")  # Types too narrow for a value that says its step.


class Bench:
    """All the processes."""

    def __init__(self, directory: Path) -> None:
        self.plants = [Plant(directory, name, STEP_MS) for name in PLANTS]
        self.broker = Broker(directory)
        self.subscriber = Subscriber(directory, self.broker.port)
        self.gateway = Gateway(directory, self.plants, self.broker.port)
        self.programs = [*self.plants, self.broker, self.subscriber, self.gateway]

    def start(self) -> None:
        for program in self.programs:
            program.start()
        wait_for(lambda: self.gateway.uplink()["ledger"] is not None, self.gateway.log.read_text)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        made.start()
        yield made
    finally:
        for program in reversed(made.programs):
            program.kill()


def step_of(tag: PlantTag, value: Any) -> int | None:
    """The step at which a tag has this value; None for a type that does not say."""
    if tag.type in CYCLIC:
        return None
    if tag.type == "int16[3]":
        step = value[1]
    elif tag.type == "string[8]":
        step = int(value) - tag.serial * STEPS
    elif tag.type == "int16":
        step = value + 8 * STEPS - tag.serial * STEPS
    else:
        step = int(abs(value)) - tag.serial * STEPS
    assert value_at(tag, step) == value, (tag, value)
    return int(step)


def check_messages(messages: list[dict[str, Any]], steps_max: dict[str, int]) -> int:
    """Asserts what this module says of them; gives the samples."""
    assert sorted(message["seq"] for message in messages) == list(range(1, len(messages) + 1))
    last: dict[str, int] = defaultdict(lambda: -1)
    count = 0
    for message in messages:
        for sample in message["samples"]:
            count += 1
            assert sample["quality"] == "Good", sample
            tag = TAGS[sample["tag"]]
            step = step_of(tag, sample["value"])
            if step is None:
                assert sample["value"] in [value_at(tag, number) for number in range(steps_max[message["device"]] + 1)]
                continue
            name = f"{message['device']}.{tag.name}"
            assert last[name] < step <= steps_max[message["device"]], name
            last[name] = step
    assert len(last) == len(PLANTS) * sum(tag.type not in CYCLIC for tag in TAGS.values())
    return count


def do_the_job(bench: Bench, seconds: float) -> None:
    time.sleep(seconds)
    steps_max = {plant.name: int(plant.ask("freeze")) for plant in bench.plants}
    time.sleep(1.0)
    wait_for(lambda: bench.gateway.ledger()["buffered"] == 0, bench.gateway.log.read_text)
    ledger = bench.gateway.ledger()
    assert ledger["acquired"] == ledger["acknowledged"], ledger
    changes_each = min(steps_max.values()) - 1
    assert ledger["acquired"] >= changes_each * len(PLANTS) * len(TAGS) * 0.9, "a step was hardly ever seen"
    wait_for(lambda: sum(len(m["samples"]) for m in bench.subscriber.messages()) >= ledger["acquired"])
    assert check_messages(bench.subscriber.messages(), steps_max) == ledger["acquired"]
    assert bench.gateway.terminate() == 0


def test_every_change_reaches_the_subscriber_in_order(bench: Bench):
    do_the_job(bench, 6)


@pytest.mark.slow
def test_every_change_of_a_minute_reaches_the_subscriber_in_order(bench: Bench):
    do_the_job(bench, float(os.environ.get("BIFROST_MAIN_JOB_SECONDS", "60")))
