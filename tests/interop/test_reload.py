"""Reload of the gateway as a process, between a foreign plant (pymodbus) that never stands still and a foreign OPC UA client (asyncua).

The plant's values say at which step they were read, so a client that follows them would see a lost sample, a value twice or a value from
the past. The command line and the service manager's socket are used as a person and systemd use them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.interop.opcua_bench import Follower, client, compiled_only, node, until
from tests.interop.peers.brokers import free_port
from tests.interop.peers.plant_values import plant_tags, value_at
from tests.interop.test_gateway_process import PATIENCE_S, ROOT, bifrost, wait_for

from asyncua.ua.uaerrors import UaStatusCodeError  # isort: skip  # skipped by the lines above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

STEP_MS = 100
RELOADS = 12
GOOD, UNKNOWN, WAITING = 0, 0x80340000, 0x80320000

INTEGERS = [tag for tag in plant_tags() if tag.type == "int32"]
FLOATS = [tag for tag in plant_tags() if tag.type == "float32"]


class Plant:
    """A pymodbus process whose registers change all the time."""

    def __init__(self, port: int) -> None:
        self.port = port
        command = [sys.executable, "-m", "tests.interop.peers.pymodbus_plant", str(port), str(STEP_MS)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Gateway:
    """A gateway process whose configuration a test writes again and again, with tags of its own in `conf.d`."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.config = directory / "gateway.toml"
        self.log = directory / "log"
        self.http = free_port()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.setblocking(False)
        self.heard: list[str] = []
        (directory / "conf.d").mkdir()
        self.write(INTEGERS[:4])
        (directory / "conf.d" / "other.toml").write_text(
            self.device("other", FLOATS[:3], more='deadband = "1 %"\nrange = [0, 9]')
        )
        self.process: subprocess.Popen[bytes] | None = None

    def device(self, name, tags, *, more="", port=None, addresses=None):
        lines = [f'[[device]]\nname = "{name}"\nurl = "modbus-tcp://127.0.0.1:{port or self.port}"\nscan = "20 ms"\n']
        for tag in tags:
            address = (addresses or {}).get(tag.name, tag.address)
            lines.append(f'[[device.tag]]\nname = "{tag.name}"\naddress = "{address}"\ntype = "{tag.type}"\n')
            lines.append(f'byte_order = "{tag.order}"\n{more}\n')
        return "".join(lines)

    def write(self, tags, **options):
        head = f'[gateway]\nname = "test"\ndata_dir = "{self.directory / "data"}"\n[opcua]\nbind = "127.0.0.1:0"\n'
        head += f'[http]\nbind = "127.0.0.1:{self.http}"\n'
        self.config.write_text(head + self.device("plant", tags, **options))

    def start(self):
        environ = os.environ | {"NOTIFY_SOCKET": str(self.directory / "notify"), "WATCHDOG_USEC": "3000000"}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "bifrost.gateway", "-c", str(self.config)]
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, env=environ)
        wait_for(lambda: self.hears("READY=1"), self.log)
        wait_for(lambda: self.status()["tags"]["good"] == 7, self.log)
        wait_for(lambda: bool(self.status()["opcua"]["url"]), self.log)  # Its certificate is made meanwhile.

    def hears(self, words):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard += self.manager.recv(4096).decode().split("\n")
        return words in self.heard

    def reload(self, *words):
        return bifrost("reload", "-c", str(self.config), *words)

    def status(self):
        answer = bifrost("status", "--json", "-c", str(self.config))
        return json.loads(answer.stdout) if answer.returncode == 0 else {"tags": {"good": 0}}

    def get(self, page):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{page}", timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.manager.close()


@pytest.fixture
def plant():
    made = Plant(free_port())
    yield made
    made.kill()


@pytest.fixture
def gateway(tmp_path, plant):
    made = Gateway(tmp_path, plant.port)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def run(scenario, patience_s=120):
    asyncio.run(asyncio.wait_for(scenario, patience_s))


def steps_seen(follower, name, tag):
    """The steps that a client saw of a tag, in the order they came."""
    step_of = {value_at(tag, step): step for step in range(1000)}
    assert all(one.StatusCode is None or one.StatusCode.value == GOOD for one in follower.values[name])
    return [step_of[one.Value.Value] for one in follower.values[name]]


def test_tags_that_did_not_change_lose_no_step_while_others_come_and_go(gateway):
    async def work():
        url = gateway.status()["opcua"]["url"]
        connects = {link["link"]: link["opens"] for link in gateway.status()["links"]}
        async with client(url, None) as connected:
            follower = Follower()
            subscription = await connected.create_subscription(50, follower)
            kept = {f"plant.{tag.name}": tag for tag in INTEGERS[:2]}
            names = [*kept, "plant.int32_3", "other.float32_0"]
            await subscription.subscribe_data_change([node(connected, name) for name in names], queuesize=1000)
            await until(lambda: len(follower.values.get("plant.int32_1", ())) >= 3)
            for number in range(RELOADS):
                # Tag 3 goes and comes, tag 4 comes and goes, all others move within the file.
                tags = [*INTEGERS[:3], INTEGERS[4]] if number % 2 == 0 else list(reversed(INTEGERS[:4]))
                gateway.write(tags)
                answer = await asyncio.to_thread(gateway.reload)
                assert answer.returncode == 0, answer.stderr
                assert "tags added 1, tags removed 1" in answer.stdout
                there, gone = INTEGERS[4], INTEGERS[3]
                if number % 2:
                    there, gone = gone, there
                assert type(await node(connected, f"plant.{there.name}").read_value()) is int
                with pytest.raises(UaStatusCodeError, match="BadNodeIdUnknown"):
                    await node(connected, f"plant.{gone.name}").read_value()
            await until(lambda: follower.values["plant.int32_3"][-1].StatusCode.value == GOOD)
            codes = [one.StatusCode.value for one in follower.values["plant.int32_3"]]
            told = [code for code, _ in itertools.groupby(code for code in codes if code != WAITING)]
            assert told == [GOOD, *[UNKNOWN, GOOD] * (RELOADS // 2)]  # The item goes on when its node comes back.
            await until(lambda: len(follower.values["plant.int32_0"]) >= 3 * RELOADS)
            for name, tag in kept.items():
                steps = steps_seen(follower, name, tag)
                assert steps == list(range(steps[0], steps[-1] + 1)), name
        assert {link["link"]: link["opens"] for link in gateway.status()["links"]} == connects
        assert gateway.status()["tags"] == {"count": 7, "good": 7, "uncertain": 0, "bad": 0}

    run(work())


def test_vanished_tag_is_gone_everywhere_and_a_new_one_is_there(gateway):
    gateway.write([*INTEGERS[1:4], INTEGERS[5]])
    assert gateway.reload().returncode == 0
    gone = bifrost("read", "plant.int32_0", "-c", str(gateway.config))
    assert (gone.returncode, "no tag 'plant.int32_0'" in gone.stderr) == (2, True)
    wait_for(lambda: gateway.status()["tags"]["good"] == 7)
    why = bifrost("why", "plant.int32_5", "-c", str(gateway.config)).stdout
    assert "plant.int32_5 is good" in why
    assert f"from plant (modbus-tcp://127.0.0.1:{gateway.port})" in why
    assert 'bifrost_tags{quality="good"} 7' in gateway.get("/metrics")


def test_wrong_file_is_refused_with_its_message_and_exit_code_2(gateway):
    gateway.write(INTEGERS[:4])
    part = gateway.directory / "conf.d" / "broken.toml"
    part.write_text(
        '[[device]]\nname = "x"\nurl = "modbus-tcp://127.0.0.1:1"\n[[device.tag]]\nname = "y"\naddress = "hr:99999"\n'
    )
    answer = gateway.reload()
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"bifrost: {part}:4: device.x.tag.y.address: ")
    said, *warnings = bifrost("check", str(gateway.config)).stdout.splitlines()
    assert f"bifrost: {said}\n" == answer.stderr  # Word for word what `check` says.
    assert all(line.startswith("warning: ") for line in warnings)
    part.write_text("[[device]]\nname = 'x'\n")
    assert gateway.reload().stderr == (
        f"bifrost: {part}:1: device.x.url: is missing: protocol, host, port and options\n"
    )
    assert gateway.status()["reload"]["result"] == "refused"
    part.unlink()
    assert gateway.reload().stdout == "reloaded: changes none\n"


def test_configuration_that_does_not_work_is_taken_back(gateway):
    dead = free_port()
    gateway.write(INTEGERS[:4], port=dead)
    answer = gateway.reload()
    assert answer.returncode == 1
    assert "undone, the configuration before is back: plant.int32_0 was good and is Bad" in answer.stderr
    assert "so are 1 more tags" in answer.stderr
    wait_for(lambda: gateway.status()["tags"]["good"] == 7)
    gateway.write(INTEGERS[:4], addresses={INTEGERS[0].name: "hr:5000"})  # The plant has 1,000 registers.
    answer = gateway.reload()
    assert answer.returncode == 1
    assert "plant.int32_0 was good and is BadConfigurationError" in answer.stderr
    wait_for(lambda: gateway.status()["tags"]["good"] == 7)
    events = [json.loads(line) for line in (gateway.directory / "data/state/audit.jsonl").read_text().splitlines()]
    assert [event["result"] for event in events if event["event"] == "reload"] == ["undone", "undone"]


def test_signal_reloads_and_the_service_manager_hears_of_everything(gateway):
    gateway.write(INTEGERS[:3])
    gateway.hears("")
    gateway.heard.clear()
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: gateway.hears("RELOADING=1"))
    wait_for(lambda: gateway.hears("READY=1"))
    wait_for(lambda: gateway.status()["tags"]["count"] == 6)
    wait_for(lambda: gateway.hears("WATCHDOG=1"))
    wait_for(lambda: gateway.hears("STATUS=6 of 6 tags are good, 2 devices"))
    assert (gateway.get("/livez"), gateway.get("/readyz")) == ("ok\n", "ok\n")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        gateway.get("/")
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(PATIENCE_S) == 0
    assert gateway.hears("STOPPING=1")
