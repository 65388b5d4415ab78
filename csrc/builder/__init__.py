"""Building our C: what `build_ffi.py`, `setup.py` and the Makefile share.

Only the standard library is used, because a build must run before anything is installed; cffi and cmake are
looked for where they are needed and their absence is one sentence, not a traceback.

    toolchain      which compiler: the machine's own (CC, CFLAGS, LDSHARED) or zig for a foreign processor
    objects        sources to objects, in parallel, kept by content
    apt            Debian source packages by apt's own downloader, apart from the machine's apt
    vendor         the pinned sources of the OPC UA module, found or fetched, and always checked
    amalgamation   those sources made ready to compile
    packaging      what setuptools is told
    checks         our C under sanitizers, as warnings-as-errors, and without malloc
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout (or the unpacked sdist)."""

BUILD = ROOT / "build"
"""Everything made, except the modules put in place for development."""


class BuildError(Exception):
    """The build cannot go on; the text is one sentence that says why and what would help."""
