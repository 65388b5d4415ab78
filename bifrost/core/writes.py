"""The one bounded queue through which every write to a device goes, whoever asks for it.

A write is refused at once (master switch, allow-list, type, range, queue full) or it waits for its device. Each
device is written one value at a time, in the order asked; devices do not wait for each other. The answer is the
device's own, or BadTimeout at the caller's deadline. A slot of the tag table is never changed by a write: the
read-back does that.

What was sent is in the audit log before it is sent; if the audit log cannot be written, nothing is sent.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from bifrost.core.conversion import raw_value
from bifrost.core.datatypes import TypeSpec
from bifrost.core.errors import AddressError, DeviceError, NoAnswerError, ProtocolError, StorageError, TransportError
from bifrost.core.status import StatusCode, status_name
from bifrost.core.tag import Value

__all__ = ["AuditSink", "WriteQueue", "WriteTarget"]

_NS_PER_S = 1_000_000_000


class WriteTarget(msgspec.Struct, frozen=True):
    """What must be known of a tag to write it.

    Attributes:
        name: Full name.
        device: Its device.
        spec: Type on the wire.
        is_writable: Whether the tag allows writes.
        scale: Factor from raw to engineering value.
        offset: Added after scaling.
        range: Lowest and highest value, in engineering units; None: any.
        old: Value in the table now, for the audit log.
    """

    name: str
    device: str
    spec: TypeSpec
    is_writable: bool
    scale: float = 1.0
    offset: float = 0.0
    range: tuple[float, float] | None = None
    old: Value = None


class AuditSink(Protocol):
    """Where records of writes go; `audit.AuditLog.append` is one."""

    def __call__(self, event: str, who: str, *, durable: bool = True, **details: object) -> None:
        """Keep one record. Raises StorageError."""
        ...


class _Entry:
    """One write that was accepted."""

    __slots__ = ("deadline_ns", "number", "result", "tag_id", "target", "timer", "value", "who")

    def __init__(
        self,
        number: int,
        tag_id: int,
        target: WriteTarget,
        value: Value,
        who: str,
        deadline_ns: int,
        result: asyncio.Future[int],
    ) -> None:
        self.number = number
        self.tag_id = tag_id
        self.target = target
        self.value = value
        self.who = who
        self.deadline_ns = deadline_ns
        self.result = result
        self.timer: asyncio.TimerHandle | None = None


class WriteQueue:
    """Accepts writes and delivers them while `run()` runs.

    Args:
        is_enabled: The master switch `[gateway] writes`.
        count_max: Writes waiting or under way (limit `write_queue_count_max`).
        target_of: Tag id -> what is known of the tag; None for an id that is not there.
        deliver: Sends one value, in engineering units, to the tag with this id and gives the StatusCode of the
            device's answer.
        audit: Keeps a record.
        now_ns: Monotonic time.

    Attributes:
        is_enabled: As given; may be changed at any time, for the writes to come.
    """

    def __init__(
        self,
        *,
        is_enabled: bool,
        count_max: int,
        target_of: Callable[[int], WriteTarget | None],
        deliver: Callable[[int, Value], Awaitable[int]],
        audit: AuditSink,
        now_ns: Callable[[], int],
    ) -> None:
        self.is_enabled = is_enabled
        self._count_max = count_max
        self._target_of = target_of
        self._deliver = deliver
        self._audit = audit
        self._now_ns = now_ns
        self._numbers = itertools.count(1)
        self._waiting: dict[str, deque[_Entry]] = {}
        self._served: set[str] = set()
        self._news = asyncio.Event()
        self.count = 0
        self.refused_count = 0
        self.sent_count = 0
        self.audit_failures_count = 0

    def accept(self, tag_id: int, value: Value, who: str, deadline_ns: int) -> asyncio.Future[int]:
        """Ask for a write; returns at once.

        Args:
            tag_id: Row of the table.
            value: In engineering units.
            who: Who asks, for the audit log.
            deadline_ns: Monotonic time after which nobody waits for the answer.

        Returns:
            The StatusCode: of the refusal (at once), of the device, or BadTimeout. After BadTimeout the device may
            have got the value.
        """
        result: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        target = self._target_of(tag_id)
        status = self._refusal(target, value, deadline_ns)
        if target is None or status is not StatusCode.Good:
            name = f"#{tag_id}" if target is None else target.name
            self._refuse(result, name, value, who, status)
            return result
        entry = _Entry(next(self._numbers), tag_id, target, value, who, deadline_ns, result)
        entry.timer = result.get_loop().call_later(self._remaining_s(entry), self._expire, entry)
        self.count += 1
        self._waiting.setdefault(target.device, deque()).append(entry)
        self._news.set()
        return result

    def withdraw(self, result: asyncio.Future[int], status: StatusCode) -> bool:
        """Take back what `accept` returned, with `status`, if it still waits.

        Returns:
            Whether nothing of it goes to the device; False: it has gone there, or is under way, and is not undone.
        """
        for waiting in self._waiting.values():
            for entry in waiting:
                if entry.result is result and not result.done():
                    waiting.remove(entry)
                    self._refuse(result, entry.target.name, entry.value, entry.who, status)
                    self._finish(entry, status)
                    return True
        return False

    async def run(self) -> None:
        """Deliver writes until cancelled; then those that wait are refused with BadResourceUnavailable."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._news.wait()
                    self._news.clear()
                    for device in [device for device in self._waiting if device not in self._served]:
                        self._served.add(device)
                        group.create_task(self._serve(device), name=f"writes to {device}")
        finally:
            self._refuse_all()

    def _refusal(self, target: WriteTarget | None, value: Value, deadline_ns: int) -> StatusCode:
        """Why a write is refused, or Good."""
        if target is None:
            return StatusCode.BadNodeIdUnknown
        if not self.is_enabled or not target.is_writable:
            return StatusCode.BadNotWritable
        status, _ = raw_value(
            value, target.spec, scale=target.scale, offset=target.offset, engineering_range=target.range
        )
        if status is StatusCode.Good and deadline_ns <= self._now_ns():
            return StatusCode.BadTimeout
        if status is StatusCode.Good and self.count >= self._count_max:
            return StatusCode.BadTooManyOperations
        return status

    def _refuse(self, result: asyncio.Future[int], name: str, value: Value, who: str, status: StatusCode) -> None:
        self.refused_count += 1
        self._note("write_refused", who, durable=False, tag=name, value=value, result=status_name(status))
        result.set_result(status)

    async def _serve(self, device: str) -> None:
        """Deliver what waits for one device, then end."""
        waiting = self._waiting[device]
        try:
            while waiting:
                entry = waiting.popleft()
                try:
                    if not entry.result.done():
                        await self._send(entry)
                finally:
                    self._finish(entry, StatusCode.BadInternalError)
        finally:
            self._served.discard(device)
            if not waiting:
                del self._waiting[device]

    async def _send(self, entry: _Entry) -> None:
        """Deliver one write, between its two audit records."""
        target, number = entry.target, entry.number
        if not self._is_as_accepted(entry):
            self._refuse(entry.result, target.name, entry.value, entry.who, StatusCode.BadNodeIdUnknown)
            self._finish(entry, StatusCode.BadNodeIdUnknown)
            return
        if not self._note("write_sent", entry.who, number=number, tag=target.name, old=target.old, value=entry.value):
            self._finish(entry, StatusCode.BadResourceUnavailable)
            return
        self.sent_count += 1
        status: int = StatusCode.BadCommunicationError  # What is kept if this is cancelled: the outcome is not known.
        try:
            async with asyncio.timeout(self._remaining_s(entry)):
                status = await self._deliver(entry.tag_id, entry.value)
        except (TimeoutError, NoAnswerError):
            status = StatusCode.BadTimeout
        except DeviceError as error:
            status = error.status
        except AddressError:
            status = StatusCode.BadNotWritable
        except ValueError:
            status = StatusCode.BadOutOfRange
        except (TransportError, ProtocolError):
            status = StatusCode.BadCommunicationError
        finally:
            self._note("write_done", entry.who, number=number, tag=target.name, result=status_name(status))
        self._finish(entry, status)

    def _is_as_accepted(self, entry: _Entry) -> bool:
        """Whether the tag is what it was when the value was checked: a reload may have come between."""
        target = self._target_of(entry.tag_id)
        return target is not None and msgspec.structs.replace(target, old=entry.target.old) == entry.target

    def _expire(self, entry: _Entry) -> None:
        """The deadline of an entry that still waits; one under way has a timeout of its own."""
        waiting = self._waiting.get(entry.target.device, deque())
        if entry in waiting and not entry.result.done():
            waiting.remove(entry)
            self._refuse(entry.result, entry.target.name, entry.value, entry.who, StatusCode.BadTimeout)
            self._finish(entry, StatusCode.BadTimeout)

    def _finish(self, entry: _Entry, status: int) -> None:
        """Answer an entry and forget it; the first call counts."""
        if entry.timer is None:
            return
        entry.timer.cancel()
        entry.timer = None
        self.count -= 1
        if not entry.result.done():
            entry.result.set_result(status)

    def _refuse_all(self) -> None:
        for waiting in self._waiting.values():
            while waiting:
                entry = waiting.popleft()
                if not entry.result.done():
                    status = StatusCode.BadResourceUnavailable
                    self._refuse(entry.result, entry.target.name, entry.value, entry.who, status)
                self._finish(entry, StatusCode.BadResourceUnavailable)
        self._waiting.clear()

    def _note(self, event: str, who: str, *, durable: bool = True, **details: object) -> bool:
        """Keep an audit record; False if that failed."""
        try:
            self._audit(event, who, durable=durable, **details)
        except StorageError:
            self.audit_failures_count += 1
            return False
        return True

    def _remaining_s(self, entry: _Entry) -> float:
        return max(0, entry.deadline_ns - self._now_ns()) / _NS_PER_S
