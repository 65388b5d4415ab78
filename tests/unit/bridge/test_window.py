"""The window never holds more than it may, forgets nothing that is out, and knows what the disk does not know yet."""

from __future__ import annotations

from bifrost.bridge.window import Window


def test_records_take_room_until_a_commit_knows_that_they_are_done_with():
    window = Window(5)
    assert (window.next_sequence, window.room(3)) == (5, 3)
    for sequence in (5, 6, 7):
        window.sent(sequence, 100)
    assert (window.room(3), window.out_count, window.out_bytes, window.next_sequence) == (0, 3, 300, 8)
    window.done(5, commits_begun=0)
    assert window.is_done(5)
    assert (window.room(3), window.out_count) == (0, 2)
    window.saved(1)
    assert not window.is_done(5)
    assert window.room(3) == 1


def test_commit_that_had_begun_before_does_not_know():
    window = Window(1)
    window.sent(1, 10)
    window.done(1, commits_begun=1)
    window.saved(1)
    assert window.is_done(1)
    window.saved(2)
    assert not window.is_done(1)


def test_rewind_begins_at_the_first_record_without_an_answer():
    window = Window(1)
    for sequence in (1, 2, 3):
        window.sent(sequence, 10)
    window.done(1, 0)
    window.done(3, 0)
    window.rewind()
    assert (window.next_sequence, window.out_count) == (2, 0)
    assert window.is_done(3)
    window.rewind()
    assert window.next_sequence == 2
