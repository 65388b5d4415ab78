"""What commands print: tables for people, JSON for programs, one value as a person reads it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

__all__ = ["counted", "format_age", "format_count", "format_value", "print_json", "table_lines"]

_VALUE_CHARS_MAX = 40
_GAP = "  "


def print_json(content: Any) -> None:
    """Prints `content` as one line of JSON; NaN and infinities become null (CONTRACT, JSON payload)."""
    sys.stdout.write(msgspec.json.encode(content).decode() + "\n")
    sys.stdout.flush()


def table_lines(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> list[str]:
    """Lines of a table: columns as wide as their longest cell.

    Args:
        header: Names of the columns.
        rows: Cells, shown with `str`.
        right: Columns, from 0, that are flush right.
    """
    texts = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    flush_right = set(right)
    lines = []
    for row in texts:
        cells = [
            cell.rjust(width) if column in flush_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(_GAP.join(cells).rstrip())
    return lines


def format_value(value: object, unit: str = "") -> str:
    """A tag's value for people: up to seven digits of a float, a long text or array cut short; ``-`` for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        text = "on" if value else "off"
    elif isinstance(value, float):
        text = f"{value:.7g}"
    elif isinstance(value, list):
        text = "[" + ", ".join(format_value(item) for item in value) + "]"
    else:
        text = repr(value) if isinstance(value, str) else str(value)
    if len(text) > _VALUE_CHARS_MAX:
        text = text[: _VALUE_CHARS_MAX - 1] + "…"
    return f"{text} {unit}" if unit else text


def format_count(number: float) -> str:
    """A number with thin groups of thousands: ``12 345``."""
    return f"{number:,}".replace(",", " ")


def counted(number: int, noun: str) -> str:
    """``1 tag``, ``12 345 tags``."""
    return f"{format_count(number)} {noun}" + ("" if number == 1 else "s")


def format_age(seconds: float) -> str:
    """How long ago, in one unit."""
    for factor, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
