"""Look for what is missing or wrong on this machine, with the configuration file if there is one.

Each line is ok, a warning, or a problem; the exit code is 1 when there is a problem. Nothing is changed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bifrost.cli.live import find_configuration
from bifrost.cli.output import counted, print_json, table_lines
from bifrost.core.clock import clock_is_synchronised
from bifrost.core.errors import ConfigError, LimitError
from bifrost.core.quantity import format_size
from bifrost.gateway.memory import PROCESS_BYTES
from bifrost.gateway.uplinks import left_buffers

if TYPE_CHECKING:
    from bifrost.core.config import Config
    from bifrost.opcua.security import Pki

__all__ = ["Finding", "Verdict", "configure", "findings", "run"]

_DESCRIPTORS_BESIDE_LINKS = 64  # Standard streams, event loop, files, clients of the control socket.
_DISK_FREE_BYTES_MIN = 64 << 20


class Verdict(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: `what`, and in words how it is."""

    verdict: Verdict
    what: str
    words: str


def configure(parser: argparse.ArgumentParser) -> None:
    """`bifrost doctor` has no arguments of its own."""


def run(options: argparse.Namespace) -> int:
    """Prints the findings; 1 when there is a problem, else 0."""
    found = list(findings(find_configuration(options)))
    if options.json:
        print_json(found)
    else:
        rows = [(finding.verdict, finding.what, finding.words) for finding in found]
        print("\n".join(table_lines(("", "what", "how it is"), rows)))
    return 1 if any(finding.verdict is Verdict.PROBLEM for finding in found) else 0


def findings(config_path: str | None) -> Iterator[Finding]:
    """Everything that is looked at.

    Args:
        config_path: Configuration file; None: only the machine is looked at.
    """
    yield Finding(Verdict.OK, "python", f"{sys.version.split()[0]} at {sys.executable}")
    yield from _modules()
    yield _clock()
    if config_path is None:
        yield Finding(Verdict.OK, "configuration", "none given; -c FILE looks at it too")
        return
    from bifrost.core.config import load_config

    try:
        config = load_config(config_path, os.environ)
    except ConfigError as error:
        yield Finding(Verdict.PROBLEM, "configuration", f"'bifrost check' says more: {str(error).splitlines()[0]}")
        return
    yield Finding(
        Verdict.OK, "configuration", f"{counted(len(config.devices), 'device')}, {counted(len(config.tags), 'tag')}"
    )
    yield _descriptors(config)
    yield _data_directory(config)
    for words in left_buffers(config):
        yield Finding(Verdict.WARNING, "buffer", words)
    yield _memory(config)
    yield from _opcua(config)


def _modules() -> Iterator[Finding]:
    from bifrost._native import backend

    missing = _import_error("bifrost._native._core")
    if backend.BACKEND == "c":
        yield Finding(Verdict.OK, "core", "compiled")
    else:
        why = f"_core: {missing}" if missing else "BIFROST_BACKEND=py"
        yield Finding(Verdict.WARNING, "core", f"pure Python, several times slower; {why}")
    missing = _import_error("bifrost._native._opcua")
    if not missing:
        yield Finding(Verdict.OK, "opc ua stack", "compiled")
    elif not _import_error("asyncua"):
        words = f"asyncua serves instead, many times slower; not compiled: {missing}"
        yield Finding(Verdict.WARNING, "opc ua stack", words)
    else:
        yield Finding(Verdict.WARNING, "opc ua stack", f"not there, nor asyncua: {missing}")


def _import_error(module: str) -> str:
    """Why `module` cannot be imported; empty when it can."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return str(error)
    return ""


def _clock() -> Finding:
    if clock_is_synchronised():
        return Finding(Verdict.OK, "clock", "synchronised")
    return Finding(Verdict.WARNING, "clock", "no time service says that it is synchronised; stamps may be wrong")


def _descriptors(config: Config) -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    links = len({(device.url.host, device.url.port, device.url.path) for device in config.devices})
    needed = links + _DESCRIPTORS_BESIDE_LINKS
    verdict = Verdict.OK if limit == resource.RLIM_INFINITY or limit >= needed else Verdict.PROBLEM
    return Finding(
        verdict, "file descriptors", f"limit {limit}, {needed} needed for {links} links (ulimit -n, LimitNOFILE=)"
    )


def _data_directory(config: Config) -> Finding:
    directory = config.gateway.data_dir
    place = Path(directory)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK) or not place.is_dir():
        return Finding(Verdict.PROBLEM, "data directory", f"{directory}: cannot be written")
    usage = os.statvfs(place)
    free_bytes = usage.f_bavail * usage.f_frsize
    buffers_bytes = sum(uplink.buffer.disk_bytes_max for uplink in config.uplinks)
    used_bytes = sum(file.stat().st_size for file in Path(directory, "journal").glob("*/*"))
    words = f"{directory}: {format_size(free_bytes >> 20 << 20)} free"
    if free_bytes + used_bytes < buffers_bytes:
        words += f", less than the buffers of the uplinks may need: {format_size(buffers_bytes)} (disk_bytes_max)"
    elif free_bytes >= _DISK_FREE_BYTES_MIN:
        return Finding(Verdict.OK, "data directory", words)
    return Finding(Verdict.WARNING, "data directory", words)


def _memory(config: Config) -> Finding:
    limit_bytes = _cgroup_memory_bytes()
    needed_bytes = config.limits.memory_bytes_max + PROCESS_BYTES
    needed = f"memory_bytes_max and the interpreter need up to {format_size(needed_bytes >> 20 << 20)}"
    if limit_bytes is None:
        return Finding(Verdict.OK, "memory", f"no limit of the control group; {needed}")
    verdict = Verdict.OK if limit_bytes >= needed_bytes else Verdict.PROBLEM
    return Finding(verdict, "memory", f"limit of the control group {format_size(limit_bytes >> 20 << 20)}; {needed}")


def _opcua(config: Config) -> Iterator[Finding]:
    """Where OPC UA is served and how, and what of certificates and users would keep clients out."""
    if config.opcua is None:
        return
    from bifrost.opcua.security import Pki, access_of
    from bifrost.opcua.users import Users

    access, pki = access_of(config.opcua), Pki(config.gateway.data_dir)
    guests = "guests may read" if access.is_anonymous else "users only"
    words = f"opc.tcp://{config.opcua.bind}, {' '.join(access.policies)}, {guests}"
    yield Finding(Verdict.WARNING if access.warnings else Verdict.OK, "opc ua server", words)
    try:
        users = Users(pki.users_file, config.limits.opcua_users_max).load()
        yield Finding(Verdict.OK, "opc ua users", f"{counted(len(users), 'user')} (bifrost opcua user list)")
    except (ConfigError, LimitError) as error:
        yield Finding(Verdict.PROBLEM, "opc ua users", str(error))
    yield _own_certificate(pki)
    if rejected := pki.count("rejected"):
        words = f"{counted(rejected, 'certificate')} rejected: bifrost opcua cert list, then cert trust THUMBPRINT"
        yield Finding(Verdict.WARNING, "opc ua clients", words)


def _own_certificate(pki: Pki) -> Finding:
    from bifrost.opcua.certificate import parse_certificate

    what = "opc ua certificate"
    try:
        found = pki.load_own()
    except (ConfigError, ValueError) as error:
        return Finding(Verdict.PROBLEM, what, str(error))
    if found is None:
        return Finding(Verdict.OK, what, "none yet; it is made at the first start")
    certificate, now = parse_certificate(found[0]), datetime.now(UTC)
    words = f"valid from {certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}"
    if certificate.not_before <= now <= certificate.not_after:
        return Finding(Verdict.OK, what, words)
    hint = f"if this machine's clock is right, move {pki.own_key.parent} away and restart to have a new one made"
    return Finding(Verdict.PROBLEM, what, f"only {words}, so clients refuse it; {hint}")


def _cgroup_memory_bytes() -> int | None:
    """``memory.max`` of this process's control group; None: no limit (Linux kernel, admin-guide/cgroup-v2)."""
    try:
        with open("/proc/self/cgroup", encoding="ascii") as file:
            group = next((line.strip().removeprefix("0::") for line in file if line.startswith("0::")), "/")
        text = Path("/sys/fs/cgroup", group.lstrip("/"), "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if text == "max" else int(text)
