"""A whole uplink, its journal full of long messages, against a mosquitto that takes only short ones, whether it says so or just hangs up.

Everything arrives, nothing is dropped, and nobody has to come. The clock of the uplink runs fast, so that the breaker's pauses are short.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from bifrost.core.clock import Clock
from tests.interop.peers import brokers
from tests.interop.peers.live_uplink import LiveUplink

pytestmark = pytest.mark.interop

HASTE = 30
SAMPLES = 3_000


@pytest.mark.parametrize(
    ("version", "setting"), [("5", "max_packet_size"), ("5", "message_size_limit"), ("3.1.1", "max_packet_size")]
)
def test_what_was_written_before_the_limit_was_known_arrives_all_the_same(version, setting, tmp_path):
    port = brokers.free_port()
    clock = Clock(monotonic_ns=lambda: time.monotonic_ns() * HASTE)
    url, more = f"mqtt://127.0.0.1:{port}", f'version = "{version}"\ntimeout = "60 s"\n'
    live = LiveUplink(tmp_path, url, more=more, clock=clock, chance=lambda: 0.0)
    got: list[dict[str, Any]] = []

    async def run() -> None:
        async with live.running():
            await live.until(lambda: bool(live.ledger()))
            for _ in range(SAMPLES // live.tags):
                live.put(live.tags)
            await live.until(lambda: live.record()["journal"]["durable_sequence"] > 0)
            config = f"{setting} 4000\nlistener {port} 127.0.0.1\nallow_anonymous true\n"
            with brokers.mosquitto(tmp_path, config, port):
                subscriber = brokers.Subscriber(port, "bifrost/#", {"-q": "1", "-F": "%p"})
                try:
                    await live.until_sent()
                    assert live.ledger()["acknowledged"] == SAMPLES, live.ledger()
                    while len(samples_of(got)) < SAMPLES:
                        got.extend(json.loads(line) for line in await asyncio.to_thread(subscriber.lines, 1))
                finally:
                    subscriber.close()

    asyncio.run(run())
    assert sorted(samples_of(got).values()) == list(range(SAMPLES))


def samples_of(messages: list[dict[str, Any]]) -> dict[tuple[int, int], float]:
    """Values by the number of their message and their place in it: a sample that came twice is one."""
    return {
        (message["seq"], place): sample["value"]
        for message in messages
        for place, sample in enumerate(message["samples"], message.get("first", 0))
    }
