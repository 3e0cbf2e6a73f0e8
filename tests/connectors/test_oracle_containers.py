"""An Oracle database with containers: LogMiner in the root, the tables in one pluggable database of several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows import build, direct, reading
from libcore.errors import ConfigurationError
from tests.connectors.contract_source import Followed
from tests.connectors.oracle_parts import ITEMS, pipeline
from tests.doubles.oracle.database import OracleDatabase
from tests.doubles.oracle.install import install
from tests.doubles.oracle.log import Record

PDB = 'pdb = "SALES"\n'


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OracleDatabase:
    """A table ERP.ITEMS in the pluggable database SALES."""
    install(monkeypatch, tmp_path / "oracle.db")
    made = OracleDatabase(tmp_path / "oracle.db", threads=2, pdb="SALES")
    made.create_table("ERP.ITEMS", ITEMS, ["ID"])
    return made


def of_another(database: OracleDatabase, number: int) -> None:
    """A row of a table of the same name in another pluggable database, with the same object number."""
    transaction = database.begin(2)
    table = database.tables["ERP.ITEMS"]
    text = f'insert into "ERP"."ITEMS"("ID","NAME","AT") values (\'{number}\',\'not ours\',NULL)'
    row = Record(1, "INSERT", text, table.name, table.number, row_id=table.new_row_id(), container="OTHER")
    transaction.noise(row)
    transaction.noise(replace(row, code=5, sql='TRUNCATE TABLE "ERP"."ITEMS"', info="USER DDL (PlSql=0 RecDep=0)"))
    transaction.commit()


@pytest.mark.parametrize("mode", ["logminer", "logminer_committed"])
def test_rows_of_one_pluggable_database(database: OracleDatabase, tmp_path: Path, mode: str) -> None:
    """Rows and DDL of a table of the same name in another container do not come, over a crash and a log switch."""
    database.write("ERP.ITEMS", [{"ID": number, "NAME": "a"} for number in range(5)])
    followed = Followed(pipeline(tmp_path, f'{PDB}mode = "{mode}"\n'), tmp_path / "state")
    followed.until(lambda: len(followed.rows("ITEMS")) == 5)
    for number in range(5, 11):
        of_another(database, number + 100)
        database.write("ERP.ITEMS", [{"ID": number, "NAME": "b"}], [(number - 5,)])
        if number == 7:
            followed.until(lambda: 7 in followed.rows("ITEMS"))
            followed.crash()
            database.log.switch(1)
    followed.until(lambda: 10 in followed.rows("ITEMS"))
    followed.close()
    assert set(followed.rows("ITEMS")) == {row["ID"] for row in database.truth("ERP.ITEMS")}


@pytest.mark.parametrize(
    ("settings", "message"), [("", "expected table .ITEMS."), ('pdb = "NONE"\n', "as V\\$PDBS does")]
)
def test_the_container_must_be_named(database: OracleDatabase, tmp_path: Path, settings: str, message: str) -> None:
    """Without `pdb` the root has no such table; another name is an error of the configuration that says so."""
    file = str(pipeline(tmp_path, settings))
    with pytest.raises(ConfigurationError, match=message):
        reading.bind(build.load(file), file)


def test_the_doctor_asks_for_the_container(database: OracleDatabase, tmp_path: Path) -> None:
    """In a database with containers a section without `pdb` is an error, with it none."""

    def found(settings: str) -> list[str]:
        file = str(pipeline(tmp_path, settings))
        return [one.severity for one in direct.findings(build.load(file), [], file) if one.what == "container"]

    assert (found(""), found(PDB)) == (["error"], [])
