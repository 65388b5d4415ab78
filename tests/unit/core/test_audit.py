"""The audit log: records on disk, a hard size, and what happens when the disk fails at any call."""

import json
import os

import pytest

from bifrost.core.audit import AuditLog
from bifrost.core.errors import StorageError

_BYTES_MAX = 4_096


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "state")


def open_log(directory):
    return AuditLog(directory, _BYTES_MAX, lambda: 0)


def records(directory, name="audit.jsonl"):
    with open(os.path.join(directory, name), "rb") as file:
        return [json.loads(line) for line in file]


def test_a_record_says_when_what_and_who(directory):
    with open_log(directory) as log:
        log.append("write_done", "cli:uid=1000", tag="boiler.setpoint", old=1.5, new=2, result="Good")
        log.append("write_refused", "cli", durable=False)
    assert records(directory) == [
        {
            "time": "1970-01-01T00:00:00.000000Z",
            "event": "write_done",
            "who": "cli:uid=1000",
            "tag": "boiler.setpoint",
            "old": 1.5,
            "new": 2,
            "result": "Good",
        },
        {"time": "1970-01-01T00:00:00.000000Z", "event": "write_refused", "who": "cli"},
    ]
    assert os.stat(os.path.join(directory, "audit.jsonl")).st_mode & 0o777 == 0o640
    log.close()


def test_it_never_grows_over_its_limit_and_keeps_the_newest(directory):
    with open_log(directory) as log:
        for number in range(500):
            log.append("write", "cli", number=number)
            sizes = [os.path.getsize(os.path.join(directory, name)) for name in os.listdir(directory)]
            assert sum(sizes) <= _BYTES_MAX
    numbers = [record["number"] for record in records(directory, "audit.1.jsonl") + records(directory)]
    assert numbers == list(range(numbers[0], 500))
    assert len(numbers) > 20


def test_a_torn_last_line_costs_only_itself(directory):
    with open_log(directory) as log:
        log.append("start", "gateway")
    with open(os.path.join(directory, "audit.jsonl"), "ab") as file:
        file.write(b'{"time": "19')
    with open_log(directory) as log:
        log.append("start", "gateway")
    with open(os.path.join(directory, "audit.jsonl"), "rb") as file:
        lines = file.read().splitlines()
    assert lines[1] == b'{"time": "19'
    assert json.loads(lines[2])["event"] == "start"


def test_odd_and_large_values_keep_the_record(directory):
    with open_log(directory) as log:
        log.append("write", "cli", value="\ud800")
        log.append("write", "cli", value=object())
        log.append("write", "cli", value=list(range(10_000)))
    first, second, third = records(directory)
    assert "ud800" in first["value"]
    assert "object" in second["value"]
    assert third["truncated_bytes"] > 10_000
    assert "value" not in third


@pytest.mark.parametrize("call", ["write", "fdatasync"])
@pytest.mark.parametrize("nth", [0, 1, 2])
def test_a_failing_disk_is_told_and_costs_no_earlier_record(directory, monkeypatch, call, nth):
    log = open_log(directory)
    real, calls = getattr(os, call), iter(range(100))

    def failing(*args):
        if next(calls) == nth:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, call, failing)
    for number in range(3):
        if number == nth:
            with pytest.raises(StorageError, match="No space left"):
                log.append("write", "cli", number=number)
        else:
            log.append("write", "cli", number=number)
    log.close()
    assert [record["number"] for record in records(directory)] == [number for number in range(3) if number != nth]


def test_a_partial_write_is_taken_back(directory, monkeypatch):
    log = open_log(directory)
    log.append("write", "cli", number=0)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    with pytest.raises(StorageError):
        log.append("write", "cli", number=1)
    monkeypatch.undo()
    log.append("write", "cli", number=2)
    log.close()
    assert [record["number"] for record in records(directory)] == [0, 2]


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with open_log(str(tmp_path / "file" / "state")) as log, pytest.raises(StorageError, match="Not a directory"):
        log.append("start", "gateway")


def test_a_disk_that_is_full_at_the_start_is_used_when_it_is_well_again(directory, monkeypatch):
    with open_log(directory) as log:
        log.append("start", "gateway")
    with open(os.path.join(directory, "audit.jsonl"), "ab") as file:
        file.write(b"torn")
    monkeypatch.setattr(os, "write", refuse_to_write)
    with open_log(directory) as log:
        with pytest.raises(StorageError, match="No space left"):
            log.append("write", "cli")
        monkeypatch.undo()
        log.append("write", "cli", number=2)
    with open(os.path.join(directory, "audit.jsonl"), "rb") as file:
        lines = file.read().splitlines()
    assert (lines[1], json.loads(lines[2])["number"]) == (b"torn", 2)


def refuse_to_write(descriptor, data):
    raise OSError(28, "No space left on device")
