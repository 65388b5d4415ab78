"""From samples to messages: one encoder a payload, and the topics that messages go to.

An encoder is pure: it knows names and values, but no connection, no clock and no disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bifrost.bridge.transformers.json import JsonEncoder
from bifrost.bridge.transformers.samples import Encoder, Origin, Samples
from bifrost.bridge.transformers.topics import TopicTemplate
from bifrost.bridge.transformers.uns import UnsEncoder
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.errors import ConfigError

__all__ = ["Encoder", "JsonEncoder", "Origin", "Samples", "TopicTemplate", "UnsEncoder", "make_encoder"]

_ENCODERS: Final[Mapping[str, Callable[[Origin, str, int], Encoder]]] = {"json": JsonEncoder, "uns": UnsEncoder}


def make_encoder(uplink: UplinkConfig, gateway: str, store: str) -> Encoder:
    """The encoder that an uplink asks for.

    Args:
        uplink: Its section of the configuration.
        gateway: Name of the gateway.
        store: Id of the journal; with stream and sequence it identifies a record.

    Raises:
        ConfigError: The topic cannot be one.
    """
    origin = Origin(gateway, uplink.name, store)
    try:
        return _ENCODERS[uplink.payload](origin, uplink.topic, uplink.batch_bytes_max)
    except ValueError as error:
        raise ConfigError(str(error), key=f"uplink.{uplink.name}.topic") from error
