"""What Bifrost says about itself, as rows of the tag table: faces show them like tags, and nothing else is needed for it.

Each device has `_Diagnostics`, the gateway has `_Gateway`, and in it `Uplinks` with the ledger of each. The rows lie behind those of the
tags; once a second what changed is written into them, so that clients follow a number of Bifrost as they follow one of the plant.

The numbers of one device, one uplink or the gateway are taken at one moment and written as one batch, which readers see as a whole:
so a ledger that is read adds up.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bifrost._native import records
from bifrost.bridge.ledger import Reason
from bifrost.core.errors import LimitError
from bifrost.core.status import StatusCode, is_bad, is_good
from bifrost.core.table import Batch, RowColumns
from bifrost.core.tag import Value
from bifrost.gateway import health
from bifrost.opcua.address_space import UPLINKS, Diagnostic

if TYPE_CHECKING:
    from bifrost.core.config import Config
    from bifrost.gateway.app import Gateway
    from bifrost.gateway.polling import Polled

__all__ = ["DEVICE_DIAGNOSTICS", "GATEWAY_DIAGNOSTICS", "UPLINK_DIAGNOSTICS", "Diagnostics", "Kind"]

_PERIOD_S: Final = 1.0
_DEVICES_PER_TURN: Final = 64  # Then the loop's other tasks have their turn.


class Kind(NamedTuple):
    """One diagnostic: name, wire type, bytes of a text (else 1), and what it means."""

    name: str
    type: int
    size: int
    meaning: str


_BOOL, _COUNT, _NUMBER = records.TYPE_BOOL, records.TYPE_UINT64, records.TYPE_FLOAT64
_TEXT = records.TYPE_STRING

DEVICE_DIAGNOSTICS: Final = (
    Kind("Connected", _BOOL, 1, "Whether the connection to the device is up."),
    Kind("State", _TEXT, 32, "good, partly good, connected without a good value, or not connected."),
    Kind("LastError", _TEXT, 160, "Why the connection is not up; empty while it is."),
    Kind("TagsCount", _COUNT, 1, "Tags of the device."),
    Kind("TagsGood", _COUNT, 1, "Tags with a good value."),
    Kind("RequestsPerSecond", _NUMBER, 1, "Requests a second that polling is planned to take."),
    Kind("LearnedHoles", _COUNT, 1, "Address ranges that the device refused and that are read around."),
    Kind("Requests", _COUNT, 1, "Requests sent on the device's connection since the start."),
    Kind("Errors", _COUNT, 1, "Of them, those that were answered with an error."),
    Kind("Timeouts", _COUNT, 1, "Of them, those that were not answered in time."),
    Kind("SkippedPolls", _COUNT, 1, "Scan periods skipped because the one before was still running."),
    Kind("Connects", _COUNT, 1, "Connections made since the start."),
)
GATEWAY_DIAGNOSTICS: Final = (
    Kind("Version", _TEXT, 32, "Version of Bifrost."),
    Kind("Uptime", _COUNT, 1, "Seconds since the start."),
    Kind("Cpu", _NUMBER, 1, "Load of the process in the last second, in percent of one core."),
    Kind("MemoryBytes", _COUNT, 1, "Resident memory of the process."),
    Kind("ClockSynchronised", _BOOL, 1, "Whether a time service keeps the clock."),
    Kind("TagsCount", _COUNT, 1, "Tags of all devices."),
    Kind("TagsGood", _COUNT, 1, "Tags with a good value."),
    Kind("TagsBad", _COUNT, 1, "Tags without a usable value."),
    Kind("Changes", _COUNT, 1, "Changes of values or quality since the start."),
    Kind("WritesSent", _COUNT, 1, "Values written to devices since the start."),
    Kind("WritesRefused", _COUNT, 1, "Writes that were refused before they came to a device."),
    Kind("OpcUaSessions", _COUNT, 1, "Sessions of OPC UA clients now."),
    Kind("OpcUaMonitoredItems", _COUNT, 1, "Their monitored items now."),
    Kind("OpcUaMemoryBytes", _COUNT, 1, "Memory of the OPC UA stack."),
    Kind("Warnings", _TEXT, 480, "What works but is hardly meant, one a line."),
)
_DROPPED: Final[Mapping[Reason, str]] = {
    Reason.LAPPED: "Overwritten in the change ring before the outbox had read them.",
    Reason.DEADBAND: "Held back by the uplink's own deadband.",
    Reason.CAP: "Dropped since the buffer was full.",
    Reason.AGE: "Dropped since they were older than the buffer keeps them.",
    Reason.QUARANTINE: "Refused by the destination for ever.",
    Reason.DAMAGE: "Damaged on the disk.",
}
UPLINK_DIAGNOSTICS: Final = (
    Kind("Connected", _BOOL, 1, "Whether the destination can be reached."),
    Kind("State", _TEXT, 32, "waiting, connecting or connected."),
    Kind("LastError", _TEXT, 160, "Why it is not connected; empty while it is."),
    Kind("Acquired", _COUNT, 1, "Samples acquired: the sum of acknowledged, buffered and dropped ones."),
    Kind("Acknowledged", _COUNT, 1, "Samples that the destination has."),
    Kind("Buffered", _COUNT, 1, "Samples in memory and journal."),
    Kind("Dropped", _COUNT, 1, "Samples dropped, for whatever reason; the next ones say for which."),
    *(Kind(f"Dropped{reason.capitalize()}", _COUNT, 1, meaning) for reason, meaning in _DROPPED.items()),
    Kind("UncleanStop", _TEXT, 32, "Since when, before the last unclean stop, samples were not counted; else empty."),
    Kind("DiskBytes", _COUNT, 1, "Size of the journal."),
    Kind("JournalFailure", _TEXT, 160, "Why the journal cannot write; empty while it can."),
    Kind("Connects", _COUNT, 1, "Connections made since the start."),
    Kind("RecordsResent", _COUNT, 1, "Messages sent more than once since the start."),
)


class Diagnostics:
    """The rows of one gateway, and what is written into them.

    Args:
        gateway: The rows of its devices' tags are defined.

    Attributes:
        of_gateway: Of the gateway.
        of_device: By name of the device.
        of_uplink: By name of the uplink.

    Raises:
        LimitError: `diagnostics_count_max` rows are too few.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._table = gateway.runtime.table
        self._names: dict[int, str] = {}
        self._before: dict[int, Value] = {}
        self._rows_count = 0
        self._cpu_s, self._cpu_at_ns = health.cpu_s(), gateway.clock.now_ns()
        self._of_devices = _Owners("", DEVICE_DIAGNOSTICS, {}, [], [])
        self._of_uplinks = _Owners(f"{UPLINKS}.", UPLINK_DIAGNOSTICS, {}, [], [])
        self.of_device, self.of_uplink = self._of_devices.shown, self._of_uplinks.shown
        self.of_gateway = self._define("_Gateway", GATEWAY_DIAGNOSTICS)
        self.begin(gateway.config)

    def require_room(self, config: Config) -> None:
        """Raises LimitError if there are not enough rows for `begin`."""
        needed = self._rows_count
        for owners, names in self._owners(config):
            missing = sum(name not in owners.shown for name in names)
            needed += max(0, missing - len(owners.free)) * len(owners.kinds)
        allowed = self._gateway.config.limits.diagnostics_count_max
        if needed > allowed:
            raise LimitError("diagnostics_count_max", allowed, f"devices and uplinks need {needed} diagnostics")

    def begin(self, config: Config) -> None:
        """Has rows for every device and uplink of `config` from now on; what is not in it says that it is unknown.

        Raises:
            LimitError: See `Diagnostics`.
        """
        for owners, names in self._owners(config):
            for name in owners.shown.keys() - set(names):
                gone = owners.shown.pop(name)
                self._mark(gone, StatusCode.BadNodeIdUnknown)
                owners.leaving.append(gone)
            for name in names:
                if name not in owners.shown:
                    owners.shown[name] = self._use_again(owners, name) or self._define(owners.of(name), owners.kinds)

    def settle(self) -> None:
        """No face shows any more what is not in the configuration: its rows may be used again."""
        for owners, _ in self._owners(self._gateway.config):
            owners.free.extend(owners.leaving)
            owners.leaving.clear()

    def name_of(self, row: int) -> str | None:
        """Full name of a row of ours, as in OPC UA; None for another one."""
        return self._names.get(row)

    async def run(self) -> None:
        """Writes what changed once a second, until cancelled."""
        while True:
            good_count = bad_count = 0
            for start in range(0, len(self._gateway.devices), _DEVICES_PER_TURN):
                for polled in self._gateway.devices[start : start + _DEVICES_PER_TURN]:
                    good, bad = _count(self._table.statuses(array("I", polled.rows)))
                    good_count, bad_count = good_count + good, bad_count + bad
                    self._write(self._of_device(polled, good))
                await asyncio.sleep(0)
            self._write(self._of_gateway(good_count, bad_count))
            for record in self._gateway.uplinks.records():
                self._write(self._of_uplink(record))
            await asyncio.sleep(_PERIOD_S)

    def _owners(self, config: Config) -> Iterator[tuple[_Owners, list[str]]]:
        yield self._of_devices, [device.name for device in config.devices]
        yield self._of_uplinks, [uplink.name for uplink in config.uplinks]

    def _use_again(self, owners: _Owners, name: str) -> tuple[Diagnostic, ...] | None:
        """Rows of something that went, showing nothing of it; None: there are none."""
        if not owners.free:
            return None
        made = owners.free.pop()
        self._name(owners.of(name), made)
        for diagnostic in made:
            self._before.pop(diagnostic.row, None)
        self._mark(made, StatusCode.BadWaitingForInitialData)
        return made

    def _mark(self, diagnostics: Sequence[Diagnostic], status: StatusCode) -> None:
        rows, clock = array("I", [diagnostic.row for diagnostic in diagnostics]), self._gateway.clock
        self._table.mark(rows, status, server_time_ns=clock.utc_ns(), now_ns=clock.now_ns())

    def _define(self, owner: str, kinds: Sequence[Kind]) -> tuple[Diagnostic, ...]:
        columns = RowColumns(len(kinds))
        for index, kind in enumerate(kinds):
            columns.set_type(index, kind.type, kind.size, is_scaled=False, is_array=False)
        allowed = self._gateway.config.limits.diagnostics_count_max
        if self._rows_count + len(kinds) > allowed:
            raise LimitError("diagnostics_count_max", allowed, f"diagnostics of {owner!r} do not fit")
        first = self._table.define(columns)
        self._rows_count += len(kinds)
        made = tuple(Diagnostic(kind.name, kind.type, first + index, kind.meaning) for index, kind in enumerate(kinds))
        self._name(owner, made)
        return made

    def _name(self, owner: str, made: Sequence[Diagnostic]) -> None:
        self._names.update((diagnostic.row, f"{owner}#{diagnostic.name}") for diagnostic in made)

    def _write(self, values: Iterator[tuple[Diagnostic, Value]]) -> None:
        rows, changed = array("I"), []
        for diagnostic, value in values:
            row = diagnostic.row
            if row not in self._before or self._before[row] != value:
                self._before[row] = value
                rows.append(row)
                changed.append(value)
        if rows:
            clock = self._gateway.clock
            now_ns, utc_ns = clock.now_ns(), clock.utc_ns()
            self._table.put(Batch(rows, changed, utc_ns), server_time_ns=utc_ns, now_ns=now_ns)

    def _of_device(self, polled: Polled, good: int) -> Iterator[tuple[Diagnostic, Value]]:
        gateway = self._gateway
        link = polled.device.link if polled.device is not None else None
        counters = gateway.runtime.scan.counters(link.index) if link is not None else records.Counters()
        is_up = link is not None and link.is_up
        values: tuple[Value, ...] = (
            is_up,
            health.state_of(is_up=is_up, good=good, count=len(polled.rows)),
            ("" if is_up else link.reason) if link is not None else "its task is not running",
            len(polled.rows),
            good,
            float(polled.requests_per_s),
            len(polled.driver.learned.get("holes", ())),
            counters.requests,
            counters.answers_error,
            counters.timeouts,
            counters.skipped,
            counters.opens,
        )
        return _paired(self.of_device[polled.config.name], values, DEVICE_DIAGNOSTICS)

    def _of_uplink(self, record: Mapping[str, Any]) -> Iterator[tuple[Diagnostic, Value]]:
        """Nothing is said of what only the journal knows until it is open, and nothing at all of an uplink that is going."""
        diagnostics, ledger = self.of_uplink.get(record["name"]), record["ledger"]
        if diagnostics is None:
            return iter(())
        is_connected = record["state"] == "connected"
        values: tuple[Value, ...] = (is_connected, str(record["state"]), "" if is_connected else record["reason"])
        if ledger is not None:
            values += (
                *(ledger[name] for name in ("acquired", "acknowledged", "buffered")),
                sum(ledger["dropped"].values()),
                *(ledger["dropped"][reason] for reason in _DROPPED),
                ledger["unclean_stop"]["since"] if ledger["unclean_stop"] else "",
                record["journal"]["disk_bytes"],
                record["journal"]["failure"],
                record["connects"],
                record["records_resent"],
            )
        return _paired(diagnostics[: len(values)], values, UPLINK_DIAGNOSTICS[: len(values)])

    def _of_gateway(self, good: int, bad: int) -> Iterator[tuple[Diagnostic, Value]]:
        gateway = self._gateway
        face = gateway.opcua.counters() if gateway.opcua is not None else {}
        values: tuple[Value, ...] = (
            gateway.version,
            (gateway.clock.now_ns() - gateway.started_ns) // 1_000_000_000,
            self._load_percent(),
            health.resident_bytes(),
            gateway.clock.is_synchronised,
            len(gateway.config.tags),
            good,
            bad,
            self._table.native.ring_head(),
            gateway.writes.sent_count,
            gateway.writes.refused_count,
            face.get("sessions", 0),
            face.get("monitored_items", 0),
            face.get("memory_bytes", 0),
            "\n".join(gateway.warnings),
        )
        return _paired(self.of_gateway, values, GATEWAY_DIAGNOSTICS)

    def _load_percent(self) -> float:
        cpu_s, now_ns = health.cpu_s(), self._gateway.clock.now_ns()
        elapsed_s = (now_ns - self._cpu_at_ns) / 1e9
        load = 100 * (cpu_s - self._cpu_s) / elapsed_s if elapsed_s > 0 else 0.0
        self._cpu_s, self._cpu_at_ns = cpu_s, now_ns
        return round(load, 1)


class _Owners(NamedTuple):
    """Things of one kind that have diagnostics each.

    Attributes:
        prefix: Of their ids.
        kinds: What is said of each.
        shown: Their diagnostics by name, in the order they came.
        leaving: Those of some that went, and that a face may still show.
        free: Those of some that went, for others to come.
    """

    prefix: str
    kinds: Sequence[Kind]
    shown: dict[str, tuple[Diagnostic, ...]]
    leaving: list[tuple[Diagnostic, ...]]
    free: list[tuple[Diagnostic, ...]]

    def of(self, name: str) -> str:
        """Id of the one called `name`."""
        return self.prefix + name


def _count(statuses: array[int]) -> tuple[int, int]:
    """How many are good, and how many bad."""
    if statuses.count(StatusCode.Good) == len(statuses):
        return len(statuses), 0
    counts = Counter(statuses)
    good = sum(count for status, count in counts.items() if is_good(status))
    return good, sum(count for status, count in counts.items() if is_bad(status))


def _paired(
    diagnostics: Sequence[Diagnostic], values: Sequence[Value], kinds: Sequence[Kind]
) -> Iterator[tuple[Diagnostic, Value]]:
    """Each diagnostic with its value; texts are cut to what their cell holds."""
    for diagnostic, value, kind in zip(diagnostics, values, kinds, strict=True):
        if isinstance(value, str):
            value = value.encode()[: kind.size].decode("utf-8", "ignore")
        yield diagnostic, value
