"""A message in the journal: what the connector needs besides the payload, in front of it.

    version 1 byte = 1 | length of the topic 2 bytes | length of the content type 1 byte | topic | content type | payload

Numbers are little-endian, texts UTF-8. The message's identity is not stored: store, stream and sequence make it. A record
of no bytes is void: it has a number and samples, and a message that no record could hold (a copy may be in the quarantine).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from bifrost.core.contracts import Record

if TYPE_CHECKING:
    from bifrost._native.journal_records import JournalRecord

__all__ = ["ENVELOPE_BYTES_MAX", "VOID", "open_envelope", "seal"]

_HEAD: Final = struct.Struct("<BHB")
_VERSION: Final = 1
_TOPIC_BYTES_MAX: Final = 65_535  # MQTT 5.0, 1.5.4.
_CONTENT_TYPE_BYTES_MAX: Final = 255

VOID: Final = b""
"""What is kept of a message that is too long to be kept."""

ENVELOPE_BYTES_MAX: Final = 1024
"""Bytes that the journal keeps free for it beside the longest payload; a longer one leaves less to the payload."""


def seal(record: Record) -> bytes:
    """What the journal keeps of a message.

    Raises:
        ValueError: Topic or content type are too long.
    """
    topic, content_type = record.topic.encode(), record.content_type.encode()
    if len(topic) > _TOPIC_BYTES_MAX or len(content_type) > _CONTENT_TYPE_BYTES_MAX:
        raise ValueError(f"a topic of {len(topic)} bytes, a content type of {len(content_type)}")
    head = _HEAD.pack(_VERSION, len(topic), len(content_type))
    return b"".join((head, topic, content_type, record.payload))


def open_envelope(kept: JournalRecord, store: str, stream: str) -> Record:
    """The message that a journal record holds.

    Args:
        kept: As it was read.
        store: Id of the journal, and
        stream: name of the record's stream, both for the identity.

    Raises:
        ValueError: It holds none: a later version wrote it.
    """
    data = kept.payload
    if len(data) < _HEAD.size:
        raise ValueError(f"record {kept.sequence} of {len(data)} bytes is no message")
    version, topic_bytes, content_type_bytes = _HEAD.unpack_from(data)
    start = _HEAD.size + topic_bytes
    end = start + content_type_bytes
    if version != _VERSION or len(data) < end:
        raise ValueError(f"record {kept.sequence} is of version {version}, which this version cannot read")
    return Record(
        kept.sequence,
        data[end:],
        data[_HEAD.size : start].decode(),
        f"{store}/{stream}/{kept.sequence}",
        data[start:end].decode(),
        kept.samples,
    )
