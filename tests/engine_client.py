"""One Modbus client made of the scan engine and nothing else: requests in, bytes out; bytes in, outcomes out.

For tests that ask what the engine takes for the answer to a request. The plan is empty: every request is a one-shot.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from bifrost._native import records
from bifrost.plc.modbus import core, frame
from bifrost.plc.plan import compile_plan

_TABLE_LIMITS = records.TableLimits(1, 2, 0, 0)
_SCAN_LIMITS = records.ScanLimits(1, 16, frame.ADU_BYTES_MAX, frame.ADU_BYTES_MAX, 64, 0)
_TIMEOUT_NS = 1_000_000


class Ended(NamedTuple):
    """How a request ended: a `DONE_…` code, the exception code if there was one, and the wire bytes of a good answer."""

    token: int
    code: int
    exception: int
    data: bytes


class EngineClient:
    """The client; `backend` is one of the two native cores."""

    def __init__(self, backend: ModuleType, window: int = 1) -> None:
        self._scan = backend.make_scan(_SCAN_LIMITS, backend.make_table(_TABLE_LIMITS), 1)
        self._exchanges: dict[int, records.Exchange] = {}
        self.is_broken = False
        options = core.tcp_link_options(_TIMEOUT_NS, window)._replace(timeouts_to_close=1000, breaker_failures=1000)
        self._step(0, records.Event(records.EVENT_LINK, data=options))
        self._step(0, records.Event(records.EVENT_PLAN, data=compile_plan(1, [], {}).plan))
        self._step(0, records.Event(records.EVENT_OPEN))

    @property
    def counters(self) -> records.Counters:
        """The link's counters."""
        counters: records.Counters = self._scan.counters(0)
        return counters

    def send(self, request: frame.Request, unit: int, now_ns: int = 0, timeout_ns: int = 0) -> tuple[int, bytes]:
        """Token of the request, and what goes out (nothing while the window is full)."""
        token = len(self._exchanges) + 1
        oneshot = core.compile_oneshot(request, unit, timeout_ns=timeout_ns)
        self._exchanges[token] = oneshot.exchange
        actions = self._step(now_ns, records.Event(records.EVENT_ONESHOT, token=token, data=oneshot))
        return token, b"".join(action.data for action in actions if action.kind == records.ACTION_SEND)

    def feed(self, data: bytes, now_ns: int = 0) -> list[Ended]:
        """Requests that `data` ended."""
        return self._ended(self._step(now_ns, records.Event(records.EVENT_BYTES, data=data)))

    def expire(self, now_ns: int) -> list[Ended]:
        """Requests whose time is over."""
        return self._ended(self._step(now_ns))

    def close(self, now_ns: int = 0) -> list[Ended]:
        """Requests that the peer's closing ended."""
        return self._ended(self._step(now_ns, records.Event(records.EVENT_CLOSED)))

    def _step(self, now_ns: int, *events: records.Event) -> list[records.Action]:
        actions: list[records.Action]
        actions, _ = self._scan.step(now_ns, events)
        self.is_broken |= any(action.kind == records.ACTION_DOWN for action in actions)
        return actions

    def _ended(self, actions: list[records.Action]) -> list[Ended]:
        return [
            Ended(
                action.token,
                action.code,
                action.number if action.code == records.DONE_ERROR else 0,
                action.data[self._exchanges[action.token].body_offset :] if action.code == records.DONE_GOOD else b"",
            )
            for action in actions
            if action.kind == records.ACTION_DONE
        ]
