"""The journal on its thread: commits are grouped, the loop never waits, a cancelled call leaves no half-done job behind."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest

from bifrost._native import journal_records as j
from bifrost.bridge.buffering.journal import Journal, SyncThread
from bifrost.core.errors import LimitError, StorageError
from tests.crash.memory_disk import MemoryDisk

LIMITS = j.JournalLimits(
    segment_bytes=8192, segments_count_max=3, batch_bytes=2048, record_bytes_max=600, acknowledgements_count_max=10
)
FOREVER = 1 << 62


@pytest.fixture
def thread():
    made = SyncThread()
    yield made
    made.close()
    made.close()


class SlowDisk(MemoryDisk):
    """A disk whose syncs wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.threads: set[str] = set()

    def sync(self, fd: int) -> int:
        self.threads.add(threading.current_thread().name)
        assert self.may_sync.wait(10)
        return super().sync(fd)


async def open_on(backend, tmp_path, thread, disk=None) -> Journal:
    return await Journal.open(tmp_path / "journal" / "plant", LIMITS, thread, now_ns=1, io=disk, native=backend)


def test_records_go_through_and_come_back_after_a_restart(backend, tmp_path, thread):
    async def run():
        journal = await open_on(backend, tmp_path, thread)
        stream = await journal.stream("plant")
        assert journal.append(stream, b"one", 2, 5, 6) == 1
        assert journal.append(stream, b"two", 1, 5, 6, lane=j.LANE_BACKFILL) == 2
        report = await journal.commit(now_ns=1, counters=b"ledger")
        assert (report.durable_sequence, report.samples_buffered) == (2, 3)
        records = await journal.read(1, FOREVER, 10)
        assert journal.acknowledge(records[:1])
        assert (await journal.commit(now_ns=1, counters=b"ledger")).base_sequence == 2
        await journal.close()
        await journal.close()
        again = await open_on(backend, tmp_path, thread)
        assert again.report.was_clean
        assert again.report.counters == b"ledger"
        assert again.appended_sequence == 2
        assert await again.streams() == ["plant"]
        assert [each.payload for each in await again.read(1, FOREVER, 10)] == [b"two"]
        await again.close()

    asyncio.run(run())


def test_loop_goes_on_while_the_disk_is_slow_and_commits_are_grouped(backend, tmp_path, thread):
    async def run():
        disk = SlowDisk()
        journal = await open_on(backend, tmp_path, thread, disk)
        stream = await journal.stream("plant")
        journal.append(stream, b"first", 1, 0, 0)
        disk.may_sync.clear()
        async with asyncio.TaskGroup() as group:
            commits = [group.create_task(journal.commit(now_ns=1), name="first")]
            await asyncio.sleep(0)
            for number in range(3):
                assert journal.append(stream, b"later", 1, 0, 0) == number + 2
                commits.append(group.create_task(journal.commit(now_ns=1), name=f"later {number}"))
            await asyncio.sleep(0)
            assert not any(commit.done() for commit in commits)
            syncs = len(disk.operations)
            disk.may_sync.set()
        assert [commit.result().durable_sequence for commit in commits] == [1, 4, 4, 4]
        assert disk.threads == {"bifrost-journal_0"}
        writes = [each for each in disk.operations[syncs:] if each.data and b"later" in each.data]
        assert len(writes) == 1
        await journal.close()

    asyncio.run(run())


def test_cancelled_commit_ends_by_itself_and_the_next_one_waits_for_it(backend, tmp_path, thread):
    async def run():
        disk = SlowDisk()
        journal = await open_on(backend, tmp_path, thread, disk)
        stream = await journal.stream("plant")
        journal.append(stream, b"first", 1, 0, 0)
        disk.may_sync.clear()
        async with asyncio.TaskGroup() as group:
            commit = group.create_task(journal.commit(now_ns=1), name="cancelled")
            await asyncio.sleep(0)
            commit.cancel()
            await asyncio.wait([commit])
            journal.append(stream, b"second", 1, 0, 0)
            following = group.create_task(journal.commit(now_ns=1), name="following")
            await asyncio.sleep(0)
            disk.may_sync.set()
        assert commit.cancelled()
        assert following.result().durable_sequence == 2
        await journal.close()

    asyncio.run(run())


def test_full_disk_is_an_error_that_keeps_the_records(backend, tmp_path, thread):
    async def run():
        disk = MemoryDisk()
        journal = await open_on(backend, tmp_path, thread, disk)
        stream = await journal.stream("plant")
        disk.fault = lambda _number, name: -errno.ENOSPC if name == "allocate" else 0
        journal.append(stream, b"kept", 1, 0, 0)
        with pytest.raises(StorageError, match="No space left"):
            await journal.commit(now_ns=1)
        assert journal.report.alarms & j.ALARM_WRITE_FAILED
        disk.fault = None
        assert (await journal.commit(now_ns=1)).durable_sequence == 1
        disk.fault = lambda _number, name: -errno.EIO if name == "open" else 0
        with pytest.raises(StorageError, match="can't be read"):
            await journal.read(1, FOREVER, 1)
        disk.fault = None
        await journal.close()
        with pytest.raises(ValueError):
            await journal.commit(now_ns=1)

    asyncio.run(run())


def test_what_is_out_of_range_is_refused(backend, tmp_path, thread):
    async def run():
        journal = await open_on(backend, tmp_path, thread, MemoryDisk())
        stream = await journal.stream("plant")
        with pytest.raises(ValueError):
            await journal.stream("")
        with pytest.raises(ValueError):
            journal.append(stream, bytes(601), 1, 0, 0)
        with pytest.raises(ValueError):
            await journal.commit(now_ns=1, counters=bytes(257))
        while journal.append(stream, bytes(600), 1, 0, 0) is not None:
            pass
        for number in range(1, j.JOURNAL_STREAMS_MAX):
            await journal.stream(str(number))
        with pytest.raises(LimitError):
            await journal.stream("one too many")
        record = j.JournalRecord(1, j.RECORD_DATA, 1, 0, 0, 1, 0, 0, b"")
        assert journal.acknowledge([record] * 10)
        assert not journal.acknowledge([record])
        await journal.close()

    asyncio.run(run())


def test_directory_that_cannot_be_made_is_a_storage_error(backend, tmp_path, thread):
    (tmp_path / "journal").write_text("a file is in the way")

    async def run():
        with pytest.raises(StorageError, match="can't be opened"):
            await open_on(backend, tmp_path, thread)

    asyncio.run(run())


def test_idle_commit_does_not_trouble_the_disk(backend, tmp_path, thread):
    async def run():
        disk = MemoryDisk()
        journal = await open_on(backend, tmp_path, thread, disk)
        before = len(disk.operations), journal.report.generation
        await journal.commit(now_ns=1)
        assert (len(disk.operations), journal.report.generation) == before
        await journal.close()

    asyncio.run(run())
