"""The payload ``json``: one message for each device and batch, or for each topic where the template holds more.

Source: CONTRACT, JSON payload. NaN and infinities are ``null``, since JSON has no such numbers; their quality says why.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bifrost.bridge.transformers.samples import Origin, Samples, identity
from bifrost.bridge.transformers.times import TimeText
from bifrost.bridge.transformers.topics import TopicTemplate, split_name
from bifrost.core.contracts import Record
from bifrost.core.status import status_name
from bifrost.core.tag import Value

__all__ = ["CONTENT_TYPE", "JsonEncoder"]

CONTENT_TYPE: Final = "application/json"
_UNSYNCHRONISED: Final = "unsynchronised"
_END: Final = b"]}"


class _Sample(msgspec.Struct, omit_defaults=True):
    """One sample as it stands in the message."""

    tag: str
    value: Value
    quality: str
    source_time: str
    server_time: str
    clock: str = ""


class _Head(msgspec.Struct):
    """What a message begins with."""

    gateway: str
    device: str
    stream: str
    seq: int


class _Message:
    """A message that is being filled."""

    def __init__(self, device: str, topic: str) -> None:
        self.device = device
        self.topic = topic
        self.samples: list[bytes] = []
        self.samples_bytes = 0


class JsonEncoder:
    """Encodes as ``json``.

    Args:
        origin: Where the messages come from.
        topic: Template.
        message_bytes_max: Longest message, unless a single sample is longer.

    Raises:
        ValueError: The template cannot be a topic.
    """

    def __init__(self, origin: Origin, topic: str, message_bytes_max: int) -> None:
        self._origin = origin
        self._template = TopicTemplate(topic, origin.gateway)
        self.message_bytes_max = message_bytes_max
        self._time = TimeText()
        self._json = msgspec.json.Encoder()

    def encode(self, sequence: int, samples: Samples) -> list[Record]:
        """As `Encoder.encode`."""
        return [
            self._record(number, message) for number, message in enumerate(self._messages(sequence, samples), sequence)
        ]

    def _messages(self, sequence: int, samples: Samples) -> list[_Message]:
        """The samples, encoded and sorted into messages."""
        messages: list[_Message] = []
        current: dict[tuple[str, str, str], _Message] = {}
        room: dict[str, int] = {}
        template = self._template
        groups, tags = template.is_per_group or template.is_per_tag, template.is_per_tag
        for full_name, encoded in zip(samples.tags, self._samples(samples), strict=True):
            device, group, tag = split_name(full_name)
            key = (device, group if groups else "", tag if tags else "")
            message = current.get(key)
            if message is not None and message.samples_bytes + len(encoded) > room[device]:
                message = None
            if message is None:
                if device not in room:
                    room[device] = (
                        self.message_bytes_max - len(self._head(device, sequence + len(samples.tags))) - len(_END)
                    )
                message = current[key] = _Message(device, template.topic(device, group, tag))
                messages.append(message)
            message.samples.append(encoded)
            message.samples_bytes += len(encoded) + 1
        return messages

    def _samples(self, samples: Samples) -> list[bytes]:
        """Each sample as it stands in a message; all by one call, since a line break in JSON is never in a text."""
        time = self._time.format
        marks = samples.unsynchronised or bytes(len(samples.tags))
        rows = [
            _Sample(
                full_name.partition(".")[2],
                value,
                status_name(status),
                time(source_ns),
                time(server_ns),
                _UNSYNCHRONISED if mark else "",
            )
            for full_name, value, status, source_ns, server_ns, mark in zip(*samples[:5], marks, strict=True)
        ]
        return self._json.encode_lines(rows).splitlines()

    def _head(self, device: str, sequence: int) -> bytes:
        head = self._json.encode(_Head(self._origin.gateway, device, self._origin.stream, sequence))
        return head[:-1] + b',"samples":['

    def _record(self, sequence: int, message: _Message) -> Record:
        payload = self._head(message.device, sequence) + b",".join(message.samples) + _END
        name = identity(self._origin, sequence)
        return Record(sequence, payload, message.topic, name, CONTENT_TYPE, len(message.samples))
