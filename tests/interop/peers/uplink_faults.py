"""What can go wrong under and behind an uplink, each as a scenario: it happens while the plant goes on, then it is over.

A scenario gives the uplink and how many samples it fed, when everything was sent. Tests ask whether all of them arrived and the ledger is
right; the benchmark asks how late the event loop was meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bifrost._native import backend, contract
from bifrost._native._py_journal_io import SystemIO
from bifrost._native.journal_records import JournalLimits
from bifrost.core.clock import Clock
from tests.interop.peers import brokers
from tests.interop.peers.lines import LoopWatch, Relay
from tests.interop.peers.live_uplink import LiveUplink

PER_SECOND = 1_000
FAULT_S = 2.0
HEALTHY_S = 0.5
TMPFS_BYTES = 4 << 20
DAY_NS = 86_400_000_000_000
MORE = 'timeout = "1 s"\nlinger = "50 ms"\n'
OPEN = "allow_anonymous true\n"


class Suffered(NamedTuple):
    """How it went.

    Attributes:
        live: The uplink, stopped.
        fed: Samples that the plant had.
        watch: Of the event loop, from the first sample to the last acknowledgement.
        ledger: In the end.
    """

    live: LiveUplink
    fed: int
    watch: LoopWatch
    ledger: dict[str, Any]


Scenario = Callable[[Path], Awaitable[Suffered]]


async def suffer(live: LiveUplink, fault: Callable[[], Awaitable[int]]) -> Suffered:
    """Runs the uplink while `fault`, which feeds, goes on; until everything is sent."""
    async with live.running():
        await live.until(lambda: bool(live.ledger()))
        watch = LoopWatch()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run(), name="watch")
            fed = await live.feed(PER_SECOND, HEALTHY_S)
            fed += await fault()
            fed += await live.feed(PER_SECOND, HEALTHY_S)
            await live.until_sent()
            watching.cancel()
        return Suffered(live, fed, watch, live.ledger())


def listener(port: int, more: str = OPEN) -> str:
    """Of mosquitto's configuration."""
    return f"listener {port} 127.0.0.1\n{more}"


@asynccontextmanager
async def relayed(directory: Path) -> AsyncIterator[Relay]:
    """A relay before a mosquitto that is well."""
    port = brokers.free_port()
    with brokers.mosquitto(directory, listener(port), port):
        async with Relay(port).running() as relay:
            yield relay


# ------------------------------------------------------------------------------------------------------------- the net


async def half_open(directory: Path) -> Suffered:
    """The connection stands, and nothing passes any more."""
    async with relayed(directory) as relay:
        live = LiveUplink(directory, f"mqtt://127.0.0.1:{relay.port}", more=MORE, chance=lambda: 0.1)

        async def fault() -> int:
            relay.is_passing.clear()
            fed = await live.feed(PER_SECOND, FAULT_S)
            relay.is_passing.set()
            return fed

        return await suffer(live, fault)


async def reset(directory: Path) -> Suffered:
    """The connection is reset again and again."""
    async with relayed(directory) as relay:
        live = LiveUplink(directory, f"mqtt://127.0.0.1:{relay.port}", more=MORE, chance=lambda: 0.1)

        async def fault() -> int:
            fed = 0
            for _ in range(20):
                fed += await live.feed(PER_SECOND, FAULT_S / 20)
                relay.reset()
            return fed

        return await suffer(live, fault)


async def slow(directory: Path) -> Suffered:
    """The line carries less than the plant says."""
    async with relayed(directory) as relay:
        live = LiveUplink(directory, f"mqtt://127.0.0.1:{relay.port}", more=MORE, chance=lambda: 0.1)

        async def fault() -> int:
            relay.bytes_per_second = 40_000
            fed = await live.feed(PER_SECOND, FAULT_S)
            relay.bytes_per_second = 0
            return fed

        return await suffer(live, fault)


async def other_broker_first(
    directory: Path, first: Callable[[int], AbstractContextManager[Any]], second: str, scheme: str = "mqtt"
) -> Suffered:
    """At first something else is where the broker is to be; then it is there."""
    port = brokers.free_port()
    more = MORE + ('ca = "file:ca.pem"\n' if scheme == "mqtts" else "")
    live = LiveUplink(directory, f"{scheme}://127.0.0.1:{port}", more=more, chance=lambda: 0.1)
    with ExitStack() as stack:

        async def fault() -> int:
            with await asyncio.to_thread(entered, first(port)):
                fed = await live.feed(PER_SECOND, FAULT_S)
            broker = brokers.mosquitto(directory, listener(port, second), port)
            stack.enter_context(await asyncio.to_thread(entered, broker))
            return fed

        return await suffer(live, fault)


def entered(context: AbstractContextManager[Any]) -> ExitStack:
    """A context, entered: in a thread, since brokers are waited for."""
    stack = ExitStack()
    stack.enter_context(context)
    return stack


@contextmanager
def black_hole_at(port: int) -> Iterator[None]:
    """Nobody answers SYN: the queue of a listener is full."""
    with socket.socket() as hole, ExitStack() as stack:
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind(("127.0.0.1", port))
        hole.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield


async def black_hole(directory: Path) -> Suffered:
    """Connections are not answered at all."""
    return await other_broker_first(directory, black_hole_at, OPEN)


async def refusing(directory: Path) -> Suffered:
    """The broker lets nobody in."""
    return await other_broker_first(
        directory, lambda port: brokers.mosquitto(directory, listener(port, "allow_anonymous false\n"), port), OPEN
    )


async def expired_certificate(directory: Path) -> Suffered:
    """The broker's certificate ended yesterday; then it has a new one."""
    made = await asyncio.to_thread(brokers.Certificates, directory)
    await asyncio.to_thread(partial(made.sign, "expired", days=-1))
    await asyncio.to_thread(made.sign, "server")

    def tls(name: str) -> str:
        return f"{OPEN}cafile {directory}/ca.pem\ncertfile {directory}/{name}.pem\nkeyfile {directory}/{name}.key\n"

    return await other_broker_first(
        directory,
        lambda port: brokers.mosquitto(directory, listener(port, tls("expired")), port),
        tls("server"),
        "mqtts",
    )


# ------------------------------------------------------------------------------------------------------------ the disk


class FaultyDisk(SystemIO):
    """The files of a directory; while `is_faulty`, every so-many-th call of some kinds goes wrong."""

    is_faulty = False
    kinds: tuple[str, ...] = ()
    every = 1
    outcome = 0
    hits = 0
    _calls = 0

    def _fails(self, kind: str) -> bool:
        if not self.is_faulty or kind not in self.kinds:
            return False
        self._calls += 1
        self.hits += self._calls % self.every == 0
        return self._calls % self.every == 0

    def open(self, name: str, create: bool) -> int:
        return self.outcome if self._fails("open") else super().open(name, create)

    def allocate(self, fd: int, size: int) -> int:
        return self.outcome if self._fails("allocate") else super().allocate(fd, size)

    def read(self, fd: int, offset: int, size: int) -> bytes | int:
        return self.outcome if self._fails("read") else super().read(fd, offset, size)

    def write(self, fd: int, offset: int, data: bytes) -> int:
        if not self._fails("write"):
            return super().write(fd, offset, data)
        return self.outcome or super().write(fd, offset, data[: (len(data) + 1) // 2])

    def sync(self, fd: int) -> int:
        return self.outcome if self._fails("sync") else super().sync(fd)


class FaultyNative:
    """A native core whose journals lie on a `FaultyDisk`."""

    def __init__(self, native: contract.Backend) -> None:
        self._native = native
        self.disk: FaultyDisk | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def open_journal(
        self, directory: str, limits: JournalLimits, store_id: bytes, now_ns: int, io: None = None
    ) -> contract.Journal:
        self.disk = FaultyDisk(directory)
        return self._native.open_journal(directory, limits, store_id, now_ns, self.disk)


async def bad_disk(
    directory: Path, kinds: tuple[str, ...], outcome: int, every: int, native: contract.Backend = backend
) -> Suffered:
    """Every so-many-th call fails for a while, with the broker there."""
    async with relayed(directory) as relay:
        faulty = FaultyNative(native)
        url = f"mqtt://127.0.0.1:{relay.port}"
        live = LiveUplink(directory, url, more=MORE, native=faulty, chance=lambda: 0.1)  # type: ignore[arg-type]  # by name

        async def fault() -> int:
            disk = faulty.disk
            assert disk is not None
            disk.kinds, disk.outcome, disk.every, disk.is_faulty = kinds, outcome, every, True
            fed = await live.feed(PER_SECOND, FAULT_S)
            disk.is_faulty = False
            assert disk.hits, "nothing failed"
            return fed

        return await suffer(live, fault)


@contextmanager
def small_disk(directory: Path) -> Iterator[bool]:
    """A file system of its own, `TMPFS_BYTES` long, at `directory`; False where this user may not mount one."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(directory)], capture_output=True, text=True
    )
    if mount.returncode:
        sys.stderr.write(
            f"NO TMPFS CAN BE MOUNTED ({mount.stderr.strip()}): the full disk is an injected ENOSPC instead\n"
        )
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


async def full_disk(directory: Path, native: contract.Backend = backend) -> Suffered:
    """Somebody else fills the disk while the broker is away; then there is room again."""
    data = directory / "small"
    data.mkdir()
    with small_disk(data) as is_mounted:
        if not is_mounted:
            return await bad_disk(directory, ("allocate",), -errno.ENOSPC, 1, native)
        async with relayed(directory) as relay:
            more = MORE + '[uplink.buffer]\ndisk_bytes_max = "8 MiB"\n'  # More than there is.
            live = LiveUplink(data, f"mqtt://127.0.0.1:{relay.port}", more=more, native=native, chance=lambda: 0.1)

            async def fault() -> int:
                relay.is_passing.clear()
                (data / "filler").write_bytes(bytes(await asyncio.to_thread(free_bytes, data)))
                fed = await live.feed(4 * PER_SECOND, FAULT_S)
                await live.until(lambda: bool(live.record()["journal"]["failure"]))
                assert "No space" in live.record()["journal"]["failure"]
                (data / "filler").unlink()
                relay.is_passing.set()
                return fed

            return await suffer(live, fault)


def free_bytes(directory: Path) -> int:
    """Room on the file system of `directory`."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


# ----------------------------------------------------------------------------------------------------------- the clock


class WallClock:
    """A system clock that somebody sets."""

    def __init__(self) -> None:
        self.truth_ns = time.time_ns() - time.monotonic_ns()
        self.offset_ns = 0  # 1970, and a while since the machine was started.
        self.is_synchronised = False
        self.clock = Clock(
            wall_ns=lambda: time.monotonic_ns() + self.offset_ns, is_synchronised=lambda: self.is_synchronised
        )


async def wrong_clock(directory: Path, port: int = 0) -> Suffered:
    """It begins in 1970, is set right, a day ahead, a day back and right; `age_max` is an hour, and the broker is away meanwhile."""
    async with relayed(directory) as relay:
        relay.target_port = port or relay.target_port
        wall = WallClock()
        more = MORE + '[uplink.buffer]\nage_max = "1 h"\n'
        live = LiveUplink(directory, f"mqtt://127.0.0.1:{relay.port}", more=more, clock=wall.clock, chance=lambda: 0.1)

        async def fault() -> int:
            relay.is_passing.clear()
            fed = 0
            for offset_ns, is_synchronised in (
                (wall.truth_ns, True),
                (wall.truth_ns + DAY_NS, False),
                (wall.truth_ns - DAY_NS, False),
                (wall.truth_ns, True),
            ):
                wall.offset_ns, wall.is_synchronised = offset_ns, is_synchronised
                wall.clock.update()
                fed += await live.feed(PER_SECOND, FAULT_S / 4)
            relay.is_passing.set()
            return fed

        return await suffer(live, fault)


SCENARIOS: dict[str, Scenario] = {
    "half open": half_open,
    "black hole": black_hole,
    "reset": reset,
    "slow": slow,
    "refusing": refusing,
    "expired certificate": expired_certificate,
    "EIO": partial(bad_disk, kinds=("open", "allocate", "read", "write", "sync"), outcome=-errno.EIO, every=3),
    "ENOSPC": partial(bad_disk, kinds=("allocate", "write"), outcome=-errno.ENOSPC, every=2),
    "short writes": partial(bad_disk, kinds=("write",), outcome=0, every=2),
    "failing fsync": partial(bad_disk, kinds=("sync",), outcome=-errno.EIO, every=3),
    "full disk": full_disk,
    "wrong clock": wrong_clock,
}
