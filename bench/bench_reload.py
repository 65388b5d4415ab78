"""How long a reload holds the event loop: 10,000 tags of one device, all in OPC UA and an uplink, 200 of them with another address.

What counts is the CPU time of the whole process between two ticks of a task, the most of all: that is how late a tick would be on a machine
with one core and no neighbours. How late it was, on this one, is printed beside it, and how much of it was the loop's own thread.
"""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

from bench.ratio import require_at_most
from bifrost.core.config import load_config
from bifrost.gateway.app import Gateway

TAGS_COUNT = 10_000
CHANGED_EVERY = 50
RELOADS = 4
TICK_S = 0.002
SETTLE_S = 0.5

CONFIGURATION = """
[gateway]
name = "bench"
data_dir = "{directory}/data"

[opcua]
bind = "127.0.0.1:0"

[[uplink]]
name = "kept"
url = "file://{directory}/out.jsonl"

[[device]]
name = "plant"
url = "modbus-tcp://127.0.0.1:1"
scan = "10 s"
tags = "plant.csv"
"""


class Ticks:
    """A task that has its turn as often as the loop lets it."""

    def __init__(self) -> None:
        self.used_s = 0.0
        self.held_s = 0.0
        self.late_s = 0.0

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            begin_s, cpu_s, used_s = time.monotonic(), time.thread_time(), time.process_time()
            await asyncio.sleep(TICK_S)
            self.used_s = max(self.used_s, time.process_time() - used_s)
            self.held_s = max(self.held_s, time.thread_time() - cpu_s)
            self.late_s = max(self.late_s, time.monotonic() - begin_s - TICK_S)


def write_table(directory: Path, *, is_changed: bool) -> None:
    moved = 20_000 if is_changed else 0
    addresses = (number + (moved if number % CHANGED_EVERY == 0 else 0) for number in range(TAGS_COUNT))
    lines = [f"g{number % 10},tag{number},hr:{address},uint16" for number, address in enumerate(addresses)]
    (directory / "plant.csv").write_text("\n".join(["group,name,address,type", *lines, ""]))


async def longest(directory: Path) -> Ticks:
    write_table(directory, is_changed=False)
    path = directory / "gateway.toml"
    path.write_text(CONFIGURATION.format(directory=directory))
    ticks, stop = Ticks(), asyncio.Event()
    with Gateway(load_config(str(path), {}), {}) as gateway:
        gc.collect()
        gc.freeze()  # As the gateway's own start does.
        async with asyncio.TaskGroup() as group:
            group.create_task(gateway.run(stop), name="gateway")
            assert gateway.opcua is not None
            while not gateway.opcua.face.url:  # noqa: ASYNC110  # its certificate is made by then, which takes longer than a reload
                await asyncio.sleep(SETTLE_S)
            for number in range(RELOADS):
                write_table(directory, is_changed=number % 2 == 0)
                ticking = group.create_task(ticks.run(), name="ticks")
                assert (await gateway.reloader.ask("bench"))["result"] == "done"
                ticking.cancel()
            stop.set()
    gc.unfreeze()
    return ticks


def test_reload_does_not_hold_the_loop(tmp_path: Path):
    ticks = asyncio.run(longest(tmp_path))
    print(
        f"\nlatest tick: {ticks.late_s * 1e3:.0f} ms late; the loop's thread: {ticks.held_s * 1e3:.1f} ms of CPU at most"
    )
    require_at_most("reload_loop_held_ms", ticks.used_s * 1e3)
