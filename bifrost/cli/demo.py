"""Start a simulated plant and a gateway that reads it, and show live values until Ctrl-C.

The plant (a pump, a tank, an energy meter, and an analyser that fails now and then) and the gateway are processes of their own, as in a
factory; this one looks at the gateway through its control socket. Everything is kept in one directory and listens on this machine only.
"""

from __future__ import annotations

import argparse
import contextlib
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from bifrost.cli.live import GatewayClient
from bifrost.cli.output import print_json
from bifrost.cli.screen import LiveTable, value_lines
from bifrost.core.errors import BifrostError, ConnectError

__all__ = ["configure", "run", "write_configuration"]

_HOST: Final = "127.0.0.1"
_PORT: Final = 5020
_OPCUA_PORT: Final = 4840  # IANA: opcua-tcp.
_START_TIMEOUT_S: Final = 10.0
_STOP_TIMEOUT_S: Final = 3.0
_RETRY_S: Final = 0.02
_INTERVAL_S: Final = 0.5
_TABLE_EVERY_S: Final = 5.0
_FIRST_TABLE_S: Final = 2.0  # The analyser may be out of order just then; the table does not wait for it longer.
_PLANT_LINE = re.compile(rb"modbus-tcp://[^:]+:(\d+)")

_OPCUA = """\
[opcua]
bind = "{host}:{port}"

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
    parser.add_argument("--seconds", type=float, default=0.0, metavar="N", help="end after N seconds; default: never")


def run(options: argparse.Namespace) -> int:
    """Runs plant and gateway and shows values; 0 when there were good ones."""
    directory = Path(options.dir).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_plant(_free_port(options.port)))
        opcua_port = _opcua_port()
        config = write_configuration(directory, port, opcua_port)
        log = directory / "gateway.log"
        gateway = stack.enter_context(_gateway(config, log))
        client = stack.enter_context(_connect(str(directory / "data" / "control.sock"), gateway, log))
        if not options.json:
            print("\n".join(_banner(config, port, opcua_port, log)), flush=True)
        view = _View(options.json, options.seconds)
        with contextlib.suppress(KeyboardInterrupt):
            view.run(client)
        if not options.json:
            print("stopping")
    return 0 if view.has_seen_good else 1


def write_configuration(directory: Path, port: int, opcua_port: int | None = None) -> Path:
    """Writes ``gateway.toml`` and its tag tables; gives the path of the first.

    Args:
        directory: Where.
        port: Of the plant.
        opcua_port: Of the OPC UA server; None: there is none.
    """
    from bifrost.plc.modbus.simulator import UNITS, demo_devices, tag_table

    tables = directory / "tags"
    tables.mkdir(exist_ok=True)
    sections = []
    for device, section in zip(UNITS, demo_devices(port, _HOST).split("[[device]]")[1:], strict=True):
        (tables / f"{device}.csv").write_text(tag_table(device))
        settings = section.partition("[[device.tag]]")[0].strip()
        sections.append(f'[[device]]\n{settings}\ntags = "tags/{device}.csv"\n')
    config = directory / "gateway.toml"
    opcua = "" if opcua_port is None else _OPCUA.format(host=_HOST, port=opcua_port)
    config.write_text(_HEADER.format(data_dir=json.dumps(str(directory / "data"))) + opcua + "\n".join(sections))
    return config


# ---- processes


@contextlib.contextmanager
def _plant(port: int) -> Iterator[int]:
    command = [sys.executable, "-m", "bifrost.plc.modbus.simulator", "--host", _HOST, "--port", str(port)]
    with _process(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = _PLANT_LINE.search(process.stdout.readline())
        if found is None:
            raise ConnectError("the simulated plant did not start")
        yield int(found.group(1))


@contextlib.contextmanager
def _gateway(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("wb") as stream,
        _process([sys.executable, "-m", "bifrost.gateway", "-c", str(config)], stderr=stream) as process,
    ):
        yield process


@contextlib.contextmanager
def _process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A child that gets SIGTERM at the end, and SIGKILL when that does not help. Ctrl-C reaches only us, who end it."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


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


def _opcua_port() -> int | None:
    """A free port for the OPC UA server, its own if that is free; None where nothing can serve OPC UA."""
    from bifrost._native import backend
    from bifrost.opcua.faces import find_stack

    if find_stack(is_core_compiled=backend.BACKEND == "c") is None:
        return None
    free = _free_port(_OPCUA_PORT)
    if free:
        return free
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


# ---- what is shown


class _View:
    """Snapshots as a table refreshed in place, as a table every few seconds, or as JSON."""

    def __init__(self, is_json: bool, seconds: float) -> None:
        self.has_seen_good = False
        self._is_json = is_json
        self._started_s = time.monotonic()
        self._ends_s = self._started_s + seconds if seconds else float("inf")
        self._next_table_s = 0.0
        self._live = LiveTable() if sys.stdout.isatty() else None

    def run(self, client: GatewayClient) -> None:
        """Shows snapshots until the time is over."""
        values: list[Mapping[str, Any]] = []
        for answer in client.ask({"command": "watch", "interval_s": _INTERVAL_S}, stream_timeout_s=_START_TIMEOUT_S):
            values += answer["values"]
            if answer.get("more"):
                continue
            self._show(values)
            if time.monotonic() >= self._ends_s:
                return
            values = []

    def _show(self, values: Sequence[Mapping[str, Any]]) -> None:
        now_s = time.monotonic()
        elapsed_s = now_s - self._started_s
        good = sum(value["quality"] == "Good" for value in values)
        self.has_seen_good = self.has_seen_good or good > 0
        note = f"{good} of {len(values)} values are good; {elapsed_s:.0f} s; Ctrl-C ends"
        if self._is_json:
            print_json({"elapsed_s": round(elapsed_s, 3), "good": good, "count": len(values), "values": values})
        elif self._live is not None:
            self._live.show(values, note)
        elif now_s >= self._next_table_s and (good == len(values) or elapsed_s >= _FIRST_TABLE_S):
            self._next_table_s = now_s + _TABLE_EVERY_S
            print("\n".join([*value_lines(values), note, ""]), flush=True)


def _program() -> str:
    """How to start `bifrost` again from here."""
    found = shutil.which("bifrost")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return "bifrost"
    beside = Path(sys.executable).with_name("bifrost")
    return os.path.relpath(beside) if beside.exists() else f"{os.path.relpath(sys.executable)} -m bifrost"


def _banner(config: Path, port: int, opcua_port: int | None, log: Path) -> list[str]:
    from bifrost.opcua.faces import NOT_AVAILABLE

    program = _program()
    opcua = f"opc.tcp://{_HOST}:{opcua_port}   (anonymous, to read)" if opcua_port else NOT_AVAILABLE
    shown = os.path.relpath(config)
    shown = shlex.quote(shown if len(shown) < len(str(config)) else str(config))
    return [
        "A simulated plant and a gateway are running.",
        "",
        f"  plant     modbus-tcp://{_HOST}:{port}   (units 1 station, 2 meter, 3 analyser)",
        f"  gateway   {shown}   (log: {log.name} beside it)",
        f"  OPC UA    {opcua}",
        "",
        "Try in another terminal:",
        f"  {program} status -c {shown}",
        f"  {program} watch 'station.tank.*' -c {shown}",
        f"  {program} write station.tank.valve 80 -c {shown}",
        f"  {program} read 'modbus://{_HOST}:{port}?unit=2' ir:0 --orders",
        f"  {program} check {shown}",
        *([f"  {program} opcua user add operator --role write -c {shown}"] if opcua_port else []),
        "",
    ]
