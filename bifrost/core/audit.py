"""The audit log: who wrote what to which device, and when; on disk, append-only, never larger than its limit.

One JSON object a line in two files: ``audit.jsonl`` grows to half the limit, then takes the place of
``audit.1.jsonl``. A durable record is on disk before `append` returns (`fdatasync`), so a write that reached a device
is never missing. A torn last line after a power cut is ended by a line feed at the next start and costs only itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Self

import msgspec

from bifrost.core.clock import format_time_ns
from bifrost.core.errors import StorageError

__all__ = ["AuditLog"]

_FILE = "audit.jsonl"
_OLDER_FILE = "audit.1.jsonl"
_RECORD_BYTES_MAX = 16_384  # A longer record (a large array) keeps its frame and loses its values.
_MODE = 0o640


class AuditLog:
    """The audit log. A context manager; `close` may be called twice.

    A disk that is full or read-only is found by `append`, each time, until it is well: nothing else has to wait for it.

    Args:
        directory: Where the two files are; made if it is not there.
        bytes_max: Size of both files together (limit `audit_bytes_max`).
        utc_ns: UTC nanoseconds of now.
    """

    def __init__(self, directory: str, bytes_max: int, utc_ns: Callable[[], int]) -> None:
        self._directory = directory
        self._path = os.path.join(directory, _FILE)
        self._older_path = os.path.join(directory, _OLDER_FILE)
        self._file_bytes_max = bytes_max // 2
        self._utc_ns = utc_ns
        self._encoder = msgspec.json.Encoder()
        self._descriptor = -1
        self._size = 0
        with contextlib.suppress(OSError):
            self._open()

    def append(self, event: str, who: str, *, durable: bool = True, **details: object) -> None:
        """Add one record.

        Args:
            event: What happened, for example ``write_sent`` or ``start``.
            who: Where it came from: ``cli:uid=1000``, ``opcua:alice``, ``gateway``.
            durable: Wait until it is on disk (milliseconds; longer on a worn SD card). False for what changed
                nothing, such as a refusal, so that a client that is refused all day does not keep the disk busy.
            details: JSON values, for example ``tag``, ``old``, ``new``, ``result``.

        Raises:
            StorageError: The file cannot be made or opened, the disk is full or failed; earlier records are kept.
        """
        frame = {"time": format_time_ns(self._utc_ns()), "event": event, "who": who}
        line = self._encoded(frame, details)
        if len(line) > _RECORD_BYTES_MAX:
            line = self._encoder.encode(frame | {"truncated_bytes": len(line)}) + b"\n"
        try:
            if self._descriptor < 0:
                self._open()
            if self._size + len(line) > self._file_bytes_max:
                self._rotate()
            self._write(line, durable)
        except OSError as error:
            raise StorageError(f"the audit log {self._path!r} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; every record is on disk already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encoded(self, frame: dict[str, str], details: dict[str, object]) -> bytes:
        try:
            return self._encoder.encode(frame | details) + b"\n"
        except (TypeError, ValueError):  # A value that JSON cannot hold, such as half a surrogate pair in a text.
            plain = {key: ascii(value) for key, value in (frame | details).items()}
            return self._encoder.encode(plain) + b"\n"

    def _open(self) -> None:
        os.makedirs(self._directory, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            self._size = os.fstat(self._descriptor).st_size
            if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
                self._write(b"\n", durable=True)
        except OSError:
            self.close()
            raise

    def _write(self, line: bytes, durable: bool) -> None:
        """Append `line` whole, or take back what part of it was written."""
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(None, "only a part was written")
            if durable:
                os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)

    def _rotate(self) -> None:
        """The full file takes the place of the older one. A crash at any step leaves both readable."""
        os.replace(self._path, self._older_path)
        self.close()
        self._open()
        directory = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
