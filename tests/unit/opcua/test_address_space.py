"""The address space: what CONTRACT says of ids, names and folders, and the invariants that the C side relies on.

Every compiled space goes through `check`, which walks it as the server does: children are neighbours behind their
folder, ids are unique, each row is in one node.
"""

import time
from array import array

import pytest

from bifrost._native import records
from bifrost.core.columns import TagColumns
from bifrost.core.tag import Tag
from bifrost.opcua import address_space
from bifrost.opcua.address_space import (
    DETAIL,
    KIND_DIAGNOSTIC,
    KIND_FOLDER,
    KIND_TAG,
    NODE,
    NONE,
    Diagnostic,
    ShownDevice,
    compile_space,
)

ROWS_COUNT = 200
VERSION = Diagnostic("Version", records.TYPE_STRING, ROWS_COUNT - 1, "Of Bifrost.")


def device(columns, name, types=(), *, array_bytes=None, diagnostics=None):
    """How `name` is shown: float64 unless `types` say else; `array_bytes` gives the cell of each array by its index."""
    rows = columns.device_range(name)
    array_bytes = array_bytes or {}
    kinds = [records.KIND_ARRAY if index in array_bytes else records.KIND_FLOAT for index in range(len(rows))]
    sizes = array("I", (array_bytes.get(index, 0) for index in range(len(rows))))
    if diagnostics is None:
        row = ROWS_COUNT - 2 - columns.devices.index(name)
        diagnostics = [Diagnostic("Connected", records.TYPE_BOOL, row, "Whether the link is up.")]
    types = types or [records.TYPE_FLOAT64] * len(rows)
    return ShownDevice(name, 1_000_000_000, rows, types, sizes, kinds, diagnostics)


def columns_of(**devices):
    columns = TagColumns(1_000_000)
    for name, tags in devices.items():
        columns.begin_device(name)
        for tag in tags:
            columns.append(tag)
    columns.freeze()
    return columns


def compiled(columns, *shown, writes=True):
    shown = shown or [device(columns, name) for name in columns.devices]
    return check(compile_space(columns, shown, [VERSION], rows_count=ROWS_COUNT, writes=writes))


def check(space):
    nodes = list(space.iterate())
    assert [node.kind for node in nodes].count(KIND_FOLDER) == sum(node.row == NONE for node in nodes)
    assert len({node.id for node in nodes}) == len(nodes)
    rows = [node.row for node in nodes if node.row != NONE]
    assert len(set(rows)) == len(rows)
    assert all(row < space.rows_count for row in rows)
    assert nodes[0].parent == NONE
    seen = 1
    for number, node in enumerate(nodes):
        if node.children:
            assert node.kind == KIND_FOLDER
            assert node.children.start == seen > number
            assert all(nodes[child].parent == number for child in node.children)
            seen = node.children.stop
    assert seen == len(nodes)
    return space


def by_id(space):
    return {node.id: node for node in space.iterate()}


@pytest.fixture
def boiler():
    return columns_of(
        boiler=[
            Tag("pressure", 1),
            Tag("temperature", 2, group="steam", unit="°C", range=(0.0, 150.0), description="Steam drum"),
            Tag("level", 3, group="drum", writable=True, scan_ns=500_000_000),
        ],
        pump=[Tag("speed", 4, unit="rpm")],
    )


def test_layouts_are_those_of_the_header():
    assert (NODE.size, DETAIL.size) == (40, 32)


def test_folders_are_device_group_and_diagnostics(boiler):
    space = compiled(boiler)
    nodes = by_id(space)
    children = {
        name: [space.node(child).name for child in node.children] for name, node in nodes.items() if node.children
    }
    assert space.node(0).name == "Bifrost"
    assert children == {
        "#Bifrost": ["boiler", "pump", "_Gateway"],
        "boiler": ["steam", "drum", "_Diagnostics", "pressure"],
        "boiler.steam": ["temperature"],
        "boiler.drum": ["level"],
        "boiler._Diagnostics": ["Connected"],
        "pump": ["_Diagnostics", "speed"],
        "pump._Diagnostics": ["Connected"],
        "_Gateway": ["Version"],
    }


def test_tag_has_its_full_name_as_id_and_its_row(boiler):
    node = by_id(compiled(boiler))["boiler.steam.temperature"]
    assert (node.kind, node.row, node.name) == (KIND_TAG, 1, "temperature")
    assert node.engineering_range == (0.0, 150.0)
    assert (node.unit, node.unit_id, node.description) == ("°C", 4408652, "Steam drum")
    assert (node.type, node.period_ms, node.is_writable) == (records.TYPE_FLOAT64, 1000, False)


def test_period_of_the_tag_goes_before_the_device_s(boiler):
    assert by_id(compiled(boiler))["boiler.drum.level"].period_ms == 500


def test_nothing_is_writable_without_the_switch(boiler):
    assert by_id(compiled(boiler))["boiler.drum.level"].is_writable
    assert not by_id(compiled(boiler, writes=False))["boiler.drum.level"].is_writable


def test_uplinks_have_folders_in_that_of_the_gateway(boiler):
    acquired = Diagnostic("Acquired", records.TYPE_UINT64, ROWS_COUNT - 2, "Samples.")
    uplinks = {"plant": [acquired._replace(row=ROWS_COUNT - 3)], "other one": [acquired]}
    space = check(compile_space(boiler, [], [VERSION], uplinks=uplinks, rows_count=ROWS_COUNT, writes=True))
    nodes = by_id(space)
    assert [space.node(child).name for child in nodes["_Gateway"].children] == ["Uplinks", "Version"]
    assert [space.node(child).name for child in nodes["_Gateway.Uplinks"].children] == ["plant", "other one"]
    node = nodes["_Gateway.Uplinks.other one#Acquired"]
    assert (node.kind, node.row, node.name, node.description) == (
        KIND_DIAGNOSTIC,
        ROWS_COUNT - 2,
        "Acquired",
        "Samples.",
    )


def test_diagnostics_have_ids_with_a_hash_sign(boiler):
    node = by_id(compiled(boiler))["_Gateway#Version"]
    assert (node.kind, node.row, node.name, node.description) == (
        KIND_DIAGNOSTIC,
        ROWS_COUNT - 1,
        "Version",
        "Of Bifrost.",
    )


def test_types_are_those_that_clients_see():
    columns = columns_of(d=[Tag(f"t{index}", index + 1, range=(0.0, 1.0)) for index in range(5)])
    types = [records.TYPE_BOOL, records.TYPE_BCD16, records.TYPE_BCD32, records.TYPE_INT16, records.TYPE_STRING]
    nodes = by_id(compiled(columns, device(columns, "d", types, array_bytes={3: 24})))
    seen = [nodes[f"d.t{index}"].type for index in range(5)]
    assert seen == [
        records.TYPE_BOOL,
        records.TYPE_UINT16,
        records.TYPE_UINT32,
        records.TYPE_INT16,
        records.TYPE_STRING,
    ]
    assert nodes["d.t3"].array_length == 12
    assert nodes["d.t0"].engineering_range is None
    assert nodes["d.t4"].engineering_range is None
    assert nodes["d.t1"].engineering_range == (0.0, 1.0)


def test_same_range_and_unit_are_kept_once():
    columns = columns_of(d=[Tag(f"t{index}", index + 1, unit="bar", range=(0.0, 10.0)) for index in range(100)])
    space = compiled(columns)
    assert space.details_count == 1
    assert by_id(space)["d.t99"].unit == "bar"


def test_descriptions_of_a_table_that_two_devices_share_are_kept_once():
    tags = [Tag(f"t{index}", index + 1, description=f"Pressure at point {index}") for index in range(3)]
    space = compiled(columns_of(d1=tags, d2=tags))
    nodes = by_id(space)
    assert space.details_count == 0
    assert space.texts.count(b"Pressure at point 2") == 1
    assert nodes["d1.t2"].description == nodes["d2.t2"].description == "Pressure at point 2"
    assert nodes["d1"].description == ""
    assert list(nodes["d1.t2"].children) == []


def test_texts_and_ranges_beyond_those_remembered_are_kept_too(monkeypatch):
    monkeypatch.setattr(address_space, "_REMEMBERED_MAX", 2)
    columns = columns_of(
        d=[Tag(f"t{index}", index + 1, range=(0.0, index + 1.0), description=f"Nr. {index % 4}") for index in range(8)]
    )
    space = compiled(columns)
    nodes = by_id(space)
    assert [nodes[f"d.t{index}"].description for index in range(8)] == [f"Nr. {index % 4}" for index in range(8)]
    assert [nodes[f"d.t{index}"].engineering_range for index in range(8)] == [(0.0, index + 1.0) for index in range(8)]
    assert (space.texts.count(b"Nr. 0"), space.texts.count(b"Nr. 3")) == (1, 2)


def test_gateway_without_devices_has_itself():
    columns = columns_of()
    space = check(compile_space(columns, [], [VERSION], rows_count=ROWS_COUNT, writes=True))
    assert [node.id for node in space.iterate()] == ["#Bifrost", "_Gateway", "_Gateway#Version"]


def test_device_called_like_the_root_is_another_node():
    columns = columns_of(Bifrost=[Tag("a", 1)])
    assert "Bifrost.a" in by_id(compiled(columns))


@pytest.mark.slow
def test_hundred_thousand_tags_are_compiled_in_time():
    columns = columns_of(
        **{
            f"device-{d}": [Tag(f"tag-{t}", t + 1, group=f"g{t % 10}", unit="bar") for t in range(1_000)]
            for d in range(100)
        }
    )
    shown = [device(columns, name, diagnostics=()) for name in columns.devices]
    started = time.process_time()
    space = compile_space(columns, shown, [VERSION._replace(row=100_000)], rows_count=100_001, writes=True)
    assert time.process_time() - started < 1.5
    assert space.memory_bytes < 100 * 100_000
