"""The journal of the contract over the compiled module.

Files are the system's unless a test brings its own: then each call of C comes back to Python.
"""

from __future__ import annotations

import errno
import os
from array import array
from typing import TYPE_CHECKING, Any, Final

from bifrost._native import journal_records as j
from bifrost._native import records as r
from bifrost._native._c_table import allocate
from bifrost._native._core import ffi, lib
from bifrost._native._py_journal import segment_numbers

if TYPE_CHECKING:
    from bifrost._native.contract import JournalIO, Readable
    from bifrost._native.journal_records import JournalLimits, JournalRecord, JournalReport

_UINT8: Final = ffi.typeof("uint8_t[]")
_UINT32: Final = ffi.typeof("uint32_t[]")
_UINT64: Final = ffi.typeof("uint64_t[]")
_STORE_ID_BYTES: Final = 16
_from_buffer: Final = ffi.from_buffer
_append: Final = lib.bf_journal_append  # Called for each record.


def journal_bytes(limits: JournalLimits) -> int:
    """See `contract.Backend.journal_bytes`."""
    return int(lib.bf_journal_bytes(ffi.new("bf_journal_limits *", limits), 0))


def open_journal(
    directory: str, limits: JournalLimits, store_id: bytes, now_ns: int, io: JournalIO | None = None
) -> Journal:
    """See `contract.Backend.open_journal`."""
    if len(store_id) != _STORE_ID_BYTES:
        raise ValueError("a store's identity has 16 bytes")
    return Journal(limits, _System(directory) if io is None else _Given(io), store_id, now_ns)


class _System:
    """The system's files in one directory."""

    def __init__(self, directory: str) -> None:
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._c_fd = ffi.new("int *", self._fd)
        self.c_io = ffi.new("bf_journal_io *")
        lib.bf_journal_io_system(self.c_io, self._c_fd)

    def list(self) -> list[str]:
        return os.listdir(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class _Given:
    """Files that Python brings."""

    def __init__(self, io: JournalIO) -> None:
        self.list = io.list

        def read(_: object, fd: int, offset: int, data: Any, size: int) -> int:
            taken = io.read(fd, offset, size)
            if isinstance(taken, int):
                return taken
            ffi.memmove(data, taken, len(taken))
            return len(taken)

        def text(name: Any) -> str:
            return ffi.string(name).decode()  # type: ignore[no-any-return]  # cffi has no types

        calls = {
            "open": lambda _, name, create: io.open(text(name), bool(create)),
            "close": lambda _, fd: io.close(fd),
            "allocate": lambda _, fd, size: io.allocate(fd, size),
            "read": read,
            "write": lambda _, fd, offset, data, size: io.write(fd, offset, ffi.buffer(data, size)[:]),
            "sync": lambda _, fd: io.sync(fd),
            "unlink": lambda _, name: io.unlink(text(name)),
            "rename": lambda _, name, new_name: io.rename(text(name), text(new_name)),
            "sync_directory": lambda _: io.sync_directory(),
        }
        self.c_io = ffi.new("bf_journal_io *")
        self._kept = {
            name: ffi.callback(dict(ffi.typeof("bf_journal_io").fields)[name].type, call, error=-errno.EIO)
            for name, call in calls.items()
        }
        for name, call in self._kept.items():
            setattr(self.c_io, name, call)

    def close(self) -> None:
        """Nothing of ours is open."""


class Journal:
    """`contract.Journal` over `bf_journal`."""

    def __init__(self, limits: JournalLimits, io: _System | _Given, store_id: bytes, now_ns: int) -> None:
        self._io = io
        self._is_open = False
        try:
            numbers, last_number = segment_numbers(io.list())
            c_limits = ffi.new("bf_journal_limits *", limits)
            self._memory = allocate(lib.bf_journal_bytes(c_limits, len(numbers)), "journal")
            self._bytes = allocate(limits.batch_bytes, "journal")
            self._records = ffi.new("bf_journal_record[]", j.JOURNAL_READ_RECORDS_MAX)
            made, error = ffi.new("bf_journal **"), ffi.new("int32_t *")
            status = lib.bf_journal_open(
                self._memory,
                len(self._memory),
                c_limits,
                io.c_io,
                store_id,
                _from_buffer(_UINT32, array("I", numbers)),
                len(numbers),
                last_number,
                now_ns,
                made,
                error,
            )
            if status != r.OK:
                raise OSError(error[0], "the journal can't be read")
        except BaseException:
            io.close()
            raise
        self._journal = made[0]
        self._is_open = True

    def stream(self, name: bytes) -> int:
        """See `contract.Journal.stream`."""
        return lib.bf_journal_stream(self._journal, name, len(name))  # type: ignore[no-any-return]  # cffi has no types

    def streams(self) -> list[bytes]:
        """See `contract.Journal.streams`."""
        names, length = list[bytes](), ffi.new("size_t *")
        while name := lib.bf_journal_stream_name(self._journal, len(names), length):
            names.append(ffi.buffer(name, length[0])[:])
        return names

    def append(self, stream: int, lane: int, samples: int, first_ns: int, last_ns: int, payload: Readable) -> int:
        """See `contract.Journal.append`."""
        source = payload if type(payload) is bytes else _from_buffer(_UINT8, payload)
        try:
            return _append(  # type: ignore[no-any-return]  # cffi has no types
                self._journal, stream, lane, samples, first_ns, last_ns, source, len(source)
            )
        except OverflowError:
            return r.E_ARGUMENT

    def acknowledge(self, sequences: array[int], counts: array[int], samples: array[int], reason: int) -> int:
        """See `contract.Journal.acknowledge`."""
        if not len(sequences) == len(counts) == len(samples) or reason < 0:
            return r.E_ARGUMENT
        return lib.bf_journal_acknowledge(  # type: ignore[no-any-return]  # cffi has no types
            self._journal,
            len(sequences),
            _from_buffer(_UINT64, sequences),
            _from_buffer(_UINT32, counts),
            _from_buffer(_UINT32, samples),
            reason,
        )

    def begin(self, counters: bytes, now_ns: int, expire_before_ns: int) -> int:
        """See `contract.Journal.begin`."""
        return lib.bf_journal_begin(  # type: ignore[no-any-return]  # cffi has no types
            self._journal, counters, len(counters), now_ns, expire_before_ns
        )

    def commit(self, flags: int) -> int:
        """See `contract.Journal.commit`."""
        return lib.bf_journal_commit(self._journal, flags)  # type: ignore[no-any-return]  # cffi has no types

    def read(self, sequence: int, through: int, count: int) -> tuple[int, list[JournalRecord]]:
        """See `contract.Journal.read`."""
        got = ffi.new("size_t *")
        wanted = max(0, min(count, j.JOURNAL_READ_RECORDS_MAX))
        status = lib.bf_journal_read(self._journal, sequence, through, self._records, wanted, self._bytes, got)
        return status, [self._record(self._records[index]) for index in range(got[0])]

    def _record(self, record: Any) -> JournalRecord:
        return j.JournalRecord(
            record.sequence,
            record.type,
            record.records,
            record.stream,
            record.lane,
            record.samples,
            record.first_ns,
            record.last_ns,
            ffi.buffer(self._bytes + record.offset, record.length)[:],
        )

    def report(self) -> JournalReport:
        """See `contract.Journal.report`."""
        report = ffi.new("bf_journal_report *")
        lib.bf_journal_report_get(self._journal, report)
        return j.JournalReport(
            store_id=bytes(report.store_id),
            next_sequence=report.next_sequence,
            written_sequence=report.written_sequence,
            durable_sequence=report.durable_sequence,
            base_sequence=report.base_sequence,
            samples_total=report.samples_total,
            done=tuple(report.done),
            records_damaged=report.records_damaged,
            dropped_by_stream=tuple(report.dropped_by_stream),
            dropped_first_ns=report.dropped_first_ns,
            dropped_last_ns=report.dropped_last_ns,
            segments_count=report.segments_count,
            disk_bytes=report.disk_bytes,
            generation=report.generation,
            alarms=report.alarms,
            errno=report.error,
            was_clean=bool(report.was_clean),
            counters=bytes(report.counters)[: report.counters_length],
        )

    def close(self) -> int:
        """See `contract.Journal.close`."""
        if not self._is_open:
            return r.OK
        self._is_open = False
        status: int = lib.bf_journal_close(self._journal)
        self._io.close()
        return status
