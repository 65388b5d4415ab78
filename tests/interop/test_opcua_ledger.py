"""The ledger of each uplink as a foreign OPC UA client (asyncua) sees it, while a foreign plant (pymodbus) never stands still.

It adds up in every read and in every notification; once the plant stands still it is that of `bifrost status`; uplinks that a reload adds,
changes or takes away come, stay and go, and a client that is connected meanwhile sees it.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from bifrost.bridge.ledger import Reason
from tests.interop.opcua_bench import Follower, client, compiled_only, node, run, until
from tests.interop.peers.brokers import free_port
from tests.interop.peers.plant_values import plant_tags
from tests.interop.test_gateway_process import GatewayProcess, wait_for
from tests.interop.test_reload import Plant

from asyncua.ua.uaerrors import UaStatusCodeError  # isort: skip  # skipped by the line above where it is missing

pytestmark = [pytest.mark.interop, compiled_only]

DROPPED = [f"Dropped{reason.capitalize()}" for reason in Reason]
COUNTS = ["Acquired", "Acknowledged", "Buffered", "Dropped", *DROPPED]
READS = 200
BAD_NODE_ID_UNKNOWN = 0x80340000

GATEWAY = """
[gateway]
name = "line"
data_dir = "{data_dir}"

[opcua]
bind = "127.0.0.1:0"

[[device]]
name = "plant"
url = "modbus-tcp://127.0.0.1:{port}"
scan = "20 ms"
"""
TAG = '\n[[device.tag]]\nname = "{0.name}"\naddress = "{0.address}"\ntype = "{0.type}"\n'
KEPT = '\n[[uplink]]\nname = "kept"\nurl = "file://{directory}/kept.jsonl"\nlinger = "20 ms"\n'
AWAY = '\n[[uplink]]\nname = "a way"\nurl = "mqtt://127.0.0.1:{nobody}"\n'
LATE = '\n[[uplink]]\nname = "late"\nurl = "file://{directory}/late.jsonl"\n'


class LedgerGateway(GatewayProcess):
    """A gateway with two uplinks: a file, and a broker that nobody has started."""

    def __init__(self, directory, port):
        super().__init__(directory, port)
        self.places = {"directory": directory, "nobody": free_port(), "data_dir": self.data_dir, "port": port}
        self.write(KEPT, AWAY)

    def write(self, *uplinks):
        tags = [tag for tag in plant_tags() if tag.type == "int32"][:20]
        text = (GATEWAY + "".join(map(TAG.format, tags)) + "".join(uplinks)).format(**self.places)
        self.config.write_text(text)

    def reload(self, *uplinks):
        self.write(*uplinks)
        done = self.bifrost("reload")
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def status(self):
        return json.loads(self.bifrost("status", "--json").stdout)


@pytest.fixture
def plant():
    made = Plant(free_port())
    yield made
    made.kill()


@pytest.fixture
def gateway(tmp_path, plant):
    made = LedgerGateway(tmp_path, plant.port)
    try:
        made.start()
        wait_for(lambda: made.status["tags"]["good"] == 20, made.log)
        wait_for(lambda: bool(made.status["opcua"]["url"]), made.log)  # Its certificate is made meanwhile.
        yield made
    finally:
        made.kill()


async def ledger(connected, uplink):
    """The counts of an uplink in one Read request."""
    values = await connected.read_values([node(connected, f"_Gateway.Uplinks.{uplink}#{name}") for name in COUNTS])
    return dict(zip(COUNTS, values, strict=True))


def balances(counts):
    dropped = sum(counts[name] for name in DROPPED)
    return dropped == counts["Dropped"] and counts["Acquired"] == counts["Acknowledged"] + counts["Buffered"] + dropped


async def shown(connected, uplink):
    """Waits until the ledger of an uplink is there: first its node, then a second later its values."""
    acquired = node(connected, f"_Gateway.Uplinks.{uplink}#Acquired")
    while True:
        try:
            await acquired.read_value()
            return
        except UaStatusCodeError:
            await asyncio.sleep(0.05)


def counted(record):
    """The same counts, from `bifrost status`."""
    kept = record["ledger"]
    counts = {name: kept[name.lower()] for name in COUNTS[:3]} | {"Dropped": sum(kept["dropped"].values())}
    return counts | {f"Dropped{reason.capitalize()}": kept["dropped"][reason] for reason in Reason}


def test_ledger_adds_up_in_every_read_and_is_that_of_status(gateway, plant):
    async def work():
        async with client(gateway.status["opcua"]["url"], None) as connected:
            await until(lambda: gateway.status["uplinks"][0]["ledger"]["acknowledged"] > 0)
            await shown(connected, "kept")
            await shown(connected, "a way")
            seen = set()
            for _ in range(READS):
                for uplink in ("kept", "a way"):
                    counts = await ledger(connected, uplink)
                    assert balances(counts), counts
                    seen.add((uplink, counts["Acquired"]))
                await asyncio.sleep(0.01)
            assert len(seen) >= 4  # it was seen to move
            plant.kill()
            wait_for(lambda: gateway.status["tags"]["bad"] == 20, gateway.log)
            for index, uplink in enumerate(("kept", "a way")):
                expected = counted(gateway.status["uplinks"][index])
                for _ in range(100):
                    counts = await ledger(connected, uplink)
                    if counts == expected:
                        break
                    await asyncio.sleep(0.1)
                    expected = counted(gateway.status["uplinks"][index])
                assert counts == expected
            assert counts["Buffered"] == counts["Acquired"] > 0
            assert await node(connected, "_Gateway.Uplinks.kept#Connected").read_value() is True
            assert await node(connected, "_Gateway.Uplinks.a way#Connected").read_value() is False
            assert "refused" in (await node(connected, "_Gateway.Uplinks.a way#LastError").read_value()).lower()

    run(work())


def test_uplinks_come_and_go_with_reloads(gateway):
    async def work():
        async with client(gateway.status["opcua"]["url"], None) as connected:
            follower = Follower()
            subscription = await connected.create_subscription(50, follower)
            await subscription.subscribe_data_change(node(connected, "_Gateway.Uplinks.a way#Acquired"))
            gone = follower.values.setdefault("_Gateway.Uplinks.a way#Acquired", [])
            await until(lambda: bool(gone))
            await shown(connected, "kept")
            before = await ledger(connected, "kept")
            await asyncio.to_thread(gateway.reload, KEPT, LATE)
            await until(lambda: gone[-1].StatusCode.value == BAD_NODE_ID_UNKNOWN)
            names = [str(child.nodeid.Identifier) for child in await node(connected, "_Gateway.Uplinks").get_children()]
            assert names == ["_Gateway.Uplinks.kept", "_Gateway.Uplinks.late"]
            await shown(connected, "late")
            assert balances(await ledger(connected, "late"))
            assert (await ledger(connected, "kept"))["Acquired"] >= before["Acquired"]
            await asyncio.to_thread(gateway.reload, KEPT)  # the rows of two uplinks are free …
            await asyncio.to_thread(gateway.reload, KEPT, AWAY)  # … and are used again
            await shown(connected, "a way")
            counts = await ledger(connected, "a way")
            assert balances(counts)
            assert counts["Acknowledged"] == 0

    run(work())


def test_every_notification_adds_up(gateway):
    """The counts of one uplink come in one notification; those that did not change are as they were."""

    async def work():
        async with client(gateway.status["opcua"]["url"], None) as connected:
            await shown(connected, "kept")
            rounds = []

            class Snapshots(Follower):
                def datachange_notification(self, changed, value, data):
                    super().datachange_notification(changed, value, data)
                    rounds.append((data.monitored_item.Value.ServerTimestamp, changed.nodeid.Identifier, value))

            subscription = await connected.create_subscription(50, Snapshots())
            nodes = [node(connected, f"_Gateway.Uplinks.kept#{name}") for name in COUNTS]
            await subscription.subscribe_data_change(nodes)
            await until(lambda: len({time for time, _, _ in rounds}) > 5)
            counts = {}
            for at in sorted({time for time, _, _ in rounds})[:-1]:  # the last one may not be complete yet
                counts |= {name.partition("#")[2]: value for time, name, value in rounds if time == at}
                assert len(counts) < len(COUNTS) or balances(counts), counts

    run(work())
