"""The words of SAP formats: kinds of values, fields of a row, plans, errors; shared by C face and reference."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pyarrow as pa

from libcore.errors import ConfigurationError
from libcore.schema import ColumnType


class Kind(enum.IntEnum):
    """How SAP writes a value; what each accepts and fills stands in include/libcore/sapfmt.h."""

    SKIP = 0
    CHAR = 1
    NUMC = 2
    DATS = 3
    TIMS = 4
    NUMBER = 5
    FLTP = 6
    INT1 = 7
    INT2 = 8
    INT4 = 9
    INT8 = 10
    RAW = 11
    BOOL = 12
    PACKED = 13
    TIMESTAMP = 14
    ALPHA_IN = 15
    ALPHA_OUT = 16
    ODATA_DATE = 17
    ODATA_TIME = 18
    BASE64 = 19


class SapCode(enum.IntEnum):
    """Why a value was not read."""

    TYPE = 1
    RANGE = 2
    SCALE = 3
    INVALID_DATS = 4
    INVALID_TIMS = 5
    OVERFLOWED_NUMBER = 6
    UTF8 = 7
    LENGTH = 8
    DELIMITER = 9
    CURRENCY = 10
    UNKNOWN = 11


_TEXT = frozenset(["string", "numeric", "uuid", "json", "xml"])
_INTEGERS = frozenset(["int16", "int32", "int64"])
_STAMPS = frozenset(["timestamp", "timestamptz", "timestamp_ns"])
_TIMES = frozenset(["time", "time_ns"])
FILLS: dict[Kind, frozenset[str]] = {
    Kind.CHAR: _TEXT,
    Kind.NUMC: _TEXT | _INTEGERS,
    Kind.DATS: frozenset(["date"]),
    Kind.TIMS: _TIMES,
    Kind.NUMBER: frozenset(["decimal", "numeric"]),
    Kind.FLTP: frozenset(["float64"]),
    Kind.INT1: _INTEGERS,
    Kind.INT2: _INTEGERS,
    Kind.INT4: _INTEGERS,
    Kind.INT8: _INTEGERS,
    Kind.RAW: frozenset(["bytes"]),
    Kind.BOOL: frozenset(["bool"]),
    Kind.PACKED: frozenset(["decimal"]),
    Kind.TIMESTAMP: _STAMPS,
    Kind.ALPHA_IN: _TEXT,
    Kind.ALPHA_OUT: _TEXT,
    Kind.ODATA_DATE: _STAMPS,
    Kind.ODATA_TIME: _TIMES,
    Kind.BASE64: frozenset(["bytes"]),
}
"""The names of column types (libcore.schema) that a kind fills."""


@dataclass(frozen=True)
class SapField:
    """One field of a row, and the column that it becomes.

    Args:
        name: of the column.
        kind: how the value is written.
        type: of the column, one that FILLS lists for the kind; ignored for SKIP.
        offset: 0-based, in characters of a text row (UTF-16 units, as ABAP counts) or bytes of a binary one.
        length: in the same units; 0: to the row's end (the last field alone, and any field of a plan not padded).
        decimals: PACKED: digits behind the point.
        initial_null: ABAP's initial value (blank, zeros) is NULL too; False: '' stays '', 0 stays 0.
        currency: a CURR field: the name of the plan's column with its currency key. The amount is then shifted from
            how SAP stores it to what it is (include/libcore/sapfmt.h, lc_sap_shift). "": no shift.
    """

    name: str
    kind: Kind
    type: ColumnType = ColumnType("string")  # noqa: RUF009 - it is frozen
    offset: int = 0
    length: int = 0
    decimals: int = 0
    initial_null: bool = False
    currency: str = ""


@dataclass(frozen=True)
class SapPlan:
    """How each value of a column (a row of RFC_READ_TABLE, a key of a change document) becomes columns.

    Args:
        fields: in the order in which they stand.
        delimiter: one ASCII character between fields, "" where there is none.
        padded: the fields have their lengths, filled up with blanks, and stand at their offsets, which count the
            delimiters; a delimiter may then stand inside a value. False: a field ends at the delimiter.
    Raises: ConfigurationError that names the field.
    """

    fields: tuple[SapField, ...]
    delimiter: str = ""
    padded: bool = True

    def __post_init__(self) -> None:
        if not self.fields or len(self.fields) > 4096:
            raise ConfigurationError(f"SAP plan: expected 1 to 4096 fields, found {len(self.fields)}")
        wanted = "one ASCII character" if not self.padded else "one ASCII character or none"
        one = len(self.delimiter) == 1 and "\0" < self.delimiter <= "\x7f"
        if not one and (self.delimiter or not self.padded):
            raise ConfigurationError(f"SAP plan: delimiter: expected {wanted}, found {self.delimiter!r}")
        names = [field.name for field in self.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigurationError(f"SAP plan: field {twice[0]} stands there twice")
        for index in range(len(self.fields)):
            self._check(index)

    @property
    def columns(self) -> tuple[SapField, ...]:
        """The fields that become columns."""
        return tuple(field for field in self.fields if field.kind != Kind.SKIP)

    @property
    def schema(self) -> pa.Schema:
        """The columns as they come out."""
        return pa.schema([pa.field(field.name, field.type.arrow) for field in self.columns])

    def _check(self, index: int) -> None:
        field, where = self.fields[index], f"SAP field {self.fields[index].name}"
        if field.kind != Kind.SKIP and field.type.name not in FILLS[field.kind]:
            known = ", ".join(sorted(FILLS[field.kind]))
            raise ConfigurationError(f"{where}: {field.kind.name} fills {known}; found {field.type}")
        if field.offset < 0 or not 0 <= field.length <= 1 << 20 or not 0 <= field.decimals <= 76:
            raise ConfigurationError(
                f"{where}: offset {field.offset}, length {field.length}, decimals {field.decimals}: expected an offset "
                f"from 0 up, a length of 0 to {1 << 20}, decimals of 0 to 76"
            )
        if field.kind == Kind.ALPHA_IN and field.length == 0:
            raise ConfigurationError(f"{where}: ALPHA_IN needs the length to fill up to")
        if field.currency:
            self._check_currency(field, where)
        if self.padded and index + 1 < len(self.fields) and field.length == 0:
            raise ConfigurationError(f"{where}: expected a length, as {self.fields[index + 1].name} stands behind it")
        if self.padded and index > 0:
            before = self.fields[index - 1]
            least = before.offset + before.length + len(self.delimiter)
            if field.offset < least:
                raise ConfigurationError(
                    f"{where}: offset {field.offset}: expected {least} or more, behind {before.name}"
                )

    def _check_currency(self, field: SapField, where: str) -> None:
        if field.kind not in (Kind.NUMBER, Kind.PACKED) or field.type.name != "decimal":
            raise ConfigurationError(f"{where}: only a decimal has a currency; found {field.kind.name}, {field.type}")
        if not any(other.name == field.currency and other.kind == Kind.CHAR for other in self.fields):
            raise ConfigurationError(f"{where}: currency {field.currency}: expected a CHAR field of the plan")


@dataclass(frozen=True)
class Fault:
    """What C and reference tell: a value that was not read.

    Args:
        row: 0-based in the input.
        byte_position: 0-based in the row's value.
        code: why.
        field: index in the plan, -1: the whole value.
    """

    row: int
    byte_position: int
    code: SapCode
    field: int


@dataclass(frozen=True)
class SapError:
    """The same for people: `column` is "" where the whole value is to blame, `text` one sentence."""

    row: int
    byte_position: int
    code: SapCode
    column: str
    text: str


_REASONS = {
    SapCode.TYPE: "the characters are not of this form",
    SapCode.RANGE: "the value does not fit",
    SapCode.SCALE: "digits other than 0 would be lost",
    SapCode.INVALID_DATS: "expected a day of the calendar as YYYYMMDD",
    SapCode.INVALID_TIMS: "expected a time of the day as HHMMSS, up to 235959",
    SapCode.OVERFLOWED_NUMBER: "'*' says that the sender's field was too short for the number",
    SapCode.UTF8: "not valid text, or a character that two fields share",
    SapCode.LENGTH: "longer than its field",
    SapCode.DELIMITER: "expected the delimiter between two fields, and nowhere else",
    SapCode.CURRENCY: "an amount without a currency",
    SapCode.UNKNOWN: "not in the table",
}


def describe(fault: Fault, value: bytes, field: SapField | None) -> SapError:
    """A fault for people: one sentence with the place and the bytes found."""
    where = "" if field is None else f"column {field.name} ({field.type} from {field.kind.name}): "
    found = value[fault.byte_position : fault.byte_position + 40].decode("utf-8", "backslashreplace")
    text = f"{where}{_REASONS[fault.code]}; found {found!r} at byte {fault.byte_position} of {len(value)}"
    return SapError(fault.row, fault.byte_position, fault.code, "" if field is None else field.name, text)


@dataclass(frozen=True)
class SapRows:
    """What one call read.

    Args:
        record: the plan's columns; rows that have an error are left out, unless they were to be kept (then the bad
            value is NULL).
        rows: int32, the input's row of each.
        errors: in the order of rows, one each at most.
    """

    record: pa.RecordBatch
    rows: pa.Int32Array
    errors: list[SapError]
