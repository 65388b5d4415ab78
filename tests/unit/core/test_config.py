"""Loading a configuration: the example of CONTRACT as structs, defaults, and what the case folders cannot hold (bytes, directories).

Messages are proved word for word in `tests/cases`.
"""

import pytest

from bifrost.core import config_table
from bifrost.core.config import ConfigCheckError, load_config, read_config, read_gateway
from bifrost.core.config_rules import Endpoint, SecretRef
from bifrost.core.config_sections import WINDOW_PROBE, DeviceConfig, HttpConfig
from bifrost.core.errors import ConfigError
from bifrost.core.limits import PROBLEMS_COUNT_MAX

_GATEWAY = '[gateway]\nname = "line-3"\n'
_DEVICE = '[[device]]\nname = "boiler"\nurl = "modbus-tcp://10.0.0.5"\n'
_TAG = '[[device.tag]]\nname = "temperature"\naddress = 40001\n'


@pytest.fixture
def load(tmp_path):
    """Loads a text, with other files by name and an environment."""

    def load_text(text, environ=None, **files):
        path = tmp_path / "gateway.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for name, content in files.items():
            (tmp_path / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_config(str(path), environ or {})

    return load_text


def test_everything_has_a_default_but_names_and_addresses(load):
    config = load(_GATEWAY + _DEVICE + _TAG)
    (device,) = config.devices
    assert (device.scan_ns, device.timeout_ns, device.stale_ns, device.window) == (10**9, 10**9, 5 * 10**9, 1)
    assert (device.gap_registers, device.read_registers_max, device.forbidden) == (8, 125, ())
    assert config.tags[0].address == 40001
    assert (config.gateway.writes, config.http, config.opcua, config.uplinks) == (False, HttpConfig(), None, ())
    assert config.warnings == ()


def test_directories_come_from_systemd_else_from_here(load):
    config = load(_GATEWAY + _DEVICE + _TAG)
    assert (config.gateway.data_dir, config.gateway.control) == ("./bifrost-data", "./bifrost-data/control.sock")
    environ = {"STATE_DIRECTORY": "/var/lib/bifrost:/other", "RUNTIME_DIRECTORY": "/run/bifrost"}
    config = load(_GATEWAY + _DEVICE + _TAG, environ)
    assert (config.gateway.data_dir, config.gateway.control) == ("/var/lib/bifrost", "/run/bifrost/control.sock")


def test_stale_follows_the_slowest_scan_unless_it_is_set(load):
    assert load(_GATEWAY + _DEVICE + 'scan = "10 s"\n' + _TAG).devices[0].stale_ns == 30 * 10**9
    assert load(_GATEWAY + _DEVICE + _TAG + 'scan = "20 s"\n').devices[0].stale_ns == 60 * 10**9
    assert load(_GATEWAY + _DEVICE + 'stale = "1 min"\n' + _TAG).devices[0].stale_ns == 60 * 10**9


def test_numbers_are_in_the_keys_own_unit(load):
    config = load(_GATEWAY + "[limits]\nmemory_bytes_max = 67108864\n" + _DEVICE + "scan = 0.5\n" + _TAG)
    assert (config.limits.memory_bytes_max, config.devices[0].scan_ns) == (64 << 20, 500_000_000)


def test_all_sections_become_structs(load):
    config = load(
        _GATEWAY
        + _DEVICE
        + 'window = "probe"\n'
        + _TAG
        + '[opcua]\nbind = "[::1]:4841"\nanonymous = true\n'
        + '[[uplink]]\nname = "plant"\nurl = "mqtts://broker"\nca = "file:ca.pem"\n[uplink.buffer]\nage_max = "1 d"\n'
        + '[http]\nbind = "127.0.0.1:9464"\n'
    )
    assert config.devices[0].window == WINDOW_PROBE
    assert config.opcua is not None
    assert (config.opcua.bind, str(config.opcua.bind), config.opcua.anonymous) == (
        Endpoint("::1", 4841),
        "[::1]:4841",
        True,
    )
    (uplink,) = config.uplinks
    assert (uplink.ca, str(uplink.ca), uplink.buffer.age_max_ns) == (
        SecretRef("file", "ca.pem"),
        "file:ca.pem",
        86_400 * 10**9,
    )
    assert str(config.http.bind) == "127.0.0.1:9464"
    assert config.warnings == ()


def test_tags_of_inline_tables_and_csv_follow_each_other(load):
    text = _GATEWAY + _DEVICE + 'tags = "a.csv"\n' + _TAG + _DEVICE.replace("boiler", "pump") + 'tags = "a.csv"\n'
    header = "description,name,address,writable,deadband,low,high,scan\n"
    config = load(text, a=header + '"a, ""b""",speed,40010,yes,1 %,-50,150,2\n\n,level,40011,,,,,\n')
    assert list(config.tags.full_names()) == [
        "boiler.temperature",
        "boiler.speed",
        "boiler.level",
        "pump.speed",
        "pump.level",
    ]
    speed = config.tags[1]
    assert (speed.description, speed.writable, speed.deadband, speed.range) == ('a, "b"', True, 2.0, (-50.0, 150.0))
    assert (speed.scan_ns, speed.address) == (2 * 10**9, "40010")
    assert config.tags.place(4)[1] == 4


def test_environment_overrides_are_typed_like_the_file(load):
    environ = {
        "BIFROST__GATEWAY__NAME": "7",
        "BIFROST__GATEWAY__WRITES": "true",
        "BIFROST__DEVICE__BOILER__SCAN": "2",
        "BIFROST__DEVICE__BOILER__FORBIDDEN": '["hr:1-2"]',
        "BIFROST__LIMITS__WINDOW_MAX": "4",
        "BIFROST__LIMITS__MEMORY_BYTES_MAX": "128 MiB",
    }
    config = load(_GATEWAY + _DEVICE + _TAG, environ)
    assert (config.gateway.name, config.gateway.writes) == ("7", True)
    assert (config.devices[0].scan_ns, config.devices[0].forbidden) == (2 * 10**9, ("hr:1-2",))
    assert (config.limits.window_max, config.limits.memory_bytes_max) == (4, 128 << 20)


def test_variables_reach_into_lists(load):
    config = load(_GATEWAY + _DEVICE + 'forbidden = ["${RANGE}", "di:0-1"]\n' + _TAG, {"RANGE": "hr:1-2"})
    assert config.devices[0].forbidden == ("hr:1-2", "di:0-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[gateway]\nname = "K\xfchlung"\n', "gateway.toml:2: not UTF-8 text (byte 0xFC)"),
        ("a = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        (_GATEWAY + "[limits]\nconfig_bytes_max = 1024\n# " + "x" * 2000, "the limit config_bytes_max is 1024"),
        (_GATEWAY + f'data_dir = "{"x" * 2000}"\n', "text_bytes_max allows 1024"),
        (_GATEWAY + _DEVICE + _TAG + 'unit = "a\\u0007"\n', r"control character '\x07'"),
        (_GATEWAY + _DEVICE + "[[device.tag]]\nname = 'a'\naddress = \"a\\u0007\"\n", "control character"),
        (_GATEWAY + _DEVICE + "[[device.tag]]\nname = 'a'\naddress = true\n", "expected an address"),
        (_GATEWAY + _DEVICE + "[[device.tag]]\nname = 'a'\naddress = ''\n", "the address is empty"),
        (_GATEWAY + _DEVICE + _TAG + "type = 5\n", "expected a type in quotes"),
        (_GATEWAY + _DEVICE + _TAG + f"scale = 1{'0' * 400}\n", "too large"),
        (_GATEWAY + _DEVICE + _TAG + "scale = inf\n", "not a finite number"),
        (_GATEWAY + _DEVICE + "tag = 5\n", "write [[device.tag]] with double brackets"),
        ('opcua = "on"\n' + _GATEWAY, "write [opcua] with single brackets"),
    ],
)
def test_mistakes_that_a_case_folder_cannot_hold(load, text, message):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"name,address\nK\xfchl,40001\n", "a.csv:2: not UTF-8 text (byte 0xFC)"),
        (b"name,address\na," + b"4" * 70_000 + b"\n", "longer than 65536 bytes"),
        (b"name\taddress\na\t40001\n", "separated by tabs"),
        (b"name,address,\na,40001,\n", "column 3 has no name"),
        (b'name,address\n"a"b,40001\n', "after the closing"),
        (b'name,address\n"' + b"a\n" * 70_000 + b'",1\n', "never ends"),
        (b"name,address,unit\na,40001," + b"x" * 2000 + b"\n", "text_bytes_max allows 1024"),
        (b"name,address\r\na,40001\rb,40002\r\n", "not a CSV row"),
    ],
)
def test_tables_that_a_case_folder_cannot_hold(load, table, message):
    with pytest.raises(ConfigError) as caught:
        load(_GATEWAY + _DEVICE + 'tags = "a.csv"\n', a=table)
    assert message in str(caught.value)


def test_byte_order_mark_and_windows_line_ends_are_accepted(load):
    text = (_GATEWAY + _DEVICE + 'tags = "a.csv"\n').replace("\n", "\r\n").encode()
    config = load(b"\xef\xbb\xbf" + text, a=b"\xef\xbb\xbfname,address\r\na,40001\r\n")
    assert config.tags[0].name == "a"


def test_more_mistakes_than_a_person_reads_are_counted(load):
    text = _GATEWAY + "".join(f"key{number} = 1\n" for number in range(30))
    with pytest.raises(ConfigCheckError) as caught:
        load(text)
    assert (len(caught.value.problems), caught.value.problems_count) == (PROBLEMS_COUNT_MAX, 30)
    assert str(caught.value).endswith("... and 10 more")


def test_two_mistakes_are_told_at_once_and_one_is_told_plainly(load):
    with pytest.raises(ConfigCheckError) as caught:
        load(_GATEWAY + "a = 1\nb = 1\n")
    assert "more" not in str(caught.value)
    with pytest.raises(ConfigError) as plain:
        load(_GATEWAY + "a = 1\n")
    assert plain.value.line == 3


def test_a_file_that_is_not_there(tmp_path):
    config, problems = read_config(str(tmp_path / "missing.toml"), {})
    assert config is None
    assert problems.errors[0].message == "there is no such file"
    _, problems = read_config(str(tmp_path), {})
    assert problems.errors[0].message.startswith("cannot be read")


def test_a_device_gives_errors_with_its_place(load):
    device = load(_GATEWAY + _DEVICE + _TAG).devices[0]
    assert (device.error("url", "x").line, device.error("scan", "x").line) == (5, 3)
    made = DeviceConfig(name="boiler", url=device.url)
    assert str(made.error("url", "no unit 300")) == "device.boiler.url: no unit 300"


def test_more_warnings_than_a_person_reads_are_left_out(load):
    devices = "".join(f'[[device]]\nname = "d{number}"\nurl = "modbus://p{number}"\n' for number in range(30))
    warnings = load(_GATEWAY + devices).warnings
    assert (len(warnings), warnings[-1]) == (PROBLEMS_COUNT_MAX + 1, "... and more")


def test_columns_that_never_repeat_are_read_as_well(load):
    rows = "".join(f"tag {number},{number},{number / 7 + 1}\n" for number in range(3_000))
    config = load(_GATEWAY + _DEVICE + 'tags = "a.csv"\n', a="name,address,scale\n" + rows)
    assert config.tags[2_999].scale == 2_999 / 7 + 1


def test_a_limit_reached_while_reading_is_told_like_any_mistake(load):
    text = _GATEWAY + "[limits]\ntags_count_max = 2\nring_changes_count = 64\n" + _DEVICE + 'tags = "a.csv"\n'
    with pytest.raises(ConfigError, match="tags_count_max = 2"):
        load(text, a="name,address\na,1\nb,2\nc,3\n")


def test_a_table_that_cannot_be_opened_is_told_at_the_key_that_names_it(load, monkeypatch):
    monkeypatch.setattr(config_table.os.path, "isfile", lambda path: True)
    with pytest.raises(ConfigError, match=r"gateway.toml:6: device.boiler.tags: .*cannot be read: No such file"):
        load(_GATEWAY + _DEVICE + 'tags = "b.csv"\n')


def test_a_file_longer_than_any_configuration_is_not_even_parsed(load):
    with pytest.raises(ConfigError, match="longer than 16777216 bytes"):
        load(b"#" * (16 << 20) + b"\n")


def test_opcua_on_all_interfaces_is_fine_with_security_and_users(load):
    config = load(_GATEWAY + _DEVICE + _TAG + '[opcua]\nbind = "0.0.0.0:4840"\n')
    assert config.opcua is not None
    assert config.opcua.anonymous is None


def test_the_gateway_section_can_be_read_alone(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(_GATEWAY + "[[device]]\nscan = 0\n")
    assert read_gateway(str(path), {}).name == "line-3"
    path.write_text(_GATEWAY + "writes = 1\n")
    with pytest.raises(ConfigError, match="expected true or false"):
        read_gateway(str(path), {})
    path.write_text("")
    with pytest.raises(ConfigError, match="section is missing"):
        read_gateway(str(path), {})
