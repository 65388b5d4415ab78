"""The OPC UA face without the compiled stack: the Python package asyncua serves the same address space, many times slower.

For development and for machines where open62541 can't be had; a gateway on a plant has the compiled stack. Every node exists
as an object here, and values are copied from the change ring several times a second, so clients see at most one value of a
tag per copy. Limits are those that asyncua has. Users, certificates, writes and ids are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import logging
import socket
from array import array
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User as AsyncuaUser
from asyncua.crypto.permission_rules import UserRole
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bifrost._native import records
from bifrost.core.contracts import FaceEvent, FaceOwner, FaceWrite
from bifrost.core.errors import ConfigError, ConnectError, LimitError
from bifrost.core.log import fields
from bifrost.core.status import StatusCode, is_bad
from bifrost.core.tag import DataPoint
from bifrost.opcua.address_space import KIND_FOLDER, KIND_TAG, NAMESPACE, Node, Space
from bifrost.opcua.certificate import parse_certificate
from bifrost.opcua.faces import FaceSettings, endpoint_url
from bifrost.opcua.security import application_uri, certificate_days, write_private
from bifrost.opcua.users import User

__all__ = ["AsyncuaFace"]

_log = logging.getLogger("bifrost.opcua")

_COPY_PERIOD_S: Final = 0.05
_CHANGES_PER_COPY: Final = 4_096
_NODES_PER_TURN: Final = 64
_KEY_BITS: Final = 2_048
_PUBLIC_EXPONENT: Final = 65_537  # F4; NIST FIPS 186-5, A.1.1.
_BAD_SECURITY_CHECKS_FAILED: Final = 0x80130000
_BAD_WRITE_NOT_SUPPORTED: Final = 0x80730000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POLICIES: Final = {
    "None": ("NoSecurity",),
    "Basic256Sha256": ("Basic256Sha256_Sign", "Basic256Sha256_SignAndEncrypt"),
    "Aes128_Sha256_RsaOaep": ("Aes128Sha256RsaOaep_Sign", "Aes128Sha256RsaOaep_SignAndEncrypt"),
    "Aes256_Sha256_RsaPss": ("Aes256Sha256RsaPss_Sign", "Aes256Sha256RsaPss_SignAndEncrypt"),
}
_VARIANTS: Final = {
    records.TYPE_BOOL: ua.VariantType.Boolean,
    records.TYPE_INT8: ua.VariantType.SByte,
    records.TYPE_UINT8: ua.VariantType.Byte,
    records.TYPE_INT16: ua.VariantType.Int16,
    records.TYPE_UINT16: ua.VariantType.UInt16,
    records.TYPE_INT32: ua.VariantType.Int32,
    records.TYPE_UINT32: ua.VariantType.UInt32,
    records.TYPE_INT64: ua.VariantType.Int64,
    records.TYPE_UINT64: ua.VariantType.UInt64,
    records.TYPE_FLOAT32: ua.VariantType.Float,
    records.TYPE_FLOAT64: ua.VariantType.Double,
    records.TYPE_STRING: ua.VariantType.String,
}


class AsyncuaFace:
    """A `core.contracts.Face` over asyncua.

    Args:
        settings: What it is made from.
        make_space: Compiles what clients see.
    """

    def __init__(self, settings: FaceSettings, make_space: Callable[[], Space]) -> None:
        self._settings = settings
        self._take_space(make_space())
        self._writers: frozenset[str] = frozenset()
        self._owner: FaceOwner | None = None
        self._tokens = itertools.count(1)
        self._parked: dict[int, asyncio.Future[int]] = {}
        self._server: Any = None
        self._writes_count = 0
        self._is_to_restart = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it listens; empty while it does not serve."""
        if self._server is None or self._server.bserver is None or self._server.bserver.port == 0:
            return ""  # Port 0 is one that the system has not chosen yet.
        return endpoint_url(self._settings.bind, self._server.bserver.port)

    async def run(self, owner: FaceOwner) -> None:
        """Serves until it is cancelled; see `core.contracts.Face`. Making the nodes takes about a millisecond each."""
        self._owner = owner
        logging.getLogger("asyncua").setLevel(logging.WARNING)  # It logs each node of namespace 0.
        while True:
            self._is_to_restart.clear()
            await self._serve()

    async def _serve(self) -> None:
        """Serves one address space until it is replaced."""
        cursor = self._settings.table.cursor()
        self._server = await self._make_server()
        try:
            try:
                await self._server.start()
            except OSError as error:
                raise ConnectError(f"the OPC UA server cannot listen on {self._settings.bind}: {error}") from error
            _log.info("OPC UA server is listening", extra=fields(url=self.url, stack="asyncua"))
            for warning in self._settings.access.warnings:
                _log.warning("OPC UA is open", extra=fields(warning=warning))
            await self._copy(self._settings.table.snapshot(array("I", self._nodes)), list(self._nodes))
            while not self._is_to_restart.is_set():
                changes = cursor.read(_CHANGES_PER_COPY)
                latest = dict(changes.points())
                await self._copy(list(latest.values()), list(latest))
                await asyncio.sleep(_COPY_PERIOD_S)
        finally:
            server, self._server = self._server, None
            await server.stop()

    def finish_write(self, token: int, status: int) -> None:
        """See `core.contracts.Face`."""
        future = self._parked.get(token)
        if future is not None and not future.done():
            future.set_result(status)

    def replace_space(self, space: Space) -> None:
        """See `core.contracts.Face`. Here clients are disconnected: the server is made anew."""
        self._take_space(space)
        self._is_to_restart.set()

    def _take_space(self, space: Space) -> None:
        self._space = space
        self._nodes = {node.row: node for node in space.iterate() if node.kind != KIND_FOLDER}
        self._by_id = {node.id: node for node in self._nodes.values()}

    def counters(self) -> Mapping[str, int]:
        """See `core.contracts.Face`."""
        if self._server is None:
            return {}
        internal = self._server.iserver
        return {
            "subscriptions": len(internal.subscription_service.subscriptions),
            "writes": self._writes_count,
            "writes_parked": len(self._parked),
        }

    # ---- making the server

    async def _make_server(self) -> Any:
        settings = self._settings
        certificate, key = await settings.pki.own(self._make_certificate)
        server = Server(user_manager=_Users(self))
        await server.init()
        await server.set_application_uri(parse_certificate(certificate).uri)
        server.set_server_name(f"Bifrost {settings.gateway_name}")
        server.set_endpoint(endpoint_url(settings.bind, settings.bind.port))
        names = [name for policy in settings.access.policies for name in _POLICIES[policy]]
        server.set_security_policy([ua.SecurityPolicyType[name] for name in names])
        tokens: list[type] = [ua.AnonymousIdentityToken] if settings.access.is_anonymous else []
        server.set_identity_tokens([*tokens, ua.UserNameIdentityToken])
        await server.load_certificate(certificate, "der")
        await server.load_private_key(key, format="der")
        server.set_certificate_validator(self._check_certificate)
        namespace = await server.register_namespace(NAMESPACE)
        assert namespace == 2, "namespace 1 is the application's, 2 is ours"
        await self._add_nodes(server)
        server.iserver.attribute_service = _DeferredWrites(server.iserver.attribute_service, self)
        return server

    async def _add_nodes(self, server: Any) -> None:
        made: list[Any] = []
        for number, node in enumerate(self._space.iterate()):
            parent = made[node.parent] if number else server.nodes.objects
            name = ua.QualifiedName(node.name, 2)
            if node.kind == KIND_FOLDER:
                made.append(await parent.add_folder(ua.NodeId(node.id, 2), name))
            else:
                made.append(await self._add_variable(parent, node, name))
            if number % _NODES_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _add_variable(self, parent: Any, node: Node, name: ua.QualifiedName) -> Any:
        variant = _VARIANTS[node.type]
        empty = ua.Variant([] if node.array_length else _zero(variant), variant, is_array=bool(node.array_length))
        variable = await parent.add_variable(ua.NodeId(node.id, 2), name, empty, datatype=ua.NodeId(variant.value))
        if node.is_writable:
            await variable.set_writable()
        if node.description:
            text = ua.Variant(ua.LocalizedText(node.description), ua.VariantType.LocalizedText)
            await variable.write_attribute(ua.AttributeIds.Description, ua.DataValue(text))
        if node.engineering_range is not None:
            low, high = node.engineering_range
            value = ua.Variant(ua.Range(low, high), ua.VariantType.ExtensionObject)
            await variable.add_property(ua.NodeId(f"{node.id}#EURange", 2), ua.QualifiedName("EURange", 0), value)
        if node.unit:
            unit = ua.EUInformation(
                "http://www.opcfoundation.org/UA/units/un/cefact",
                node.unit_id,
                ua.LocalizedText(node.unit),
                ua.LocalizedText(node.unit),
            )
            value = ua.Variant(unit, ua.VariantType.ExtensionObject)
            qualified = ua.QualifiedName("EngineeringUnits", 0)
            await variable.add_property(ua.NodeId(f"{node.id}#EngineeringUnits", 2), qualified, value)
        return variable

    def _make_certificate(self) -> tuple[bytes, bytes]:
        host = socket.gethostname()
        uri = application_uri(self._settings.gateway_name, host)
        return _self_signed(f"Bifrost {self._settings.gateway_name}", uri, host, self._now())

    def _now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._settings.now_ns() // 1_000)

    # ---- values

    async def _copy(self, points: list[DataPoint], rows: list[int]) -> None:
        space = self._server.iserver.aspace
        for index, (row, point) in enumerate(zip(rows, points, strict=True)):
            node = self._nodes.get(row)
            if node is not None:
                await space.write_attribute_value(
                    ua.NodeId(node.id, 2), ua.AttributeIds.Value, _data_value(node, point)
                )
            if index % _NODES_PER_TURN == 0:
                await asyncio.sleep(0)

    # ---- clients

    async def write_tag(self, write: ua.WriteValue, user: AsyncuaUser | None) -> int:
        """The StatusCode that answers one value that a client writes to one of our nodes."""
        node = self._by_id.get(str(write.NodeId.Identifier))
        data = write.Value
        limits = self._settings.limits
        if node is None:
            return StatusCode.BadNodeIdUnknown
        if write.AttributeId != ua.AttributeIds.Value:
            return _BAD_WRITE_NOT_SUPPORTED
        if not node.is_writable or node.kind != KIND_TAG:
            return StatusCode.BadNotWritable
        name = getattr(user, "name", None)
        if name not in self._writers:
            return StatusCode.BadUserAccessDenied
        variant = data.Value if data is not None else None
        if (
            variant is None
            or variant.VariantType != _VARIANTS[node.type]
            or variant.is_array != bool(node.array_length)
        ):
            return StatusCode.BadTypeMismatch
        if self._owner is None or len(self._parked) >= limits.opcua_writes_parked_max:
            return StatusCode.BadTooManyOperations
        token = next(self._tokens)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._parked[token] = future
        self._writes_count += 1
        try:
            async with asyncio.timeout(limits.opcua_write_timeout_ms / 1_000):
                self._owner.write(FaceWrite(token, node.row, variant.Value, f"opcua:{name}"))
                return await future
        except TimeoutError:
            return StatusCode.BadTimeout
        finally:
            del self._parked[token]

    def log_in(self, name: str | None, password: str | None) -> AsyncuaUser | None:
        """The user whose name and password these are; None refuses."""
        if name is None:
            return AsyncuaUser(UserRole.User) if self._settings.access.is_anonymous else None
        try:
            users: dict[str, User] = {user.name: user for user in self._settings.users.load()}
        except (ConfigError, LimitError) as error:
            _log.error("the users are not taken", extra=fields(error=error))
            return None
        self._writers = frozenset(user.name for user in users.values() if user.role == "write")
        found = users.get(name)
        if found is not None and found.accepts(password or ""):
            return AsyncuaUser(UserRole.User, name)
        if self._owner is not None:
            self._owner.report(FaceEvent("login_failed", f"opcua:{name}", True, {"reason": "BadUserAccessDenied"}))
        return None

    async def _check_certificate(self, certificate: x509.Certificate, application: object) -> None:
        der = certificate.public_bytes(serialization.Encoding.DER)
        known = parse_certificate(der)
        pki = self._settings.pki
        if known.not_before <= self._now() <= known.not_after and _is_in(der, pki.folder("trusted")):
            return
        with contextlib.suppress(OSError):  # It is refused all the same, and its thumbprint is told.
            if pki.count("rejected") < self._settings.limits.opcua_rejected_certificates_max:
                write_private(pki.folder("rejected") / f"{known.thumbprint}.der", der)
        if self._owner is not None:
            details = {"subject": known.subject, "thumbprint": known.thumbprint}
            self._owner.report(FaceEvent("certificate_rejected", "opcua", True, details))
        raise ServiceError(_BAD_SECURITY_CHECKS_FAILED)


class _DeferredWrites:
    """The attribute services: a value for one of our nodes waits for the device's answer, each client for its own."""

    def __init__(self, services: Any, face: AsyncuaFace) -> None:
        self.read = services.read
        self._services = services
        self._face = face

    async def write(self, params: ua.WriteParameters, user: AsyncuaUser | None = None) -> list[ua.StatusCode]:
        """See asyncua."""
        results: list[ua.StatusCode] = []
        for value in params.NodesToWrite:
            if value.NodeId.NamespaceIndex == 2:
                results.append(ua.StatusCode(int(await self._face.write_tag(value, user))))
            else:
                results += await self._services.write(ua.WriteParameters(NodesToWrite=[value]), user=user)
        return results


class _Users:
    """What asyncua asks about users."""

    def __init__(self, face: AsyncuaFace) -> None:
        self._face = face

    def get_user(
        self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> AsyncuaUser | None:
        """See asyncua."""
        return self._face.log_in(username, password)


def _data_value(node: Node, point: DataPoint) -> ua.DataValue:
    variant = _VARIANTS[node.type]
    value = None if is_bad(point.status) or point.value is None else ua.Variant(point.value, variant)
    source = _EPOCH + timedelta(microseconds=point.source_time_ns // 1_000) if point.source_time_ns else None
    server = _EPOCH + timedelta(microseconds=point.server_time_ns // 1_000)
    return ua.DataValue(value, ua.StatusCode(point.status), source, server)


def _zero(variant: ua.VariantType) -> bool | int | float | str:
    if variant == ua.VariantType.Boolean:
        return False
    if variant == ua.VariantType.String:
        return ""
    return 0.0 if variant in (ua.VariantType.Float, ua.VariantType.Double) else 0


def _is_in(der: bytes, folder: Path) -> bool:
    try:
        return any(path.read_bytes() == der for path in folder.iterdir() if path.is_file())
    except OSError:
        return False


def _self_signed(subject: str, uri: str, host: str, now: datetime) -> tuple[bytes, bytes]:
    """A certificate and its key, both DER; OPC 10000-6, 6.2.2."""
    key = rsa.generate_private_key(_PUBLIC_EXPONENT, _KEY_BITS)
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, subject), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bifrost")]
    )
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    usage = x509.KeyUsage(True, True, True, True, False, True, False, False, False)
    extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    until = now + timedelta(days=certificate_days(now))
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, until)
    certificate = (
        builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(extended, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.DER), private
