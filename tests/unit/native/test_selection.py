"""The one place that picks a backend: by word, and never quietly another one than was asked for."""

from __future__ import annotations

import sys

import pytest

from bifrost import _native


def test_python_is_taken_when_asked_for():
    assert _native.select("py").BACKEND == "py"


def test_each_backend_says_which_it_is(backend):
    assert backend.__name__.rpartition("_")[2] == backend.BACKEND


def test_auto_falls_back_to_python_where_the_compiled_module_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "bifrost._native._c", None)
    assert _native.select("auto").BACKEND == "py"


def test_missing_compiled_module_is_an_error_when_c_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "bifrost._native._c", None)
    with pytest.raises(ImportError, match="BIFROST_BACKEND=c, but the compiled core cannot be loaded"):
        _native.select("c")


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="must be auto, c or py, not 'rust'"):
        _native.select("rust")
