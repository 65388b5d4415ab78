"""A CSV table, read row by row with its line numbers.

At no time is more than one row in memory. Lines are decoded one by one, so that a byte that is not UTF-8 has a line
number; a cell or a line that never ends is cut off by a bound. What the cells mean is not known here.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec

from bifrost.core.config_read import Problems
from bifrost.core.config_rules import nearest

__all__ = ["TableRow", "read_table_rows"]

_LINE_BYTES_MAX = 65_536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TableRow(msgspec.Struct, frozen=True):
    """One row.

    Attributes:
        line: Where it begins, from 1.
        cells: Column and text of each cell that is not empty, without spaces around it.
    """

    line: int
    cells: list[tuple[str, str]]


class _UnreadableError(Exception):
    """The rest of the table cannot be read; `line` is where that was seen."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


def read_table_rows(
    file: str,
    path: str,
    at: tuple[str, int | None, str],
    problems: Problems,
    *,
    columns: Sequence[str],
    required: Sequence[str],
    rows_max: int,
) -> Iterator[TableRow]:
    """The rows of a table, as they are read; what is wrong with the table itself goes to `problems`.

    Args:
        file: The table's path for messages.
        path: The table's path to open.
        at: File, line and key of the setting that names the table.
        problems: Where mistakes go.
        columns: Columns that may be there.
        required: Columns that must be there.
        rows_max: More rows are a mistake.
    """
    at_file, at_line, at_key = at
    if not os.path.isfile(path):
        reason = "is a directory" if os.path.isdir(path) else "there is no such file"
        problems.error(f"{file}: {reason}", file=at_file, line=at_line, key=at_key)
        return
    try:
        with open(path, "rb") as stream:
            yield from _rows(file, _lines(stream), problems, columns, required, rows_max)
    except OSError as error:
        problems.error(f"{file}: cannot be read: {error.strerror}", file=at_file, line=at_line, key=at_key)
    except _UnreadableError as error:
        problems.error(str(error), file=file, line=error.line)


def _rows(
    file: str, lines: Iterator[str], problems: Problems, columns: Sequence[str], required: Sequence[str], rows_max: int
) -> Iterator[TableRow]:
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    rows_count = 0
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            break
        except csv.Error as error:
            raise _UnreadableError(_csv_message(str(error)), line) from None
        if not any(cells):
            continue
        if header is None:
            header = cells
            if not _check_header(file, line, header, problems, columns, required):
                return
            continue
        rows_count += 1
        if rows_count > rows_max:
            raise _UnreadableError(f"more than {rows_max} rows (limit csv_rows_max)", line)
        if len(cells) != len(header):
            _report_length(file, line, len(cells), len(header), problems)
            continue
        yield TableRow(line, [(column, cell) for column, cell in zip(header, cells, strict=True) if cell])
    if header is None:
        raise _UnreadableError(f"the table is empty; its first row must name the columns: {', '.join(columns)}", 1)


def _check_header(
    file: str, line: int, header: list[str], problems: Problems, columns: Sequence[str], required: Sequence[str]
) -> bool:
    if len(header) == 1 and any(separator in header[0] for separator in ";\t"):
        separator = "';'" if ";" in header[0] else "tabs"
        hint = "save the table with commas, or let `bifrost import` read it"
        problems.error(f"the columns are separated by {separator}; {hint}", file=file, line=line)
        return False
    if not any(column in columns for column in header):
        hint = "`bifrost import` reads tables with other headers"
        problems.error(f"the first row must name the columns: {', '.join(columns)}; {hint}", file=file, line=line)
        return False
    is_good = True
    for number, column in enumerate(header):
        message = ""
        if not column:
            message = f"column {number + 1} has no name"
        elif column not in columns:
            message = f"unknown column {column!r}{nearest(column, columns)}"
        elif column in header[:number]:
            message = f"column {column!r} is there twice"
        if message:
            problems.error(message, file=file, line=line)
            is_good = False
    for column in required:
        if column not in header and is_good:
            problems.error(f"column {column!r} is missing; the first row must name the columns", file=file, line=line)
            is_good = False
    return is_good


def _report_length(file: str, line: int, cells_count: int, columns_count: int, problems: Problems) -> None:
    hint = "; put a text that contains a comma in double quotes" if cells_count > columns_count else ""
    problems.error(f"the row has {cells_count} cells, the header has {columns_count}{hint}", file=file, line=line)


def _csv_message(reason: str) -> str:
    if "unexpected end" in reason or "field larger" in reason:
        return "a cell that begins here with '\"' never ends"
    if "expected after" in reason:
        return "after the closing '\"' of a cell must come a comma; write a '\"' inside a cell twice"
    return f"not a CSV row: {reason}"


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Decoded lines, each no longer than a bound."""
    number = 0
    while raw := stream.readline(_LINE_BYTES_MAX + 1):
        number += 1
        if number == 1:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        if len(raw) > _LINE_BYTES_MAX:
            raise _UnreadableError(f"the line is longer than {_LINE_BYTES_MAX} bytes", number)
        try:
            yield raw.decode()
        except UnicodeDecodeError as error:
            found = f"byte 0x{raw[error.start]:02X}"
            raise _UnreadableError(
                f"not UTF-8 text ({found}); save the table as UTF-8, or let `bifrost import` read it", number
            ) from None
