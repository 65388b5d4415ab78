"""Values at the edge: as records in JSON answers, and as people type them."""

from __future__ import annotations

from typing import Any

from bifrost._native import records
from bifrost.core.clock import format_time_ns
from bifrost.core.contracts import Driver
from bifrost.core.datatypes import DataType, TypeSpec
from bifrost.core.tag import DataPoint, Tag, Value

__all__ = ["parse_value", "value_record", "wire_type"]

_TRUE_TEXTS = ("true", "on", "1", "yes")
_FALSE_TEXTS = ("false", "off", "0", "no")
_TYPES = tuple(DataType)


def value_record(point: DataPoint, unit: str = "") -> dict[str, Any]:
    """A data point as commands and their answers show it; field names as in CONTRACT, JSON payload, plus the unit."""
    return {
        "tag": point.tag,
        "value": point.value,
        "unit": unit,
        "quality": point.quality,
        "source_time": _time(point.source_time_ns),
        "server_time": _time(point.server_time_ns),
    }


def _time(time_ns: int) -> str | None:
    return format_time_ns(time_ns) if time_ns else None


def wire_type(driver: Driver, tag: Tag) -> TypeSpec:
    """Type of `tag` on the wire, also where only its address says it. Raises AddressError."""
    (request,) = driver.plan([tag], [0])
    entry = next(records.iterate_decodes(request.decodes))
    return TypeSpec(_TYPES[entry.type - 1], entry.elements, is_array=bool(entry.flags & records.DECODE_ARRAY))


def parse_value(text: str, spec: TypeSpec) -> Value:
    """The value that `text` spells for a tag of type `spec`: ``on``, ``21.5``, ``[1, 2, 3]``, or a text as it is.

    Raises:
        ValueError: It spells none; the message says what would be right.
    """
    if spec.is_array:
        items = text.strip().strip("[]").split(",")
        if len(items) != spec.count:
            raise ValueError(f"{spec} takes {spec.count} values, separated by commas, not {len(items)}")
        element = TypeSpec(spec.base)
        return [parse_value(item.strip(), element) for item in items]  # type: ignore[return-value]  # all of one kind
    if spec.base is DataType.STRING:
        return text
    if spec.base is DataType.BOOL:
        folded = text.lower()
        if folded not in (*_TRUE_TEXTS, *_FALSE_TEXTS):
            raise ValueError(f"{text!r} is no bool: write on or off")
        return folded in _TRUE_TEXTS
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
