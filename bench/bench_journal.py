"""The journal against SQLite (WAL, synchronous=FULL), both durable at every commit, on the same disk and in turns.

Records of 200 bytes, alone and a hundred in a commit; bytes written are counted at the calls (journal) and by the kernel for the process
(SQLite has no other). A million buffered records are written once and opened in a process of its own.
"""

from __future__ import annotations

import importlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bench.ratio import require, require_at_most
from bifrost._native import journal_records as j
from bifrost._native import records as r
from bifrost._native._py_journal_io import SystemIO

PAYLOAD = bytes(range(200))
STORE_ID = bytes(16)
BATCH = 100
COUNTERS = bytes(72)  # A ledger: nine counters.
MILLION = 1_000_000
RUNS = 3
COMMITS_A_TURN = 20


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


class JournalBox:
    """An outbox on the journal, new."""

    def __init__(self, folder: Path, batch: int) -> None:
        folder.mkdir()
        self._journal = core().open_journal(str(folder), j.JournalLimits(), STORE_ID, 1)
        self._stream = self._journal.stream(b"plant")
        self._batch = batch

    def commit(self) -> None:
        """One durable commit."""
        for _ in range(self._batch):
            self._journal.append(self._stream, 0, 1, 1, 1, PAYLOAD)
        self._journal.begin(COUNTERS, 1, 0)
        assert self._journal.commit(j.COMMIT_SYNC) == r.OK


class SqliteBox:
    """The same on SQLite."""

    def __init__(self, folder: Path, batch: int) -> None:
        folder.mkdir()
        self._base = open_sqlite(folder)
        self._batch = batch

    def commit(self) -> None:
        """One durable commit."""
        self._base.execute("begin")
        self._base.executemany("insert into outbox(payload) values(?)", [(PAYLOAD,)] * self._batch)
        self._base.execute("commit")


def open_sqlite(folder: Path) -> sqlite3.Connection:
    base = sqlite3.connect(folder / "outbox.db", isolation_level=None)
    base.execute("pragma journal_mode=wal")
    base.execute("pragma synchronous=full")
    base.execute("create table outbox(seq integer primary key, payload blob)")
    return base


def compare(target: str, place: Path, batch: int, commits: int) -> None:
    """`RUNS` runs, both new in each; commits in turns, a few at a time, and one ratio of the totals for each run."""
    taken: dict[str, list[float]] = {"sqlite": [], "journal": []}
    for run in range(RUNS):
        boxes = {
            "sqlite": SqliteBox(place / f"sqlite{run}", batch),
            "journal": JournalBox(place / f"journal{run}", batch),
        }
        totals = dict.fromkeys(boxes, 0)
        for _ in range(commits // COMMITS_A_TURN):
            for name, box in boxes.items():
                begin = time.perf_counter_ns()
                for _ in range(COMMITS_A_TURN):
                    box.commit()
                totals[name] += time.perf_counter_ns() - begin
        for name, total in totals.items():
            taken[name].append(total / commits)
    require(target, taken["sqlite"], taken["journal"])


def test_single_durable(place: Path) -> None:
    compare("journal_single_durable", place, 1, 2000)


def test_batched_durable(place: Path) -> None:
    compare("journal_batched_durable", place, BATCH, 400)


def journal_amplification(folder: Path, commits: int, batch: int, payload: bytes) -> float:
    """Bytes written for a byte of payload, acknowledged and deleted records included."""
    folder.mkdir()
    io = Counting(str(folder))
    journal = core().open_journal("", j.JournalLimits(), STORE_ID, 1, io)
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
        base.executemany("insert into outbox(payload) values(?)", [(bytes(size),)] * batch)
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
    limits = j.JournalLimits()
    journal = core().open_journal(str(folder), limits, STORE_ID, 1)
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
    journal = backend.open_journal(folder, j.JournalLimits(), STORE_ID, 1)
    ms = (time.perf_counter() - begin) * 1e3
    assert len(journal.read(1, MILLION, 1000)[1]) == 1000
    print(json.dumps({"buffered": journal.report().samples_buffered, "mb": resident_mb() - rss, "ms": ms}))


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
