"""The payload ``uns``: a Unified Namespace, in which each tag has a topic of its own and each message one value.

A subscriber finds a value by walking the tree of topics (site, line, device, group, tag), so the message itself says
only what the path does not: value, quality, time. A template without ``${tag}`` gets ``/${group}/${tag}`` appended.
"""

from __future__ import annotations

import msgspec

from bifrost.bridge.transformers.json import CONTENT_TYPE
from bifrost.bridge.transformers.samples import Origin, Samples, identity
from bifrost.bridge.transformers.times import TimeText
from bifrost.bridge.transformers.topics import TopicTemplate, split_name
from bifrost.core.contracts import Record
from bifrost.core.status import status_name
from bifrost.core.tag import Value

__all__ = ["UnsEncoder"]


class _Message(msgspec.Struct, omit_defaults=True):
    """One message."""

    value: Value
    quality: str
    source_time: str
    clock: str = ""


class UnsEncoder:
    """Encodes as ``uns``.

    Args:
        origin: Where the messages come from.
        topic: Template of the path.
        message_bytes_max: Without effect: a message holds one sample.

    Raises:
        ValueError: The template cannot be a topic.
    """

    def __init__(self, origin: Origin, topic: str, message_bytes_max: int) -> None:
        self.message_bytes_max = message_bytes_max
        if "${tag}" not in topic:
            topic += "/${tag}" if "${group}" in topic else "/${group}/${tag}"
        self._origin = origin
        self._template = TopicTemplate(topic, origin.gateway)
        self._time = TimeText()
        self._json = msgspec.json.Encoder()

    def encode(self, sequence: int, samples: Samples) -> list[Record]:
        """As `Encoder.encode`: a message a sample, in their order."""
        marks = samples.unsynchronised or bytes(len(samples.tags))
        records = []
        columns = zip(*samples[:4], marks, strict=True)
        for number, (full_name, value, status, source_ns, mark) in enumerate(columns, sequence):
            clock = "unsynchronised" if mark else ""
            message = _Message(value, status_name(status), self._time.format(source_ns), clock)
            topic = self._template.topic(*split_name(full_name))
            name = identity(self._origin, number)
            records.append(Record(number, self._json.encode(message), topic, name, CONTENT_TYPE))
        return records
