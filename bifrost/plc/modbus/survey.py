"""Which items a Modbus device has: asked block by block, reading only. Pure: it yields requests and is sent answers.

A block that answers is there as a whole. Of one that is refused, the longest beginning that answers is searched by halving; where
not even the first item is there, one item is asked every `step` items until something answers, and from there backwards to where it
begins. So a gap costs one request for `step` items, and a range shorter than that may be missed if it begins at no multiple of it.

Number of requests and areas are bounded by the caller, and items in forbidden ranges are never asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

import msgspec

from bifrost.plc.modbus.address import AddressRange, Table
from bifrost.plc.modbus.frame import READ_COUNT_MAX, READ_FUNCTIONS, Answer, ExceptionCode, ReadRequest, unpack_bits

__all__ = ["Area", "Survey", "survey_device"]

_SILENT_MAX: Final = 2  # Answers missing one after the other; a third try would not help.

Asking = Generator[ReadRequest, Answer | None, None]


class Area(msgspec.Struct):
    """Items that are there, one after the other.

    Attributes:
        table: Their table.
        first: Offset of the first.
        values: 0 or 1 for bits, 0 to 65,535 for registers.
    """

    table: Table
    first: int
    values: list[int]

    @property
    def range(self) -> AddressRange:
        """From the first to the last."""
        return AddressRange(self.table, self.first, self.first + len(self.values) - 1)


class Survey(msgspec.Struct):
    """What was found so far.

    Attributes:
        areas: What is there, in the order looked at.
        refused: Tables that the device does not know at all, with the exception code.
        unseen: What was not looked at, because the requests were used up or the device fell silent.
        requests: Asked so far.
        is_silent: Whether the device stopped answering.
    """

    areas: list[Area] = []
    refused: dict[Table, int] = {}
    unseen: list[AddressRange] = []
    requests: int = 0
    is_silent: bool = False


class _EndedError(Exception):
    """No further request: they are used up, or nobody answers."""


class _RefusedError(Exception):
    """The device does not know the function."""


def survey_device(
    wanted: Sequence[AddressRange], forbidden: Sequence[AddressRange], *, step: int, requests_max: int, survey: Survey
) -> Asking:
    """Looks at `wanted`; each yielded request is to be sent, and its answer handed in: None where there was none.

    Args:
        wanted: Where to look.
        forbidden: Never asked for.
        step: Items between two questions in a gap, 1 or more.
        requests_max: Most requests.
        survey: Gets what is found.
    """
    for number, area in enumerate(wanted):
        looker = _Looker(area, [one for one in forbidden if one.table is area.table], step, requests_max, survey)
        try:
            yield from looker.look()
        except _RefusedError:
            pass
        except _EndedError:
            left = AddressRange(area.table, looker.position, area.last)
            survey.unseen = [left, *wanted[number + 1 :]]
            return


class _Looker:
    """One area of one table."""

    def __init__(
        self, area: AddressRange, forbidden: Sequence[AddressRange], step: int, requests_max: int, survey: Survey
    ) -> None:
        self.position = area.first
        self._area, self._forbidden, self._step = area, forbidden, step
        self._requests_max, self._survey = requests_max, survey
        self._function = READ_FUNCTIONS[area.table]
        self._block = READ_COUNT_MAX[self._function]
        self._silent = 0
        self._values: list[int] = []

    def look(self) -> Asking:
        """From the first item to the last."""
        in_gap = False
        while self.position <= self._area.last:
            barred = next((one for one in self._forbidden if one.first <= self.position <= one.last), None)
            if barred is not None:
                self.position, in_gap = barred.last + 1, False
                continue
            if in_gap:
                yield from self._look_back()
                in_gap = not self._values
            else:
                yield from self._block_here()
                in_gap = not self._values
            if in_gap:
                self.position += self._step - self.position % self._step

    def _block_here(self) -> Asking:
        """The longest run from here; an empty `_values` if nothing is here."""
        count = self._room(self.position)
        yield from self._ask(self.position, count)
        while not self._values and count > 1 and self._code == ExceptionCode.ILLEGAL_DATA_VALUE:
            count = self._block = count // 2  # It takes no longer reads.
            yield from self._ask(self.position, count)
        if not self._values and count > 1:
            yield from self._halve(count)
        if self._values:
            self._keep(self.position, self._values)
            self.position += len(self._values)

    def _halve(self, absent: int) -> Asking:
        """The longest beginning that answers, given that `absent` items do not."""
        yield from self._ask(self.position, 1)
        present, longest = len(self._values), self._values
        while present and absent - present > 1:
            middle = (present + absent) // 2
            yield from self._ask(self.position, middle)
            if self._values:
                present, longest = middle, self._values
            else:
                absent = middle
        self._values = longest

    def _look_back(self) -> Asking:
        """One item here; if it is there, those before it that the step jumped over."""
        here = self.position
        yield from self._ask(here, 1)
        if not self._values:
            return
        found = self._values
        first = here
        lowest = max(
            self._area.first, here - self._step + 1, *(one.last + 1 for one in self._forbidden if one.last < here), 0
        )
        while first > lowest:
            yield from self._ask(first - 1, 1)
            if not self._values:
                break
            first -= 1
            found = self._values + found
        self._keep(first, found)
        self.position = here + 1
        self._values = found

    def _room(self, first: int) -> int:
        """How many items may be asked for from `first` on."""
        barred = (one.first - first for one in self._forbidden if one.first > first)
        return min(self._block, self._area.last - first + 1, *barred)

    def _ask(self, first: int, count: int) -> Asking:
        """Sets `_values` to what is there, or to nothing and `_code` to why."""
        while True:
            if self._survey.requests >= self._requests_max:
                raise _EndedError
            self._survey.requests += 1
            answer = yield ReadRequest(self._function, first, count)
            if answer is not None:
                break
            self._silent += 1
            if self._silent == _SILENT_MAX:
                self._survey.is_silent = True
                raise _EndedError
        self._silent = 0
        self._code = answer.exception
        if answer.exception == ExceptionCode.ILLEGAL_FUNCTION:
            self._survey.refused[self._area.table] = answer.exception
            raise _RefusedError
        self._values = [] if answer.exception else self._decode(answer.data, count)

    def _decode(self, data: bytes, count: int) -> list[int]:
        if self._area.table.is_bits:
            return [int(bit) for bit in unpack_bits(data, count)]
        return [int.from_bytes(data[index : index + 2]) for index in range(0, 2 * count, 2)]

    def _keep(self, first: int, values: list[int]) -> None:
        last = self._survey.areas[-1] if self._survey.areas else None
        if last is not None and last.table is self._area.table and last.first + len(last.values) == first:
            last.values += values
        else:
            self._survey.areas.append(Area(self._area.table, first, list(values)))
