"""The OPC UA module under the address and undefined-behaviour sanitizers, for processes of tests.

    python -m tests.interop.sanitized            builds it, into build/checks (minutes at the first time)

A process with `environment()` loads that module instead of the one in place, if it starts with `load()`. What a sanitizer finds ends the
process with a report on its standard error. Leaks are not left to it: the module counts its own bytes.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from csrc.builder import BUILD, modules, toolchain

ROOT = Path(__file__).parents[2]
TARGET = BUILD / "checks" / "opcua-sanitized"
FLAGS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize=nonnull-attribute",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-O1",
)
"""Nonnull: the library copies nothing from NULL, in two places, which is harmless."""
VARIABLE = "BIFROST_TEST_OPCUA_MODULE"
NAME = "bifrost._native._opcua"


def build() -> Path:
    """Builds the module with the sanitizers in it; what was compiled before is not compiled again."""
    tools = toolchain.native()
    tools = dataclasses.replace(tools, name="sanitized", compile=tools.compile + FLAGS, link=tools.link + FLAGS)
    target = TARGET / modules.OPCUA.file
    modules.build(modules.OPCUA, tools, target, release=False)
    return target


def environment() -> dict[str, str]:
    """Of a process that shall load the sanitized module."""
    runtime = subprocess.run(
        [*toolchain.native().compile[:1], "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    options = "detect_leaks=0:abort_on_error=0:exitcode=99:allocator_may_return_null=1"
    own = {
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": "print_stacktrace=1",
        VARIABLE: str(build()),
    }
    return {**os.environ, **own}


def load() -> None:
    """Puts the module that the environment names in the place of the ordinary one; does nothing if none is named."""
    path = os.environ.get(VARIABLE)
    if path is None:
        return
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[NAME] = module


if __name__ == "__main__":
    build()
