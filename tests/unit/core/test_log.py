"""Logging: the form of a line, the rate limit, and that secrets do not show."""

import io
import logging

import pytest

from bifrost.core import log
from bifrost.core.log import fields, set_up_logging
from bifrost.core.secrets import Secrets

_S = 1_000_000_000


class Lines:
    """A logger that writes into a text, on a clock that a test moves."""

    def __init__(self):
        self.now_ns = 0
        self.stream = io.StringIO()
        self.guard = set_up_logging(
            self.stream, level="info", now_ns=lambda: self.now_ns, utc_ns=lambda: self.now_ns, lines_per_second=2
        )
        self.log = logging.getLogger("bifrost.test")

    def take(self):
        lines = self.stream.getvalue().splitlines()
        self.stream.truncate(0)
        self.stream.seek(0)
        return lines


@pytest.fixture
def lines():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Lines()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_has_time_level_message_and_fields(lines):
    lines.log.debug("not shown")
    lines.log.warning("link lost", extra=fields(device="boiler 1", tries=3, delay_s=0.25, raw='a"b\\\n'))
    (line,) = lines.take()
    assert line == (
        'time=1970-01-01T00:00:00.000000Z level=warning logger=bifrost.test msg="link lost"'
        ' device="boiler 1" tries=3 delay_s=0.25 raw="a\\"b\\\\\\x0a"'
    )


def test_a_traceback_is_one_field_of_one_line(lines):
    try:
        raise ValueError("no")
    except ValueError:
        lines.log.exception("failed")
    (line,) = lines.take()
    assert 'traceback="Traceback' in line
    assert "\\x0a" in line


def test_lines_over_the_rate_are_counted_and_told_with_the_next(lines):
    for _ in range(5):
        lines.log.info("flapping %s", "link")
    lines.log.info("other")
    assert len(lines.take()) == 3
    assert lines.guard.suppressed_count == 3
    lines.now_ns += _S
    lines.log.info("flapping %s", "link", extra=fields(device="x"))
    assert lines.take()[0].endswith('msg="flapping link" device=x suppressed=3')


def test_rates_of_no_more_than_256_messages_are_watched(lines):
    for number in range(300):
        lines.log.info(f"message {number}")  # noqa: G004  # the point: a program that formats its messages
    assert len(lines.take()) == 256 + 2


def test_secrets_and_telling_names_do_not_show(lines, monkeypatch):
    secrets = Secrets()
    monkeypatch.setattr(log, "SECRETS", secrets)
    secrets.hide('hun"ter\\22')  # which the form of a line would escape
    lines.log.info('connecting with hun"ter\\22', extra=fields(password="x1", api_token="x2", said='no hun"ter\\22'))
    (line,) = lines.take()
    assert 'msg="connecting with ***"' in line
    assert 'password="***" api_token="***" said="no ***"' in line


def test_without_a_clock_the_journal_adds_the_time():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        set_up_logging(stream, level="info", now_ns=lambda: 0, utc_ns=None, lines_per_second=9)
        logging.getLogger("x").info("started")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert stream.getvalue() == "level=info logger=x msg=started\n"
