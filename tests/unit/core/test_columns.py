"""Tag columns: what goes in comes out, names lead to ids, and a tag costs what `limits` counts for it."""

import tracemalloc
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost.core.columns import TagColumns
from bifrost.core.datatypes import ByteOrder, DataType
from bifrost.core.errors import LimitError
from bifrost.core.tag import Tag

_NAMES = st.text("abcXYZ 0_-", min_size=1, max_size=8)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_TAGS = st.builds(
    Tag,
    name=_NAMES,
    address=st.one_of(st.integers(0, 500_000), st.text(max_size=12)),
    datatype=st.sampled_from([None, DataType.FLOAT32, "string[16]", "int16[8]"]),
    byte_order=st.sampled_from(ByteOrder),
    scale=_FINITE,
    offset=_FINITE,
    unit=st.sampled_from(["", "°C", "bar"]),
    range=st.none() | st.tuples(_FINITE, _FINITE),
    deadband=_FINITE,
    max_interval_ns=st.integers(0, 10**15),
    scan_ns=st.integers(0, 10**15),
    writable=st.booleans(),
    description=st.text(max_size=20),
    group=st.just("") | _NAMES,
    device=st.just("boiler"),
)


def columns_of(*tags: Tag, device: str = "boiler") -> TagColumns:
    columns = TagColumns(1_000)
    columns.begin_device(device)
    for line, tag in enumerate(tags, start=2):
        columns.append(tag, file="tags.csv", line=line)
    return columns


@given(st.lists(_TAGS, max_size=20))
def test_tags_come_out_as_they_went_in(tags):
    columns = columns_of(*tags)
    columns.freeze()
    assert list(columns) == tags
    assert [columns[index] for index in range(len(columns))] == tags
    assert list(columns.full_names()) == [tag.full_name for tag in tags]


def test_names_lead_to_ids_and_back():
    columns = TagColumns(5_000)
    for device in ("boiler", "pump"):
        columns.begin_device(device)
        for number in range(1_000):
            columns.append(Tag(f"tag{number}", number, group="g" if number % 2 else ""))
    assert columns.id_of("boiler.tag0") is None
    assert columns.freeze() == []
    for tag_id in range(2_000):
        assert columns.id_of(columns.full_name(tag_id)) == tag_id
    assert columns.id_of("boiler.tag1") is None
    assert columns.id_of("boiler.g.tag1") == 1


def test_a_device_is_a_range_of_ids_and_a_view():
    columns = TagColumns(10)
    columns.begin_device("boiler")
    columns.append(Tag("a", 1))
    columns.begin_device("empty")
    columns.begin_device("pump")
    columns.append(Tag("b", 2, scan_ns=5, max_interval_ns=9, unit="bar", writable=True, deadband=0.5))
    columns.append(Tag("c", 3))
    columns.freeze()
    assert columns.devices == ("boiler", "empty", "pump")
    assert columns.device_range("empty") == range(1, 1)
    view = columns.of_device("pump")
    assert (view.ids, len(view), view[1].name, [tag.name for tag in view]) == (range(1, 3), 2, "c", ["b", "c"])
    assert [tag.name for tag in view[1:]] == ["c"]
    assert [tag.name for tag in columns[:2]] == ["a", "b"]
    assert columns.device_of(2) == "pump"
    assert (columns.scan_ns(1), columns.is_writable(1), columns.is_writable(2), columns.deadband(1)) == (
        5,
        True,
        False,
        0.5,
    )
    assert (columns.max_interval_ns(1), columns.unit(1)) == (9, "bar")
    with pytest.raises(KeyError):
        columns.of_device("nobody")
    with pytest.raises(IndexError):
        columns[3]


def test_globs_select_ids_and_a_star_matches_dots():
    columns = columns_of(Tag("a", 1, group="steam"), Tag("b", 2), Tag("ab", 3))
    columns.freeze()
    assert columns.select(["boiler.*"]) == array("I", [0, 1, 2])
    assert columns.select(["*.b", "boiler.steam.?"]) == array("I", [0, 1])
    assert columns.select(["BOILER.*"]) == array("I")
    assert columns.has_match("*.b")
    assert not columns.has_match("*.c")


def test_names_used_twice_are_found():
    columns = columns_of(Tag("a", 1), Tag("b", 2), Tag("a", 3), Tag("steam", 4), Tag("x", 5, group="steam"))
    clashes = columns.freeze()
    assert [(clash.tag_id, clash.other_id, clash.with_group) for clash in clashes] == [(2, 0, False), (3, 4, True)]
    assert columns.id_of("boiler.a") == 0


def test_no_more_than_twenty_clashes_are_kept():
    assert len(columns_of(*[Tag("a", 1)] * 30).freeze()) == 20
    groups = [Tag("x", number, group=f"g{number}") for number in range(30)]
    assert len(columns_of(*groups, *[Tag(f"g{number}", 1) for number in range(30)]).freeze()) == 20


def test_an_error_names_file_line_and_key():
    columns = columns_of(Tag("a", 1, group="steam"))
    assert str(columns.error(0, "address", "no such register")) == (
        "tags.csv:2: device.boiler.tag.steam.a.address: no such register"
    )
    assert columns.place(0) == ("tags.csv", 2)


def test_limits_and_misuse():
    columns = TagColumns(1)
    with pytest.raises(ValueError, match="begin_device"):
        columns.append(Tag("a", 1))
    columns.begin_device("boiler")
    columns.append(Tag("a", 1))
    with pytest.raises(LimitError, match="tags_count_max"):
        columns.append(Tag("b", 1))
    with pytest.raises(ValueError, match="began before"):
        columns.begin_device("boiler")
    columns.freeze()
    assert TagColumns(1).freeze() == []


def test_a_column_refers_to_65536_distinct_values_at_most():
    columns = TagColumns(70_000)
    columns.begin_device("boiler")
    for number in range(65_536):
        columns.append(Tag("a", 1, group=str(number)))
    with pytest.raises(LimitError, match="distinct groups"):
        columns.append(Tag("a", 1, group="one more"))


def test_a_tag_takes_no_more_than_limits_counts_for_it():
    tracemalloc.start()
    try:
        columns = TagColumns(20_000)
        columns.begin_device("boiler")
        for number in range(20_000):
            columns.append(
                Tag(
                    f"temperature {number}",
                    str(40_001 + number),
                    "float32",
                    scale=0.1,
                    unit="°C",
                    description="Steam drum",
                )
            )
        columns.freeze()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / 20_000 <= 128
    assert columns.memory_bytes() / 20_000 <= 128
