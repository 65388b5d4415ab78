"""The sections of the configuration as frozen structs, one field a key.

A field's annotation says how its key is spelled and what it may be (`Key`), so that the reader, the messages and the
reference all come from this one place. A field without a default is a key that must be there. Source: CONTRACT,
Configuration.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

import msgspec

from bifrost.core.config_rules import (
    Bind,
    Choice,
    Duration,
    Endpoint,
    Flag,
    Integer,
    ListOf,
    Name,
    Number,
    Rule,
    Secret,
    SecretRef,
    Size,
    Text,
)
from bifrost.core.device_url import DeviceUrl, Url
from bifrost.core.errors import ConfigError

__all__ = [
    "SECURITY_POLICIES",
    "UPLINK_SCHEMES",
    "WINDOW_PROBE",
    "BufferConfig",
    "DeviceConfig",
    "GatewayConfig",
    "HttpConfig",
    "Key",
    "OpcUaConfig",
    "UplinkConfig",
    "keys_of",
]

WINDOW_PROBE = 0  # `window = "probe"`: find out how many requests in flight the device takes.
SECURITY_POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
INSECURE = ("None", "anonymous")
UPLINK_SCHEMES = ("mqtt", "mqtts", "ws", "wss", "amqp", "amqps", "amqp10", "sparkplug+mqtt", "sparkplug+mqtts", "file")
_READ_REGISTERS_MAX = 125  # Modbus V1.1b3, 6.3.
_PAYLOADS = ("json", "uns")
MQTT_VERSIONS = ("5", "3.1.1")
_DISK_BYTES_MAX = 1 << 44
_BATCH_BYTES_MAX = 1 << 28  # MQTT 5.0, 2.1.4: remaining length.


class Key(msgspec.Struct, frozen=True):
    """How a field is written in the file.

    Attributes:
        name: The key.
        rule: What it may be.
        meaning: One line for the reference.
        placeholders: Names that may stand in it as ``${name}`` and are filled in at run time.
    """

    name: str
    rule: Rule
    meaning: str
    placeholders: tuple[str, ...] = ()


class Durability(Rule, frozen=True):
    """When an outbox record is on disk: ``commit`` (before it counts), ``interval:DURATION``, or ``none``."""

    def _parse(self, value: object) -> str:
        text = value if isinstance(value, str) else ""
        word, colon, rest = text.partition(":")
        if (word in {"commit", "none"} and not colon) or (word == "interval" and colon):
            if word == "interval":
                Duration("1 ms", "1 h").parse(rest)
            return text
        raise ValueError(f"expected {self.allowed()}, not {value!r}")

    def _allowed(self) -> str:
        return "'commit', 'interval:1 s' or 'none'"


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[gateway]`. `load_config` fills in `data_dir` and `control` from the environment when they are not set."""

    name: Annotated[str, Key("name", Name(), "Name of this gateway in payloads and topics.")]
    data_dir: Annotated[str, Key("data_dir", Text(empty=False), "Directory for journal, state and pki.")] = ""
    control: Annotated[str, Key("control", Text(empty=False), "Path of the control socket.")] = ""
    writes: Annotated[bool, Key("writes", Flag(), "Master switch: without it nothing is ever written to a device.")] = (
        False
    )


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[[device]]`. `lines` has the 1-based line of each key in `file`; key ``""`` is the table itself."""

    name: Annotated[str, Key("name", Name(), "Name, the first part of its tags' full names.")]
    url: Annotated[DeviceUrl, Key("url", Url(), "Protocol, host, port and options.")]
    scan_ns: Annotated[int, Key("scan", Duration("1 ms", "7 d"), "Scan period of tags without one of their own.")] = (
        1_000_000_000
    )
    timeout_ns: Annotated[int, Key("timeout", Duration("1 ms", "10 min"), "Time the device has to answer.")] = (
        1_000_000_000
    )
    stale_ns: Annotated[
        int,
        Key(
            "stale",
            Duration("10 ms", "30 d"),
            "After the last good answer: quality falls to Bad; default the longer of 5 s and 3 x the slowest scan.",
        ),
    ] = 0
    window: Annotated[
        int, Key("window", Integer(1, 256, {"probe": WINDOW_PROBE}), "Requests in flight on the link.")
    ] = 1
    gap_registers: Annotated[
        int, Key("gap_registers", Integer(0, _READ_REGISTERS_MAX), "Holes up to this size are read over.")
    ] = 8
    read_registers_max: Annotated[int, Key("read_registers_max", Integer(1, _READ_REGISTERS_MAX), "Longest read.")] = (
        _READ_REGISTERS_MAX
    )
    forbidden: Annotated[
        tuple[str, ...],
        Key("forbidden", ListOf(Text(empty=False)), "Address ranges that are never read, such as 'hr:100-120'."),
    ] = ()
    table: Annotated[str, Key("tags", Text(empty=False), "CSV file with tags, relative to this file.")] = ""
    file: str = ""
    lines: dict[str, int] = {}

    def error(self, key: str, message: str) -> ConfigError:
        """A ConfigError with the place of this device's `key`, for example for a query key that a driver refuses."""
        line = self.lines.get(key, self.lines.get(""))
        return ConfigError(message, file=self.file or None, line=line, key=f"device.{self.name}.{key}")


class OpcUaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[opcua]`. `anonymous` None means the default: only on loopback. The policy None is offered on loopback too."""

    bind: Annotated[Endpoint, Key("bind", Bind(), "Address to serve on.")] = Endpoint("127.0.0.1", 4840)
    security: Annotated[
        tuple[str, ...], Key("security", ListOf(Choice(SECURITY_POLICIES)), "Security policies offered.")
    ] = SECURITY_POLICIES
    anonymous: Annotated[
        bool | None,
        Key("anonymous", Flag(), "Whether clients without a user may connect, to read; default only on loopback."),
    ] = None
    insecure: Annotated[
        tuple[str, ...],
        Key(
            "insecure",
            ListOf(Choice(INSECURE)),
            "What is allowed although other machines can reach it: no encryption, no user.",
        ),
    ] = ()


class BufferConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[uplink.buffer]`."""

    disk_bytes_max: Annotated[
        int, Key("disk_bytes_max", Size(1 << 20, _DISK_BYTES_MAX), "Disk for records not yet acknowledged.")
    ] = 256 << 20
    age_max_ns: Annotated[int, Key("age_max", Duration("1 s", "3650 d"), "Older records are dropped and counted.")] = (
        604_800_000_000_000
    )
    on_full: Annotated[
        str, Key("on_full", Choice(("drop_oldest", "drop_newest", "block")), "What happens when the disk part is full.")
    ] = "drop_oldest"
    durability: Annotated[str, Key("durability", Durability(), "When a record is on disk.")] = "commit"


class UplinkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[[uplink]]`."""

    name: Annotated[str, Key("name", Name(), "Name, for ledger and messages.")]
    url: Annotated[DeviceUrl, Key("url", Url("mqtt"), "Protocol, host and port.")]
    client_id: Annotated[str, Key("client_id", Text(empty=False), "Client id at the broker.", ("gateway",))] = (
        "${gateway}"
    )
    topic: Annotated[
        str,
        Key(
            "topic", Text(empty=False), "Topic; ${tag} makes a message per tag.", ("gateway", "device", "group", "tag")
        ),
    ] = "bifrost/${gateway}/${device}"
    payload: Annotated[str, Key("payload", Choice(_PAYLOADS), "Form of the messages.")] = "json"
    qos: Annotated[int, Key("qos", Integer(0, 2), "MQTT quality of service.")] = 1
    tags: Annotated[tuple[str, ...], Key("tags", ListOf(Text(empty=False)), "Globs over full names.")] = ("*",)
    deadband: Annotated[
        float, Key("deadband", Number(negative=False), "Deadband of this uplink, on top of the tag's own.")
    ] = 0.0
    linger_ns: Annotated[int, Key("linger", Duration("0 s", "1 h"), "Time to wait for more samples.")] = 200_000_000
    batch_bytes_max: Annotated[int, Key("batch_bytes_max", Size(1 << 10, _BATCH_BYTES_MAX), "Longest message.")] = (
        64 << 10
    )
    retain: Annotated[
        bool, Key("retain", Flag(), "Whether the broker keeps the last message of each topic for new subscribers.")
    ] = False
    version: Annotated[str, Key("version", Choice(MQTT_VERSIONS), "Version of MQTT.")] = "5"
    window: Annotated[int, Key("window", Integer(1, 65_535), "Messages in flight without acknowledgement.")] = 100
    timeout_ns: Annotated[
        int,
        Key("timeout", Duration("100 ms", "10 min"), "Time to connect, and to wait for a sign of progress afterwards."),
    ] = 30_000_000_000
    keep_alive_ns: Annotated[
        int, Key("keep_alive", Duration("1 s", "18 h"), "A connection that says nothing is asked this often.")
    ] = 60_000_000_000
    session_expiry_ns: Annotated[
        int,
        Key(
            "session_expiry",
            Duration("0 s", "365 d"),
            "How long the broker keeps the session after a lost connection; 0: it begins anew each time.",
        ),
    ] = 3_600_000_000_000
    status_topic: Annotated[
        str,
        Key("status_topic", Text(), "Topic that says whether the gateway is connected; empty: none.", ("gateway",)),
    ] = ""
    user: Annotated[str, Key("user", Text(), "User name at the destination.")] = ""
    password: Annotated[SecretRef | None, Key("password", Secret(), "Password of the user.")] = None
    ca: Annotated[
        SecretRef | None, Key("ca", Secret(), "Certificate authorities that are trusted; default the system's.")
    ] = None
    cert: Annotated[SecretRef | None, Key("cert", Secret(), "Certificate of this gateway, PEM, with its chain.")] = None
    key: Annotated[SecretRef | None, Key("key", Secret(), "Private key of that certificate, PEM, not encrypted.")] = (
        None
    )
    buffer: BufferConfig = BufferConfig()


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[http]`. `bind` None: off."""

    bind: Annotated[Endpoint | None, Key("bind", Bind(off=True), "Address of metrics, health and status page.")] = None


class KeySpec(msgspec.Struct, frozen=True):
    """A key of a section, with the field it fills and whether it must be there."""

    key: Key
    field: str
    required: bool


@cache
def keys_of(section: type[msgspec.Struct]) -> Mapping[str, KeySpec]:
    """The keys of a section by name, in the order of the struct."""
    hints = typing.get_type_hints(section, include_extras=True)
    specs: dict[str, KeySpec] = {}
    for field in msgspec.structs.fields(section):
        metadata: tuple[Any, ...] = getattr(hints[field.name], "__metadata__", ())
        if metadata and isinstance(metadata[0], Key):
            specs[metadata[0].name] = KeySpec(metadata[0], field.name, field.required)
    return specs
