"""`bifrost opcua`: users and certificates from the command line, as a person types it and as a program reads it."""

import datetime
import io
import json
import sys

import pytest

from bifrost.cli.main import main
from bifrost.opcua.security import Pki
from bifrost.opcua.users import Users
from tests.unit.opcua.test_security import der, pair

CONFIGURATION = """\
[gateway]
name = "line-3"
data_dir = "{directory}/data"

[opcua]
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIGURATION.format(directory=tmp_path))
    return path


@pytest.fixture
def pki(tmp_path):
    made = Pki(str(tmp_path / "data"))
    made.prepare()
    return made


@pytest.fixture
def command(config, capsys):
    def run(*words, code=0):
        assert main(["opcua", *words, "-c", str(config)]) == code
        return capsys.readouterr()

    return run


def type_password(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_user_is_added_listed_and_removed(command, monkeypatch, tmp_path):
    type_password(monkeypatch, "correct horse\n")
    assert command("user", "add", "scada", "--role", "write", "--password-stdin").out == "added: scada, who may write\n"
    (user,) = Users(tmp_path / "data" / "pki" / "users.toml", 10).load()
    assert user.accepts("correct horse")
    assert json.loads(command("user", "list", "--json").out) == [{"name": "scada", "role": "write"}]
    type_password(monkeypatch, "another password\n")
    assert command("user", "add", "scada", "--password-stdin").out == "changed: scada, who may read\n"
    assert command("user", "remove", "scada").out == "removed: scada\n"
    assert command("user", "list").out.split() == ["user", "role"]


def test_password_is_not_taken_from_a_pipe_unasked(command, monkeypatch):
    type_password(monkeypatch, "correct horse\n")
    assert "--password-stdin" in command("user", "add", "scada", code=2).err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["user"], "expected: cert list"),
        (["user", "add"], "expected: cert list"),
        (["cert", "add", "x"], "expected: cert list"),
        (["certs", "list"], "expected: cert list"),
        (["user", "remove", "nobody"], "no user 'nobody'"),
        (["cert", "trust", "abcdef"], "no certificate 'abcdef' in rejected"),
    ],
)
def test_what_can_not_be_done_gets_a_sentence(command, words, sentence):
    assert sentence in command(*words, code=2).err


def test_rejected_certificate_is_shown_trusted_and_rejected_again(command, pki):
    (pki.folder("rejected") / "client.der").write_bytes(der())
    (listed,) = json.loads(command("cert", "list", "--json").out)
    assert (listed["folder"], listed["subject"], listed["application"]) == ("rejected", "UaExpert", "urn:pc:expert")
    thumbprint = listed["thumbprint"]
    assert thumbprint in command("cert", "show", thumbprint[:8]).out
    assert command("cert", "trust", thumbprint[:8]).out == f"trusted: UaExpert ({thumbprint[:12]})\n"
    assert (pki.folder("trusted") / "client.der").is_file()
    assert command("cert", "reject", "UaExpert").out == f"no longer trusted: UaExpert ({thumbprint[:12]})\n"
    assert (pki.folder("rejected") / "client.der").is_file()


def test_certificate_out_of_its_time_is_said_to_be(command, pki):
    """Trust does not help it; a person who does not know looks for the fault elsewhere."""
    old = der(until=datetime.timedelta(seconds=1))
    (pki.folder("rejected") / "client.der").write_bytes(old)
    assert "2026-01-02 expired" in command("cert", "list").out
    said = command("cert", "trust", str(pki.folder("rejected") / "client.der")).out
    assert said.endswith("; it is expired, so its client is refused all the same\n")
    assert not list(pki.folder("rejected").iterdir())


def test_certificate_is_trusted_from_a_file(command, pki, tmp_path):
    source = tmp_path / "client.der"
    source.write_bytes(der())
    command("cert", "trust", str(source))
    assert [path.read_bytes() for path in pki.folder("trusted").iterdir()] == [source.read_bytes()]


def test_list_names_every_folder(command, pki):
    pki.store_own(*pair())
    (pki.folder("trusted") / "notes.txt").write_text("ask Bob")
    shown = command("cert", "list").out
    assert "own certificate: " in shown
    assert "not a certificate" in shown
    assert "UaExpert" in command("cert", "show", "own").out
