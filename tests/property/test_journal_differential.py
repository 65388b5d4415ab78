"""C and Python do the same: on any sequence of calls, faults and damage the same statuses, records, reports, and bytes on the disk.

Each side has a disk of its own; after every step all that can be seen is compared.
"""

from __future__ import annotations

import errno
import importlib
import os
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifrost._native import _py_journal_format as f
from bifrost._native import journal_records as j
from tests.crash.memory_disk import MemoryDisk

pytestmark = pytest.mark.skipif(os.environ.get("BIFROST_BACKEND") == "py", reason="there is no C core to compare with")

LIMITS = j.JournalLimits(
    segment_bytes=8192, segments_count_max=3, batch_bytes=1500, record_bytes_max=400, acknowledgements_count_max=20
)
TIMES = st.integers(-(1 << 62), 1 << 62)
APPEND = st.tuples(
    st.just("append"),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 70_000),
    TIMES,
    TIMES,
    st.binary(max_size=410),
)
STREAM = st.tuples(st.just("stream"), st.binary(max_size=66))
FILL = st.tuples(st.just("fill"), st.integers(1, 12), st.integers(0, 400))
COMMIT = st.tuples(st.just("commit"), st.integers(0, 3), st.binary(max_size=20), st.integers(0, 99), st.integers(0, 99))
ACKNOWLEDGE = st.tuples(st.just("acknowledge"), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 8))
READ = st.tuples(st.just("read"), st.integers(0, 60), st.integers(0, 70), st.integers(0, 9))
RESTART = st.tuples(st.just("restart"), st.booleans())
FAULT = st.tuples(
    st.just("fault"),
    st.sampled_from(["write", "sync", "create", "open", "allocate", "unlink", "rename", "sync_directory", "read"]),
    st.sampled_from([errno.EIO, errno.ENOSPC]),
    st.integers(1, 3),
)
DAMAGE = st.tuples(st.just("damage"), st.integers(0, 1 << 20), st.integers(1, 600), st.integers(0, 255))
STEPS = st.lists(
    st.one_of(APPEND, STREAM, FILL, FILL, COMMIT, COMMIT, ACKNOWLEDGE, READ, RESTART, FAULT, DAMAGE), max_size=40
)


class Side:
    """One backend and its disk."""

    def __init__(self, name: str) -> None:
        self.backend = importlib.import_module(f"bifrost._native._{name}")
        self.disk = MemoryDisk()
        self.journal = self.backend.open_journal("", LIMITS, bytes(range(16)), 7, self.disk)

    def do(self, step) -> object:
        """What one step gives."""
        name, *values = step
        return getattr(self, f"_{name}")(*values)

    def _append(self, stream, lane, samples, first_ns, last_ns, payload):
        return self.journal.append(stream, lane, samples, first_ns, last_ns, payload)

    def _stream(self, name):
        return self.journal.stream(name), self.journal.streams()

    def _fill(self, count, size):
        stream = self.journal.stream(b"plant")
        return [
            self.journal.append(stream, 0, 1 + size % 5, size, size, bytes([size % 256]) * size) for _ in range(count)
        ]

    def _commit(self, flags, counters, now_ns, expire):
        return self.journal.begin(counters, now_ns, expire), self.journal.commit(flags)

    def _acknowledge(self, sequences, reason):
        ones = array("I", [1] * len(sequences))
        return self.journal.acknowledge(array("Q", sequences), ones, ones, reason)

    def _read(self, sequence, through, count):
        return self.journal.read(sequence, through, count)

    def _restart(self, is_clean):
        if is_clean:
            self.journal.close()
        try:
            self.journal = self.backend.open_journal("", LIMITS, bytes(range(16)), 7, self.disk)
        except OSError as error:
            self.disk.fault = None
            self.journal = self.backend.open_journal("", LIMITS, bytes(range(16)), 7, self.disk)
            return error.errno
        return 0

    def _fault(self, kind, error, count):
        left = [count]

        def fail(_number: int, name: str) -> int:
            if name == kind and left[0] > 0:
                left[0] -= 1
                return -error  # type: ignore[no-any-return]  # a module has no types
            return 0

        self.disk.fault = fail
        return 0

    def _damage(self, at, size, mask):
        """Changes some bytes of a file, as a disk may."""
        names = sorted(self.disk.files)
        content = self.disk.files[names[at % len(names)]]
        begin = at % max(1, len(content))
        for index in range(begin, min(begin + size, len(content))):
            content[index] ^= mask
        return names

    def seen(self):
        """All that can be seen from outside, but for the reason of a failure that was overcome."""
        return self.journal.report(), {name: bytes(content) for name, content in self.disk.files.items()}


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_both_backends_do_the_same(steps):
    c, py = Side("c"), Side("py")
    for step in steps:
        assert c.do(step) == py.do(step), step
        assert c.seen() == py.seen(), step
    assert c.disk.operations == py.disk.operations


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_checksum_is_zlib_s(data, start):
    from bifrost._native import _core

    assert _core.lib.bf_crc32(start, data, len(data)) == f.crc32(data, start)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["00000001.bfs", "00000002.bfs", "cursor.bfc"]), st.binary(max_size=9000)))
def test_any_bytes_on_the_disk_open(files):
    seen = []
    for name in ("c", "py"):
        disk = MemoryDisk(files)
        backend = importlib.import_module(f"bifrost._native._{name}")
        journal = backend.open_journal("", LIMITS, bytes(range(16)), 7, disk)
        assert journal.append(journal.stream(b"plant"), 0, 1, 0, 0, b"x") > 0
        journal.begin(b"", 1, 0)
        assert journal.commit(j.COMMIT_SYNC) == 0
        seen.append((journal.report(), sorted(disk.files)))
    assert seen[0] == seen[1]
