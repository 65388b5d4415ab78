"""One blocking connection to one Modbus unit, for commands that look at a device before there is a configuration."""

from __future__ import annotations

import socket
import time
from types import TracebackType
from typing import Self

from bifrost.core.errors import ConnectError
from bifrost.plc.modbus import frame

__all__ = ["ModbusLink"]


class ModbusLink:
    """A connection to one unit, one request at a time; a context manager.

    Args:
        host: Name or address.
        port: TCP port.
        unit: Unit id, 0 to 255.
        timeout_s: Longest wait for the connection and for each answer, in seconds.

    Raises:
        ConnectError: The host takes no connection.
    """

    def __init__(self, host: str, port: int, unit: int, timeout_s: float) -> None:
        try:
            self._connection = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise ConnectError(f"takes no connection: {error.strerror or error}") from error
        self._unit = unit
        self._timeout_s = timeout_s
        self._transaction = 0
        self._received = bytearray()

    def ask(self, pdu: bytes) -> bytes | None:
        """The answer PDU, or None when there is none in time; what does not belong to the request is dropped."""
        self._transaction = (self._transaction + 1) % 0x10000
        deadline_s = time.monotonic() + self._timeout_s
        try:
            self._connection.sendall(frame.encode_adu(self._transaction, self._unit, pdu))
            while (left_s := deadline_s - time.monotonic()) > 0:
                status, header = frame.next_frame(self._received)
                if status is frame.FrameStatus.WRONG_LENGTH:
                    return None
                if header is not None:
                    end = frame.LENGTH_END + header.length
                    answer = bytes(self._received[frame.MBAP_BYTES : end])
                    del self._received[:end]
                    if header[:2] == (self._transaction, 0) and header.unit == self._unit:
                        return answer
                    continue
                self._connection.settimeout(left_s)
                data = self._connection.recv(frame.ADU_BYTES_MAX)
                if not data:
                    return None
                self._received += data
        except OSError:
            return None
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
