"""What stands between outbox and connector: samples as columns, and the encoder that makes messages of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bifrost.core.contracts import Record
from bifrost.core.tag import Value

__all__ = ["Encoder", "Origin", "Samples", "identity"]


class Origin(NamedTuple):
    """Where messages come from.

    Attributes:
        gateway: Name of the gateway.
        stream: Name of the stream, which is that of its uplink.
        store: Id of the journal, so that a journal that was begun anew cannot be mistaken for the old one.
    """

    gateway: str
    stream: str
    store: str


class Samples(NamedTuple):
    """The samples of one batch, as columns of equal length, in the order of the change ring.

    Attributes:
        tags: Full names, `device.tag` or `device.group.tag`. Names, since ids do not outlive a process.
        values: In engineering units; None: the value was lost.
        statuses: StatusCodes.
        source_times_ns: UTC, nanoseconds since 1970.
        server_times_ns: UTC, nanoseconds since 1970.
        unsynchronised: Non-zero where the clock was not synchronised; empty: it always was.
    """

    tags: Sequence[str]
    values: Sequence[Value]
    statuses: Sequence[int]
    source_times_ns: Sequence[int]
    server_times_ns: Sequence[int]
    unsynchronised: Sequence[int] = b""


class Encoder(Protocol):
    """Makes messages of samples. Pure: the same samples always give the same messages.

    Attributes:
        message_bytes_max: Longest message, unless a single sample is longer; may change between two batches.
    """

    message_bytes_max: int

    def encode(self, sequence: int, samples: Samples) -> list[Record]:
        """The messages of one batch; the `samples_count` of all of them make up the samples.

        Samples of one tag stay in order.

        Args:
            sequence: Number of the first message in its stream; the others have the numbers after it.
            samples: One sample or more.
        """
        ...


def identity(origin: Origin, sequence: int) -> str:
    """`Record.identity`: ``store/stream/sequence``."""
    return f"{origin.store}/{origin.stream}/{sequence}"
