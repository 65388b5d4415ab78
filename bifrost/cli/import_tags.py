"""Import a tag list into the configuration: rows of another program's file become a tag table, and the device is added.

    bifrost import press.csv --device press --url 'modbus-tcp://10.0.0.5:502?unit=1'

FILE is a table as spreadsheets write it (CSV with any separator and header), a CSV export of KEPServerEX, a JSON export of Ignition
or a configuration of Telegraf. Tags go into tags/DEVICE.csv beside the configuration file, whose own lines stay as they are; where
there is none, one is made. A row that cannot be taken is reported with line, column and what would be right, and nothing is written
unless --skip-wrong leaves such rows out. Nothing is connected.

Exit codes: 0 all rows were taken, 1 some were skipped, or a file cannot be written, 2 nothing was written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bifrost.cli.live import find_configuration
from bifrost.cli.output import counted, print_json, table_lines

if TYPE_CHECKING:
    from bifrost.gateway.importing import Draft, Placement, Problem, Reading

__all__ = ["configure", "run"]

_PROBLEMS_SHOWN_MAX = 40
_NOTES_SHOWN_MAX = 20
_CONFIG = "gateway.toml"
_FORMATS = ("csv", "kepware", "ignition", "telegraf")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost import`."""
    parser.add_argument("file", metavar="FILE", help="the tag list")
    parser.add_argument("--device", required=True, metavar="NAME", help="name of the device that has the tags")
    parser.add_argument("--url", default="", metavar="URL", help="where the device is; needed unless it is configured")
    parser.add_argument("--format", choices=_FORMATS, help="what the file is; default: what it looks like")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written, and write nothing")
    parser.add_argument("--skip-wrong", action="store_true", help="take the other rows where some are wrong")
    parser.add_argument("--force", action="store_true", help="replace the table of a device that is there")
    parser.add_argument("--rename", action="store_true", help="change names that are not allowed, or there twice")
    parser.add_argument("--writable", action="store_true", help="tags that may be written there may be written here")
    parser.add_argument(
        "--byte-order",
        choices=("ABCD", "CDAB", "BADC", "DCBA"),
        help="of values of more than one register that say none; default ABCD",
    )
    parser.add_argument("--table", choices=("hr", "ir", "di", "co"), help="table of addresses that are bare numbers")
    parser.add_argument("--base", type=int, choices=(0, 1), help="what bare numbers count from")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="the file's column for one of ours, such as name=Signal; may be repeated",
    )
    parser.add_argument("--only", metavar="NAME", help="the device to take, where the file has several")
    parser.add_argument("--encoding", metavar="NAME", help="of the file; default: found out")


def run(options: argparse.Namespace) -> int:
    """Imports; 0 when all rows were taken, 1 when some were skipped, 2 when nothing was written."""
    from bifrost.core.config_rules import check_name
    from bifrost.gateway.importing import accept_drafts, plan_placement, read_file, table_text, write_placement

    try:
        check_name(options.device)
    except ValueError as error:
        raise ValueError(f"--device: {error}") from None
    wishes = _wishes(options)
    reading = read_file(options.file, wishes)
    config = find_configuration(options) or _CONFIG
    placement = plan_placement(config, options.device, options.url or reading.url, options.force, os.environ)
    drafts = accept_drafts(reading, options.device, options.url or reading.url or "modbus-tcp://0.0.0.0", wishes)
    problems = sorted(reading.problems, key=lambda problem: problem.line)
    is_wanted = bool(drafts) and (not problems or options.skip_wrong)
    is_written = is_wanted and not options.dry_run
    text = table_text(drafts)
    if is_written:
        write_placement(placement, text, os.environ)
    if options.json:
        print_json(_as_json(options.file, reading, problems, drafts, placement, is_written))
    else:
        print("\n".join(_head_lines(options.file, reading, len(drafts), len(problems))), flush=True)
        print(
            "\n".join(_problem_lines(options.file, problems)), end="\n" if problems else "", file=sys.stderr, flush=True
        )
        print("\n".join(_tail_lines(placement, drafts, text, is_wanted, options)))
    return 2 if not is_wanted else 1 if problems else 0


def _wishes(options: argparse.Namespace) -> Any:
    from bifrost.core.config_rules import nearest
    from bifrost.gateway.importing import ImportOptions
    from bifrost.gateway.importing.foreign_words import HEADERS

    columns: dict[str, str] = {}
    for said in options.column:
        ours, equals, theirs = said.partition("=")
        if not equals or ours not in HEADERS:
            hint = nearest(ours, HEADERS) if equals else "; write OURS=THEIRS, for example name=Signal"
            raise ValueError(f"--column {said}: no column of ours{hint}")
        columns[ours] = theirs
    return ImportOptions(
        kind=options.format,
        encoding=options.encoding,
        columns=columns,
        table=options.table,
        base=options.base,
        byte_order=options.byte_order,
        only=options.only,
        writable=options.writable,
        rename=options.rename,
    )


def _head_lines(file: str, reading: Reading, taken: int, wrong: int) -> list[str]:
    lines = [f"{file}: {reading.kind}"]
    if reading.columns:
        lines += table_lines(
            ("  column", "is our"), [(f"  {theirs}", ours) for theirs, ours in reading.columns.items()]
        )
    lines += [f"note: {note}" for note in reading.notes[:_NOTES_SHOWN_MAX]]
    if len(reading.notes) > _NOTES_SHOWN_MAX:
        lines.append(f"note: and {len(reading.notes) - _NOTES_SHOWN_MAX} more notes (--json shows them)")
    return [*lines, f"{taken} of {counted(taken + wrong, 'tag')} can be taken"]


def _problem_lines(file: str, problems: Sequence[Problem]) -> list[str]:
    lines = [
        f"{file}:{one.line}: {one.column + ': ' if one.column else ''}{one.message}"
        for one in problems[:_PROBLEMS_SHOWN_MAX]
    ]
    left = len(problems) - _PROBLEMS_SHOWN_MAX
    return [*lines, f"... and {left} more (--json shows them)"] if left > 0 else lines


def _tail_lines(
    placement: Placement, drafts: Sequence[Draft], text: str, is_wanted: bool, options: argparse.Namespace
) -> list[str]:
    if not drafts:
        return ["nothing was written: no tag can be taken"]
    if not is_wanted:
        return ["nothing was written; correct the file, or leave those rows out with --skip-wrong"]
    if options.dry_run:
        section = [f"{placement.config} would get:", *placement.section.splitlines()] if placement.section else []
        return [f"{placement.table} would be:", *text.splitlines(), *section, "nothing was written (--dry-run)"]
    done = f"{placement.table}: {'replaced' if placement.replaces_table else 'written'}, {counted(len(drafts), 'tag')}"
    added = f"{placement.config}: device {options.device!r} added in line {placement.line}"
    return [done, *([added] if placement.section else []), f"next: bifrost check {placement.config}"]


def _as_json(
    file: str,
    reading: Reading,
    problems: Sequence[Problem],
    drafts: Sequence[Draft],
    placement: Placement,
    is_written: bool,
) -> dict[str, Any]:
    return {
        "file": file,
        "kind": reading.kind,
        "columns": reading.columns,
        "notes": reading.notes,
        "problems": [
            {"file": file, "line": one.line, "column": one.column, "message": one.message} for one in problems
        ],
        "tags": len(drafts),
        "config": placement.config,
        "table": placement.table,
        "written": is_written,
    }
