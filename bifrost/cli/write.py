"""Write a tag of the running gateway, or one address of a device.

    bifrost write boiler.setpoint 21.5
    bifrost write modbus://10.0.0.5 hr:4 21.5 float32@CDAB --yes

A tag is written through the gateway: only if its configuration says `writes = true` and the tag is writable, with range check, read-back
and an entry in the audit log. An address is written directly, past all of that, and therefore needs --yes.
"""

from __future__ import annotations

import argparse

from bifrost.cli.live import add_control_argument, connect_gateway
from bifrost.cli.output import format_value, print_json

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost write`."""
    add_control_argument(parser)
    parser.add_argument("words", nargs="+", metavar="WORD", help="TAG VALUE, or URL ADDRESS VALUE [TYPE]")
    parser.add_argument("--yes", action="store_true", help="really write to a device directly")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="longest wait (default 5)")


def run(options: argparse.Namespace) -> int:
    """Writes one value; 0 when the device took it."""
    words: list[str] = options.words
    if "://" in words[0]:
        if len(words) not in (3, 4):
            raise ValueError("expected URL ADDRESS VALUE [TYPE]")
        return _write_device(words, options)
    if len(words) != 2:
        raise ValueError("expected TAG VALUE")
    request = {"command": "write", "tag": words[0], "text": words[1], "timeout_s": options.timeout}
    with connect_gateway(options) as gateway:
        answer = gateway.ask_one(request)
    _report(options, words[0], answer["read_back"])
    return 0


def _write_device(words: list[str], options: argparse.Namespace) -> int:
    if not options.yes:
        raise ValueError(f"this writes to {words[0]} directly, without the checks of a gateway; add --yes to do it")
    from bifrost.cli.device import write_device

    url, address, text = words[:3]
    read_back = write_device(url, address, text, words[3] if len(words) == 4 else None, options.timeout)
    _report(options, address, read_back)
    return 0


def _report(options: argparse.Namespace, name: str, read_back: dict[str, object]) -> None:
    if options.json:
        print_json({"tag": name, "read_back": read_back})
    else:
        shown = format_value(read_back["value"], str(read_back.get("unit") or ""))
        print(f"{name}: written; reads {shown} ({read_back['quality']})")
