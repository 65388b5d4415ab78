"""What the outbox owes its journal, and the destination its messages: on each native core, with the journal in a real directory.

Only what is durable leaves; damage costs what was damaged and is counted; what is too old is not sent; a message that nobody takes does not
stop the others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from bifrost._native import journal_records as j
from bifrost._native.contract import Backend
from bifrost.bridge.ledger import Reason
from bifrost.bridge.transformers.json import CONTENT_TYPE
from bifrost.core.contracts import Capabilities, Outcome, Record
from tests.unit.bridge.rig import FakeEncoder, Rig, opened

HOUR = 3_600_000_000_000


class ContractEncoder(FakeEncoder):
    """Messages of the shape that the payload `json` has."""

    def payload(self, number, part):
        samples = [{"tag": tag, "value": value} for tag, value in part]
        head = {"gateway": "g", "device": "d", "stream": "u", "seq": number}
        return json.dumps(head | {"samples": samples}, separators=(",", ":")).encode()


def values(sent: list[Record]) -> list[int]:
    return [sample["value"] for record in sent for sample in json.loads(record.payload)["samples"]]


def is_at_its_place(record: Record) -> bool:
    """Whether what the part says about its place is true: the values count up."""
    message = json.loads(record.payload)
    first, count = message["first"], len(message["samples"])
    is_named = record.identity.endswith(f"/{message['seq']}/{first}-{first + count - 1}")
    return is_named and message["samples"][0]["value"] == (message["seq"] - 1) * 12 + first + 1


def dying_at(rig: Rig, dies: Callable[[Record], bool]) -> Callable[[Record], Outcome]:
    """A destination whose connection ends at some records, without a word; the clock goes on, so that the breaker lets tries pass."""

    def answer(record: Record) -> Outcome:
        if rig.connector.is_open and dies(record):
            rig.connector.is_open = False
            rig.clock.ns += 60_000_000_000
        return Outcome.DELIVERED if rig.connector.is_open else Outcome.AGAIN

    return answer


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "journal").glob("*.bfs"))


def test_what_is_written_and_not_durable_does_not_leave(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        rig.durability = "interval:1 h"
        async with opened(rig):
            await rig.keep(3)
            async with rig.delivering():
                await rig.until(lambda: rig.journal.report.written_sequence == 1)
                await asyncio.sleep(0.05)
                assert not rig.connector.sent
                rig.clock.ns += HOUR
                await rig.committer.commit()
                await rig.until(lambda: rig.balance()["acknowledged"] == 3)

    asyncio.run(run())


def test_damage_costs_what_was_damaged_and_is_counted(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        async with opened(rig):
            for _ in range(10):
                await rig.keep(6)
        first, *_ = segments(tmp_path)
        data = bytearray(first.read_bytes())
        data[5_000] ^= 1
        first.write_bytes(data)
        rig.make_table()
        async with opened(rig):
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert (rig.ledger.acknowledged, rig.dropped(Reason.DAMAGE)) == (57, 3)
            assert len(rig.connector.delivered) == 19

    asyncio.run(run())


def test_record_that_is_too_old_is_not_sent(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        rig.age_max_ns = HOUR
        async with opened(rig):
            await rig.keep(3)
            rig.clock.ns += HOUR // 2
            await rig.keep(3)
            rig.clock.ns += HOUR // 2 + 1_000_000_000
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert (rig.ledger.acknowledged, rig.dropped(Reason.AGE)) == (3, 3)
            assert rig.values(rig.connector.delivered) == [4, 5, 6]

    asyncio.run(run())


def test_many_records_that_are_done_with_unsent_are_no_more_than_the_journal_takes_at_once(
    backend: Backend, tmp_path: Path
):
    async def run():
        rig = Rig(tmp_path, backend)
        rig.limits = rig.limits._replace(acknowledgements_count_max=8)
        rig.age_max_ns = HOUR
        async with opened(rig):
            for _ in range(10):
                await rig.keep(30)
            rig.clock.ns += 2 * HOUR
            rig.age_max_ns = HOUR
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert rig.dropped(Reason.AGE) == 300

    asyncio.run(run())


def test_message_at_which_connections_end_goes_to_the_quarantine_and_the_others_pass(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        async with opened(rig):
            rig.connector.answer = dying_at(rig, lambda record: record.sequence == 5)
            await rig.keep(60)
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert (rig.ledger.acknowledged, rig.dropped(Reason.QUARANTINE)) == (57, 3)
            assert sorted(set(rig.values(rig.connector.delivered))) == [*range(1, 13), *range(16, 61)]
            assert rig.quarantine.kept_count == 1

    asyncio.run(run())


def test_destination_that_ends_every_connection_costs_nothing(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        async with opened(rig):
            rig.connector.answer = dying_at(rig, lambda record: rig.connector.opens < 40)
            await rig.keep(60)
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert rig.ledger.acknowledged == 60
            assert set(rig.values(rig.connector.delivered)) == set(range(1, 61))

    asyncio.run(run())


def test_long_messages_at_which_connections_end_are_sent_in_shorter_parts(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        rig.encoder = ContractEncoder(per_message=12)
        async with opened(rig):
            rig.connector.answer = dying_at(rig, lambda record: len(record.payload) > 250)
            await rig.keep(60)
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert rig.ledger.acknowledged == 60
            assert values(rig.connector.delivered)[-60:] == list(range(1, 61))
            assert rig.delivery.payload_bytes_max <= 250

    asyncio.run(run())


def test_record_longer_than_the_destination_takes_is_sent_in_parts(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        rig.encoder = ContractEncoder(per_message=12)
        async with opened(rig):
            await rig.keep(24)
            rig.connector.capabilities = Capabilities(200, 4)
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert rig.ledger.acknowledged == 24
            sent = rig.connector.delivered
            assert values(sent) == list(range(1, 25))
            assert all(len(record.payload) <= 200 for record in sent)
            assert {json.loads(record.payload)["seq"] for record in sent} == {1, 2}
            assert all(is_at_its_place(record) for record in sent)
            assert len({record.identity for record in sent}) == len(sent)
            assert {record.content_type for record in sent} == {CONTENT_TYPE}

    asyncio.run(run())


def test_record_of_which_a_part_is_refused_is_refused(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        rig.encoder = ContractEncoder(per_message=12)
        async with opened(rig):
            await rig.keep(24)
            rig.connector.capabilities = Capabilities(200, 4)
            rig.connector.answer = lambda record: Outcome.REFUSED if "/1/0-" in record.identity else Outcome.DELIVERED
            async with rig.delivering():
                await rig.until(lambda: rig.balance()["buffered"] == 0)
            assert (rig.ledger.acknowledged, rig.dropped(Reason.QUARANTINE)) == (12, 12)

    asyncio.run(run())


def test_new_messages_are_no_longer_than_the_destination_takes(backend: Backend, tmp_path: Path):
    async def run():
        rig = Rig(tmp_path, backend)
        async with opened(rig):
            rig.connector.capabilities = Capabilities(777, 4)
            await rig.keep(3)
            assert rig.encoder.message_bytes_max == 777

    asyncio.run(run())


def test_disk_cap_is_never_passed(backend: Backend, tmp_path: Path):
    """Damage, gone segments and the cursor included: what lies in the directory."""

    async def run():
        rig = Rig(tmp_path, backend)
        rig.limits = rig.limits._replace(flags=j.JOURNAL_DROP_OLDEST)
        rig.encoder = FakeEncoder(per_message=3, pad=1000)
        cap = rig.limits.segment_bytes * (rig.limits.segments_count_max + 2) + (8 << 10)
        async with opened(rig):
            for number in range(60):
                await rig.keep(9)
                if number % 20 == 5:
                    segment = segments(tmp_path)[0]
                    data = bytearray(segment.read_bytes())
                    data[3_000] ^= 1
                    segment.write_bytes(data)
                used = sum(path.stat().st_size for path in (tmp_path / "journal").iterdir())
                assert used <= cap
            assert rig.balance()["dropped"]["cap"] > 0

    asyncio.run(run())
