"""What the OPC UA benchmarks share: the servers they measure, each in a process of its own, and what the kernel says that those took."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.interop.node_peer import end, lines, start

ROOT = Path(__file__).parents[1]


def cpu_s(pid: int) -> float:
    """CPU time of a process and its threads so far, from the scheduler: nanoseconds, not ticks."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


@contextlib.contextmanager
def asyncua_server(count: int) -> Iterator[tuple[str, int]]:
    """URL and process id of an asyncua server with so many variables."""
    command = [sys.executable, "-m", "bench.opcua_asyncua_server", str(count)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.communicate()


class NodeServer:
    """A node-opcua server with variables that all change when told."""

    def __init__(self, directory: Path, count: int, period_ms: int) -> None:
        options = {"directory": str(directory), "count": count, "period_ms": period_ms}
        self.process = start("server.js", options)
        self._lines = lines(self.process)
        self.url = next(self._lines)["url"]
        self.pid = self.process.pid

    def flood(self, rounds: int) -> None:
        """Changes everything so many times, beside what follows."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"flood {rounds}\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def node_server(directory: Path, count: int, period_ms: int) -> Iterator[NodeServer]:
    """See `NodeServer`."""
    server = NodeServer(directory, count, period_ms)
    try:
        yield server
    finally:
        end(server.process)
