"""Requests and answers: decode(encode(x)) = x, `construct` agrees with the codec by hand, any bytes are survived."""

from __future__ import annotations

from construct import ConstructError
from hypothesis import given
from hypothesis import strategies as st

from bifrost.plc.modbus import frame, schema

words = st.integers(0, 65_535)


@st.composite
def requests(draw):
    kind = draw(st.sampled_from(frame.Function))
    if kind in frame.READ_COUNT_MAX:
        return frame.ReadRequest(kind, draw(words), draw(st.integers(1, frame.READ_COUNT_MAX[kind])))
    if kind in frame.WRITE_COUNT_MAX:
        count = draw(st.integers(1, frame.WRITE_COUNT_MAX[kind]))
        size = count * 2 if kind in (6, 16) else (count + 7) // 8
        data = draw(st.sampled_from([b"\0", b"\1"])) if kind == 5 else draw(st.binary(min_size=size, max_size=size))
        return frame.WriteRequest(kind, draw(words), count, data)
    if kind == frame.Function.MASK_WRITE_REGISTER:
        return frame.MaskWriteRequest(draw(words), draw(words), draw(words))
    if kind == frame.Function.READ_WRITE_MULTIPLE_REGISTERS:
        data = draw(st.integers(1, 121).flatmap(lambda count: st.binary(min_size=count * 2, max_size=count * 2)))
        return frame.ReadWriteRequest(draw(words), draw(st.integers(1, 125)), draw(words), data)
    return frame.IdentificationRequest(draw(st.integers(1, 4)), draw(st.integers(0, 255)))


@st.composite
def granted(draw):
    """A request and the PDU that grants it."""
    request = draw(requests())
    data = b""
    if isinstance(request, frame.ReadRequest | frame.ReadWriteRequest):
        size = (request.count + 7) // 8 if request.function in (1, 2) else request.count * 2
        data = draw(st.binary(min_size=size, max_size=size))
    elif isinstance(request, frame.IdentificationRequest):
        objects = draw(st.dictionaries(st.integers(0, 255), st.binary(max_size=40), max_size=5))
        next_object_id = draw(st.none() | st.integers(0, 255))
        data = frame.encode_identification(frame.Identification(0x83, next_object_id, objects))
    return request, data, frame.encode_answer(request, data)


@given(requests())
def test_request_survives_the_wire_and_construct_agrees(request):
    pdu = frame.encode_request(request)
    assert len(pdu) <= frame.PDU_BYTES_MAX
    assert frame.decode_request(pdu) == request
    declared = schema.REQUESTS[request.function]
    parsed = declared.parse(pdu)
    assert declared.build(parsed) == pdu
    for field in ("function", "offset", "count", "write_offset", "and_mask", "or_mask", "code", "object_id"):
        if field in parsed and hasattr(request, field):
            assert parsed[field] == getattr(request, field)
    if "data" in parsed:
        assert parsed.data == request.data


@given(granted())
def test_answer_survives_the_wire_and_construct_agrees(example):
    request, data, pdu = example
    assert len(pdu) <= frame.PDU_BYTES_MAX
    assert frame.decode_answer(request, pdu) == frame.Answer(0, data)
    declared = schema.ANSWERS[request.function]
    assert declared.build(declared.parse(pdu)) == pdu
    refusal = frame.encode_exception(request.function, 4)
    assert frame.decode_answer(request, refusal) == frame.Answer(4, b"")
    assert schema.EXCEPTION.parse(refusal).code == 4


@given(granted(), st.data())
def test_answer_with_any_other_length_or_function_is_none(example, data):
    request, _, pdu = example
    cut = data.draw(st.integers(0, len(pdu) - 1))
    assert isinstance(frame.decode_answer(request, pdu[:cut]), frame.Mismatch)
    assert isinstance(frame.decode_answer(request, pdu + data.draw(st.binary(min_size=1, max_size=5))), frame.Mismatch)
    other = data.draw(st.integers(0, 255).filter(lambda code: code & 0x7F != request.function))
    assert frame.decode_answer(request, bytes((other,)) + pdu[1:]) is frame.Mismatch.FUNCTION


@given(requests(), st.binary(max_size=260))
def test_any_bytes_are_an_answer_of_the_right_size_or_none(request, pdu):
    answer = frame.decode_answer(request, pdu)
    if isinstance(answer, frame.Answer) and not answer.exception:
        assert frame.encode_answer(request, answer.data) == pdu


@given(st.binary(max_size=260) | st.sampled_from(frame.Function).flatmap(
    lambda function: st.binary(max_size=20).map(lambda rest: bytes((function,)) + rest)
))  # fmt: skip
def test_any_bytes_are_a_request_that_encodes_back_or_a_refusal(pdu):
    request = frame.decode_request(pdu)
    if isinstance(request, frame.ExceptionCode):
        assert request in (1, 3)
        return
    assert frame.encode_request(request) == pdu
    assert schema.REQUESTS[pdu[0]].parse(pdu)


@given(st.sampled_from(frame.Function).flatmap(
    lambda function: st.binary(max_size=14).map(lambda rest: bytes((function,)) + rest)
))  # fmt: skip
def test_what_construct_takes_is_refused_only_for_a_quantity(pdu):
    """`schema` knows the shape and not the limits of quantities, so that is all the two may differ in."""
    try:
        parsed = schema.REQUESTS[pdu[0]].parse(pdu)
    except ConstructError:
        assert isinstance(frame.decode_request(pdu), frame.ExceptionCode)
        return
    if isinstance(frame.decode_request(pdu), frame.ExceptionCode):
        assert pdu[0] in (1, 2, 3, 4, 15, 16, 23)
        sizes = {15: (parsed.get("count", 0) + 7) // 8, 16: parsed.get("count", 0) * 2}
        count_is_wrong = (
            not 1 <= parsed.count <= frame.READ_COUNT_MAX.get(pdu[0], frame.WRITE_COUNT_MAX.get(pdu[0], 125))
        )
        data_is_wrong = sizes.get(pdu[0], parsed.get("data_bytes")) != parsed.get("data_bytes")
        written_is_wrong = pdu[0] == 23 and not (parsed.write_count * 2 == parsed.data_bytes and parsed.data_bytes)
        assert count_is_wrong or data_is_wrong or written_is_wrong


@given(st.integers(0, 65_535), st.integers(0, 255), st.binary(min_size=1, max_size=253), st.binary(max_size=20))
def test_frame_header_agrees_with_construct(transaction, unit, pdu, behind):
    adu = frame.encode_adu(transaction, unit, pdu)
    parsed = schema.ADU.parse(adu)
    assert (parsed.transaction, parsed.frame.unit, parsed.frame.pdu) == (transaction, unit, pdu)
    header = frame.Header(transaction, 0, len(pdu) + 1, unit)
    assert frame.next_frame(adu + behind) == (frame.FrameStatus.WHOLE, header)


@given(st.lists(st.booleans(), max_size=2000))
def test_bits_survive_packing(bits):
    data = frame.pack_bits(bits)
    assert len(data) == (len(bits) + 7) // 8
    assert frame.unpack_bits(data, len(bits)) == bits
