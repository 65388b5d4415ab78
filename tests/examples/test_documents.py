"""Every block of code in the README and in the documents does what the page says; see `tests.examples.page`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.page import ROOT, blocks_of, matches, run_page
from tests.interop.peers.brokers import need

RUN = ("python", "toml", "console")
NEEDED = {  # A page and the foreign program that it uses.
    "docs/how-to/mosquitto.md": "mosquitto_sub",
    "docs/tutorial/first-gateway.md": "mosquitto_sub",
}
PAGES = [
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if page.exists() and any(block.language in RUN for block in blocks_of(page))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_does_what_it_says(page: Path, tmp_path, monkeypatch):
    program = NEEDED.get(page.relative_to(ROOT).as_posix())
    if program is not None:
        need(program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    run_page(page, tmp_path)


@pytest.mark.parametrize(
    ("expected", "output", "is_complete", "fits"),
    [
        (["a  …  c"], "a b c\n", True, True),
        (["a b"], "a  b\n", True, True),
        (["a b"], "a b\nc\n", True, False),
        (["a b"], "a b\nc\n", False, True),
        (["…", "z"], "a\nb\nz\n", True, True),
        (["…"], "", True, True),
        (["x…y"], "x+y\n", True, True),
        (["a.b"], "axb\n", True, False),
        ([], "", True, True),
    ],
)
def test_output_is_compared_with_gaps(expected, output, is_complete, fits):
    assert matches(expected, output, is_complete=is_complete) is fits
