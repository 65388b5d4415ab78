"""The whole crash test: `python -m tests.crash [states]`, 50,000 a backend unless told otherwise; and `python -m tests.crash faults`.

The first prints what came of power cuts; the other lets every Nth call fail, in a dozen ways, and cuts the power after every sync that
failed. Ends with 1 if a state of one of the backends was not `ok`.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from types import ModuleType

from tests.crash.faults import FAULTS, sweep, sweep_power_cuts
from tests.crash.memory_disk import MemoryDisk
from tests.crash.states import crash_states
from tests.crash.workload import Workload, check, promises

STEPS = 120
FAULT_STATES = 20_000


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


def let_fail(backend: ModuleType) -> Counter[str]:
    """Every fault at every call; what came of power cuts after a failed sync. Fails if a record is lost, doubled or changed."""
    for name, kind in FAULTS.items():
        sys.stdout.write(f"  {name}: at {sweep(backend, kind)} calls, nothing lost\n")
    return sweep_power_cuts(backend, FAULT_STATES)


def main(arguments: list[str]) -> int:
    failed = False
    for name in ("c", "py"):
        backend = importlib.import_module(f"bifrost._native._{name}")
        if arguments == ["faults"]:
            verdicts = let_fail(backend)
        else:
            verdicts = run(backend, int(arguments[0]) if arguments else 50_000)
        sys.stdout.write(f"{name}: {verdicts.total()} states: {dict(verdicts)}\n")
        failed = failed or set(verdicts) != {"ok"}
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
