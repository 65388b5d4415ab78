"""Every configuration that a page shows is one that the gateway would start with: read, checked and planned.

Blocks of a page are saved in order, so that a table is there when a configuration names it. A part of a configuration,
such as one device, gets a `[gateway]` in front.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bifrost.gateway.check import check_file
from tests.examples.page import ROOT, blocks_of

PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if any(block.language == "toml" for block in blocks_of(page))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_configuration_is_accepted(page: Path, tmp_path: Path):
    for block in blocks_of(page):
        path = tmp_path / (block.file or "part.toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        preface = "" if block.language != "toml" or "[gateway]" in block.text else '[gateway]\nname = "page"\n'
        path.write_text(preface + block.text, encoding="utf-8")
        if block.language == "toml":
            assert check_file(str(path), {}) == [], f"{page.name}:{block.line}"
