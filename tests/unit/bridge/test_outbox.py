"""What the ring says comes into the journal, message by message and in order, and what cannot is counted to the sample."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from bifrost._native.journal_records import JournalRecord
from bifrost.bridge.envelope import open_envelope
from bifrost.bridge.ledger import Reason
from bifrost.bridge.outbox import OutboxSettings
from bifrost.core.errors import StorageError
from tests.unit.bridge.rig import RING, FakeEncoder, Rig, killed, opened


async def kept(rig: Rig) -> list[dict[str, Any]]:
    """The messages in the journal."""
    return [json.loads(open_envelope(record, "s", "u").payload) for record in await read_all(rig)]


async def read_all(rig: Rig) -> list[JournalRecord]:
    """The records that are written and not done with."""
    records: list[JournalRecord] = []
    sequence = 1
    while read := await rig.journal.read(sequence, rig.journal.report.written_sequence, 1000):
        records += read
        sequence = read[-1].sequence + 1
    return records


def test_changes_become_messages_with_the_numbers_of_their_records(tmp_path):
    async def run():
        async with opened(Rig(tmp_path)) as rig:
            await rig.keep(7)
            await rig.keep(2)
            messages = await kept(rig)
            assert [message["seq"] for message in messages] == [1, 2, 3, 4]
            assert [value for message in messages for _, value in message["samples"]] == list(range(1, 10))
            assert rig.balance()["acquired"] == rig.balance()["buffered"] == 9
            assert rig.outbox.is_empty

    asyncio.run(run())


def test_samples_wait_for_others_until_linger_is_over_or_a_message_is_full(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        rig.settings = OutboxSettings(linger_ns=200, batch_bytes_max=1000, drops_newest=False, sample_bytes=100)
        async with opened(rig):
            rig.put(2)
            rig.step(is_last=False)
            rig.clock.ns += 199
            rig.put(1)
            rig.step(is_last=False)
            assert rig.journal.appended_sequence == 0
            assert rig.balance()["buffered"] == 3
            rig.clock.ns += 1
            rig.step(is_last=False)
            assert rig.journal.appended_sequence == 1
            rig.put(9)
            rig.step(is_last=False)
            assert rig.journal.appended_sequence == 1
            rig.put(40)
            rig.step(is_last=False)
            assert rig.journal.appended_sequence > 1

    asyncio.run(run())


def test_what_the_ring_lost_is_counted_and_the_rest_goes_on(tmp_path):
    async def run():
        async with opened(Rig(tmp_path)) as rig:
            rig.put(RING + 10)
            assert rig.balance()["acquired"] == RING + 10
            rig.step()
            assert rig.dropped(Reason.LAPPED) == 10
            assert rig.balance()["acquired"] == RING + 10
            await rig.committer.commit()
            assert (await kept(rig))[0]["samples"][0] == ["d.0", 11]

    asyncio.run(run())


def test_full_disk_with_drop_oldest_drops_whole_segments_and_counts_their_samples(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        async with opened(rig):
            for _ in range(60):
                await rig.keep(3)
            assert rig.dropped(Reason.CAP) > 0
            left = [value for message in await kept(rig) for _, value in message["samples"]]
            assert left == list(range(rig.dropped(Reason.CAP) + 1, 181))
            assert rig.balance()["buffered"] == len(left)
            assert rig.journal.report.disk_bytes <= 4 * (16 << 10) + (16 << 10)

    asyncio.run(run())


@pytest.mark.parametrize("drops_newest", [True, False])
def test_full_disk_drops_what_comes_last_or_blocks_until_there_is_room(tmp_path, drops_newest):
    async def run():
        rig = Rig(tmp_path)
        rig.limits = rig.limits._replace(flags=0)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        rig.settings = rig.settings._replace(drops_newest=drops_newest)
        async with opened(rig):
            for _ in range(100):
                rig.put(3)
                rig.step()
                try:
                    await rig.committer.commit()
                except StorageError:
                    assert "disk cap" in rig.committer.failure
                rig.balance()
            assert rig.dropped(Reason.CAP) > 0 if drops_newest else rig.dropped(Reason.CAP) == 0
            if not drops_newest:
                assert rig.outbox.waiting_count() > RING
                rig.ledger.overwritten = rig.stream.overwritten_count(RING)
                assert rig.dropped(Reason.LAPPED) == rig.outbox.waiting_count() - RING
                assert rig.balance()["buffered"] < 300 - rig.dropped(Reason.LAPPED) + 1
                rig.ledger.overwritten = 0
            while not rig.outbox.is_empty:
                assert rig.journal.acknowledge(await read_all(rig))  # The destination takes them: there is room.
                await rig.committer.commit()
                assert not rig.committer.failure
                rig.step()
            assert rig.balance()["acquired"] == 300
            assert (rig.dropped(Reason.LAPPED) > 0) is not drops_newest

    asyncio.run(run())


def test_drops_at_a_full_disk_are_known_after_a_kill(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        rig.limits = rig.limits._replace(flags=0)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        rig.settings = rig.settings._replace(drops_newest=True)
        async with killed(rig):
            for _ in range(100):
                rig.put(3)
                rig.step()
                with contextlib.suppress(StorageError):
                    await rig.committer.commit()
            dropped, stored = rig.dropped(Reason.CAP), rig.journal.report.samples_total
            assert dropped > 0
        rig.make_table()
        async with opened(rig):
            after = rig.balance()
            assert after["dropped"]["cap"] == dropped
            assert after["acquired"] == dropped + stored

    asyncio.run(run())


def test_message_that_no_record_can_hold_goes_to_the_quarantine_and_keeps_its_number(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        rig.encoder = FakeEncoder(per_message=1)
        async with opened(rig):
            rig.put(1)
            rig.encoder.pad = 5000
            rig.step()
            rig.encoder.pad = 0
            rig.put(1)
            rig.step()
            await rig.committer.commit()
            assert rig.quarantine.kept_count == 1
            assert rig.balance()["buffered"] == 2
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert [json.loads(record.payload)["seq"] for record in rig.connector.delivered] == [2]
            assert (rig.dropped(Reason.QUARANTINE), rig.ledger.acknowledged) == (1, 1)

    asyncio.run(run())


def test_counters_come_back_after_a_kill_as_they_were_with_the_last_commit(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        async with killed(rig):
            rig.put(RING + 10)
            rig.step()
            await rig.committer.commit()
            rig.put(5)
            rig.step()  # In memory only: nobody will know of them.
            before = rig.balance()
            assert before["acquired"] == RING + 15
            assert before["unclean_stop"] is None
        rig.make_table()
        rig.clock.ns += 10
        async with opened(rig):
            after = rig.balance()
            assert after["acquired"] == RING + 10
            assert after["buffered"] == RING
            assert after["dropped"]["lapped"] == 10
            assert after["unclean_stop"]["since"].startswith("2025-10-09")
        async with opened(rig):
            again = rig.balance()
            assert again["acquired"] == RING + 10

    asyncio.run(run())


def test_records_older_than_they_may_be_are_dropped_and_counted(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        rig.age_max_ns = 1_000_000_000
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        async with opened(rig):
            for _ in range(20):
                await rig.keep(3)
            rig.clock.ns += 3_600_000_000_000
            await rig.keep(3)
            await rig.keep(3)
            assert rig.dropped(Reason.AGE) > 0
            rig.balance()

    asyncio.run(run())


@pytest.mark.parametrize(("durability", "syncs"), [("commit", True), ("interval:1 s", False), ("none", False)])
def test_records_are_synced_when_the_configuration_says(tmp_path, durability, syncs):
    async def run():
        rig = Rig(tmp_path)
        rig.durability = durability
        async with opened(rig):
            await rig.keep(3)
            assert (rig.journal.report.durable_sequence == 1) is syncs
            assert rig.journal.report.written_sequence == 1
            assert rig.committer.deliverable_sequence == (1 if durability != "interval:1 s" else 0)
            rig.clock.ns += 1_000_000_000
            await rig.keep(3)
            assert (rig.journal.report.durable_sequence == 2) is (durability != "none")

    asyncio.run(run())
