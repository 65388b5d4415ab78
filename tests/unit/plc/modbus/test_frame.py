"""The wire format: limits of the standard, refusals in its order, answers that match their request in every byte."""

from __future__ import annotations

import pytest

from bifrost.core.status import StatusCode
from bifrost.plc.modbus import frame
from bifrost.plc.modbus.frame import (
    Answer,
    ExceptionCode,
    FrameStatus,
    Function,
    IdentificationRequest,
    MaskWriteRequest,
    Mismatch,
    ReadRequest,
    ReadWriteRequest,
    WriteRequest,
)

VALUE = ExceptionCode.ILLEGAL_DATA_VALUE


@pytest.mark.parametrize(
    ("function", "most"),
    [(1, 2000), (2, 2000), (3, 125), (4, 125)],
)
def test_read_quantities_end_where_the_standard_says(function, most):
    for count in (1, most):
        request = ReadRequest(function, 0, count)
        assert frame.decode_request(frame.encode_request(request)) == request
    for count in (0, most + 1):
        with pytest.raises(ValueError, match="no such Modbus request"):
            frame.encode_request(ReadRequest(function, 0, count))
        assert frame.decode_request(bytes((function, 0, 0)) + count.to_bytes(2, "big")) is VALUE


@pytest.mark.parametrize(("function", "most", "bits"), [(15, 1968, 1), (16, 123, 16)])
def test_write_quantities_end_where_the_standard_says(function, most, bits):
    data = bytes((most * bits + 7) // 8)
    request = WriteRequest(function, 0, most, data)
    assert len(frame.encode_request(request)) <= frame.PDU_BYTES_MAX
    assert frame.decode_request(frame.encode_request(request)) == request
    for count in (0, most + 1):
        with pytest.raises(ValueError, match="no such Modbus request"):
            frame.encode_request(WriteRequest(function, 0, count, bytes((count * bits + 7) // 8)))


def test_read_write_quantities_end_where_the_standard_says():
    request = ReadWriteRequest(0, 125, 0, bytes(242))
    assert frame.decode_request(frame.encode_request(request)) == request
    for impossible in (
        ReadWriteRequest(0, 126, 0, b"\0\0"),
        ReadWriteRequest(0, 0, 0, b"\0\0"),
        ReadWriteRequest(0, 1, 0, b""),
        ReadWriteRequest(0, 1, 0, bytes(244)),
        ReadWriteRequest(0, 1, 0, b"\0\0\0"),
        ReadWriteRequest(0, 1, 65_536, b"\0\0"),
    ):
        with pytest.raises(ValueError, match="no such Modbus request"):
            frame.encode_request(impossible)


@pytest.mark.parametrize(
    "request_",
    [
        ReadRequest(3, -1, 1),
        ReadRequest(3, 65_536, 1),
        ReadRequest(16, 0, 1),
        WriteRequest(3, 0, 1, b"\0\0"),
        WriteRequest(6, 0, 2, b"\0\0\0\0"),
        WriteRequest(16, 0, 2, b"\0\0"),
        WriteRequest(5, 0, 1, b""),
        MaskWriteRequest(0, 65_536, 0),
        MaskWriteRequest(0, 0, -1),
        IdentificationRequest(0),
        IdentificationRequest(5),
        IdentificationRequest(1, 256),
    ],
)
def test_what_the_standard_cannot_say_is_a_wrong_argument(request_):
    with pytest.raises(ValueError, match="no such Modbus request"):
        frame.encode_request(request_)


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        ("", 1),
        ("00", 1),
        ("07", 1),
        ("63 00 00 00 01", 1),
        ("83 00 00 00 01", 1),
        ("2B 0D 00 00", 1),
        ("2B", 3),
        ("2B 0E 01", 3),
        ("2B 0E 05 00", 3),
        ("03", 3),
        ("03 00 00 00", 3),
        ("03 00 00 00 01 00", 3),
        ("05 00 00 12 34", 3),
        ("05 00 00 00 FF", 3),
        ("05 00 00", 3),
        ("06 00 00", 3),
        ("0F 00 00 00 01", 3),
        ("0F 00 00 00 09 01 FF", 3),
        ("10 00 00 00 01 02 00", 3),
        ("10 00 00 00 02 02 00 00", 3),
        ("10 00 00 00 00 00", 3),
        ("16 00 00 00 00", 3),
        ("17 00 00 00 01 00 00 00 01", 3),
        ("17 00 00 00 01 00 00 00 02 02 00 00", 3),
        ("17 00 00 00 01 00 00 00 01 03 00 00", 3),
    ],
)
def test_bad_requests_are_refused_function_first_then_value(pdu, code):
    assert frame.decode_request(bytes.fromhex(pdu)) is ExceptionCode(code)


READ_TWO = ReadRequest(3, 0, 2)
WRITE_TWO = WriteRequest(16, 7, 2, b"\1\2\3\4")
IDENTIFY = IdentificationRequest(1)


@pytest.mark.parametrize(
    ("request_", "pdu", "expected"),
    [
        (READ_TWO, "03 04 00 01 00 02", Answer(0, b"\0\1\0\2")),
        (READ_TWO, "83 02", Answer(2, b"")),
        (READ_TWO, "", Mismatch.FUNCTION),
        (READ_TWO, "04 04 00 01 00 02", Mismatch.FUNCTION),
        (READ_TWO, "84 02", Mismatch.FUNCTION),
        (READ_TWO, "83", Mismatch.COUNT),
        (READ_TWO, "83 00", Mismatch.COUNT),
        (READ_TWO, "83 02 00", Mismatch.COUNT),
        (READ_TWO, "03", Mismatch.COUNT),
        (READ_TWO, "03 02 00 01", Mismatch.COUNT),
        (READ_TWO, "03 03 00 01 00", Mismatch.COUNT),
        (READ_TWO, "03 06 00 01 00 02", Mismatch.COUNT),
        (READ_TWO, "03 04 00 01 00 02 00", Mismatch.COUNT),
        (READ_TWO, "03 04 00 01 00", Mismatch.COUNT),
        (ReadRequest(1, 0, 9), "01 02 FF 01", Answer(0, b"\xff\1")),
        (ReadRequest(1, 0, 9), "01 01 FF", Mismatch.COUNT),
        (WRITE_TWO, "10 00 07 00 02", Answer(0, b"")),
        (WRITE_TWO, "90 04", Answer(4, b"")),
        (WRITE_TWO, "10 00 07 00 01", Mismatch.ECHO),
        (WRITE_TWO, "10 00 08 00 02", Mismatch.ECHO),
        (WRITE_TWO, "10 00 07 00 02 00", Mismatch.ECHO),
        (WriteRequest(5, 3, 1, b"\1"), "05 00 03 FF 00", Answer(0, b"")),
        (WriteRequest(5, 3, 1, b"\1"), "05 00 03 00 00", Mismatch.ECHO),
        (WriteRequest(6, 3, 1, b"\0\1"), "06 00 03 00 02", Mismatch.ECHO),
        (MaskWriteRequest(4, 1, 2), "16 00 04 00 01 00 03", Mismatch.ECHO),
        (ReadWriteRequest(0, 1, 0, b"\0\0"), "17 02 00 05", Answer(0, b"\0\5")),
        (ReadWriteRequest(0, 1, 0, b"\0\0"), "17 04 00 05 00 05", Mismatch.COUNT),
        (IDENTIFY, "2B 0E 01 01 00 00 00", Answer(0, bytes.fromhex("01 00 00 00"))),
        (IDENTIFY, "2B 0E 02 01 00 00 00", Mismatch.ECHO),
        (IDENTIFY, "2B 0D 01 01 00 00 00", Mismatch.ECHO),
        (IDENTIFY, "2B 0E 01 01 00 00", Mismatch.COUNT),
        (IDENTIFY, "2B 0E 01 01 01 00 00", Mismatch.COUNT),
        (IDENTIFY, "2B 0E 01 01 00 00 01", Mismatch.COUNT),
        (IDENTIFY, "2B 0E 01 01 00 00 01 00 05 41", Mismatch.COUNT),
        (IDENTIFY, "2B 0E 01 01 00 00 00 00", Mismatch.COUNT),
        (IDENTIFY, "AB 01", Answer(1, b"")),
    ],
)
def test_answer_matches_its_request_in_every_byte_or_is_none(request_, pdu, expected):
    assert frame.decode_answer(request_, bytes.fromhex(pdu)) == expected


def test_more_identification_follows_where_the_device_says():
    body = frame.encode_identification(frame.Identification(0x83, 4, {0: b"A"}))
    assert frame.decode_identification(body) == (0x83, 4, {0: b"A"})


@pytest.mark.parametrize(
    ("received", "status"),
    [
        ("", FrameStatus.PARTIAL),
        ("00 01 00 00 00", FrameStatus.PARTIAL),
        ("00 01 00 00 00 02 01", FrameStatus.PARTIAL),
        ("00 01 00 00 00 02 01 03", FrameStatus.WHOLE),
        ("00 01 00 01 00 02 01 03", FrameStatus.WRONG_PROTOCOL),
        ("00 01 00 00 00 00", FrameStatus.WRONG_LENGTH),
        ("00 01 00 00 00 01", FrameStatus.WRONG_LENGTH),
        ("00 01 00 00 00 FF", FrameStatus.WRONG_LENGTH),
        ("00 01 00 00 FF FF", FrameStatus.WRONG_LENGTH),
        ("00 01 00 00 00 FE 01", FrameStatus.PARTIAL),
    ],
)
def test_front_of_the_bytes_received(received, status):
    found, header = frame.next_frame(bytes.fromhex(received))
    assert found is status
    assert (header is not None) == (status in (FrameStatus.WHOLE, FrameStatus.WRONG_PROTOCOL))
    behind = b"\xaa" * 3 + bytes.fromhex(received)
    assert frame.next_frame(bytearray(behind), 3) == (found, header)


def test_exceptions_map_to_quality_as_the_contract_says():
    reads = {code: frame.exception_status(code, is_write=False) for code in range(1, 12)}
    assert reads == {
        1: StatusCode.BadNotSupported,
        2: StatusCode.BadConfigurationError,
        3: StatusCode.BadConfigurationError,
        4: StatusCode.BadDeviceFailure,
        5: StatusCode.BadResourceUnavailable,
        6: StatusCode.BadResourceUnavailable,
        7: StatusCode.BadDeviceFailure,
        8: StatusCode.BadDeviceFailure,
        9: StatusCode.BadDeviceFailure,
        10: StatusCode.BadNoCommunication,
        11: StatusCode.BadNoCommunication,
    }
    writes = {code: frame.exception_status(code, is_write=True) for code in range(1, 12)}
    assert writes == reads | {3: StatusCode.BadOutOfRange}


def test_exception_texts_are_for_people():
    assert frame.exception_text(2) == "exception 2 (illegal data address)"
    assert frame.exception_text(99) == "exception 99 (not defined by the standard)"


def test_which_requests_change_the_device():
    assert frame.is_write(WRITE_TWO)
    assert frame.is_write(MaskWriteRequest(0, 0, 0))
    assert frame.is_write(ReadWriteRequest(0, 1, 0, b"\0\0"))
    assert not frame.is_write(READ_TWO)
    assert not frame.is_write(IDENTIFY)


def test_functions_have_the_standard_s_numbers():
    assert [int(function) for function in Function] == [1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43]
