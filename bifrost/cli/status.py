"""Show how the running gateway is doing: devices, tasks, memory, writes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from bifrost.cli.live import GatewayClient, add_control_argument, connect_gateway
from bifrost.cli.output import counted, format_age, format_count, print_json, table_lines

__all__ = ["configure", "read_status", "run", "status_lines"]

_OPCUA_COUNTS = {"sessions": "sessions", "monitored_items": "monitored items", "writes": "writes"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost status`."""
    add_control_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Asks the gateway and prints its answer; 0."""
    with connect_gateway(options) as gateway:
        status = read_status(gateway)
    if options.json:
        print_json(status)
    else:
        print("\n".join(status_lines(status)))
    return 0


def read_status(gateway: GatewayClient) -> dict[str, Any]:
    """The status in one piece: what comes line by line is put together."""
    status: dict[str, Any] = {}
    devices: list[dict[str, Any]] = []
    links: list[dict[str, Any]] = []
    for answer in gateway.ask({"command": "status"}):
        devices += answer.get("devices", [])
        links += answer.get("links", [])
        status |= answer
    del status["ok"]
    status.pop("more", None)
    return status | {"devices": devices, "links": links}


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """The status for people."""
    memory, tags, writes = status["memory"], status["tags"], status["writes"]
    health = "healthy" if status["healthy"] else "NOT HEALTHY"
    process = f"up {format_age(status['uptime_s'])}, version {status['version']}, pid {status['pid']}"
    counts = ", ".join(f"{format_count(tags[severity])} {severity}" for severity in ("good", "uncertain", "bad"))
    regions, limit, resident = (_mib(memory[key]) for key in ("regions_bytes", "memory_bytes_max", "rss_bytes"))
    switch = "on" if writes["enabled"] else "off"
    lines = [
        f"{status['name']}: {health}, {process}, backend {status['backend']}",
        f"tags: {format_count(tags['count'])}, of which {counts}",
        f"memory: {regions} of at most {limit} allocated, {resident} resident",
        f"writes: {switch}, {writes['sent']} sent, {writes['refused']} refused, {writes['waiting']} waiting",
        *_opcua_lines(status.get("opcua")),
        f"clock: {'synchronised' if status['clock_synchronised'] else 'NOT synchronised'}",
        *_reload_lines(status.get("reload")),
        "",
        *_device_lines(status["devices"]),
        "",
        *_link_lines(status["links"]),
        *_uplink_lines(status.get("uplinks", [])),
    ]
    troubled = [task for task in status["tasks"] if task["restarts"] or task["state"] != "running"]
    if troubled:
        rows = [(task["name"], task["state"], task["restarts"], task["last_error"]) for task in troubled]
        lines += ["", *table_lines(("task", "state", "restarts", "last error"), rows, right=(2,))]
    return [*lines, *(f"warning: {warning}" for warning in status["warnings"])]


def _opcua_lines(opcua: Mapping[str, Any] | None) -> list[str]:
    if opcua is None:
        return []
    counts = [f"{opcua[key]} {words}" for key, words in _OPCUA_COUNTS.items() if key in opcua]
    lines = [", ".join([f"opc ua: {opcua['url'] or 'not listening'}", *counts])]
    if rejected := opcua["certificates_in_rejected"]:
        told = "bifrost opcua cert list (then cert trust THUMBPRINT)"
        lines.append(f"opc ua: {counted(rejected, 'certificate')} in the folder rejected: {told}")
    return lines


def _reload_lines(last: Mapping[str, Any] | None) -> list[str]:
    """What came of the last reload, unless it is done and forgotten."""
    if not last or last["result"] == "done":
        return []
    return [f"reload: {last['result']} at {last['time']}: {line}" for line in last["message"].splitlines()]


def _device_lines(devices: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            device["name"],
            device["state"] + (f": {device['reason']}" if device["reason"] else ""),
            device["tags"],
            device["good"],
            f"{device['requests_per_s']:.4g}",
            device["url"],
        )
        for device in devices
    ]
    return table_lines(("device", "state", "tags", "good", "requests/s", "url"), rows, right=(2, 3, 4))


def _link_lines(links: list[dict[str, Any]]) -> list[str]:
    names = ("requests", "answers_good", "answers_error", "timeouts", "skipped", "opens")
    rows = [(link["link"], "up" if link["up"] else "down", *(link[name] for name in names)) for link in links]
    header = ("link", "is", "requests", "good", "refused", "time-outs", "skipped", "connects")
    return table_lines(header, rows, right=range(2, 8))


def _uplink_lines(uplinks: list[dict[str, Any]]) -> list[str]:
    """The ledger of each uplink: acquired = acknowledged + buffered + dropped."""
    if not uplinks:
        return []
    names = ("acquired", "acknowledged", "buffered")
    rows = []
    notes = []
    for uplink in uplinks:
        ledger = uplink["ledger"] or {"dropped": {}}
        dropped = {reason: count for reason, count in ledger["dropped"].items() if count}
        is_said = uplink["reason"] and uplink["state"] != "connected"
        state = f"{uplink['state']}: {uplink['reason']}" if is_said else uplink["state"]
        counts = ["?"] * 4  # Nobody knows before the journal is open.
        if uplink["ledger"]:
            counts = [format_count(ledger[name]) for name in names] + [format_count(sum(dropped.values()))]
        rows.append((uplink["name"], state, *counts, uplink["url"]))
        reasons = ", ".join(f"{reason} {format_count(count)}" for reason, count in dropped.items())
        notes += [f"uplink {uplink['name']}: dropped: {reasons}"] if reasons else []
        if ledger.get("unclean_stop"):
            since = ledger["unclean_stop"]["since"]
            notes.append(
                f"uplink {uplink['name']}: unclean stop: what was acquired after {since}, and not yet written, is not counted"
            )
        if uplink.get("journal", {}).get("failure"):
            notes.append(f"uplink {uplink['name']}: {uplink['journal']['failure']}")
    header = ("uplink", "is", *names, "dropped", "url")
    return ["", *table_lines(header, rows, right=range(2, 6)), *notes]


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
