"""`python -m bench.opcua_load DIRECTORY COUNT`: how long an address space of COUNT tags takes to load.

Prints the seconds to compile it, and the seconds from there to a server that listens.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from tests.interop.peers.opcua_face import Bench


async def load(directory: Path, count: int) -> tuple[float, float]:
    """Compiling is done twice: once, not counted, by the bench that has everything else."""
    options = argparse.Namespace(directory=str(directory), port=0, extra=count, stack="open62541", limit=[])
    bench = Bench(options)
    began_s = time.monotonic()
    bench.make_space()
    compiled_s = time.monotonic()
    serving = asyncio.create_task(bench.face.run(bench.owner), name="face")
    while not bench.face.url:  # noqa: ASYNC110  # a face has no event for it
        await asyncio.sleep(0.001)
    started_s = time.monotonic()
    serving.cancel()
    return compiled_s - began_s, started_s - compiled_s


if __name__ == "__main__":
    print(*asyncio.run(load(Path(sys.argv[1]), int(sys.argv[2]))))
