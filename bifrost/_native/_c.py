"""The contract over the compiled module `_core`: converts arguments, keeps memory alive, and decides nothing.

The compiled functions read and write the caller's own buffers; nothing is copied on the way in but what `records`
packs. A call releases the interpreter's lock, so no call shares scratch memory with another one, except where the
contract allows only one caller at a time.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final, cast

from bifrost._native import records
from bifrost._native._c_journal import journal_bytes, open_journal
from bifrost._native._c_scan import Scan, Shell
from bifrost._native._c_table import Table, as_decodes
from bifrost._native._core import ffi, lib
from bifrost._native.records import ScanLimits, ShellLimits, TableLimits

if TYPE_CHECKING:
    from bifrost._native import contract
    from bifrost._native.contract import AnswerDecoder, Readable, Writable

__all__ = [
    "BACKEND",
    "crc16",
    "gather",
    "journal_bytes",
    "make_scan",
    "make_shell",
    "make_table",
    "modbus_answer_decoder",
    "open_journal",
    "scan_bytes",
    "shell_bytes",
    "table_bytes",
    "tune_heap",
]

BACKEND = "c"

_UINT8: Final = ffi.typeof("uint8_t[]")
_UINT32: Final = ffi.typeof("uint32_t[]")
_UINT64: Final = ffi.typeof("uint64_t[]")

_from_buffer: Final = ffi.from_buffer
_answer_decode: Final = lib.bf_modbus_answer_decode
_crc16: Final = lib.bf_crc16


def crc16(data: Readable) -> int:
    """See `contract.Backend.crc16`."""
    source = data if type(data) is bytes else _from_buffer(_UINT8, data)
    return int(_crc16(source, len(source)))


def modbus_answer_decoder(
    unit: int, function: int, count: int, type_code: int, order: int, out: Writable
) -> AnswerDecoder:
    """See `contract.Backend.modbus_answer_decoder`."""
    target = _from_buffer(_UINT8, out, True)
    question = ffi.new("bf_modbus_question *", (unit, function, type_code, order, count, 0, target, len(target)))

    def decode(frame: bytes, transaction: int, _kept: object = target) -> int:
        return _answer_decode(question, transaction, frame, len(frame))  # type: ignore[no-any-return]  # C has no types

    return decode


def gather(body: Readable, walk: int, entries: Readable, bytes_max: int) -> tuple[int, array[int], array[int], bytes]:
    """See `contract.Backend.gather`."""
    packed = as_decodes(entries)
    if packed is None:
        return records.E_ARGUMENT, array("Q"), array("I"), b""
    source = _from_buffer(_UINT8, body)
    values = array("Q", bytes(8 * len(packed)))
    statuses = array("I", bytes(4 * len(packed)))
    taken = ffi.new(_UINT8, bytes_max)
    status = lib.bf_gather(
        source,
        len(source),
        walk,
        packed,
        len(packed),
        _from_buffer(_UINT64, values),
        _from_buffer(_UINT32, statuses),
        taken,
        bytes_max,
    )
    if status != records.OK:
        return status, array("Q"), array("I"), b""
    return status, values, statuses, ffi.buffer(taken, _used(packed, values, statuses))[:]


def _used(packed: Any, values: array[int], statuses: array[int]) -> int:
    """End of the last text or array that was appended."""
    for index in range(len(values) - 1, -1, -1):
        entry = packed[index]
        has_bytes = entry.type == records.TYPE_STRING or entry.flags & records.DECODE_ARRAY
        if has_bytes and statuses[index] == records.GOOD:
            return (values[index] >> 32) + (values[index] & 0xFFFF_FFFF)
    return 0


def table_bytes(limits: TableLimits) -> int:
    """See `contract.Backend.table_bytes`."""
    return int(lib.bf_table_bytes(ffi.new("bf_table_limits *", limits)))


def make_table(limits: TableLimits) -> Table:
    """See `contract.Backend.make_table`."""
    return Table(limits)


def scan_bytes(limits: ScanLimits) -> int:
    """See `contract.Backend.scan_bytes`."""
    return int(lib.bf_scan_bytes(ffi.new("bf_scan_limits *", limits)))


def make_scan(limits: ScanLimits, table: contract.Table, seed: int) -> Scan:
    """See `contract.Backend.make_scan`."""
    return Scan(limits, cast("Table", table), seed)


def shell_bytes(limits: ShellLimits, scan_limits: ScanLimits) -> int:
    """See `contract.Backend.shell_bytes`."""
    return int(lib.bf_shell_bytes(ffi.new("bf_shell_limits *", limits), ffi.new("bf_scan_limits *", scan_limits)))


def make_shell(limits: ShellLimits, scan_limits: ScanLimits, scan: contract.Scan) -> Shell | None:
    """See `contract.Backend.make_shell`."""
    return Shell(limits, scan_limits, cast("Scan", scan))


def tune_heap() -> int:
    """See `contract.Backend.tune_heap`."""
    return int(lib.bf_heap_tune())
