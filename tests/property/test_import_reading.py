"""Any file given to an import becomes drafts and problems, or is refused with a sentence; and what is accepted passes the check.

Random bytes, and the golden files of `tests/cases/imports` with cells and characters exchanged.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bifrost.core.errors import ConfigError
from bifrost.gateway.importing import FORMATS, ImportOptions, accept_drafts, read_file, table_text

URL = "modbus-tcp://10.0.0.5"
GOLDEN = sorted(
    path
    for path in (Path(__file__).parents[1] / "cases" / "imports").rglob("*")
    if path.suffix in {".csv", ".json", ".conf"} and path.parent.name != "tags"
)
CELLS = [
    "",
    "0",
    "-1",
    "1e999",
    "nan",
    "40001",
    "hr:0",
    "400001.20H",
    "[Press]HR1",
    "1!",
    "float32",
    "String",
    "Float Array",
    ";",
    '"',
    "\x00",
    "ü.ä",
    "a" * 200,
    "0,1",
    "/0",
    "x",
    "99999999999",
]
options = st.builds(
    ImportOptions,
    kind=st.sampled_from([None, *FORMATS]),
    table=st.sampled_from([None, "hr", "co"]),
    base=st.sampled_from([None, 0, 1]),
    byte_order=st.sampled_from([None, "CDAB"]),
    rename=st.booleans(),
    writable=st.booleans(),
)


def take(content: bytes, wishes: ImportOptions) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list")
        path.write_bytes(content)
        try:
            reading = read_file(str(path), wishes)
        except ConfigError:
            return
        lines = content.count(b"\n") + content.count(b"\r") + 1
        drafts = accept_drafts(reading, "press", URL, wishes)
        assert table_text(drafts).count("\n") == len(drafts) + 1
        assert all(1 <= problem.line <= lines and problem.message for problem in reading.problems)


@given(content=st.binary(max_size=400) | st.text(max_size=300).map(lambda text: text.encode("utf-16")), wishes=options)
def test_any_bytes(content, wishes):
    take(content, wishes)


@settings(max_examples=300)
@given(data=st.data(), wishes=options)
def test_golden_files_with_other_cells(data, wishes):
    content = data.draw(st.sampled_from(GOLDEN)).read_bytes()
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 12)))
        content = content[:start] + data.draw(st.sampled_from(CELLS)).encode() + content[end:]
    take(content, wishes)
