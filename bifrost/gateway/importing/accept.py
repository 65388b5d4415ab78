"""From drafts to rows of our own tag table: names that are allowed, and the very check that a configuration goes through.

A draft is accepted when a configuration that holds it passes `inspect_file`, so there is no second set of rules here; what that
says about a line of our table is said about the line and column it came from.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bifrost.core.config_rules import NAME_LENGTH_MAX, check_name
from bifrost.core.config_tags import CSV_COLUMNS
from bifrost.core.errors import ConfigError
from bifrost.core.limits import PROBLEMS_COUNT_MAX
from bifrost.gateway.check import inspect_file
from bifrost.gateway.importing.draft import Draft, ImportOptions, Problem, Reading

__all__ = ["accept_drafts", "table_text"]

_ROUNDS_MAX = 500  # Each finds up to `PROBLEMS_COUNT_MAX` mistakes.
_SPELLED = {
    "ä": "ae",
    "ö": "oe",
    "ü": "ue",
    "Ä": "Ae",
    "Ö": "Oe",
    "Ü": "Ue",
    "ß": "ss",
    "°": "deg",
    "µ": "u",
    "μ": "u",
    "%": "percent",
}
_MULTI_REGISTER = re.compile(r"(?:u?int|float)(?:32|64)|bcd32")
_ROW_NAMED = re.compile(r"\S*tags\.csv:(\d+)")
_CONFIG = '[gateway]\nname = "import"\n[[device]]\nname = "{device}"\nurl = {url}\ntags = "tags.csv"\n'


def accept_drafts(reading: Reading, device: str, url: str, options: ImportOptions) -> list[Draft]:
    """The drafts that can be tags of `device` at `url`; why others can't goes to `reading.problems`.

    Raises:
        ConfigError: The URL is impossible.
    """
    drafts = [draft for draft in reading.drafts if _has_names(draft, reading, options)]
    if options.rename:
        _make_unique(drafts, reading)
    locked = 0
    for draft in drafts:
        if not options.writable:
            locked += bool(draft.cells.pop("writable", False))
        kind = str(draft.cells.get("type", ""))
        if options.byte_order and "byte_order" not in draft.cells and _MULTI_REGISTER.match(kind):
            draft.cells["byte_order"] = options.byte_order
    if locked:
        reading.notes.append(f"{locked} may be written there and are only read here; --writable takes that over")
    return _checked(drafts, reading, device, url)


def table_text(drafts: Sequence[Draft]) -> str:
    """Our tag table: the columns that any row needs, in CONTRACT's order."""
    used = [column for column in CSV_COLUMNS if any(_cell(draft, column) for draft in drafts)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(used or ("name", "address"))
    writer.writerows([_cell(draft, column) for column in used] for draft in drafts)
    return stream.getvalue()


def _cell(draft: Draft, column: str) -> str:
    value = draft.cells.get(column, "")
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, float):
        neutral = {"scale": 1.0, "offset": 0.0, "deadband": 0.0}.get(column)
        return "" if value == neutral else repr(value).removesuffix(".0")
    return "" if column == "byte_order" and value == "ABCD" else str(value)


# ---- names


def _has_names(draft: Draft, reading: Reading, options: ImportOptions) -> bool:
    """Splits a dotted name into group and name, and looks whether both are allowed; changes them where that is wanted."""
    name, group = str(draft.cells["name"]), str(draft.cells.get("group", ""))
    if not group:
        group, _, name = name.rpartition(".") if name.strip(".") == name else ("", "", name)
    group = "_".join(part.strip() for part in re.split(r"[./\\]", group) if part.strip())
    for column, text in (("group", group), ("name", name)):
        if column == "group" and not text:
            draft.cells.pop("group", None)
            continue
        try:
            check_name(text)
        except ValueError as error:
            allowed = _allowed_name(text)
            if not options.rename:
                hint = f"; {allowed!r} would do, and --rename writes that"
                reading.problems.append(Problem(draft.line, draft.columns.get(column, ""), f"{error}{hint}"))
                return False
            reading.notes.append(f"line {draft.line}: {text!r} is now {allowed!r}")
            text = allowed
        draft.cells[column] = text
    return True


def _allowed_name(text: str) -> str:
    """The nearest allowed name."""
    spelled = "".join(_SPELLED.get(character, character) for character in text)
    plain = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    name = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_\- ]", "_", plain)).strip(" _")[:NAME_LENGTH_MAX].strip(" _")
    return name if name and name not in {"Diagnostics", "Gateway"} else f"tag_{name}".rstrip("_")


def _make_unique(drafts: Iterable[Draft], reading: Reading) -> None:
    """A number behind each name that was there before, unless it is the same tag once more."""
    seen: dict[tuple[object, object], object] = {}
    for draft in drafts:
        group, name = draft.cells.get("group", ""), str(draft.cells["name"])
        key, count = (group, name), 1
        if seen.get(key) == draft.cells["address"]:
            continue
        while key in seen:
            count += 1
            key = (group, f"{name[: NAME_LENGTH_MAX - 4]}_{count}")
        if count > 1:
            reading.notes.append(f"line {draft.line}: {name!r} is there before and is now {key[1]!r}")
            draft.cells["name"] = key[1]
        seen[key] = draft.cells["address"]


# ---- the check


def _checked(drafts: list[Draft], reading: Reading, device: str, url: str) -> list[Draft]:
    """Without those that `inspect_file` refuses. It tells so many at a time, so it is asked again without them."""
    with tempfile.TemporaryDirectory() as folder:
        config, table = Path(folder, "gateway.toml"), Path(folder, "tags.csv")
        quoted = url.replace("\\", "\\\\").replace('"', '\\"')
        config.write_text(_CONFIG.format(device=device, url=f'"{quoted}"'), encoding="utf-8")
        for _ in range(_ROUNDS_MAX):
            table.write_text(table_text(drafts), encoding="utf-8")
            lines = {2 + index: draft for index, draft in enumerate(drafts)}
            refused: dict[int, Problem] = {}
            for error in inspect_file(str(config), {}).errors:
                if error.file == str(table) and error.line in lines:
                    refused.setdefault(error.line, _problem(error, lines))
                elif (error.key or "").endswith(".url"):
                    raise ConfigError(f"--url: {error.message}")
            if not refused:
                return drafts
            reading.problems += refused.values()
            drafts = [draft for line, draft in lines.items() if line not in refused]
    raise ConfigError(f"more than {_ROUNDS_MAX * PROBLEMS_COUNT_MAX} rows are wrong; is this the right file?")


def _problem(error: ConfigError, lines: Mapping[int, Draft]) -> Problem:
    """What is wrong with a line of our table, said of the foreign file."""
    assert error.line is not None
    draft = lines[error.line]
    column = (error.key or "").rpartition(".")[2]
    message = _ROW_NAMED.sub(lambda found: f"line {lines[int(found[1])].line}", error.message)
    return Problem(draft.line, draft.columns.get(column, column), message.replace("in line", "of line"))
