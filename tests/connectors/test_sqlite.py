"""SQLite as a source: declared types against stored classes, snapshots that are broken off, appended rows."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.sqlite.database import log_name, quote
from connectors.sqlite.types import convert, exact_type
from flows import build, direct, reading
from libcore.errors import ConfigurationError, FatalError
from libcore.schema import Column, parse_type
from tests.connectors.contract_source import Followed


def database(directory: Path, script: str) -> sqlite3.Connection:
    """A database `erp.db` in WAL mode."""
    connection = sqlite3.connect(directory / "erp.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(script)
    return connection


def pipeline(directory: Path, tables: str, follow: str = "nothing", more: str = "") -> Path:
    """A pipeline file over those tables (TOML of `tables` or its sections)."""
    head = f'name = "s"\n{tables if tables.startswith("tables") else ""}\n[sink.null]\n'
    source = f'[source.sqlite]\npath = "erp.db"\nfollow = "{follow}"\npoll_s = 0.01\nchunk_rows = 3\n{more}\n'
    file = directory / "s.toml"
    file.write_text(head + source + ("" if tables.startswith("tables") else tables), "utf-8")
    return file


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("INTEGER", "int64"), ("BIGINT", "int64"), ("smallint", "int16"), ("INT UNSIGNED", "int64"),
        ("VARCHAR(20)", "string"), ("NATIVE CHARACTER(70)", "string"), ("TEXT", "string"), ("BLOB", "bytes"),
        ("VARBINARY(16)", "bytes"), ("DOUBLE PRECISION", "float64"), ("DECIMAL(18, 4)", "decimal(18,4)"),
        ("NUMERIC(5)", "decimal(5,0)"), ("NUMERIC", "numeric"), ("DECIMAL(99,1)", "numeric"), ("BOOLEAN", "bool"),
        ("DATE", "date"), ("DATETIME", "timestamp"), ("TIMESTAMP WITH TIME ZONE", "timestamptz"), ("", "string"),
        ("MYTYPE", "string"),
    ],
)  # fmt: skip
def test_declared_types_are_exact_types(declared: str, expected: str) -> None:
    """Each declared type has one exact type; one that says nothing is text, and says so."""
    kind, note = exact_type(declared)
    assert str(kind) == expected
    assert (note is not None) == (declared in ("", "MYTYPE", "DECIMAL(99,1)", "DECIMAL(18, 4)"))


FITS: dict[str, list[tuple[Any, Any]]] = {
    "int64": [(2**63 - 1, 2**63 - 1), (-(2**63), -(2**63))],
    "int16": [(32767, 32767), (-32768, -32768)],
    "bool": [(0, False), (1, True)],
    "string": [("", ""), ("ü€😀", "ü€😀")],
    "bytes": [(b"", b""), (b"\x00\xff", b"\x00\xff")],
    "float64": [(0.1, 0.1), (1.7976931348623157e308, 1.7976931348623157e308), (3, 3.0)],
    "decimal(10,2)": [(19.99, Decimal("19.99")), (7, Decimal("7.00")), ("-12345678.90", Decimal("-12345678.90"))],
    "numeric": [(0.1, "0.1"), (-0.0, "0.0"), ("1e3", "1000"), (5, "5")],
    "date": [("0001-01-01", date(1, 1, 1)), ("9999-12-31", date(9999, 12, 31))],
    "timestamp": [("2026-01-02 03:04:05.123456", datetime(2026, 1, 2, 3, 4, 5, 123456))],
}
MISFITS: dict[str, list[Any]] = {
    "int64": ["1", 1.5, b"1"],
    "int16": [32768, "x"],
    "bool": [2, "true", 1.0],
    "string": [1, 1.5, b"a", "bad \udcff"],
    "bytes": ["text", 1],
    "float64": ["0.1", 2**53 + 1],
    "decimal(10,2)": [0.1 + 0.2, 19.999, "abc", 10**9, b"1", float("inf")],
    "numeric": ["abc", float("inf"), b"1"],
    "date": [20260102, "2026-02-30", "2026-1-2", "2026-01-02 00:00:00", b"2026-01-02"],
    "timestamp": ["2026-01-02 03:04:05Z", 1767323045, "yesterday"],
}


@settings(deadline=None)
@given(st.data())
def test_values_pass_exactly_or_are_told(data: st.DataObject) -> None:
    """In any mixture each value that fits is itself in the result, each other is named with its row, and no other."""
    name = data.draw(st.sampled_from(sorted(FITS)))
    one = st.sampled_from([*FITS[name], (None, None), *((value, ...) for value in MISFITS[name])])
    drawn = data.draw(st.lists(one, min_size=1, max_size=9))
    array, bad = convert([value for value, _ in drawn], Column("c", parse_type(name)))
    assert set(bad) == {row for row, (_, expected) in enumerate(drawn) if expected is ...}
    assert array.to_pylist() == [None if expected is ... else expected for _, expected in drawn]
    assert all("column c: expected" in text for text in bad.values())


def test_a_snapshot_has_every_row_and_tells_what_does_not_fit(tmp_path: Path) -> None:
    """Tables with and without rowid and key arrive whole; a row that does not fit is a dead letter with its key."""
    script = (
        "CREATE TABLE a (id INTEGER PRIMARY KEY, price DECIMAL(10,2), d DATE);"
        "CREATE TABLE b (x TEXT, y INT, v BLOB, PRIMARY KEY (x, y)) WITHOUT ROWID;"
        "CREATE TABLE c (n INT); CREATE TABLE d (k TEXT PRIMARY KEY, v TEXT); CREATE VIEW e AS SELECT * FROM c;"
    )
    with closing(database(tmp_path, script)) as connection:
        connection.executemany("INSERT INTO a VALUES (?, ?, ?)", [(n, n / 4, "2026-01-01") for n in range(10)])
        connection.execute("INSERT INTO a VALUES (77, 0.001, NULL)")
        connection.executemany("INSERT INTO b VALUES (?, ?, ?)", [(x, y, b"v") for x in "zXx" for y in range(4)])
        connection.executemany("INSERT INTO c VALUES (?)", [(1,)] * 7 + [(2,)])
        connection.execute("INSERT INTO d VALUES (NULL, 'no key'), ('k', CAST(x'ff' AS TEXT)), ('good', 'v')")
    file = pipeline(tmp_path, 'tables = ["a", "b", "c", "d"]')
    followed = Followed(file, tmp_path / "state", until_end=True)
    followed.drained()
    assert followed.tables["a"][(3,)] == (3, Decimal("0.75"), date(2026, 1, 1))
    assert len(followed.tables["a"]) == 10
    assert sorted(followed.tables["b"]) == sorted((x, y) for x in "zXx" for y in range(4))
    assert followed.copies["c"] == {(1,): 7, (2,): 1}
    assert followed.tables["d"] == {("good",): ("good", "v")}
    assert sorted(letter["key_text"] for letter in followed.letters) == ['{"id": 77}', '{"k": "k"}', '{"k": null}']
    assert direct.findings(build.load(str(file)), reading.bind(build.load(str(file)), str(file)), str(file)) == []


@pytest.mark.parametrize("written", [False, True])
def test_a_snapshot_that_is_broken_off(written: bool, tmp_path: Path) -> None:
    """Unwritten since, it goes on where it was; written since, it begins anew with empty tables: none twice or old."""
    with closing(database(tmp_path, "CREATE TABLE a (n INT); CREATE TABLE b (id INTEGER PRIMARY KEY)")) as connection:
        connection.executemany("INSERT INTO a VALUES (?)", [(n // 2,) for n in range(30)])
        connection.executemany("INSERT INTO b VALUES (?)", [(n,) for n in range(30)])
        file = pipeline(tmp_path, 'tables = ["a", "b"]', more="batch_rows_max = 3")
        followed = Followed(file, tmp_path / "state", until_end=True)

        def arrived() -> int:
            return sum(followed.copies.get("a", {}).values()) + len(followed.tables.get("b", {}))

        for limit in (10, 35):
            followed.until(lambda: arrived() >= limit)  # noqa: B023
            if written:
                connection.execute("DELETE FROM a WHERE rowid % 5 = ?", (limit % 3,))  # other rows each time
                connection.execute("DELETE FROM b WHERE id = ?", (limit % 30,))
            followed.crash()
        followed.drained()
        truth = connection.execute("SELECT n, count(*) FROM a GROUP BY n").fetchall()
        assert {row[0]: count for row, count in followed.copies["a"].items()} == dict(truth)
        assert len(followed.tables["b"]) == connection.execute("SELECT count(*) FROM b").fetchone()[0]


def test_appended_rows_are_followed(tmp_path: Path) -> None:
    """With follow = "rowid" each appended row comes once, with a key and without, across crashes."""
    random = Random(5)
    with closing(database(tmp_path, "CREATE TABLE a (n INT); CREATE TABLE b (id INTEGER PRIMARY KEY)")) as connection:
        followed = Followed(pipeline(tmp_path, 'tables = ["a", "b"]', "rowid"), tmp_path / "state")
        for step in range(20):
            connection.executemany("INSERT INTO a VALUES (?)", [(step,)] * random.randint(0, 9))
            connection.execute("INSERT INTO b VALUES (NULL)")
            followed.epoch()
            if step % 3 == 0:
                time.sleep(0.01)
                followed.crash()
        truth = {(n,): count for n, count in connection.execute("SELECT n, count(*) FROM a GROUP BY n")}
        followed.until(lambda: dict(followed.copies.get("a", {})) == truth and len(followed.tables["b"]) == 20)
        followed.close()
        assert dict(followed.copies["a"]) == truth


def test_declared_columns_and_key_win(tmp_path: Path) -> None:
    """[tables.X] may choose columns, give them types and units, and a key to a table that has none."""
    script = "CREATE TABLE a (n INT, at INTEGER, junk BLOB); INSERT INTO a VALUES (1, 1000, x'00'), (2, NULL, 'x')"
    database(tmp_path, script).close()
    section = '[tables.a]\nkey = ["n"]\n[tables.a.columns]\nn = "int32"\nat = { type = "timestamp", unit = "ms" }\n'
    followed = Followed(pipeline(tmp_path, section, "triggers"), tmp_path / "state", until_end=True)
    followed.drained()
    assert followed.tables["a"] == {(1,): (1, datetime(1970, 1, 1, 0, 0, 1)), (2,): (2, None)}


@pytest.mark.parametrize(
    ("tables", "follow", "more", "expected"),
    [
        ('tables = "itmes"', "nothing", "", r"expected table 'itmes' in \[source\.sqlite\], found none .*'items'"),
        ('tables = "keyless"', "triggers", "", "expected a key for table keyless"),
        ('tables = "norowid"', "rowid", "", "table norowid has none"),
        ('tables = "items"', "nothing", 'path = "no.db"', "expected a database file .*no.db, found none"),
        ('tables = "items"', "nothing", 'path = "recovery/part-0.sqlite3"', "found the recovery store"),
        (
            '[tables.items]\nkey = ["nam"]\n',
            "nothing",
            "",
            r"tables\.items\.key: expected columns of items, found 'nam'",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(tables: str, follow: str, more: str, expected: str, tmp_path: Path) -> None:
    """A table or a file that cannot be read as asked is refused at the start, with what is there."""
    script = (
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE keyless (a INT);"
        "CREATE TABLE norowid (a INT PRIMARY KEY) WITHOUT ROWID;"
    )
    database(tmp_path, script).close()
    (tmp_path / "recovery").mkdir()
    (tmp_path / "recovery" / "part-0.sqlite3").touch()
    file = pipeline(tmp_path, tables, follow)
    if more:
        file.write_text(file.read_text().replace('path = "erp.db"', more))
    with pytest.raises(ConfigurationError, match=expected):
        Followed(file, tmp_path / "state")


def test_a_dropped_column_stops_the_flow(tmp_path: Path) -> None:
    """A column that is read and goes away stops the flow, and names table and column."""
    with closing(database(tmp_path, "CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT)")) as connection:
        followed = Followed(pipeline(tmp_path, 'tables = "a"', "triggers"), tmp_path / "state")
        for _ in range(20):
            followed.epoch()
            time.sleep(0.005)
        connection.execute("ALTER TABLE a DROP COLUMN name")
        with pytest.raises(FatalError, match="table a: expected column name as it was, found it dropped"):
            followed.until(lambda: False)
        followed.close()


REMADE = (
    "BEGIN; CREATE TABLE new (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO new SELECT * FROM a; DROP TABLE a;"
    "ALTER TABLE new RENAME TO a; DELETE FROM a WHERE id = 1; UPDATE a SET v = 'late' WHERE id = 2; COMMIT"
)
"""How migrations change a table that ALTER TABLE cannot: its triggers go with the old one."""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_table_that_a_migration_made_anew(stopped: bool, tmp_path: Path) -> None:
    """What is written to a table while it has lost its triggers arrives all the same, deletes too, across crashes."""
    script = "CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE b (id INTEGER PRIMARY KEY)"
    with closing(database(tmp_path, script)) as connection:
        connection.executemany("INSERT INTO a VALUES (?, 'v')", [(n,) for n in range(9)])
        connection.execute("INSERT INTO b VALUES (1)")
        followed = Followed(pipeline(tmp_path, 'tables = ["a", "b"]', "triggers"), tmp_path / "state")
        followed.until(lambda: len(followed.tables.get("a", {})) == 9 and len(followed.tables.get("b", {})) == 1)
        for _ in range(5):
            followed.epoch()
        if stopped:
            followed.close()
        connection.executescript(REMADE)
        connection.execute("INSERT INTO b VALUES (2)")
        if stopped:
            followed.open()
        truth = {row[:1]: row for row in connection.execute("SELECT * FROM a")}
        for _ in range(4):
            time.sleep(0.03)
            followed.epoch()
            followed.crash()
        followed.until(lambda: followed.tables.get("a") == truth and len(followed.tables["b"]) == 2)
        connection.execute("DELETE FROM a WHERE id = 3")
        followed.until(lambda: len(followed.tables["a"]) == 7)
        followed.close()
        assert followed.tables["a"] == {key: row for key, row in truth.items() if key != (3,)}


@pytest.mark.parametrize("stopped", [False, True])
def test_a_database_put_back_in_its_place(stopped: bool, tmp_path: Path) -> None:
    """An older copy in the file's place is read anew, and then followed: its log counts from a smaller number on."""
    with closing(database(tmp_path, "CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT)")) as connection:
        connection.executemany("INSERT INTO a VALUES (?, 'v')", [(n,) for n in range(3)])
        followed = Followed(pipeline(tmp_path, 'tables = ["a"]', "triggers"), tmp_path / "state")
        followed.until(lambda: len(followed.tables.get("a", {})) == 3)
        connection.execute("VACUUM INTO ?", [str(tmp_path / "copy.db")])
        connection.executemany("INSERT INTO a VALUES (?, 'v')", [(n,) for n in range(3, 9)])
        followed.until(lambda: len(followed.tables.get("a", {})) == 9)
        for _ in range(5):
            followed.epoch()
        if stopped:
            followed.close()
    for rest in ("-wal", "-shm"):
        (tmp_path / f"erp.db{rest}").unlink(missing_ok=True)
    (tmp_path / "copy.db").replace(tmp_path / "erp.db")
    if stopped:
        followed.open()
    followed.until(lambda: len(followed.tables.get("a", {})) == 3)
    with closing(sqlite3.connect(tmp_path / "erp.db", isolation_level=None)) as connection:
        connection.execute("UPDATE a SET v = 'new' WHERE id = 1")
    followed.until(lambda: followed.tables["a"].get((1,)) == (1, "new"))
    followed.close()
    assert sorted(followed.tables["a"]) == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("follow", "key", "expected", "lost"),
    [
        ("triggers", "PRIMARY KEY", [2, 3, 4], False),
        ("triggers", "PRIMARY KEY", [2, 3, 4], True),
        ("rowid", "", [1, 2, 3, 4], False),
    ],
)
def test_a_table_that_the_file_does_without_for_a_while(
    follow: str, key: str, expected: list[int], lost: bool, tmp_path: Path
) -> None:
    """Behind triggers it is emptied and read again when it returns; appended rows go on, none comes twice.

    lost: the log told of it meanwhile that its triggers were lost, too.
    """
    script = (
        f"CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (id INTEGER {key}); INSERT INTO b VALUES (1), (2);"
    )
    connection = database(tmp_path, script)
    followed = Followed(pipeline(tmp_path, 'tables = ["a", "b"]', follow), tmp_path / "state")

    def of_b() -> list[Any]:
        copies = followed.copies.get("b", Counter[Any]()).elements()
        return sorted(row[0] for row in copies) or sorted(followed.rows("b"))

    followed.until(lambda: of_b() == [1, 2])
    for _ in range(5):
        followed.epoch()
    followed.close()
    followed.follow(pipeline(tmp_path, 'tables = ["a"]', follow))
    connection.execute("INSERT INTO b VALUES (3)")
    if follow == "triggers":
        connection.execute("DELETE FROM b WHERE id = 1")
    if lost:
        connection.execute(f"INSERT INTO {quote(log_name('s'))} (name, key) VALUES ('b', '')")
    connection.execute("INSERT INTO a VALUES (7)")
    followed.until(lambda: sorted(followed.rows("a")) == [7])
    for _ in range(5):
        followed.epoch()
    followed.close()
    followed.follow(pipeline(tmp_path, 'tables = ["a", "b"]', follow))
    connection.execute("INSERT INTO b VALUES (4)")
    followed.until(lambda: of_b() == expected)
    for _ in range(5):
        followed.epoch()
    assert of_b() == expected
    followed.close()
    connection.close()
