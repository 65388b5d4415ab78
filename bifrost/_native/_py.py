"""The contract in pure Python: the same statuses and the same bytes as the C side, on every input.

`array` and `struct` move the data in whole frames; `_py_decode`, `_py_table` and `_py_scan` hold the larger parts. It
has no shell: the asyncio shell of `plc.scan` serves instead. One thread at a time may use an object of this backend.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from bifrost._native import records as r
from bifrost._native._py_decode import TYPE_BYTES, gather, reorder, unpack_bits
from bifrost._native._py_journal import journal_bytes, open_journal
from bifrost._native._py_table import Table, table_bytes

if TYPE_CHECKING:
    from bifrost._native import contract
    from bifrost._native.contract import AnswerDecoder, Readable, Writable
    from bifrost._native.records import ScanLimits, ShellLimits, TableLimits

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

BACKEND = "py"

_POLYNOMIAL: Final = 0xA001  # 0x8005 reflected; Modbus over Serial Line V1.02, 6.2.2
_HEADER: Final = struct.Struct(">HHHBBB")  # MBAP, function, byte count; Messaging on TCP/IP V1.0b, 3.1.3
_MBAP_LENGTH_END: Final = 6  # The length field counts from here.
_LENGTH_EXCEPTION: Final = 3  # unit, function, exception code
_LENGTH_MAX: Final = 254  # unit + PDU; PDU 253. Application Protocol V1.1b3, 4.1
_EXCEPTION_FLAG: Final = 0x80  # V1.1b3, 7
_BITS_COUNT_MAX: Final = 2000  # V1.1b3, 6.1 and 6.2
_REGISTERS_COUNT_MAX: Final = 125  # V1.1b3, 6.3 and 6.4

# What the engine's objects take, measured with tracemalloc and rounded up; a test measures again.
_LINK_BYTES: Final = 2_048  # of one link
_QUEUED_BYTES: Final = 1_024  # of one queued request


def _crc_table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_CRC_TABLE: Final = tuple(map(_crc_table_entry, range(256)))


def crc16(data: Readable) -> int:
    """See `contract.Backend.crc16`."""
    table = _CRC_TABLE
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def modbus_answer_decoder(
    unit: int, function: int, count: int, type_code: int, order: int, out: Writable
) -> AnswerDecoder:
    """See `contract.Backend.modbus_answer_decoder`."""
    target = memoryview(out).cast("B")
    shape = _answer_shape(function, count, type_code, order, len(target))
    if isinstance(shape, int):
        return lambda frame, transaction: shape
    width, body_bytes, out_bytes = shape
    whole = _HEADER.size + body_bytes
    stop = whole if function <= 2 else _HEADER.size + out_bytes

    def decode(frame: bytes, transaction: int) -> int:
        expected = (transaction, 0, body_bytes + _LENGTH_EXCEPTION, unit, function, body_bytes)
        if len(frame) != whole or _HEADER.unpack_from(frame) != expected:
            return _what_is_wrong(frame, transaction, unit, function, body_bytes)
        body = frame[_HEADER.size : stop]
        target[:out_bytes] = unpack_bits(body, 0, count) if function <= 2 else reorder(body, width, order)
        return r.OK

    return decode


def _answer_shape(function: int, count: int, type_code: int, order: int, room: int) -> tuple[int, int, int] | int:
    """Bytes of an element, of the body, and of all that is written; or the status that refuses the question."""
    if not 1 <= function <= 4 or order > r.ORDER_SWAP_BYTES | r.ORDER_SWAP_WORDS:
        return r.E_ARGUMENT
    if function <= 2:
        if not 1 <= count <= _BITS_COUNT_MAX or type_code != r.TYPE_BOOL:
            return r.E_ARGUMENT
        shape = 1, (count + 7) // 8, count
    else:
        if not 1 <= count <= _REGISTERS_COUNT_MAX or not r.TYPE_INT16 <= type_code <= r.TYPE_FLOAT64:
            return r.E_ARGUMENT
        width = TYPE_BYTES[type_code]
        shape = width, count * 2, count * 2 // width * width
    return shape if room >= shape[2] else r.E_SPACE


def _what_is_wrong(frame: bytes, transaction: int, unit: int, function: int, body_bytes: int) -> int:
    """Status of a frame that is not the good answer, in the order of the bytes; see `frame_check` in modbus.c."""
    known = len(frame)
    found_transaction, protocol, announced, found_unit, found_function, last = _HEADER.unpack(
        frame[: _HEADER.size].ljust(_HEADER.size, b"\0")
    )
    is_exception = found_function == function | _EXCEPTION_FLAG
    # (bytes that must be there, whether they are wrong, what is wrong then)
    checks = (
        (2, found_transaction != transaction, r.E_TRANSACTION),
        (4, protocol != 0, r.E_PROTOCOL),
        (6, not _LENGTH_EXCEPTION <= announced <= _LENGTH_MAX, r.E_LENGTH),
        (7, found_unit != unit, r.E_UNIT),
        (8, not is_exception and found_function != function, r.E_FUNCTION),
        (8, is_exception and announced != _LENGTH_EXCEPTION, r.E_LENGTH),
        (9, not is_exception and last != body_bytes, r.E_COUNT),
        (9, not is_exception and announced != _LENGTH_EXCEPTION + body_bytes, r.E_LENGTH),
        (_MBAP_LENGTH_END + announced, known > _MBAP_LENGTH_END + announced, r.E_LENGTH),
    )
    for needed, is_wrong, status in checks:
        if known < needed:
            return r.PARTIAL
        if is_wrong:
            return status
    return r.E_EXCEPTION


def make_table(limits: TableLimits) -> Table:
    """See `contract.Backend.make_table`."""
    return Table(limits)


def scan_bytes(limits: ScanLimits) -> int:
    """See `contract.Backend.scan_bytes`."""
    frames = limits.window_max * limits.request_bytes_max + 2 * limits.frame_bytes_max
    queued = _QUEUED_BYTES + limits.request_bytes_max
    return limits.links_count_max * (_LINK_BYTES + frames) + limits.oneshots_count_max * queued + limits.scratch_bytes


def make_scan(limits: ScanLimits, table: contract.Table, seed: int) -> contract.Scan:
    """See `contract.Backend.make_scan`."""
    from bifrost._native._py_scan import Scan  # only a process that polls needs it

    return Scan(limits, table, seed)


def shell_bytes(limits: ShellLimits, scan_limits: ScanLimits) -> int:
    """See `contract.Backend.shell_bytes`."""
    return 0


def make_shell(limits: ShellLimits, scan_limits: ScanLimits, scan: contract.Scan) -> None:
    """See `contract.Backend.make_shell`."""
    return


def tune_heap() -> int:
    """See `contract.Backend.tune_heap`. Python has no way to do it."""
    return r.OK
