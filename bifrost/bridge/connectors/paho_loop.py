"""One MQTT connection on the event loop: reads, writes and watches over paho's external-loop API.

States: new, connecting (CONNECT sent, no CONNACK), open, closed for good. It begins with a connected socket and ends
when the peer, the wire or the owner ends it, or when nothing has moved for the time limit while an answer was due.
Nothing in it blocks, and no call of it waits, but for `handshake`.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from paho.mqtt.client import ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MQTTException
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bifrost.bridge.connectors.mqtt_settings import MqttSettings
from bifrost.bridge.connectors.paho_client import PahoClient, PublishProperties
from bifrost.bridge.connectors.tls import explain
from bifrost.core.errors import ConnectError
from bifrost.core.log import fields

if TYPE_CHECKING:
    from paho.mqtt.client import Client, SocketLike

__all__ = ["Handlers", "PahoLoop", "Welcome"]

_LOG: Final = logging.getLogger("bifrost.bridge.mqtt")
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, struct.error, MQTTException)
"""What paho raises at some malformed packets instead of saying that they are."""

_TICK_S: Final = 1.0
_TICKS_PER_TIMEOUT: Final = 4
_RECEIVE_MAX: Final = 65_535  # MQTT 5.0, 3.2.2.3.3: without the property.
_PACKET_BYTES_MAX: Final = 268_435_455 + 5  # MQTT 5.0, 2.1.4, with its fixed header.
_PACKET_IDS_COUNT: Final = 65_535  # MQTT 5.0, 2.2.1.
_QOS_MAX: Final = 2
_PROTOCOL_ERROR: Final = 0x82  # MQTT 5.0, 2.4; paho uses it for what it finds itself.
_KEEP_ALIVE_TIMEOUT: Final = 0x8D  # Likewise.


class Welcome(NamedTuple):
    """What the broker's CONNACK says.

    Attributes:
        session_present: Whether it still has the session.
        receive_max: Messages it takes in flight.
        packet_bytes_max: Longest packet it takes.
        qos_max: Highest quality of service it takes.
        takes_retained: Whether it keeps the last message of a topic.
    """

    session_present: bool
    receive_max: int = _RECEIVE_MAX
    packet_bytes_max: int = _PACKET_BYTES_MAX
    qos_max: int = _QOS_MAX
    takes_retained: bool = True


class Handlers(NamedTuple):
    """What the owner is told; called in the loop, must not wait.

    Attributes:
        welcomed: CONNACK came. True: the session goes on, and paho sends again what is in flight; False: it is new.
            Raises ConnectError to end the connection.
        answered: A message was acknowledged or refused: packet identifier and reason code.
        moved: Bytes left or an answer came: perhaps there is room again.
        is_waiting: Asked whether an answer is due.
        lost: The connection is over, and why. Called once.
    """

    welcomed: Callable[[Welcome], bool]
    answered: Callable[[int, ReasonCode], None]
    moved: Callable[[], None]
    is_waiting: Callable[[], bool]
    lost: Callable[[str], None]


class PahoLoop:
    """Runs `client` on the running loop until it is lost.

    Args:
        client: Has no connection yet.
        settings: Of the connection.
        handlers: Of the owner.
    """

    def __init__(self, client: PahoClient, settings: MqttSettings, handlers: Handlers) -> None:
        self._client = client
        self._settings = settings
        self._handlers = handlers
        self._loop = asyncio.get_running_loop()
        self._connack: asyncio.Future[None] = self._loop.create_future()
        self._tick_s = min(_TICK_S, settings.timeout_s / _TICKS_PER_TIMEOUT)
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = -1
        self._is_writer_added = False
        self._is_over = False
        self._moved_s = self._loop.time()
        self._seen_bytes_count = 0
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.before_close = self._unwatch

    async def handshake(self, wire: SocketLike, *, clean_start: bool, password: str | None) -> None:
        """CONNECT and CONNACK, as `PahoClient.begin`. The caller sets the time limit.

        Raises:
            ConnectError: The broker refuses, or the wire fails.
        """
        self._descriptor = wire.fileno()
        self._client.begin(wire, clean_start=clean_start, password=password)
        self._loop.add_reader(self._descriptor, self._readable)
        self._timer = self._loop.call_later(self._until_tick_s(), self._tick)
        self.flush()
        await self._connack

    def flush(self) -> None:
        """Writes what paho has ready, as far as the socket takes it; the rest follows by itself."""
        self._client.loop_write()
        if self._is_over or self._client.socket() is None:
            return
        wants_write = self._client.want_write()
        if wants_write and not self._is_writer_added:
            self._loop.add_writer(self._descriptor, self._writable)
        elif not wants_write and self._is_writer_added:
            self._loop.remove_writer(self._descriptor)
        self._is_writer_added = wants_write

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""
        return not self._is_over and self._client.want_write()

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: PublishProperties | None
    ) -> int | None:
        """Makes a message ready; `flush` sends it.

        Returns:
            Its packet identifier; None: the connection is over.
        """
        packed = cast("Properties | None", properties)  # It asks for `pack` alone.
        for _ in range(_PACKET_IDS_COUNT):  # Identifiers go round; one may be held by an old message in flight.
            info = self._client.publish(topic, payload, qos, retain, packed)
            if info.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                break
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def begin_waiting(self) -> None:
        """An answer is due from now on, and was not before: its time begins."""
        self._moved_s = self._loop.time()

    def part(self) -> None:
        """Says DISCONNECT, as far as the socket takes it at once, and ends."""
        if not self._is_over:
            self._client.disconnect()
            self._client.loop_write()
            self.end("closed")

    def end(self, reason: str) -> None:
        """Ends the connection without a word to the broker; nothing if it is over."""
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._client.drop()
        if not self._connack.done():
            self._connack.set_exception(ConnectError(reason))
            self._connack.exception()  # Somebody may have stopped waiting for it.
        self._handlers.lost(reason)

    def _unwatch(self) -> None:
        """The socket is about to be closed."""
        self._loop.remove_reader(self._descriptor)
        if self._is_writer_added:
            self._loop.remove_writer(self._descriptor)
        self._is_writer_added = False

    def _readable(self) -> None:
        if self._is_over:
            return
        try:
            self._client.loop_read()
        except _UNREADABLE as error:
            _LOG.warning("a packet cannot be read", extra=fields(uplink=self._settings.name, reason=repr(error)))
            self.end("what the peer says is not MQTT")
        self._after_callbacks()
        if not self._is_over and self._client.has_unread():
            self._loop.call_soon(self._readable)

    def _writable(self) -> None:
        self.flush()
        self._after_callbacks()

    def _after_callbacks(self) -> None:
        """Writes what was answered with, and ends what paho closed without saying so."""
        if self._is_over:
            return
        if self._client.socket() is None:
            self.end(self._wire_reason())
            return
        if self._client.want_write():
            self.flush()
        if self._client.bytes_count != self._seen_bytes_count:
            self._seen_bytes_count = self._client.bytes_count
            self._moved_s = self._loop.time()
            self._handlers.moved()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._until_tick_s(), self._tick)
        self._client.loop_misc()
        self._after_callbacks()
        if self._is_over:
            return
        is_due = self._handlers.is_waiting() or self._client.want_write()
        if is_due and self._loop.time() - self._moved_s > self._settings.timeout_s:
            self.end(f"no sign of life from the broker for {self._settings.timeout_s:g} s")

    def _until_tick_s(self) -> float:
        """Often enough that a ping is in time, also when the broker asks for more of them (MQTT 5.0, 3.2.2.3.14)."""
        keep_alive_s = self._client.keepalive
        return min(self._tick_s, keep_alive_s / _TICKS_PER_TIMEOUT) if keep_alive_s else self._tick_s

    def _on_connect(
        self, _client: Client, _userdata: object, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self.end(f"the broker refused the connection: {_words(code, properties)}")
            return
        self._moved_s = self._loop.time()
        try:
            goes_on = self._handlers.welcomed(_welcome(flags.session_present, properties))
        except ConnectError as error:
            self._client.drop_out_messages()
            self.end(str(error))
            return
        if not goes_on:
            self._client.drop_out_messages()
        if not self._connack.done():
            self._connack.set_result(None)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.end(f"the broker ended the connection: {_words(code, properties)}")
        elif code.value == 0:  # Our own DISCONNECT was written.
            self.end("closed")
        elif code.value == _KEEP_ALIVE_TIMEOUT:
            self.end("the broker left a ping unanswered")
        elif code.value == _PROTOCOL_ERROR and self._client.wire_error is None:
            self.end("what the peer says is not MQTT")
        else:
            self.end(self._wire_reason())

    def _on_publish(
        self, _client: Client, _userdata: object, packet_id: int, code: ReasonCode, _properties: Properties
    ) -> None:
        self._moved_s = self._loop.time()
        self._handlers.answered(packet_id, code)

    def _wire_reason(self) -> str:
        error = self._client.wire_error
        if error is not None:
            return f"the connection was lost: {explain(error)}"
        if not self._connack.done():
            return "the peer closed the connection instead of answering CONNECT"
        return "the broker closed the connection"


def _welcome(session_present: bool, properties: Properties | None) -> Welcome:
    def found(name: str, default: int) -> int:
        return int(getattr(properties, name, default))

    return Welcome(
        session_present,
        found("ReceiveMaximum", _RECEIVE_MAX),
        found("MaximumPacketSize", _PACKET_BYTES_MAX),
        found("MaximumQoS", _QOS_MAX),
        bool(found("RetainAvailable", 1)),
    )


def _words(code: ReasonCode, properties: Properties | None) -> str:
    text = code.getName().lower()
    said = getattr(properties, "ReasonString", "")
    return f"{text} ({said})" if said else text
