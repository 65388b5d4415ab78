"""Debian source packages, by apt's own downloader, without touching the machine's apt.

apt is run with a state, cache and source list of its own, below a directory the caller gives; nothing is installed
and no root is needed. The mirror is the one the machine's apt is configured with, and apt's transport settings
(proxy, certificates, time-outs) are the machine's too.

Trust: the machine's Debian keyring is tried first. An older machine may not know the keys of a newer suite; then the
source is marked trusted, which is safe here because every file is compared with the SHA-256 in sources.toml before
it is used: that pin is the anchor.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from csrc.builder import BuildError
from csrc.builder.objects import Say

SOURCE_LIST = Path("/etc/apt/sources.list")
SOURCE_PARTS = Path("/etc/apt/sources.list.d")
DEBIAN_SUITES = {"bullseye", "bookworm", "trixie", "forky", "duke", "sid"} | {
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "experimental",
}
"""Suites by which a Debian mirror is told from other repositories."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """A Debian mirror as the machine's apt is configured with it."""

    uri: str
    signed_by: str
    """The keyring's path; empty where apt's default keyrings are used."""


def find_mirrors(source_list: Path = SOURCE_LIST, source_parts: Path = SOURCE_PARTS) -> list[Mirror]:
    """Return the Debian mirrors of the machine's source list, in its order; both of apt's formats are read."""
    files = [source_list, *sorted(source_parts.glob("*.list")), *sorted(source_parts.glob("*.sources"))]
    mirrors: dict[str, Mirror] = {}
    for file in files:
        if file.is_file():
            read = _deb822_mirrors if file.suffix == ".sources" else _one_line_mirrors
            for mirror in read(file.read_text()):
                mirrors.setdefault(mirror.uri, mirror)
    return list(mirrors.values())


def _one_line_mirrors(text: str) -> Iterator[Mirror]:
    for line in text.splitlines():
        match = re.match(r"\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if match and match[3] in DEBIAN_SUITES and "main" in match[4].split():
            signed_by = re.search(r"signed-by=(\S+)", match[1] or "", re.IGNORECASE)
            yield Mirror(match[2], signed_by[1] if signed_by else "")


def _deb822_mirrors(text: str) -> Iterator[Mirror]:
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        # A line that begins with a space goes on with the field above it.
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", "\n".join(lines), re.MULTILINE))
        fields = {name.lower(): value for name, value in fields.items()}
        suites, components = fields.get("suites", "").split(), fields.get("components", "").split()
        if fields.get("enabled", "yes").strip().lower() == "no" or "main" not in components:
            continue
        if DEBIAN_SUITES.intersection(suites):
            key = fields.get("signed-by", "").strip()
            for uri in fields.get("uris", "").split():
                yield Mirror(uri, key if key.startswith("/") else "")  # a key inside the stanza stays there


class SourceDownloader:
    """Fetches source packages of one suite after the other."""

    def __init__(self, place: Path, say: Say) -> None:
        """Keep everything below `place`. Raises BuildError if there is no apt or no Debian mirror."""
        if shutil.which("apt-get") is None or shutil.which("apt-config") is None:
            raise BuildError(
                "no OPC UA module: its sources are fetched by apt, which is not here (or set BIFROST_VENDOR_DIR)."
            )
        mirrors = find_mirrors()
        if not mirrors:
            raise BuildError(
                "no OPC UA module: its sources are in Debian, and apt has no Debian mirror (or set BIFROST_VENDOR_DIR)."
            )
        self._mirrors = mirrors
        self._place = place
        self._say = say

    def fetch(self, suite: str, packages: dict[str, str], target: Path) -> None:
        """Download what `suite` carries of `packages` (name to upstream version) into `target`.

        The caller looks at what came: a file the mirror lacks is not an error here. Waits for the network, 20 s at most
        without progress. Raises BuildError if no mirror answers at all.
        """
        for mirror in self._mirrors:
            self._say(f"asking apt for the sources of {', '.join(packages)} in Debian {suite}")
            place = self._place / suite
            environment = self._update(place, mirror, suite)
            if environment is not None:
                found = [self._full_version(environment, place, *package) for package in packages.items()]
                target.mkdir(parents=True, exist_ok=True)
                _run(environment, target, "apt-get", "-qq", "--download-only", "source", *filter(None, found))

    def _update(self, place: Path, mirror: Mirror, suite: str) -> dict[str, str] | None:
        """Get the index of `suite`; return the environment for apt, or None if the mirror does not have it."""
        said = ""
        for option in (f"[signed-by={mirror.signed_by}] " if mirror.signed_by else "", "[trusted=yes] "):
            environment = write_configuration(place, f"deb-src {option}{mirror.uri} {suite} main\n")
            update = _run(environment, place, "apt-get", "-qq", "update")
            if update.returncode == 0:
                return environment
            said = update.stderr
            if not re.search(r"NO_PUBKEY|not signed|GPG error|verif", said):
                break
        if re.search(r"404|Not Found|does not have a Release file", said) and "Could not connect" not in said:
            return None
        reason = said.strip().splitlines()[0] if said.strip() else "it does not say why"
        raise BuildError(f"no OPC UA module: apt can't reach its mirror ({reason}).")

    def _full_version(self, environment: dict[str, str], place: Path, package: str, upstream: str) -> str | None:
        """Return `package=version` for the Debian revision of `upstream` that the suite carries."""
        records = _run(environment, place, "apt-cache", "showsrc", "--only-source", package).stdout
        for version in re.findall(r"^Version: (\S+)$", records, re.MULTILINE):
            if re.fullmatch(rf"(?:\d+:)?{re.escape(upstream)}(?:\+\w+)?-[^-]+", version):
                return f"{package}={version}"
        return None


def _run(environment: dict[str, str], place: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def write_configuration(place: Path, source: str, *settings: str) -> dict[str, str]:
    """Write an apt configuration whose every path is below `place`; return the environment that selects it.

    `source` is the source list, in apt's one-line format; `settings` are further lines of configuration.
    """
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / "sources.list").write_text(source)
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    # How to reach a mirror is the machine's business. Its hooks and its extra indexes are not ours.
    transport = [line for line in dump.splitlines() if re.match(r"Acquire::(http|https|Check-|Force|Retries)", line)]
    configuration = [
        *transport,
        f'Dir::State "{place}/state";',
        f'Dir::State::status "{place}/state/status";',
        f'Dir::Cache "{place}/cache";',
        f'Dir::Etc::SourceList "{place}/sources.list";',
        'Dir::Etc::SourceParts "/dev/null";',
        'Dir::Etc::Parts "/dev/null";',
        'Dir::Etc::Main "/dev/null";',
        'Acquire::Languages "none";',
        'Acquire::Retries "1";',
        'Acquire::http::Timeout "20";',
        'Acquire::https::Timeout "20";',
        'APT::Update::Error-Mode "any";',
        # Root would hand downloads to the user _apt, who may not read the checkout.
        *(['APT::Sandbox::User "root";'] if os.geteuid() == 0 else []),
        *settings,
    ]
    (place / "state" / "status").touch()
    (place / "apt.conf").write_text("\n".join(configuration) + "\n")
    return {**os.environ, "APT_CONFIG": str(place / "apt.conf"), "LC_ALL": "C"}
