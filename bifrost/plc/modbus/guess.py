"""What registers may mean, for a person who looks at a device without its manual: texts, floats, numbers, nothing.

Guesses, and called so: a register says neither its type nor its byte order. Pure.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from bifrost.core.datatypes import ByteOrder

__all__ = ["Guess", "guess_registers", "likely_order"]

_TEXT_REGISTERS_MIN: Final = 3
_ZEROS_MIN: Final = 3
_FLOAT_LOW: Final = 1e-2  # Most measured values lie between these; a wrong order or type seldom does.
_FLOAT_HIGH: Final = 1e6
_USUAL_LOW: Final = 0.1  # And of these more: they count twice.
_USUAL_HIGH: Final = 1e4


class Guess(NamedTuple):
    """One value, or a run of zeros.

    Attributes:
        first: Index of its first register.
        length: Registers it takes.
        kind: Type, ``zeros`` for a run of registers that are all 0.
        order: Byte order.
        value: As the type says.
    """

    first: int
    length: int
    kind: str
    order: ByteOrder
    value: int | float | str


def likely_order(areas: Iterable[tuple[int, Sequence[int]]]) -> ByteOrder:
    """The byte order in which pairs of registers are rather floats; a pair begins at an even offset, as in most devices.

    Args:
        areas: First offset and registers of each.
    """
    counts = {ByteOrder.ABCD: 0, ByteOrder.CDAB: 0}
    for first, registers in areas:
        for index in range(first % 2, len(registers) - 1, 2):
            for order in counts:
                guess = _float(registers, index, order)
                if guess is not None and isinstance(guess.value, float):
                    counts[order] += 2 if _USUAL_LOW <= abs(guess.value) < _USUAL_HIGH else 1
    return max(counts, key=lambda order: counts[order])


def guess_registers(registers: Sequence[int], order: ByteOrder) -> Iterator[Guess]:
    """The likeliest reading of registers that follow each other, floats in `order`: each register in one guess."""
    index = 0
    while index < len(registers):
        guess = _text(registers, index) or _zeros(registers, index) or _float(registers, index, order)
        guess = guess or Guess(index, 1, "uint16", ByteOrder.ABCD, registers[index])
        yield guess
        index += guess.length


def _zeros(registers: Sequence[int], index: int) -> Guess | None:
    end = index
    while end < len(registers) and registers[end] == 0:
        end += 1
    return Guess(index, end - index, "zeros", ByteOrder.ABCD, 0) if end - index >= _ZEROS_MIN else None


def _text(registers: Sequence[int], index: int) -> Guess | None:
    """Printable characters in both bytes of several registers; the last may be followed by a zero."""
    end = index
    words = b""
    while end < len(registers) and words[-1:] != b"\0":
        pair = registers[end].to_bytes(2)
        if not _is_printable(pair[0]) or not (_is_printable(pair[1]) or pair[1] == 0):
            break
        words += pair
        end += 1
    words = words.rstrip(b"\0 ")
    count = (len(words) + 1) // 2
    if count < _TEXT_REGISTERS_MIN or not words[:1].isalnum():
        return None
    return Guess(index, count, f"string[{2 * count}]", ByteOrder.ABCD, words.decode("ascii"))


def _is_printable(byte: int) -> bool:
    return 0x20 <= byte < 0x7F


def _float(registers: Sequence[int], index: int, order: ByteOrder) -> Guess | None:
    if index + 1 >= len(registers):
        return None
    pair = registers[index : index + 2]
    high, low = pair if order is ByteOrder.ABCD else reversed(pair)
    value = struct.unpack(">f", struct.pack(">HH", high, low))[0]
    if not math.isfinite(value) or not _FLOAT_LOW <= abs(value) < _FLOAT_HIGH:
        return None
    return Guess(index, 2, "float32", order, float(f"{value:.7g}"))
