"""Records go out in order, at least once, never more than the window at a time; the ledger counts each of them once."""

from __future__ import annotations

import asyncio
import contextlib

from bifrost.bridge.delivery import DeliveryState
from bifrost.bridge.ledger import Reason
from bifrost.core.contracts import Outcome, Record
from bifrost.core.errors import StorageError
from tests.unit.bridge.rig import FakeConnector, FakeEncoder, Rig, killed, opened


def sequences(records) -> list[int]:
    return [record.sequence for record in records]


def test_records_arrive_in_order_and_are_acknowledged(tmp_path):
    async def run():
        async with opened(Rig(tmp_path)) as rig:
            await rig.keep(60)
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["acknowledged"] == 60)
                assert rig.delivery.state is DeliveryState.CONNECTED
            assert rig.values(rig.connector.delivered) == list(range(1, 61))
            first = rig.connector.delivered[0]
            store = rig.journal.report.store_id.hex()
            assert (first.topic, first.content_type, first.samples_count) == ("a/topic", "application/json", 3)
            assert first.identity == f"{store}/u/1"
            assert rig.delivery.resent_count == 0

    asyncio.run(run())


def test_no_more_records_are_out_than_the_destination_takes(tmp_path):
    async def run():
        async with opened(Rig(tmp_path)) as rig:
            rig.connector.released.clear()
            await rig.keep(60)
            async with rig.delivering():
                await rig.until(lambda: len(rig.connector.sent) == 4)
                rig.connector.released.set()
                await rig.until(lambda: rig.balance()["acknowledged"] == 60)
            assert rig.connector.out_max == 4

    asyncio.run(run())


def test_lost_connection_sends_again_from_the_first_record_without_an_answer(tmp_path):
    async def run():
        async with opened(Rig(tmp_path)) as rig:

            def answer(record: Record) -> Outcome:
                if record.sequence == 3 and rig.connector.opens == 1:
                    rig.connector.is_open = False
                return Outcome.DELIVERED if rig.connector.is_open else Outcome.AGAIN

            rig.connector.answer = answer
            await rig.keep(30)
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["acknowledged"] == 30)
            assert rig.values(rig.connector.delivered) == list(range(1, 31))
            assert sequences(rig.connector.delivered) == list(range(1, 11))
            assert rig.delivery.resent_count == 2
            assert rig.connector.opens == 2

    asyncio.run(run())


def test_record_acknowledged_out_of_turn_is_not_sent_again(tmp_path):
    async def run():
        async with opened(Rig(tmp_path)) as rig:
            rig.connector.answer = lambda record: Outcome.AGAIN if record.sequence == 2 else Outcome.DELIVERED
            await rig.keep(12)
            async with rig.delivering():
                await rig.until(lambda: len(rig.connector.sent) >= 4)
                rig.connector.answer = lambda record: Outcome.DELIVERED
                await rig.until(lambda: rig.balance()["acknowledged"] == 12)
            assert sequences(rig.connector.delivered).count(2) == 1
            assert sorted(sequences(rig.connector.delivered)) == [1, 2, 3, 4]

    asyncio.run(run())


def test_refused_record_goes_to_the_quarantine_and_does_not_hold_up_the_others(tmp_path):
    async def run():
        async with opened(Rig(tmp_path)) as rig:
            rig.connector.answer = lambda record: Outcome.REFUSED if record.sequence == 2 else Outcome.DELIVERED
            await rig.keep(12)
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert sequences(rig.connector.delivered) == [1, 3, 4]
            assert (rig.ledger.acknowledged, rig.dropped(Reason.QUARANTINE)) == (9, 3)
            assert rig.quarantine.kept_count == 1

    asyncio.run(run())


def test_destination_that_is_away_is_asked_for_again_and_again_and_then_by_probes_only(tmp_path):
    async def run():
        async with opened(Rig(tmp_path)) as rig:
            rig.connector.refuse_open = "nobody listens"
            await rig.keep(3)
            async with rig.delivering():
                await rig.until(lambda: rig.connector.opens == 5)
                await asyncio.sleep(0.05)
                assert rig.connector.opens == 5
                assert rig.delivery.reason == "nobody listens"
                assert rig.delivery.breaker_state == "open"
                assert rig.balance()["buffered"] == 3
                rig.connector.refuse_open = ""
                rig.clock.ns += 60_000_000_000
                await rig.until(lambda: rig.balance()["acknowledged"] == 3)
                assert rig.delivery.breaker_state == "closed"
                assert rig.delivery.reason == ""

    asyncio.run(run())


def test_killed_process_sends_at_most_one_window_again_and_counts_each_sample_once(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        async with killed(rig):
            await rig.keep(60)
            async with rig.delivering():
                await rig.until(lambda: len(rig.connector.delivered) >= 9)
        first = sequences(rig.connector.delivered)
        rig.connector = FakeConnector()
        rig.make_table()
        async with opened(rig):
            assert rig.balance()["acquired"] == 60
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["acknowledged"] == 60)
            second = sequences(rig.connector.delivered)
            assert set(first) | set(second) == set(range(1, 22))
            assert len(set(first) & set(second)) <= 4
            assert rig.balance()["acquired"] == 60

    asyncio.run(run())


def test_full_disk_does_not_stop_what_is_on_it_and_goes_on_when_there_is_room(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        async with opened(rig):
            await rig.keep(30)
            rig.disk.is_full = True
            while not rig.committer.failure:
                rig.put(3)
                rig.step()
                with contextlib.suppress(StorageError):
                    await rig.committer.commit()
            durable = rig.journal.report.durable_sequence
            async with rig.delivering():
                await rig.until(lambda: len(rig.connector.delivered) >= durable)
                assert rig.committer.failure or rig.balance()["buffered"] == 0
                rig.disk.is_full = False
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert rig.values(rig.connector.delivered) == list(range(1, rig.value + 1))
            assert not rig.committer.failure

    asyncio.run(run())


def test_broken_disk_costs_at_most_one_window_of_duplicates(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        async with killed(rig):
            await rig.keep(60)
            rig.disk.is_broken = True
            async with rig.delivering():
                await rig.until(lambda: rig.committer.failure != "" and len(rig.connector.delivered) == 4)
                await asyncio.sleep(0.05)
                assert len(rig.connector.delivered) == 4

    asyncio.run(run())


def test_blocked_journal_at_its_cap_drains_and_takes_more(tmp_path):
    async def run():
        rig = Rig(tmp_path)
        rig.limits = rig.limits._replace(flags=0)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        async with opened(rig):
            while not rig.committer.failure:
                rig.put(3)
                rig.step()
                with contextlib.suppress(StorageError):
                    await rig.committer.commit()
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
                rig.put(30)
                while rig.balance()["buffered"]:
                    rig.step()
                    await asyncio.sleep(0.001)
            assert rig.values(rig.connector.delivered) == list(range(1, rig.value + 1))

    asyncio.run(run())
