"""Values as people type them and as records show them."""

import pytest

from bifrost.core.config_sections import DeviceConfig
from bifrost.core.datatypes import parse_type
from bifrost.core.device_url import parse_url
from bifrost.core.tag import DataPoint, Tag
from bifrost.gateway.devices import make_driver
from bifrost.gateway.values import parse_value, value_record, wire_type


@pytest.mark.parametrize(
    ("text", "type_text", "value"),
    [
        ("on", "bool", True),
        ("FALSE", "bool", False),
        ("12", "uint16", 12),
        ("0x1F", "uint16", 31),
        ("-1.5e3", "float32", -1500.0),
        ("12", "string[4]", "12"),
        ("[1, 2,3]", "int16[3]", [1, 2, 3]),
        ("on,off", "bool[2]", [True, False]),
    ],
)
def test_text_becomes_a_value_of_the_type(text, type_text, value):
    parsed = parse_value(text, parse_type(type_text))
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "type_text", "words"),
    [
        ("2", "bool", "write on or off"),
        ("one", "int16", "is not a number"),
        ("1,2", "int16[3]", "takes 3 values"),
        ("", "float32", "is not a number"),
    ],
)
def test_text_that_is_no_value_is_refused_with_a_hint(text, type_text, words):
    with pytest.raises(ValueError, match=words):
        parse_value(text, parse_type(type_text))


def test_record_has_the_names_of_the_contract():
    assert value_record(DataPoint("a.b", 1.5, 0, 1_000_000_000, 2_000_000_000), "bar") == {
        "tag": "a.b",
        "value": 1.5,
        "unit": "bar",
        "quality": "Good",
        "source_time": "1970-01-01T00:00:01.000000Z",
        "server_time": "1970-01-01T00:00:02.000000Z",
    }
    assert value_record(DataPoint("a.b", None, 0x80320000, 0, 0))["source_time"] is None


@pytest.mark.parametrize(
    ("tag", "type_text"),
    [
        (Tag("t", "hr:0:REAL@CDAB"), "float32"),
        (Tag("t", "co:0"), "bool"),
        (Tag("t", 40001), "uint16"),
        (Tag("t", "hr:0", "int32", scale=0.5), "int32"),
        (Tag("t", "hr:0", "string[6]"), "string[6]"),
        (Tag("t", "hr:0", "int16[1]"), "int16[1]"),
    ],
)
def test_wire_type_is_known_also_from_the_address(tag, type_text):
    driver = make_driver(DeviceConfig(name="d", url=parse_url("modbus://127.0.0.1")))
    assert wire_type(driver, tag) == parse_type(type_text)
