"""Look for what a device has, or list the tags of the running gateway. Nothing is written.

    bifrost browse modbus://10.0.0.5?unit=1
    bifrost browse modbus://10.0.0.5?unit=1 hr:0-1999 ir:0-99
    bifrost browse
    bifrost browse 'boiler.*'

A Modbus device has no list of its tags, so with a URL its registers are asked for, block by block on one connection, no faster than
--rate, with at most --requests requests, and never in --forbidden ranges or those of the configured devices at the same address. What
answers is shown with what it may mean: a guess, to compare with the manual or the display. A range shorter than --step that begins at
no multiple of it may be missed. --import NAME makes a first tag table of it.

Without a URL: tags of the running gateway that match a pattern, each with type, address, unit and whether it may be written.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from bifrost.cli.live import add_control_argument, connect_gateway, find_configuration, refuse_bare_host
from bifrost.cli.output import counted, format_value, print_json, table_lines

if TYPE_CHECKING:
    from bifrost.core.datatypes import ByteOrder
    from bifrost.plc.modbus.address import AddressRange
    from bifrost.plc.modbus.survey import Area, Survey

__all__ = ["configure", "run"]

_WANTED: Final = ("co:0-999", "di:0-999", "ir:0-999", "hr:0-999")
_STEP: Final = 10
_REQUESTS_MAX: Final = 1_000
_RATE: Final = 50.0
_ROWS_SHOWN_MAX: Final = 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost browse`."""
    add_control_argument(parser)
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="URL [RANGE …], or names and patterns of tags (default all)"
    )
    parser.add_argument(
        "--forbidden", action="append", default=[], metavar="RANGE", help="never ask for it; may be repeated"
    )
    parser.add_argument(
        "--step", type=int, default=_STEP, metavar="N", help=f"in gaps, ask every N items (default {_STEP})"
    )
    parser.add_argument(
        "--requests", type=int, default=_REQUESTS_MAX, metavar="N", help=f"at most so many (default {_REQUESTS_MAX})"
    )
    parser.add_argument(
        "--rate", type=float, default=_RATE, metavar="N", help=f"at most so many a second (default {_RATE:g})"
    )
    parser.add_argument(
        "--timeout", type=float, default=1.0, metavar="SECONDS", help="longest wait for an answer (default 1)"
    )
    parser.add_argument("--all", action="store_true", help=f"show every value, not only {_ROWS_SHOWN_MAX}")
    parser.add_argument(
        "--import", dest="device", metavar="NAME", help="write a tag table and add the device to the configuration"
    )


def run(options: argparse.Namespace) -> int:
    """Lists tags, or looks at a device; 0 when there was something, 1 when not, 3 when nobody answered."""
    words: list[str] = options.words
    if words and "://" in words[0]:
        return _run_device(words[0], words[1:], options)
    if options.device:
        raise ValueError("--import needs the URL of a device")
    for word in words[:1]:
        refuse_bare_host(word)
    with connect_gateway(options) as gateway:
        answers = gateway.ask({"command": "browse", "tags": words or ["*"]})
        tags = [tag for answer in answers for tag in answer["tags"]]
    if options.json:
        print_json({"tags": tags})
    else:
        rows = [
            (tag["tag"], tag["type"], tag["address"], tag["unit"], "yes" if tag["writable"] else "", tag["description"])
            for tag in tags
        ]
        print("\n".join(table_lines(("tag", "type", "address", "unit", "writable", "description"), rows)))
    return 0


# ---- a device


def _run_device(url_text: str, ranges: Sequence[str], options: argparse.Namespace) -> int:
    from bifrost.core.config_sections import DeviceConfig
    from bifrost.core.device_url import parse_url
    from bifrost.core.errors import ConnectError
    from bifrost.plc.modbus.address import parse_range
    from bifrost.plc.modbus.driver import ModbusDriver

    if options.step < 1 or options.requests < 1 or not 0.1 <= options.rate <= 1_000:
        raise ValueError("--step and --requests are 1 or more, --rate is 0.1 to 1000")
    url = parse_url(url_text)
    if url.scheme not in ("modbus", "modbus-tcp"):
        raise ValueError(f"devices at {url.scheme}:// cannot be looked at yet; modbus:// can")
    driver = ModbusDriver(DeviceConfig(name="device", url=url))
    wanted = [parse_range(text) for text in ranges or _WANTED]
    forbidden = [parse_range(text) for text in [*options.forbidden, *_configured_forbidden(driver, options)]]
    if not options.json:
        shown = ", ".join(map(str, wanted))
        print(f"unit {driver.unit} of {driver.host}:{driver.port}: reading {shown}", flush=True)
        barred = ", ".join(map(str, forbidden))
        limits = f"at most {options.requests} requests, {options.rate:g} a second; nothing is written"
        print(limits + (f"; never {barred}" if barred else ""), flush=True)
    try:
        survey = _ask(driver, wanted, forbidden, options)
    except ConnectError as error:
        raise ConnectError(f"{driver.host}:{driver.port} {error}") from error
    if options.json:
        print_json(_as_json(survey))
    else:
        print("\n".join(_survey_lines(survey, options.all)))
    if options.device and survey.areas:
        _import(options.device, url_text, survey, options)
    return 0 if survey.areas else 3 if survey.is_silent else 1


def _configured_forbidden(driver: Any, options: argparse.Namespace) -> Iterator[str]:
    """Forbidden ranges of configured devices at the same address and unit."""
    from bifrost.core.config import read_config
    from bifrost.gateway.devices import make_driver

    path = find_configuration(options)
    config = read_config(path, os.environ)[0] if path is not None else None
    for device in config.devices if config is not None else ():
        other: Any = make_driver(device)
        if (other.link_key, other.unit) == (driver.link_key, driver.unit):
            yield from device.forbidden


def _ask(
    driver: Any, wanted: Sequence[AddressRange], forbidden: Sequence[AddressRange], options: argparse.Namespace
) -> Survey:
    from bifrost.cli.modbus_link import ModbusLink
    from bifrost.plc.modbus import frame
    from bifrost.plc.modbus.survey import Survey, survey_device

    survey = Survey()
    asking = survey_device(wanted, forbidden, step=options.step, requests_max=options.requests, survey=survey)
    with ModbusLink(driver.host, driver.port, driver.unit, options.timeout) as link:
        answer: frame.Answer | None = None
        due_s = time.monotonic()
        while True:
            try:
                request = asking.send(answer)
            except StopIteration:
                return survey
            time.sleep(max(0.0, due_s - time.monotonic()))
            due_s = time.monotonic() + 1 / options.rate
            pdu = link.ask(frame.encode_request(request))
            decoded = None if pdu is None else frame.decode_answer(request, pdu)
            answer = decoded if isinstance(decoded, frame.Answer) else None


def _survey_lines(survey: Survey, shows_all: bool) -> list[str]:
    lines = [""]
    if survey.areas:
        areas = [(area.table.title + "s", str(area.range), len(area.values)) for area in survey.areas]
        lines += table_lines(("there are", "range", "items"), areas, right=(2,))
    for table, code in survey.refused.items():
        lines.append(f"{table.title}s: the device does not know them (exception {code})")
    if survey.is_silent:
        lines.append(
            "the unit stopped answering"
            if survey.areas
            else "the unit does not answer; another one may: bifrost discover HOST --unit N"
        )
    elif not survey.areas:
        lines.append("nothing is there")
    if survey.unseen:
        lines.append(
            f"not looked at: {', '.join(map(str, survey.unseen))}" + ("" if survey.is_silent else " (--requests)")
        )
    order = _order_of(survey)
    rows = [row for area in survey.areas for row in _value_rows(area, order)]
    if rows:
        shown = rows if shows_all else rows[:_ROWS_SHOWN_MAX]
        lines += ["", *table_lines(("address", "may be", "value", "raw"), shown)]
        if len(shown) < len(rows):
            lines.append(f"… and {len(rows) - len(shown)} more (--all shows them)")
    return [*lines, f"{counted(survey.requests, 'request')} asked"]


def _order_of(survey: Survey) -> ByteOrder:
    from bifrost.plc.modbus.guess import likely_order

    return likely_order((area.first, area.values) for area in survey.areas if not area.table.is_bits)


def _value_rows(area: Area, order: ByteOrder) -> Iterator[tuple[str, str, str, str]]:
    """What an area holds, as guesses; bits in rows of those that are on."""
    from bifrost.plc.modbus.guess import guess_registers

    name = area.table.value
    if area.table.is_bits:
        on = [str(area.first + index) for index, bit in enumerate(area.values) if bit]
        shown = ", ".join(on[:16]) + (f" and {len(on) - 16} more" if len(on) > 16 else "")
        yield str(area.range), "bool", f"{len(on)} of {len(area.values)} on", shown
        return
    for guess in guess_registers(area.values, order):
        first = area.first + guess.first
        raw = " ".join(f"{register:04X}" for register in area.values[guess.first : guess.first + guess.length][:4])
        if guess.kind == "zeros":
            yield f"{name}:{first}-{first + guess.length - 1}", "", "0 each", ""
            continue
        value = format_value(guess.value)
        if guess.kind == "uint16" and isinstance(guess.value, int) and guess.value >= 0x8000:
            value += f", or int16 {guess.value - 0x10000}"
        yield (
            f"{name}:{first}",
            guess.kind + (f" {guess.order}" if guess.kind == "float32" else ""),
            value,
            raw + (" …" if guess.length > 4 else ""),
        )


def _as_json(survey: Survey) -> dict[str, Any]:
    return {
        "areas": [{"range": str(area.range), "values": area.values} for area in survey.areas],
        "refused": {table.value: code for table, code in survey.refused.items()},
        "not_looked_at": [str(one) for one in survey.unseen],
        "requests": survey.requests,
        "silent": survey.is_silent,
    }


def _import(device: str, url: str, survey: Survey, options: argparse.Namespace) -> None:
    """A tag for each guess, into a table and the configuration."""
    from bifrost.core.config_rules import check_name
    from bifrost.gateway.importing import Draft, plan_placement, table_text, write_placement

    check_name(device)
    order = _order_of(survey)
    drafts = [Draft(0, cells, {}) for area in survey.areas for cells in _tags(area, order)]
    placement = plan_placement(find_configuration(options) or "gateway.toml", device, url, False, os.environ)
    write_placement(placement, table_text(drafts), os.environ)
    if not options.json:
        print(f"{placement.table}: written, {counted(len(drafts), 'tag')}: guesses; name them, and delete what is none")
        print(f"{placement.config}: device {device!r} added in line {placement.line}")


def _tags(area: Area, order: ByteOrder) -> Iterator[dict[str, object]]:
    from bifrost.plc.modbus.guess import guess_registers

    name = area.table.value
    if area.table.is_bits:
        for index in range(len(area.values)):
            yield {"name": f"{name}_{area.first + index}", "address": f"{name}:{area.first + index}"}
        return
    for guess in guess_registers(area.values, order):
        if guess.kind != "zeros":
            first = area.first + guess.first
            seen = f"was {guess.value} when it was found"
            cells: dict[str, object] = {"name": f"{name}_{first}", "address": f"{name}:{first}", "type": guess.kind}
            yield cells | {"byte_order": guess.order.value, "description": seen}
