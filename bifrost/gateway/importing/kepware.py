"""KEPServerEX: the CSV that "Export CSV" of a device or a tag group writes, for its Modbus drivers.

Names hold their groups before dots. Whether the first word of a 32-bit value is the low one, and from where addresses and bits
count, are settings of the device in KEPServerEX and not in the file; its defaults are taken for the latter, and the former is said.
"""

from __future__ import annotations

import re
from typing import Final

from bifrost.gateway.importing import cells
from bifrost.gateway.importing.draft import ImportOptions, Reading
from bifrost.gateway.importing.table import CellError, cell_of, find_table, spread_linear, table_drafts

__all__ = ["is_kepware", "read_kepware"]

_MARKS: Final = frozenset({"Tag Name", "Address", "Data Type", "Respect Data Type", "Client Access"})
_LEFT_OUT: Final = frozenset({"Respect Data Type", "Scaled Data Type"})  # Ours always is; ours is float64.
_EXTRAS: Final = {
    "Scaling": "mode",
    "Negate Value": "negate",
    "Scan Rate": "scan_rate",
    "Clamp Low": "clamp_low",
    "Clamp High": "clamp_high",
}
_ADDRESS: Final = re.compile(r"(?P<place>[0-9]+)(?:\.(?P<bit>[0-9]+)(?P<text>[HLhl])?)?\s*(?:\[(?P<count>[0-9]+)\])?")
_ARRAY: Final = " Array"
_BYTE_ORDER_NOTE: Final = (
    "KEPServerEX keeps the byte order in the device, not in this file: values of more than one register are read as {order}; "
    "its default, First Word Low, is --byte-order CDAB"
)


def is_kepware(text: str) -> bool:
    """Whether a header is Kepware's."""
    return any(_MARKS.issubset(cell.strip(' "') for cell in re.split("[,;\t]", line)) for line in text.splitlines()[:5])


def read_kepware(text: str, options: ImportOptions, path: str) -> Reading:
    """Tags of a KEPServerEX export."""
    table = find_table(text, options, path)
    extras = [_EXTRAS.get(cell, ours) for cell, ours in zip(table.header, table.columns, strict=True)]
    table = table._replace(columns=extras)
    clamped: list[int] = []

    def understand(row: dict[str, str], header: dict[str, str], line: int) -> dict[str, object]:
        clamped.extend([line] * ("1" in (row.get("clamp_low"), row.get("clamp_high"))))
        return _tag(row, comma=table.separator != ",")

    reading = table_drafts(text, table, understand, _LEFT_OUT)
    reading.kind = "tags of KEPServerEX"
    reading.columns = {theirs: ours for theirs, ours in reading.columns.items() if ours not in _EXTRAS.values()}
    reading.notes.append(_BYTE_ORDER_NOTE.format(order=options.byte_order or "ABCD"))
    if "scan_rate" in extras:
        reading.notes.append("scan rates are not taken over: the device's own 'scan' counts")
    if clamped:
        reading.notes.append(f"{len(clamped)} clamped there: here a value out of range is shown as it is")
    return reading


def _tag(row: dict[str, str], comma: bool) -> dict[str, object]:
    found: dict[str, object] = {key: row[key] for key in ("name", "unit", "description") if key in row}
    mode = row.get("mode", "None")
    if mode not in ("None", "Linear"):
        raise CellError("mode", f"{mode!r} scaling is not done here; take the raw value and scale it where it is shown")
    if mode == "Linear":
        found |= spread_linear(row, comma)
    if row.get("negate") == "1":
        scale, offset = found.get("scale", 1.0), found.get("offset", 0.0)
        assert isinstance(scale, float)
        assert isinstance(offset, float)
        found |= {"scale": -scale, "offset": -offset}
        found.pop("low", None)
        found.pop("high", None)
    access = cell_of(row, "writable", cells.parse_access)
    if access is not None:
        found["writable"] = access
    return found | _place(row)


def _place(row: dict[str, str]) -> dict[str, object]:
    """Address and type; a text's length and an array's count stand in Kepware's address."""
    address = _ADDRESS.fullmatch(row["address"])
    kind = row.get("type", "")
    if address is None or kind == "Date":
        column = "type" if address else "address"
        raise CellError(
            column, f"{row[column]!r} is none of Modbus that Bifrost knows; write for example 400001 and Float"
        )
    base = kind.removesuffix(_ARRAY)
    count = address["count"] if kind.endswith(_ARRAY) or address["count"] else None
    if kind.endswith(_ARRAY) and count is None:
        raise CellError("address", f"an array needs its length in the address, for example '{row['address']} [10]'")
    found: dict[str, object] = {"address": address["place"]}
    if base == "String":
        if address["bit"] is None:
            raise CellError("address", "a String needs its length in the address, for example 400100.20H")
        found["type"] = f"string[{int(address['bit'])}]"
        if (address["text"] or "H").upper() == "L":
            found["byte_order"] = "BADC"
        return found
    if address["bit"] is not None:
        found["address"] = f"{address['place']}.{int(address['bit'])}"
    if base in ("", "Default"):
        return found
    words = base if count is None else f"{base}[{count}]"
    kind_found = cell_of({"type": words}, "type", cells.parse_type_words)
    return found | {"type": kind_found[0]}
