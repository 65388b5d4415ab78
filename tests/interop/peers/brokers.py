"""Foreign brokers as processes of their own: mosquitto, amqtt; and certificates for them, made by openssl."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_START_S = 15.0


def need(program: str) -> str:
    """The path of a program. Its absence is a failure and never a skip: a green run must mean that it was tried."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin")
    assert found is not None, f"{program} is missing; install the packages mosquitto, mosquitto-clients and openssl"
    return found


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until `process` listens."""
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        assert process.poll() is None, "the broker ended at once"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("the broker does not listen")


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on `port`, as long as the context lasts."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            wait_for_port(port, process)
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def mosquitto(directory: Path, config: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A mosquitto with this configuration, whose last listener has `port`. It keeps nothing on disk."""
    path = directory / "mosquitto.conf"
    path.write_text(f"per_listener_settings true\nmax_queued_messages 0\nuser root\n{config}")
    with running([need("mosquitto"), "-c", str(path)], port, directory / "mosquitto.log") as process:
        yield process


@contextlib.contextmanager
def amqtt(directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An amqtt broker: that of `bifrost demo`."""
    command = [sys.executable, "-W", "ignore", "-m", "bifrost.bridge.broker", "--port", str(port)]
    with running(command, port, directory / "amqtt.log") as process:
        yield process


class Certificates:
    """An authority and what it signed, as PEM files in one directory: ``ca.pem``, ``NAME.pem`` and ``NAME.key``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._openssl(
            "req", "-x509", *self._new_key("ca"), "-days", "30", "-subj", "/CN=test authority", "-out", "ca.pem"
        )

    def sign(self, name: str, *, days: int = 30, subject: str = "127.0.0.1") -> None:
        """A certificate for `subject`; negative `days`: it ended some time ago."""
        self._openssl("req", *self._new_key(name), "-subj", f"/CN={subject}", "-out", f"{name}.csr")
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName=IP:{subject}\n" if subject[0].isdigit() else f"subjectAltName=DNS:{subject}\n"
        )
        command = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        self._openssl(*command, "-days", str(days), "-extfile", extensions.name, "-out", f"{name}.pem")

    def text(self, name: str) -> str:
        """A file's content."""
        return (self.directory / name).read_text()

    def _new_key(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run([need("openssl"), *arguments], cwd=self.directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class Subscriber:
    """mosquitto_sub: a line for each message, in its own words.

    Args:
        port: Of the broker.
        options: Further ones by their letter: ``{"-V": "5"}``.
    """

    def __init__(self, port: int, topic: str, options: Mapping[str, str]) -> None:
        # By lines, since it says "Subscribed" to a pipe only when a buffer is full.
        command = [need("stdbuf"), "-oL", need("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-d"]
        command += [word for pair in options.items() for word in pair]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        while not next(self._lines).startswith(b"Subscribed"):
            pass

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._lines.close()

    def lines(self, count: int) -> list[bytes]:
        """The next messages; blocks."""
        found: list[bytes] = []
        for line in self._lines:
            if line.startswith((b"Client ", b"Subscribed")):
                continue
            found.append(line.rstrip(b"\n"))
            if len(found) == count:
                return found
        raise AssertionError(f"mosquitto_sub ended after {len(found)} messages")
