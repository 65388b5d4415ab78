"""What one cell of a foreign tag list means to us. Each function gives our value, or raises ValueError that says what would be right."""

from __future__ import annotations

import math
import re

from bifrost.core.datatypes import parse_type
from bifrost.gateway.importing.foreign_words import ORDERS, TABLES, TYPES

__all__ = [
    "linear_scale",
    "parse_access",
    "parse_factor",
    "parse_number",
    "parse_order",
    "parse_period",
    "parse_place",
    "parse_table",
    "parse_type_words",
]

_POINT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?[0-9]+,(?P<after>[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TIMES = re.compile(r"[x×*]\s*(?P<before>.+)|(?P<behind>.+?)\s*[x×*]", re.IGNORECASE)
_OVER = re.compile(r"(?:1\s*)?[/÷:]\s*(.+)")
_ORDER_IN_TYPE = re.compile(r"\b(ABCD|CDAB|BADC|DCBA)\b", re.IGNORECASE)
_HEX = re.compile(r"0x(?P<c>[0-9a-f]+)|(?P<asm>[0-9][0-9a-f]*)h", re.IGNORECASE)
_TABLE_DIGITS = {"co": 0, "di": 1, "ir": 3, "hr": 4}
_FUNCTIONS = {1: "co", 5: "co", 15: "co", 2: "di", 3: "hr", 6: "hr", 16: "hr", 4: "ir"}
_YES = frozenset({"rw", "w", "wo", "1", "yes", "true", "x", "y", "ja", "oui", "si", "sí", "readwrite", "write"})
_NO = frozenset({"r", "ro", "0", "no", "false", "n", "nein", "non", "read", "readonly", "subscribe", "static"})
_BASE_HINT = "say --base 0 if numbers count from 0, as in the protocol's frames, or --base 1"


def parse_number(text: str, comma: bool) -> float:
    """The number that `text` spells; ``0,1`` too.

    Args:
        text: The cell.
        comma: Whether a decimal comma is to be expected, because it is not what separates the cells.
    """
    number = math.nan
    found = _COMMA.fullmatch(text)
    if _POINT.fullmatch(text):
        number = float(text)
    elif found and not comma and len(found["after"]) == 3:
        raise ValueError(
            f"{text!r} can be {text.replace(',', '.')} or {text.replace(',', '')}: write it without the comma"
        )
    elif found:
        number = float(text.replace(",", "."))
    if not math.isfinite(number):
        raise ValueError(f"expected a number such as 0.1, not {text!r}")
    return number


def parse_factor(text: str, comma: bool) -> float:
    """A factor: a number, or ``x0.1``, ``*0.1``, ``/10``, ``1/10``."""
    times, over = _TIMES.fullmatch(text), _OVER.fullmatch(text)
    if over:
        divisor = parse_number(over[1].strip(), comma)
        if divisor == 0:
            raise ValueError(f"{text!r} divides by 0")
        return 1 / divisor
    if times:
        return parse_number((times["before"] or times["behind"]).strip(), comma)
    return parse_number(text, comma)


def linear_scale(raw: tuple[float, float], scaled: tuple[float, float]) -> tuple[float, float]:
    """Factor and offset of the line through two points."""
    if raw[0] == raw[1]:
        raise ValueError(f"the raw range has no width: from {raw[0]:g} to {raw[1]:g}")
    if scaled[0] == scaled[1]:
        raise ValueError(f"the scaled range has no width: from {scaled[0]:g} to {scaled[1]:g}")
    scale = (scaled[1] - scaled[0]) / (raw[1] - raw[0])
    return scale, scaled[0] - raw[0] * scale


def parse_type_words(text: str, length: int | None = None) -> tuple[str, str | None]:
    """Our type, and the byte order if the text holds one: ``FLOAT32``, ``U16``, ``32-bit float CDAB``, ``String``.

    Args:
        text: The cell.
        length: Bytes of a text whose type does not say it.
    """
    order = _ORDER_IN_TYPE.search(text)
    bare = _ORDER_IN_TYPE.sub("", text).strip(" ()@,") if order else text
    plain = re.sub(r"[^a-z0-9\[\]]", "", bare.lower())
    word, bracket, count = plain.partition("[")
    known = TYPES.get(word)
    if (known or word) == "string" and length is not None and not bracket:
        known, bracket, count = "string", "[", f"{length}]"
    spelled = f"{known}{bracket}{count}" if known else bare
    return str(parse_type(spelled)), order[1].upper() if order else None


def parse_order(text: str) -> str:
    """The byte order by its letters."""
    found = ORDERS.get(_words(text))
    if found is None:
        raise ValueError(
            f"{text!r} is no byte order; write ABCD (big-endian), CDAB (words swapped), BADC (bytes swapped) or DCBA (both)"
        )
    return found


def parse_access(text: str) -> bool:
    """Whether clients may write."""
    word = re.sub(r"[^a-zí0-9]", "", text.lower())
    if word in _YES or ("write" in word and "readonly" not in word):
        return True
    if word in _NO or word.startswith("read"):
        return False
    raise ValueError(f"{text!r} is no right: write R or R/W")


def parse_period(text: str, header: str) -> str:
    """A duration with its unit, which may stand in the header: ``Scan (ms)``."""
    if not re.fullmatch(r"[0-9]+(?:[.,][0-9]+)?", text):
        return text
    words = _words(header).split()
    unit = next((unit for unit in ("ms", "s", "min", "h") if unit in words), None) or ("s" if "sec" in words else None)
    if unit is None:
        raise ValueError(f"{text!r} has no unit; write for example '{text} ms', or put the unit into the header")
    return f"{text.replace(',', '.')} {unit}"


def parse_table(text: str, is_function: bool) -> str:
    """The table of a Modbus device that a word or a function code names: ``hr``, ``ir``, ``di`` or ``co``."""
    words = _words(text)
    number = re.fullmatch(r"(?:fc|fn|f)?\s*0*([0-9]+)", words)
    if number and (is_function or words.startswith("f")) and int(number[1]) in _FUNCTIONS:
        return _FUNCTIONS[int(number[1])]
    found = TABLES.get(words) or TABLES.get(re.sub(r"\s*\(.*|\s+fc.*", "", words))
    if found is None:
        raise ValueError(f"{text!r} is no table; write coil, discrete input, input register or holding register")
    return found


def parse_place(text: str, table: str | None, base: int | None) -> str:
    """The address as Bifrost spells it; a bare number gets its table, and is counted from 0.

    Args:
        text: The cell: a spelling of Bifrost's, or a number, decimal or hexadecimal.
        table: Of bare numbers; None: unknown.
        base: What bare numbers count from; None: unknown.
    """
    hexadecimal = _HEX.fullmatch(text)
    if not text.isdecimal() and not hexadecimal:
        return text
    if text.isdecimal() and len(text) in (5, 6) and (table is None or text[0] == str(_TABLE_DIGITS[table])):
        return text  # A reference number, which says its table and counts from 1.
    if table is None:
        raise ValueError(
            f"{text!r} does not say its table: write a reference number such as 40001, 'hr:{text}', or say --table and --base"
        )
    if base is None:
        raise ValueError(f"{text!r} may count from 0 or from 1: {_BASE_HINT}")
    number = int(hexadecimal["c"] or hexadecimal["asm"], 16) if hexadecimal else int(text)
    if number < base:
        raise ValueError(f"{text!r} is below the first number, {base}; {_BASE_HINT}")
    return f"{table}:{number - base}"


def _words(text: str) -> str:
    """Lower case, single spaces for everything that is neither letter nor digit."""
    return " ".join(re.sub(r"[^\w]|_", " ", text.casefold()).split())
