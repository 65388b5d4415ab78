"""A connected socket, with TLS if asked for: the blocking steps that `dial` runs in its thread."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from bifrost.bridge.connectors.dial import Attempt

__all__ = ["connect"]

_UNSENT_BYTES_MAX: Final = 64 << 10
_TIMEOUT_MIN_S: Final = 0.01


def connect(
    attempt: Attempt, host: str, port: int, timeout_s: float, make_context: Callable[[], ssl.SSLContext] | None
) -> socket.socket:
    """Looks up, connects, and shakes hands if there is a context. Blocks; each wait ends with the time limit.

    With several addresses each gets its share of the time that is left.

    Args:
        attempt: Is told what happens and where to cut.
        host: Name or address.
        port: 1 to 65,535.
        timeout_s: Time for all of it, but for the lookup.
        make_context: Makes the TLS context; None: no TLS.

    Raises:
        OSError: No address took the connection (the last one's error), or TLS failed.
        UnicodeError: The name cannot be one.
        ConfigError: From `make_context`.
    """
    context = make_context() if make_context is not None else None
    attempt.stage = f"looking up {host}"
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    deadline_s = time.monotonic() + timeout_s
    connection: socket.socket | None = None
    for index, (family, kind, protocol, _, address) in enumerate(found):
        share_s = (deadline_s - time.monotonic()) / (len(found) - index)
        attempt.stage = f"connecting to {address[0]}"
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(share_s, _TIMEOUT_MIN_S))
            attempt.hold(connection)
            connection.connect(address)
            break
        except OSError:
            connection.close()
            if index == len(found) - 1:
                raise
    assert connection is not None  # getaddrinfo gives one address at least.
    try:
        _set_options(connection, timeout_s)
        return connection if context is None else _secure(attempt, connection, context, host, deadline_s)
    except BaseException:
        connection.close()
        raise


def _set_options(connection: socket.socket, timeout_s: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that vanished is noticed even while the kernel still takes bytes; tcp(7).
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))
    # Else megabytes wait in the kernel at a slow line, and nobody sees whether they move.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)


def _secure(
    attempt: Attempt, connection: socket.socket, context: ssl.SSLContext, host: str, deadline_s: float
) -> ssl.SSLSocket:
    attempt.stage = "shaking hands for TLS"
    secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    try:
        secured.settimeout(max(deadline_s - time.monotonic(), _TIMEOUT_MIN_S))
        attempt.hold(secured)
        secured.do_handshake()
    except BaseException:
        secured.close()
        raise
    return secured
