"""What setuptools is told: the compiled modules, their builder, and the needs that depend on the machine.

A build takes three forms, decided here once:

    native            a compiler, Python's headers and cffi are at hand: `_core`, and `_opcua` if its sources can be had
    pure, as asked    BIFROST_NO_NATIVE=1: a py3-none-any wheel that needs no cffi
    pure, perforce    no compiler, no headers or no cffi: the same wheel, after one sentence that says why

BIFROST_OPCUA=off leaves `_opcua` out; BIFROST_OPCUA=require makes its absence an error (images and CI set it).
BIFROST_TARGET=… builds for a target of cross/targets.toml with zig; the wheel is then tagged by `make wheels`.
"""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from setuptools import Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

from csrc.builder import BuildError, modules, toolchain
from csrc.builder.modules import say

RUNTIME = ["msgspec>=0.19", "paho-mqtt>=2.2,<3"]
RUNTIME_NATIVE = ["cffi>=1.17"]
MODULES = {module.name: module for module in (modules.CORE, modules.OPCUA)}


def arguments() -> dict[str, Any]:
    """Return the keyword arguments of `setup()`."""
    if not is_native():
        return {"install_requires": RUNTIME}
    found: dict[str, Any] = {
        "install_requires": RUNTIME + RUNTIME_NATIVE,
        # Read by the build front end, which provides them and runs setup.py again; never installed from here.
        "setup_requires": RUNTIME_NATIVE + missing_tools(),
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }
    if importlib.util.find_spec("cffi") is None:
        say("no C is built: the package cffi is not installed.")
        return found
    names = ["core_ffi"] if opcua_wish() == "off" else ["core_ffi", "opcua_ffi"]
    return {
        **found,
        "cffi_modules": [f"build_ffi.py:{name}" for name in names],
        "cmdclass": {"build_ext": BuildNative},
    }


def is_native() -> bool:
    """Say whether C is to be built; says why if it can't be."""
    if os.environ.get("BIFROST_NO_NATIVE") == "1":
        return False
    try:
        tools()
    except BuildError as error:
        say(str(error))
        return False
    return True


def tools() -> toolchain.Toolchain:
    """Return the compiler for BIFROST_TARGET, else the machine's own. Raises BuildError."""
    target = os.environ.get("BIFROST_TARGET")
    return toolchain.cross(target) if target else toolchain.native()


def opcua_wish() -> str:
    """Return BIFROST_OPCUA: `auto` (the default), `off` or `require`."""
    return os.environ.get("BIFROST_OPCUA", "auto")


def missing_tools() -> list[str]:
    """Return the PyPI packages that the OPC UA module's build needs and PATH does not have."""
    if opcua_wish() == "off":
        return []
    needs_ninja = shutil.which("ninja") is None and shutil.which("make") is None
    return (["cmake>=3.22"] if shutil.which("cmake") is None else []) + (["ninja"] if needs_ninja else [])


class BuildNative(build_ext):  # type: ignore[misc] # setuptools ships no types
    """Builds by our cached, parallel compiler instead of setuptools' own."""

    def run(self) -> None:
        """Build all; asserts stay on where the result is for development."""
        self._release = not (self.inplace or self.editable_mode)  # setuptools clears `inplace` while it runs
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Build one module; only `_opcua` may be missing afterwards."""
        module = MODULES[ext.name]
        try:
            modules.build(module, tools(), Path(self.get_ext_fullpath(ext.name)), release=self._release)
        except BuildError as error:
            if module is modules.CORE or opcua_wish() == "require":
                raise CompileError(str(error)) from error
            say(str(error))
