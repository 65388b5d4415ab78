"""The codec against pymodbus, both from the full frame with header checks, on the bytes of one answer.

pymodbus gets its answer through `FramerSocket.handleFrame`, as its clients do; its typed values through `convert_from_registers`.
"""

from __future__ import annotations

import importlib
import struct
import subprocess
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from bench.ratio import Timer, measure, require, timer
from bifrost._native import records as r
from csrc.builder import checks

BODY = bytes(range(250))
FRAME = struct.pack(">HHHBBB", 1, 0, 253, 1, 3, 250) + BODY
FLOATS_FRAME = struct.pack(">HHHBBB", 1, 0, 251, 1, 3, 248) + struct.pack(">62f", *range(62))
ENTRIES = b"".join(r.DecodeEntry(tag, 2 * tag, r.TYPE_UINT16).pack() for tag in range(125))
framer = FramerSocket(DecodePDU(False))


@pytest.fixture
def c() -> ModuleType:
    return importlib.import_module("bifrost._native._c")


@pytest.fixture
def py() -> ModuleType:
    return importlib.import_module("bifrost._native._py")


def peer_registers() -> Sequence[int]:
    _, answer = framer.handleFrame(FRAME, 1, 1)
    assert answer is not None
    return answer.registers


def peer_floats() -> object:
    _, answer = framer.handleFrame(FLOATS_FRAME, 1, 1)
    assert answer is not None
    return ModbusClientMixin.convert_from_registers(
        answer.registers, ModbusClientMixin.DATATYPE.FLOAT32, word_order="little"
    )


def to_buffer(core: ModuleType) -> Timer:
    out = array("H", bytes(250))
    decode = core.modbus_answer_decoder(1, 3, 125, r.TYPE_UINT16, 0, out)
    assert decode(FRAME, 1) == r.OK
    assert out.tolist() == peer_registers()
    return timer(partial(decode, FRAME, 1))


def to_floats(core: ModuleType) -> Timer:
    out = array("f", bytes(248))
    decode = core.modbus_answer_decoder(1, 3, 124, r.TYPE_FLOAT32, r.ORDER_SWAP_WORDS, out)
    assert decode(FLOATS_FRAME, 1) == r.OK
    assert out.tolist() == peer_floats()
    return timer(partial(decode, FLOATS_FRAME, 1))


def to_table(core: ModuleType) -> Timer:
    table = core.make_table(r.TableLimits(128, 256, 0, 0))
    columns = array("d", bytes(8 * 125)), array("q", bytes(8 * 125)), array("I", bytes(4 * 125))
    assert table.define(0, bytes([r.KIND_UINT]) * 125, *columns) == r.OK
    assert table.scatter(BODY, r.WALK_NONE, ENTRIES, 1, 1, 1, 0) == r.OK
    return timer(partial(table.scatter, BODY, r.WALK_NONE, ENTRIES, 1, 1, 1, 0))


def in_c() -> Timer:
    program = checks.build_program(Path(__file__).with_name("codec.c"), ("-DNDEBUG",))

    def round_ns() -> float:
        return float(subprocess.run([program], check=True, capture_output=True, text=True).stdout)

    return round_ns


def test_answer_of_125_registers(c: ModuleType, py: ModuleType) -> None:
    peer = timer(peer_registers)
    taken = measure({"peer": peer, "c": to_buffer(c), "in c": in_c(), "py": to_buffer(py), "table": to_table(c)})
    require("answer_to_buffer", taken["peer"], taken["in c"])
    require("answer_to_buffer_from_python", taken["peer"], taken["c"])
    require("answer_to_buffer_pure", taken["peer"], taken["py"])
    require("answer_to_table", taken["peer"], taken["table"])


def test_answer_of_62_floats(c: ModuleType) -> None:
    taken = measure({"peer": timer(peer_floats), "c": to_floats(c)})
    require("answer_to_floats_from_python", taken["peer"], taken["c"])


def test_crc_of_253_bytes(c: ModuleType) -> None:
    data = FRAME[:253]
    assert c.crc16(data) == int.from_bytes(FramerRTU.compute_CRC(data).to_bytes(2, "big"), "little")
    taken = measure({"peer": timer(partial(FramerRTU.compute_CRC, data)), "c": timer(partial(c.crc16, data))})
    require("crc", taken["peer"], taken["c"])
