"""How large one gateway gets: 1,000 endpoints polled for a minute, and 100,000 tags at rest. Memory and CPU are read from the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.ratio import device, require_at_most

ROOT = Path(__file__).parents[1]
PORT = 21_000
RUN_S = float(os.environ.get("BIFROST_BENCH_SECONDS", "60"))
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def many_plants(count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.many_plants", str(PORT), str(count)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield
    finally:
        process.communicate()


class Gateway:
    """A gateway in a process of its own, asked over its control socket as a user would."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "gateway.toml"
        command = [sys.executable, "-m", "bifrost.gateway", "-c", str(self.path), "--log-level", "warning"]
        self.process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "BIFROST_BACKEND": "c"})

    def status(self) -> dict[str, Any] | None:
        """What `bifrost status --json` says; None while the gateway does not answer yet."""
        command = [sys.executable, "-m", "bifrost", "status", "--json", "-c", str(self.path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
        return found

    def wait_started(self) -> dict[str, Any]:
        """The first status."""
        for _ in range(300):
            status = self.status()
            if status is not None:
                return status
            assert self.process.poll() is None, "the gateway ended"
            time.sleep(0.1)
        raise AssertionError("the gateway did not answer within 30 s")

    def cpu_s(self) -> float:
        """CPU time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def rss_bytes(self) -> int:
        """Memory of the process that is in RAM now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """Ends it as systemd would, and waits."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


def write_configuration(directory: Path, devices: int, tags: int, memory: str) -> None:
    rows = ["name,address,type,unit,description"]
    rows += [f"tag{number},hr:{number},int16,bar,Pressure at point {number}" for number in range(tags)]
    (directory / "tags.csv").write_text("\n".join(rows) + "\n")
    head = f'[gateway]\nname = "scale"\ndata_dir = "{directory / "data"}"\n[limits]\nmemory_bytes_max = "{memory}"\n'
    sections = [
        f'[[device]]\nname = "plc{number}"\nurl = "modbus-tcp://127.0.0.1:{PORT + number}"\ntags = "tags.csv"\n'
        for number in range(devices)
    ]
    (directory / "gateway.toml").write_text(head + "".join(sections))


def test_thousand_endpoints_polled_once_a_second(tmp_path: Path) -> None:
    write_configuration(tmp_path, 1000, 100, "128 MiB")
    with many_plants(1000):
        gateway = Gateway(tmp_path)
        try:
            gateway.wait_started()
            time.sleep(5.0)  # All links are open, and every one has been polled.
            before, cpu_before = gateway.status(), gateway.cpu_s()
            started = time.monotonic()
            time.sleep(RUN_S)
            after, cpu_after = gateway.status(), gateway.cpu_s()
            seconds = time.monotonic() - started
            rss = gateway.rss_bytes()
        finally:
            gateway.stop()
    assert before is not None
    assert after is not None
    requests = total(after, "requests") - total(before, "requests")
    cpu = cpu_after - cpu_before
    print(
        f"\n1,000 endpoints, 100 tags each, 1 Hz, {seconds:.0f} s: {requests} requests, {total(after, 'skipped')} periods skipped,"
        f" {after['tags']['good']} tags good, CPU {100 * cpu / seconds:.1f} % of a core ({1e6 * cpu / requests:.1f} us a request),"
        f" RSS {rss / 1e6:.1f} MB; {device()}"
    )
    assert total(after, "skipped") == 0
    assert total(after, "timeouts") == 0
    assert after["tags"]["good"] == 100_000
    assert requests >= 1000 * (seconds - 1)


def total(status: dict[str, Any], counter: str) -> int:
    return sum(link[counter] for link in status["links"])


@pytest.mark.parametrize("devices", [100])
def test_hundred_thousand_tags_at_rest(tmp_path: Path, devices: int) -> None:
    write_configuration(tmp_path, devices, 100_000 // devices, "128 MiB")
    with many_plants(devices):
        gateway = Gateway(tmp_path)
        try:
            status = gateway.wait_started()
            load_cpu_s = status["cpu_s"]
            time.sleep(5.0)
            rss = gateway.rss_bytes()
            status = gateway.status()
        finally:
            gateway.stop()
    assert status is not None
    assert status["tags"]["good"] == 100_000
    require_at_most("hundred_thousand_tags_rss_mb", rss / 1e6)
    require_at_most("hundred_thousand_tags_load_s", load_cpu_s)
