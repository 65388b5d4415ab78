"""Plug-ins: built-in ones without metadata, others by entry point, and messages that name what there is."""

import pytest

from bifrost.core import plugins
from bifrost.core.errors import ConfigError


@pytest.fixture
def installed(monkeypatch):
    """Entry points by group, as if packages were installed."""
    points: dict[str, dict[str, str]] = {plugins.DRIVERS: {}, plugins.CONNECTORS: {}}
    monkeypatch.setattr(plugins, "_entry_points", points.__getitem__)
    return points


def test_built_in_schemes_need_no_installed_package(monkeypatch):
    def fail(group):
        raise AssertionError("entry points were looked at")

    monkeypatch.setattr(plugins, "_entry_points", fail)
    plugins.check_scheme(plugins.DRIVERS, "modbus-tcp", "plc")
    plugins.check_scheme(plugins.DRIVERS, "modbus", "plc")


def test_a_url_must_name_a_host_where_one_is_needed(installed):
    with pytest.raises(ValueError, match="names no host"):
        plugins.check_scheme(plugins.DRIVERS, "modbus", "")


def test_schemes_of_others_are_found_and_loaded(installed):
    installed[plugins.DRIVERS]["sine"] = "math:sin"
    plugins.check_scheme(plugins.DRIVERS, "sine", "")
    assert plugins.schemes(plugins.DRIVERS) == ["modbus-tcp", "modbus", "sine"]
    import math

    assert plugins.load(plugins.DRIVERS, "sine") is math.sin


def test_a_built_in_scheme_cannot_be_taken_over(installed, monkeypatch):
    installed[plugins.DRIVERS]["modbus-tcp"] = "math:sin"
    assert plugins.schemes(plugins.DRIVERS) == ["modbus-tcp", "modbus"]
    monkeypatch.setattr(plugins, "_BUILT_IN", {plugins.DRIVERS: {"modbus-tcp": plugins.BuiltIn("math:cos")}})
    import math

    assert plugins.load(plugins.DRIVERS, "modbus") is math.cos


@pytest.mark.parametrize(
    ("scheme", "message"),
    [("modbus-tpc", "did you mean 'modbus-tcp'"), ("s7", "has no driver for 's7://' yet"), ("x", "allowed: modbus")],
)
def test_schemes_that_are_not_there(installed, scheme, message):
    with pytest.raises(ValueError, match=message):
        plugins.check_scheme(plugins.DRIVERS, scheme, "plc")


def test_plugins_that_cannot_be_loaded_are_named(installed):
    installed[plugins.CONNECTORS] |= {"a": "no_such_package:x", "b": "math:no_such_name"}
    for scheme in ("a", "b"):
        with pytest.raises(ConfigError, match="cannot be loaded"):
            plugins.load(plugins.CONNECTORS, scheme)
    with pytest.raises(ConfigError, match="no plug-in for 'zzz://'"):
        plugins.load(plugins.CONNECTORS, "zzz")


def test_the_metadata_of_installed_packages_can_be_read():
    assert isinstance(plugins.schemes(plugins.CONNECTORS), list)
