"""The environment: variables in texts, overrides, and secrets that never show."""

import pytest

from bifrost.core.config_environ import Override, apply_overrides, expand, reveal
from bifrost.core.config_rules import SecretRef
from bifrost.core.errors import ConfigError

_SECTIONS = ("gateway", "device", "uplink")


def test_variables_are_replaced_and_placeholders_stay():
    environ = {"HOST": "plc", "EMPTY": ""}
    assert expand("tcp://${HOST}${EMPTY}/$x", environ) == "tcp://plc/$x"
    assert expand("a/${device}/${HOST}", environ, ("device",)) == "a/${device}/plc"
    assert expand("$${HOST}", environ) == "${HOST}"


@pytest.mark.parametrize(
    ("text", "message"),
    [("${PORT}", "'PORT' is not set"), ("${port}", "capital letters"), ("${devcie}", "did you mean 'device'")],
)
def test_unknown_variables_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        expand(text, {}, ("device",) if "dev" in text else ())


def test_overrides_reach_sections_devices_and_inner_tables():
    document: dict[str, object] = {
        "device": [{"name": "Boiler 1"}],
        "uplink": [{"name": "plant", "buffer": {}}],
    }
    environ = {
        "BIFROST__GATEWAY__WRITES": "true",
        "BIFROST__DEVICE__BOILER_1__SCAN": "2 s",
        "BIFROST__UPLINK__PLANT__BUFFER__AGE_MAX": "1 d",
        "BIFROST_BACKEND": "c",
        "HOME": "/",
    }
    assert apply_overrides(document, environ, _SECTIONS) == []
    assert document == {
        "gateway": {"writes": Override("BIFROST__GATEWAY__WRITES", "true")},
        "device": [{"name": "Boiler 1", "scan": Override("BIFROST__DEVICE__BOILER_1__SCAN", "2 s")}],
        "uplink": [
            {"name": "plant", "buffer": {"age_max": Override("BIFROST__UPLINK__PLANT__BUFFER__AGE_MAX", "1 d")}}
        ],
    }


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("BIFROST__WRITES", "expected BIFROST__SECTION__KEY"),
        ("BIFROST__GATEWAY__", "expected BIFROST__SECTION__KEY"),
        ("BIFROST__GATEWY__WRITES", "did you mean 'gateway'"),
        ("BIFROST__DEVICE__SCAN", "the name of one device"),
        ("BIFROST__DEVICE__BOILR__SCAN", "did you mean 'boiler'"),
        ("BIFROST__UPLINK__PLANT__URL", "no uplink of that name in the file"),
        ("BIFROST__GATEWAY__NAME__X", "not a table"),
        ("BIFROST__GATEWAY__NAME__X__Y", "not a table"),
    ],
)
def test_overrides_that_fit_nowhere_are_reported_by_variable(variable, message):
    document: dict[str, object] = {"gateway": {"name": "x"}, "device": [{"name": "boiler"}]}
    (problem,) = apply_overrides(document, {variable: "1"}, _SECTIONS)
    assert problem.key == variable
    assert message in problem.message


def test_secrets_are_read_where_they_are(tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    directory = str(tmp_path)
    assert reveal(SecretRef("file", "token"), {}, directory) == "s3cret"
    assert reveal(SecretRef("env", "TOKEN"), {"TOKEN": "e"}, directory) == "e"
    assert reveal(SecretRef("cred", "token"), {"CREDENTIALS_DIRECTORY": directory}, "/nowhere") == "s3cret"


def test_secrets_that_are_not_there_are_named_and_never_shown(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    directory = str(tmp_path)
    cases = [
        (SecretRef("env", "TOKEN"), {}, "'TOKEN' is not set"),
        (SecretRef("file", "missing"), {}, "No such file"),
        (SecretRef("file", "binary"), {}, "not UTF-8"),
        (SecretRef("file", "large"), {}, "longer than"),
        (SecretRef("cred", "token"), {}, "LoadCredential"),
        (SecretRef("cred", "../token"), {"CREDENTIALS_DIRECTORY": directory}, "LoadCredential"),
    ]
    for secret, environ, message in cases:
        with pytest.raises(ConfigError, match=message):
            reveal(secret, environ, directory)
