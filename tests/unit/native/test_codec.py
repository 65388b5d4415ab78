"""CRC and Modbus answers, against the standards' own words and against every way in which a frame can be wrong."""

from __future__ import annotations

import struct
from array import array

import pytest

from bifrost._native import records as r

# Read Holding Registers, registers 108 to 110 (Modbus Application Protocol V1.1b3, 6.3), of transaction 1, unit 17.
GOOD = bytes.fromhex("0001 0000 0009 11 03 06 022B 0000 0064")


def decode(backend, frame, *, transaction=1, unit=17, function=3, count=3, type_code=r.TYPE_UINT16, order=0, room=6):
    out = bytearray(room)
    decoder = backend.modbus_answer_decoder(unit, function, count, type_code, order, out)
    return decoder(bytes(frame), transaction), bytes(out)


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0xFFFF),
        (b"123456789", 0x4B37),  # the catalogue's check value of CRC-16/MODBUS
        (bytes.fromhex("0207"), 0x1241),  # Modbus over Serial Line V1.02, appendix B: sent as 41 12
    ],
)
def test_crc_of_known_bytes(backend, data, crc):
    assert backend.crc16(data) == backend.crc16(bytearray(data)) == backend.crc16(memoryview(data)) == crc


def slow_crc(data: bytes) -> int:
    """Bit by bit, as Modbus over Serial Line V1.02, 6.2.2 describes it."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def test_crc_of_every_length_up_to_two_steps_of_eight(backend):
    for length in range(20):
        data = bytes(range(100, 100 + length))
        assert backend.crc16(data) == slow_crc(data)


def test_example_of_the_standard_is_decoded(backend):
    out = array("H", bytes(6))
    assert backend.modbus_answer_decoder(17, 3, 3, r.TYPE_UINT16, 0, out)(GOOD, 1) == r.OK
    assert out.tolist() == [555, 0, 100]


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n)), lambda n: array("B", bytes(n))])
def test_any_writable_buffer_takes_the_values(backend, make):
    out = make(8)
    assert backend.modbus_answer_decoder(17, 3, 3, r.TYPE_UINT16, 0, out)(GOOD, 1) == r.OK
    assert bytes(out) == struct.pack("<4H", 555, 0, 100, 0)


def test_constant_memory_is_never_written(backend):
    with pytest.raises((TypeError, BufferError, ValueError)):
        backend.modbus_answer_decoder(17, 3, 3, r.TYPE_UINT16, 0, bytes(6))(GOOD, 1)


@pytest.mark.parametrize(
    ("at", "value", "status"),
    [
        (1, 2, r.E_TRANSACTION),
        (3, 1, r.E_PROTOCOL),
        (4, 1, r.E_LENGTH),  # 265: longer than any Modbus frame
        (5, 2, r.E_LENGTH),  # no function code and no byte count
        (5, 8, r.E_LENGTH),  # shorter than the byte count says
        (6, 18, r.E_UNIT),
        (7, 4, r.E_FUNCTION),
        (7, 0x84, r.E_FUNCTION),  # an exception, but of another function
        (7, 0x83, r.E_LENGTH),  # an exception has three bytes
        (8, 4, r.E_COUNT),
        (8, 7, r.E_COUNT),
    ],
)
def test_wrong_byte_is_named(backend, at, value, status):
    frame = bytearray(GOOD)
    frame[at] = value
    assert decode(backend, frame) == (status, bytes(6))


def test_what_is_wrong_first_is_named_and_a_wrong_start_needs_no_more_bytes(backend):
    assert decode(backend, b"\x01\x01")[0] == r.E_TRANSACTION
    assert decode(backend, bytes.fromhex("0001 0001"))[0] == r.E_PROTOCOL
    assert decode(backend, bytes.fromhex("0002 0001 0000"))[0] == r.E_TRANSACTION


def test_every_torn_frame_is_partial(backend):
    for length in range(len(GOOD)):
        assert decode(backend, GOOD[:length]) == (r.PARTIAL, bytes(6))


def test_byte_after_the_answer_is_a_wrong_length(backend):
    assert decode(backend, GOOD + b"\0") == (r.E_LENGTH, bytes(6))


def test_exception_gives_its_code(backend):
    assert decode(backend, bytes.fromhex("0001 0000 0003 11 83 02"))[0] == r.E_EXCEPTION


def test_torn_exception_is_partial_and_a_longer_one_is_wrong(backend):
    assert decode(backend, bytes.fromhex("0001 0000 0003 11 83"))[0] == r.PARTIAL
    assert decode(backend, bytes.fromhex("0001 0000 0003 11 83 02 00"))[0] == r.E_LENGTH


def test_coils_become_one_byte_each(backend):
    # V1.1b3, 6.1: coils 20 to 38 as CD 6B 05.
    frame = bytes.fromhex("0001 0000 0006 11 01 03 CD6B05")
    expected = bytes(int(bit) for byte in (0xCD, 0x6B, 0x05) for bit in f"{byte:08b}"[::-1])[:19]
    result = decode(backend, frame, function=1, count=19, type_code=r.TYPE_BOOL, room=19)
    assert result == (r.OK, expected)


@pytest.mark.parametrize(
    ("order", "wire"),
    [(0, "41480000 40490FDB"), (1, "48410000 4940DB0F"), (2, "00004148 0FDB4049"), (3, "00004841 DB0F4940")],
    ids=["ABCD", "BADC", "CDAB", "DCBA"],
)
def test_floats_in_every_byte_order(backend, order, wire):
    body = bytes.fromhex(wire)
    frame = struct.pack(">HHHBBB", 1, 0, 3 + len(body), 17, 3, len(body)) + body
    status, out = decode(backend, frame, count=4, type_code=r.TYPE_FLOAT32, order=order, room=8)
    assert status == r.OK
    assert struct.unpack("<2f", out) == pytest.approx((12.5, 3.14159265), rel=1e-7)


def test_elements_that_do_not_fit_whole_are_left_out(backend):
    status, out = decode(backend, GOOD, type_code=r.TYPE_INT32, room=4)
    assert (status, out) == (r.OK, struct.pack("<i", 0x022B0000))
    assert decode(backend, GOOD, type_code=r.TYPE_FLOAT64, room=0) == (r.OK, b"")


def test_payload_of_a_nan_is_kept(backend):
    frame = bytes.fromhex("0001 0000 0007 11 03 04 7FA00001")
    assert decode(backend, frame, count=2, type_code=r.TYPE_FLOAT32, room=4)[1] == bytes.fromhex("0100A07F")


def test_too_little_room_is_said_before_the_frame_is_looked_at(backend):
    assert decode(backend, b"", room=5) == (r.E_SPACE, bytes(5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"function": 0},
        {"function": 5},
        {"count": 0},
        {"count": 126},
        {"function": 1, "type_code": r.TYPE_BOOL, "count": 2001},
        {"function": 1, "type_code": r.TYPE_UINT16},
        {"type_code": r.TYPE_BOOL},
        {"type_code": r.TYPE_UINT8},
        {"type_code": r.TYPE_STRING},
        {"type_code": r.TYPE_BCD16},
        {"order": 4},
    ],
)
def test_impossible_question_is_our_own_bug(backend, wrong):
    assert decode(backend, GOOD, room=4096, **wrong)[0] == r.E_ARGUMENT
