"""LOBs put together from LogMiner's rows: exact where all pieces are there, else the row is named to be read again."""

from __future__ import annotations

from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.oracle.large import keys_of_touched
from connectors.oracle.lobs import put_together
from connectors.oracle.transactions import ROWS, Commit, Committed
from connectors.oracle.undone import UNSURE, without_undone
from libcore.redo import parse_redo
from tests.connectors.oracle_parts import column, wanted

TABLE = wanted(
    column("ID", "NUMBER", 10, 0), column("NAME", "VARCHAR2"), column("NOTE", "CLOB"), column("DATA", "BLOB")
)
EMPTY = (
    """insert into "ERP"."T"("ID","NAME","NOTE","DATA") values ('1','it''s EMPTY_CLOB()',EMPTY_CLOB(),EMPTY_BLOB())"""
)
BASIC = """insert into "ERP"."T"("ID","NAME","NOTE","DATA") values ('1','a',NULL,NULL)"""
INSERT, UPDATE, LOCATOR, WRITE, TRIM, ERASE = 1, 3, 9, 10, 11, 29
Row = tuple[int, str]


def locator(name: str, key: int = 1) -> Row:
    return LOCATOR, f'DECLARE \n BEGIN\n select "{name}" into loc_x from "ERP"."T" where "ID" = \'{key}\' for update;'


def write(value: str | bytes, at: int = 1) -> Row:
    if isinstance(value, bytes):
        return (
            WRITE,
            f"\n buf_b := HEXTORAW('{value.hex()}'); \n  dbms_lob.write(loc_b, {len(value)}, {at}, buf_b);\nEND;",
        )
    text, units = value.replace("'", "''"), len(value.encode("utf-16-le")) // 2
    return WRITE, f"\n buf_c := '{text}'; \n  dbms_lob.write(loc_c, {units}, {at}, buf_c);\nEND;"


def trim(units: int) -> Row:
    return TRIM, f"\n  dbms_lob.trim(loc_c, {units});\nEND;"


def rows(*given: Row, status: int = 0) -> pa.RecordBatch:
    """Rows of one transaction."""
    fields: list[dict[str, Any]] = [
        {
            "OPERATION_CODE": code, "SQL_REDO": text, "CSF": 0, "ROLLBACK": 0, "XID": b"\1" * 8, "ROW_ID": "A",
            "STATUS": status if code == WRITE else 0,
        }
        for code, text in given
    ]  # fmt: skip
    columns = [pa.array([one.get(field.name) for one in fields], field.type) for field in ROWS]
    return pa.RecordBatch.from_arrays(columns, schema=ROWS)


def committed(batch: pa.RecordBatch, *, ended: bool = True) -> Committed:
    """The same, committed."""
    numbers, orders = pa.array([0] * len(batch), pa.int64()), pa.array(range(len(batch)), pa.int64())
    return Committed([Commit(b"\1" * 8, 9, 1, None)], batch, numbers, orders, ended)


def values(found: Committed) -> dict[str, Any]:
    """What a target holds of the row in the end."""
    redo = parse_redo(TABLE.plan, pa.RecordBatch.from_arrays([found.rows.column("SQL_REDO")], names=["statement"]))
    assert redo.errors == []
    row: dict[str, Any] = {}
    for one in redo.record.to_pylist():
        unset = int.from_bytes(one.pop("__unset", b""), "little")
        row |= {name: value for index, (name, value) in enumerate(one.items()) if not unset >> index & 1}
    return {name: row[name] for name in ("ID", "NAME", "NOTE", "DATA")}


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd\0"), min_size=1, max_size=40),
    st.binary(min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(0, 1 << 30),
)
def test_writes_in_a_row_make_the_value(note: str, data: bytes, size: int, seed: int) -> None:
    """However a value is cut, its writes behind the statement that empties it bring it whole, quotes and all."""
    random, given_rows = Random(seed), [(INSERT, EMPTY)]
    order: list[tuple[str, str | bytes]] = [("NOTE", note), ("DATA", data)]
    for name, value in random.sample(order, 2):
        given_rows.append(locator(name))
        at = 1
        for start in range(0, len(value), size):
            part = value[start : start + size]
            given_rows.append(write(part, at))
            at += len(part) if isinstance(part, bytes) else len(part.encode("utf-16-le")) // 2
        given_rows += random.choice([[], [trim(at - 1)]])
    found = put_together(TABLE, committed(rows(*given_rows)), trusts=True)
    assert (len(found.touched), found.lost, found.goes_on) == (0, frozenset(), "")
    assert values(found.committed) == {"ID": 1, "NAME": "it's EMPTY_CLOB()", "NOTE": note, "DATA": data}
    assert found.committed.orders[0].as_py() == 0


START = [(INSERT, EMPTY), locator("NOTE")]
UNKNOWN = {
    "a hole": [*START, write("ab"), write("cd", 4)],
    "written over": [*START, write("ab"), write("cd", 2)],
    "another length": [*START, (WRITE, write("ab")[1].replace("(loc_c, 2", "(loc_c, 3"))],
    "half a character": [*START, write("a\ufffd")],
    "cut short": [*START, write("abc"), trim(2)],
    "erased": [*START, write("abc"), (ERASE, "\n e_len := 1; \n  dbms_lob.erase(loc_c, e_len, 1);\nEND;")],
    "no write": START,
    "bytes in a text": [*START, write(b"ab")],
    "of another row": [(INSERT, EMPTY), locator("NOTE", 2), write("ab")],
    "not emptied": [(UPDATE, 'update "ERP"."T" set "NAME" = \'b\' where "ID" = \'1\''), locator("NOTE"), write("ab")],
    "no statement": [locator("NOTE"), write("ab")],
    "twice": [*START, write("ab"), locator("NOTE"), write("cd")],
    "its own row": [(INSERT, EMPTY), (TRIM, locator("NOTE")[1] + trim(0)[1])],
}


@pytest.mark.parametrize("why", UNKNOWN)
def test_a_value_that_is_not_all_there_is_read_again(why: str) -> None:
    """A hole, an edit in its place, a doubt: no value is made up, and the row is named."""
    found = put_together(TABLE, committed(rows(*UNKNOWN[why])), trusts=True)
    assert {code.as_py() for code in found.committed.rows.column("OPERATION_CODE")} <= {INSERT, UPDATE}
    assert len(found.committed.rows) == sum(code in (INSERT, UPDATE) for code, _ in UNKNOWN[why])
    assert keys_of_touched(TABLE, found.touched) == [("2",) if why == "of another row" else ("1",)]
    assert found.lost == frozenset()


def test_a_transaction_that_took_something_back_is_not_trusted() -> None:
    """Beside a row that a savepoint undid the writes of LOBs are unsure, and their row is read again."""
    given_rows = rows(*START, write("ab"), (UPDATE, "x"), (UPDATE, "y"))
    at = given_rows.schema.get_field_index("ROLLBACK")
    undone = given_rows.set_column(at, ROWS.field(at), pa.array([0, 0, 0, 0, 1], pa.int8()))
    ((kept, _),) = without_undone(lambda: iter([undone]), True)
    assert kept.column("STATUS").to_pylist() == [0, 0, UNSURE]
    found = put_together(TABLE, committed(kept), trusts=True)
    assert keys_of_touched(TABLE, found.touched) == [("1",)]


def test_writes_whose_row_nothing_names() -> None:
    """Writes without a locator, as of LOBs that are kept apart, are told, and none of them is taken for another's."""
    found = put_together(TABLE, committed(rows(write("ab"), (INSERT, BASIC))), trusts=True)
    assert (found.lost, len(found.touched), values(found.committed)["NOTE"]) == (frozenset({0}), 0, None)


def test_a_value_that_goes_on_in_the_next_part() -> None:
    """Where a transaction is cut within a value its row is read again, and what follows of it is no loss."""
    begun = put_together(TABLE, committed(rows(*START), ended=False), trusts=True)
    assert (begun.goes_on, keys_of_touched(TABLE, begun.touched)) == ("empty", [("1",)])
    first = put_together(TABLE, committed(rows(write("ab")), ended=False), trusts=True, goes_on=begun.goes_on)
    assert (first.goes_on, first.lost, len(first.touched)) == ("doubtful", frozenset(), 0)
    again = put_together(TABLE, committed(rows(write("ab")), ended=False), trusts=True, goes_on=first.goes_on)
    assert (again.goes_on, again.lost) == ("", frozenset({0}))
    last = committed(rows(write("cd", 3), (INSERT, BASIC), write("gh", 5)))
    assert put_together(TABLE, last, trusts=True, goes_on=first.goes_on).lost == frozenset({0})
    assert put_together(TABLE, committed(rows(write("cd", 3))), trusts=True, goes_on="written").lost == frozenset()


@pytest.mark.parametrize("between", [(), ((INSERT, BASIC.replace("'1'", "'2'")),)])
def test_writes_of_another_row_behind_those_of_a_locator(between: tuple[Row, ...]) -> None:
    """A write that begins a value anew, or stands behind another statement, may be of a row that is still to come."""
    given_rows = rows(*START, write("ab"), trim(2), *between, write("cd"), (INSERT, BASIC.replace("'1'", "'3'")))
    assert put_together(TABLE, committed(given_rows), trusts=True).lost == frozenset({0})


def test_writes_of_a_row_that_is_still_to_come() -> None:
    """Behind a locator of another row, which has no write of its own or was written before, wherever it is cut."""
    other, own = [locator("NOTE", 2)], [write("ab"), (INSERT, BASIC)]
    for begun in (other, [*other, trim(0)], [*other, write("xy"), trim(0)]):
        whole = [*begun, *own]
        assert put_together(TABLE, committed(rows(*whole)), trusts=True).lost == frozenset({0})
        for cut in range(1, len(whole)):
            first = put_together(TABLE, committed(rows(*whole[:cut]), ended=False), trusts=True)
            last = put_together(TABLE, committed(rows(*whole[cut:])), trusts=True, goes_on=first.goes_on)
            assert first.lost | last.lost == frozenset({0}), (begun, cut)
    kept = [*START, write("ab"), trim(2), (INSERT, BASIC.replace("'1'", "'3'"))]
    for cut in (len(START) + 1, len(START) + 2):
        first = put_together(TABLE, committed(rows(*kept[:cut]), ended=False), trusts=True)
        last = put_together(TABLE, committed(rows(*kept[cut:])), trusts=True, goes_on=first.goes_on)
        assert (first.goes_on, first.lost, last.lost) == ("written", frozenset(), frozenset())


def test_nothing_is_put_together_where_that_is_not_wanted() -> None:
    """In another mode each large value is read again."""
    found = put_together(TABLE, committed(rows(*START, write("ab"))), trusts=False)
    assert (keys_of_touched(TABLE, found.touched), len(found.committed.rows)) == ([("1",)], 1)
