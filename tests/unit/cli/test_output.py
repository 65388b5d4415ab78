"""What commands print: tables, values, and the two views of live values."""

import json
import os

import pytest

from bifrost.cli.output import format_age, format_count, format_value, print_json, table_lines
from bifrost.cli.screen import ChangeLines, LiveTable, value_lines


def value(tag, number, quality="Good", unit=""):
    time = "2026-11-22T09:00:00.123456Z"
    return {"tag": tag, "value": number, "unit": unit, "quality": quality, "source_time": time, "server_time": time}


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (None, "", "-"),
        (True, "", "on"),
        (False, "", "off"),
        (3, "mm", "3 mm"),
        (0.1 + 0.2, "", "0.3"),
        (1234567.891, "", "1234568"),
        ("tank", "", "'tank'"),
        ([1.5, 2.0], "A", "[1.5, 2] A"),
        ("x" * 60, "", "'" + "x" * 38 + "…"),
    ],
)
def test_values_are_short(number, unit, text):
    assert format_value(number, unit) == text


def test_counts_and_ages_are_readable():
    assert format_count(1234567) == "1 234 567"
    assert [format_age(seconds) for seconds in (0.25, 42, 300, 7300, 400_000)] == [
        "0.2 s",
        "42 s",
        "5 min",
        "2 h",
        "5 d",
    ]


def test_columns_are_as_wide_as_their_longest_cell():
    assert table_lines(("a", "bb"), [("xxx", 1), ("y", 100)], right=(1,)) == ["a     bb", "xxx    1", "y    100"]


def test_json_has_no_nan(capsys):
    print_json({"value": float("nan"), "text": "m³"})
    assert json.loads(capsys.readouterr().out) == {"value": None, "text": "m³"}


def test_change_lines_show_only_what_changed(capsys):
    view = ChangeLines()
    view.show([value("a", 1, unit="mm"), value("b", 2)])
    view.show([value("a", 1, unit="mm"), value("b", 3)])
    view.show([value("a", 1, "BadNoCommunication", "mm"), value("b", 3)])
    lines = [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a  1 mm  Good", "b  2  Good", "b  3  Good", "a  1 mm  BadNoCommunication"]


def test_live_table_paints_over_itself_and_fits_the_screen(capsys, monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 8)))
    view = LiveTable()
    values = [value(f"tag{number}", number) for number in range(10)]
    view.show(values, ["note"])
    first = capsys.readouterr().out
    assert "… and 6 more" in first
    assert "\x1b[32mGood\x1b[0m" in first
    view.show(values, ["note"])
    assert capsys.readouterr().out.startswith(f"\x1b[{first.count(chr(10))}A\r\x1b[J")


def test_snapshot_as_a_table_names_unit_and_time():
    assert value_lines([value("a", 1, unit="mm")]) == [
        "tag  value  unit  quality  source time",
        "a        1  mm    Good     09:00:00.123",
    ]
