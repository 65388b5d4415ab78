"""How the gateway is doing: the answer of `status`, and the metrics. Reads, and changes nothing."""

from __future__ import annotations

import os
import resource
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bifrost.core.metrics import Metrics
from bifrost.core.status import is_bad, is_good
from bifrost.gateway.supervisor import ChildState
from bifrost.gateway.uplinks import SERIES_PER_UPLINK, watch_uplinks

if TYPE_CHECKING:
    from bifrost.gateway.app import Gateway
    from bifrost.gateway.polling import Polled
    from bifrost.plc.scan import LinkStatus

__all__ = [
    "cpu_s",
    "device_records",
    "link_records",
    "make_metrics",
    "not_ready",
    "resident_bytes",
    "state_of",
    "status",
    "status_line",
]

_SERIES_PER_LINK = 8
_SERIES_OF_GATEWAY = 32
_OPCUA_NUMBERS = (
    ("sessions", "Sessions of OPC UA clients."),
    ("monitored_items", "Monitored items of OPC UA clients."),
    ("memory_bytes", "Memory of the OPC UA stack."),
    ("samples_total", "Values handed to monitored items."),
    ("overflows_total", "Values that pushed an older one out of a full queue."),
    ("writes_total", "Values that OPC UA clients wrote."),
    ("logins_failed_total", "Logins refused."),
    ("limits_reached_total", "Requests that met a limit."),
)
_LINK_COUNTERS = (
    ("requests", "Requests sent."),
    ("answers_good", "Answers with values."),
    ("answers_error", "Requests that the device refused."),
    ("timeouts", "Requests without an answer in time."),
    ("skipped", "Scan periods skipped because the one before was still running."),
    ("opens", "Connections made."),
)


def status(gateway: Gateway) -> dict[str, Any]:
    """Everything of `bifrost status` but the devices, which may be many."""
    tags = count_tags(gateway)
    tasks = gateway.supervisor.statuses
    writes = gateway.writes
    return {
        "name": gateway.config.gateway.name,
        "version": gateway.version,
        "pid": os.getpid(),
        "uptime_s": (gateway.clock.now_ns() - gateway.started_ns) / 1e9,
        "config": gateway.config.file,
        "data_dir": gateway.config.gateway.data_dir,
        "backend": gateway.runtime.backend.BACKEND,
        "healthy": tags["good"] == tags["count"] and all(task.state is ChildState.RUNNING for task in tasks),
        "clock_synchronised": gateway.clock.is_synchronised,
        "clock_steps": gateway.clock.steps_count,
        "tags": tags,
        "memory": {
            "regions_bytes": gateway.memory_bytes,
            "memory_bytes_max": gateway.config.limits.memory_bytes_max,
            "rss_bytes": resident_bytes(),
        },
        "cpu_s": round(cpu_s(), 3),
        "writes": {
            "enabled": gateway.config.gateway.writes,
            "sent": writes.sent_count,
            "refused": writes.refused_count,
            "waiting": writes.count,
        },
        "uplinks": gateway.uplinks.records(),
        "control": {
            "clients": gateway.control.clients_count,
            "requests": gateway.control.requests,
            "dropped": dict(gateway.control.dropped),
        },
        "tasks": [
            {"name": task.name, "state": task.state, "restarts": task.restarts, "last_error": task.last_error}
            for task in tasks
            if task.restarts or not task.name.startswith("link ")
        ],
        "opcua": None if gateway.opcua is None else gateway.opcua.record(),
        "reload": gateway.reloader.last or None,
        "warnings": gateway.warnings,
    }


def status_line(gateway: Gateway) -> str:
    """How it is doing in one line, for the service manager."""
    tags = count_tags(gateway)
    return f"{tags['good']} of {tags['count']} tags are good, {len(gateway.devices)} devices"


def not_ready(gateway: Gateway) -> list[str]:
    """The tasks that do not run, in words; empty: the gateway serves. What the plant and destinations do is not asked."""
    return [
        f"{task.name} is {task.state}: {task.last_error}" if task.last_error else f"{task.name} is {task.state}"
        for task in gateway.supervisor.statuses
        if task.state is not ChildState.RUNNING
    ]


def device_records(gateway: Gateway) -> Iterator[dict[str, Any]]:
    """One record a device, in the order of the configuration."""
    links = {link.key: link for link in gateway.scanner.status()}
    for polled in gateway.devices:
        link = links.get(polled.driver.link_key)
        tags = _count(gateway.runtime.table.statuses(array("I", polled.rows)))
        yield {
            "name": polled.config.name,
            "url": polled.config.url.text,
            "state": _state(tags, link),
            "reason": link.reason if link is not None else "its task is not running",
            "tags": tags["count"],
            "good": tags["good"],
            "requests_per_s": polled.requests_per_s,
            "learned": polled.driver.learned,
        }


def link_records(gateway: Gateway) -> Iterator[dict[str, Any]]:
    """One record a connection, with its counters since start."""
    for link in gateway.scanner.status():
        yield {
            "link": link.key,
            "up": link.is_up,
            "reason": link.reason,
            "devices": len(link.devices),
            "units_open": link.units_open,
            **link.counters._asdict(),
        }


def _state(tags: dict[str, int], link: LinkStatus | None) -> str:
    if link is None or not link.is_up:
        return "not connected"
    return state_of(is_up=True, good=tags["good"], count=tags["count"])


def state_of(*, is_up: bool, good: int, count: int) -> str:
    """How a device is, in words, by its link and how many of its tags have a good value."""
    if not is_up:
        return "not connected"
    if good == count:
        return "good"
    return "partly good" if good else "connected, no good value"


def count_tags(gateway: Gateway) -> dict[str, int]:
    """Tags by severity of their quality."""
    return _count(gateway.runtime.table.statuses(array("I", gateway.config.tags.ids)))


def _count(statuses: array[int]) -> dict[str, int]:
    good = sum(map(is_good, statuses))
    bad = sum(map(is_bad, statuses))
    return {"count": len(statuses), "good": good, "uncertain": len(statuses) - good - bad, "bad": bad}


def make_metrics(gateway: Gateway) -> Metrics:
    """The registry: what is asked for when it is shown, a few series a link and none a tag."""
    links = {polled.driver.link_key: polled for polled in gateway.devices}
    series_of_uplinks = SERIES_PER_UPLINK * len(gateway.config.uplinks)
    metrics = Metrics(_SERIES_OF_GATEWAY + _SERIES_PER_LINK * len(links) + series_of_uplinks)
    labels = {"version": gateway.version, "backend": gateway.runtime.backend.BACKEND}
    metrics.gauge("bifrost_build_info", "Version and backend; always 1.", labels).set(1)
    metrics.watch("bifrost_memory_regions_bytes", "Memory allocated at start.", lambda: gateway.memory_bytes)
    metrics.watch("bifrost_memory_resident_bytes", "Resident memory of the process.", resident_bytes)
    metrics.watch("bifrost_cpu_seconds_total", "CPU time of the process.", cpu_s)
    metrics.watch("bifrost_clock_synchronised", "1: the clock is synchronised.", lambda: gateway.clock.is_synchronised)
    for severity in ("good", "uncertain", "bad"):
        read = _tag_counter(gateway, severity)
        metrics.watch("bifrost_tags", "Tags by quality.", read, {"quality": severity})
    metrics.watch("bifrost_changes_total", "Changes of values or quality.", gateway.runtime.table.native.ring_head)
    writes = gateway.writes
    metrics.watch("bifrost_writes_sent_total", "Writes sent to devices.", lambda: writes.sent_count)
    metrics.watch("bifrost_writes_refused_total", "Writes refused before sending.", lambda: writes.refused_count)
    metrics.watch("bifrost_control_clients", "Clients of the control socket.", lambda: gateway.control.clients_count)
    metrics.watch("bifrost_control_requests_total", "Live commands.", lambda: gateway.control.requests)
    metrics.watch("bifrost_scan_cpu_seconds_total", "CPU time of polling.", lambda: gateway.scanner.cpu_ns / 1e9)
    for name, meaning in _OPCUA_NUMBERS if gateway.config.opcua is not None else ():
        metrics.watch(f"bifrost_opcua_{name}", meaning, _opcua_number(gateway, name))
    for key, polled in links.items():
        for name, meaning in _LINK_COUNTERS:
            metrics.watch(f"bifrost_link_{name}_total", meaning, _link_counter(gateway, polled, name), {"link": key})
        metrics.watch("bifrost_link_up", "1: connected.", _link_up(polled), {"link": key})
    watch_uplinks(metrics, gateway)
    return metrics


def _tag_counter(gateway: Gateway, severity: str) -> Any:
    return lambda: count_tags(gateway)[severity]


def _opcua_number(gateway: Gateway, name: str) -> Any:
    key = name.removesuffix("_total")
    return lambda: gateway.opcua.counters().get(key, 0) if gateway.opcua is not None else 0


def _link_counter(gateway: Gateway, polled: Polled, name: str) -> Any:
    def read() -> float:
        if polled.device is None:
            return 0
        return float(getattr(gateway.runtime.scan.counters(polled.device.link.index), name))

    return read


def _link_up(polled: Polled) -> Any:
    return lambda: polled.device is not None and polled.device.link.is_up


def resident_bytes() -> int:
    """Resident memory of this process, in bytes; proc_pid_statm(5)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def cpu_s() -> float:
    """CPU time that this process took, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
