"""Show values as they change: tags of the running gateway by name or pattern, or addresses of one device by URL.

    bifrost watch 'boiler.*'
    bifrost watch modbus://10.0.0.5 hr:0:float32 40010

On a terminal the table is refreshed in place; elsewhere each change is a line. Ends with Ctrl-C, or after --count snapshots.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from bifrost.cli.live import add_control_argument, connect_gateway, refuse_bare_host
from bifrost.cli.output import print_json
from bifrost.cli.screen import value_view

__all__ = ["configure", "run", "snapshots"]

_PATIENCE_S = 10.0  # Beyond the interval, for the next snapshot of a gateway.


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost watch`."""
    add_control_argument(parser)
    parser.add_argument(
        "names",
        nargs="*",
        default=["*"],
        metavar="TAG",
        help="full name or pattern; or URL ADDRESS…; default: all tags",
    )
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="time between snapshots (default 1)"
    )
    parser.add_argument("--count", type=int, default=0, metavar="N", help="end after N snapshots; default: never")


def run(options: argparse.Namespace) -> int:
    """Shows snapshots until enough; 0."""
    if options.interval <= 0 or options.count < 0:
        raise ValueError("--interval must be above 0, and --count not below 0")
    names = options.names or ["*"]
    view = value_view()
    shown_count = 0

    def show(values: list[dict[str, Any]]) -> bool:
        nonlocal shown_count
        shown_count += 1
        if options.json:
            print_json({"values": values})
        else:
            view.show(values)
        return bool(shown_count != options.count)

    if "://" in names[0]:
        _watch_device(names, options.interval, show)
    else:
        refuse_bare_host(names[0])
        for values in snapshots(names, options):
            if not show(values):
                break
    return 0


def snapshots(names: list[str], options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Snapshots of the running gateway, one an interval, for as long as the caller takes them."""
    request = {"command": "watch", "tags": names, "interval_s": options.interval}
    with connect_gateway(options) as gateway:
        values: list[dict[str, Any]] = []
        for answer in gateway.ask(request, stream_timeout_s=options.interval + _PATIENCE_S):
            values += answer["values"]
            if not answer.get("more"):
                yield values
                values = []


def _watch_device(names: list[str], interval_s: float, show: Callable[[list[dict[str, Any]]], bool]) -> None:
    from bifrost.cli.device import watch_device

    if len(names) < 2:
        raise ValueError("name at least one address after the URL")
    watch_device(names[0], names[1:], interval_s, show)
