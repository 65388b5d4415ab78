"""Check a configuration file and show what it would do: reads, requests a second, memory, warnings.

Nothing is connected and nothing is written. Mistakes are shown with file, line and key; the exit code is then 2.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bifrost.cli.live import configuration_path
from bifrost.cli.output import counted, format_count, print_json, table_lines

if TYPE_CHECKING:
    from bifrost.gateway.check import DeviceReport, Inspection

__all__ = ["configure", "inspection_lines", "run"]

_BLOCKS_SHOWN_MAX = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost check`."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="configuration file; default: as for -c")
    parser.add_argument(
        "--all", action="store_true", help=f"show every block of a device, not only {_BLOCKS_SHOWN_MAX}"
    )


def run(options: argparse.Namespace) -> int:
    """Prints the dry run; 0 when a gateway would start, else 2."""
    from bifrost.gateway.check import inspect_file

    if str(options.file or "").endswith(".csv"):
        raise ValueError(f"{options.file}: a tag table is checked with the configuration that names it (tags = …)")
    inspection = inspect_file(options.file or configuration_path(options))
    if options.json:
        print_json(_as_json(inspection))
    elif inspection.errors:
        print("\n".join([*inspection.messages, *_warnings(inspection)]))
    else:
        print("\n".join(inspection_lines(inspection, options.all)))
    return 2 if inspection.errors else 0


def inspection_lines(inspection: Inspection, all_blocks: bool = False) -> list[str]:
    """The dry run for people."""
    config = inspection.config
    assert config is not None
    counts = f"{counted(len(config.devices), 'device')} and {counted(len(config.tags), 'tag')}"
    lines = [f"{inspection.file}: a gateway named {config.gateway.name!r} with {counts}", ""]
    devices = [(d.name, d.tags, len(d.blocks), f"{d.requests_per_s:.4g}", d.link, d.url) for d in inspection.devices]
    lines += table_lines(("device", "tags", "reads", "requests/s", "link", "url"), devices, right=(1, 2, 3))
    links = [(link.link, link.devices, f"{link.requests_per_s:.4g}", link.window) for link in inspection.links]
    lines += ["", *table_lines(("link", "devices", "requests/s", "window"), links, right=(1, 2, 3))]
    for device in inspection.devices:
        lines += ["", *_block_lines(device, all_blocks)]
    regions = [(region.name, format_count(region.bytes), region.meaning) for region in inspection.regions]
    total = f"of at most {format_count(config.limits.memory_bytes_max)} bytes (memory_bytes_max)"
    regions.append(("sum", format_count(inspection.memory_bytes), total))
    lines += ["", *table_lines(("memory", "bytes", "holds, and follows"), regions, right=(1,))]
    return [*lines, *_warnings(inspection)]


def _block_lines(device: DeviceReport, all_blocks: bool) -> list[str]:
    from bifrost.core.quantity import format_duration

    shown = device.blocks if all_blocks else device.blocks[:_BLOCKS_SHOWN_MAX]
    rows = [(block.range, format_duration(block.period_ns), block.tags) for block in shown]
    lines = table_lines((f"reads of {device.name}", "every", "tags"), rows, right=(1, 2))
    if len(shown) < len(device.blocks):
        lines.append(f"… and {len(device.blocks) - len(shown)} more (--all shows them)")
    return lines


def _warnings(inspection: Inspection) -> list[str]:
    return [f"warning: {warning}" for warning in inspection.warnings]


def _as_json(inspection: Inspection) -> dict[str, object]:
    return {
        "file": inspection.file,
        "ok": not inspection.errors,
        "errors": [
            {"file": error.file, "line": error.line, "key": error.key, "message": error.message}
            for error in inspection.errors
        ],
        "errors_count": inspection.errors_count,
        "warnings": inspection.warnings,
        "devices": inspection.devices,
        "links": inspection.links,
        "memory": {"regions": inspection.regions, "bytes": inspection.memory_bytes},
    }
