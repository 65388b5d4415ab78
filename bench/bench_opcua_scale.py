"""How large a gateway with an OPC UA face gets, and how long its address space takes to load. Memory is read from the kernel."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.bench_opcua import browse_folder, connected_to
from bench.bench_scale import ROOT, Gateway, many_plants, write_configuration
from bench.ratio import require_at_most
from tests.interop.opcua_bench import Follower, node, until
from tests.interop.peers.brokers import free_port

LOAD_TAGS = 100_000
FOLLOWED = 1_000


async def visit(url: str, devices: int, tags: int) -> None:
    """What a SCADA does when it is set up: browses everything, follows 1,000 tags."""
    async with connected_to(url) as client:
        for number in range(devices):
            assert await browse_folder(client, f"plc{number}") >= tags
        follower = Follower()
        subscription = await client.create_subscription(100, follower)
        await subscription.subscribe_data_change(
            [node(client, f"plc0.tag{index}") for index in range(min(tags, FOLLOWED))]
        )
        await until(lambda: len(follower.values) == min(tags, FOLLOWED))


@pytest.mark.parametrize(
    ("devices", "tags", "target"),
    [(10, 1_000, "opcua_ten_thousand_tags_rss_mb"), (100, 1_000, "opcua_hundred_thousand_tags_rss_mb")],
)
def test_whole_gateway_with_a_client(tmp_path: Path, devices: int, tags: int, target: str) -> None:
    port = free_port()
    write_configuration(tmp_path, devices, tags, "512 MiB")
    path = tmp_path / "gateway.toml"
    path.write_text(path.read_text() + f'[opcua]\nbind = "127.0.0.1:{port}"\n')
    with many_plants(devices):
        gateway = Gateway(tmp_path)
        try:
            status = gateway.wait_started()
            time.sleep(5.0)
            at_rest = gateway.rss_bytes()
            asyncio.run(visit(f"opc.tcp://127.0.0.1:{port}", devices, tags))
            rss = gateway.rss_bytes()
            status = gateway.status() or {}
        finally:
            gateway.stop()
    assert status["tags"]["good"] == devices * tags
    print(f"\n{devices * tags} tags: {at_rest / 1e6:.1f} MB before the first client, {rss / 1e6:.1f} MB after it")
    require_at_most(target, rss / 1e6)


def test_hundred_thousand_tags_are_loaded(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.opcua_load", str(tmp_path), str(LOAD_TAGS)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "BIFROST_BACKEND": "c"}, capture_output=True, text=True, check=True
    )
    starting_s, compiling_s = map(float, done.stdout.split())
    print(
        f"\n100,000 tags: the server listens after {starting_s:.2f} s of CPU, {compiling_s:.2f} s of them for compiling"
    )
    require_at_most("opcua_load_s", starting_s)
