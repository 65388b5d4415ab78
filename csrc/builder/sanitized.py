"""The OPC UA module under the address and undefined-behaviour sanitizers, for whole processes of tests.

A copy of the package gets the module, and a process with `environment()` finds that copy first, so nothing that runs
has to know. Python itself is not sanitized: the sanitizers' libraries are loaded before it, and leaks are left to the
module's own count. What a sanitizer finds ends the process with a report on its standard error.
"""

import dataclasses
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from csrc.builder import BUILD, ROOT, modules, toolchain

PLACE = BUILD / "checks" / "opcua-sanitized-package"
VARIABLE = "BIFROST_SANITIZED"
"""Set in the environment of tests whose server processes shall use the module."""
FLAGS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize=nonnull-attribute",  # the library copies no bytes from nowhere, in two places, which is harmless
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-O1",
)


def build() -> Path:
    """Make the copy of the package, with the module of the sources as they are; return where it lies.

    What was compiled before is not compiled again. Raises BuildError.
    """
    tools = toolchain.native()
    tools = dataclasses.replace(tools, name="sanitized", compile=(*tools.compile, *FLAGS), link=(*tools.link, *FLAGS))
    shutil.rmtree(PLACE, ignore_errors=True)
    shutil.copytree(ROOT / "bifrost", PLACE / "bifrost", ignore=shutil.ignore_patterns("_opcua*", "__pycache__"))
    modules.build(modules.OPCUA, tools, PLACE / modules.OPCUA.file, release=False)
    return PLACE


@cache
def environment() -> dict[str, str]:
    """Return the environment of a process that shall use the sanitized module, after building it. Raises BuildError."""
    place = build()
    compiler = toolchain.native().compile[0]
    libraries = [_runtime_library(compiler, name) for name in ("libasan.so", "libubsan.so")]
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join((str(place), str(ROOT))),
        "PYTHONSAFEPATH": "1",  # else the package of the checkout would be found first
        "PYTHONMALLOC": "malloc",
        "BIFROST_OPCUA": "require",
    }


def _runtime_library(compiler: str, name: str) -> str:
    """Return the path of a sanitizer's library that belongs to `compiler`."""
    return subprocess.run(
        [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
