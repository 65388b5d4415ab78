"""Sizes, durations and percentages: each unit, each refusal, and that formatting reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost.core.quantity import format_duration, format_size, parse_duration_ns, parse_percent, parse_size_bytes


@pytest.mark.parametrize(
    ("value", "time_ns"),
    [
        ("7 ns", 7),
        ("7us", 7_000),
        ("7 µs", 7_000),
        ("7 μs", 7_000),
        ("500 ms", 500_000_000),
        ("1.5 s", 1_500_000_000),
        ("2 min", 120_000_000_000),
        ("1 h", 3_600_000_000_000),
        (" 7 d ", 604_800_000_000_000),
        (2, 2_000_000_000),
        (0.25, 250_000_000),
    ],
)
def test_durations_are_nanoseconds(value, time_ns):
    assert parse_duration_ns(value) == time_ns


@pytest.mark.parametrize(
    ("value", "size"),
    [("64 MiB", 64 << 20), ("1 KiB", 1024), ("2 GiB", 2 << 30), ("1 kB", 1000), ("1_000 B", 1000), (12, 12)],
)
def test_sizes_are_bytes(value, size):
    assert parse_size_bytes(value) == size


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", "no unit"),
        ("5 m", "did you mean 'ms' or 'min'"),
        ("5 S", "did you mean 's'"),
        ("5 fortnights", "unknown unit"),
        ("", "not a duration"),
        ("1,5 s", "decimal point"),
        ("-1 s", "negative"),
        (-1, "negative"),
        (float("nan"), "negative"),
        (float("inf"), "negative"),
        (True, "not a duration"),
        (None, "not a duration"),
        ("99999999999 d", "too large"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_reason(value, message):
    with pytest.raises(ValueError, match=message):
        parse_duration_ns(value)


def test_megabit_is_not_guessed():
    with pytest.raises(ValueError, match="did you mean 'MB'"):
        parse_size_bytes("64 Mb")


def test_percentages():
    assert parse_percent("1.5 %") == 1.5
    assert parse_percent("20%") == 20
    assert parse_percent("1.5") is None
    assert parse_percent(1.5) is None
    with pytest.raises(ValueError, match="not a percentage"):
        parse_percent("some %")


@given(st.integers(0, 10**18))
def test_formatting_reads_back(amount):
    assert parse_duration_ns(format_duration(amount)) == amount
    assert parse_size_bytes(format_size(amount)) == amount


def test_formatting_takes_the_largest_whole_unit():
    assert format_duration(90_000_000_000) == "90 s"
    assert format_duration(120_000_000_000) == "2 min"
    assert format_duration(0) == "0 ns"
    assert format_size(64 << 20) == "64 MiB"
    assert format_size(1_000_001) == "1000001 B"
