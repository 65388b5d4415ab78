"""Checks that concern several settings or sections, after each setting by itself is right.

A contradiction is a mistake; something that works but is hardly meant is a warning. Nothing here changes a setting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bifrost.core import plugins
from bifrost.core.columns import Clash, TagColumns
from bifrost.core.config_lines import KeyPath
from bifrost.core.config_read import Problems, SectionReader
from bifrost.core.config_rules import nearest
from bifrost.core.config_sections import (
    UPLINK_SCHEMES,
    DeviceConfig,
    GatewayConfig,
    HttpConfig,
    OpcUaConfig,
    UplinkConfig,
)
from bifrost.core.limits import PROBLEMS_COUNT_MAX
from bifrost.core.quantity import format_duration

__all__ = [
    "check_clashes",
    "check_control",
    "check_devices",
    "check_http",
    "check_opcua",
    "check_stale",
    "check_uplinks",
    "check_writes",
]

_SOCKET_PATH_BYTES_MAX = 107  # struct sockaddr_un has 108 with the closing zero; unix(7).
_MQTT_ALIASES = {
    "tcp": "mqtt",
    "mqtt+tcp": "mqtt",
    "ssl": "mqtts",
    "tls": "mqtts",
    "mqtt+ssl": "mqtts",
    "http": "ws",
    "https": "wss",
}
_MQTT_SCHEMES = frozenset({"mqtt", "mqtts", "ws", "wss"})
_TOPIC_CHARACTERS_REFUSED = "+#"  # Wildcards; MQTT 5.0, 4.7.1.


def check_control(gateway: GatewayConfig, sections: SectionReader) -> None:
    """The control socket's path must fit into a socket address."""
    size = len(gateway.control.encode())
    if size > _SOCKET_PATH_BYTES_MAX:
        message = f"the path {gateway.control!r} has {size} bytes; a socket's has {_SOCKET_PATH_BYTES_MAX} at most"
        sections.fault(("gateway", "control"), "gateway.control", message)


def check_devices(devices: Sequence[DeviceConfig], problems: Problems) -> None:
    """Two devices with one URL would ask the same unit for the same things twice."""
    by_url: dict[str, DeviceConfig] = {}
    for device in devices:
        other = by_url.setdefault(device.url.text, device)
        if other is not device:
            problems.warn(
                f"the same URL as device {other.name!r}",
                file=device.file,
                line=device.lines.get("url"),
                key=f"device.{device.name}.url",
            )


def check_stale(device: DeviceConfig, slowest_scan_ns: int, problems: Problems) -> None:
    """A value that is good must not turn bad before its next answer can be there."""
    needed_ns = slowest_scan_ns + device.timeout_ns
    if device.stale_ns < needed_ns:
        problems.warn(
            f"{format_duration(device.stale_ns)} is shorter than the slowest scan and the timeout together,"
            f" {format_duration(needed_ns)}: one late answer makes values bad",
            file=device.file,
            line=device.lines.get("stale", device.lines.get("")),
            key=f"device.{device.name}.stale",
        )


def check_clashes(tags: TagColumns, clashes: Sequence[Clash], problems: Problems) -> None:
    """Names used twice within their parent."""
    for clash in clashes:
        file, line = tags.place(clash.other_id)
        what = "the group of the tag" if clash.with_group else "the tag"
        message = f"{what} in {file}:{line} has the same name; a name is unique within its parent"
        problems.add(tags.error(clash.tag_id, "name", message))


def check_writes(gateway: GatewayConfig, tags: TagColumns, sections: SectionReader) -> None:
    """Writable tags do nothing while the master switch is off."""
    writable_count = sum(map(tags.is_writable, range(len(tags))))
    if writable_count and not gateway.writes:
        noun = "tag is" if writable_count == 1 else "tags are"
        sections.problems.warn(
            f"{writable_count} {noun} writable, but writes are off: nothing will be written",
            file=sections.source.file_of(("gateway", "writes")),
            line=sections.source.line(("gateway", "writes")),
            key="gateway.writes",
        )


def check_opcua(opcua: OpcUaConfig, sections: SectionReader) -> None:
    """Off loopback, the OPC UA face demands security and users, but for what `insecure` names."""
    if opcua.bind.is_loopback:
        return
    if not opcua.security and "None" not in opcua.insecure:
        message = f"{opcua.bind} can be reached from other machines, which demands a security policy"
        sections.fault(("opcua", "security"), "opcua.security", message)
    if opcua.anonymous and "anonymous" not in opcua.insecure:
        message = f"{opcua.bind} can be reached from other machines, which demands users"
        sections.fault(("opcua", "anonymous"), "opcua.anonymous", message)


def check_http(http: HttpConfig, sections: SectionReader) -> None:
    """Metrics and health know no users; off loopback anybody in the network can read them."""
    if http.bind is not None and not http.bind.is_loopback:
        path = ("http", "bind")
        sections.problems.warn(
            f"{http.bind} can be reached from other machines, and nobody has to log in to read metrics and health",
            file=sections.source.file_of(path),
            line=sections.source.line(path),
            key="http.bind",
        )


def check_uplinks(uplinks: Mapping[KeyPath, UplinkConfig], tags: TagColumns, sections: SectionReader) -> None:
    """Schemes, topics, globs and client ids of the uplinks."""
    for path, uplink in uplinks.items():
        label = f"uplink.{uplink.name}"
        if uplink.url.scheme not in UPLINK_SCHEMES:
            meant = _MQTT_ALIASES.get(uplink.url.scheme)
            hint = f"; did you mean '{meant}'?" if meant else nearest(uplink.url.scheme, UPLINK_SCHEMES)
            message = f"no connector for '{uplink.url.scheme}://'{hint}"
            sections.fault((*path, "url"), f"{label}.url", message)
        elif uplink.url.scheme not in (there := plugins.schemes(plugins.CONNECTORS)):
            message = f"this version has no connector for '{uplink.url.scheme}://' yet; it has: {', '.join(there)}"
            sections.fault((*path, "url"), f"{label}.url", message)
        for wildcard in _TOPIC_CHARACTERS_REFUSED:
            if wildcard in uplink.topic:
                message = f"{uplink.topic!r} contains {wildcard!r}, which is for subscribing"
                sections.fault((*path, "topic"), f"{label}.topic", message)
        for glob in uplink.tags[:PROBLEMS_COUNT_MAX]:
            if len(tags) and not tags.has_match(glob):
                sections.problems.warn(
                    f"{glob!r} matches no tag",
                    file=sections.source.file_of((*path, "tags")),
                    line=sections.source.line((*path, "tags")),
                    key=f"{label}.tags",
                )
    _check_client_ids(uplinks, sections)


def _check_client_ids(uplinks: Mapping[KeyPath, UplinkConfig], sections: SectionReader) -> None:
    """A broker ends the connection of a client when another one comes with its id (MQTT 5.0, 3.1.4-3), again and again."""
    by_client: dict[tuple[str, str, int | None, str], UplinkConfig] = {}
    for path, uplink in uplinks.items():
        url = uplink.url
        if url.scheme not in _MQTT_SCHEMES:
            continue
        other = by_client.setdefault((url.scheme, url.host, url.port, uplink.client_id), uplink)
        if other is not uplink:
            message = (
                f"{uplink.client_id!r} is the id of uplink {other.name!r} at the same broker too, which lets in one client"
                f" of a name; write for example client_id = {f'{uplink.client_id}-{uplink.name}'!r}"
            )
            sections.fault((*path, "client_id"), f"uplink.{uplink.name}.client_id", message)
