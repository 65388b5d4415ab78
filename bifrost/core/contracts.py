"""The contracts that siblings meet through: what a protocol package offers, and what a connector, a source, a sink is.

A protocol package compiles tags into requests; it never polls. A connector sends records; it knows nothing of
buffering, retry or tags.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bifrost._native.records import Exchange, LinkOptions, OneShot
from bifrost.core.tag import DataPoint, Tag, Value

if TYPE_CHECKING:
    import socket  # contracts are pure: only the type of what `open` gives

__all__ = ["Driver", "Failure", "Found", "Request", "Source", "Write"]


class Request(NamedTuple):
    """One block read of one device, compiled.

    Attributes:
        exchange: What to send and what its answer must look like; offsets into a plan are filled in by `plc.plan`.
        request: The request bytes; the transaction number is patched by the engine.
        decodes: Packed `bf_decode` records: where each tag lies in the answer's body.
        rows: Rows of the table that `decodes` write, in the same order: `array('I')`.
        period_ns: Scan period.
        stale_ns: After the last good answer, quality falls to bad.
        unit: Number of the unit on the link as the protocol counts it (Modbus unit id); each has a circuit breaker of
            its own.
        label: What a person would call this block, for logs and `check`: ``hr:0-124``.
    """

    exchange: Exchange
    request: bytes
    decodes: bytes
    rows: array[int]
    period_ns: int
    stale_ns: int
    unit: int
    label: str


class Failure(NamedTuple):
    """An answer that was not plain success, as the engine hands it up.

    Attributes:
        request: The request that failed.
        code: The device's error code.
        answer: The whole answer frame.
    """

    request: Request
    code: int
    answer: bytes


class Write(NamedTuple):
    """One value on its way to a device: `value` is in engineering units, already checked against type and range."""

    tag: Tag
    value: Value


class Found(NamedTuple):
    """One thing that browsing or discovery found."""

    name: str
    address: str
    datatype: str
    description: str


class Driver(Protocol):
    """One device of one protocol.

    Pure but for `open`: it compiles, explains and interprets; the engine does the rest.
    """

    @property
    def link_key(self) -> str:
        """Devices with the same key share one link (a TCP connection, a serial port): ``modbus-tcp://10.0.0.5:502``."""
        ...

    @property
    def link_options(self) -> LinkOptions:
        """Framing, time-outs, window."""
        ...

    @property
    def codes(self) -> Mapping[int, int]:
        """Device error code -> StatusCode of a read."""
        ...

    def plan(self, tags: Sequence[Tag], rows: Sequence[int]) -> Sequence[Request]:
        """Compiles `tags` (row of the table each in `rows`) into block reads. Pure.

        Raises:
            AddressError: A tag cannot be read by this protocol; the message names it.
        """
        ...

    def check(self, tag: Tag) -> None:
        """Raises AddressError when this protocol cannot read `tag`; the message does not name the tag."""
        ...

    async def open(self) -> socket.socket:
        """Connects and shakes hands; gives a connected non-blocking socket that the caller owns.

        The caller sets the time limit. Raises ConnectError, ProtocolError.
        """
        ...

    def explain(self, failure: Failure) -> bool:
        """Learns from an answer that was not plain success.

        True: `plan` would now give other requests, so this device is to be planned again. What was learned (holes, for
        example) is kept in the driver, and in `learned` for the next start.
        """
        ...

    @property
    def learned(self) -> dict[str, list[str]]:
        """What was learned about the device, as plain texts that can be stored and given back at the next start."""
        ...

    def remember(self, learned: Mapping[str, Iterable[str]]) -> None:
        """Takes back what `learned` gave in an earlier run; what no longer makes sense is ignored."""
        ...

    def compile_write(self, write: Write) -> OneShot:
        """The request that writes one value.

        Raises AddressError when the address cannot be written, ValueError or TypeError when the value does not fit.
        """
        ...

    def write_status(self, code: int) -> int:
        """StatusCode for a device error code that answered a write."""
        ...


class Source(Protocol):
    """Anything whose values can be followed: a connection, the gateway's table."""

    def poll(self, tags: Sequence[Tag | str], interval_ms: float) -> AsyncIterator[dict[str, DataPoint]]:
        """Snapshots, one an interval."""
        ...
