"""The one seam to C: picks a backend, once, at import.

`BIFROST_BACKEND` = `auto` (C if it is built, else Python), `c` (a missing build is an error: images and CI set it) or
`py`. Imports nothing else of Bifrost; nobody but this package touches cffi.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from bifrost._native.contract import Backend

__all__ = ["backend", "select"]


def select(choice: str) -> Backend:
    """The backend that `choice` names.

    Args:
        choice: `auto`, `c` or `py`.

    Raises:
        ImportError: `c` was asked for and the compiled module cannot be loaded.
        ValueError: Another word.
    """
    if choice not in ("auto", "c", "py"):
        raise ValueError(f"BIFROST_BACKEND must be auto, c or py, not {choice!r}")
    if choice != "py":
        try:
            return cast("Backend", importlib.import_module("bifrost._native._c"))
        except ImportError as error:
            if choice == "c":
                raise ImportError(f"BIFROST_BACKEND=c, but the compiled core cannot be loaded: {error}") from error
    return cast("Backend", importlib.import_module("bifrost._native._py"))


backend: Backend = select(os.environ.get("BIFROST_BACKEND", "auto"))
