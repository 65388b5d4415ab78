"""The contracts that siblings meet through: what a protocol package offers, and what a connector, a source, a sink is.

A protocol package compiles tags into requests; it never polls. A connector sends records; it knows nothing of
buffering, retry or tags.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bifrost._native.records import Exchange, LinkOptions, OneShot
from bifrost.core.tag import DataPoint, Tag, Value

if TYPE_CHECKING:
    import socket  # contracts are pure: only the type of what `open` gives

    from bifrost.core.config_rules import SecretRef
    from bifrost.core.config_sections import UplinkConfig

__all__ = [
    "Ack",
    "Capabilities",
    "Connector",
    "ConnectorFactory",
    "Driver",
    "Face",
    "FaceEvent",
    "FaceOwner",
    "FaceWrite",
    "Failure",
    "Found",
    "Outcome",
    "Record",
    "Request",
    "Source",
    "Write",
]


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
        """Compiles `tags` (row of the table each in `rows`) into block reads. Pure; a reload calls it beside the loop (`core.background`).

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


class FaceWrite(NamedTuple):
    """A client of a face asks for a tag's value to be changed.

    Attributes:
        token: For the answer, `Face.finish_write`.
        row: Of the tag.
        value: In engineering units, as the client sent it.
        who: Who asks, for the audit log: ``opcua:alice 10.0.0.7:51344``.
    """

    token: int
    row: int
    value: Value
    who: str


class FaceEvent(NamedTuple):
    """Something that clients of a face did or met, for log and audit.

    Attributes:
        name: ``session_opened``, ``login_failed``, ``limit_reached``, …
        who: As in `FaceWrite`.
        is_warning: Whether a person should look at it.
        details: Values for the log line.
    """

    name: str
    who: str
    is_warning: bool
    details: Mapping[str, object]


class FaceOwner(Protocol):
    """What a face tells its gateway; called in the event loop, must not wait."""

    def write(self, write: FaceWrite) -> None:
        """A client writes; `Face.finish_write` answers it, once."""
        ...

    def abandon_write(self, token: int, status: int) -> bool:
        """Nobody waits for the answer to a write any more, because of `status`; it is still to be finished.

        Returns:
            Whether it was taken back in time; False: the device has got it, or may have.
        """
        ...

    def report(self, event: FaceEvent) -> None:
        """Something happened."""
        ...


class Face(Protocol):
    """A server that shows the table to other programs. It reads the table by itself; what clients write goes to the owner."""

    @property
    def url(self) -> str:
        """Where it listens, as clients write it; empty while it does not serve."""
        ...

    async def run(self, owner: FaceOwner) -> None:
        """Serves until it is cancelled. It can be called again afterwards.

        Raises:
            TransportError: It cannot listen there.
            ConfigError: Its settings cannot work.
        """
        ...

    def finish_write(self, token: int, status: int) -> None:
        """The StatusCode that answers a write. A token that nobody waits for any more is ignored."""
        ...

    def replace_space(self, space: Any) -> None:
        """Shows `space`, a compiled address space, from now on; nodes with the same id go on for clients. Waits milliseconds.

        Raises:
            LimitError: There is no memory for it; what is shown stays.
        """
        ...

    def counters(self) -> Mapping[str, int]:
        """What it holds and did, by name: ``sessions``, ``monitored_items``, ``overflows``."""
        ...


class Record(NamedTuple):
    """One message on its way to a destination; a connector cannot tell a fresh one from one sent again.

    Attributes:
        sequence: Its number in its stream, which is that of its record in the outbox.
        payload: The encoded message. It is not copied; do not change it.
        topic: Where it goes within the destination, ready to use; a destination without such places ignores it.
        identity: Names this message, the same at every try, no two alike: ``store/stream/sequence``, for
            de-duplication; empty: it has no name.
        content_type: MIME type of the payload; empty: not said.
        samples_count: Samples in it, for the ledger.
    """

    sequence: int
    payload: bytes
    topic: str = ""
    identity: str = ""
    content_type: str = ""
    samples_count: int = 1


class Outcome(StrEnum):
    """What became of one record."""

    DELIVERED = "delivered"
    """The destination has taken it over, as surely as its quality of service says."""
    AGAIN = "again"
    """Nobody knows whether it arrived, or the destination cannot take it now: send it again."""
    REFUSED = "refused"
    """The destination will never take this record (too long, malformed); others may pass."""


class Ack(NamedTuple):
    """The answer to one record.

    Attributes:
        sequence: The record's.
        outcome: What became of it.
        reason: In words, unless it was delivered.
    """

    sequence: int
    outcome: Outcome
    reason: str = ""


class Capabilities(NamedTuple):
    """What a destination takes; drives batching and pacing. It may change with each `Connector.open`.

    Attributes:
        payload_bytes_max: Longest payload; a longer one is refused.
        in_flight_max: Records sent and not yet acknowledged, 1 or more; `Connector.send` keeps to it by itself.
        records_per_second_max: Records a second; 0: not limited. Whoever calls `Connector.send` keeps to it.
        is_idempotent: Whether a record that arrives twice is stored once.
    """

    payload_bytes_max: int
    in_flight_max: int
    records_per_second_max: float = 0.0
    is_idempotent: bool = False


class Connector(Protocol):
    """One destination. It knows nothing of buffering, retry or tags: whoever calls it decides when to try again.

    All of it is called in one event loop. `open` and `close` do not overlap each other.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the destination takes, as far as is known now."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether records can be sent. It falls by itself when the connection is lost, also while nothing is sent."""
        ...

    async def open(self) -> None:
        """Connects; does nothing when it is open. It ends in its configured time-out at the latest.

        Raises:
            ConnectError: No connection: refused, unreachable, not in time, certificate, user or password refused.
            ConfigError: Its settings cannot work, whoever answers.
            ProtocolError: The peer broke the standard.
        """
        ...

    async def send(self, records: Sequence[Record]) -> Sequence[Ack]:
        """Sends the records in their order; comes back when each is delivered, refused or to be sent again.

        One ack for each record, in the same order. Calls may overlap; records leave in the order of the calls. It
        ends in its configured time-out after the last sign of progress. It raises nothing when the connection is lost
        or not open: all records without an answer are to be sent again. After cancellation nobody knows what arrived.
        """
        ...

    async def close(self) -> None:
        """Disconnects; waiting calls of `send` end with their records to be sent again. It can be opened again."""
        ...


class ConnectorFactory(Protocol):
    """How a connector is made: what ``bifrost.connectors`` entry points name."""

    def __call__(self, uplink: UplinkConfig, gateway: str, reveal: Callable[[SecretRef], str]) -> Connector:
        """Makes a connector, without any input or output.

        Args:
            uplink: Its section of the configuration.
            gateway: The gateway's name, for ``${gateway}``.
            reveal: Reads a secret (`core.config_environ.reveal`); may block, raises ConfigError. It is called at each
                `Connector.open`, so that a renewed certificate or password is used.

        Raises:
            ConfigError: Its settings cannot work.
        """
        ...
