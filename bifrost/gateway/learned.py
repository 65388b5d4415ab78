"""What drivers learned about their devices (holes in the register map, for example), kept from one start to the next.

One JSON file in the data directory, replaced as a whole. It only saves time: without it, or with a damaged one, everything is learned
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping

import msgspec

__all__ = ["LearnedStore"]

_FILE = "learned.json"
_FILE_BYTES_MAX = 4 << 20
_SETTLE_S = 2.0  # A device is learned block by block; one write for all of them spares the disk.

Learned = dict[str, list[str]]


class LearnedStore:
    """What was learned, by device and its URL (another device under the same name begins anew).

    Args:
        directory: The data directory.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "state", _FILE)
        self._by_device: dict[str, Learned] = {}
        self._asked: set[str] = set()
        self._changed = asyncio.Event()
        with contextlib.suppress(OSError, ValueError), open(self._path, "rb") as file:
            self._by_device = msgspec.json.decode(file.read(_FILE_BYTES_MAX), type=dict[str, Learned])

    def of(self, name: str, url: str) -> Mapping[str, list[str]]:
        """What is known about a device; nothing for a new one. Devices that nobody asks for are forgotten at the next save."""
        self._asked.add(f"{name} {url}")
        return self._by_device.get(f"{name} {url}", {})

    def note(self, name: str, url: str, learned: Learned) -> None:
        """Keeps what a device's driver knows by now."""
        self._asked.add(f"{name} {url}")
        self._by_device[f"{name} {url}"] = dict(learned)
        self._changed.set()

    async def run(self) -> None:
        """Writes the file some time after each change, until cancelled; then what is not written yet.

        Raises:
            OSError: The disk is full or failed; the file before it is kept.
        """
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(_SETTLE_S)
                self._changed.clear()
                self._save()
        finally:
            if self._changed.is_set():
                self._save()

    def _save(self) -> None:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        kept = {key: learned for key, learned in self._by_device.items() if key in self._asked}
        beside = f"{self._path}.new"
        with open(beside, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(kept), indent=1))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self._path)
