"""Other tables in the file than before, over an Oracle database that goes on: the double."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows import build, reading
from libcore.errors import ConfigurationError
from tests.connectors.contract_source import Followed
from tests.connectors.oracle_parts import ITEMS, names, opened, pipeline, truth, write
from tests.doubles.oracle.database import OracleDatabase


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OracleDatabase:
    """An empty table ERP.ITEMS."""
    return opened(tmp_path, monkeypatch)


def test_other_tables_in_the_middle_of_a_large_transaction(database: OracleDatabase, tmp_path: Path) -> None:
    """The rest of a transaction is told by its rows' numbers over all tables: it is not gone on with over fewer."""
    database.create_table("ERP.MORE", ITEMS, ["ID"])
    settings, more = "batch_rows_max = 10\n", "[tables.MORE]\n"
    followed = Followed(pipeline(tmp_path, settings, more), tmp_path / "state")
    followed.until(lambda: bool(followed._states) and all(state[1] == "stream" for state in followed._states.values()))
    transaction = database.begin()
    for name in ("ERP.MORE", "ERP.ITEMS"):
        for number in range(40):
            transaction.insert(name, {"ID": number, "NAME": "a"})
    transaction.commit()
    followed.until(lambda: len(followed.rows("MORE")) >= 20)
    followed.close()
    assert not names(followed)
    followed._pipeline = build.load(str(pipeline(tmp_path, settings)))
    followed.open()
    with pytest.raises(ConfigurationError, match=r"given out in part.*expected the tables ITEMS, MORE, found ITEMS"):
        followed.until(lambda: len(names(followed)) >= 20 and 39 in names(followed))
    followed.close()
    database.create_table("ERP.LATER", ITEMS, ["ID"])
    followed._pipeline = build.load(str(pipeline(tmp_path, settings, more + "[tables.LATER]\n")))
    followed.open()
    followed.until(lambda: names(followed) == truth(database))
    followed.close()
    assert len(followed.rows("MORE")) == 40


@pytest.mark.parametrize("key", [["ID"], []], ids=["key", "no key"])
def test_a_table_that_the_file_does_without_for_a_while(
    database: OracleDatabase, tmp_path: Path, key: list[str]
) -> None:
    """The mining goes on behind its changes meanwhile, so the table is emptied and read anew when it returns."""
    database.create_table("ERP.MORE", ITEMS, key)
    transaction = database.begin()
    first, _ = (transaction.insert("ERP.MORE", {"ID": number, "NAME": "a"}) for number in (1, 2))
    transaction.commit()
    followed = Followed(pipeline(tmp_path, table="[tables.MORE]\n"), tmp_path / "state")

    def more() -> list[Any]:
        copies = (+followed.copies.get("MORE", Counter())).elements()
        return sorted(row[0] for row in copies) or sorted(followed.rows("MORE"))

    followed.until(lambda: len(more()) == 2)
    write(database, 0, 3, "a")
    followed.until(lambda: len(names(followed)) == 3)
    followed.close()
    followed.follow(pipeline(tmp_path))
    transaction = database.begin()
    transaction.insert("ERP.MORE", {"ID": 3, "NAME": "b"})
    transaction.delete("ERP.MORE", first)
    transaction.commit()
    write(database, 5, 3, "b")
    followed.until(lambda: names(followed) == truth(database))
    for _ in range(5):
        followed.epoch()
    followed.close()
    followed.follow(pipeline(tmp_path, table="[tables.MORE]\n"))
    transaction = database.begin()
    transaction.insert("ERP.MORE", {"ID": 4, "NAME": "c"})
    transaction.commit()
    followed.until(lambda: more() == [2, 3, 4])
    followed.close()
    assert names(followed) == truth(database)


def test_a_table_that_is_not_there(database: OracleDatabase, tmp_path: Path) -> None:
    """Its name, the way to write it and the grant stand in the message."""
    file = pipeline(tmp_path)
    file.write_text(file.read_text().replace("[tables.ITEMS]", "[tables.NONE]"), "utf-8")
    with pytest.raises(ConfigurationError):
        reading.bind(build.load(str(file)), str(file))
