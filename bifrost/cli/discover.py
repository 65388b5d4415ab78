"""Ask named hosts what devices they are: Modbus TCP Read Device Identification, else Report Server ID.

Only hosts that are named are asked, one after the other, a few requests each with a pause between them; nothing is written. A host is
NAME, NAME:PORT or [IPv6]:PORT.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from bifrost.cli.modbus_link import ModbusLink
from bifrost.cli.output import print_json, table_lines
from bifrost.core.errors import ConnectError
from bifrost.plc.modbus import frame

__all__ = ["Discovered", "configure", "discover_host", "parse_host", "run"]

_PORT: Final = 502  # TG V1.0b, 4.2.2.
# A device reached directly takes 255, older ones 0 (TG V1.0b, 4.4.2.3); many only their serial default, 1.
_UNITS: Final = (255, 0, 1)
_REPORT_SERVER_ID: Final = 17  # AP V1.1b3, 6.13.
# Ids 0 to 6; AP V1.1b3, 6.21.
_OBJECTS: Final = ("vendor", "product", "revision", "url", "name", "model", "application")
_PARTS_MAX: Final = 8  # Answers that one identification may take; eight hold far more than the seven objects.
_REGULAR: Final = 2  # Read device id code for objects 0 to 6; AP V1.1b3, 6.21.
_BASIC: Final = 1
_PAUSE_S: Final = 0.05


class Discovered(msgspec.Struct, frozen=True):
    """What one unit of a host said.

    Attributes:
        host: As it was named.
        port: TCP port.
        unit: Unit id that answered.
        by: ``identification`` (function 43/14), ``server id`` (function 17), or ``refusal``: it answers, but says nothing about itself.
        details: Vendor, product, revision, name …, as far as it told.
    """

    host: str
    port: int
    unit: int
    by: str
    details: dict[str, str]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost discover`."""
    parser.add_argument("hosts", nargs="+", metavar="HOST", help="a host name or address, with :PORT if it is not 502")
    parser.add_argument(
        "--unit",
        type=int,
        action="append",
        metavar="N",
        help="unit id to ask, 0 to 255; may be repeated; default: 255, 0, 1",
    )
    parser.add_argument(
        "--timeout", type=float, default=1.0, metavar="SECONDS", help="longest wait for each answer (default 1)"
    )


def run(options: argparse.Namespace) -> int:
    """Asks each host; 0 when any device answered, else 3."""
    units = tuple(options.unit or _UNITS)
    if not all(0 <= unit <= 255 for unit in units):
        raise ValueError("a unit id is 0 to 255")
    places = [parse_host(host) for host in options.hosts]
    found: list[Discovered] = []
    silent: list[dict[str, Any]] = []
    for host, port in places:
        reason = "no unit answers"
        try:
            of_host = list(discover_host(host, port, units, options.timeout))
        except ConnectError as error:
            of_host, reason = [], str(error)
        found += of_host
        if not of_host:
            silent.append({"host": host, "port": port, "reason": reason})
    if options.json:
        print_json({"found": found, "silent": silent})
    else:
        _print(found, silent)
    return 0 if found else 3


def parse_host(text: str) -> tuple[str, int]:
    """Host and port of ``NAME``, ``NAME:PORT`` or ``[IPv6]:PORT``. Raises ValueError; a network such as 10.0.0.0/24 is no host."""
    if "://" in text:
        raise ValueError(
            f"{text!r} is a URL: write only the host, for example {urlsplit(text).netloc or '10.0.0.5:502'}"
        )
    if "/" in text:
        raise ValueError(f"{text!r} is not a host: networks are not searched, name each host")
    name, colon, port_text = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        return text[1:-1], _PORT
    if not colon or (":" in name and not name.endswith("]")):
        return text, _PORT
    if not port_text.isdecimal() or not 1 <= int(port_text) <= 65_535 or not name:
        raise ValueError(f"{text!r} is not a host with a port, such as 10.0.0.5:502")
    return name.strip("[]"), int(port_text)


def discover_host(host: str, port: int, units: Sequence[int], timeout_s: float) -> Iterator[Discovered]:
    """What each of `units` says; a unit that says nothing in time is left out.

    Raises:
        ConnectError: The host takes no connection.
    """
    for unit in units:
        time.sleep(_PAUSE_S)
        # A connection of its own for each unit, since the late answer of a silent one must not meet the next.
        with ModbusLink(host, port, unit, timeout_s) as link:
            answered = _ask_unit(link)
        if answered is not None:
            yield Discovered(host, port, unit, *answered)


def _ask_unit(link: ModbusLink) -> tuple[str, dict[str, str]] | None:
    objects, is_there = _identify(link)
    if objects:
        details = {name: _text(objects[number]) for number, name in enumerate(_OBJECTS) if objects.get(number)}
        return "identification", details
    time.sleep(_PAUSE_S)
    answer = link.ask(bytes((_REPORT_SERVER_ID,)))
    if answer is not None and len(answer) > 2 and answer[0] == _REPORT_SERVER_ID and answer[1] == len(answer) - 2:
        return "server id", {"product": _text(answer[2:])}
    return ("refusal", {}) if is_there or answer is not None else None


def _identify(link: ModbusLink) -> tuple[dict[int, bytes], bool]:
    """Identification objects by id, and whether the unit answered at all. Asks for the regular level, then the basic one."""
    objects: dict[int, bytes] = {}
    is_there = False
    for code in (_REGULAR, _BASIC):
        next_id = 0
        for _ in range(_PARTS_MAX):
            request = frame.IdentificationRequest(code, next_id)
            answer = link.ask(frame.encode_request(request))
            is_there = is_there or answer is not None
            decoded = None if answer is None else frame.decode_answer(request, answer)
            if not isinstance(decoded, frame.Answer) or decoded.exception:
                break
            part = frame.decode_identification(decoded.data)
            assert part is not None  # decode_answer has looked.
            objects |= part.objects
            if part.next_object_id is None:
                break
            next_id = part.next_object_id
            time.sleep(_PAUSE_S)
        if objects or not is_there:
            break
    return objects, is_there


def _text(data: bytes) -> str:
    """Printable characters of what a device says about itself; others as ``?``. Ends before filling and run indicator; AP V1.1b3, 6.13."""
    text = data.strip(b"\0\xff ").decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")
    return "".join(character if character.isprintable() else "?" for character in text)


def _print(found: Sequence[Discovered], silent: Sequence[dict[str, Any]]) -> None:
    if found:
        rows = [
            (
                f"{item.host}:{item.port}",
                item.unit,
                *(item.details.get(key, "") for key in ("vendor", "product", "revision", "name")),
                item.by,
            )
            for item in found
        ]
        print(
            "\n".join(
                table_lines(("host", "unit", "vendor", "product", "revision", "name", "told by"), rows, right=(1,))
            )
        )
    for item in silent:
        print(f"{item['host']}:{item['port']}: {item['reason']}")
