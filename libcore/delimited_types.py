"""The words of text records: how values are written in files, what a dialect is, and what reading one piece gives."""

from __future__ import annotations

import enum
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import pyarrow as pa

from libcore.errors import ConfigurationError
from libcore.schema import Column

LINE, OFFSET = "__line", "__offset"
RECORD_BYTES_MAX = 1 << 20
DIRECTIVES = "YmbdHMSfz"
_TIMES = {"date", "time", "time_ns", "timestamp", "timestamp_ns", "timestamptz"}
_KINDS = {
    "int16": 2, "int32": 2, "int64": 2, "float32": 3, "float64": 3, "bool": 4, "bytes": 5, "decimal": 7, "numeric": 8,
    "date": 9, "time": 10, "time_ns": 10, "timestamp": 11, "timestamp_ns": 11, "timestamptz": 12, "interval_us": 2,
}  # fmt: skip


class LineCode(enum.IntEnum):
    """Why a record gave no row."""

    SYNTAX = 1
    UTF8 = 2
    DEPTH = 3
    TYPE = 5
    RANGE = 6
    SCALE = 7
    QUOTE = 32
    FIELDS = 33
    LONG = 34
    NULL = 35
    KIND = 36


class Kind(enum.IntEnum):
    """How a field's text is read; what each accepts stands in include/libcore/delimited.h."""

    TEXT = 1
    INT = 2
    FLOAT = 3
    BOOL = 4
    HEX = 5
    BASE64 = 6
    DECIMAL = 7
    NUMERIC = 8
    DATE = 9
    TIME = 10
    TIMESTAMP = 11
    TIMESTAMPTZ = 12


class Trim(enum.IntEnum):
    """Which blanks around a text do not belong to it; around all other values they never do."""

    NONE = 0
    RIGHT = 1
    BOTH = 2


@dataclass(frozen=True)
class TextColumn:
    """A column and how its values are written.

    Args:
        column: name and exact type; nullable=False makes a NULL an error of its row.
        source: the field's name in the header; None: the column's name. For files without a header: field_index.
        field_index: 0-based field of a file without a header; None: the column's place in the plan.
        offset, length: fixed width: where in the record, in characters or bytes.
        decimal: the sign between whole and fraction, "." or ",".
        thousands: the sign between groups of three digits, "" for none. With ".", 1.234,5 is 1234.5, and 1.5 an error.
        trailing_sign: the sign may stand behind the digits, as SAP writes it: 12.50-.
        implied_decimals: no decimal sign is written; that many last digits are the fraction.
        pattern: dates and times: %Y %m %b %d %H %M %S %f %z and the letters between; None: ISO 8601, between date and
            time a T or a blank. A date, or a time, or both must be there; a zone exactly for timestamptz.
        null_words: field texts that mean NULL. An empty field of a column that is no text or bytes always does.
        true_words, false_words: bool, in either case.
        base64: bytes are written in base64 instead of hex digits.
        trim: texts only.
    """

    column: Column
    source: str | None = None
    field_index: int | None = None
    offset: int = 0
    length: int = 0
    decimal: str = "."
    thousands: str = ""
    trailing_sign: bool = True
    implied_decimals: int = 0
    pattern: str | None = None
    null_words: tuple[str, ...] = ()
    true_words: tuple[str, ...] = ("true", "t", "yes", "y", "1", "X")
    false_words: tuple[str, ...] = ("false", "f", "no", "n", "0")
    base64: bool = False
    trim: Trim = Trim.NONE

    @cached_property
    def kind(self) -> Kind:
        """The grammar of its values."""
        kind = Kind(_KINDS.get(self.column.type.name, Kind.TEXT))
        return Kind.BASE64 if kind == Kind.HEX and self.base64 else kind

    @property
    def digits(self) -> int:
        """Fraction digits of a clock: 6 or 9."""
        return 9 if self.column.type.name in ("time_ns", "timestamp_ns") else 6

    @cached_property
    def items(self) -> bytes:
        """The pattern as pairs of bytes: ("%", letter) for a directive, (0, byte) for a literal."""
        pieces = re.findall(r"%(.)|([^%])", self.pattern or "", re.S)
        return b"".join(b"%" + d.encode() if d in DIRECTIVES and d else b"\0" + (d or t).encode() for d, t in pieces)

    def check(self) -> None:
        """Raise ConfigurationError for what cannot be read."""
        name = f"column {self.column.name}"
        if self.decimal not in (".", ","):
            raise ConfigurationError(f"{name}: decimal: expected '.' or ',', found {self.decimal!r}")
        if self.thousands == self.decimal or len(self.thousands) > 1 or re.fullmatch(r"[0-9eE+\-]", self.thousands):
            raise ConfigurationError(
                f"{name}: thousands: expected one sign other than decimal, found {self.thousands!r}"
            )
        if not 0 <= self.implied_decimals <= 76 or self.offset < 0 or self.length < 0:
            raise ConfigurationError(f"{name}: expected implied_decimals of 0..76, and offset and length >= 0")
        if self.pattern is not None:
            self._check_pattern(name)

    def _check_pattern(self, name: str) -> None:
        text, kind = self.pattern or "", self.kind
        found = re.findall(r"%(.)", text)
        bad = [letter for letter in found if letter not in DIRECTIVES]
        date, time = set("Ymbd") & set(found), set("HMSf") & set(found)
        whole_date = {"Y", "d"} <= date and len(date) == 3
        whole_time = {"H", "M"} <= time and ("f" not in time or "S" in time)
        good = {
            Kind.DATE: whole_date and not time,
            Kind.TIME: whole_time and not date,
            Kind.TIMESTAMP: whole_date and (whole_time or not time),
            Kind.TIMESTAMPTZ: whole_date and (whole_time or not time),
        }.get(kind, False)
        zoned = ("z" in found) == (kind == Kind.TIMESTAMPTZ)
        once = len(set(found)) == len(found) and "%" not in re.sub(r"%.", "", text, flags=re.S)
        simple = once and text.isascii() and len(text) <= 64
        if bad or not (good and zoned and simple):
            raise ConfigurationError(
                f"{name}: pattern {text!r} for {self.column.type}: expected once each of %Y %m (or %b) %d for a date, "
                "%H %M and perhaps %S %f for a time, and %z for timestamptz and for it alone"
            )


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written; the defaults are RFC 4180.

    Args:
        delimiter: one ASCII sign.
        quote: None: quotes mean nothing. A quote counts only as a field's first byte.
        escape: a sign that takes its meaning from the one behind it, inside and outside of quotes.
        doubled: two quotes inside quotes are one.
        lazy_quotes: a quote that stands before neither a delimiter nor a line end is part of the text: "12" pipe".
        c_escapes: the escape and one of b f n r t v 0 is that control character (PostgreSQL, MySQL).
        comment: a line that begins with it is passed by.
        quoted_nulls: NULL words count in quotes too.
        skip_blank: an empty line is no record.
        trailing_delimiter: every record may end with one more delimiter.
        header: the first record has the names.
        skip_lines: lines to pass by at the head of the file, in front of the header.
        encoding: utf-8 (a byte order mark is passed by), or a single-byte encoding of Python that extends ASCII.
        record_bytes_max: what is longer is an error; a quote that does not close costs its own line only.
    """

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    doubled: bool = True
    lazy_quotes: bool = False
    c_escapes: bool = False
    comment: str | None = None
    quoted_nulls: bool = False
    skip_blank: bool = True
    trailing_delimiter: bool = False
    header: bool = True
    skip_lines: int = 0
    encoding: str = "utf-8"
    record_bytes_max: int = RECORD_BYTES_MAX

    def check(self) -> None:
        """Raise ConfigurationError for a dialect that contradicts itself."""
        signs = [sign for sign in (self.delimiter, self.quote, self.escape, self.comment) if sign is not None]
        if len(set(signs)) < len(signs) or any(len(s) != 1 or not 0 < ord(s) < 128 or s in "\r\n" for s in signs):
            raise ConfigurationError(
                f"dialect: delimiter, quote, escape and comment: expected different single ASCII signs, found {signs}"
            )
        if not 0 < self.record_bytes_max < 1 << 30 or self.skip_lines < 0:
            raise ConfigurationError("dialect: expected record_bytes_max of 1..2^30-1 and skip_lines >= 0")
        code_points(self.encoding)


@dataclass(frozen=True)
class DelimitedPlan:
    """How the records of a delimited file become rows.

    Args:
        columns: what is read; fields that none of them names are passed by.
        dialect: how the file is written.
        field_count: without a header: fields of every record; None: up to the last one that a column needs; 0: those,
            and perhaps more that are passed by.
        ignore_case: header names match in either case of their letters.
    """

    columns: tuple[TextColumn, ...]
    dialect: Dialect = field(default_factory=Dialect)
    field_count: int | None = None
    ignore_case: bool = False


@dataclass(frozen=True)
class RecordKind:
    """One kind of fixed-width record.

    Args:
        name: what the caller calls it.
        columns: with offset and length.
        marker: how a record of the kind begins; "": every record. The first kind that fits counts.
        width: characters or bytes of a record; None: up to the end of the last column.
    """

    name: str
    columns: tuple[TextColumn, ...]
    marker: str = ""
    width: int | None = None

    @property
    def size(self) -> int:
        """The width that a record is measured by."""
        return self.width if self.width is not None else max((c.offset + c.length for c in self.columns), default=0)


@dataclass(frozen=True)
class FixedPlan:
    """How the records of a fixed-width file become rows.

    Args:
        kinds: at least one.
        record_bytes: records of so many bytes without line ends; 0: lines.
        characters: offsets and lengths count characters; else bytes.
        pad_short: a record that ends early is followed by blanks that were cut off; else it is an error.
        ignore_rest: what stands behind the width means nothing; else it must be blanks.
        ignore_kinds: records that no marker fits are counted and passed by; else they are errors.
        skip_blank, skip_lines, encoding, record_bytes_max: as in Dialect.
        utf16_units: a character above U+FFFF counts two, as ABAP counts; one that two columns share is an error.
    """

    kinds: tuple[RecordKind, ...]
    record_bytes: int = 0
    characters: bool = True
    pad_short: bool = False
    ignore_rest: bool = False
    ignore_kinds: bool = False
    skip_blank: bool = True
    skip_lines: int = 0
    encoding: str = "utf-8"
    record_bytes_max: int = RECORD_BYTES_MAX
    utf16_units: bool = False


@dataclass(frozen=True)
class TextState:
    """Where reading stands in a file; all that a restart needs, small and picklable.

    Args:
        offset: bytes of the file that are consumed: the next piece begins here.
        line: 1-based line of that byte.
        skipping: that byte is inside a line that gives nothing more.
        skipped: how many of the lines to pass by at the head have been begun.
        header: the header's names once it was read.
    """

    offset: int = 0
    line: int = 1
    skipping: bool = False
    skipped: int = 0
    header: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LineError:
    """A record that gave no row.

    Args:
        line: 1-based line of its first byte.
        offset: of its first byte in the file.
        byte_position: 0-based byte in the record.
        code: why.
        text: one sentence for a person.
        raw: the record's bytes without the line end (of a broken quote: its first line), for a dead letter.
        column: the column to blame, or "".
        kind: the kind of the record, where there are kinds.
    """

    line: int
    offset: int
    byte_position: int
    code: LineCode
    text: str
    raw: bytes
    column: str = ""
    kind: str = ""


@dataclass(frozen=True)
class TextRead:
    """What one piece of a file gave.

    Args:
        record: the columns of the plan, in its order.
        lines: int64, the 1-based line where each row begins.
        offsets: int64, the byte of the file where each row begins.
        errors: records that gave no row, in order.
        consumed: bytes of the piece; the rest belongs in front of the next piece.
        state: to be given to the next call, and to be kept for a restart.
    """

    record: pa.RecordBatch
    lines: pa.Int64Array
    offsets: pa.Int64Array
    errors: list[LineError]
    consumed: int
    state: TextState


@dataclass(frozen=True)
class FixedRead:
    """What one piece of a file with kinds of records gave: a TextRead for each kind by its name, the errors once.

    Args:
        kinds: rows by kind; their errors are empty, their consumed and state are those of the whole.
        errors, consumed, state: as in TextRead.
        ignored: records that no marker fits, where the plan ignores them.
    """

    kinds: dict[str, TextRead]
    errors: list[LineError]
    consumed: int
    state: TextState
    ignored: int = 0


@lru_cache(maxsize=64)  # 3 ms to find out, and asked for with each piece of a file
def code_points(encoding: str) -> tuple[int, ...] | None:
    """The code points of a single-byte encoding's 256 bytes (65535: none); None for UTF-8. ConfigurationError."""
    if codec(encoding) == "utf-8":
        return None
    points = []
    for byte in range(256):
        try:
            text = bytes([byte]).decode(encoding)
        except UnicodeDecodeError:
            text = "\uffff"
        except LookupError:
            raise ConfigurationError(f"encoding {encoding!r}: unknown") from None
        points.append(ord(text) if len(text) == 1 else -1)
    pairs = [bytes([lead, trail]) for lead in range(128, 256) if points[lead] == 65535 for trail in range(0x40, 0x100)]
    wide = any(len(pair.decode(encoding, "ignore").encode(encoding, "ignore")) == 2 for pair in pairs)
    if wide or points[:128] != list(range(128)) or not all(0 <= point <= 65535 for point in points):
        raise ConfigurationError(
            f"encoding {encoding!r}: expected utf-8 or a single-byte encoding that extends ASCII; convert the file"
        )
    return tuple(points)


def codec(encoding: str) -> str:
    """How a plan's words are written in files: without the byte order mark that utf-8-sig puts in front of each."""
    return "utf-8" if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig") else encoding


def encoded(words: tuple[str, ...], encoding: str) -> list[bytes]:
    """Words as files have them; one that the encoding has no letters for stands in no file, and is left out."""
    found = []
    for word in words:
        with suppress(UnicodeEncodeError):
            found.append(word.encode(codec(encoding)))
    return found


def rows_schema(columns: tuple[TextColumn, ...]) -> pa.Schema:
    """The columns, then __line and __offset, as C and reference give them."""
    fields = [pa.field(text.column.name, text.column.type.arrow) for text in columns]
    return pa.schema([*fields, pa.field(LINE, pa.int64()), pa.field(OFFSET, pa.int64())])
