"""`zig_cc.py TRIPLE ARGUMENT...`: zig as a C compiler for one target.

A command of its own, so that build systems which take only CC=… can use it too.
zig's caches stay inside the checkout; its default undefined-behaviour traps are for debugging and are left out.
"""

import importlib.util
import os
import sys
from pathlib import Path


def main() -> None:
    """Become zig; ends the process with status 1 if the package `ziglang` is not there."""
    if importlib.util.find_spec("ziglang") is None:
        sys.exit("the package ziglang is not installed (pip install ziglang)")
    cache = Path(__file__).resolve().parent.parent / "build" / "zig"
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(cache))
    os.environ.setdefault("ZIG_LOCAL_CACHE_DIR", str(cache))
    triple, *rest = sys.argv[1:]
    target = ["-target", triple, "-fno-sanitize=undefined"]
    os.execv(sys.executable, [sys.executable, "-m", "ziglang", "cc", *target, *rest])


if __name__ == "__main__":
    main()
