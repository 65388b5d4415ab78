"""A message comes out of its record as it went in; the bytes are those of docs/reference/formats.md."""

from __future__ import annotations

import pytest

from bifrost._native import journal_records as j
from bifrost.bridge.envelope import VOID, open_envelope, seal
from bifrost.core.contracts import Record

MESSAGE = Record(7, b'{"seq":7}', "bifrost/l/ö", "store/plant/7", "application/json", 3)
BYTES = b"\x01\x0c\x00\x10bifrost/l/" + "ö".encode() + b'application/json{"seq":7}'


def kept(payload: bytes) -> j.JournalRecord:
    return j.JournalRecord(7, j.RECORD_DATA, 1, 0, j.LANE_LIVE, 3, 0, 0, payload)


def test_message_is_kept_as_the_format_says_and_comes_back():
    assert seal(MESSAGE) == BYTES
    assert open_envelope(kept(BYTES), "store", "plant") == MESSAGE


@pytest.mark.parametrize("payload", [VOID, b"\x01", b"\x02" + BYTES[1:], BYTES[:9]])
def test_record_that_is_no_message_is_refused(payload):
    with pytest.raises(ValueError, match="record 7"):
        open_envelope(kept(payload), "store", "plant")


def test_topic_and_content_type_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a topic of 65536 bytes"):
        seal(MESSAGE._replace(topic="x" * 65_536))
    with pytest.raises(ValueError, match="a content type of 256"):
        seal(MESSAGE._replace(content_type="x" * 256))
