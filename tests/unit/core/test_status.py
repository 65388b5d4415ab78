"""Names of StatusCodes: all of the standard's, as another implementation has them."""

from __future__ import annotations

import pytest

from bifrost.core.status import StatusCode, status_name
from bifrost.core.status_names import STATUS_NAMES


@pytest.mark.parametrize("code", StatusCode)
def test_names_of_our_own_codes_are_the_standard_s(code):
    assert STATUS_NAMES[int(code)] == code.name == status_name(code)


def test_every_code_another_implementation_knows_has_its_name():
    codes = pytest.importorskip("asyncua.ua.status_codes").StatusCodes
    known = {value: name for name, value in vars(codes).items() if isinstance(value, int)}
    assert len(known) > 250
    assert {value: status_name(value) for value in known} == known


def test_flags_do_not_hide_the_name():
    assert status_name(0x80340000 | 0x480) == "BadNodeIdUnknown"
    assert status_name(0x480) == "Good"


def test_code_that_the_standard_has_not_is_a_number():
    assert status_name(0x8FFF0000) == "0x8FFF0000"
