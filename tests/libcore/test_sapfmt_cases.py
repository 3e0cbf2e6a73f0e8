"""SAP formats, case by case: every worked conversion of tests/golden/sap_cases.json, and the protocol around them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libcore import sapfmt, sapfmt_columns, sapfmt_rfc
from libcore.errors import ConfigurationError, HeadraceError
from libcore.reference import sapfmt as reference
from libcore.sapfmt_types import Kind, SapCode, SapField
from libcore.schema import parse_type

CASES = json.loads((Path(__file__).parent.parent / "golden" / "sap_cases.json").read_text("utf-8"))["cases"]
_ERRORS = {
    "invalid_dats": SapCode.INVALID_DATS,
    "invalid_tims": SapCode.INVALID_TIMS,
    "overflowed_number": SapCode.OVERFLOWED_NUMBER,
    "out_of_range": SapCode.RANGE,
    "error: too long": SapCode.LENGTH,
}


def value_of(kind: Kind, type_name: str, value: str | bytes, **options: Any) -> Any:
    """What a kind reads, or the error's code; the reference must say the same."""
    field = SapField("V", kind, parse_type(type_name), **options)
    values = pa.array([value])
    column, errors = sapfmt.read_column(values, field)
    again, faults = reference.read_cells(sapfmt.SapPlan((field,)), values)
    assert column.equals(again[0])
    assert [error.code for error in errors] == [fault.code for fault in faults]
    return errors[0].code if errors else column[0].as_py()


def _expected(out: dict[str, Any], name: str) -> Any:
    """The value under that name, or the code of the error that the case tells."""
    text = str(out.get("error") or (out[name] if str(out.get(name)).startswith("error") else ""))
    return next((code for word, code in _ERRORS.items() if text.startswith(word)), out.get(name))


def _iso(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _amount(text: str) -> Decimal:
    return Decimal(text)


def _dats(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert _iso(value_of(Kind.DATS, "date", given["value"])) == _expected(out, "date")


def _tims(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert _iso(value_of(Kind.TIMS, "time", given["value"])) == _expected(out, "time")


def _date_time(given: dict[str, Any], out: dict[str, Any]) -> None:
    day, _ = sapfmt.read_column(
        pa.array([given.get("dats", given.get("UDATE"))]), SapField("D", Kind.DATS, parse_type("date"))
    )
    time, _ = sapfmt.read_column(
        pa.array([given.get("tims", given.get("UTIME"))]), SapField("T", Kind.TIMS, parse_type("time"))
    )
    wanted = out.get("timestamp") or out["watermark"].split()[0]
    assert sapfmt_columns.date_time(day, time)[0].as_py().isoformat() == wanted


def _timestamp(given: dict[str, Any], out: dict[str, Any]) -> None:
    field = SapField("V", Kind.TIMESTAMP, parse_type("timestamp_ns"))
    column, errors = sapfmt.read_column(pa.array([given["value"]]), field)
    assert not errors
    wanted = out["timestamp_utc"]
    found = column.cast(pa.string())[0].as_py()
    assert found == (None if wanted is None else wanted.rstrip("Z").replace("T", " ") + "00")


def _text(given: dict[str, Any], out: dict[str, Any]) -> None:
    kind = Kind.NUMC if given.get("type") == "NUMC" else Kind.CHAR
    text = given.get("value", given.get("mandt"))
    found = value_of(kind, "string", text, length=given.get("length", 0))
    # what a client library strips beyond blanks is not this format's: a tab at the end is data here
    assert found == (text if given.get("rstrip") else out["text"])
    initial = value_of(kind, "string", text, length=given.get("length", 0), initial_null=True) is None
    assert initial == out.get("is_initial", False)


def _alpha(given: dict[str, Any], out: dict[str, Any]) -> None:
    if "internal" in out:
        found = value_of(Kind.ALPHA_IN, "string", given["value"], length=given["length"])
        assert found == _expected(out, "internal")
    else:
        assert value_of(Kind.ALPHA_OUT, "string", given["internal"]) == out["external"]


def _currency(given: dict[str, Any], out: dict[str, Any]) -> None:
    to_real = "stored" in given
    amounts = pa.array([_amount(given["stored"] if to_real else given["amount"])], pa.decimal128(15, 2))
    decimals = {} if given["tcurx_currdec"] is None else {given["currency"]: given["tcurx_currdec"]}
    currencies, target = pa.array([given["currency"]]), parse_type("decimal(17,3)")
    column, errors = sapfmt_columns.shift_amounts(amounts, currencies, decimals, target, to_real=to_real)
    assert not errors
    assert column[0].as_py() == _amount(out["amount"] if to_real else out["stored"])
    again, _ = reference.shift(amounts, currencies, decimals, target.arrow, to_real)
    assert column.equals(again)


def _packed(given: dict[str, Any], out: dict[str, Any]) -> None:
    found = value_of(Kind.PACKED, "decimal(9,2)", bytes.fromhex(given["hex"]), decimals=given["decimals"])
    assert str(found) == out["decimal"]


def _number(given: dict[str, Any], out: dict[str, Any]) -> None:
    text = next(given[name] for name in ("text", "stored", "NTGEW") if name in given)
    wanted = out.get("decimal", out.get("quantity", _expected(out, "decimal")))
    found = value_of(Kind.NUMBER, "decimal(15,3)", text)
    assert found == (Decimal(wanted) if isinstance(wanted, str) else wanted)
    if isinstance(wanted, str):
        assert value_of(Kind.NUMBER, "numeric", text) == wanted


def _fltp(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert value_of(Kind.FLTP, "float64", given["text"]) == out["float"]


def _int1(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert value_of(Kind.INT1, "int16", str(given["in_value"])) == _expected(out, "value")


def _lang(given: dict[str, Any], out: dict[str, Any]) -> None:
    column, errors = sapfmt_columns.lookup(pa.array([given["spras"]]), sapfmt_rfc.LANGUAGES, pa.utf8())
    assert (column.to_pylist(), errors) == ([out["iso"]], [])


def _bool(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert value_of(Kind.BOOL, "bool", given["value"], length=1) is out["bool"]


def _row(given: dict[str, Any], out: dict[str, Any]) -> None:
    rows = sapfmt.read_rows(sapfmt_rfc.fields_plan(given["fields"]), pa.array([given["wa"]]))
    assert (rows.record.to_pylist(), rows.errors) == ([out], [])


def _options(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert sapfmt_rfc.options(given["where"]) == out["OPTIONS"]


def _calls(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert sapfmt_rfc.calls(given["field_lengths"], 2) == out["calls"]


def _letter(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert sapfmt_rfc.LETTERS[given["type"]][0] == out["meaning"]


def _odata_date(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert _iso(value_of(Kind.ODATA_DATE, "timestamp", given["value"])) == out["timestamp"]


def _odata_time(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert _iso(value_of(Kind.ODATA_TIME, "time", given["value"])) == out["time"]


def _binary(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert value_of(Kind.BASE64, "bytes", given["value"]).hex() == out["bytes_hex"]


def _delta(given: dict[str, Any], out: dict[str, Any]) -> None:
    assert sapfmt_rfc.delta_token(given["__delta"]) == out["token"]


def _operation(given: dict[str, Any], out: dict[str, Any]) -> None:
    column, table = (given["CHNGIND"], sapfmt_rfc.CHANGE_OPERATIONS) if "CHNGIND" in given else (
        given["ODQ_CHANGEMODE"], sapfmt_rfc.ODQ_OPERATIONS)  # fmt: skip
    found, errors = sapfmt_columns.lookup(pa.array([column]), table, pa.utf8())
    assert (found.to_pylist(), errors) == ([out["op"].split()[0]], [])


def _table_key(given: dict[str, Any], out: dict[str, Any]) -> None:
    plan = sapfmt_rfc.key_plan([tuple(part) for part in given["key_lengths"]])
    rows = sapfmt.read_rows(plan, pa.array([given["TABKEY"]]))
    assert (rows.record.to_pylist(), rows.errors) == ([out], [])


def _code_page(given: dict[str, Any], out: dict[str, Any]) -> None:
    column, errors = sapfmt_columns.from_code_page(pa.array([bytes.fromhex(given["hex"])]), given["codepage"])
    assert (column.to_pylist(), errors) == ([out["text"]], [])


# a rule begins with ...; the first that fits
RULES: list[tuple[str, Callable[[dict[str, Any], dict[str, Any]], None]]] = [
    ("DATS+TIMS", _date_time), ("CDHDR watermark", _date_time), ("DATS", _dats), ("TIMS", _tims),
    ("TIMESTAMP", _timestamp), ("NUMC", _text), ("CHAR", _text), ("CLNT", _text), ("ALPHA", _alpha),
    ("CURR", _currency), ("HUF", _currency), ("packed BCD", _packed), ("trailing minus", _number), ("'*' in", _number),
    ("QUAN", _number), ("IDoc amount", _number), ("FLTP", _fltp), ("INT1", _int1), ("LANG", _lang),
    ("ABAP boolean", _bool), ("tri-state", _bool), ("WA shorter", _row), ("OPTIONS", _options), ("field list", _calls),
    ("RFC_DB_FLD", _letter), ("OData V2 negative epoch", _odata_date), ("OData V2 Edm.Time", _odata_time),
    ("OData V2 Edm.Guid", _binary), ("OData V2 delta", _delta), ("ODP", _operation), ("CDPOS CHNGIND", _operation),
    ("CDPOS TABKEY", _table_key), ("code page", _code_page),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_case(case: dict[str, Any]) -> None:
    """A worked conversion gives what the case says, or its error; C and reference alike."""
    check = next(check for start, check in RULES if case["rule"].startswith(start))
    check(case["in"], case["out"])


def test_every_rule_has_a_case() -> None:
    """No check stands there that no case of the file reaches."""
    reached = {next(start for start, _ in RULES if case["rule"].startswith(start)) for case in CASES}
    assert reached == {start for start, _ in RULES}


@pytest.mark.parametrize(
    ("kind", "type_name", "value", "expected"),
    [
        (Kind.DATS, "date", "00000000", None),
        (Kind.DATS, "date", "00000101", SapCode.INVALID_DATS),
        (Kind.DATS, "date", "2024022", SapCode.INVALID_DATS),
        (Kind.TIMS, "time", "      ", None),
        (Kind.TIMS, "time", "235960", SapCode.INVALID_TIMS),
        (Kind.NUMC, "int64", "0000004711", 4711),
        (Kind.NUMC, "string", "47 1", SapCode.TYPE),
        (Kind.NUMBER, "decimal(5,2)", "   ", None),
        (Kind.NUMBER, "decimal(5,2)", "-1-", SapCode.TYPE),
        (Kind.NUMBER, "decimal(5,2)", "1,5", SapCode.TYPE),
        (Kind.NUMBER, "decimal(5,2)", "1e2", SapCode.TYPE),
        (Kind.NUMBER, "decimal(5,2)", "1000.00", SapCode.RANGE),
        (Kind.NUMBER, "decimal(5,2)", "1.001-", SapCode.SCALE),
        (Kind.NUMBER, "numeric", "0.00-", "0.00"),
        (Kind.INT4, "int32", "2147483648-", -(2**31)),
        (Kind.INT4, "int32", "2147483648", SapCode.RANGE),
        (Kind.INT1, "int16", "255", 255),
        (Kind.RAW, "bytes", "00ff", b"\x00\xff"),
        (Kind.RAW, "bytes", "0f0", SapCode.TYPE),
        (Kind.BOOL, "bool", " ", False),
        (Kind.BOOL, "bool", "Y", SapCode.TYPE),
        (Kind.PACKED, "decimal(5,2)", b"\x12\x3a", SapCode.TYPE),
        (Kind.PACKED, "decimal(5,2)", b"\x1a\x3c", SapCode.TYPE),
        (Kind.PACKED, "decimal(5,2)", b"\x12\x3f", Decimal("123.00")),
        (Kind.ALPHA_OUT, "string", "00A1", "00A1"),
        (Kind.TIMESTAMP, "timestamp", "20240229153016.1234567", SapCode.SCALE),
        (Kind.TIMESTAMP, "timestamp_ns", "99991231235959", SapCode.RANGE),
        (Kind.ODATA_TIME, "time", "PT24H", SapCode.INVALID_TIMS),
        (Kind.CHAR, "string", " A\t ", " A\t"),
    ],
)  # fmt: skip
def test_the_rule_behind_the_cases(kind: Kind, type_name: str, value: str | bytes, expected: Any) -> None:
    """Where a rule ends: the value on its last allowed side, or the code of the first that is not."""
    assert value_of(kind, type_name, value) == expected


def test_fields_become_a_plan() -> None:
    """FIELDS give offsets, types by letter, decimals where known; a column of one's own wins; STRING is refused."""
    rows = [("VBELN", 0, 10, "C"), ("NETWR", 11, 16, "P"), ("MENGE", 28, 13, "P"), ("AEZEIT", 42, 6, "T")]
    fields = [dict(zip(("FIELDNAME", "OFFSET", "LENGTH", "TYPE"), row, strict=True)) for row in rows]
    own = {"VBELN": SapField("VBELN", Kind.ALPHA_OUT)}
    plan = sapfmt_rfc.fields_plan(fields, delimiter="|", decimals={"NETWR": 2}, columns=own)
    assert [str(field.type) for field in plan.columns] == ["string", "decimal(16,2)", "numeric", "time"]
    read = sapfmt.read_rows(plan, pa.array(["0000004711|        1234.50-|        5.250|153016"]))
    assert read.errors == []
    assert [column[0].as_py() for column in read.record.columns[:3]] == ["4711", Decimal("-1234.50"), "5.250"]
    with pytest.raises(ConfigurationError, match="STRING"):
        sapfmt_rfc.fields_plan([{"FIELDNAME": "T", "OFFSET": 0, "LENGTH": 8, "TYPE": "g"}])


def test_parts_of_wide_rows_come_together() -> None:
    """Three calls for one table: whole rows by key, in whatever order they came; keys that lack a part are told."""

    def part(**columns: list[Any]) -> pa.RecordBatch:
        return pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()})

    a = part(k=["1", "2", "3", None], n=[1, 1, 1, 1], x=["a", None, "c", "d"])
    b = part(k=[None, "3", "1"], n=[1, 1, 1], y=[4, 3, None])
    c = part(k=["1", "3", "9", None], n=[1, 1, 1, 1], z=[True, False, True, None])
    whole, again = sapfmt_rfc.rejoin([a, b, c], ["k", "n"])
    assert whole.schema.names == ["k", "n", "x", "y", "z"]
    rows = {row["k"]: (row["x"], row["y"], row["z"]) for row in whole.to_pylist()}
    assert rows == {"1": ("a", None, True), "3": ("c", 3, False), None: ("d", 4, None)}
    assert sorted(again.column(0).to_pylist()) == ["2", "9"]
    alone, nothing = sapfmt_rfc.rejoin([a], ["k", "n"])
    assert (alone.num_rows, nothing.num_rows) == (4, 0)
    for parts, key in (([a, a], ["k", "n"]), ([a, b], ["k", "x"]), ([], ["k"]), ([a], [])):
        with pytest.raises(HeadraceError, match="rejoin"):
            sapfmt_rfc.rejoin(parts, key)


def test_calls_and_options_have_bounds() -> None:
    """A field that no call can hold, a literal longer than a row or without its end: refused with what was found."""
    assert sapfmt_rfc.calls([3, 10], 2) == [[0, 1]]
    assert sapfmt_rfc.calls([3, 200, 200, 200], 1, delimiter=1) == [[0, 1, 2], [0, 3]]
    assert sapfmt_rfc.calls([3, 508, 1], 1, delimiter=1) == [[0, 1], [0, 2]]
    for lengths, key_count in (([3, 510], 1), ([600], 1)):
        with pytest.raises(ConfigurationError, match="characters"):
            sapfmt_rfc.calls(lengths, key_count)
    assert sapfmt_rfc.options("NAME1 = 'it''s   a  b'") == ["NAME1 = 'it''s   a  b'"]
    for where in (f"A = '{'x' * 80}'", "A = 'x"):
        with pytest.raises(ConfigurationError, match="OPTIONS"):
            sapfmt_rfc.options(where)
    with pytest.raises(HeadraceError, match="delta link"):
        sapfmt_rfc.delta_token("http://h/S/E?$skiptoken=1")
    assert sapfmt_rfc.delta_token("E?$deltatoken=abc&$format=json") == "abc"
