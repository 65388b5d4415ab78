"""The gateway as a process, between a foreign plant (pymodbus, a process too) and the command line: what users do, and what goes wrong.

Nothing here asserts how long something took: each wait ends when what it waits for is there, or fails after a generous time.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bifrost.cli.live import GatewayClient
from bifrost.core.errors import ConnectError
from tests.interop.peers.brokers import free_port

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0

CONFIGURATION = """\
[gateway]
name = "test"
data_dir = "{data_dir}"
writes = {writes}

[[device]]
name = "plant"
url = "modbus-tcp://127.0.0.1:{port}?unit=1"
scan = "50 ms"
timeout = "500 ms"
stale = "1 s"
tags = "plant.csv"
"""
TAGS = """\
group,name,address,type,unit,scale,low,high,writable
,first,hr:0,uint16,,,,,
,pair,hr:2,uint32,,,,,
set,point,hr:10,uint16,kW,0.1,0,500,true
set,locked,hr:11,uint16,,,,,
,outside,hr:5000,uint16,,,,,
"""


class Plant:
    """A pymodbus server process that can be killed and started again at the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.interop.peers.pymodbus_registers", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


class GatewayProcess:
    """`python -m bifrost.gateway`, with its configuration, log and control socket."""

    def __init__(self, directory: Path, port: int, writes: bool = True) -> None:
        self.config = directory / "gateway.toml"
        self.data_dir = directory / "data"
        self.control = self.data_dir / "control.sock"
        self.log = directory / "log"
        writes_text = "true" if writes else "false"
        self.config.write_text(CONFIGURATION.format(data_dir=self.data_dir, port=port, writes=writes_text))
        (directory / "plant.csv").write_text(TAGS)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "bifrost.gateway", "-c", str(self.config)]
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log)
        wait_for(self.answers, self.log)

    def answers(self) -> bool:
        with contextlib.suppress(ConnectError), GatewayClient(str(self.control)) as client:
            return bool(client.ask_one({"command": "read", "tags": []})["ok"])
        return False

    def values(self) -> dict[str, dict[str, Any]]:
        with GatewayClient(str(self.control)) as client:
            return {value["tag"]: value for value in client.ask_one({"command": "read"})["values"]}

    def quality(self, tag: str) -> str:
        return str(self.values()[tag]["quality"])

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def bifrost(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line, with this gateway's configuration."""
        return bifrost(*words, "-c", str(self.config))


def bifrost(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bifrost", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def wait_for(is_true: Callable[[], bool], log: Path | None = None) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline_s, log.read_text() if log is not None else "it did not become true"
        time.sleep(0.01)


@pytest.fixture
def plant() -> Iterator[Plant]:
    made = Plant()
    made.start()
    yield made
    made.kill()


@pytest.fixture
def gateway(tmp_path: Path, plant: Plant) -> Iterator[GatewayProcess]:
    made = GatewayProcess(tmp_path, plant.port)
    made.start()
    wait_for(lambda: made.quality("plant.first") == "Good", made.log)
    yield made
    made.kill()


def test_commands_show_the_plants_values(gateway: GatewayProcess, plant: Plant):
    shown = gateway.bifrost("read", "plant.first", "plant.set.*", "--json")
    values = {value["tag"]: value for value in json.loads(shown.stdout)["values"]}
    assert values["plant.first"]["value"] == 1000
    assert values["plant.set.point"]["value"] == pytest.approx(101.0)
    assert values["plant.set.point"]["unit"] == "kW"

    watched = gateway.bifrost("watch", "plant.pair", "--count", "2", "--interval", "0.1", "--json")
    lines = [json.loads(line)["values"] for line in watched.stdout.splitlines()]
    assert [[value["value"] for value in line] for line in lines] == [[(1002 << 16) + 1003]] * 2

    status = json.loads(gateway.bifrost("status", "--json").stdout)
    assert (status["tags"]["count"], status["tags"]["good"]) == (5, 4)
    assert status["devices"][0]["state"] == "partly good"
    assert status["links"][0]["up"]
    assert {task["name"] for task in status["tasks"]} >= {"control", "writes", "learned"}


def test_browse_lists_the_tags(gateway: GatewayProcess):
    tags = json.loads(gateway.bifrost("browse", "plant.set.*", "plant.first", "--json").stdout)["tags"]
    assert [(tag["tag"], tag["type"], tag["address"], tag["unit"], tag["writable"]) for tag in tags] == [
        ("plant.set.point", "uint16", "hr:10", "kW", True),
        ("plant.set.locked", "uint16", "hr:11", "", False),
        ("plant.first", "uint16", "hr:0", "", False),
    ]
    shown = gateway.bifrost("browse", "plant.set.*").stdout.splitlines()
    assert shown[1].split() == ["plant.set.point", "uint16", "hr:10", "kW", "yes"]


def test_address_that_the_device_refuses_is_one_bad_tag(gateway: GatewayProcess):
    wait_for(lambda: gateway.quality("plant.outside") == "BadConfigurationError", gateway.log)
    values = gateway.values()
    assert [values[f"plant.{name}"]["quality"] for name in ("first", "pair", "set.point", "set.locked")] == ["Good"] * 4


def test_write_goes_to_the_device_and_is_read_back_and_audited(gateway: GatewayProcess, plant: Plant):
    written = gateway.bifrost("write", "plant.set.point", "250.5", "--json")
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout)["read_back"]["value"] == pytest.approx(250.5)
    direct = bifrost("read", f"modbus://127.0.0.1:{plant.port}", "hr:10", "--json")
    assert json.loads(direct.stdout)["value"] == 2505
    audit = [json.loads(line) for line in (gateway.data_dir / "state" / "audit.jsonl").read_text().splitlines()]
    done = [record for record in audit if record["event"] == "write_done"]
    assert [(record["tag"], record["result"]) for record in done] == [("plant.set.point", "Good")]
    assert done[0]["who"].startswith("control:uid=")


@pytest.mark.parametrize(
    ("tag", "text", "code", "words"),
    [
        ("plant.set.point", "501", 2, "BadOutOfRange"),
        ("plant.set.locked", "1", 2, "the tag is not writable"),
        ("plant.set.pint", "1", 2, "did you mean 'plant.set.point'?"),
        ("plant.set.point", "much", 2, "'much' is not a number"),
    ],
)
def test_write_that_cannot_be_is_refused_with_a_sentence(
    gateway: GatewayProcess, tag: str, text: str, code: int, words: str
):
    refused = gateway.bifrost("write", tag, text)
    assert refused.returncode == code
    assert words in refused.stderr
    assert gateway.values()["plant.set.point"]["value"] == pytest.approx(101.0)


def test_nothing_is_written_without_the_master_switch(tmp_path: Path, plant: Plant):
    gateway = GatewayProcess(tmp_path, plant.port, writes=False)
    try:
        gateway.start()
        refused = gateway.bifrost("write", "plant.set.point", "5")
        assert refused.returncode == 2
        assert "writes are off" in refused.stderr
    finally:
        gateway.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_cleanly(gateway: GatewayProcess, number: signal.Signals):
    with GatewayClient(str(gateway.control)) as watcher:
        stream = watcher.ask({"command": "watch", "interval_s": 3600}, stream_timeout_s=PATIENCE_S)
        next(stream)
        assert gateway.end(number) == 0
    assert not gateway.control.exists()
    assert "gateway has stopped" in gateway.log.read_text()


STUBBORN = """
import asyncio, sys
from bifrost.gateway.app import run_gateway
from bifrost.gateway.learned import LearnedStore

async def ignore_cancellation(self):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

LearnedStore.run = ignore_cancellation
sys.exit(run_gateway(sys.argv[1]))
"""


def test_task_that_does_not_end_cannot_keep_the_gateway_from_stopping(gateway: GatewayProcess):
    assert gateway.end(signal.SIGTERM) == 0
    command = [sys.executable, "-c", STUBBORN, str(gateway.config)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as stubborn:
        try:
            wait_for(gateway.answers)
            stubborn.terminate()
            _, log = stubborn.communicate(timeout=PATIENCE_S)
        finally:
            stubborn.kill()
    assert stubborn.returncode == 1
    assert "stop was not clean" in log
    assert "learned" in log


def test_control_socket_of_another_program_is_not_taken(tmp_path: Path):
    gateway = GatewayProcess(tmp_path, 502)
    gateway.data_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(gateway.control))
        other.listen()
        refused = gateway.bifrost("run")
        assert refused.returncode == 2
        assert f"gateway.control: another program serves {gateway.control}" in refused.stderr
        assert gateway.control.exists()


def test_killed_gateway_starts_again(gateway: GatewayProcess):
    assert gateway.end(signal.SIGKILL) == -signal.SIGKILL
    assert gateway.control.exists()
    assert gateway.bifrost("status").returncode == 3
    gateway.start()
    wait_for(lambda: gateway.quality("plant.first") == "Good", gateway.log)


def test_second_gateway_in_one_data_directory_is_refused(gateway: GatewayProcess):
    second = gateway.bifrost("run")
    assert second.returncode == 1
    assert gateway.process is not None
    assert f"another gateway (pid {gateway.process.pid}) uses the data directory" in second.stderr
    assert gateway.answers()


def test_wrong_configuration_is_refused_with_its_place(tmp_path: Path):
    gateway = GatewayProcess(tmp_path, 502)
    table = tmp_path / "plant.csv"
    table.write_text(TAGS.replace("hr:2,", "hx:2,"))
    refused = gateway.bifrost("run")
    assert refused.returncode == 2
    assert f"{table}:3: device.plant.tag.pair.address: address 'hx:2'" in refused.stderr
    assert not gateway.control.exists()
    assert gateway.bifrost("check").stdout == refused.stderr


def test_unreachable_plant_is_told_and_found_later(tmp_path: Path):
    plant = Plant()
    gateway = GatewayProcess(tmp_path, plant.port)
    try:
        gateway.start()
        assert gateway.quality("plant.first").startswith("Bad")
        status = json.loads(gateway.bifrost("status", "--json").stdout)
        assert not status["healthy"]
        assert status["devices"][0]["state"] == "not connected"
        plant.start()
        wait_for(lambda: gateway.quality("plant.first") == "Good", gateway.log)
    finally:
        gateway.kill()
        plant.kill()


def test_lost_plant_is_uncertain_then_bad_and_keeps_the_last_value(gateway: GatewayProcess, plant: Plant):
    plant.kill()
    wait_for(lambda: gateway.quality("plant.first") != "Good", gateway.log)
    wait_for(lambda: gateway.quality("plant.first") == "BadNoCommunication", gateway.log)
    assert gateway.values()["plant.first"]["value"] == 1000
    written = gateway.bifrost("write", "plant.set.point", "1")
    assert written.returncode == 3
    plant.start()
    wait_for(lambda: gateway.quality("plant.first") == "Good", gateway.log)
