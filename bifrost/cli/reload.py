"""Let the running gateway read its configuration again and take over what is different.

What did not change is not touched: connections, values and buffers go on. A configuration that is wrong is refused as a whole (exit code
2), with the messages of `bifrost check`; one that does not work is taken back (exit code 1).
"""

from __future__ import annotations

import argparse

from bifrost.cli.live import add_control_argument, connect_gateway
from bifrost.cli.output import print_json

__all__ = ["configure", "run"]

_TIMEOUT_S = 120.0  # Reading a large configuration, and up to 10 s each of waiting for health there and back.


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost reload`."""
    add_control_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Asks for the reload and says what came of it; 0 when the configuration was taken over."""
    with connect_gateway(options, timeout_s=_TIMEOUT_S) as gateway:
        result = gateway.ask_one({"command": "reload"})["reload"]
    if options.json:
        print_json(result)
        return 0
    changes = {key: value for key, value in result.items() if key not in ("time", "result")}
    words = [f"{key.replace('_', ' ')} {value}" for key, value in changes.items()]
    print(f"reloaded: {', '.join(words)}")
    return 0
