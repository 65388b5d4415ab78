"""Faults on purpose: what a broken Modbus server, gateway or network does to answers. Pure, for tests.

A `FaultPlan` is given each answer frame in order and says what goes out instead: pieces of bytes, each after a delay,
and perhaps the end of the connection. The same plan and the same answers give the same faults.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from bifrost.plc.modbus.frame import LENGTH_END, MBAP_BYTES

__all__ = ["Emission", "Fault", "FaultKind", "FaultPlan"]

_TORN_DELAY_NS = 1_000_000
_NEIGHBOURS = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 15: 16, 16: 15}
_READ_ANSWERS = frozenset((1, 2, 3, 4, 23))
_LONGEST_DATA_BYTES = 250  # Of a read answer; AP 6.3.


class FaultKind(StrEnum):
    """What happens to an answer."""

    HANG = "hang"
    """It and all later ones are never sent; the connection stays open."""
    DELAY = "delay"
    """It is sent late, and later ones after it."""
    DROP = "drop"
    """It is never sent."""
    CLOSE = "close"
    """The connection closes instead."""
    CUT = "cut"
    """Half of it is sent, then the connection closes."""
    TEAR = "tear"
    """It is sent in three pieces."""
    MERGE = "merge"
    """It is kept back and sent with the next one in one piece."""
    REPEAT = "repeat"
    """It is sent twice."""
    STALE = "stale"
    """The answer before it is sent once more in front of it."""
    WRONG_TRANSACTION = "wrong_transaction"
    WRONG_PROTOCOL = "wrong_protocol"
    WRONG_LENGTH = "wrong_length"
    """The length field is 0, which no frame can have."""
    WRONG_UNIT = "wrong_unit"
    WRONG_FUNCTION = "wrong_function"
    WRONG_COUNT = "wrong_count"
    """Whole in itself, but one item less or more than asked; a write is answered with another echo."""
    WRONG_BYTE_COUNT = "wrong_byte_count"
    """The byte count says two more than there are."""
    TRAILING = "trailing"
    """One byte too many at the end of the PDU."""


class Fault(msgspec.Struct, frozen=True):
    """One planned fault.

    Attributes:
        kind: What happens.
        at: Number of the first answer it happens to, from 0.
        count: How many answers in a row it happens to.
        delay_ns: How late, for `DELAY`; between the pieces, for `TEAR` (0: 1 ms).
    """

    kind: FaultKind
    at: int = 0
    count: int = 1
    delay_ns: int = 0


class Emission(NamedTuple):
    """What goes out: `data` after `delay_ns`, and then, if `close`, the connection closes."""

    delay_ns: int
    data: bytes
    close: bool = False


class FaultPlan:
    """Faults by answer number, or at random from a seed.

    Args:
        faults: Planned faults; where two overlap the first one counts.
        seed: With `probability`: which of `kinds` befalls an answer is drawn from this seed.
        probability: Of a fault, for each answer that no planned fault befalls; 0 to 1.
        kinds: What may be drawn.
        delay_ns: Longest delay that may be drawn.
    """

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        *,
        seed: int = 0,
        probability: float = 0.0,
        kinds: Sequence[FaultKind] = tuple(FaultKind),
        delay_ns: int = 100_000_000,
    ) -> None:
        self.answers_count = 0
        self._faults = tuple(faults)
        self._random = random.Random(seed)
        self._probability = probability
        self._kinds = tuple(kinds)
        self._delay_ns = delay_ns
        self._is_hung = False
        self._held = b""
        self._last = b""

    def apply(self, answer: bytes) -> list[Emission]:
        """What goes out instead of the whole frame `answer`."""
        fault = self._next_fault()
        last, self._last = self._last, answer
        if self._is_hung or (fault is not None and fault.kind is FaultKind.HANG):
            self._is_hung = True
            return []
        if fault is not None and fault.kind is FaultKind.MERGE:
            self._held += answer
            return []
        emissions = [Emission(0, answer)] if fault is None else _emissions(fault, answer, last)
        held, self._held = self._held, b""
        if held and not emissions:
            return [Emission(0, held)]
        if held:
            emissions[0] = emissions[0]._replace(data=held + emissions[0].data)
        return emissions

    def _next_fault(self) -> Fault | None:
        number = self.answers_count
        self.answers_count += 1
        for fault in self._faults:
            if fault.at <= number < fault.at + fault.count:
                return fault
        if self._probability and self._random.random() < self._probability:
            return Fault(self._random.choice(self._kinds), number, delay_ns=self._random.randint(0, self._delay_ns))
        return None


def _emissions(fault: Fault, answer: bytes, last: bytes) -> list[Emission]:
    """What goes out by a fault that concerns this answer alone."""
    match fault.kind:
        case FaultKind.DROP:
            return []
        case FaultKind.CLOSE:
            return [Emission(0, b"", close=True)]
        case FaultKind.CUT:
            return [Emission(0, answer[: len(answer) // 2], close=True)]
        case FaultKind.DELAY:
            return [Emission(fault.delay_ns, answer)]
        case FaultKind.TEAR:
            delay_ns = fault.delay_ns or _TORN_DELAY_NS
            middle = (LENGTH_END + len(answer)) // 2
            pieces = (answer[:LENGTH_END], answer[LENGTH_END:middle], answer[middle:])
            return [Emission(delay_ns if index else 0, piece) for index, piece in enumerate(pieces)]
        case FaultKind.REPEAT:
            return [Emission(0, answer + answer)]
        case FaultKind.STALE:
            return [Emission(0, last + answer)]
        case _:
            return [Emission(0, _wrong(fault.kind, answer))]


def _wrong(kind: FaultKind, answer: bytes) -> bytes:
    """`answer` with one field wrong."""
    frame = bytearray(answer)
    function = frame[MBAP_BYTES]
    match kind:
        case FaultKind.WRONG_TRANSACTION:
            frame[0] ^= 0x80
        case FaultKind.WRONG_PROTOCOL:
            frame[3] = 1
        case FaultKind.WRONG_LENGTH:
            frame[4:6] = b"\x00\x00"
        case FaultKind.WRONG_UNIT:
            frame[6] ^= 0x40
        case FaultKind.WRONG_FUNCTION:
            frame[7] = _NEIGHBOURS.get(function, function ^ 1)
        case FaultKind.WRONG_COUNT if function in _READ_ANSWERS:
            step = 1 if function in (1, 2) else 2
            if frame[8] > step:
                frame = frame[:-step]
            elif frame[8] + step <= _LONGEST_DATA_BYTES:
                frame += b"\x00" * step
            frame[8] = len(frame) - MBAP_BYTES - 2
        case FaultKind.WRONG_COUNT:
            frame[-1] ^= 1
        case FaultKind.WRONG_BYTE_COUNT:
            frame[8] = (frame[8] + 2) & 0xFF
        case FaultKind.TRAILING:
            frame += b"\x00"
        case _:
            raise AssertionError(f"{kind} changes no field")
    if kind is not FaultKind.WRONG_LENGTH:
        frame[4:6] = (len(frame) - LENGTH_END).to_bytes(2, "big")
    return bytes(frame)
