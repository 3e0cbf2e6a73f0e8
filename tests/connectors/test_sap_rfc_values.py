"""Values of an SAP system read by RFC: dates, amounts and their currencies, numbers, keys, and dead letters."""

from __future__ import annotations

import datetime
import json
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from connectors.sap.rfc_config import SapRfcConfig
from connectors.sap.rfc_dictionary import Described
from connectors.sap.rfc_rows import Plans, WantedTable
from connectors.sap.rfc_session import Session
from connectors.sap.rfc_table import Answer, found, texts
from connectors.sap.types import DdicField, column_type, literal, sap_field, sort_value
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type
from tests.connectors.sap_rfc_parts import NARROW, PASSWORD, READERS, VBAK, Sales, drained, named
from tests.doubles.sap_rfc import SHIM
from tests.doubles.sap_rfc.standard import CLIENT, Field

CASES = json.loads((Path(__file__).parent.parent / "golden" / "sap_cases.json").read_text("utf-8"))["cases"]


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake pyrfc, and the password."""
    monkeypatch.syspath_prepend(str(SHIM))
    monkeypatch.setenv(PASSWORD, "secret")


@pytest.mark.parametrize("reader", READERS)
def test_an_order_as_it_is(reader: str, tmp_path: Path) -> None:
    """Dates, times, zeros in front, amounts without decimals and raw bytes come out as they are, by each function; the
    bytes by those alone whose rows have room for all of them."""
    sales = Sales(tmp_path, **READERS[reader])
    sales.order(4711, ERZET="153016", WAERK="JPY", NETWR="-1234.56", GUID="00FF10" + "0" * 26)
    (row,) = named(drained(sales.pipeline("VBAK", signal='"none"'), tmp_path / "state"), "VBAK")
    whole = {} if reader in ("narrow", "wide") else {"GUID": bytes.fromhex("00FF10" + "0" * 26)}
    assert row == whole | {
        "MANDT": "100", "VBELN": "0000004711", "ERDAT": datetime.date(2024, 2, 29), "ERZET": datetime.time(15, 30, 16),
        "AEDAT": None, "AUART": "TA", "WAERK": "JPY", "NETWR": Decimal("-123456"),
    }  # fmt: skip


def test_a_key_that_a_row_has_no_room_for(tmp_path: Path) -> None:
    """A key of raw bytes that the function would cut to half, so that rows become one, is refused, not shortened."""
    sales = Sales(tmp_path, **NARROW)
    sales.system.add_table("ZGUID", [CLIENT, Field("GUID", "RAW", 16, key=True), Field("N", "NUMC", 4, key=True)])
    with pytest.raises(ConfigurationError, match="primary key"):
        drained(sales.pipeline("ZGUID", signal='"none"'), tmp_path / "state")


def test_bytes_that_were_cut_off_are_told(tmp_path: Path) -> None:
    """Whatever function it is: a RAW of fewer bytes than the dictionary says stops the flow by its name."""
    field = DdicField("GUID", "RAW", 4)
    described = Described("T", (DdicField("ID", "CHAR", 2, key=True), field))
    table = Table("T", (Column("ID", parse_type("string"), False), Column("GUID", parse_type("bytes"))), ("ID",))
    plans, fields = Plans(WantedTable(table, described)), (("ID", 0, 2, "C"), ("GUID", 3, 4, "X"))
    good = plans.values(Answer(fields, pa.array(["01|00FF00FF", "02|"]), "|"))[0]
    assert good.column("GUID").to_pylist() == [b"\x00\xff\x00\xff", None]
    with pytest.raises(ConfigurationError, match="field GUID: expected 4 bytes in each row, found 2"):
        plans.values(Answer(fields, pa.array(["01|00FF00FF", "02|00FF"]), "|"))


def test_cells_behind_a_character_of_two_units(tmp_path: Path) -> None:
    """In rows of the system's own tables a character above U+FFFF is two wide, too: no cell behind it moves."""
    sales = Sales(tmp_path, **NARROW)
    document = {"OBJECTCLAS": "Z", "OBJECTID": "a \U0001f600", "CHANGENR": "7", "UDATE": "20240229", "UTIME": "153016"}
    sales.system.write({"CDHDR": [document | {"MANDANT": "100"}]}, documents=False)
    config = SapRfcConfig(ashost=str(sales.path), client="100", user="HEADRACE", passwd=f"env:{PASSWORD}")
    with closing(Session(config)) as session:
        (row,) = texts(session, found(session, "auto"), "CDHDR", list(document), "OBJECTCLAS = 'Z'")
    assert row == document


CURRENCIES = [case for case in CASES if case["rule"].startswith(("CURR + TCURX", "HUF")) and "stored" in case["in"]]


def test_currencies_as_worked(tmp_path: Path) -> None:
    """Each worked amount is right under the TCURX of its case, from the row's own currency and from the header's."""
    assert len(CURRENCIES) >= 6
    for number, case in enumerate(CURRENCIES):
        directory = tmp_path / str(number)
        directory.mkdir()
        sales, given = Sales(directory), case["in"]
        decimals = given["tcurx_currdec"]
        key = {"CURRKEY": given["currency"]}
        if decimals is None:
            sales.system.write({}, {"TCURX": [key]}, documents=False)
        else:
            sales.system.write({"TCURX": [{**key, "CURRDEC": decimals}]}, documents=False)
        sales.order(1, WAERK=given["currency"], NETWR=given["stored"])
        item = {"VBELN": "0000000001", "POSNR": "10", "NETPR": given["stored"]}
        sales.system.write({"VBAP": [item]})
        found = drained(sales.pipeline("VBAK", "VBAP", signal='"none"'), directory / "state")
        amounts = [named(found, "VBAK")[0]["NETWR"], named(found, "VBAP")[0]["NETPR"]]
        assert amounts == [Decimal(case["out"]["amount"])] * 2, case["id"]


def test_what_cannot_be_read_is_a_dead_letter(tmp_path: Path) -> None:
    """An overflowed number, a day that is none and an amount without a currency go to the dead letters, alone."""
    sales = Sales(tmp_path, **NARROW)
    sales.order(1)
    sales.order(2, ERDAT="20230230")
    sales.order(3, NETWR="-1234567890123.45")
    sales.order(4, WAERK="", NETWR="5.00")
    sales.order(5, WAERK="")
    followed = drained(sales.pipeline("VBAK", signal='"none"'), tmp_path / "state")
    assert [row["VBELN"] for row in named(followed, "VBAK")] == ["0000000001", "0000000005"]
    told = {json.loads(one["key_text"])["VBELN"][-1]: one["error"] for one in followed.letters}
    assert sorted(told) == ["2", "3", "4"]
    assert "calendar" in told["2"] and "ERDAT" in told["2"]
    assert "'*'" in told["3"]
    assert "amount without a currency" in told["4"]


def test_a_dead_letter_of_a_wide_row_names_its_key(tmp_path: Path) -> None:
    """In a row read in several calls a bad value costs that row alone, and comes once."""
    sales = Sales(tmp_path, **NARROW)
    wide = [*VBAK, Field("TEXT1", "CHAR", 300), Field("TEXT2", "CHAR", 300), Field("LAST", "DATS", 8)]
    sales.system.add_table("ZWIDE", wide, object_class="ZWIDE")
    rows = [{"VBELN": str(number), "TEXT1": "a", "TEXT2": "b", "LAST": "20240101"} for number in range(20)]
    rows[7]["LAST"] = "20240199"
    sales.system.write({"ZWIDE": rows})
    followed = drained(sales.pipeline("ZWIDE", signal='"none"', chunk_rows=3), tmp_path / "state")
    assert len(named(followed, "ZWIDE")) == 19
    (told,) = followed.letters
    assert (json.loads(told["key_text"]), "LAST" in told["error"]) == ({"VBELN": "7"}, True)


def test_delimiters_in_values(tmp_path: Path) -> None:
    """Where rows are texts, a value with a delimiter in it costs a second call with another one, not the row."""
    sales = Sales(tmp_path)
    texts = ["a|b", "c\td", "e~f|g", "", "|", "a tab behind it\t"]
    items = [{"VBELN": "1", "POSNR": str(number), "ARKTX": text} for number, text in enumerate(texts)]
    sales.system.write({"VBAP": items})
    sales.order(1)
    extra = 'columns = { MANDT = "string", VBELN = "string", POSNR = "string", ARKTX = "string" }\n'
    followed = drained(sales.pipeline("VBAP", signal='"none"', extra=extra), tmp_path / "state")
    assert [row["ARKTX"] for row in named(followed, "VBAP")] == texts
    assert followed.letters == []


def test_delimiters_in_front_of_values_of_a_form(tmp_path: Path) -> None:
    """A delimiter in a text, or in a key, costs no row either where a date or a number stands behind it."""
    sales = Sales(tmp_path, get_sorted=False)
    fields = [CLIENT, Field("ID", "CHAR", 9, key=True), Field("POS", "NUMC", 3, key=True), Field("DAY", "DATS", 8)]
    sales.system.add_table("ZDAYS", fields)
    keys = ["a|b", "c", "|", "d\te|f"]
    sales.system.write({"ZDAYS": [{"ID": key, "POS": "7", "DAY": "20240229"} for key in keys]})
    followed = drained(sales.pipeline("ZDAYS", signal='"none"', chunk_rows=1), tmp_path / "state")
    assert followed.letters == []
    found = named(followed, "ZDAYS")
    assert sorted(row["ID"] for row in found) == sorted(keys)
    assert {row["DAY"] for row in found} == {datetime.date(2024, 2, 29)}


def test_initial_values_and_external_numbers(tmp_path: Path) -> None:
    """By their settings initial values are NULL and ALPHA loses its zeros, but never in a key."""
    sales = Sales(tmp_path)
    sales.system.add_table(
        "ZREF", [CLIENT, Field("ID", "CHAR", 10, key=True, conversion="ALPHA"),
                 Field("KUNNR", "CHAR", 10, conversion="ALPHA"), Field("NOTE", "CHAR", 5), Field("COUNT", "INT4", 10)],
    )  # fmt: skip
    sales.system.write({"ZREF": [{"ID": "0000000007", "KUNNR": "0000000042"}]})
    file = sales.pipeline("ZREF", signal='"none"', alpha='"external"', initial_null="true")
    (row,) = named(drained(file, tmp_path / "state"), "ZREF")
    assert row == {"MANDT": "100", "ID": "0000000007", "KUNNR": "42", "NOTE": None, "COUNT": None}


def test_types_that_the_pipeline_declares(tmp_path: Path) -> None:
    """A declared type is kept exactly: digits as numbers, dates as time stamps, numbers as plain text; 'X' as true."""
    sales = Sales(tmp_path)
    fields = [CLIENT, Field("ID", "NUMC", 6, key=True), Field("FLAG", "CHAR", 1), Field("DAY", "DATS", 8),
              Field("AT", "DEC", 15), Field("N", "INT4", 10), Field("Q", "DEC", 7, 2)]  # fmt: skip
    sales.system.add_table("ZTYPES", fields)
    row = {"ID": "12", "FLAG": "X", "DAY": "20240229", "AT": "20240229153016", "N": -5, "Q": "-1.50"}
    sales.system.write({"ZTYPES": [row]})
    columns = 'ID = "int32", FLAG = "bool", DAY = "timestamp", AT = "timestamptz", N = "decimal(12,2)", Q = "string"'
    extra = f'key = ["ID"]\ncolumns = {{ {columns} }}\n'
    (found,) = named(drained(sales.pipeline("ZTYPES", signal='"none"', extra=extra), tmp_path / "state"), "ZTYPES")
    assert found == {
        "ID": 12, "FLAG": True, "DAY": datetime.datetime(2024, 2, 29), "N": Decimal("-5.00"), "Q": "-1.50",
        "AT": datetime.datetime(2024, 2, 29, 15, 30, 16, tzinfo=datetime.UTC),
    }  # fmt: skip


TYPES = [
    (DdicField("A", "CHAR", 4), "string"), (DdicField("A", "NUMC", 6), "string"), (DdicField("A", "INT1", 3), "int16"),
    (DdicField("A", "DEC", 21, 7), "decimal(21,7)"), (DdicField("A", "QUAN", 13, 3), "decimal(13,3)"),
    (DdicField("A", "CURR", 15, 2), "decimal(20,5)"), (DdicField("A", "CURR", 31, 2), "decimal(36,5)"),
    (DdicField("A", "D34R", 34), "numeric"), (DdicField("A", "FLTP", 16), "float64"),
    (DdicField("A", "RAW", 16), "bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "wanted"), TYPES)
def test_exact_types(field: DdicField, wanted: str) -> None:
    """The dictionary's types as exact ones; an amount has room for currencies of none and of five decimals."""
    assert str(column_type(field)) == wanted


SENSELESS = [("CURR", "string"), ("DATS", "int32"), ("FLTP", "decimal(5,2)"), ("RAW", "date"), ("ZZZZ", "string")]


@pytest.mark.parametrize(("datatype", "declared"), SENSELESS)
def test_senseless_types_are_refused(datatype: str, declared: str) -> None:
    """A declared type that no reading of the field gives is refused by the field's name."""
    with pytest.raises(ConfigurationError, match="SAP field F"):
        sap_field(DdicField("F", datatype, 10), parse_type(declared))


def test_literals_and_their_order() -> None:
    """Quotes are doubled, blanks stay one, numbers have their sign in front and their own order."""
    text, number = DdicField("A", "CHAR", 9), DdicField("B", "DEC", 9, 2)
    assert [literal(text, "O'Neil "), literal(text, "")] == ["'O''Neil'", "' '"]
    assert [literal(number, "   12.50-"), literal(number, " 7")] == ["-12.50", "7"]
    assert sorted(["9", "10", "3-"], key=lambda one: sort_value(number, one)) == ["3-", "9", "10"]
