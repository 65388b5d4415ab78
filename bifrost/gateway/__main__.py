"""`python -m bifrost.gateway -c gateway.toml`: what the service unit runs. The same as `bifrost run`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bifrost.gateway.app import run_gateway

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the gateway; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bifrost.gateway", description=run_gateway.__doc__)
    parser.add_argument("-c", "--config", metavar="FILE", default="gateway.toml", help="configuration file")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    options = parser.parse_args(arguments)
    return run_gateway(options.config, log_level=options.log_level)


if __name__ == "__main__":
    sys.exit(main())
