"""The Modbus TCP driver: tags in, compiled block reads out; writes; and what it learns of the device's holes.

It never polls: the scan engine does, with what `plan` compiled. When a device answers a block with "illegal data
address", `explain` hunts the culprit by halving the block (a *cut*) until one value, or one gap between two values, is
left: that is a *hole*. Holes are remembered: a gap is never read over again, a tag in a hole is asked for alone, so
that it has the quality it deserves and its neighbours have theirs.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import socket
from array import array
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from bifrost._native import records
from bifrost._native.records import LinkOptions, OneShot
from bifrost.core.config_sections import WINDOW_PROBE, DeviceConfig
from bifrost.core.contracts import Failure, Request, Write
from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec, parse_type
from bifrost.core.errors import AddressError, ConnectError
from bifrost.core.tag import Tag
from bifrost.plc.modbus import core, frame
from bifrost.plc.modbus.address import (
    AddressRange,
    ModbusAddress,
    Table,
    item_count,
    parse_address,
    parse_range,
    resolve_type,
)
from bifrost.plc.plan import plan_spans
from bifrost.plc.values import encode_value

__all__ = ["ModbusDriver"]

PORT: Final = 502  # TG 4.2.2.
_UNIT_DEFAULT: Final = (
    1  # What most devices and gateways answer to; a directly connected one takes 255 too (TG 4.4.2.3).
)
_WINDOW_PROBED: Final = 1  # Pipelining is opted into: servers in the field drop all but the first request of a segment.
_QUERY_KEYS: Final = ("unit",)
_BITS_PER_REGISTER: Final = 16
_STALE_MIN_NS: Final = 5_000_000_000
_STALE_PERIODS: Final = 3
_SWAP_BYTES: Final = records.ORDER_SWAP_BYTES
_BYTE_TYPES: Final = (DataType.INT8, DataType.UINT8)


class _Wanted(NamedTuple):
    """One tag, resolved: which items it takes, and its decode entry but for the offset."""

    first: int
    items: int
    row: int
    type_code: int
    order: int
    bit: int
    flags: int
    elements: int
    shift: int  # bytes from the first register to the first byte
    scale: float
    bias: float


class _Learned:
    """Holes and cuts of one table of one unit, ascending."""

    def __init__(self) -> None:
        self.holes: list[tuple[int, int]] = []
        self.cuts: list[int] = []

    def add_hole(self, first: int, last: int) -> bool:
        """Whether the hole is new; cuts near it were made while hunting it and go."""
        if (first, last) in self.holes:
            return False
        insort(self.holes, (first, last))
        reach = max(frame.READ_COUNT_MAX.values())
        self.cuts = [cut for cut in self.cuts if not first - reach < cut < last + reach]
        return True


class ModbusDriver:
    """One Modbus device on TCP; see `core.contracts.Driver`.

    Args:
        config: The device's section.

    Raises:
        ConfigError: The URL has no host, a path, or a query key that Modbus does not know.
        AddressError: A `forbidden` range is none.
    """

    def __init__(self, config: DeviceConfig) -> None:
        url = config.url
        if not url.host or url.path not in ("", "/"):
            raise config.error("url", f"'{url}' must be modbus-tcp://HOST:PORT?unit=N")
        for key in url.query:
            if key not in _QUERY_KEYS:
                near = difflib.get_close_matches(key, _QUERY_KEYS, n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise config.error(
                    "url", f"unknown key {key!r} in '{url}'{hint}; Modbus TCP knows: {', '.join(_QUERY_KEYS)}"
                )
        unit_text = url.query.get("unit", str(_UNIT_DEFAULT))
        if not unit_text.isdecimal() or int(unit_text) > 255:
            raise config.error("url", f"unit must be 0 to 255, not {unit_text!r}")
        self.host: Final = url.host
        self.port: Final = url.port or PORT
        self.unit: Final = int(unit_text)
        self._config = config
        self._forbidden = self._parse_forbidden(config)
        self._learned: dict[tuple[int, Table], _Learned] = {}
        self._specs: dict[DataType | str, TypeSpec] = {}

    @property
    def link_key(self) -> str:
        """See `Driver.link_key`: one TCP connection serves all units behind one address."""
        return f"modbus-tcp://{self.host}:{self.port}"

    @property
    def link_options(self) -> LinkOptions:
        """See `Driver.link_options`."""
        window = self._config.window if self._config.window != WINDOW_PROBE else _WINDOW_PROBED
        return core.tcp_link_options(self._config.timeout_ns, window)

    @property
    def codes(self) -> Mapping[int, int]:
        """See `Driver.codes`."""
        return core.codes()

    # ---- planning ----------------------------------------------------------------------------------------------------

    def plan(self, tags: Sequence[Tag], rows: Sequence[int]) -> list[Request]:
        """See `Driver.plan`. Raises AddressError, naming the tag."""
        wanted: dict[tuple[int, Table, int], list[_Wanted]] = {}
        default_scan = self._config.scan_ns
        slowest = default_scan
        for tag, row in zip(tags, rows, strict=True):
            try:
                key, item = self._resolve(tag, row)
            except AddressError as error:
                raise AddressError(f"tag {tag.full_name!r}: {error}") from error
            scan = tag.scan_ns or default_scan
            slowest = max(slowest, scan)
            wanted.setdefault((*key, scan), []).append(item)
        stale = self._config.stale_ns or max(_STALE_MIN_NS, _STALE_PERIODS * slowest)
        requests: list[Request] = []
        for (unit, table, scan), items in sorted(wanted.items()):
            requests += self._plan_table(unit, table, scan, stale, items)
        return requests

    def check(self, tag: Tag) -> None:
        """Raises AddressError when this driver cannot read `tag`."""
        self._resolve(tag, 0)

    def _resolve(self, tag: Tag, row: int) -> tuple[tuple[int, Table], _Wanted]:
        address = parse_address(tag.address)
        spec = resolve_type(address, self._declared(tag.datatype))
        table = address.table
        order = (address.byte_order or tag.byte_order).code
        bit = address.bit or 0
        shift = 0
        items = item_count(spec, table, bit)
        function = frame.READ_FUNCTIONS[table]
        longest = frame.READ_COUNT_MAX[function] if table.is_bits else self._config.read_registers_max
        if items > longest:
            raise AddressError(
                f"address '{address}': {spec} takes {items} {table.title}s, but one read takes at most {longest}, "
                "and a value is never put together from two reads"
            )
        unit = self.unit if address.unit is None else address.unit
        self._refuse_forbidden(address, unit, items)
        if spec.base is DataType.BOOL:
            # Bit 0 of a big-endian register is in its second byte.
            order = 0 if table.is_bits else (order & _SWAP_BYTES) ^ _SWAP_BYTES
        elif spec.base is DataType.STRING or (spec.is_array and spec.base in _BYTE_TYPES):
            order &= _SWAP_BYTES
        elif spec.base in _BYTE_TYPES:
            shift, order = 0 if order & _SWAP_BYTES else 1, 0  # A byte in a register is its low byte.
        is_number = spec.base not in (DataType.BOOL, DataType.STRING)
        flags = records.DECODE_SCALED if tag.is_scaled and is_number else 0
        flags |= records.DECODE_ARRAY if spec.is_array else 0
        wanted = _Wanted(
            address.offset, items, row, spec.base.code, order, bit, flags, spec.count, shift, tag.scale, tag.offset
        )
        return (unit, table), wanted

    def _declared(self, datatype: DataType | str | None) -> TypeSpec | None:
        if datatype is None:
            return None
        spec = self._specs.get(datatype)
        if spec is None:
            try:
                spec = parse_type(str(datatype))
            except ValueError as error:
                raise AddressError(str(error)) from error
            self._specs[datatype] = spec
        return spec

    def _plan_table(self, unit: int, table: Table, scan: int, stale: int, items: list[_Wanted]) -> list[Request]:
        function = frame.READ_FUNCTIONS[table]
        gap = self._config.gap_registers * (_BITS_PER_REGISTER if table.is_bits else 1)
        learned = self._learned.get((unit, table))
        holes = sorted({*self._forbidden_of(unit, table), *(learned.holes if learned else ())})
        spans = plan_spans(
            [item.first for item in items],
            [item.items for item in items],
            gap=gap,
            count_max=frame.READ_COUNT_MAX[function] if table.is_bits else self._config.read_registers_max,
            forbidden=holes,
            cuts=learned.cuts if learned else (),
        )
        requests: list[Request] = []
        for first, count, members in spans:
            compiled, adu = core.compile_exchange(frame.ReadRequest(function, first, count), unit)
            if len(members) > 1:
                compiled = compiled._replace(hold_code=int(frame.ExceptionCode.ILLEGAL_DATA_ADDRESS))
            decodes = bytearray(records.DECODE.size * len(members))
            rows = array("I")
            for position, member in enumerate(members):
                item = items[member]
                _pack_entry(decodes, position, item, item.first - first, is_bits=table.is_bits)
                rows.append(item.row)
            label = f"{unit}!{AddressRange(table, first, first + count - 1)}"
            requests.append(Request(compiled, adu, bytes(decodes), rows, scan, stale, unit, label))
        return requests

    # ---- holes -------------------------------------------------------------------------------------------------------

    def explain(self, failure: Failure) -> bool:
        """See `Driver.explain`: halves a block that answered "illegal data address" until the hole is left."""
        if failure.code != frame.ExceptionCode.ILLEGAL_DATA_ADDRESS:
            return False
        read = parse_range(failure.request.label)
        learned = self._learned.setdefault((read.unit or 0, read.table), _Learned())
        values = sorted(_values_of(failure.request, read))
        gaps = [(end, start) for (_, end), (start, _) in pairwise(values) if end < start]
        if len(values) == 1:
            return learned.add_hole(values[0][0], values[0][1] - 1)
        if len(values) == 2 and gaps:
            return learned.add_hole(gaps[0][0], gaps[0][1] - 1)
        starts = sorted({start for start, _ in values} - {read.first})
        if not starts:
            return learned.add_hole(read.first, read.last)  # Values that overlap; nothing is left to cut.
        cut = starts[len(starts) // 2]
        if cut in learned.cuts:
            return False
        insort(learned.cuts, cut)
        return True

    @property
    def learned(self) -> dict[str, list[str]]:
        """See `Driver.learned`."""
        holes = [
            str(AddressRange(table, first, last, unit))
            for (unit, table), known in sorted(self._learned.items())
            for first, last in known.holes
        ]
        return {"holes": holes} if holes else {}

    def remember(self, learned: Mapping[str, Iterable[str]]) -> None:
        """See `Driver.remember`."""
        for text in learned.get("holes", ()):
            try:
                hole = parse_range(text)
            except AddressError:
                continue
            key = (self.unit if hole.unit is None else hole.unit, hole.table)
            self._learned.setdefault(key, _Learned()).add_hole(hole.first, hole.last)

    def _parse_forbidden(self, config: DeviceConfig) -> tuple[AddressRange, ...]:
        ranges = []
        for text in config.forbidden:
            try:
                ranges.append(parse_range(text))
            except AddressError as error:
                raise config.error("forbidden", str(error)) from error
        return tuple(ranges)

    def _forbidden_of(self, unit: int, table: Table) -> list[tuple[int, int]]:
        return [
            (span.first, span.last)
            for span in self._forbidden
            if span.table is table and (span.unit is None or span.unit == unit)
        ]

    def _refuse_forbidden(self, address: ModbusAddress, unit: int, items: int) -> None:
        for first, last in self._forbidden_of(unit, address.table) if self._forbidden else ():
            if address.offset <= last and first < address.offset + items:
                span = AddressRange(address.table, first, last)
                raise AddressError(f"address '{address}' lies in '{span}', which the device's 'forbidden' excludes")

    # ---- connecting and writing --------------------------------------------------------------------------------------

    async def open(self) -> socket.socket:
        """See `Driver.open`: a TCP connection is all that Modbus needs."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConnectError(f"{self.link_key}: host {self.host!r} is not known: {error.strerror}") from error
        reasons = []
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, address)
            except OSError as error:
                connection.close()
                reasons.append(os.strerror(error.errno) if error.errno else str(error))  # asyncio has its own words.
                continue
            except BaseException:
                connection.close()
                raise
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # TG 4.2: small requests, sent at once.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return connection
        raise ConnectError(f"{self.link_key}: {'; '.join(dict.fromkeys(reasons))}")

    def compile_write(self, write: Write) -> OneShot:
        """See `Driver.compile_write`: function 5 or 15 for coils, 6 or 16 for registers, 22 for a part of one."""
        tag = write.tag
        address = parse_address(tag.address)
        if not address.table.is_writable:
            raise AddressError(f"tag {tag.full_name!r}: a {address.table.title} cannot be written")
        spec = resolve_type(address, self._declared(tag.datatype))
        order = address.byte_order or tag.byte_order
        request = _write_request(address, spec, order, tag, write)
        unit = self.unit if address.unit is None else address.unit
        return core.compile_oneshot(request, unit, unit_index=unit)  # The Scanner knows the index on the link.

    def write_status(self, code: int) -> int:
        """See `Driver.write_status`."""
        return int(frame.exception_status(code, is_write=True))


def _pack_entry(target: bytearray, position: int, item: _Wanted, distance: int, *, is_bits: bool) -> None:
    bit = item.bit
    if is_bits:
        offset, bit = divmod(distance, 8)
    else:
        offset = distance * 2 + item.shift
    records.DECODE.pack_into(
        target,
        position * records.DECODE.size,
        item.row,
        offset,
        0,
        item.elements,
        item.type_code,
        item.order,
        bit,
        item.flags,
        item.scale,
        item.bias,
    )


def _values_of(request: Request, read: AddressRange) -> list[tuple[int, int]]:
    """First item and end of each value in a request's answer, from its decode entries."""
    values = []
    types = tuple(DataType)
    for entry in records.iterate_decodes(request.decodes):
        spec = TypeSpec(types[entry.type - 1], entry.elements)
        if read.table.is_bits:
            first = read.first + entry.offset * 8 + entry.bit
        else:
            first = read.first + entry.offset // 2
        values.append((first, first + item_count(spec, read.table, entry.bit)))
    return values


def _byte_request(address: ModbusAddress, spec: TypeSpec, order: ByteOrder, data: bytes) -> frame.Request:
    """Writes one byte and leaves the other one of its register as it is."""
    if spec.is_array:
        raise AddressError(f"{spec} ends in half a register and cannot be written in one request; use an even count")
    if order.code & _SWAP_BYTES:
        return frame.MaskWriteRequest(address.offset, 0x00FF, data[0] << 8)
    return frame.MaskWriteRequest(address.offset, 0xFF00, data[0])


def _write_request(address: ModbusAddress, spec: TypeSpec, order: ByteOrder, tag: Tag, write: Write) -> frame.Request:
    function = frame.Function
    if spec.base is DataType.BOOL:
        bits = write.value if isinstance(write.value, list) else [write.value]
        if address.table is Table.COIL:
            data = frame.pack_bits([bool(bit) for bit in bits])
            code = function.WRITE_MULTIPLE_COILS if spec.is_array else function.WRITE_SINGLE_COIL
            return frame.WriteRequest(code, address.offset, spec.count, data)
        if spec.is_array:
            raise AddressError(
                f"tag {tag.full_name!r}: an array of bits of a register cannot be written in one request"
            )
        bit = address.bit or 0
        mask = 1 << (bit ^ 8 if order.code & _SWAP_BYTES else bit)
        return frame.MaskWriteRequest(address.offset, 0xFFFF ^ mask, mask if bits[0] else 0)
    data = encode_value(write.value, spec, order, tag.scale, tag.offset)
    if spec.base in _BYTE_TYPES and spec.count % 2:
        return _byte_request(address, spec, order, data)
    count = len(data) // 2
    if count > frame.WRITE_COUNT_MAX[function.WRITE_MULTIPLE_REGISTERS]:
        raise AddressError(f"tag {tag.full_name!r}: {spec} takes {count} registers, but one write takes at most 123")
    code = function.WRITE_SINGLE_REGISTER if count == 1 else function.WRITE_MULTIPLE_REGISTERS
    return frame.WriteRequest(code, address.offset, count, data)
