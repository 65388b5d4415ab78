"""The window of one destination: which records are out, which are done with, and which the disk knows to be.

A record is *out* from its sending to its answer, then *unsaved* until a commit has written the cursor that says so. Both
are what a process that dies now would send again; they are never more than the window holds, so neither are duplicates.
Pure: no clock, no task, no journal.
"""

from __future__ import annotations

__all__ = ["Window"]


class Window:
    """Records in the order of their numbers, from `first_sequence` on.

    Attributes:
        next_sequence: Of the next record to read and send.
    """

    def __init__(self, first_sequence: int) -> None:
        self.next_sequence = first_sequence
        self._out: dict[int, int] = {}
        self._unsaved: dict[int, int] = {}

    @property
    def out_count(self) -> int:
        """Records without an answer."""
        return len(self._out)

    @property
    def out_bytes(self) -> int:
        """Their payloads."""
        return sum(self._out.values())

    @property
    def first_out_sequence(self) -> int | None:
        """The first record without an answer; None: there is none."""
        return min(self._out, default=None)

    def room(self, count_max: int) -> int:
        """How many more records may be sent, if `count_max` may be out or unsaved."""
        return max(0, count_max - len(self._out) - len(self._unsaved))

    def is_done(self, sequence: int) -> bool:
        """Whether the record was answered, although the disk does not know yet."""
        return sequence in self._unsaved

    def sent(self, sequence: int, size: int) -> None:
        """A record of `size` bytes is out."""
        assert sequence not in self._out
        assert sequence not in self._unsaved
        self._out[sequence] = size
        self.next_sequence = sequence + 1

    def done(self, sequence: int, commits_begun: int) -> None:
        """The record is done with; `commits_begun` commits have begun until now, so the next one knows it."""
        self._out.pop(sequence, None)
        self._unsaved[sequence] = commits_begun

    def saved(self, commit: int) -> None:
        """The commit that was the `commit`-th to begin has succeeded."""
        self._unsaved = {sequence: begun for sequence, begun in self._unsaved.items() if begun >= commit}

    def rewind(self, held_sequence: int = 0) -> None:
        """What is out is to be sent again, from its first record on, and so is one that was held back; nobody answers any more."""
        self.next_sequence = min([self.next_sequence, *self._out, *([held_sequence] if held_sequence else [])])
        self._out.clear()
