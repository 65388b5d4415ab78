"""Explain why a tag of the running gateway has the quality it has: connection, unit, block, device, uplinks.

bifrost why boiler.steam.temperature
"""

from __future__ import annotations

import argparse

from bifrost.cli.live import add_control_argument, connect_gateway
from bifrost.cli.output import format_value, print_json

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost why`."""
    add_control_argument(parser)
    parser.add_argument("tag", metavar="TAG", help="full name of the tag")


def run(options: argparse.Namespace) -> int:
    """Prints the explanation; 0."""
    with connect_gateway(options) as gateway:
        facts = gateway.ask_one({"command": "why", "tag": options.tag})["why"]
    if options.json:
        print_json(facts)
    else:
        print(f"{facts['tag']}: {format_value(facts['value'], facts['unit'] or '')} ({facts['quality']})")
        print("\n".join(f"- {sentence}" for sentence in facts["sentences"]))
    return 0
