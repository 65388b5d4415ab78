"""The generated parts of the reference are what the code says today; `python -m docs.generate` makes them so."""

from __future__ import annotations

import pytest

from docs import generate

PAGES = sorted(generate.REFERENCE.glob("*.md"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_is_what_the_code_says(path):
    page = path.read_text(encoding="utf-8")
    assert page == generate.rendered(page), "run: python -m docs.generate"


def test_every_generated_part_is_on_a_page():
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert {found[2] for found in generate.MARKED.finditer(text)} == set(generate.PARTS)
