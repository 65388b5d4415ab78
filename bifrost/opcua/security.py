"""Who may connect: the PKI folders with the server's own certificate, and which policies are offered where.

    pki/own/certificate.der, key.der    the server's; made at the first start
    pki/trusted/                        certificates of clients that may connect; moving a file here trusts it at once
    pki/issuers/, pki/revoked/          certificate authorities behind trusted ones, and their revocation lists
    pki/rejected/                       what was refused, for a person to look at; a bounded number
    pki/users.toml                      users (`opcua.users`)

The folders are read again at each handshake, so there is nothing to reload. The private key and the users are readable
by the gateway's user only.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bifrost.core.background import in_background
from bifrost.core.errors import ConfigError, StorageError
from bifrost.opcua.certificate import Certificate, certificate_der, key_fits, parse_certificate

if TYPE_CHECKING:
    from bifrost.core.config_sections import OpcUaConfig

__all__ = ["FOLDERS", "Access", "Listed", "Pki", "access_of", "application_uri", "certificate_days"]

FOLDERS: Final = ("trusted", "issuers", "revoked", "rejected")
"""Below `pki/`, besides ``own``."""
POLICY_NONE: Final = "None"

_CERTIFICATE_BYTES_MAX: Final = 65_536
_CERTIFICATE_DAYS: Final = 3_650  # Clients trust it by hand; a short life would stop plants and protect nobody.
_CLOCK_SET: Final = datetime(
    2026, 1, 1, tzinfo=UTC
)  # A clock that says less was not set yet: a board without a battery.
_ANEW: Final = "; move {} away and restart to have both made anew, which clients then have to trust again"
_FILES_MAX: Final = 1_000  # Of one folder; more are not shown.
_THUMBPRINT = re.compile(r"[0-9a-fA-F]{4,40}")
_NOT_IN_A_URI = re.compile(r"[^A-Za-z0-9._~-]")


class Access(NamedTuple):
    """What the endpoint offers, after the rules about loopback.

    Attributes:
        policies: Security policies, the weakest first.
        is_anonymous: Whether a client without a user may connect; it may only read.
        warnings: What is offered that is not safe, for the log.
    """

    policies: tuple[str, ...]
    is_anonymous: bool
    warnings: tuple[str, ...]


class Listed(NamedTuple):
    """A certificate file. `certificate` is None for a file that is none."""

    folder: str
    path: Path
    certificate: Certificate | None


def access_of(config: OpcUaConfig) -> Access:
    """Which policies and users `config` allows; `core.config_checks` has refused what it may not say."""
    is_open = config.bind.is_loopback
    offers_none = is_open or "None" in config.insecure
    is_anonymous = is_open if config.anonymous is None else config.anonymous
    warnings = []
    if not is_open and offers_none:
        warnings.append(f"OPC UA without encryption is offered on {config.bind}, as insecure says")
    if not is_open and is_anonymous:
        warnings.append(f"OPC UA clients without a user may read on {config.bind}, as insecure says")
    policies = ((POLICY_NONE,) if offers_none else ()) + tuple(config.security)
    return Access(policies, is_anonymous, tuple(warnings))


def application_uri(gateway_name: str, host: str | None = None) -> str:
    """The name of this server among all others: ``urn:HOST:bifrost:NAME`` (OPC 10000-4, 7.2)."""
    host = socket.gethostname() if host is None else host
    return f"urn:{_NOT_IN_A_URI.sub('-', host)}:bifrost:{_NOT_IN_A_URI.sub('-', gateway_name)}"


def certificate_days(now: datetime) -> int:
    """How long a certificate that is made `now` is valid: ten years, from 2026 on if the clock was not set yet.

    A board without a battery starts in 1970, and ten years from there its certificate would be refused for ever.
    """
    return _CERTIFICATE_DAYS + max(0, (_CLOCK_SET - now).days)


class Pki:
    """The folders of one gateway.

    Args:
        data_dir: `[gateway] data_dir`.
    """

    def __init__(self, data_dir: str) -> None:
        self.root = Path(data_dir, "pki")
        self.own_certificate = self.root / "own" / "certificate.der"
        self.own_key = self.root / "own" / "key.der"
        self.users_file = self.root / "users.toml"

    def folder(self, name: str) -> Path:
        """One of `FOLDERS`."""
        assert name in FOLDERS
        return self.root / name

    def prepare(self) -> None:
        """Makes what is missing of the folders. Raises StorageError."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("own", *FOLDERS):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder {error.filename!r} cannot be made: {error.strerror}") from error

    def load_own(self) -> tuple[bytes, bytes] | None:
        """The own certificate and key, both DER; None if they were never made.

        Raises:
            ConfigError: One of the two is missing or damaged, the certificate has no URI, or the key is another's.
        """
        found = [path for path in (self.own_certificate, self.own_key) if path.is_file()]
        if not found:
            return None
        if len(found) == 1:
            missing = self.own_key if found[0] == self.own_certificate else self.own_certificate
            raise ConfigError(f"{found[0]} is there but {missing.name} is not" + _ANEW.format("it"))
        try:
            der = certificate_der(_read(self.own_certificate))
            uri = parse_certificate(der).uri
        except ValueError as error:
            raise ConfigError(f"{self.own_certificate}: {error}" + self._anew) from error
        if not uri:
            raise ConfigError(f"{self.own_certificate}: names no URI, which OPC UA demands (OPC 10000-6, 6.2.2)")
        try:
            key = _read(self.own_key)
            is_its_key = key_fits(der, key)
        except ValueError as error:
            raise ConfigError(f"{self.own_key}: {error}" + self._anew) from error
        if not is_its_key:
            raise ConfigError(f"{self.own_key}: is not the key of {self.own_certificate.name}" + self._anew)
        return der, key

    @property
    def _anew(self) -> str:
        return _ANEW.format(self.own_key.parent)

    def store_own(self, certificate: bytes, key: bytes) -> None:
        """Keeps a new certificate and its key, the key first. Raises StorageError."""
        self.prepare()
        try:
            write_private(self.own_key, key)
            write_private(self.own_certificate, certificate)
        except OSError as error:
            raise StorageError(f"the certificate cannot be stored: {error.strerror}") from error

    async def own(self, make: Callable[[], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """The own certificate and key; made by `make` and stored if there are none.

        `make` is called in the background: a key takes seconds on a small processor, and the plant is polled meanwhile. If this
        is cancelled it ends by itself, and nothing is stored.

        Raises:
            ConfigError: See `load_own`.
            StorageError: They cannot be stored.
        """
        self.prepare()
        found = self.load_own()
        if found is None:
            found = await in_background(make)
            self.store_own(*found)
        return found

    # ---- certificates of clients

    def iterate(self, folders: tuple[str, ...] = ("trusted", "rejected", "issuers")) -> Iterator[Listed]:
        """The certificates in `folders`, by folder and name."""
        for folder in folders:
            place = self.folder(folder)
            paths = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else []
            for path in paths[:_FILES_MAX]:
                try:
                    yield Listed(folder, path, parse_certificate(certificate_der(_read(path))))
                except ValueError:
                    yield Listed(folder, path, None)

    def count(self, folder: str) -> int:
        """How many files a folder holds; 0 if it is not there or not ours to read."""
        try:
            names = os.listdir(self.folder(folder))
        except OSError:
            return 0
        return sum(not name.startswith(".") for name in names)

    def find(self, word: str, folders: tuple[str, ...] = ("trusted", "rejected", "issuers")) -> Listed:
        """The one certificate that `word` means: the start of its thumbprint, its file's name, or its subject.

        Raises:
            ValueError: It means none, or several.
        """
        found = [listed for listed in self.iterate(folders) if listed.certificate and _is_meant(word, listed)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise ValueError(f"no certificate {word!r} in {' or '.join(folders)}; 'bifrost opcua cert list' shows all")
        raise ValueError(f"{word!r} means {len(found)} certificates; give more of the thumbprint")

    def move(self, listed: Listed, folder: str) -> Path:
        """Moves a certificate to another folder, where it counts from the next handshake on. Raises StorageError."""
        target = self.folder(folder) / listed.path.name
        try:
            self.prepare()
            os.replace(listed.path, target)
        except OSError as error:
            raise StorageError(f"{listed.path} cannot be moved: {error.strerror}") from error
        return target

    def forget_rejected(self, certificate: Certificate) -> None:
        """Deletes `certificate` from the rejected ones: it is trusted now. What cannot be deleted stays, and does no harm."""
        for listed in self.iterate(("rejected",)):
            if listed.certificate == certificate:
                with contextlib.suppress(OSError):
                    listed.path.unlink()

    def add(self, source: Path, folder: str) -> Listed:
        """Copies a certificate (DER or PEM) from a file into a folder, named by its thumbprint.

        Raises:
            ValueError: It is no certificate.
            StorageError: It cannot be written.
        """
        try:
            der = certificate_der(_read(source))
            certificate = parse_certificate(der)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        target = self.folder(folder) / f"{certificate.thumbprint}.der"
        try:
            self.prepare()
            write_private(target, der)
        except OSError as error:
            raise StorageError(f"{target} cannot be written: {error.strerror}") from error
        return Listed(folder, target, certificate)


def write_private(path: Path, content: bytes) -> None:
    """Replaces `path` by a file that only its owner can read; it is on disk when this returns. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _is_meant(word: str, listed: Listed) -> bool:
    assert listed.certificate is not None
    if word in (listed.path.name, listed.path.stem, listed.certificate.subject, listed.certificate.uri):
        return True
    return bool(_THUMBPRINT.fullmatch(word)) and listed.certificate.thumbprint.startswith(word.lower())


def _read(path: Path) -> bytes:
    """The file, if it is not longer than a certificate can be. Raises ValueError."""
    try:
        with path.open("rb") as file:
            content = file.read(_CERTIFICATE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _CERTIFICATE_BYTES_MAX:
        raise ValueError(f"{path} is too long for a certificate")
    return content
