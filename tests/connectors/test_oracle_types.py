"""Oracle's types, exact or refused by name; keys, positions and logs as plain rules say."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.oracle.large import keys_of_touched
from connectors.oracle.logs import LogLost, RedoLog, gapless, last_scn
from connectors.oracle.rows import positions_of
from connectors.oracle.state import State, unpacked
from connectors.oracle.types import check_fits, converted, reading
from libcore.errors import ConfigurationError
from libcore.position import make
from libcore.schema import Column, parse_type
from tests.connectors.oracle_parts import column, mined, wanted

TYPES = [
    ("NUMBER", None, None, "numeric"), ("NUMBER", None, 0, "decimal(38,0)"), ("NUMBER", 4, 0, "int16"),
    ("NUMBER", 9, 0, "int32"), ("NUMBER", 18, 0, "int64"), ("NUMBER", 19, 0, "decimal(19,0)"),
    ("NUMBER", 38, 10, "decimal(38,10)"), ("NUMBER", 5, -3, "int32"), ("NUMBER", 38, -30, "decimal(68,0)"),
    ("NUMBER", 38, -84, "numeric"), ("NUMBER", 3, 7, "decimal(7,7)"), ("NUMBER", 38, 127, "numeric"),
    ("FLOAT", 126, None, "numeric"), ("BINARY_DOUBLE", None, None, "float64"), ("DATE", None, None, "timestamp"),
    ("TIMESTAMP(6)", None, 6, "timestamp"), ("TIMESTAMP(9)", None, 9, "timestamp_ns"),
    ("TIMESTAMP(9) WITH TIME ZONE", None, 9, "timestamptz"), ("INTERVAL YEAR(2) TO MONTH", None, None, "interval"),
    ("INTERVAL DAY(9) TO SECOND(9)", None, None, "interval"), ("RAW", None, None, "bytes"),
    ("UROWID", None, None, "string"), ("NCLOB", None, None, "string"), ("XMLTYPE", None, None, "xml"),
    ("LONG", None, None, None), ("BFILE", None, None, None), ("SDO_GEOMETRY", None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("data_type", "precision", "scale", "expected"), TYPES)
def test_each_type_has_one_that_holds_its_values(
    data_type: str, precision: int | None, scale: int | None, expected: str | None
) -> None:
    """No number becomes a float; a type that has no exact one has none, and says so."""
    found = column("C", data_type, precision, scale)
    assert (None if found.type is None else str(found.type)) == expected
    assert (expected is None) == ("left out" in found.note)


TEXTS = [
    ("NUMBER", "numeric", "-.5", "-0.5"), ("NUMBER", "string", "1.2E+30", "12" + "0" * 29),
    ("NUMBER", "decimal(15,3)", "-.25", Decimal("-0.250")), ("DATE", "timestamp", " 1500-02-28 23:59:59", None),
    ("DATE", "date", " 2024-02-29 00:00:00", datetime(2024, 2, 29).date()),
    ("TIMESTAMP(9)", "timestamp_ns", " 2024-02-29 01:02:03.123456789", None),
    ("TIMESTAMP(6) WITH TIME ZONE", "timestamptz", " 2024-02-29 01:02:03.500000000", None),
    ("INTERVAL YEAR(2) TO MONTH", "interval", "-01-06", "-P1Y-6M"),
    ("INTERVAL DAY(2) TO SECOND(6)", "interval", "+01 02:03:04.050000", "P1DT2H3M4.05S"),
]  # fmt: skip


@pytest.mark.parametrize(("data_type", "name", "text", "expected"), TEXTS)
def test_texts_become_exact_values(data_type: str, name: str, text: str, expected: object) -> None:
    """What a query brings as text becomes the value that a redo statement of it would have; NULL stays NULL."""
    wanted_type = parse_type(name)
    one = reading(column("C", data_type), wanted_type)
    parsed = Column("C", parse_type("numeric") if name == "string" else wanted_type)
    values, refused = converted(pa.array([text, None]), one, parsed)
    assert (refused, values.null_count, values[1].as_py()) == ({}, 1, None)
    if expected is None:
        assert str(values[0].cast(pa.string())).startswith(text.strip()[:19])
    else:
        assert values[0].as_py() == expected or str(values[0].as_py()).replace("P-1Y-6M", "-P1Y-6M") == expected


def test_bad_values_are_refused_by_name_and_their_neighbours_go_on() -> None:
    """A day that only the Julian calendar has, and a time on a date, are faults of their rows alone."""
    one = reading(column("C", "DATE"), parse_type("date"))
    texts = pa.array([" 1500-02-29 00:00:00", " 2024-01-01 00:00:00", " 2024-01-01 00:00:01"])
    values, refused = converted(texts, one, Column("C", parse_type("date")))
    assert sorted(refused) == [0, 2]
    assert "1500-02-29" in refused[0]
    assert [value.as_py() for value in values] == [None, datetime(2024, 1, 1).date(), None]


def test_types_that_make_no_sense_are_refused_at_the_start() -> None:
    """A BLOB is no number, whatever the pipeline file says."""
    check_fits(column("C", "NUMBER"), parse_type("string"), "T")
    with pytest.raises(ConfigurationError, match="column C is BLOB: expected bytes, found int64"):
        check_fits(column("C", "BLOB"), parse_type("int64"), "T")


@given(
    st.integers(0, (1 << 32) - 1),
    st.lists(st.tuples(st.integers(0, (1 << 62)), st.integers(0, (1 << 40) - 1)), min_size=1, max_size=20),
)
def test_positions_are_those_of_libcore(generation: int, places: list[tuple[int, int]]) -> None:
    """Positions made for many rows at once equal those made one by one."""
    commits, orders = (pa.array(values, pa.int64()) for values in zip(*places, strict=True))
    found = positions_of(generation, commits, orders)
    assert found.to_pylist() == [make(generation, commit, order) for commit, order in places]
    assert positions_of(generation, commits[1:], orders[1:]).to_pylist() == found.to_pylist()[1:]


STATEMENTS = [
    'DECLARE \n loc_c CLOB; \n buf_c VARCHAR2(6156); \nBEGIN\n select "DATA" into loc_c from "ERP"."T" where "ID" = '
    "'1' and \"NAME\" = 'it''s; for update' for update;\n",
    'XML DOC BEGIN: select "DOC" from "ERP"."T" where "ID" = \'2\'',
    'DECLARE \nBEGIN\n Stmt := \'update "ERP"."T" set "LONG" = :VAR where "ID" = \'\'3\'\' and '
    "\"NAME\" = ''a''''b''';",
]


def test_procedures_tell_the_key_of_their_row() -> None:
    """LOBs, XML documents and long strings: the row is known by the condition, wherever it is cut into pieces."""
    table = wanted(column("ID", "NUMBER", 10, 0), column("NAME", "VARCHAR2"))
    rows = [
        {"SQL_REDO": piece, "CSF": int(number == 0)}
        for text in STATEMENTS
        for number, piece in enumerate([text[:60], text[60:]])
    ]
    assert keys_of_touched(table, mined(rows)) == [("1",), ("2",), ("3",)]
    assert keys_of_touched(table, mined([{"SQL_REDO": "something else"}])) is None


def log(thread: int, sequence: int, first: int, following: int) -> RedoLog:
    """A log file."""
    return RedoLog(f"{thread}_{sequence}", first, following, sequence, thread, True)


def test_logs_without_a_gap() -> None:
    """Each thread reaches back and lacks none between; a thread that was added since begins with its first log."""
    one = [log(1, 5, 100, 200), log(1, 6, 200, 1 << 62)]
    assert gapless(one, 150) == one
    assert gapless([*one, log(2, 1, 180, 1 << 62)], 150) == [*one, log(2, 1, 180, 1 << 62)]
    for wrong in ([log(1, 5, 100, 150), log(1, 7, 160, 170)], [log(2, 9, 180, 190)], []):
        with pytest.raises(LogLost):
            gapless(wrong, 120)


def test_a_closed_thread_holds_nobody_back() -> None:
    """The logs reach to the least end of the threads that write."""
    assert last_scn([log(1, 5, 100, 200), log(2, 3, 90, 150)], {1, 2}) == 149
    assert last_scn([log(1, 5, 100, 200), log(2, 3, 90, 150)], {1}) == 199


def test_what_is_given_out_is_known_by_thread_scn_and_xid() -> None:
    """Below the newest SCN all is given out, at it the named ones, and up to the snapshot's where a thread is new."""
    state = State(scn=50).behind([(1, 60, b"a"), (1, 70, b"b"), (1, 70, b"c")])
    found = [state.given(1, 60, b"x"), state.given(1, 70, b"b"), state.given(1, 70, b"d"), state.given(1, 71, b"b")]
    assert found == [True, True, False, False]
    assert [state.given(2, 50, b"x"), state.given(2, 51, b"x")] == [True, False]
    assert unpacked(state.packed()) == state


def test_another_versions_state_is_refused() -> None:
    """A state of an unknown version is a fault of the configuration, told as such."""
    with pytest.raises(ConfigurationError, match="version 2, found 9"):
        unpacked((9,))
