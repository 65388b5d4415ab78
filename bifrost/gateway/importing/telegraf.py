"""Telegraf: `[[inputs.modbus]]` of its configuration, in each of its three styles: `register`, `request` and `metric`.

All its addresses count from 0. The URL and the unit come from the file too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bifrost.core.config_lines import KeyPath, key_lines, line_of
from bifrost.core.errors import ConfigError
from bifrost.gateway.importing.draft import Draft, ImportOptions, Problem, Reading
from bifrost.gateway.importing.foreign_words import ORDERS, TELEGRAF_UNIT

__all__ = ["is_telegraf", "read_telegraf"]

_LISTS: Final = {"coils": "co", "discrete_inputs": "di", "holding_registers": "hr", "input_registers": "ir"}
_REGISTERS: Final = {"coil": "co", "discrete": "di", "holding": "hr", "input": "ir"}
_FLOATS: Final = {"FLOAT32-IEEE": "float32", "FLOAT64-IEEE": "float64", "FLOAT32": "float32", "FLOAT64": "float64"}
_FIXED: Final = {1: "16", 2: "32", 4: "64"}  # Registers of a fixed-point number: bits of the integer it is made of.
_TABLES_COLUMN: Final = {
    "name": "name",
    "group": "measurement",
    "address": "address",
    "type": "data_type",
    "scale": "scale",
}


def is_telegraf(text: str) -> bool:
    """Whether this looks like a configuration of Telegraf that reads Modbus."""
    return "[[inputs.modbus" in text


def read_telegraf(text: str, options: ImportOptions, path: str) -> Reading:
    """Tags of one `[[inputs.modbus]]`.

    Raises:
        ConfigError: No TOML, or several devices and none is chosen.
    """
    text = text.replace("\r\n", "\n")
    try:
        inputs = tomllib.loads(text).get("inputs", {}).get("modbus", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", file=path) from None
    lines = key_lines(text)
    named = {str(one.get("name", one.get("controller", ""))): index for index, one in enumerate(inputs)}
    if options.only is not None and options.only not in named:
        raise ConfigError(f"no input named {options.only!r}; there are: {', '.join(map(repr, named))}", file=path)
    if options.only is None and len(inputs) != 1:
        hint = f"choose one with --only NAME: {', '.join(map(repr, named))}"
        raise ConfigError(f"there are {len(inputs)} [[inputs.modbus]]; {hint}", file=path)
    index = named[options.only] if options.only is not None else 0
    reading = Reading("a configuration of Telegraf")
    try:
        reading.url = _url(inputs[index])
    except ValueError as error:
        reading.notes.append(str(error))
    _Input(inputs[index], ("inputs", "modbus", index), lines, reading).read()
    return reading


def _url(one: Mapping[str, Any]) -> str:
    scheme, _, host = str(one.get("controller", "")).partition("://")
    if scheme != "tcp" or one.get("transmission_mode", "TCP") not in ("TCP", "auto", ""):
        raise ValueError(f"controller {one.get('controller')!r} is not Modbus TCP; say the --url")
    return f"modbus-tcp://{host}?unit={one.get(TELEGRAF_UNIT, 1)}"


class _Input:
    """One input; its fields become drafts of `reading`, or problems."""

    def __init__(self, one: Mapping[str, Any], at: KeyPath, lines: dict[KeyPath, int], reading: Reading) -> None:
        self._one, self._at, self._lines, self._reading = one, at, lines, reading
        self._unit = one.get(TELEGRAF_UNIT, 1)

    def read(self) -> None:
        for key, table in _LISTS.items():
            for place, field in self._tables(self._one, key, self._at):
                self._add(place, field, table, field.get("byte_order", ""), field.get("data_type", ""), self._unit, "")
        for key in ("request", "metric"):
            for place, group in self._tables(self._one, key, self._at):
                for field_place, field in self._tables(group, "fields", place):
                    register = str(field.get("register", group.get("register", "holding")))
                    kind = field.get("type", "")
                    order = group.get("byte_order", "ABCD")
                    unit = group.get(TELEGRAF_UNIT, self._unit)
                    self._add(
                        field_place,
                        field,
                        _REGISTERS.get(register, register),
                        order,
                        kind,
                        unit,
                        group.get("measurement", ""),
                    )

    def _tables(self, parent: Mapping[str, Any], key: str, at: KeyPath) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
        for index, field in enumerate(parent.get(key, ())):
            yield (*at, key, index), field

    def _add(
        self, at: KeyPath, field: Mapping[str, Any], table: str, order: str, kind: str, unit: object, measurement: str
    ) -> None:
        line = line_of(self._lines, at) or 1
        cells: dict[str, object] = {"name": str(field.get("name", ""))}
        group = field.get("measurement", measurement)
        if group and group != "modbus":
            cells["group"] = str(group)
        try:
            cells |= _place(field, table, kind, order)
        except ValueError as error:
            self._reading.problems.append(Problem(line, "data_type" if "data_type" in field else "type", str(error)))
            return
        if unit != self._unit:
            cells["address"] = f"{unit}!{cells['address']}"
        scale = field.get("scale", 1.0)
        if isinstance(scale, int | float) and scale not in (1.0, 0.0):
            cells["scale"] = float(scale)
        self._reading.drafts.append(Draft(line, cells, _TABLES_COLUMN))


def _place(field: Mapping[str, Any], table: str, kind: str, order: str) -> dict[str, object]:
    """Address, type and byte order of a field. Raises ValueError for a type that Bifrost has not."""
    address = field.get("address", 0)
    registers = address if isinstance(address, list) else [address]
    if not registers or not all(isinstance(number, int) for number in registers):
        raise ValueError(f"address {address!r} is no register")
    first = registers[0]
    if table in ("co", "di"):
        return {"address": f"{table}:{first}"}
    if registers != list(range(first, first + len(registers))):
        raise ValueError(f"the registers {registers} do not follow each other")
    if kind == "BIT":
        return {"address": f"{table}:{first}.{field.get('bit', 0)}"}
    cells: dict[str, object] = {"address": f"{table}:{first}", "type": _type(field, kind, len(registers))}
    letters = ORDERS.get(order.lower(), "")
    if letters and letters != "ABCD":
        cells["byte_order"] = letters
    return cells


def _type(field: Mapping[str, Any], kind: str, registers: int) -> str:
    word = kind.upper()
    if word == "STRING":
        return f"string[{2 * int(field.get('length', registers))}]"
    if word in ("FIXED", "UFIXED") and registers in _FIXED:
        return f"{'u' if word == 'UFIXED' else ''}int{_FIXED[registers]}"
    found = _FLOATS.get(word, word.lower())
    if found in ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"):
        return found
    raise ValueError(
        f"type {kind!r} is not known here; Bifrost has integers of 16 to 64 bits, float32, float64 and strings"
    )
