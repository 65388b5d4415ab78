"""The Modbus wire format: requests and answers as records, and their bytes. Pure; for client, server and tests.

A frame on TCP (an ADU) is the MBAP header and a PDU: function code and data. A request is one of five records, each of
which `encode_request` turns into a PDU and `decode_request` back. An answer has no record of its own: what it must look
like follows from its request, so `decode_answer` is given both, and what does not match in every byte is a `Mismatch`.
Values travel as *wire bytes*: registers big-endian, coils eight to a byte with the first in the least significant bit.

Source: Modbus Application Protocol V1.1b3 (AP), Messaging on TCP/IP Implementation Guide V1.0b (TG).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Final, NamedTuple, TypeAlias

import msgspec

from bifrost.core.status import StatusCode
from bifrost.plc.modbus.address import Table

__all__ = [
    "ADU_BYTES_MAX",
    "LENGTH_END",
    "MBAP_BYTES",
    "MEI_IDENTIFICATION",
    "PDU_BYTES_MAX",
    "READ_COUNT_MAX",
    "READ_FUNCTIONS",
    "READ_WRITE_READ_COUNT_MAX",
    "READ_WRITE_WRITE_COUNT_MAX",
    "WRITE_COUNT_MAX",
    "Answer",
    "ExceptionCode",
    "FrameStatus",
    "Function",
    "Header",
    "Identification",
    "IdentificationRequest",
    "MaskWriteRequest",
    "Mismatch",
    "ReadRequest",
    "ReadWriteRequest",
    "Request",
    "WriteRequest",
    "decode_answer",
    "decode_identification",
    "decode_request",
    "encode_adu",
    "encode_answer",
    "encode_exception",
    "encode_identification",
    "encode_request",
    "exception_status",
    "exception_text",
    "is_write",
    "next_frame",
    "pack_bits",
    "unpack_bits",
]

PDU_BYTES_MAX: Final = 253  # 256 of a serial frame - unit id - CRC; AP 4.1.
MBAP_BYTES: Final = 7  # Transaction, protocol, length: 2 bytes each; unit: 1. TG 3.1.3.
ADU_BYTES_MAX: Final = MBAP_BYTES + PDU_BYTES_MAX  # 260; AP 4.1.
LENGTH_MIN: Final = 2  # The length field counts the unit id and the PDU, which has a function code at least; TG 3.1.3.
LENGTH_MAX: Final = 1 + PDU_BYTES_MAX
LENGTH_END: Final = 6  # Bytes of the header up to and with the length field.
MEI_IDENTIFICATION: Final = 14  # MEI type of Read Device Identification; AP 6.21.
IDENTIFICATION_CODES: Final = range(1, 5)  # Basic, regular, extended, one object; AP 6.21.
COIL_ON: Final = 0xFF00  # AP 6.5; 0x0000 is off and every other value illegal.
OFFSETS: Final = 65_536  # An address is 16 bits; AP 4.4.
_EXCEPTION_BIT: Final = 0x80  # An exception answers with the function code + 0x80; AP 7.


class Function(IntEnum):
    """Function codes; AP 6. The name is the standard's."""

    READ_COILS = 1
    READ_DISCRETE_INPUTS = 2
    READ_HOLDING_REGISTERS = 3
    READ_INPUT_REGISTERS = 4
    WRITE_SINGLE_COIL = 5
    WRITE_SINGLE_REGISTER = 6
    WRITE_MULTIPLE_COILS = 15
    WRITE_MULTIPLE_REGISTERS = 16
    MASK_WRITE_REGISTER = 22
    READ_WRITE_MULTIPLE_REGISTERS = 23
    READ_DEVICE_IDENTIFICATION = 43


class ExceptionCode(IntEnum):
    """Why a device refuses; AP 7. Code 9 is not defined; 7 is from older editions."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_DATA_ADDRESS = 2
    ILLEGAL_DATA_VALUE = 3
    SERVER_DEVICE_FAILURE = 4
    ACKNOWLEDGE = 5
    SERVER_DEVICE_BUSY = 6
    NEGATIVE_ACKNOWLEDGE = 7
    MEMORY_PARITY_ERROR = 8
    GATEWAY_PATH_UNAVAILABLE = 10
    GATEWAY_TARGET_FAILED_TO_RESPOND = 11


READ_FUNCTIONS: Final[Mapping[Table, Function]] = {
    Table.COIL: Function.READ_COILS,
    Table.DISCRETE_INPUT: Function.READ_DISCRETE_INPUTS,
    Table.HOLDING_REGISTER: Function.READ_HOLDING_REGISTERS,
    Table.INPUT_REGISTER: Function.READ_INPUT_REGISTERS,
}
READ_COUNT_MAX: Final[Mapping[int, int]] = {
    Function.READ_COILS: 2000,  # AP 6.1.
    Function.READ_DISCRETE_INPUTS: 2000,  # AP 6.2.
    Function.READ_HOLDING_REGISTERS: 125,  # AP 6.3.
    Function.READ_INPUT_REGISTERS: 125,  # AP 6.4.
}
WRITE_COUNT_MAX: Final[Mapping[int, int]] = {
    Function.WRITE_SINGLE_COIL: 1,
    Function.WRITE_SINGLE_REGISTER: 1,
    Function.WRITE_MULTIPLE_COILS: 1968,  # AP 6.11.
    Function.WRITE_MULTIPLE_REGISTERS: 123,  # AP 6.12.
}
READ_WRITE_READ_COUNT_MAX: Final = 125  # AP 6.17.
READ_WRITE_WRITE_COUNT_MAX: Final = 121  # AP 6.17.
_BIT_FUNCTIONS = frozenset(
    (
        Function.READ_COILS,
        Function.READ_DISCRETE_INPUTS,
        Function.WRITE_SINGLE_COIL,
        Function.WRITE_MULTIPLE_COILS,
    )
)
_STATUSES = {
    ExceptionCode.ILLEGAL_FUNCTION: StatusCode.BadNotSupported,
    ExceptionCode.ILLEGAL_DATA_ADDRESS: StatusCode.BadConfigurationError,
    ExceptionCode.ILLEGAL_DATA_VALUE: StatusCode.BadConfigurationError,
    ExceptionCode.SERVER_DEVICE_FAILURE: StatusCode.BadDeviceFailure,
    ExceptionCode.ACKNOWLEDGE: StatusCode.BadResourceUnavailable,
    ExceptionCode.SERVER_DEVICE_BUSY: StatusCode.BadResourceUnavailable,
    ExceptionCode.MEMORY_PARITY_ERROR: StatusCode.BadDeviceFailure,
    ExceptionCode.GATEWAY_PATH_UNAVAILABLE: StatusCode.BadNoCommunication,
    ExceptionCode.GATEWAY_TARGET_FAILED_TO_RESPOND: StatusCode.BadNoCommunication,
}


def exception_status(code: int, *, is_write: bool) -> StatusCode:
    """StatusCode of exception `code` (CONTRACT, "Values, time, quality"); BadDeviceFailure for one without meaning."""
    if is_write and code == ExceptionCode.ILLEGAL_DATA_VALUE:
        return StatusCode.BadOutOfRange
    return _STATUSES.get(code, StatusCode.BadDeviceFailure)  # type: ignore[call-overload, no-any-return]  # any int


def exception_text(code: int) -> str:
    """The device's words for people, for example ``exception 2 (illegal data address)``."""
    try:
        name = ExceptionCode(code).name.lower().replace("_", " ")
    except ValueError:
        name = "not defined by the standard"
    return f"exception {code} ({name})"


# ---------------------------------------------------------------- requests


class ReadRequest(msgspec.Struct, frozen=True):
    """Read `count` items from `offset` on: functions 1 to 4 (AP 6.1 to 6.4)."""

    function: int
    offset: int
    count: int


class WriteRequest(msgspec.Struct, frozen=True):
    """Write `count` items from `offset` on: functions 5, 6, 15, 16 (AP 6.5, 6.6, 6.11, 6.12). `data` is wire bytes."""

    function: int
    offset: int
    count: int
    data: bytes


class MaskWriteRequest(msgspec.Struct, frozen=True):
    """Register at `offset` = (register AND `and_mask`) OR (`or_mask` AND NOT `and_mask`); AP 6.16."""

    offset: int
    and_mask: int
    or_mask: int
    function: int = Function.MASK_WRITE_REGISTER


class ReadWriteRequest(msgspec.Struct, frozen=True):
    """Write `data` (wire bytes) at `write_offset`, then read `count` registers from `offset` on; AP 6.17."""

    offset: int
    count: int
    write_offset: int
    data: bytes
    function: int = Function.READ_WRITE_MULTIPLE_REGISTERS


class IdentificationRequest(msgspec.Struct, frozen=True):
    """Read identification objects from `object_id` on; `code` 1 basic, 2 regular, 3 extended, 4 one object; AP 6.21."""

    code: int
    object_id: int = 0
    function: int = Function.READ_DEVICE_IDENTIFICATION


Request: TypeAlias = ReadRequest | WriteRequest | MaskWriteRequest | ReadWriteRequest | IdentificationRequest


def is_write(request: Request) -> bool:
    """Whether `request` changes the device."""
    return isinstance(request, WriteRequest | MaskWriteRequest | ReadWriteRequest)


_FIVE = struct.Struct(">BHH")
_MULTIPLE = struct.Struct(">BHHB")
_MASK = struct.Struct(">BHHH")
_READ_WRITE = struct.Struct(">BHHHHB")
_IDENTIFICATION = struct.Struct(">BBBB")


def encode_request(request: Request) -> bytes:
    """PDU of `request`.

    Raises:
        ValueError: The standard has no such request: offset, count, or length of the data.
    """
    if not _is_possible(request):
        raise ValueError(f"no such Modbus request: {request!r}")
    if isinstance(request, ReadRequest):
        return _FIVE.pack(request.function, request.offset, request.count)
    if isinstance(request, WriteRequest):
        if request.function == Function.WRITE_SINGLE_COIL:
            return _FIVE.pack(request.function, request.offset, COIL_ON if request.data[0] & 1 else 0)
        if request.function == Function.WRITE_SINGLE_REGISTER:
            return struct.pack(">BH", request.function, request.offset) + request.data
        return _MULTIPLE.pack(request.function, request.offset, request.count, len(request.data)) + request.data
    if isinstance(request, MaskWriteRequest):
        return _MASK.pack(request.function, request.offset, request.and_mask, request.or_mask)
    if isinstance(request, ReadWriteRequest):
        written = len(request.data)
        head = (request.function, request.offset, request.count, request.write_offset, written // 2, written)
        return _READ_WRITE.pack(*head) + request.data
    return _IDENTIFICATION.pack(request.function, MEI_IDENTIFICATION, request.code, request.object_id)


def decode_request(pdu: bytes) -> Request | ExceptionCode:
    """The request in `pdu`, or the exception it is to be answered with, in the order of AP 7: function, then value.

    Address ranges are the device's affair and are not looked at.
    """
    if not pdu:
        return ExceptionCode.ILLEGAL_FUNCTION
    function = pdu[0]
    length = len(pdu)
    request: Request
    if function in READ_COUNT_MAX:
        if length != _FIVE.size:
            return ExceptionCode.ILLEGAL_DATA_VALUE
        request = ReadRequest(*_FIVE.unpack(pdu))
    elif function in (Function.WRITE_SINGLE_COIL, Function.WRITE_SINGLE_REGISTER):
        if length != _FIVE.size:
            return ExceptionCode.ILLEGAL_DATA_VALUE
        _, offset, value = _FIVE.unpack(pdu)
        if function == Function.WRITE_SINGLE_REGISTER:
            request = WriteRequest(function, offset, 1, pdu[3:])
        elif value not in (0, COIL_ON):
            return ExceptionCode.ILLEGAL_DATA_VALUE
        else:
            request = WriteRequest(function, offset, 1, b"\x01" if value else b"\x00")
    elif function in WRITE_COUNT_MAX:
        if length < _MULTIPLE.size or pdu[5] != length - _MULTIPLE.size:
            return ExceptionCode.ILLEGAL_DATA_VALUE
        _, offset, count, _ = _MULTIPLE.unpack_from(pdu)
        request = WriteRequest(function, offset, count, pdu[_MULTIPLE.size :])
    elif function == Function.MASK_WRITE_REGISTER:
        if length != _MASK.size:
            return ExceptionCode.ILLEGAL_DATA_VALUE
        _, offset, and_mask, or_mask = _MASK.unpack(pdu)
        request = MaskWriteRequest(offset, and_mask, or_mask)
    elif function == Function.READ_WRITE_MULTIPLE_REGISTERS:
        if length < _READ_WRITE.size or pdu[9] != length - _READ_WRITE.size:
            return ExceptionCode.ILLEGAL_DATA_VALUE
        _, offset, count, write_offset, write_count, written = _READ_WRITE.unpack_from(pdu)
        if write_count * 2 != written:
            return ExceptionCode.ILLEGAL_DATA_VALUE
        request = ReadWriteRequest(offset, count, write_offset, pdu[_READ_WRITE.size :])
    elif function == Function.READ_DEVICE_IDENTIFICATION and pdu[1:2] in (b"", bytes((MEI_IDENTIFICATION,))):
        if length != _IDENTIFICATION.size:
            return ExceptionCode.ILLEGAL_DATA_VALUE
        request = IdentificationRequest(pdu[2], pdu[3])
    else:
        return ExceptionCode.ILLEGAL_FUNCTION
    return request if _is_possible(request) else ExceptionCode.ILLEGAL_DATA_VALUE


def _is_possible(request: Request) -> bool:
    """Whether the numbers of `request` are within the standard's limits. Offset + count is the device's affair."""
    if isinstance(request, IdentificationRequest):
        return request.code in IDENTIFICATION_CODES and 0 <= request.object_id <= 255
    if not 0 <= request.offset < OFFSETS:
        return False
    if isinstance(request, ReadRequest):
        return 1 <= request.count <= READ_COUNT_MAX.get(request.function, 0)
    if isinstance(request, WriteRequest):
        data_bytes = (request.count + 7) // 8 if request.function in _BIT_FUNCTIONS else request.count * 2
        return 1 <= request.count <= WRITE_COUNT_MAX.get(request.function, 0) and len(request.data) == data_bytes
    if isinstance(request, MaskWriteRequest):
        return 0 <= request.and_mask < OFFSETS and 0 <= request.or_mask < OFFSETS
    written = len(request.data)
    return (
        1 <= request.count <= READ_WRITE_READ_COUNT_MAX
        and 0 <= request.write_offset < OFFSETS
        and 2 <= written <= READ_WRITE_WRITE_COUNT_MAX * 2
        and written % 2 == 0
    )


# ---------------------------------------------------------------- answers


class Answer(NamedTuple):
    """What a device said: `exception` is 0 and `data` the wire bytes read (nothing for a write), or it is a code."""

    exception: int
    data: bytes


class Mismatch(Enum):
    """Why a frame is not the answer to a request; the value reads after "the answer has"."""

    TRANSACTION = "a transaction id that nobody waits for"
    UNIT = "another unit id than asked"
    FUNCTION = "another function code than asked"
    COUNT = "another amount of data than asked"
    ECHO = "not the echo of what was written"


def encode_exception(function: int, code: int) -> bytes:
    """PDU that refuses a request of `function` with exception `code`; AP 7."""
    return bytes((function | _EXCEPTION_BIT, code))


def encode_answer(request: Request, data: bytes = b"") -> bytes:
    """PDU that grants `request`; `data` are the wire bytes read, or the body of `encode_identification`."""
    if isinstance(request, ReadRequest | ReadWriteRequest):
        return bytes((request.function, len(data))) + data
    if isinstance(request, IdentificationRequest):
        return bytes((request.function, MEI_IDENTIFICATION, request.code)) + data
    return _echo(request)


def decode_answer(request: Request, pdu: bytes) -> Answer | Mismatch:
    """What `pdu` says to `request`: granted or refused, or why it is no answer to it. Every byte is checked."""
    function = request.function
    if not pdu or pdu[0] & ~_EXCEPTION_BIT != function:
        return Mismatch.FUNCTION
    if pdu[0] != function:
        return Answer(pdu[1], b"") if len(pdu) == 2 and pdu[1] else Mismatch.COUNT
    if isinstance(request, ReadRequest | ReadWriteRequest):
        data_bytes = (request.count + 7) // 8 if function in _BIT_FUNCTIONS else request.count * 2
        if len(pdu) != 2 + data_bytes or pdu[1] != data_bytes:
            return Mismatch.COUNT
        return Answer(0, pdu[2:])
    if isinstance(request, IdentificationRequest):
        if pdu[1:3] != bytes((MEI_IDENTIFICATION, request.code)):
            return Mismatch.ECHO
        return Mismatch.COUNT if decode_identification(pdu[3:]) is None else Answer(0, pdu[3:])
    return Answer(0, b"") if pdu == _echo(request) else Mismatch.ECHO


def _echo(request: WriteRequest | MaskWriteRequest) -> bytes:
    """The only good answer to a write: the request (AP 6.5, 6.6, 6.16), or its offset and count (AP 6.11, 6.12)."""
    if isinstance(request, WriteRequest) and request.function in (
        Function.WRITE_MULTIPLE_COILS,
        Function.WRITE_MULTIPLE_REGISTERS,
    ):
        return _FIVE.pack(request.function, request.offset, request.count)
    return encode_request(request)


class Identification(NamedTuple):
    """A part of a device's identification: `objects` by id, and where to go on when there is more; AP 6.21."""

    conformity: int
    next_object_id: int | None
    objects: dict[int, bytes]


def encode_identification(part: Identification) -> bytes:
    """Body of a Read Device Identification answer, after MEI type and code."""
    more = 0 if part.next_object_id is None else 0xFF
    body = bytearray((part.conformity, more, part.next_object_id or 0, len(part.objects)))
    for object_id, value in part.objects.items():
        body += bytes((object_id, len(value))) + value
    return bytes(body)


def decode_identification(body: bytes) -> Identification | None:
    """What `encode_identification` made; None when the lengths in `body` do not add up."""
    if len(body) < 4 or body[1] not in (0, 0xFF):
        return None
    objects: dict[int, bytes] = {}
    place = 4
    for _ in range(body[3]):
        if place + 2 > len(body):
            return None
        end = place + 2 + body[place + 1]
        objects[body[place]] = body[place + 2 : end]
        place = end
    if place != len(body):
        return None
    return Identification(body[0], body[2] if body[1] else None, objects)


# ---------------------------------------------------------------- frames


class Header(NamedTuple):
    """The MBAP header; TG 3.1.3. `length` counts the unit id and the PDU."""

    transaction: int
    protocol: int
    length: int
    unit: int


class FrameStatus(Enum):
    """What stands at the front of the bytes received."""

    WHOLE = "a whole frame"
    PARTIAL = "the beginning of a frame"
    WRONG_PROTOCOL = "a header whose protocol id is not 0"
    WRONG_LENGTH = "a header whose length is not 2 to 254"


_MBAP = struct.Struct(">HHHB")
_PARTIAL = (FrameStatus.PARTIAL, None)


def encode_adu(transaction: int, unit: int, pdu: bytes) -> bytes:
    """Frame for TCP: MBAP header and `pdu`; `transaction` 0 to 65,535, `unit` 0 to 255."""
    return _MBAP.pack(transaction, 0, 1 + len(pdu), unit) + pdu


def next_frame(received: bytes | bytearray, start: int = 0) -> tuple[FrameStatus, Header | None]:
    """What begins at `start`, and its header when there is a whole frame of `LENGTH_END + header.length` bytes.

    A frame of another protocol (`WRONG_PROTOCOL`) comes with its header too, so that it can be skipped. `WRONG_LENGTH`
    is reported as soon as the length field is there: nobody waits for bytes that no frame can have.
    """
    at_hand = len(received) - start
    if at_hand < LENGTH_END:
        return _PARTIAL
    length = received[start + 4] << 8 | received[start + 5]
    if not LENGTH_MIN <= length <= LENGTH_MAX:
        return FrameStatus.WRONG_LENGTH, None
    if at_hand < LENGTH_END + length:
        return _PARTIAL
    header = Header(*_MBAP.unpack_from(received, start))
    return (FrameStatus.WRONG_PROTOCOL if header.protocol else FrameStatus.WHOLE), header


# ---------------------------------------------------------------- wire bytes


def pack_bits(values: Sequence[bool]) -> bytes:
    """Wire bytes of coils or inputs: eight to a byte, the first in the least significant bit; AP 6.1."""
    number = sum(1 << index for index, value in enumerate(values) if value)
    return number.to_bytes((len(values) + 7) // 8, "little")


def unpack_bits(data: bytes, count: int) -> list[bool]:
    """The first `count` bits of `data`; what `pack_bits` packed."""
    number = int.from_bytes(data, "little")
    return [bool(number >> index & 1) for index in range(count)]
