"""Guesses about registers: what a person would say who sees the same numbers."""

import struct

import pytest

from bifrost.core.datatypes import ByteOrder
from bifrost.plc.modbus.guess import guess_registers, likely_order


def registers(layout, *values):
    data = struct.pack(">" + layout, *values)
    return [int.from_bytes(data[index : index + 2]) for index in range(0, len(data), 2)]


def swapped(words):
    return [word for index in range(0, len(words), 2) for word in (words[index + 1], words[index])]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (registers("ff", 21.5, -3.25), [("float32", 21.5), ("float32", -3.25)]),
        (registers("12sH", b"SIM-STATION\0", 7), [("string[12]", "SIM-STATION"), ("uint16", 7)]),
        ([0] * 5 + [12], [("zeros", 0), ("uint16", 12)]),
        ([0, 0, 12], [("uint16", 0), ("uint16", 0), ("uint16", 12)]),
        ([60_000], [("uint16", 60_000)]),
        ([], []),
    ],
)
def test_registers_say(words, said):
    assert [(guess.kind, guess.value) for guess in guess_registers(words, ByteOrder.ABCD)] == said


def test_each_register_is_in_one_guess():
    words = registers("f8sHHf", 1.5, b"ABCDEFGH", 1, 2, 99.5)
    guesses = list(guess_registers(words, ByteOrder.ABCD))
    assert [index for guess in guesses for index in range(guess.first, guess.first + guess.length)] == list(
        range(len(words))
    )


def test_order_is_that_of_the_floats_at_even_offsets():
    words = registers("ffff", 230.1, 229.7, 50.02, 7.25)
    assert likely_order([(0, words)]) is ByteOrder.ABCD
    assert likely_order([(10, swapped(words))]) is ByteOrder.CDAB
    assert likely_order([(1, [5, *words])]) is ByteOrder.ABCD
    assert likely_order([(0, [0x4851, 0x4329])]) is ByteOrder.CDAB  # 169.28, and not 214284.6.
    assert likely_order([]) is ByteOrder.ABCD
