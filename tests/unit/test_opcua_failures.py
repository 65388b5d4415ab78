"""The start of an OPC UA server, with one allocation refused: it says so, and the next start is as good as ever.

A process of its own starts the server again and again, each time with another of its 142,000 allocations refused: all
of the first ones, where our code and the configuration are, and some of the rest, where the library builds namespace
0. `python -m tests.unit.test_opcua_failures FIRST STEP LAST` tries others.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

try:
    from bifrost._native import opcua
except ImportError as error:
    if os.environ.get("BIFROST_OPCUA") == "require":
        raise
    pytest.skip(f"the OPC UA module is not built here: {error}", allow_module_level=True)

from tests.unit.test_opcua_native import Bench

ROOT = Path(__file__).parents[2]
GOOD = 0
BAD = 0x8000_0000
BYTES_MAX = 512
"""What one refused start may leave behind. The library's generated code forgets a value of its namespace 0 (at most
145 bytes seen) where adding the node fails; a process that is refused its start ends."""
TIMEOUT_S = 120


def sweep(first: int, step: int, last: int) -> None:
    """Start with allocation `first`, `first + step`, … refused; print a JSON line for each."""
    with tempfile.TemporaryDirectory() as directory:
        status, certificate, key = opcua.make_certificate("Bifrost test", "urn:host:bifrost:test", "host", 30)
        assert status == GOOD
        bench = Bench(Path(directory), (certificate, key))
        for position in range(first, last, step):
            server = opcua.Server()
            opcua.fail_memory(fail_at=position)
            before = opcua.memory()
            status = bench.start(server)
            after = opcua.memory()
            opcua.fail_memory()
            server.stop()
            left = opcua.memory().live_bytes - before.live_bytes
            refused = after.refused_count - before.refused_count
            line = {"position": position, "status": status, "left": left, "refused": refused}
            sys.stdout.write(f"{json.dumps(line)}\n")
            if refused == 0:  # the start needs fewer allocations than that
                break
        bench.runtime.close()


@pytest.mark.parametrize(("first", "step", "last"), [(1, 1, 120), (121, 1_999, 200_000)], ids=["ours", "library"])
def test_start_with_one_refused_allocation_is_refused_or_good_and_never_crashes(first, step, last):
    command = [sys.executable, "-m", "tests.unit.test_opcua_failures", str(first), str(step), str(last)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert run.returncode == 0, run.stderr
    starts = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(starts) > 50
    assert [start for start in starts if start["status"] != GOOD and not start["status"] & BAD] == []
    assert [start for start in starts if not 0 <= start["left"] <= BYTES_MAX] == []
    if first == 1:
        assert {start["refused"] for start in starts} == {1}
        assert {start["left"] for start in starts} == {0}  # what is ours is always given back
    else:
        assert starts[-1] == {"position": starts[-1]["position"], "status": GOOD, "left": 0, "refused": 0}


if __name__ == "__main__":
    sweep(*map(int, sys.argv[1:4]))
