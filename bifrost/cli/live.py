"""The control socket as commands see it: `GatewayClient.ask` sends one request and gives the answers.

Blocking on purpose: a command does one thing. Every wait has a limit.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from bifrost.core.errors import BifrostError, ConfigError, ConnectError, NoAnswerError

__all__ = [
    "GatewayClient",
    "RefusedError",
    "add_control_argument",
    "configuration_path",
    "connect_gateway",
    "find_configuration",
    "refuse_bare_host",
]

_CONFIG_PLACES: Final = ("gateway.toml", "/etc/bifrost/gateway.toml")
_TIMEOUT_S: Final = 10.0
_HOST_AND_PORT: Final = re.compile(r"\d+\.\d+\.\d+\.\d+(:\d+)?|[A-Za-z0-9.\-]+:\d+")


class RefusedError(BifrostError):
    """The gateway said no.

    Args:
        message: Its sentence.
        exit_code: Exit code of the command.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class GatewayClient:
    """A connection to the control socket; a context manager.

    Args:
        path: Path of the socket.
        timeout_s: Longest wait for the connection, and for each answer but those of a stream.

    Raises:
        ConnectError: Nobody serves it.
    """

    def __init__(self, path: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            hint = (
                "start it with: bifrost run"
                if isinstance(error, FileNotFoundError | ConnectionRefusedError)
                else error.strerror
            )
            raise ConnectError(f"no gateway answers at {path}; {hint}") from error
        self._lines = self._socket.makefile("rb")

    def ask(self, request: Mapping[str, Any], *, stream_timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Sends `request` and gives its answers: one, or as many as say ``more``; with `stream_timeout_s` until the gateway ends.

        Raises:
            RefusedError: The gateway said no.
            NoAnswerError: It did not answer in time, or went away.
        """
        if stream_timeout_s is not None:
            self._socket.settimeout(stream_timeout_s)
        try:
            self._socket.sendall(msgspec.json.encode(request) + b"\n")
            while True:
                line = self._lines.readline()
                if not line.endswith(b"\n"):
                    raise NoAnswerError(f"the gateway at {self._path} has stopped")
                answer: dict[str, Any] = msgspec.json.decode(line)
                if not answer["ok"]:
                    raise RefusedError(answer["error"], answer.get("code", 1))
                yield answer
                if stream_timeout_s is None and not answer.get("more"):
                    return
        except (TimeoutError, ConnectionError) as error:
            raise NoAnswerError(f"the gateway at {self._path} does not answer: {error}") from error

    def ask_one(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The one answer to `request`. Raises what `ask` raises."""
        return next(self.ask(request))

    def close(self) -> None:
        """Ends the connection. Safe to call twice."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def add_control_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--control`."""
    parser.add_argument("--control", metavar="SOCKET", help="control socket; default: that of the configuration file")


def refuse_bare_host(word: str) -> None:
    """Raises ValueError for ``10.0.0.5:502`` where a name of a tag or the URL of a device is expected."""
    if _HOST_AND_PORT.fullmatch(word):
        raise ValueError(f"{word!r} is no tag; if it is a device, write modbus://{word}")


def find_configuration(options: argparse.Namespace) -> str | None:
    """The configuration file that `configuration_path` would give; None: there is none."""
    if options.config:
        return str(options.config)
    return next((place for place in _CONFIG_PLACES if Path(place).is_file()), None)


def configuration_path(options: argparse.Namespace) -> str:
    """The configuration file: `-c`, else ``gateway.toml`` here, else in ``/etc/bifrost``.

    Raises:
        ConfigError: There is none.
    """
    found = find_configuration(options)
    if found is not None:
        return found
    places = " or ".join(_CONFIG_PLACES)
    raise ConfigError(
        f"no configuration file: name it with -c FILE, or have one at {places}; `bifrost import` can make one"
    )


def connect_gateway(options: argparse.Namespace, *, timeout_s: float = _TIMEOUT_S) -> GatewayClient:
    """A connection to the gateway that the command line means: `--control`, else the control socket of the configuration file.

    Raises:
        ConfigError: There is no configuration file, or it is wrong.
        ConnectError: No gateway answers.
    """
    if options.control:
        return GatewayClient(options.control, timeout_s=timeout_s)
    from bifrost.core.config import read_gateway

    return GatewayClient(read_gateway(configuration_path(options), os.environ).control, timeout_s=timeout_s)
