"""What a power cut can leave of recorded operations.

At every operation: of each file nothing, everything, every prefix, a torn last write or any sectors of what was not synced; of names that
were created, deleted and renamed since the directory was synced every prefix, and all but one. A file that a name points to again is as
durable as it was itself. What a failed sync was to make durable is lost, as on Linux, also if a later one succeeds. States that are the
same are given once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.crash.memory_disk import (
    CREATE,
    NOTE,
    RENAME,
    SIZE,
    SYNC,
    SYNC_DIRECTORY,
    SYNC_FAILED,
    UNLINK,
    WRITE,
    Operation,
)

SECTOR = 512
RANDOM_SUBSETS = 3

Files = dict[str, bytes]
Names = dict[str, int]


def apply(content: bytearray, operation: Operation) -> None:
    """Does a WRITE or SIZE to the content of a file."""
    end = operation.offset + (len(operation.data) if operation.kind == WRITE else 0)
    content.extend(bytes(max(0, end - len(content))))
    content[operation.offset : operation.offset + len(operation.data)] = operation.data


def sectors(write: Operation) -> list[Operation]:
    """A write in parts that a disk does whole or not at all."""
    parts, at = [], 0
    while at < len(write.data):
        size = min(SECTOR - (write.offset + at) % SECTOR, len(write.data) - at)
        parts.append(write._replace(offset=write.offset + at, data=write.data[at : at + size]))
        at += size
    return parts


def variants(pending: list[Operation], chance: random.Random) -> Iterator[list[Operation]]:
    """What can have become of operations on one file that were not synced."""
    yield []
    if not pending:
        return
    yield pending
    yield [Operation(SIZE, each.name, each.offset + len(each.data)) if each.kind == WRITE else each for each in pending]
    for count in range(1, len(pending)):
        yield pending[:count]
    last = pending[-1]
    if last.kind == WRITE:
        parts = sectors(last)
        for count in range(1, len(parts)):
            yield pending[:-1] + parts[:count]
            yield pending[:-1] + parts[count:]
        yield [*pending[:-1], last._replace(data=last.data[: len(last.data) // 2])]
    for _ in range(RANDOM_SUBSETS):
        left: list[Operation] = []
        for each in pending:
            left += [part for part in sectors(each) if chance.random() < 0.5] if each.kind == WRITE else [each]
        yield left


class Platter:
    """What is durable, and what is not yet, as the operations come."""

    def __init__(self) -> None:
        self.durable: dict[int, bytes] = {}
        self.pending: dict[int, list[Operation]] = {}
        self.names: Names = {}
        self.durable_names: Names = {}
        self.moves: list[tuple[Operation, int]] = []

    def take(self, operation: Operation) -> None:
        """One operation of a process."""
        if operation.kind == CREATE:
            number = len(self.durable)
            self.durable[number], self.pending[number] = b"", []
            self._move(self.names, operation, number)
            self.moves.append((operation, number))
        elif operation.kind in (UNLINK, RENAME):
            self._move(self.names, operation, -1)
            self.moves.append((operation, -1))
        elif operation.kind in (WRITE, SIZE):
            self.pending[self.names[operation.name]].append(operation)
        elif operation.kind == SYNC:
            number = self.names[operation.name]
            self.durable[number], self.pending[number] = self._content(number, self.pending[number]), []
        elif operation.kind == SYNC_FAILED:
            # As Linux does: what could not be written counts as clean, is still read, and no later sync writes it.
            self.pending[self.names[operation.name]] = []
        elif operation.kind == SYNC_DIRECTORY:
            self.durable_names, self.moves = dict(self.names), []

    def states(self, chance: random.Random) -> Iterator[Files]:
        """Every state that a power cut can leave now."""
        choices = [self.moves[:count] for count in range(len(self.moves) + 1)]
        choices += [self.moves[:index] + self.moves[index + 1 :] for index in range(len(self.moves) - 1)]
        for moves in choices:
            names = dict(self.durable_names)
            for operation, number in moves:
                self._move(names, operation, number)
            yield from self._contents(names, chance)

    def _contents(self, names: Names, chance: random.Random) -> Iterator[Files]:
        dirty = [number for number in names.values() if self.pending[number]]
        for number in dirty or [-1]:
            for left in variants(self.pending[number], chance) if number >= 0 else [[]]:
                for others in (False, True) if len(dirty) > 1 else (False,):
                    yield {
                        name: self._content(each, left if each == number else self.pending[each] if others else [])
                        for name, each in names.items()
                    }

    def _content(self, number: int, operations: list[Operation]) -> bytes:
        content = bytearray(self.durable[number])
        for operation in operations:
            apply(content, operation)
        return bytes(content)

    @staticmethod
    def _move(names: Names, operation: Operation, number: int) -> None:
        if operation.kind == CREATE:
            names[operation.name] = number
        elif operation.kind == UNLINK:
            names.pop(operation.name, None)
        elif operation.name in names:
            names[operation.target] = names.pop(operation.name)


def crash_states(operations: list[Operation], seed: int) -> Iterator[tuple[int, Files]]:
    """Index of the last operation before the power cut, and the files it left."""
    chance = random.Random(seed)
    platter = Platter()
    seen: set[int] = set()
    for index, operation in enumerate(operations):
        if operation.kind == NOTE:
            seen.clear()  # From here on the same files must keep a greater promise.
        platter.take(operation)
        for files in platter.states(chance):
            key = hash(tuple(sorted(files.items())))
            if key not in seen:
                seen.add(key)
                yield index, files
