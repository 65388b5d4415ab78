"""After a power cut at any operation nothing acknowledged is lost, nothing is invented, and the journal opens.

A sample of the states that `python -m tests.crash` tries; and proof that the test can fail: five journals, each with one fault planted in
it, are all found out.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest

from bifrost._native import _py_journal_format as f
from bifrost._native import _py_journal_scan as scan
from tests.crash.__main__ import run, run_one
from tests.crash.memory_disk import MemoryDisk
from tests.crash.workload import Workload

STATES = 1500
PLANTED_STATES = 4000


def test_power_cut_loses_nothing_and_invents_nothing(backend):
    assert run(backend, STATES, first_seed=1000) == Counter(ok=STATES)


@pytest.mark.slow
def test_power_cut_loses_nothing_in_fifty_thousand_states(backend):
    assert run(backend, 50_000) == Counter(ok=50_000)


def test_both_backends_do_the_same_operations():
    """So a state that one of them was shown could have been left by the other."""
    done = []
    for name in ("c", "py"):
        disk = MemoryDisk()
        Workload(importlib.import_module(f"bifrost._native._{name}"), 7, disk).run(300)
        done.append(disk.operations)
    assert len(done[0]) > 300
    assert done[0] == done[1]


# ---- planted faults: each must be found


class LazyDirectory(MemoryDisk):
    """The directory is not synced."""

    def sync_directory(self) -> int:
        return 0


class LazySync(MemoryDisk):
    """A segment is not synced: what is acknowledged is not durable."""

    def sync(self, fd: int) -> int:
        return 0 if self._open[fd][0].endswith(".bfs") else super().sync(fd)


class LazyCursor(MemoryDisk):
    """Segments are deleted before the cursor that says so is durable."""

    def sync(self, fd: int) -> int:
        return 0 if self._open[fd][0] == f.CURSOR_NAME else super().sync(fd)


def verdicts(backend: ModuleType, make: Callable[[], MemoryDisk], *, promises_early: bool = False) -> Counter[str]:
    return sum(
        (run_one(backend, make(), seed, PLANTED_STATES, promises_early=promises_early) for seed in range(3)), Counter()
    )


@pytest.mark.parametrize("make", [LazyDirectory, LazySync, LazyCursor])
def test_missing_sync_is_found(backend, make):
    found = verdicts(backend, make)
    assert found.keys() - {"ok"}, found


def test_acknowledgement_before_the_sync_is_found(backend):
    assert verdicts(backend, MemoryDisk, promises_early=True)["lost"] > 0


def test_missing_checksum_is_found(monkeypatch):
    """Only Python can be made to believe everything; the bytes are the same."""
    believed: Callable[[bytes, int, int, int, int], f.Frame | None] = f.unpack_frame

    def believe(window: bytes, at: int, salt: int, first_sequence: int, file_at: int) -> f.Frame | None:
        length = f.frame_length(window, at)[1]
        frame = bytearray(window[at : at + f.FRAME_BYTES + length])
        record_type, delta = frame[7], int.from_bytes(frame[8:12], "little")
        frame[:] = f.pack_frame(
            salt,
            delta,
            record_type,
            bytes(frame[f.FRAME_BYTES :]),
            frame[12],
            frame[13],
            int.from_bytes(frame[14:16], "little"),
            int.from_bytes(frame[16:24], "little", signed=True),
            int.from_bytes(frame[24:28], "little"),
        )
        return believed(bytes(frame), 0, salt, first_sequence, file_at)

    monkeypatch.setattr(scan.f, "unpack_frame", believe)
    py = importlib.import_module("bifrost._native._py")
    assert verdicts(py, MemoryDisk)["garbage"] > 0
