"""What counts as a difference between two configurations, and what of it a running tag survives."""

import pytest

from bifrost.core.config import load_config
from bifrost.gateway.difference import NO_ROW, compare, restart_errors

GATEWAY = '[gateway]\nname = "line"\n{more}\n'
DEVICE = '[[device]]\nname = "{name}"\nurl = "{url}"\n{more}\n'
URL = "modbus-tcp://10.0.0.5?unit=1"
TAGS = {"a": "", "b": "", "c": ""}


@pytest.fixture
def differ(tmp_path):
    """The difference between two texts."""

    def compared(before, after):
        configs = []
        for text in (before, after):
            (tmp_path / "gateway.toml").write_text(text)
            configs.append(load_config(str(tmp_path / "gateway.toml"), {}))
        return compare(*configs), configs

    return compared


def text(tags=None, *, url=URL, name="plant", more="", gateway="", end=""):
    lines = [GATEWAY.format(more=gateway), DEVICE.format(name=name, url=url, more=more)]
    for number, (tag, keys) in enumerate((TAGS if tags is None else tags).items()):
        address = "" if "address" in keys else f'address = "hr:{number}"\n'
        lines.append(f'[[device.tag]]\nname = "{tag}"\n{address}{keys}\n')
    return "".join([*lines, end])


def test_the_same_is_no_difference_wherever_it_stands(differ):
    difference, _ = differ(text(), "\n# moved\n\n" + text())
    assert not difference.is_any
    assert list(difference.same["plant"]) == [0, 1, 2]


def test_tags_are_known_by_their_full_names(differ):
    difference, (before, _) = differ(
        text(), text({"new": 'address = "hr:9"', "c": 'address = "hr:2"', "a": 'address = "hr:0"'})
    )
    device = difference.devices["plant"]
    assert list(device.rows) == [NO_ROW, 2, 0]
    assert list(device.removed) == [1]
    assert (device.added_count, device.changed_count, bytes(device.is_same)) == (1, 0, b"\0\1\1")
    assert difference.counts(before)["tags_removed"] == 1


@pytest.mark.parametrize(
    ("keys", "is_same", "is_replanned"),
    [
        ('address = "hr:7"', False, False),
        ('type = "int16"', False, False),
        ("scale = 0.1", False, False),
        ("offset = 1", False, False),
        ('type = "uint32"\nbyte_order = "CDAB"', False, False),
        ("deadband = 2", True, False),
        ('max_interval = "60 s"', True, False),
        ('scan = "500 ms"', True, True),
        ('unit = "mm"', True, False),
        ("range = [0, 1]", True, False),
        ("writable = true", True, False),
        ('description = "level"', True, False),
    ],
)
def test_only_its_definition_makes_another_tag_of_it(differ, keys, is_same, is_replanned):
    difference, _ = differ(text(), text(TAGS | {"a": keys}))
    device = difference.devices["plant"]
    assert (bool(device.is_same[0]), device.is_replanned) == (is_same, is_replanned)
    assert (device.changed_count, device.is_moved, device.has_settings) == (1, False, False)


def test_another_url_is_another_device(differ):
    difference, _ = differ(text(), text(url=URL.replace("unit=1", "unit=2")))
    device = difference.devices["plant"]
    assert (device.is_moved, device.has_settings, device.changed_count) == (True, True, 0)
    difference, _ = differ(text(), text(more='timeout = "2 s"'))
    device = difference.devices["plant"]
    assert (device.is_moved, device.has_settings) == (False, True)


def test_devices_come_and_go(differ):
    difference, (before, _) = differ(text(), text(name="other"))
    assert (difference.removed, difference.devices["other"].is_new) == (("plant",), True)
    counts = difference.counts(before)
    assert (counts["devices_added"], counts["devices_removed"]) == (1, 1)
    assert (counts["tags_added"], counts["tags_removed"]) == (3, 3)


@pytest.mark.parametrize(
    ("change", "section"),
    [
        ({"gateway": "writes = true"}, "gateway.writes"),
        ({"end": '[http]\nbind = "127.0.0.1:9464"\n'}, "http"),
        ({"end": '[[uplink]]\nname = "x"\nurl = "mqtt://broker"\n'}, "uplink"),
    ],
)
def test_other_sections_that_can_change_while_running(differ, change, section):
    difference, configs = differ(text(), text(**change))
    assert (difference.others, difference.devices) == ((section,), {})
    assert list(restart_errors(*configs)) == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"gateway": 'data_dir = "/elsewhere"\ncontrol = "./bifrost-data/control.sock"'}, "gateway.data_dir"),
        ({"gateway": 'control = "/elsewhere"'}, "gateway.control"),
        ({"end": "[limits]\ntags_count_max = 100\n"}, "limits.tags_count_max"),
        ({"end": "[opcua]\n"}, "opcua"),
    ],
)
def test_what_needs_a_restart_is_named(differ, change, key):
    _, configs = differ(text(), text(**change))
    (error,) = restart_errors(*configs)
    assert (error.key, error.file) == (key, configs[1].file)
