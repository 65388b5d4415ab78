"""The Modbus frames declared with `construct`: a second, independent statement of the standard for tests and tools.

`frame` moves the data; this says what a frame is, in the words of the standard's tables; tests hold the two together.
Slow to import and to run (a hundred times slower than `frame`), so nothing at run time imports it.

Source: Modbus Application Protocol V1.1b3 (AP), 6; Messaging on TCP/IP Implementation Guide V1.0b (TG), 3.1.3.
"""

from __future__ import annotations

from construct import (
    Array,
    Byte,
    Bytes,
    Const,
    GreedyBytes,
    Int16ub,
    OneOf,
    Prefixed,
    Rebuild,
    Struct,
    Terminated,
    len_,
    this,
)

__all__ = ["ADU", "ANSWERS", "EXCEPTION", "REQUESTS"]

ADU = Struct(
    "transaction" / Int16ub,
    "protocol" / Const(0, Int16ub),
    "frame" / Prefixed(Int16ub, Struct("unit" / Byte, "pdu" / GreedyBytes)),
)

_READ = Struct("function" / Byte, "offset" / Int16ub, "count" / Int16ub, Terminated)
_WRITE_ONE_COIL = Struct(
    "function" / Const(5, Byte), "offset" / Int16ub, "value" / OneOf(Int16ub, (0x0000, 0xFF00)), Terminated
)
_WRITE_ONE_REGISTER = Struct("function" / Const(6, Byte), "offset" / Int16ub, "data" / Bytes(2), Terminated)
_WRITE_MANY = Struct(
    "function" / Byte,
    "offset" / Int16ub,
    "count" / Int16ub,
    "data_bytes" / Rebuild(Byte, len_(this.data)),
    "data" / Bytes(this.data_bytes),
    Terminated,
)
_WRITTEN = Struct("function" / Byte, "offset" / Int16ub, "count" / Int16ub, Terminated)
_MASK_WRITE = Struct(
    "function" / Const(22, Byte), "offset" / Int16ub, "and_mask" / Int16ub, "or_mask" / Int16ub, Terminated
)
_READ_WRITE = Struct(
    "function" / Const(23, Byte),
    "offset" / Int16ub,
    "count" / Int16ub,
    "write_offset" / Int16ub,
    "write_count" / Rebuild(Int16ub, len_(this.data) // 2),
    "data_bytes" / Rebuild(Byte, len_(this.data)),
    "data" / Bytes(this.data_bytes),
    Terminated,
)
_READ_ANSWER = Struct("function" / Byte, "data" / Prefixed(Byte, GreedyBytes), Terminated)
_IDENTIFY = Struct(
    "function" / Const(43, Byte),
    "mei_type" / Const(14, Byte),
    "code" / OneOf(Byte, range(1, 5)),
    "object_id" / Byte,
    Terminated,
)
_IDENTIFIED = Struct(
    "function" / Const(43, Byte),
    "mei_type" / Const(14, Byte),
    "code" / Byte,
    "conformity" / Byte,
    "more_follows" / OneOf(Byte, (0x00, 0xFF)),
    "next_object_id" / Byte,
    "objects_count" / Rebuild(Byte, len_(this.objects)),
    "objects" / Array(this.objects_count, Struct("object_id" / Byte, "value" / Prefixed(Byte, GreedyBytes))),
    Terminated,
)

REQUESTS = {
    1: _READ,
    2: _READ,
    3: _READ,
    4: _READ,
    5: _WRITE_ONE_COIL,
    6: _WRITE_ONE_REGISTER,
    15: _WRITE_MANY,
    16: _WRITE_MANY,
    22: _MASK_WRITE,
    23: _READ_WRITE,
    43: _IDENTIFY,
}
"""Request PDU by function code."""

ANSWERS = {
    1: _READ_ANSWER,
    2: _READ_ANSWER,
    3: _READ_ANSWER,
    4: _READ_ANSWER,
    5: _WRITE_ONE_COIL,
    6: _WRITE_ONE_REGISTER,
    15: _WRITTEN,
    16: _WRITTEN,
    22: _MASK_WRITE,
    23: _READ_ANSWER,
    43: _IDENTIFIED,
}
"""Answer PDU by function code, when the request is granted."""

EXCEPTION = Struct("function" / OneOf(Byte, range(0x81, 0x100)), "code" / Byte, Terminated)
"""Answer PDU when the request is refused; AP 7."""
