"""The cursor's file: two slots, of which only the one that is not durable is ever written.

The twin of `csrc/journal_cursor.c`. Calls give 0 or the negative errno.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bifrost._native import _py_journal_format as f

if TYPE_CHECKING:
    from bifrost._native.contract import JournalIO


def write_all(io: JournalIO, fd: int, at: int, data: bytes) -> int:
    """Writes all of `data`."""
    while data:
        taken = io.write(fd, at, data)
        if taken <= 0:
            return taken or -errno.EIO
        at += taken
        data = data[taken:]
    return 0


@dataclass(slots=True)
class CursorFile:
    """The file and what of it is durable.

    Attributes:
        durable_slot: 0 or 1: the one that a power cut leaves.
        durable_base: What it says.
        is_saved: Whether the last `save` wrote everything.
        is_synced: Whether what was saved is durable.
        is_new: Whether the file's name may not be durable yet.
    """

    io: JournalIO
    fd: int = -1
    durable_slot: int = 1
    durable_base: int = 0
    saved_base: int = 0
    is_saved: bool = True
    is_synced: bool = True
    is_new: bool = False

    def save(self, cursor: f.Cursor) -> int:
        """Writes a slot. A killed process does not lose it."""
        self.is_saved = False
        if self.fd < 0:
            refused = self._open()
            if refused < 0:
                return refused
        self.is_synced = False
        refused = write_all(self.io, self.fd, (1 - self.durable_slot) * f.SLOT_AT, cursor.pack())
        if refused < 0:
            return refused
        self.is_saved = True
        self.saved_base = cursor.base
        return 0

    def sync(self) -> int:
        """Makes what was saved durable. The other slot is the next to be written."""
        if self.is_synced:
            return 0
        refused = self.io.sync(self.fd)
        if refused == 0 and self.is_new:
            refused = self.io.sync_directory()
        if refused < 0:
            self.close()
            self.is_saved = False  # It must be written again before a sync means anything.
            return refused
        self.is_new = False
        self.durable_slot = 1 - self.durable_slot
        self.durable_base = self.saved_base
        self.is_synced = True
        return 0

    def close(self) -> None:
        """Gives up the descriptor."""
        if self.fd >= 0:
            self.io.close(self.fd)
        self.fd = -1

    def _open(self) -> int:
        fd = self.io.open(f.CURSOR_NAME, False)
        if fd == -errno.ENOENT:
            fd = self.io.open(f.CURSOR_NAME, True)
            refused = self.io.allocate(fd, f.CURSOR_FILE_BYTES) if fd >= 0 else 0
            if refused < 0 and refused != -errno.EOPNOTSUPP:
                self.io.close(fd)
                self.io.unlink(f.CURSOR_NAME)
                return refused
            self.is_new = True
        if fd >= 0:
            self.fd = fd
        return min(fd, 0)
