"""Files of records made from seeds: dialects, columns, values mostly good and sometimes hostile, and tools to compare
two readings of them."""

from __future__ import annotations

from random import Random
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from libcore import delimited, fixed_width
from libcore.delimited import DelimitedPlan, Dialect, LineError, TextColumn, TextRead, TextState, Trim
from libcore.delimited_types import FixedPlan, FixedRead, RecordKind
from libcore.reference.values import plain
from libcore.schema import Column, parse_type

TYPES = (
    "int16", "int32", "int64", "float32", "float64", "bool", "string", "bytes", "decimal(9,2)", "decimal(38,10)",
    "decimal(60,4)", "numeric", "date", "time", "time_ns", "timestamp", "timestamp_ns", "timestamptz", "uuid",
)  # fmt: skip
PATTERNS = {
    "date": ("%Y%m%d", "%d.%m.%Y", "%d-%b-%Y", "%m/%d/%Y"),
    "time": ("%H%M%S", "%H:%M", "%H.%M.%S.%f"),
    "time_ns": ("%H:%M:%S.%f",),
    "timestamp": ("%Y%m%d%H%M%S", "%d/%m/%Y %H:%M", "%Y-%m-%d"),
    "timestamp_ns": ("%Y%m%d %H%M%S.%f",),
    "timestamptz": ("%Y%m%dT%H%M%S%z", "%d.%m.%Y %H:%M %z"),
}
NUMBERS = (
    "0", "1", "-1", "+7", "42", "12.5", "12,5", "1.234,50", "1,234.50", "1234567890123456789", "9223372036854775807",
    "-9223372036854775808", "9223372036854775808", "32767", "-32768", "32768", "2147483648", "99999.99", "1e3", "1E-2",
    "1e", "1.", ".5", ",5", ".", "-", "--1", "5-", "5+", "-5-", "1 2", " 7 ", "007", "0.000", "1.000", "0.001", "NaN",
    "-NaN", "Infinity", "-Infinity", "Infinity-", "1e400", "3.5e38", "1" * 30, "1" * 80, "12.34.56", "1,23", "***",
    "4.9e-324", "1e99999999999999999999", "1234.5678901234567890123", "-0", "-0.0",
)  # fmt: skip
CLOCKS = (
    "2024-02-29", "2023-02-29", "20240229", "29.02.2024", "1.2.2024", "29-FEB-2024", "29-Feb-2024", "30-xyz-2024",
    "02/29/2024", "9999-12-31", "0001-01-01", "12:34:56", "123456", "24:00:00", "23:59", "23:59:60", "12.34.56.789",
    "12:34:56.123456789", "2024-02-29T12:34:56", "2024-02-29 12:34:56.5", "2024-02-29 12:34:56+02:00", "20240229123456",
    "2024-02-29T12:34:56.123456789Z", "29/02/2024 12:34", "20240229T123456Z", "20240229T123456+0230",
    "29.02.2024 12:34 -03", "20240229 123456.123456789", "00000000", "infinity", "2024-02-29T12:34:56.1234567",
    "2024-13-01", "123456-01-01", "20240229T123456+02:3", "x" * 70,
)  # fmt: skip
TEXTS = (
    "", " ", "a", " a ", "NULL", "\\N", "null", "ä", "日本", "a,b", "a;b", 'say "x"', 'in"side', "two\nlines",
    "cr\rcr", "crlf\r\n.", "back\\slash", "tab\tq", "#no", "true", "FALSE", "X", "yes", "00ff", "\\xDEADbeef", "abc",
    "aGk=", "aGk", "aGl=", "aGVsbG8=", "long " * 40, "'", "|", "n\\n", "end\\",
    "a \U0001f600 b", "\U0001f600\U0001f600",
)  # fmt: skip
BAD = (b"\xff", b"\xc3", b"\xe4", b'"', b"\\", b"\r", b"\n", b"\r\n", b",", b";", b"\0", b"\xed\xa0\x80", b"\x81")


def any_column(r: Random, name: str) -> TextColumn:
    """A column of any type, written in any way."""
    kind = r.choice(TYPES)
    decimal = r.choice(".,")
    pattern = r.choice(PATTERNS[kind]) if kind in PATTERNS and r.random() < 0.6 else None
    number = "decimal" in kind or kind in ("int64", "numeric", "float64")
    return TextColumn(
        Column(name, parse_type(kind), nullable=r.random() < 0.8),
        decimal=decimal,
        thousands=r.choice(["", ".,".replace(decimal, ""), "'"]),
        trailing_sign=r.random() < 0.5,
        implied_decimals=r.choice([0, 0, 0, 2]) if number else 0,
        pattern=pattern,
        null_words=r.choice([(), ("NULL",), ("", "null"), ("\\N", "00000000")]),
        base64=r.random() < 0.5,
        trim=r.choice(list(Trim)),
    )


def any_dialect(r: Random) -> Dialect:
    """A dialect that does not contradict itself."""
    return Dialect(
        delimiter=r.choice(",;\t|"),
        quote=r.choice(['"', '"', '"', "'", None]),
        escape=r.choice([None, None, "\\"]),
        doubled=r.random() < 0.8,
        lazy_quotes=r.random() < 0.3,
        c_escapes=r.random() < 0.3,
        comment=r.choice([None, "#"]),
        quoted_nulls=r.random() < 0.3,
        skip_blank=r.random() < 0.8,
        trailing_delimiter=r.random() < 0.3,
        header=r.random() < 0.5,
        skip_lines=r.choice([0, 0, 0, 2]),
        encoding=r.choice(["utf-8", "utf-8", "utf-8-sig", "cp1252", "iso8859-9"]),
        record_bytes_max=r.choice([1 << 20, 1 << 20, 300, 40]),
    )


def any_value(r: Random, text: TextColumn) -> str:
    """A text that the column may or may not take."""
    name = text.column.type.name
    if r.random() < 0.15:
        return r.choice(TEXTS)
    if name in PATTERNS:
        return r.choice(CLOCKS)
    if name in ("string", "bool", "bytes", "uuid"):
        return r.choice(TEXTS)
    return r.choice(NUMBERS) if r.random() < 0.7 else str(r.randint(-(10 ** r.randint(1, 25)), 10**6))


def _written(r: Random, dialect: Dialect, value: str) -> str:
    special = any(sign in value for sign in (dialect.delimiter, "\n", "\r", dialect.quote or "\n"))
    if dialect.quote and r.random() < (0.9 if special else 0.2):
        doubled = value.replace(dialect.quote, dialect.quote * 2) if dialect.doubled else value
        return dialect.quote + (doubled if r.random() < 0.9 else value) + dialect.quote
    return value.replace(dialect.delimiter, " ") if special and r.random() < 0.8 else value


def _hostile(r: Random, data: bytes) -> bytes:
    for _ in range(r.choice([0, 0, 0, 1, 3])):
        at = r.randint(0, len(data))
        data = data[:at] + r.choice(BAD) + data[at + r.randint(0, 2) :]
    return data


def any_delimited(seed: int) -> tuple[DelimitedPlan, bytes]:
    """A plan and a file for it."""
    r = Random(seed)
    columns = [any_column(r, f"c{i}") for i in range(r.randint(1, 6))]
    dialect = any_dialect(r)
    names = [text.column.name for text in columns] + ["other"] * r.randint(0, 1)
    r.shuffle(names)
    if not dialect.header:
        names = [text.column.name for text in columns]
    by_name = {text.column.name: text for text in columns}
    lines = ["report", "made for tests"][: dialect.skip_lines]
    if dialect.header:
        lines.append(dialect.delimiter.join(names))
    for _ in range(r.randint(0, 12)):
        values = [_written(r, dialect, any_value(r, by_name.get(name, columns[0]))) for name in names]
        if r.random() < 0.1:
            values = values[:-1] if r.random() < 0.5 else [*values, r.choice(TEXTS)]
        lines.append(dialect.delimiter.join(values) + (dialect.delimiter if r.random() < 0.1 else ""))
        if r.random() < 0.1:
            lines.append(r.choice(["", "# comment", "#"]))
    end = r.choice(["\n", "\n", "\r\n", "\r"])
    text = end.join(lines) + (end if r.random() < 0.7 else "")
    head = text.encode(dialect.encoding, "replace")
    if dialect.encoding == "utf-8" and r.random() < 0.2:
        head = b"\xef\xbb\xbf" + head
    return DelimitedPlan(tuple(columns), dialect, field_count=r.choice([None, 0, len(columns)])), _hostile(r, head)


def any_fixed(seed: int) -> tuple[FixedPlan, bytes]:
    """A plan with kinds of records, and a file for it."""
    r = Random(seed)
    kinds = []
    for number in range(r.randint(1, 3)):
        marker = "" if r.random() < 0.2 else "ABä"[number]
        columns, at = [], len(marker)
        for i in range(r.randint(0, 4)):
            text, length = any_column(r, f"c{i}"), r.randint(0, 20)
            columns.append(TextColumn(**{**text.__dict__, "offset": at, "length": length}))
            at += length + r.choice([0, 0, 1])
        kinds.append(RecordKind(f"k{number}", tuple(columns), marker, r.choice([None, at + 2])))
    encoding = r.choice(["utf-8", "utf-8", "cp1252"])
    blocks = r.choice([0, 0, 0, 25])
    plan = FixedPlan(
        tuple(kinds), blocks, r.random() < 0.6, r.random() < 0.5, r.random() < 0.3, r.random() < 0.3, r.random() < 0.8,
        0 if blocks else r.choice([0, 1]), encoding, r.choice([1 << 20, 200, 30]), r.random() < 0.5,
    )  # fmt: skip
    lines = []
    for _ in range(r.randint(0, 12)):
        kind = r.choice(kinds)
        record, end = kind.marker, len(kind.marker)
        for text in kind.columns:
            value = any_value(r, text).replace("\n", " ").replace("\r", " ")[: text.length]
            record = record.ljust(text.offset) + (value.rjust if r.random() < 0.3 else value.ljust)(text.length)
            end = text.offset + text.length
        lines.append(record[: r.choice([end, end, kind.size, end - 1, 2])] + r.choice(["", "", "  ", "x"]))
    end = "" if blocks else r.choice(["\n", "\r\n", "\r"])
    return plan, _hostile(r, end.join([*lines, ""]).encode(encoding, "replace"))


def cuts(seed: int, data: bytes) -> list[bytes]:
    """The file in pieces, some of them empty."""
    r = Random(seed)
    places = sorted(r.randint(0, len(data)) for _ in range(r.randint(0, 6)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def by_reference(read: Any, *arguments: Any, **options: Any) -> Any:
    """What a face gives where the plain reference serves it."""
    with patch.object(delimited, "IMPLEMENTATION", "python"), patch.object(fixed_width, "IMPLEMENTATION", "python"):
        return read(*arguments, **options)


def rows(read: TextRead) -> list[Any]:
    """Rows as plain values (NaN is equal to itself), each with its line and offset."""
    columns = [plain(column) for column in read.record.columns]
    columns += [read.lines.to_pylist(), read.offsets.to_pylist()]
    return [repr(row) for row in zip(*columns, strict=True)]


def answer(read: TextRead | FixedRead) -> tuple[Any, list[LineError], int, TextState, int]:
    """Everything that a reading says, comparable."""
    if isinstance(read, FixedRead):
        found: Any = {name: rows(kind) for name, kind in read.kinds.items()}
        return found, read.errors, read.consumed, read.state, read.ignored
    assert read.record.schema == pa.schema(read.record.schema)
    return rows(read), read.errors, read.consumed, read.state, 0
