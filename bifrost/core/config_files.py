"""The files of a configuration: the main TOML file, and beside it `conf.d/*.toml` in the order of their names, seen as one document.

`[[device]]` and `[[uplink]]` of all files stand one after the other; the keys of a section that is there once may be spread over the files,
each set in one of them only. Every place in a message is that of the file the key stands in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from bifrost.core.config_lines import KeyPath
from bifrost.core.config_read import Problems, TomlSource
from bifrost.core.errors import ConfigError
from bifrost.core.limits import CONFIG_FILES_COUNT_MAX, limit_infos

__all__ = ["CONF_D", "MergedSource", "read_source"]

CONF_D = "conf.d"


def read_source(path: str, problems: Problems) -> TomlSource | None:
    """The document of the configuration whose main file is `path`; None when a file beside it is wrong, as noted in `problems`.

    Raises:
        ConfigError: The main file cannot be read, or `conf.d` cannot.
    """
    sources = [TomlSource(path, _read_text(path))]
    found_before = problems.errors_count
    for part in _parts(path):
        try:
            sources.append(TomlSource(part, _read_text(part)))
        except ConfigError as error:
            problems.add(error)
    if problems.errors_count > found_before:
        return None
    return sources[0] if len(sources) == 1 else MergedSource(sources, problems)


class MergedSource(TomlSource):
    """Several files as one `TomlSource`.

    Args:
        sources: The main file first.
        problems: Where it is noted that a key is set twice; the first one counts.
    """

    def __init__(self, sources: Sequence[TomlSource], problems: Problems) -> None:
        self.file = sources[0].file
        self.document: dict[str, Any] = {}
        self._sources = sources
        self._starts: dict[str, list[int]] = {}  # Of each array: at which index the tables of a file begin.
        self._owners: dict[KeyPath, TomlSource] = {}
        for source in sources:
            for name, value in source.document.items():
                self._merge(source, name, value, problems)

    def require_size(self, bytes_max: int) -> None:
        """Raise ConfigError if the files together are longer than the limit `config_bytes_max`."""
        size = sum(source.size_bytes for source in self._sources)
        if size > bytes_max:
            message = f"the files together have {size} bytes; the limit config_bytes_max is {bytes_max}; put tags into CSV tables"
            raise ConfigError(message, file=self.file)

    def line(self, path: KeyPath) -> int | None:
        """See `TomlSource.line`; in the file that `file_of` names."""
        source, local = self._locate(path)
        return source.line(local)

    def file_of(self, path: KeyPath) -> str:
        """The file in which the key, or its nearest parent, stands."""
        return self._locate(path)[0].file

    def _merge(self, source: TomlSource, name: str, value: Any, problems: Problems) -> None:
        there = self.document.get(name)
        if name not in self.document:
            self.document[name] = there = type(value)() if isinstance(value, dict | list) else value
            self._owners[(name,)] = source
        if isinstance(value, list) and isinstance(there, list):
            starts = self._starts.setdefault(name, [])
            starts += [len(there)] * (self._sources.index(source) + 1 - len(starts))
            there.extend(value)
        elif isinstance(value, dict) and isinstance(there, dict):
            for key in value:
                self._set_once(source, name, key, problems)
        elif self._owners[(name,)] is not source:
            first = self._owners[(name,)]
            problems.error(
                f"is another kind of section in {first.file}:{first.line((name,))}",
                file=source.file,
                line=source.line((name,)),
                key=name,
            )

    def _set_once(self, source: TomlSource, section: str, key: str, problems: Problems) -> None:
        path = (section, key)
        if path in self._owners:
            first = self._owners[path]
            message = f"is set in {first.file}:{first.line(path)} too; a key is set once"
            problems.error(message, file=source.file, line=source.line(path), key=f"{section}.{key}")
            return
        self._owners[path] = source
        self.document[section][key] = source.document[section][key]

    def _locate(self, path: KeyPath) -> tuple[TomlSource, KeyPath]:
        """The file that a path belongs to, and the path in it."""
        if len(path) > 1 and isinstance(path[1], int) and path[0] in self._starts:
            starts = self._starts[str(path[0])]
            number = max(number for number, start in enumerate(starts) if start <= path[1])
            return self._sources[number], (path[0], path[1] - starts[number], *path[2:])
        owner = self._owners.get(path[:2]) or self._owners.get(path[:1]) or self._sources[0]
        return owner, path


def _parts(path: str) -> Iterator[str]:
    """Paths of the files in `conf.d`, by name; those that begin with a dot are left out."""
    folder = os.path.join(os.path.dirname(path), CONF_D)
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".toml") and not name.startswith("."))
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=folder) from error
    if len(names) > CONFIG_FILES_COUNT_MAX:
        raise ConfigError(f"{len(names)} files are too many; {CONFIG_FILES_COUNT_MAX} at most", file=folder)
    for name in names:
        yield os.path.join(folder, name)


def _read_text(path: str) -> str:
    """The file, if it is not longer than any configuration may be."""
    ceiling = limit_infos()["config_bytes_max"].high
    try:
        with open(path, "rb") as file:
            raw = file.read(ceiling + 1)
    except OSError as error:
        reason = (
            "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        raise ConfigError(reason, file=path) from error
    if len(raw) > ceiling:
        raise ConfigError(f"the file is longer than {ceiling} bytes", file=path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text (byte 0x{raw[error.start]:02X}); save the file as UTF-8"
        raise ConfigError(message, file=path, line=line) from None
