"""Read one address of a device, without a configuration; or tags of the running gateway. Nothing is written.

    bifrost read modbus://10.0.0.5 hr:100 float32
    bifrost read boiler.temperature 'boiler.steam.*'
    bifrost read modbus://10.0.0.5?unit=3 40101 --orders

With --orders the value is shown in all four byte orders, so that the right one can be seen: A is the most significant byte, so ABCD is
what the standard says, CDAB swaps the words, BADC the bytes in each word, DCBA both. Without a type it is shown as every number it could
be.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from bifrost.cli.live import add_control_argument, connect_gateway, refuse_bare_host
from bifrost.cli.output import format_value, print_json, table_lines
from bifrost.cli.screen import value_lines

__all__ = ["configure", "run"]

_ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
_TYPES_BY_REGISTERS = (("int16", "uint16"), ("int32", "uint32", "float32"), ("int64", "uint64", "float64"))


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost read`."""
    add_control_argument(parser)
    parser.add_argument("words", nargs="+", metavar="WORD", help="URL ADDRESS [TYPE], or names and patterns of tags")
    parser.add_argument("--orders", action="store_true", help="show the value in all four byte orders")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="longest wait (default 3)")


def run(options: argparse.Namespace) -> int:
    """Reads and prints; 0 when there is a value, 1 when there is none."""
    words: list[str] = options.words
    if "://" not in words[0]:
        refuse_bare_host(words[0])
        if options.orders:
            raise ValueError("--orders needs URL ADDRESS: a tag of the gateway has its byte order already")
        return _run_live(words, options)
    if len(words) not in (2, 3):
        raise ValueError("expected URL ADDRESS [TYPE], for example: modbus://10.0.0.5 hr:100 float32")
    options.url, options.address, options.type = (*words, None)[:3]
    return _run_orders(options) if options.orders else _run_one(options)


def _run_live(names: list[str], options: argparse.Namespace) -> int:
    with connect_gateway(options) as gateway:
        answers = gateway.ask({"command": "read", "tags": names})
        records = [record for answer in answers for record in answer["values"]]
    if options.json:
        print_json({"values": records})
    else:
        print("\n".join(value_lines(records)))
    return 0 if all(record["value"] is not None for record in records) else 1


def _run_one(options: argparse.Namespace) -> int:
    from bifrost.cli.device import make_tag, read_device
    from bifrost.gateway.values import value_record
    from bifrost.gateway.why import MEANINGS

    tag = make_tag(options.address, options.type)
    (points,) = read_device(options.url, [[tag]], options.timeout)
    record = value_record(points[tag.full_name])
    if options.json:
        print_json(record)
    else:
        print(f"{record['tag']}  {format_value(record['value'])}  {record['quality']}")
        meaning = MEANINGS.get(points[tag.full_name].status)
        if meaning:
            print(f"  {meaning}")
    return 0 if record["value"] is not None else 1


def _run_orders(options: argparse.Namespace) -> int:
    from bifrost.cli.device import make_tag, read_device

    chosen: Sequence[Sequence[str]] = ((options.type.partition("@")[0],),) if options.type else _TYPES_BY_REGISTERS
    groups = [
        [make_tag(options.address, f"{name}@{order}", name=f"{name} {order}") for name in names for order in _ORDERS]
        for names in chosen
    ]
    results = read_device(options.url, groups, options.timeout)
    points = {name: point for result in results for name, point in result.items()}
    rows: list[dict[str, Any]] = []
    for name in (name for names in chosen for name in names):
        row = {order: points[f"{name} {order}"] for order in _ORDERS}
        if any(point.value is not None for point in row.values()):
            rows.append({"type": name} | {order: point.value for order, point in row.items()})
    refused = sorted({point.quality for point in points.values() if point.value is None})
    if options.json:
        print_json({"address": options.address, "orders": rows, "refused": refused})
    elif rows:
        cells = [(row["type"], *(format_value(row[order]) for order in _ORDERS)) for row in rows]
        print("\n".join(table_lines(("type", *_ORDERS), cells, right=range(1, 5))))
    if refused and not options.json:
        print(f"{'some' if rows else 'all'} reads were refused: {', '.join(refused)}")
    return 0 if rows else 1
