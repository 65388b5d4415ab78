"""The URL of a device or an uplink, split into parts: ``scheme://host:port/path?key=value``.

Only what all protocols share is checked here. Which schemes exist says `core.plugins`; which query keys a protocol
knows says its driver.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from bifrost.core.config_rules import Rule

__all__ = ["DeviceUrl", "Url", "parse_url"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.\-]+(:[0-9]+)?(\?.*)?")
_QUERY_KEYS_MAX = 32


class DeviceUrl(msgspec.Struct, frozen=True):
    """A URL in parts.

    Attributes:
        scheme: In lower case, for example ``modbus-tcp``.
        host: Name or address, IPv6 without brackets; empty for a serial port or a file.
        port: 1 to 65,535; None when the URL has none.
        path: With its leading slash, for example ``/dev/ttyUSB0``; may be empty.
        query: Keys and values, each text.
        text: The URL as written.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    query: dict[str, str]
    text: str

    def __str__(self) -> str:
        return self.text


class Url(Rule, frozen=True):
    """The rule of a key that holds a URL; `example` is the scheme that messages show."""

    example: str = "modbus-tcp"

    def _parse(self, value: object) -> DeviceUrl:
        if not isinstance(value, str):
            raise ValueError(f"expected a URL in quotes, for example '{self.example}://10.0.0.5', not {value}")
        return parse_url(value, self.example)

    def _allowed(self) -> str:
        return "a URL: scheme://host:port?key=value"


def parse_url(text: str, example: str = "modbus-tcp") -> DeviceUrl:
    """The parts of a URL.

    Args:
        text: The URL.
        example: Scheme that is shown where there is none.

    Raises:
        ValueError: No URL, an impossible port, a query key twice, or a password; the message says what would be right.
    """
    if "@" in text:  # Before anything that shows it: what is not quite a URL may hold a password too.
        raise ValueError(
            "a user or password does not belong into a URL, which is shown in logs and messages;"
            " an uplink has the keys user and password; write any other '@' as '%40'"
        )
    scheme, separator, _ = text.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        hint = f"; write for example '{example}://{text}'" if _HOST_AND_PORT.fullmatch(text) else ""
        raise ValueError(f"{text!r} has no scheme such as '{example}://'{hint}")
    if any(character.isspace() or ord(character) < 32 for character in text):
        raise ValueError(f"{text!r} contains a space")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL: {str(error)[:1].lower()}{str(error)[1:]}") from None
    if parts.fragment:
        raise ValueError(f"{text!r} contains '#'; write it as '%23'")
    if port == 0:
        raise ValueError(f"{text!r}: port 0 is not a port to connect to; allowed: 1 to 65535")
    return DeviceUrl(
        scheme=parts.scheme.lower(),
        host=parts.hostname or "",
        port=port,
        path=unquote(parts.path),
        query=_query(parts.query, text),
        text=text,
    )


def _query(query_text: str, text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query_text, keep_blank_values=True, strict_parsing=True, max_num_fields=_QUERY_KEYS_MAX)
    except ValueError:
        raise ValueError(f"{text!r}: what follows '?' must be key=value, joined by '&'") from None
    query: dict[str, str] = {}
    for key, value in pairs:
        if key in query:
            raise ValueError(f"{text!r}: {key!r} is given twice")
        query[key] = value
    return query
