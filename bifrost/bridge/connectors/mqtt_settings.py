"""What an MQTT connection is to be like, from the uplink's section; the only reader of its keys on this side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from bifrost.bridge.transformers.topics import TopicTemplate
from bifrost.core.config_rules import SecretRef
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.errors import ConfigError

__all__ = ["MqttSettings", "read_settings"]

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}  # IANA; RFC 6455, 1.5.
_SECURE: Final = frozenset({"mqtts", "wss"})
_KEEP_ALIVE_S_MAX: Final = 65_535  # MQTT 5.0, 3.1.2.10.
_EXPIRY_S_MAX: Final = 0xFFFF_FFFE  # MQTT 5.0, 3.1.2.11.2; one more means never.
_WINDOW_UNASKED_MAX: Final = 20  # MQTT 3.1.1 cannot say it; mosquitto 2 ends connections with more QoS 2 in flight.
_NS_PER_S: Final = 1_000_000_000
_WS_PATH: Final = "/mqtt"


class MqttSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one connection; secrets are references.

    Attributes:
        name: Of the uplink.
        host: Of the broker.
        port: 1 to 65,535.
        is_secure: Whether TLS is used.
        websocket_path: Of the upgrade request; None: no WebSocket.
        alpn: Protocols that TLS offers.
        is_version_5: MQTT 5, else 3.1.1.
        client_id: 1 character or more.
        user: Empty: none.
        password: None: none.
        ca: Certificates that are trusted; None: the system's.
        cert: Own certificate; None: none.
        key: Its key.
        qos: 0 to 2.
        retain: Whether the broker keeps the last message of each topic.
        window: Messages in flight, 1 or more.
        timeout_s: Time to connect, and without a sign of progress.
        keep_alive_s: 1 to 65,535.
        session_expiry_s: 0: each connection begins a session.
        status_topic: Empty: none.
        gateway: Name of the gateway.
    """

    name: str
    host: str
    port: int
    is_secure: bool
    websocket_path: str | None
    alpn: tuple[str, ...]
    is_version_5: bool
    client_id: str
    user: str
    password: SecretRef | None
    ca: SecretRef | None
    cert: SecretRef | None
    key: SecretRef | None
    qos: int
    retain: bool
    window: int
    timeout_s: float
    keep_alive_s: int
    session_expiry_s: int
    status_topic: str
    gateway: str

    def error(self, key: str, message: str) -> ConfigError:
        """A ConfigError about one key of the uplink."""
        return ConfigError(message, key=f"uplink.{self.name}.{key}")

    def status(self, *, is_online: bool) -> bytes:
        """The message in `status_topic`."""
        return msgspec.json.encode({"gateway": self.gateway, "online": is_online})

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_settings(uplink: UplinkConfig, gateway: str) -> MqttSettings:
    """The settings of an uplink.

    Raises:
        ConfigError: They contradict each other, or MQTT has no such thing.
    """
    url = uplink.url
    is_websocket = url.scheme in {"ws", "wss"}
    settings = MqttSettings(
        name=uplink.name,
        host=url.host,
        port=url.port or _PORTS[url.scheme],
        is_secure=url.scheme in _SECURE,
        websocket_path=(url.path or _WS_PATH) if is_websocket else None,
        alpn=tuple(url.query["alpn"].split(",")) if "alpn" in url.query else (),
        is_version_5=uplink.version == "5",
        client_id=uplink.client_id.replace("${gateway}", gateway),
        user=uplink.user,
        password=uplink.password,
        ca=uplink.ca,
        cert=uplink.cert,
        key=uplink.key,
        qos=uplink.qos,
        retain=uplink.retain,
        window=min(uplink.window, _WINDOW_UNASKED_MAX) if uplink.version != "5" and uplink.qos == 2 else uplink.window,
        timeout_s=uplink.timeout_ns / _NS_PER_S,
        keep_alive_s=min(_whole_seconds(uplink.keep_alive_ns), _KEEP_ALIVE_S_MAX),
        session_expiry_s=min(_whole_seconds(uplink.session_expiry_ns), _EXPIRY_S_MAX),
        status_topic=uplink.status_topic.replace("${gateway}", gateway),
        gateway=gateway,
    )
    _check(settings, uplink)
    return settings


def _check(settings: MqttSettings, uplink: UplinkConfig) -> None:
    if not settings.host:
        raise settings.error("url", f"the URL names no host; write for example '{uplink.url.scheme}://broker.example'")
    unknown = [key for key in uplink.url.query if key != "alpn"]
    if unknown:
        raise settings.error("url", f"an MQTT URL has no {unknown[0]!r}; allowed after '?': alpn")
    if uplink.url.path.strip("/") and settings.websocket_path is None:
        raise settings.error("url", f"{uplink.url.path!r} has no meaning here; the key `topic` says where messages go")
    secrets: list[tuple[str, Callable[[MqttSettings], object]]] = [
        ("ca", lambda given: given.ca),
        ("cert", lambda given: given.cert),
        ("key", lambda given: given.key),
        ("url", lambda given: given.alpn),
    ]
    for key, value in secrets:
        if value(settings) and not settings.is_secure:
            raise settings.error(key, f"'{uplink.url.scheme}://' is not encrypted; write 'mqtts://' or 'wss://'")
    if settings.key is not None and settings.cert is None:
        raise settings.error("key", "a key is of use with its certificate only; set `cert` too")
    if settings.password is not None and not settings.user:
        raise settings.error("password", "a password is of use with its user only; set `user` too")
    if settings.status_topic:
        try:
            TopicTemplate(settings.status_topic, settings.gateway)
        except ValueError as error:
            raise settings.error("status_topic", str(error)) from error


def _whole_seconds(time_ns: int) -> int:
    return -(-time_ns // _NS_PER_S)
