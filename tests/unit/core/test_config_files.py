"""`conf.d`: files beside the main one become one document, each message names the file it is about, and nothing is set twice."""

import pytest

from bifrost.core.config import ConfigCheckError, load_config, read_gateway
from bifrost.core.errors import ConfigError

GATEWAY = '[gateway]\nname = "line-3"\n'
DEVICE = '[[device]]\nname = "{name}"\nurl = "modbus-tcp://10.0.0.5?unit={unit}"\n'
TAG = '[[device.tag]]\nname = "level"\naddress = "hr:0"\n'


@pytest.fixture
def load(tmp_path):
    """Loads a main file with others in `conf.d`, by name."""

    def load_texts(main, environ=None, **parts):
        (tmp_path / "gateway.toml").write_text(main)
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        for name, text in parts.items():
            (tmp_path / "conf.d" / f"{name}.toml").write_text(text)
        return load_config(str(tmp_path / "gateway.toml"), environ or {})

    return load_texts


def device(name, unit=1):
    return DEVICE.format(name=name, unit=unit) + TAG


def test_devices_and_uplinks_of_all_files_follow_each_other_by_file_name(load):
    uplink = '[[uplink]]\nname = "{name}"\nurl = "mqtt://broker-{name}"\n'
    config = load(
        GATEWAY + device("a") + device("b", 2),
        b=device("d", 4) + uplink.format(name="two"),
        a=uplink.format(name="one") + device("c", 3),
    )
    assert [one.name for one in config.devices] == ["a", "b", "c", "d"]
    assert [one.name for one in config.uplinks] == ["one", "two"]
    assert list(config.tags.full_names()) == ["a.level", "b.level", "c.level", "d.level"]


def test_keys_of_one_section_may_be_spread_over_files(load, tmp_path):
    config = load(
        "[gateway]\nwrites = true\n" + device("a"), name='[gateway]\nname = "line-3"\n[limits]\nlinks_count_max = 9\n'
    )
    assert (config.gateway.name, config.gateway.writes, config.limits.links_count_max) == ("line-3", True, 9)
    assert dict(config.limits_chosen) == {"links_count_max": 9}
    assert read_gateway(str(tmp_path / "gateway.toml"), {}).name == "line-3"


def test_places_are_those_of_the_file_a_key_stands_in(load, tmp_path):
    with pytest.raises(ConfigCheckError) as caught:
        load(
            GATEWAY + device("a") + 'scan = "fast"\n',
            one=device("b", 2) + device("c", 3) + 'scan = "slow"\n',
            two="\n" + DEVICE.format(name="d", unit=4) + 'stale = "never"\n' + TAG,
        )
    folder = tmp_path / "conf.d"
    assert [(error.file, error.line, error.key) for error in caught.value.problems] == [
        (str(tmp_path / "gateway.toml"), 9, "device.a.tag.level.scan"),
        (str(folder / "one.toml"), 13, "device.c.tag.level.scan"),
        (str(folder / "two.toml"), 5, "device.d.stale"),
    ]


def test_tables_are_looked_for_beside_the_file_that_names_them(load, tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "pump.csv").write_text("name,address\nspeed,hr:1\n")
    config = load(GATEWAY, pump=DEVICE.format(name="pump", unit=1) + 'tags = "pump.csv"\n')
    assert config.tags.place(0) == (str(tmp_path / "conf.d" / "pump.csv"), 2)
    assert config.devices[0].error("url", "x").file == str(tmp_path / "conf.d" / "pump.toml")


def test_mistakes_of_syntax_in_several_files_are_shown_together(load):
    with pytest.raises(ConfigCheckError) as caught:
        load(GATEWAY, a="[[device]\n", b="x = \n", c=device("c"))
    assert [error.file.rsplit("/", 1)[1] for error in caught.value.problems] == ["a.toml", "b.toml"]


def test_overrides_reach_devices_of_every_file(load):
    config = load(GATEWAY, {"BIFROST__DEVICE__PUMP__SCAN": "2 s"}, pump=device("pump"))
    assert config.devices[0].scan_ns == 2 * 10**9


def test_hidden_and_other_files_are_left_out(load, tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / ".hidden.toml").write_text("nonsense")
    (tmp_path / "conf.d" / "readme.md").write_text("nonsense")
    assert load(GATEWAY + device("a")).devices[0].name == "a"


def test_all_files_together_keep_to_the_limit(load):
    limits = "[limits]\nconfig_bytes_max = 1024\n"
    with pytest.raises(ConfigError, match=r"the files together have [0-9]+ bytes; the limit config_bytes_max is 1024"):
        load(GATEWAY + limits, a="# " + "x" * 600, b="# " + "y" * 600)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "gateway.toml").write_text(GATEWAY)
    (tmp_path / "conf.d").write_text("")
    with pytest.raises(ConfigError, match=r"conf\.d: cannot be read"):
        load_config(str(tmp_path / "gateway.toml"), {})
