"""`bifrost demo` as a stranger meets it: what it shows, that its broker can be killed, and that nothing of it is ever left behind.

Started for real, on a terminal of its own where that matters, with mosquitto_sub as the foreign subscriber.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peers.brokers import need
from tests.interop.test_gateway_process import PATIENCE_S, ROOT, bifrost, wait_for

pytestmark = [pytest.mark.interop]

ON_A_TERMINAL = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))"
WITHOUT_AMQTT = "import sys; sys.modules['amqtt'] = None; from bifrost.cli.main import main; sys.exit(main())"
LEDGER = re.compile(r"([0-9,]+) samples acquired = ([0-9,]+) acknowledged \+ ([0-9,]+) buffered \+ ([0-9,]+) dropped")


def children(pid: int) -> list[int]:
    """Processes that were started by `pid`."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    """Whether a process has ended; nobody may have asked yet how."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


class Demo:
    """A running demonstration, and all it has said so far."""

    def __init__(self, directory: Path, *wrapper: str) -> None:
        self.log = directory / "screen"
        environ = os.environ | {"TERM": "xterm", "COLUMNS": "130", "LINES": "24"}
        with self.log.open("wb") as stream:
            command = [sys.executable, *wrapper, "-m", "bifrost", "demo", "--dir", str(directory / "demo")]
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=stream, env=environ)

    @property
    def screen(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, found: Callable[[str], Any], since: int = 0) -> int:
        """Waits until the screen, from `since` on, is as wanted; gives where it ends then."""
        wait_for(lambda: bool(found(self.screen[since:])), self.log)
        return len(self.screen)

    def press(self, key: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(key)
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path, "-c", ON_A_TERMINAL, sys.executable)
    yield made
    made.close()


def finite(directory: Path, *words: str, code: Sequence[str] = ("-m", "bifrost")) -> list[dict[str, Any]]:
    """The snapshots of a demonstration of three seconds."""
    command = [sys.executable, *code, "demo", "--dir", str(directory), "--seconds", "3", "--json", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_snapshots_have_good_values_and_a_ledger_that_moves(tmp_path: Path):
    snapshots = finite(tmp_path)
    assert any(snapshot["good"] > 0 for snapshot in snapshots)
    values = {value["tag"]: value["value"] for value in snapshots[-1]["values"]}
    assert values["meter.serial_number"] == "BF-EM3-004711"
    assert snapshots[-1]["uplinks"][0]["ledger"]["acknowledged"] > 0
    assert snapshots[-1]["broker"]["state"] == "running"
    assert not (tmp_path / "data" / "control.sock").exists()
    assert bifrost("check", str(tmp_path / "gateway.toml")).returncode == 0


def test_screen_shows_where_to_connect_and_what_becomes_of_each_sample(terminal: Demo):
    terminal.wait_for(lambda text: "connected; " in text)
    said = terminal.screen
    assert re.search(r"OPC UA +opc\.tcp://127\.0\.0\.1:[0-9]+ ", said)
    line = re.search(r"^ +(mosquitto_sub .*?)\r?$", said, re.MULTILINE)
    assert line is not None
    program, *words = shlex.split(line[1])
    command = [need(program), *words, "-C", "1", "-W", "20"]
    message = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    topic, _, payload = message.partition(" ")
    assert topic.startswith("bifrost/demo/")
    assert json.loads(payload)["samples"]
    for found in LEDGER.finditer(terminal.screen):
        acquired, *terms = (int(count.replace(",", "")) for count in found.groups())
        assert acquired == sum(terms)


def test_broker_that_is_killed_is_missed_and_comes_back(terminal: Demo):
    at = terminal.wait_for(lambda text: "connected; " in text and "broker: runs" in text)
    pid = int(re.findall(r"kill ([0-9]+)", terminal.screen)[-1])
    os.kill(pid, signal.SIGKILL)
    at = terminal.wait_for(lambda text: "broker: has ended" in text and "waiting; " in text, at)

    def grows(text: str) -> bool:
        buffered = [int(found[2].replace(",", "")) for found in LEDGER.findall(text)]
        return bool(buffered) and max(buffered) > buffered[0]

    at = terminal.wait_for(grows, at)
    at = terminal.wait_for(lambda text: "broker: runs" in text, at)
    terminal.wait_for(lambda text: "connected; " in text, at)
    assert int(re.findall(r"kill ([0-9]+)", terminal.screen)[-1]) != pid


def test_control_c_ends_it_and_leaves_nothing_behind(terminal: Demo):
    terminal.wait_for(lambda text: "connected; " in text)
    (demo,) = children(terminal.process.pid)
    started = children(demo)
    assert len(started) == 4  # the leader of the family, broker, plant, gateway
    terminal.press(b"\x03")
    assert terminal.process.wait(PATIENCE_S) == 0
    assert all(map(is_gone, started))


def test_killed_demonstration_leaves_nothing_behind(tmp_path: Path):
    demo = Demo(tmp_path)
    try:
        demo.wait_for(lambda text: "connected; " in text)
        started = children(demo.process.pid)
        demo.process.kill()
        wait_for(lambda: all(map(is_gone, started)))
    finally:
        demo.close()


def test_ports_that_are_taken_are_left_alone(tmp_path: Path):
    with contextlib.ExitStack() as stack:
        for port in (5020, 4840, 1883):
            taken = stack.enter_context(socket.socket())
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):  # somebody else has it already
                taken.bind(("127.0.0.1", port))
                taken.listen()
        snapshots = finite(tmp_path)
    assert not snapshots[-1]["broker"]["url"].endswith(":1883")
    assert snapshots[-1]["uplinks"][0]["ledger"]["acknowledged"] > 0


def test_without_a_broker_messages_go_to_a_file(tmp_path: Path):
    snapshots = finite(tmp_path, code=("-c", WITHOUT_AMQTT))
    assert snapshots[-1]["broker"] is None
    assert snapshots[-1]["uplinks"][0]["ledger"]["acknowledged"] > 0
    assert '"samples"' in (tmp_path / "uplink.jsonl").read_text()


def test_place_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    refused = bifrost("demo", "--dir", str(tmp_path / "file"))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"bifrost: cannot write to {tmp_path}/file: ")
    assert refused.stderr.endswith("; choose another place with --dir\n")
    assert refused.stdout == ""
