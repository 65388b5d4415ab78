"""The Nth call of the system fails, for every N: nothing that was promised is lost, and the journal goes on by itself.

The same workload runs again and again on a disk that lets another call fail each time, once or from there on for a while; then the disk
is well again and everything that was appended must come out, in order, each record once.
"""

from __future__ import annotations

import errno
from array import array

import pytest

from bifrost._native import contract
from bifrost._native import journal_records as j
from bifrost._native import records as r
from tests.crash.memory_disk import MemoryDisk
from tests.crash.workload import LIMITS, STORE_ID, TIME_NS, payload_of, samples_of

RECORDS = 60
FAILING_FOR = [1, 2, 7]
CALLS = ("open", "create", "allocate", "read", "write", "sync", "unlink", "rename", "sync_directory")


class Failing:
    """A fault that begins at call `first` and hits `count` calls of the kinds in `kinds`."""

    def __init__(self, first: int, count: int, outcome: int, kinds: tuple[str, ...]) -> None:
        self.first, self.count, self.outcome, self.kinds = first, count, outcome, kinds
        self.hits = 0

    def __call__(self, number: int, name: str) -> int:
        if number < self.first or self.hits == self.count or name not in self.kinds:
            return 0
        self.hits += 1
        return self.outcome


def append(journal: contract.Journal, sequence: int, stream: int) -> bool:
    given = journal.append(stream, 0, samples_of(sequence), TIME_NS, TIME_NS, payload_of(sequence))
    assert given in (sequence, r.E_FULL)
    return given == sequence


def commit(journal: contract.Journal, disk: MemoryDisk) -> bool:
    journal.begin(b"", TIME_NS, 0)
    return journal.commit(j.COMMIT_SYNC) == r.OK


def acknowledge(journal: contract.Journal, found: list[j.JournalRecord]) -> None:
    columns = [each.sequence for each in found], [each.records for each in found], [each.samples for each in found]
    assert journal.acknowledge(array("Q", columns[0]), array("I", columns[1]), array("I", columns[2]), 0) == r.OK


def run(backend: contract.Backend, disk: MemoryDisk) -> tuple[bool, list[int]]:
    """Appends, commits and drains `RECORDS` records, in spite of everything; whether the fault hit, and what came out."""
    limits = LIMITS._replace(flags=0)  # What is not delivered must not be dropped.
    for _ in range(20):
        try:
            journal = backend.open_journal("", limits, STORE_ID, TIME_NS, disk)
            break
        except OSError:
            continue
    else:
        pytest.fail("the journal does not open")
    stream = journal.stream(b"plant")
    delivered: list[int] = []
    position = appended = 0
    for _ in range(40 * RECORDS):
        while appended < RECORDS and append(journal, appended + 1, stream):
            appended += 1
            if appended % 5 == 0:
                break
        commit(journal, disk)
        report = journal.report()
        _, found = journal.read(position + 1, report.durable_sequence, 7)
        for each in found:
            assert each.type == j.RECORD_DATA, each
            assert each.payload == payload_of(each.sequence)
            assert each.sequence <= report.durable_sequence
        delivered += [each.sequence for each in found]
        position = delivered[-1] if delivered else 0
        acknowledge(journal, found)
        if position == RECORDS and journal.report().base_sequence == RECORDS + 1:
            break
    report = journal.report()
    assert report.samples_total == sum(map(samples_of, range(1, RECORDS + 1)))
    assert report.done[0] == report.samples_total, report
    journal.close()
    return isinstance(disk.fault, Failing) and disk.fault.hits > 0, delivered


@pytest.mark.parametrize("count", FAILING_FOR)
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_any_call_fails_and_every_record_comes_out_once(backend, error, count):
    first = 0
    while True:
        # What can't be read seven times over is damage, and is told as such.
        kinds = tuple(kind for kind in CALLS if kind != "read" or count < 4)
        fault = Failing(first, count, -error, kinds)
        disk = MemoryDisk(fault=fault)
        was_hit, delivered = run(backend, disk)
        assert delivered == list(range(1, RECORDS + 1)), (first, delivered)
        assert disk.open_count == 0, first
        if not was_hit:
            break
        first += 1
    assert first > 80


@pytest.mark.parametrize("taken", [1, 5, 100])
def test_write_takes_a_part_only(backend, taken):
    disk = MemoryDisk(fault=Failing(0, 1 << 30, taken, ("write",)))
    assert run(backend, disk)[1] == list(range(1, RECORDS + 1))


@pytest.mark.parametrize("kind", ["sync", "write", "sync_directory"])
def test_disk_that_is_dead_for_long_loses_nothing(backend, kind):
    disk = MemoryDisk(fault=Failing(40, 200, -errno.EIO, (kind,)))
    assert run(backend, disk) == (True, list(range(1, RECORDS + 1)))


def test_failing_sync_is_never_tried_again_on_the_same_file(backend):
    """The kernel forgets what it could not write: a second sync would lie."""
    disk = MemoryDisk()
    journal = backend.open_journal("", LIMITS, STORE_ID, TIME_NS, disk)
    stream = journal.stream(b"plant")
    assert append(journal, 1, stream)
    assert commit(journal, disk)
    disk.fault = Failing(disk.calls, 1, -errno.EIO, ("sync",))
    assert append(journal, 2, stream)
    before = len(disk.operations)
    assert commit(journal, disk)
    written_to = {each.name for each in disk.operations[before:] if each.data and payload_of(2) in each.data}
    assert written_to == {"00000001.bfs", "00000002.bfs"}
    report = journal.report()
    assert report.alarms & j.ALARM_SYNC_FAILED
    assert report.durable_sequence == 2
    assert [each.sequence for each in journal.read(1, 2, 10)[1]] == [1, 2]


def test_failing_sync_of_many_unsynced_commits_is_made_good_from_the_file(backend):
    """The batches are gone from memory; what the kernel still shows is written again."""
    disk = MemoryDisk()
    journal = backend.open_journal("", LIMITS, STORE_ID, TIME_NS, disk)
    stream = journal.stream(b"plant")
    for sequence in range(1, 9):
        assert append(journal, sequence, stream)
        journal.begin(b"", TIME_NS, 0)
        assert journal.commit(0) == r.OK
    disk.fault = Failing(disk.calls, 1, -errno.EIO, ("sync",))
    assert append(journal, 9, stream)
    assert commit(journal, disk)
    assert journal.report().durable_sequence == 9
    found = journal.read(1, 9, 20)[1]
    assert [(each.type, each.sequence, each.payload) for each in found] == [(1, s, payload_of(s)) for s in range(1, 10)]


def test_full_disk_keeps_everything_and_goes_on_when_there_is_room(backend):
    disk = MemoryDisk(room=2 * LIMITS.segment_bytes + 9000)
    journal = backend.open_journal("", LIMITS, STORE_ID, TIME_NS, disk)
    stream = journal.stream(b"plant")
    sequence, refused = 0, 0
    while refused < 3:
        if append(journal, sequence + 1, stream):
            sequence += 1
        refused += not commit(journal, disk)
    report = journal.report()
    assert report.errno == errno.ENOSPC
    assert report.alarms & j.ALARM_WRITE_FAILED
    assert sum(report.done) == 0
    kept: list[int] = []
    while found := journal.read(len(kept) + 1, 1 << 63, 1000)[1]:
        kept += [each.sequence for each in found]
    assert kept == list(range(1, report.durable_sequence + 1))
    disk.room = 1 << 60
    assert commit(journal, disk)
    assert commit(journal, disk)
    assert journal.report().durable_sequence == sequence
    assert not journal.report().alarms & j.ALARM_WRITE_FAILED
