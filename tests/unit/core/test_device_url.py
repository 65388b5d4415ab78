"""Device URLs: their parts, and what is refused with which hint."""

import pytest

from bifrost.core.device_url import Url, parse_url


def test_parts_of_a_url():
    url = parse_url("Modbus-TCP://10.0.0.5:502/a%20b?unit=1&window=")
    assert (url.scheme, url.host, url.port, url.path) == ("modbus-tcp", "10.0.0.5", 502, "/a b")
    assert url.query == {"unit": "1", "window": ""}
    assert str(url) == url.text


def test_serial_ports_and_ipv6():
    assert parse_url("modbus-rtu:///dev/ttyUSB0?baud=9600").path == "/dev/ttyUSB0"
    assert parse_url("modbus-tcp://[::1]:502").host == "::1"
    assert parse_url("modbus-rtu+tcp://plc").port is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.5:502", "write for example 'modbus-tcp://10.0.0.5:502'"),
        ("what is this", "no scheme"),
        ("://plc", "no scheme"),
        ("modbus-tcp://plc 1", "contains a space"),
        ("modbus-tcp://plc:0", "port 0"),
        ("modbus-tcp://plc:70000", "port out of range"),
        ("modbus-tcp://plc:abc", "not a URL"),
        ("modbus-tcp://[::1", "not a URL"),
        ("modbus-tcp://me:secret@plc", "does not belong into a URL"),
        ("modbus-tcp://plc#1", "'%23'"),
        ("modbus-tcp://plc?unit", "key=value"),
        ("modbus-tcp://plc?" + "&".join(f"key{number}=1" for number in range(40)), "key=value"),
        ("modbus-tcp://plc?unit=1&unit=2", "'unit' is given twice"),
    ],
)
def test_what_is_no_url_is_refused_with_a_hint(text, message):
    with pytest.raises(ValueError, match=message):
        parse_url(text)


def test_the_password_is_not_repeated_in_the_message():
    with pytest.raises(ValueError) as caught:
        parse_url("modbus-tcp://me:secret@plc")
    assert "secret" not in str(caught.value)


def test_the_rule_wants_text():
    assert Url().parse("modbus://plc").scheme == "modbus"
    assert "scheme://" in Url().allowed()
    with pytest.raises(ValueError, match="in quotes"):
        Url().parse(5)
