"""Times as text, quickly: neighbouring samples nearly always share the second."""

from __future__ import annotations

from bifrost.core.clock import format_time_ns

__all__ = ["TimeText"]

_NS_PER_S = 1_000_000_000
_DATE_CHARACTERS = len("2026-11-22T09:00:00")


class TimeText:
    """`format_time_ns` that remembers the second it wrote last."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def format(self, time_ns: int) -> str:
        """`time_ns`, UTC nanoseconds since 1970, as ``2026-11-22T09:00:00.123456Z``."""
        second, rest_ns = divmod(time_ns, _NS_PER_S)
        if second != self._second:
            self._text = format_time_ns(second * _NS_PER_S)[:_DATE_CHARACTERS]
            self._second = second
        return f"{self._text}.{rest_ns // 1000:06d}Z"
