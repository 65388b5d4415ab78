"""Live values on a terminal, refreshed in place; plain lines, one a change, where there is no terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bifrost.cli.output import format_value, table_lines

__all__ = ["ChangeLines", "LiveTable", "ValueView", "value_lines", "value_view"]

_CLEAR_BELOW = "\x1b[J"  # ECMA-48, 8.3.39.
_COLOURS = {"Good": "\x1b[32m", "Unce": "\x1b[33m"}  # Green, yellow; everything else is red. ECMA-48, 8.3.117.
_RED = "\x1b[31m"
_PLAIN = "\x1b[0m"

Values = Sequence[Mapping[str, Any]]


class ValueView(Protocol):
    """Shows snapshots."""

    def show(self, values: Values, notes: Sequence[str] = ()) -> None:
        """Shows one snapshot: the values of a `read` answer, and lines for people."""
        ...


def value_view() -> ValueView:
    """A view that fits standard output."""
    return LiveTable() if sys.stdout.isatty() else ChangeLines()


class LiveTable:
    """A table that is painted over its last state. What does not fit on the screen is counted."""

    def __init__(self) -> None:
        self._painted = 0

    def show(self, values: Values, notes: Sequence[str] = ()) -> None:
        """Paints one snapshot."""
        width, height = shutil.get_terminal_size()
        shown = values[: max(1, height - 3 - len(notes))]
        header, *rows = (line[:width] for line in value_lines(shown))
        lines = [header, *map(_coloured, rows, shown)]
        if len(shown) < len(values):
            lines.append(f"… and {len(values) - len(shown)} more")
        lines += [note[:width] for note in notes]
        up = f"\x1b[{self._painted}A\r" if self._painted else ""  # Cursor up; ECMA-48, 8.3.22.
        sys.stdout.write(up + _CLEAR_BELOW + "\n".join(lines) + "\n")
        sys.stdout.flush()
        self._painted = len(lines)


class ChangeLines:
    """A line for each value that is not as it was in the snapshot before."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[object, object]] = {}

    def show(self, values: Values, notes: Sequence[str] = ()) -> None:
        """Prints what changed; `notes` are for terminals."""
        for value in values:
            state = (value["value"], value["quality"])
            if self._last.get(value["tag"]) != state:
                self._last[value["tag"]] = state
                shown = format_value(value["value"], value.get("unit", ""))
                sys.stdout.write(f"{value['server_time'] or '-'}  {value['tag']}  {shown}  {value['quality']}\n")
        sys.stdout.flush()


def value_lines(values: Values) -> list[str]:
    """A snapshot as a table."""
    rows = [
        (
            value["tag"],
            format_value(value["value"]),
            value.get("unit", ""),
            value["quality"],
            _clock(value["source_time"]),
        )
        for value in values
    ]
    return table_lines(("tag", "value", "unit", "quality", "source time"), rows, right=(1,))


def _clock(time_text: str | None) -> str:
    """Time of day of an ISO 8601 time, to the millisecond."""
    return time_text[11:23] if time_text else "-"


def _coloured(line: str, value: Mapping[str, Any]) -> str:
    quality = value["quality"]
    return line.replace(quality, f"{_COLOURS.get(quality[:4], _RED)}{quality}{_PLAIN}", 1) if quality in line else line
