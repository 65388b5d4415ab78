"""The dry run: mistakes with their places, and what a configuration that works would do. Nothing is connected."""

import pytest

from bifrost.gateway.check import check_file, inspect_file

GATEWAY = '[gateway]\nname = "line"\n'
DEVICE = '[[device]]\nname = "{name}"\nurl = "modbus-tcp://10.0.0.5?unit={unit}"\nscan = "1 s"\n'


@pytest.fixture
def check(tmp_path):
    def inspect(text, **tables):
        for name, rows in tables.items():
            (tmp_path / f"{name}.csv").write_text(rows)
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return inspect_file(str(path), {})

    return inspect


def tag(name, address, **settings):
    lines = [f"[[device.tag]]\nname = {name!r}\naddress = {address!r}\n"]
    return "".join([*lines, *(f"{key} = {value!r}\n" for key, value in settings.items())])


def test_plan_of_a_configuration_that_works(check):
    first = DEVICE.format(name="a", unit=1) + tag("x", "hr:0") + tag("y", "hr:1") + tag("fast", "ir:9", scan="100 ms")
    second = DEVICE.format(name="b", unit=2) + tag("z", "co:0")
    inspection = check(GATEWAY + first + second)
    assert inspection.errors == ()
    assert [(d.name, d.tags, d.requests_per_s) for d in inspection.devices] == [("a", 3, 11.0), ("b", 1, 1.0)]
    ranges = {(block.range, block.period_ns // 10**6, block.tags) for block in inspection.devices[0].blocks}
    assert ranges == {("1!hr:0-1", 1000, 2), ("1!ir:9-9", 100, 1)}
    (link,) = inspection.links
    assert (link.link, link.devices, link.requests_per_s, link.window) == ("modbus-tcp://10.0.0.5:502", 2, 12.0, 1)
    assert inspection.memory_bytes == sum(region.bytes for region in inspection.regions) > 0


def test_each_wrong_address_has_its_file_line_and_key(check, tmp_path):
    rows = "name,address,type\ngood,hr:0,\nbad,hr:70000,\nworse,co:1,float32\n"
    inspection = check(GATEWAY + DEVICE.format(name="a", unit=1) + 'tags = "t.csv"\n', t=rows)
    assert [(error.file, error.line, error.key) for error in inspection.errors] == [
        (str(tmp_path / "t.csv"), 3, "device.a.tag.bad.address"),
        (str(tmp_path / "t.csv"), 4, "device.a.tag.worse.address"),
    ]
    assert all("tag 'a." not in error.message for error in inspection.errors)


def test_twenty_mistakes_are_shown_and_the_rest_is_counted(check):
    rows = "name,address\n" + "".join(f"t{number},hr:99999\n" for number in range(33))
    inspection = check(GATEWAY + DEVICE.format(name="a", unit=1) + 'tags = "t.csv"\n', t=rows)
    assert len(inspection.messages) == 21
    assert inspection.messages[-1] == "... and 13 more"


def test_mistakes_of_several_devices_are_shown_together(check):
    text = GATEWAY + DEVICE.format(name="a", unit=1) + tag("x", "hx:0")
    text += '[[device]]\nname = "b"\nurl = "modbus-tcp://10.0.0.6?unti=1"\n' + tag("x", "hr:0")
    inspection = check(text)
    assert [error.key for error in inspection.errors] == ["device.a.tag.x.address", "device.b.url"]
    assert inspection.errors[1].line is not None


def test_limits_that_do_not_hold_the_configuration_are_named(check):
    text = GATEWAY + '[limits]\nmemory_bytes_max = "1 MiB"\n' + DEVICE.format(name="a", unit=1) + tag("x", "hr:0")
    (message,) = check(text).messages
    assert "limits.memory_bytes_max: the configuration needs" in message
    text = GATEWAY + "[limits]\nwindow_max = 2\n" + DEVICE.format(name="a", unit=1) + "window = 3\n" + tag("x", "hr:0")
    (message,) = check(text).messages
    assert "device.a.window: 3 is above the limit window_max = 2" in message
    text = (
        GATEWAY + "[limits]\ncell_bytes = 8\n" + DEVICE.format(name="a", unit=1) + tag("x", "hr:0", type="string[16]")
    )
    (message,) = check(text).messages
    assert "limits.cell_bytes: texts and arrays of the tags take 16 bytes" in message


def test_link_that_is_asked_too_often_is_a_warning(check):
    tags = "".join(tag(f"t{number}", f"hr:{number * 200}", scan="10 ms") for number in range(3))
    (warning,) = check(GATEWAY + DEVICE.format(name="a", unit=1) + tags).warnings
    assert "is asked 300 times a second" in warning


def test_messages_of_a_file_that_is_not_there(tmp_path):
    (message,) = check_file(str(tmp_path / "no.toml"), {})
    assert message.endswith("no.toml: there is no such file")
