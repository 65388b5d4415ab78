"""What a Modbus request looks like to the scan engine: its bytes, and every byte its answer must have.

An answer is accepted only if transaction, protocol, length, unit, function and byte count (or echo) are those of its
request; the engine compares, this module says with what. Source: Messaging on TCP/IP V1.0b (TG), 3.1.3; Application
Protocol V1.1b3 (AP), 6 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bifrost._native.records import Exchange, LinkOptions, OneShot
from bifrost.plc.modbus import frame

__all__ = ["ERROR_CODE_OFFSET", "answer_data", "compile_exchange", "compile_oneshot", "tcp_link_options"]

ERROR_CODE_OFFSET: Final = frame.MBAP_BYTES + 1  # Exception code after the function code; AP 7.
_EXPECT_OFFSET: Final = 2  # From the protocol id on: the transaction id before it is matched by the engine.
_ERROR_LENGTH: Final = frame.MBAP_BYTES + 2
_BIT_FUNCTIONS: Final = (frame.Function.READ_COILS, frame.Function.READ_DISCRETE_INPUTS)
_FIXED_IDENTIFICATION_BYTES: Final = 7  # Function, MEI type, code, conformity, more, next, count of objects; AP 6.21.

_RECONNECT_MIN_NS: Final = 500_000_000
_RECONNECT_MAX_NS: Final = 30_000_000_000
_BREAKER_MIN_NS: Final = 2_000_000_000
_BREAKER_MAX_NS: Final = 60_000_000_000
_TIMEOUTS_TO_CLOSE: Final = 3
_BREAKER_FAILURES: Final = 3


def tcp_link_options(timeout_ns: int, window: int) -> LinkOptions:
    """How Modbus TCP frames, waits and comes back.

    Args:
        timeout_ns: Time a device has to answer, in nanoseconds.
        window: Requests in flight, 1 to 16; TG 4.2.1.
    """
    return LinkOptions(
        timeout_ns=timeout_ns,
        reconnect_min_ns=_RECONNECT_MIN_NS,
        reconnect_max_ns=_RECONNECT_MAX_NS,
        breaker_min_ns=_BREAKER_MIN_NS,
        breaker_max_ns=_BREAKER_MAX_NS,
        window=window,
        timeouts_to_close=_TIMEOUTS_TO_CLOSE,
        breaker_failures=_BREAKER_FAILURES,
        frame_bytes_max=frame.ADU_BYTES_MAX,
        frame_bytes_min=frame.MBAP_BYTES + 1,  # A PDU has a function code at least.
        length_add=frame.LENGTH_END,  # The field counts what follows it; TG 3.1.3.
        length_offset=4,
        length_little=0,
        transaction_offset=0,
        transaction_bytes=2,
        transaction_little=0,
        sync_offset=2,
        sync=b"\0\0",  # Protocol id 0 is Modbus; TG 3.1.3.
    )


def compile_exchange(request: frame.Request, unit: int) -> tuple[Exchange, bytes]:
    """The Exchange of `request` to `unit`, and its bytes with transaction id 0.

    Args:
        request: Any request that `frame` knows.
        unit: Unit id, 0 to 255.

    Raises:
        ValueError: The standard has no such request.
    """
    pdu = frame.encode_request(request)
    adu = frame.encode_adu(0, unit, pdu)
    function = int(request.function)
    answer_length = 0
    length_min = 0
    if isinstance(request, frame.ReadRequest | frame.ReadWriteRequest):
        data_bytes = (request.count + 7) // 8 if function in _BIT_FUNCTIONS else request.count * 2
        answer_length = frame.MBAP_BYTES + 2 + data_bytes
        expect = _header(unit, 2 + data_bytes) + bytes((function, data_bytes))
        body_offset = frame.MBAP_BYTES + 2
    elif isinstance(request, frame.IdentificationRequest):
        length_min = frame.MBAP_BYTES + _FIXED_IDENTIFICATION_BYTES
        expect = _header(unit, 0) + bytes((function, frame.MEI_IDENTIFICATION, request.code))
        body_offset = frame.MBAP_BYTES + 3
    else:
        echo = frame.encode_answer(request)
        answer_length = frame.MBAP_BYTES + len(echo)
        expect = _header(unit, len(echo)) + echo
        body_offset = answer_length
    mask = None
    if not answer_length:
        mask = b"\xff\xff\0\0" + b"\xff" * (len(expect) - 4)  # The length is open; the engine has used it for framing.
    exchange = Exchange(
        request_length=len(adu),
        answer_length=answer_length,
        answer_length_min=length_min,
        body_offset=body_offset,
        expect_offset=_EXPECT_OFFSET,
        expect=expect,
        expect_mask=mask,
        error_length=_ERROR_LENGTH,
        error_code_offset=ERROR_CODE_OFFSET,
        error_expect_offset=_EXPECT_OFFSET,
        error_expect=_header(unit, 2) + bytes((function | 0x80,)),
    )
    return exchange, adu


def compile_oneshot(request: frame.Request, unit: int, *, unit_index: int = 0, timeout_ns: int = 0) -> OneShot:
    """`request` as a one-shot; `timeout_ns` 0 is the link's."""
    exchange, adu = compile_exchange(request, unit)
    return OneShot(exchange._replace(unit=unit_index), adu, timeout_ns)


def answer_data(answer: bytes, exchange: Exchange) -> bytes:
    """Wire bytes that a good answer carries."""
    return answer[exchange.body_offset :]


def codes() -> Mapping[int, int]:
    """Exception code -> StatusCode of a read; every code that AP 7 defines."""
    return {int(code): int(frame.exception_status(code, is_write=False)) for code in frame.ExceptionCode}


def _header(unit: int, pdu_bytes: int) -> bytes:
    """Protocol id, length and unit id of an answer whose PDU has `pdu_bytes`."""
    length = pdu_bytes + 1 if pdu_bytes else 0
    return b"\0\0" + length.to_bytes(2, "big") + bytes((unit,))
