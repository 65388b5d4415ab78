"""The commands of the control socket: `status`, `read`, `browse`, `watch`, `write`, `why`, `reload`, `limits`, `metrics`.

| command | request | answer |
|---|---|---|
| `status` | | health, tags, memory, tasks, `devices`; then `links` with their counters |
| `read` | `tags`: full names and patterns | `values`: `tag value unit quality source_time server_time` |
| `browse` | `tags` | `tags`: `tag type address unit writable description` |
| `watch` | `tags`, `interval_s` | the same again and again, until the client leaves or sends anything |
| `write` | `tag`, and `value` or `text`; `timeout_s` | `tag`, `quality` of the device's answer, `value` as read back |
| `why` | `tag` | `why`: facts about the tag, and `sentences` that say them |
| `reload` | | `reload`: what changed, once it works |
| `limits` | | `limits` and `regions` of memory |
| `metrics` | | `lines` in Prometheus' text format |
"""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bifrost.core.errors import BifrostError
from bifrost.core.limits import limit_infos
from bifrost.core.runtime import BackendSizes
from bifrost.core.status import StatusCode, status_name
from bifrost.gateway import health
from bifrost.gateway.control import ControlSession
from bifrost.gateway.exits import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_WRONG
from bifrost.gateway.memory import config_regions
from bifrost.gateway.values import parse_value, value_record
from bifrost.gateway.why import why_record

if TYPE_CHECKING:
    from bifrost.gateway.app import Gateway

__all__ = ["Commands"]

_ROWS_AT_ONCE = 256  # Data points that exist at a time while an answer is made.
_PATTERNS_COUNT_MAX = 16  # Each is compared with every tag.
_HINT_TAGS_MAX = 2_000  # Finding the nearest name among more takes too long.
_INTERVAL_MIN_S = 0.05
_INTERVAL_MAX_S = 3_600.0
_WRITE_TIMEOUT_S = 10.0
_WRITE_TIMEOUT_MAX_S = 60.0
_PATTERN_CHARACTERS = frozenset("*?[")
_UNREACHABLE = (StatusCode.BadTimeout, StatusCode.BadNoCommunication, StatusCode.BadCommunicationError)


class WriteRefusedError(BifrostError):
    """A write did not succeed. `exit_code` is that of the command line."""

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class Commands:
    """Carries out requests for one gateway; an instance is the `command` of a `ControlServer`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._commands = {
            "status": self._status,
            "read": self._read,
            "browse": self._browse,
            "watch": self._watch,
            "write": self._write,
            "why": self._why,
            "reload": self._reload,
            "limits": self._limits,
            "metrics": self._metrics,
        }

    async def __call__(self, request: Mapping[str, Any], session: ControlSession) -> None:
        """Carries out `request` and sends its answers. Raises BifrostError or ValueError when it cannot be."""
        command = self._commands.get(request["command"])
        if command is None:
            raise ValueError(f"unknown command {request['command']!r}; there are: {', '.join(self._commands)}")
        await command(request, session)

    async def _status(self, request: Mapping[str, Any], session: ControlSession) -> None:
        await session.send_items(
            health.status(self._gateway), "devices", health.device_records(self._gateway), more=True
        )
        await session.send_items({}, "links", health.link_records(self._gateway))

    async def _read(self, request: Mapping[str, Any], session: ControlSession) -> None:
        rows = self._rows(request)
        await session.send_items({}, "values", self._values(rows))

    async def _browse(self, request: Mapping[str, Any], session: ControlSession) -> None:
        await session.send_items({}, "tags", map(self._tag_record, self._rows(request)))

    def _tag_record(self, tag_id: int) -> dict[str, Any]:
        tag = self._gateway.config.tags[tag_id]
        target = self._gateway.delivery.target_of(tag_id)
        assert target is not None, "the row is one of the configuration's"
        return {
            "tag": tag.full_name,
            "type": str(target.spec),
            "address": str(tag.address),
            "unit": tag.unit,
            "writable": tag.writable and self._gateway.config.gateway.writes,
            "description": tag.description,
        }

    async def _watch(self, request: Mapping[str, Any], session: ControlSession) -> None:
        rows = self._rows(request)
        interval_s = _number(request, "interval_s", 1.0, _INTERVAL_MIN_S, _INTERVAL_MAX_S)
        while True:
            await session.send_items({}, "values", self._values(rows))
            if await session.is_gone_after(interval_s):
                return

    async def _write(self, request: Mapping[str, Any], session: ControlSession) -> None:
        gateway = self._gateway
        timeout_s = _number(request, "timeout_s", _WRITE_TIMEOUT_S, 0.0, _WRITE_TIMEOUT_MAX_S)
        name = request.get("tag")
        if not isinstance(name, str):
            raise ValueError("a write names its tag")
        tag_id = self._id_of(name)
        if "value" not in request and not isinstance(request.get("text"), str):
            raise ValueError("a write has a value, or a text that spells it")
        value = request.get("value")
        if "value" not in request:
            target = gateway.delivery.target_of(tag_id)
            assert target is not None
            value = parse_value(request["text"], target.spec)
        deadline_ns = gateway.clock.now_ns() + int(timeout_s * 1e9)
        status = await gateway.writes.accept(tag_id, value, session.who, deadline_ns)
        if status != StatusCode.Good:
            raise WriteRefusedError(f"{name}: {self._refusal(tag_id, status)}", _write_exit_code(status))
        (read_back,) = self._values(array("I", [tag_id]))
        await session.send({"tag": name, "quality": status_name(status), "read_back": read_back})

    def _refusal(self, tag_id: int, status: int) -> str:
        if status == StatusCode.BadNotWritable:
            if not self._gateway.config.gateway.writes:
                return "not written: writes are off; set writes = true in [gateway]"
            if not self._gateway.config.tags.is_writable(tag_id):
                return "not written: the tag is not writable; set writable = true"
        words = "no answer; the device may have got the value" if status in _UNREACHABLE else "the write was refused"
        return f"{words} ({status_name(status)})"

    async def _why(self, request: Mapping[str, Any], session: ControlSession) -> None:
        name = request.get("tag")
        if not isinstance(name, str):
            raise ValueError("why names its tag")
        await session.send({"why": why_record(self._gateway, self._id_of(name))})

    async def _reload(self, request: Mapping[str, Any], session: ControlSession) -> None:
        await session.send({"reload": await self._gateway.reloader.ask(session.who)})

    async def _limits(self, request: Mapping[str, Any], session: ControlSession) -> None:
        limits = self._gateway.config.limits
        head = {
            "regions": limits.regions(
                BackendSizes(limits, self._gateway.runtime.backend), config_regions(self._gateway.config)
            ),
            "memory_bytes": self._gateway.memory_bytes,
        }
        items = (
            {"name": name, "value": getattr(limits, name), "meaning": info.meaning, "at_limit": info.at_limit}
            for name, info in limit_infos().items()
        )
        await session.send_items(head, "limits", items)

    async def _metrics(self, request: Mapping[str, Any], session: ControlSession) -> None:
        await session.send_items({}, "lines", self._gateway.metrics.render().splitlines())

    # ---- tags

    def _rows(self, request: Mapping[str, Any]) -> array[int]:
        """Ids of the tags that a request names, each once, in the order named."""
        names = request.get("tags", ["*"])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("tags is a list of full names and patterns")
        patterns = [name for name in names if _PATTERN_CHARACTERS.intersection(name)]
        if len(patterns) > _PATTERNS_COUNT_MAX:
            raise ValueError(f"{len(patterns)} patterns are too many; {_PATTERNS_COUNT_MAX} at most")
        rows: dict[int, None] = {}
        for name in names:
            found: Iterable[int] = (
                self._gateway.config.tags.select([name])
                if _PATTERN_CHARACTERS.intersection(name)
                else (self._id_of(name),)
            )
            rows.update(dict.fromkeys(found))
        if names and not rows:
            raise ValueError(f"no tag matches {', '.join(names)}")
        return array("I", rows)

    def _id_of(self, name: str) -> int:
        tags = self._gateway.config.tags
        tag_id = tags.id_of(name)
        if tag_id is None:
            if name in tags.devices:
                raise ValueError(f"{name!r} is a device; its tags are '{name}.*'")
            near = difflib.get_close_matches(name, tags.full_names(), n=1) if len(tags) <= _HINT_TAGS_MAX else []
            raise ValueError(f"no tag {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return tag_id

    def _values(self, rows: array[int]) -> Iterator[dict[str, Any]]:
        columns, table = self._gateway.config.tags, self._gateway.runtime.table
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            for row, point in zip(part, table.snapshot(part), strict=True):
                yield value_record(point, columns.unit(row))


def _number(request: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{key} is a number from {low:g} to {high:g}")
    return float(value)


def _write_exit_code(status: int) -> int:
    if status in _UNREACHABLE:
        return EXIT_UNREACHABLE
    wrong = (StatusCode.BadNotWritable, StatusCode.BadTypeMismatch, StatusCode.BadOutOfRange)
    return EXIT_WRONG if status in wrong else EXIT_FAILED
