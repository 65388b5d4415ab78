"""Engineering units: from what a person writes (``°C``, ``m3/h``, ``kWh``) to what OPC UA clients compare.

OPC UA names a unit by a number, which is its UNECE Recommendation 20 code read as a big-endian number: ``CEL`` is
0x43454C = 4408652 (OPC 10000-8, 5.6.3.3). A unit that is not listed here is shown as it was written: as a code if it
looks like one (two or three capitals and digits), else as a text without a number.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

__all__ = ["NO_UNIT_ID", "UNITS", "Unit", "find_unit", "unit_id"]

NO_UNIT_ID: Final = -1
"""`Unit.id` of a unit that has no UNECE code; OPC 10000-8, 5.6.3.3."""

_CODE = re.compile(r"[A-Z0-9]{2,3}")


class Unit(NamedTuple):
    """A unit as clients see it.

    Attributes:
        code: UNECE Recommendation 20 code; empty if there is none.
        id: Its number; `NO_UNIT_ID` if there is none.
        text: How it is shown.
    """

    code: str
    id: int
    text: str


# Code: how it is shown, then other spellings (\u2126 is the ohm sign of some keyboards). Source: UNECE Recommendation 20,
# in the spelling of the OPC Foundation's list.
UNITS: Final[dict[str, tuple[str, ...]]] = {
    # temperature, ratio
    "CEL": ("°C", "degC", "℃", "ºC"),
    "FAH": ("°F", "degF", "℉", "ºF"),
    "KEL": ("K",),
    "P1": ("%", "percent"),
    "NX": ("‰",),
    "59": ("ppm",),
    "61": ("ppb",),
    "Q30": ("pH",),
    "NTU": ("NTU",),
    "C62": ("1",),
    "H87": ("pcs", "pc", "piece", "pieces"),
    # pressure
    "BAR": ("bar",),
    "MBR": ("mbar",),
    "PAL": ("Pa",),
    "A97": ("hPa",),
    "KPA": ("kPa",),
    "MPA": ("MPa",),
    "PS": ("psi", "PSI"),
    "ATM": ("atm",),
    "HN": ("mmHg",),
    "F79": ("inHg",),
    "HP": ("mmH₂O", "mmH2O"),
    "C56": ("N/mm²", "N/mm2"),
    # length, area, volume, angle
    "MTR": ("m",),
    "DMT": ("dm",),
    "CMT": ("cm",),
    "MMT": ("mm",),
    "4H": ("µm", "μm", "um"),
    "KMT": ("km",),
    "INH": ("in", "inch"),
    "FOT": ("ft",),
    "MTK": ("m²", "m2"),
    "CMK": ("cm²", "cm2"),
    "MMK": ("mm²", "mm2"),
    "MTQ": ("m³", "m3"),
    "CMQ": ("cm³", "cm3"),
    "LTR": ("l", "L"),
    "MLT": ("ml", "mL"),
    "HLT": ("hl", "hL"),
    "GLL": ("gal",),
    "DD": ("°", "deg"),
    "C81": ("rad",),
    # flow
    "MQH": ("m³/h", "m3/h"),
    "G53": ("m³/min", "m3/min"),
    "MQS": ("m³/s", "m3/s"),
    "G52": ("m³/d", "m3/d"),
    "E32": ("l/h", "L/h"),
    "L2": ("l/min", "L/min"),
    "G51": ("l/s", "L/s"),
    "41": ("ml/min", "mL/min"),
    "G2": ("gal/min", "gpm"),
    "2L": ("ft³/min", "ft3/min", "cfm"),
    # mass, mass flow, concentration, density
    "KGM": ("kg",),
    "GRM": ("g",),
    "MGM": ("mg",),
    "TNE": ("t",),
    "LBR": ("lb",),
    "E93": ("kg/h",),
    "F31": ("kg/min",),
    "KGS": ("kg/s",),
    "E18": ("t/h",),
    "F29": ("g/s",),
    "KMQ": ("kg/m³", "kg/m3"),
    "A93": ("g/m³", "g/m3"),
    "GP": ("mg/m³", "mg/m3"),
    "GQ": ("µg/m³", "μg/m³", "ug/m3"),
    "23": ("g/cm³", "g/cm3"),
    "B35": ("kg/l", "kg/L"),
    "GL": ("g/l", "g/L"),
    "M1": ("mg/l", "mg/L"),
    "C34": ("mol",),
    "C38": ("mol/l", "mol/L"),
    # time, frequency, motion
    "SEC": ("s", "sec"),
    "C26": ("ms",),
    "B98": ("µs", "μs", "us"),
    "MIN": ("min",),
    "HUR": ("h", "hr"),
    "DAY": ("d", "day", "days"),
    "HTZ": ("Hz",),
    "KHZ": ("kHz",),
    "MHZ": ("MHz",),
    "RPM": ("rpm", "r/min", "1/min", "min⁻¹"),
    "RPS": ("r/s",),
    "C97": ("1/s", "s⁻¹"),
    "MTS": ("m/s",),
    "2X": ("m/min",),
    "KMH": ("km/h",),
    "C16": ("mm/s",),
    "H81": ("mm/min",),
    "MSK": ("m/s²", "m/s2"),
    "E96": ("°/s", "deg/s"),
    # electricity
    "AMP": ("A",),
    "4K": ("mA",),
    "B84": ("µA", "μA", "uA"),
    "B22": ("kA",),
    "VLT": ("V",),
    "2Z": ("mV",),
    "KVT": ("kV",),
    "OHM": ("Ω", "\u2126", "ohm", "Ohm"),
    "E45": ("mΩ", "m\u2126"),
    "B49": ("kΩ", "k\u2126", "kohm"),
    "B75": ("MΩ", "M\u2126", "Mohm"),
    "FAR": ("F",),
    "4O": ("µF", "μF", "uF"),
    "81": ("H",),
    "C14": ("mH",),
    "D33": ("T",),
    "AMH": ("Ah", "A·h"),
    "G42": ("µS/cm", "μS/cm", "uS/cm"),
    "H61": ("mS/cm",),
    # power, energy
    "WTT": ("W",),
    "C31": ("mW",),
    "KWT": ("kW",),
    "MAW": ("MW",),
    "A90": ("GW",),
    "D46": ("VA", "V·A"),
    "KVA": ("kVA", "kV·A"),
    "MVA": ("MVA", "MV·A"),
    "D44": ("var", "VAr"),
    "KVR": ("kvar", "kVAr"),
    "MAR": ("Mvar", "MVAr"),
    "WHR": ("Wh", "W·h"),
    "KWH": ("kWh", "kW·h"),
    "MWH": ("MWh", "MW·h"),
    "GWH": ("GWh", "GW·h"),
    "C79": ("kVAh",),
    "K3": ("kvarh", "kvar·h"),
    "JOU": ("J",),
    "KJO": ("kJ",),
    "3B": ("MJ",),
    "GV": ("GJ",),
    "D54": ("W/m²", "W/m2"),
    # force, viscosity, light, sound
    "NEW": ("N",),
    "B47": ("kN",),
    "NU": ("Nm", "N·m"),
    "C65": ("Pa·s", "Pa s"),
    "C24": ("mPa·s", "mPa s", "cP"),
    "C17": ("mm²/s", "mm2/s", "cSt"),
    "LUX": ("lx", "lux"),
    "LUM": ("lm",),
    "2N": ("dB",),
    "DBM": ("dBm",),
}


def find_unit(text: str) -> Unit:
    """The unit that `text` means: a common name or a code of `UNITS`, else any code, else the text itself.

    Args:
        text: As configured, not empty; case counts (``mW`` is not ``MW``).
    """
    known = _by_spelling().get(text)
    if known is not None:
        return known
    if _CODE.fullmatch(text):
        return Unit(text, unit_id(text), text)
    return Unit("", NO_UNIT_ID, text)


def unit_id(code: str) -> int:
    """The number of a UNECE code: its characters as the bytes of a big-endian number (OPC 10000-8, 5.6.3.3)."""
    return int.from_bytes(code.encode("ascii"), "big")


@cache
def _by_spelling() -> dict[str, Unit]:
    """All spellings. A name goes before a code: ``MS`` is no code here, but ``23`` and ``NTU`` are both."""
    units = {code: Unit(code, unit_id(code), names[0]) for code, names in UNITS.items()}
    names = {name: units[code] for code, names in UNITS.items() for name in names}
    return units | names
