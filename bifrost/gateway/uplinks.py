"""Uplinks in the gateway: from `[[uplink]]` to a child of the supervisor each, and to the disk when the gateway stops.

All journals share the one thread that waits for the disk. A destination that is away, and a connector whose settings turn
out wrong, stop nothing but the delivery: what the plant says goes on being kept.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bifrost.bridge.buffering.journal import SyncThread
from bifrost.bridge.drops import Burst
from bifrost.bridge.ledger import Reason
from bifrost.bridge.uplink import Place, Uplink, uplink_region
from bifrost.core import plugins
from bifrost.core.background import in_background
from bifrost.core.columns import TagColumns
from bifrost.core.config import Config
from bifrost.core.config_environ import reveal
from bifrost.core.config_rules import SecretRef
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.contracts import Connector, ConnectorFactory
from bifrost.core.errors import ConfigError, StorageError
from bifrost.core.limits import Region
from bifrost.core.log import fields
from bifrost.gateway.supervisor import Child

if TYPE_CHECKING:
    from bifrost.core.metrics import Metrics
    from bifrost.gateway.app import Gateway

__all__ = [
    "SERIES_PER_UPLINK",
    "Uplinks",
    "check_uplinks",
    "left_buffers",
    "missing_secrets",
    "uplink_regions",
    "watch_uplinks",
]

_log = logging.getLogger("bifrost.gateway.uplinks")

_STUCK_NS: Final = 20_000_000_000  # A worn SD card takes seconds for a sync, now and then.
SERIES_PER_UPLINK: Final = 5 + len(Reason)
"""Series that `watch_uplinks` makes for each."""


def uplink_regions(config: Config) -> tuple[Region, ...]:
    """Memory of the uplinks that `config` asks for, for `Limits.regions`."""
    return tuple(uplink_region(uplink, config.limits) for uplink in config.uplinks)


def check_uplinks(config: Config) -> Iterator[ConfigError]:
    """What refuses an uplink at the start, besides its own keys. Opens nothing."""
    for uplink in config.uplinks:
        try:
            Uplink.check(uplink, config.gateway.name, config.limits)
            make_connector(config, uplink)
        except ConfigError as error:
            yield config.located(error)


def missing_secrets(config: Config) -> Iterator[tuple[str, str]]:
    """Keys of uplinks that name a file which is not there, each with what to say. Opens nothing."""
    directory = os.path.dirname(config.file)
    for uplink in config.uplinks:
        for key in ("password", "ca", "cert", "key"):
            secret: SecretRef | None = getattr(uplink, key)
            if (
                secret is not None
                and secret.kind == "file"
                and not os.path.exists(os.path.join(directory, secret.name))
            ):
                yield (
                    f"uplink.{uplink.name}.{key}",
                    f"there is no file {os.path.join(directory, secret.name)!r} on this machine",
                )


def left_buffers(config: Config) -> Iterator[str]:
    """A sentence for each buffer on the disk whose uplink is not configured: it was removed, or has another name now."""
    names = {uplink.name for uplink in config.uplinks}
    for folder in sorted(Path(config.gateway.data_dir, "journal").glob("*/")):
        size_bytes = sum(file.stat().st_size for file in folder.glob("*.bfs"))
        if size_bytes and folder.name not in names:
            yield (
                f"{folder} is the buffer of an uplink {folder.name!r} that is not configured, and has {size_bytes >> 10} KiB:"
                " an uplink of that name sends what waits in it; else delete the folder"
            )


def make_connector(config: Config, uplink: UplinkConfig) -> Connector:
    """The connector of an uplink, not opened.

    Raises:
        ConfigError: There is none for its scheme, or its settings cannot work.
    """
    factory: ConnectorFactory = plugins.load(plugins.CONNECTORS, uplink.url.scheme)  # type: ignore[assignment]  # by name
    return factory(uplink, config.gateway.name, partial(_reveal, os.path.dirname(config.file) or "."))


def _reveal(directory: str, secret: SecretRef) -> str:
    return reveal(secret, os.environ, directory)


class Uplinks:
    """All uplinks of a gateway, allocated.

    Args:
        gateway: With its configuration, its rows defined and its audit log open.

    Raises:
        ConfigError: An uplink's settings cannot work.
    """

    def __init__(self, gateway: Gateway) -> None:
        config = gateway.config
        self._gateway = gateway
        self._thread = SyncThread()
        place = Place(
            gateway=config.gateway.name,
            directory=Path(config.gateway.data_dir),
            table=gateway.runtime.table,
            tags=config.tags,
            limits=config.limits,
            clock=gateway.clock,
            thread=self._thread,
            on_burst=self._report,
        )
        self._place = place
        self._uplinks = [Uplink(uplink, make_connector(config, uplink), place) for uplink in config.uplinks]

    def children(self) -> list[Child]:
        """A child for each, named by it."""
        return [_child(uplink) for uplink in self._uplinks]

    def records(self) -> list[dict[str, Any]]:
        """One record an uplink, with its ledger."""
        return [uplink.record() for uplink in self._uplinks]

    def passed(self) -> int | None:
        """Position in the change ring that every uplink has passed; None: there are no uplinks."""
        return min((uplink.position for uplink in self._uplinks), default=None)

    async def follow(self, tags: TagColumns) -> None:
        """After a reload: the same uplinks, with the tags there are now. Raises LimitError, see `Stream.select`."""
        for uplink in self._uplinks:
            uplink.follow(tags, await in_background(partial(tags.select, uplink.config.tags)))

    async def change(self) -> None:
        """After a reload: uplinks as the gateway's configuration says now; those that are the same in it are not touched.

        What another one of the same name has on its disk, and in the ring, it goes on with. Call `follow` before.

        Raises:
            ConfigError: A connector cannot be made; the uplinks before it are as they should be.
            LimitError: See `Stream.select`.
        """
        gateway, config = self._gateway, self._gateway.config
        self._place = self._place._replace(tags=config.tags)
        before = {uplink.config.name: uplink for uplink in self._uplinks}
        same = {
            uplink.name for uplink in config.uplinks if uplink.name in before and before[uplink.name].config == uplink
        }
        for name, uplink in before.items():
            if name not in same:
                await gateway.supervisor.stop(_child(uplink).name)
                await uplink.close()
        for warning in left_buffers(config):
            _log.warning("an uplink is gone", extra=fields(warning=warning))
        self._uplinks = [before[uplink.name] for uplink in config.uplinks if uplink.name in same]
        for index, settings in enumerate(config.uplinks):
            if settings.name in same:
                continue
            made = Uplink(settings, make_connector(config, settings), self._place)
            if settings.name in before:
                made.succeed(before[settings.name])
            self._uplinks.insert(index, made)
            gateway.supervisor.start(_child(made))

    def connected(self) -> frozenset[str]:
        """Names of those whose destination can be reached now."""
        return frozenset(uplink.config.name for uplink in self._uplinks if uplink.is_connected)

    def require_moving(self) -> None:
        """Raises StorageError when a journal has waited for the disk longer than any disk takes."""
        now_ns = self._gateway.clock.now_ns()
        for uplink in self._uplinks:
            since_ns = uplink.committing_since_ns
            if since_ns and now_ns - since_ns > _STUCK_NS:
                raise StorageError(
                    f"the journal of uplink {uplink.config.name!r} waits for the disk and gets no answer"
                )

    async def close(self) -> None:
        """Writes what is left to the disk. The children have ended."""
        async with asyncio.TaskGroup() as group:
            for uplink in self._uplinks:
                group.create_task(uplink.close(is_last=True), name=f"uplink {uplink.config.name} close")

    def stop_thread(self) -> None:
        """Ends the thread that waits for the disk, after its last job. Safe to call twice."""
        self._thread.close()

    def _report(self, name: str, burst: Burst) -> None:
        words = "samples were dropped" if burst.is_over else "samples are being dropped"
        _log.warning(words, extra=fields(uplink=name, reason=burst.reason, samples=burst.samples))
        event = "uplink_dropped" if burst.is_over else "uplink_dropping"
        self._gateway.note(event, "gateway", {"uplink": name, "reason": burst.reason, "samples": burst.samples})


def _child(uplink: Uplink) -> Child:
    return Child(f"uplink {uplink.config.name}", uplink.run)


def watch_uplinks(metrics: Metrics, gateway: Gateway) -> None:
    """The series of each uplink: its ledger, and whether it is connected."""
    for index, uplink in enumerate(gateway.config.uplinks):
        labels = {"uplink": uplink.name}
        for name, meaning, read in _SERIES:
            metrics.watch(f"bifrost_uplink_{name}", meaning, _reader(gateway, index, read), labels)
        for reason in Reason:
            read_dropped = _reader(gateway, index, partial(_dropped, reason))
            more = labels | {"reason": str(reason)}
            metrics.watch("bifrost_uplink_dropped_total", "Samples dropped, by reason.", read_dropped, more)


def _reader(gateway: Gateway, index: int, read: Callable[[dict[str, Any]], Any]) -> Callable[[], float]:
    """A number of an uplink's record; 0 while its journal is not open."""

    def value() -> float:
        record = gateway.uplinks.records()[index]
        return float(read(record)) if record["ledger"] else 0.0

    return value


def _dropped(reason: Reason, record: dict[str, Any]) -> Any:
    return record["ledger"]["dropped"][str(reason)]


_SERIES: Final[tuple[tuple[str, str, Callable[[dict[str, Any]], Any]], ...]] = (
    ("acquired_total", "Samples acquired for an uplink.", lambda record: record["ledger"]["acquired"]),
    ("acknowledged_total", "Samples its destination has.", lambda record: record["ledger"]["acknowledged"]),
    ("buffered", "Samples in memory and journal.", lambda record: record["ledger"]["buffered"]),
    ("disk_bytes", "Size of its journal.", lambda record: record["journal"]["disk_bytes"]),
    ("up", "1: connected.", lambda record: record["state"] == "connected"),
)
