"""Engineering units: every spelling means one unit, and numbers are those that OPC UA clients know.

The numbers compared with are worked examples of the OPC Foundation's list, not computed here.
"""

import pytest

from bifrost.opcua.units import NO_UNIT_ID, UNITS, Unit, find_unit


@pytest.mark.parametrize(
    ("text", "code", "number", "shown"),
    [
        ("°C", "CEL", 4408652, "°C"),
        ("degC", "CEL", 4408652, "°C"),
        ("CEL", "CEL", 4408652, "°C"),
        ("m3/h", "MQH", 5067080, "m³/h"),
        ("kWh", "KWH", 4937544, "kWh"),
        ("%", "P1", 20529, "%"),
        ("59", "59", 13625, "ppm"),
        ("bar", "BAR", 4342098, "bar"),
        ("rpm", "RPM", 5394509, "rpm"),
        ("Ω", "OHM", 5195853, "Ω"),
        ("μS/cm", "G42", 4666418, "µS/cm"),
        ("NTU", "NTU", 5133397, "NTU"),
    ],
)
def test_names_and_codes_lead_to_the_number_of_the_standard(text, code, number, shown):
    assert find_unit(text) == Unit(code, number, shown)


def test_letters_keep_their_case():
    assert find_unit("mW").code == "C31"
    assert find_unit("MW").code == "MAW"


def test_code_that_is_not_listed_is_taken_as_it_is():
    assert find_unit("E14") == Unit("E14", 0x453134, "E14")


def test_unknown_text_is_shown_without_a_number():
    assert find_unit("bottles") == Unit("", NO_UNIT_ID, "bottles")


def test_no_spelling_means_two_units():
    spellings = [name for names in UNITS.values() for name in names]
    assert len(spellings) == len(set(spellings))
    assert len(UNITS) >= 80
