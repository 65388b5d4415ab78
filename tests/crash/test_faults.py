"""The Nth call of the system fails, for every N: nothing that was promised is lost, and the journal goes on by itself.

The same workload runs again and again on a disk that lets another call fail each time; then the disk is well again and everything that was
appended must come out, in order, each record once. `python -m tests.crash faults` does all of it; here is a part.
"""

from __future__ import annotations

import errno
from collections import Counter

import pytest

from bifrost._native import journal_records as j
from bifrost._native import records as r
from tests.crash.faults import FAULTS, RECORDS, Failing, append, commit, outlive, power_cuts, sweep, sweep_power_cuts
from tests.crash.memory_disk import MemoryDisk
from tests.crash.workload import LIMITS, STORE_ID, TIME_NS, payload_of

STATES = 1000


@pytest.mark.parametrize("name", FAULTS)
def test_any_call_fails_and_every_record_comes_out_once(backend, name):
    assert sweep(backend, FAULTS[name]) >= 5


@pytest.mark.parametrize("taken", [1, 5, 100])
def test_writes_that_all_take_a_part_only(backend, taken):
    disk = MemoryDisk(fault=Failing(0, (taken,) * 1_000_000, ("write",)))
    assert outlive(backend, disk) == list(range(1, RECORDS + 1))


@pytest.mark.parametrize("kind", ["sync", "write", "sync_directory"])
def test_disk_that_is_dead_for_long_loses_nothing(backend, kind):
    fault = Failing(3, (-errno.EIO,) * 200, (kind,))
    assert outlive(backend, MemoryDisk(fault=fault)) == list(range(1, RECORDS + 1))
    assert fault.was_hit


def test_power_cut_after_a_failed_sync_loses_nothing_that_was_promised(backend):
    """What the sync was to make durable is gone, whatever later syncs say: it must have been written again elsewhere."""
    assert sweep_power_cuts(backend, STATES, first_seed=500) == Counter(ok=STATES)


class TriesAgain(MemoryDisk):
    """A sync that fails is done again, and believed."""

    def sync(self, fd: int) -> int:
        return super().sync(fd) and super().sync(fd)


def test_second_sync_that_is_believed_is_found(backend):
    assert any(verdict == "lost" for first in range(20) for verdict in power_cuts(backend, 500, first, TriesAgain))


def test_failing_sync_is_never_tried_again_on_the_same_file(backend):
    """The kernel forgets what it could not write: a second sync would lie."""
    disk = MemoryDisk()
    journal = backend.open_journal("", LIMITS, STORE_ID, TIME_NS, disk)
    stream = journal.stream(b"plant")
    assert append(journal, 1, stream)
    assert commit(journal)
    disk.fault = Failing(0, (-errno.EIO,), ("sync",))
    assert append(journal, 2, stream)
    before = len(disk.operations)
    assert commit(journal)
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
    disk.fault = Failing(0, (-errno.EIO,), ("sync",))
    assert append(journal, 9, stream)
    assert commit(journal)
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
        refused += not commit(journal)
    report = journal.report()
    assert report.errno == errno.ENOSPC
    assert report.alarms & j.ALARM_WRITE_FAILED
    assert sum(report.done) == 0
    kept: list[int] = []
    while found := journal.read(len(kept) + 1, 1 << 63, 1000)[1]:
        kept += [each.sequence for each in found]
    assert kept == list(range(1, report.durable_sequence + 1))
    disk.room = 1 << 60
    assert commit(journal)
    assert commit(journal)
    assert journal.report().durable_sequence == sequence
    assert not journal.report().alarms & j.ALARM_WRITE_FAILED
