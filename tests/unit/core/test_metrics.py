"""Metrics: a registry of fixed size and Prometheus' text."""

import pytest

from bifrost.core.errors import LimitError
from bifrost.core.metrics import Metrics


def test_series_are_shown_in_prometheus_text():
    metrics = Metrics(10)
    assert metrics.render() == ""
    polls = metrics.counter("bifrost_polls_total", "Polls, by device.", {"device": 'boi"l\\er\n'})
    polls.add()
    polls.add(2)
    assert metrics.counter("bifrost_polls_total", "Polls, by device.", {"device": 'boi"l\\er\n'}) is polls
    metrics.gauge("bifrost_device_up", "Whether it\nanswers.").set(0.5)
    metrics.watch("bifrost_buffer_bytes", "Buffered.", lambda: 7)
    metrics.watch("bifrost_buffer_bytes", "Buffered.", lambda: 8)
    metrics.watch("bifrost_read_total", "Read.", lambda: 9)
    assert metrics.render() == (
        "# HELP bifrost_polls_total Polls, by device.\n"
        "# TYPE bifrost_polls_total counter\n"
        'bifrost_polls_total{device="boi\\"l\\\\er\\n"} 3\n'
        "# HELP bifrost_device_up Whether it\\nanswers.\n"
        "# TYPE bifrost_device_up gauge\n"
        "bifrost_device_up 0.5\n"
        "# HELP bifrost_buffer_bytes Buffered.\n"
        "# TYPE bifrost_buffer_bytes gauge\n"
        "bifrost_buffer_bytes 8\n"
        "# HELP bifrost_read_total Read.\n"
        "# TYPE bifrost_read_total counter\n"
        "bifrost_read_total 9\n"
    )


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), "NaN"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (1e15, str(10**15))]
)
def test_odd_numbers(value, text):
    metrics = Metrics(1)
    metrics.gauge("bifrost_x", "x").set(value)
    assert metrics.render().endswith(f"bifrost_x {text}\n")


def test_a_full_registry_refuses_and_keeps_what_it_has():
    metrics = Metrics(1)
    metrics.counter("bifrost_a_total", "a")
    with pytest.raises(LimitError, match="series_count_max"):
        metrics.watch("bifrost_b", "b", lambda: 1)
    metrics.counter("bifrost_a_total", "a").add()


def test_wrong_names_are_refused():
    metrics = Metrics(10)
    with pytest.raises(ValueError, match="_total"):
        metrics.counter("bifrost_a", "a")
    with pytest.raises(ValueError, match="not a metric name"):
        metrics.gauge("a", "a")
    with pytest.raises(ValueError, match="not a label name"):
        metrics.gauge("bifrost_a", "a", {"A-b": "c"})
    metrics.counter("bifrost_c_total", "c")
    with pytest.raises(ValueError, match="counter already"):
        metrics.gauge("bifrost_c_total", "c")
