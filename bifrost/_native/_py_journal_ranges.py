"""What a destination is done with: a base, and up to 64 ranges above it. The twin of `csrc/journal_ranges.c`.

Every record below `base` is done with; so is every record in a range; ranges are in order and never touch. Samples are
counted once for each record, by the reason that came first.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from bifrost._native import _py_journal_format as f
from bifrost._native import journal_records as j


class Acknowledgement(NamedTuple):
    """What `contract.Journal.acknowledge` said of one record, or of a stretch that is damaged."""

    sequence: int
    records: int
    samples: int
    reason: int


@dataclass(slots=True)
class Ranges:
    """The cursor as it is in memory. `pending` waits: there was no room for one more range."""

    base: int = 1
    ranges: list[tuple[int, int]] = field(default_factory=list)
    done: list[int] = field(default_factory=lambda: [0] * j.JOURNAL_REASONS)
    pending: list[Acknowledgement] = field(default_factory=list)

    def is_done(self, sequence: int) -> bool:
        """Whether the record is done with."""
        if sequence < self.base:
            return True
        index = bisect_right(self.ranges, (sequence, f.SEQUENCE_MAX)) - 1
        return index >= 0 and sequence <= self.ranges[index][1]

    def undone(self, first: int, last: int) -> tuple[int, int] | None:
        """The first stretch from `first` to `last` that is not done with."""
        first = max(first, self.base)
        for begin, end in self.ranges:
            if first < begin:
                last = min(last, begin - 1)
                break
            first = max(first, end + 1)
        return (first, last) if first <= last else None

    def count(self, reason: int, samples: int) -> None:
        """Adds samples that are done with."""
        self.done[reason] += samples

    def apply(self, end_sequence: int, samples_total: int) -> bool:
        """Takes in what is pending, as far as it fits; whether anything changed.

        `end_sequence` is the number of the next record to be written: nobody can be done with it.
        """
        waiting = self.pending
        self.pending = []
        changed = False
        for each in waiting:
            last = each.sequence + each.records - 1
            if last >= end_sequence or self.is_done(each.sequence):
                continue
            if not self._add(each.sequence, last):
                self.pending.append(each)
                continue
            self.count(each.reason, each.samples)
            changed = True
        return self.settle(end_sequence, samples_total) or changed

    def raise_base(self, base: int) -> None:
        """Everything below `base` is done with from now on."""
        if base <= self.base:
            return
        self.base = base
        self.ranges = [(max(first, base), last) for first, last in self.ranges if last >= base]
        self._swallow()

    def settle(self, end_sequence: int, samples_total: int) -> bool:
        """When everything is done with, so is every sample: what damage hid is counted at the latest now."""
        left = samples_total - sum(self.done)
        if self.base != end_sequence or left <= 0:
            return False
        self.count(j.DONE_WITH_DAMAGED, left)
        return True

    def pass_over(self, first: int, end: int) -> None:
        """Everything from `first` on is done with, up to `end` (not included), above which there is nothing."""
        self.ranges = [each for each in self.ranges if each[0] < first]
        if self.base >= first:
            self.base = end
        elif self.ranges and self.ranges[-1][1] + 1 >= first:
            self.ranges[-1] = (self.ranges[-1][0], end - 1)
        else:  # There is room: the range that says so much was above `first`.
            self.ranges.append((first, end - 1))

    def _add(self, first: int, last: int) -> bool:
        """Adds a range whose first record is in none; False: there is no room for it."""
        if first == self.base:  # Always fits: it is swallowed at once.
            self.base = last + 1
            while self.ranges and self.ranges[0][0] <= self.base:
                self.base = max(self.base, self.ranges.pop(0)[1] + 1)
            return True
        begin = end = bisect_right(self.ranges, (first, f.SEQUENCE_MAX))
        while end < len(self.ranges) and self.ranges[end][0] <= last + 1:
            last = max(last, self.ranges[end][1])
            end += 1
        if begin > 0 and self.ranges[begin - 1][1] + 1 == first:
            begin -= 1
            first = self.ranges[begin][0]
        if begin == end and len(self.ranges) >= j.JOURNAL_RANGES_MAX:
            return False
        self.ranges[begin:end] = [(first, last)]
        return True

    def _swallow(self) -> None:
        if self.ranges and self.ranges[0][0] <= self.base:
            self.base = self.ranges.pop(0)[1] + 1
