"""The OPC UA face keeps its word and its memory: the clients promised are served at once, those that come and go leave nothing.

A third of those that go say no good-bye; the server finds out by itself, when their time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil

import pytest

from bifrost.core.limits import Limits
from tests.interop.opcua_bench import (
    Follower,
    add_users,
    client,
    compiled_only,
    make_certificate,
    node,
    secure_client,
    until,
)
from tests.interop.opcua_stress import counted, stressed

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only, pytest.mark.slow]

ROUNDS = int(os.environ.get("BIFROST_CHURN_ROUNDS", "8"))
CLIENTS = 15  # at a time
SUBSCRIPTIONS = 5  # of each, one after the other
ITEMS = 20
PUBLISHING_MS = 100  # thirty of them are a lifetime: enough for a busy machine
FLAT_BYTES = 64 << 10
FLAT_RSS_BYTES = 3 << 20  # what Python and malloc may keep for later
DEFAULTS = Limits.small()


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 100 + 20 * ROUNDS))


async def come_and_go(url: str, number: int) -> None:
    """One client: subscriptions with items, some deleted, some not; every third vanishes."""
    with (
        contextlib.suppress(ua.UaError, ConnectionError, TimeoutError) if number % 3 == 0 else contextlib.nullcontext()
    ):
        async with client(url) as connected:
            for _ in range(SUBSCRIPTIONS):
                follower = Follower()
                subscription = await connected.create_subscription(PUBLISHING_MS, follower)
                names = [f"plant.many.n{index}" for index in range(ITEMS)]
                await subscription.subscribe_data_change([node(connected, name) for name in names], queuesize=5)
                await until(lambda follower=follower: len(follower.values) == ITEMS)  # type: ignore[misc]  # mypy has no type for a bound default
                if number % 2:
                    await subscription.delete()
            if number % 3 == 0:
                connected.uaclient.protocol.transport.abort()


def test_sessions_and_subscriptions_that_come_and_go_leave_nothing(tmp_path):
    add_users(tmp_path)
    limits = {
        "opcua_session_timeout_max_ms": 1_000,
        "opcua_lifetime_count_max": 30,
        "opcua_sessions_max": 60,
        "opcua_subscriptions_max": 400,  # those of clients that vanished count until their lifetime is over
        "opcua_monitored_items_max": 8_000,
    }
    options = [f"--limit={name}={value}" for name, value in limits.items()]
    with stressed(tmp_path, "--extra", "50", *options) as server:
        server.obey(flood=1, period_s=0.01)
        server.obey(flood=1_000_000, period_s=0.05, wait=False)

        async def turn(number: int) -> None:
            async with asyncio.TaskGroup() as group:
                for index in range(CLIENTS):
                    group.create_task(come_and_go(server.url, number * CLIENTS + index))
            await until(lambda: counted(server)["sessions"] == counted(server)["subscriptions"] == 0)

        async def work():
            await turn(0)
            await turn(1)  # by now everything has been made once
            before = counted(server)
            for number in range(2, ROUNDS):
                await turn(number)
            after = counted(server)
            for name in ("connections", "subscriptions", "monitored_items", "items_pushed", "notifications_granted"):
                assert after[name] == 0, name
            assert after["live_bytes"] - before["live_bytes"] <= FLAT_BYTES
            assert after["rss_bytes"] - before["rss_bytes"] <= FLAT_RSS_BYTES
            assert after["refused_count"] == 0

        run(work())


def test_as_many_clients_as_promised_are_served_at_once(tmp_path):
    """All sessions encrypted, all items with all the queue there is, all changing, every second client too slow to be told of it."""
    add_users(tmp_path)
    certificate = make_certificate(tmp_path)
    per_client = DEFAULTS.opcua_monitored_items_max // DEFAULTS.opcua_sessions_max
    with stressed(tmp_path, f"--extra={DEFAULTS.opcua_monitored_items_max - 100}") as server:
        shutil.copy(certificate[0], tmp_path / "pki" / "trusted")
        server.obey(flood=1, period_s=0.01)

        async def serve(held: contextlib.AsyncExitStack, index: int):
            mode = ua.MessageSecurityMode.SignAndEncrypt
            opened = secure_client(server.url, "Aes256_Sha256_RsaPss", mode, certificate)
            connected = await held.enter_async_context(opened)
            follower = Follower()
            subscription = await connected.create_subscription(100 if index % 2 else 60_000, follower)
            nodes = [node(connected, f"plant.many.n{number}") for number in range(per_client)]
            await subscription.subscribe_data_change(nodes, queuesize=DEFAULTS.opcua_queue_size_max)
            return connected, follower

        async def work():
            async with contextlib.AsyncExitStack() as held:
                served = [await serve(held, index) for index in range(DEFAULTS.opcua_sessions_max)]
                await until(lambda: all(len(follower.values) == per_client for _, follower in served[1::2]))
                await asyncio.to_thread(server.obey, flood=40, period_s=0.05)
                last = 41.0
                await until(
                    lambda: all(
                        values[-1].Value.Value == last for _, one in served[1::2] for values in one.values.values()
                    )
                )
                for connected, _ in served:
                    assert await node(connected, "plant.many.n0").read_value() == last
                counters = counted(server)
                assert counters["sessions"] == DEFAULTS.opcua_sessions_max
                assert counters["refused_count"] == 0
                assert counters["samples_lost"] == 0
                assert counters["peak_bytes"] < counters["limit_bytes"] - DEFAULTS.opcua_reserve_bytes

        run(work())
