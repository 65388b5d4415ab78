"""Every spelling of CONTRACT gives the place it means, and what is no address is refused with a helpful text."""

from __future__ import annotations

import timeit

import pytest

from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec
from bifrost.core.errors import AddressError
from bifrost.plc.modbus.address import (
    AddressRange,
    ModbusAddress,
    Table,
    item_count,
    parse_address,
    parse_range,
    resolve_type,
)

CO, DI, IR, HR = Table.COIL, Table.DISCRETE_INPUT, Table.INPUT_REGISTER, Table.HOLDING_REGISTER
REAL = TypeSpec(DataType.FLOAT32)


@pytest.mark.parametrize(
    ("address", "table", "offset"),
    [
        (40001, HR, 0),
        ("40001", HR, 0),
        ("400001", HR, 0),
        (400001, HR, 0),
        (465536, HR, 65535),
        (49999, HR, 9998),
        (30001, IR, 0),
        (10001, DI, 0),
        ("300010", IR, 9),
        ("100001", DI, 0),
        (1, CO, 0),
        (9999, CO, 9998),
        ("1", CO, 0),
        ("00001", CO, 0),
        ("000001", CO, 0),
        ("065536", CO, 65535),
        ("hr:0", HR, 0),
        ("ir:7", IR, 7),
        ("di:7", DI, 7),
        ("co:65535", CO, 65535),
        ("HR:0", HR, 0),
        ("HR1", HR, 0),
        ("IR2", IR, 1),
        ("DI3", DI, 2),
        ("C4", CO, 3),
        ("hr65536", HR, 65535),
        ("4x1", HR, 0),
        ("3x1", IR, 0),
        ("1x1", DI, 0),
        ("0x1", CO, 0),
        ("4X00001", HR, 0),
        (" 40001 ", HR, 0),
    ],
)
def test_spellings_of_a_whole_item(address, table, offset):
    assert parse_address(address) == ModbusAddress(table, offset)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("40001.3", ModbusAddress(HR, 0, bit=3)),
        ("40001.10", ModbusAddress(HR, 0, bit=10)),
        ("hr:5.15", ModbusAddress(HR, 5, bit=15)),
        ("1!400001", ModbusAddress(HR, 0, unit=1)),
        ("255!hr:0.0", ModbusAddress(HR, 0, bit=0, unit=255)),
        ("hr:0:REAL@CDAB", ModbusAddress(HR, 0, spec=REAL, byte_order=ByteOrder.CDAB)),
        ("HR1:float32", ModbusAddress(HR, 0, spec=REAL)),
        ("hr:0@dcba", ModbusAddress(HR, 0, byte_order=ByteOrder.DCBA)),
        ("40001:string[16]", ModbusAddress(HR, 0, spec=TypeSpec(DataType.STRING, 16))),
        ("ir:2:int16[8]", ModbusAddress(IR, 2, spec=TypeSpec(DataType.INT16, 8, True))),
        ("co:3:bool[20]", ModbusAddress(CO, 3, spec=TypeSpec(DataType.BOOL, 20, True))),
        ("hr:0.1:BOOL", ModbusAddress(HR, 0, bit=1, spec=TypeSpec(DataType.BOOL))),
    ],
)
def test_bit_unit_type_and_order(address, expected):
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (40001.1, "in quotes, '40001.1'"),
        (True, "a text or an int"),
        (None, "a text or an int"),
        (0, "begin at 1"),
        (-1, "begin at 1"),
        ("00000", "begin at 1"),
        (10000, "10001 to 19999"),
        (20001, "0 (coil), 1 (discrete input)"),
        (50001, "holding register 10001 is 410001 (or 'hr:10000')"),
        (400000, "400001 to 465536"),
        (465537, "400001 to 465536"),
        (500001, "0 (coil)"),
        ("9999999", "at most 6 digits"),
        ("9999999.1", "at most 6 digits"),
        pytest.param(10**5000, "465536", id="huge"),
        ("", "empty"),
        ("HR0", "numbered 1 to 65536"),
        ("hr:65536", "numbered 0 to 65535"),
        ("HR65537", "numbered 1 to 65536"),
        ("2x1", "before 'x'"),
        ("0x1F", "hexadecimal"),
        ("256!hr:0", "0 to 255"),
        ("40001.16", "bits 0 (least significant) to 15"),
        ("1.3", "one bit already"),
        ("co:0.0", "one bit already"),
        ("hr:0:floot32", "did you mean 'float32'"),
        ("hr:0:string", "length in bytes"),
        ("hr:0@ABDC", "ABCD, BADC, CDAB, DCBA"),
        ("hr:0@", "ABCD, BADC, CDAB, DCBA"),
        ("hr:0:bool", "'hr:0.0'"),
        ("hr:0.1:int16", "bit 1 of a register"),
        ("co:0:float32", "is a coil"),
        ("hr:65535:float32", "past the last one"),
        ("holding-register:1", "did you mean 'hr:1'"),
        ("hx:3", "did you mean 'hr:3'"),
        ("CO1", "'C1' (the first is 1) or 'co:0'"),
        ("HR", "'HR1'"),
        ("hr:-1", "negative"),
        ("DB1.DBD4", "write for example 40001"),
        ("1!2!hr:0", "not understood"),
        ("x" * 100, "has 100 characters"),
        ("４0001", "not understood"),
    ],
)
def test_no_address_is_refused_with_what_would_be_right(address, says):
    with pytest.raises(AddressError) as refused:
        parse_address(address)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hr:100-120", AddressRange(HR, 100, 120)),
        ("40101-40121", AddressRange(HR, 100, 120)),
        ("HR101-121", AddressRange(HR, 100, 120)),
        ("4x101 - 121", AddressRange(HR, 100, 120)),
        ("2!ir:1-ir:9", AddressRange(IR, 1, 9, unit=2)),
        ("co:7", AddressRange(CO, 7, 7)),
    ],
)
def test_ranges(text, expected):
    assert parse_range(text) == expected
    assert parse_range(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hr:9-3", "did you mean 'hr:3-9'"),
        ("hr:1-ir:3", "same table"),
        ("1!hr:1-2!hr:3", "same table of the same unit"),
        ("hr:1.3-5", "whole items"),
        ("hr:1:int16-5", "whole items"),
        ("hr:1-", "empty"),
        ("-", "empty"),
    ],
)
def test_impossible_ranges_are_refused(text, says):
    with pytest.raises(AddressError, match=says.replace("(", r"\(")):
        parse_range(text)


def test_type_comes_from_suffix_then_tag_then_table():
    assert resolve_type(parse_address("hr:0:float32"), None) == REAL
    assert resolve_type(parse_address("hr:0:float32"), REAL) == REAL
    assert resolve_type(parse_address("hr:0"), REAL) == REAL
    assert resolve_type(parse_address("hr:0"), None) == TypeSpec(DataType.UINT16)
    assert resolve_type(parse_address("hr:0.3"), None) == TypeSpec(DataType.BOOL)
    assert resolve_type(parse_address("co:0"), None) == TypeSpec(DataType.BOOL)


@pytest.mark.parametrize(
    ("address", "declared", "says"),
    [
        ("hr:0:int16", REAL, "says int16 but the tag says float32"),
        ("co:0", REAL, "is a coil"),
        ("hr:0", TypeSpec(DataType.BOOL), "needs its bit"),
        ("hr:65535", REAL, "past the last one"),
        ("co:65535", TypeSpec(DataType.BOOL, 2, True), "past the last one"),
    ],
)
def test_types_that_cannot_be_there_are_refused(address, declared, says):
    with pytest.raises(AddressError, match=says):
        resolve_type(parse_address(address), declared)


@pytest.mark.parametrize(
    ("spec", "table", "bit", "count"),
    [
        (TypeSpec(DataType.UINT16), HR, 0, 1),
        (TypeSpec(DataType.INT8), HR, 0, 1),
        (TypeSpec(DataType.FLOAT64), IR, 0, 4),
        (TypeSpec(DataType.FLOAT32, 3, True), IR, 0, 6),
        (TypeSpec(DataType.STRING, 5), HR, 0, 3),
        (TypeSpec(DataType.BCD32), HR, 0, 2),
        (TypeSpec(DataType.BOOL), HR, 15, 1),
        (TypeSpec(DataType.BOOL, 2, True), HR, 15, 2),
        (TypeSpec(DataType.BOOL, 20, True), CO, 0, 20),
    ],
)
def test_item_count(spec, table, bit, count):
    assert item_count(spec, table, bit) == count


def test_tables_say_what_they_are():
    assert [table.is_bits for table in Table] == [True, True, False, False]
    assert [table.is_writable for table in Table] == [True, False, False, True]
    assert HR.title == "holding register"


def test_a_hundred_thousand_addresses_parse_in_less_than_half_a_second():
    """4 µs an address; the bound here is ten times that, since the machine may be busy."""
    for address in (40001, "400001", "hr:1234"):
        best = min(timeit.repeat(lambda address=address: parse_address(address), number=1000, repeat=3)) / 1000
        assert best < 40e-6
