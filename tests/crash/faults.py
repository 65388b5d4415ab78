"""A disk that fails at the Nth call, and what a journal must make of it.

`outlive` appends, commits and drains in spite of everything, and gives what came out. `sweep` does that for every N. `power_cuts` lets a
sync fail while a workload runs, and tries what a power cut would leave then.
"""

from __future__ import annotations

import errno
import itertools
from array import array
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Final, NamedTuple, Protocol

from bifrost._native import contract
from bifrost._native import journal_records as j
from bifrost._native import records as r
from tests.crash.memory_disk import MemoryDisk
from tests.crash.states import crash_states
from tests.crash.workload import LIMITS, STORE_ID, TIME_NS, Workload, check, payload_of, promises, samples_of

RECORDS: Final = 60
STEPS: Final = 120
CALLS: Final = ("open", "create", "allocate", "read", "write", "sync", "unlink", "rename", "sync_directory")
NOT_READ: Final = tuple(kind for kind in CALLS if kind != "read")


class Failing:
    """A fault: of the calls of `kinds`, counted from now on, number `first` and those after it end as `outcomes` say."""

    def __init__(self, first: int, outcomes: tuple[int, ...], kinds: tuple[str, ...]) -> None:
        self.first, self.outcomes, self.kinds = first, outcomes, kinds
        self.seen = 0

    @property
    def was_hit(self) -> bool:
        """Whether it has come to that."""
        return self.seen > self.first

    def __call__(self, number: int, name: str) -> int:
        if name not in self.kinds:
            return 0
        at = self.seen - self.first
        self.seen += 1
        return self.outcomes[at] if 0 <= at < len(self.outcomes) else 0


class FaultKind(NamedTuple):
    """Calls that fail, and how, one after the other."""

    outcomes: tuple[int, ...]
    kinds: tuple[str, ...]


# What can't be read seven times over is damage, and is told as such: so reads fail twice at most.
FAULTS: Final = {
    "EIO": FaultKind((-errno.EIO,), CALLS),
    "EIO twice": FaultKind((-errno.EIO,) * 2, CALLS),
    "EIO seven times": FaultKind((-errno.EIO,) * 7, NOT_READ),
    "ENOSPC": FaultKind((-errno.ENOSPC,), CALLS),
    "ENOSPC twice": FaultKind((-errno.ENOSPC,) * 2, CALLS),
    "ENOSPC seven times": FaultKind((-errno.ENOSPC,) * 7, NOT_READ),
    "failing sync": FaultKind((-errno.EIO,), ("sync",)),
    "failing sync three times": FaultKind((-errno.EIO,) * 3, ("sync",)),
    "failing sync of the directory": FaultKind((-errno.EIO,), ("sync_directory",)),
    "short write": FaultKind((100,), ("write",)),
    "short write, then ENOSPC": FaultKind((100, -errno.ENOSPC), ("write",)),
    "short write, then EIO": FaultKind((1, -errno.EIO), ("write",)),
}


class MakeDisk(Protocol):
    """A kind of disk."""

    def __call__(self, *, fault: Failing) -> MemoryDisk:
        """A new one."""


def append(journal: contract.Journal, sequence: int, stream: int) -> bool:
    """Appends record `sequence` if there is room."""
    given = journal.append(stream, 0, samples_of(sequence), TIME_NS, TIME_NS, payload_of(sequence))
    assert given in (sequence, r.E_FULL)
    return given == sequence


def commit(journal: contract.Journal) -> bool:
    """Whether a commit succeeds."""
    journal.begin(b"", TIME_NS, 0)
    return journal.commit(j.COMMIT_SYNC) == r.OK


def acknowledge(journal: contract.Journal, found: list[j.JournalRecord]) -> None:
    """All of `found`."""
    columns = [each.sequence for each in found], [each.records for each in found], [each.samples for each in found]
    assert journal.acknowledge(array("Q", columns[0]), array("I", columns[1]), array("I", columns[2]), 0) == r.OK


def open_journal(backend: contract.Backend, disk: MemoryDisk, limits: j.JournalLimits) -> contract.Journal:
    """Opens it, in the twentieth try if it must be."""
    for _ in range(20):
        try:
            return backend.open_journal("", limits, STORE_ID, TIME_NS, disk)
        except OSError:
            continue
    raise AssertionError("the journal does not open")


def outlive(backend: contract.Backend, disk: MemoryDisk) -> list[int]:
    """Appends, commits and drains `RECORDS` records, in spite of everything; what came out."""
    journal = open_journal(backend, disk, LIMITS._replace(flags=0))  # What is not delivered must not be dropped.
    stream = journal.stream(b"plant")
    delivered: list[int] = []
    position = appended = 0
    for _ in range(40 * RECORDS):
        while appended < RECORDS and append(journal, appended + 1, stream):
            appended += 1
            if appended % 5 == 0:
                break
        commit(journal)
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
    return delivered


def sweep(backend: contract.Backend, kind: FaultKind) -> int:
    """Every N, until there is no Nth call any more; how many there were. Fails if a record is lost, doubled or changed."""
    for first in itertools.count():
        fault = Failing(first, *kind)
        disk = MemoryDisk(fault=fault)
        delivered = outlive(backend, disk)
        assert delivered == list(range(1, RECORDS + 1)), (first, delivered)
        assert disk.open_count == 0, first
        if not fault.was_hit:
            return first
    raise AssertionError


def power_cuts(backend: ModuleType, seed: int, first: int, make: MakeDisk = MemoryDisk) -> Iterator[str]:
    """Verdicts on what power cuts would leave of a workload in which the sync number `first` failed; none: it has no such sync."""
    fault = Failing(first, (-errno.EIO,), ("sync",))
    operations = Workload(backend, seed, make(fault=fault), is_killed=False).run(STEPS)
    if fault.was_hit:
        kept = promises(operations)
        for index, files in crash_states(operations, seed):
            yield check(backend, files, *kept[index])


def sweep_power_cuts(backend: ModuleType, states_count: int, first_seed: int = 0) -> Counter[str]:
    """The same for every sync of as many workloads as `states_count` states take; how often which verdict came."""
    verdicts: Counter[str] = Counter()
    for seed in itertools.count(first_seed):
        for first in itertools.count():
            one = Counter(itertools.islice(power_cuts(backend, seed, first), states_count - verdicts.total()))
            verdicts += one
            if verdicts.total() >= states_count:
                return verdicts
            if not one:
                break
    raise AssertionError
