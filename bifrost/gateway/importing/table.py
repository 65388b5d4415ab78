"""A tag list as a table: CSV as spreadsheets write it, with a header that is found and understood, or said with --column.

The separator and the header's row are those under which most columns are understood. A column that is not understood is left
out and named; a cell that is not understood is a problem of its row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from bifrost.core.config_rules import nearest
from bifrost.core.errors import ConfigError
from bifrost.gateway.importing import cells
from bifrost.gateway.importing.draft import Draft, ImportOptions, Problem, Reading
from bifrost.gateway.importing.foreign_words import HEADERS
from bifrost.gateway.importing.text import SEPARATORS, read_rows, separator_words

__all__ = ["Table", "find_table", "read_table", "spread_linear", "table_drafts"]

_HEADER_ROWS = 20  # A title, a date and a logo stand above the header, not more.
_BY_HEADER = {spelled: ours for ours, all_spelled in HEADERS.items() for spelled in all_spelled}
_CORNERS = ("raw_low", "raw_high", "scaled_low", "scaled_high")


class Table(NamedTuple):
    """A table whose header was found.

    Attributes:
        separator: Between its cells.
        line: Of the header, from 1.
        header: As written.
        columns: Our column for each of the header's; None: not understood.
    """

    separator: str
    line: int
    header: list[str]
    columns: list[str | None]


def find_table(text: str, options: ImportOptions, path: str) -> Table:
    """The table's separator and header.

    Raises:
        ConfigError: No row names a name and an address, or --column names a column that is not there.
    """
    best: Table | None = None
    first: Table | None = None
    for separator in SEPARATORS:
        for number, (line, row) in enumerate(read_rows(text, separator, lambda line, reason: None)):
            if number == _HEADER_ROWS:
                break
            found = Table(separator, line, row, _understood(row, options.columns))
            if number == 0 and (first is None or len(row) > len(first.header)):
                first = found
            if best is None or _rank(found) > _rank(best):
                best = found
    if best is None or first is None:
        raise ConfigError("the file has no rows", file=path)
    if not {"name", "address"}.intersection(best.columns):
        best = first  # No header at all, as far as is understood: people expect it there.
    for ours, theirs in options.columns.items():
        if theirs not in best.header:
            raise ConfigError(
                f"--column {ours}={theirs}: no such column{nearest(theirs, best.header)}", file=path, line=best.line
            )
    for needed in ("name", "address"):
        if needed not in best.columns:
            shown = ", ".join(repr(cell) for cell in best.header if cell)
            message = f"no column looks like the tags' {needed}; there are {shown}; say which one with --column {needed}=COLUMN"
            raise ConfigError(message, file=path, line=best.line)
    return best


def _rank(table: Table) -> tuple[bool, int, int]:
    understood = [column for column in table.columns if column]
    return {"name", "address"} <= set(understood), len(understood), -table.line


def _understood(header: list[str], said: Mapping[str, str]) -> list[str | None]:
    """Our columns; of two that mean the same, the one whose word comes first in the list is it."""
    chosen: dict[str, tuple[int, int]] = {}
    for index, cell in enumerate(header):
        words = _plain(cell)
        ours = _BY_HEADER.get(words)
        if ours is not None and ours not in said and cell not in said.values():
            chosen[ours] = min(chosen.get(ours, (len(HEADERS[ours]), index)), (HEADERS[ours].index(words), index))
    places = {index: ours for ours, (_, index) in chosen.items()}
    places |= {header.index(theirs): ours for ours, theirs in said.items() if theirs in header}
    return [places.get(index) for index in range(len(header))]


def _plain(cell: str) -> str:
    return " ".join(re.sub(r"[^\w]|_", " ", re.sub(r"\(.*?\)|\[.*?\]", " ", cell.casefold())).split())


def read_table(text: str, options: ImportOptions, path: str) -> Reading:
    """Tags of a table of any origin."""
    table = find_table(text, options, path)
    reading = table_drafts(
        text, table, lambda row, header, line: _generic(row, header, options, table.separator != ","), ()
    )
    reading.kind = f"a table separated by {separator_words(table.separator)}, its header in line {table.line}"
    return reading


Understand = Callable[[dict[str, str], dict[str, str], int], dict[str, object]]


def table_drafts(text: str, table: Table, understand: Understand, ignored: Container[str]) -> Reading:
    """A draft for each row below the header.

    Args:
        text: The whole file.
        table: Its header.
        understand: Our cells of a row's cells by our columns, the header's words, and the line; raises `CellError`.
        ignored: Columns that are known and left out.
    """
    reading = Reading("")
    header = {ours: theirs for ours, theirs in zip(table.columns, table.header, strict=True) if ours}
    reading.columns = {theirs: ours for ours, theirs in header.items()}
    unused = [
        cell
        for cell, ours in zip(table.header, table.columns, strict=True)
        if cell and not ours and cell not in ignored
    ]
    if unused:
        reading.notes.append(f"not read: column{'s' if len(unused) > 1 else ''} {', '.join(map(repr, unused))}")

    def fault(line: int, reason: str) -> None:
        reading.problems.append(Problem(line, "", reason))

    for line, row in read_rows(text, table.separator, fault):
        if line <= table.line or row[0].startswith("#"):
            continue
        if any(row[len(table.header) :]):
            hint = f"; put a text that contains {table.separator!r} in double quotes"
            fault(line, f"the row has {len(row)} cells, the header {len(table.header)}{hint}")
            continue
        given = {ours: cell for ours, cell in zip(table.columns, row, strict=False) if ours and cell}
        if not given:
            continue
        missing = next((needed for needed in ("name", "address") if needed not in given), None)
        if missing is not None:
            reading.problems.append(Problem(line, header[missing], "the cell is empty"))
            continue
        try:
            reading.drafts.append(Draft(line, understand(given, header, line), header))
        except CellError as error:
            reading.problems.append(Problem(line, header.get(error.column, ""), str(error)))
    return reading


class CellError(ValueError):
    """A cell that is not understood; `column` is ours."""

    def __init__(self, column: str, message: str) -> None:
        self.column = column
        super().__init__(message)


def cell_of(row: Mapping[str, str], column: str, parse: Callable[[str], Any]) -> Any:
    """The parsed cell, None where it is empty. Raises CellError."""
    if column not in row:
        return None
    try:
        return parse(row[column])
    except ValueError as error:
        raise CellError(column, str(error)) from None


def spread_linear(row: Mapping[str, str], comma: bool) -> dict[str, object]:
    """Scale, offset and range of four corners, where a row has them all. Raises CellError."""
    corners = [cell_of(row, corner, lambda text: cells.parse_number(text, comma)) for corner in _CORNERS]
    if any(corner is None for corner in corners):
        return {}
    try:
        scale, offset = cells.linear_scale((corners[0], corners[1]), (corners[2], corners[3]))
    except ValueError as error:
        raise CellError("raw_high", str(error)) from None
    return {"scale": scale, "offset": offset, "low": min(corners[2:]), "high": max(corners[2:])}


def _generic(row: dict[str, str], header: dict[str, str], options: ImportOptions, comma: bool) -> dict[str, object]:
    """Our cells of a row of a table that anybody may have written."""
    found: dict[str, object] = {
        key: row[key] for key in ("name", "group", "unit", "description", "max_interval") if key in row
    }
    found |= spread_linear(row, comma)
    length = cell_of(row, "length", _count)
    kind = cell_of(row, "type", lambda text: cells.parse_type_words(text, length))
    if kind is not None:
        found |= {"type": kind[0]} | ({"byte_order": kind[1]} if kind[1] else {})
    for column in ("offset", "low", "high"):
        found |= _some(column, cell_of(row, column, lambda text: cells.parse_number(text, comma)))
    found |= _some("scale", cell_of(row, "scale", lambda text: cells.parse_factor(text, comma)))
    found |= _some("scale", cell_of(row, "divisor", lambda text: cells.parse_factor(f"/{text}", comma)))
    found |= _some(
        "deadband", cell_of(row, "deadband", lambda text: text if "%" in text else cells.parse_number(text, comma))
    )
    found |= _some("byte_order", cell_of(row, "byte_order", cells.parse_order))
    found |= _some("scan", cell_of(row, "scan", lambda text: cells.parse_period(text, header["scan"])))
    found |= _some("writable", cell_of(row, "writable", cells.parse_access))
    found["address"] = _address(row, options)
    return found


def _address(row: Mapping[str, str], options: ImportOptions) -> str:
    table = cell_of(row, "table", lambda text: cells.parse_table(text, is_function=False))
    table = table or cell_of(row, "function", lambda text: cells.parse_table(text, is_function=True)) or options.table
    address: str = cell_of(row, "address", lambda text: cells.parse_place(text, table, options.base))
    unit = cell_of(row, "unit_id", _count)
    bit = cell_of(row, "bit", _count)
    prefix = f"{unit}!" if unit is not None and "!" not in address else ""
    return f"{prefix}{address}{'' if bit is None else f'.{bit}'}"


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"expected a whole number, not {text!r}")
    return int(text)


def _some(column: str, value: object) -> dict[str, object]:
    return {} if value is None else {column: value}
