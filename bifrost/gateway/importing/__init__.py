"""Importing tag lists of other programs: read (`text`, and one module a format), accept (`accept`), place (`place`).

Each format turns a file into drafts with their lines, and problems; everything behind that is shared, so a format knows nothing
of names, limits and files of Bifrost.
"""

from __future__ import annotations

from bifrost.core.errors import ConfigError
from bifrost.gateway.importing.accept import accept_drafts, table_text
from bifrost.gateway.importing.draft import Draft, ImportOptions, Problem, Reading
from bifrost.gateway.importing.ignition import is_ignition, read_ignition
from bifrost.gateway.importing.kepware import is_kepware, read_kepware
from bifrost.gateway.importing.place import Placement, plan_placement, write_placement
from bifrost.gateway.importing.table import read_table
from bifrost.gateway.importing.telegraf import is_telegraf, read_telegraf
from bifrost.gateway.importing.text import decode_text, read_bytes

__all__ = [
    "FORMATS",
    "Draft",
    "ImportOptions",
    "Placement",
    "Problem",
    "Reading",
    "accept_drafts",
    "plan_placement",
    "read_file",
    "table_text",
    "write_placement",
]

FORMATS = {
    "kepware": (is_kepware, read_kepware),
    "ignition": (is_ignition, read_ignition),
    "telegraf": (is_telegraf, read_telegraf),
    "csv": (lambda text: True, read_table),
}
"""By name: whether a text looks like it, and how it is read; in the order in which they are tried."""


def read_file(path: str, options: ImportOptions) -> Reading:
    """Everything in the tag list at `path`.

    Raises:
        ConfigError: It is no tag list of a kind that is known, or not the one that was said.
    """
    text, encoding = decode_text(read_bytes(path), options.encoding, path)
    if text.lstrip().startswith("<"):
        raise ConfigError("this is XML; export tags as JSON (Ignition) or CSV (others)", file=path)
    kind = options.kind or next(name for name, (looks_like, _) in FORMATS.items() if looks_like(text))
    if kind == "csv" and text.lstrip()[:1] in ("{", "["):
        raise ConfigError(
            "this is neither a table nor an export of tags that is known; formats: " + ", ".join(FORMATS), file=path
        )
    reading = FORMATS[kind][1](text, options, path)
    reading.kind = f"{reading.kind}, {encoding}"
    return reading
