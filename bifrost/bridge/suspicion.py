"""Whether one message is why nothing gets on: brokers end the connection at a message that they will not take, and need not say why.

A message that every try fails at would block its stream for ever; a destination at which every try fails would have all of
its messages thrown away, if each were held to be the cause. So:

1. Tries fail, one after the other, with the same record as the first without an answer: the connection ends, or the
   destination asks for it again. From the second time on records go out *one at a time*, so that it is known which one
   was out. After several times it is the *suspect*.
2. It is sent in shorter and shorter parts: most probably it is too long. If that helps, nothing longer is sent any more.
3. Cut as far as it goes, it is held back, and the record after it is sent. If that try fails too, it is the
   destination's fault: lengths are what they were, and everything begins anew.
4. If the other record is answered, the suspect is sent again. If the tries go on failing, it is *guilty*.

Pure: no clock, no task, no message.
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["Suspicion"]

_FAILURES_ALONE: Final = 2
_FAILURES_SUSPECT: Final = 5  # With the usual delays between tries: half a minute.
_FAILURES_GUILTY: Final = _FAILURES_SUSPECT + 2


class Suspicion:
    """What is known about one destination, try after try.

    Attributes:
        payload_bytes_max: Longest message that it seems to take.
        held_sequence: The record that is held back, so that the one after it can be tried; 0: none.
    """

    def __init__(self) -> None:
        self.payload_bytes_max = sys.maxsize
        self.held_sequence = 0
        self._bytes_max_before = sys.maxsize
        self._sequence = 0
        self._failures_count = 0
        self._others_pass = False

    @property
    def is_alone(self) -> bool:
        """Whether one record at a time is to be sent."""
        return self._failures_count >= _FAILURES_ALONE

    @property
    def suspect_sequence(self) -> int:
        """The record that tries fail at; 0: none."""
        return self._sequence if self._failures_count >= _FAILURES_SUSPECT else 0

    @property
    def is_guilty(self) -> bool:
        """Whether they fail at the suspect alone, however it is cut."""
        return self._others_pass and self._failures_count >= _FAILURES_GUILTY

    def answered(self, sequence: int) -> None:
        """The destination has answered a record, whatever it said."""
        if self.held_sequence and sequence != self._sequence:
            self.held_sequence = 0
            self._others_pass = True
            self._failures_count = _FAILURES_SUSPECT
        elif sequence == self._sequence:
            self._forget()
        elif sequence > self._sequence and self.is_alone:  # In its turn: the suspect was dropped meanwhile.
            self.clear()

    def failed(self, first_out_sequence: int | None) -> None:
        """A try has failed; the first record without an answer, or None when all had theirs."""
        if first_out_sequence is None:
            return
        if self.held_sequence:
            self.clear()
        elif first_out_sequence == self._sequence:
            self._failures_count += 1
        else:
            self.clear()
            self._sequence, self._failures_count = first_out_sequence, 1

    def shorten(self, payload_bytes_max: int) -> None:
        """The suspect is sent in parts of this length: twice, since what was out before may come in between."""
        self.payload_bytes_max = payload_bytes_max
        self._failures_count = _FAILURES_SUSPECT - 2

    def hold(self) -> None:
        """The suspect is held back until it is known whether others pass, unless that is known already."""
        if not self._others_pass:
            self.held_sequence = self._sequence

    def clear(self) -> None:
        """There is no suspect any more; what was shortened because of it is as long as before."""
        self.payload_bytes_max = self._bytes_max_before
        self._forget()

    def _forget(self) -> None:
        self._bytes_max_before = self.payload_bytes_max
        self.held_sequence = self._sequence = self._failures_count = 0
        self._others_pass = False
