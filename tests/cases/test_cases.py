"""Every folder here is a configuration and what Bifrost says about it, word for word.

A case is `gateway.toml` with its tag tables, `expected.txt` with one message a line (``error: …``, then ``warning:
…``), and perhaps `environ.txt` with ``NAME=value`` lines. A mistake that somebody made in the field becomes a folder.
`expected.txt` holds the exact text, since the text is what helps; a case whose messages are right is brought up to
date with ``BIFROST_CASES=write`` and read in the diff.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

import pytest

from bifrost.core.config import read_config
from bifrost.opcua.faces import Stack

_HERE = Path(__file__).parent
_CASES = sorted(path.parent.name for path in _HERE.glob("*/gateway.toml"))


def _messages(path: str, environ: dict[str, str]) -> list[str]:
    """What a person is told. The one seam to the gateway: its dry run, which asks the drivers too, or the configuration alone."""
    if importlib.util.find_spec("bifrost.gateway.check") is None:
        _, problems = read_config(path, environ)
        errors, warnings = [str(error) for error in problems.errors], list(problems.warnings)
    else:
        check = importlib.import_module("bifrost.gateway.check")
        inspection = check.inspect_file(path, environ)
        errors, warnings = inspection.messages, list(inspection.warnings)
    return [f"error: {message}" for message in errors] + [f"warning: {message}" for message in warnings]


def _environ(case: Path) -> dict[str, str]:
    file = case / "environ.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", _CASES)
def test_case(name: str, monkeypatch: pytest.MonkeyPatch):
    case = _HERE / name
    monkeypatch.chdir(case)
    # The texts are those of a machine that can serve OPC UA; tests/unit/opcua asks what one says that cannot.
    monkeypatch.setattr("bifrost.gateway.opcua.find_stack", lambda **_: Stack.ASYNCUA)
    messages = "".join(f"{message}\n" for message in _messages("gateway.toml", _environ(case)))
    if os.environ.get("BIFROST_CASES") == "write":
        Path("expected.txt").write_text(messages)
    assert messages == Path("expected.txt").read_text()


def test_there_are_enough_cases():
    assert len(_CASES) >= 45
