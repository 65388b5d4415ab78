"""`Tag`, what a person declares, and `DataPoint`, what a person gets back.

Both exist at the edges only. Inside, tags are rows of columns (`core.columns`) and values are slots of the table: a
gateway with 100,000 tags does not hold 100,000 Python objects.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from bifrost.core.datatypes import ByteOrder, DataType, TypeSpec, ValueKind, parse_type
from bifrost.core.status import is_bad, is_good, status_name

__all__ = ["DataPoint", "Tag", "Value"]

Value: TypeAlias = bool | int | float | str | list[bool] | list[int] | list[float] | None


class Tag(msgspec.Struct, frozen=True, kw_only=False):
    """One value of one device.

    Attributes:
        name: 1 to 64 letters, digits, `_`, `-` or spaces; no dot and no slash.
        address: The protocol's own spelling, for example ``40001`` or ``"hr:0"``.
        datatype: A `DataType`, or a type text such as ``"float32"``, ``"string[16]"``, ``"int16[8]"``. None: what the
            address implies
            (a suffix `:TYPE`, else `bool` for bits and `uint16` for registers).
        byte_order: Order of the bytes by letters.
        scale: Factor from raw to engineering value; with `scale` or `offset` the tag is a float64.
        offset: Added after scaling, in engineering units.
        unit: Engineering unit: a common name or a UNECE Rec. 20 code.
        range: Lowest and highest expected value (EURange), in engineering units.
        deadband: Smallest difference that counts as a change, in engineering units; 0: every change of a bit counts.
        max_interval_ns: Report at least this often, in nanoseconds; 0: only changes.
        scan_ns: Scan period in nanoseconds; 0: the device's.
        writable: Whether clients may write it (the gateway's master switch must be on as well).
        description: One line for people.
        group: Optional group between device and tag.
        device: Name of the device; empty when used on one connection.
    """

    name: str
    address: str | int
    datatype: DataType | str | None = None
    byte_order: ByteOrder = ByteOrder.ABCD
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    range: tuple[float, float] | None = None
    deadband: float = 0.0
    max_interval_ns: int = 0
    scan_ns: int = 0
    writable: bool = False
    description: str = ""
    group: str = ""
    device: str = ""

    @property
    def full_name(self) -> str:
        """`device.group.tag`, leaving out what is empty: the same text in OPC UA, topics, command line and journal."""
        return ".".join(part for part in (self.device, self.group, self.name) if part)

    @property
    def is_scaled(self) -> bool:
        """Whether raw and engineering value differ, which makes the tag a float64."""
        return self.scale != 1.0 or self.offset != 0.0

    def type_spec(self, default: TypeSpec) -> TypeSpec:
        """The declared type, or `default` where none was declared.

        Raises ValueError for a type text that is not one.
        """
        if self.datatype is None:
            return default
        if isinstance(self.datatype, DataType) and self.datatype is not DataType.STRING:
            return TypeSpec(self.datatype)
        return parse_type(str(self.datatype))


def value_kind(spec: TypeSpec, is_scaled: bool) -> ValueKind:
    """Kind of the value in the table: a scaled scalar is a float, everything else what its type says."""
    if is_scaled and not spec.is_array and spec.base is not DataType.STRING:
        return ValueKind.FLOAT
    return spec.kind


class DataPoint(msgspec.Struct, frozen=True):
    """One value with its quality and times, made when a person asks for it.

    Attributes:
        tag: Full name of the tag.
        value: The last value; None when there never was one.
        status: OPC UA StatusCode.
        source_time_ns: When the device's answer with this value arrived, UTC nanoseconds since 1970; 0: never.
        server_time_ns: When value or quality was last set, UTC nanoseconds since 1970.
    """

    tag: str
    value: Value
    status: int
    source_time_ns: int
    server_time_ns: int

    @property
    def quality(self) -> str:
        """Symbolic name of the status, for example ``Good`` or ``BadNoCommunication``."""
        return status_name(self.status)

    @property
    def is_good(self) -> bool:
        """Whether the value may be used without reservation."""
        return is_good(self.status)

    @property
    def is_bad(self) -> bool:
        """Whether there is no usable value."""
        return is_bad(self.status)

    @property
    def source_time(self) -> datetime | None:
        """When the device's answer with this value arrived, in UTC to the microsecond; None: there never was one."""
        return _utc(self.source_time_ns)

    @property
    def server_time(self) -> datetime | None:
        """When value or quality was last set, in UTC to the microsecond; None: never."""
        return _utc(self.server_time_ns)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _utc(time_ns: int) -> datetime | None:
    """Exact, unlike `fromtimestamp` of a float; what is below a microsecond is cut off."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000) if time_ns else None
