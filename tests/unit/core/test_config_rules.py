"""Rules: each says what is allowed, and what it refuses it refuses with ValueError and never anything else."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost.core import config_rules as rules
from bifrost.core.config_sections import (
    BufferConfig,
    DeviceConfig,
    GatewayConfig,
    HttpConfig,
    OpcUaConfig,
    UplinkConfig,
    keys_of,
)
from bifrost.core.config_tags import CSV_COLUMNS, TagConfig

_SECTIONS = (GatewayConfig, DeviceConfig, OpcUaConfig, UplinkConfig, BufferConfig, HttpConfig, TagConfig)
_KEYS = [spec.key for section in _SECTIONS for spec in keys_of(section).values()]
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary(max_size=3)
)
_ANYTHING = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


@pytest.mark.parametrize("key", _KEYS, ids=lambda key: key.name)
@given(value=_ANYTHING)
def test_any_value_is_taken_or_refused(key, value):
    with suppress(ValueError):
        key.rule.parse(value)


@pytest.mark.parametrize("key", _KEYS, ids=lambda key: key.name)
def test_every_key_says_what_is_allowed(key):
    assert key.rule.allowed()
    assert key.meaning.endswith(".")


def test_table_columns_are_the_keys_of_a_tag_with_its_range_in_two():
    keys = {key for key in keys_of(TagConfig) if key != "range"} | {"low", "high"}
    assert set(CSV_COLUMNS) == keys


def test_the_rule_of_all_rules_knows_nothing():
    with pytest.raises(NotImplementedError):
        rules.Rule().parse(1)
    with pytest.raises(NotImplementedError):
        rules.Rule().allowed()


def test_nearest_names_one_word_or_all():
    assert rules.nearest("scann", ["scan", "stale"]) == "; did you mean 'scan'?"
    assert rules.nearest("SCAN", ["scan", "stale"]) == "; did you mean 'scan'?"
    assert rules.nearest("x", ["scan", "stale"]) == "; allowed: scan, stale"


@pytest.mark.parametrize("name", ["a", "A-b_c 9", "x" * 64])
def test_names(name):
    assert rules.Name().parse(name) == name


@pytest.mark.parametrize(
    ("text", "endpoint"), [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("0.0.0.0:1", False)]
)
def test_loopback(text, endpoint):
    assert rules.Bind().parse(text).is_loopback is endpoint


@pytest.mark.parametrize("text", ["host", "host:", ":1", "host:x", "::1:80", "host:70000", "host:٣"])
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(ValueError):
        rules.Bind().parse(text)


def test_long_values_are_shortened_in_messages():
    with pytest.raises(ValueError, match=r"\.\.\.$"):
        rules.Integer(0, 1).parse("x" * 100)
    with pytest.raises(ValueError, match="not a table"):
        rules.Integer(0, 1).parse({"a": 1})
    with pytest.raises(ValueError, match="not true"):
        rules.Number().parse(True)
    with pytest.raises(ValueError, match="must not be empty"):
        rules.Text(empty=False).parse("")


def test_durability_of_an_outbox():
    rule = keys_of(BufferConfig)["durability"].key.rule
    for text in ("commit", "none", "interval:1 s"):
        assert rule.parse(text) == text
    for text in ("interval:", "interval:2 h", "commit:1 s", ""):
        with pytest.raises(ValueError):
            rule.parse(text)


def test_a_deadband_is_a_number_or_a_percentage():
    assert rules.Deadband().parse("1 %") == rules.Percent(1)
    assert rules.Deadband().parse(0.5) == 0.5
    for value in ("0.5", "some", "101 %", "-1 %", True, -1):
        with pytest.raises(ValueError):
            rules.Deadband().parse(value)
