"""How much memory the OPC UA stack is given: what it promises its clients, added up before it starts.

The sum is a region of `Limits.regions`, so a configuration that promises more than `memory_bytes_max` allows is refused,
never a client. The stack counts every byte that it allocates and refuses what is beyond the sum; a reserve below keeps
services going when items use up the rest. Costs were measured on x86-64 with open62541 1.4.18 and rounded up; a test holds
them. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bifrost.core.limits import Limits, Region

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bifrost.core.columns import TagColumns

__all__ = ["opcua_region", "server_limits"]

_BASE_BYTES: Final = 7 << 20  # Namespace 0, certificate, rings, blocks that are kept, and what starting takes beside.
_CONNECTION_BYTES: Final = 56 << 10  # With its secure channel.
_SESSION_BYTES: Final = 24 << 10  # 3 KiB idle; with Publish requests that wait, and what is left of a Browse.
_SUBSCRIPTION_BYTES: Final = 36 << 10  # 1 KiB idle; with messages that were sent and not acknowledged.
_ITEM_BYTES: Final = 640
_NOTIFICATION_BYTES: Final = 224
_PARKED_WRITE_BYTES: Final = 256
_EVENT_BYTES: Final = 384
_ROW_BYTES: Final = 32  # The server's image of a row.
_NODE_BYTES: Final = 128  # Node, detail, id and reference as the library wants them, hash; besides its texts.
_SPACES: Final = 2  # A reload builds the new one beside the old one.


def opcua_region(limits: Limits, columns: TagColumns) -> Region:
    """The memory of the OPC UA stack.

    Args:
        limits: What is promised.
        columns: The tags, for the length of their names.
    """
    clients = (
        limits.opcua_connections_max * _CONNECTION_BYTES
        + limits.opcua_sessions_max * _SESSION_BYTES
        + limits.opcua_subscriptions_max * _SUBSCRIPTION_BYTES
        + limits.opcua_monitored_items_max * _ITEM_BYTES
        + limits.opcua_notifications_max * _NOTIFICATION_BYTES
        + limits.opcua_writes_parked_max * _PARKED_WRITE_BYTES
        + limits.opcua_events_max * _EVENT_BYTES
    )
    messages = limits.opcua_connections_max * limits.opcua_login_bytes_max + limits.opcua_buffered_bytes_max
    texts = -(-limits.tags_count_max * columns.id_bytes // max(1, len(columns)))
    space = limits.rows_count_max * _NODE_BYTES + texts
    rows = limits.rows_count_max * _ROW_BYTES
    total = _BASE_BYTES + limits.opcua_reserve_bytes + clients + messages + rows + _SPACES * space
    meaning = (
        "OPC UA server, its clients and their items: opcua_sessions_max, opcua_monitored_items_max,"
        " opcua_notifications_max, opcua_reserve_bytes, tags_count_max"
    )
    return Region("opc ua", total, meaning)


def server_limits(limits: Limits, memory_bytes: int) -> Mapping[str, int]:
    """The limits by the names of `bf_ua_limits`: those that start with ``opcua_``, and the ceiling of memory."""
    prefix = "opcua_"
    names = (name for name in Limits.__struct_fields__ if name.startswith(prefix) and name != "opcua_users_max")
    return {name.removeprefix(prefix): getattr(limits, name) for name in names} | {"memory_bytes_max": memory_bytes}
