"""The OPC UA stack in C: a server in a thread of its own, reached by calls that never wait long.

A thin adapter over the compiled module `_opcua` (open62541, mbedTLS and our glue). There is no twin in Python: where
the module was not built, importing this one raises ImportError, and whoever wanted it says what is missing. As
everywhere at the seam, a refusal is a status and not an exception: an OPC UA StatusCode, 0 for Good. The semantics of
each call stand in `csrc/bifrost_ua.h`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bifrost._native._opcua import ffi, lib

if TYPE_CHECKING:
    from bifrost._native._c_table import Table

__all__ = ["LIMITS", "UNLIMITED_BYTES", "Event", "Memory", "Server", "ServerConfig", "Space", "User", "limit_memory"]
__all__ += ["fail_memory", "make_certificate", "memory", "version"]

UNLIMITED_BYTES: Final = 2**64 - 1
"""As the limit: no ceiling."""
LIMITS: Final[tuple[str, ...]] = tuple(name for name, _ in ffi.typeof("bf_ua_limits").fields)
"""Names of all limits of a server, each of which must be given."""

POLICIES: Final[Mapping[str, int]] = {
    "None": lib.BF_UA_POLICY_NONE,
    "Basic256Sha256": lib.BF_UA_POLICY_BASIC256SHA256,
    "Aes128_Sha256_RsaOaep": lib.BF_UA_POLICY_AES128_SHA256_RSAOAEP,
    "Aes256_Sha256_RsaPss": lib.BF_UA_POLICY_AES256_SHA256_RSAPSS,
}
ROLES: Final[Mapping[str, int]] = {
    "": lib.BF_UA_ROLE_NONE,
    "read": lib.BF_UA_ROLE_READ,
    "write": lib.BF_UA_ROLE_WRITE,
}
EVENT_WRITE: Final[int] = lib.BF_UA_EVENT_WRITE
EVENT_WRITE_ABANDONED: Final[int] = lib.BF_UA_EVENT_WRITE_ABANDONED
EVENT_WRITE_REFUSED: Final[int] = lib.BF_UA_EVENT_WRITE_REFUSED
EVENT_SESSION_OPENED: Final[int] = lib.BF_UA_EVENT_SESSION_OPENED
EVENT_SESSION_CLOSED: Final[int] = lib.BF_UA_EVENT_SESSION_CLOSED
EVENT_LOGIN_FAILED: Final[int] = lib.BF_UA_EVENT_LOGIN_FAILED
EVENT_CERTIFICATE_REJECTED: Final[int] = lib.BF_UA_EVENT_CERTIFICATE_REJECTED
EVENT_LIMIT_REACHED: Final[int] = lib.BF_UA_EVENT_LIMIT_REACHED

LIMIT_NAMES: Final[Mapping[int, str]] = {
    lib.BF_UA_LIMIT_MEMORY: "memory",
    lib.BF_UA_LIMIT_CONNECTIONS: "opcua_connections_max",
    lib.BF_UA_LIMIT_SESSIONS: "opcua_sessions_max",
    lib.BF_UA_LIMIT_SUBSCRIPTIONS: "opcua_subscriptions_max",
    lib.BF_UA_LIMIT_MONITORED_ITEMS: "opcua_monitored_items_max",
    lib.BF_UA_LIMIT_NOTIFICATIONS: "opcua_notifications_max",
    lib.BF_UA_LIMIT_WRITES: "opcua_writes_parked_max",
    lib.BF_UA_LIMIT_LOGIN_FAILURES: "opcua_login_failures_per_minute_max",
    lib.BF_UA_LIMIT_LOGIN_BYTES: "opcua_login_bytes_max",
    lib.BF_UA_LIMIT_BUFFERED_BYTES: "opcua_buffered_bytes_max",
}
"""What `EVENT_LIMIT_REACHED` names by `row`."""

_CERTIFICATE_BYTES: Final = 4_096


class Memory(NamedTuple):
    """What open62541, mbedTLS and our glue hold, over all servers of this process."""

    live_bytes: int
    peak_bytes: int
    limit_bytes: int
    """An allocation beyond it is refused; `UNLIMITED_BYTES` if there is no ceiling."""
    refused_count: int
    """Allocations refused, by the ceiling, by the system or by a test."""
    foreign_count: int
    """Blocks freed that were never counted; other than 0 is a bug of ours."""
    calls_count: int
    """Allocations asked for."""


class User(NamedTuple):
    """One user: PBKDF2-HMAC-SHA256 of the password; `role` is one of `ROLES`."""

    name: str
    salt: bytes
    hash: bytes
    iterations: int
    role: str


class Space(NamedTuple):
    """Packed columns of an address space: records of 40 and 32 bytes, and the texts they refer to."""

    nodes: bytes | bytearray
    details: bytes | bytearray
    texts: bytes | bytearray
    rows_count: int


class ServerConfig(NamedTuple):
    """What a server is started with (`bf_ua_config`); everything is copied at start.

    Attributes:
        url: Where to listen, ``opc.tcp://HOST:PORT``; port 0 takes a free one.
        application_uri: The URI of the certificate.
        application_name: As clients show it.
        version: Of Bifrost.
        certificate: DER; empty: no secure policy is possible.
        key: DER.
        folders: Trusted, issuers, revoked, rejected.
        users: Who may log in.
        policies: Names of `POLICIES`, one at least.
        anonymous: Role of clients without a user; empty: they are refused.
        limits: A value for each of `LIMITS`.
    """

    url: str
    application_uri: str
    application_name: str
    version: str
    certificate: bytes
    key: bytes
    folders: tuple[str, str, str, str]
    users: Sequence[User]
    policies: Sequence[str]
    anonymous: str
    limits: Mapping[str, int]


class Event(NamedTuple):
    """Something that happened in a server (`bf_ua_event`). `body` has the bytes of a written text or array."""

    kind: int
    token: int
    row: int
    status: int
    value: int
    type: int
    flags: int
    source_time: int
    time: int
    user: str
    client: str
    body: bytes


class Server:
    """One OPC UA server: made, run and deleted by one C thread that the object stands for.

    States: new, serving after a `start` that returned Good, stopped. A stopped server can be started again.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._event = ffi.new("bf_ua_event *")
        self._stats = ffi.new("bf_ua_stats *")
        self._body = ffi.new("uint8_t[]", 1)
        self._table: object = None

    def start(self, config: ServerConfig, space: Space, table: Table) -> int:
        """Serve `space` over the rows of `table` until `stop`; returns Good once the server listens.

        Waits for that about 0.1 s, without the GIL. Raises RuntimeError if this server is serving already.
        """
        if self._handle is not None:
            raise RuntimeError("this server is serving already")
        kept: list[object] = []
        c_config = _c_config(config, space, table, kept)
        handle = ffi.new("bf_ua_server **")
        status: int = lib.bf_ua_server_start(c_config, handle)
        if status == 0:
            self._handle = handle[0]
            self._table = table  # outlives the server
            self._body = ffi.new("uint8_t[]", config.limits["array_bytes_max"])
        return status

    @property
    def port(self) -> int:
        """The TCP port it listens on; 0 while it is not serving."""
        return 0 if self._handle is None else int(lib.bf_ua_server_port(self._handle))

    def stop(self) -> None:
        """Stop serving and free everything; waits for the thread, milliseconds. Does nothing if not serving."""
        if self._handle is not None:
            lib.bf_ua_server_stop(self._handle)
            self._handle = self._table = None

    def finish_write(self, token: int, status: int) -> None:
        """Answer the write of an event; a token that is not known any more is ignored."""
        if self._handle is not None:
            lib.bf_ua_write_done(self._handle, token, status)

    def swap_space(self, space: Space) -> int:
        """Replace the address space; nodes with the same id go on. Waits milliseconds."""
        kept: list[object] = []
        status: int = lib.bf_ua_space_swap(self._handle, _c_space(space, kept))
        return status

    def set_users(self, users: Sequence[User], anonymous: str) -> int:
        """Replace the users; sessions that are open stay. Waits milliseconds."""
        kept: list[object] = []
        status: int = lib.bf_ua_users_set(self._handle, _c_users(users, kept), len(users), ROLES[anonymous])
        return status

    def fileno(self) -> int:
        """Descriptor that is readable while events wait; -1 while not serving."""
        return -1 if self._handle is None else int(lib.bf_ua_events_fd(self._handle))

    def take(self) -> Event | None:
        """The next event, or None."""
        if self._handle is None or not lib.bf_ua_event_take(self._handle, self._event, self._body, len(self._body)):
            return None
        event = self._event
        return Event(
            event.kind,
            event.token,
            event.row,
            event.status,
            event.value,
            event.type,
            event.flags,
            event.source_time,
            event.time,
            _text(event.user),
            _text(event.client),
            ffi.buffer(self._body, event.bytes_count)[:],
        )

    def stats(self) -> dict[str, int]:
        """What it holds and did, by the names of `bf_ua_stats`; empty while not serving."""
        if self._handle is None:
            return {}
        lib.bf_ua_server_stats(self._handle, self._stats)
        return {name: getattr(self._stats, name) for name in _STATS}


def make_certificate(subject: str, uri: str, host: str, days: int) -> tuple[int, bytes, bytes]:
    """A status, and a new self-signed certificate and its key, both DER. Takes up to seconds, without the GIL.

    Args:
        subject: Common name.
        uri: ApplicationUri.
        host: DNS name.
        days: How long it is valid, 1 to 65,535.
    """
    certificate, key = ffi.new("uint8_t[]", _CERTIFICATE_BYTES), ffi.new("uint8_t[]", _CERTIFICATE_BYTES)
    sizes = ffi.new("size_t[]", [_CERTIFICATE_BYTES, _CERTIFICATE_BYTES])
    status: int = lib.bf_ua_certificate_make(
        subject.encode(), uri.encode(), host.encode(), days, certificate, sizes, key, sizes + 1
    )
    if status != 0:
        return status, b"", b""
    return status, ffi.buffer(certificate, sizes[0])[:], ffi.buffer(key, sizes[1])[:]


def memory() -> Memory:
    """Return the counters as they are now."""
    counters = ffi.new("bf_ua_memory *")
    lib.bf_ua_memory_read(counters)
    return Memory(*(getattr(counters, name) for name in Memory._fields))


def limit_memory(limit_bytes: int) -> None:
    """Set the ceiling over all servers, 0 to `UNLIMITED_BYTES`; what is held already is kept."""
    lib.bf_ua_memory_limit(limit_bytes)


def fail_memory(fail_at: int = 0, fail_every: int = 0) -> None:
    """For tests: refuse the allocation number `fail_at` from now (first is 1), and one in `fail_every`; 0: none."""
    lib.bf_ua_memory_fail(fail_at, fail_every)


def version() -> str:
    """Return the version of open62541, such as `1.4.18`."""
    return bytes(ffi.string(lib.bf_ua_version())).decode()


_STATS: Final = tuple(name for name, _ in ffi.typeof("bf_ua_stats").fields)


def _c_config(config: ServerConfig, space: Space, table: Table, kept: list[object]) -> Any:
    """The configuration as C sees it; what it points to is alive as long as `kept` is."""
    table_address, api_address = table.addresses()

    def text(value: str) -> Any:
        made = ffi.new("char[]", value.encode())
        kept.append(made)
        return made

    def content(value: bytes) -> Any:
        made = ffi.from_buffer("uint8_t[]", value)
        kept.append(made)
        return made if value else ffi.NULL

    policies = 0
    for name in config.policies:
        policies |= POLICIES[name]
    fields = {
        "url": text(config.url),
        "application_uri": text(config.application_uri),
        "application_name": text(config.application_name),
        "version": text(config.version),
        "certificate": content(config.certificate),
        "certificate_bytes": len(config.certificate),
        "key": content(config.key),
        "key_bytes": len(config.key),
        "trusted_folder": text(config.folders[0]),
        "issuers_folder": text(config.folders[1]),
        "revoked_folder": text(config.folders[2]),
        "rejected_folder": text(config.folders[3]),
        "users": _c_users(config.users, kept),
        "users_count": len(config.users),
        "policies": policies,
        "anonymous": ROLES[config.anonymous],
        "space": _c_space(space, kept),
        "table": ffi.cast("void *", table_address),
        "table_api": ffi.cast("void *", api_address),
        "limits": dict(config.limits),
    }
    return ffi.new("bf_ua_config *", fields)


def _c_space(space: Space, kept: list[object]) -> Any:
    nodes = ffi.from_buffer("bf_ua_node[]", space.nodes)
    details = ffi.from_buffer("bf_ua_detail[]", space.details)
    texts = ffi.from_buffer("char[]", space.texts)
    made = ffi.new(
        "bf_ua_space *", (nodes, details, texts, len(nodes), len(details), len(space.texts), space.rows_count)
    )
    kept += [nodes, details, texts, made]
    return made


def _c_users(users: Sequence[User], kept: list[object]) -> Any:
    made = ffi.new("bf_ua_user[]", len(users))
    for c_user, user in zip(made, users, strict=True):
        name = ffi.new("char[]", user.name.encode())
        kept.append(name)
        c_user.name = name
        c_user.salt[0 : len(user.salt)] = user.salt
        c_user.hash[0 : len(user.hash)] = user.hash
        c_user.iterations, c_user.role = user.iterations, ROLES[user.role]
    kept.append(made)
    return made


def _text(characters: Any) -> str:
    return bytes(ffi.string(characters)).decode("utf-8", "replace")
