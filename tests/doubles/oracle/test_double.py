"""The double itself: what it refuses, hides and tells must be what the database would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from libcore.redo import RedoPlan, parse_redo
from libcore.schema import Column, Table, parse_type
from tests.doubles.oracle import schedule
from tests.doubles.oracle.database import OracleDatabase
from tests.doubles.oracle.driver import Connection, connect
from tests.doubles.oracle.errors import DatabaseError
from tests.doubles.oracle.play import Player
from tests.doubles.oracle.redo_text import split

NAME = "ERP.ITEMS"
CONTENTS = "SELECT SCN, OPERATION_CODE, XID, SQL_REDO, CSF, ROLLBACK, TABLE_NAME, STATUS FROM V$LOGMNR_CONTENTS"
START = "BEGIN SYS.DBMS_LOGMNR.START_LOGMNR(STARTSCN => :first, ENDSCN => :last, OPTIONS => {}); END;"
ONLINE = "SYS.DBMS_LOGMNR.DICT_FROM_ONLINE_CATALOG"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[OracleDatabase]:
    """Two instances, one table."""
    with closing(OracleDatabase(tmp_path / "x.db", threads=2)) as made:
        made.create_table(NAME, [("ID", "NUMBER(10)"), ("NAME", "VARCHAR2(4000)"), ("NOTE", "CLOB")], ["ID"])
        yield made


@pytest.fixture
def session(database: OracleDatabase) -> Iterator[Connection]:
    """A connector's session."""
    with closing(connect(str(database.path))) as made:
        yield made


def ask(session: Connection, statement: str, **binds: object) -> list[tuple]:
    return session.cursor().execute(statement, binds).fetchall()


def add(session: Connection, *names: str) -> None:
    for number, name in enumerate(names):
        option = "ADDFILE" if number else "NEW"
        session.cursor().execute(
            f"BEGIN DBMS_LOGMNR.ADD_LOGFILE(LOGFILENAME => :name, OPTIONS => DBMS_LOGMNR.{option}); END;",
            {"name": name},
        )


def mine(session: Connection, last: int, *, options: str = ONLINE, first: int = 900) -> list[tuple]:
    session.cursor().execute(START.format(options), {"first": first, "last": last})
    return ask(session, f"{CONTENTS} WHERE TABLE_NAME = 'ITEMS' AND OPERATION_CODE IN (1, 2, 3, 9, 10)")


def code(call: object) -> int:
    """The ORA-number that a call fails with; 0: it does not."""
    try:
        call()  # type: ignore[operator]
    except DatabaseError as error:
        return int(error.args[0].code)
    return 0


def scn(session: Connection) -> int:
    return int(ask(session, "SELECT CURRENT_SCN FROM V$DATABASE")[0][0])


def test_logs_are_missed_as_oracle_misses_them(database: OracleDatabase, session: Connection) -> None:
    """No log, the same twice, one that is gone, a hole, too late a beginning and one written over: each its error."""
    contents = lambda: ask(session, CONTENTS)  # noqa: E731
    assert code(lambda: mine(session, 2000)) == 1292
    assert code(contents) == 1306
    assert code(lambda: session.cursor().execute("BEGIN SYS.DBMS_LOGMNR.END_LOGMNR(); END;")) == 1307
    assert code(lambda: add(session, "redo1.log", "redo1.log")) == 1289
    assert code(lambda: add(session, "arch_1_10.arc")) == 1284
    add(session, "redo1.log")
    assert code(lambda: mine(session, 2000)) == 1291
    for _ in range(3):
        database.log.switch(1)
    add(session, "arch_1_10.arc", "arch_1_12.arc", "redo1.log", "redo4.log")
    assert code(lambda: mine(session, 2000)) == 1291
    add(session, "redo1.log", "redo4.log")
    assert code(lambda: mine(session, 2000)) == 1291
    add(session, "arch_1_10.arc", "arch_1_11.arc", "arch_1_12.arc", "redo1.log", "redo4.log")
    assert code(lambda: mine(session, 2000)) == 0
    database.log.purge(1 << 40)
    assert code(contents) == 1284
    add(session, "redo1.log", "redo4.log")
    for _ in range(3):
        database.log.switch(1)
    assert code(lambda: mine(session, 2000, first=scn(session))) == 310


def test_redo_that_is_not_flushed_is_hidden(database: OracleDatabase, session: Connection) -> None:
    """A thread's redo comes when it is flushed, though the table shows the commit; LAST_REDO_CHANGE# tells."""
    database.log.freeze(2)
    held = scn(session)
    transaction = database.begin(2)
    transaction.insert(NAME, {"ID": 1})
    committed = transaction.commit()
    add(session, "redo1.log", "redo4.log")
    assert mine(session, committed) == []
    assert ask(session, f'SELECT COUNT(*) FROM "ERP"."ITEMS" AS OF SCN {committed}') == [(1,)]
    known = 'SELECT LAST_REDO_CHANGE# FROM V$THREAD WHERE STATUS = :s ORDER BY "THREAD#"'
    assert ask(session, known, s="OPEN")[1][0] < held <= committed
    database.log.flush(2)
    assert [row[1] for row in mine(session, committed)] == [1]
    assert ask(session, known, s="OPEN")[1][0] >= committed


def test_savepoints_are_undone_by_rows(database: OracleDatabase, session: Connection) -> None:
    """Going back to a savepoint writes a row with ROLLBACK = 1 for each change, the newest first."""
    transaction = database.begin()
    first = transaction.insert(NAME, {"ID": 1, "NAME": "a"})
    mark = transaction.savepoint()
    transaction.update(NAME, first, {"NAME": "b"})
    transaction.insert(NAME, {"ID": 2})
    transaction.short = True
    transaction.rollback_to(mark)
    last = transaction.commit()
    add(session, "redo1.log", "redo4.log")
    rows = mine(session, last)
    assert [(row[1], row[5]) for row in rows] == [(1, 0), (3, 0), (1, 0), (2, 1), (3, 1)]
    assert [row[2][4:] == b"\xff" * 4 for row in rows] == [False, False, False, True, True]
    assert [row["NAME"] for row in database.truth(NAME)] == ["a"]
    database.setting("committed_undo", "stripped")
    assert [row[1] for row in mine(session, last, options=f"{ONLINE} + DBMS_LOGMNR.COMMITTED_DATA_ONLY")] == [1]


def test_committed_data_only_is_in_the_order_of_commits(database: OracleDatabase, session: Connection) -> None:
    """Rows of the transaction that commits first come first; what is open or rolled back does not come."""
    early, late, gone, still = (database.begin(1 + number % 2) for number in range(4))
    for number, transaction in enumerate((late, early, gone, still)):
        transaction.insert(NAME, {"ID": number})
    early.commit()
    gone.rollback()
    last = late.commit()
    add(session, "redo1.log", "redo4.log")
    rows = mine(session, last, options=f"{ONLINE} + DBMS_LOGMNR.COMMITTED_DATA_ONLY")
    assert [row[3].split("'")[1] for row in rows] == ["1", "0"]
    assert len(mine(session, last)) == 5


@pytest.mark.parametrize("seed", [seed for seed in range(40) if len(schedule.draw(seed).events) > 150][:4])
def test_flashback_equals_the_rows_at_every_commit(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each commit of a random history a flashback read gives what the committed redo up to there adds up to."""
    monkeypatch.setattr("tests.doubles.oracle.play.Follower", _Nobody)
    events = [
        one
        for one in schedule.draw(seed).events
        if not isinstance(one, schedule.Truncated | schedule.Column | schedule.Dropped)
    ]
    player, seen = Player(tmp_path, schedule.draw(seed)), {}
    for event in events:
        player.play(event)
        if player.database.history:
            seen[player.database.history[-1]] = sorted(
                str(tuple(row.values())) for row in player.database.truth(schedule.PAIRS)
            )
    assert len(seen) > 2
    for commit, rows in seen.items():
        assert sorted(map(str, player.database.truth_at(schedule.PAIRS, commit))) == rows
    player.database.close()


class _Nobody:
    """Stands where the connector does, and reads nothing."""

    def __init__(self, *_: object) -> None: ...

    def step(self) -> bool:
        return False

    def drain(self) -> None: ...

    def kill(self, lost: int) -> None: ...


def test_statements_say_the_rows(database: OracleDatabase, session: Connection) -> None:
    """The parser of redo reads each row that was written out of its statement, awkward texts and pieces among them."""
    random, texts = Random(5), [None, "O'Neil", "''", "a,b) values ('x');", "ü€😀" * 900, "\\0041", " and "]
    for number in range(60):
        database.write(NAME, [{"ID": number, "NAME": random.choice(texts)}])
    add(session, "redo1.log", "redo4.log")
    rows = mine(session, scn(session))
    pieces = pa.RecordBatch.from_arrays(
        [pa.array([row[3] for row in rows]), pa.array([row[4] for row in rows], pa.int8())], names=["statement", "csf"]
    )
    columns = [Column("ID", parse_type("int64"), False)] + [Column(n, parse_type("string")) for n in ("NAME", "NOTE")]
    found = parse_redo(RedoPlan.of(Table("t", tuple(columns), ("ID",))), pieces)
    truth = {row["ID"]: row["NAME"] for row in database.truth(NAME)}
    assert (found.errors, found.consumed, len(rows) > 60) == ([], len(rows), True)
    assert dict(zip(*(found.record.column(name).to_pylist() for name in ("ID", "NAME")), strict=True)) == truth


def test_pieces_are_cut_between_characters() -> None:
    """A statement is cut at 4,000 bytes at most, never inside of a character, and its pieces make the whole."""
    text = "a" + "€" * 5000
    pieces = split(text)
    assert "".join(piece or "" for piece in pieces) == text
    assert {len((piece or "").encode()) for piece in pieces[:-1]} <= {3998, 3999, 4000}


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ('SELECT ID FROM "ERP"."ITEMS" LIMIT 1', 933),
        ('SELECT t.ID FROM "ERP"."ITEMS" AS t', 933),
        ('SELECT ID FROM "ERP"."ITEMS";', 933),
        ("SELECT 1", 923),
        ('SELECT ID FROM "ERP"."ITEMS" WHERE (ID, NAME) > (:a, :b)', 1796),
        ('SELECT ID FROM "ERP"."ITEMS" WHERE ID = :date', 1745),
        ('SELECT ID FROM "ERP"."NONE"', 942),
        ('SELECT NONE FROM "ERP"."ITEMS"', 904),
        (f'SELECT ID FROM "ERP"."ITEMS" WHERE ID IN ({", ".join("1" * 1001)})', 1795),
        ('SELECT ID FROM "ERP"."ITEMS" AS OF SCN 1', 1466),
    ],
)
def test_what_oracle_refuses_is_refused(
    database: OracleDatabase, session: Connection, statement: str, number: int
) -> None:
    """Statements that SQLite alone would run fail with Oracle's number."""
    assert code(lambda: ask(session, statement, **{name: 1 for name in "ab" if f":{name}" in statement})) == number


def test_undo_is_forgotten(database: OracleDatabase, session: Connection) -> None:
    """A flashback read of before the undo that is kept fails with ORA-01555."""
    before = scn(session)
    database.write(NAME, [{"ID": 1}])
    assert ask(session, 'SELECT ID FROM "ERP"."ITEMS" AS OF SCN :s', s=before) == []
    database.log.forget_undo(before + 1)
    assert code(lambda: ask(session, 'SELECT ID FROM "ERP"."ITEMS" AS OF SCN :s', s=before)) == 1555


def test_another_process_sees_the_same_database(database: OracleDatabase) -> None:
    """What is committed here is read over there, by the driver's own name."""
    from tests.doubles.oracle.install import environment

    database.write(NAME, [{"ID": 7, "NAME": "here"}])
    text = "import oracledb, os; c = oracledb.connect(user='a', password='b', dsn=os.environ['ORACLE_DSN']).cursor(); "
    text += 'print(c.execute(\'SELECT ID, NAME FROM "ERP"."ITEMS"\').fetchall())'
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment(database.path), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[(7, 'here')]"
