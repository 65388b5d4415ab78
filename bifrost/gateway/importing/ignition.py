"""Ignition: the JSON that "Export Tags" of the Designer writes, for tags of its Modbus drivers.

Folders become the group. The type is that of the address's designator (``HRF`` is a float32), which is what Ignition reads. Tags
that no device has, such as memory and expression tags, are left out and counted; whether words are swapped is a setting of the
device there and not in the file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bifrost.core.errors import ConfigError
from bifrost.gateway.importing.cells import linear_scale
from bifrost.gateway.importing.draft import Draft, ImportOptions, Problem, Reading

__all__ = ["is_ignition", "read_ignition"]

_LINE: Final = "\0line"
_DEPTH_MAX: Final = 32
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\n]')
_PATH = re.compile(r"(?:ns=\d+;s=|nsu=[^;]*;s=)?\[(?P<device>[^\]]*)\](?P<rest>.*)")
_PLACE = re.compile(
    r"(?:(?P<unit>\d+)\.)?(?P<table>HR|IR|DI|C)(?P<kind>[A-Z]*(?:_\d\d)?)(?P<number>\d+)(?:\.(?P<bit>\d+))?(?::(?P<length>\d+))?"
)
_KINDS: Final = {
    "": "int16",
    "US": "uint16",
    "I": "int32",
    "UI": "uint32",
    "I_64": "int64",
    "UI_64": "uint64",
    "F": "float32",
    "D": "float64",
    "BCD": "bcd16",
    "BCD_32": "bcd32",
}
_COLUMNS: Final = {
    "name": "name",
    "group": "name",
    "address": "opcItemPath",
    "type": "opcItemPath",
    "unit": "engUnit",
    "low": "engLow",
    "high": "engHigh",
    "scale": "scaledHigh",
    "offset": "scaledLow",
    "deadband": "deadband",
    "writable": "readOnly",
    "description": "documentation",
}
_NOTE: Final = "Ignition keeps the order of words in the device, not in this file: values of more than one register are read as {order}"


def is_ignition(text: str) -> bool:
    """Whether this looks like an export of tags."""
    return text.lstrip()[:1] in "{[" and '"tagType"' in text


def read_ignition(text: str, options: ImportOptions, path: str) -> Reading:
    """Tags of an export.

    Raises:
        ConfigError: No JSON, or tags of several devices and none is chosen.
    """
    lines = iter(_closing_order(text))
    try:
        root = json.loads(text, object_pairs_hook=lambda pairs: {_LINE: next(lines)} | dict(pairs))
    except (json.JSONDecodeError, StopIteration, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise ConfigError(f"not JSON: {getattr(error, 'msg', 'nested too deeply')}", file=path, line=line) from None
    reading = Reading("tags of Ignition")
    found = [(device, draft) for device, draft in _drafts(root, (), reading) if draft is not None]
    devices = Counter(device for device, _ in found)
    if options.only is None and len(devices) > 1:
        shown = ", ".join(f"{device!r} ({count})" for device, count in devices.most_common())
        raise ConfigError(f"the file has tags of several devices: {shown}; choose one with --only NAME", file=path)
    if options.only is not None and options.only not in devices:
        raise ConfigError(
            f"no tag of device {options.only!r}; there are: {', '.join(map(repr, devices)) or 'none'}", file=path
        )
    reading.drafts = [draft for device, draft in found if options.only in (None, device)]
    reading.notes.append(_NOTE.format(order=options.byte_order or "ABCD"))
    return reading


def _closing_order(text: str) -> Iterator[int]:
    """The line in which each object begins, in the order in which they end: the order in which the parser makes them."""
    line, begun = 1, []
    for token in _TOKEN.finditer(text):
        if token[0] == "\n":
            line += 1
        elif token[0] == "{":
            begun.append(line)
        elif token[0] == "}" and begun:
            yield begun.pop()


def _drafts(node: Any, folders: tuple[str, ...], reading: Reading) -> Iterator[tuple[str, Draft | None]]:
    """Drafts below `node` with the device each belongs to; what cannot be one goes to `reading`."""
    if isinstance(node, list):
        for item in node:
            yield from _drafts(item, folders, reading)
        return
    if not isinstance(node, dict) or len(folders) > _DEPTH_MAX:
        return
    kind, name = node.get("tagType", "Folder"), str(node.get("name", ""))
    if kind in ("Folder", "Provider"):
        below = (*folders, name) if kind == "Folder" and name else folders
        yield from _drafts(node.get("tags", []), below, reading)
    elif kind != "AtomicTag":
        message = f"{name!r} is a {kind}: Ignition writes what it refers to only where the tags are plain; import a list of its tags"
        reading.problems.append(Problem(node[_LINE], "tagType", message))
    elif node.get("valueSource", "memory") != "opc":
        reading.notes.append(
            f"left out: {name!r} is a tag of kind {node.get('valueSource', 'memory')!r}, which no device has"
        )
    else:
        try:
            yield _tag(node, folders)
        except ValueError as error:
            reading.problems.append(Problem(node[_LINE], "opcItemPath", str(error)))


def _tag(node: Mapping[str, Any], folders: tuple[str, ...]) -> tuple[str, Draft]:
    path = node.get("opcItemPath")
    found = _PATH.fullmatch(path) if isinstance(path, str) else None
    if found is None:
        shown = "a path made of parameters" if isinstance(path, dict) else repr(path)
        raise ValueError(f"{shown} is no path of a device, such as '[Press]HR1'")
    place = _PLACE.fullmatch(found["rest"])
    if place is None or (place["kind"] not in _KINDS and place["kind"] != "S"):
        raise ValueError(f"{found['rest']!r} is no Modbus address of Ignition's, such as HR1, HRF10, IRUS5 or C1")
    unit = f"{place['unit']}!" if place["unit"] else ""
    bit = "" if place["bit"] is None else f".{place['bit']}"
    cells: dict[str, object] = {
        "name": str(node.get("name", "")),
        "address": f"{unit}{place['table']}{place['number']}{bit}",
    }
    if folders:
        cells["group"] = ".".join(folders)
    if place["kind"] == "S":
        if place["length"] is None:
            raise ValueError(f"{found['rest']!r} does not say how long the text is, such as HRS1:20")
        cells["type"] = f"string[{place['length']}]"
    elif place["table"] in ("HR", "IR") and not bit:
        cells["type"] = _KINDS[place["kind"]]
    cells |= _settings(node)
    return found["device"], Draft(node[_LINE], cells, _COLUMNS)


def _settings(node: Mapping[str, Any]) -> dict[str, object]:
    """Unit, range, scaling, rights and description of a tag."""
    cells: dict[str, object] = {}
    for column, key in (("unit", "engUnit"), ("description", "documentation"), ("description", "tooltip")):
        if isinstance(node.get(key), str) and node[key]:
            cells.setdefault(column, " ".join(node[key].split()))
    if "engLow" in node and "engHigh" in node:
        cells |= {"low": _number(node, "engLow", 0.0), "high": _number(node, "engHigh", 100.0)}
    mode = node.get("scaleMode", "Off")
    if mode == "Linear":
        raw = (_number(node, "rawLow", 0.0), _number(node, "rawHigh", 10.0))  # Ignition's defaults are not in the file.
        scaled = (_number(node, "scaledLow", 0.0), _number(node, "scaledHigh", 10.0))
        cells["scale"], cells["offset"] = linear_scale(raw, scaled)
    elif mode != "Off":
        raise ValueError(f"{mode!r} scaling is not done here; take the raw value and scale it where it is shown")
    if node.get("deadbandMode", "Absolute") == "Absolute" and "deadband" in node:
        cells["deadband"] = _number(node, "deadband", 0.0)
    elif node.get("deadbandMode") == "Percent":
        cells["deadband"] = f"{_number(node, 'deadband', 0.0):g} %"
    cells["writable"] = node.get("readOnly", False) is not True
    return cells


def _number(node: Mapping[str, Any], key: str, default: float) -> float:
    value = node.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}, not a number")
    return float(value)
