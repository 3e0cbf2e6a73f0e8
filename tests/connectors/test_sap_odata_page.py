"""Answers of OData services to columns: exact types, both ways of reading the same, bad rows named."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.sap.odata_keys import key_of
from connectors.sap.odata_metadata import EntitySet, entity_sets
from connectors.sap.odata_page import Page, PageDecoder
from libcore.change import Op
from libcore.errors import ConfigurationError, DataError, FatalError
from tests.doubles.sap.queue import EntitySet as Served
from tests.doubles.sap.queue import Property
from tests.doubles.sap.render import metadata, page
from tests.examples import TIMES

CASES = json.loads((Path(__file__).parent.parent / "golden" / "sap_cases.json").read_text("utf-8"))["cases"]
BOTH = (
    Property("Id", "Edm.Int32", 'Nullable="false"', key=True),
    Property("Text", "Edm.String"),
    Property("Amount", "Edm.Decimal", 'Precision="23" Scale="4"'),
    Property("Free", "Edm.Decimal"),
    Property("Big", "Edm.Int64"),
    Property("Small", "Edm.Byte"),
    Property("Flag", "Edm.Boolean"),
    Property("Float", "Edm.Double"),
    Property("Guid", "Edm.Guid"),
    Property("Raw", "Edm.Binary"),
)
V2 = (
    *BOTH,
    Property("At", "Edm.DateTime", 'Precision="0"'),
    Property("Day", "Edm.DateTime", 'sap:display-format="Date"'),
    Property("Zoned", "Edm.DateTimeOffset"),
    Property("Clock", "Edm.Time"),
)
V4 = (
    *BOTH,
    Property("Day", "Edm.Date"),
    Property("Zoned", "Edm.DateTimeOffset"),
    Property("Fine", "Edm.DateTimeOffset", 'Precision="7"'),
    Property("Clock", "Edm.TimeOfDay"),
)
ROW: dict[str, Any] = {
    "Id": 1, "Text": "Größe \U0001f600 \"x\"", "Amount": "-1234567890123456789.1234", "Free": "0.10",
    "Big": "9223372036854775807", "Small": 255, "Flag": True, "Guid": "0050568f-1c3e-1ed8-0000-0123456789ab",
    "Raw": "AP8Q",
}  # fmt: skip
ROW2 = ROW | {
    "Float": "1.5E+02", "At": "/Date(-2208988800000)/", "Day": "/Date(1709164800000)/",
    "Zoned": "/Date(1709164800001+0060)/", "Clock": "PT15H30M16S",
}  # fmt: skip
ROW4 = ROW | {
    "Float": 1.5e2, "Day": "2024-02-29", "Zoned": "2024-02-29T01:00:00.000001+01:00",
    "Fine": "2024-02-29T00:00:00.1234567Z", "Clock": "15:30:16",
}  # fmt: skip


def described(version: int, properties: tuple[Property, ...], *, queued: bool = False) -> EntitySet:
    """The entity set as its own $metadata describes it."""
    found = entity_sets("ERP", "/path", metadata([Served("Orders", properties, queued)], version))
    return found["ERP/Orders"]


def answer(version: int, properties: tuple[Property, ...], rows: list[dict[str, Any]]) -> bytes:
    """A page with these rows."""
    marked = [{"ODQ_CHANGEMODE": "", **row} for row in rows]
    return page(Served("Orders", properties), version, marked, "next", "", delta=False)


def read(version: int, properties: tuple[Property, ...], rows: list[dict[str, Any]], *, careful: bool) -> Page:
    """A page, read one way or the other."""
    entity = described(version, properties)
    body = answer(version, properties, rows)
    if careful:  # a word that may stand for a tombstone, in a place where it does not
        body = body.replace(b"{", b'{"deleted":null,', 1)
    return PageDecoder(entity, entity.table).read(body, delta=careful and version == 4)


def rows_of(found: Page) -> list[tuple[Any, ...]]:
    """The rows as plain values."""
    # datetime has no nanoseconds
    plain = [one.cast(pa.int64()) if one.type == pa.timestamp("ns") else one for one in found.columns]
    return list(zip(*(column.to_pylist() for column in plain), strict=True))


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("version", [2, 4])
def test_every_type_is_exact(version: int, careful: bool) -> None:
    """Each Edm type arrives with its exact value, NULL stays NULL, and the link behind the page is told."""
    properties, row = (V2, ROW2) if version == 2 else (V4, ROW4)
    nothing = {"Id": 2} | {one.name: None for one in properties[1:]}
    found = read(version, properties, [row, nothing], careful=careful)
    assert (found.refused, found.next_link.rpartition("/")[2]) == ([], "next")
    values = dict(zip([one.name for one in properties], rows_of(found)[0], strict=True))
    fine = values.pop("Fine", None)
    assert version == 2 or fine == 1_709_164_800_123_456_700
    wanted = {
        "Id": 1, "Text": ROW["Text"], "Amount": Decimal(ROW["Amount"]), "Free": "0.10", "Big": 9223372036854775807,
        "Small": 255, "Flag": True, "Float": 150.0, "Guid": ROW["Guid"], "Raw": b"\x00\xff\x10",
        "Day": date(2024, 2, 29), "Clock": time(15, 30, 16),
    }  # fmt: skip
    zoned = {2: 1_709_164_800.001, 4: 1_709_164_800.000001}[version]
    assert values.pop("Zoned") == datetime.fromtimestamp(zoned, UTC)
    assert version == 4 or values.pop("At") == datetime(1900, 1, 1)
    assert values == wanted
    assert rows_of(found)[1] == (2, *[None] * (len(properties) - 1))


TEXTS = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=8))
AMOUNTS = st.one_of(st.none(), st.decimals(-(10**18), 10**18, places=4).map(lambda one: f"{one:f}"))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "Id": st.integers(-(2**31), 2**31 - 1), "Text": TEXTS, "Amount": AMOUNTS, "Free": AMOUNTS,
            "Big": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1).map(str)),
            "Small": st.one_of(st.none(), st.integers(0, 255)), "Flag": st.one_of(st.none(), st.booleans()),
            "At": st.one_of(st.none(), st.integers(-(10**13), 10**13).map(lambda ms: f"/Date({ms})/")),
        }
    ),
    max_size=6,
)  # fmt: skip


@given(ROWS)
@settings(max_examples=50 * TIMES)
def test_both_ways_read_the_same(rows: list[dict[str, Any]]) -> None:
    """All at once or row by row: the same values of any rows that are well written."""
    properties = tuple(one for one in V2 if one.name in ("Id", "Text", "Amount", "Free", "Big", "Small", "Flag", "At"))
    fast, careful = (read(2, properties, rows, careful=one) for one in (False, True))
    assert fast.refused == careful.refused == []
    assert [a.equals(b) for a, b in zip(fast.columns, careful.columns, strict=True)] == [True] * len(properties)
    assert fast.ops.equals(careful.ops)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Amount", "1.00001"), ("Amount", "1e30"), ("Amount", "abc"), ("Amount", ""), ("Big", "9223372036854775808"),
        ("Small", 40000), ("Flag", "perhaps"), ("Raw", "A==="), ("At", "2024-01-01"), ("Day", "/Date(1)/"),
        ("Clock", "PT25H"), ("Text", {"x": "y"}), ("Id", None), ("Text", "\ud800"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named(name: str, value: Any) -> None:
    """The row with a value that does not fit is refused with column and value; the rows around it are there."""
    found = read(2, V2, [ROW2, ROW2 | {"Id": 2, name: value}, ROW2 | {"Id": 3}], careful=False)
    assert [row[0] for row in rows_of(found)] == [1, 3]
    (refused,) = found.refused
    assert f"column {name}" in refused.error
    assert json.loads(refused.raw or b"")["Text"] == (value if name == "Text" else ROW["Text"])


def test_what_a_delta_lacks_is_unset() -> None:
    """A V4 delta brings changed properties alone: the others are told as lacking, a null is not; a removal is a key."""
    entity = described(4, V4)
    rows = [{"Id": 1, "Text": None}, {"@removed": {"reason": "changed"}, "@id": "https://h/x/Orders(7)"}]
    body = json.dumps({"value": rows, "@odata.deltaLink": "Orders?$deltatoken=2"}).encode()
    found = PageDecoder(entity, entity.table).read(body, delta=True)
    assert found.lacking == {0: set(range(2, len(V4)))}
    assert [row[:2] for row in rows_of(found)] == [(1, None), (7, None)]
    assert (found.ops.to_pylist(), found.delta_link) == ([Op.UPSERT, Op.DELETE], "Orders?$deltatoken=2")


def test_a_v2_delta_that_lacks_a_property() -> None:
    """A property that is not there at all is told as lacking also where the fast way would read NULL."""
    entity = described(2, V2)
    lacking = {name: value for name, value in ROW2.items() if name != "Text"}
    body = json.dumps({"d": {"results": [ROW2 | {"Text": None}, lacking]}}).encode()
    found = PageDecoder(entity, entity.table).read(body, delta=True)
    assert found.lacking == {1: {1}}


@pytest.mark.parametrize("case", [one for one in CASES if "ODQ_CHANGEMODE" in one["in"]], ids=lambda one: one["id"])
def test_change_modes(case: dict[str, Any]) -> None:
    """ODP's change modes: D takes the key away, all others bring the row."""
    entity = described(2, V2, queued=True)
    marks = {"ODQ_CHANGEMODE": case["in"]["ODQ_CHANGEMODE"], "ODQ_ENTITYCNTR": str(case["in"]["ODQ_ENTITYCNTR"])}
    body = json.dumps({"d": {"results": [ROW2 | marks]}}).encode()
    found = PageDecoder(entity, entity.table).read(body, delta=True)
    assert found.ops.to_pylist() == [Op.DELETE if case["out"]["op"] == "d" else Op.UPSERT]
    assert (rows_of(found)[0][1] is None) == (case["out"]["op"] == "d")


def test_a_before_image_takes_the_old_key_away() -> None:
    """A counter of -1 in front of the after image: in the end the row is there, under its new key."""
    entity = described(2, V2, queued=True)
    rows = [
        ROW2 | {"ODQ_CHANGEMODE": "U", "ODQ_ENTITYCNTR": "-1"},
        ROW2 | {"Id": 9, "ODQ_CHANGEMODE": "U", "ODQ_ENTITYCNTR": "1"},
    ]
    found = PageDecoder(entity, entity.table).read(json.dumps({"d": {"results": rows}}).encode(), delta=True)
    assert [(row[0], op) for row, op in zip(rows_of(found), found.ops.to_pylist(), strict=True)] == [
        (1, Op.DELETE),
        (9, Op.UPSERT),
    ]


def test_a_tombstone_without_a_row() -> None:
    """A V2 entity that was deleted is known by its address alone."""
    entity = described(2, V2)
    gone = {"__metadata": {"uri": "http://h/sap/opu/odata/sap/S/Orders(7)", "deleted": True}}
    found = PageDecoder(entity, entity.table).read(json.dumps({"d": {"results": [gone]}}).encode(), delta=True)
    assert ([row[0] for row in rows_of(found)], found.ops.to_pylist()) == ([7], [Op.DELETE])


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("http://h/S/Set('0000004711')", {"A": "0000004711"}),
        ("Set(A='it''s%20(a)%20%2Fb',B=12M)", {"A": "it's (a) /b", "B": "12"}),
        ("S/Set(B=datetime'2024-02-29T00%3A00%3A00',A=guid'0050568f-1c3e-1ed8-0000-0123456789ab')",
         {"B": "/Date(1709164800000)/", "A": "0050568f-1c3e-1ed8-0000-0123456789ab"}),
        ("Set(A=X'00ff10',B=-5L)", {"A": "AP8Q", "B": "-5"}),
        ("Set(A='x,y=(1)',B=2024-02-29)", {"A": "x,y=(1)", "B": "2024-02-29"}),
        ("Set(12345678-1234-4234-8234-12345678901d)", {"A": "12345678-1234-4234-8234-12345678901d"}),
        ("Set(A=-1.5e-3F,B=12d)", {"A": "-1.5e-3", "B": "12"}),
    ],
)  # fmt: skip
def test_keys_of_addresses(address: str, key: dict[str, str]) -> None:
    """Keys as V2 and V4 write them into addresses, quotes, commas and brackets inside of texts and all."""
    assert key_of(address, list(key)) == key


@pytest.mark.parametrize("address", ["", "Set", "Set()", "Set(A='x)", "Set(A='x')", "Set(A='x',C='y')"])
def test_an_address_without_the_key(address: str) -> None:
    """An address that does not name every key property is refused."""
    with pytest.raises(DataError, match="the key A, B"):
        key_of(address, ["A", "B"])


@pytest.mark.parametrize("value", ["datetime'2024-13-01T00:00:00'", "datetimeoffset'soon'", "X'0'", "binary'xy'"])
def test_an_address_with_a_value_that_is_none(value: str) -> None:
    """A deletion whose address holds no such date or no such bytes is a dead letter, and its neighbours go on."""
    entity = described(2, V2)
    rows = [{"__metadata": {"uri": f"S/Orders({one})", "deleted": True}} for one in (value, "7")]
    found = PageDecoder(entity, entity.table).read(json.dumps({"d": {"results": rows}}).encode(), delta=True)
    assert ([row[0] for row in rows_of(found)], len(found.refused)) == ([7], 1)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"d":{}}', b'{"d":{"results":[1]}}', b'{"d":{"results":[]}} 1']
)
def test_no_answer_of_entities(body: bytes) -> None:
    """What holds no entities stops the flow instead of passing for an empty page."""
    entity = described(2, V2)
    with pytest.raises(FatalError, match="expected an answer with entities"):
        PageDecoder(entity, entity.table).read(body, delta=False)


def test_metadata_of_v4() -> None:
    """Inherited keys, aliases of namespaces, and the annotation that says which sets track changes."""
    tracked = '<Annotation Term="Org.OData.Capabilities.V1.ChangeTracking"><Record>%s</Record></Annotation>'
    no = '<PropertyValue Property="Supported" Bool="false"/>'
    document = (
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>'
        '<Schema Namespace="com.sap.x" Alias="SAP__self" xmlns="http://docs.oasis-open.org/odata/ns/edm">'
        '<EntityType Name="Base"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Guid"/></EntityType>'
        '<EntityType Name="Order" BaseType="com.sap.x.Base"><Property Name="Fine" Type="Edm.TimeOfDay" Precision="7"/>'
        '</EntityType><EntityContainer Name="C"><EntitySet Name="Orders" EntityType="SAP__self.Order"/>'
        '<EntitySet Name="Others" EntityType="com.sap.x.Order"/></EntityContainer>'
        f'<Annotations Target="SAP__self.C/Orders">{tracked % ""}</Annotations>'
        f'<Annotations Target="SAP__self.C/Others">{tracked % no}</Annotations>'
        "</Schema></edmx:DataServices></edmx:Edmx>"
    )
    found = entity_sets("S", "/p", document.encode())
    assert [(name, one.tracks) for name, one in found.items()] == [
        ("S/Orders", "annotation ChangeTracking"),
        ("S/Others", ""),
    ]
    table = found["S/Orders"].table
    assert ([(one.name, str(one.type)) for one in table.columns], table.key) == (
        [("Id", "uuid"), ("Fine", "time_ns")],
        ("Id",),
    )
    with pytest.raises(ConfigurationError, match=r"expected an entity type 'com\.sap\.x\.None'"):
        entity_sets("S", "/p", document.replace('SAP__self.Order"', 'SAP__self.None"').encode())


def test_metadata() -> None:
    """Types, keys, what cannot be carried, and what tells of a delta queue; a DOCTYPE is refused."""
    document = metadata([Served("Orders", (*V2, Property("Nested", "ZERP_SRV.Address")))], 2)
    entity = entity_sets("ERP", "/path", document)["ERP/Orders"]
    assert (entity.table.key, entity.path, entity.base) == (("Id",), "/path/Orders", "/path/")
    assert (entity.queued, entity.tracks) == (True, "entity set DeltaLinksOfOrders")
    types = {column.name: str(column.type) for column in entity.table.columns}
    assert types["Amount"] == "decimal(23,4)" and types["Free"] == "numeric" and types["Day"] == "date"
    assert "ODQ_CHANGEMODE" not in types and "Nested" not in types
    assert any("Nested" in note and "not carried" in note for note in entity.notes)
    with pytest.raises(ConfigurationError, match="a DOCTYPE"):
        entity_sets("ERP", "/path", b"<!DOCTYPE x>" + document)


IMAGED = (*V2, Property("ROCANCEL", "Edm.String"))


@pytest.mark.parametrize("careful", [False, True])
def test_images_of_a_data_source(careful: bool) -> None:
    """Before images, deletions and reversals take the key away, new rows and after images bring it; additive ones and
    such of changed columns alone are refused by name, and leave their neighbours."""
    entity = described(2, IMAGED, queued=True)
    marks = ["X", "", "N", "D", "R", " ", None, *(["A", "Y"] if careful else [])]
    rows = [ROW2 | {"Id": number, "ODQ_CHANGEMODE": "U", "ROCANCEL": mark} for number, mark in enumerate(marks)]
    found = PageDecoder(entity, entity.table).read(json.dumps({"d": {"results": rows}}).encode(), delta=True)
    gone, kept = Op.DELETE, Op.UPSERT
    assert found.ops.to_pylist() == [gone, kept, kept, gone, gone, kept, kept]
    assert "ROCANCEL" not in [column.name for column in entity.table.columns]
    told = [(one.key_text, one.error) for one in found.refused]
    assert [key for key, _ in told] == (['{"Id": "7"}', '{"Id": "8"}'] if careful else [])
    assert not careful or "found 'A', an additive image, whose figures are differences" in told[0][1]


@pytest.mark.parametrize(
    ("marks", "text"),
    [({"ODQ_CHANGEMODE": "Z"}, "ODQ_CHANGEMODE: expected one of C, U, D or none, found 'Z'"),
     ({"ODQ_ENTITYCNTR": "3"}, "ODQ_ENTITYCNTR: expected -1, 0 or 1, found 3: a sum of several rows")],
)  # fmt: skip
def test_marks_that_are_not_known(marks: dict[str, str], text: str) -> None:
    """A change mode that ODP does not have, or a counter of several rows, costs its row and no other."""
    entity = described(2, V2, queued=True)
    rows = [ROW2 | {"ODQ_CHANGEMODE": "U", "ODQ_ENTITYCNTR": "1"} | marks, ROW2 | {"Id": 2}]
    found = PageDecoder(entity, entity.table).read(json.dumps({"d": {"results": rows}}).encode(), delta=True)
    assert [row[0] for row in rows_of(found)] == [2]
    assert [text in one.error for one in found.refused] == [True]


def test_a_record_mode_of_another_service_is_a_column() -> None:
    """Without ODP's columns a property of that name is one like any other."""
    entity = described(2, IMAGED)
    assert (entity.record_mode, "ROCANCEL" in [column.name for column in entity.table.columns]) == ("", True)
