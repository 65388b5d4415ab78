"""What an import has read and not yet taken over: rows with their place in the foreign file, and what is wrong with some of them."""

from __future__ import annotations

import msgspec

__all__ = ["Draft", "ImportOptions", "Problem", "Reading"]


class Problem(msgspec.Struct, frozen=True):
    """Why a row, or a cell of it, cannot be taken.

    Attributes:
        line: In the foreign file, from 1.
        column: As the foreign file names it; empty: the row.
        message: What is wrong and what would be right.
    """

    line: int
    column: str
    message: str


class Draft(msgspec.Struct):
    """A row on its way to becoming a tag.

    Attributes:
        line: In the foreign file, from 1.
        cells: Values by our columns (CONTRACT, tag table): text, numbers and bools.
        columns: What the foreign file calls our columns.
    """

    line: int
    cells: dict[str, object]
    columns: dict[str, str]


class Reading(msgspec.Struct):
    """Everything that one foreign file says.

    Attributes:
        kind: What the file is, in words.
        drafts: Its tags.
        problems: Of rows that did not become drafts.
        notes: What a person should know and the file does not say, or what was left out.
        columns: Our columns by the file's, where the file is a table.
        url: The device's, where the file knows it.
    """

    kind: str
    drafts: list[Draft] = []
    problems: list[Problem] = []
    notes: list[str] = []
    columns: dict[str, str] = {}
    url: str = ""


class ImportOptions(msgspec.Struct, frozen=True):
    """What a person says about the file.

    Attributes:
        kind: ``csv``, ``kepware``, ``ignition``, ``telegraf``; None: what the file looks like.
        encoding: Of its text; None: found out.
        columns: The file's column by ours, where guessing fails.
        table: Table of addresses that are bare numbers: ``co``, ``di``, ``ir``, ``hr``.
        base: What bare numbers count from, 0 or 1.
        byte_order: Of values of more than one register that say none.
        only: The device to take, where the file has several.
        writable: Whether tags that clients may write there may be written here.
        rename: Whether names that are none here are changed.
    """

    kind: str | None = None
    encoding: str | None = None
    columns: dict[str, str] = {}
    table: str | None = None
    base: int | None = None
    byte_order: str | None = None
    only: str | None = None
    writable: bool = False
    rename: bool = False
