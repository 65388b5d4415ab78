"""Uplinks in a whole gateway, in this process: what the plant says comes out of the file connector, and the ledger is where people look."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bifrost.cli.status import status_lines
from bifrost.core.config import load_config
from bifrost.core.errors import ConfigError
from bifrost.gateway import health
from bifrost.gateway.app import Gateway
from bifrost.gateway.check import check_file
from bifrost.gateway.uplinks import left_buffers
from bifrost.plc.modbus.address import Table
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ModbusServer

PATIENCE_S = 20
CONFIGURATION = """
[gateway]
name = "line"
data_dir = "{directory}/data"

[[device]]
name = "plant"
url = "modbus-tcp://127.0.0.1:{port}?unit=1"
scan = "20 ms"

[[device.tag]]
name = "level"
address = "hr:0"
type = "uint16"

[[uplink]]
name = "out"
url = "file://{directory}/out.jsonl"
linger = "10 ms"
"""


def write_configuration(directory: Path, port: int, **replaced: str) -> str:
    path = directory / "gateway.toml"
    text = CONFIGURATION.format(directory=directory, port=port)
    for old, new in replaced.items():
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


def values(directory: Path) -> list[Any]:
    path = directory / "out.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []  # None before the first batch.
    return [sample["value"] for line in lines for sample in json.loads(line)["message"]["samples"]]


async def until(is_true: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():  # what is waited for has no event
            await asyncio.sleep(0.01)


def test_plants_values_reach_the_file_and_the_ledger_balances_everywhere(tmp_path):
    async def run() -> None:
        memory = Memory(holding_registers=10)
        server = ModbusServer({1: memory}, port=0)
        async with server.running():
            config = load_config(write_configuration(tmp_path, server.port), {})
            stop = asyncio.Event()
            with Gateway(config) as gateway:
                async with asyncio.TaskGroup() as group:
                    group.create_task(gateway.run(stop), name="gateway")
                    await until(lambda: gateway.uplinks.records()[0]["ledger"])
                    for value in (5, 6, 7):
                        memory.write(Table.HOLDING_REGISTER, 0, 1, bytes((0, value)))
                        await until(lambda value=value: value in values(tmp_path))
                    await until(lambda: gateway.uplinks.records()[0]["ledger"]["buffered"] == 0)
                    (record,) = health.status(gateway)["uplinks"]
                    assert record["state"] == "connected"
                    assert record["ledger"]["acquired"] == record["ledger"]["acknowledged"] == len(values(tmp_path))
                    text = gateway.metrics.render()
                    assert f'bifrost_uplink_acquired_total{{uplink="out"}} {len(values(tmp_path))}' in text
                    assert 'bifrost_uplink_dropped_total{uplink="out",reason="lapped"} 0' in text
                    assert 'bifrost_uplink_up{uplink="out"} 1' in text
                    stop.set()
            assert values(tmp_path)[-3:] == [5, 6, 7]

    asyncio.run(run())


def test_status_shows_where_samples_are_and_why_some_are_gone():
    ledger = {
        "acquired": 12_000,
        "acknowledged": 9_000,
        "buffered": 2_990,
        "dropped": {"lapped": 10, "cap": 0},
        "unclean_stop": {"since": "2026-11-22T09:00:00.000000Z"},
    }
    uplink = {
        "name": "out",
        "url": "mqtt://b",
        "state": "waiting",
        "reason": "refused",
        "ledger": ledger,
        "journal": {"failure": "the journal is at its disk cap"},
    }
    closed = {
        "name": "other",
        "url": "mqtt://c",
        "state": "waiting",
        "reason": "its journal is not open",
        "ledger": None,
    }
    status: dict[str, Any] = {
        "name": "line",
        "healthy": True,
        "uptime_s": 1.0,
        "version": "0",
        "pid": 1,
        "backend": "c",
        "tags": {"count": 0, "good": 0, "uncertain": 0, "bad": 0},
        "memory": {"regions_bytes": 0, "memory_bytes_max": 0, "rss_bytes": 0},
        "writes": {"enabled": False, "sent": 0, "refused": 0, "waiting": 0},
        "clock_synchronised": True,
        "devices": [],
        "links": [],
        "tasks": [],
        "warnings": [],
        "uplinks": [uplink, closed],
    }
    lines = status_lines(status)
    shown = [" ".join(line.split()) for line in lines]
    assert "out waiting: refused 12 000 9 000 2 990 10 mqtt://b" in shown
    assert "other waiting: its journal is not open ? ? ? ? mqtt://c" in shown
    assert "uplink out: dropped: lapped 10" in shown
    assert any("2026-11-22T09:00:00.000000Z" in line for line in shown)
    assert "uplink out: the journal is at its disk cap" in shown


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'linger = "10 ms"',
            'batch_bytes_max = "2 MiB"\n[uplink.buffer]\ndisk_bytes_max = "4 MiB"',
            "needs a buffer of",
        ),
        ("/out.jsonl", "/out.jsonl?colour=red", "'colour'"),
    ],
)
def test_uplink_that_cannot_work_is_refused_by_check_and_by_the_start(tmp_path, old, new, words):
    path = write_configuration(tmp_path, 502, **{old: new})
    (message,) = check_file(path, {})
    assert words in message
    assert "uplink.out" in message

    async def start() -> None:
        with pytest.raises(ConfigError, match="out"):
            Gateway(load_config(path, {}))

    asyncio.run(start())


def test_buffer_of_an_uplink_that_is_not_configured_is_named(tmp_path):
    """Renamed or removed: what waits in it is neither sent nor deleted, so somebody has to know."""

    def warnings(path: str) -> list[str]:
        return list(left_buffers(load_config(path, {})))

    path = write_configuration(tmp_path, 502)
    assert warnings(path) == []
    for name, files in (("out", ("00000001.bfs",)), ("old", ("00000001.bfs", "00000002.bfs")), ("empty", ())):
        folder = tmp_path / "data" / "journal" / name
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_bytes(bytes(1 << 20))
    (warning,) = warnings(path)
    assert "an uplink 'old' that is not configured, and has 2048 KiB" in warning
    path = write_configuration(tmp_path, 502, **{'name = "out"': 'name = "new"'})
    assert [words in found for words, found in zip(("'old'", "'out'"), warnings(path), strict=True)] == [True, True]

    async def run() -> None:
        with Gateway(load_config(path, {})) as gateway:
            assert gateway.warnings[:2] == warnings(path)

    asyncio.run(run())
