"""A disk in memory that a journal can be given as its `io`: it records every call that changes it, and lets the Nth one fail.

Files are what a process sees. What a power cut would leave is for `states`, from the recorded operations.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

CREATE, SIZE, WRITE, SYNC, SYNC_FAILED, UNLINK, RENAME, SYNC_DIRECTORY, NOTE = range(9)


class Operation(NamedTuple):
    """A call that changes the disk, or a sync that failed; `target` of a RENAME, `note` of a NOTE: what was promised then."""

    kind: int
    name: str = ""
    offset: int = 0
    data: bytes = b""
    target: str = ""
    note: object = None


Fault = Callable[[int, str], int]
"""Takes the number of a call, from 0, and its name; gives 0, a negative errno, or for a write how many bytes it takes."""


class MemoryDisk:
    """`contract.JournalIO` in memory.

    Attributes:
        operations: What was done, in order.
        calls: Calls so far that a fault could hit.
    """

    def __init__(self, files: dict[str, bytes] | None = None, fault: Fault | None = None, room: int = 1 << 60) -> None:
        self.files = {name: bytearray(data) for name, data in (files or {}).items()}
        self.fault = fault
        self.room = room
        self.operations: list[Operation] = []
        self.calls = 0
        self._open: dict[int, tuple[str, bytearray]] = {}
        self._next_fd = 3

    @property
    def open_count(self) -> int:
        """Descriptors that nobody closed."""
        return len(self._open)

    def list(self) -> list[str]:
        return sorted(self.files)

    def open(self, name: str, create: bool) -> int:
        if refused := self._refused("create" if create else "open"):
            return refused
        if create and name in self.files:
            return -errno.EEXIST
        if create:
            self.files[name] = bytearray()
            self.operations.append(Operation(CREATE, name))
        elif name not in self.files:
            return -errno.ENOENT
        self._next_fd += 1
        self._open[self._next_fd] = name, self.files[name]
        return self._next_fd

    def close(self, fd: int) -> int:
        del self._open[fd]
        return 0

    def allocate(self, fd: int, size: int) -> int:
        if refused := self._refused("allocate"):
            return refused
        name, content = self._open[fd]
        if sum(map(len, self.files.values())) + size - len(content) > self.room:
            return -errno.ENOSPC
        content.extend(bytes(max(0, size - len(content))))
        self.operations.append(Operation(SIZE, name, size))
        return 0

    def read(self, fd: int, offset: int, size: int) -> bytes | int:
        return self._refused("read") or bytes(self._open[fd][1][offset : offset + size])

    def write(self, fd: int, offset: int, data: bytes) -> int:
        taken = self._refused("write")
        if taken < 0:
            return taken
        data = bytes(data[:taken]) if taken else bytes(data)
        name, content = self._open[fd]
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data
        self.operations.append(Operation(WRITE, name, offset, data))
        return len(data)

    def sync(self, fd: int) -> int:
        refused = self._refused("sync")
        self.operations.append(Operation(SYNC_FAILED if refused else SYNC, self._open[fd][0]))
        return refused

    def unlink(self, name: str) -> int:
        if refused := self._refused("unlink"):
            return refused
        if self.files.pop(name, None) is None:
            return -errno.ENOENT
        self.operations.append(Operation(UNLINK, name))
        return 0

    def rename(self, name: str, new_name: str) -> int:
        if refused := self._refused("rename"):
            return refused
        if name not in self.files:
            return -errno.ENOENT
        self.files[new_name] = self.files.pop(name)
        self.operations.append(Operation(RENAME, name, target=new_name))
        return 0

    def sync_directory(self) -> int:
        if refused := self._refused("sync_directory"):
            return refused
        self.operations.append(Operation(SYNC_DIRECTORY))
        return 0

    def note(self, note: object) -> None:
        """Writes down what the workload counts on from here on."""
        self.operations.append(Operation(NOTE, note=note))

    def _refused(self, name: str) -> int:
        self.calls += 1
        return self.fault(self.calls - 1, name) if self.fault is not None else 0
