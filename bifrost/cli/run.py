"""Run the gateway of a configuration file until Ctrl-C or SIGTERM.

Log lines go to standard error. Exit code 2: the configuration cannot work, and nothing was started.
"""

from __future__ import annotations

import argparse

from bifrost.cli.live import configuration_path

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost run`."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="configuration file; default: as for -c")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def run(options: argparse.Namespace) -> int:
    """Runs the gateway; gives its exit code."""
    from bifrost.gateway.app import run_gateway

    return run_gateway(options.file or configuration_path(options), log_level=options.log_level)
