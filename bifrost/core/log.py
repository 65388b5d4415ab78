"""Logging: one line an event, ``key=value``, on the standard library's logging.

A line has a constant message and fields: ``log.warning("link lost", extra=fields(device="boiler", tries=3))``.
Constant messages are what rate limits count by, so that a flapping link cannot fill a disk: beyond the limit lines
are dropped, and the next one that passes tells how many. Secrets that were read (`core.secrets`) are replaced wherever
they turn up; the values of telling field names are never shown at all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TextIO

from bifrost.core.clock import format_time_ns
from bifrost.core.secrets import HIDDEN, SECRETS

__all__ = ["KeyValueFormatter", "LogGuard", "fields", "set_up_logging"]

_FIELDS = "bifrost_fields"
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+\-\[\]]+")
_SECRET_FIELD = re.compile(r"password|passwd|secret|token|credential|private_key", re.IGNORECASE)
_KEYS_COUNT_MAX = 256  # Message keys whose rate is watched; beyond them, all others share one.
_NS_PER_S = 1_000_000_000


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The `extra` argument of a log call with these fields."""
    return {_FIELDS: values}


class LogGuard(logging.Filter):
    """Lets lines through at a bounded rate per message.

    Args:
        now_ns: Monotonic time.
        lines_per_second: Lines let through per second and message (limit `log_lines_per_second`).
    """

    def __init__(self, now_ns: Callable[[], int], lines_per_second: int) -> None:
        super().__init__()
        self._now_ns = now_ns
        self._lines_per_second = lines_per_second
        self._windows: dict[str, list[int]] = {}  # Key -> start of the second, lines passed, lines suppressed.
        self.suppressed_count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line passes; counts it either way."""
        key = f"{record.name}:{record.msg}"
        if key not in self._windows and len(self._windows) >= _KEYS_COUNT_MAX:
            key = ""
        now_ns = self._now_ns()
        window = self._windows.setdefault(key, [now_ns, 0, 0])
        suppressed_count = 0
        if now_ns - window[0] >= _NS_PER_S:
            suppressed_count = window[2]
            window[:] = [now_ns, 0, 0]
        if window[1] >= self._lines_per_second:
            window[2] += 1
            self.suppressed_count += 1
            return False
        window[1] += 1
        if suppressed_count:
            record.__dict__[_FIELDS] = {**record.__dict__.get(_FIELDS, {}), "suppressed": suppressed_count}
        return True


class KeyValueFormatter(logging.Formatter):
    """``time=… level=… logger=… msg="…" key=value …``, and a traceback as one escaped field.

    Args:
        utc_ns: UTC nanoseconds of now; None leaves the time out, since journald adds its own.
    """

    def __init__(self, utc_ns: Callable[[], int] | None) -> None:
        super().__init__()
        self._utc_ns = utc_ns

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`, without a line end."""
        pairs: dict[str, object] = {}
        if self._utc_ns is not None:
            pairs["time"] = format_time_ns(self._utc_ns())
        pairs |= {"level": record.levelname.lower(), "logger": record.name, "msg": record.getMessage()}
        pairs |= _visible(record.__dict__.get(_FIELDS, {}))
        if record.exc_info:
            pairs["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items())


def set_up_logging(
    stream: TextIO,
    *,
    level: str,
    now_ns: Callable[[], int],
    utc_ns: Callable[[], int] | None,
    lines_per_second: int,
) -> LogGuard:
    """Send all log lines to `stream` in this form, in place of earlier handlers; gives what counts those that did not pass.

    Args:
        stream: Usually standard error.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        now_ns: Monotonic time.
        utc_ns: UTC time; None leaves it out.
        lines_per_second: Limit `log_lines_per_second`.
    """
    guard = LogGuard(now_ns, lines_per_second)
    handler = logging.StreamHandler(stream)
    handler.addFilter(guard)
    handler.setFormatter(KeyValueFormatter(utc_ns))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    return guard


def _visible(values: Mapping[str, object]) -> dict[str, object]:
    return {key: HIDDEN if _SECRET_FIELD.search(key) else value for key, value in values.items()}


def _quoted(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else SECRETS.redacted(str(value))
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in escaped)
    return f'"{escaped}"'
