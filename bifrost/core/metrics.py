"""Counters and gauges: a registry of fixed size, shown in Prometheus' text format.

A series is made once, at start, and then only counted; making one more than the registry holds is an error at start
and never a surprise later. There is no series per tag: its number would follow the plant, not the program. Source:
Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum

from bifrost.core.errors import LimitError

__all__ = ["Metrics", "Series"]

_METRIC_NAME = re.compile(r"bifrost_[a-z0-9_]+")
_LABEL_NAME = re.compile(r"[a-z_][a-z0-9_]*")


class _Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"


class Series:
    """One number with its labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Count `amount` more; not negative for a counter."""
        self.value += amount

    def set(self, value: float) -> None:
        """Set a gauge."""
        self.value = value


class _Family:
    def __init__(self, kind: _Kind, meaning: str) -> None:
        self.kind = kind
        self.meaning = meaning
        self.series: dict[str, Series] = {}
        self.readers: dict[str, Callable[[], float]] = {}


class Metrics:
    """All series of one process.

    Args:
        series_count_max: How many there can be; one more raises LimitError.
    """

    def __init__(self, series_count_max: int) -> None:
        self._series_count_max = series_count_max
        self._series_count = 0
        self._families: dict[str, _Family] = {}

    def counter(self, name: str, meaning: str, labels: Mapping[str, str] | None = None) -> Series:
        """The counter `name` with `labels`; made on the first call, the same one on later calls.

        Args:
            name: ``bifrost_…_total``.
            meaning: One line.
            labels: Names and values, of things that are configured, never of tags.

        Raises:
            ValueError: A name that Prometheus would not take, or a counter that does not end with ``_total``.
            LimitError: The registry is full.
        """
        if not name.endswith("_total"):
            raise ValueError(f"a counter's name ends with '_total', not {name!r}")
        return self._one(_Kind.COUNTER, name, meaning, labels)

    def gauge(self, name: str, meaning: str, labels: Mapping[str, str] | None = None) -> Series:
        """The gauge `name` with `labels`, like `counter`."""
        return self._one(_Kind.GAUGE, name, meaning, labels)

    def watch(
        self, name: str, meaning: str, read: Callable[[], float], labels: Mapping[str, str] | None = None
    ) -> None:
        """A series whose value is asked for when it is shown: a counter if `name` ends with ``_total``, else a gauge.

        `read` must not wait. A second call with the same name and labels replaces the first.
        """
        kind = _Kind.COUNTER if name.endswith("_total") else _Kind.GAUGE
        family, key = self._place(kind, name, meaning, labels)
        if key not in family.readers:
            self._count_one()
        family.readers[key] = read

    def render(self) -> str:
        """All series as text."""
        lines: list[str] = []
        for name, family in self._families.items():
            lines.append(f"# HELP {name} {_escaped(family.meaning)}")
            lines.append(f"# TYPE {name} {family.kind}")
            lines += [f"{name}{key} {_number(series.value)}" for key, series in family.series.items()]
            lines += [f"{name}{key} {_number(read())}" for key, read in family.readers.items()]
        return "\n".join(lines) + "\n" if lines else ""

    def _one(self, kind: _Kind, name: str, meaning: str, labels: Mapping[str, str] | None) -> Series:
        family, key = self._place(kind, name, meaning, labels)
        series = family.series.get(key)
        if series is None:
            self._count_one()
            series = family.series[key] = Series()
        return series

    def _place(self, kind: _Kind, name: str, meaning: str, labels: Mapping[str, str] | None) -> tuple[_Family, str]:
        if not _METRIC_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a metric name such as 'bifrost_polls_total'")
        family = self._families.setdefault(name, _Family(kind, meaning))
        if family.kind is not kind:
            raise ValueError(f"{name!r} is a {family.kind} already")
        return family, _labels_text(labels or {})

    def _count_one(self) -> None:
        if self._series_count >= self._series_count_max:
            raise LimitError("metrics_series_count_max", self._series_count_max, "too many metrics")
        self._series_count += 1


def _labels_text(labels: Mapping[str, str]) -> str:
    for name in labels:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a label name")
    pairs = [f'{name}="{_escaped(value, quote=True)}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(text: str, *, quote: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quote else escaped


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
