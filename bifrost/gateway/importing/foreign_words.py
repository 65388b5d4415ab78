"""Words that other programs and people use in tag lists, and which of our columns they mean. Nothing else in the tree spells them.

Headers are compared without case, brackets and punctuation. Beside our own columns there are some that are only read:
`table`, `function`, `bit`, `length`, `unit_id`, `divisor`, and the four corners of a linear scaling.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["HEADERS", "ORDERS", "TABLES", "TELEGRAF_UNIT", "TYPES"]


def _lists(text: str) -> dict[str, tuple[str, ...]]:
    """Of ``ours: theirs; theirs`` a line, which may go on in lines that begin with spaces: their words by ours, the likeliest first."""
    lines = (line.partition(":") for line in re.split(r"\n(?! )", text.strip()))
    return {ours: tuple(" ".join(words.split()).split("; ")) for ours, _, words in lines}


def _meanings(text: str) -> dict[str, str]:
    """The same, our word by theirs."""
    return {theirs: ours for ours, words in _lists(text).items() for theirs in words}


HEADERS: Final = _lists("""
name: name; tag name; tagname; tag; signal; signal name; variable; variable name; symbol; point; point name;
  parameter; bezeichnung; signalname; variablenname; nom; nombre; nome; id
group: group; tag group; folder; path; gruppe; baugruppe; area; system; groupe; grupo; gruppo
address: address; modbus address; register address; reg address; register; reg; register number; start address;
  start register; modbus register; plc address; io address; adresse; registeradresse; modbus adresse; modbusadresse;
  registernummer; offset register; direccion; dirección; indirizzo; addr
type: type; data type; datatype; tag type; value type; format; data format; datentyp; typ; type de données; tipo;
  tipo de dato; tipo dato
byte_order: byte order; byteorder; endian; endianness; endianess; word order; wordorder; swap; bytereihenfolge
scale: scale; scaling; factor; scale factor; scaling factor; multiplier; gain; resolution; slope; decimal; faktor;
  skalierung; multiplikator; auflösung; facteur; échelle; escala; fattore
divisor: divisor; divider; teiler
offset: offset; bias; intercept; versatz; décalage
unit: unit; units; eng unit; eng units; engineering unit; engineering units; uom; eu; unit of measure; einheit;
  unité; unidad; unità
low: low; min; minimum; eng low; lo; eu low; range low; lower limit
high: high; max; maximum; eng high; hi; eu high; range high; upper limit
raw_low: raw low; raw min; rawlow; raw zero
raw_high: raw high; raw max; rawhigh; raw span
scaled_low: scaled low; scaled min; scaledlow
scaled_high: scaled high; scaled max; scaledhigh
deadband: deadband; dead band; cov; totband
max_interval: max interval; maxinterval; heartbeat
scan: scan; scan rate; scanrate; scan time; poll rate; polling rate; poll interval; interval; cycle; update rate;
  zyklus
writable: writable; writeable; access; client access; access rights; r w; rw; read write; mode; attribute; zugriff;
  permission; permissions; schreibbar
description: description; desc; comment; remark; remarks; note; notes; documentation; meaning; text; beschreibung;
  kommentar; bemerkung; descripción; descripcion; commentaire; descrizione; libellé
table: table; register type; registertype; area type; region; object type; modbus type; registerart; memory area
function: function; function code; functioncode; fc; modbus function; funktionscode; funktion
bit: bit; bit number; bit position; bit index; bitnummer
length: length; len; string length; länge; laenge
unit_id: unit id; unitid; device id; station; station id; slave; slave id; slaveid; slave address; node id
""")
TABLES: Final = _meanings("""
co: co; coil; coils; 0x; output coil; digital output; do; coil status
di: di; discrete input; discrete inputs; 1x; input status; digital input; discrete
ir: ir; input register; input registers; 3x; input; analog input; ai
hr: hr; holding register; holding registers; 4x; holding; analog output; ao
""")
ORDERS: Final = _meanings("""
ABCD: abcd; ab; big endian; big; be; none; no; big endian big endian; 1234
CDAB: cdab; mid little endian; little endian word swap; big endian word swap; word swap; word swapped; swap words;
  words; low word first; first word low; word; 3412; little endian words
BADC: badc; ba; mid big endian; big endian byte swap; byte swap; byte swapped; swap bytes; bytes; 2143
DCBA: dcba; little endian; little; le; word and byte swap; 4321
""")
_SIZED: Final = _meanings("""
int{}: int{}; s{}; i{}; sint{}; signed{}; signed{}bit; {}bitsigned; int{}bit; {}bitint; signedint{}; {}bitsignedint;
  int{}s
uint{}: uint{}; u{}; ui{}; unsigned{}; unsigned{}bit; {}bitunsigned; uint{}bit; {}bituint; unsignedint{};
  {}bitunsignedint; int{}u
""")
TYPES: Final = {
    theirs.format(bits): ours.format(bits) for theirs, ours in _SIZED.items() for bits in (8, 16, 32, 64)
} | _meanings("""
float32: f32; float32ieee; float32bit; 32bitfloat; real32; single; ieee754; ieee754float; floatingpoint
float64: f64; float64ieee; float64bit; 64bitfloat; real64
bool: binary; digital; discrete; coil; flag; onoff; discreteinput
uint16: unsignedshort; unsignedword; uword
uint32: unsignedlong; ulong; unsigneddword
int8: char
int64: llong; longlong
uint64: qword
string: text; str; ascii
""")
TELEGRAF_UNIT: Final = "slave_id"
