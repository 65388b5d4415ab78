"""What the OPC UA tests share: a face in a process of its own, asyncua as the client in this one, and certificates for it.

Nothing is waited for by time alone: `until` asks again until something holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

asyncua = pytest.importorskip("asyncua")

from asyncua import Client, ua  # noqa: E402 (skipped above where it is missing)
from asyncua.crypto import security_policies as policies  # noqa: E402 (likewise)
from cryptography import x509  # noqa: E402 (likewise)
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402 (likewise)
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402 (likewise)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: E402 (likewise)

from bifrost.opcua.users import Users, make_user  # noqa: E402 (likewise)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
CLIENT_URI = "urn:test:client"
POLICIES = {
    "Basic256Sha256": policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": policies.SecurityPolicyAes256Sha256RsaPss,
}


def is_compiled() -> bool:
    try:
        import bifrost._native._opcua  # noqa: F401  # only whether it is there
    except ImportError:
        if os.environ.get("BIFROST_OPCUA") == "require" or "CI" in os.environ:  # There it is to be tested, not skipped.
            raise
        return False
    return True


compiled_only = pytest.mark.skipif(not is_compiled(), reason="the OPC UA module is not built here")
STACKS = [pytest.param("open62541", marks=compiled_only), "asyncua"]


class FaceProcess:
    """`tests.interop.peers.opcua_face`, obeying one command at a time."""

    MODULE = "tests.interop.peers.opcua_face"

    def __init__(self, directory: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        command = [sys.executable, "-m", self.MODULE, str(directory), *options]
        self.log = directory / "face.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        started = self._line()
        self.url: str = started["url"]
        self.pid: int = started["pid"]

    def obey(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._line()

    def begin(self, **command: Any) -> None:
        """Like `obey`, without waiting for the answer, which `_line` takes later."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def finish(self) -> Any:
        return self._line()

    def put(self, tag: str, value: Any, status: int = 0, time_ns: int = 0) -> None:
        self.obey(put={tag: [value, status, time_ns]})

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return json.loads(line)


@contextlib.contextmanager
def face(directory: Path, *options: str) -> Any:
    process = FaceProcess(directory, *options)
    try:
        yield process
    finally:
        process.close()


@contextlib.contextmanager
def compiled_face(directory: Path, extra: int, limits: Mapping[str, int] | None = None) -> Any:
    """The compiled stack with `extra` tags more, the users of `add_users`, and `limits` without their prefix ``opcua_``."""
    add_users(directory)
    options = [f"--limit=opcua_{name}={value}" for name, value in (limits or {}).items()]
    with face(directory, "--stack", "open62541", f"--extra={extra}", *options) as process:
        yield process


def add_users(directory: Path) -> None:
    """A reader and an operator who may write."""
    users = Users(directory / "pki" / "users.toml", 10)
    users.add(make_user("reader", "reader password"))
    users.add(make_user("operator", "operator password", "write"))


@contextlib.asynccontextmanager
async def client(
    url: str, user: str | None = "operator", password: str | None = None, *, timeout_s: float = 10
) -> AsyncIterator[Any]:
    made = Client(url, timeout=timeout_s)
    made.application_uri = CLIENT_URI
    if user is not None:
        made.set_user(user)
        made.set_password(f"{user} password" if password is None else password)
    async with made:
        yield made


def make_certificate(
    directory: Path, name: str = "client", uri: str = CLIENT_URI, *, days: int = 10, age_days: int = 1
) -> tuple[Path, Path]:
    """A client's certificate and key: files in DER and PEM."""
    key = rsa.generate_private_key(65_537, 2_048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC) - timedelta(days=age_days)
    usage = x509.KeyUsage(True, True, True, True, False, True, False, False, False)
    certificate = (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), x509.random_serial_number(), start, start + timedelta(days=days)
        )
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    place = directory / f"{name}.der"
    place.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    key_place = directory / f"{name}.pem"
    key_place.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return place, key_place


@contextlib.asynccontextmanager
async def secure_client(
    url: str,
    policy: str,
    mode: ua.MessageSecurityMode,
    certificate: tuple[Path, Path],
    user: str | None = "operator",
    password: str | None = None,
) -> AsyncIterator[Any]:
    made = Client(url, timeout=10)
    made.application_uri = CLIENT_URI
    if user is not None:
        made.set_user(user)
        made.set_password(f"{user} password" if password is None else password)
    await made.set_security(POLICIES[policy], str(certificate[0]), str(certificate[1]), mode=mode)
    async with made:
        yield made


def node(connected: Any, name: str) -> Any:
    return connected.get_node(f"ns=2;s={name}")


class Follower:
    """Collects what a subscription delivers: node id's text -> data values in the order of arrival."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}
        self.times_s: list[float] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.values.setdefault(str(node.nodeid.Identifier), []).append(data.monitored_item.Value)
        self.times_s.append(time.monotonic())


def run(scenario: Coroutine[Any, Any, None], patience_s: float = 100) -> None:
    """Runs `scenario`; fails after a generous time."""
    asyncio.run(asyncio.wait_for(scenario, patience_s))


async def until(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Waits until `holds()`; fails after a generous time."""
    deadline_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline_s, "it never held"
        await asyncio.sleep(0.01)
