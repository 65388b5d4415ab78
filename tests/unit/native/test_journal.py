"""The journal without power cuts: what comes back, what is dropped and how it is counted, and what damage costs.

The promise behind all of it: `samples_total = sum(done) + buffered`, and buffered is what can be read.
"""

from __future__ import annotations

from array import array

import pytest

from bifrost._native import _py_journal_format as f
from bifrost._native import contract
from bifrost._native import journal_records as j
from bifrost._native import records as r
from tests.crash.memory_disk import MemoryDisk

LIMITS = j.JournalLimits(
    segment_bytes=8192, segments_count_max=3, batch_bytes=2048, record_bytes_max=600, acknowledgements_count_max=100
)
STORE_ID = bytes(range(16))
SECOND = 10**9
FOREVER = 1 << 62
DAY = 86_400 * SECOND
YEAR_2023_NS = 1_700_000_000 * SECOND


def open_on(backend: contract.Backend, disk: MemoryDisk, limits: j.JournalLimits = LIMITS) -> contract.Journal:
    return backend.open_journal("", limits, STORE_ID, SECOND, disk)


def fill(
    journal: contract.Journal,
    count: int,
    *,
    streams: tuple[bytes, ...] = (b"plant",),
    size: int = 500,
    now_ns: int = SECOND,
) -> None:
    """Appends and commits records of `size` bytes with two samples each, to the streams in turn."""
    numbers = [journal.stream(name) for name in streams]
    for _ in range(count):
        sequence = journal.report().next_sequence
        stream = numbers[sequence % len(numbers)]
        assert journal.append(stream, 0, 2, sequence * SECOND, sequence * SECOND, bytes([sequence % 256]) * size) > 0
        commit(journal, now_ns=now_ns)


def commit(journal: contract.Journal, *, now_ns: int = SECOND, counters: bytes = b"", expire: int = 0) -> int:
    journal.begin(counters, now_ns, expire)
    return journal.commit(j.COMMIT_SYNC)


def read_all(journal: contract.Journal) -> list[j.JournalRecord]:
    found: list[j.JournalRecord] = []
    while more := journal.read(found[-1].sequence + found[-1].records if found else 1, FOREVER, 10)[1]:
        found += more
    return found


def acknowledge(journal: contract.Journal, records: list[j.JournalRecord], reason: int = 0) -> int:
    columns = (
        [each.sequence for each in records],
        [each.records for each in records],
        [each.samples for each in records],
    )
    return journal.acknowledge(array("Q", columns[0]), array("I", columns[1]), array("I", columns[2]), reason)


def buffered(journal: contract.Journal) -> int:
    report = journal.report()
    assert report.samples_total - sum(report.done) == report.samples_buffered
    return report.samples_buffered


def test_record_comes_back_as_it_was_given(backend):
    journal = open_on(backend, MemoryDisk())
    stream = journal.stream("Überlauf".encode())
    assert journal.append(stream, j.LANE_BACKFILL, 65535, -5, 7 * SECOND + 1, b"payload") == 1
    assert commit(journal) == r.OK
    [record] = read_all(journal)
    assert record == (1, j.RECORD_DATA, 1, 0, j.LANE_BACKFILL, 65535, -5, 7_001_000_000 - 5, b"payload")
    assert journal.streams() == ["Überlauf".encode()]


def test_records_are_seen_only_when_they_are_written(backend):
    journal = open_on(backend, MemoryDisk())
    assert journal.append(journal.stream(b"plant"), 0, 1, 0, 0, b"") == 1
    assert read_all(journal) == []
    assert journal.begin(b"", 0, 0) == r.OK
    assert journal.commit(0) == r.OK
    assert (journal.report().written_sequence, journal.report().durable_sequence) == (1, 0)
    assert len(read_all(journal)) == 1
    assert journal.begin(b"", 0, 0) == r.OK
    assert journal.commit(j.COMMIT_SYNC) == r.OK
    assert journal.report().durable_sequence == 1
    assert journal.begin(b"", 0, 0) == r.PARTIAL


@pytest.mark.parametrize(
    "given",
    [
        (1, 0, 1, 0, 0, b""),
        (0, 2, 1, 0, 0, b""),
        (0, 0, 0, 0, 0, b""),
        (0, 0, 65536, 0, 0, b""),
        (0, 0, 1, 1, 0, b""),
        (0, 0, 1, 0, 0, bytes(601)),
        (0, 0, 1, -(1 << 63), 0, b""),
    ],
)
def test_impossible_record_is_refused(backend, given):
    journal = open_on(backend, MemoryDisk())
    journal.stream(b"plant")
    assert journal.append(*given) == r.E_ARGUMENT


@pytest.mark.parametrize(
    "wrong",
    [
        {"segment_bytes": 7000},
        {"segment_bytes": 8194},
        {"segment_bytes": (16 << 20) + 4},
        {"segments_count_max": 1},
        {"batch_bytes": 600},
        {"record_bytes_max": 0},
        {"acknowledgements_count_max": 0},
        {"flags": 4},
    ],
)
def test_impossible_limits_are_refused(backend, wrong):
    limits = LIMITS._replace(**wrong)
    assert backend.journal_bytes(limits) == 0
    with pytest.raises(ValueError):
        open_on(backend, MemoryDisk(), limits)
    assert 0 < backend.journal_bytes(LIMITS) < 200_000


def test_full_batch_refuses_until_the_next_commit(backend):
    journal = open_on(backend, MemoryDisk())
    stream = journal.stream(b"plant")
    given = [journal.append(stream, 0, 1, 0, 0, bytes(600)) for _ in range(5)]
    assert given == [1, 2, 3, r.E_FULL, r.E_FULL]
    assert commit(journal) == r.OK
    assert journal.append(stream, 0, 1, 0, 0, bytes(600)) == 4


def test_store_has_64_streams_and_keeps_their_numbers(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    assert [journal.stream(b"s%d" % number) for number in range(66)] == [*range(64), r.E_FULL, r.E_FULL]
    assert journal.stream(b"s7") == 7
    assert journal.stream(b"") == journal.stream(bytes(65)) == r.E_ARGUMENT
    assert journal.append(0, 0, 1, 0, 0, b"") == 1
    commit(journal)
    journal.close()
    assert open_on(backend, disk).streams() == [b"s%d" % number for number in range(64)]


def test_stream_that_is_named_late_is_known_after_a_kill(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    fill(journal, 1)
    fill(journal, 1, streams=(b"late",))
    assert open_on(backend, disk).streams() == [b"plant", b"late"]


def test_acknowledged_segments_are_deleted_and_files_are_used_again(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    for _ in range(20):
        fill(journal, 5)
        assert acknowledge(journal, read_all(journal)) == r.OK
        commit(journal)
    report = journal.report()
    assert report.done == (200, 0, 0, 0, 0, 0, 0, 0)
    assert report.base_sequence == report.next_sequence == 101
    assert report.segments_count == 1
    assert (
        set(disk.files) == {f"{report.segments_count and max(disk.files)[:8]}.bfs", "cursor.bfc", "spare.free"} or True
    )
    assert set(disk.files) == {"0000000a.bfs", "cursor.bfc", "spare.free"}


def test_acknowledgements_in_any_order_survive_a_kill(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    fill(journal, 20, size=50)
    records = read_all(journal)
    assert acknowledge(journal, [records[number] for number in (9, 3, 5, 4, 0, 3)]) == r.OK
    commit(journal)
    assert journal.report().base_sequence == 2
    assert buffered(journal) == 40 - 2 * 5
    again = open_on(backend, disk)
    assert [each.sequence for each in read_all(again)] == [2, 3, *range(7, 10), *range(11, 21)]
    assert buffered(again) == 30


def test_acknowledgements_too_far_out_of_order_wait(backend):
    journal = open_on(backend, MemoryDisk(), LIMITS._replace(segments_count_max=10))
    fill(journal, 140, size=8)
    records = read_all(journal)
    assert acknowledge(journal, records[1::2]) == r.OK  # 70 ranges, of which 64 fit.
    commit(journal)
    assert buffered(journal) == 280 - 128
    assert acknowledge(journal, records[0:40:2]) == r.OK
    commit(journal)
    assert acknowledge(journal, []) == r.OK
    commit(journal)
    assert buffered(journal) == 280 - 140 - 40
    assert acknowledge(journal, records[:101]) == r.E_FULL


def test_at_the_cap_the_oldest_segment_goes_and_is_counted_by_stream(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    fill(journal, 60, streams=(b"even", b"odd"))
    found = read_all(journal)
    report = journal.report()
    first = found[0].sequence
    assert first > 1
    assert report.done[j.DONE_WITH_CAP] == 2 * (first - 1)
    assert report.dropped_by_stream[:2] == (2 * ((first - 1) // 2), 2 * (first // 2))
    assert (report.dropped_first_ns, report.dropped_last_ns) == (SECOND, (first - 1) * SECOND)
    assert report.segments_count == 3
    assert sum(map(len, disk.files.values())) <= 3 * 8192 + 8192
    assert buffered(journal) == 2 * len(found)


def test_acknowledgement_of_what_was_dropped_is_ignored(backend):
    journal = open_on(backend, MemoryDisk())
    fill(journal, 5)
    early = read_all(journal)
    fill(journal, 30)
    assert acknowledge(journal, early) == r.OK
    commit(journal)
    assert journal.report().done[j.DONE_WITH_ACKNOWLEDGED] == 0
    assert buffered(journal) == 2 * len(read_all(journal))


def test_at_the_cap_without_dropping_commits_are_refused_and_nothing_is_lost(backend):
    journal = open_on(backend, MemoryDisk(), LIMITS._replace(flags=0))
    stream = journal.stream(b"plant")
    appended = 0
    while journal.append(stream, 0, 1, 0, 0, bytes(500)) > 0:
        appended += 1
        status = commit(journal)
    assert status == r.E_FULL
    while found := read_all(journal):
        assert acknowledge(journal, found) == r.OK
        commit(journal)
        commit(journal)
    assert journal.report().done[0] == appended


def test_counters_are_stored_at_the_cap_too(backend):
    disk, limits = MemoryDisk(), LIMITS._replace(flags=0)
    journal = open_on(backend, disk, limits)
    while journal.append(journal.stream(b"plant"), 0, 1, 0, 0, bytes(500)) > 0:
        commit(journal)
    assert commit(journal, counters=b"while it is full") == r.E_FULL
    assert open_on(backend, disk, limits).report().counters == b"while it is full"


def test_segments_filled_long_ago_expire(backend):
    journal = open_on(backend, MemoryDisk(), LIMITS._replace(segments_count_max=10))
    for number in range(1, 40):
        fill(journal, 1)
        commit(journal, now_ns=number * SECOND)
    assert commit(journal, now_ns=40 * SECOND, expire=20 * SECOND) == r.OK
    report = journal.report()
    assert 0 < report.done[j.DONE_WITH_AGE] < 80
    assert buffered(journal) == 2 * len(read_all(journal))


def test_segments_of_a_clock_that_was_not_trusted_do_not_expire(backend):
    journal = backend.open_journal("", LIMITS._replace(segments_count_max=10), STORE_ID, 0, MemoryDisk())
    stream = journal.stream(b"plant")
    for _ in range(40):
        assert journal.append(stream, 0, 1, 0, 0, bytes(500)) > 0
        journal.begin(b"", 0, FOREVER)
        assert journal.commit(j.COMMIT_SYNC) == r.OK
    assert journal.report().done[j.DONE_WITH_AGE] == 0


def test_segments_without_a_time_expire_with_the_next_one_that_has_one(backend):
    """A board without a battery begins in 1970; what it kept then is older than what came after the clock was set."""
    journal = backend.open_journal("", LIMITS._replace(segments_count_max=10), STORE_ID, 0, MemoryDisk())
    for number in range(1, 60):
        fill(journal, 1, now_ns=number * SECOND if number > 30 else 0)
        commit(journal, now_ns=0, expire=FOREVER if number < 30 else 0)
    assert journal.report().done[j.DONE_WITH_AGE] == 0
    segments_count = journal.report().segments_count
    assert commit(journal, now_ns=60 * SECOND, expire=50 * SECOND) == r.OK
    assert journal.report().done[j.DONE_WITH_AGE] > 60
    assert 1 < journal.report().segments_count < segments_count
    assert buffered(journal) == 2 * len(read_all(journal))


@pytest.mark.parametrize("now_ns", [0, SECOND, YEAR_2023_NS - DAY, YEAR_2023_NS + DAY, 4 * YEAR_2023_NS])
def test_what_is_found_at_start_does_not_depend_on_the_clock(backend, now_ns):
    disk = MemoryDisk()
    journal = backend.open_journal("", LIMITS._replace(segments_count_max=10), STORE_ID, YEAR_2023_NS, disk)
    for number in range(30):
        fill(journal, 1, now_ns=YEAR_2023_NS + number * SECOND)
        commit(journal, counters=b"%d" % number)
    before = read_all(journal)
    again = backend.open_journal("", LIMITS._replace(segments_count_max=10), STORE_ID, now_ns, disk)
    assert again.report().counters == b"29"
    assert read_all(again) == before
    fill(again, 1, now_ns=now_ns)
    assert [each.sequence for each in read_all(again)] == list(range(1, 32))
    assert sum(again.report().done) == 0


def test_counters_of_the_newest_commit_come_back(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    fill(journal, 1)
    commit(journal, counters=b"with nothing else")
    assert open_on(backend, disk).report().counters == b"with nothing else"
    again = open_on(backend, disk)
    assert again.append(again.stream(b"plant"), 0, 1, 0, 0, b"") == 2
    commit(again, counters=b"with a record")
    assert open_on(backend, disk).report().counters == b"with a record"
    assert journal.begin(bytes(257), 0, 0) == r.E_ARGUMENT


def test_clean_end_is_told_from_a_kill(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    assert journal.report().was_clean
    fill(journal, 1)
    assert not open_on(backend, disk).report().was_clean
    last = open_on(backend, disk)
    assert last.close() == last.close() == r.OK
    assert open_on(backend, disk).report().was_clean


def test_restart_goes_on_in_the_same_segment(backend):
    disk = MemoryDisk()
    for _ in range(20):
        fill(open_on(backend, disk), 1, size=20)
    journal = open_on(backend, disk)
    assert journal.report().segments_count == 1
    assert [each.sequence for each in read_all(journal)] == list(range(1, 21))


# ---- damage


def damaged(disk: MemoryDisk, name: str, at: int, size: int = 1) -> MemoryDisk:
    files = {key: bytearray(value) for key, value in disk.files.items()}
    for index in range(at, at + size):
        files[name][index] ^= 0xFF
    return MemoryDisk({key: bytes(value) for key, value in files.items()})


def test_one_damaged_byte_costs_one_record_wherever_it_is(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    fill(journal, 20, size=60)
    end = len(disk.files["00000001.bfs"].rstrip(b"\0"))
    for at in range(0, end, 13):
        again = open_on(backend, damaged(disk, "00000001.bfs", at))
        found = read_all(again)
        lost = [each for each in found if each.type == j.RECORD_DAMAGED]
        assert sum(each.records for each in lost) <= 1, at
        assert sum(each.samples for each in found) == again.report().samples_buffered, at
        assert [each.sequence for each in found] == list(range(1, len(found) + 1))
        assert len(found) >= 19
        assert acknowledge(again, lost, j.DONE_WITH_DAMAGED) == r.OK
        assert acknowledge(again, [each for each in found if each not in lost]) == r.OK
        assert commit(again) == r.OK
        assert buffered(again) == 0
        assert again.report().alarms & j.ALARM_DAMAGE or not lost


def test_damage_in_an_old_segment_is_counted_and_the_file_is_kept(backend):
    disk = MemoryDisk()
    fill(open_on(backend, disk), 25)
    bad = damaged(disk, "00000001.bfs", 3000, 1500)
    journal = open_on(backend, bad)
    found = read_all(journal)
    [lost] = [each for each in found if each.type == j.RECORD_DAMAGED]
    assert lost.records == 3
    assert lost.samples == 6
    assert journal.report().records_damaged == 3
    assert sum(each.samples for each in found) == 50
    assert acknowledge(journal, found) == r.OK
    commit(journal)
    assert "damaged.bad" in bad.files
    assert buffered(journal) == 0


def test_segment_without_a_header_costs_its_records_and_no_start(backend):
    disk = MemoryDisk()
    fill(open_on(backend, disk), 25)
    bad = damaged(disk, "00000002.bfs", 0, 1024)
    journal = open_on(backend, bad)
    found = read_all(journal)
    lost = [each for each in found if each.type == j.RECORD_DAMAGED]
    assert len(lost) == 1
    assert sum(each.samples for each in found) == 50
    assert journal.report().alarms & j.ALARM_DAMAGE
    assert "damaged.bad" in bad.files


def test_lost_cursor_sends_everything_again(backend):
    disk = MemoryDisk()
    journal = open_on(backend, disk)
    fill(journal, 10)
    acknowledge(journal, read_all(journal)[:5])
    commit(journal)
    del disk.files["cursor.bfc"]
    again = open_on(backend, disk)
    assert [each.sequence for each in read_all(again)] == list(range(1, 11))
    assert again.report().alarms & j.ALARM_CURSOR_LOST
    assert buffered(again) == 20


def test_files_of_a_later_version_or_another_store_are_set_aside(backend):
    disk = MemoryDisk()
    fill(open_on(backend, disk), 25)
    foreign = f.SegmentHeader(2, bytes(16), 11, 20, 0, 8192).pack()
    later = bytearray(disk.files["00000003.bfs"][:64])
    later[6] = 2
    later[60:64] = f.crc32(bytes(later[:60])).to_bytes(4, "little")
    files = {name: bytes(content) for name, content in disk.files.items()}
    files |= {"00000002.bfs": foreign + bytes(7168), "00000003.bfs": bytes(later) + files["00000003.bfs"][64:]}
    again = MemoryDisk(files)
    journal = open_on(backend, again)
    assert {"00000002.aside", "00000003.aside"} <= set(again.files)
    assert journal.report().alarms & j.ALARM_SET_ASIDE
    fill(journal, 1)
    assert "00000004.bfs" in again.files or "00000001.bfs" in again.files


def test_unknown_record_types_are_passed_over(backend):
    disk = MemoryDisk()
    fill(open_on(backend, disk), 3, size=20)
    segment = disk.files["00000001.bfs"]
    header = f.unpack_header(bytes(segment))
    assert isinstance(header, f.SegmentHeader)
    end = (len(segment.rstrip(b"\0")) + 3) // 4 * 4
    unknown = f.pack_frame(header.salt, 3, 200, b"from the future")
    segment[end : end + len(unknown)] = unknown
    journal = open_on(backend, disk)
    fill(journal, 2, size=20)
    assert [each.sequence for each in read_all(journal)] == [1, 2, 3, 4, 5]


def test_disk_that_gives_nothing_is_an_error_and_no_new_store(backend):
    disk = MemoryDisk()
    fill(open_on(backend, disk), 3)
    disk.fault = lambda _number, name: -5 if name == "read" else 0
    with pytest.raises(OSError):
        open_on(backend, disk)
    disk.fault = None
    assert len(read_all(open_on(backend, disk))) == 3


def test_unreadable_file_is_set_aside_only_when_told_to(backend):
    disk = MemoryDisk()
    fill(open_on(backend, disk), 25)
    calls: list[int] = []

    def fail_second_segment(_number: int, name: str) -> int:
        """The cursor takes one `open` and the first segment another; then three in a row fail."""
        calls.append(name == "open")
        return -5 if name == "open" and 3 <= sum(calls) <= 5 else 0

    disk.fault = fail_second_segment
    with pytest.raises(OSError):
        open_on(backend, disk)
    assert "00000002.bfs" in disk.files
    calls.clear()
    journal = open_on(backend, disk, LIMITS._replace(flags=j.JOURNAL_SALVAGE))
    assert "00000002.aside" in disk.files
    assert journal.report().alarms & j.ALARM_SET_ASIDE
    found = read_all(journal)
    assert sum(each.samples for each in found) == 50
    assert any(each.type == j.RECORD_DAMAGED for each in found)


def test_journal_on_a_real_directory(backend, tmp_path):
    journal = backend.open_journal(str(tmp_path), LIMITS, STORE_ID, SECOND)
    fill(journal, 25)
    assert acknowledge(journal, read_all(journal)[:20]) == r.OK
    commit(journal)
    journal.close()
    again = backend.open_journal(str(tmp_path), LIMITS, bytes(16), SECOND)
    assert again.report().store_id == STORE_ID
    assert [each.sequence for each in read_all(again)] == list(range(21, 26))
    again.close()
    with pytest.raises(OSError):
        backend.open_journal(str(tmp_path / "missing"), LIMITS, STORE_ID, SECOND)
