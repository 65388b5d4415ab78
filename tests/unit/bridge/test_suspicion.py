"""A message is guilty only when tries fail at it, however it is cut, and not at the one after it."""

from __future__ import annotations

import sys

from bifrost.bridge.suspicion import Suspicion


def failing(suspicion: Suspicion, *sequences: int | None) -> Suspicion:
    for sequence in sequences:
        suspicion.failed(sequence)
    return suspicion


def test_from_the_second_failure_on_records_go_out_alone():
    suspicion = failing(Suspicion(), 7)
    assert not suspicion.is_alone
    failing(suspicion, 7)
    assert suspicion.is_alone
    suspicion.answered(7)
    assert not suspicion.is_alone


def test_try_that_fails_with_nothing_out_says_nothing():
    assert not failing(Suspicion(), 7, None, None, None).is_alone


def test_failure_at_another_record_begins_anew():
    assert not failing(Suspicion(), 7, 7, 7, 7, 8).is_alone


def test_suspect_is_guilty_only_when_another_passes_and_it_does_not_in_two_more_tries():
    suspicion = failing(Suspicion(), 7, 7, 7, 7)
    assert suspicion.suspect_sequence == 0
    failing(suspicion, 7)
    assert (suspicion.suspect_sequence, suspicion.is_guilty) == (7, False)
    suspicion.hold()
    assert suspicion.held_sequence == 7
    suspicion.answered(8)
    assert (suspicion.held_sequence, suspicion.suspect_sequence, suspicion.is_guilty) == (0, 7, False)
    suspicion.hold()
    assert suspicion.held_sequence == 0, "that others pass is known"
    assert not failing(suspicion, 7).is_guilty
    assert failing(suspicion, 7).is_guilty


def test_destination_at_which_every_try_fails_convicts_nobody_and_shortens_nothing():
    suspicion = Suspicion()
    for _ in range(100):
        failing(suspicion, 8 if suspicion.held_sequence else 7)
        if suspicion.suspect_sequence:
            suspicion.shorten(suspicion.payload_bytes_max // 4)
            suspicion.hold()
        assert not suspicion.is_guilty
    failing(suspicion, 9)
    assert suspicion.payload_bytes_max == sys.maxsize


def test_length_at_which_the_suspect_passes_is_kept():
    suspicion = failing(Suspicion(), 7, 7, 7, 7, 7)
    suspicion.shorten(100)
    suspicion.answered(7)
    failing(suspicion, 9, 9, 9, 9, 9)
    suspicion.shorten(10)
    suspicion.clear()
    assert suspicion.payload_bytes_max == 100


def test_suspect_that_was_dropped_meanwhile_is_forgotten():
    suspicion = failing(Suspicion(), 7, 7)
    suspicion.answered(9)
    assert not suspicion.is_alone


def test_answer_to_an_earlier_record_says_nothing_about_the_suspect():
    suspicion = failing(Suspicion(), 7, 7)
    suspicion.answered(6)
    assert suspicion.is_alone


def test_later_record_that_passes_beside_it_does_not_clear_it():
    """The destination asks for one again, and takes those sent with it."""
    suspicion = Suspicion()
    for _ in range(2):
        suspicion.answered(8)
        suspicion.answered(9)
        suspicion.failed(7)
    assert suspicion.is_alone
