"""Reading and writing tags with requests of their own, past the table: what library calls and the command line do.

Blocks are planned as for polling. A block that the device refuses is explained by the driver and planned again, so that
one impossible tag does not cost its neighbours their values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bifrost._native import records
from bifrost._native.records import OneShot
from bifrost.core.contracts import Failure, Request, Write
from bifrost.core.errors import DeviceError, NoAnswerError
from bifrost.core.status import StatusCode, status_name
from bifrost.core.table import decode_value
from bifrost.core.tag import DataPoint, Tag, Value
from bifrost.plc.answers import Answer
from bifrost.plc.scan import Device, Scanner

__all__ = ["differs", "read_now", "write_now"]

_ROUNDS_MAX = 32  # Halving a block of 2,000 bits takes 11; several holes are hunted at the same time.
_CELL_BYTES_PER_BYTE = 8  # The widest a byte of an answer gets: eight bools of one byte.
_FLOAT32_TOLERANCE = 1e-6  # A float32 has 24 significant bits.

_End = Answer | NoAnswerError


async def read_now(scanner: Scanner, device: Device, tags: Sequence[Tag]) -> list[DataPoint]:
    """Current value of each of `tags`, in their order; what cannot be read has a bad quality.

    Raises:
        AddressError: The protocol cannot read one of them.
        NoAnswerError: Nothing at all was answered.
        ClosedError, LimitError: See `Scanner.execute`.
    """
    rows = range(len(tags))
    ends: dict[bytes, _End] = {}
    requests: Sequence[Request] = ()
    for _ in range(_ROUNDS_MAX):
        requests = device.driver.plan(tags, rows)
        asked = [request for request in requests if request.request not in ends]
        if not asked:
            break
        oneshots = [OneShot(one.exchange._replace(unit=one.unit), one.request) for one in asked]
        has_learned = False
        for request, end in zip(asked, await scanner.execute_all(device, oneshots), strict=True):
            ends[request.request] = end
            if isinstance(end, Answer) and end.code:
                has_learned |= device.driver.explain(Failure(request, end.code, end.frame))
        if not has_learned:
            break
    unanswered = [end for end in ends.values() if isinstance(end, NoAnswerError)]
    if unanswered and len(unanswered) == len(ends):
        raise unanswered[0]
    points: list[DataPoint | None] = [None] * len(tags)
    for request in requests:
        for index, point in _decode(scanner, tags, request, ends.get(request.request)):
            points[index] = point
    waiting = StatusCode.BadWaitingForInitialData
    return [point or DataPoint(tag.full_name, None, waiting, 0, 0) for tag, point in zip(tags, points, strict=True)]


def _decode(scanner: Scanner, tags: Sequence[Tag], request: Request, end: _End | None) -> list[tuple[int, DataPoint]]:
    """Index and data point of each tag in one block."""
    entries = list(records.iterate_decodes(request.decodes))
    if not isinstance(end, Answer) or end.code:
        status = end.status if isinstance(end, Answer) else int(StatusCode.BadNoCommunication)
        now_ns = scanner.clock.utc_ns(end.time_ns if isinstance(end, Answer) else None)
        return [(entry.tag, DataPoint(tags[entry.tag].full_name, None, status, 0, now_ns)) for entry in entries]
    body = end.frame[request.exchange.body_offset :]
    bytes_max = len(body) * _CELL_BYTES_PER_BYTE
    _, values, statuses, cells = scanner.runtime.backend.gather(body, request.exchange.walk, request.decodes, bytes_max)
    time_ns = scanner.clock.utc_ns(end.time_ns)
    points = []
    for entry, bits, status in zip(entries, values, statuses, strict=True):
        is_good = status == StatusCode.Good
        value = decode_value(entry.type, entry.flags, bits, cells) if is_good else None
        name = tags[entry.tag].full_name
        points.append((entry.tag, DataPoint(name, value, status, time_ns if is_good else 0, time_ns)))
    return points


async def write_now(scanner: Scanner, device: Device, writes: Sequence[tuple[Tag, Value]]) -> None:
    """Writes values in their order, one request each, until one fails. Nothing is sent unless all could be.

    Raises:
        ValueError, TypeError: A tag is not writable, or a value does not fit its range or type.
        AddressError: An address cannot be written.
        DeviceError: The device said no; `status` is that of a write. NoAnswerError, ClosedError, LimitError.
    """
    for tag, value in writes:
        if not tag.writable:
            raise ValueError(f"tag {tag.full_name!r} is not writable: declare it with writable=True")
        _require_in_range(tag, value)
    requests = [device.driver.compile_write(Write(tag, value)) for tag, value in writes]
    for (tag, value), request in zip(writes, requests, strict=True):
        try:
            await scanner.execute(device, request)
        except DeviceError as error:
            status = device.driver.write_status(error.code)
            words = f"tag {tag.full_name!r}: {device.name} refused {value!r} with code {error.code}"
            raise DeviceError(status, f"{words} ({status_name(status)})", code=error.code) from error


def _require_in_range(tag: Tag, value: Value) -> None:
    if tag.range is None:
        return
    low, high = tag.range
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int | float) and not low <= number <= high:
            raise ValueError(f"tag {tag.full_name!r}: {number!r} is outside its range {low:g} to {high:g}")


def differs(written: Value, read: Value, tag: Tag) -> bool:
    """Whether a value read back is another one than written, beyond what rounding on the wire explains."""
    if isinstance(written, list) and isinstance(read, list):
        pairs = zip(written, read, strict=False)
        return len(written) != len(read) or any(differs(one, other, tag) for one, other in pairs)
    if isinstance(written, float) or isinstance(read, float):
        if not isinstance(written, int | float) or not isinstance(read, int | float):
            return True
        step = abs(tag.scale) if tag.is_scaled else 0.0
        same_nan = math.isnan(written) and math.isnan(read)
        return not same_nan and not math.isclose(written, read, rel_tol=_FLOAT32_TOLERANCE, abs_tol=step)
    return written != read
