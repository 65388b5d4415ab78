"""Single services of a foreign client: asyncua's own structures and channel, without what it does by itself.

asyncua's subscriptions publish, acknowledge and dispatch on their own; here a test says each of that, so that it can leave it out.
That something does *not* come is shown by a keep-alive, never by waiting: `Subscription.is_quiet`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.interop.opcua_bench import PATIENCE_S, client, run

from asyncua import Client, ua  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.ua_binary import struct_from_binary  # isort: skip  # likewise
from asyncua.ua.uaerrors import UaStatusCodeError  # isort: skip  # likewise

OVERFLOW = 0x480  # InfoType DataValue, Overflow; OPC 10000-4, 7.39.1.
ATTRIBUTE_VALUE = 13
LIMITS = {
    "sessions_max": 11, "subscriptions_max": 12, "subscriptions_per_session_max": 7, "monitored_items_max": 1_234, "queue_size_max": 321,
    "nodes_per_read_max": 2_001, "nodes_per_write_max": 202, "nodes_per_browse_max": 203, "nodes_per_translate_max": 2_004,
    "nodes_per_register_max": 2_005, "nodes_per_method_call_max": 26, "items_per_call_max": 2_007, "browse_continuations_max": 3,
    "publishing_interval_min_ms": 5,
}  # fmt: skip
"""Each another number, so that none is taken for another one."""
SUBSCRIPTION_LIMITS = {
    "subscriptions_max": 30,
    "retransmissions_max": 20,
    "notifications_max": 100_000,
    "sessions_max": 40,
}


async def call(connected: Any, service: str, **fields: Any) -> Any:
    """Sends one request with `fields` and gives the body of its response; raises UaStatusCodeError for a bad service result."""
    request = getattr(ua, f"{service}Request")()
    body = getattr(request, "Parameters", request)
    for name, value in fields.items():
        assert hasattr(body, name), name
        setattr(body, name, value)
    data = await connected.uaclient.protocol.send_request(request, timeout=PATIENCE_S)
    response = struct_from_binary(getattr(ua, f"{service}Response"), data)
    response.ResponseHeader.ServiceResult.check()
    return getattr(response, "Parameters", response)


async def refusal(work: Any) -> int:
    """StatusCode that `work` fails with."""
    try:
        await work
    except UaStatusCodeError as error:
        return int(error.code)
    raise AssertionError("it was not refused")


def node_id(name: str | int) -> ua.NodeId:
    """Id of a tag, or of a node of the standard."""
    return ua.NodeId(name, 2) if isinstance(name, str) else ua.NodeId(name, 0)


def wanted(
    name: str | int, *, attribute: int = ATTRIBUTE_VALUE, index_range: str | None = None, encoding: Any = None
) -> ua.ReadValueId:
    return ua.ReadValueId(node_id(name), ua.AttributeIds(attribute), index_range, encoding or ua.QualifiedName())


async def read(
    connected: Any,
    *what: ua.ReadValueId,
    max_age: float = 0.0,
    times: ua.TimestampsToReturn = ua.TimestampsToReturn.Both,
) -> Any:
    answer = await call(connected, "Read", MaxAge=max_age, TimestampsToReturn=times, NodesToRead=list(what))
    return answer.Results


def code(value: Any) -> int:
    """StatusCode of a data value as a number; absent is Good."""
    return 0 if value.StatusCode is None else int(value.StatusCode.value)


def content(value: Any) -> Any:
    return None if value.Value is None else value.Value.Value


async def put(connected: Any, server: Any, name: str, value: Any, status: int = 0, time_ns: int = 0) -> None:
    """A change of a tag, which the server has told its items about when this returns.

    Items and image are brought forward together, so reading the change proves that.
    """
    server.put(name, value, status, time_ns or time.time_ns())
    expected = (status, None if status & 0x80000000 else value)
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        (now,) = await read(connected, wanted(name))
        if (code(now), content(now)) == expected or (value != value and content(now) != content(now)):
            return
        assert time.monotonic() < deadline_s, (now, expected)
        await asyncio.sleep(0.005)


def browse_of(
    name: str | int,
    *,
    direction: ua.BrowseDirection = ua.BrowseDirection.Forward,
    reference: int = ua.ObjectIds.References,
    subtypes: bool = True,
    classes: int = 0,
    mask: int = 63,
) -> ua.BrowseDescription:
    return ua.BrowseDescription(node_id(name), direction, ua.NodeId(reference), subtypes, classes, mask)


async def browse(connected: Any, *what: ua.BrowseDescription, most: int = 0) -> Any:
    return (await call(connected, "Browse", RequestedMaxReferencesPerNode=most, NodesToBrowse=list(what))).Results


def targets(result: Any) -> list[str]:
    """Ids of the nodes that a browse result refers to, as text."""
    return [str(one.NodeId.Identifier) for one in result.References or []]


def change_filter(trigger: int = 1, deadband: int = 0, value: float = 0.0) -> ua.DataChangeFilter:
    """Trigger: 0 Status, 1 StatusValue, 2 StatusValueTimestamp. Deadband: 0 none, 1 absolute, 2 percent. OPC 10000-4, 7.22.2."""
    made = ua.DataChangeFilter()
    made.Trigger, made.DeadbandType, made.DeadbandValue = ua.DataChangeTrigger(trigger), deadband, value
    return made


REPORTING, SAMPLING, DISABLED = ua.MonitoringMode.Reporting, ua.MonitoringMode.Sampling, ua.MonitoringMode.Disabled


class Subscription:
    """A subscription that publishes when the test asks. An item's handle is its place among the items of the subscription, from 1 on."""

    def __init__(self, connected: Any, made: Any) -> None:
        self.connected = connected
        self.made = made
        self.id: int = made.SubscriptionId
        self.items_count = 0
        self.unacknowledged: list[Any] = []

    @classmethod
    async def create(
        cls,
        connected: Any,
        publishing_ms: float = 20.0,
        *,
        life: int = 3_000,
        keep_alive: int = 1,
        most: int = 0,
        enabled: bool = True,
        priority: int = 0,
    ) -> Subscription:
        made = await call(
            connected, "CreateSubscription", RequestedPublishingInterval=publishing_ms, RequestedLifetimeCount=life,
            RequestedMaxKeepAliveCount=keep_alive, MaxNotificationsPerPublish=most, PublishingEnabled=enabled, Priority=priority,
        )  # fmt: skip
        return cls(connected, made)

    async def item(
        self, what: str | int | ua.ReadValueId, *, queue: int = 10, sampling_ms: float = 0.0, oldest: bool = True, mode: Any = REPORTING,
        chosen: Any = None, times: Any = ua.TimestampsToReturn.Both,
    ) -> Any:  # fmt: skip
        """Asks for one item; its result, whatever the status."""
        self.items_count += 1
        parameters = ua.MonitoringParameters(self.items_count, sampling_ms, chosen, queue, oldest)
        request = ua.MonitoredItemCreateRequest(
            what if isinstance(what, ua.ReadValueId) else wanted(what), mode, parameters
        )
        answer = await call(
            self.connected,
            "CreateMonitoredItems",
            SubscriptionId=self.id,
            TimestampsToReturn=times,
            ItemsToCreate=[request],
        )
        return answer.Results[0]

    async def modify(
        self, item: Any, *, handle: int = 1, queue: int = 10, sampling_ms: float = 0.0, oldest: bool = True, chosen: Any = None,
        times: Any = ua.TimestampsToReturn.Both,
    ) -> Any:  # fmt: skip
        request = ua.MonitoredItemModifyRequest(
            item.MonitoredItemId, ua.MonitoringParameters(handle, sampling_ms, chosen, queue, oldest)
        )
        answer = await call(
            self.connected,
            "ModifyMonitoredItems",
            SubscriptionId=self.id,
            TimestampsToReturn=times,
            ItemsToModify=[request],
        )
        return answer.Results[0]

    async def set_mode(self, mode: Any, *items: Any) -> list[int]:
        ids = [item.MonitoredItemId for item in items]
        answer = await call(
            self.connected, "SetMonitoringMode", SubscriptionId=self.id, MonitoringMode=mode, MonitoredItemIds=ids
        )
        return [one.value for one in answer.Results]

    async def publish(self, *, acknowledge: bool = True) -> Any:
        """One Publish; its response's body."""
        known = (
            [ua.SubscriptionAcknowledgement(self.id, number) for number in self.unacknowledged] if acknowledge else []
        )
        answer = await call(self.connected, "Publish", SubscriptionAcknowledgements=known)
        if acknowledge:
            self.unacknowledged.clear()
        if answer.NotificationMessage.NotificationData:
            self.unacknowledged.append(answer.NotificationMessage.SequenceNumber)
        return answer

    async def collect(self, count: int) -> list[tuple[int, Any]]:
        """Publishes until `count` values came: handles and data values in their order."""
        came: list[tuple[int, Any]] = []
        while len(came) < count:
            came += values(await self.publish())
        return came

    async def collect_until(self, holds: Callable[[list[tuple[int, Any]]], bool]) -> list[tuple[int, Any]]:
        came: list[tuple[int, Any]] = []
        while not holds(came):
            came += values(await self.publish())
        return came

    async def contents(self, count: int) -> list[Any]:
        return [content(value) for _, value in await self.collect(count)]

    async def is_quiet(self) -> bool:
        """Whether two publishing intervals in a row have nothing to tell."""
        return not values(await self.publish()) and not values(await self.publish())

    async def delete(self) -> None:
        await call(self.connected, "DeleteSubscriptions", SubscriptionIds=[self.id])


async def modify(
    subscription: Subscription,
    *,
    publishing_ms: float = 20.0,
    life: int = 3_000,
    keep_alive: int = 1,
    most: int = 0,
    priority: int = 0,
) -> Any:
    return await call(
        subscription.connected, "ModifySubscription", SubscriptionId=subscription.id, RequestedPublishingInterval=publishing_ms,
        RequestedLifetimeCount=life, RequestedMaxKeepAliveCount=keep_alive, MaxNotificationsPerPublish=most, Priority=priority,
    )  # fmt: skip


async def set_publishing(connected: Any, enabled: bool, *ids: int) -> list[int]:
    """StatusCodes of the subscriptions."""
    answer = await call(connected, "SetPublishingMode", PublishingEnabled=enabled, SubscriptionIds=list(ids))
    return [one.value for one in answer.Results]


async def count_up(connected: Any, server: Any, name: str, first: int, last: int) -> None:
    """Changes `name` to first, …, last; each is in the queues when this returns."""
    for number in range(first, last + 1):
        await put(connected, server, name, float(number))


def numbers(first: int, last: int) -> list[float]:
    return [float(number) for number in range(first, last + 1)]


def run_with_client(server: Any, work: Callable[[Any], Awaitable[None]], user: str | None = "operator") -> None:
    """Runs `work(connected)` with a client of its own."""

    async def whole() -> None:
        async with client(server.url, user) as connected:
            await work(connected)

    run(whole())


def run_with_subscription(server: Any, work: Callable[[Any, Subscription], Awaitable[None]], **options: Any) -> None:
    """Runs `work(connected, subscription)` with an anonymous client and a subscription of its own."""

    async def within(connected: Any) -> None:
        await work(connected, await Subscription.create(connected, **options))

    run_with_client(server, within, None)


def values(published: Any) -> list[tuple[int, Any]]:
    """Handles and data values in a Publish response."""
    notified = published.NotificationMessage.NotificationData or []
    return [
        (one.ClientHandle, one.Value)
        for data in notified
        if isinstance(data, ua.DataChangeNotification)
        for one in data.MonitoredItems
    ]


def status_change(published: Any) -> int | None:
    """Status of the StatusChangeNotification in a Publish response, if it is one."""
    for data in published.NotificationMessage.NotificationData or []:
        if isinstance(data, ua.StatusChangeNotification):
            return int(data.Status.value)
    return None


def reset(connected: Any) -> None:
    """Breaks the TCP connection without a word, as a network does."""
    connected.uaclient.protocol.transport.abort()


class Resumed:
    """A new connection and channel that takes over the (anonymous) session of `connected`. OPC 10000-4, 5.6.3."""

    def __init__(self, url: str, connected: Any) -> None:
        self.client = Client(url, timeout=10)
        self.token = connected.uaclient.session.authentication_token

    async def __aenter__(self) -> Any:
        await self.client.connect_socket()
        await self.client.send_hello()
        await self.client.open_secure_channel()
        identity = ua.AnonymousIdentityToken()
        for endpoint in await self.client.get_endpoints():
            for policy in endpoint.UserIdentityTokens:
                is_open = endpoint.SecurityMode == ua.MessageSecurityMode.None_
                if is_open and policy.TokenType == ua.UserTokenType.Anonymous:
                    identity.PolicyId = policy.PolicyId
        self.client.uaclient.session.restore_authentication_token(self.token)
        await call(self.client, "ActivateSession", UserIdentityToken=identity, LocaleIds=["en"])
        return self.client

    async def __aexit__(self, *_: object) -> None:
        self.client.uaclient.disconnect_socket()
