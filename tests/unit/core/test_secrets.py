"""Secrets that were read do not show in any text, in whichever way a program spells them; that whoever reads one makes it known."""

import json
from urllib.parse import quote

from bifrost.core import config_environ
from bifrost.core.config_environ import reveal
from bifrost.core.config_rules import SecretRef
from bifrost.core.secrets import Secrets

SECRET = "pa ss\"w'o\\rd/ä"


def test_secret_is_hidden_in_every_spelling():
    secrets = Secrets()
    secrets.hide(SECRET)
    for spelled in (SECRET, repr(SECRET), json.dumps(SECRET, ensure_ascii=False), quote(SECRET, safe="")):
        shown = secrets.redacted(f"the broker says: {spelled} is wrong")
        assert "***" in shown
        assert "rd" not in shown


def test_short_texts_are_left_alone():
    secrets = Secrets()
    secrets.hide("on")
    assert secrets.redacted("option on") == "option on"


def test_secret_that_begins_with_another_is_hidden_whole():
    secrets = Secrets()
    secrets.hide("hunter22")
    secrets.hide("hunter2233")
    assert secrets.redacted("hunter2233 hunter22") == "*** ***"


def test_the_newest_256_are_kept():
    secrets = Secrets()
    for number in range(300):
        secrets.hide(f"secret {number:03}")
    assert secrets.redacted("secret 299, secret 044, secret 043") == "***, ***, secret 043"


def test_every_secret_that_is_read_is_known(tmp_path, monkeypatch):
    secrets = Secrets()
    monkeypatch.setattr(config_environ, "SECRETS", secrets)
    (tmp_path / "password").write_text("from a file\n")
    (tmp_path / "token").write_text("from systemd")
    environ = {"NAME": "from a variable", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for kind, name in (("file", "password"), ("env", "NAME"), ("cred", "token")):
        assert secrets.redacted(reveal(SecretRef(kind, name), environ, str(tmp_path))) == "***"
