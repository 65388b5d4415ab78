"""The whole gateway between a foreign plant (pymodbus) and a foreign OPC UA client (asyncua), each in its own process.

Writes down to the register and in the audit log; what the gateway says about itself; what it refuses. What a SCADA sees when the plant
is in trouble: `test_opcua_truth`.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.interop.opcua_bench import PATIENCE_S, ROOT, Follower, add_users, client, compiled_only, node, run, until
from tests.interop.test_gateway_process import GatewayProcess, Plant, bifrost, wait_for

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.uaerrors import UaStatusCodeError  # isort: skip  # likewise

pytestmark = [pytest.mark.interop, compiled_only]


class OpcUaGateway(GatewayProcess):
    """A gateway with an OPC UA server on a free port."""

    def __init__(self, directory, port, *, opcua='bind = "127.0.0.1:0"', **options):
        super().__init__(directory, port, **options)
        self.config.write_text(self.config.read_text().replace("[[device]]", f"[opcua]\n{opcua}\n\n[[device]]"))

    @property
    def url(self):
        return json.loads(self.bifrost("status", "--json").stdout)["opcua"]["url"]


@pytest.fixture
def plant():
    made = Plant()
    made.start()
    yield made
    made.kill()


@pytest.fixture
def gateway(tmp_path, plant):
    made = OpcUaGateway(tmp_path, plant.port)
    add_users(made.data_dir)
    try:
        made.start()
        wait_for(lambda: made.quality("plant.first") == "Good", made.log)
        wait_for(lambda: bool(made.url), made.log)
        yield made
    finally:
        made.kill()


def test_write_goes_to_the_register_and_into_the_audit_log(gateway, plant):
    async def work():
        async with client(gateway.url) as connected:
            point = node(connected, "plant.set.point")
            await point.write_value(250.5, ua.VariantType.Double)
            assert await point.read_value() == pytest.approx(250.5)
            with pytest.raises(UaStatusCodeError) as error:
                await point.write_value(501.0, ua.VariantType.Double)
            assert error.value.code == 0x803C0000
            with pytest.raises(UaStatusCodeError) as error:
                await node(connected, "plant.set.locked").write_value(1, ua.VariantType.UInt16)
            assert error.value.code == 0x803B0000

    run(work())
    direct = bifrost("read", f"modbus://127.0.0.1:{plant.port}", "hr:10", "--json")
    assert json.loads(direct.stdout)["value"] == 2505
    audit = [json.loads(line) for line in (gateway.data_dir / "state" / "audit.jsonl").read_text().splitlines()]
    done = [record for record in audit if record["event"] == "write_done"]
    assert [(record["tag"], record["result"]) for record in done] == [("plant.set.point", "Good")]
    assert done[0]["who"].startswith("opcua:operator")
    assert {"opcua_session_opened", "write_refused"} <= {record["event"] for record in audit}


def test_write_to_a_plant_that_is_gone_gets_its_status(gateway, plant):
    plant.kill()
    wait_for(lambda: gateway.quality("plant.first") == "BadNoCommunication", gateway.log)

    async def work():
        async with client(gateway.url, timeout_s=30) as connected:
            with pytest.raises(UaStatusCodeError) as error:
                await node(connected, "plant.set.point").write_value(1.0, ua.VariantType.Double)
            assert error.value.code in (0x80050000, 0x800A0000)

    run(work())


def test_nothing_is_writable_without_the_master_switch(tmp_path, plant):
    gateway = OpcUaGateway(tmp_path, plant.port, writes=False)
    add_users(gateway.data_dir)
    try:
        gateway.start()
        wait_for(lambda: bool(gateway.url), gateway.log)

        async def work():
            async with client(gateway.url) as connected:
                with pytest.raises(UaStatusCodeError) as error:
                    await node(connected, "plant.set.point").write_value(1.0, ua.VariantType.Double)
                assert error.value.code == 0x803B0000

        run(work())
    finally:
        gateway.kill()


def test_gateway_says_about_itself_what_it_is(gateway):
    async def work():
        async with client(gateway.url, None) as connected:
            for name, check in {
                "Version": lambda value: value[0].isdigit(),
                "Uptime": lambda value: value >= 0,
                "MemoryBytes": lambda value: value > 10_000_000,
                "TagsCount": lambda value: value == 5,
                "OpcUaSessions": lambda value: value >= 0,
                "Warnings": lambda value: isinstance(value, str),
            }.items():
                assert check(await node(connected, f"_Gateway#{name}").read_value()), name
            requests = node(connected, "plant#Requests")
            before = await requests.read_value()
            follower = Follower()
            subscription = await connected.create_subscription(100, follower)
            await subscription.subscribe_data_change(requests)
            values = follower.values.setdefault("plant#Requests", [])
            await until(lambda: bool(values) and values[-1].Value.Value > before)

    run(work())


def test_status_tells_how_many_certificates_wait_and_what_to_do(gateway):
    """The folder is what counts: what was refused before a restart waits too."""
    assert "in the folder rejected" not in gateway.bifrost("status").stdout
    (gateway.data_dir / "pki" / "rejected" / "a.der").write_bytes(b"x")
    assert "1 certificate in the folder rejected: bifrost opcua cert list" in gateway.bifrost("status").stdout


def test_configuration_that_is_open_without_users_is_refused(tmp_path, plant):
    gateway = OpcUaGateway(tmp_path, plant.port, opcua='bind = "0.0.0.0:0"')
    refused = gateway.bifrost("run")
    assert refused.returncode == 2
    assert "opcua.bind: 0.0.0.0:0 can be reached from other machines, which demands users; add one: " in refused.stderr
    assert gateway.bifrost("check").stdout == refused.stderr
    added = subprocess.run(
        [
            sys.executable,
            "-m",
            "bifrost",
            "opcua",
            "user",
            "add",
            "scada",
            "--password-stdin",
            "-c",
            str(gateway.config),
        ],
        cwd=ROOT,
        input="scada password\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (added.returncode, added.stdout) == (0, "added: scada, who may read\n")
    assert gateway.bifrost("check").returncode == 0


def test_more_promised_than_memory_allows_is_refused(tmp_path, plant):
    gateway = OpcUaGateway(tmp_path, plant.port)
    limits = '[limits]\nmemory_bytes_max = "64 MiB"\nopcua_monitored_items_max = 200_000\n\n[opcua]'
    gateway.config.write_text(gateway.config.read_text().replace("[opcua]", limits))
    refused = gateway.bifrost("run")
    assert refused.returncode == 2
    assert "limits.memory_bytes_max" in refused.stderr
    assert "the largest region is 'opc ua'" in refused.stderr


def test_port_in_use_is_told_and_tried_again(tmp_path, plant, gateway):
    directory = tmp_path / "second"
    directory.mkdir()
    port = gateway.url.rpartition(":")[2]
    second = OpcUaGateway(directory, plant.port, opcua=f'bind = "127.0.0.1:{port}"')
    try:
        second.start()
        wait_for(
            lambda: "set bind in [opcua] to an address and port that are free" in second.log.read_text(), second.log
        )
        gateway.kill()
        wait_for(lambda: bool(second.url), second.log)
    finally:
        second.kill()
