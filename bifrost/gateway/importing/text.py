"""A foreign file as text: found encoding, and rows of cells with the lines they begin in.

Spreadsheets write UTF-8 with a mark, UTF-16, or the code page of a western Windows; commas, semicolons or tabs. What the
cells mean is not known here.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from bifrost.core.errors import ConfigError

__all__ = ["SEPARATORS", "decode_text", "read_bytes", "read_rows", "separator_words"]

SEPARATORS = (",", ";", "\t", "|")
_FILE_BYTES_MAX = 64 << 20  # A million rows; nobody maintains more by hand.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_WORKBOOKS = {b"PK\x03\x04": "an Excel workbook", b"\xd0\xcf\x11\xe0": "an old Excel workbook"}
_SEPARATOR_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def separator_words(separator: str) -> str:
    """What people call it."""
    return _SEPARATOR_WORDS[separator]


def read_bytes(path: str) -> bytes:
    """The file.

    Raises:
        ConfigError: It cannot be read, is empty, too large, or a workbook.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise ConfigError(
            "there is no such file" if missing else f"cannot be read: {error.strerror}", file=path
        ) from error
    if len(raw) > _FILE_BYTES_MAX:
        raise ConfigError(f"the file is longer than {_FILE_BYTES_MAX} bytes", file=path)
    if not raw.strip():
        raise ConfigError("the file is empty", file=path)
    for magic, words in _WORKBOOKS.items():
        if raw.startswith(magic):
            raise ConfigError(
                f"this is {words}; in Excel: File, Save as, type 'CSV UTF-8', then import that", file=path
            )
    return raw


def decode_text(raw: bytes, encoding: str | None, path: str) -> tuple[str, str]:
    """The text, and its encoding in words.

    Args:
        raw: The file.
        encoding: As a person said; None: by its mark, else UTF-8, else Windows-1252.
        path: For messages.

    Raises:
        ConfigError: It is text in none of them.
    """
    if encoding is not None:
        try:
            return raw.decode(encoding), encoding
        except LookupError:
            raise ConfigError(f"no encoding is named {encoding!r}; write for example utf-8, utf-16 or cp1252") from None
        except UnicodeDecodeError as error:
            raise _undecodable(raw, error, encoding, path) from None
    for mark, name, words in _MARKS:
        if raw.startswith(mark):
            try:
                return raw.decode(name), words
            except UnicodeDecodeError as error:
                raise _undecodable(raw, error, words, path) from None
    try:
        return raw.decode(), "UTF-8"
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError as error:
        raise _undecodable(raw, error, "UTF-8 or Windows-1252", path) from None


def _undecodable(raw: bytes, error: UnicodeDecodeError, words: str, path: str) -> ConfigError:
    line = raw.count(b"\n", 0, error.start) + 1
    hint = "save it as UTF-8, or say its --encoding"
    return ConfigError(f"byte 0x{raw[error.start]:02X} is not {words} text; {hint}", file=path, line=line)


def read_rows(text: str, separator: str, fault: Callable[[int, str], None]) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, each with the line it begins in, cells without spaces around them.

    Args:
        text: The whole file.
        separator: One of `SEPARATORS`.
        fault: Called with line and reason when the rest cannot be read.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            fault(line, f"not a row of cells: {error}")
            return
        if any(cells) and not (line == 1 and cells[0].lower().startswith("sep=")):  # Excel's own first line.
            yield line, cells
