"""The journal against SQLite (WAL, synchronous=FULL), both durable at every commit, on the same disk and in turns.

The same outbox on both: a record is stream, lane, samples, times and 200 bytes, and every commit carries the ledger's counters. Records
come alone and a hundred in a commit, in the two lives that an outbox has:

* `running`: each commit also acknowledges (SQLite: deletes) what came ten commits before. Files are measured once both sides have written
  over theirs: SQLite its WAL, the journal its segments;
* `growing`: nothing is acknowledged, from new files on, as in an outage. SQLite has written over its WAL after 1,000 pages; the journal's
  segments stay new, so that each sync waits for the file system's own journal too.

Beside both stands the floor: one bare write of the journal's bytes and one fdatasync, on a file of the same kind. No journal that syncs
each commit is faster than that, so the floor's ratio is the most that any could reach on this disk.

Bytes written are counted at the calls (journal) and by the kernel for the process (SQLite has no other). A million buffered records are
written once and opened in a process of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from operator import truediv
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

from bench.ratio import promise_of, require, require_at_most
from bifrost._native import journal_records as j
from bifrost._native import records as r
from bifrost._native._py_journal_io import SystemIO

PAYLOAD = bytes(range(200))
STORE_ID = bytes(16)
TIME_NS = 1_700_000_000_000_000_000
BATCH = 100
LAG = 10
COUNTERS_BYTES = 72  # A ledger: nine counters.
COUNTERS = bytes(COUNTERS_BYTES)
LIMITS = j.JournalLimits()
FLOOR_BYTES = 16 << 20
MILLION = 1_000_000
RUNS = 9
COMMITS_A_TURN = 10
INSERT = "insert into outbox(stream, lane, samples, first_ns, last_ns, payload) values(?, ?, ?, ?, ?, ?)"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder on the disk of this checkout: what is in memory only would measure nothing."""
    build = Path(__file__).parent.parent / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as folder:
        yield Path(folder)


def core() -> ModuleType:
    return importlib.import_module("bifrost._native._c")


class Counting(SystemIO):
    """Counts what is written."""

    written = 0

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Counts what is written."""
        self.written += len(data)
        return super().write(fd, offset, data)


class Box(Protocol):
    """What is measured."""

    def warm_up(self) -> None:
        """Goes on, without syncs, until its files are written over."""

    def commit(self) -> None:
        """One durable commit."""


class JournalBox:
    """An outbox on the journal, new. `lag`: how many commits later records are acknowledged; 0: never."""

    def __init__(self, folder: Path, batch: int, lag: int) -> None:
        folder.mkdir()
        self._journal = core().open_journal(str(folder), LIMITS, STORE_ID, 1)
        self._stream = self._journal.stream(b"plant")
        self._batch = batch
        self._lag = lag * batch
        self._acknowledged = 0
        self._ones = array("I", [1]) * batch

    def commit(self, flags: int = j.COMMIT_SYNC) -> None:
        """One durable commit."""
        last, append, stream = 0, self._journal.append, self._stream
        for _ in range(self._batch):
            last = append(stream, 0, 1, TIME_NS, TIME_NS, PAYLOAD)
        done = last - self._lag
        if self._lag and done > self._acknowledged:
            sequences = array("Q", range(self._acknowledged + 1, done + 1))
            assert self._journal.acknowledge(sequences, self._ones, self._ones, j.DONE_WITH_ACKNOWLEDGED) == r.OK
            self._acknowledged = done
        self._journal.begin(last.to_bytes(COUNTERS_BYTES, "little"), TIME_NS, 0)
        assert self._journal.commit(flags) == r.OK

    def warm_up(self) -> None:
        """Until segments are used again."""
        for _ in range(3 * LIMITS.segment_bytes // commit_bytes(self._batch)):
            self.commit(0)


class SqliteBox:
    """The same on SQLite."""

    def __init__(self, folder: Path, batch: int, lag: int) -> None:
        folder.mkdir()
        self._base = open_sqlite(folder)
        self._batch = batch
        self._lag = lag * batch
        self._last = 0

    def commit(self) -> None:
        """One durable commit."""
        execute, rows = self._base.execute, [(0, 0, 1, TIME_NS, TIME_NS, PAYLOAD)] * self._batch
        execute("begin")
        self._base.executemany(INSERT, rows)
        self._last += self._batch
        execute("update ledger set counters = ?", (self._last.to_bytes(COUNTERS_BYTES, "little"),))
        if self._lag:
            execute("delete from outbox where seq <= ?", (self._last - self._lag,))
        execute("commit")

    def warm_up(self) -> None:
        """Until the WAL is written over: after 1,000 pages."""
        self._base.execute("pragma synchronous=off")
        for _ in range(1500):
            self.commit()
        self._base.execute("pragma synchronous=full")


class Floor:
    """One write of as many bytes as a commit of the journal has, and one sync."""

    def __init__(self, path: Path, batch: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.posix_fallocate(self._fd, 0, FLOOR_BYTES)
        os.fsync(self._fd)
        self._data = PAYLOAD * (commit_bytes(batch) // len(PAYLOAD))
        self._at = 0

    def commit(self) -> None:
        """One durable write."""
        if self._at + len(self._data) > FLOOR_BYTES:
            self._at = 0
        os.pwrite(self._fd, self._data, self._at)
        os.fdatasync(self._fd)
        self._at += len(self._data)

    def warm_up(self) -> None:
        """Writes all of the file once."""
        for at in range(0, FLOOR_BYTES, 1 << 20):
            os.pwrite(self._fd, b"\1" * (1 << 20), at)
        os.fsync(self._fd)


def commit_bytes(batch: int) -> int:
    """What a commit of the journal has: docs/reference/formats.md."""
    return batch * (28 + len(PAYLOAD)) + 44 + COUNTERS_BYTES


def open_sqlite(folder: Path) -> sqlite3.Connection:
    base = sqlite3.connect(folder / "outbox.db", isolation_level=None)
    base.execute("pragma journal_mode=wal")
    base.execute("pragma synchronous=full")
    base.execute(
        "create table outbox(seq integer primary key, stream integer, lane integer, samples integer,"
        " first_ns integer, last_ns integer, payload blob)"
    )
    base.execute("create table ledger(counters blob)")
    base.execute("insert into ledger values(?)", (bytes(COUNTERS_BYTES),))
    return base


def compare(target: str, place: Path, batch: int, commits: int, *, is_running: bool) -> None:
    """`RUNS` runs, all new in each; commits in turns, a few at a time, and one ratio of the totals for each run.

    Others that use the disk add as much to each side, and all ratios go to 1; so the half of the runs counts in which the floor was lowest.
    """
    taken: dict[str, list[float]] = {"sqlite": [], "journal": [], "floor": []}
    cpu = dict.fromkeys(taken, 0)
    for run in range(RUNS):
        folder = place / f"run{run}"
        folder.mkdir()
        lag = LAG if is_running else 0
        boxes: dict[str, Box] = {
            "sqlite": SqliteBox(folder / "sqlite", batch, lag),
            "journal": JournalBox(folder / "journal", batch, lag),
            "floor": Floor(folder / "floor", batch),
        }
        if is_running:
            for box in boxes.values():
                box.warm_up()
        totals = dict.fromkeys(boxes, 0)
        for _ in range(commits // COMMITS_A_TURN):
            for name, box in boxes.items():
                begin, begin_cpu = time.perf_counter_ns(), time.process_time_ns()
                for _ in range(COMMITS_A_TURN):
                    box.commit()
                totals[name] += time.perf_counter_ns() - begin
                cpu[name] += time.process_time_ns() - begin_cpu
        for name, total in totals.items():
            taken[name].append(total / commits)
    quiet = sorted(range(RUNS), key=taken["floor"].__getitem__)[: RUNS // 2 + 1]
    sqlite, journal, floor = ([taken[name][run] for run in quiet] for name in ("sqlite", "journal", "floor"))
    highest = statistics.median(map(truediv, sqlite, floor))
    used = ", ".join(f"{name} {total / RUNS / commits / 1e3:.0f}" for name, total in cpu.items())
    print(
        f"\n{target}: the floor ({statistics.median(floor):,.0f} ns) is {highest:.2f}x SQLite, the journal"
        f" {statistics.median(map(truediv, floor, journal)):.2f} of the floor; CPU a commit in us: {used}"
    )
    if highest < promise_of(target):
        pytest.skip(f"{target}: this disk, or its other users, takes so long that a bare write is only {highest:.2f}x")
    require(target, sqlite, journal)


def test_single_running(place: Path) -> None:
    compare("journal_single_running", place, 1, 1000, is_running=True)


def test_single_growing(place: Path) -> None:
    compare("journal_single_growing", place, 1, 1000, is_running=False)


def test_batched_running(place: Path) -> None:
    compare("journal_batched_running", place, BATCH, 600, is_running=True)


def test_batched_growing(place: Path) -> None:
    compare("journal_batched_growing", place, BATCH, 600, is_running=False)


def journal_amplification(folder: Path, commits: int, batch: int, payload: bytes) -> float:
    """Bytes written for a byte of payload, acknowledged and deleted records included."""
    folder.mkdir()
    io = Counting(str(folder))
    journal = core().open_journal("", LIMITS, STORE_ID, 1, io)
    stream = journal.stream(b"plant")
    position = 1
    for number in range(commits):
        for _ in range(batch):
            assert journal.append(stream, 0, 1, 1, 1, payload) > 0
        journal.begin(COUNTERS, 1, 0)
        assert journal.commit(j.COMMIT_SYNC) == r.OK
        if number % 100 == 99:
            position = acknowledge_all(journal, position)
    journal.close()
    return io.written / (commits * batch * len(payload))


def acknowledge_all(journal: object, position: int) -> int:
    while found := journal.read(position, 1 << 62, 1000)[1]:  # type: ignore[attr-defined]  # of either backend
        sequences, ones = array("Q", [each.sequence for each in found]), array("I", [1] * len(found))
        assert journal.acknowledge(sequences, ones, ones, 0) == r.OK  # type: ignore[attr-defined]  # the same
        journal.begin(COUNTERS, 1, 0)  # type: ignore[attr-defined]  # the same
        journal.commit(0)  # type: ignore[attr-defined]  # the same
        position = found[-1].sequence + 1
    return position


def sqlite_amplification(folder: Path, commits: int, batch: int, payload: bytes) -> float:
    """The same of SQLite, in a process of its own, since the kernel counts for a process."""
    folder.mkdir()
    program = (
        "import sys; sys.path.insert(0, '.'); from pathlib import Path; from bench.bench_journal import fill_sqlite;"
        f"fill_sqlite(Path({str(folder)!r}), {commits}, {batch}, {len(payload)})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(run.stdout) / (commits * batch * len(payload))


def fill_sqlite(folder: Path, commits: int, batch: int, size: int) -> None:
    """Fills a table, deletes what is old, and prints how many bytes that wrote."""
    base = open_sqlite(folder)
    before = bytes_written()
    for number in range(commits):
        base.execute("begin")
        base.executemany(INSERT, [(0, 0, 1, TIME_NS, TIME_NS, bytes(size))] * batch)
        base.execute("commit")
        if number % 100 == 99:
            base.execute("delete from outbox")
    print(bytes_written() - before)


def bytes_written() -> int:
    """What this process has given to write calls."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


@pytest.mark.parametrize(
    ("name", "commits", "batch", "size"), [("single", 1000, 1, 1000), ("batched", 200, BATCH, 200)]
)
def test_write_amplification(place: Path, name: str, commits: int, batch: int, size: int) -> None:
    ours = journal_amplification(place / "journal", commits, batch, bytes(size))
    theirs = sqlite_amplification(place / "sqlite", commits, batch, bytes(size))
    print(
        f"\nbytes written for a byte of payload, {batch} x {size} bytes a commit: journal {ours:.3f}, SQLite {theirs:.2f}"
    )
    require_at_most(f"journal_write_amplification_{name}", ours)


def test_a_million_buffered_records_at_start(place: Path) -> None:
    folder = place / "journal"
    folder.mkdir()
    journal = core().open_journal(str(folder), LIMITS, STORE_ID, 1)
    stream = journal.stream(b"plant")
    for number in range(MILLION):
        if journal.append(stream, 0, 1, 1, 1, PAYLOAD[:100]) == r.E_FULL:
            journal.begin(COUNTERS, 1, 0)
            assert journal.commit(0) == r.OK
            assert journal.append(stream, 0, 1, 1, 1, PAYLOAD[:100]) == number + 1
    journal.begin(COUNTERS, 1, 0)
    assert journal.commit(j.COMMIT_SYNC) == r.OK
    program = (
        "import sys; sys.path.insert(0, '.'); from bench.bench_journal import open_million; open_million(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    assert report["buffered"] == MILLION
    require_at_most("journal_million_records_rss_mb", report["mb"])
    require_at_most("journal_million_records_open_ms", report["ms"])


def open_million(folder: str) -> None:
    """Opens the journal, reads the first records, and prints what that took."""
    backend = core()
    backend.crc16(b"")
    rss = resident_mb()
    begin = time.perf_counter()
    journal = backend.open_journal(folder, LIMITS, STORE_ID, 1)
    ms = (time.perf_counter() - begin) * 1e3
    assert len(journal.read(1, MILLION, 1000)[1]) == 1000
    print(json.dumps({"buffered": journal.report().samples_buffered, "mb": resident_mb() - rss, "ms": ms}))


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
