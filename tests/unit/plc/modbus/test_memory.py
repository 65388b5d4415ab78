"""One unit's memory: what is written is read; requests are refused in the order of the standard's state diagrams."""

from __future__ import annotations

import pytest

from bifrost.plc.modbus import frame
from bifrost.plc.modbus.address import Table, parse_range
from bifrost.plc.modbus.memory import Memory

HR, IR, CO, DI = Table.HOLDING_REGISTER, Table.INPUT_REGISTER, Table.COIL, Table.DISCRETE_INPUT


def memory(**more):
    sizes = {"coils": 40, "discrete_inputs": 40, "input_registers": 20, "holding_registers": 20}
    return Memory(**(sizes | more))


def answer(unit, text):
    return unit.answer(bytes.fromhex(text)).hex(" ").upper()


def test_registers_hold_what_was_written():
    unit = memory()
    assert answer(unit, "10 00 01 00 02 04 00 0A 01 02") == "10 00 01 00 02"
    assert answer(unit, "03 00 00 00 04") == "03 08 00 00 00 0A 01 02 00 00"
    assert answer(unit, "06 00 13 FF FE") == "06 00 13 FF FE"
    assert unit.read(HR, 19, 1) == b"\xff\xfe"
    assert answer(unit, "04 00 00 00 01") == "04 02 00 00"


def test_bits_keep_their_neighbours():
    unit = memory()
    unit.write(CO, 0, 40, b"\xff" * 5)
    assert answer(unit, "0F 00 03 00 0A 02 00 00") == "0F 00 03 00 0A"
    assert unit.read(CO, 0, 40) == bytes((0b00000111, 0b11100000, 0xFF, 0xFF, 0xFF))
    assert answer(unit, "05 00 05 FF 00") == "05 00 05 FF 00"
    assert answer(unit, "01 00 03 00 0B") == "01 02 04 04"
    unit.write(DI, 39, 1, b"\1")
    assert answer(unit, "02 00 26 00 02") == "02 01 02"


def test_padding_bits_of_a_write_change_nothing():
    unit = memory()
    assert answer(unit, "0F 00 00 00 01 01 FF") == "0F 00 00 00 01"
    assert unit.read(CO, 0, 8) == b"\1"


def test_mask_write_as_the_standard_s_example():
    unit = memory()
    unit.write(HR, 4, 1, b"\x00\x12")
    assert answer(unit, "16 00 04 00 F2 00 25") == "16 00 04 00 F2 00 25"
    assert unit.read(HR, 4, 1) == b"\x00\x17"


def test_read_write_writes_first():
    unit = memory()
    assert answer(unit, "17 00 03 00 02 00 03 00 01 02 12 34") == "17 04 12 34 00 00"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("63 FF FF", "E3 01"),
        ("03 00 00 00 00", "83 03"),
        ("03 FF FF 00 7E", "83 03"),
        ("03 00 13 00 02", "83 02"),
        ("03 FF FF 00 01", "83 02"),
        ("01 00 28 00 01", "81 02"),
        ("02 00 00 00 29", "82 02"),
        ("04 00 14 00 01", "84 02"),
        ("05 00 28 FF 00", "85 02"),
        ("05 00 28 12 34", "85 03"),
        ("06 00 14 00 00", "86 02"),
        ("0F 00 21 00 08 01 00", "8F 02"),
        ("10 00 13 00 02 04 00 00 00 00", "90 02"),
        ("16 00 14 00 00 00 00", "96 02"),
        ("17 00 14 00 01 00 00 00 01 02 00 00", "97 02"),
        ("17 00 00 00 01 00 14 00 01 02 00 00", "97 02"),
        ("2B 0E 01 00", "AB 01"),
    ],
)
def test_refusals(request_, says):
    assert answer(memory(), request_) == says


def test_a_refused_write_changes_nothing():
    unit = memory()
    answer(unit, "10 00 13 00 02 04 11 11 11 11")
    answer(unit, "17 00 14 00 01 00 00 00 01 02 11 11")
    assert unit.read(HR, 0, 20) == bytes(40)


def test_holes_refuse_whatever_touches_them():
    unit = memory(holes=[parse_range("hr:4-5"), parse_range("ir:0")])
    assert answer(unit, "03 00 00 00 04") == "03 08" + " 00" * 8
    assert answer(unit, "03 00 06 00 01") == "03 02 00 00"
    for touching in ("03 00 00 00 05", "03 00 05 00 01", "03 00 00 00 0A", "06 00 04 00 00", "04 00 00 00 02"):
        assert answer(unit, touching)[3:] == "02"


def test_functions_that_a_device_lacks():
    unit = memory(functions=frozenset((3, 6)))
    assert answer(unit, "03 00 00 00 01") == "03 02 00 00"
    assert answer(unit, "10 00 00 00 00") == "90 01"


def test_guard_has_the_last_word():
    asked = []

    def guard(request):
        asked.append(request)
        return 4

    unit = memory(guard=guard)
    assert answer(unit, "06 00 00 00 01") == "86 04"
    assert answer(unit, "06 00 14 00 01") == "86 02"
    assert unit.read(HR, 0, 1) == b"\0\0"
    assert asked == [frame.WriteRequest(6, 0, 1, b"\0\1")]


OBJECTS = {0: b"Bifrost", 1: b"SIM", 2: b"1.0", 4: b"Product", 0x80: b"x" * 200, 0x81: b"y" * 100}


def identify(unit, code, object_id=0):
    request = frame.IdentificationRequest(code, object_id)
    return frame.decode_answer(request, unit.answer(frame.encode_request(request)))


def test_identification_basic_regular_and_extended_in_parts():
    unit = memory(identification=OBJECTS)
    basic = frame.decode_identification(identify(unit, 1).data)
    assert basic == (0x83, None, {0: b"Bifrost", 1: b"SIM", 2: b"1.0"})
    assert list(frame.decode_identification(identify(unit, 2).data).objects) == [0, 1, 2, 4]
    part = frame.decode_identification(identify(unit, 3).data)
    assert (list(part.objects), part.next_object_id) == ([0, 1, 2, 4, 0x80], 0x81)
    part = frame.decode_identification(identify(unit, 3, 0x81).data)
    assert (part.objects, part.next_object_id) == ({0x81: b"y" * 100}, None)


def test_identification_of_one_object_and_of_unknown_ones():
    unit = memory(identification=OBJECTS)
    assert frame.decode_identification(identify(unit, 4, 4).data).objects == {4: b"Product"}
    assert identify(unit, 4, 3).exception == 2
    assert list(frame.decode_identification(identify(unit, 1, 99).data).objects) == [0, 1, 2]
    assert frame.decode_identification(identify(memory(identification={0: b"A"}), 1).data).conformity == 0x81


def test_local_misuse_is_an_error():
    unit = memory()
    with pytest.raises(IndexError):
        unit.read(HR, 19, 2)
    with pytest.raises(IndexError):
        unit.write(HR, -1, 1, b"\0\0")
    with pytest.raises(ValueError, match="3 bytes for 2 holding registers"):
        unit.write(HR, 0, 2, b"\0\0\0")
    with pytest.raises(ValueError, match="0 to 65536"):
        memory(coils=65_537)
    with pytest.raises(ValueError, match="244 bytes"):
        memory(identification={0: b"x" * 245})
