"""The quarantine of one uplink: copies of messages that the destination will never take, for a person to look at.

One JSON object a line, ``{"time", "sequence", "topic", "reason", "payload"}``; a payload that is no UTF-8 is in base64,
as ``payload_base64``. The file never grows beyond its limit: what no longer fits is counted and not kept, since the first
messages say as much as the next thousand. Somebody who has looked deletes the file, also while the gateway runs.
"""

from __future__ import annotations

import os
from base64 import b64encode

import msgspec

from bifrost.core.clock import format_time_ns
from bifrost.core.contracts import Record
from bifrost.core.secrets import SECRETS

__all__ = ["Quarantine"]

_MODE = 0o640


class Quarantine:
    """Files are opened only when there is something to write.

    Args:
        path: The file; its directory is made when it is needed.
        bytes_max: Size of the file at most.

    Attributes:
        kept_count: Messages written since start.
        skipped_count: Messages that did not fit, or could not be written.
    """

    def __init__(self, path: str, bytes_max: int) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self.kept_count = 0
        self.skipped_count = 0

    def keep(self, record: Record, reason: str, utc_ns: int) -> bool:
        """Writes a copy of `record`; False when it did not fit or the disk refused, which loses only the copy."""
        line = _line(record, reason, utc_ns)
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, _MODE)
            try:
                is_kept = os.fstat(descriptor).st_size + len(line) <= self._bytes_max
                if is_kept:
                    os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError:
            is_kept = False
        self.kept_count += is_kept
        self.skipped_count += not is_kept
        return is_kept


def _line(record: Record, reason: str, utc_ns: int) -> bytes:
    try:
        payload = {"payload": record.payload.decode()}
    except UnicodeDecodeError:
        payload = {"payload_base64": b64encode(record.payload).decode()}
    frame = {
        "time": format_time_ns(utc_ns),
        "sequence": record.sequence,
        "topic": record.topic,
        "reason": SECRETS.redacted(reason),
    }
    return msgspec.json.encode(frame | payload) + b"\n"
