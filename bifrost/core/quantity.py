"""Sizes, durations and percentages as people write them: ``"256 MiB"``, ``"500 ms"``, ``"1 %"``.

Inside Bifrost a size is an int of bytes and a duration an int of nanoseconds. A bare number is in the key's own unit:
bytes for a size, seconds for a duration. Units are case-sensitive, since ``Mb`` and ``MB``, ``m`` and ``M`` mean
different things to different people.
"""

from __future__ import annotations

import math
import re

__all__ = [
    "format_duration",
    "format_size",
    "parse_duration_ns",
    "parse_percent",
    "parse_size_bytes",
]

_QUANTITY_TEXT = re.compile(r"([+-]?[0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-zµμ%]*)")
_DURATION_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_SIZE_UNITS_BYTES = {
    "B": 1,
    "kB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_MEANT = {
    "m": ("ms", "min"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), ("s",)),
    **dict.fromkeys(("mins", "minute", "minutes"), ("min",)),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), ("h",)),
    **dict.fromkeys(("day", "days"), ("d",)),
    "msec": ("ms",),
    "k": ("kB", "KiB"),
    "g": ("GB", "GiB"),
}
_INT64_MAX = (1 << 63) - 1


def parse_duration_ns(value: object) -> int:
    """Nanoseconds that `value` spells.

    Args:
        value: Text with a unit (ns, us, ms, s, min, h, d), or an int or float of seconds; not negative.

    Raises:
        ValueError: Not a duration; the message says what would be one.
    """
    return _parse(value, _DURATION_UNITS_NS, own_unit="s", example="500 ms", noun="duration")


def parse_size_bytes(value: object) -> int:
    """Bytes that `value` spells.

    Args:
        value: Text with a unit (B, kB, MB, GB, KiB, MiB, GiB), or an int of bytes; not negative.

    Raises:
        ValueError: Not a size; the message says what would be one.
    """
    return _parse(value, _SIZE_UNITS_BYTES, own_unit="B", example="64 MiB", noun="size")


def parse_percent(value: object) -> float | None:
    """The percentage that a text such as ``"1.5 %"`` spells; None if `value` is no text that ends with a percent sign.

    Raises:
        ValueError: It ends with a percent sign but does not start with a number.
    """
    if not isinstance(value, str) or not value.rstrip().endswith("%"):
        return None
    found = _QUANTITY_TEXT.fullmatch(value.strip())
    if found is None or found.group(2) != "%":
        raise ValueError(f"{value!r} is not a percentage such as '1 %'")
    return float(found.group(1))


def format_duration(time_ns: int) -> str:
    """`time_ns` in the largest unit that keeps it whole, for example ``"500 ms"``."""
    return _format(time_ns, _DURATION_UNITS_NS, ("d", "h", "min", "s", "ms", "us"), "ns")


def format_size(size_bytes: int) -> str:
    """`size_bytes` in the largest binary unit that keeps it whole, for example ``"64 MiB"``."""
    return _format(size_bytes, _SIZE_UNITS_BYTES, ("GiB", "MiB", "KiB"), "B")


def _parse(value: object, units: dict[str, int], *, own_unit: str, example: str, noun: str) -> int:
    if isinstance(value, str):
        number, factor = _split(value.strip(), units, example, noun)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number, factor = value, units[own_unit]
    else:
        raise ValueError(f"{value!r} is not a {noun}; write for example {example!r}")
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is not a {noun}: it must not be negative")
    if number * factor > _INT64_MAX:  # Also where the product of two floats is infinite.
        raise ValueError(f"{value!r} is too large for a {noun}")
    return round(number * factor)


def _split(text: str, units: dict[str, int], example: str, noun: str) -> tuple[int | float, int]:
    found = _QUANTITY_TEXT.fullmatch(text)
    if found is None:
        hint = "; write the decimal point as a point" if "," in text else ""
        raise ValueError(f"{text!r} is not a {noun}; write for example {example!r}{hint}")
    number_text, unit = found.group(1), found.group(2).replace("μ", "µ")  # Greek mu and micro sign look the same.
    if not unit:
        raise ValueError(f"{text!r} has no unit; write for example {example!r}")
    if unit not in units:
        raise ValueError(f"{text!r}: unknown unit {unit!r}; allowed: {', '.join(units)}{_near_unit(unit, units)}")
    return (float(number_text) if "." in number_text else int(number_text)), units[unit]


def _near_unit(unit: str, units: dict[str, int]) -> str:
    near = [repr(known) for known in units if known.lower() == unit.lower() or known in _MEANT.get(unit.lower(), ())]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _format(amount: int, units: dict[str, int], order: tuple[str, ...], smallest: str) -> str:
    for unit in order:
        if amount and amount % units[unit] == 0:
            return f"{amount // units[unit]} {unit}"
    return f"{amount} {smallest}"
