"""Every error Bifrost raises, in one tree.

The class tells the supervisor what to do next (retry, reconnect, give up, tell the user); that is the only reason to
add one. A bad *value* is never an exception: the tag gets a bad quality and the scan goes on.
"""

from __future__ import annotations

__all__ = [
    "AddressError",
    "BifrostError",
    "ClosedError",
    "ConfigError",
    "ConnectError",
    "DeviceError",
    "LimitError",
    "NoAnswerError",
    "ProtocolError",
    "StorageError",
    "TransportError",
]


class BifrostError(Exception):
    """Root of all errors raised on purpose by Bifrost."""


class ConfigError(BifrostError):
    """The user wrote something impossible.

    Args:
        message: What is wrong and what would be right, without the place.
        file: Path as the user typed it; None for settings from the environment.
        line: 1-based line in `file`; None when unknown.
        key: Dotted key, for example ``device.boiler.tag.temperature.type``; None when the file itself is unreadable.
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        self.message = message
        self.file = file
        self.line = line
        self.key = key
        place = ":".join(str(part) for part in (file, line) if part is not None)
        parts = [part for part in (place, key, message) if part]
        super().__init__(": ".join(parts))


class AddressError(BifrostError):
    """A tag address that the protocol cannot have. The message names the address and a spelling that would be right."""


class LimitError(BifrostError):
    """A stated limit was reached.

    Args:
        name: Name of the limit in `core.limits`, for example ``memory_bytes_max``.
        value: The limit's value, in the unit its name ends with.
        message: What was asked for and what to change.
    """

    def __init__(self, name: str, value: float, message: str) -> None:
        self.name = name
        self.value = value
        super().__init__(
            f"{message} (limit {name} = {value:g})"
            if isinstance(value, float)
            else f"{message} (limit {name} = {value})"
        )


class TransportError(BifrostError):
    """The wire failed; a later try may succeed."""


class ConnectError(TransportError):
    """No connection could be made: refused, unreachable, name unknown, or not in time."""


class NoAnswerError(TransportError):
    """The peer did not answer in time."""


class ClosedError(TransportError):
    """The connection closed while an answer was due."""


class ProtocolError(BifrostError):
    """The peer broke the standard. The message holds the bytes and the clause; the connection is to be closed."""


class DeviceError(BifrostError):
    """The device understood the request and said no; asking again would not help.

    Args:
        status: OPC UA StatusCode that the answer maps to.
        message: The device's own words: exception code and name.
        code: The protocol's own error code, for example a Modbus exception code; 0 when there is none.
    """

    def __init__(self, status: int, message: str, *, code: int = 0) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class StorageError(BifrostError):
    """The disk failed: full, corrupt, or not writable. The message says what was kept."""
