"""What a certificate says: just enough of X.509 to show one to a person and to read our own ApplicationUri.

Nothing here decides about trust: that is the server's, which checks signatures, times and folders itself. Pure; any bytes
give a `Certificate` or a ValueError. Source: RFC 5280, 4.1; ITU-T X.690 (DER).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

__all__ = ["Certificate", "certificate_der", "key_fits", "parse_certificate"]

_SEQUENCE: Final = 0x30
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_VERSION: Final = 0xA0  # [0], explicit; RFC 5280, 4.1.
_EXTENSIONS: Final = 0xA3  # [3], explicit.
_DNS_NAME: Final = 0x82  # GeneralName [2]; RFC 5280, 4.2.1.6.
_URI: Final = 0x86  # GeneralName [6].
_COMMON_NAME: Final = bytes.fromhex("550403")  # 2.5.4.3
_ORGANIZATION: Final = bytes.fromhex("55040a")  # 2.5.4.10
_SUBJECT_ALT_NAME: Final = bytes.fromhex("551d11")  # 2.5.29.17
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_PEM_KEY: Final = re.compile(rb"-----BEGIN (?:RSA )?PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END")
_MODULUS_BYTES_MIN: Final = 128
_PARTS_MAX: Final = 64  # Elements looked at on one level; real certificates have a tenth of it.


class Certificate(NamedTuple):
    """One certificate as people see it.

    Attributes:
        subject: Common name, and organization if there is one: ``UaExpert (Example AG)``.
        uri: ApplicationUri from the subject's alternative names; empty if there is none.
        hosts: DNS names from there.
        not_before: When it begins to be valid.
        not_after: When it ends.
        thumbprint: SHA-1 in hex, the name that OPC UA tools show (OPC 10000-6, 6.2.2).
        is_self_signed: Whether issuer and subject are the same.
    """

    subject: str
    uri: str
    hosts: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    thumbprint: str
    is_self_signed: bool


def certificate_der(content: bytes) -> bytes:
    """The first certificate in `content`, which is DER or PEM, as DER. Raises ValueError."""
    found = _PEM.search(content)
    if found is None:
        return content
    try:
        return base64.b64decode(b"".join(found[1].split()), validate=True)
    except binascii.Error as error:
        raise ValueError("the PEM text is damaged") from error


def parse_certificate(der: bytes) -> Certificate:
    """What the certificate `der` says. Raises ValueError if it is none."""
    try:
        return _parse(der)
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        raise ValueError("not an X.509 certificate in DER") from error


def key_fits(certificate: bytes, key: bytes) -> bool:
    """Whether the RSA key `key` belongs to `certificate`, which is DER: the modulus of one is in the other.

    The key is DER or PEM, bare or in PKCS #8, without a password. Raises ValueError if it is none. Source: RFC 8017, A.1.2;
    RFC 5958, 2.
    """
    found = _PEM_KEY.search(key)
    try:
        parts = list(_parts(_first(base64.b64decode(found[1]) if found else key, _SEQUENCE)))
        if parts[1][0] == _SEQUENCE:  # PKCS #8: version, algorithm, and the key as a text of bytes.
            parts = list(_parts(_first(parts[2][1], _SEQUENCE)))
        modulus = parts[1][1]
    except (IndexError, StopIteration, ValueError) as error:
        raise ValueError("not a private RSA key in DER") from error
    return len(modulus) >= _MODULUS_BYTES_MIN and modulus in certificate


def _parse(der: bytes) -> Certificate:
    whole = _first(der, _SEQUENCE)
    fields = list(_parts(_first(whole, _SEQUENCE)))
    if fields[0][0] == _VERSION:
        fields = fields[1:]
    # serial number, signature, issuer, validity, subject, public key, then optional ones
    issuer, validity, subject = fields[2][1], fields[3][1], fields[4][1]
    extensions = next((content for tag, content in fields[6:] if tag == _EXTENSIONS), b"")
    times = [_time(tag, content) for tag, content in _parts(validity)]
    names = list(_alternative_names(extensions)) if extensions else []
    return Certificate(
        subject=_subject(subject),
        uri=next((text for tag, text in names if tag == _URI), ""),
        hosts=tuple(text for tag, text in names if tag == _DNS_NAME),
        not_before=times[0],
        not_after=times[1],
        thumbprint=hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        is_self_signed=issuer == subject,
    )


def _subject(name: bytes) -> str:
    texts: dict[bytes, str] = {}
    for _, relative in _parts(name):
        for _, pair in _parts(relative):
            (_, kind), (_, text) = list(_parts(pair))[:2]
            texts[kind] = text.decode("utf-8", "replace")
    common, organization = texts.get(_COMMON_NAME, ""), texts.get(_ORGANIZATION, "")
    return f"{common} ({organization})" if organization and organization != common else common


def _alternative_names(extensions: bytes) -> Iterator[tuple[int, str]]:
    for _, extension in _parts(_first(extensions, _SEQUENCE)):
        items = list(_parts(extension))
        if items[0][1] == _SUBJECT_ALT_NAME:
            for tag, name in _parts(_first(items[-1][1], _SEQUENCE)):
                if tag in (_DNS_NAME, _URI):
                    yield tag, name.decode("ascii")


def _time(tag: int, content: bytes) -> datetime:
    """UTCTime or GeneralizedTime, both with seconds and Z; RFC 5280, 4.1.2.5."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not an X.509 certificate in DER: its times are of another kind")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _first(data: bytes, tag: int) -> bytes:
    found, content = next(_parts(data))
    if found != tag:
        raise ValueError(f"not an X.509 certificate in DER: tag {found:#x} instead of {tag:#x}")
    return content


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of the elements in `data`; tags of one byte, definite lengths up to four bytes."""
    position = 0
    for _ in range(_PARTS_MAX):
        if position >= len(data):
            return
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            length_bytes = length & 0x7F
            if not 1 <= length_bytes <= 4:
                raise ValueError("not an X.509 certificate in DER: a length is impossible")
            length = int.from_bytes(data[position : position + length_bytes], "big")
            position += length_bytes
        if position + length > len(data):
            raise ValueError("not an X.509 certificate in DER: it is cut short")
        yield tag, data[position : position + length]
        position += length
    raise ValueError("not an X.509 certificate in DER: it has too many parts")
