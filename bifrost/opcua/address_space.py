"""The OPC UA address space: tags, groups and devices compiled into the packed columns that nodes are made from.

`Bifrost/<device>[/<group>]/<tag>`, `Bifrost/<device>/_Diagnostics`, `Bifrost/_Gateway` and
`Bifrost/_Gateway/Uplinks/<uplink>` under Objects, with string ids in namespace 2 (CONTRACT, OPC UA). No node exists as
an object, here or in the server: 100,000 tags are 40 bytes each and their ids. Pure: tags in, bytes out; the layouts
are those of `csrc/bifrost_ua.h`.

Nodes lie breadth first, so that the children of a folder are neighbours.
"""

from __future__ import annotations

import struct
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from bifrost._native import records
from bifrost.opcua.units import find_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bifrost.core.columns import TagColumns

__all__ = [
    "DETAIL",
    "FLAG_ARRAY",
    "FLAG_WRITABLE",
    "KIND_DIAGNOSTIC",
    "KIND_FOLDER",
    "KIND_TAG",
    "NAMESPACE",
    "NODE",
    "NONE",
    "UPLINKS",
    "Diagnostic",
    "Node",
    "ShownDevice",
    "Space",
    "compile_space",
]

NAMESPACE: Final = "urn:bifrost:tags"
"""Namespace 2, whatever the gateway is called: clients keep ids, and indices of namespaces."""

NODE: Final = struct.Struct("<8I2H4B")
"""`bf_ua_node`."""
DETAIL: Final = struct.Struct("<2d2IiI")
"""`bf_ua_detail`."""
NONE: Final = 0xFFFF_FFFF
KIND_FOLDER: Final = 1
KIND_TAG: Final = 2
KIND_DIAGNOSTIC: Final = 3
FLAG_ARRAY: Final = 1
FLAG_WRITABLE: Final = 2

_ROOT_ID: Final = "#Bifrost"  # No name has a '#', so no device can be called this.
_GATEWAY: Final = "_Gateway"
UPLINKS: Final = f"{_GATEWAY}.Uplinks"
"""Id of the folder that has a folder for each uplink."""
_DIAGNOSTICS: Final = "_Diagnostics"
_NS_PER_MS: Final = 1_000_000
_PERIOD_MS_MAX: Final = 0xFFFF_FFFF
_DIAGNOSTIC_PERIOD_MS: Final = 1_000
_REMEMBERED_MAX: Final = 4_096  # Texts, and pairs of range and unit, that are found again; others are kept once more.
_CHILDREN_OFFSET: Final = 8  # Of `first_child` in a node; in that of a variable its description lies there.
_CHILDREN: Final = struct.Struct("<2I")
_SEEN_TYPES: Final = {records.TYPE_BCD16: records.TYPE_UINT16, records.TYPE_BCD32: records.TYPE_UINT32}
# No EURange: AnalogItemType is a Number; OPC 10000-8, 5.3.2.3.
_NOT_NUMBERS: Final = (records.TYPE_BOOL, records.TYPE_STRING)
_ELEMENT_BYTES: Final = (0, 1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 1, 2, 4)  # Of an array's element in its cell, by type.


class Diagnostic(NamedTuple):
    """One number or text that Bifrost says about itself.

    Attributes:
        name: Browse name, for example ``Connected``.
        type: Wire type, `records.TYPE_…`.
        row: Row of the table that has its value.
        description: One line.
    """

    name: str
    type: int
    row: int
    description: str


class ShownDevice(NamedTuple):
    """What must be known of a device besides its tags.

    Attributes:
        name: As configured.
        scan_ns: Period of tags without one of their own.
        rows: Its tags' ids, which are their rows, in the order of the configuration.
        types: Wire type of each row's value once it is in the table (scaled: float64), in the order of `rows`.
        cell_sizes: Bytes of each row's cell; 0 for scalars.
        kinds: Kind of each row, `records.KIND_…`.
        diagnostics: Shown under `_Diagnostics`.
    """

    name: str
    scan_ns: int
    rows: Sequence[int]
    types: Sequence[int]
    cell_sizes: Sequence[int]
    kinds: Sequence[int]
    diagnostics: Sequence[Diagnostic]


class Node(NamedTuple):
    """One node, unpacked: for tests, and for the face that runs without the compiled module."""

    id: str
    name: str
    parent: int
    kind: int
    row: int
    type: int
    array_length: int
    period_ms: int
    is_writable: bool
    children: range
    engineering_range: tuple[float, float] | None
    unit: str
    unit_id: int
    description: str


class Space(msgspec.Struct, frozen=True):
    """A compiled address space: `bf_ua_space`.

    Attributes:
        nodes: Packed `bf_ua_node` records.
        details: Packed `bf_ua_detail` records.
        texts: What both refer to.
        rows_count: Rows of the table that nodes may name.
    """

    nodes: bytearray
    details: bytearray
    texts: bytearray
    rows_count: int

    @property
    def nodes_count(self) -> int:
        """Nodes, folders included."""
        return len(self.nodes) // NODE.size

    @property
    def details_count(self) -> int:
        """Detail records."""
        return len(self.details) // DETAIL.size

    @property
    def memory_bytes(self) -> int:
        """Bytes of the columns; the server keeps a copy of that size."""
        return len(self.nodes) + len(self.details) + len(self.texts)

    def node(self, number: int) -> Node:
        """The node with this number, from 0. Raises struct.error for one that is not there."""
        (
            at,
            parent,
            first,
            count,
            row,
            detail,
            array_length,
            period_ms,
            id_length,
            name_start,
            kind,
            type_,
            flags,
            _,
        ) = NODE.unpack_from(self.nodes, number * NODE.size)
        node_id = self._text(at, id_length)
        is_folder = kind == KIND_FOLDER
        low = high = 0.0
        unit = ""
        unit_number, has_range = 0, False
        if detail != NONE:
            (low, high, unit_at, unit_length, unit_number, has_range) = DETAIL.unpack_from(
                self.details, detail * DETAIL.size
            )
            unit = self._text(unit_at, unit_length)
        return Node(
            id=node_id,
            name=node_id.encode()[name_start:].decode(),
            parent=parent,
            kind=kind,
            row=row,
            type=type_,
            array_length=array_length,
            period_ms=period_ms,
            is_writable=bool(flags & FLAG_WRITABLE),
            children=range(first, first + count) if is_folder else range(0),
            engineering_range=(low, high) if has_range else None,
            unit=unit,
            unit_id=unit_number,
            description="" if is_folder else self._text(first, count),
        )

    def iterate(self) -> Iterator[Node]:
        """All nodes, unpacked one at a time."""
        return map(self.node, range(self.nodes_count))

    def _text(self, offset: int, length: int) -> str:
        return self.texts[offset : offset + length].decode()


def compile_space(
    columns: TagColumns,
    devices: Sequence[ShownDevice],
    gateway: Sequence[Diagnostic],
    *,
    uplinks: Mapping[str, Sequence[Diagnostic]] | None = None,
    rows_count: int,
    writes: bool,
) -> Space:
    """Compiles what clients see. Takes about 8 µs and at most 150 bytes a tag.

    Args:
        columns: All tags, frozen.
        devices: The devices, in the order they are shown.
        gateway: Shown under `_Gateway`.
        uplinks: By name of the uplink, shown under `_Gateway/Uplinks`; the folder is there if there are any.
        rows_count: Rows of the table.
        writes: The master switch; without it no node is writable.
    """
    return _Compiler(columns, rows_count, writes).run(devices, gateway, uplinks or {})


class _Compiler:
    """One compilation: nodes are appended, folders get their children later, in the same order."""

    def __init__(self, columns: TagColumns, rows_count: int, writes: bool) -> None:
        self._columns = columns
        self._writes = writes
        self._space = Space(bytearray(), bytearray(), bytearray(), rows_count)
        self._details: dict[tuple[tuple[float, float] | None, str], int] = {}
        self._texts: dict[str, tuple[int, int]] = {}
        self._folders: deque[tuple[int, Callable[[int], None]]] = deque()

    def run(
        self,
        devices: Sequence[ShownDevice],
        gateway: Sequence[Diagnostic],
        uplinks: Mapping[str, Sequence[Diagnostic]],
    ) -> Space:
        space = self._space
        add_gateway = partial(self._add_gateway, gateway, uplinks)
        self._add_folder(NONE, _ROOT_ID, 1, partial(self._add_devices, devices, add_gateway))
        while self._folders:
            number, add_children = self._folders.popleft()
            first = space.nodes_count
            add_children(number)
            children = _CHILDREN.pack(first, space.nodes_count - first)
            at = number * NODE.size + _CHILDREN_OFFSET
            space.nodes[at : at + _CHILDREN.size] = children
        return space

    # ---- folders

    def _add_folder(self, parent: int, node_id: str, name_start: int, add_children: Callable[[int], None]) -> None:
        self._folders.append((self._space.nodes_count, add_children))
        self._add(parent, node_id.encode(), name_start, KIND_FOLDER)

    def _add_devices(self, devices: Sequence[ShownDevice], add_gateway: Callable[[int], None], parent: int) -> None:
        for device in devices:
            self._add_folder(parent, device.name, 0, partial(self._add_device, device))
        self._add_folder(parent, _GATEWAY, 0, add_gateway)

    def _add_gateway(
        self, gateway: Sequence[Diagnostic], uplinks: Mapping[str, Sequence[Diagnostic]], parent: int
    ) -> None:
        if uplinks:
            self._add_folder(parent, UPLINKS, len(_GATEWAY) + 1, partial(self._add_uplinks, uplinks))
        self._add_diagnostics(_GATEWAY, gateway, parent)

    def _add_uplinks(self, uplinks: Mapping[str, Sequence[Diagnostic]], parent: int) -> None:
        for name, diagnostics in uplinks.items():
            owner = f"{UPLINKS}.{name}"
            self._add_folder(parent, owner, len(UPLINKS) + 1, partial(self._add_diagnostics, owner, diagnostics))

    def _add_device(self, device: ShownDevice, parent: int) -> None:
        """Groups, then diagnostics, then tags without a group."""
        groups: dict[str, array[int]] = {}
        group_of = self._columns.group
        for index, tag_id in enumerate(device.rows):
            group = group_of(tag_id)
            if group not in groups:
                groups[group] = array("I")
            groups[group].append(index)
        ungrouped = groups.pop("", ())
        name_start = len(device.name) + 1  # Names are ASCII: characters are bytes.
        for group, indices in groups.items():
            add = partial(self._add_tags, device, group, indices)
            self._add_folder(parent, f"{device.name}.{group}", name_start, add)
        if device.diagnostics:
            add = partial(self._add_diagnostics, device.name, device.diagnostics)
            self._add_folder(parent, f"{device.name}.{_DIAGNOSTICS}", name_start, add)
        self._add_tags(device, "", ungrouped, parent)

    # ---- variables

    def _add_tags(self, device: ShownDevice, group: str, indices: Iterable[int], parent: int) -> None:
        prefix = (f"{device.name}.{group}." if group else f"{device.name}.").encode()
        columns, name_start, writes = self._columns, len(prefix), self._writes
        rows, types, kinds, cell_sizes = device.rows, device.types, device.kinds, device.cell_sizes
        default_ms = _milliseconds(device.scan_ns)
        for index in indices:
            tag_id = rows[index]
            seen_type = _SEEN_TYPES.get(types[index], types[index])
            flags, array_length = 0, 0
            if kinds[index] == records.KIND_ARRAY:
                flags, array_length = FLAG_ARRAY, cell_sizes[index] // _ELEMENT_BYTES[seen_type]
            if writes and columns.is_writable(tag_id):
                flags |= FLAG_WRITABLE
            scan_ns = columns.scan_ns(tag_id)
            self._add(
                parent,
                prefix + columns.name(tag_id).encode(),
                name_start,
                KIND_TAG,
                row=tag_id,
                description=columns.description(tag_id),
                detail=self._detail_of_tag(tag_id, seen_type),
                array_length=array_length,
                period_ms=_milliseconds(scan_ns) if scan_ns else default_ms,
                type_code=seen_type,
                flags=flags,
            )

    def _add_diagnostics(self, owner: str, diagnostics: Sequence[Diagnostic], parent: int) -> None:
        prefix = f"{owner}#".encode()
        for diagnostic in diagnostics:
            self._add(
                parent,
                prefix + diagnostic.name.encode(),
                len(prefix),
                KIND_DIAGNOSTIC,
                row=diagnostic.row,
                description=diagnostic.description,
                period_ms=_DIAGNOSTIC_PERIOD_MS,
                type_code=diagnostic.type,
            )

    def _add(
        self,
        parent: int,
        node_id: bytes,
        name_start: int,
        kind: int,
        *,
        row: int = NONE,
        description: str = "",
        detail: int = NONE,
        array_length: int = 0,
        period_ms: int = 0,
        type_code: int = 0,
        flags: int = 0,
    ) -> None:
        description_at, description_length = self._text(description)
        texts = self._space.texts
        self._space.nodes.extend(
            NODE.pack(
                *(len(texts), parent, description_at, description_length, row, detail, array_length, period_ms),
                *(len(node_id), name_start, kind, type_code, flags, 0),
            )
        )
        texts.extend(node_id)

    # ---- what nodes share

    def _detail_of_tag(self, tag_id: int, seen_type: int) -> int:
        engineering_range = None if seen_type in _NOT_NUMBERS else self._columns.engineering_range(tag_id)
        unit = self._columns.unit(tag_id)
        if engineering_range is None and not unit:
            return NONE
        key = (engineering_range, unit)
        number = self._details.get(key)
        if number is None:
            number = self._space.details_count
            low, high = engineering_range or (0.0, 0.0)
            found = find_unit(unit) if unit else None
            unit_text, unit_number = (found.text, found.id) if found else ("", 0)
            self._space.details.extend(
                DETAIL.pack(low, high, *self._text(unit_text), unit_number, engineering_range is not None)
            )
            if len(self._details) < _REMEMBERED_MAX:
                self._details[key] = number
        return number

    def _text(self, text: str) -> tuple[int, int]:
        """Offset and length of a text: devices of one kind share a tag table, and so its descriptions."""
        if not text:
            return 0, 0
        known = self._texts.get(text)
        if known is None:
            encoded = text.encode()
            known = len(self._space.texts), len(encoded)
            self._space.texts.extend(encoded)
            if len(self._texts) < _REMEMBERED_MAX:
                self._texts[text] = known
        return known


def _milliseconds(period_ns: int) -> int:
    return max(1, min(period_ns // _NS_PER_MS, _PERIOD_MS_MAX))
