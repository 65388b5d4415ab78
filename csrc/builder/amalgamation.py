"""The vendored sources made ready to compile.

The archives are unpacked, our patch files are applied, and open62541's own build writes the library as one C file
and one header (its *amalgamation*: namespace 0 is generated from the standard's XML). That file is then cut in two at
the markers the library writes: namespace 0 is two thirds of it, takes a minute to compile and only calls the public
API, so apart from the rest it is compiled once, while the rest can be included by our glue and compiled again in
seconds. The text itself is not changed.

The result depends on the archives, the patches and the options alone, so it is kept under their digest beside the
objects; it holds the same for every processor.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from csrc.builder import ROOT, BuildError
from csrc.builder.objects import Say, Unit, cache_dir
from csrc.builder.vendor import Obtained

PATCHES = ROOT / "csrc" / "vendor" / "patches"

OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DUA_ENABLE_AMALGAMATION=ON",
    "-DUA_NAMESPACE_ZERO=FULL",
    "-DUA_ENABLE_ENCRYPTION=MBEDTLS",
    "-DUA_ENABLE_CERT_REJECTED_DIR=ON",
    "-DUA_ENABLE_METHODCALLS=ON",
    "-DUA_ENABLE_SUBSCRIPTIONS=ON",
    "-DUA_ENABLE_SUBSCRIPTIONS_EVENTS=ON",
    "-DUA_ENABLE_HISTORIZING=ON",
    "-DUA_ENABLE_PUBSUB=OFF",
    "-DUA_ENABLE_PUBSUB_INFORMATIONMODEL=OFF",
    "-DUA_MULTITHREADING=0",  # one thread of ours owns the library: it needs no locks
    "-DUA_LOGLEVEL=300",  # information and above; what is below is not even compiled
    # The library is never linked by cmake; it only asks that these have a value.
    "-DMBEDTLS_LIBRARY=unused",
    "-DMBEDX509_LIBRARY=unused",
    "-DMBEDCRYPTO_LIBRARY=unused",
)
"""How open62541 is configured."""

HEADER_FLAGS = ("-DMBEDTLS_PLATFORM_MEMORY",)  # mbedTLS allocates through pointers, so that we can count
"""For every file that includes a header of the stack."""

ALIASING = "-fno-strict-aliasing"  # as open62541's own build has it
SOURCE_FLAGS = ("-DNDEBUG", "-g0", "-w", ALIASING)
"""For its C as well: it is not held to our warnings."""

LAYOUT = 1
"""Of the folder that is kept; raised when `_make` writes it in another way."""

NAMESPACE0_MARK = re.compile(r'^/\*{4} amalgamated original file ".*/namespace0_generated\.c" \*{4}/$', re.MULTILINE)
NEXT_MARK = re.compile(r"^/\*{4} amalgamated original file ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Stack:
    """The OPC UA stack, ready to compile."""

    header_flags: tuple[str, ...]
    """For a file of ours that includes its headers."""
    source_flags: tuple[str, ...]
    """For a file of ours that only includes its C."""
    glue_flags: tuple[str, ...]
    """For a file of ours that includes its C and has code of its own: our warnings hold for that code alone."""
    units: list[Unit]
    """mbedTLS. What our own files include, open62541.c and namespace0.c, is compiled with those."""


def prepare(obtained: Obtained, say: Say) -> Stack:
    """Return the stack made from `obtained`, from the cache if it was made before.

    Raises BuildError if a tool is missing or fails.
    """
    place = cache_dir() / f"stack-{_digest(obtained)}"
    if not place.is_dir():
        say(f"preparing {obtained.release.name}")
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
            made = _make(obtained, Path(scratch))
            try:
                os.replace(made, place)
            except OSError:  # another build was faster; its result is the same
                if not place.is_dir():
                    raise
    headers = (*HEADER_FLAGS, f"-I{place}", f"-I{place / 'mbedtls' / 'include'}")
    library = place / "mbedtls" / "library"
    sources = (*headers, f"-I{library}", *SOURCE_FLAGS)
    system = tuple("-isystem" + flag.removeprefix("-I") if flag.startswith("-I") else flag for flag in headers)
    # The library says when it was compiled; ua_config.c puts our version there.
    glue = (*system, f"-isystem{library}", ALIASING, "-Wno-date-time")
    return Stack(headers, sources, glue, [Unit(path, sources) for path in sorted(library.glob("*.c"))])


def _digest(obtained: Obtained) -> str:
    """Return the digest of everything the result depends on."""
    parts = [archive.sha256 for archive in obtained.release.archives]
    parts += [path.read_text() for path in sorted(PATCHES.glob("*.patch"))]
    parts += [*OPTIONS, str(LAYOUT)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _make(obtained: Obtained, scratch: Path) -> Path:
    """Unpack, patch, amalgamate and cut below `scratch`; return the folder to keep."""
    sources, made = scratch / "sources", scratch / "made"
    for archive in obtained.release.archives:
        unpack(obtained.place / archive.file, sources / archive.folder)
    for patch in sorted(PATCHES.glob("*.patch")):
        apply_patch(patch, sources)
    (made / "mbedtls").mkdir(parents=True)
    for part in ("include", "library", "LICENSE"):
        shutil.move(sources / "mbedtls" / part, made / "mbedtls" / part)
    _amalgamate(sources / "open62541", scratch / "cmake", made / "mbedtls" / "include")
    shutil.move(scratch / "cmake" / "open62541.h", made / "open62541.h")
    library, namespace0 = cut((scratch / "cmake" / "open62541.c").read_text(encoding="utf-8"))
    (made / "open62541.c").write_text(library, encoding="utf-8")
    (made / "namespace0.c").write_text(namespace0, encoding="utf-8")
    return made


def unpack(archive: Path, target: Path) -> None:
    """Unpack `archive` into `target` without its top folder; a member that would land outside is refused."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        (top,) = Path(scratch).iterdir()
        shutil.rmtree(target, ignore_errors=True)  # a placeholder of the outer archive
        os.replace(top, target)


def apply_patch(patch: Path, folder: Path) -> None:
    """Apply one of our patch files (`-p1`) below `folder`. Raises BuildError if it does not fit or no tool is there."""
    if shutil.which("patch"):
        command = ["patch", "-p1", "--batch", "--forward", "--fuzz=0", "-i", str(patch)]
    elif shutil.which("git"):
        command = ["git", "apply", str(patch)]
    else:
        raise BuildError("no OPC UA module: neither patch nor git is on PATH (apt-get install patch).")
    # A folder inside the checkout would make git think of the checkout: the ceiling stops its search.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise BuildError(f"no OPC UA module: {patch.name} does not fit:\n{run.stdout}{run.stderr}")


def _amalgamate(source: Path, target: Path, mbedtls: Path) -> None:
    """Let open62541's build write open62541.c and .h into `target`."""
    cmake = find_tool("cmake")
    generator = "Ninja" if _which("ninja") else "Unix Makefiles"
    configure = [cmake, "-G", generator, "-S", str(source), "-B", str(target), *OPTIONS]
    configure += [f"-DMBEDTLS_INCLUDE_DIRS={mbedtls}", f"-DPython3_EXECUTABLE={sys.executable}"]
    build = [cmake, "--build", str(target), "--target", "open62541-amalgamation-source"]
    for command in (configure, [*build, "open62541-amalgamation-header"]):
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=_tool_environment())
        if run.returncode != 0:
            raise BuildError(f"no OPC UA module: cmake failed:\n{(run.stdout + run.stderr)[-3000:]}")


def cut(text: str) -> tuple[str, str]:
    """Cut the amalgamation into the library and its namespace 0, at the markers the library writes.

    Raises BuildError if the markers are not there as expected.
    """
    begin = NAMESPACE0_MARK.search(text)
    end = NEXT_MARK.search(text, begin.end()) if begin else None
    if begin is None or end is None:
        raise BuildError("no OPC UA module: open62541.c has no namespace0_generated.c to cut out.")
    return text[: begin.start()] + text[end.start() :], f'#include "open62541.h"\n{text[begin.start() : end.start()]}'


def find_tool(name: str) -> str:
    """Return the path of a build tool, on PATH or from a PyPI package of that name. Raises BuildError."""
    path = _which(name)
    if path is None:
        raise BuildError(f"no OPC UA module: {name} is missing (pip install {name}).")
    return path


def _which(name: str) -> str | None:
    return shutil.which(name, path=_tool_environment()["PATH"])


def _tool_environment() -> dict[str, str]:
    """Return the environment with the scripts of this Python on PATH, as a venv that is not activated needs it."""
    scripts = sysconfig.get_path("scripts")
    return {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
