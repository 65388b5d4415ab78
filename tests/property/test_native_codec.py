"""The codec in C and in Python give the same status and the same bytes, whatever the input; and what is encoded is decoded.

Frames and bodies are made well-formed first and then damaged, since bytes at random would hardly ever pass the first check.
"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from bifrost._native import records as r

_WIDTHS = {4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8}


@st.composite
def damaged(draw, data: bytes):
    """`data`, or `data` with some bits flipped, cut, or with bytes after it."""
    wounded = bytearray(data)
    for _ in range(draw(st.integers(0, 2)) if wounded else 0):
        wounded[draw(st.integers(0, len(wounded) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(wounded[: draw(st.integers(0, len(wounded)))] if draw(st.booleans()) else wounded) + draw(
        st.sampled_from([b"", b"", b"\0"])
    )


@st.composite
def questions(draw) -> tuple[int, int, int, int, int, int]:
    """A transaction, then the arguments of `modbus_answer_decoder` up to the order, at times impossible ones."""
    function = draw(st.integers(1, 4) | st.integers(0, 255))
    count = draw(st.integers(1, 125) | st.sampled_from([0, 126, 2000, 2001, 65535]))
    type_code = draw(
        st.integers(0, 15) if draw(st.booleans()) else st.just(1) if function <= 2 else st.sampled_from([5, 10])
    )
    return (
        draw(st.integers(0, 65535)),
        draw(st.integers(0, 255)),
        function,
        count,
        type_code,
        draw(st.integers(0, 3) | st.integers(0, 255)),
    )


@st.composite
def answers(draw, question: tuple[int, int, int, int, int, int]):
    """A good answer, an exception, or any bytes; perhaps damaged."""
    transaction, unit, function, count = question[:4]
    body = draw(st.binary(max_size=250))
    wanted = (count + 7) // 8 if function <= 2 else count * 2
    if wanted <= 250 and draw(st.booleans()):
        body = body.ljust(wanted, b"\xa5")[:wanted]
    exception = struct.pack(">HHHBBB", transaction, 0, 3, unit, function | 0x80, draw(st.integers(0, 255)))
    good = struct.pack(">HHHBBB", transaction, 0, 3 + len(body), unit, function, len(body)) + body
    return draw(damaged(draw(st.sampled_from([good, good, exception]))))


@given(st.binary(max_size=600))
def test_crc_is_the_same_in_both_cores(cores, data):
    c, py = cores
    assert c.crc16(data) == py.crc16(data)


@given(st.data())
def test_answer_gives_the_same_status_and_bytes_in_both_cores(cores, data):
    question = data.draw(questions())
    frame = data.draw(answers(question))
    room = data.draw(st.sampled_from([2000, 250, 8, 0]))
    results = []
    for core in cores:
        out = bytearray(b"\xee" * room)
        status = core.modbus_answer_decoder(*question[1:], out)(frame, question[0])
        results.append((status, bytes(out)))
    assert results[0] == results[1]
    status, out = results[0]
    if status != r.OK:
        assert out == b"\xee" * room  # nothing is written before everything is right


@given(st.sampled_from([3, 4]), st.integers(1, 125), st.sampled_from([5, 10]), st.integers(0, 3), st.data())
def test_torn_answer_is_partial_in_both_cores_at_every_length(cores, function, count, type_code, order, data):
    frame = struct.pack(">HHHBBB", 1, 0, 3 + count * 2, 2, function, count * 2) + bytes(count * 2)
    length = data.draw(st.integers(0, len(frame) - 1))
    for core in cores:
        out = bytearray(250)
        decoder = core.modbus_answer_decoder(2, function, count, type_code, order, out)
        assert decoder(frame[:length], 1) == r.PARTIAL
        assert decoder(frame, 1) == r.OK


@given(st.data())
def test_registers_come_back_in_every_type_and_order(cores, data):
    type_code = data.draw(st.sampled_from(sorted(_WIDTHS)))
    width = _WIDTHS[type_code]
    elements = data.draw(st.integers(1, 250 // width))
    values = data.draw(st.binary(min_size=elements * width, max_size=elements * width))  # little-endian elements
    order = data.draw(st.integers(0, 3))
    wire = b"".join(_wire(values[at : at + width], order) for at in range(0, len(values), width))
    frame = struct.pack(">HHHBBB", 7, 0, 3 + len(wire), 1, 3, len(wire)) + wire
    for core in cores:
        out = bytearray(len(values))
        status = core.modbus_answer_decoder(1, 3, len(wire) // 2, type_code, order, out)(frame, 7)
        assert (status, bytes(out)) == (r.OK, values)


def _wire(little: bytes, order: int) -> bytes:
    """An element as the device sends it, by the letters: ABCD, then words reversed, then bytes swapped in each word."""
    words = [little[::-1][at : at + 2] for at in range(0, len(little), 2)]
    if order & r.ORDER_SWAP_WORDS:
        words.reverse()
    return b"".join(word[::-1] if order & r.ORDER_SWAP_BYTES else word for word in words)


@st.composite
def entries(draw) -> r.DecodeEntry:
    """Any decode entry, mostly near the start of a small body."""
    numbers = st.sampled_from([1.0, 0.1, -2.5, 1e308, 0.0, float("inf"), float("nan")])
    return r.DecodeEntry(
        tag=0,
        offset=draw(st.integers(0, 12) | st.integers(0, 2**32 - 1)),
        type=draw(st.integers(1, 14) | st.integers(0, 255)),
        item=draw(st.integers(0, 6) | st.integers(0, 65535)),
        elements=draw(st.integers(0, 9) | st.integers(0, 65535)),
        order=draw(st.integers(0, 3) | st.integers(0, 255)),
        bit=draw(st.integers(0, 15) | st.integers(0, 255)),
        flags=draw(st.integers(0, 3) | st.integers(0, 255)),
        scale=draw(numbers),
        bias=draw(numbers),
    )


@st.composite
def s7_bodies(draw) -> bytes:
    """Items of an S7 Read Var answer."""
    body = b""
    for _ in range(draw(st.integers(0, 5))):
        data = draw(st.binary(max_size=12))
        size = draw(st.sampled_from([3, 4, 5, 6, 7, 9]))
        if draw(st.integers(0, 3)):
            announced = len(data) * 8 if size <= 5 else len(data)
            body += struct.pack(">BBH", 0xFF, size, announced) + data + bytes(len(data) % 2)
        else:
            body += struct.pack(">BBH", draw(st.sampled_from([0x05, 0x0A])), 0, draw(st.sampled_from([0, 4])))
    return body


@st.composite
def cip_bodies(draw) -> bytes:
    """A Multiple Service Packet's answer."""
    items = []
    for _ in range(draw(st.integers(0, 5))):
        words = draw(st.integers(0, 2))
        head = bytes([0xCC, 0, draw(st.sampled_from([0, 0, 0, 5, 6])), words])
        items.append(head + bytes(2 * words) + draw(st.binary(max_size=12)))
    offsets, at = [], 2 + 2 * len(items)
    for item in items:
        offsets.append(at)
        at += len(item)
    return struct.pack(f"<H{len(items)}H", len(items), *offsets) + b"".join(items)


@given(st.data())
def test_gather_gives_the_same_values_in_both_cores(cores, data):
    c, py = cores
    walk = data.draw(st.integers(0, 2))
    body = data.draw(damaged(data.draw([st.binary(max_size=64), s7_bodies(), cip_bodies()][walk])))
    packed = b"".join(entry.pack() for entry in data.draw(st.lists(entries(), max_size=6)))
    room = data.draw(st.sampled_from([100_000, 16, 0]))
    assert c.gather(body, walk, packed, room) == py.gather(body, walk, packed, room)


@given(st.binary(max_size=64), st.integers(-1, 40).map(lambda n: n % 256), st.binary(max_size=80))
def test_gather_of_any_bytes_is_the_same_in_both_cores(cores, body, walk, packed):
    c, py = cores
    assert c.gather(body, walk, packed, 1000) == py.gather(body, walk, packed, 1000)
