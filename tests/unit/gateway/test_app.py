"""A whole gateway in this process, against our own Modbus server in the same loop: every live command, and start and stop.

Commands go through the real control socket; what is waited for has a generous time and no sleep.
"""

import asyncio
import contextlib

import msgspec
import pytest

from bifrost.core.config import load_config
from bifrost.core.errors import LimitError
from bifrost.gateway.app import Gateway, run_gateway
from bifrost.gateway.supervisor import ChildState
from bifrost.plc.modbus.address import Table, parse_range
from bifrost.plc.modbus.memory import Memory
from bifrost.plc.modbus.server import ModbusServer

_PATIENCE_S = 20

CONFIGURATION = """\
[gateway]
name = "line"
data_dir = "{directory}/data"
writes = {writes}

[[device]]
name = "plant"
url = "modbus-tcp://127.0.0.1:{port}?unit=1"
scan = "20 ms"

[[device.tag]]
name = "level"
address = "hr:0"
unit = "mm"

[[device.tag]]
name = "point"
group = "set"
address = "hr:1"
type = "int16"
scale = 0.5
range = [-10, 10]
writable = true

[[device.tag]]
name = "label"
address = "hr:4"
type = "string[4]"
"""


class Bench:
    """A running gateway, its plant, and a client of its control socket."""

    def __init__(self, gateway, memory, stop, reader, writer):
        self.gateway = gateway
        self.memory = memory
        self.stop = stop
        self.reader = reader
        self.writer = writer

    async def ask(self, **request):
        """The answers to one request."""
        self.writer.write(msgspec.json.encode(request) + b"\n")
        return [answer async for answer in self.answers()]

    async def answers(self):
        while True:
            line = await self.reader.readline()
            answer = msgspec.json.decode(line)
            yield answer
            if not answer.get("more"):
                return

    async def value(self, tag):
        (answer,) = await self.ask(command="read", tags=[tag])
        (value,) = answer["values"]
        return value

    async def until(self, tag, value, quality="Good"):
        while True:
            found = await self.value(tag)
            if (found["value"], found["quality"]) == (value, quality):
                return


@contextlib.asynccontextmanager
async def running(directory, writes=True, holes=(), port=0):
    memory = Memory(holding_registers=10, holes=[parse_range(hole) for hole in holes])
    memory.write(Table.HOLDING_REGISTER, 0, 2, bytes.fromhex("04D2 0005"))
    memory.write(Table.HOLDING_REGISTER, 4, 2, b"tank")
    server = ModbusServer({1: memory}, port=port)
    async with asyncio.timeout(_PATIENCE_S), server.running():
        path = directory / "gateway.toml"
        switch = "true" if writes else "false"
        path.write_text(CONFIGURATION.format(directory=directory, port=server.port, writes=switch))
        stop = asyncio.Event()
        with Gateway(load_config(str(path), {})) as gateway:
            async with asyncio.TaskGroup() as group:
                group.create_task(gateway.run(stop), name="gateway")
                while gateway.control.clients_count == 0:
                    with contextlib.suppress(OSError):
                        reader, writer = await asyncio.open_unix_connection(gateway.control.path)
                        break
                    await asyncio.sleep(0)
                bench = Bench(gateway, memory, stop, reader, writer)
                try:
                    await bench.until("plant.level", 1234)
                    yield bench
                finally:
                    writer.close()
                    stop.set()
    assert {status.state for status in gateway.supervisor.statuses} == {ChildState.STOPPED}


def run(scenario, directory, **options):
    async def work():
        async with running(directory, **options) as bench:
            await scenario(bench)

    asyncio.run(work())


def test_read_gives_names_and_patterns_in_the_order_asked(tmp_path):
    async def scenario(bench):
        (answer,) = await bench.ask(command="read", tags=["plant.set.*", "plant.level", "plant.*"])
        assert [(value["tag"], value["value"], value["unit"]) for value in answer["values"]] == [
            ("plant.set.point", 2.5, ""),
            ("plant.level", 1234, "mm"),
            ("plant.label", "tank", ""),
        ]

    run(scenario, tmp_path)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"command": "read", "tags": ["plant.levle"]}, "did you mean 'plant.level'?"),
        ({"command": "read", "tags": ["pump.*"]}, "no tag matches"),
        ({"command": "read", "tags": "plant.level"}, "tags is a list"),
        ({"command": "read", "tags": ["*"] * 17}, "16 at most"),
        ({"command": "watch", "interval_s": 0}, "interval_s is a number from"),
        ({"command": "rite"}, "unknown command 'rite'"),
        ({"command": "write", "value": 1}, "names its tag"),
        ({"command": "write", "tag": "plant.level"}, "has a value"),
    ],
)
def test_request_that_cannot_be_gets_a_sentence(tmp_path, request_, words):
    async def scenario(bench):
        (answer,) = await bench.ask(**request_)
        assert (answer["ok"], answer["code"]) == (False, 2)
        assert words in answer["error"]

    run(scenario, tmp_path)


def test_watch_follows_the_plant(tmp_path):
    async def scenario(bench):
        bench.writer.write(b'{"command":"watch","tags":["plant.level"],"interval_s":0.05}\n')
        seen = set()
        for step in range(2):
            bench.memory.write(Table.HOLDING_REGISTER, 0, 1, bytes((0, step)))
            while step not in seen:
                async for answer in bench.answers():
                    seen.add(answer["values"][0]["value"])

    run(scenario, tmp_path)


def test_write_reaches_the_device_and_gives_the_value_read_back(tmp_path):
    async def scenario(bench):
        (answer,) = await bench.ask(command="write", tag="plant.set.point", value=-3.5)
        assert (answer["quality"], answer["read_back"]["value"]) == ("Good", -3.5)
        assert bench.memory.read(Table.HOLDING_REGISTER, 1, 1) == (-7).to_bytes(2, "big", signed=True)
        (answer,) = await bench.ask(command="write", tag="plant.set.point", text="4")
        assert answer["read_back"]["value"] == 4.0

    run(scenario, tmp_path)


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("plant.level", 1, "the tag is not writable"),
        ("plant.set.point", 11, "BadOutOfRange"),
        ("plant.set.point", "x", "BadTypeMismatch"),
    ],
)
def test_refused_write_changes_nothing(tmp_path, tag, value, words):
    async def scenario(bench):
        (answer,) = await bench.ask(command="write", tag=tag, value=value)
        assert (answer["ok"], answer["code"]) == (False, 2)
        assert words in answer["error"]
        assert bench.memory.read(Table.HOLDING_REGISTER, 0, 2) == bytes.fromhex("04D2 0005")

    run(scenario, tmp_path)


def test_nothing_is_written_without_the_master_switch(tmp_path):
    async def scenario(bench):
        (answer,) = await bench.ask(command="write", tag="plant.set.point", value=1)
        assert "writes are off" in answer["error"]

    run(scenario, tmp_path, writes=False)


def test_status_limits_and_metrics_tell_about_the_same_gateway(tmp_path):
    async def scenario(bench):
        head, links = await bench.ask(command="status")
        assert head["healthy"]
        assert head["tags"] == {"count": 3, "good": 3, "uncertain": 0, "bad": 0}
        assert [(device["name"], device["state"]) for device in head["devices"]] == [("plant", "good")]
        assert links["links"][0]["answers_good"] > 0
        (limits,) = await bench.ask(command="limits")
        assert sum(region["bytes"] for region in limits["regions"]) == limits["memory_bytes"]
        assert limits["memory_bytes"] == head["memory"]["regions_bytes"]
        (metrics,) = await bench.ask(command="metrics")
        text = "\n".join(metrics["lines"])
        assert 'bifrost_tags{quality="good"} 3' in text
        assert f'bifrost_link_up{{link="modbus-tcp://127.0.0.1:{bench.gateway.devices[0].driver.port}"}} 1' in text

    run(scenario, tmp_path)


def test_hole_is_learned_and_known_at_the_next_start(tmp_path):
    learned = {"holes": ["1!hr:4-5"]}
    ports = []

    async def first(bench):
        ports.append(bench.gateway.devices[0].driver.port)
        await bench.until("plant.label", None, "BadConfigurationError")
        while bench.gateway.devices[0].driver.learned != learned:  # Python hears of it after the table.
            await bench.value("plant.label")

    async def second(bench):
        assert bench.gateway.devices[0].driver.learned == learned
        await bench.until("plant.label", None, "BadConfigurationError")

    run(first, tmp_path, holes=["hr:4-5"])
    run(second, tmp_path, holes=["hr:4-5"], port=ports[0])


def test_configuration_that_does_not_fit_is_refused_with_its_message(tmp_path, capsys):
    path = tmp_path / "gateway.toml"
    text = CONFIGURATION.format(directory=tmp_path, port=502, writes="true")
    path.write_text(text.replace("[[device]]", '[limits]\nmemory_bytes_max = "1 MiB"\n\n[[device]]', 1))
    assert run_gateway(str(path), environ={}) == 2
    assert "limits.memory_bytes_max: the configuration needs" in capsys.readouterr().err
    assert not (tmp_path / "data" / "control.sock").exists()

    async def make():
        with pytest.raises(LimitError):
            Gateway(load_config(str(path), {}))

    asyncio.run(make())


def test_missing_file_is_refused(tmp_path, capsys):
    assert run_gateway(str(tmp_path / "no.toml"), environ={}) == 2
    assert "there is no such file" in capsys.readouterr().err
