"""What the foreign plant holds: 1,000 registers of every type, whose values say which tag and which step they are.

The plant's side is written with `struct` alone and knows nothing of Bifrost, so that a mistake cannot be made twice. The values of a tag
are a function of the step; `steps_of` is its inverse: the steps at which the tag has a given value.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

REGISTERS = 1000
CHUNK = 125  # The longest read; no value crosses a chunk, so that 8 reads can cover 1,000 registers.
STEPS = 1000

# Type, byte order, registers, and how often in a chunk: 125 registers in all.
_CHUNK_LAYOUT = (
    ("float64", "ABCD", 4, 5),
    ("int64", "CDAB", 4, 5),
    ("uint64", "DCBA", 4, 5),
    ("float32", "CDAB", 2, 10),
    ("int32", "BADC", 2, 5),
    ("uint32", "DCBA", 2, 5),
    ("string[8]", "ABCD", 4, 2),
    ("bcd32", "ABCD", 2, 2),
    ("int16[3]", "ABCD", 3, 1),
    ("int16", "ABCD", 1, 2),
    ("uint16", "BADC", 1, 3),
    ("bcd16", "ABCD", 1, 2),
    ("uint8", "ABCD", 1, 1),
    ("int8", "ABCD", 1, 1),
    ("bool", "ABCD", 1, 1),
)


class PlantTag(NamedTuple):
    """One tag of the plant; `serial` is its number among the tags of its type."""

    name: str
    type: str
    order: str
    register: int
    registers: int
    serial: int

    @property
    def address(self) -> str:
        """The address as a user would type it."""
        return f"hr:{self.register}.5" if self.type == "bool" else f"hr:{self.register}"


def plant_tags() -> list[PlantTag]:
    """All tags, in the order of their registers."""
    tags: list[PlantTag] = []
    serials: dict[str, int] = {}
    for chunk in range(REGISTERS // CHUNK):
        register = chunk * CHUNK
        for type_text, order, registers, times in _CHUNK_LAYOUT:
            for _ in range(times):
                serial = serials.get(type_text, 0)
                serials[type_text] = serial + 1
                name = f"{type_text.translate(str.maketrans('[', '_', ']'))}_{serial}"
                tags.append(PlantTag(name, type_text, order, register, registers, serial))
                register += registers
        assert register == (chunk + 1) * CHUNK
    return tags


def value_at(tag: PlantTag, step: int) -> object:
    """The value of `tag` at `step`, 0 to STEPS - 1."""
    number = tag.serial * STEPS + step
    if tag.type in ("float32", "float64"):
        return number + 0.5
    if tag.type in ("int32", "int64"):
        return -number if tag.serial % 2 else number
    if tag.type == "string[8]":
        return f"{number:08d}"
    if tag.type == "int16":
        return number - 8 * STEPS
    if tag.type == "int16[3]":
        return [tag.serial, step, -step]
    if tag.type in ("bcd16", "uint8"):
        span = 500 if tag.type == "bcd16" else 32
        return tag.serial * span + step % span
    if tag.type == "int8":
        return tag.serial * 16 + step % 16 - 64
    if tag.type == "bool":
        return (tag.serial + step) % 2 == 1
    return number


def registers_at(step: int, tags: list[PlantTag]) -> list[int]:
    """All registers at `step`."""
    data = b"".join(_wire(tag, value_at(tag, step)) for tag in tags)
    return list(struct.unpack(f">{REGISTERS}H", data))


_FORMATS = {
    "float64": ">d",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "int32": ">i",
    "uint32": ">I",
    "int16": ">h",
    "uint16": ">H",
}


def _wire(tag: PlantTag, value: object) -> bytes:
    if tag.type == "string[8]":
        data = str(value).encode()
    elif tag.type.startswith("bcd"):
        data = bytes.fromhex(f"{value:0{4 * tag.registers}d}")
    elif tag.type == "int16[3]":
        assert isinstance(value, list)
        data = struct.pack(">3h", *value)
    elif tag.type in ("int8", "uint8"):
        assert isinstance(value, int)
        data = bytes((0xA5, value & 0xFF))
    elif tag.type == "bool":
        data = struct.pack(">H", 0xFFDF | (0x20 if value else 0))
    else:
        data = struct.pack(_FORMATS[tag.type], value)
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if tag.order in ("CDAB", "DCBA"):
        words.reverse()
    if tag.order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)
