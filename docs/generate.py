"""Writes the generated parts of the reference: what configuration, limits and command line say about themselves.

A page holds text by hand and, between two marks, parts that are made here from the code:

    <!-- generated: limits -->
    ...
    <!-- end -->

`python -m docs.generate` writes them anew, tests/examples/test_reference_is_current.py compares them. So nothing is
written twice, and a key that is added is in the reference by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from bifrost.cli.main import COMMANDS, main, module_of
from bifrost.core.config_rules import Duration, Endpoint, Size
from bifrost.core.config_sections import (
    BufferConfig,
    DeviceConfig,
    GatewayConfig,
    HttpConfig,
    OpcUaConfig,
    UplinkConfig,
    keys_of,
)
from bifrost.core.config_tags import CSV_COLUMNS, TagConfig
from bifrost.core.datatypes import ByteOrder, DataType
from bifrost.core.limits import Limits, limit_infos
from bifrost.core.quantity import format_duration, format_size
from bifrost.core.status import StatusCode, is_bad, is_good
from bifrost.core.tag import DataPoint, Tag
from bifrost.gateway.diagnostics import DEVICE_DIAGNOSTICS, GATEWAY_DIAGNOSTICS, UPLINK_DIAGNOSTICS, Kind
from bifrost.opcua.units import UNITS, unit_id
from bifrost.plc.connection import PLCConnection, Snapshot, connect, list_protocols
from bifrost.plc.modbus.connection import ModbusConnection
from bifrost.plc.modbus.simulator import POINTS
from bifrost.plc.modbus.simulator import UNITS as PLANT_UNITS

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
MARKED: Final = re.compile(r"(<!-- generated: ([\w \-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "gateway": GatewayConfig,
    "device": DeviceConfig,
    "tag": TagConfig,
    "opcua": OpcUaConfig,
    "uplink": UplinkConfig,
    "buffer": BufferConfig,
    "http": HttpConfig,
}


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    cells = [list(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    cells.insert(1, ["---"] * len(cells[0]))
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def section_table(section: type[msgspec.Struct]) -> str:
    """The keys of one section of the configuration."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(section)}
    rows = []
    for name, spec in keys_of(section).items():
        default = "required" if spec.required else default_text(defaults[spec.field], spec.key.rule)
        rows.append((f"`{name}`", spec.key.meaning, spec.key.rule.allowed(), default))
    return table(("key", "meaning", "allowed", "default"), rows)


def default_text(value: object, rule: object) -> str:
    """A default as a person would write it in TOML; empty where the meaning says what holds."""
    if value in (None, "", ()) or (isinstance(rule, Duration) and value == 0):
        return ""
    if isinstance(rule, Duration | Size):
        assert isinstance(value, int)
        return f'`"{(format_duration if isinstance(rule, Duration) else format_size)(value)}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(toml_text, value))}]`"
    return f"`{toml_text(value)}`"


def toml_text(value: object) -> str:
    """A plain value in TOML."""
    return (
        f'"{value}"' if isinstance(value, str | Endpoint) else f"{value:g}" if isinstance(value, float) else f"{value}"
    )


def limits_table() -> str:
    """Every limit."""
    small = Limits.small()
    rows = []
    for name, info in limit_infos().items():
        show = format_size if "bytes" in name else str
        default = f"`{show(getattr(small, name))}`"
        rows.append((f"`{name}`", info.meaning, f"{show(info.low)} to {show(info.high)}", default, info.at_limit))
    return table(("limit", "what it bounds", "allowed", "default", "when it is reached"), rows)


def columns_text() -> str:
    """The header row of a tag table with all columns."""
    return f"```csv\n{','.join(CSV_COLUMNS)}\n```\n"


def statuses_table() -> str:
    """The StatusCodes that Bifrost sets."""
    rows = []
    for code in StatusCode:
        severity = "good" if is_good(code) else "bad" if is_bad(code) else "uncertain"
        rows.append((f"`{code.name}`", f"`0x{code:08X}`", severity))
    return table(("name", "number", "severity"), rows)


def plant_table() -> str:
    """The register map of the simulated plant."""
    rows = []
    for point in POINTS:
        order = "" if point.byte_order == "ABCD" else point.byte_order.value
        scale = "" if point.scale == 1.0 else f"{point.scale:g}"
        cells = (
            f"`{point.full_name}`",
            str(PLANT_UNITS[point.device]),
            f"`{point.address}`",
            f"`{point.type}`",
            order,
            scale,
        )
        rows.append((*cells, point.unit, "yes" if point.writable else "", point.description))
    header = ("tag", "unit id", "address", "type", "order", "scale", "unit", "writable", "description")
    return table(header, rows)


def diagnostics_table(kinds: Iterable[Kind]) -> str:
    """What Bifrost says about itself."""
    types = list(DataType)
    return table(
        ("name", "type", "meaning"), ((f"`{kind.name}`", types[kind.type - 1].value, kind.meaning) for kind in kinds)
    )


def units_table() -> str:
    """Engineering units with a number of their own."""
    rows = (
        (", ".join(f"`{name}`" for name in names), f"`{code}`", str(unit_id(code))) for code, names in UNITS.items()
    )
    return table(("written as", "UNECE code", "UnitId"), rows)


def overview_text() -> str:
    """What `bifrost --help` says."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main(["--help"])
    return f"```text\n{output.getvalue().strip()}\n```\n"


def command_text(command: str) -> str:
    """What a command does, and its arguments; not argparse's own page, which differs between versions of Python."""
    module = importlib.import_module(module_of(command))
    parser = argparse.ArgumentParser(add_help=False)
    module.configure(parser)
    rows = []
    for action in parser._actions:
        spelled = ", ".join(action.option_strings)
        value = action.metavar or ", ".join(map(str, action.choices or ())) if action.nargs != 0 else ""
        name = f"{spelled} {value}".strip() or action.dest
        rows.append((f"`{name}`", action.help or ""))
    arguments = "\n" + table(("argument", "meaning"), rows) if rows else ""
    return f"## bifrost {command}\n\n```text\n{inspect.cleandoc(module.__doc__ or '')}\n```\n{arguments}"


def commands_text() -> str:
    """Every command."""
    return "\n".join(map(command_text, COMMANDS))


def api_text() -> str:
    """The public names of the library, with their docstrings as they are."""
    return "\n".join(class_text(item) if inspect.isclass(item) else function_text(item, "") for item in PUBLIC)


def class_text(item: type) -> str:
    """A class and its public methods and properties, in the order of its source."""
    bases = ", ".join(base.__name__ for base in item.__bases__ if base is not object)
    title = f"## `{item.__name__}`{f' ({bases})' if bases else ''}"
    parts = [f"{title}\n\n```text\n{inspect.cleandoc(item.__doc__ or '')}\n```\n"]
    if issubclass(item, Enum):
        parts.append("Members: " + ", ".join(f"`{member.name}`" for member in item) + ".\n")
    for name, member in vars(item).items():
        if isinstance(member, property) and not name.startswith("_"):
            parts.append(f"### `{item.__name__}.{name}`\n\n```text\n{inspect.cleandoc(member.__doc__ or '')}\n```\n")
        elif inspect.isfunction(member) and not name.startswith("_"):
            parts.append(function_text(member, item.__name__))
    return "\n".join(parts)


def function_text(function: Callable[..., object], owner: str) -> str:
    """A function with the names and defaults of its arguments, and its docstring; types are in the docstring's words."""
    arguments = ", ".join(
        name if argument.default is argument.empty else f"{name}={argument.default!r}"
        for name, argument in inspect.signature(function).parameters.items()
        if name != "self"
    )
    name = f"{owner}.{function.__name__}" if owner else function.__name__
    kind = "await " if inspect.iscoroutinefunction(function) else ""
    title = f"{'###' if owner else '##'} `{kind}{name}({arguments})`"
    return f"{title}\n\n```text\n{inspect.cleandoc(function.__doc__ or '')}\n```\n"


PUBLIC: Final = (
    connect,
    list_protocols,
    PLCConnection,
    Snapshot,
    ModbusConnection,
    Tag,
    DataPoint,
    DataType,
    ByteOrder,
)

PARTS: Final[Mapping[str, Callable[[], str]]] = {
    **{f"section {name}": partial(section_table, section) for name, section in SECTIONS.items()},
    "columns": columns_text,
    "limits": limits_table,
    "statuses": statuses_table,
    "plant": plant_table,
    "diagnostics of a device": partial(diagnostics_table, DEVICE_DIAGNOSTICS),
    "diagnostics of the gateway": partial(diagnostics_table, GATEWAY_DIAGNOSTICS),
    "diagnostics of an uplink": partial(diagnostics_table, UPLINK_DIAGNOSTICS),
    "units": units_table,
    "overview": overview_text,
    "commands": commands_text,
    "api": api_text,
}


def rendered(page: str) -> str:
    """`page` with its generated parts made anew. Raises KeyError for a part that nobody makes."""
    return MARKED.sub(lambda found: found[1] + "\n" + PARTS[found[2]]() + "\n" + found[3], page)


def main_program() -> None:
    """Write every page of the reference anew, and say which of them changed."""
    for path in sorted(REFERENCE.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        fresh = rendered(page)
        if fresh != page:
            path.write_text(fresh, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}: written\n")


if __name__ == "__main__":
    main_program()
