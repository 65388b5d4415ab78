"""Limits of the OPC UA stack: every one of the header has a value, and what is promised is added up."""

import re
from pathlib import Path

import msgspec
import pytest

from bifrost.core.columns import TagColumns
from bifrost.core.errors import LimitError
from bifrost.core.limits import Limits, limit_infos
from bifrost.core.tag import Tag
from bifrost.opcua.memory import opcua_region, server_limits

HEADER = Path(__file__).parents[3] / "csrc" / "bifrost_ua.h"


def columns_of(count, name="tag"):
    columns = TagColumns(1_000_000)
    columns.begin_device("device")
    for number in range(count):
        columns.append(Tag(f"{name}-{number}", number + 1))
    columns.freeze()
    return columns


def test_every_limit_of_the_header_has_a_value_and_none_is_unlimited():
    (struct,) = re.findall(r"typedef struct \{([^}]*)\} bf_ua_limits;", HEADER.read_text())
    names = re.findall(r"^ *uint\d+_t (\w+);", struct, re.MULTILINE)
    assert len(names) > 25
    values = server_limits(Limits.for_gateway(100, has_opcua=True), 1 << 26)
    assert sorted(values) == sorted(names)
    assert all(value >= 1 for value in values.values())
    assert values["memory_bytes_max"] == 1 << 26


def test_lowest_and_highest_of_each_limit_fit_into_the_header():
    for name, info in limit_infos().items():
        if name.startswith("opcua_") and name != "opcua_reserve_bytes":
            assert 1 <= info.low <= info.high < 1 << 32


@pytest.mark.parametrize(
    "name",
    [
        "opcua_sessions_max",
        "opcua_monitored_items_max",
        "opcua_notifications_max",
        "opcua_reserve_bytes",
        "tags_count_max",
    ],
)
def test_more_promised_is_more_memory(name):
    limits = Limits.for_gateway(100, has_opcua=True)
    more = msgspec.structs.replace(limits, **{name: getattr(limits, name) + 1_000})
    columns = columns_of(100)
    assert opcua_region(more, columns).bytes > opcua_region(limits, columns).bytes


def test_long_names_are_counted():
    limits = Limits.for_gateway(100, has_opcua=True)
    assert opcua_region(limits, columns_of(100, "a" * 50)).bytes > opcua_region(limits, columns_of(100)).bytes


def test_ten_thousand_tags_fit_into_the_default():
    limits = Limits.for_gateway(10_000, links_configured=100, has_opcua=True)
    assert opcua_region(limits, columns_of(10_000)).bytes < limits.memory_bytes_max * 0.9


def test_sessions_without_connections_are_refused():
    with pytest.raises(LimitError) as caught:
        Limits.for_gateway(10, has_opcua=True, chosen={"opcua_sessions_max": 100})
    assert caught.value.name == "opcua_connections_max"


def test_rows_of_diagnostics_are_there_only_with_a_face():
    assert Limits.for_gateway(10, links_configured=2).diagnostics_count_max == 0
    with_face = Limits.for_gateway(10, links_configured=2, has_opcua=True)
    assert with_face.diagnostics_count_max >= 3 * 15
    assert with_face.ring_changes_count >= 2 * with_face.rows_count_max
