"""Sources to objects: in parallel, and never the same work twice.

An object is kept under the digest of everything that made it: the source, every header the compiler read, the flags
and the compiler itself. What was read is only known afterwards, so there are two steps, as in ccache's direct mode:
a *recipe* (source, flags, compiler) leads to the lists of headers seen with it, and the list whose contents are
still the same names the object. The places of the checkout and of the cache are taken out of what is kept, so that a
cache shared between checkouts (BIFROST_BUILD_CACHE) is of use to all of them.
"""

import hashlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from csrc.builder import BUILD, ROOT, BuildError
from csrc.builder.toolchain import Toolchain

HEADER_LISTS_MAX = 8
"""Kept per recipe; the oldest goes first. Branches that differ in headers alternate between a few."""

ROOT_NAME, CACHE_NAME = "@checkout", "@cache"
"""Stand for the two places in what is kept, so that it holds elsewhere too."""

Say = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One C file and what is special about compiling it."""

    source: Path
    flags: tuple[str, ...] = ()


def cache_dir() -> Path:
    """Return where objects are kept: BIFROST_BUILD_CACHE, else build/cache in the checkout."""
    wanted = os.environ.get("BIFROST_BUILD_CACHE")
    return Path(wanted).resolve() if wanted else BUILD / "cache"


def compile_units(units: Sequence[Unit], toolchain: Toolchain, say: Say) -> list[Path]:
    """Return one object for each unit, in order, compiling those that are not in the cache.

    They are started in the order given, so what takes long should come first.
    `say` gets a line for each file compiled, with its number, and one for the sum.
    Raises BuildError with the compiler's own words for the first file that does not compile.
    """
    compiler = _Compiler(toolchain)
    found = [compiler.find(unit) for unit in units]
    missing = [index for index, path in enumerate(found) if path is None]
    done = 0
    lock = threading.Lock()

    def compile_one(index: int) -> None:
        nonlocal done
        found[index] = compiler.make(units[index])
        with lock:
            done += 1
            say(f"[{done}/{len(missing)}] {toolchain.name}: {units[index].source.name}")

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [pool.submit(compile_one, index) for index in missing]
        try:
            for job in jobs:
                job.result()
        except BuildError:
            pool.shutdown(cancel_futures=True)
            raise
    say(f"{toolchain.name}: {len(units)} files, {len(missing)} compiled, {len(units) - len(missing)} from the cache")
    return [path for path in found if path is not None]


class _Compiler:
    """Compiles and remembers, for one toolchain. Thread-safe: every file is written whole, then renamed."""

    def __init__(self, toolchain: Toolchain) -> None:
        self._toolchain = toolchain
        self._cache = cache_dir()
        self._digests: dict[Path, str] = {}

    def find(self, unit: Unit) -> Path | None:
        """Return the object of `unit` if it was made before from the same contents."""
        for headers in self._header_lists(unit):
            path = self._object_path(unit, headers)
            if path is not None and path.exists():
                return path
        return None

    def make(self, unit: Unit) -> Path:
        """Compile `unit` and return its object."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache) as scratch:
            output, depends = Path(scratch, "unit.o"), Path(scratch, "unit.d")
            # The same object in every checkout. The cache may lie inside it: the last map that fits counts.
            maps = (f"-ffile-prefix-map={ROOT}={ROOT_NAME}", f"-ffile-prefix-map={cache_dir()}={CACHE_NAME}")
            command = [*self._toolchain.compile, *maps, *unit.flags, "-MD", "-MF", str(depends)]
            command += ["-c", str(unit.source), "-o", str(output)]
            begin_ns = time.time_ns()
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise BuildError(f"{unit.source} does not compile:\n{run.stderr.strip()}")
            read = [Path(os.path.abspath(path)) for path in _read_depends(depends.read_text())]
            headers = sorted({_portable(str(path)) for path in read})
            path = self._object_path(unit, headers)
            if path is None or any(file.stat().st_mtime_ns > begin_ns for file in read):
                # Somebody saved a file meanwhile: whether the compiler saw the old or the new text is unknown.
                path = self._cache / "unsure" / f"{hashlib.sha256(output.read_bytes()).hexdigest()}.o"
            else:
                self._remember(unit, headers, Path(scratch, "headers"))
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(output, path)
        return path

    def _recipe(self, unit: Unit) -> str:
        flags = [_portable(flag) for flag in (*self._toolchain.compile, *unit.flags)]
        parts = [
            _portable(self._toolchain.identity),
            _portable(str(unit.source)),
            self._digest(unit.source) or "",
            *flags,
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _recipe_path(self, unit: Unit) -> Path:
        recipe = self._recipe(unit)
        return self._cache / recipe[:2] / f"{recipe}.json"

    def _header_lists(self, unit: Unit) -> list[list[str]]:
        try:
            lists: list[list[str]] = json.loads(self._recipe_path(unit).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return []
        return lists

    def _remember(self, unit: Unit, headers: list[str], scratch: Path) -> None:
        lists = [headers, *(known for known in self._header_lists(unit) if known != headers)]
        scratch.write_text(json.dumps(lists[:HEADER_LISTS_MAX]))
        target = self._recipe_path(unit)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(scratch, target)

    def _object_path(self, unit: Unit, headers: list[str]) -> Path | None:
        """Return where the object belongs for the contents that `headers` have now; None if one is gone."""
        digest = hashlib.sha256(self._recipe(unit).encode())
        for header in headers:
            content = self._digest(_local(header))
            if content is None:
                return None
            digest.update(f"\0{header}\0{content}".encode())
        name = digest.hexdigest()
        return self._cache / name[:2] / f"{name}.o"

    def _digest(self, path: Path) -> str | None:
        known = self._digests.get(path)
        if known is None:
            try:
                known = hashlib.sha256(path.read_bytes()).hexdigest()
            except FileNotFoundError:
                return None
            self._digests[path] = known
        return known


def _portable(text: str) -> str:
    """Return a path or a flag with the cache's and the checkout's own place taken out."""
    return text.replace(str(cache_dir()), CACHE_NAME).replace(str(ROOT), ROOT_NAME)


def _local(name: str) -> Path:
    """Return the path that `_portable` wrote as `name`."""
    return Path(name.replace(CACHE_NAME, str(cache_dir()), 1).replace(ROOT_NAME, str(ROOT), 1))


def _read_depends(text: str) -> list[Path]:
    """Return the files that a make rule, as `-MD` writes it, depends on."""
    _, _, prerequisites = text.replace("\\\n", " ").partition(":")
    words = prerequisites.replace("\\ ", "\0").split()  # "\\ " is a space inside a name
    return [Path(word.replace("\0", " ")) for word in words]
