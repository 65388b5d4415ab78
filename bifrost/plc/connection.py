"""`PLCConnection`: one device for a program. Read tags, write tags, poll; the same for every protocol.

A connection is up from `async with` until the block ends, and comes back by itself when the device does. Single reads
and writes are requests of their own, ahead of polls; `poll` gives the engine a plan and then only reads the table. A
value that cannot be read is data with a bad quality; an exception means that the call itself could not be made.

All connections of one event loop share one `Runtime`, made by the first and closed with the last.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Self, cast
from weakref import WeakKeyDictionary

import msgspec

from bifrost.core import plugins
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.contracts import Driver
from bifrost.core.device_url import parse_url
from bifrost.core.errors import ClosedError, ConfigError, DeviceError
from bifrost.core.limits import Limits
from bifrost.core.rows import RowPool
from bifrost.core.runtime import Runtime
from bifrost.core.status import StatusCode
from bifrost.core.table import RowColumns
from bifrost.core.tag import DataPoint, Tag, Value
from bifrost.plc.reading import differs, read_now, write_now
from bifrost.plc.scan import Device, Scanner

__all__ = ["PLCConnection", "ProtocolType", "Snapshot", "connect", "list_protocols"]

_CONNECT_TIMEOUT_S = 5.0  # One attempt of the Scanner, and then some.
_INTERVAL_MS_MIN = 1.0
_FIRST_VALUES_CHECK_S = 0.005


class ProtocolType(StrEnum):
    """Protocols by name; the value is the URL scheme."""

    MODBUS_TCP = "modbus-tcp"


class Snapshot(dict[str, DataPoint]):
    """Latest values by full name, in the order asked.

    Attributes:
        time_ns: When they were taken, UTC nanoseconds.
        missed: Snapshots that were due since the last one and not taken, because the caller was busy.
    """

    def __init__(self, points: Iterable[DataPoint], time_ns: int, missed: int) -> None:
        super().__init__((point.tag, point) for point in points)
        self.time_ns = time_ns
        self.missed = missed


def list_protocols() -> list[str]:
    """URL schemes that `connect` takes, built-in ones first."""
    return plugins.schemes(plugins.DRIVERS)


class PLCConnection:
    """A connection to one device: ``async with PLCConnection(…) as plc:``, or `open` and `close` by hand.

    Args:
        url: For example ``modbus://10.0.0.5:502?unit=1``; or say it in parts:
        protocol: Which protocol,
        host: name or address of the device,
        port: its port; None: the protocol's own,
        unit: its unit id behind a gateway; None: the protocol's default.
        timeout_s: Time the device has to answer, in seconds; 0.001 to 600.
        window: Requests in flight, 1 to 16; many devices lose requests when it is more than 1.
        gap_registers: Holes up to this size are read over.
        tags: Tags that may be named by text afterwards.
        name: What log lines and messages call the device; default its host.

    Raises:
        ValueError: Neither or both of `url` and `host` are given, or an argument is out of range.
        ConfigError: No driver for this protocol, or the URL is impossible.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        protocol: ProtocolType | str | None = None,
        host: str | None = None,
        port: int | None = None,
        unit: int | None = None,
        timeout_s: float = 1.0,
        window: int = 1,
        gap_registers: int = 8,
        tags: Iterable[Tag] = (),
        name: str = "",
    ) -> None:
        if (url is None) == (host is None):
            raise ValueError("say either the url, or protocol and host")
        text = url if url is not None else _url_of(protocol, host or "", port, unit)
        if not 0.001 <= timeout_s <= 600 or not 1 <= window <= 256 or not 0 <= gap_registers <= 125:
            raise ValueError("timeout_s is 0.001 to 600, window 1 to 256, gap_registers 0 to 125")
        parsed = parse_url(text)
        try:
            plugins.check_scheme(plugins.DRIVERS, parsed.scheme, parsed.host)
        except ValueError as error:
            raise ConfigError(str(error), key="url") from error
        make = cast("Callable[[DeviceConfig], Driver]", plugins.load(plugins.DRIVERS, parsed.scheme))
        self.name = name or parsed.host or parsed.scheme
        self.driver = make(
            DeviceConfig(
                name=self.name,
                url=parsed,
                timeout_ns=int(timeout_s * 1e9),
                window=window,
                gap_registers=gap_registers,
            )
        )
        self._timeout_s = timeout_s
        self._tags = {tag.full_name: tag for tag in tags}
        self._shared: _Shared | None = None
        self._device: Device | None = None
        self._group: asyncio.TaskGroup | None = None

    # ---- opening and closing -----------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Connects; does nothing when it is open.

        Raises:
            ConnectError: The device could not be reached; the message has host, port and reason.
            LimitError: `links_count_max` connections are open in this program.
        """
        if self._device is not None:
            return self
        self._shared = _acquire()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        try:
            scanner = self._shared.scanner
            self._device = scanner.add_device(self.driver, group=self._group, name=self.name, shares_link=False)
            await scanner.wait_up(self._device, max(_CONNECT_TIMEOUT_S, self._timeout_s))
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Disconnects; calls under way fail with ClosedError. May be called twice."""
        shared, device, group = self._shared, self._device, self._group
        self._shared = self._device = self._group = None
        if shared is None:
            return
        try:
            if device is not None:
                shared.scanner.remove(device)
            if group is not None:
                # Without the caller's exception, which is not the group's affair and would come out wrapped.
                await group.__aexit__(None, None, None)
        finally:
            _release(shared)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up now."""
        return self._device is not None and self._device.link.is_up

    # ---- values ------------------------------------------------------------------------------------------------------

    async def read_tags(self, tags: Iterable[Tag | str]) -> dict[str, DataPoint]:
        """Reads tags now.

        Args:
            tags: Tags, or names of tags that the connection was made with; no name twice.

        Returns:
            Data points by full name, in the order asked. What the device refuses has a bad quality.

        Raises:
            AddressError: The protocol cannot read one of them.
            ConnectError: The connection is down and does not come back within `timeout_s`.
            NoAnswerError: The device answers nothing.
            ClosedError: The connection is not open, or was lost meanwhile.
            LimitError: Too many requests are waiting.
        """
        chosen = self._resolve(tags)
        scanner, device = await self._ready()
        points = await read_now(scanner, device, chosen)
        return {point.tag: point for point in points}

    async def write_tags(
        self, values: Mapping[Tag | str, Value] | Iterable[tuple[Tag | str, Value]], *, verify: bool = True
    ) -> dict[str, DataPoint]:
        """Writes tags, in their order, and reads them back.

        Args:
            values: Value by tag, or pairs of both, in engineering units. Each tag must be `writable`.
            verify: Whether a value that reads back differently is an error; False for commands that reset themselves.

        Returns:
            What was read back, by full name.

        Raises:
            ValueError, TypeError: A tag is not writable, or a value does not fit; nothing was sent then.
            AddressError: An address cannot be written; nothing was sent then.
            DeviceError: The device said no, or shows another value afterwards. What came before it was written.
            ConnectError, NoAnswerError, ClosedError, LimitError: See `read_tags`; the write may have been done.
        """
        pairs = list(values.items() if isinstance(values, Mapping) else values)
        tags = self._resolve(tag for tag, _ in pairs)
        writes = [(tag, value) for tag, (_, value) in zip(tags, pairs, strict=True)]
        scanner, device = await self._ready()
        await write_now(scanner, device, writes)
        points = await read_now(scanner, device, tags)
        for (tag, value), point in zip(writes, points, strict=True):
            if verify and point.is_good and differs(value, point.value, tag):
                words = f"tag {tag.full_name!r}: {value!r} was written, but the device shows {point.value!r}"
                raise DeviceError(StatusCode.BadDeviceFailure, words)
        return {point.tag: point for point in points}

    def poll(self, tags: Iterable[Tag | str], interval_ms: float = 1000.0) -> AsyncGenerator[Snapshot, None]:
        """Polls tags and yields a snapshot an interval, as long as the caller iterates; leaving the loop ends it.

        While the connection is down, snapshots go on, with qualities that say so.

        Args:
            tags: As for `read_tags`.
            interval_ms: Scan period and distance of snapshots, in milliseconds, 1 or more. Who is slower misses some.

        Raises:
            ValueError: `interval_ms` is too small, or a name is given twice.
            AddressError, LimitError, ClosedError: While iterating; see `read_tags`.
        """
        if interval_ms < _INTERVAL_MS_MIN:
            raise ValueError(f"interval_ms is {_INTERVAL_MS_MIN:g} or more, not {interval_ms!r}")
        return self._poll(self._resolve(tags), interval_ms / 1e3)

    async def _poll(self, tags: Sequence[Tag], interval_s: float) -> AsyncGenerator[Snapshot, None]:
        shared, device = self._opened()
        loop = asyncio.get_running_loop()
        polled = [msgspec.structs.replace(tag, scan_ns=int(interval_s * 1e9)) for tag in tags]
        rows, columns = shared.take_rows(device.driver, polled)
        give = partial(shared.rows.give, rows, columns)
        try:
            watch = shared.scanner.watch(device, polled, rows)
        except BaseException:
            give()
            raise
        try:
            wanted = array("I", rows)
            await _first_values(shared, wanted, loop.time() + interval_s + self._timeout_s)
            due = loop.time()
            missed = 0
            while self._device is device:
                yield Snapshot(shared.runtime.table.snapshot(wanted), shared.scanner.clock.utc_ns(), missed)
                due += interval_s
                missed = max(0, int((loop.time() - due) / interval_s))
                due += missed * interval_s
                await asyncio.sleep(max(0.0, due - loop.time()))
            raise ClosedError(f"{self.name} was closed")
        finally:
            shared.scanner.unwatch(device, watch, give)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _resolve(self, tags: Iterable[Tag | str]) -> list[Tag]:
        """`tags` with names looked up. Raises ValueError for a name that is unknown or comes twice."""
        chosen = []
        names = set()
        for tag in tags:
            found = self._tags.get(tag) if isinstance(tag, str) else tag
            if found is None:
                known = ", ".join(self._tags) or "none; give them to the connection as tags=[…]"
                raise ValueError(f"no tag is named {tag!r}; known names: {known}")
            if found.full_name in names:
                raise ValueError(f"tag {found.full_name!r} is given twice")
            names.add(found.full_name)
            chosen.append(found)
        return chosen

    def _opened(self) -> tuple[_Shared, Device]:
        if self._shared is None or self._device is None:
            raise ClosedError(f"{self.name} is not open: use 'async with', or await open() first")
        return self._shared, self._device

    async def _ready(self) -> tuple[Scanner, Device]:
        """Scanner and device, once the link is up."""
        shared, device = self._opened()
        await shared.scanner.wait_up(device, self._timeout_s)
        return shared.scanner, device


def connect(
    url: str,
    *,
    timeout_s: float = 1.0,
    window: int = 1,
    gap_registers: int = 8,
    tags: Iterable[Tag] = (),
    name: str = "",
) -> PLCConnection:
    """The connection to the device at `url`, not open yet; use it with `async with`.

    Arguments and errors are those of `PLCConnection`.
    """
    return PLCConnection(url, timeout_s=timeout_s, window=window, gap_registers=gap_registers, tags=tags, name=name)


def _url_of(protocol: ProtocolType | str | None, host: str, port: int | None, unit: int | None) -> str:
    if protocol is None:
        raise ValueError("say which protocol, for example protocol=ProtocolType.MODBUS_TCP")
    shown = f"[{host}]" if ":" in host else host
    return f"{protocol}://{shown}{'' if port is None else f':{port}'}{'' if unit is None else f'?unit={unit}'}"


# ---- what the connections of one loop share


class _Shared:
    """Runtime, Scanner and free rows of one event loop, and how many connections use them."""

    def __init__(self) -> None:
        self.runtime = Runtime(Limits.small())
        # Waking a thread costs more than it saves when a program waits for single answers.
        self.scanner = Scanner(self.runtime, is_threaded=False)
        self.rows = RowPool(self.runtime.table, self.scanner.clock)
        self.users_count = 0

    def take_rows(self, driver: Driver, tags: Sequence[Tag]) -> tuple[list[int], RowColumns]:
        """Rows for `tags`, and what they are: as the driver decodes them."""
        requests = driver.plan(tags, range(len(tags)))
        columns = RowColumns.from_decodes(0, len(tags), (request.decodes for request in requests))
        for index, tag in enumerate(tags):
            columns.deadbands[index] = tag.deadband
            columns.max_intervals[index] = tag.max_interval_ns
        return self.rows.take(columns, [tag.full_name for tag in tags]), columns


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


def _acquire() -> _Shared:
    loop = asyncio.get_running_loop()
    shared = _of_loop.get(loop)
    if shared is None or shared.runtime.is_closed:
        shared = _of_loop[loop] = _Shared()
    shared.users_count += 1
    return shared


def _release(shared: _Shared) -> None:
    shared.users_count -= 1
    if shared.users_count == 0:
        shared.runtime.close()


async def _first_values(shared: _Shared, rows: array[int], deadline_s: float) -> None:
    """Returns when every row has been answered once, or at `deadline_s` of the loop's clock."""
    loop = asyncio.get_running_loop()
    for _ in range(max(1, int((deadline_s - loop.time()) / _FIRST_VALUES_CHECK_S))):
        if StatusCode.BadWaitingForInitialData not in shared.runtime.table.statuses(rows):
            return
        await asyncio.sleep(_FIRST_VALUES_CHECK_S)
