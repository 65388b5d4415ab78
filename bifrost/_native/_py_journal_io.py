"""The system's calls on the files of one directory: the twin of `csrc/journal_io.c`."""

from __future__ import annotations

import errno
import os


class SystemIO:
    """`contract.JournalIO` over the system. Holds a descriptor of the directory.

    Raises:
        OSError: The directory can't be opened.
    """

    def __init__(self, directory: str) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def list(self) -> list[str]:
        """See `contract.JournalIO.list`."""
        return os.listdir(self._directory)

    def open(self, name: str, create: bool) -> int:
        """See `contract.JournalIO.open`."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        try:
            return os.open(name, flags, 0o640, dir_fd=self._directory)
        except OSError as error:
            return _refused(error)

    def close(self, fd: int) -> int:
        """See `contract.JournalIO.close`."""
        try:
            os.close(fd)
        except OSError as error:
            return _refused(error)
        return 0

    def allocate(self, fd: int, size: int) -> int:
        """See `contract.JournalIO.allocate`."""
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            # EINVAL: what some file systems say for "not supported".
            return -errno.EOPNOTSUPP if error.errno == errno.EINVAL else _refused(error)
        return 0

    def read(self, fd: int, offset: int, size: int) -> bytes | int:
        """See `contract.JournalIO.read`."""
        try:
            return os.pread(fd, size, offset)
        except OSError as error:
            return _refused(error)

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """See `contract.JournalIO.write`."""
        try:
            return os.pwrite(fd, data, offset)
        except OSError as error:
            return _refused(error)

    def sync(self, fd: int) -> int:
        """See `contract.JournalIO.sync`."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            return _refused(error)
        return 0

    def unlink(self, name: str) -> int:
        """See `contract.JournalIO.unlink`."""
        try:
            os.unlink(name, dir_fd=self._directory)
        except OSError as error:
            return _refused(error)
        return 0

    def rename(self, name: str, new_name: str) -> int:
        """See `contract.JournalIO.rename`."""
        try:
            os.rename(name, new_name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError as error:
            return _refused(error)
        return 0

    def sync_directory(self) -> int:
        """See `contract.JournalIO.sync_directory`."""
        try:
            os.fsync(self._directory)
        except OSError as error:
            return _refused(error)
        return 0

    def close_directory(self) -> None:
        """Gives up the descriptor of the directory."""
        os.close(self._directory)


def _refused(error: OSError) -> int:
    return -(error.errno or errno.EIO)
