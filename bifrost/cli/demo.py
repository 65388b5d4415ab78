"""Start a simulated plant, a gateway that reads it and a broker that it sends to, and show live values until Ctrl-C.

The plant (a pump, a tank, an energy meter, and an analyser that fails now and then), the gateway and the broker are processes of their own,
as in a factory; this one looks at the gateway through its control socket. Everything is kept in one directory and listens on this machine
only. A broker that ends is started again after a while, so that one can see the gateway keep what it cannot send, and send it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import quote

from bifrost.bridge import broker as embedded
from bifrost.cli.family import Family
from bifrost.cli.live import GatewayClient
from bifrost.cli.output import format_count, print_json
from bifrost.cli.screen import LiveTable, value_lines
from bifrost.cli.status import read_status
from bifrost.core.errors import BifrostError, ConnectError
from bifrost.gateway.exits import EXIT_DONE, EXIT_FAILED

__all__ = ["Ports", "configure", "run", "write_configuration"]

_HOST: Final = "127.0.0.1"
_PORT: Final = 5020
_OPCUA_PORT: Final = 4840  # IANA: opcua-tcp.
_MQTT_PORT: Final = 1883  # IANA: mqtt.
_START_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 0.02
_INTERVAL_S: Final = 0.5
_TABLE_EVERY_S: Final = 5.0
_FIRST_TABLE_S: Final = 2.0  # The analyser may be out of order just then; the table does not wait for it longer.
_BROKER_AWAY_S: Final = 10.0
_FILE: Final = "uplink.jsonl"
_TOPICS: Final = "bifrost/demo/#"
_PLANT_LINE = re.compile(rb"modbus-tcp://[^:]+:(\d+)")

_OPCUA = """\
[opcua]
bind = "{host}:{port}"

"""
_UPLINK = """\
[[uplink]]
name = "plant"
url = {url}
version = "3.1.1"  # The broker of the demonstration knows no newer one.
session_expiry = "0 s"
timeout = "2 s"

[uplink.buffer]
disk_bytes_max = "16 MiB"

"""
_HEADER = """\
# Written by `bifrost demo` at each start: copy it before you change it.
[gateway]
name = "demo"
data_dir = {data_dir}
writes = true  # The plant is simulated; a real gateway writes nothing unless this is set.

"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost demo`."""
    parser.add_argument(
        "--dir", default="bifrost-demo", metavar="DIR", help="where its files are (default ./bifrost-demo)"
    )
    parser.add_argument(
        "--port", type=int, default=_PORT, metavar="N", help=f"Modbus port of the plant (default {_PORT})"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.0,
        metavar="N",
        help="end N seconds after the first good value; default: never",
    )


class Ports(NamedTuple):
    """Where everything listens on this machine.

    Attributes:
        plant: Modbus TCP.
        opcua: OPC UA server of the gateway; None: nothing here can serve OPC UA.
        mqtt: Broker; None: there is none, and the uplink writes to a file.
    """

    plant: int
    opcua: int | None = None
    mqtt: int | None = None


def run(options: argparse.Namespace) -> int:
    """Runs plant, gateway and broker and shows values; 0 when there were good ones."""
    directory = Path(options.dir).absolute()
    _require_directory(directory)
    signal.signal(signal.SIGTERM, _interrupt)
    with Family() as family:
        mqtt_port = _port(_MQTT_PORT) if embedded.is_available() else None
        broker = None if mqtt_port is None else _Broker(family, mqtt_port, directory / "broker.log")
        ports = Ports(_start_plant(family, _free_port(options.port)), _opcua_port(), mqtt_port)
        config, log = write_configuration(directory, ports), directory / "gateway.log"
        with log.open("wb") as stream:
            command = [sys.executable, "-m", "bifrost.gateway", "-c", str(config)]
            gateway = family.start(command, stderr=stream)
        control = str(directory / "data" / "control.sock")
        view = _View(options.json, options.seconds, broker)
        try:
            with _connect(control, gateway, log) as values, GatewayClient(control) as status:
                if not options.json:
                    print("\n".join(_banner(config, ports, log)), flush=True)
                with contextlib.suppress(KeyboardInterrupt):
                    view.run(values, status)
        finally:
            if not options.json:
                print("stopping", flush=True)
            family.stop(gateway)  # First, so that it can send what it has.
    return EXIT_DONE if view.has_seen_good else EXIT_FAILED


def write_configuration(directory: Path, ports: Ports) -> Path:
    """Writes ``gateway.toml`` and its tag tables; gives the path of the first."""
    from bifrost.plc.modbus.simulator import UNITS, demo_devices, tag_table

    tables = directory / "tags"
    tables.mkdir(exist_ok=True)
    sections = [_HEADER.format(data_dir=json.dumps(str(directory / "data")))]
    if ports.opcua is not None:
        sections.append(_OPCUA.format(host=_HOST, port=ports.opcua))
    for device, section in zip(UNITS, demo_devices(ports.plant, _HOST).split("[[device]]")[1:], strict=True):
        (tables / f"{device}.csv").write_text(tag_table(device))
        settings = section.partition("[[device.tag]]")[0].strip()
        sections.append(f'[[device]]\n{settings}\ntags = "tags/{device}.csv"\n\n')
    url = f"file://{quote(str(directory))}/{_FILE}?bytes_max=16MiB"
    if ports.mqtt is not None:
        url = f"mqtt://{_HOST}:{ports.mqtt}"
    sections.append(_UPLINK.format(url=json.dumps(url)))
    config = directory / "gateway.toml"
    config.write_text("".join(sections))
    return config


def _require_directory(directory: Path) -> None:
    """Raises BifrostError unless files can be written there; makes it if it is not there."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise BifrostError(f"cannot write to {directory}: {error.strerror}; choose another place with --dir") from error


# ---- processes


class _Broker:
    """The broker, started again a while after it ended.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, family: Family, port: int, log: Path) -> None:
        self._family = family
        self._log = log
        self._back_at_s = 0.0
        self.port = port
        log.write_bytes(b"")
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-m", "bifrost.bridge.broker", "--port", str(self.port)]
        with self._log.open("ab") as stream:
            return self._family.start(command, stdout=subprocess.DEVNULL, stderr=stream)

    @property
    def pid(self) -> int:
        """Of its process now."""
        return self._process.pid

    def look(self) -> float:
        """Starts it if it is time to; gives the seconds until it will be: 0 while it runs."""
        if self._process.poll() is None:
            return 0.0
        now_s = time.monotonic()
        if not self._back_at_s:
            self._back_at_s = now_s + _BROKER_AWAY_S
        if now_s >= self._back_at_s:
            self._back_at_s = 0.0
            self._process = self._start()
            return 0.0
        return self._back_at_s - now_s


def _start_plant(family: Family, port: int) -> int:
    command = [sys.executable, "-m", "bifrost.plc.modbus.simulator", "--host", _HOST, "--port", str(port)]
    process = family.start(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    found = _PLANT_LINE.search(process.stdout.readline())
    if found is None:
        raise ConnectError("the simulated plant did not start")
    return int(found.group(1))


def _connect(path: str, gateway: subprocess.Popen[bytes], log: Path) -> GatewayClient:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        if gateway.poll() is not None:
            raise BifrostError(f"the gateway did not start: {log.read_text(errors='replace').strip()}")
        try:
            return GatewayClient(path)
        except ConnectError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(_RETRY_S)


def _free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else 0: any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError:
            return 0
    return wanted


def _port(wanted: int) -> int:
    """`wanted` if nobody listens there, else one that is free."""
    if _free_port(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _opcua_port() -> int | None:
    """A port for the OPC UA server; None where nothing can serve OPC UA."""
    from bifrost._native import backend
    from bifrost.opcua.faces import find_stack

    return None if find_stack(is_core_compiled=backend.BACKEND == "c") is None else _port(_OPCUA_PORT)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


# ---- what is shown


class _View:
    """Snapshots as a table refreshed in place, as a table every few seconds, or as JSON."""

    def __init__(self, is_json: bool, seconds: float, broker: _Broker | None) -> None:
        self.has_seen_good = False
        self._is_json = is_json
        self._broker = broker
        self._started_s = time.monotonic()
        self._seconds = seconds or float("inf")
        self._ends_s = self._started_s + _START_TIMEOUT_S + self._seconds
        self._next_table_s = 0.0
        self._live = LiveTable() if sys.stdout.isatty() else None

    def run(self, client: GatewayClient, status: GatewayClient) -> None:
        """Shows snapshots until the time is over."""
        values: list[Mapping[str, Any]] = []
        for answer in client.ask({"command": "watch", "interval_s": _INTERVAL_S}, stream_timeout_s=_START_TIMEOUT_S):
            values += answer["values"]
            if answer.get("more"):
                continue
            self._show(values, read_status(status)["uplinks"])
            if time.monotonic() >= self._ends_s:
                return
            values = []

    def _show(self, values: Sequence[Mapping[str, Any]], uplinks: Sequence[Mapping[str, Any]]) -> None:
        now_s = time.monotonic()
        elapsed_s = now_s - self._started_s
        good = sum(value["quality"] == "Good" for value in values)
        if good and not self.has_seen_good:
            self.has_seen_good = True
            self._ends_s = now_s + self._seconds  # A slow machine shows as much as a fast one.
        back_in_s = self._broker.look() if self._broker is not None else 0.0
        notes = [
            *(f"uplink {uplink['name']}: {_ledger_line(uplink)}" for uplink in uplinks),
            *_broker_lines(self._broker, back_in_s),
            f"{good} of {len(values)} values are good; {elapsed_s:.0f} s; Ctrl-C ends",
        ]
        if self._is_json:
            content = {"elapsed_s": round(elapsed_s, 3), "good": good, "count": len(values), "values": values}
            print_json(content | {"uplinks": uplinks, "broker": _broker_record(self._broker, back_in_s)})
        elif self._live is not None:
            self._live.show(values, notes)
        elif now_s >= self._next_table_s and (good == len(values) or (good and elapsed_s >= _FIRST_TABLE_S)):
            self._next_table_s = now_s + _TABLE_EVERY_S
            print("\n".join([*value_lines(values), *notes, ""]), flush=True)


def _ledger_line(uplink: Mapping[str, Any]) -> str:
    """State and ledger of an uplink, which add up."""
    ledger = uplink["ledger"]
    if ledger is None:
        return str(uplink["state"])
    counts = {name: ledger[name] for name in ("acknowledged", "buffered")} | {
        "dropped": sum(ledger["dropped"].values())
    }
    terms = " + ".join(f"{format_count(count)} {name}" for name, count in counts.items())
    return f"{uplink['state']}; {format_count(ledger['acquired'])} samples acquired = {terms}"


def _broker_lines(broker: _Broker | None, back_in_s: float) -> list[str]:
    if broker is None:
        return []
    if back_in_s:
        return [
            f"broker: has ended, is back in {back_in_s:.0f} s; what it should have is buffered, and nothing is lost"
        ]
    return [f"broker: runs; to see the buffer grow, end it for {_BROKER_AWAY_S:.0f} s: kill {broker.pid}"]


def _broker_record(broker: _Broker | None, back_in_s: float) -> dict[str, Any] | None:
    if broker is None:
        return None
    return {
        "url": f"mqtt://{_HOST}:{broker.port}",
        "topics": _TOPICS,
        "pid": broker.pid,
        "state": "ended" if back_in_s else "running",
        "back_in_s": round(back_in_s, 1),
    }


def _program() -> str:
    """How to start `bifrost` again from here."""
    found = shutil.which("bifrost")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return "bifrost"
    beside = Path(sys.executable).with_name("bifrost")
    return os.path.relpath(beside) if beside.exists() else f"{os.path.relpath(sys.executable)} -m bifrost"


def _banner(config: Path, ports: Ports, log: Path) -> list[str]:
    from bifrost.opcua.faces import NOT_AVAILABLE

    program = _program()
    opcua = f"opc.tcp://{_HOST}:{ports.opcua}   (anonymous, to read)" if ports.opcua else NOT_AVAILABLE
    shown = _short(config)
    if ports.mqtt:
        mqtt = f"mqtt://{_HOST}:{ports.mqtt}   (topics {_TOPICS})"
        follow = f"mosquitto_sub -h {_HOST} -p {ports.mqtt} -t '{_TOPICS}' -v"
    else:
        mqtt = embedded.NOT_AVAILABLE
        follow = f"tail -f {_short(config.with_name(_FILE))}"
    return [
        "A simulated plant and a gateway are running.",
        "",
        f"  plant     modbus-tcp://{_HOST}:{ports.plant}   (units 1 station, 2 meter, 3 analyser)",
        f"  gateway   {shown}   (log: {log.name} beside it)",
        f"  OPC UA    {opcua}",
        f"  MQTT      {mqtt}",
        "",
        "Try in another terminal:",
        f"  {follow}",
        f"  {program} status -c {shown}",
        f"  {program} watch 'station.tank.*' -c {shown}",
        f"  {program} write station.tank.valve 80 -c {shown}",
        f"  {program} read 'modbus://{_HOST}:{ports.plant}?unit=2' ir:0 --orders",
        f"  {program} check {shown}",
        *([f"  {program} opcua user add operator --role write -c {shown}"] if ports.opcua else []),
        "",
    ]


def _short(path: Path) -> str:
    """A path for a shell, from here if that is shorter."""
    relative = os.path.relpath(path)
    return shlex.quote(relative if len(relative) < len(str(path)) else str(path))
