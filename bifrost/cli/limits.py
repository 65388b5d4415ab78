"""Show every limit: its value, what it counts, what happens when it is reached, and the memory all of them add up to.

With a configuration file the limits are those of that gateway; without one, those that a gateway of no tags would have.
"""

from __future__ import annotations

import argparse
import os

from bifrost.cli.live import find_configuration
from bifrost.cli.output import format_count, print_json, table_lines

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost limits`."""
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="configuration file; default: as for -c, if there is one"
    )


def run(options: argparse.Namespace) -> int:
    """Prints the limits; 0, or 1 when their memory is above what they allow."""
    from bifrost.core.config import load_config
    from bifrost.core.limits import Limits, limit_infos
    from bifrost.core.runtime import BackendSizes
    from bifrost.gateway.memory import config_regions, service_limits

    path = options.file or find_configuration(options)
    config = load_config(path, os.environ) if path else None
    limits = config.limits if config else Limits.for_gateway(0)
    regions = limits.regions(BackendSizes(limits), config_regions(config) if config else ())
    total = sum(region.bytes for region in regions)
    rows = [(name, getattr(limits, name), info.meaning, info.at_limit) for name, info in limit_infos().items()]
    if options.json:
        names = ("name", "value", "meaning", "at_limit")
        print_json(
            {
                "file": path,
                "limits": [dict(zip(names, row, strict=True)) for row in rows],
                "regions": regions,
                "memory_bytes": total,
                "service": service_limits(limits),
            }
        )
    else:
        shown = [(name, format_count(value), meaning, at_limit) for name, value, meaning, at_limit in rows]
        lines = table_lines(("limit", "value", "what it counts", "at the limit"), shown, right=(1,))
        memory = [(region.name, format_count(region.bytes), region.meaning) for region in regions]
        memory.append(("sum", format_count(total), f"of at most {format_count(limits.memory_bytes_max)}"))
        lines += ["", *table_lines(("memory", "bytes", "holds, and follows"), memory, right=(1,))]
        lines.append(f"for a service: {service_limits(limits)}")
        print("\n".join(lines))
    return 0 if total <= limits.memory_bytes_max else 1
