"""Why a tag has the quality it has: everything between the device and whoever reads the tag, as facts and in sentences.

Facts are what a program reads; the sentences say the same to a person, the cause first. Nothing is asked of the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from bifrost._native import records
from bifrost.core.status import StatusCode, is_good
from bifrost.gateway.values import value_record

if TYPE_CHECKING:
    from bifrost.core.contracts import Request
    from bifrost.gateway.app import Gateway
    from bifrost.gateway.polling import Polled

__all__ = ["MEANINGS", "why_record"]

_NS_PER_S: Final = 1_000_000_000
_CHANGES_LOOKED_AT: Final = 4_096
MEANINGS: Final[Mapping[int, str]] = {
    StatusCode.BadWaitingForInitialData: "No answer with this tag has come yet.",
    StatusCode.UncertainNoCommunicationLastUsableValue: "The value is the last good one; since then no answer has come.",
    StatusCode.BadNoCommunication: "No answer has come for longer than `stale`, or a gateway on the way gets none.",
    StatusCode.BadConfigurationError: "The device says that it has no such address; the tag's address or type is wrong for it.",
    StatusCode.BadNotSupported: "The device does not know the function code that reads this kind of address.",
    StatusCode.BadDeviceFailure: "The device reports a fault of its own; some say so of a unit id that they do not have.",
    StatusCode.BadResourceUnavailable: "The device says that it is busy.",
    StatusCode.BadDecodingError: "The device answers, but its answer cannot be a value of this type.",
}


def why_record(gateway: Gateway, tag_id: int) -> dict[str, Any]:
    """Facts about one tag, and `sentences` that say them."""
    tags, table = gateway.config.tags, gateway.runtime.table
    tag = tags[tag_id]
    polled = next(polled for polled in gateway.devices if polled.config.name == tag.device)
    (point,) = table.snapshot([tag_id])
    now_ns = gateway.clock.utc_ns()
    request = _request_of(polled, tag_id)
    facts: dict[str, Any] = {
        **value_record(point, tag.unit),
        "address": tag.address,
        "description": tag.description,
        "age_s": _seconds(now_ns - point.server_time_ns) if point.server_time_ns else None,
        "last_change_s": _last_change_s(gateway, tag_id, now_ns, point.server_time_ns),
        "device": polled.config.name,
        "url": polled.config.url.text,
        "link": _link_facts(polled),
        "block": None if request is None else _block_facts(polled, request),
        "learned": polled.driver.learned,
        "uplinks": _uplinks_of(gateway, tag_id),
        "opcua": None if gateway.opcua is None else f"ns=2;s={point.tag}",
        "opcua_url": None if gateway.opcua is None else gateway.opcua.face.url,
        "writable": gateway.config.gateway.writes and tag.writable,
    }
    return facts | {"sentences": _sentences(facts, point.status)}


def _request_of(polled: Polled, row: int) -> Request | None:
    device = polled.device
    return next((one for one in device.requests if row in one.rows), None) if device is not None else None


def _link_facts(polled: Polled) -> dict[str, Any]:
    if polled.device is None:
        return {"key": polled.driver.link_key, "up": False, "reason": "its task is not running", "devices": 0}
    link = polled.device.link
    return {"key": link.key, "up": link.is_up, "reason": link.reason, "devices": len(link.devices)}


def _block_facts(polled: Polled, request: Request) -> dict[str, Any]:
    assert polled.device is not None, "it has requests"
    return {
        "range": request.label,
        "tags": len(request.rows),
        "unit": request.unit,
        "unit_silent": request.unit in polled.device.link.units_open,
        "scan_s": _seconds(request.period_ns),
        "stale_s": _seconds(request.stale_ns),
        "refused_code": polled.device.refused.get(request.label),
        "is_hole": request.label in polled.driver.learned.get("holes", ()),
    }


def _uplinks_of(gateway: Gateway, tag_id: int) -> list[dict[str, Any]]:
    """The uplinks that carry the tag."""
    records_by_name = {record["name"]: record for record in gateway.uplinks.records()}
    return [
        {
            "name": uplink.name,
            "state": records_by_name[uplink.name]["state"],
            "reason": records_by_name[uplink.name]["reason"],
        }
        for uplink in gateway.config.uplinks
        if uplink.name in records_by_name and tag_id in gateway.config.tags.select(uplink.tags)
    ]


def _last_change_s(gateway: Gateway, row: int, now_ns: int, server_time_ns: int) -> float | None:
    """Seconds since the tag's last change, if it is among the newest changes of all tags."""
    native = gateway.runtime.table.native
    head = native.ring_head()
    _, _, packed = native.ring_read(max(0, head - _CHANGES_LOOKED_AT), _CHANGES_LOOKED_AT)
    times = [
        source_time and source_time + (when >> 16) * 100  # 0: it never had a value, and its change no time of its own.
        for changed, _, source_time, _, when in records.CHANGE.iter_unpack(packed)
        if changed == row
    ]
    return _seconds(now_ns - (times[-1] or server_time_ns)) if times else None


def _seconds(duration_ns: int) -> float:
    return round(duration_ns / _NS_PER_S, 3)


# ---- sentences


def _sentences(facts: dict[str, Any], status: int) -> list[str]:
    link, block = facts["link"], facts["block"]
    said = [_first_sentence(facts, status)]
    if not is_good(status):
        said += _causes(facts, status)
    if block is not None:
        said.append(
            f"It is read every {block['scan_s']:g} s from {facts['device']} ({facts['url']}) at address {facts['address']},"
            f" in block {block['range']} with {_counted(block['tags'], 'tag')}."
        )
    state = "is up" if link["up"] else "is not up"
    shared = f"; {link['devices']} devices share it" if link["devices"] > 1 else ""
    said.append(f"The connection {link['key']} {state}{shared}.")
    if facts["last_change_s"] is not None:
        said.append(f"It changed last {facts['last_change_s']:g} s ago.")
    else:
        said.append(f"It is not among the last {_CHANGES_LOOKED_AT} changes of all tags.")
    said += [_uplink_sentence(uplink) for uplink in facts["uplinks"]] or ["No uplink carries it."]
    if facts["opcua"] is not None:
        place = f"at {facts['opcua_url']}" if facts["opcua_url"] else "once the server listens"
        said.append(f"OPC UA clients see it as {facts['opcua']} {place}.")
    return said


def _first_sentence(facts: dict[str, Any], status: int) -> str:
    age = "never set" if facts["age_s"] is None else f"set {facts['age_s']:g} s ago"
    if is_good(status):
        return f"{facts['tag']} is good, {age}."
    return f"{facts['tag']} is {facts['quality']}, {age}."


def _causes(facts: dict[str, Any], status: int) -> list[str]:
    """What stands between the device and a good value, nearest to the wire first."""
    link, block = facts["link"], facts["block"]
    causes = []
    if not link["up"]:
        causes.append(f"There is no connection: {link['reason']}.")
    elif block is not None and block["unit_silent"]:
        causes.append(f"Unit {block['unit']} does not answer; it is asked less often until it does.")
    elif block is not None and block["refused_code"] is not None:
        causes.append(f"The device refuses block {block['range']} with code {block['refused_code']}.")
    elif block is None:
        causes.append("Nothing polls it at the moment.")
    if block is not None and block["is_hole"]:
        causes.append(
            f"{block['range']} is a hole that was learned: the device has nothing there, and it is read alone."
        )
    meaning = MEANINGS.get(status)
    return [*causes, meaning] if meaning else causes


def _uplink_sentence(uplink: dict[str, Any]) -> str:
    reason = f": {uplink['reason']}" if uplink["reason"] else ""
    return f"Uplink {uplink['name']} carries it and is {uplink['state']}{reason}."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
