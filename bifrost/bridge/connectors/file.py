"""The file connector: records as lines of JSON, for tests and for a site that carries its data away on a stick.

``file:///var/lib/bifrost/out.jsonl?bytes_max=64MiB``: two files of half the size each; when the newer one is full it
takes the place of the older one, ``out.jsonl.1``. A line holds topic, identity and message. Delivered means that the
operating system has the line: like MQTT with QoS 0, it does not survive a power cut at that moment.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bifrost.core.config_rules import SecretRef, Size
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.contracts import Ack, Capabilities, Outcome, Record
from bifrost.core.errors import ConfigError, ConnectError

__all__ = ["FileConnector"]

_JSON: Final = "application/json"
_SIZE: Final = Size(64 << 10, 1 << 44)
_BYTES_MAX: Final = 64 << 20
_RECORDS_AT_ONCE: Final = 100
_FILE_MODE: Final = 0o640


class _Line(msgspec.Struct, omit_defaults=True):
    """One line; exactly one of `message` and `base64` is there."""

    topic: str
    id: str
    message: msgspec.Raw | None = None
    base64: str = ""


class FileConnector:
    """Appends records to a file; keeps `core.contracts.Connector`.

    Args:
        uplink: Its section of the configuration.
        gateway: Without effect.
        reveal: Without effect: a file has no secrets.

    Raises:
        ConfigError: The URL has no path, or an unknown key.
    """

    def __init__(self, uplink: UplinkConfig, gateway: str, reveal: Callable[[SecretRef], str]) -> None:
        del gateway, reveal
        key = f"uplink.{uplink.name}.url"
        if uplink.url.host or not uplink.url.path.strip("/"):
            raise ConfigError(f"{uplink.url.text!r} has no path; write 'file:///path' with three slashes", key=key)
        unknown = [name for name in uplink.url.query if name != "bytes_max"]
        if unknown:
            raise ConfigError(f"a file URL has no {unknown[0]!r}; allowed after '?': bytes_max", key=key)
        try:
            bytes_max = _SIZE.parse(uplink.url.query["bytes_max"]) if "bytes_max" in uplink.url.query else _BYTES_MAX
        except ValueError as error:
            raise ConfigError(str(error), key=key) from error
        self._path = uplink.url.path
        self._file_bytes_max = bytes_max // 2
        self._descriptor = -1
        self._size = 0

    @property
    def capabilities(self) -> Capabilities:
        """As `Connector.capabilities`. A payload that is not JSON takes a third more, in base64."""
        return Capabilities(self._file_bytes_max // 2, _RECORDS_AT_ONCE)

    @property
    def is_open(self) -> bool:
        """As `Connector.is_open`."""
        return self._descriptor >= 0

    async def open(self) -> None:
        """As `Connector.open`. A line that an earlier process left without its end is ended."""
        if not self.is_open:
            self._open()

    async def send(self, records: Sequence[Record]) -> Sequence[Ack]:
        """As `Connector.send`."""
        return [self._send(record) for record in records]

    async def close(self) -> None:
        """As `Connector.close`."""
        if self.is_open:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        descriptor = -1
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _FILE_MODE)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                size += os.write(descriptor, b"\n")
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise ConnectError(f"cannot append to {self._path}: {error.strerror}") from error
        self._descriptor, self._size = descriptor, size

    def _send(self, record: Record) -> Ack:
        if not self.is_open:
            return Ack(record.sequence, Outcome.AGAIN, "the file is not open")
        if len(record.payload) > self.capabilities.payload_bytes_max:
            reason = (
                f"the message has {len(record.payload)} bytes; the file takes {self.capabilities.payload_bytes_max}"
            )
            return Ack(record.sequence, Outcome.REFUSED, reason)
        line = _line(record)
        try:
            if self._size and self._size + len(line) > self._file_bytes_max:
                self._rotate()
            self._append(line)
        except (OSError, ConnectError) as error:
            return Ack(record.sequence, Outcome.AGAIN, f"cannot append to {self._path}: {error}")
        return Ack(record.sequence, Outcome.DELIVERED)

    def _append(self, line: bytes) -> None:
        """The whole line or none of it."""
        written = 0
        try:
            written = os.write(self._descriptor, line)
        finally:
            if written < len(line):
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._size)
        if written < len(line):
            raise OSError("the disk is full")
        self._size += written

    def _rotate(self) -> None:
        os.replace(self._path, f"{self._path}.1")
        os.close(self._descriptor)
        self._descriptor = -1
        self._open()


def _line(record: Record) -> bytes:
    line = _Line(record.topic, record.identity)
    if record.content_type == _JSON and b"\n" not in record.payload:
        line.message = msgspec.Raw(record.payload)
    else:
        line.base64 = base64.b64encode(record.payload).decode()
    return msgspec.json.encode(line) + b"\n"
