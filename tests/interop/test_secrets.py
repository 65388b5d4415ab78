"""Passwords from a file and from a variable never show, although the broker says them aloud in every refusal.

Everything that leaves the gateway is looked through: log, status, metrics, health, OPC UA, dry run, audit log, every file it writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.interop.opcua_bench import client, compiled_only, node
from tests.interop.peers.brokers import free_port
from tests.interop.test_gateway_process import ROOT, GatewayProcess, Plant, wait_for

pytestmark = [pytest.mark.interop, compiled_only]

PASSWORDS = {"from file": 'open "sesame"', "from variable": "l33t\\w0rd"}
BAD_USER_NAME_OR_PASSWORD = 0x86  # MQTT 5.0, 3.2.2.2.
REASON_STRING = 0x1F  # MQTT 5.0, 2.2.2.2.
UPLINKS = """
[opcua]
bind = "127.0.0.1:0"

[http]
bind = "127.0.0.1:{http}"

[[uplink]]
name = "from file"
url = "mqtt://127.0.0.1:{broker}"
user = "gateway"
password = "file:password"

[[uplink]]
name = "from variable"
url = "mqtt://127.0.0.1:{broker}"
user = "gateway"
password = "env:BROKER_PASSWORD"
client_id = "another"
"""


class TellingBroker:
    """Refuses every client, and repeats its password in the reason."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.refused: set[str] = set()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    packet = connection.recv(4096).decode("latin-1")
                    password = next(word for word in PASSWORDS.values() if packet.endswith(word))
                    said = f"wrong password: {password}".encode()
                    properties = bytes([REASON_STRING, 0, len(said)]) + said
                    body = bytes([0, BAD_USER_NAME_OR_PASSWORD, len(properties)]) + properties
                    connection.sendall(bytes([0x20, len(body)]) + body)
                    self.refused.add(password)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def broker() -> Iterator[TellingBroker]:
    made = TellingBroker()
    yield made
    made.close()


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def test_passwords_never_show(tmp_path, broker, monkeypatch):
    monkeypatch.setenv("BROKER_PASSWORD", PASSWORDS["from variable"])
    (tmp_path / "password").write_text(PASSWORDS["from file"] + "\n")
    plant, http = Plant(), free_port()
    plant.start()
    gateway = GatewayProcess(tmp_path, plant.port)
    gateway.config.write_text(gateway.config.read_text() + UPLINKS.format(broker=broker.port, http=http))
    try:
        gateway.start()
        wait_for(lambda: broker.refused == set(PASSWORDS.values()), gateway.log)
        wait_for(lambda: gateway.bifrost("status").stdout.count("wrong password: ***") == 2, gateway.log)
        wait_for(lambda: gateway.log.read_text().count("wrong password: ***") >= 2, gateway.log)
        shown = [
            gateway.bifrost(*words)
            for words in (("status",), ("status", "--json"), ("check",), ("doctor",), ("reload",))
        ]
        texts = [one.stdout + one.stderr for one in shown]
        texts += [fetched(f"http://127.0.0.1:{http}/{page}") for page in ("metrics", "readyz", "livez")]
        texts.append(asyncio.run(asyncio.wait_for(last_errors(gateway), 60)))
        assert texts[-1].count("wrong password: ***") == 2
        gateway.bifrost("status")
    finally:
        gateway.kill()
        plant.kill()
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "password"]
    texts += [path.read_bytes().decode("latin-1") for path in written]
    for password in PASSWORDS.values():
        for spelled in (password, password.replace("\\", "\\\\").replace('"', '\\"')):
            assert not [text for text in texts if spelled in text]


async def last_errors(gateway: GatewayProcess) -> str:
    url = gateway.bifrost("status", "--json").stdout.partition('"url":"opc.tcp')[2].partition('"')[0]
    async with client("opc.tcp" + url, None) as connected:
        nodes = [node(connected, f"_Gateway.Uplinks.{name}#LastError") for name in PASSWORDS]
        while True:
            values = await connected.read_values(nodes)
            if all("wrong password" in str(value) for value in values):  # They are written once a second.
                return " ".join(values)
            await asyncio.sleep(0.05)


def test_dry_run_of_a_password_that_is_missing_names_it_and_where(tmp_path):
    """What is read wrong is told by its reference."""
    command = [sys.executable, "-m", "bifrost", "check", str(tmp_path / "gateway.toml")]
    text = '[gateway]\nname = "line"\n\n[[uplink]]\nname = "u"\nurl = "mqtt://127.0.0.1"\nuser = "g"\npassword = "open sesame"\n'
    (tmp_path / "gateway.toml").write_text(text)
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert refused.returncode == 2
    assert "sesame" not in refused.stdout + refused.stderr
