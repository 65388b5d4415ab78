"""Tags of the configuration: inline `[[device.tag]]` tables and rows of CSV tables, checked and put into columns.

Both come down to the same thing, settings by key with a line number, and go through the same rules. A row of a CSV
table costs about ten microseconds, so that 100,000 tags load in about a second: what a cell such as ``float32`` means
is worked out once and remembered. Whether an address exists is a question for the driver; `TagColumns.error` turns
its answer into file and line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from bifrost.core.columns import TagColumns
from bifrost.core.config_lines import KeyPath
from bifrost.core.config_read import Problems, SectionReader
from bifrost.core.config_rules import Choice, Deadband, Duration, Flag, Name, Number, Percent, Range, Rule, Text
from bifrost.core.config_sections import Key, keys_of
from bifrost.core.config_table import TableRow, read_table_rows
from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec, parse_type
from bifrost.core.quantity import format_duration
from bifrost.core.tag import Tag

__all__ = ["CSV_COLUMNS", "DeviceTags", "TagConfig", "TagReader"]

CSV_COLUMNS = (
    *("group", "name", "address", "type", "byte_order", "scale", "offset", "unit", "low", "high"),
    *("deadband", "max_interval", "scan", "writable", "description"),
)
_REQUIRED_COLUMNS = ("name", "address")
_NUMBER_TEXT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|[+-]?\.[0-9]+")
_NUMBER_COLUMNS = frozenset({"scale", "offset", "low", "high", "deadband", "max_interval", "scan"})
_DURATION_COLUMNS = frozenset({"max_interval", "scan"})
_FLAG_CELLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_DIFFERENT_COLUMNS = frozenset({"name", "address", "description"})  # These differ from row to row.
_MEANINGS_COUNT_MAX = 1_024


class AddressRule(Rule, frozen=True):
    """An address as the protocol spells it: text or a whole number."""

    def _parse(self, value: object) -> str | int:
        if isinstance(value, float):
            raise ValueError(
                f"{value} without quotes is a number, in which 40001.10 and 40001.1 are the same; put it in quotes"
            )
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError("expected an address: text in quotes or a whole number")
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{value} is negative; an address is not")
        if value == "" or (isinstance(value, str) and not value.isprintable()):
            raise ValueError("the address is empty" if value == "" else f"{value!r} contains a control character")
        return value

    def _allowed(self) -> str:
        return "an address as the protocol spells it, text or a whole number"


class TypeRule(Rule, frozen=True):
    """A type text; comes back as the name CONTRACT gives it."""

    def _parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"expected a type in quotes, for example 'float32', not {value}")
        return str(parse_type(value))

    def _allowed(self) -> str:
        return "a type such as 'int16', 'float32', 'string[16]' or 'uint16[8]'"


class TagConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[[device.tag]]`, key by key; the values go into `Tag` and `TagColumns`, so this struct is never made."""

    name: Annotated[str, Key("name", Name(), "Name, the last part of the full name.")]
    address: Annotated[str | int, Key("address", AddressRule(), "Where the value is in the device.")]
    group: Annotated[str, Key("group", Name(), "Group between device and tag.")] = ""
    datatype: Annotated[str | None, Key("type", TypeRule(), "Type; default: what the address says.")] = None
    byte_order: Annotated[
        str, Key("byte_order", Choice(tuple(order.value for order in ByteOrder)), "Order of the bytes, A the highest.")
    ] = "ABCD"
    scale: Annotated[float, Key("scale", Number(zero=False), "Factor from raw to engineering value.")] = 1.0
    offset: Annotated[float, Key("offset", Number(), "Added after scaling.")] = 0.0
    unit: Annotated[str, Key("unit", Text(), "Unit: common name or UNECE code.")] = ""
    range: Annotated[tuple[float, float] | None, Key("range", Range(), "Lowest and highest expected value.")] = None
    deadband: Annotated[float | Percent, Key("deadband", Deadband(), "Smallest difference that is a change.")] = 0.0
    max_interval_ns: Annotated[
        int, Key("max_interval", Duration("0 s", "30 d"), "Report at least this often; 0: only changes.")
    ] = 0
    scan_ns: Annotated[int, Key("scan", Duration("1 ms", "7 d"), "Scan period; default the device's.")] = 0
    writable: Annotated[bool, Key("writable", Flag(), "Whether clients may write it.")] = False
    description: Annotated[str, Key("description", Text(), "One line for people.")] = ""


class DeviceTags(msgspec.Struct):
    """What the tags of one device say about the device.

    Attributes:
        name: The device.
        scan_ns: Its own scan period.
        slowest_scan_ns: Longest period of any of its tags.
    """

    name: str
    scan_ns: int
    slowest_scan_ns: int


class TagReader:
    """Puts the tags of one configuration into its columns.

    Args:
        sections: Reader of the TOML file.
        columns: Where the tags go.
        csv_rows_max: Longest table.
    """

    def __init__(self, sections: SectionReader, columns: TagColumns, csv_rows_max: int) -> None:
        self._sections = sections
        self._problems: Problems = sections.problems
        self._columns = columns
        self._csv_rows_max = csv_rows_max
        self._meanings: dict[str, dict[str, Any]] = {column: {} for column in CSV_COLUMNS}

    def read_inline(self, device: DeviceTags, path: KeyPath) -> None:
        """Add the tag of one `[[device.tag]]` table."""
        table = self._sections.source.table_at(path)
        label = _label(device.name, table.get("group"), table.get("name"))
        values = self._sections.read(TagConfig, path, label)
        if values is not None:
            source = self._sections.source
            self._add(
                device, values, source.file_of(path), source.line(path) or 0, lambda key: source.line((*path, key))
            )

    def read_table(self, device: DeviceTags, file: str, path: str, at: tuple[str, int | None, str]) -> None:
        """Add the tags of a CSV table, row by row.

        Args:
            device: The device they belong to.
            file: The table's path for messages.
            path: The table's path to open.
            at: File, line and key that name the table, for a table that is not there.
        """
        rows = read_table_rows(
            file, path, at, self._problems, columns=CSV_COLUMNS, required=_REQUIRED_COLUMNS, rows_max=self._csv_rows_max
        )
        for row in rows:
            self._read_row(device, file, row)

    def _read_row(self, device: DeviceTags, file: str, row: TableRow) -> None:
        values: dict[str, Any] = {}
        is_good = True
        for column, cell in row.cells:
            meanings = self._meanings[column]
            try:
                if cell not in meanings:
                    meanings = self._understand(column, cell, file, row.line)
                values[_FIELDS[column]] = meanings[cell]
            except ValueError as error:
                is_good = False
                self._row_error(device, file, row, column, str(error))
        if "name" not in values or "address" not in values:
            given = {column for column, _ in row.cells}
            for column in _REQUIRED_COLUMNS:
                if column not in given:
                    is_good = False
                    self._row_error(device, file, row, column, "the cell is empty")
        if is_good and ("low" in values or "high" in values):
            try:
                values["range"] = _range_of(values.pop("low", None), values.pop("high", None))
            except ValueError as error:
                is_good = False
                self._row_error(device, file, row, "range", str(error))
        if is_good:
            self._add(device, values, file, row.line, lambda _: row.line)

    def _row_error(self, device: DeviceTags, file: str, row: TableRow, column: str, message: str) -> None:
        cells = dict(row.cells)
        label = _label(device.name, cells.get("group"), cells.get("name"))
        self._problems.error(message, file=file, line=row.line, key=f"{label}.{column}")

    def _understand(self, column: str, cell: str, file: str, line: int) -> dict[str, Any]:
        """The meanings of a column's cells, now with that of `cell`; kept, since most columns repeat."""
        self._check_length(cell)
        value = _typed(column, cell)
        meaning = _RULES[column].parse(value)
        if column in _DURATION_COLUMNS:
            self._problems.warn_bare_seconds(value, file=file, line=line, key=column)
        if column in _DIFFERENT_COLUMNS:
            return {cell: meaning}
        meanings = self._meanings[column]
        if len(meanings) >= _MEANINGS_COUNT_MAX:
            meanings.clear()
        meanings[cell] = meaning
        return meanings

    def _check_length(self, cell: str) -> None:
        allowed = self._sections.text_bytes_max
        if len(cell) * 4 > allowed and len(cell.encode()) > allowed:
            raise ValueError(f"the text has {len(cell.encode())} bytes; text_bytes_max allows {allowed}")

    def _add(
        self,
        device: DeviceTags,
        values: dict[str, Any],
        file: str,
        line: int,
        line_of_key: Callable[[str], int | None],
    ) -> None:
        """Check what concerns several keys, and append the tag."""
        order = values.get("byte_order")
        if order is not None:
            values["byte_order"] = ByteOrder(order)
        faults = _contradictions(values)
        if faults:
            label = _label(device.name, values.get("group"), values["name"])
            for key, message in faults:
                self._problems.error(message, file=file, line=line_of_key(key), key=f"{label}.{key}")
            return
        deadband = values.get("deadband")
        if isinstance(deadband, Percent):
            low, high = values["range"]
            values["deadband"] = (high - low) * deadband.percent / 100
        scan_ns = values.get("scan_ns", device.scan_ns)
        max_interval_ns = values.get("max_interval_ns", 0)
        if 0 < max_interval_ns < scan_ns:
            self._problems.warn(
                f"shorter than the scan period of {format_duration(scan_ns)}, which decides how often there is a value",
                file=file,
                line=line_of_key("max_interval"),
                key=f"{_label(device.name, values.get('group'), values['name'])}.max_interval",
            )
        device.slowest_scan_ns = max(device.slowest_scan_ns, scan_ns)
        self._columns.append(Tag(**values), file=file, line=line)


def _contradictions(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys that contradict another one, each with what is wrong."""
    faults: list[tuple[str, str]] = []
    deadband = values.get("deadband")
    if isinstance(deadband, Percent) and "range" not in values:
        faults.append(("deadband", f"'{deadband.percent:g} %' is a part of the range; give the tag a range"))
    datatype = values.get("datatype")
    if datatype is None or datatype in _PLAIN_NUMBERS:
        return faults
    spec = parse_type(datatype)
    for key, field, neutral in (("deadband", "deadband", 0.0), ("scale", "scale", 1.0), ("offset", "offset", 0.0)):
        if values.get(field, neutral) != neutral:
            faults.append((key, f"a tag of type {datatype} has no {key}: it needs a single number, {_what(spec)}"))
    return faults


def _what(spec: TypeSpec) -> str:
    if spec.is_array:
        return "not an array"
    return "not a text" if spec.base is DataType.STRING else "not a bit"


def _typed(column: str, cell: str) -> object:
    """A cell as TOML would have given it: a number where one is wanted, true and false."""
    if column in _NUMBER_COLUMNS and _NUMBER_TEXT.fullmatch(cell):
        return float(cell)
    if column == "writable":
        return _FLAG_CELLS.get(cell.lower(), cell)
    return cell


def _range_of(low: float | None, high: float | None) -> tuple[float, float]:
    if low is None or high is None:
        raise ValueError("low and high belong together: fill in both or neither")
    if not low < high:
        raise ValueError(f"low must be below high: {low:g} is not below {high:g}")
    return low, high


def _label(device: str, group: object, name: object) -> str:
    """Dotted key of a tag; ``?`` for a name that is not there."""
    parts = [str(part) for part in (group, name or "?") if part]
    return f"device.{device}.tag.{'.'.join(parts)}"


_RULES: dict[str, Any] = {name: spec.key.rule for name, spec in keys_of(TagConfig).items()} | {
    "low": Number(),
    "high": Number(),
}
_FIELDS = {name: spec.field for name, spec in keys_of(TagConfig).items()} | {"low": "low", "high": "high"}
_PLAIN_NUMBERS = frozenset(kind.value for kind in DataType if kind not in {DataType.BOOL, DataType.STRING})
