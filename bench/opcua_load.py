"""`python -m bench.opcua_load DIRECTORY COUNT`: how long an address space of COUNT tags takes to load.

Prints the seconds of CPU until a server listens, and how many of them go into compiling the address space.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from tests.interop.peers.opcua_face import Bench


async def load(directory: Path, count: int) -> tuple[float, float]:
    """The second start is the one that counts: the first one makes the certificate, which takes as long as chance has it."""
    options = argparse.Namespace(directory=str(directory), port=0, extra=count, stack="open62541", limit=[])
    bench = Bench(options)
    await listen(bench)
    began_s = time.process_time()
    await listen(bench)
    listening_s = time.process_time()
    bench.make_space()
    return listening_s - began_s, time.process_time() - listening_s


async def listen(bench: Bench) -> None:
    """Has the face compile its address space and serve it, and ends it as soon as it listens."""
    serving = asyncio.create_task(bench.face.run(bench.owner), name="face")
    while not bench.face.url:  # noqa: ASYNC110  # a face has no event for it
        await asyncio.sleep(0.001)
    serving.cancel()
    await asyncio.wait([serving])


if __name__ == "__main__":
    print(*asyncio.run(load(Path(sys.argv[1]), int(sys.argv[2]))))
