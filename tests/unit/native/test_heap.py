"""The heap of a process that was tuned gives back what is freed, even between blocks that stay."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from bifrost._native import contract, records

PROGRAM = """
import os, resource
from bifrost._native import _c

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

assert _c.tune_heap() == 0
one_large = b"x" * (24 << 20)
del one_large  # from now on glibc would take anything smaller from the heap
before = resident_bytes()
blocks, between = [], []
for _ in range(12):
    blocks.append(b"x" * (1 << 20))
    between.append(b"x" * 2_000)
del blocks
print(resident_bytes() - before)
"""


def test_tuning_is_done_or_not_needed(backend: contract.Backend) -> None:
    assert backend.tune_heap() == records.OK


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries need no tuning")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="another allocator may be in place")
def test_freed_blocks_leave_no_holes(backend: contract.Backend) -> None:
    if backend.BACKEND != "c":
        pytest.skip("only C can tell the heap")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 << 20
