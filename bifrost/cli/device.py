"""One device without a gateway, for `read`, `write` and `watch` with a URL: connect, do one thing, disconnect.

A type text may carry its byte order: ``float32@CDAB``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bifrost.core.datatypes import ByteOrder
from bifrost.core.tag import DataPoint, Tag
from bifrost.gateway.values import parse_value, value_record, wire_type
from bifrost.plc.connection import PLCConnection, connect

__all__ = ["make_tag", "read_device", "watch_device", "write_device"]

Record = dict[str, Any]

logging.getLogger("bifrost").addHandler(logging.NullHandler())  # A command's error is its one sentence, not a log line.


def make_tag(address: str, type_text: str | None, *, name: str = "", writable: bool = False) -> Tag:
    """A tag for an address that somebody typed; its name is the address.

    Raises:
        ValueError: The byte order after ``@`` is none.
    """
    datatype, _, order = (type_text or "").partition("@")
    if order and order.upper() not in list(ByteOrder):
        raise ValueError(f"{type_text!r}: the byte order after '@' is one of {', '.join(ByteOrder)}")
    byte_order = ByteOrder(order.upper()) if order else ByteOrder.ABCD
    place: str | int = int(address) if address.isdecimal() and not address.startswith("0") else address
    return Tag(name or address, place, datatype or None, byte_order, writable=writable)


def read_device(url: str, groups: Sequence[Sequence[Tag]], timeout_s: float) -> list[dict[str, DataPoint]]:
    """Reads groups of tags one after the other; what the device refuses has a bad quality.

    Raises what `connect` and `read_tags` raise.
    """

    async def work() -> list[dict[str, DataPoint]]:
        plc: PLCConnection = connect(url, timeout_s=timeout_s)
        for tag in (tag for tags in groups for tag in tags):
            plc.driver.check(tag)  # Wrong words are told also when the device cannot be reached.
        async with plc:
            return [await plc.read_tags(tags) for tags in groups]

    return asyncio.run(work())


def write_device(url: str, address: str, text: str, type_text: str | None, timeout_s: float) -> Record:
    """Writes one value and reads it back; gives the record of what was read.

    Raises what `connect` and `write_tags` raise; ValueError when `text` spells no value of the type.
    """

    async def work() -> Record:
        tag = make_tag(address, type_text, writable=True)
        plc: PLCConnection = connect(url, timeout_s=timeout_s)
        value = parse_value(text, wire_type(plc.driver, tag))
        async with plc:
            points = await plc.write_tags([(tag, value)])
        return value_record(points[tag.full_name])

    return asyncio.run(work())


def watch_device(url: str, addresses: Sequence[str], interval_s: float, show: Callable[[list[Record]], bool]) -> None:
    """Polls addresses and hands each snapshot to `show`, until that says False.

    Raises what `connect` and `poll` raise.
    """

    async def work() -> None:
        tags = [make_tag(address, None) for address in addresses]
        async with connect(url) as plc:
            async for snapshot in plc.poll(tags, interval_ms=interval_s * 1e3):
                if not show(_records(snapshot)):
                    return

    asyncio.run(work())


def _records(points: Mapping[str, DataPoint]) -> list[Record]:
    return [value_record(point) for point in points.values()]
