"""Placing an imported table: what is there keeps its bytes, its rights and its links; whatever fails leaves nothing behind."""

import os

import pytest

from bifrost.core.errors import ConfigError, StorageError
from bifrost.gateway.importing import plan_placement, write_placement
from bifrost.gateway.importing.place import Placement

CONFIG = '[gateway]\nname = "line"  # ours\n'
TABLE = "name,address\npressure,40001\n"
URL = "modbus-tcp://10.0.0.5"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").write_text(CONFIG)
    return tmp_path


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def place(device="press", url=URL, force=False, table=TABLE):
    planned = plan_placement("gateway.toml", device, url, force, {})
    write_placement(planned, table, {})
    return planned


def test_configuration_keeps_its_bytes_and_its_rights(folder):
    config = folder / "gateway.toml"
    config.chmod(0o600)
    assert place().line == 4
    assert config.read_text() == CONFIG + f'\n[[device]]\nname = "press"\nurl = "{URL}"\ntags = "tags/press.csv"\n'
    assert config.stat().st_mode & 0o777 == 0o600
    assert names(folder) == ["gateway.toml", "tags/press.csv"]


def test_link_stays_a_link(folder):
    os.rename("gateway.toml", "line-3.toml")
    os.symlink("line-3.toml", "gateway.toml")
    place()
    assert (folder / "gateway.toml").is_symlink()
    assert "[[device]]" in (folder / "line-3.toml").read_text()


def test_several_devices_one_after_the_other(folder):
    place()
    place("oven", URL + "?unit=2")
    with pytest.raises(ConfigError, match="'press' is there already; --force replaces"):
        place()
    place(url="", force=True, table=TABLE + "level,40003\n")
    assert (folder / "tags" / "press.csv").read_text().endswith("level,40003\n")
    with pytest.raises(ConfigError, match=r"gateway.toml:6: the device 'press' is at"):
        place(url=URL + "?unit=9", force=True)


@pytest.mark.parametrize("force", [False, True])
def test_what_does_not_pass_the_check_changes_nothing(folder, force):
    if force:
        place()
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    with pytest.raises(ConfigError, match="nothing was imported"):
        place(url="" if force else URL, force=force, table="name,address\npressure,99999\n")
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_disk_that_cannot_be_written_changes_nothing(folder, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("bifrost.gateway.importing.place.os.replace", full)
    with pytest.raises(StorageError, match="No space left"):
        place()
    assert names(folder) == ["gateway.toml"]
    assert (folder / "gateway.toml").read_text() == CONFIG


def test_line_of_the_section_is_where_it_will_stand():
    assert Placement("g", "t", "s", b"a\n", False).line == 3
    assert Placement("g", "t", "s", b"a", False).line == 3
    assert Placement("g", "t", "s", b"a\n\n\n", False).line == 5
    assert Placement("g", "t", "s", b"a\r\n", False).line == 3
    assert Placement("g", "t", "s", b"", False).line == 1
    assert Placement("g", "t", "s", None, False).line == 5
