"""Reading a section: from a table of `tomllib` to the fields of a struct, all mistakes collected.

`Problems` is the list of mistakes, bounded. `TomlSource` is the file: its tables, and the line of every key.
`SectionReader` applies the rules of a section's keys (`config_sections`) to one table.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from bifrost.core.config_environ import Override, expand
from bifrost.core.config_lines import KeyPath, key_lines, line_of
from bifrost.core.config_rules import Duration, nearest
from bifrost.core.config_sections import KeySpec, keys_of
from bifrost.core.errors import ConfigError
from bifrost.core.limits import PROBLEMS_COUNT_MAX

__all__ = ["Place", "Problems", "SectionReader", "TomlSource"]

_TABLE_DEPTH = 4  # ("device", 0, "tag", 3): where a table of a tag begins.
_BARE_SECONDS_SUSPECT = 50  # `scan = 500` was hardly meant as seconds.
_ERROR_PLACE = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$")
_SYNTAX_HINTS = (  # Searched in tomllib's message and, below it, the line it names.
    (re.compile(r"^Cannot overwrite"), "the key is there twice"),
    (re.compile(r"^Cannot declare"), "the section is there twice, or once with one and once with two brackets"),
    (re.compile(r"^Unclosed"), "a bracket was opened and never closed"),
    (re.compile(r"\n[^\"']*\"[^\"']*$"), "a closing '\"' is missing"),
    (re.compile(r"\n.*=\s*[+-]?0[0-9]"), 'a number must not begin with 0; put an address such as "00001" in quotes'),
    (re.compile(r"\n.*=\s*(?:True|False|yes|no|on|off)\b", re.IGNORECASE), "write true or false, in small letters"),
    (re.compile(r"\n.*=\s*[0-9][0-9.]*\s*[A-Za-z%µ]"), 'put a quantity with a unit in quotes, for example "500 ms"'),
    (re.compile(r"\n.*=\s*[0-9]+,[0-9]"), "write the decimal point as a point"),
    (re.compile(r"\n.*=\s*[A-Za-z]"), "put text in quotes"),
    (re.compile(r"\n.*=\s*\"[^\"]*\\"), "a backslash must be doubled, or put the text in 'single quotes'"),
    (re.compile(r"\n[^=\[#]*:"), "a key is followed by '=', not by ':'"),
)


class Place(NamedTuple):
    """Where a setting comes from.

    Attributes:
        file: As the user typed it; None: the environment.
        line: 1-based, in `file`.
        key: As messages call it: dotted, or the variable.
    """

    file: str | None
    line: int | None
    key: str


class Problems:
    """Mistakes and warnings found so far. At most 20 mistakes are kept, the rest is counted."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []
        self.errors_count = 0
        self.warnings: list[str] = []

    def error(self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None) -> None:
        """Note a mistake."""
        self.add(ConfigError(message, file=file, line=line, key=key))

    def add(self, error: ConfigError) -> None:
        """Note a mistake that has its place already."""
        self.errors_count += 1
        if len(self.errors) < PROBLEMS_COUNT_MAX:
            self.errors.append(error)

    def sort(self, first: str) -> None:
        """Order the mistakes as a person reads: the environment, the file `first`, then the tables, each by line."""
        self.errors.sort(key=lambda error: (error.file is not None, error.file != first, error.file, error.line or 0))

    def warn(self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None) -> None:
        """Note something that is allowed but hardly meant."""
        if len(self.warnings) < PROBLEMS_COUNT_MAX:
            self.warnings.append(str(ConfigError(message, file=file, line=line, key=key)))
        elif len(self.warnings) == PROBLEMS_COUNT_MAX:
            self.warnings.append("... and more")

    def warn_bare_seconds(self, value: object, *, file: str, line: int | None, key: str) -> None:
        """Warn if a duration is a bare number so large that milliseconds may be meant: ``scan = 500``."""
        if isinstance(value, int | float) and value >= _BARE_SECONDS_SUSPECT:
            message = (
                f"{value:g} is read as seconds; write '{value:g} ms' if milliseconds are meant, else '{value:g} s'"
            )
            self.warn(message, file=file, line=line, key=key)


class TomlSource:
    """A TOML file: its document, and the line of each key.

    Args:
        file: Path as the user typed it, for messages.
        text: The whole file.

    Raises:
        ConfigError: Not TOML; with the line and, for common slips, what would be right.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._text = text.replace("\r\n", "\n")
        self._lines: dict[KeyPath, int] | None = None
        try:
            self.document: dict[str, Any] = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax_error(str(error)) from None
        except RecursionError:
            raise ConfigError("brackets are nested too deeply", file=file) from None
        self._table_lines = key_lines(self._text, _TABLE_DEPTH)

    def require_size(self, bytes_max: int) -> None:
        """Raise ConfigError if the file is longer than the limit `config_bytes_max`."""
        size = self.size_bytes
        if size > bytes_max:
            message = f"the file has {size} bytes; the limit config_bytes_max is {bytes_max}; put tags into a CSV table"
            raise ConfigError(message, file=self.file)

    @property
    def size_bytes(self) -> int:
        """Length of the file, as UTF-8."""
        return len(self._text.encode())

    def file_of(self, path: KeyPath) -> str:
        """The file in which a key stands, for messages beside `line`."""
        return self.file

    def line(self, path: KeyPath) -> int | None:
        """Line of a key, or of its nearest parent. The first call for a deep path reads the positions of all keys."""
        if len(path) <= _TABLE_DEPTH:
            return line_of(self._table_lines, path)
        if self._lines is None:
            self._lines = key_lines(self._text)
        return line_of(self._lines, path)

    def lines_below(self, path: KeyPath) -> dict[str, int]:
        """Lines of the keys of one table (of at most three levels); key ``""`` is the table itself."""
        keys = (*self.table_at(path), "")
        lines = {key: self.line((*path, key) if key else path) for key in keys}
        return {key: line for key, line in lines.items() if line is not None}

    def places(self, path: KeyPath, label: str) -> dict[str, Place]:
        """Where the keys of one table (of at most three levels) come from, and under `label` itself the table."""
        places = {label: Place(self.file_of(path), self.line(path), label)}
        for key, value in self.table_at(path).items():
            name, at = f"{label}.{key}", (*path, key)
            is_variable = isinstance(value, Override)
            places[name] = (
                Place(None, None, value.variable) if is_variable else Place(self.file_of(at), self.line(at), name)
            )
        return places

    def table_at(self, path: KeyPath) -> Mapping[str, Any]:
        """The table at `path`, which must be one."""
        value: Any = self.document
        for part in path:
            value = value[part]
        assert isinstance(value, dict)
        return value

    def _syntax_error(self, text: str) -> ConfigError:
        found = _ERROR_PLACE.search(text)
        lines = self._text.split("\n")
        line = int(found.group(1)) if found and found.group(1) else len(self._text.rstrip().split("\n"))
        message = _ERROR_PLACE.sub("", text)
        shown = f"{message}\n{lines[line - 1]}"
        hint = next((f"; {hint}" for pattern, hint in _SYNTAX_HINTS if pattern.search(shown)), "")
        return ConfigError(f"not valid TOML: {message[:1].lower()}{message[1:]}{hint}", file=self.file, line=line)


class SectionReader:
    """Reads the tables of one file.

    Args:
        source: The file.
        environ: For ``${VAR}``.
        problems: Where mistakes go.
        text_bytes_max: Longest text, in bytes of UTF-8.
    """

    def __init__(self, source: TomlSource, environ: Mapping[str, str], problems: Problems, text_bytes_max: int) -> None:
        self.source = source
        self.environ = environ
        self.problems = problems
        self.text_bytes_max = text_bytes_max

    def read(
        self, section: type[msgspec.Struct], path: KeyPath, label: str, *, others: Collection[str] = ()
    ) -> dict[str, Any] | None:
        """Values of one table's keys by field name, without those that are not there.

        Args:
            section: The struct with the keys.
            path: Where the table is in the file.
            label: The table's name in messages, for example ``device.boiler``.
            others: Keys that the caller reads by itself.

        Returns:
            None if a required key is missing or anything was wrong; each mistake is in `problems`.
        """
        table = self.source.table_at(path)
        keys = keys_of(section)
        found_before = self.problems.errors_count
        for name in table:
            if name not in keys and name not in others:
                self.fault(
                    (*path, name), f"{label}.{name}", f"unknown key{nearest(name, [*keys, *others])}", table[name]
                )
        values: dict[str, Any] = {}
        for name, spec in keys.items():
            if name in table:
                self._read_key(spec, table[name], (*path, name), f"{label}.{name}", values)
            elif spec.required:
                self.fault(path, f"{label}.{name}", f"is missing: {_in_sentence(spec.key.meaning)}")
        return values if self.problems.errors_count == found_before else None

    def tables(self, path: KeyPath, label: str) -> list[KeyPath]:
        """Paths of the tables of an array such as ``[[device]]``; none if it is not there or is no such array."""
        *parents, name = path
        value = self.source.table_at(tuple(parents)).get(str(name), [])
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return [(*path, index) for index in range(len(value))]
        self.fault(path, label, f"write [[{label_header(path)}]] with double brackets: it can be there many times")
        return []

    def has_table(self, path: KeyPath, label: str) -> bool:
        """Whether the single table `path` is there; a mistake is noted if it is something else."""
        *parents, name = path
        value = self.source.table_at(tuple(parents)).get(str(name))
        if value is not None and not isinstance(value, dict):
            self.fault(path, label, f"write [{label_header(path)}] with single brackets, and its keys below")
        return isinstance(value, dict)

    def fault(self, path: KeyPath, label: str, message: str, value: object = None) -> None:
        """Note a mistake at `path`, or at the variable it comes from."""
        if isinstance(value, Override):
            self.problems.error(message, key=value.variable)
        else:
            self.problems.error(message, file=self.source.file_of(path), line=self.source.line(path), key=label)

    def _read_key(self, spec: KeySpec, value: object, path: KeyPath, label: str, values: dict[str, Any]) -> None:
        try:
            values[spec.field] = self.parse(spec, value)
        except ValueError as error:
            self.fault(path, label, str(error), value)
            return
        if isinstance(spec.key.rule, Duration):
            file, line = self.source.file_of(path), self.source.line(path)
            self.problems.warn_bare_seconds(value, file=file, line=line, key=label)

    def parse(self, spec: KeySpec, value: object) -> Any:
        """What a key's rule makes of `value`. Raises ValueError."""
        if not isinstance(value, Override):
            return spec.key.rule.parse(self._expanded(value, spec.key.placeholders))
        try:
            return spec.key.rule.parse(value.text)
        except ValueError:
            try:
                typed = tomllib.loads(f"value = {value.text}")["value"]
            except tomllib.TOMLDecodeError:
                typed = None
            if typed is None or isinstance(typed, str):
                raise
            return spec.key.rule.parse(typed)

    def _expanded(self, value: object, placeholders: Collection[str]) -> object:
        if isinstance(value, str):
            text = expand(value, self.environ, placeholders)
            if len(text.encode()) > self.text_bytes_max:
                raise ValueError(
                    f"the text has {len(text.encode())} bytes; text_bytes_max allows {self.text_bytes_max}"
                )
            return text
        if isinstance(value, list):
            return [self._expanded(item, placeholders) if isinstance(item, str) else item for item in value]
        return value


def _in_sentence(meaning: str) -> str:
    return meaning[:1].lower() + meaning[1:].removesuffix(".")


def label_header(path: KeyPath) -> str:
    """The header of a table in the file: its path without the numbers."""
    return ".".join(str(part) for part in path if isinstance(part, str))
