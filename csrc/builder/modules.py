"""The two compiled modules: what they are made of, and how one is built.

Both are cffi API-mode modules: C that cffi generates from the declarations cut out of our header, linked with our
objects. `_core` takes every file of csrc/ but `ua_*.c`; `_opcua` takes those, open62541 and mbedTLS.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from csrc.builder import BUILD, ROOT, BuildError, amalgamation, hooks, vendor
from csrc.builder.objects import Unit, compile_units
from csrc.builder.toolchain import Toolchain

if TYPE_CHECKING:
    from cffi import FFI

CSRC = ROOT / "csrc"
CDEF_BEGIN, CDEF_END = "/* cdef: begin */", "/* cdef: end */"


@dataclass(frozen=True, slots=True)
class Module:
    """One compiled module."""

    short: str
    name: str
    header: Path
    """Holds the declarations cffi reads, between the cdef marks."""
    sources: Callable[[], list[Path]]
    """Returns our own C files; a file that is added is found."""

    @property
    def file(self) -> Path:
        """Where it lies, relative to the checkout or to a wheel."""
        return Path(*self.name.split(".")).with_suffix(".abi3.so")


def core_sources() -> list[Path]:
    """Return our C that needs nothing but libc."""
    return sorted(path for path in CSRC.glob("*.c") if not path.name.startswith("ua_"))


def opcua_sources() -> list[Path]:
    """Return our C around open62541 that is compiled by itself."""
    return sorted(set(CSRC.glob("ua_*.c")) - {NAMESPACE0, UNIT, *unit_parts()})


def unit_parts() -> list[Path]:
    """Return the files of ours that `UNIT` includes: they are one unit with the library."""
    return [CSRC / name for name in re.findall(r'^#include "(ua_\w+\.c)"$', UNIT.read_text(), re.MULTILINE)]


NAMESPACE0 = CSRC / "ua_namespace0.c"
"""Ours by name, open62541's by content, and slow."""
UNIT = CSRC / "ua_unit.c"
"""Includes open62541's C and the other `ua_*.c`, which are parts of it."""
HOOKS = CSRC / "ua_hooks.c"
"""Defines again what `UNIT` declares weak."""


CORE = Module("core", "bifrost._native._core", CSRC / "bifrost.h", core_sources)
OPCUA = Module("opcua", "bifrost._native._opcua", CSRC / "bifrost_ua.h", opcua_sources)


def cut_cdef(header: Path) -> str:
    """Return what lies between the cdef marks of `header`; raises BuildError if a mark is missing."""
    parts = header.read_text().split(CDEF_BEGIN)[1:]
    if not parts or any(CDEF_END not in part for part in parts):
        raise BuildError(f"{header}: a cdef mark is missing.")
    return "\n".join(part.partition(CDEF_END)[0] for part in parts)


def declare(module: Module) -> "FFI":
    """Return cffi's declaration of `module`. Raises ImportError without cffi."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(cut_cdef(module.header))
    optional = {"optional": True} if module is OPCUA else {}  # setuptools: its absence does not fail an install
    ffi.set_source(module.name, f'#include "{module.header.name}"\n', **optional)
    return ffi


def generate(module: Module) -> Path:
    """Write the C of the binding under build/ and return its path. Raises BuildError without cffi."""
    try:
        from cffi import recompiler

        ffi = declare(module)
    except ImportError as error:
        raise BuildError("no C is built: the package cffi is not installed (pip install cffi).") from error
    target = BUILD / "generated" / f"{module.name}.c"
    target.parent.mkdir(parents=True, exist_ok=True)
    recompiler.make_c_source(ffi, module.name, f'#include "{module.header.name}"\n', str(target))
    return target


def build(module: Module, tools: Toolchain, target: Path, *, release: bool) -> None:
    """Build `module` into the file `target`; progress goes to standard error.

    `release` leaves asserts and symbols out. The file is replaced whole, so that a process that has it open goes on.
    Raises BuildError with one sentence, or with what the compiler said.
    """
    ours: tuple[str, ...] = (f"-I{CSRC}", "-DNDEBUG", "-g0") if release else (f"-I{CSRC}", "-g")
    vendored: list[Unit] = []
    if module is OPCUA:
        stack = amalgamation.prepare(vendor.obtain(say), say)
        vendored = [
            Unit(NAMESPACE0, (f"-I{CSRC}", *stack.source_flags)),
            Unit(UNIT, (*ours, *stack.glue_flags)),
            *stack.units,
        ]
        ours += stack.header_flags
    own = [Unit(path, ours) for path in module.sources()]
    binding = Unit(generate(module), (*tools.python, *ours, "-w"))  # cffi's output is not held to our warnings
    units = [*vendored, binding, *own]
    objects = compile_units(units, tools, say)
    if module is OPCUA:
        made = dict(zip((unit.source for unit in units), objects, strict=True))
        hooks.check(UNIT, made[UNIT], made[HOOKS], objects)
    link(tools, objects, target, strip=release)
    say(f"{tools.name}: {os.path.relpath(target, ROOT)} is ready")


def link(tools: Toolchain, objects: list[Path], target: Path, *, strip: bool) -> None:
    """Link `objects` into the shared object `target`. Raises BuildError with the linker's own words."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}")
    flags = (
        "-Wl,--gc-sections",
        f"-Wl,--version-script={CSRC / 'exports.map'}",
        *(("-s",) if strip else ()),
        *tools.link_flags,
    )
    command = [*tools.link, "-o", str(unfinished), *map(str, objects), *flags]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise BuildError(f"{target.name} does not link:\n{run.stderr.strip()}")
    missing = undefined_functions(unfinished)
    if missing:
        unfinished.unlink()
        raise BuildError(f"{target.name}: declared in the header but defined in no C file: {', '.join(missing)}.")
    os.replace(unfinished, target)


def undefined_functions(module: Path) -> list[str]:
    """Return what of ours `module` refers to and does not hold: a linker lets a shared object have such gaps.

    Empty where no `nm` is at hand that reads the file; importing the module then finds it.
    """
    try:
        run = subprocess.run(["nm", "-D", "-u", str(module)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return re.findall(r"\bU (bf_\w+)$", run.stdout, re.MULTILINE)


def say(line: str) -> None:
    """Print one line of progress."""
    print(line, file=sys.stderr, flush=True)
