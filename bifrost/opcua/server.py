"""The OPC UA face: a server over the tag table, run by the C thread of `_opcua`.

The thread reads values from the table's change ring by itself; Python compiles the address space, keeps certificate and
users, and passes on what clients write. A write is *deferred*: the client's request waits in the server until
`finish_write` says what the device answered, so nothing here waits for a device.

States: not serving, then serving while `run` runs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from bifrost._native import _c_table, opcua, records
from bifrost.core.contracts import FaceEvent, FaceOwner, FaceWrite
from bifrost.core.errors import BifrostError, ConfigError, ConnectError, LimitError
from bifrost.core.log import fields
from bifrost.core.status import status_name
from bifrost.core.table import decode_array, decode_text
from bifrost.core.tag import Value
from bifrost.opcua.address_space import Space
from bifrost.opcua.certificate import Certificate, parse_certificate
from bifrost.opcua.faces import FaceSettings, endpoint_url
from bifrost.opcua.memory import server_limits
from bifrost.opcua.security import application_uri, certificate_days
from bifrost.opcua.users import User

__all__ = ["OpcUaServer"]

_log = logging.getLogger("bifrost.opcua")

_EVENTS_PER_TURN: Final = 256  # Then the loop's other callbacks have their turn.
_EXPIRES_SOON: Final = timedelta(days=30)
_BAD_OUT_OF_MEMORY: Final = 0x80030000
_BAD_CERTIFICATE_UNTRUSTED: Final = 0x801A0000
_BAD_COMMUNICATION_ERROR: Final = 0x80050000
_NO_STATUS: Final = 0
_EVENT_NAMES: Final[Mapping[int, tuple[str, bool]]] = {
    opcua.EVENT_WRITE_REFUSED: ("write_refused", False),
    opcua.EVENT_SESSION_OPENED: ("session_opened", False),
    opcua.EVENT_SESSION_CLOSED: ("session_closed", False),
    opcua.EVENT_LOGIN_FAILED: ("login_failed", True),
    opcua.EVENT_CERTIFICATE_REJECTED: ("certificate_rejected", True),
    opcua.EVENT_LIMIT_REACHED: ("limit_reached", True),
}


class OpcUaServer:
    """A `core.contracts.Face` over the compiled stack.

    Args:
        settings: What it is made from.
        make_space: Compiles what clients see.

    Raises:
        ConfigError: The table is not that of the compiled core.
    """

    def __init__(self, settings: FaceSettings, make_space: Callable[[], Space]) -> None:
        native = settings.table.native
        if not isinstance(native, _c_table.Table):
            raise ConfigError("the OPC UA server needs the compiled core; 'bifrost doctor' says what is missing")
        self._settings = settings
        self._make_space = make_space
        self._native_table = native
        self._server = opcua.Server()
        self._writers: dict[int, tuple[str, int]] = {}

    @property
    def url(self) -> str:
        """Where it listens; empty while it does not serve."""
        port = self._server.port
        return endpoint_url(self._settings.bind, port) if port else ""

    async def run(self, owner: FaceOwner) -> None:
        """Serves until it is cancelled; see `core.contracts.Face`.

        Starting holds the loop for about 0.2 s; the certificate, which the first start makes, does not.
        """
        self._start(*await self._settings.pki.own(self._make_certificate))
        loop = asyncio.get_running_loop()
        descriptor = self._server.fileno()
        loop.add_reader(descriptor, self._take, owner)
        try:
            await self._follow_users()
        finally:
            loop.remove_reader(descriptor)
            self._server.stop()

    def finish_write(self, token: int, status: int) -> None:
        """See `core.contracts.Face`."""
        self._writers.pop(token, None)
        self._server.finish_write(token, status)

    def counters(self) -> Mapping[str, int]:
        """See `core.contracts.Face`; the names are those of `bf_ua_stats`, and ``memory_bytes``."""
        return self._server.stats() | {"memory_bytes": opcua.memory().live_bytes}

    def replace_space(self, space: Space) -> None:
        """Shows another address space; nodes with the same id go on for clients. Waits milliseconds.

        Raises:
            LimitError: There is no memory for it; the one before stays.
        """
        if self._server.port:
            status = self._server.swap_space(_native_space(space))
            if status != _NO_STATUS:
                raise LimitError(
                    "memory_bytes_max", self._settings.memory_bytes, f"new address space: {status_name(status)}"
                )

    # ---- starting

    def _start(self, certificate: bytes, key: bytes) -> None:
        settings = self._settings
        known = parse_certificate(certificate)
        self._warn_of_certificate(known)
        config = opcua.ServerConfig(
            url=endpoint_url(settings.bind, settings.bind.port),
            application_uri=known.uri,
            application_name=f"Bifrost {settings.gateway_name}",
            version=settings.version,
            certificate=certificate,
            key=key,
            folders=tuple(str(settings.pki.folder(name)) for name in ("trusted", "issuers", "revoked", "rejected")),  # type: ignore[arg-type]  # four names
            users=_native_users(settings.users.load()),
            policies=settings.access.policies,
            anonymous=self._anonymous,
            limits=server_limits(settings.limits, settings.memory_bytes),
        )
        status = self._server.start(config, _native_space(self._make_space()), self._native_table)
        if status != _NO_STATUS:
            raise self._failure(status)
        _log.info("OPC UA server is listening", extra=fields(url=self.url, policies=" ".join(settings.access.policies)))
        for warning in settings.access.warnings:
            _log.warning("OPC UA is open", extra=fields(warning=warning))

    def _failure(self, status: int) -> BifrostError:
        bind = self._settings.bind
        if status == _BAD_COMMUNICATION_ERROR:
            return ConnectError(
                f"the OPC UA server cannot listen on {bind}: another program does, or the address is not of this machine;"
                " end that program, or set bind in [opcua] to an address and port that are free"
            )
        if status == _BAD_OUT_OF_MEMORY:
            return LimitError("memory_bytes_max", self._settings.memory_bytes, "the OPC UA server does not fit")
        return ConfigError(f"the OPC UA server does not start: {status_name(status)}", key="opcua")

    @property
    def _anonymous(self) -> str:
        return "read" if self._settings.access.is_anonymous else ""

    def _make_certificate(self) -> tuple[bytes, bytes]:
        host = socket.gethostname()
        uri = application_uri(self._settings.gateway_name, host)
        _log.info("a certificate is made", extra=fields(uri=uri))
        status, certificate, key = opcua.make_certificate(
            f"Bifrost {self._settings.gateway_name}", uri, host, certificate_days(self._now())
        )
        if status != _NO_STATUS:
            raise ConfigError(f"no certificate could be made: {status_name(status)}", key="opcua")
        return certificate, key

    def _warn_of_certificate(self, known: Certificate) -> None:
        expected = application_uri(self._settings.gateway_name)
        if known.uri != expected:
            _log.info("the certificate is of another name", extra=fields(uri=known.uri, expected=expected))
        now = self._now()
        hint = f"move {self._settings.pki.own_key.parent} away and restart to have a new one made"
        if known.not_after - now < _EXPIRES_SOON:
            _log.warning("the OPC UA certificate expires", extra=fields(at=known.not_after.isoformat(), hint=hint))
        if known.not_before > now:
            found = fields(before=known.not_before.isoformat(), now=now.isoformat())
            _log.warning("the OPC UA certificate is not valid yet: is the clock right?", extra=found)

    def _now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._settings.now_ns() // 1_000)

    # ---- serving

    async def _follow_users(self) -> None:
        """Looks once a second whether the users have changed; until cancelled."""
        users = self._settings.users
        seen = users.fingerprint()
        while True:
            await asyncio.sleep(1.0)
            fingerprint = users.fingerprint()
            if fingerprint == seen:
                continue
            seen = fingerprint
            try:
                loaded = users.load()
            except (ConfigError, LimitError) as error:
                _log.error("the users are not taken", extra=fields(error=error))
                continue
            self._server.set_users(_native_users(loaded), self._anonymous)
            _log.info("the users were taken", extra=fields(count=len(loaded)))

    def _take(self, owner: FaceOwner) -> None:
        for _ in range(_EVENTS_PER_TURN):
            event = self._server.take()
            if event is None:
                return
            who = f"opcua:{event.user or 'anonymous'} {event.client}".rstrip()
            if event.kind == opcua.EVENT_WRITE:
                self._writers[event.token] = (who, event.row)
                owner.write(FaceWrite(event.token, event.row, self._value(event), who))
            elif event.kind == opcua.EVENT_WRITE_ABANDONED:
                self._abandon(event, owner)
            else:
                owner.report(self._report(event, who))

    def _abandon(self, event: opcua.Event, owner: FaceOwner) -> None:
        who, row = self._writers.get(event.token, ("opcua", None))
        if row is None:  # It was answered just now.
            return
        is_taken_back = owner.abandon_write(event.token, event.status)
        details = {
            "tag": self._settings.table.name_of(row),
            "reason": status_name(event.status),
            "device": "was not written" if is_taken_back else "may have been written: this is not undone",
        }
        owner.report(FaceEvent("write_abandoned", who, not is_taken_back, details))

    def _value(self, event: opcua.Event) -> Value:
        kind = self._settings.table.kind(event.row)
        if kind == records.KIND_TEXT:
            return decode_text(event.body)
        if kind == records.KIND_ARRAY:
            return decode_array(event.type, event.body)
        return self._settings.table.value_of_bits(event.row, event.value)

    def _report(self, event: opcua.Event, who: str) -> FaceEvent:
        name, is_warning = _EVENT_NAMES.get(event.kind, (f"event_{event.kind}", True))
        details: dict[str, object] = {}
        if event.kind == opcua.EVENT_LIMIT_REACHED:
            details["limit"] = opcua.LIMIT_NAMES.get(event.row, event.row)
        elif event.kind == opcua.EVENT_WRITE_REFUSED:
            details |= {"tag": self._settings.table.name_of(event.row), "result": status_name(event.status)}
        elif event.kind == opcua.EVENT_CERTIFICATE_REJECTED:
            who = "opcua"
            details |= {"subject": event.client, "thumbprint": event.user, "reason": status_name(event.status)}
            if event.status == _BAD_CERTIFICATE_UNTRUSTED:
                details["hint"] = f"bifrost opcua cert trust {event.user[:12].lower()}"
        elif event.status != _NO_STATUS:
            details["reason"] = status_name(event.status)
        return FaceEvent(name, who, is_warning, details)


def _native_space(space: Space) -> opcua.Space:
    return opcua.Space(space.nodes, space.details, space.texts, space.rows_count)


def _native_users(users: Sequence[User]) -> list[opcua.User]:
    return [
        opcua.User(user.name, bytes.fromhex(user.salt), bytes.fromhex(user.hash), user.iterations, user.role)
        for user in users
    ]
