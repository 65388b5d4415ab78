"""The pinned sources of the OPC UA module: found or fetched, and always checked.

csrc/vendor/sources.toml names the accepted releases in order. The archives of one are looked for in
BIFROST_VENDOR_DIR if it is set (and then nowhere else), else in csrc/vendor/downloads (which an sdist carries), else
they are fetched by apt into that folder. Whatever the way, an archive whose SHA-256 is not the pinned one is not
used. Everything that can go wrong is a BuildError of one sentence; the caller then builds without the OPC UA module.
"""

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csrc.builder import ROOT, BuildError
from csrc.builder.apt import SourceDownloader
from csrc.builder.objects import Say

SOURCES = ROOT / "csrc" / "vendor" / "sources.toml"
DOWNLOADS = ROOT / "csrc" / "vendor" / "downloads"


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive of a release."""

    file: str
    sha256: str
    folder: str
    """Where it is unpacked, below the sources' root; its own top folder is dropped."""


@dataclass(frozen=True, slots=True)
class Release:
    """One accepted combination of versions."""

    name: str
    suites: tuple[str, ...]
    packages: dict[str, str]
    archives: tuple[Archive, ...]


@dataclass(frozen=True, slots=True)
class Obtained:
    """A release whose archives all lie in `place` and have the pinned checksums."""

    release: Release
    place: Path


def read_sources(path: Path = SOURCES) -> list[Release]:
    """Return the accepted releases, the preferred one first."""
    return [
        Release(
            name=entry["name"],
            suites=tuple(entry["suites"]),
            packages=dict(entry["packages"]),
            archives=tuple(Archive(**archive) for archive in entry["archive"]),
        )
        for entry in tomllib.loads(path.read_text())["release"]
    ]


def obtain(say: Say) -> Obtained:
    """Return the first release that can be had; downloads only if it is nowhere on this machine.

    Raises BuildError with one sentence on a wrong checksum, no network, no apt, or an incomplete folder.
    """
    releases = read_sources()
    folder = os.environ.get("BIFROST_VENDOR_DIR")
    place = Path(folder) if folder else DOWNLOADS
    for release in releases:
        if is_complete(release, place):
            return Obtained(release, place)
    if folder:
        wanted = ", ".join(archive.file for archive in releases[0].archives)
        raise BuildError(f"no OPC UA module: BIFROST_VENDOR_DIR={folder} lacks the sources ({wanted}).")
    return _download(releases, place, say)


def is_complete(release: Release, place: Path) -> bool:
    """Say whether all archives of `release` are in `place`; raises BuildError if one is not what was pinned."""
    if not all((place / archive.file).is_file() for archive in release.archives):
        return False
    for archive in release.archives:
        check(place / archive.file, archive.sha256)
    return True


def is_downloaded() -> bool:
    """Say whether a whole release lies in csrc/vendor/downloads. Raises BuildError if its checksums are wrong."""
    return any(is_complete(release, DOWNLOADS) for release in read_sources())


def check(path: Path, sha256: str) -> None:
    """Raise BuildError unless the file's SHA-256 is `sha256` (hexadecimal)."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise BuildError(f"no OPC UA module: {path} has SHA-256 {found}, but sources.toml pins {sha256}.")


def _download(releases: Sequence[Release], place: Path, say: Say) -> Obtained:
    """Fetch the first release that a suite carries into `place`."""
    with tempfile.TemporaryDirectory(prefix="bifrost-apt-") as scratch:
        downloader = SourceDownloader(Path(scratch), say)
        for release in releases:
            for suite in release.suites:
                fetched = Path(scratch, "fetched", suite)
                downloader.fetch(suite, release.packages, fetched)
                if is_complete(release, fetched):
                    place.mkdir(parents=True, exist_ok=True)
                    for archive in release.archives:
                        shutil.move(fetched / archive.file, place / archive.file)
                    return Obtained(release, place)
    names = " nor ".join(release.name for release in releases)
    raise BuildError(f"no OPC UA module: apt's mirror carries neither {names}.")
