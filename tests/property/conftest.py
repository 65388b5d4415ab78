"""Fixtures of the property tests: `cores` gives both native cores, for tests that hold one against the other."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def cores() -> tuple[ModuleType, ModuleType]:
    """The native core in C and in Python. Skips where only Python is tested; fails where the C one is missing."""
    if os.environ.get("BIFROST_BACKEND") == "py":
        pytest.skip("only the Python core is tested here (BIFROST_BACKEND=py)")
    return importlib.import_module("bifrost._native._c"), importlib.import_module("bifrost._native._py")
