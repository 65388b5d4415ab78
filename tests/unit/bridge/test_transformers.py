"""Messages: exactly the contract's JSON, the UNS preset, sizes kept, nothing lost; and topics from templates."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost.bridge.transformers import Origin, Samples, TopicTemplate, make_encoder
from bifrost.bridge.transformers.json import JsonEncoder
from bifrost.bridge.transformers.topics import escape, split_name
from bifrost.bridge.transformers.uns import UnsEncoder
from bifrost.core.clock import parse_time_ns
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.device_url import parse_url
from bifrost.core.errors import ConfigError
from bifrost.core.status import StatusCode

ORIGIN = Origin("line-3", "plant", "5e0a")
SOURCE_NS = parse_time_ns("2026-11-22T09:00:00.123456Z")
SERVER_NS = parse_time_ns("2026-11-22T09:00:00.131022Z")
DEFAULT_TOPIC = "bifrost/${gateway}/${device}"


def samples(*rows, unsynchronised=b""):
    """Samples of `(tag, value)` rows, good, all at the contract's times."""
    tags, values = zip(*rows, strict=True)
    count = len(rows)
    return Samples(tags, values, [0] * count, [SOURCE_NS] * count, [SERVER_NS] * count, unsynchronised)


def encoder(topic=DEFAULT_TOPIC, message_bytes_max=65_536, kind=JsonEncoder):
    return kind(ORIGIN, topic, message_bytes_max)


def test_a_message_is_byte_for_byte_the_contract_s():
    (record,) = encoder().encode(1841, samples(("boiler.steam.temperature", 21.5)))
    assert record.payload.decode() == (
        '{"gateway":"line-3","device":"boiler","stream":"plant","seq":1841,"samples":['
        '{"tag":"steam.temperature","value":21.5,"quality":"Good","source_time":"2026-11-22T09:00:00.123456Z",'
        '"server_time":"2026-11-22T09:00:00.131022Z"}]}'
    )
    assert record[:1] + record[2:] == (1841, "bifrost/line-3/boiler", "5e0a/plant/1841", "application/json", 1)


def test_numbers_that_json_has_not_are_null_and_keep_their_quality():
    columns = samples(("a.x", math.nan), ("a.y", math.inf), ("a.z", [1.0, -math.inf]), ("a.lost", None))
    (record,) = encoder().encode(1, columns._replace(statuses=[StatusCode.BadOutOfRange, 0, 0, 0x8FFF0000]))
    found = json.loads(record.payload)["samples"]
    assert [sample["value"] for sample in found] == [None, None, [1.0, None], None]
    assert [sample["quality"] for sample in found] == ["BadOutOfRange", "Good", "Good", "0x8FFF0000"]


def test_values_of_each_type_are_kept_exactly():
    values = [True, -(1 << 63), (1 << 64) - 1, 0.1, 'wörd "x"', [1, 2], []]
    (record,) = encoder().encode(1, samples(*((f"a.t{number}", value) for number, value in enumerate(values))))
    assert [sample["value"] for sample in json.loads(record.payload)["samples"]] == values


def test_a_clock_that_is_not_synchronised_is_said_where_it_was_so():
    (record,) = encoder().encode(1, samples(("a.x", 1), ("a.y", 2), unsynchronised=b"\0\1"))
    first, second = json.loads(record.payload)["samples"]
    assert "clock" not in first
    assert second["clock"] == "unsynchronised"


def test_each_device_has_a_message_and_names_that_differ():
    records = encoder().encode(7, samples(("a.x", 1), ("b.x", 2), ("a.x", 3)))
    assert [record.topic for record in records] == ["bifrost/line-3/a", "bifrost/line-3/b"]
    assert [record.identity for record in records] == ["5e0a/plant/7", "5e0a/plant/8"]
    assert [record.samples_count for record in records] == [2, 1]
    assert [sample["value"] for sample in json.loads(records[0].payload)["samples"]] == [1, 3]


def test_a_topic_with_the_tag_makes_a_message_per_tag():
    records = encoder("p/${device}/${tag}").encode(7, samples(("a.g.x", 1), ("a.h.x", 2), ("a.g.x", 3)))
    assert [record.topic for record in records] == ["p/a/g.x", "p/a/h.x"]
    assert json.loads(records[0].payload)["samples"][0]["tag"] == "g.x"
    assert [record.samples_count for record in records] == [2, 1]


def test_a_topic_with_the_group_makes_a_message_per_group():
    records = encoder("p/${device}/${group}").encode(7, samples(("a.g.x", 1), ("a.y", 2), ("a.g.z", 3)))
    assert [record.topic for record in records] == ["p/a/g", "p/a"]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(), st.text(max_size=40)), min_size=1, max_size=60),
    st.integers(150, 2_000),
    st.sampled_from([DEFAULT_TOPIC, "p/${device}/${tag}", "p/all"]),
)
def test_messages_keep_to_the_size_and_lose_nothing(rows, message_bytes_max, topic):
    columns = samples(*((f"{device}.t{number % 3}", text) for device, number, text in rows))
    records = encoder(topic, message_bytes_max).encode(3, columns)
    found = {}
    for record in records:
        message = json.loads(record.payload)
        assert len(message["samples"]) == record.samples_count
        assert len(record.payload) <= message_bytes_max or record.samples_count == 1
        for sample in message["samples"]:
            found.setdefault(f"{message['device']}.{sample['tag']}", []).append(sample["value"])
    expected = {}
    for tag, value in zip(columns.tags, columns.values, strict=True):
        expected.setdefault(tag, []).append(value)
    assert found == expected
    assert len({record.identity for record in records}) == len(records)


def test_uns_has_a_topic_and_a_small_message_per_tag():
    columns = samples(("boiler.steam.temperature", 21.5), ("boiler.level", None), unsynchronised=b"\0\1")
    records = encoder("acme/hall-1/${device}", kind=UnsEncoder).encode(5, columns)
    assert [record.topic for record in records] == ["acme/hall-1/boiler/steam/temperature", "acme/hall-1/boiler/level"]
    assert records[0].payload == b'{"value":21.5,"quality":"Good","source_time":"2026-11-22T09:00:00.123456Z"}'
    assert json.loads(records[1].payload)["clock"] == "unsynchronised"
    assert [record.identity for record in records] == ["5e0a/plant/5", "5e0a/plant/6"]


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("${gateway}/x", "line-3/x"),
        ("a-${device}.${tag}/v", "a-d.g.t/v"),
        ("${device}/${group}/${tag}", "d/g/t"),
        ("${group}${device}", "gd"),
        ("$aws/rules/r/${device}", "$aws/rules/r/d"),
    ],
)
def test_templates_are_filled(template, topic):
    assert TopicTemplate(template, "line-3").topic("d", "g", "t") == topic


def test_the_level_of_an_empty_group_is_left_out():
    assert TopicTemplate("${device}/${group}/${tag}", "g").topic("d", "", "t") == "d/t"
    assert TopicTemplate("${device}/x${group}/${tag}", "g").topic("d", "", "t") == "d/x/t"


@pytest.mark.parametrize("template", ["", "a/+/b", "a/#", "a\0b", "a\nb", "a/${what}", "x" * 65_600])
def test_what_can_never_be_a_topic_is_refused(template):
    with pytest.raises(ValueError):
        TopicTemplate(template, "g")


@given(st.text(max_size=20), st.text(max_size=20))
def test_escaped_names_are_one_level_and_differ(one, other):
    for name in (one, other):
        assert not set("/+#") & set(escape(name))
        assert not any(ord(character) < 32 for character in escape(name))
    assert (one == other) == (escape(one) == escape(other))


def test_names_are_split_at_the_first_two_dots():
    assert split_name("d.t") == ("d", "", "t")
    assert split_name("d.g.t") == ("d", "g", "t")


def test_an_uplink_gets_the_encoder_it_asks_for():
    uplink = UplinkConfig(name="plant", url=parse_url("mqtt://broker"))
    assert isinstance(make_encoder(uplink, "g", "s"), JsonEncoder)
    assert isinstance(make_encoder(UplinkConfig(name="plant", url=uplink.url, payload="uns"), "g", "s"), UnsEncoder)
    with pytest.raises(ConfigError, match=r"uplink\.plant\.topic"):
        make_encoder(UplinkConfig(name="plant", url=uplink.url, topic="a/#"), "g", "s")
