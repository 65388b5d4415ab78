"""In which line of a TOML file a key stands.

`tomllib` gives values without lines. This reads a text that `tomllib` has accepted a second time, only for positions:
it understands headers, keys, brackets and strings, and no value. So it needs no error handling of its own, and a
mistake here could cost a line number but never change a setting.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TypeAlias

__all__ = ["KeyPath", "key_lines", "line_of"]

KeyPath: TypeAlias = tuple[str | int, ...]  # Keys, and for arrays the index from 0: ("device", 0, "tag", 3, "type").

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_\-]+")
# Longest delimiters first: a multi-line string may hold single quotes, and up to two of them just before it ends.
_STRINGS = (
    re.compile(r'"""(?:[^\\"]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^\\"\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


def key_lines(text: str, depth_max: int = 64) -> dict[KeyPath, int]:
    """Line, from 1, of every table, key and array item in `text`, which must be valid TOML.

    Args:
        text: The whole file; lines end with a line feed alone.
        depth_max: Longest path to note; a small number saves memory where only tables are wanted.
    """
    scanner = _Scanner(text, depth_max)
    scanner.read_document()
    return scanner.lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """Line of `path`, or of its nearest parent that has one (a missing key is shown at its table)."""
    for length in range(len(path), 0, -1):
        line = lines.get(path[:length])
        if line is not None:
            return line
    return None


class _Scanner:
    def __init__(self, text: str, depth_max: int) -> None:
        self._text = text
        self._depth_max = depth_max
        self._position = 0
        self._newlines = [found.start() for found in re.finditer("\n", text)]
        self._arrays: dict[KeyPath, int] = {}
        self.lines: dict[KeyPath, int] = {}

    def read_document(self) -> None:
        table: KeyPath = ()
        while not self._at_end():
            if self._text.startswith("[", self._position):
                table = self._read_header()
            else:
                self._read_pair(table)

    def _at_end(self) -> bool:
        self._skip(_BLANK)
        return self._position >= len(self._text)

    def _read_header(self) -> KeyPath:
        is_array = self._text.startswith("[[", self._position)
        line = self._line()
        self._position += 2 if is_array else 1
        keys = self._read_keys()
        self._position += 2 if is_array else 1
        *parents, last = keys
        path: KeyPath = ()
        for key in parents:
            path = self._newest((*path, key))
        path = (*path, last)
        if is_array:
            self._arrays[path] = self._arrays.get(path, -1) + 1
            self._note(path, line)
            path = self._newest(path)
        self._note(path, line)
        return path

    def _newest(self, path: KeyPath) -> KeyPath:
        """`path`, with the index of its newest item if it is an array of tables."""
        return (*path, self._arrays[path]) if path in self._arrays else path

    def _read_pair(self, table: KeyPath) -> None:
        line = self._line()
        path = (*table, *self._read_keys())
        for length in range(len(table) + 1, len(path) + 1):
            self._note(path[:length], line)
        self._position += 1  # The equals sign.
        self._skip(_SPACE)
        self._read_value(path)

    def _read_keys(self) -> list[str]:
        """A dotted key; stops before ``]`` or ``=``."""
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            bare = _BARE_KEY.match(self._text, self._position)
            if bare:
                keys.append(bare.group())
                self._position = bare.end()
            else:
                keys.append(self._read_string()[1:-1])
            self._skip(_SPACE)
            if not self._text.startswith(".", self._position):
                return keys
            self._position += 1

    def _read_value(self, path: KeyPath) -> None:
        """Skip a value, noting the lines inside it. Nesting is bounded by what `tomllib` accepted."""
        first = self._text[self._position]
        if first == "[":
            self._read_items(path)
        elif first == "{":
            self._read_inline_table(path)
        elif first in "\"'":
            self._read_string()
        else:
            self._skip(_SCALAR)

    def _read_items(self, path: KeyPath) -> None:
        self._position += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._text.startswith("]", self._position):
                break
            item = (*path, index)
            self._note(item, self._line())
            self._read_value(item)
            index += 1
            self._skip_comma()
        self._position += 1

    def _read_inline_table(self, path: KeyPath) -> None:
        self._position += 1
        while True:
            self._skip(_BLANK)
            if self._text.startswith("}", self._position):
                break
            self._read_pair(path)
            self._skip_comma()
        self._position += 1

    def _skip_comma(self) -> None:
        self._skip(_BLANK)
        if self._text.startswith(",", self._position):
            self._position += 1

    def _read_string(self) -> str:
        for pattern in _STRINGS:
            found = pattern.match(self._text, self._position)
            if found:
                self._position = found.end()
                return found.group()
        raise AssertionError("the text is not valid TOML")

    def _note(self, path: KeyPath, line: int) -> None:
        if len(path) <= self._depth_max:
            self.lines.setdefault(path, line)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._position)
        assert found is not None  # Blanks may be empty, and a value has been looked at.
        self._position = found.end()

    def _line(self) -> int:
        return bisect_right(self._newlines, self._position - 1) + 1
