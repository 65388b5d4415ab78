"""While the OPC UA face serves, one allocation in 20 fails: requests may be refused, but nothing crashes, leaks or is invented.

Clients come in while memory is there, and do what a SCADA does while it is not; others try to come in just then. When memory is back
an honest client gets everything, and at the end not a byte is held. BIFROST_FAILURES_SECONDS says for how long;
`python -m csrc.builder.checks sanitize-ua` runs it under the sanitizers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Awaitable

import pytest

from tests.interop.opcua_bench import Follower, add_users, client, compiled_only, node, until
from tests.interop.opcua_stress import counted, stressed

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

SECONDS = float(os.environ.get("BIFROST_FAILURES_SECONDS", "6"))
STEPS = {"read", "browse", "subscribe", "items", "write", "write text", "delete"}
OPTIONS = [
    "--extra=50",
    "--limit=opcua_session_timeout_max_ms=1000",
    "--limit=opcua_lifetime_count_max=30",
    "--limit=opcua_sessions_max=200",
    "--limit=opcua_connections_max=300",
    "--limit=opcua_login_failures_per_minute_max=10000",
]
REFUSALS = (ua.UaError, ConnectionError, TimeoutError, asyncio.IncompleteReadError)


class Scada:
    """One client: each step may be refused; what comes must be true."""

    def __init__(self, connected, done: Counter[str]) -> None:
        self._connected = connected
        self._done = done
        self._follower = Follower()

    async def work(self) -> None:
        nodes = [node(self._connected, f"plant.many.n{index}") for index in range(5)]
        for value in await self._step("read", self._connected.read_attributes(nodes)) or []:
            assert value.StatusCode.is_bad() or value.Value.Value == int(value.Value.Value) >= 1
        await self._step("browse", node(self._connected, "plant").get_children())
        subscription = await self._step("subscribe", self._connected.create_subscription(20, self._follower))
        if subscription is not None:
            await self._step("items", subscription.subscribe_data_change(nodes, queuesize=20))
        array, text = node(self._connected, "plant.types.int16x4"), node(self._connected, "plant.types.stringx32")
        await self._step("write", array.write_value([1, 2, 3, 4], ua.VariantType.Int16))
        await self._step("write text", text.write_value("text", ua.VariantType.String))
        await asyncio.sleep(0.05)
        if subscription is not None:
            await self._step("delete", subscription.delete())
        for values in self._follower.values.values():
            numbers = [one.Value.Value for one in values if one.StatusCode is None or one.StatusCode.is_good()]
            assert numbers == sorted(numbers), "time went backward"

    async def _step(self, name: str, asked: Awaitable[object]):
        try:
            result = await asked
        except REFUSALS:
            return None
        self._done[name] += 1
        return result


@pytest.mark.parametrize("fail_every", [20, 200])
@pytest.mark.filterwarnings("ignore")  # what asyncua leaves behind when its connection is cut
def test_allocations_that_fail_while_serving_break_nothing(tmp_path, fail_every):
    add_users(tmp_path)
    with stressed(tmp_path, *OPTIONS) as server:
        server.obey(flood=1, period_s=0.01)
        server.obey(flood=1_000_000, period_s=0.01, wait=False)

        async def visit(failing: int) -> Counter[str]:
            done: Counter[str] = Counter()
            with contextlib.suppress(*REFUSALS):
                async with asyncio.timeout(5), client(server.url, timeout_s=2) as connected:
                    server.obey(fail_every=failing)
                    await Scada(connected, done).work()
            return done

        async def knock() -> int:
            with contextlib.suppress(*REFUSALS):
                async with asyncio.timeout(2), client(server.url, timeout_s=1):
                    return 1
            return 0

        async def work() -> Counter[str]:
            assert (await visit(0)).keys() == STEPS
            await until(lambda: counted(server)["sessions"] == 0)
            base = counted(server)
            done: Counter[str] = Counter()
            deadline_s = asyncio.get_running_loop().time() + SECONDS
            while asyncio.get_running_loop().time() < deadline_s:
                done += await visit(fail_every + done["visit"] % 7)  # or each visit would lose the same allocations
                for _ in range(3):
                    done["knock"] += await knock()
                server.obey(fail_every=0)
                done["visit"] += 1
            assert counted(server)["refused_count"] > 20
            told = [(name, details.get("limit")) for name, _, details in server.obey(reports=True)]
            assert ("limit_reached", "memory") in told
            await until(lambda: counted(server)["sessions"] == counted(server)["subscriptions"] == 0)
            assert (await visit(0)).keys() == STEPS  # memory is back: so is everything
            await until(lambda: counted(server)["sessions"] == 0)
            after = counted(server)
            assert after["monitored_items"] == after["items_pushed"] == after["notifications_granted"] == 0
            assert after["live_bytes"] - base["live_bytes"] < 64 << 10
            return done

        done = asyncio.run(asyncio.wait_for(work(), SECONDS + 100))
        assert done["visit"] > 5
        assert {"read", "browse", "write"} <= done.keys()
