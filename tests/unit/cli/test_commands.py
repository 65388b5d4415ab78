"""Commands against our simulated plant in a process of its own, and commands that need only a configuration."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bifrost.cli import demo, doctor
from bifrost.cli.discover import parse_host
from bifrost.cli.main import main

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def plant():
    """Port of a simulated plant."""
    command = [sys.executable, "-m", "bifrost.plc.modbus.simulator"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        yield int(line.split(",")[0].rpartition(":")[2])
        process.kill()


def told(capsys, *words, code=0):
    """What a command prints as JSON."""
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_read_shows_value_and_quality(plant, capsys):
    record = told(capsys, "read", f"modbus://127.0.0.1:{plant}?unit=2", "ir:0", "float32@CDAB")
    assert 200 < record["value"] < 260
    assert record["quality"] == "Good"
    assert main(["read", f"modbus://127.0.0.1:{plant}?unit=1", "co:1"]) == 0
    assert capsys.readouterr().out == "co:1  on  Good\n"


def test_orders_show_the_right_value_among_all(plant, capsys):
    shown = told(capsys, "read", f"modbus://127.0.0.1:{plant}?unit=2", "ir:0", "--orders")
    rows = {row["type"]: row for row in shown["orders"]}
    assert set(rows) == {"int16", "uint16", "int32", "uint32", "float32", "int64", "uint64", "float64"}
    assert 200 < rows["float32"]["CDAB"] < 260
    assert not 200 < (rows["float32"]["ABCD"] or 0) < 260
    assert main(["read", f"modbus://127.0.0.1:{plant}?unit=2", "ir:0", "float32", "--orders"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["type", "ABCD", "CDAB", "BADC", "DCBA"]


def test_orders_leave_out_what_the_device_refuses(plant, capsys):
    shown = told(capsys, "read", f"modbus://127.0.0.1:{plant}?unit=1", "hr:3", "--orders")
    assert [row["type"] for row in shown["orders"]] == ["int16", "uint16"]
    assert shown["refused"] == ["BadConfigurationError"]


def test_address_that_the_device_refuses_is_exit_code_1(plant, capsys):
    assert main(["read", f"modbus://127.0.0.1:{plant}", "hr:4"]) == 1
    assert "says that it has no such address" in capsys.readouterr().out
    record = told(capsys, "read", f"modbus://127.0.0.1:{plant}", "hr:4", code=1)
    assert (record["value"], record["quality"]) == (None, "BadConfigurationError")


def test_direct_write_reads_back(plant, capsys):
    url = f"modbus://127.0.0.1:{plant}?unit=1"
    assert told(capsys, "write", url, "hr:1", "333", "--yes")["read_back"]["value"] == 333
    assert main(["write", url, "hr:1", "4000", "--yes"]) == 1
    assert "BadOutOfRange" in capsys.readouterr().err


def test_watch_of_a_device_ends_after_its_count(plant, capsys):
    url = f"modbus://127.0.0.1:{plant}?unit=1"
    assert main(["watch", url, "ir:1:float32", "co:0", "--count", "2", "--interval", "0.05", "--json"]) == 0
    lines = [json.loads(line)["values"] for line in capsys.readouterr().out.splitlines()]
    assert [[value["tag"] for value in line] for line in lines] == [["ir:1:float32", "co:0"]] * 2


def test_browse_shows_what_a_device_has(plant, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["browse", f"modbus://127.0.0.1:{plant}?unit=2", "ir:0-99", "hr:0-99", "--rate", "1000"]
    shown = told(capsys, *words, "--forbidden", "ir:40-45")
    assert [area["range"] for area in shown["areas"]] == ["ir:0-39", "ir:46-63", "hr:0-63"]
    assert (shown["refused"], shown["not_looked_at"], shown["silent"]) == ({}, [], False)
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"unit 2 of 127.0.0.1:{plant}: reading ir:0-99, hr:0-99"
    assert next(line for line in lines if line.startswith("ir:0 ")).split()[1:3] == ["float32", "CDAB"]
    assert "string[14]" in next(line for line in lines if line.startswith("hr:0 "))


def test_browse_makes_a_first_table(plant, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"modbus://127.0.0.1:{plant}?unit=2"
    assert main(["browse", url, "ir:0-31", "hr:0-9", "--rate", "1000", "--import", "meter"]) == 0
    assert "device 'meter' added in line 5" in capsys.readouterr().out
    assert told(capsys, "check")["ok"] is True
    config = tmp_path / "gateway.toml"
    config.write_text(config.read_text() + 'forbidden = ["ir:4-5"]\n')
    assert [area["range"] for area in told(capsys, "browse", url, "ir:0-9")["areas"]] == ["ir:0-3", "ir:6-9"]


def test_browse_of_a_silent_unit_is_exit_code_3(plant, capsys):
    words = ["browse", f"modbus://127.0.0.1:{plant}?unit=9", "hr:0-9", "--timeout", "0.05"]
    assert told(capsys, *words, code=3)["silent"] is True


def test_discover_tells_what_devices_say_about_themselves(plant, capsys):
    words = ["discover", f"127.0.0.1:{plant}", "127.0.0.1:1", "--unit", "2", "--unit", "9", "--timeout", "0.2"]
    answer = told(capsys, *words)
    assert [(item["unit"], item["by"], item["details"]["product"]) for item in answer["found"]] == [
        (2, "identification", "SIM-METER")
    ]
    assert [item["port"] for item in answer["silent"]] == [1]
    assert main([*words[:1], "127.0.0.1:1"]) == 3
    assert "takes no connection" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("plc", ("plc", 502)),
        ("plc:5020", ("plc", 5020)),
        ("10.0.0.5", ("10.0.0.5", 502)),
        ("[fe80::1]", ("fe80::1", 502)),
        ("[fe80::1]:5020", ("fe80::1", 5020)),
        ("fe80::1", ("fe80::1", 502)),
    ],
)
def test_host_with_or_without_port(text, place):
    assert parse_host(text) == place


@pytest.fixture
def configuration(tmp_path):
    directory = tmp_path / 'a "quoted" place'
    directory.mkdir()
    return demo.write_configuration(directory, demo.Ports(plant=5020))


def test_demo_configuration_is_right_and_check_shows_its_plan(configuration, capsys):
    assert main(["check", str(configuration)]) == 0
    shown = capsys.readouterr().out
    assert "a gateway named 'demo' with 3 devices and 34 tags" in shown
    assert "1!ir:0-10" in shown
    answer = told(capsys, "check", str(configuration))
    assert answer["ok"]
    assert [device["requests_per_s"] for device in answer["devices"]] == [10.0, 4.0, 2.0]


def test_check_shows_every_mistake_with_its_place(configuration, capsys):
    table = configuration.parent / "tags" / "meter.csv"
    table.write_text(table.read_text().replace("ir:0,", "ir:0.17,"))
    answer = told(capsys, "check", str(configuration), code=2)
    (error,) = answer["errors"]
    assert (error["file"], error["line"], error["key"]) == (str(table), 2, "device.meter.tag.voltage_l1.address")


def test_limits_are_those_of_the_configuration(configuration, capsys):
    answer = told(capsys, "limits", str(configuration))
    limits = {limit["name"]: limit["value"] for limit in answer["limits"]}
    assert limits["tags_count_max"] >= 34
    assert answer["memory_bytes"] == sum(region["bytes"] for region in answer["regions"])


def test_doctor_finds_what_is_wrong(configuration, capsys, monkeypatch):
    found = {item["what"]: item["verdict"] for item in told(capsys, "doctor", "-c", str(configuration))}
    assert found["configuration"] == found["file descriptors"] == found["data directory"] == "ok"
    buffers = '[[uplink]]\nname = "large"\nurl = "mqtt://b"\n[uplink.buffer]\ndisk_bytes_max = "16384 GiB"\n'
    text = configuration.read_text()
    configuration.write_text(f"{text}\n{buffers}")
    (said,) = [item for item in told(capsys, "doctor", "-c", str(configuration)) if item["what"] == "data directory"]
    assert said["verdict"] == "warning"
    assert "less than the buffers of the uplinks may need" in said["words"]
    configuration.write_text(text)
    monkeypatch.setattr(doctor, "_cgroup_memory_bytes", lambda: 32 << 20)
    monkeypatch.setattr("resource.getrlimit", lambda number: (10, 10))
    found = {item["what"]: item["verdict"] for item in told(capsys, "doctor", "-c", str(configuration), code=1)}
    assert found["memory"] == found["file descriptors"] == "problem"
    (configuration.parent / "gateway.toml").write_text("[gateway]\n")
    found = {item["what"]: item["verdict"] for item in told(capsys, "doctor", "-c", str(configuration), code=1)}
    assert found["configuration"] == "problem"


def test_doctor_tells_what_opcua_clients_will_meet(tmp_path, capsys):
    """Where it listens and how; a damaged certificate, a damaged file of users and refused clients, each with what to do."""
    config = tmp_path / "gateway.toml"
    config.write_text(f'[gateway]\nname = "a"\ndata_dir = "{tmp_path}/data"\n\n[opcua]\nbind = "127.0.0.1:4841"\n')
    found = {item["what"]: item for item in told(capsys, "doctor", "-c", str(config))}
    assert found["opc ua server"]["words"].startswith("opc.tcp://127.0.0.1:4841, None Basic256Sha256 ")
    assert found["opc ua certificate"]["words"] == "none yet; it is made at the first start"
    assert "opc ua clients" not in found
    for place, content in (
        ("own/certificate.der", "x"),
        ("own/key.der", "x"),
        ("rejected/a.der", "x"),
        ("users.toml", "["),
    ):
        (tmp_path / "data" / "pki" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "pki" / place).write_text(content)
    found = {item["what"]: item for item in told(capsys, "doctor", "-c", str(config), code=1)}
    verdicts = {
        what: item["verdict"] for what, item in found.items() if what.startswith("opc ua ") and what != "opc ua stack"
    }
    assert verdicts == {
        "opc ua server": "ok", "opc ua users": "problem", "opc ua certificate": "problem", "opc ua clients": "warning"
    }  # fmt: skip
    assert "away and restart" in found["opc ua certificate"]["words"]
    assert "1 certificate rejected: bifrost opcua cert list" in found["opc ua clients"]["words"]
