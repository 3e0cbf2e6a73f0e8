"""SAP formats: C agrees with the reference on rows, columns, amounts and code pages, and errors name their place."""

from __future__ import annotations

from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libcore import sapfmt as face
from libcore import sapfmt_columns as columns
from libcore.errors import ConfigurationError, HeadraceError
from libcore.reference import sapfmt as reference
from libcore.reference.values import plain
from libcore.sapfmt_types import Fault, Kind, SapCode, SapField, SapPlan
from libcore.schema import parse_type
from tests.libcore.batches import build, check_sound, same
from tests.libcore.strategies import EXAMPLES, LEVELS, SEEDS, mutated

READ = pytest.mark.parametrize("read", [face.read_cells, reference.read_cells], ids=["face", "reference"])
_TYPES = {
    Kind.CHAR: ["string"],
    Kind.NUMC: ["string", "int16", "int32", "int64"],
    Kind.DATS: ["date"],
    Kind.TIMS: ["time", "time_ns"],
    Kind.NUMBER: ["decimal(7,2)", "decimal(18,3)", "decimal(38,0)", "decimal(60,9)", "numeric"],
    Kind.FLTP: ["float64"],
    Kind.INT1: ["int16", "int64"],
    Kind.INT2: ["int16"],
    Kind.INT4: ["int16", "int32"],
    Kind.INT8: ["int64", "int32"],
    Kind.RAW: ["bytes"],
    Kind.BOOL: ["bool"],
    Kind.PACKED: ["decimal(9,2)", "decimal(38,0)", "decimal(70,5)"],
    Kind.TIMESTAMP: ["timestamp", "timestamptz", "timestamp_ns"],
    Kind.ALPHA_IN: ["string"],
    Kind.ALPHA_OUT: ["string"],
    Kind.ODATA_DATE: ["timestamp", "timestamp_ns"],
    Kind.ODATA_TIME: ["time", "time_ns"],
    Kind.BASE64: ["bytes"],
}
_SEEN = {
    Kind.CHAR: ["", "AB", "A B", " x", "çş", "😀", "AB\t", "|", "Ünal"],
    Kind.NUMC: ["000000", "4711", "", "0000099999", "9223372036854775808", "12a", "0032768"],
    Kind.DATS: ["20240229", "00000000", "", "99991231", "20230230", "00010101", "00000101", "2024-2-9", "20241301"],
    Kind.TIMS: ["153016", "000000", "240000", "", "235959", "1530", "126000", "12 000"],
    Kind.NUMBER: ["0.00", "12.50", "1234567.890-", "  -5", "5-", "*12345", "", "0.005", "1.", ".5", "+7", "-7-", "1e5",
                  "123456789012345678901234567890", "0-", "-", "99999.99", "100000.00", "12,5", "00000000000000000001"],
    Kind.FLTP: ["-1.0000000000000000E-02", "1.5", "1E400", "0", "3-", "1E-400", "nan", "1.E5", "E5", "*", "  7E+1"],
    Kind.INT1: ["255", "256", "-1", "0", "", "00255"],
    Kind.INT2: ["32767", "32768-", "32768", "-32768", "+5"],
    Kind.INT4: ["2147483647", "2147483648", "5-", "-5", "x", "-"],
    Kind.INT8: ["9223372036854775807", "9223372036854775808", "9223372036854775808-", "  12"],
    Kind.RAW: ["00FF10", "00", "abc", "0G", "", "DEADbeef"],
    Kind.BOOL: ["X", "", "-", "x", "XX"],
    Kind.TIMESTAMP: ["20240229153016", "20240229153016.1234567", "20240229153016.1234560", "0", "0.0000000", "",
                     "20230230000000", "20240101240000", "99991231235959", "101000000", "  20240229153016", "2024."],
    Kind.ALPHA_IN: ["4711", "ABC", "47A1", "", "  4711", "  AB", "0", "4 7", "12345678901"],
    Kind.ALPHA_OUT: ["0000004711", "0000000000", "00A1", "", "0", "ABC"],
    Kind.ODATA_DATE: ["/Date(-2208988800000)/", "/Date(0)/", "/Date(1700000000123+0060)/", "/Date()/", "/Date(1)",
                      "/Date(9223372036854775807)/", "/Date(99999999999999999999)/", "/Date(1-)/", ""],
    Kind.ODATA_TIME: ["PT15H30M16S", "PT24H", "PT0S", "PT", "PT1H1H", "PT1.5S", "PT1.5H", "PT0.1234567891S", "PT5",
                      "PT86399S", "PT86400S", "PT0000000001M", "", "P1D"],
    Kind.BASE64: ["AP8Q", "AA==", "AB==", "A", "", "AP8Q AP8Q"],
}  # fmt: skip
_PACKED = [
    b"\x00\x00\x12\x34\x5d",
    b"\x00\x0c",
    b"\x1f",
    b"\x1a",
    b"\x0c",
    b"\xa0\x0c",
    b"\x20\x20",
    b"",
    b"\x99" * 40 + b"\x9c",
]


def _a_field(r: Random, kinds: list[Kind], name: str, offset: int) -> SapField:
    kind = r.choice(kinds)
    length = r.choice([1, 5, 8, 8, 10, 22])
    return SapField(
        name, kind, parse_type(r.choice(_TYPES[kind])), offset, length, r.choice([0, 2, 9]), r.random() < 0.3
    )


def _a_plan(r: Random, binary: bool) -> SapPlan:
    """One to five fields, some skipped; padded with or without a delimiter, or divided by one."""
    kinds = [kind for kind in _TYPES if binary or kind != Kind.PACKED]
    delimiter, padded = r.choice([("", True), ("|", True), ("|", False)])
    fields: list[SapField] = []
    end = r.choice([0, 0, 3])
    for number in range(r.randint(1, 5)):
        field = _a_field(r, kinds, f"F{number}", end + (len(delimiter) if number else 0) + r.choice([0, 0, 0, 2]))
        end = field.offset + field.length
        fields.append(
            field if r.random() < 0.9 else SapField(field.name, Kind.SKIP, offset=field.offset, length=field.length)
        )
    last = fields[-1]
    if last.kind != Kind.ALPHA_IN and r.random() < 0.2:
        fields[-1] = SapField(last.name, last.kind, last.type, last.offset, 0, last.decimals, last.initial_null)
    return SapPlan(tuple(fields), delimiter, padded)


def _a_cell(r: Random, field: SapField) -> bytes:
    if field.kind == Kind.PACKED:
        return r.choice(_PACKED)
    if field.kind == Kind.NUMBER and r.random() < 0.6:  # digits of any count around the point, to the right
        whole, fraction = (r.randrange(10 ** r.randint(0, 20)) for _ in range(2))
        text = f"{whole}.{fraction}"[: r.randint(1, 22)] if r.random() < 0.5 else f"{whole}.{fraction % 1000:03d}"
        return (text + r.choice([" ", "-", ""])).rjust(r.choice([0, field.length])).encode()
    return r.choice(_SEEN.get(field.kind, ["ab"])).encode()


def _a_row(r: Random, plan: SapPlan, text: bool) -> bytes:
    """The fields' cells where the plan looks for them; a cell too long moves the rest, as it does in life."""
    if not plan.padded:
        return plan.delimiter.encode().join(_a_cell(r, field) for field in plan.fields)
    row = b""
    for field in plan.fields:
        units = len(row.decode("utf-8").encode("utf-16-le")) // 2 if text else len(row)
        row += b" " * (field.offset - units - len(plan.delimiter) * (field is not plan.fields[0]))
        row += plan.delimiter.encode() * (field is not plan.fields[0])
        cell = _a_cell(r, field)
        wide = len(cell.decode("utf-8").encode("utf-16-le")) // 2 if text else len(cell)
        row += cell + b" " * (field.length - wide)
    return row if r.random() < 0.5 else row.rstrip(b" ")


def _values(r: Random, plan: SapPlan, binary: bool) -> pa.Array:
    rows: list[bytes | None] = []
    for _ in range(r.choice([0, 1, 6, 6, 6, 40])):
        row = _a_row(r, plan, not binary)
        chance = r.random()
        rows.append(None if chance < 0.05 else mutated(r, row) if chance < 0.3 else row)
    skipped = r.randint(0, min(2, len(rows)))
    values = pa.array(rows, pa.binary())[skipped:]
    return values if binary else values.view(pa.utf8())


def _told(plan: SapPlan, made: tuple[list[pa.Array], list[Fault]]) -> tuple[pa.RecordBatch, list[Fault]]:
    record = pa.RecordBatch.from_arrays(made[0], schema=plan.schema)
    check_sound(record)
    return record, made[1]


@settings(max_examples=EXAMPLES)
@given(SEEDS, st.booleans())
def test_c_agrees_with_the_reference(seed: int, binary: bool) -> None:
    """Columns, NULLs, and the row, place, code and field of each fault are the reference's, for any plan and rows."""
    r = Random(seed)
    plan = _a_plan(r, binary)
    if not plan.columns:
        return
    values = _values(r, plan, binary)
    expected, faults = _told(plan, reference.read_cells(plan, values))
    for level in LEVELS:
        found, found_faults = _told(plan, face.read_cells(plan, values, level=level))
        assert found_faults == faults
        assert same(found, expected)


@pytest.mark.parametrize("kind", _SEEN, ids=lambda kind: kind.name)
def test_every_kind_and_every_seen_value(kind: Kind) -> None:
    """Each kind into each of its types, as text and as bytes, with and without the initial value as NULL, agrees; and
    each reads some values and refuses others, unless it takes any."""
    values = pa.array([None, *_SEEN[kind], *(f" {text} " for text in _SEEN[kind])], pa.utf8())
    read, refused = 0, 0
    for type_name in _TYPES[kind]:
        for initial_null in (False, True):
            plan = SapPlan((SapField("V", kind, parse_type(type_name), length=30, initial_null=initial_null),))
            for given_values in (values, values.cast(pa.binary())):
                expected, faults = _told(plan, reference.read_cells(plan, given_values))
                found, found_faults = _told(plan, face.read_cells(plan, given_values))
                assert found_faults == faults
                assert same(found, expected)
                read += len(found) - found.column(0).null_count
                refused += len(faults)
    assert read
    assert refused or kind in (Kind.CHAR, Kind.ALPHA_IN, Kind.ALPHA_OUT)


@settings(max_examples=EXAMPLES)
@given(SEEDS, st.booleans())
def test_amounts_move_as_in_the_reference(seed: int, to_real: bool) -> None:
    """Amounts of any layout, currencies known, unknown, blank and NULL: C and reference give the same."""
    r = Random(seed)
    types = [pa.decimal128(15, 2), pa.decimal128(38, 4), pa.decimal256(76, 2), pa.decimal128(5, 0)]
    stored, target = r.choice(types), r.choice([*types, pa.decimal128(18, 3), pa.decimal256(50, 9)])
    size = r.choice([0, 1, 20])
    amounts = [
        None if r.random() < 0.1 else r.choice([0, 1, -100, 12345, 10 ** (stored.precision - 1), -7000])
        for _ in range(size)
    ]
    keys = [r.choice(["JPY", "JPY  ", "TND", "EUR", "", "TOOLONGKEY", None]) for _ in range(size)]
    decimals = {"JPY": 0, "TND": 3, "CLF": 4, "X" * 8: 9}
    arguments = (build(stored, amounts), pa.array(keys, pa.utf8()), decimals, target)
    expected, faults = reference.shift(*arguments, to_real)
    found, found_faults = columns.shift_cells(*arguments, to_real=to_real)
    assert found_faults == faults
    assert plain(found) == plain(expected)
    if to_real and stored.scale == 2 and target == pa.decimal128(18, 3):
        back, _ = columns.shift_cells(found, arguments[1], decimals, stored, to_real=False)
        assert all(a is None or a == b for a, b in zip(plain(back), amounts, strict=True))


@settings(max_examples=EXAMPLES)
@given(
    st.lists(st.none() | st.binary(max_size=9) | st.text(max_size=5).map(lambda text: text.encode("utf-16-le"))),
    st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "iso8859-1", "iso8859-9", "cp1252", "iso8859-7", "cp1251"]),
)
@example([b"\xd8\x00\xdc", b"\x00\xd8\x00\xdc", b"\x3d\xd8\x00\xde", b"\x81", b"a"], "utf-16-le")
@example([b"\x00\xd8a\x00", b"\x00\xdc", b"\xff\xdb\xff\xdf"], "utf-16-le")
@example([b"\xd8\x3d\xde\x00", b"\xd8\x00", b"\xdc\x00", b"\x00"], "utf-16-be")
def test_code_pages_are_pythons(values: list[bytes | None], codec: str) -> None:
    """C decodes each page as Python's codec does, and blames the byte that it blames."""
    array = pa.array(values, pa.binary())
    expected, faults = reference.transcode(array, codec)
    found, found_faults = columns.transcode_cells(array, codec)
    found.validate(full=True)
    assert found_faults == faults
    assert found.equals(expected)


@READ
def test_one_row_of_each_fault(read: Any) -> None:
    """A fault is told at its byte, its neighbours in the row and the rows beside it are read."""
    plan = SapPlan((SapField("A", Kind.CHAR, length=3), SapField("D", Kind.DATS, parse_type("date"), 3, 8),
                    SapField("N", Kind.NUMBER, parse_type("decimal(5,2)"), 11, 8)))  # fmt: skip
    rows = [
        "abc20240229   1.50-",
        "abc20230230   1.50",
        "ab😀0240229   1.50",
        "äbc20240229 1000.00x",
        "äbc20240229 0.005",
        "abc",
        "abc20240229 *2345.67",
        "abc20240229 12345.67",
    ]
    made, faults = read(plan, pa.array(rows, pa.utf8()))
    assert [(fault.row, fault.byte_position, fault.code, fault.field) for fault in faults] == [
        (1, 3, SapCode.INVALID_DATS, 1),
        (2, 2, SapCode.UTF8, 0),
        (3, 12, SapCode.RANGE, 2),
        (4, 12, SapCode.SCALE, 2),
        (6, 11, SapCode.OVERFLOWED_NUMBER, 2),
        (7, 11, SapCode.RANGE, 2),
    ]
    assert made[0].to_pylist() == ["abc", "abc", None, "äbc", "äbc", "abc", "abc", "abc"]
    assert plain(made[2]) == [-150, 150, None, None, None, None, None, None]


@READ
def test_delimiters(read: Any) -> None:
    """Padded, a delimiter may stand in a value, and must stand before each field; divided, it may not, and must."""
    fields = (SapField("A", Kind.CHAR, length=3), SapField("B", Kind.CHAR, offset=4, length=2))
    padded, divided = SapPlan(fields, "|"), SapPlan(fields, "|", padded=False)
    made, faults = read(padded, pa.array(["a|b|cd", "a  xcd", "ab", "abc|d xx", "a  |"]))
    assert [column.to_pylist() for column in made] == [["a|b", "a", "ab", "abc", "a"], ["cd", None, None, "d", ""]]
    assert [(fault.row, fault.byte_position, fault.code) for fault in faults] == [
        (1, 3, SapCode.DELIMITER), (2, 2, SapCode.DELIMITER), (3, 6, SapCode.LENGTH)]  # fmt: skip
    made, faults = read(divided, pa.array(["a|cd", "a|b|cd", "ab", "abcd|d", "|"]))
    assert [column.to_pylist() for column in made] == [["a", "a", "ab", None, ""], ["cd", None, None, "d", ""]]
    assert [(fault.row, fault.byte_position, fault.code) for fault in faults] == [
        (1, 3, SapCode.DELIMITER), (2, 2, SapCode.DELIMITER), (3, 0, SapCode.LENGTH)]  # fmt: skip


@READ
def test_a_delimiter_in_a_value_is_told_before_what_it_makes_of_other_cells(read: Any) -> None:
    """Divided, a row of too many or too few cells is a DELIMITER, however bad the cells are that it was cut into."""
    fields = (
        SapField("A", Kind.CHAR, length=3),
        SapField("D", Kind.DATS, parse_type("date")),
        SapField("B", Kind.CHAR),
    )
    rows = ["x|y|20240101|b", "x|20240199", "abcd|20240101|b|c", "abcd|20240199|b"]
    _, faults = read(SapPlan(fields, "|", padded=False), pa.array(rows))
    assert [(fault.row, fault.byte_position, fault.code) for fault in faults] == [
        (0, 12, SapCode.DELIMITER), (1, 10, SapCode.DELIMITER), (2, 15, SapCode.DELIMITER), (3, 0, SapCode.LENGTH)
    ]  # fmt: skip


def test_rows_leave_out_the_bad_ones_or_keep_them() -> None:
    """The result says which input rows it holds; each error names column, place and what was found."""
    plan = SapPlan((SapField("ID", Kind.CHAR, length=2), SapField("D", Kind.DATS, parse_type("date"), 2, 8)))
    values = pa.array(["0120240229", "0220240231", "0300000000"])
    rows = face.read_rows(plan, values)
    assert rows.rows.to_pylist() == [0, 2]
    assert rows.record.column(0).to_pylist() == ["01", "03"]
    assert (rows.errors[0].row, rows.errors[0].byte_position, rows.errors[0].column) == (1, 2, "D")
    assert "20240231" in rows.errors[0].text
    assert "byte 2 of 10" in rows.errors[0].text
    kept = face.read_rows(plan, values, keep_bad=True)
    assert kept.rows.to_pylist() == [0, 1, 2]
    assert kept.record.column(1).null_count == 2


def test_a_currency_shifts_its_amount() -> None:
    """In one plan: the amount is what it is in its currency, and an amount that does not fit names its cell."""
    plan = SapPlan(
        (
            SapField("TEXT", Kind.CHAR, length=2),
            SapField("WAERK", Kind.CHAR, offset=2, length=5, initial_null=True),
            SapField("NETWR", Kind.NUMBER, parse_type("decimal(9,3)"), 7, 12, currency="WAERK"),
        )
    )
    texts = ["abJPY         1.00 ", "abTND      1000.00-", "abEUR         1.23 ", "äbJPY   99999.99 "]
    values = pa.array([*texts, "ab            1.00", "ab            0.00"])
    rows = face.read_rows(plan, values, {"JPY": 0, "TND": 3})
    assert plain(rows.record.column(2)) == [100_000, -100_000, 1_230, 0]
    assert [(error.row, error.byte_position, error.code) for error in rows.errors] == [
        (3, 8, SapCode.RANGE), (4, 7, SapCode.CURRENCY)]  # fmt: skip
    with pytest.raises(ConfigurationError, match="TCURX"):
        face.read_rows(plan, values)


@READ
def test_many_rows_and_none(read: Any) -> None:
    """Sizes: no row, one, and more than two blocks with a wide one and a bad one among them."""
    plan = SapPlan((SapField("A", Kind.NUMC, length=6), SapField("B", Kind.CHAR, offset=6, length=4)))
    for count in (0, 1, 512, 1300):
        texts = [f"{i:06d}{'ä' if i == 700 else 'b'}" for i in range(count)]
        if count > 1200:
            texts[1200] = "x"
        (a, b), faults = read(plan, pa.array(texts, pa.utf8()))
        assert a.to_pylist() == [None if i == 1200 else f"{i:06d}" for i in range(count)]
        assert b.to_pylist() == ["ä" if i == 700 else "" if i == 1200 else "b" for i in range(count)]
        assert faults == ([Fault(1200, 0, SapCode.TYPE, 0)] if count > 1200 else [])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SapPlan(()), "1 to 4096 fields"),
        (lambda: SapPlan((SapField("A", Kind.CHAR),), "||"), "one ASCII character"),
        (lambda: SapPlan((SapField("A", Kind.CHAR),), padded=False), "one ASCII character"),
        (lambda: SapPlan((SapField("A", Kind.DATS),)), "DATS fills date"),
        (lambda: SapPlan((SapField("A", Kind.CHAR), SapField("B", Kind.CHAR))), "expected a length"),
        (lambda: SapPlan((SapField("A", Kind.CHAR, length=3), SapField("B", Kind.CHAR, offset=2))), "expected 3"),
        (lambda: SapPlan((SapField("A", Kind.CHAR, length=3), SapField("B", Kind.CHAR, offset=3)), "|"), "expected 4"),
        (lambda: SapPlan((SapField("A", Kind.CHAR, length=3), SapField("A", Kind.CHAR, offset=3))), "twice"),
        (lambda: SapPlan((SapField("A", Kind.ALPHA_IN),)), "length to fill"),
        (lambda: SapPlan((SapField("A", Kind.NUMBER, parse_type("decimal(9,2)"), currency="W"),)), "currency W"),
        (lambda: SapPlan((SapField("A", Kind.CHAR, currency="A"),)), "only a decimal"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be(make: Any, text: str) -> None:
    """A plan that no row can have is refused before any row is read, with the field's name."""
    with pytest.raises(ConfigurationError, match=text):
        make()


def test_wrong_arguments_are_refused() -> None:
    """Packed digits in text, columns of other types, unknown code pages and impossible currencies are errors."""
    packed = SapPlan((SapField("P", Kind.PACKED, parse_type("decimal(9,2)"), length=5),))
    with pytest.raises(ConfigurationError, match="P: packed"):
        face.read_cells(packed, pa.array(["a"]))
    with pytest.raises(TypeError):
        face.read_cells(packed, pa.array([1]))
    for page in ("9999", "shift_jis", "rot13", "utf-7", "cp500"):
        with pytest.raises(ConfigurationError):
            columns.from_code_page(pa.array([b"a"], pa.binary()), page)
    for decimals in ({"JPY": 10}, {"JPY ": 0}, {"J" * 9: 0}):
        with pytest.raises((ConfigurationError, HeadraceError)):
            columns.shift_amounts(
                pa.array([1], pa.decimal128(5, 2)), pa.array(["JPY"]), decimals, parse_type("decimal(9,3)")
            )
