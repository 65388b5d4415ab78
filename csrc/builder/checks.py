"""What our C must pass: no warning, no allocation, and nothing for the sanitizers to say.

    python -m csrc.builder.checks warnings   compile with warnings as errors
    python -m csrc.builder.checks sanitize   run csrc/test/*.c under the sanitizers
    python -m csrc.builder.checks sanitize-ua [T]  run the OPC UA tests (or T, arguments of pytest) on a module with them
    python -m csrc.builder.checks fuzz [S]   run csrc/test/fuzz_*.c under them, each for S seconds (60)

A file in csrc/test is a program of its own: a `main` that ends with 0 if all is well, linked with all of our native
core. A fuzz target gets the seconds as its one argument and must end by itself.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from csrc.builder import BUILD, ROOT, BuildError, amalgamation, modules, sanitized, toolchain, vendor
from csrc.builder.modules import CSRC, say
from csrc.builder.objects import Unit, compile_units

TEST = CSRC / "test"
RUN_TIMEOUT_S = 600.0

SANITIZERS = {
    "address,undefined": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-fsanitize=thread",),
}
"""Each of them is a build of its own: they exclude one another."""

UA_TESTS = ("tests/unit/test_opcua_native.py", "tests/unit/test_opcua_failures.py")
UA_PEER_TESTS = ("tests/interop/test_opcua_abuse.py", "tests/interop/test_opcua_failures.py")
"""What is run on the sanitized OPC UA module; the fuzzer of its port (tests/interop/fuzz_opcua.py) uses it too."""

ALLOCATORS = re.compile(
    r"\b(malloc|calloc|realloc|reallocarray|free|aligned_alloc|posix_memalign|valloc|v?asprintf|strn?dup|getline)$"
)
"""Functions of libc that allocate; none may be called from the native core."""


def check_warnings() -> int:
    """Compile all our C with warnings as errors; return the number of files. Raises BuildError.

    The glue to open62541 is included if the sources are on this machine already: nothing is downloaded for a check.
    """
    tools = toolchain.native()
    ours = (f"-I{CSRC}", *toolchain.WARNINGS)
    units = [Unit(path, ours) for path in [*modules.core_sources(), *sorted(TEST.glob("*.c"))]]
    if (os.environ.get("BIFROST_VENDOR_DIR") or vendor.is_downloaded()) and modules.opcua_sources():
        glue = amalgamation.prepare(vendor.obtain(say), say).glue_flags  # the library is not held to our warnings
        units += [Unit(path, (*ours, *glue)) for path in [modules.UNIT, *modules.opcua_sources()]]
    compile_units(units, tools, say)
    return len(units)


def find_allocations() -> list[str]:
    """Return `file: symbol` for every allocator the native core refers to; empty is what must be."""
    sources = modules.core_sources()
    objects = compile_units([Unit(path, (f"-I{CSRC}",)) for path in sources], toolchain.native(), lambda _: None)
    found = []
    for source, path in zip(sources, objects, strict=True):
        listing = subprocess.run(["nm", "-u", str(path)], capture_output=True, text=True, check=True).stdout
        found += [f"{source.name}: {line.split()[-1]}" for line in listing.splitlines() if ALLOCATORS.search(line)]
    return found


def sanitize(programs: Sequence[Path], arguments: Sequence[str] = ()) -> None:
    """Build and run each of `programs` under each sanitizer. Raises BuildError for the first that fails."""
    for name, flags in SANITIZERS.items():
        for program in programs:
            say(f"{program.name} with {name}")
            _run(build_program(program, (*flags, "-O1", "-g", "-fno-omit-frame-pointer")), name, arguments)


def sanitize_opcua(arguments: Sequence[str]) -> None:
    """Run tests on the OPC UA module with the sanitizers in it (`csrc.builder.sanitized`).

    `arguments` are pytest's, for tests that load the module themselves; none: `UA_TESTS`, and `UA_PEER_TESTS`, of which
    only the server's process is sanitized. Raises BuildError if a test fails or a sanitizer finds something.
    """
    runs = [(arguments or UA_TESTS, sanitized.environment())]
    if not arguments:
        runs.append((UA_PEER_TESTS, {**os.environ, sanitized.VARIABLE: "1"}))
    for tests, environment in runs:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
            raise BuildError("the OPC UA module with sanitizers: a test failed.")


def build_program(program: Path, flags: tuple[str, ...]) -> Path:
    """Link `program` with our native core, all compiled with `flags` added; return the executable."""
    tools = toolchain.native()
    sources = [*modules.core_sources(), program]
    objects = compile_units([Unit(path, (f"-I{CSRC}", *flags)) for path in sources], tools, say)
    kind = re.sub(r"\W+", "-", flags[0]).strip("-")
    target = BUILD / "checks" / kind / program.stem
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [*tools.compile, *flags, "-o", str(target), *map(str, objects), *tools.link_flags, "-lm"]
    linked = subprocess.run(command, capture_output=True, text=True, check=False)
    if linked.returncode != 0:
        raise BuildError(f"{program.name} does not link:\n{linked.stderr.strip()}")
    return target


def _run(executable: Path, sanitizer: str, arguments: Sequence[str]) -> None:
    # The thread sanitizer needs its shadow at fixed addresses, which a kernel with wide randomisation may have taken.
    fixed = ["setarch", platform.machine(), "-R"] if sanitizer == "thread" and shutil.which("setarch") else []
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    try:
        run = subprocess.run([*fixed, str(executable), *arguments], env=environment, check=False, timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{executable.name} with {sanitizer}: not done after {RUN_TIMEOUT_S:.0f} s.") from error
    if run.returncode != 0:
        raise BuildError(f"{executable.name} with {sanitizer}: exit status {run.returncode}.")


def main(arguments: Sequence[str]) -> int:
    """Run the check that `arguments` name; return the exit status."""
    fuzz_targets = sorted(TEST.glob("fuzz_*.c"))
    try:
        match arguments:
            case ["warnings"]:
                say(f"{check_warnings()} C files without a warning")
            case ["sanitize"]:
                programs = [path for path in sorted(TEST.glob("*.c")) if path not in fuzz_targets]
                sanitize(programs)
                say(f"{len(programs)} C programs, nothing found by the sanitizers")
            case ["sanitize-ua", *chosen]:
                sanitize_opcua(chosen)
                say("the OPC UA tests, nothing found by the sanitizers")
            case ["fuzz", *seconds]:
                sanitize(fuzz_targets, seconds or ["60"])
                say(f"{len(fuzz_targets)} fuzz targets, nothing found")
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
