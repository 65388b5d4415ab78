"""Plant, broker and gateway die without a word and come back, in every order; nothing that was committed is lost, and nothing is invented.

Two witnesses know the truth: a proxy before the broker writes down each message the moment its acknowledgement passes, and the plant's
values are a function of its step. In the end, when everything lives and nothing is buffered:

* the numbers of the messages acknowledged at the proxy have no gap from 1 to the journal's last: all that was committed was acknowledged;
* a message acknowledged twice is the same message, and a connection made after a death repeats at most a window of them;
* the ledger's `acknowledged` is the number of samples in the messages, each counted once, and its equation holds at every look;
* every value is one the plant had;
* while the gateway lives, its memory does not grow.

The order is drawn from a seed, which a failure prints. `BIFROST_DEAD_ROUNDS` is the number of rounds, 12 if it is not set; the bar is 100.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peers.plant_values import STEPS, plant_tags, value_at
from tests.interop.peers.uplink_bench import Broker, Gateway, Plant, Program, Witness, wait_for

pytestmark = pytest.mark.interop

WINDOW = 20  # What the connector keeps in flight to a broker that says nothing else; MQTT 5.0, 3.3.4.
RSS_GROWTH_BYTES_MAX = 2 << 20
SECONDS_DEAD = (0.05, 0.8)
SECONDS_ALIVE = (0.3, 1.2)
TAGS = {tag.name: tag for tag in plant_tags()}


class Bench:
    """All the processes."""

    def __init__(self, directory: Path) -> None:
        self.plant = Plant(directory, "plant", 200)
        self.broker = Broker(directory)
        self.witness = Witness(directory, self.broker.port, delay_ms=100)
        self.gateway = Gateway(directory, [self.plant], self.witness.port, more='linger = "100 ms"\n')
        self.mortal: dict[str, Program] = {"plant": self.plant, "broker": self.broker, "gateway": self.gateway}
        self.programs: list[Program] = [self.plant, self.broker, self.witness, self.gateway]

    def start(self) -> None:
        for program in self.programs:
            program.start()

    def rounds(self, orders: list[tuple[str, ...]], chance: random.Random) -> Iterator[tuple[str, ...]]:
        """Each order: these die one after the other, and come back in an order of their own."""
        for order in orders:
            for name in order:
                self.mortal[name].kill()
                time.sleep(chance.uniform(*SECONDS_DEAD))
            for name in chance.sample(order, len(order)):
                self.mortal[name].start()
                time.sleep(chance.uniform(*SECONDS_DEAD))
            time.sleep(chance.uniform(*SECONDS_ALIVE))
            self.gateway.ledger()
            yield order


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        made.start()
        yield made
    finally:
        for program in reversed(made.programs):
            program.kill()


def check(bench: Bench, deaths: int) -> None:
    wait_for(lambda: bench.gateway.uplink().get("state") == "connected", bench.gateway.log.read_text)
    bench.plant.ask("freeze")
    time.sleep(0.5)
    wait_for(lambda: bench.gateway.ledger().get("buffered") == 0, lambda: str(bench.gateway.uplink()))
    uplink = bench.gateway.uplink()
    by_number: dict[int, dict[str, Any]] = {}
    again: Counter[int] = Counter()
    for entry in bench.witness.acknowledged():
        message = entry["payload"]
        again[entry["connection"]] += message["seq"] in by_number
        assert by_number.setdefault(message["seq"], message) == message, "one number, two messages"
    assert sorted(by_number) == list(range(1, uplink["journal"]["next_sequence"]))
    assert max(again.values()) <= WINDOW, again
    samples = sum(len(message["samples"]) for message in by_number.values())
    assert uplink["ledger"]["acknowledged"] == samples
    assert uplink["ledger"]["dropped"] | {"lapped": 0} == dict.fromkeys(uplink["ledger"]["dropped"], 0)
    for message in by_number.values():
        for sample in message["samples"]:
            check_value(sample)
    _say(f"{deaths} deaths, {len(by_number)} messages, {again.total()} of them acknowledged again, {samples} samples")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")  # pytest shows it when the test fails, or with -s.


def check_value(sample: dict[str, Any]) -> None:
    tag = TAGS[sample["tag"]]
    if sample["value"] is None:  # A plant that was not there yet.
        assert sample["quality"].startswith("Bad"), sample
        return
    if tag.type == "bool":
        return
    if tag.type in ("bcd16", "uint8", "int8"):
        span = {"bcd16": 500, "uint8": 32, "int8": 16}[tag.type]
        offset = {"bcd16": 0, "uint8": 0, "int8": 64}[tag.type]
        assert (sample["value"] + offset) // span == tag.serial, sample
        return
    if tag.type == "int16[3]":
        assert sample["value"] == value_at(tag, sample["value"][1]), sample
        return
    number = int(sample["value"]) + (8 * STEPS if tag.type == "int16" else 0)
    assert sample["value"] == value_at(tag, abs(number) - tag.serial * STEPS), sample


ORDERS = [order for size in (1, 2, 3) for order in itertools.permutations(("plant", "broker", "gateway"), size)]


def test_what_was_committed_is_acknowledged_whoever_dies(bench: Bench):
    seed = int(os.environ.get("BIFROST_SEED", random.randrange(1 << 32)))
    _say(f"BIFROST_SEED={seed}")
    chance = random.Random(seed)
    orders = [("gateway",), ("broker",), ("plant",), ("broker", "gateway"), ("gateway", "broker", "plant")]
    deaths = sum(len(order) for order in bench.rounds(orders, chance))
    check(bench, deaths)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_rounds_of_deaths_in_every_order(bench: Bench):
    seed = int(os.environ.get("BIFROST_SEED", random.randrange(1 << 32)))
    _say(f"BIFROST_SEED={seed}")
    chance = random.Random(seed)
    rounds = int(os.environ.get("BIFROST_DEAD_ROUNDS", "12"))
    orders = [*ORDERS, *(chance.choice(ORDERS) for _ in range(rounds))][:rounds]
    deaths = sum(len(order) for order in bench.rounds(orders, chance))
    check(bench, deaths)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_of_a_gateway_that_lives_while_others_die_does_not_grow(bench: Bench):
    chance = random.Random(1)
    orders = [("plant",), ("broker",), ("plant", "broker"), ("broker", "plant")]
    rounds = int(os.environ.get("BIFROST_DEAD_ROUNDS", "12")) // 4
    before = 0
    for number in range(rounds):
        for _ in bench.rounds(orders, chance):
            pass
        resident = int(bench.gateway.status()["memory"]["rss_bytes"])
        before = before if number > rounds // 4 else resident  # Allocators take some rounds to come to rest.
        assert resident - before <= RSS_GROWTH_BYTES_MAX, (number, before, resident)
    check(bench, rounds * 6)
