"""The OPC UA face in the gateway: from `[opcua]` to a child of the supervisor, and from a client's write to the device.

What clients write goes through the one write queue like any other write, and the queue's answer, which is the device's, goes
back to the client. What clients do and meet is in log and audit log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from bifrost.core.background import in_background
from bifrost.core.config import Config
from bifrost.core.contracts import FaceEvent, FaceWrite
from bifrost.core.errors import ConfigError
from bifrost.core.limits import Region
from bifrost.core.log import fields
from bifrost.core.status import StatusCode
from bifrost.opcua.address_space import ShownDevice, Space, compile_space
from bifrost.opcua.faces import NOT_AVAILABLE, FaceSettings, find_stack, make_face
from bifrost.opcua.memory import opcua_region
from bifrost.opcua.security import Pki, access_of
from bifrost.opcua.users import Users

if TYPE_CHECKING:
    from bifrost.gateway.app import Gateway
    from bifrost.gateway.polling import Polled

__all__ = ["OpcUa", "check_opcua", "face_regions"]

_log = logging.getLogger("bifrost.gateway.opcua")

_NS_PER_MS: Final = 1_000_000


def face_regions(config: Config) -> tuple[Region, ...]:
    """Memory of the faces that `config` asks for, for `Limits.regions`."""
    return () if config.opcua is None else (opcua_region(config.limits, config.tags),)


def check_opcua(config: Config, *, is_core_compiled: bool) -> ConfigError | None:
    """What refuses `[opcua]` at the start, besides its own keys: no stack, no users; None: nothing."""
    if config.opcua is None:
        return None
    if find_stack(is_core_compiled=is_core_compiled) is None:
        return ConfigError(NOT_AVAILABLE, file=config.file, key="opcua")
    bind = config.opcua.bind
    try:
        users = _users(config).load()
    except ConfigError as error:
        return error
    if bind.is_loopback or users or access_of(config.opcua).is_anonymous:
        return None
    message = (
        f"{bind} can be reached from other machines, which demands users;"
        f" add one: bifrost opcua user add NAME -c {config.file}"
    )
    return ConfigError(message, file=config.file, key="opcua.bind")


class OpcUa:
    """The face of one gateway; a `core.contracts.FaceOwner`.

    Args:
        gateway: Its devices and diagnostics are defined.

    Raises:
        ConfigError: It cannot be served here, or not so openly.
    """

    def __init__(self, gateway: Gateway) -> None:
        config = gateway.config
        assert config.opcua is not None
        assert gateway.diagnostics is not None
        is_core_compiled = gateway.runtime.backend.BACKEND == "c"
        problem = check_opcua(config, is_core_compiled=is_core_compiled)
        if problem is not None:
            raise problem
        self._gateway = gateway
        self._group: asyncio.TaskGroup | None = None
        self._writes: dict[int, asyncio.Future[int]] = {}
        self._pki = Pki(config.gateway.data_dir)
        (region,) = face_regions(config)
        settings = FaceSettings(
            bind=config.opcua.bind,
            access=access_of(config.opcua),
            pki=self._pki,
            users=_users(config),
            gateway_name=config.gateway.name,
            version=gateway.version,
            limits=config.limits,
            memory_bytes=region.bytes,
            table=gateway.runtime.table,
            now_ns=gateway.clock.utc_ns,
        )
        self.face = make_face(find_stack(is_core_compiled=is_core_compiled), settings, self._make_space)

    async def run(self) -> None:
        """Serves until cancelled. Raises what `core.contracts.Face.run` raises."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self.face.run(self)
            finally:
                self._group = None

    async def show_anew(self) -> None:
        """Shows what the gateway has now, after a reload; clients keep nodes whose ids stay.

        Rows that no node has any more are free for reuse when this returns.

        Raises:
            LimitError: There is no memory for it; clients see what they saw.
        """
        self.face.replace_space(await in_background(self._make_space))

    def _make_space(self) -> Space:
        gateway = self._gateway
        assert gateway.diagnostics is not None
        return compile_space(
            gateway.config.tags,
            [_shown(gateway, polled) for polled in gateway.devices],
            gateway.diagnostics.of_gateway,
            uplinks=gateway.diagnostics.of_uplink,
            rows_count=gateway.runtime.table.rows_count,
            writes=gateway.config.gateway.writes,
        )

    def record(self) -> dict[str, object]:
        """Where it listens, how many refused certificates wait for a decision, and `counters`, for `bifrost status`."""
        rejected = self._pki.count("rejected")
        return {"url": self.face.url, "certificates_in_rejected": rejected, **self.face.counters()}

    def counters(self) -> Mapping[str, int]:
        """What the face holds and did."""
        return self.face.counters()

    def write(self, write: FaceWrite) -> None:
        """See `core.contracts.FaceOwner`. At most `opcua_writes_parked_max` wait at once: the face holds them."""
        gateway = self._gateway
        deadline_ns = gateway.clock.now_ns() + gateway.config.limits.opcua_write_timeout_ms * _NS_PER_MS
        result = gateway.writes.accept(write.row, write.value, write.who, deadline_ns)
        if result.done() or self._group is None:
            self.face.finish_write(write.token, result.result() if result.done() else StatusCode.BadTimeout)
            return
        self._writes[write.token] = result
        self._group.create_task(self._answer(write.token, result), name=f"opcua write {write.token}")

    def abandon_write(self, token: int, status: int) -> bool:
        """See `core.contracts.FaceOwner`."""
        result = self._writes.get(token)
        return result is not None and self._gateway.writes.withdraw(result, StatusCode(status))

    async def _answer(self, token: int, result: asyncio.Future[int]) -> None:
        try:
            self.face.finish_write(token, await result)
        finally:
            del self._writes[token]

    def report(self, event: FaceEvent) -> None:
        """See `core.contracts.FaceOwner`."""
        level = logging.WARNING if event.is_warning else logging.INFO
        _log.log(level, "OPC UA: %s", event.name.replace("_", " "), extra=fields(who=event.who, **event.details))
        self._gateway.note(f"opcua_{event.name}", event.who, event.details)


def _users(config: Config) -> Users:
    return Users(Pki(config.gateway.data_dir).users_file, config.limits.opcua_users_max)


def _shown(gateway: Gateway, polled: Polled) -> ShownDevice:
    assert gateway.diagnostics is not None
    assert polled.definitions is not None
    types: Sequence[int] = polled.definitions.value_types
    return ShownDevice(
        name=polled.config.name,
        scan_ns=polled.config.scan_ns,
        rows=polled.rows,
        types=types,
        cell_sizes=polled.definitions.cell_sizes,
        kinds=polled.definitions.kinds,
        diagnostics=gateway.diagnostics.of_device[polled.config.name],
    )
