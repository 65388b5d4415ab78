"""Every folder here is a tag list as another program or a spreadsheet writes it, and what `bifrost import` makes of it, word for word.

A case is the file, perhaps a `gateway.toml`, and `arguments.txt`, the words of the command. `expected.txt` is its exit code, what it
says and what it complains about; then come the files it leaves. What was imported passes `bifrost check`. ``BIFROST_CASES=write``
brings `expected.txt` up to date; it is read in the diff.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from bifrost.cli.main import main
from bifrost.gateway.check import inspect_file

_HERE = Path(__file__).parent
_CASES = sorted(path.parent.name for path in _HERE.glob("*/arguments.txt"))
_OURS = ("arguments.txt", "expected.txt")


@pytest.mark.parametrize("name", _CASES)
def test_case(name: str, tmp_path: Path, monkeypatch, capsys):
    case = _HERE / name
    shutil.copytree(case, tmp_path, ignore=shutil.ignore_patterns(*_OURS), dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in _files(tmp_path)}
    code = main(["import", *shlex.split((case / "arguments.txt").read_text())])
    said, complained = capsys.readouterr()
    parts = [f"exit code {code}\n", said, complained and f"---- standard error\n{complained}"]
    changed = [path for path in _files(tmp_path) if before.get(path) != path.read_bytes()]
    parts += [f"---- {path.relative_to(tmp_path)}\n{path.read_bytes().decode()}" for path in changed]
    expected = case / "expected.txt"
    text = "".join(parts).replace("\r", "\\r")
    if os.environ.get("BIFROST_CASES") == "write":
        expected.write_text(text)
    assert text == expected.read_text()
    if "next: bifrost check" in said:
        assert inspect_file("gateway.toml").errors == ()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_format_has_a_case():
    words = " ".join((_HERE / name / "expected.txt").read_text().split("\n")[1] for name in _CASES)
    assert all(kind in words for kind in ("a table", "KEPServerEX", "Ignition", "Telegraf"))
