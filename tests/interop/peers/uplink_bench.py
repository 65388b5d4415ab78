"""Processes around a gateway with an uplink: plants, brokers, a witness, a subscriber; started, killed and started again by tests."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bifrost.cli.live import GatewayClient
from bifrost.core.errors import ConnectError
from tests.interop.peers.brokers import free_port, need
from tests.interop.peers.plant_values import plant_tags

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0


def wait_for(is_true: Callable[[], bool], what: Callable[[], str] = lambda: "it did not become true") -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline_s, what()
        time.sleep(0.02)


class Program:
    """A process that can be killed and started again."""

    def __init__(self, *command: str, log: Path, talks: bool = False) -> None:
        self.command = command
        self.log = log
        self.talks = talks
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self.log.open("a") as log:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} if self.talks else {"stdout": log}
            self.process = subprocess.Popen(self.command, cwd=ROOT, text=True, stderr=log, **pipes)
        if self.talks:
            assert self.line() == "ready", self.log.read_text()

    def line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, word: str) -> str:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.line()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code


class Plant(Program):
    """400 tags of every type, in a pymodbus server that changes all of them every `step_ms`."""

    def __init__(self, directory: Path, name: str, step_ms: int) -> None:
        self.name = name
        self.port = free_port()
        module = "tests.interop.peers.pymodbus_plant"
        super().__init__(
            sys.executable, "-m", module, str(self.port), str(step_ms), log=directory / f"{name}.log", talks=True
        )


class Broker(Program):
    """mosquitto, which keeps nothing when it is killed."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        settings = directory / "mosquitto.conf"
        settings.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
        super().__init__(need("mosquitto"), "-c", str(settings), log=directory / "mosquitto.log")

    def start(self) -> None:
        super().start()
        wait_for(self.answers, self.log.read_text)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class Subscriber(Program):
    """mosquitto_sub; its messages lie in a file."""

    def __init__(self, directory: Path, port: int) -> None:
        self.messages_file = directory / "messages.jsonl"
        command = (need("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", "bifrost/#")
        super().__init__(*command, "-F", "%p", "-V", "5", log=self.messages_file)

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.messages_file.read_text().splitlines()]


class Witness(Program):
    """The logging proxy before the broker; answers take `delay_ms` to get through."""

    def __init__(self, directory: Path, broker_port: int, delay_ms: int = 0) -> None:
        self.port = free_port()
        self.acknowledged_file = directory / "witness.jsonl"
        module = "tests.interop.peers.mqtt_witness"
        command = (
            sys.executable,
            "-m",
            module,
            str(self.port),
            str(broker_port),
            str(self.acknowledged_file),
            str(delay_ms),
        )
        super().__init__(*command, log=directory / "witness.log", talks=True)

    def acknowledged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.acknowledged_file.read_text().splitlines()]


class Gateway(Program):
    """`python -m bifrost.gateway` with some plants and one uplink."""

    def __init__(self, directory: Path, plants: Sequence[Plant], broker_port: int, *, more: str = "") -> None:
        self.data_dir = directory / "data"
        self.config = directory / "gateway.toml"
        rows = [f"{tag.name},{tag.address},{tag.type},{tag.order}" for tag in plant_tags()]
        (directory / "plant.csv").write_text("\n".join(["name,address,type,byte_order", *rows]) + "\n")
        text = f'[gateway]\nname = "test"\ndata_dir = "{self.data_dir}"\n'
        for plant in plants:
            text += f'[[device]]\nname = "{plant.name}"\nurl = "modbus-tcp://127.0.0.1:{plant.port}?unit=1"\n'
            text += 'scan = "250 ms"\ntimeout = "1 s"\nstale = "2 s"\ntags = "plant.csv"\n'
        text += f'[[uplink]]\nname = "up"\nurl = "mqtt://127.0.0.1:{broker_port}"\n{more}'
        self.config.write_text(text)
        super().__init__(sys.executable, "-m", "bifrost.gateway", "-c", str(self.config), log=directory / "gateway.log")

    def start(self) -> None:
        super().start()
        wait_for(lambda: bool(self.status()), self.log.read_text)

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(ConnectError), GatewayClient(str(self.data_dir / "control.sock")) as client:
            status: dict[str, Any] = {}
            for answer in client.ask({"command": "status"}):
                status |= answer
            return status
        return {}

    def uplink(self) -> dict[str, Any]:
        status = self.status()
        return status["uplinks"][0] if status else {"ledger": None}

    def ledger(self) -> dict[str, Any]:
        """The ledger, once its equation was checked; empty while the journal is not open."""
        ledger: dict[str, Any] = self.uplink()["ledger"] or {}
        if ledger:
            dropped = sum(ledger["dropped"].values())
            assert ledger["acquired"] == ledger["acknowledged"] + ledger["buffered"] + dropped, ledger
        return ledger
