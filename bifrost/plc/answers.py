"""How single requests end: from the engine's DONE notices to answers and errors."""

from __future__ import annotations

from typing import NamedTuple

from bifrost._native import records
from bifrost._native.records import Action, Event, OneShot
from bifrost.core.errors import ClosedError, DeviceError, LimitError, NoAnswerError
from bifrost.core.limits import Limits
from bifrost.core.status import status_name
from bifrost.plc.links import Device, Link

__all__ = ["Answer", "end_of", "oneshot_event", "refusal_of"]


class Answer(NamedTuple):
    """How a request ended that the device answered.

    Attributes:
        code: The device's error code; 0: it was granted.
        status: StatusCode that `code` means for a read.
        frame: The whole answer.
        time_ns: Monotonic time when it arrived.
    """

    code: int
    status: int
    frame: bytes
    time_ns: int


def refusal_of(device: Device, code: int, status: int) -> DeviceError:
    """The error that says: `device` refused a request with its own `code`, which means `status`."""
    return DeviceError(status, f"{device.name} refused the request with code {code} ({status_name(status)})", code=code)


def oneshot_event(link: Link, oneshot: OneShot) -> Event:
    """The event that sends `oneshot`, whose `exchange.unit` is the unit as the protocol counts it.

    A unit that is not polled has no circuit breaker: it gets an index beyond those of the plan.
    """
    units = link.adopted.plan.units if link.adopted else ()
    unit = oneshot.exchange.unit
    index = units.index(unit) if unit in units else len(units)
    exchange = oneshot.exchange._replace(unit=index)
    return Event(records.EVENT_ONESHOT, link.index, data=oneshot._replace(exchange=exchange))


def end_of(device: Device, notice: Action, limits: Limits) -> Answer | NoAnswerError:
    """How the request ended that `notice` (DONE) is of; silence is returned, since others may have been answered.

    Raises:
        LimitError: Too many requests were waiting.
        ClosedError: The link was not up, or closed meanwhile.
    """
    if notice.code in (records.DONE_GOOD, records.DONE_ERROR):
        code = notice.number if notice.code == records.DONE_ERROR else 0
        return Answer(code, notice.status, notice.data, notice.time_ns)
    if notice.code == records.DONE_TIMEOUT:
        return NoAnswerError(f"{device.name} did not answer in time")
    if notice.code == records.DONE_FULL:
        limit = limits.oneshots_count_max
        raise LimitError("oneshots_count_max", limit, f"{device.name}: too many requests wait for an answer")
    raise ClosedError(f"{device.name}: {device.link.reason or 'the connection closed'}")
