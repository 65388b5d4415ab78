"""From an engineering value to the raw value that goes to a device: type, range, inverse scaling. Pure.

This is the write direction only; reading is done by the native core, a block at a time. Halves round to even (IEEE
754-2019, 4.3.1), as the reading side does, so that writing back what was read changes nothing.
"""

from __future__ import annotations

import math
import struct
import sys
from typing import TypeAlias

from bifrost.core.datatypes import DataType, TypeSpec
from bifrost.core.status import StatusCode
from bifrost.core.tag import Value

__all__ = ["raw_value"]

_INT_RANGES = {
    DataType.INT8: (-(1 << 7), (1 << 7) - 1),
    DataType.UINT8: (0, (1 << 8) - 1),
    DataType.INT16: (-(1 << 15), (1 << 15) - 1),
    DataType.UINT16: (0, (1 << 16) - 1),
    DataType.INT32: (-(1 << 31), (1 << 31) - 1),
    DataType.UINT32: (0, (1 << 32) - 1),
    DataType.INT64: (-(1 << 63), (1 << 63) - 1),
    DataType.UINT64: (0, (1 << 64) - 1),
    DataType.BCD16: (0, 9_999),  # Four decimal digits.
    DataType.BCD32: (0, 99_999_999),
}
_FLOAT64_MAX = sys.float_info.max
_Refused: TypeAlias = tuple[StatusCode, None]
_TYPE_MISMATCH: _Refused = (StatusCode.BadTypeMismatch, None)
_OUT_OF_RANGE: _Refused = (StatusCode.BadOutOfRange, None)


def raw_value(
    value: Value,
    spec: TypeSpec,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    engineering_range: tuple[float, float] | None = None,
) -> tuple[StatusCode, Value]:
    """What to write so that the tag will read `value`.

    Args:
        value: In engineering units.
        spec: Type of the tag on the wire.
        scale: Factor from raw to engineering value, not 0.
        offset: Added after scaling.
        engineering_range: Lowest and highest value allowed; None: what the type can hold.

    Returns:
        Good and the raw value (bool, int, float, str, or a list of one kind); else BadTypeMismatch or BadOutOfRange
        and None.
    """
    if spec.is_array:
        return _raw_array(value, spec, scale, offset, engineering_range)
    if spec.base is DataType.STRING:
        return _raw_text(value, spec.count)
    if spec.base is DataType.BOOL:
        return (StatusCode.Good, value) if isinstance(value, bool) else _TYPE_MISMATCH
    return _raw_number(value, spec.base, scale, offset, engineering_range)


def _raw_array(
    value: Value, spec: TypeSpec, scale: float, offset: float, engineering_range: tuple[float, float] | None
) -> tuple[StatusCode, Value]:
    if not isinstance(value, list) or len(value) != spec.count:
        return _TYPE_MISMATCH
    element = TypeSpec(spec.base)
    raw: list[Value] = []
    for item in value:
        status, raw_item = raw_value(item, element, scale=scale, offset=offset, engineering_range=engineering_range)
        if status is not StatusCode.Good:
            return status, None
        raw.append(raw_item)
    return StatusCode.Good, raw  # type: ignore[return-value]  # all items are of the kind of spec.base


def _raw_text(value: Value, bytes_max: int) -> tuple[StatusCode, Value]:
    if not isinstance(value, str):
        return _TYPE_MISMATCH
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return _TYPE_MISMATCH
    return (StatusCode.Good, value) if size <= bytes_max else _OUT_OF_RANGE


def _raw_number(
    value: Value, base: DataType, scale: float, offset: float, engineering_range: tuple[float, float] | None
) -> tuple[StatusCode, Value]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _TYPE_MISMATCH
    if not -_FLOAT64_MAX <= value <= _FLOAT64_MAX:  # A comparison, since a long int has no float; false for NaN.
        return _OUT_OF_RANGE
    if engineering_range and not engineering_range[0] <= value <= engineering_range[1]:
        return _OUT_OF_RANGE
    is_scaled = scale != 1.0 or offset != 0.0
    if base in {DataType.FLOAT32, DataType.FLOAT64}:
        return _raw_float((value - offset) / scale if is_scaled else value, base)
    if is_scaled:
        unscaled = (value - offset) / scale
        if not math.isfinite(unscaled):
            return _OUT_OF_RANGE
        raw = round(unscaled)
    elif isinstance(value, float) and not value.is_integer():
        return _TYPE_MISMATCH
    else:
        raw = int(value)
    low, high = _INT_RANGES[base]
    return (StatusCode.Good, raw) if low <= raw <= high else _OUT_OF_RANGE


def _raw_float(value: float, base: DataType) -> tuple[StatusCode, Value]:
    raw = float(value)
    if base is DataType.FLOAT32 and math.isfinite(raw):
        try:
            raw = float(struct.unpack("<f", struct.pack("<f", raw))[0])
        except OverflowError:
            return _OUT_OF_RANGE
    return (StatusCode.Good, raw) if math.isfinite(raw) else _OUT_OF_RANGE
