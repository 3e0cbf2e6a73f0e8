"""Delimited files: C and reference read every file alike, however it is cut, and each rule of the dialects holds."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.delimited import (
    DelimitedPlan,
    DelimitedReader,
    Dialect,
    LineCode,
    TextColumn,
    TextRead,
    Trim,
    check_plan,
    read_delimited,
)  # fmt: skip
from libcore.errors import ConfigurationError, DataError
from libcore.schema import Column, parse_type
from tests.libcore.delimited_files import answer, any_delimited, by_reference, cuts, rows
from tests.libcore.strategies import EXAMPLES, LEVELS, SEEDS

FACES = [read_delimited, lambda *a, **k: by_reference(read_delimited, *a, **k)]
BARE = Dialect(header=False)


def column(name: str, kind: str = "string", nullable: bool = True, **options: Any) -> TextColumn:
    return TextColumn(Column(name, parse_type(kind), nullable), **options)


def outcome(read: Any, plan: DelimitedPlan, data: bytes, **options: Any) -> Any:
    """The answer, or the error's text where the header cannot be used."""
    try:
        return answer(read(plan, data, **options))
    except DataError as error:
        return str(error)


@settings(max_examples=EXAMPLES)
@given(SEEDS, st.booleans(), st.sampled_from([1, 3, 1 << 20]))
def test_c_agrees_with_the_reference(seed: int, final: bool, rows_max: int) -> None:
    """C gives rows, lines, errors and state of the reference, at every level of the machine."""
    plan, data = any_delimited(seed)
    expected = outcome(FACES[1], plan, data, final=final, rows_max=rows_max)
    for level in LEVELS:
        assert outcome(read_delimited, plan, data, final=final, rows_max=rows_max, level=level) == expected


@settings(max_examples=EXAMPLES)
@given(SEEDS)
def test_where_a_file_is_cut_does_not_matter(seed: int) -> None:
    """A file in pieces gives the rows, errors and end of the whole, also where a new reader goes on from the state."""
    plan, data = any_delimited(seed)
    try:
        whole = read_delimited(plan, data, final=True)
    except DataError:
        assert plan.dialect.header
        return
    reader, found, errors, pieces = DelimitedReader(plan), [], [], cuts(seed, data)
    for number, piece in enumerate(pieces):
        read = reader.feed(piece, final=number == len(pieces) - 1)
        found, errors = found + rows(read), errors + read.errors
        if seed % 3 == 0:  # a restart: only the state was kept
            rest = data[reader.state.offset : sum(map(len, pieces[: number + 1]))]
            reader = DelimitedReader(plan, reader.state)
            reader._rest = rest
    assert (found, errors, reader.state) == (rows(whole), whole.errors, whole.state)
    assert reader.state.offset == len(data)


@settings(max_examples=EXAMPLES)
@given(
    st.lists(st.lists(st.text(max_size=12).filter(lambda t: "\0" not in t), min_size=2, max_size=2), max_size=8),
    st.sampled_from(["\r\n", "\n"]),
)
def test_what_pythons_writer_wrote_comes_back(table: list[list[str]], end: str) -> None:
    """Any texts that Python's csv module quotes and writes are read as they were."""
    table = [["".join(c for c in text if not "\ud800" <= c <= "\udfff") for text in row] for row in table]
    out = io.StringIO()
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(table)
    read = read_delimited(DelimitedPlan((column("a"), column("b")), BARE), out.getvalue().encode(), final=True)
    assert [list(row.values()) for row in read.record.to_pylist()] == table
    assert not read.errors


def one(read: Any, text: str | bytes, kind: str = "string", dialect: Dialect = BARE, **options: Any) -> Any:
    """The value of a one-column record, or the code of its error."""
    data = text.encode(dialect.encoding) if isinstance(text, str) else text
    done: TextRead = read(DelimitedPlan((column("c", kind, **options),), dialect), data + b"\n", final=True)
    assert done.record.num_rows + len(done.errors) == 1
    return done.errors[0].code if done.errors else done.record.column(0)[0].as_py()


UTC2 = timezone(timedelta(hours=2))
VALUES: list[tuple[str, str, dict[str, Any], Any]] = [
    ("int64", "9223372036854775807", {}, 2**63 - 1),
    ("int64", "9223372036854775808", {}, LineCode.RANGE),
    ("int64", " 12.00 ", {}, 12),
    ("int64", "12.5", {}, LineCode.SCALE),
    ("int64", "1.234-", {"decimal": ",", "thousands": "."}, -1234),
    ("int64", "5-", {"trailing_sign": False}, LineCode.TYPE),
    ("int16", "-32768", {}, -32768),
    ("int16", "32768", {}, LineCode.RANGE),
    ("decimal(12,2)", '"1.234.567,89"', {"decimal": ",", "thousands": "."}, Decimal("1234567.89")),
    ("decimal(12,2)", "1.5", {"decimal": ",", "thousands": "."}, LineCode.TYPE),
    ("decimal(12,2)", '"1234.567,89"', {"decimal": ",", "thousands": "."}, LineCode.TYPE),
    ("decimal(12,2)", "1,5", {}, LineCode.FIELDS),
    ("decimal(12,2)", '"1,5"', {}, LineCode.TYPE),
    ("decimal(12,2)", "1.005", {}, LineCode.SCALE),
    ("decimal(4,2)", "100", {}, LineCode.RANGE),
    ("decimal(12,2)", "0012345", {"implied_decimals": 2}, Decimal("123.45")),
    ("decimal(12,2)", "123.45", {"implied_decimals": 2}, LineCode.TYPE),
    ("decimal(12,2)", "****", {}, LineCode.TYPE),
    ("decimal(76,2)", "9" * 74 + ".99", {}, Decimal("9" * 74 + ".99")),
    ("numeric", "-001.50", {}, "-1.50"),
    ("float64", "1.0E+02", {}, 100.0),
    ("float64", "1e400", {}, LineCode.RANGE),
    ("float32", "3.5e38", {}, LineCode.RANGE),
    ("float32", "7.038531e-26", {}, 7.038530691851209e-26),
    ("bool", "X", {}, True),
    ("bool", "FALSE", {}, False),
    ("bool", "maybe", {}, LineCode.TYPE),
    ("bytes", "00fF", {}, b"\x00\xff"),
    ("bytes", "\\x0a", {}, b"\n"),
    ("bytes", "0", {}, LineCode.TYPE),
    ("bytes", "aGk=", {"base64": True}, b"hi"),
    ("date", "2024-02-29", {}, date(2024, 2, 29)),
    ("date", "2023-02-29", {}, LineCode.RANGE),
    ("date", "20240229", {"pattern": "%Y%m%d"}, date(2024, 2, 29)),
    ("date", "00000000", {"pattern": "%Y%m%d", "null_words": ("00000000",)}, None),
    ("date", "00000000", {"pattern": "%Y%m%d"}, LineCode.RANGE),
    ("date", "1.2.2024", {"pattern": "%d.%m.%Y"}, date(2024, 2, 1)),
    ("date", "29-feb-2024", {"pattern": "%d-%b-%Y"}, date(2024, 2, 29)),
    ("time", "240001", {"pattern": "%H%M%S"}, LineCode.RANGE),
    ("time", "235959", {"pattern": "%H%M%S"}, time(23, 59, 59)),
    ("timestamp", "2024-02-29 12:00:01.5", {}, datetime(2024, 2, 29, 12, 0, 1, 500000)),
    ("timestamp", "2024-02-29T12:00:01.1234567", {}, LineCode.SCALE),
    ("timestamp", "20240229120001", {"pattern": "%Y%m%d%H%M%S"}, datetime(2024, 2, 29, 12, 0, 1)),
    ("timestamptz", "2024-02-29 12:00:00+02:00", {}, datetime(2024, 2, 29, 12, tzinfo=UTC2)),
    ("timestamptz", "2024-02-29 12:00:00", {}, LineCode.TYPE),
    ("timestamptz", "202402291200+02", {"pattern": "%Y%m%d%H%M%z"}, datetime(2024, 2, 29, 12, tzinfo=UTC2)),
    ("int64", '""', {}, None),
    ("int64", " ", {"nullable": False}, LineCode.NULL),
    ("string", '""', {}, ""),
    ("string", "NULL", {"null_words": ("NULL",)}, None),
    ("string", '"NULL"', {"null_words": ("NULL",)}, "NULL"),
    ("string", " a ", {}, " a "),
    ("string", " a ", {"trim": Trim.BOTH}, "a"),
    ("string", '12" pipe', {}, '12" pipe'),
    ("string", '"12"" pipe"', {}, '12" pipe'),
    ("string", '"12" pipe"', {}, LineCode.QUOTE),
    ("string", '"open', {}, LineCode.QUOTE),
]


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
def test_values(read: Any) -> None:
    """Each rule of a value once: exact, never rounded, an error where it does not fit."""
    found = [(text, one(read, text, kind, **options)) for kind, text, options, _ in VALUES]
    assert found == [(text, expected) for _, text, _, expected in VALUES]


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        (Dialect(header=False, lazy_quotes=True), b'"12" pipe"', '12" pipe'),
        (Dialect(header=False, escape="\\"), b'"a\\"b"', 'a"b'),
        (Dialect(header=False, escape="\\", quote=None), b"a\\,b\\\\", "a,b\\"),
        (Dialect(header=False, escape="\\", quote=None, c_escapes=True), b"a\\tb\\\nc", "a\tb\nc"),
        (Dialect(header=False, delimiter=";"), b'"two\r\nlines"', "two\r\nlines"),
        (Dialect(header=False, quote=None), b'"a"', '"a"'),
        (Dialect(header=False, encoding="cp1252"), b"\xe4\x80", "ä€"),
        (Dialect(header=False, encoding="cp1252"), b"\x81", LineCode.UTF8),
        (Dialect(header=False), b"\xe4", LineCode.UTF8),
        (Dialect(header=False, record_bytes_max=4), b"abcd", "abcd"),
        (Dialect(header=False, record_bytes_max=4), b"abcde", LineCode.LONG),
    ],
)
def test_dialects(read: Any, dialect: Dialect, text: bytes, expected: Any) -> None:
    """Each switch of a dialect does what it says."""
    assert one(read, text, dialect=dialect) == expected


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
@pytest.mark.parametrize("encoding", ["utf-8", "UTF_8", "utf-8-sig", "cp1252"])
def test_words_are_looked_for_as_the_file_writes_them(read: Any, encoding: str) -> None:
    """NULL words, words of truth and signs between thousands count in every name of an encoding, and in code pages."""
    dialect = Dialect(header=False, encoding=encoding)
    assert one(read, "n\u00e9ant", dialect=dialect, null_words=("n\u00e9ant", "\u65e5")) is None
    assert one(read, "s\u00ed", "bool", dialect, true_words=("\u03bd\u03b1\u03b9", "S\u00ed")) is True
    assert one(read, "n\u00f3", "bool", dialect, false_words=("N\u00f3",)) is False
    number = one(read, "1\u00a0234,5", "decimal(9,1)", Dialect(";", header=False, encoding=encoding),
                 decimal=",", thousands="\u00a0")  # fmt: skip
    assert number == Decimal("1234.5")


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_file_of_an_erp(read: Any, end: bytes) -> None:
    """Preamble, comment, header in another order, blank line, trailing delimiter: rows with their lines and offsets."""
    lines = [b"Report 7", b"# made", b"Note; ID ;AMOUNT;", b'"a;b";1;1.000,00-;', b"", b"c;x;1;", b"d;3;;", b"e;4"]
    dialect = Dialect(delimiter=";", comment="#", skip_lines=1, trailing_delimiter=True)
    amount = column("amount", "decimal(9,2)", decimal=",", thousands=".")
    plan = DelimitedPlan((column("id", "int32", False), amount, column("note")), dialect, ignore_case=True)
    data = end.join(lines)
    # the header ends with a delimiter too, so its last field has no name
    done = read(plan, data, final=True)
    assert done.record.to_pylist() == [
        {"id": 1, "amount": Decimal("-1000.00"), "note": "a;b"}, {"id": 3, "amount": None, "note": "d"},
    ]  # fmt: skip
    assert done.lines.to_pylist() == [4, 7]
    assert [data[at:].split(end)[0] for at in done.offsets.to_pylist()] == [lines[3], lines[6]]
    assert [(e.line, e.code, e.byte_position, e.column, e.raw) for e in done.errors] == [
        (6, LineCode.TYPE, 2, "id", lines[5]), (8, LineCode.FIELDS, 3, "", lines[7]),
    ]  # fmt: skip
    assert done.state.header == ("Note", "ID", "AMOUNT", "")


def test_an_open_quote_costs_its_own_line() -> None:
    """A quote that never closes is blamed on its line, and the lines behind it are read."""
    data = b'1,a\n2,"b\n' + b"".join(b"%d,x\n" % i for i in range(3, 1000))
    plan = DelimitedPlan((column("id", "int64"), column("t")), Dialect(header=False, record_bytes_max=500))
    done = read_delimited(plan, data, final=True)
    assert done.record.column(0).to_pylist() == [1, *range(3, 1000)]
    assert [(e.line, e.code, e.raw) for e in done.errors] == [(2, LineCode.QUOTE, b'2,"b')]


def test_rows_max_bounds_a_batch() -> None:
    """A call ends with its last allowed row, and the next one goes on behind it."""
    plan, data = DelimitedPlan((column("id", "int64"),), BARE), b"".join(b"%d\n" % i for i in range(10))
    reader = DelimitedReader(plan)
    found = [reader.feed(data, rows_max=4), reader.feed(b"", rows_max=4), reader.feed(b"", final=True, rows_max=4)]
    assert [read.record.num_rows for read in found] == [4, 4, 2]
    assert reader.kept_bytes == 0 and reader.state.line == 11


@pytest.mark.parametrize("data", [b"", b"\n", b"a", b"a\n", b"\xef\xbb\xbf", b"\xef\xbb\xbfa\n", b"a\r", b"a,b\n1"])
def test_small_files(data: bytes) -> None:
    """No rows, a header alone, a mark alone: an answer with the plan's columns, and everything consumed at the end."""
    plan = DelimitedPlan((column("a"),))
    done = read_delimited(plan, data, final=True)
    assert done.record.schema == pa.schema([pa.field("a", pa.utf8())])
    assert (
        (done.record.num_rows, done.consumed) == (0, len(data))
        if data != b"a,b\n1"
        else done.errors[0].code == LineCode.FIELDS
    )


def test_many_rows() -> None:
    """A million records in one piece are a million rows with the greatest values of their types."""
    line = b"-9223372036854775808,99999999999999999999999999999999999999,\xc3\xa4\n"
    plan = DelimitedPlan((column("i", "int64"), column("d", "decimal(38,0)"), column("t")), BARE)
    done = read_delimited(plan, line * 1_000_000, final=True)
    assert done.record.num_rows == 1_000_000 and not done.errors
    assert done.record.slice(999_999).to_pylist() == [{"i": -(2**63), "d": Decimal("9" * 38), "t": "ä"}]
    assert done.lines[-1].as_py() == 1_000_000


@pytest.mark.parametrize(
    ("header", "reason"), [(b"a\n", "'b', found no"), (b"a,b,b\n", "more than one"), (b'a,"b\n', "QUOTE")]
)
def test_a_header_that_does_not_fit(header: bytes, reason: str) -> None:
    """A header that lacks or repeats a wanted name, or cannot be read, is refused with what it has."""
    with pytest.raises(DataError, match=reason):
        read_delimited(DelimitedPlan((column("a"), column("b"))), header + b"1,2\n", final=True)


@pytest.mark.parametrize(
    "plan",
    [
        DelimitedPlan((column("a"),), Dialect(delimiter='"')),
        DelimitedPlan((column("a"),), Dialect(delimiter="ä")),
        DelimitedPlan((column("a"),), Dialect(escape="\n")),
        DelimitedPlan((column("a"),), Dialect(encoding="utf-16")),
        DelimitedPlan((column("a"),), Dialect(encoding="cp932")),
        DelimitedPlan((column("a"),), Dialect(record_bytes_max=0)),
        DelimitedPlan((column("a"), column("a"))),
        DelimitedPlan((column("a", field_index=2),), BARE, field_count=2),
        DelimitedPlan((column("a", "int64", thousands="."),)),
        DelimitedPlan((column("a", "date", pattern="%Y-%m"),)),
        DelimitedPlan((column("a", "date", pattern="%Y-%m-%d %H:%M"),)),
        DelimitedPlan((column("a", "timestamptz", pattern="%Y%m%d%H%M"),)),
        DelimitedPlan((column("a", "timestamp", pattern="%Y%m%d%H%M%z"),)),
        DelimitedPlan((column("a", "date", pattern="%y%m%d"),)),
        DelimitedPlan((column("a", pattern="%Y%m%d"),)),
    ],
)
def test_plans_that_contradict_themselves(plan: DelimitedPlan) -> None:
    """A plan that cannot mean what it says is refused before a byte is read."""
    with pytest.raises(ConfigurationError):
        check_plan(plan)
    with pytest.raises(ConfigurationError):
        read_delimited(plan, b"a\n1\n", final=True)
