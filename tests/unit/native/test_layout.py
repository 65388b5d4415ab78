"""What crosses the seam is the same on both sides: every constant of the header and every record's layout.

The header is read as text, so that a constant that only one side knows is found too; sizes and offsets are asked of the compiled module.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest

from bifrost._native import journal_records as j
from bifrost._native import records as r

TEXT = (Path(__file__).parents[3] / "csrc" / "bifrost.h").read_text()
HEADER = "".join(re.findall(r"/\* cdef: begin \*/(.*?)/\* cdef: end \*/", TEXT, re.DOTALL))  # What Python sees.
DEFINE = re.compile(r"^#define BF_(?P<name>[A-Z0-9_]+) (?P<value>0x[0-9A-Fa-f]+|\d+)u?(?:\s|$)", re.MULTILINE)
ENUMERATOR = re.compile(r"^ {4}BF_(?P<name>[A-Z0-9_]+) = (?P<value>-?\d+)", re.MULTILINE)
# Only C needs them.
C_ONLY = {"ABI"}
# Only Python needs them.
PYTHON_ONLY = {"NAN_BITS"}
PACKED = {
    "bf_slot": r.SLOT,
    "bf_change": r.CHANGE,
    "bf_decode": r.DECODE,
    "bf_exchange": r.EXCHANGE,
    "bf_group": r.GROUP,
    "bf_code": r.CODE,
    "bf_link_options": r.LINK_OPTIONS,
}
NAMED = {
    "bf_slot": r.Slot,
    "bf_change": r.Change,
    "bf_table_limits": r.TableLimits,
    "bf_scan_limits": r.ScanLimits,
    "bf_shell_limits": r.ShellLimits,
    "bf_counters": r.Counters,
    "bf_journal_limits": j.JournalLimits,
}


def header_constants() -> dict[str, int]:
    found = [*DEFINE.finditer(HEADER), *ENUMERATOR.finditer(HEADER)]
    return {match["name"]: int(match["value"], 0) for match in found}


def test_every_constant_of_the_header_is_in_records_and_the_other_way_round():
    both = {**vars(r), **vars(j)}
    ours = {name: value for name, value in both.items() if name.isupper() and type(value) is int}
    theirs = header_constants()
    assert len(theirs) > 80
    assert {name: value for name, value in ours.items() if name not in PYTHON_ONLY} == {
        name: value for name, value in theirs.items() if name not in C_ONLY
    }


@pytest.fixture(scope="module")
def ffi():
    if os.environ.get("BIFROST_BACKEND") == "py":
        pytest.skip("only the Python core is tested here (BIFROST_BACKEND=py)")
    from bifrost._native import _core

    return _core.ffi


@pytest.mark.parametrize("name", PACKED)
def test_packed_record_has_the_size_and_the_offsets_of_the_struct(ffi, name):
    layout = PACKED[name]
    assert ffi.sizeof(name) == layout.size
    fields = ffi.typeof(name).fields
    # Where each code of the format lies, from the format itself; padding codes are the fields called unused.
    codes = re.findall(r"(\d*)([a-zA-Z])", layout.format.lstrip("<"))
    offsets = []
    at = 0
    for count, code in codes:
        single = code in "sx"
        for _ in range(1 if single else int(count or 1)):
            if code != "x":
                offsets.append(at)
            at += struct.calcsize("<" + (count if single else "") + code)
    declared = [field.offset for field_name, field in fields if field_name != "unused"]
    assert offsets == declared


@pytest.mark.parametrize("name", NAMED)
def test_named_tuple_has_the_fields_of_the_struct_in_its_order(ffi, name):
    assert NAMED[name]._fields == tuple(field for field, _ in ffi.typeof(name).fields)


def test_compiled_module_was_built_from_this_header(ffi):
    from bifrost._native import _core

    for name, value in header_constants().items():
        assert getattr(_core.lib, f"BF_{name}") == value, name


def test_packed_exchange_comes_back():
    exchange = r.Exchange(12, 259, 9, 2, b"\0\0\x01", unit=3, error_length=9, error_expect=b"\x83", hold_code=2)
    again = r.unpack_exchange(exchange.pack())
    assert again == exchange._replace(expect_mask=b"\xff" * 3, error_expect_mask=b"\xff")


def test_change_tells_its_server_time_and_flags():
    change = r.Change(1, 0, 1_000, 0, (25 << 16) | r.CHANGE_CLOCK_UNSYNCHRONISED)
    assert change.server_time == 1_000 + 2_500
    assert change.flags == r.CHANGE_CLOCK_UNSYNCHRONISED
