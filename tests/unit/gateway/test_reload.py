"""Reloads of a whole gateway in this process, against our own Modbus server in the same loop.

What a test looks at: the rows of tags, whether a connection was made anew, what the control socket answers, and that nothing changes when
the configuration is refused.
"""

import asyncio
import contextlib
from array import array

import msgspec
import pytest

from bifrost.core.config import load_config
from bifrost.core.status import StatusCode
from bifrost.gateway.app import Gateway
from bifrost.plc.modbus.address import Table, parse_range
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ModbusServer

_PATIENCE_S = 20

HEAD = '[gateway]\nname = "line"\ndata_dir = "{directory}/data"\n'
DEVICE = '[[device]]\nname = "{name}"\nurl = "modbus-tcp://127.0.0.1:{port}?unit={unit}"\nscan = "20 ms"\n{more}\n'
TAG = '[[device.tag]]\nname = "{name}"\naddress = "{address}"\n{more}\n'


async def until(holds):
    """Waits until `holds()`; the caller sets the time limit."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.001)


def device(port, name="plant", unit=1, more="", **tags):
    """A device whose tags are given as name = address, or name = (address, further keys)."""
    lines = [DEVICE.format(name=name, port=port, unit=unit, more=more)]
    for tag, given in tags.items():
        address, keys = given if isinstance(given, tuple) else (given, "")
        lines.append(TAG.format(name=tag, address=address, more=keys))
    return "".join(lines)


class Bench:
    """A running gateway, its plant, and what a test asks."""

    def __init__(self, gateway, memory, port, directory):
        self.gateway = gateway
        self.memory = memory
        self.port = port
        self.path = directory / "gateway.toml"
        self.head = HEAD.format(directory=directory)

    async def reload(self, *devices, head="", who="test"):
        self.path.write_text(self.head + head + "".join(devices))
        return await self.gateway.reloader.ask(who)

    def row(self, name):
        row = self.gateway.config.tags.id_of(name)
        assert row is not None, name
        return row

    def point(self, name):
        return self.gateway.runtime.table.snapshot([self.row(name)])[0]

    async def until(self, name, value, quality="Good"):
        while True:
            point = self.point(name)
            if (point.value, point.quality) == (value, quality):
                return
            await asyncio.sleep(0.005)

    def connects(self):
        return {link.key.rsplit(":", 1)[0]: link.counters.opens for link in self.gateway.scanner.status()}

    def is_used_up(self):
        """Nothing of reloads is left over: every link belongs to a poller, every poller's devices are polled once."""
        polled = [one for poller in self.gateway.pollers.values() for one in poller.devices]
        assert sorted(id(one) for one in polled) == sorted(map(id, self.gateway.devices))
        assert all(len(one.device.watches) == 1 for one in polled if one.tags)


@contextlib.asynccontextmanager
async def running(directory, *, head="", devices=None, holes=()):
    memory = Memory(holding_registers=100, holes=[parse_range(hole) for hole in holes])
    for register in range(100):
        memory.write(Table.HOLDING_REGISTER, register, 1, (1000 + register).to_bytes(2, "big"))
    server = ModbusServer({1: memory, 2: memory}, port=0)
    async with asyncio.timeout(_PATIENCE_S), server.running():
        path = directory / "gateway.toml"
        first = devices(server.port) if devices is not None else device(server.port, a="hr:0", b="hr:1")
        path.write_text(HEAD.format(directory=directory) + head + first)
        stop = asyncio.Event()
        with Gateway(load_config(str(path), {}), {}) as gateway:
            gateway.reloader._healthy_timeout_s = 1.0
            async with asyncio.TaskGroup() as group:
                group.create_task(gateway.run(stop), name="gateway")
                bench = Bench(gateway, memory, server.port, directory)
                try:
                    await until(lambda: not (any(gateway.runtime.table.statuses(array("I", gateway.config.tags.ids)))))
                    yield bench
                    bench.is_used_up()
                finally:
                    stop.set()


def run(scenario, directory, **options):
    async def work():
        async with running(directory, **options) as bench:
            await scenario(bench)

    asyncio.run(work())


def test_nothing_different_is_nothing_done(tmp_path):
    async def scenario(bench):
        generation = bench.gateway.devices[0].device.link.generation
        result = await bench.reload(device(bench.port, a="hr:0", b="hr:1"))
        assert (result["result"], result["changes"]) == ("done", "none")
        assert bench.gateway.devices[0].device.link.generation == generation

    run(scenario, tmp_path)


def test_tags_come_and_go_without_a_new_connection_or_a_new_row_for_the_others(tmp_path):
    async def scenario(bench):
        row_b, row_a, connects = bench.row("plant.b"), bench.row("plant.a"), bench.connects()
        result = await bench.reload(device(bench.port, c="hr:2", b="hr:1"))
        assert (result["tags_added"], result["tags_removed"]) == (1, 1)
        assert bench.row("plant.b") == row_b
        assert bench.gateway.config.tags.id_of("plant.a") is None
        await bench.until("plant.c", 1002)
        assert bench.point("plant.b").value == 1001
        assert list(bench.gateway.runtime.table.statuses(array("I", [row_a]))) == [StatusCode.BadNodeIdUnknown]
        assert bench.gateway.name_of(row_a) == "plant.a"
        assert bench.connects() == connects

    run(scenario, tmp_path)


def test_other_order_in_the_file_changes_no_row(tmp_path):
    async def scenario(bench):
        rows = bench.row("plant.a"), bench.row("plant.b")
        await bench.reload(device(bench.port, c="hr:2", b="hr:1", a="hr:0"))
        await bench.until("plant.c", 1002)
        assert (bench.row("plant.a"), bench.row("plant.b")) == rows
        bench.memory.write(Table.HOLDING_REGISTER, 0, 1, b"\x00\x07")
        await bench.until("plant.a", 7)
        assert bench.point("plant.b").value == 1001

    run(scenario, tmp_path)


def test_tag_with_another_address_keeps_its_row_and_begins_anew(tmp_path):
    async def scenario(bench):
        row = bench.row("plant.a")
        cursor = bench.gateway.runtime.table.cursor()
        result = await bench.reload(device(bench.port, a="hr:5", b="hr:1"))
        assert result["tags_changed"] == 1
        assert bench.row("plant.a") == row
        await bench.until("plant.a", 1005)
        seen = [(point.value, point.quality) for changed, point in cursor.read(100).points() if changed == row]
        assert seen[0][1] == "BadWaitingForInitialData"
        assert seen[-1] == (1005, "Good")

    run(scenario, tmp_path)


def test_tag_with_another_type_gets_another_row_and_the_old_one_is_used_again(tmp_path):
    async def scenario(bench):
        row = bench.row("plant.a")
        await bench.reload(device(bench.port, a=("hr:0", 'type = "float32"'), b="hr:1"))
        assert bench.row("plant.a") != row
        await until(lambda: bench.point("plant.a").quality == "Good")
        await bench.reload(device(bench.port, a=("hr:0", 'type = "float32"'), b="hr:1", new="hr:9"))
        await bench.until("plant.new", 1009)
        assert bench.row("plant.new") == row
        assert bench.gateway.name_of(row) == "plant.new"

    run(scenario, tmp_path)


def test_deadband_and_words_change_under_a_running_tag(tmp_path):
    async def scenario(bench):
        row, generation = bench.row("plant.a"), bench.gateway.devices[0].device.link.generation
        await bench.reload(device(bench.port, a=("hr:0", 'deadband = 10\nunit = "mm"'), b="hr:1"))
        assert bench.row("plant.a") == row
        assert bench.gateway.devices[0].device.link.generation == generation  # No plan was made.
        cursor = bench.gateway.runtime.table.cursor()
        bench.memory.write(Table.HOLDING_REGISTER, 0, 1, (1005).to_bytes(2, "big"))
        await bench.until("plant.a", 1005)
        bench.memory.write(Table.HOLDING_REGISTER, 0, 1, (1020).to_bytes(2, "big"))
        await bench.until("plant.a", 1020)
        assert [point.value for changed, point in cursor.read(100).points() if changed == row] == [1020]
        assert bench.gateway.config.tags.unit(row) == "mm"

    run(scenario, tmp_path)


def test_devices_come_and_go_and_others_stay_connected(tmp_path):
    async def scenario(bench):
        other = device(bench.port, "other", 2, "", x="hr:3")
        host = other.replace("127.0.0.1", "localhost")  # Another link to the same plant.
        kept = device(bench.port, a="hr:0", b="hr:1")
        result = await bench.reload(kept, host)
        assert result["devices_added"] == 1
        await bench.until("other.x", 1003)
        assert bench.connects() == {"modbus-tcp://127.0.0.1": 1, "modbus-tcp://localhost": 1}
        await bench.reload(kept, other)  # Now behind the connection of the first one.
        await bench.until("other.x", 1003)
        assert bench.connects() == {"modbus-tcp://127.0.0.1": 1}
        result = await bench.reload(other)
        assert (result["devices_removed"], result["tags_removed"]) == (1, 2)
        assert bench.connects() == {"modbus-tcp://127.0.0.1": 1}
        assert [one.config.name for one in bench.gateway.devices] == ["other"]

    run(scenario, tmp_path)


def test_timeout_is_of_the_link_which_alone_is_made_anew(tmp_path):
    async def scenario(bench):
        kept = device(bench.port, "other", 2, "", x="hr:3").replace("127.0.0.1", "localhost")
        await bench.reload(device(bench.port, a="hr:0", b="hr:1"), kept)
        await bench.until("other.x", 1003)
        row = bench.row("plant.a")
        result = await bench.reload(device(bench.port, more='timeout = "2 s"', a="hr:0", b="hr:1"), kept)
        assert result["devices_changed"] == 1
        assert bench.row("plant.a") == row
        assert bench.gateway.devices[0].device.link.options.timeout_ns == 2_000_000_000
        assert bench.connects()["modbus-tcp://localhost"] == 1

    run(scenario, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[device]]\nname = "x"\n', "device.x.url: is missing"),
        ("{device}[[device.tag]]\nname = 'c'\naddress = 'hr:70000'\n", "device.plant.tag.c.address"),
        ("{device}[http]\nbint = 'off'\n", "http.bint: unknown key"),
        ("{device}[limits]\nlinks_count_max = 20\n", "limits.links_count_max: takes effect at a restart only"),
        ("{device}[opcua]\n", "opcua: takes effect at a restart only"),
    ],
)
def test_wrong_configuration_is_refused_with_its_place_and_changes_nothing(tmp_path, text, words):
    async def scenario(bench):
        before, generation = bench.gateway.config, bench.gateway.devices[0].device.link.generation
        with pytest.raises(Exception, match=words) as caught:
            await bench.reload(text.replace("{device}", device(bench.port, a="hr:0", b="hr:1")))
        assert caught.value.exit_code == 2
        assert str(bench.path) in str(caught.value)
        assert bench.gateway.config is before
        assert bench.gateway.devices[0].device.link.generation == generation
        assert bench.gateway.reloader.last["result"] == "refused"

    run(scenario, tmp_path)


def test_more_tags_than_there_is_room_for_are_refused_with_the_limit(tmp_path):
    async def scenario(bench):
        many = {f"t{number}": f"hr:{number}" for number in range(64)}
        with pytest.raises(Exception, match="65 tags are configured; a restart makes room for them"):
            await bench.reload(device(bench.port, a="hr:0", **many))
        rows = bench.gateway.runtime.table.rows_count
        await bench.reload(device(bench.port, a="hr:0", b="hr:1"))
        # Rows of another kind than any that is free: some fit, all do not.
        floats = {f"t{number}": (f"hr:{number}", 'type = "float32"') for number in range(63)}
        with pytest.raises(Exception, match="65 rows of tags are needed"):
            await bench.reload(device(bench.port, a="hr:0", **floats))
        assert bench.gateway.runtime.table.rows_count == rows
        assert bench.point("plant.b").quality == "Good"

    run(scenario, tmp_path)


def test_address_the_device_does_not_have_is_undone(tmp_path):
    async def scenario(bench):
        row = bench.row("plant.a")
        with pytest.raises(Exception, match=r"plant\.a was good and is BadConfigurationError") as caught:
            await bench.reload(device(bench.port, a="hr:50", b="hr:1", new="hr:2"))
        assert caught.value.exit_code == 1
        assert bench.row("plant.a") == row
        assert bench.gateway.config.tags.id_of("plant.new") is None
        await bench.until("plant.a", 1000)
        assert bench.gateway.reloader.last["result"] == "undone"
        await bench.reload(device(bench.port, a="hr:0", b="hr:1", new="hr:2"))  # And it is none the worse.
        await bench.until("plant.new", 1002)

    run(scenario, tmp_path, holes=["hr:50"])


def test_address_where_nobody_answers_is_undone_with_the_same_rows(tmp_path):
    async def scenario(bench):
        rows = bench.row("plant.a"), bench.row("plant.b")
        with pytest.raises(Exception, match=r"plant\.a was good and is Bad"):
            await bench.reload(device(1, a="hr:0", c="hr:2"))
        assert (bench.row("plant.a"), bench.row("plant.b")) == rows
        await bench.until("plant.a", 1000)
        await bench.until("plant.b", 1001)

    run(scenario, tmp_path)


def test_device_that_never_worked_may_go_on_not_working(tmp_path):
    async def scenario(bench):
        result = await bench.reload(device(bench.port, a="hr:0", b="hr:1"), device(1, "commissioned_later", x="hr:0"))
        assert result["result"] == "done"
        assert bench.point("commissioned_later.x").quality == "BadWaitingForInitialData"

    run(scenario, tmp_path)


def test_second_reload_at_the_same_time_is_refused_and_a_signal_waits(tmp_path):
    async def scenario(bench):
        reloader = bench.gateway.reloader
        first = reloader.ask("one")
        with pytest.raises(Exception, match="a reload is under way"):
            reloader.ask("two")
        assert (await first)["changes"] == "none"
        reloader.signal()
        reloader.signal()
        await until(lambda: not (reloader.count < 2))

    run(scenario, tmp_path)


def test_stop_does_not_wait_for_a_reload(tmp_path):
    stopped_s = []

    async def scenario(bench):
        bench.gateway.reloader._healthy_timeout_s = 1_000.0
        bench.path.write_text(bench.head + device(1, a="hr:0", b="hr:1"))
        bench.gateway.reloader.signal()
        await until(lambda: bench.gateway.devices[0].config.url.port == 1)
        await until(lambda: bench.gateway.devices[0].device is not None)  # It is polled; now its health is waited for.
        stopped_s.append(asyncio.get_running_loop().time())

    async def work():
        async with running(tmp_path) as bench:
            await scenario(bench)
        return asyncio.get_running_loop().time() - stopped_s[0]

    assert asyncio.run(work()) < 2


def test_mistake_of_ours_on_the_way_is_undone_too(tmp_path, monkeypatch):
    async def scenario(bench):
        add = bench.gateway.writes
        monkeypatch.setattr(bench.gateway, "delivery", None)
        with pytest.raises(Exception, match=r"not undone, restart the gateway .internal error: AttributeError"):
            await bench.reload(device(bench.port, a="hr:5", b="hr:1"))
        monkeypatch.undo()
        assert bench.gateway.writes is add
        await bench.reload(device(bench.port, a="hr:0", b="hr:1", c="hr:2"))
        await bench.until("plant.a", 1000)
        await bench.until("plant.c", 1002)

    run(scenario, tmp_path)


def test_client_that_leaves_does_not_cut_a_reload_short(tmp_path):
    async def scenario(bench):
        _, writer = await asyncio.open_unix_connection(bench.gateway.control.path)
        bench.path.write_text(bench.head + device(bench.port, a="hr:0", b="hr:1", c="hr:2"))
        writer.write(b'{"command":"reload"}\n')
        await writer.drain()
        writer.close()
        await until(lambda: bench.gateway.reloader.last)
        await bench.until("plant.c", 1002)

    run(scenario, tmp_path)


def test_write_waiting_for_a_tag_that_changed_is_refused(tmp_path):
    head = "writes = true\n"

    async def scenario(bench):
        gateway = bench.gateway
        deadline_ns = gateway.clock.now_ns() + 10**10
        row = bench.row("plant.a")
        target = gateway.delivery.target_of(row)
        bench.path.write_text(
            bench.head + head + device(bench.port, a=("hr:0", "writable = true\nscale = 0.1"), b="hr:1")
        )
        waiting = gateway.writes.accept(row, 5, "test", deadline_ns)
        gateway.delivery.target_of = None
        gateway.writes._target_of = lambda _: msgspec.structs.replace(target, scale=0.1)
        assert await waiting == StatusCode.BadNodeIdUnknown

    run(scenario, tmp_path, devices=lambda port: head + device(port, a=("hr:0", "writable = true"), b="hr:1"))


UPLINK = """
[[uplink]]
name = "plant"
url = "mqtt://127.0.0.1:1"
linger = "{linger}"
tags = ["plant.*"]
"""


def test_uplink_goes_on_with_its_buffer_and_takes_new_tags(tmp_path):
    def uplink(linger="20 ms"):
        return UPLINK.format(linger=linger)

    async def ledger(bench, acquired):
        """The ledger, once so many samples are acquired and in the journal."""
        while True:
            (record,) = bench.gateway.uplinks.records()
            if record["ledger"] and record["ledger"]["acquired"] == acquired and record["journal"]["next_sequence"] > 1:
                assert record["ledger"]["buffered"] == acquired
                return record
            await asyncio.sleep(0.005)

    async def scenario(bench):
        gateway = bench.gateway
        (before,) = gateway.uplinks._uplinks
        first = await ledger(bench, 2)
        result = await bench.reload(device(bench.port, a="hr:0", b="hr:1", c="hr:2"), uplink())
        assert "uplink" not in result
        await bench.until("plant.c", 1002)
        assert gateway.uplinks._uplinks == [before]
        await ledger(bench, 3)
        result = await bench.reload(device(bench.port, a="hr:0", c="hr:2"), uplink("30 ms"))
        assert result["uplink"] == "changed"
        (after,) = gateway.uplinks._uplinks
        assert after is not before
        record = await ledger(bench, 4)  # The tag that is gone was told to be gone.
        assert record["journal"]["next_sequence"] > first["journal"]["next_sequence"]
        bench.memory.write(Table.HOLDING_REGISTER, 0, 1, (7).to_bytes(2, "big"))
        await ledger(bench, 5)
        await bench.reload(device(bench.port, a="hr:0", c="hr:2"))
        assert gateway.uplinks.records() == []
        assert [status.name for status in gateway.supervisor.statuses if status.name.startswith("uplink")] == []

    run(scenario, tmp_path, devices=lambda port: device(port, a="hr:0", b="hr:1") + UPLINK.format(linger="20 ms"))


def test_every_reload_is_in_the_audit_log_and_in_the_status(tmp_path):
    async def scenario(bench):
        await bench.reload(device(bench.port, a="hr:0", b="hr:1", c="hr:2"), who="control:uid=7")
        with pytest.raises(Exception, match="missing"):
            await bench.reload("[[device]]\nname = 'x'\n")
        log = (tmp_path / "data" / "state" / "audit.jsonl").read_text().splitlines()
        entries = [msgspec.json.decode(line) for line in log if '"reload"' in line]
        assert [(entry["who"], entry["result"]) for entry in entries] == [
            ("control:uid=7", "done"),
            ("test", "refused"),
        ]
        assert entries[0]["tags_added"] == 1
        assert bench.gateway.reloader.last["result"] == "refused"

    run(scenario, tmp_path)
