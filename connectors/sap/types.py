"""What SAP's dictionary says of a field (DDIF_FIELDINFO_GET, DD03L) as an exact type, and how its values are read.

ABAP knows no NULL: a blank CHAR is '', a zero is 0; only a date of blanks or zeros is NULL. An amount (CURR) is stored
as if every currency had two decimals; its column has room for what it is behind the shift by TCURX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from libcore.errors import ConfigurationError
from libcore.sapfmt_types import FILLS, Kind, SapField
from libcore.schema import ColumnType, parse_type

CURRENCY_DECIMALS_MAX = 5
"""Decimals of a currency that an amount's column has room for; the standard TCURX has none above (USDN)."""
_PRECISION_MAX = 38

_TYPES: Mapping[str, tuple[Kind, str]] = {
    "CHAR": (Kind.CHAR, "string"), "CLNT": (Kind.CHAR, "string"), "LANG": (Kind.CHAR, "string"),
    "CUKY": (Kind.CHAR, "string"), "UNIT": (Kind.CHAR, "string"), "SSTR": (Kind.CHAR, "string"),
    "STRG": (Kind.CHAR, "string"), "VARC": (Kind.CHAR, "string"), "LCHR": (Kind.CHAR, "string"),
    "UTCL": (Kind.CHAR, "string"),
    "NUMC": (Kind.NUMC, "string"), "ACCP": (Kind.NUMC, "string"),
    "DATS": (Kind.DATS, "date"), "DATN": (Kind.DATS, "date"), "TIMS": (Kind.TIMS, "time"), "TIMN": (Kind.TIMS, "time"),
    "DEC": (Kind.NUMBER, "decimal"), "QUAN": (Kind.NUMBER, "decimal"), "CURR": (Kind.NUMBER, "decimal"),
    "D16N": (Kind.NUMBER, "numeric"), "D34N": (Kind.NUMBER, "numeric"), "D16R": (Kind.NUMBER, "numeric"),
    "D34R": (Kind.NUMBER, "numeric"), "D16D": (Kind.NUMBER, "decimal"), "D34D": (Kind.NUMBER, "decimal"),
    "FLTP": (Kind.FLTP, "float64"),
    "INT1": (Kind.INT1, "int16"), "INT2": (Kind.INT2, "int16"), "PREC": (Kind.INT2, "int16"),
    "INT4": (Kind.INT4, "int32"), "INT8": (Kind.INT8, "int64"),
    "RAW": (Kind.RAW, "bytes"), "LRAW": (Kind.RAW, "bytes"), "RSTR": (Kind.RAW, "bytes"), "RAWS": (Kind.RAW, "bytes"),
}  # fmt: skip
"""DD03L-DATATYPE: how the value is written in a row, and the type of its column."""
LONG = frozenset({"STRG", "RSTR", "RAWS", "LCHR", "LRAW", "SSTR"})
"""Of no fixed length: only a function that returns ET_DATA can read them."""
ROUNDED = frozenset({"FLTP", "D16N", "D34N", "D16R", "D34R", "D16D", "D34D"})
"""Floating: ABAP writes them into a field that is too short with fewer digits, not with an asterisk."""
CHARACTERS = frozenset({"CHAR", "CLNT", "LANG", "CUKY", "UNIT", "NUMC", "ACCP", "DATS", "TIMS"})
"""Written as characters of a fixed width wherever they stand, so in the keys of change documents, too."""
NUMBERS = frozenset({"DEC", "QUAN", "CURR", "INT1", "INT2", "PREC", "INT4", "INT8", "FLTP"})
"""Written with blanks in front and a sign behind."""
_FROM_DIGITS = {"bool": Kind.BOOL, "timestamp": Kind.TIMESTAMP, "timestamptz": Kind.TIMESTAMP,
                "timestamp_ns": Kind.TIMESTAMP, "int16": Kind.INT2, "int32": Kind.INT4, "int64": Kind.INT8,
                "decimal": Kind.NUMBER, "numeric": Kind.NUMBER, "date": Kind.DATS, "time": Kind.TIMS,
                "float64": Kind.FLTP, "bytes": Kind.RAW}  # fmt: skip
_INTEGERS = (Kind.INT1, Kind.INT2, Kind.INT4, Kind.INT8)
_DECLARED: Mapping[Kind, Mapping[str, Kind]] = {
    Kind.CHAR: _FROM_DIGITS,
    Kind.NUMC: _FROM_DIGITS,
    Kind.NUMBER: {name: kind for name, kind in _FROM_DIGITS.items() if name.startswith(("int", "timestamp"))},
    **{kind: {"decimal": Kind.NUMBER, "numeric": Kind.NUMBER} for kind in _INTEGERS},
    **{kind: {"string": Kind.CHAR} for kind in (Kind.DATS, Kind.TIMS, Kind.RAW)},
}
"""How values of a kind are read as another type that the pipeline file declares."""
_NUMBER_KINDS = (Kind.NUMBER, *_INTEGERS)


@dataclass(frozen=True)
class DdicField:
    """One field of a table as the dictionary has it.

    Args:
        name: FIELDNAME.
        datatype: DATATYPE, such as CHAR, CURR.
        length: LENG: characters or digits, without sign and point.
        decimals: DECIMALS.
        key: whether it is part of the primary key.
        reference_table, reference_field: of an amount or a quantity, where its currency or unit stands.
        conversion: CONVEXIT, such as ALPHA.
    """

    name: str
    datatype: str
    length: int
    decimals: int = 0
    key: bool = False
    reference_table: str = ""
    reference_field: str = ""
    conversion: str = ""

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> DdicField:
        """A row of DFIES or DD03L."""
        text = {name: str(row.get(name, "")).strip() for name in _ROW}
        return cls(
            text["FIELDNAME"], text["DATATYPE"], int(text["LENG"] or 0), int(text["DECIMALS"] or 0),
            text["KEYFLAG"] == "X", text["REFTABLE"], text["REFFIELD"], text["CONVEXIT"],
        )  # fmt: skip

    @property
    def shifted(self) -> bool:
        """Whether its stored value is other than the amount that it stands for."""
        return self.datatype == "CURR"


_ROW = ("FIELDNAME", "DATATYPE", "LENG", "DECIMALS", "KEYFLAG", "REFTABLE", "REFFIELD", "CONVEXIT")


def stored_type(field: DdicField) -> ColumnType:
    """The exact type of a field as it is stored. Raises ConfigurationError for a type that is not known."""
    if field.datatype not in _TYPES:
        raise ConfigurationError(
            f"SAP field {field.name}: expected a type of {', '.join(_TYPES)}, found {field.datatype or 'none'}; leave "
            "it out by `columns`"
        )
    name = _TYPES[field.datatype][1]
    if name == "decimal":
        return _decimal(field.length - field.decimals, field.decimals)
    return parse_type(name)


def column_type(field: DdicField) -> ColumnType:
    """The exact type of a field's column: of an amount what is left behind the shift by its currency."""
    if not field.shifted:
        return stored_type(field)
    # a currency without decimals shifts two digits to the left, one of five three to the right
    return _decimal(field.length - field.decimals + 2, field.decimals + CURRENCY_DECIMALS_MAX - 2)


def _decimal(whole: int, decimals: int) -> ColumnType:
    precision = max(1, whole + decimals)
    return ColumnType("decimal", min(_PRECISION_MAX, precision), min(decimals, _PRECISION_MAX))


def sap_field(field: DdicField, wanted: ColumnType, *, initial_null: bool = False, external: bool = False) -> SapField:
    """How a field's values become a column of the wanted type, offsets and length apart.

    Args:
        wanted: the column's type. An amount is read as it is stored, whatever its column; what is read of a date for a
            timestamp is a date.
        initial_null: ABAP's initial value is NULL.
        external: without the zeros that the conversion ALPHA put in front.
    Raises: ConfigurationError where no reading of the field gives that type.
    """
    kind = _TYPES[field.datatype][0] if field.datatype in _TYPES else Kind.SKIP
    stored = stored_type(field)
    reading = wanted
    if field.shifted:
        reading = stored if wanted.name == "decimal" else wanted
    elif external and field.conversion == "ALPHA" and kind in (Kind.CHAR, Kind.NUMC) and wanted.name == "string":
        kind = Kind.ALPHA_OUT
    elif kind in _NUMBER_KINDS and wanted.name == "string":
        kind, reading = Kind.NUMBER, parse_type("numeric")
    elif kind == Kind.DATS and wanted.name == "timestamp":
        reading = stored
    elif wanted.name not in FILLS[kind]:
        kind = _DECLARED.get(kind, {}).get(wanted.name, kind)
    if reading.name not in FILLS[kind] or (field.shifted and reading.name != "decimal"):
        known = ", ".join(sorted(FILLS[_TYPES[field.datatype][0]]))
        raise ConfigurationError(
            f"SAP field {field.name} ({field.datatype}): expected a type of {known}, found {wanted}"
        )
    return SapField(field.name, kind, reading, decimals=field.decimals, initial_null=initial_null)


def sort_value(field: DdicField, value: str) -> str | Decimal:
    """A field's value, as a row has it, in an order."""
    if field.datatype not in NUMBERS:
        return value
    digits = value.strip(" ")
    return Decimal(f"-{digits[:-1]}" if digits.endswith("-") else digits or "0")


def literal(field: DdicField, value: str) -> str:
    """A field's value, as a row has it, in a WHERE clause."""
    if field.datatype not in NUMBERS:
        return "'" + value.rstrip(" ").replace("'", "''") + "'" if value.strip(" ") else "' '"
    digits = value.strip(" ")
    return f"-{digits[:-1]}" if digits.endswith("-") else digits or "0"
