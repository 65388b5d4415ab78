"""Words that other programs and people use in tag lists, and which of our columns they mean. Nothing else in the tree spells them.

Headers are compared without case, brackets and punctuation. Beside our own columns there are some that are only read:
`table`, `function`, `bit`, `length`, `unit_id`, `divisor`, and the four corners of a linear scaling.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HEADERS", "ORDERS", "TABLES", "TELEGRAF_UNIT", "TYPES"]

HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "name": (
        *(
            "name",
            "tag name",
            "tagname",
            "tag",
            "signal",
            "signal name",
            "variable",
            "variable name",
            "symbol",
            "point",
        ),
        *("point name", "parameter", "bezeichnung", "signalname", "variablenname", "nom", "nombre", "nome", "id"),
    ),
    "group": (
        "group",
        "tag group",
        "folder",
        "path",
        "gruppe",
        "baugruppe",
        "area",
        "system",
        "groupe",
        "grupo",
        "gruppo",
    ),
    "address": (
        *("address", "modbus address", "register address", "reg address", "register", "reg", "register number"),
        *("start address", "start register", "modbus register", "plc address", "io address", "adresse"),
        *("registeradresse", "modbus adresse", "modbusadresse", "registernummer", "offset register", "direccion"),
        *("dirección", "indirizzo", "addr"),
    ),
    "type": (
        *("type", "data type", "datatype", "tag type", "value type", "format", "data format", "datentyp", "typ"),
        *("type de données", "tipo", "tipo de dato", "tipo dato"),
    ),
    "byte_order": (
        "byte order",
        "byteorder",
        "endian",
        "endianness",
        "endianess",
        "word order",
        "wordorder",
        "swap",
        "bytereihenfolge",
    ),
    "scale": (
        *("scale", "scaling", "factor", "scale factor", "scaling factor", "multiplier", "gain", "resolution", "slope"),
        *("decimal", "faktor", "skalierung", "multiplikator", "auflösung", "facteur", "échelle", "escala", "fattore"),
    ),
    "divisor": ("divisor", "divider", "teiler"),
    "offset": ("offset", "bias", "intercept", "versatz", "décalage"),
    "unit": (
        *("unit", "units", "eng unit", "eng units", "engineering unit", "engineering units", "uom", "eu"),
        *("unit of measure", "einheit", "unité", "unidad", "unità"),
    ),
    "low": ("low", "min", "minimum", "eng low", "lo", "eu low", "range low", "lower limit"),
    "high": ("high", "max", "maximum", "eng high", "hi", "eu high", "range high", "upper limit"),
    "raw_low": ("raw low", "raw min", "rawlow", "raw zero"),
    "raw_high": ("raw high", "raw max", "rawhigh", "raw span"),
    "scaled_low": ("scaled low", "scaled min", "scaledlow"),
    "scaled_high": ("scaled high", "scaled max", "scaledhigh"),
    "deadband": ("deadband", "dead band", "cov", "totband"),
    "max_interval": ("max interval", "maxinterval", "heartbeat"),
    "scan": (
        "scan",
        "scan rate",
        "scanrate",
        "scan time",
        "poll rate",
        "polling rate",
        "poll interval",
        "interval",
        "cycle",
        "update rate",
        "zyklus",
    ),
    "writable": (
        *("writable", "writeable", "access", "client access", "access rights", "r w", "rw", "read write", "mode"),
        *("attribute", "zugriff", "permission", "permissions", "schreibbar"),
    ),
    "description": (
        *("description", "desc", "comment", "remark", "remarks", "note", "notes", "documentation", "meaning", "text"),
        *(
            "beschreibung",
            "kommentar",
            "bemerkung",
            "descripción",
            "descripcion",
            "commentaire",
            "descrizione",
            "libellé",
        ),
    ),
    "table": (
        "table",
        "register type",
        "registertype",
        "area type",
        "region",
        "object type",
        "modbus type",
        "registerart",
        "memory area",
    ),
    "function": ("function", "function code", "functioncode", "fc", "modbus function", "funktionscode", "funktion"),
    "bit": ("bit", "bit number", "bit position", "bit index", "bitnummer"),
    "length": ("length", "len", "string length", "länge", "laenge"),
    "unit_id": (
        "unit id",
        "unitid",
        "device id",
        "station",
        "station id",
        "slave",
        "slave id",
        "slaveid",
        "slave address",
        "node id",
    ),
}
TABLES: Final[dict[str, str]] = {
    **dict.fromkeys(("co", "coil", "coils", "0x", "output coil", "digital output", "do", "coil status"), "co"),
    **dict.fromkeys(
        ("di", "discrete input", "discrete inputs", "1x", "input status", "digital input", "discrete"), "di"
    ),
    **dict.fromkeys(("ir", "input register", "input registers", "3x", "input", "analog input", "ai"), "ir"),
    **dict.fromkeys(("hr", "holding register", "holding registers", "4x", "holding", "analog output", "ao"), "hr"),
}
ORDERS: Final[dict[str, str]] = {
    **dict.fromkeys(("abcd", "ab", "big endian", "big", "be", "none", "no", "big endian big endian", "1234"), "ABCD"),
    **dict.fromkeys(
        (
            *(
                "cdab",
                "mid little endian",
                "little endian word swap",
                "big endian word swap",
                "word swap",
                "word swapped",
            ),
            *("swap words", "words", "low word first", "first word low", "word", "3412", "little endian words"),
        ),
        "CDAB",
    ),
    **dict.fromkeys(
        (
            "badc",
            "ba",
            "mid big endian",
            "big endian byte swap",
            "byte swap",
            "byte swapped",
            "swap bytes",
            "bytes",
            "2143",
        ),
        "BADC",
    ),
    **dict.fromkeys(("dcba", "little endian", "little", "le", "word and byte swap", "4321"), "DCBA"),
}
TYPES: Final[dict[str, str]] = {
    **{
        spelled.format(bits): f"int{bits}"
        for bits in (8, 16, 32, 64)
        for spelled in (
            "int{}",
            "s{}",
            "i{}",
            "sint{}",
            "signed{}",
            "signed{}bit",
            "{}bitsigned",
            "{}bit",
            "int{}bit",
            "{}bitint",
            "signedint{}",
            "{}bitsignedint",
            "int{}s",
        )
        if spelled != "{}bit"
    },
    **{
        spelled.format(bits): f"uint{bits}"
        for bits in (8, 16, 32, 64)
        for spelled in (
            "uint{}",
            "u{}",
            "ui{}",
            "unsigned{}",
            "unsigned{}bit",
            "{}bitunsigned",
            "uint{}bit",
            "{}bituint",
            "unsignedint{}",
            "{}bitunsignedint",
            "int{}u",
        )
    },
    **dict.fromkeys(
        (
            "f32",
            "float32ieee",
            "float32bit",
            "32bitfloat",
            "real32",
            "single",
            "ieee754",
            "ieee754float",
            "floatingpoint",
        ),
        "float32",
    ),
    **dict.fromkeys(("f64", "float64ieee", "float64bit", "64bitfloat", "real64"), "float64"),
    **dict.fromkeys(("binary", "digital", "discrete", "coil", "flag", "onoff", "discreteinput"), "bool"),
    **dict.fromkeys(("unsignedshort", "unsignedword", "uword"), "uint16"),
    **dict.fromkeys(("unsignedlong", "ulong", "unsigneddword"), "uint32"),
    **dict.fromkeys(("char",), "int8"),
    **dict.fromkeys(("llong", "longlong"), "int64"),
    **dict.fromkeys(("qword",), "uint64"),
    **dict.fromkeys(("text", "str", "ascii"), "string"),
}
TELEGRAF_UNIT: Final = "slave_id"
