"""The quarantine keeps what the destination refused, and never more than it may."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

from bifrost.bridge.quarantine import Quarantine
from bifrost.core.contracts import Record

T0 = 1_700_000_000_000_000_000


def test_refused_message_can_be_read_by_a_person(tmp_path: Path):
    quarantine = Quarantine(str(tmp_path / "quarantine" / "plant.jsonl"), 1000)
    assert quarantine.keep(Record(7, b'{"value":1}', "a/b"), "too long", T0)
    assert quarantine.keep(Record(8, b"\xff\x00"), "malformed", T0)
    first, second = map(json.loads, Path(quarantine.path).read_text().splitlines())
    assert first == {
        "time": "2023-11-14T22:13:20.000000Z",
        "sequence": 7,
        "topic": "a/b",
        "reason": "too long",
        "payload": '{"value":1}',
    }
    assert b64decode(second["payload_base64"]) == b"\xff\x00"


def test_full_quarantine_counts_and_keeps_no_more_until_somebody_empties_it(tmp_path: Path):
    quarantine = Quarantine(str(tmp_path / "plant.jsonl"), 300)
    kept = [quarantine.keep(Record(number, b"x" * 50), "too long", T0) for number in range(4)]
    assert kept == [True, True, False, False]
    assert (quarantine.kept_count, quarantine.skipped_count) == (2, 2)
    assert Path(quarantine.path).stat().st_size <= 300
    Path(quarantine.path).unlink()
    assert quarantine.keep(Record(9, b"x"), "too long", T0)


def test_disk_that_refuses_loses_only_the_copy(tmp_path: Path):
    (tmp_path / "file").write_text("")
    quarantine = Quarantine(str(tmp_path / "file" / "plant.jsonl"), 300)
    assert not quarantine.keep(Record(1, b"x"), "too long", T0)
    assert quarantine.skipped_count == 1
