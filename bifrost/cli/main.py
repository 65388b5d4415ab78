"""`bifrost COMMAND …`: finds the command, gives it its arguments, and turns errors into one sentence and an exit code.

Exit codes (CONTRACT, Command line): 0 done, 1 failed, 2 wrong usage or configuration, 3 cannot reach.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from bifrost import __version__
from bifrost.gateway.exits import EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE, EXIT_WRONG

__all__ = ["COMMANDS", "main", "module_of"]

COMMANDS: Final[Mapping[str, str]] = {
    "demo": "start a simulated plant, a gateway and a broker, and show live values",
    "run": "run the gateway of a configuration file",
    "check": "check a configuration file and show what it would do",
    "read": "read one address of a device, or tags of the running gateway",
    "write": "write a tag of the running gateway, or one address of a device",
    "watch": "show values as they change",
    "status": "show how the running gateway is doing",
    "why": "explain why a tag has the quality it has",
    "reload": "let the running gateway take over its changed configuration",
    "limits": "show every limit, and the memory they add up to",
    "opcua": "certificates and users of the OPC UA server",
    "discover": "ask named hosts what devices they are",
    "browse": "look for what a device has, or list the tags of the running gateway",
    "import": "import a tag list of another program into the configuration",
    "doctor": "look for what is missing or wrong on this machine",
}

_MODULES: Final[Mapping[str, str]] = {"import": "import_tags"}  # A word of Python's own names no module.
_USAGE = "usage: bifrost COMMAND [--json] [-c FILE] …"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code.

    Args:
        arguments: Without the program's name; None: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_help())
        return EXIT_DONE if words else EXIT_WRONG
    if words[0] in {"-V", "--version"}:
        print(f"bifrost {__version__}")
        return EXIT_DONE
    if words[0] not in COMMANDS:
        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; commands: {', '.join(COMMANDS)}"
        return _fail(f"unknown command {words[0]!r}{hint}", EXIT_WRONG)
    try:
        code = _run(words[0], words[1:])
        sys.stdout.flush()  # While there is somebody to tell that the reader has gone.
        return code
    except KeyboardInterrupt:
        return EXIT_DONE
    except BrokenPipeError:  # `bifrost watch | head`: who reads us has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def module_of(command: str) -> str:
    """The module of a command."""
    return f"bifrost.cli.{_MODULES.get(command, command)}"


def _run(command: str, words: Sequence[str]) -> int:
    module = importlib.import_module(module_of(command))
    parser = argparse.ArgumentParser(
        prog=f"bifrost {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="configuration file; default: gateway.toml here, then in /etc/bifrost"
    )
    module.configure(parser)
    try:
        options = parser.parse_intermixed_args(words)
    except SystemExit as ended:  # argparse has said why.
        return EXIT_DONE if ended.code in (0, None) else EXIT_WRONG
    return _guarded(module.run, options)


def _guarded(run: object, options: argparse.Namespace) -> int:
    """Runs the command; every error that Bifrost raises on purpose becomes its sentence."""
    from bifrost.core.errors import AddressError, BifrostError, ConfigError, LimitError, TransportError

    assert callable(run)
    try:
        return int(run(options))
    except (ConfigError, AddressError, LimitError, ValueError) as error:
        return _fail(str(error), EXIT_WRONG)
    except TransportError as error:
        return _fail(str(error), EXIT_UNREACHABLE)
    except BifrostError as error:
        return _fail(str(error), getattr(error, "exit_code", EXIT_FAILED))


def _fail(sentence: str, code: int) -> int:
    from bifrost.core.secrets import SECRETS

    print(f"bifrost: {SECRETS.redacted(sentence)}", file=sys.stderr)
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join([_USAGE, "", *lines, "", "bifrost COMMAND --help tells more. Start with: bifrost demo"])


if __name__ == "__main__":
    sys.exit(main())
