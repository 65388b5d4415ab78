"""Columns whose ids are rows answer every question as the columns below them do, by row instead of position."""

from array import array

import pytest

from bifrost.core.columns import TagColumns
from bifrost.core.placed import PlacedColumns
from bifrost.core.tag import Tag

ROWS = array("I", [7, 2, 9, 4])


@pytest.fixture
def both():
    columns = TagColumns(10)
    columns.begin_device("a")
    columns.append(Tag("x", 1, unit="mm", deadband=0.5, range=(0, 1), writable=True), file="t.csv", line=2)
    columns.append(Tag("y", "hr:1", group="g", description="why", scan_ns=5, max_interval_ns=7), file="t.csv", line=3)
    columns.begin_device("none")
    columns.begin_device("b")
    columns.append(Tag("x", 3), line=4)
    columns.append(Tag("z", 4), line=5)
    assert columns.freeze() == []
    return columns, PlacedColumns(columns, ROWS)


def test_questions_by_id_are_answered_for_the_row(both):
    columns, placed = both
    for name in (
        *("full_name", "scan_ns", "max_interval_ns", "name", "group", "description", "engineering_range", "unit"),
        *("deadband", "is_writable", "place", "device_of", "__getitem__"),
    ):
        assert [getattr(placed, name)(row) for row in ROWS] == [getattr(columns, name)(at) for at in range(4)], name
    assert str(placed.error(9, "address", "wrong")) == str(columns.error(2, "address", "wrong"))


def test_tags_are_found_as_rows(both):
    columns, placed = both
    assert [placed.id_of(name) for name in columns.full_names()] == list(ROWS)
    assert placed.id_of("a.z") is None
    assert list(placed.select(["*.x", "b.*"])) == [4, 7, 9]
    assert list(placed.ids) == list(ROWS)
    assert [list(placed.device_range(device)) for device in placed.devices] == [[7, 2], [], [9, 4]]
    assert list(placed.full_names()) == list(columns.full_names())
    assert (placed.has_match("b.z"), placed.has_match("c.*")) == (True, False)


def test_views_and_iteration_give_the_tags_in_the_order_of_the_configuration(both):
    columns, placed = both
    assert list(placed) == list(columns)
    view = placed.of_device("b")
    assert (list(view), list(view.ids)) == (list(columns[2:4]), [9, 4])
    assert [tag.name for tag in placed[1:3]] == ["y", "x"]
    assert list(view[1:].ids) == [4]


@pytest.mark.parametrize("row", [0, 3, 10, 2**31])
def test_rows_of_no_tag_are_known_as_such(both, row):
    _, placed = both
    assert not placed.has_id(row)
    with pytest.raises(IndexError):
        placed.full_name(row)


def test_they_are_frozen(both):
    columns, placed = both
    assert placed.freeze() == []
    assert placed.has_id(7)
    assert (len(placed), placed.id_bytes) == (4, columns.id_bytes)
    assert placed.memory_bytes() > columns.memory_bytes()
    with pytest.raises(ValueError, match="frozen"):
        placed.begin_device("c")
    with pytest.raises(ValueError, match="frozen"):
        placed.append(Tag("x", 1))
