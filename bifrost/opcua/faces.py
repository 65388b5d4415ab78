"""Which stack serves OPC UA on this machine: the compiled one, else the Python package asyncua, else none.

Both are a `core.contracts.Face` made from the same settings and the same address space.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from bifrost.core.errors import ConfigError

if TYPE_CHECKING:
    from bifrost.core.config_rules import Endpoint
    from bifrost.core.contracts import Face
    from bifrost.core.limits import Limits
    from bifrost.core.table import TagTable
    from bifrost.opcua.address_space import Space
    from bifrost.opcua.security import Access, Pki
    from bifrost.opcua.users import Users

__all__ = ["NOT_AVAILABLE", "FaceSettings", "Stack", "endpoint_url", "find_stack", "make_face"]

NOT_AVAILABLE = (
    "OPC UA cannot be served here: the compiled module is not built ('bifrost doctor' says why) and the package asyncua"
    " is not installed (pip install 'bifrost-gateway[opcua]')"
)


class Stack(StrEnum):
    """What serves OPC UA."""

    COMPILED = "open62541"
    ASYNCUA = "asyncua"


class FaceSettings(NamedTuple):
    """What a face is made from, whichever stack serves it.

    Attributes:
        bind: Where to listen.
        access: Policies and anonymous clients.
        pki: Its folders.
        users: Its users.
        gateway_name: `[gateway] name`.
        version: Of Bifrost.
        limits: All limits.
        memory_bytes: Ceiling of the stack's memory, from `opcua.memory`.
        table: The tag table.
        now_ns: UTC nanoseconds of now.
    """

    bind: Endpoint
    access: Access
    pki: Pki
    users: Users
    gateway_name: str
    version: str
    limits: Limits
    memory_bytes: int
    table: TagTable
    now_ns: Callable[[], int]


def find_stack(*, is_core_compiled: bool) -> Stack | None:
    """The stack that there is; None: there is none.

    Args:
        is_core_compiled: Whether the tag table is that of the compiled core, which the compiled stack needs.
    """
    if is_core_compiled and _has_module("bifrost._native._opcua"):
        return Stack.COMPILED
    return Stack.ASYNCUA if importlib.util.find_spec("asyncua") is not None else None


def make_face(stack: Stack | None, settings: FaceSettings, make_space: Callable[[], Space]) -> Face:
    """The face; it does not serve yet.

    Args:
        stack: From `find_stack`.
        settings: What it is made from.
        make_space: Compiles what clients see, at each start: the face does not keep it.

    Raises:
        ConfigError: `stack` is None: nothing can serve here.
    """
    if stack is None:
        raise ConfigError(NOT_AVAILABLE, key="opcua")
    if stack is Stack.COMPILED:
        from bifrost.opcua.server import OpcUaServer

        return OpcUaServer(settings, make_space)
    from bifrost.opcua.asyncua_face import AsyncuaFace

    return AsyncuaFace(settings, make_space)


def endpoint_url(bind: Endpoint, port: int) -> str:
    """How clients write the address of `bind` with the port that it got."""
    host = f"[{bind.host}]" if ":" in bind.host else bind.host
    return f"opc.tcp://{host}:{port}"


def _has_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
