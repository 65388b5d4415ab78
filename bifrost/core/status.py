"""Quality as OPC UA StatusCodes: the codes Bifrost sets, their names, and what they mean for a reader.

One vocabulary from the device to the payload. Source of numbers: OPC UA Part 6 v1.05, Annex A.2 (StatusCodes.csv).
"""

from __future__ import annotations

from enum import IntEnum

from bifrost.core.status_names import STATUS_NAMES

__all__ = ["StatusCode", "is_bad", "is_good", "status_name"]


class StatusCode(IntEnum):
    """The StatusCodes that Bifrost itself sets, by the standard's symbolic names, camel case as in payloads."""

    Good = 0x00000000
    UncertainNoCommunicationLastUsableValue = 0x408F0000
    UncertainEngineeringUnitsExceeded = 0x40940000
    BadInternalError = 0x80020000
    BadDecodingError = 0x80070000
    BadCommunicationError = 0x80050000
    BadTimeout = 0x800A0000
    BadShutdown = 0x800C0000
    BadTooManyOperations = 0x80100000
    BadUserAccessDenied = 0x801F0000
    BadSessionClosed = 0x80260000
    BadRequestCancelledByClient = 0x802C0000
    BadNoCommunication = 0x80310000
    BadWaitingForInitialData = 0x80320000
    BadNodeIdUnknown = 0x80340000
    BadNotWritable = 0x803B0000
    BadOutOfRange = 0x803C0000
    BadNotSupported = 0x803D0000
    BadTypeMismatch = 0x80740000
    BadConfigurationError = 0x80890000
    BadNotConnected = 0x808A0000
    BadDeviceFailure = 0x808B0000
    BadResourceUnavailable = 0x80040000
    BadSecureChannelClosed = 0x80860000
    BadDataLost = 0x809D0000


_SEVERITY_MASK = 0xC0000000  # Two severity bits: 00 good, 01 uncertain, 10 bad; OPC UA Part 4 v1.05, 7.39.1.
_CODE_MASK = 0xFFFF0000  # Below are flags: overflow, limits, structure changed.


def is_good(status: int) -> bool:
    """Whether the two severity bits say good (OPC UA Part 4 v1.05, 7.39.1)."""
    return status & _SEVERITY_MASK == 0


def is_bad(status: int) -> bool:
    """Whether the severity says bad (the reserved pattern 11 counts as bad)."""
    return status & 0x80000000 != 0


def status_name(status: int) -> str:
    """Symbolic name of `status`, as it stands in payloads, whatever its flags; ``0x8FFF0000`` for one the standard has not."""
    return STATUS_NAMES.get(status & _CODE_MASK) or f"0x{status:08X}"
