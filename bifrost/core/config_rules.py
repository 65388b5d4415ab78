"""What a single setting may be: one small rule for each kind of value.

A rule turns what TOML or a CSV cell holds into what the program uses, or raises ValueError with a sentence that says
what would be right. Rules know nothing of files, lines and keys; `config_read` adds those.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from bifrost.core.quantity import format_duration, format_size, parse_duration_ns, parse_percent, parse_size_bytes

__all__ = [
    "NAME_LENGTH_MAX",
    "Bind",
    "Choice",
    "Deadband",
    "Duration",
    "Endpoint",
    "Flag",
    "Integer",
    "ListOf",
    "Name",
    "Number",
    "Percent",
    "Range",
    "Rule",
    "Secret",
    "SecretRef",
    "Size",
    "Text",
    "check_name",
    "nearest",
]

_NAME_CHARACTERS = re.compile(r"[A-Za-z0-9_\- ]*")
_NUMBER_TEXT = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]+)?\s*")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
NAME_LENGTH_MAX = 64  # CONTRACT, Names.
_PORT_MAX = 65_535  # TCP: 16 bits; RFC 9293, 3.1.
_SECRET_KINDS = ("file", "env", "cred")


class Rule(msgspec.Struct, frozen=True):
    """A kind of value. Subclasses say how it is parsed and what is allowed."""

    def parse(self, value: object) -> Any:
        """The value as the program uses it. Raises ValueError; the message says what would be right."""
        return self._parse(value)

    def allowed(self) -> str:
        """What is allowed, in words, for messages and the reference."""
        return self._allowed()

    def _parse(self, value: object) -> Any:
        raise NotImplementedError

    def _allowed(self) -> str:
        raise NotImplementedError


class Percent(msgspec.Struct, frozen=True):
    """A deadband written as a percentage of the tag's range."""

    percent: float


class Endpoint(msgspec.Struct, frozen=True):
    """A local address to listen on.

    Attributes:
        host: Name or address, IPv6 without brackets.
        port: 0 to 65,535.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class SecretRef(msgspec.Struct, frozen=True):
    """Where a secret is, never the secret itself; `config_environ.reveal` reads it.

    Attributes:
        kind: ``file``, ``env`` or ``cred`` (a systemd credential).
        name: Path, variable or credential.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known word nearest to `word`, else the list of all, to end a message with."""
    known = list(known)
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]!r}?" if close else f"; allowed: {', '.join(known)}"


def check_name(text: str) -> None:
    """Raise ValueError unless `text` is 1 to 64 letters, digits, ``_``, ``-`` and spaces, none of them at an end.

    Source: CONTRACT, Names. ``_Diagnostics`` and ``_Gateway`` are Bifrost's own in the OPC UA address space.
    """
    if not text:
        raise ValueError("a name must not be empty")
    if len(text) > NAME_LENGTH_MAX:
        raise ValueError(f"{text!r} has {len(text)} characters; a name has {NAME_LENGTH_MAX} at most")
    if not _NAME_CHARACTERS.fullmatch(text):
        wrong = next(character for character in text if not _NAME_CHARACTERS.fullmatch(character))
        hint = "; a dot stands between device, group and tag, which have a key each" if wrong == "." else ""
        raise ValueError(
            f"{text!r} contains {wrong!r}; a name is made of letters A-Z, digits, '_', '-' and spaces{hint}"
        )
    if text != text.strip():
        raise ValueError(f"{text!r} begins or ends with a space")
    if text in {"_Diagnostics", "_Gateway"}:
        raise ValueError(f"{text!r} is reserved for Bifrost's own diagnostics")


class Text(Rule, frozen=True):
    """Any text without control characters, up to the limit `text_bytes_max`, which the reader checks for all texts."""

    empty: bool = True

    def _parse(self, value: object) -> str:
        text = _require_text(value)
        if not text and not self.empty:
            raise ValueError("must not be empty")
        control = _CONTROL_CHARACTER.search(text)
        if control is not None:
            raise ValueError(f"contains the control character {control.group()!r}")
        return text

    def _allowed(self) -> str:
        return "text" if self.empty else "text, not empty"


class Name(Rule, frozen=True):
    """A name of a gateway, device, group, tag or uplink."""

    def _parse(self, value: object) -> str:
        text = _require_text(value)
        check_name(text)
        return text

    def _allowed(self) -> str:
        return "1 to 64 letters, digits, '_', '-' or spaces"


class Flag(Rule, frozen=True):
    """True or false."""

    def _parse(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        hint = "; leave out the quotes" if isinstance(value, str) and value.lower() in {"true", "false"} else ""
        raise ValueError(f"expected true or false, not {_shown(value)}{hint}")

    def _allowed(self) -> str:
        return "true or false"


class Integer(Rule, frozen=True):
    """A whole number; `words` are texts that stand for a number."""

    low: int
    high: int
    words: dict[str, int] = {}

    def _parse(self, value: object) -> int:
        if isinstance(value, str) and value in self.words:
            return self.words[value]
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"expected {self.allowed()}, not {_shown(value)}")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is out of range; allowed: {self.allowed()}")
        return value

    def _allowed(self) -> str:
        words = "".join(f" or {word!r}" for word in self.words)
        return f"a whole number from {self.low} to {self.high}{words}"


class Number(Rule, frozen=True):
    """A finite number."""

    zero: bool = True
    negative: bool = True

    def _parse(self, value: object) -> float:
        number = _require_number(value)
        if number == 0 and not self.zero:
            raise ValueError("must not be 0")
        return number if self.negative else _require_not_negative(number)

    def _allowed(self) -> str:
        return "a number" + ("" if self.zero else ", not 0") + ("" if self.negative else ", not negative")


class Range(Rule, frozen=True):
    """Lowest and highest value: two numbers."""

    def _parse(self, value: object) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:
            found = f"{len(value)} in the list" if isinstance(value, list) else _shown(value)
            raise ValueError(f"expected two numbers, for example [0, 150], not {found}")
        low, high = (_require_number(item) for item in value)
        if not low < high:
            raise ValueError(f"the first number must be below the second: {low:g} is not below {high:g}")
        return low, high

    def _allowed(self) -> str:
        return "two numbers, the lower first"


class Deadband(Rule, frozen=True):
    """A number in engineering units, or a percentage of the range as text."""

    def _parse(self, value: object) -> float | Percent:
        percent = parse_percent(value)
        if percent is not None:
            if not 0 <= percent <= 100:
                raise ValueError(f"{value!r} is out of range; allowed: 0 % to 100 %")
            return Percent(percent)
        if isinstance(value, str):
            raise ValueError(
                f"expected a number or a percentage such as '1 %', not {_shown(value)}{_number_hint(value)}"
            )
        return _require_not_negative(value)

    def _allowed(self) -> str:
        return "a number, not negative, or a percentage of the range such as '1 %'"


class Duration(Rule, frozen=True):
    """A duration; bare numbers are seconds. Bounds are texts."""

    low: str
    high: str

    def _parse(self, value: object) -> int:
        time_ns = parse_duration_ns(value)
        if not parse_duration_ns(self.low) <= time_ns <= parse_duration_ns(self.high):
            shown = repr(value) if isinstance(value, str) else f"{value} (seconds, {format_duration(time_ns)!r})"
            raise ValueError(f"{shown} is out of range; allowed: {self.low} to {self.high}")
        return time_ns

    def _allowed(self) -> str:
        return f"a duration from {self.low} to {self.high}"


class Size(Rule, frozen=True):
    """A size; bare numbers are bytes."""

    low: int
    high: int

    def _parse(self, value: object) -> int:
        size_bytes = parse_size_bytes(value)
        if not self.low <= size_bytes <= self.high:
            raise ValueError(
                f"{_shown(value)} is out of range; allowed: {format_size(self.low)} to {format_size(self.high)}"
            )
        return size_bytes

    def _allowed(self) -> str:
        return f"a size from {format_size(self.low)} to {format_size(self.high)}"


class Choice(Rule, frozen=True):
    """One of some words."""

    words: tuple[str, ...]

    def _parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"expected one of {', '.join(self.words)}, not {_shown(value)}")
        if value not in self.words:
            raise ValueError(f"unknown value {value!r}{nearest(value, self.words)}")
        return value

    def _allowed(self) -> str:
        return "one of " + ", ".join(self.words)


class ListOf(Rule, frozen=True):
    """A list whose items all follow one rule."""

    item: Rule

    def _parse(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"expected a list in square brackets, not {_shown(value)}")
        return tuple(self.item.parse(item) for item in value)

    def _allowed(self) -> str:
        return f"a list, each {self.item.allowed()}"


class Bind(Rule, frozen=True):
    """A local ``host:port``; None for ``"off"`` where `off` allows it."""

    off: bool = False

    def _parse(self, value: object) -> Endpoint | None:
        text = _require_text(value)
        if self.off and text == "off":
            return None
        host, colon, port_text = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r}: put an IPv6 address in brackets, for example '[::1]:4840'")
        if not colon or not host or not port_text.isascii() or not port_text.isdigit():
            raise ValueError(f"{text!r} is not {self.allowed()}")
        if int(port_text) > _PORT_MAX:
            raise ValueError(f"port {port_text} is out of range; allowed: 0 to {_PORT_MAX}")
        return Endpoint(host, int(port_text))

    def _allowed(self) -> str:
        return "host:port, for example '127.0.0.1:4840'" + (", or 'off'" if self.off else "")


class Secret(Rule, frozen=True):
    """A reference to a secret; the secret itself is refused, since a configuration file is copied and mailed around."""

    def _parse(self, value: object) -> SecretRef:
        text = value if isinstance(value, str) else ""
        kind, colon, name = text.partition(":")
        if not colon or kind not in _SECRET_KINDS or not name:
            raise ValueError(f"expected {self.allowed()}; the secret itself does not belong into this file")
        return SecretRef(kind, name)

    def _allowed(self) -> str:
        return "'file:PATH', 'env:NAME' or 'cred:NAME'"


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text in quotes, not {_shown(value)}")
    return value


def _require_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, not {_shown(value)}{_number_hint(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("the number is too large") from None
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _require_not_negative(value: object) -> float:
    number = _require_number(value)
    if number < 0:
        raise ValueError(f"{number:g} must not be negative")
    return number


def _number_hint(value: object) -> str:
    if not isinstance(value, str):
        return ""
    if _NUMBER_TEXT.fullmatch(value):
        return "; leave out the quotes"
    return "; write the decimal point as a point" if _NUMBER_TEXT.fullmatch(value.replace(",", ".", 1)) else ""


def _shown(value: object) -> str:
    """A value as its file shows it, short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
