"""Topics from templates: ``bifrost/${gateway}/${device}``.

What a template may hold, and what becomes of it:

    ${gateway}   the gateway's name
    ${device}    the device
    ${group}     the group; a level of nothing but an empty group is left out
    ${tag}       the tag within its group; without ${group} in the template, group and tag: steam.temperature

A name never makes a level of its own and never a wildcard: ``/``, ``+``, ``#``, ``%`` and control characters in it are
written as ``%`` and two hexadecimal digits a byte of UTF-8, as in a URL, so that two names never share a topic.
Names from a configuration have none of these; names from other sources may.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

__all__ = ["TopicTemplate", "escape", "split_name"]

_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")
_NAMES: Final = ("gateway", "device", "group", "tag")
_TO_ESCAPE: Final = re.compile(r"[%/+#\x00-\x1f\x7f-\x9f]")  # MQTT 5.0, 4.7.1 and 1.5.4.
_REFUSED: Final = re.compile(r"[+#\x00-\x1f\x7f-\x9f]")
_TOPIC_BYTES_MAX: Final = 65_535  # MQTT 5.0, 1.5.4: a length of two bytes.
_NAME_BYTES_MAX: Final = 64 * 3  # CONTRACT, Names: 64 characters; each escaped takes three bytes.


class TopicTemplate:
    """A template whose gateway is known.

    Args:
        template: As configured.
        gateway: Name of the gateway.

    Attributes:
        is_per_tag: Whether each tag has a topic of its own.
        is_per_group: Whether each group has.

    Raises:
        ValueError: It can never be a topic: empty, a wildcard, a control character, an unknown placeholder, too long.
    """

    def __init__(self, template: str, gateway: str) -> None:
        names = _PLACEHOLDER.findall(template)
        unknown = [name for name in names if name not in _NAMES]
        if unknown:
            raise ValueError(f"unknown placeholder '${{{unknown[0]}}}'; allowed: {', '.join(_NAMES)}")
        literal = _PLACEHOLDER.sub("", template)
        refused = _REFUSED.search(literal)
        if refused:
            raise ValueError(f"{template!r} contains {refused.group()!r}, which a topic to publish to cannot have")
        if not template:
            raise ValueError("a topic must not be empty")
        if len(literal.encode()) + len(names) * 2 * _NAME_BYTES_MAX > _TOPIC_BYTES_MAX:
            raise ValueError(f"a topic has {_TOPIC_BYTES_MAX} bytes at most")
        self.is_per_tag = "tag" in names
        self.is_per_group = "group" in names
        filled = template.replace("${gateway}", escape(gateway))
        self._levels = [_PLACEHOLDER.split(level) for level in filled.split("/")]

    def topic(self, device: str, group: str, tag: str) -> str:
        """The topic of a tag; `group` empty: none. Names that the template does not use change nothing."""
        if not self.is_per_group and group:
            tag = f"{group}.{tag}"
        names = {"device": escape(device), "group": escape(group), "tag": escape(tag)}
        levels = (_filled(level, names) for level in self._levels)
        return "/".join(level for level in levels if level is not None)


def _filled(level: list[str], names: dict[str, str]) -> str | None:
    """A level, which `re.split` left as literals with names between them; None: it is to be left out."""
    if level == ["", "group", ""] and not names["group"]:
        return None
    return "".join(names[part] if index % 2 else part for index, part in enumerate(level))


def escape(name: str) -> str:
    """`name` as a part of one topic level."""
    return _TO_ESCAPE.sub(lambda found: quote(found.group(), safe=""), name)


def split_name(full_name: str) -> tuple[str, str, str]:
    """Device, group and tag of a full name; the group may be empty."""
    device, _, rest = full_name.partition(".")
    group, dot, tag = rest.partition(".")
    return (device, group, tag) if dot else (device, "", rest)
