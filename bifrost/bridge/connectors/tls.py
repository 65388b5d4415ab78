"""TLS of a connection to a broker: a context from certificates that may come from anywhere, and errors in words.

Certificates and keys are texts (PEM), since a secret may be a file, a variable or a systemd credential. OpenSSL takes
its own certificate from a file only; it gets one in memory, so that a key never touches the disk.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from bifrost.core.errors import ConfigError

__all__ = ["explain", "make_context"]

_NOT_YET_VALID: Final = 9  # X509_V_ERR_…; OpenSSL 3.0, x509_vfy.h.
_EXPIRED: Final = 10
_UNKNOWN_ISSUER: Final = frozenset({18, 19, 20, 21})
_ALERT: Final = "_ALERT_"


def make_context(
    ca: str | None = None, cert: str | None = None, key: str | None = None, alpn: Sequence[str] = ()
) -> ssl.SSLContext:
    """A client's context: TLS 1.2 or later, the peer's certificate and name are checked. May read the system's store.

    Args:
        ca: Certificates that are trusted, PEM; None: the system's.
        cert: Own certificate with its chain, PEM; None: none.
        key: Its private key, PEM, not encrypted; None: it stands in `cert` too.
        alpn: Protocols offered, the preferred one first.

    Raises:
        ConfigError: Something of it is no PEM, or key and certificate do not belong together.
    """
    context = ssl.create_default_context() if ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None:
        try:
            context.load_verify_locations(cadata=ca)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"no certificates in PEM form: {_reason(error)}", key="ca") from error
    if cert is not None:
        with _in_memory(cert) as cert_path, _in_memory(key or cert) as key_path:
            try:
                context.load_cert_chain(cert_path, key_path, password=lambda: "")  # Else OpenSSL asks at the terminal.
            except (ssl.SSLError, ValueError) as error:
                message = f"certificate and key cannot be used: {_reason(error)}; the key must not be encrypted"
                raise ConfigError(message, key="cert") from error
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def explain(error: OSError) -> str:
    """Why a connection failed, in words for the person who has to mend it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = ""
        if error.verify_code in {_NOT_YET_VALID, _EXPIRED}:
            hint = f" (the clock of this machine says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC)"
        elif error.verify_code in _UNKNOWN_ISSUER:
            hint = " (name its authority with `ca`)"
        return f"the broker's certificate is refused: {error.verify_message.rstrip('.')}{hint}"
    if isinstance(error, ssl.SSLError):
        reason = str(getattr(error, "reason", None) or "")
        if _ALERT in reason:
            return f"the broker ended TLS: {reason.partition(_ALERT)[2].replace('_', ' ').lower()}"
        return f"TLS failed: {_reason(error)}"
    return error.strerror or str(error) or type(error).__name__


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower()


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """The path of a file that has no place on any disk."""
    descriptor = os.memfd_create("bifrost")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
