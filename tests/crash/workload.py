"""A journal at work on a recording disk, and what it must still know after a power cut.

The workload is drawn from a seed: records of all sizes, commits, reads, acknowledgements out of order, a disk cap and an age that drop
segments, clean ends and kills. After each commit it writes down what was promised. `check` opens what a power cut left and holds it to
that.
"""

from __future__ import annotations

import random
from array import array
from types import ModuleType
from typing import NamedTuple

from bifrost._native import journal_records as j
from bifrost._native import records as r
from tests.crash.memory_disk import NOTE, MemoryDisk, Operation

LIMITS = j.JournalLimits(
    segment_bytes=8192, segments_count_max=4, batch_bytes=2048, record_bytes_max=600, acknowledgements_count_max=64
)
STORE_ID = bytes(range(16))
TIME_NS = 1_700_000_000_000_000_000


class Promise(NamedTuple):
    """What holds once a commit has said so.

    Attributes:
        durable: Last record that must be there …
        done: … unless it is one of these, or below `base`.
        samples: Of all records up to `durable`.
    """

    durable: int = 0
    base: int = 1
    done: frozenset[int] = frozenset()
    samples: int = 0


def payload_of(sequence: int) -> bytes:
    """What record `sequence` holds: nothing that could be taken for another one."""
    return random.Random(sequence).randbytes(1 + sequence * 37 % 590)


def samples_of(sequence: int) -> int:
    """How many samples record `sequence` holds."""
    return 1 + sequence % 7


class Workload:
    """One run. `promises_early` is the planted fault of a journal that acknowledges before it syncs; `is_killed`: it is, now and then."""

    def __init__(
        self, backend: ModuleType, seed: int, disk: MemoryDisk, *, promises_early: bool = False, is_killed: bool = True
    ) -> None:
        self._backend = backend
        self._chance = random.Random(seed)
        self._disk = disk
        self._promises_early = promises_early
        self._is_killed = is_killed
        self._next = 1
        self._done: set[int] = set()
        self._position = 1
        self._window: list[j.JournalRecord] = []
        self._journal = self._open()

    def run(self, steps: int) -> list[Operation]:
        """Does `steps` things and gives the operations, with promises among them."""
        for _ in range(steps):
            draw = self._chance.random()
            if draw < 0.5:
                self._append()
            elif draw < 0.8:
                self._commit()
            elif draw < 0.96:
                self._deliver()
            elif self._is_killed:
                self._restart(is_clean=draw < 0.98)
        self._commit()
        return self._disk.operations

    def _open(self):
        journal = self._backend.open_journal("", LIMITS, STORE_ID, TIME_NS, self._disk)
        for name in (b"plant", b"slow"):
            journal.stream(name)
        self._next = journal.report().next_sequence
        self._position, self._window = 1, []
        return journal

    def _append(self) -> None:
        for _ in range(self._chance.randint(1, 4)):
            sequence = self._next
            times = TIME_NS + sequence, TIME_NS + sequence + 10**9
            given = self._journal.append(
                sequence % 2, sequence % 3 // 2, samples_of(sequence), *times, payload_of(sequence)
            )
            if given == r.E_FULL:
                return
            assert given == sequence
            self._next += 1

    def _commit(self) -> None:
        flags = self._chance.choice([j.COMMIT_SYNC, j.COMMIT_SYNC, j.COMMIT_SYNC | j.COMMIT_SYNC_CURSOR, 0])
        if self._promises_early:
            self._promise(self._next - 1, self._journal.report().base_sequence)
        counters = b"counters %d" % self._next
        expire_before_ns = TIME_NS + self._next - 30 if self._chance.random() < 0.1 else 0
        self._journal.begin(counters, TIME_NS + self._next, expire_before_ns)
        assert self._journal.commit(flags) == r.OK or self._disk.fault is not None
        report = self._journal.report()
        self._promise(report.durable_sequence, report.base_sequence)

    def _promise(self, durable: int, base: int) -> None:
        samples = sum(map(samples_of, range(1, durable + 1)))
        self._disk.note(Promise(durable, base, frozenset(self._done), samples))

    def _deliver(self) -> None:
        durable = self._journal.report().durable_sequence
        status, found = self._journal.read(self._position, durable, self._chance.randint(1, 12))
        assert status == r.OK
        if found:
            self._position = found[-1].sequence + 1
            self._window += found
        self._chance.shuffle(self._window)
        acknowledged = [self._window.pop() for _ in range(self._chance.randint(0, len(self._window)))]
        columns = [each.sequence for each in acknowledged], [each.samples for each in acknowledged]
        counts = array("I", [1] * len(acknowledged))
        if self._journal.acknowledge(array("Q", columns[0]), counts, array("I", columns[1]), 0) == r.OK:
            self._done.update(columns[0])

    def _restart(self, *, is_clean: bool) -> None:
        if is_clean:
            self._commit()
            self._journal.close()
        self._journal = self._open()


def promises(operations: list[Operation]) -> list[tuple[Promise, Promise]]:
    """For each operation what was promised before it, and what will be once its commit is through."""
    before, notes = [], [Promise()]
    for operation in operations:
        if operation.kind == NOTE:
            assert isinstance(operation.note, Promise)
            notes.append(operation.note)
        before.append(len(notes) - 1)
    notes.append(notes[-1])
    return [(notes[index], notes[index + 1]) for index in before]


def check(backend: ModuleType, files: dict[str, bytes], kept: Promise, coming: Promise) -> str:
    """What is wrong with what a power cut left, in a word: `refused`, `lost`, `garbage`, `ledger`, `stuck`; or `ok`."""
    disk = MemoryDisk(files)
    try:
        journal = backend.open_journal("", LIMITS, STORE_ID, TIME_NS, disk)
    except (OSError, ValueError):
        return "refused"
    report = journal.report()
    found: list[j.JournalRecord] = []
    position, limit = 1, 1 << 63
    while len(found) < 10_000:
        status, more = journal.read(position, limit, 1000)
        if status != r.OK or not more:
            break
        found += more
        position = more[-1].sequence + more[-1].records
    data = {each.sequence: each for each in found if each.type == j.RECORD_DATA}
    for each in found:
        if each.type == j.RECORD_DAMAGED:
            if each.sequence <= kept.durable:
                return "lost"
        elif each.payload != payload_of(each.sequence) or each.samples != samples_of(each.sequence):
            return "garbage"
    missing = [s for s in range(1, kept.durable + 1) if s not in data and s >= coming.base and s not in coming.done]
    if missing or report.next_sequence <= kept.durable:
        return "lost"
    if sum(each.samples for each in found) != report.samples_buffered or report.samples_total < kept.samples:
        return "ledger"
    return _goes_on(backend, journal, disk)


def _goes_on(backend: ModuleType, journal, disk: MemoryDisk) -> str:
    """Whether the journal works after that, and once more after a clean end."""
    stream = journal.stream(b"plant")
    sequence = journal.append(stream, 0, 1, TIME_NS, TIME_NS, b"after")
    journal.begin(b"after", TIME_NS, 0)
    if journal.commit(j.COMMIT_SYNC) != r.OK or journal.close() != r.OK or disk.open_count:
        return "stuck"
    again = backend.open_journal("", LIMITS, STORE_ID, TIME_NS, disk)
    status, found = again.read(sequence, sequence, 1)
    is_there = status == r.OK and [each.payload for each in found] == [b"after"]
    is_whole = again.report().was_clean and again.report().counters == b"after"
    again.close()
    return "ok" if is_there and is_whole else "stuck"
