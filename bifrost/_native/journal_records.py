"""What crosses the seam at the journal, as records: limits, what is read back, and where it stands.

The twins of the structs in the journal's part of `csrc/bifrost.h`. What lies on the disk is specified in
`docs/reference/formats.md`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

JOURNAL_STREAMS_MAX: Final = 64  # of one store, in all its life
JOURNAL_STREAM_NAME_BYTES_MAX: Final = 64
JOURNAL_RANGES_MAX: Final = 64  # acknowledged out of order, in the cursor
JOURNAL_COUNTERS_BYTES_MAX: Final = 256
JOURNAL_REASONS: Final = 8
JOURNAL_READ_RECORDS_MAX: Final = 1024  # that one call of `read` gives

# Why samples are done with: `acknowledge` takes all of them, the journal itself uses CAP, AGE and DAMAGED.
DONE_WITH_ACKNOWLEDGED: Final = 0
DONE_WITH_CAP: Final = 1  # the disk cap was reached: the oldest segment was dropped
DONE_WITH_AGE: Final = 2
DONE_WITH_QUARANTINE: Final = 3
DONE_WITH_DAMAGED: Final = 4  # what the disk gave back was not what was written

LANE_LIVE: Final = 0
LANE_BACKFILL: Final = 1

COMMIT_SYNC: Final = 1  # what is written is made durable
COMMIT_SYNC_CURSOR: Final = 2  # so is the cursor (it always is before a segment is deleted)

JOURNAL_DROP_OLDEST: Final = 1
JOURNAL_SALVAGE: Final = 2  # at open: what can't be read is set aside, though it may be readable later

RECORD_DATA: Final = 1
RECORD_COMMIT: Final = 2
RECORD_STREAM: Final = 3
RECORD_DAMAGED: Final = 255  # only from `read`, never on the disk

ALARM_SYNC_FAILED: Final = 1  # a sync failed; what it was to make durable was written again elsewhere, or waits
ALARM_DAMAGE: Final = 2  # bytes on the disk were not what was written
ALARM_WRITE_FAILED: Final = 4  # the last commit failed and its records wait in memory; cleared by one that succeeds
ALARM_CURSOR_LOST: Final = 8  # no cursor could be read at open: all there is will be sent again
ALARM_SET_ASIDE: Final = 16  # a file that is unreadable, of an unknown version or another store is now `.aside`


class JournalLimits(NamedTuple):
    """Sizes of a journal (`bf_journal_limits`).

    Attributes:
        segment_bytes: Of each segment file, which is the least that can be dropped; up to 16 MiB.
        segments_count_max: Segment files, at least 2. At the limit the oldest is dropped, or `commit` gives E_FULL.
        batch_bytes: Each of the two batches in memory; `append` gives E_FULL when one has no room.
        record_bytes_max: Longest payload of one record; a batch holds one at least.
        acknowledgements_count_max: Acknowledgements between two commits; `acknowledge` gives E_FULL beyond.
        flags: `JOURNAL_…` bits.
    """

    segment_bytes: int = 4 << 20
    segments_count_max: int = 63
    batch_bytes: int = 256 << 10
    record_bytes_max: int = 64 << 10
    acknowledgements_count_max: int = 1024
    flags: int = JOURNAL_DROP_OLDEST


class JournalRecord(NamedTuple):
    """One record as `read` gives it.

    Attributes:
        sequence: From 1, without gaps in what is appended; of DAMAGED: the first that is missing.
        type: `RECORD_DATA`; or `RECORD_DAMAGED`: `records` records with `samples` samples can't be read any more. They
            are to be acknowledged with `DONE_WITH_DAMAGED` like a record that was read.
        records: How many it stands for: 1 but for DAMAGED.
        stream: Number of the stream, as `stream` gave it.
        lane: `LANE_LIVE` or `LANE_BACKFILL`.
        samples: Samples in it.
        first_ns: Time of the earliest sample, UTC nanoseconds.
        last_ns: Time of the latest, rounded up to whole milliseconds after the earliest, at most 49 days after it.
        payload: What was appended.
    """

    sequence: int
    type: int
    records: int
    stream: int
    lane: int
    samples: int
    first_ns: int
    last_ns: int
    payload: bytes


class JournalReport(NamedTuple):
    """Where a journal stands after the last commit (`bf_journal_report`). Samples count from the store's start.

    `samples_total = sum(done) + samples buffered` holds at every moment and after every crash: `samples_buffered`.

    Attributes:
        store_id: 16 bytes, the identity of the store: with the sequence it identifies a record for ever.
        next_sequence: What the next appended record gets.
        written_sequence: Last record that is in a file, 0: none. It survives a killed process.
        durable_sequence: Last record that is durable. It survives a power cut.
        base_sequence: Lowest record that is not done with; after the last one written when there is none.
        samples_total: Samples of all records written.
        done: Samples done with as of the last commit, by `DONE_WITH_…`: 8 numbers.
        records_damaged: Records that could not be read, since open.
        dropped_by_stream: Samples dropped by cap or age since open, for each of 64 streams.
        dropped_first_ns: Time of the earliest sample among them, UTC nanoseconds; 0 while there are none.
        dropped_last_ns: Time of the latest.
        segments_count: Segment files.
        disk_bytes: Their size and the cursor's.
        generation: Grows with every commit and every save of the cursor.
        alarms: `ALARM_…` bits.
        errno: Why the last system call failed that did, 0: none did.
        was_clean: Whether the journal had been closed before it was opened, or is new.
        counters: What the newest commit that could be read at open had been given, empty when there is none.
    """

    store_id: bytes
    next_sequence: int
    written_sequence: int
    durable_sequence: int
    base_sequence: int
    samples_total: int
    done: tuple[int, ...]
    records_damaged: int
    dropped_by_stream: tuple[int, ...]
    dropped_first_ns: int
    dropped_last_ns: int
    segments_count: int
    disk_bytes: int
    generation: int
    alarms: int
    errno: int
    was_clean: bool
    counters: bytes

    @property
    def samples_buffered(self) -> int:
        """Samples written and not done with."""
        return self.samples_total - sum(self.done)
