"""Limits: their relations, the sum of memory, and that each says what happens at the limit."""

import pytest

from bifrost.core.errors import LimitError
from bifrost.core.limits import Limits, Region, limit_infos


class Sizes:
    """A native core with round numbers."""

    def table_bytes(self, tags: int, cells_bytes: int, ring_changes: int, ring_body_bytes: int) -> int:
        return 32 * tags + cells_bytes + 32 * ring_changes + ring_body_bytes

    def engine_bytes(self, links: int, window: int, frame_bytes: int, tags: int, queued: int) -> int:
        return links * window * frame_bytes + tags + queued


def test_every_limit_says_what_happens_and_has_a_default_in_its_range():
    infos = limit_infos()
    assert list(infos) == list(Limits.__struct_fields__)
    small = Limits.small()
    for name, info in infos.items():
        assert info.meaning.endswith(".")
        assert len(info.at_limit) > 10
        assert info.low <= getattr(small, name) <= info.high


def test_gateway_limits_have_room_for_a_quarter_more_tags():
    limits = Limits.for_gateway(100_000, links_configured=1_000)
    assert limits.tags_count_max == 125_000
    assert limits.ring_changes_count == 250_000
    assert limits.links_count_max == 1_250


def test_chosen_limits_win_and_the_ring_follows_the_tags():
    limits = Limits.for_gateway(10, chosen={"tags_count_max": 12_000, "window_max": 4})
    assert (limits.tags_count_max, limits.ring_changes_count, limits.window_max) == (12_000, 24_000, 4)


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ({"tags_count_max": 5}, "tags_count_max"),
        ({"links_count_max": 1}, "links_count_max"),
        ({"ring_changes_count": 64}, "ring_changes_count"),
        ({"write_queue_count_max": 2}, "write_queue_count_max"),
    ],
)
def test_a_chosen_limit_that_cannot_hold_is_refused_by_name(chosen, name):
    with pytest.raises(LimitError) as caught:
        Limits.for_gateway(50, links_configured=2, chosen=chosen)
    assert caught.value.name == name


def test_memory_is_the_sum_of_all_regions():
    limits = Limits.small()
    others = (Region("outbox", 1_000, "records waiting: outbox_bytes_max"),)
    regions = limits.regions(Sizes(), others)
    assert [region.name for region in regions] == [
        "table",
        "engine",
        "tag columns",
        "write queue",
        "control socket",
        "http",
        "outbox",
    ]
    assert limits.memory_bytes(Sizes(), others) == sum(region.bytes for region in regions)
    assert limits.require_memory(Sizes(), others) == limits.memory_bytes(Sizes(), others)


def test_what_does_not_fit_is_refused_with_the_largest_region():
    limits = Limits.for_gateway(10, chosen={"memory_bytes_max": 1 << 20, "cell_bytes": 8 << 20})
    with pytest.raises(LimitError, match="the largest region is 'table'") as caught:
        limits.require_memory(Sizes())
    assert caught.value.name == "memory_bytes_max"
