"""The process of `opcua_face`, with what abuse and measurements need besides.

{"fail_every": 20}       from now on one allocation in 20 of the OPC UA stack is refused; 0: none
{"memory": true}         the stack's own count of its bytes, and this process's RSS and CPU time
{"anonymous": "write"}   what clients without a user may from now on
{"flood": 100, "period_s": 0.1}   every tag `plant.many.…` changes, so many times; each value is the number of the round
{"flood": 100, "period_s": 0.1, "wait": false}   the same beside other commands
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from bifrost._native import opcua
from bifrost.core.table import Batch
from tests.interop.peers import opcua_face

LINE_BYTES_MAX = 1 << 24


class StressBench(opcua_face.Bench):
    """A bench that can starve, count and flood."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.many = array("I", (row for name, row in self.rows.items() if name.startswith("plant.many.")))
        self.round = 0
        self.flooding: asyncio.Task[None] | None = None

    async def flood(self, count: int, period_s: float) -> None:
        """Changes all at once, at a steady pace; the first round is 1."""
        started_s = time.monotonic()
        for number in range(1, count + 1):
            self.round += 1
            batch = Batch(self.many, [float(self.round)] * len(self.many), time.time_ns(), 0)
            self.runtime.table.put(batch, server_time_ns=time.time_ns(), now_ns=time.monotonic_ns())
            await asyncio.sleep(max(0.0, started_s + number * period_s - time.monotonic()))

    async def obey(self, command: dict[str, Any]) -> Any:
        if "fail_every" in command:
            opcua.fail_memory(fail_every=command["fail_every"])
            return None
        if "anonymous" in command:
            server = self.face._server  # type: ignore[attr-defined]  # of the compiled face; no configuration says this
            return server.set_users([], command["anonymous"])
        if "memory" in command:
            return measured()
        if "flood" in command:
            flooding = asyncio.create_task(self.flood(command["flood"], command["period_s"]), name="flood")
            if command.get("wait", True):
                await flooding
            self.flooding = flooding
            return None
        return await super().obey(command)


def measured() -> dict[str, float]:
    """The stack's count of its bytes, and what the kernel says of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    process = {"rss_bytes": pages * os.sysconf("SC_PAGE_SIZE"), "cpu_s": time.process_time()}
    return opcua.memory()._asdict() | process


async def serve(options: argparse.Namespace) -> None:
    bench = StressBench(options)
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(bench.face.run(bench.owner), name="face")
        while not bench.face.url and not serving.done():  # a face has no event for it
            await asyncio.sleep(0.01)
        opcua_face.tell({"url": bench.face.url, "pid": os.getpid()})
        while line := await reader.readline():
            opcua_face.tell(await bench.obey(json.loads(line)))
        if bench.flooding is not None:
            bench.flooding.cancel()
        serving.cancel()
    bench.runtime.close()
    left = opcua.memory()
    opcua_face.tell({"live_bytes": left.live_bytes, "foreign_count": left.foreign_count})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--extra", type=int, default=0)
    parser.add_argument("--stack", default="open62541")
    parser.add_argument("--limit", action="append", default=[])
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
