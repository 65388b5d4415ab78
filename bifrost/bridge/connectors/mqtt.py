"""The MQTT connector: records become messages, acknowledgements become acks. MQTT 3.1.1 and 5 over TCP, TLS, WebSocket.

Only as many messages are with paho as may be in flight, and a message is handed over only when the one before has left:
the outbox on disk is the only queue. An ack means, by quality of service: 0 the bytes are with the kernel, 1 PUBACK,
2 PUBCOMP.

Sessions. The first connection of a process begins a session, since what an earlier process had in flight is not known
any more, and its packet identifiers in a session of QoS 2 would make the broker take new messages for old ones. Later
connections resume it, unless `session_expiry` is 0: see `in_flight`. One that was resumed in vain, since the connection
was lost again before any answer, is given up: perhaps it is what the broker ends connections for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from bifrost.bridge.connectors.dial import Attempt, Dialer
from bifrost.bridge.connectors.in_flight import Batch, InFlight
from bifrost.bridge.connectors.mqtt_settings import read_settings
from bifrost.bridge.connectors.paho_client import PahoClient, PublishProperties, upgrade
from bifrost.bridge.connectors.paho_loop import Handlers, PahoLoop, Welcome
from bifrost.bridge.connectors.tls import explain, make_context
from bifrost.bridge.connectors.wire import connect
from bifrost.core.config_rules import SecretRef
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.contracts import Ack, Capabilities, Outcome, Record
from bifrost.core.errors import ConfigError, ConnectError
from bifrost.core.log import fields

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

__all__ = ["MqttConnector"]

_LOG: Final = logging.getLogger("bifrost.bridge.mqtt")
_TOPIC_BYTES_MAX: Final = 65_535  # MQTT 5.0, 1.5.4.
_HEADER_BYTES_MAX: Final = 1_024  # What `capabilities` leaves for topic and properties; each record is checked exactly.
_FIXED_BYTES_MAX: Final = 64  # Fixed header, lengths, packet identifier and property codes of one PUBLISH.
_TURN_RECORDS: Final = 32  # After so many records or bytes the loop has its turn: WebSocket masks bytes in Python.
_TURN_BYTES: Final = 64 << 10
_FAREWELL_S: Final = 0.5
_NOT_IN_TOPIC: Final = frozenset("+#\0")  # MQTT 5.0, 4.7.1 and 4.7.3.
# Topic and format of this message; one too long may be cut. MQTT 5.0, 2.4.
_NEVER_ACCEPTED: Final = frozenset({0x90, 0x99})
_ID_UNKNOWN: Final = 0x92  # In PUBCOMP: the broker had finished this message before the connection was lost; 4.3.3.


class MqttConnector:
    """Publishes records to a broker; keeps `core.contracts.Connector`.

    Args:
        uplink: Its section of the configuration.
        gateway: The gateway's name.
        reveal: Reads a secret; called in the connecting thread.

    Raises:
        ConfigError: The settings contradict each other.
    """

    def __init__(self, uplink: UplinkConfig, gateway: str, reveal: Callable[[SecretRef], str]) -> None:
        self._settings = read_settings(uplink, gateway)
        self._reveal = reveal
        self._password: str | None = None
        self._dialer: Dialer[SocketLike] = Dialer(f"dial-{uplink.name}")
        self._in_flight = InFlight()
        self._client: PahoClient | None = None  # The session, once it is ours; None: the next one is new.
        self._line: PahoLoop | None = None
        self._is_open = False
        self._is_resumed = False  # And nothing was answered since.
        self._is_in_vain = False  # It was resumed, and lost like that.
        self._welcome = Welcome(session_present=False)
        self._reason = "not connected"
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()

    @property
    def capabilities(self) -> Capabilities:
        """As `Connector.capabilities`; what the broker allows is known once it was open."""
        return Capabilities(max(1, self._welcome.packet_bytes_max - _HEADER_BYTES_MAX), self._window)

    @property
    def is_open(self) -> bool:
        """As `Connector.is_open`."""
        return self._is_open

    @property
    def _window(self) -> int:
        return min(self._settings.window, self._welcome.receive_max)

    # ------------------------------------------------------------------ opening and closing

    async def open(self) -> None:
        """As `Connector.open`."""
        if self._is_open:
            return
        settings = self._settings
        attempt = Attempt()
        try:
            async with asyncio.timeout(settings.timeout_s):
                line = await self._begin(attempt)
        except TimeoutError:
            message = f"no connection to {settings.address} within {settings.timeout_s:g} s: {attempt.stage}"
            raise ConnectError(message) from None
        if self._line is not line:  # Lost since CONNACK.
            raise ConnectError(f"{settings.address}: {self._reason}")
        self._is_open = True
        self._say_status(is_online=True)

    async def close(self) -> None:
        """As `Connector.close`; takes half a second at most, for a farewell to the broker."""
        line = self._line
        if line is None:
            return
        if self._is_open:
            self._is_open = False
            self._say_status(is_online=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    while line.wants_write:
                        await self._next_news()
        line.part()

    async def _begin(self, attempt: Attempt) -> PahoLoop:
        """Resumes the session if there is one, else begins one.

        MQTT 3.1.1 cannot begin anew a session that is to be kept (3.1.2.4): one of an earlier process is ended first,
        by a connection of its own.
        """
        settings = self._settings
        keeps_session = settings.session_expiry_s > 0
        if self._is_in_vain:
            self._forget_session()
        if self._client is not None and keeps_session:
            return await self._connect(attempt, self._client, clean_start=False)
        if keeps_session and not settings.is_version_5:
            line = await self._connect(attempt, PahoClient(settings, keeps_session=False), clean_start=True)
            line.part()
        client = PahoClient(settings, keeps_session=keeps_session)
        line = await self._connect(attempt, client, clean_start=True)
        self._client = client
        return line

    async def _connect(self, attempt: Attempt, client: PahoClient, *, clean_start: bool) -> PahoLoop:
        """Dials and shakes hands; when it fails, nothing is left open."""
        address = self._settings.address
        attempt.stage = "the thread that connects has not begun"
        try:
            wire = await self._dialer.dial(self._dial, attempt)
        except (OSError, ValueError) as error:
            words = explain(error) if isinstance(error, OSError) else str(error)
            where = "" if attempt.stage == f"connecting to {self._settings.host}" else f" ({attempt.stage})"
            raise ConnectError(f"cannot connect to {address}: {words}{where}") from error
        attempt.stage = "the broker does not answer CONNECT"
        handlers = Handlers(self._welcomed, self._answered, self._news.set, self._is_waiting, self._lost)
        line = self._line = PahoLoop(client, self._settings, handlers)
        try:
            await line.handshake(wire, clean_start=clean_start, password=self._password)
        except ConnectError as error:
            raise ConnectError(f"{address}: {error}") from None
        except BaseException:
            line.end("the attempt was given up")
            raise
        return line

    def _dial(self, attempt: Attempt) -> SocketLike:
        """In the connecting thread: secrets, lookup, TCP, TLS, WebSocket."""
        settings = self._settings
        attempt.stage = "reading secrets"
        self._password = self._reveal(settings.password) if settings.password is not None else None
        context = self._make_context if settings.is_secure else None
        connection = connect(attempt, settings.host, settings.port, settings.timeout_s, context)
        if settings.websocket_path is None:
            return connection
        attempt.stage = "upgrading to WebSocket"
        return upgrade(connection, settings.host, settings.port, settings.websocket_path, settings.is_secure)

    def _make_context(self) -> ssl.SSLContext:
        settings = self._settings
        ca, cert, key = (
            None if secret is None else self._reveal(secret) for secret in (settings.ca, settings.cert, settings.key)
        )
        try:
            return make_context(ca, cert, key, settings.alpn)
        except ConfigError as error:
            raise settings.error(error.key or "ca", error.message) from error

    def _say_status(self, *, is_online: bool) -> None:
        line, settings = self._line, self._settings
        if line is not None and settings.status_topic:
            status = settings.status(is_online=is_online)
            line.publish(settings.status_topic, status, qos=0, retain=True, properties=None)
            line.flush()

    # ------------------------------------------------------------------ sending

    async def send(self, records: Sequence[Record]) -> Sequence[Ack]:
        """As `Connector.send`."""
        done = asyncio.Event()
        batch = Batch(records, done.set)
        try:
            async with self._turn:
                await self._publish_all(batch)
            await done.wait()  # `PahoLoop` ends a connection on which nothing moves, and so this.
        finally:
            if not done.is_set():
                self._in_flight.leave(batch)
        return batch.acks()

    async def _publish_all(self, batch: Batch) -> None:
        turn_records = turn_bytes = 0
        for index, record in enumerate(batch.records):
            refusal = self._refusal(record) if self._is_open else ""
            if refusal:
                batch.settle(index, Outcome.REFUSED, refusal)
                continue
            if self._is_open and self._in_flight.claim(batch, index):
                continue
            await self._room()
            if not self._publish(batch, index):
                batch.settle(index, Outcome.AGAIN, self._reason)
                continue
            turn_records += 1
            turn_bytes += len(record.payload)
            if turn_records >= _TURN_RECORDS or turn_bytes >= _TURN_BYTES:
                turn_records = turn_bytes = 0
                await asyncio.sleep(0)

    async def _room(self) -> None:
        """Waits until one more message may leave, or the connection is over."""
        while (
            self._is_open
            and self._line is not None
            and (len(self._in_flight) >= self._window or self._line.wants_write)
        ):
            await self._next_news()

    async def _next_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _publish(self, batch: Batch, index: int) -> bool:
        """Hands one record to paho; False: there is no connection."""
        line, settings, record = self._line, self._settings, batch.records[index]
        if not self._is_open or line is None:
            return False
        if not self._in_flight:
            line.begin_waiting()
        properties = PublishProperties(record.identity, record.content_type) if settings.is_version_5 else None
        packet_id = line.publish(
            record.topic, record.payload, qos=settings.qos, retain=settings.retain, properties=properties
        )
        if packet_id is None:
            return False
        self._in_flight.sent(packet_id, batch, index)
        line.flush()
        return True

    def _refusal(self, record: Record) -> str:
        """Why the record can never be sent; empty: it can."""
        topic_bytes = len(record.topic.encode())
        if not topic_bytes or topic_bytes > _TOPIC_BYTES_MAX or not _NOT_IN_TOPIC.isdisjoint(record.topic):
            return f"{record.topic[:80]!r} is no topic to publish to"
        names_bytes = len(record.identity.encode()) + len(record.content_type.encode())
        packet_bytes = len(record.payload) + topic_bytes + names_bytes + _FIXED_BYTES_MAX
        if packet_bytes > self._welcome.packet_bytes_max:
            return f"the message has {packet_bytes} bytes; the broker takes {self._welcome.packet_bytes_max}"
        return ""

    # ------------------------------------------------------------------ what the connection says

    def _is_waiting(self) -> bool:
        return len(self._in_flight) > 0

    def _welcomed(self, welcome: Welcome) -> bool:
        settings = self._settings
        self._welcome = welcome
        if welcome.qos_max < settings.qos:
            raise ConnectError(f"the broker takes QoS {welcome.qos_max} at most, and `qos` is {settings.qos}")
        if settings.retain and not welcome.takes_retained:
            raise ConnectError("the broker keeps no messages for new subscribers, and `retain` is true")
        if welcome.session_present and len(self._in_flight) <= self._window:
            self._is_resumed = len(self._in_flight) > 0
            return True
        self._in_flight.forget()
        if welcome.session_present:  # Messages would be sent again that the broker has no room for.
            self._forget_session()
            raise ConnectError("the broker takes fewer messages in flight than before, so the session begins anew")
        return False

    def _answered(self, packet_id: int, code: ReasonCode) -> None:
        if not code.is_failure or (code.packetType == PacketTypes.PUBCOMP and code.value == _ID_UNKNOWN):
            outcome, reason = Outcome.DELIVERED, ""
        else:
            outcome = Outcome.REFUSED if code.value in _NEVER_ACCEPTED else Outcome.AGAIN
            reason = f"the broker says: {code.getName().lower()}"
        self._in_flight.answered(packet_id, outcome, reason)
        self._is_resumed = False
        self._news.set()

    def _forget_session(self) -> None:
        self._client = None
        self._in_flight.forget()
        self._is_in_vain = False

    def _lost(self, reason: str) -> None:
        settings = self._settings
        if self._is_open:
            _LOG.warning("uplink lost", extra=fields(uplink=settings.name, broker=settings.address, reason=reason))
        self._is_in_vain = self._is_resumed
        self._line = None
        self._is_open = self._is_resumed = False
        self._reason = reason
        self._in_flight.lost(reason)
        if settings.session_expiry_s == 0 or settings.qos == 0:  # What was not written then never comes back.
            self._in_flight.forget()
        self._news.set()
