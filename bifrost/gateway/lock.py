"""One gateway a data directory: a lock that the kernel takes back when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from types import TracebackType
from typing import Self

from bifrost.core.errors import StorageError

__all__ = ["DirectoryLock"]

_FILE = "lock"
_PID_BYTES_MAX = 32


class DirectoryLock:
    """Holds the lock file of a data directory from construction to `close`; a context manager.

    Args:
        directory: The data directory; made when it is not there.

    Raises:
        StorageError: Another process holds it, or the directory cannot be written.
    """

    def __init__(self, directory: str) -> None:
        path = os.path.join(directory, _FILE)
        try:
            os.makedirs(directory, exist_ok=True)
            self._descriptor = _open(path)
        except OSError as error:
            raise StorageError(
                f"the data directory {directory!r} cannot be written: {error.strerror}; set data_dir in [gateway]"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, _PID_BYTES_MAX, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StorageError(
                f"another gateway (pid {holder or 'unknown'}) uses the data directory {directory!r}; stop it, or set another data_dir"
            ) from None
        with contextlib.suppress(OSError):  # Only for the message above; a full disk is no reason not to start.
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Gives the lock back; the file stays. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: str) -> int:
    """Opens the file to be locked. Raises OSError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # It was there before a failing disk was made read-only.
