"""paho-mqtt with its five habits that do not fit a gateway taken away; the only file that knows its inside.

* It makes its socket itself, and blocks meanwhile: here it gets one that is connected.
* It tells nobody why a socket failed: here `wire_error` keeps it, and `bytes_count` shows that bytes move.
* It answers a refused PUBREC with PUBREL and loses the reason (MQTT 5.0, 4.3.3), and dies of a PUBACK with a reason that
  the standard does not list there (mosquitto's `message_size_limit`): here the message ends refused.
* It closes its socket before it says so, when a descriptor may be another connection's already: here `before_close` is first.
* It keeps messages for later: here it never gets one that cannot leave at once.

`tests/unit/bridge/test_paho_client.py` holds each of them against the installed version.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from paho.mqtt.client import Client, _WebsocketWrapper
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bifrost.bridge.connectors.mqtt_settings import MqttSettings

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

__all__ = ["PahoClient", "PublishProperties", "upgrade"]

_REFUSED: Final = 0x80  # MQTT 5.0, 2.4: reason codes from here on are failures.
_UINT16: Final = struct.Struct("!H")  # MQTT 5.0, 1.5.2.
_IDENTITY: Final = b"\0\x0abifrost-id"  # CONTRACT, JSON payload.


class PahoClient(Client):
    """One MQTT session. Its callbacks are called in `loop_read`, `loop_write` and `loop_misc` only.

    Args:
        settings: Of the connection.
        keeps_session: Whether the broker is to keep the session when the connection is lost.

    Attributes:
        before_close: Called before the socket is closed, whoever closes it and why: the last time its descriptor is ours.
        wire_error: Why the socket failed, after it did.
        bytes_count: Bytes sent so far.
    """

    def __init__(self, settings: MqttSettings, *, keeps_session: bool) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if settings.is_version_5 else not keeps_session,
            protocol=MQTTProtocolVersion.MQTTv5 if settings.is_version_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,  # It would reconnect inside `loop_read`, and block there.
        )
        self.max_inflight_messages = 0  # No limit, hence no queue: the window is ours.
        self.on_socket_register_write = _ignore  # Without it, `publish` writes before it says its packet identifier.
        if settings.status_topic:
            self.will_set(settings.status_topic, settings.status(is_online=False), min(1, settings.qos), retain=True)
        self.before_close: Callable[[], None] = _nothing
        self.wire_error: OSError | None = None
        self.bytes_count = 0
        self._settings = settings
        self._expiry_s = settings.session_expiry_s if keeps_session else 0
        self._wire: SocketLike | None = None

    def begin(self, wire: SocketLike, *, clean_start: bool, password: str | None) -> None:
        """Begins MQTT on a connected socket: CONNECT is ready to be written. From now on the socket is the client's.

        Args:
            wire: Connected.
            clean_start: For MQTT 5: whether a session that is there is to be forgotten.
            password: None: none.
        """
        settings = self._settings
        self.wire_error = None
        self._wire = wire
        self.username_pw_set(settings.user or None, password)
        if settings.is_version_5:
            properties = _new_properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self._expiry_s
            self.connect_async(
                settings.host, settings.port, settings.keep_alive_s, clean_start=clean_start, properties=properties
            )
        else:
            self.connect_async(settings.host, settings.port, settings.keep_alive_s)
        self.reconnect()

    def drop(self) -> None:
        """Closes the socket at once, without a word to the broker."""
        self._sock_close()

    def has_unread(self) -> bool:
        """Whether TLS holds bytes that the socket does not announce any more."""
        pending = getattr(self.socket(), "pending", None)
        return pending is not None and pending() > 0

    def _create_socket(self) -> SocketLike:
        wire, self._wire = self._wire, None
        assert wire is not None
        return wire

    def _sock_close(self) -> None:
        if self._sock is not None:
            self.before_close()
        super()._sock_close()

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            return super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self.wire_error = error
            raise

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            sent = super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError as error:
            self.wire_error = self._last_word() or error
            raise
        self.bytes_count += sent
        return sent

    def _last_word(self) -> OSError | None:
        """Why a TLS peer refuses what is written: its alert waits to be read."""
        if isinstance(self._sock, ssl.SSLSocket):
            try:
                self._sock.recv(1)
            except ssl.SSLWantReadError:
                return None
            except OSError as error:
                return error
        return None

    def _handle_pubrec(self) -> MQTTErrorCode:
        return super()._handle_pubrec() if self._is_taken(PacketTypes.PUBREC) else MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        is_taken = cmd == "PUBCOMP" or self._is_taken(PacketTypes.PUBACK)
        return super()._handle_pubackcomp(cmd) if is_taken else MQTTErrorCode.MQTT_ERR_SUCCESS

    def _is_taken(self, packet_type: int) -> bool:
        """Whether PUBACK or PUBREC, as it came, is no refusal of a message in flight; one that is ends the message."""
        packet = bytes(self._in_packet["packet"])
        if not self._settings.is_version_5 or len(packet) <= _UINT16.size or packet[_UINT16.size] < _REFUSED:
            return True  # A reason code follows where there is one; MQTT 5.0, 3.4.2 and 3.5.2.
        (packet_id,) = _UINT16.unpack_from(packet)
        if packet_id not in self._out_messages:
            return True
        code = _reason(packet_type, packet[_UINT16.size])
        self._do_on_publish(packet_id, code, _new_properties(packet_type))
        return False


class PublishProperties:
    """Properties of one PUBLISH, packed; paho's own take 60 µs for these two, more than all the rest of a message.

    Source: MQTT 5.0, 2.2.2 and 3.3.2.3.

    Args:
        identity: For the user property ``bifrost-id``; empty: none.
        content_type: Empty: none.
    """

    __slots__ = ("_packed",)

    def __init__(self, identity: str, content_type: str) -> None:
        packed = b"".join(
            (
                b"\x03" + _text(content_type) if content_type else b"",
                b"\x26" + _IDENTITY + _text(identity) if identity else b"",
            )
        )
        self._packed = _length(len(packed)) + packed

    def pack(self) -> bytes:
        """What paho asks of it."""
        return self._packed


def _text(text: str) -> bytes:
    """A UTF-8 string; MQTT 5.0, 1.5.4."""
    encoded = text.encode()
    return _UINT16.pack(len(encoded)) + encoded


def _length(count: int) -> bytes:
    """A variable byte integer; MQTT 5.0, 1.5.5."""
    encoded = bytearray()
    while True:
        count, digit = count >> 7, count & 0x7F
        encoded.append(digit | (0x80 if count else 0))
        if not count:
            return bytes(encoded)


def _reason(packet_type: int, value: int) -> ReasonCode:
    """A reason code, also one that only DISCONNECT may have, or that nobody knows: brokers answer with such."""
    for known_to in (packet_type, PacketTypes.DISCONNECT):
        with contextlib.suppress(LookupError, ValueError):
            return ReasonCode(known_to, identifier=value)
    return ReasonCode(packet_type, identifier=_REFUSED)


def _new_properties(packet_type: int) -> Properties:
    """Properties of an MQTT 5 packet, none set."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho leaves it without annotations.


def upgrade(connection: socket.socket, host: str, port: int, path: str, is_secure: bool) -> SocketLike:
    """A WebSocket on a connected socket; blocks, as long as the socket's time-out allows each read.

    Raises:
        OSError: The server is no WebSocket server, or not one for MQTT; the socket is closed.
    """
    try:
        return _WebsocketWrapper(
            socket=connection, host=host, port=port, is_ssl=is_secure, path=path, extra_headers=None
        )
    except BaseException:
        connection.close()
        raise


def _nothing() -> None:
    """Nobody watches the socket yet."""


def _ignore(_client: Client, _userdata: object, _socket: SocketLike) -> None:
    """`PahoLoop` asks `want_write` by itself."""
