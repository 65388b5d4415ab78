"""The two compiled modules, declared for cffi, and a command line that builds them.

`bifrost._native._core` is our own C and builds in seconds from this repository alone. `bifrost._native._opcua` is
open62541, mbedTLS and our glue; a machine where their sources can't be had builds everything else.
Both use only the stable ABI of Python 3.11, and their cffi declarations are cut from our headers, so that header
and binding cannot disagree.

    python build_ffi.py                             both, in place, for development (asserts on)
    python build_ffi.py --only core                 `_core` alone
    python build_ffi.py --target aarch64-linux-gnu  for a foreign processor, into build/<target>, by zig

Without `--only`, a build that can't have the OPC UA sources says why and succeeds; BIFROST_OPCUA=require makes that an
error, BIFROST_OPCUA=off leaves the module out, BIFROST_NO_NATIVE=1 builds nothing.

setuptools finds the modules as `build_ffi.py:core_ffi` and `build_ffi.py:opcua_ffi` (see csrc/builder/packaging.py).
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # setuptools runs this file without the checkout on the path

from csrc.builder import BUILD, BuildError, modules, toolchain  # noqa: E402 (the line above makes it importable)

if TYPE_CHECKING:
    from cffi import FFI


def core_ffi() -> "FFI":
    """Return the declaration of `_core`. Raises ImportError without cffi."""
    return modules.declare(modules.CORE)


def opcua_ffi() -> "FFI":
    """Return the declaration of `_opcua`. Raises ImportError without cffi."""
    return modules.declare(modules.OPCUA)


def main(arguments: list[str] | None = None) -> int:
    """Build as the command line says; return the exit status: 0 built (perhaps without `_opcua`), 1 failed."""
    parser = argparse.ArgumentParser(prog="build_ffi.py", description="Build Bifrost's compiled modules.")
    parser.add_argument("--target", help="a foreign processor, one of cross/targets.toml; built by zig")
    parser.add_argument("--only", choices=("core", "opcua"), help="build one of the two modules")
    parser.add_argument("--release", action="store_true", help="without asserts and symbols")
    options = parser.parse_args(arguments)
    if os.environ.get("BIFROST_NO_NATIVE") == "1":
        print("BIFROST_NO_NATIVE=1: no C is built.", file=sys.stderr)
        return 0
    wish = os.environ.get("BIFROST_OPCUA", "auto")
    wanted = [module for module in (modules.CORE, modules.OPCUA) if options.only in (None, module.short)]
    for module in wanted:
        if module is modules.OPCUA and wish == "off":
            continue
        try:
            tools = toolchain.cross(options.target) if options.target else toolchain.native()
            place = BUILD / options.target if options.target else ROOT
            modules.build(module, tools, place / module.file, release=options.release or bool(options.target))
        except BuildError as error:
            print(error, file=sys.stderr)
            if module is modules.CORE or options.only == "opcua" or wish == "require":
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
