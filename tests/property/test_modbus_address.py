"""Any address that is written is read back as the same place, and any text at all is an address or an AddressError."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec
from bifrost.core.errors import AddressError
from bifrost.plc.modbus.address import ModbusAddress, Table, parse_address, parse_range, resolve_type

DIGITS = {Table.COIL: 0, Table.DISCRETE_INPUT: 1, Table.INPUT_REGISTER: 3, Table.HOLDING_REGISTER: 4}
PLAIN = {Table.COIL: "C", Table.DISCRETE_INPUT: "DI", Table.INPUT_REGISTER: "IR", Table.HOLDING_REGISTER: "HR"}
offsets = st.integers(0, 65535)
tables = st.sampled_from(Table)


@st.composite
def addresses(draw):
    table = draw(tables)
    bit = draw(st.none() | st.integers(0, 15)) if not table.is_bits else None
    base = draw(st.sampled_from(DataType))
    is_array = draw(st.booleans())
    spec = draw(st.none() | st.builds(TypeSpec, st.just(base), st.integers(1, 30), st.just(True)))
    if spec is not None and not is_array and base is not DataType.STRING:
        spec = TypeSpec(base)
    elif spec is not None and base is DataType.STRING:
        spec = TypeSpec(base, spec.count)
    address = ModbusAddress(
        table,
        draw(offsets),
        bit,
        draw(st.none() | st.integers(0, 255)),
        spec,
        draw(st.none() | st.sampled_from(ByteOrder)),
    )
    if spec is not None:
        try:
            resolve_type(address, None)
        except AddressError:
            assume(False)
    return address


@given(addresses())
def test_canonical_text_reads_back_as_the_same_place(address):
    assert parse_address(str(address)) == address


@given(tables, offsets)
def test_all_spellings_of_one_place_agree(table, offset):
    expected = ModbusAddress(table, offset)
    digit = DIGITS[table]
    spellings = [f"{table}:{offset}", f"{PLAIN[table]}{offset + 1}", f"{digit}x{offset + 1}", f"{digit}{offset + 1:05}"]
    if offset < 9999:
        spellings.append(f"{digit}{offset + 1:04}")
    for spelling in spellings:
        assert parse_address(spelling) == expected
        assert parse_address(spelling.lower()) == expected
        if not spelling.startswith("0") and spelling.isdecimal():
            assert parse_address(int(spelling)) == expected


@given(st.text(max_size=120) | st.text("0123456789hridco:.!@x-[]FLOATboolABCD ", max_size=40))
def test_any_text_is_an_address_or_an_address_error(text):
    for parse in (parse_address, parse_range):
        with contextlib.suppress(AddressError):
            assert str(parse(text))


@given(st.integers() | st.floats() | st.binary() | st.none())
def test_any_object_is_an_address_or_an_address_error(thing):
    if type(thing) is int and 0 < thing < 465_537:
        return
    with pytest.raises(AddressError):
        parse_address(thing)
