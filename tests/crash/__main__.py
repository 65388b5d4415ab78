"""The whole crash test: `python -m tests.crash [states]`, 50,000 a backend unless told otherwise.

Prints what came of the states of each backend and ends with 1 if one of them was not `ok`.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from types import ModuleType

from tests.crash.memory_disk import MemoryDisk
from tests.crash.states import crash_states
from tests.crash.workload import Workload, check, promises

STEPS = 120


def run(backend: ModuleType, states_count: int, first_seed: int = 0) -> Counter[str]:
    """Tries power cuts of as many workloads as it takes; how often which verdict came."""
    verdicts: Counter[str] = Counter()
    seed = first_seed
    while verdicts.total() < states_count:
        verdicts += run_one(backend, MemoryDisk(), seed, states_count - verdicts.total())
        seed += 1
    return verdicts


def run_one(
    backend: ModuleType, disk: MemoryDisk, seed: int, states_count: int, *, promises_early: bool = False
) -> Counter[str]:
    """The same with one workload, on a disk that may have a planted fault."""
    operations = Workload(backend, seed, disk, promises_early=promises_early).run(STEPS)
    kept = promises(operations)
    verdicts: Counter[str] = Counter()
    for index, files in crash_states(operations, seed):
        verdict = check(backend, files, *kept[index])
        verdicts[verdict] += 1
        if verdicts.total() >= states_count:
            break
    return verdicts


def main(arguments: list[str]) -> int:
    states_count = int(arguments[0]) if arguments else 50_000
    failed = False
    for name in ("c", "py"):
        verdicts = run(importlib.import_module(f"bifrost._native._{name}"), states_count)
        sys.stdout.write(f"{name}: {verdicts.total()} states: {dict(verdicts)}\n")
        failed = failed or set(verdicts) != {"ok"}
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
