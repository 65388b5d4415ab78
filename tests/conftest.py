"""Fixtures for all tests. `backend` runs a test once on each native core, so that every promise is held by C and by Python.

With `BIFROST_BACKEND=py` only the Python core is tested (a machine without a compiler). Otherwise a missing C core is
a failure and never a skip: a suite that passes because half of it did not run would tell a lie.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest

_MODULES = {"c": "bifrost._native._c", "py": "bifrost._native._py"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        names = ["py"] if os.environ.get("BIFROST_BACKEND") == "py" else ["c", "py"]
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> ModuleType:
    """One native core, as the module that keeps `bifrost._native.contract.Backend`."""
    try:
        return importlib.import_module(_MODULES[request.param])
    except ImportError as error:
        pytest.fail(f"the native core [{request.param}] cannot be loaded: {error}")
