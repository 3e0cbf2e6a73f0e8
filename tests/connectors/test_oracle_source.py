"""The Oracle source against the double: DDL between changes, redo that is gone, rows without a statement, modes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connectors.base.items import ClearColumn
from libcore.errors import ConfigurationError, FatalError
from tests.connectors.contract_source import Followed
from tests.connectors.oracle_parts import ITEMS, names, opened, pipeline, truth, write
from tests.doubles.oracle.database import OracleDatabase


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OracleDatabase:
    """An empty table ERP.ITEMS."""
    return opened(tmp_path, monkeypatch)


def refused(followed: Followed) -> str:
    """The error that ends the flow."""
    with pytest.raises(FatalError) as caught:
        followed.until(lambda: False)
    followed.close()
    return str(caught.value)


def test_a_new_column_with_a_default(database: OracleDatabase, tmp_path: Path) -> None:
    """A column that the table gains comes with old rows, whose default no redo tells, and with new ones."""
    write(database, 0, 20, "a")
    followed = Followed(pipeline(tmp_path), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 20)
    write(database, 5, 3, "before")
    database.add_column("ERP.ITEMS", "EXTRA", "NUMBER(5)", 7)
    database.write("ERP.ITEMS", [{"ID": 99, "NAME": "new", "EXTRA": 8}], [(1,)])
    followed.until(lambda: names(followed) == truth(database) and "EXTRA" in followed.columns["ITEMS"])
    followed.crash()
    write(database, 6, 1, "after")
    followed.until(lambda: names(followed) == truth(database))
    followed.close()
    extra = {row[0]: row[3] for row in followed.tables["ITEMS"].values()}
    assert extra == {row["ID"]: row["EXTRA"] for row in database.truth("ERP.ITEMS")}


def test_a_new_column_with_a_default_of_a_table_without_a_key(database: OracleDatabase, tmp_path: Path) -> None:
    """Rows that are read again for a default replace those that were there: each is counted once."""
    database.create_table("ERP.LOOSE", ITEMS)
    transaction = database.begin()
    for number in range(5):
        transaction.insert("ERP.LOOSE", {"ID": number // 2, "NAME": "a"})
    transaction.commit()
    followed = Followed(pipeline(tmp_path, table="[tables.LOOSE]\n"), tmp_path / "state")
    followed.until(lambda: sum(followed.copies.get("LOOSE", {}).values()) == 5)
    database.add_column("ERP.LOOSE", "EXTRA", "NUMBER(5)", 7)
    transaction = database.begin()
    transaction.insert("ERP.LOOSE", {"ID": 9, "NAME": "b", "EXTRA": 8})
    transaction.commit()
    expected = Counter((row["ID"], row["NAME"], None, row["EXTRA"]) for row in database.truth("ERP.LOOSE"))
    followed.until(lambda: +followed.copies.get("LOOSE", Counter()) == expected)
    followed.close()
    assert expected[(1, "a", None, 7)] == 2


@pytest.mark.parametrize(("setting", "expected"), [("ignore", [column for column, _ in ITEMS]), ("refuse", None)])
def test_a_new_column_that_is_not_wanted(
    database: OracleDatabase, tmp_path: Path, setting: str, expected: list[str] | None
) -> None:
    """Ignored, it does not come; refused, the flow stops and names it."""
    write(database, 0, 3, "a")
    followed = Followed(pipeline(tmp_path, table=f'on_new_column = "{setting}"\n'), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 3)
    database.add_column("ERP.ITEMS", "EXTRA", "NUMBER(5)")
    write(database, 9, 1, "b")
    if expected is None:
        assert "on_new_column refuses column EXTRA" in refused(followed)
        return
    followed.until(lambda: names(followed) == truth(database))
    followed.close()
    assert followed.columns["ITEMS"] == expected


class Clearing(Followed):
    """A target that notes which columns were cleared."""

    cleared: tuple[str, ...] = ()

    def _apply(self, item: Any) -> None:
        if isinstance(item, ClearColumn):
            self.cleared += (item.column,)
            at = self.columns["ITEMS"].index(item.column)
            rows = self.tables.get("ITEMS", {})
            self.tables["ITEMS"] = {key: (*row[:at], None, *row[at + 1 :]) for key, row in rows.items()}
        else:
            super()._apply(item)


@pytest.mark.parametrize("setting", ["follow", "refuse"])
def test_a_dropped_column(database: OracleDatabase, tmp_path: Path, setting: str) -> None:
    """Followed, rows behind the drop come without the column and it is cleared once; else the flow stops."""
    database.write("ERP.ITEMS", [{"ID": 1, "NAME": "a", "AT": "2026-01-01 00:00:00"}])
    followed = Clearing(pipeline(tmp_path, table=f'on_schema_change = "{setting}"\n'), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 1)
    database.write("ERP.ITEMS", [{"ID": 2, "NAME": "b", "AT": "2026-01-01 00:00:00"}])
    database.drop_column("ERP.ITEMS", "AT")
    write(database, 3, 2, "c")
    if setting == "refuse":
        assert "expected column AT as it was, found it dropped" in refused(followed)
        return
    followed.until(lambda: names(followed) == truth(database))
    followed.close()
    assert (followed.columns["ITEMS"], followed.cleared) == (["ID", "NAME"], ("AT",))


@pytest.mark.parametrize("setting", ["apply", "ignore", "stop"])
def test_a_truncate_between_changes(database: OracleDatabase, tmp_path: Path, setting: str) -> None:
    """Applied, the rows before it go and those behind it stay, crash or not; ignored, they stay; else it stops."""
    write(database, 0, 10, "a")
    followed = Followed(pipeline(tmp_path, table=f'on_truncate = "{setting}"\n'), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 10)
    write(database, 10, 5, "b")
    database.truncate("ERP.ITEMS")
    write(database, 3, 2, "c")
    if setting == "stop":
        assert "was truncated at SCN" in refused(followed)
        return
    followed.until(lambda: names(followed).get(4) == "c")
    followed.crash()
    write(database, 4, 1, "d")
    followed.until(lambda: names(followed).get(4) == "d")
    followed.close()
    assert len(names(followed)) == (2 if setting == "apply" else 15)


@pytest.mark.parametrize("setting", ["apply", "ignore", "stop"])
@pytest.mark.parametrize("told", ["DROP PARTITION P1", "truncate subpartition S1 update indexes"])
def test_rows_that_go_with_their_partition(database: OracleDatabase, tmp_path: Path, setting: str, told: str) -> None:
    """No redo tells the rows of a partition that is dropped or truncated: they go as those of a truncate do."""
    write(database, 0, 10, "a")
    followed = Followed(pipeline(tmp_path, table=f'on_truncate = "{setting}"\n'), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 10)
    write(database, 3, 1, "b")
    database.drop_partition("ERP.ITEMS", [(number,) for number in range(5)], told)
    write(database, 7, 1, "c")
    if setting == "stop":
        assert "lost rows with a partition at SCN" in refused(followed)
        return
    followed.until(lambda: names(followed).get(7) == "c")
    followed.crash()
    write(database, 8, 1, "d")
    followed.until(lambda: names(followed).get(8) == "d")
    followed.close()
    left = {} if setting == "apply" else {0: "a", 1: "a", 2: "a", 3: "b", 4: "a"}
    assert names(followed) == left | truth(database)


@pytest.mark.parametrize("settings", ["", 'mode = "logminer_committed"\n'])
def test_rows_that_are_exchanged_with_a_partition(database: OracleDatabase, tmp_path: Path, settings: str) -> None:
    """Rows that come with an exchanged partition come, though no redo tells them, also where those that go may stay."""
    write(database, 0, 3, "a")
    followed = Followed(pipeline(tmp_path, settings, 'on_truncate = "ignore"\n'), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 3)
    told = 'alter table "ERP"."ITEMS" exchange partition P1 with table "ERP"."NEW"'
    database.replace_table("ERP.ITEMS", [told], [{"ID": 7, "NAME": "in"}])
    write(database, 2, 1, "b")
    followed.until(lambda: names(followed).get(2) == "b" and 7 in names(followed))
    followed.close()
    assert names(followed) == {0: "a", 1: "a", 2: "b", 7: "in"}


_REPLACED = {
    "dropped": ['DROP TABLE "ERP"."ITEMS"', 'CREATE TABLE "ERP"."ITEMS" ("ID" NUMBER(10))'],
    "kept in the bin": ['ALTER TABLE "ERP"."ITEMS" RENAME TO "BIN$a==$0"', 'drop table ERP.ITEMS AS "BIN$a==$0" '],
    "renamed": ['rename "ITEMS" to "ITEMS_OLD"'],
}


@pytest.mark.parametrize("is_down", [True, False])
@pytest.mark.parametrize("statements", _REPLACED.values(), ids=_REPLACED)
def test_another_table_under_the_name(
    database: OracleDatabase, tmp_path: Path, statements: list[str], is_down: bool
) -> None:
    """A table that takes the name of one that was dropped or renamed is read anew: the former one's rows go."""
    write(database, 0, 4, "a")
    followed = Followed(pipeline(tmp_path), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 4)
    if is_down:
        followed.close()
    database.replace_table("ERP.ITEMS", statements, [{"ID": 3, "NAME": "new"}, {"ID": 7, "NAME": "new"}])
    write(database, 8, 1, "c")
    if is_down:
        followed.open()
    followed.until(lambda: names(followed) == truth(database))
    followed.close()
    assert names(followed) == {3: "new", 7: "new", 8: "c"}


@pytest.mark.parametrize("crashes", [False, True])
def test_a_renamed_column(database: OracleDatabase, tmp_path: Path, crashes: bool) -> None:
    """Behind a rename the values of all rows stand in the new column, though no redo tells them; crash or not."""
    write(database, 0, 5, "a")
    followed = Clearing(pipeline(tmp_path, table='on_schema_change = "follow"\n'), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 5)
    database.rename_column("ERP.ITEMS", "NAME", "TITLE")
    database.write("ERP.ITEMS", [{"ID": 9, "TITLE": "b"}])
    expected = {row["ID"]: row["TITLE"] for row in database.truth("ERP.ITEMS")}

    def titles() -> dict[int, Any]:
        place = followed.columns["ITEMS"].index("TITLE") if "TITLE" in followed.columns["ITEMS"] else 0
        return {key: row[place] for key, row in followed.rows("ITEMS").items()}

    if crashes:
        followed.until(lambda: bool(followed.cleared))
        followed.crash()  # behind the clearing, and before a row was read again
    followed.until(lambda: titles() == expected)
    followed.close()
    assert (len(expected), followed.cleared) == (6, ("NAME",))


@pytest.mark.parametrize("setting", ["stop", "snapshot"])
def test_redo_that_is_gone(database: OracleDatabase, tmp_path: Path, setting: str) -> None:
    """Logs deleted before they were read stop the flow, which names the ways out; or the tables are read anew."""
    write(database, 0, 10, "a")
    followed = Followed(pipeline(tmp_path, f'on_lost = "{setting}"\n'), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 10)
    for _ in range(3):
        followed.epoch()
    followed.close()
    write(database, 5, 10, "b", ((1,), (2,)))
    for _ in range(5):
        database.log.switch(1)
    database.log.purge(1 << 60)
    write(database, 7, 2, "c")
    followed.open()
    if setting == "stop":
        error = refused(followed)
        assert "on_lost" in error
        assert "changes are lost" in error
        return
    followed.until(lambda: names(followed) == truth(database))
    write(database, 30, 2, "d", ((7,),))
    followed.until(lambda: names(followed) == truth(database))
    followed.close()


def test_rows_that_logminer_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes before a DDL, mined behind it, come without names: they are read again, or all of the table."""
    database = opened(tmp_path, monkeypatch)
    database.setting("positional", 1)
    write(database, 0, 10, "a")
    followed = Followed(pipeline(tmp_path), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 10)
    followed.close()
    write(database, 5, 10, "b", ((1,),))
    database.add_column("ERP.ITEMS", "EXTRA", "NUMBER(5)")
    followed.open()
    write(database, 3, 1, "c")
    followed.until(lambda: names(followed) == truth(database))
    followed.close()
    assert followed.letters == []


def test_a_row_that_does_not_fit_is_a_dead_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value outside of the type that the file declares is named with table, column and place; others go on."""
    database = opened(tmp_path, monkeypatch, [("ID", "NUMBER(10)"), ("NAME", "NUMBER")])
    write(database, 1, 2, "12345.67")
    table = 'columns = { ID = "string", NAME = "decimal(6,2)" }\nkey = ["ID"]\n'
    followed = Followed(pipeline(tmp_path, table=table), tmp_path / "state")
    followed.until(lambda: len(followed.letters) == 2)
    write(database, 1, 1, "1.5")
    write(database, 2, 1, "0.125")
    followed.until(lambda: len(names(followed)) == 1 and len(followed.letters) == 3)
    followed.close()
    assert {key: str(value) for key, value in names(followed).items()} == {"1": "1.50"}
    assert all("column NAME" in letter["error"] and letter["table_name"] == "ITEMS" for letter in followed.letters)


@pytest.mark.parametrize("settings", ["", "batch_rows_max = 2\n"])
def test_keys_that_move_onto_one_another(database: OracleDatabase, tmp_path: Path, settings: str) -> None:
    """`SET ID = ID + 1` writes a key and then moves another row away from it: that does not delete what was written."""
    write(database, 1, 3, "a")
    write(database, 2, 1, "b")
    followed = Followed(pipeline(tmp_path, settings), tmp_path / "state")
    followed.until(lambda: names(followed) == truth(database))
    with database.lock:
        transaction, places = database.begin(), database.places("ERP.ITEMS")
        for key, place in sorted(places.items()):
            transaction.update("ERP.ITEMS", place, {"ID": int(str(key[0])) + 1})
        transaction.commit()
    assert truth(database) == {2: "a", 3: "b", 4: "a"}
    followed.until(lambda: 4 in names(followed))
    write(database, 9, 1, "end")
    followed.until(lambda: 9 in names(followed))
    assert names(followed) == truth(database)
    followed.close()
    assert followed.letters == []


def test_a_log_that_triggers_keep(database: OracleDatabase, tmp_path: Path) -> None:
    """The rows that the log names come as they are now, gone ones as deletes; what is durable leaves the log."""
    write(database, 0, 10, "a")
    file = pipeline(tmp_path, 'mode = "trigger_log"\n')
    with pytest.raises(ConfigurationError, match=r"CREATE TABLE .* AFTER INSERT OR UPDATE OR DELETE"):
        Followed(file, tmp_path / "state").until(lambda: False)
    database.keep_log("ERP.ITEMS")
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 10)
    random = Random(1)
    for number in range(6):
        gone = random.sample(sorted(truth(database)), 2)
        first = random.choice([key for key in range(20) if not {key, key + 1} & set(gone)])
        write(database, first, 2, f"b{number}", tuple((key,) for key in gone))
        if number % 3 == 2:
            followed.crash()
    followed.until(lambda: names(followed) == truth(database))
    followed.until(lambda: _is_empty(database))
    followed.close()


def _is_empty(database: OracleDatabase) -> bool:
    """Whether nothing is left in the log, as the connector's sessions see it."""
    log = database.tables["ERP.ITEMS"].log
    return database.connection.execute(f'SELECT count(*) FROM "{log}"').fetchall() == [(0,)]
