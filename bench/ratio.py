"""How benchmarks measure and what they promise: ratios between us and a peer, in the same run, by the median.

Absolute times say more about the machine than about us, and a busy machine slows both sides. So calls are measured in turns, many short
rounds each, and each round gives one ratio; the median of them is held against `targets.toml`. The device is named in every line.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROUNDS = 25
ROUND_S = 0.01

Timer = Callable[[], float]
"""Measures one round; gives nanoseconds a call."""

_TARGETS = tomllib.loads((Path(__file__).parent / "targets.toml").read_text())


def timer(call: Callable[[], object]) -> Timer:
    """A timer of `call`, with as many calls in a round as take about `ROUND_S`."""
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < ROUND_S:
        call()
        count += 1

    def round_ns() -> float:
        begin = time.perf_counter_ns()
        for _ in range(count):
            call()
        return (time.perf_counter_ns() - begin) / count

    return round_ns


def measure(timers: Mapping[str, Timer]) -> dict[str, list[float]]:
    """Nanoseconds a call, one number a round; the rounds of all take turns."""
    taken: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(ROUNDS):
        for name, round_ns in timers.items():
            taken[name].append(round_ns())
    return taken


def promise_of(target: str) -> float:
    """The number that `targets.toml` promises."""
    return float(_TARGETS[target]["target"])


def require(target: str, peer_ns: Sequence[float], our_ns: Sequence[float]) -> None:
    """Prints how many times faster we are, and asserts what `targets.toml` promises under the name `target`."""
    promised = _TARGETS[target]
    ratio = statistics.median(peer / ours for peer, ours in zip(peer_ns, our_ns, strict=True))
    print(
        f"\n{target}: {ratio:.3g}x {promised['peer']} (promised {promised['target']}x): {promised['what']};"
        f" {statistics.median(our_ns):,.0f} ns against {statistics.median(peer_ns):,.0f} ns; {device()}"
    )
    assert ratio >= promised["target"], f"{target}: {ratio:.1f}x is below the promised {promised['target']}x"


def require_at_most(target: str, amount: float) -> None:
    """Prints an amount that does not depend on the machine's speed (bytes, counts, CPU time), and asserts its ceiling."""
    promised = _TARGETS[target]
    print(
        f"\n{target}: {amount:.1f} {promised['unit']} (promised at most {promised['target']}): {promised['what']}; {device()}"
    )
    assert amount <= promised["target"], f"{target}: {amount:.1f} is above {promised['target']} {promised['unit']}"


def device() -> str:
    """The machine, in a few words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    cpu = models[0] if models else platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {cpu}, Python {platform.python_version()}"
