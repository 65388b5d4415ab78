"""Compilers: the machine's own, or zig's for a foreign processor.

A toolchain is two command lines (compile and link), the flags for Python's headers, and an identity that goes into
the cache key of every object. The machine's own obeys CC, CFLAGS, LDSHARED and LDFLAGS, so that Buildroot, Yocto and
distributions build as they always do; zig is never needed for it.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

from csrc.builder import BUILD, ROOT, BuildError

LIMITED_API = "0x030b0000"
"""Python 3.11: the oldest we support, and the only ABI we use."""

FLAGS = (
    "-std=c11",
    "-O2",
    "-fPIC",
    "-pthread",
    "-fvisibility=hidden",
    "-ffunction-sections",  # what is never called is left out when linking
    "-fdata-sections",
    "-ffp-contract=off",  # C and Python must give the same bits on every processor
    "-Werror=implicit-function-declaration",  # else it would be found when the module is loaded
    "-D_GNU_SOURCE",
    "-D_FILE_OFFSET_BITS=64",
)
"""For every C file, ours or vendored."""

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wvla", "-Wframe-larger-than=1024", "-Werror")
"""For our C in `make check`."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One compiler for one target."""

    name: str
    """`native`, or the target as in cross/targets.toml."""
    compile: tuple[str, ...]
    """Command that takes `-c source -o object`."""
    link: tuple[str, ...]
    """Command that makes a shared object."""
    link_flags: tuple[str, ...]
    """Added after the objects."""
    python: tuple[str, ...]
    """Flags for a file that includes Python.h."""
    identity: str
    """Changes when the compiler does."""
    tag: str = ""
    """Platform tag of a wheel for a foreign target; empty for the machine's own."""


def native() -> Toolchain:
    """Return the machine's own compiler.

    Raises BuildError if there is none, or if Python's headers are missing.
    """
    compiler = _native_compiler()
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        raise BuildError(f"no C is built: Python.h is not in {include} (on Debian: apt-get install python3-dev).")
    flags = FLAGS + tuple(shlex.split(os.environ.get("CFLAGS", "")))
    link = tuple(shlex.split(os.environ.get("LDSHARED", ""))) or (*compiler, "-shared")
    return Toolchain(
        name="native",
        compile=compiler + flags,
        link=link,
        link_flags=("-pthread", *shlex.split(os.environ.get("LDFLAGS", ""))),
        python=(f"-I{include}", f"-DPy_LIMITED_API={LIMITED_API}"),
        identity=_version_of(compiler),
    )


def cross(target: str) -> Toolchain:
    """Return zig's compiler for `target`, one of cross/targets.toml.

    Raises BuildError for an unknown target or if the package `ziglang` is not installed.
    """
    targets = tomllib.loads((ROOT / "cross" / "targets.toml").read_text())
    if target not in targets:
        raise BuildError(f"unknown target {target!r}: cross/targets.toml has {', '.join(sorted(targets))}.")
    entry = targets[target]
    zig = (sys.executable, str(ROOT / "cross" / "zig_cc.py"), entry["zig"])
    version = _version_of(zig, "the package ziglang is not installed (pip install ziglang)")
    pyconfig = ROOT / "cross" / "pyconfig_abi3.h"
    return Toolchain(
        name=target,
        compile=zig + FLAGS,
        link=(*zig, "-shared"),
        link_flags=("-pthread",),
        # The machine's own pyconfig.h describes the machine; ours describes any POSIX target, and comes first.
        python=("-include", str(pyconfig), f"-I{sysconfig.get_path('include')}", f"-DPy_LIMITED_API={LIMITED_API}"),
        identity=version,
        tag=entry["wheel"],
    )


def _native_compiler() -> tuple[str, ...]:
    """Return CC, else what Python was built with, else the usual names; only what is really there."""
    wanted = os.environ.get("CC")
    if wanted:
        command = tuple(shlex.split(wanted))
        if shutil.which(command[0]) is None:
            raise BuildError(f"no C is built: CC={wanted} is not on PATH.")
        return command
    built_with = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    for name in (built_with, "cc", "gcc", "clang"):
        if shutil.which(name):
            return (name,)
    raise BuildError("no C is built: there is no C compiler on PATH (on Debian: apt-get install gcc libc6-dev).")


def _version_of(command: tuple[str, ...], missing: str = "it does not run") -> str:
    """Return what `command --version` says."""
    # zig keeps its own cache; inside the checkout nothing is left behind elsewhere.
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(BUILD / "zig"), "ZIG_LOCAL_CACHE_DIR": str(BUILD / "zig"), **os.environ}
    try:
        answer = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"no compiler: {' '.join(command)}: {missing}.") from error
    return answer.stdout
