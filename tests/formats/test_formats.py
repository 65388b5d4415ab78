"""Golden vectors of what lies on the disk: the same bytes from C and from Python, and the same meaning back.

A format that changes by accident fails here. One that changes on purpose gets a new version and a new file; this one must still be read.
"""

from __future__ import annotations

import tomllib
from array import array
from pathlib import Path
from typing import Any

import pytest

from bifrost._native import contract
from bifrost._native import journal_records as j
from bifrost._native import records as r
from tests.crash.memory_disk import MemoryDisk

FOLDER = Path(__file__).parent
GOLDEN: dict[str, Any] = tomllib.loads((FOLDER / "journal.toml").read_text())
PAGE = (FOLDER.parents[1] / "docs" / "reference" / "formats.md").read_text()
LIMITS = j.JournalLimits(**GOLDEN["limits"])
STORE_ID = bytes(range(16))
TIME_NS = 1_700_000_000_000_000_000
RECORDS_AT = 1024


def the_bytes(text: str) -> bytes:
    return bytes.fromhex(text)


def golden_files() -> dict[str, bytes]:
    header = the_bytes(GOLDEN["segment"]["header"]).ljust(512, b"\0")
    segment = header + header + the_bytes(GOLDEN["segment"]["records"])
    slots = the_bytes(GOLDEN["cursor"]["slot_0"]).ljust(4096, b"\0") + the_bytes(GOLDEN["cursor"]["slot_1"])
    return {
        GOLDEN["segment"]["name"]: segment.ljust(LIMITS.segment_bytes, b"\0"),
        GOLDEN["cursor"]["name"]: slots.ljust(8192, b"\0"),
    }


def acknowledge(journal: contract.Journal, sequence: int, samples: int) -> None:
    assert journal.acknowledge(array("Q", [sequence]), array("I", [1]), array("I", [samples]), 0) == r.OK


def test_calls_make_these_bytes(backend):
    disk = MemoryDisk()
    journal = backend.open_journal("", LIMITS, STORE_ID, TIME_NS, disk)
    stream = journal.stream(b"plant")
    for each in GOLDEN["records"]:
        times = each["first_ns"], each["last_ns"]
        assert journal.append(stream, each["lane"], each["samples"], *times, each["payload"].encode()) > 0
    assert journal.begin(b"counters", TIME_NS, 0) == r.OK
    assert journal.commit(j.COMMIT_SYNC) == r.OK
    acknowledge(journal, 1, 3)
    acknowledge(journal, 3, 2)
    assert journal.begin(b"counters", TIME_NS, 0) == r.OK
    assert journal.commit(j.COMMIT_SYNC | j.COMMIT_SYNC_CURSOR) == r.OK
    assert {name: bytes(content) for name, content in disk.files.items()} == golden_files()


def test_these_bytes_mean_what_was_said(backend):
    journal = backend.open_journal("", LIMITS, bytes(16), TIME_NS, MemoryDisk(golden_files()))
    report = journal.report()
    assert report.store_id == STORE_ID
    assert (report.base_sequence, report.durable_sequence, report.next_sequence) == (2, 3, 4)
    assert (report.samples_total, report.done[0], report.samples_buffered) == (6, 5, 1)
    assert report.counters == b"counters"
    assert journal.streams() == [b"plant"]
    second = GOLDEN["records"][1]
    expected = (2, j.RECORD_DATA, 1, 0, 1, 1, second["first_ns"], second["last_ns_read"], b"")
    assert journal.read(1, 10, 10) == (r.OK, [expected])


def test_all_records_come_back_when_the_cursor_is_lost(backend):
    files = golden_files()
    del files["cursor.bfc"]
    found = backend.open_journal("", LIMITS, bytes(16), TIME_NS, MemoryDisk(files)).read(1, 10, 10)[1]
    assert [(each.lane, each.samples, each.first_ns, each.last_ns, each.payload.decode()) for each in found] == [
        (each["lane"], each["samples"], each["first_ns"], each["last_ns_read"], each["payload"])
        for each in GOLDEN["records"]
    ]


@pytest.mark.parametrize("part", [("segment", "header"), ("segment", "records"), ("cursor", "slot_1")])
def test_the_page_shows_these_bytes(part):
    words = GOLDEN[part[0]][part[1]].split()
    assert " ".join(words) in " ".join(PAGE.split())
