"""The frame of the command line: how a command is found, what a mistake in the words gives, and that help is quick."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bifrost.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[3]


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_every_command_has_a_module_with_help(capsys):
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert f"usage: bifrost {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], ""),
        (["chekc"], "did you mean 'check'?"),
        (["polka"], "commands: demo, run"),
        (["read"], "required: WORD"),
        (["limits", "--colour"], "unrecognized arguments: --colour"),
        (["read", "modbus://127.0.0.1"], "expected URL ADDRESS [TYPE]"),
        (["read", "modbus://127.0.0.1", "hr:0", "flaot32"], "did you mean"),
        (["read", "modbus://127.0.0.1", "hr:0", "float32@ACBD"], "one of ABCD, BADC, CDAB, DCBA"),
        (["read", "modbsu://127.0.0.1", "hr:0"], "no driver for 'modbsu://'"),
        (["read", "a.tag", "--orders"], "--orders needs URL ADDRESS"),
        (["write", "a.tag"], "expected TAG VALUE"),
        (["write", "modbus://127.0.0.1", "hr:0", "1"], "add --yes"),
        (["write", "modbus://127.0.0.1", "hr:0", "x", "--yes"], "'x' is not a number"),
        (["watch", "modbus://127.0.0.1"], "at least one address"),
        (["watch", "--interval", "0"], "--interval must be above 0"),
        (["discover", "10.0.0.0/24"], "networks are not searched"),
        (["discover", "10.0.0.5:x"], "is not a host with a port"),
        (["discover", "10.0.0.5", "--unit", "256"], "0 to 255"),
        (["discover", "modbus://10.0.0.5:5020"], "write only the host, for example 10.0.0.5:5020"),
        (["read", "10.0.0.5:502", "40001"], "write modbus://10.0.0.5:502"),
        (["watch", "10.0.0.5", "40001"], "write modbus://10.0.0.5"),
        (["browse", "plc:502"], "write modbus://plc:502"),
        (["browse", "opc.tcp://plc"], "modbus:// can"),
        (["browse", "modbus://plc", "hr:9-0"], "did you mean 'hr:0-9'?"),
        (["browse", "modbus://plc", "--rate", "0"], "--rate is 0.1 to 1000"),
        (["browse", "--import", "plc"], "--import needs the URL of a device"),
        (["import", "list.csv"], "required: --device"),
        (["check", "tags.csv"], "checked with the configuration that names it"),
        (["status"], "no configuration file"),
        (["run"], "`bifrost import` can make one"),
        (["check", "no.toml"], ""),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_sentence(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_device_that_cannot_be_reached_is_exit_code_3(capsys):
    assert main(["read", "modbus://127.0.0.1:1", "hr:0"]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_gateway_that_does_not_run_is_exit_code_3(capsys, tmp_path):
    assert main(["status", "--control", str(tmp_path / "c.sock")]) == 3
    assert "start it with: bifrost run" in capsys.readouterr().err


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from bifrost.cli.main import main; main(['--help']); main(['--version']);"
        "heavy = {'asyncio', 'msgspec', 'logging', 'socket', 'bifrost.core.config', 'bifrost._native'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("buffering", ["", "1"])
def test_reader_that_closes_the_pipe_is_no_error(buffering):
    done = subprocess.run(
        f"{sys.executable} -m bifrost limits | {sys.executable} -c 'print(input())'",
        env={**os.environ, "PYTHONUNBUFFERED": buffering},
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("limit")
    assert done.stderr == ""
