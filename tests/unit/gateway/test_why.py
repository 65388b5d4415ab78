"""`why`: facts and sentences for a good tag, a refused one, a hole, a silent unit, and a link that is down."""

import asyncio

import pytest

from tests.unit.gateway.test_reload import device, run, until


def why(bench, name):
    from bifrost.gateway.why import why_record

    return why_record(bench.gateway, bench.row(name))


def test_good_tag_says_where_it_comes_from_and_where_it_goes(tmp_path):
    async def scenario(bench):
        facts = why(bench, "plant.a")
        assert (facts["tag"], facts["quality"], facts["value"]) == ("plant.a", "Good", 1000)
        assert facts["block"]["range"] == "1!hr:0-1"
        assert (facts["block"]["tags"], facts["block"]["scan_s"], facts["block"]["refused_code"]) == (2, 0.02, None)
        assert facts["last_change_s"] >= 0
        text = " ".join(facts["sentences"])
        assert text.startswith("plant.a is good, set ")
        assert f"from plant (modbus-tcp://127.0.0.1:{bench.port}?unit=1) at address hr:0" in text
        assert "No uplink carries it." in text

    run(scenario, tmp_path)


def test_address_that_the_device_does_not_have_is_the_cause(tmp_path):
    async def scenario(bench):
        await bench.reload(device(bench.port, a="hr:0", b="hr:1", wrong="hr:50"))
        await until(lambda: why(bench, "plant.wrong")["quality"] == "BadConfigurationError")
        await until(lambda: why(bench, "plant.wrong")["block"]["refused_code"] == 2)
        facts = why(bench, "plant.wrong")
        assert facts["block"]["range"] == "1!hr:50-50"
        first, cause, *rest = facts["sentences"]
        assert first.startswith("plant.wrong is BadConfigurationError")
        assert cause == "The device refuses block 1!hr:50-50 with code 2."
        assert any("the device has nothing there" in sentence for sentence in rest) == facts["block"]["is_hole"]
        assert any("the tag's address or type is wrong" in sentence for sentence in rest)
        assert 0 <= facts["last_change_s"] < 3600  # The change of a tag that never had a value has no source time.

    run(scenario, tmp_path, holes=["hr:50"])


def test_lost_connection_is_the_cause(tmp_path):
    async def scenario(bench):
        await bench.reload(device(bench.port, a="hr:0", b="hr:1"), device(1, "dead", x="hr:0"))
        await until(lambda: "refused" in why(bench, "dead.x")["link"]["reason"].lower())
        facts = why(bench, "dead.x")
        assert facts["age_s"] is None or facts["age_s"] >= 0
        assert facts["sentences"][1].startswith("There is no connection: modbus-tcp://127.0.0.1:1: ")
        assert "The connection modbus-tcp://127.0.0.1:1 is not up." in facts["sentences"]

    run(scenario, tmp_path)


def test_tag_that_is_not_there_gets_a_hint(tmp_path):
    async def scenario(bench):
        reader, writer = await asyncio.open_unix_connection(bench.gateway.control.path)
        writer.write(b'{"command":"why","tag":"plant.aa"}\n{"command":"why"}\n{"command":"why","tag":"plant.b"}\n')
        answers = [(await reader.readline()).decode() for _ in range(3)]
        writer.close()
        assert "did you mean 'plant.a'?" in answers[0]
        assert "why names its tag" in answers[1]
        assert '"tag":"plant.b"' in answers[2]

    run(scenario, tmp_path)


@pytest.mark.parametrize("name", ["a", "b"])
def test_uplinks_that_carry_the_tag_are_named(tmp_path, name):
    uplink = '[[uplink]]\nname = "cloud"\nurl = "mqtt://127.0.0.1:1"\ntags = ["*.a"]\n'

    async def scenario(bench):
        facts = why(bench, f"plant.{name}")
        assert [one["name"] for one in facts["uplinks"]] == (["cloud"] if name == "a" else [])

    run(scenario, tmp_path, devices=lambda port: device(port, a="hr:0", b="hr:1") + uplink)
