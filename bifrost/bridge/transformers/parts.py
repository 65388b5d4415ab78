"""Messages in parts: a record that was written before anybody knew how little the destination takes.

New messages are made no longer than the destination takes; what is in the journal may be longer. A message of the payload
``json`` is then sent as several, each with some of its samples in their order, the same ``seq``, and ``first``: the place of
its first sample in the whole, from 0 on. The identity says first and last. So two parts with the same identity are the
same, however often the record was cut anew; a sample is known by ``seq`` and its place.
"""

from __future__ import annotations

import msgspec

from bifrost.bridge.transformers.json import CONTENT_TYPE
from bifrost.core.contracts import Record

__all__ = ["split"]

_END = b"]}"


class _Message(msgspec.Struct):
    """A message of the payload ``json``, as it was encoded."""

    gateway: str
    device: str
    stream: str
    seq: int
    samples: list[msgspec.Raw]


class _Head(msgspec.Struct):
    """What a part begins with."""

    gateway: str
    device: str
    stream: str
    seq: int
    first: int


def split(record: Record, payload_bytes_max: int) -> list[Record]:
    """`record` as parts that are not longer than `payload_bytes_max`, unless a single sample is.

    Itself, if it is short enough, holds one sample, or is no such message.
    """
    if len(record.payload) <= payload_bytes_max or record.content_type != CONTENT_TYPE or record.samples_count == 1:
        return [record]
    try:
        message = msgspec.json.decode(record.payload, type=_Message)
    except msgspec.DecodeError:
        return [record]
    parts: list[Record] = []
    first, samples = 0, list[bytes]()
    room = length = payload_bytes_max - len(_head(message, len(message.samples))) - len(_END)
    for raw in message.samples:
        sample = bytes(raw)
        if samples and len(sample) > room:
            parts.append(_part(record, message, first, samples))
            first, samples, room = first + len(samples), [], length
        samples.append(sample)
        room -= len(sample) + 1
    parts.append(_part(record, message, first, samples))
    return parts


def _head(message: _Message, first: int) -> bytes:
    head = msgspec.json.encode(_Head(message.gateway, message.device, message.stream, message.seq, first))
    return head[:-1] + b',"samples":['


def _part(record: Record, message: _Message, first: int, samples: list[bytes]) -> Record:
    payload = _head(message, first) + b",".join(samples) + _END
    identity = f"{record.identity}/{first}-{first + len(samples) - 1}"
    return record._replace(payload=payload, identity=identity, samples_count=len(samples))
