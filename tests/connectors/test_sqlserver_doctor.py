"""What `headrace doctor` says of SQL Server: a login that lacks a right, jobs that stand still, keys; with remedies.

The ODBC driver and the wire are real; users, grants and error numbers are those of tests/doubles/sqlserver.
"""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path
from random import Random

import pyodbc
import pytest

import connectors.sqlserver
from connectors.base.database import Finding
from connectors.sqlserver import doctor
from flows import build, direct, reading
from libcore.errors import ConfigurationError
from tests.connectors.contract_source import Followed, some_rows
from tests.connectors.sqlserver_parts import DRIVERS, SqlServerSystem, equal
from tests.doubles.sqlserver import SqlServerDouble

_BLOCKS = re.findall(
    r"```sql\n(.*?)```", (Path(connectors.sqlserver.__file__).parent / "grants.md").read_text("utf-8"), re.DOTALL
)
READER, LOOKER, _ = _BLOCKS
"""Of grants.md: what a flow needs, and what only the doctor asks for."""
PASSWORD = "..."


def findings(file: Path) -> list[Finding]:
    """All that the doctor finds."""
    pipeline = build.load(str(file))
    return direct.findings(pipeline, reading.bind(pipeline, str(file)), str(file))


def named(file: Path, what: str) -> list[Finding]:
    """What it finds of one thing."""
    return [one for one in findings(file) if one.what == what]


def mended(system: SqlServerSystem, file: Path, what: str) -> Finding:
    """The only finding of one thing, whose remedy, run as it is printed by an administrator, ends it."""
    (finding,) = named(file, what)
    administer(system, finding.remedy)
    assert named(file, what) == []
    return finding


def administer(system: SqlServerSystem, text: str) -> None:
    """Statements of an administrator, as they are printed."""
    with closing(pyodbc.connect(system.dsn, autocommit=True)) as connection:
        connection.execute(text)


def few_rights(system: SqlServerSystem, server: SqlServerDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the pipeline read by a login with the rights of grants.md, and no others."""
    administer(system, READER)
    database = re.search(r"DATABASE=(\w+)", system.dsn)
    assert database is not None
    dsn = server.odbc(DRIVERS[-1], database[1], UID="headrace", PWD=PASSWORD)
    monkeypatch.setenv("ERP_DSN", dsn)


@pytest.fixture
def clerk(sqlserver: SqlServerDouble, captured: SqlServerSystem, monkeypatch: pytest.MonkeyPatch) -> SqlServerSystem:
    """A database whose tables are captured, read by such a login."""
    few_rights(captured, sqlserver, monkeypatch)
    return captured


class TestRights:
    """A login that lacks a right is told so, with the statement that gives it."""

    @pytest.mark.parametrize("mode", ["captured", "tracked"])
    def test_the_rights_of_the_page_are_enough(
        self, mode: str, request: pytest.FixtureRequest, sqlserver: SqlServerDouble, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """With the statements of grants.md, and nothing else, rows and changes come, and the doctor finds no error."""
        system: SqlServerSystem = request.getfixturevalue(mode)
        few_rights(system, sqlserver, monkeypatch)
        system.write(some_rows(Random(1), 0, 40))
        followed = Followed(system.pipeline(), tmp_path / "state")
        equal(followed, system)
        system.write(some_rows(Random(2), 30, 20), (1, 2))
        equal(followed, system)
        followed.close()
        assert [one for one in findings(system.pipeline()) if one.severity != "note"] == []
        administer(system, LOOKER)
        assert findings(system.pipeline()) == []

    @pytest.mark.parametrize(
        ("revoked", "what", "severity"),
        [
            ("SELECT ON SCHEMA::cdc", "change tables", "error"),
            ("VIEW DATABASE STATE", "capture job", "note"),
            ("VIEW SERVER STATE", "SQL Server Agent", "note"),
            ("SELECT ON dbo.cdc_jobs", "capture and cleanup jobs", "note"),
        ],
    )
    def test_each_right_is_asked_for(self, clerk: SqlServerSystem, revoked: str, what: str, severity: str) -> None:
        """One right less: the finding names what needs it, and its remedy gives it back."""
        administer(clerk, LOOKER)
        clerk.write({1: (1, "a", None)})
        assert findings(clerk.pipeline()) == []
        administer(clerk, f"REVOKE {revoked} FROM headrace")
        assert mended(clerk, clerk.pipeline(), what).severity == severity

    def test_a_table_that_is_seen_and_may_not_be_read(self, clerk: SqlServerSystem, tmp_path: Path) -> None:
        """With VIEW DEFINITION alone the table is there: the start is refused, and the doctor says what to grant."""
        administer(clerk, "REVOKE SELECT ON SCHEMA::dbo FROM headrace")
        administer(clerk, "GRANT VIEW DEFINITION ON SCHEMA::dbo TO headrace")
        clerk.write({1: (1, "a", None)})
        refused = [one for one in findings(clerk.pipeline()) if one.severity == "error"]
        assert {one.what for one in refused} >= {"table dbo.items", "table dbo.idle", "capture instance dbo_items"}
        for finding in refused:
            administer(clerk, finding.remedy)
        assert [one for one in findings(clerk.pipeline()) if one.severity == "error"] == []
        followed = Followed(clerk.pipeline(), tmp_path / "state")
        equal(followed, clerk)
        followed.close()

    def test_a_flow_without_a_right_is_refused_with_the_servers_words(
        self, clerk: SqlServerSystem, tmp_path: Path
    ) -> None:
        """No right to read the change tables: the flow ends, and the message names the page of grants."""
        administer(clerk, "REVOKE SELECT ON SCHEMA::cdc FROM headrace")
        followed = Followed(clerk.pipeline(), tmp_path / "state")
        with pytest.raises(ConfigurationError, match=r"SELECT permission was denied.*grants\.md"):
            followed.until(lambda: False)
        followed.close()

    def test_the_role_of_a_capture_instance(self, clerk: SqlServerSystem, tmp_path: Path) -> None:
        """An instance behind a role shows a stranger no first LSN; as a member it is read."""
        clerk.run(
            "EXEC sys.sp_cdc_disable_table @source_schema = N'dbo', @source_name = N'items', "
            "@capture_instance = N'dbo_items'"
        )
        clerk.run(
            "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'items', @role_name = N'auditors'"
        )
        finding = mended(clerk, clerk.pipeline(), "capture instance dbo_items")
        assert "role auditors" in finding.expected
        clerk.write({1: (1, "a", None)})
        followed = Followed(clerk.pipeline(), tmp_path / "state")
        equal(followed, clerk)
        followed.close()

    def test_whoever_makes_capture_instances_owns_the_database(self, clerk: SqlServerSystem) -> None:
        """capture_instances = "made" by a login of few rights is an error before it is one at night."""
        file = clerk.pipeline(capture_instances='"made"')
        assert mended(clerk, file, 'capture_instances = "made"').severity == "error"

    def test_the_right_to_see_tracked_changes(
        self, sqlserver: SqlServerDouble, tracked: SqlServerSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without VIEW CHANGE TRACKING a tracked table is an error, whose remedy gives it."""
        few_rights(tracked, sqlserver, monkeypatch)
        administer(tracked, "REVOKE VIEW CHANGE TRACKING ON SCHEMA::dbo FROM headrace")
        assert "GRANT VIEW CHANGE TRACKING" in mended(tracked, tracked.pipeline(), "table dbo.items").remedy


class TestJobs:
    """The Agent and its jobs, on which change data capture rests."""

    def test_the_agent_is_stopped(self, captured: SqlServerSystem) -> None:
        """No Agent, no capture job: an error, with the statement that starts it."""
        administer(captured, "EXEC master.dbo.xp_servicecontrol N'STOP', N'SQLServerAGENT'")
        finding = mended(captured, captured.pipeline(), "SQL Server Agent")
        assert (finding.severity, finding.found) == ("error", "Stopped")

    def test_nothing_was_captured_for_long(self, captured: SqlServerSystem) -> None:
        """The newest captured transaction is old, and no mark of an idle job stands behind it: the job stands still."""
        captured.write({1: (1, "a", None)})
        file = captured.pipeline()
        assert named(file, "capture job") == []
        captured.run("UPDATE cdc.lsn_time_mapping SET tran_end_time = DATEADD(hour, -3, GETDATE())")
        (finding,) = named(file, "capture job")
        assert re.fullmatch(r"nothing for 1080\d s", finding.found)
        assert finding.remedy == "EXEC sys.sp_cdc_start_job @job_type = N'capture'"
        administer(captured, "EXEC sys.sp_cdc_scan @is_from_job = 1")  # what the job does in its next idle minutes
        assert named(file, "capture job") == []

    def test_the_capture_job_is_behind(self, captured: SqlServerSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        """Changes that wait for the job for longer than the bound are told, in seconds."""
        monkeypatch.setattr(doctor, "_LATENCY_S_MAX", 0)
        captured.write({1: (1, "a", None)})
        assert named(captured.pipeline(), "capture job") == []
        captured.run("EXEC sys.sp_cdc_stop_job @job_type = N'capture'")
        captured.run("INSERT INTO dbo.items (id) VALUES (2)")
        time.sleep(1.1)
        (finding,) = named(captured.pipeline(), "capture job")
        assert re.fullmatch(r"[1-9]\d* s behind, 0 errors", finding.found)

    def test_changes_are_kept_for_as_long_as_the_flow_may_stop(self, captured: SqlServerSystem) -> None:
        """The cleanup job's retention is held against stopped_hours_max; the remedy leaves half as much room again."""
        file = captured.pipeline(guardian="{ stopped_hours_max = 72 }")
        captured.write({1: (1, "a", None)})
        assert findings(file) == []
        file = captured.pipeline(guardian="{ stopped_hours_max = 73 }")
        finding = mended(captured, file, "cleanup job")
        assert (finding.severity, finding.remedy.endswith("@retention = 6570")) == ("warning", True)
        assert finding.found == "4320 minutes: whoever is stopped for longer reads its tables anew"

    def test_tracked_changes_are_kept_for_as_long(self, tracked: SqlServerSystem) -> None:
        """The same for the retention of change tracking."""
        assert findings(tracked.pipeline(guardian="{ stopped_hours_max = 48 }")) == []
        finding = mended(tracked, tracked.pipeline(guardian="{ stopped_hours_max = 49 }"), "change tracking")
        assert finding.found.startswith("2 DAYS")


class TestTables:
    """Keys and columns."""

    def test_the_remedies_work_as_they_are_printed(
        self, sqlserver: SqlServerDouble, captured: SqlServerSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A database where nothing is set: the statements of the errors, run as printed, leave no error."""
        sqlserver.create_database("bare")
        monkeypatch.setenv("ERP_DSN", sqlserver.odbc(DRIVERS[-1], "bare"))
        with closing(sqlserver.connect(DRIVERS[-1], "bare")) as connection:
            for name in ("items", "idle"):
                connection.execute(f"CREATE TABLE dbo.{name} (id int NOT NULL PRIMARY KEY, name nvarchar(20))")
            file = captured.pipeline()
            found: list[Finding] = []
            for _ in range(4):
                found = [one for one in findings(file) if one.severity == "error"]
                for finding in found:
                    assert re.match("ALTER|EXEC|GRANT", finding.remedy), finding
                    connection.execute(finding.remedy)
                if not found:
                    break
        assert found == []

    def test_a_column_that_nobody_captures(self, captured: SqlServerSystem) -> None:
        """A column that a table gained is named, with the statement for a second instance."""
        captured.run("ALTER TABLE dbo.items ADD extra int NULL")
        finding = mended(captured, captured.pipeline(), "table dbo.items")
        assert (finding.severity, "extra" in finding.found) == ("warning", True)

    def test_a_table_without_a_key(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """It is refused at the start; the remedies, one after another, make it a table that is followed."""
        captured.run("CREATE TABLE dbo.heap (account int NULL, name nvarchar(20) NULL)")
        captured.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'heap', @role_name = NULL")
        captured.run("INSERT INTO dbo.heap VALUES (1, N'a'), (1, N'a'), (2, N'b')")
        file = _of(captured, "dbo.heap")
        with pytest.raises(ConfigurationError, match=r"name columns that no two rows share by `key`, or ALTER TABLE"):
            Followed(file, tmp_path / "refused")
        (finding,) = [one for one in findings(file) if one.severity == "error"]
        captured.run(finding.remedy)
        (finding,) = [one for one in findings(file) if one.severity == "error"]
        assert "headrace_id in none, and with it no key" in finding.found
        captured.run(finding.remedy)
        captured.run("DELETE FROM dbo.heap WHERE account = 2", "INSERT INTO dbo.heap VALUES (1, N'a')")
        assert [one for one in findings(file) if one.severity == "error"] == []
        followed = Followed(file, tmp_path / "state")
        followed.until(lambda: [row[:2] for row in followed.tables.get("heap", {}).values()] == [(1, "a")] * 3)
        followed.close()

    def test_a_unique_index_is_a_key(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """Without a primary key the first unique index without NULL is the key; those with it are told of only."""
        captured.run("CREATE TABLE dbo.pairs (a int NOT NULL, b int NOT NULL, c int NULL)")
        captured.run("CREATE UNIQUE INDEX ux_c ON dbo.pairs (c)")
        captured.run("CREATE UNIQUE INDEX ux_ab ON dbo.pairs (a, b)")
        captured.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'pairs', @role_name = NULL")
        captured.run("INSERT INTO dbo.pairs VALUES (1, 1, 5), (1, 2, 6)")
        file = _of(captured, "dbo.pairs")
        (finding,) = named(file, "table dbo.pairs")
        assert (finding.severity, finding.found[:10]) == ("note", "more: ux_c")
        followed = Followed(file, tmp_path / "state")
        followed.until(lambda: sorted(followed.tables.get("pairs", {})) == [(1, 1), (1, 2)])
        captured.run("UPDATE dbo.pairs SET b = 3 WHERE c = 6")
        followed.until(lambda: sorted(followed.tables["pairs"]) == [(1, 1), (1, 3)])
        followed.close()

    def test_a_declared_key_that_nothing_keeps_unique(self, captured: SqlServerSystem) -> None:
        """A `key` of the pipeline file without a unique index is a warning, whose remedy makes one."""
        captured.run("CREATE TABLE dbo.loose (a int NOT NULL, b int NULL)")
        captured.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'loose', @role_name = NULL")
        file = _of(captured, "dbo.loose", 'key = ["a"]')
        assert mended(captured, file, "table dbo.loose").severity == "warning"

    def test_a_type_that_is_not_read(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """sql_variant is an error with the column's name, unless the file leaves the column out; so is the start."""
        captured.run("CREATE TABLE dbo.odd (id int NOT NULL PRIMARY KEY, v sql_variant NULL)")
        captured.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'odd', @role_name = NULL")
        file = _of(captured, "dbo.odd")
        (finding,) = named(file, "column dbo.odd.v")
        assert (finding.severity, "type sql_variant has no exact form" in finding.found) == ("error", True)
        with pytest.raises(ConfigurationError, match="column v: type sql_variant has no exact form"):
            Followed(file, tmp_path / "state")
        assert named(_of(captured, "dbo.odd", 'columns = { id = "int32" }'), "column dbo.odd.v") == []


def _of(system: SqlServerSystem, table: str, *settings: str) -> Path:
    """The pipeline file over one table."""
    file = system.pipeline()
    listed = "\n".join((f'[tables.{table.partition(".")[2]}]\ntopic = "{table}"', *settings, ""))
    text = file.read_text("utf-8").replace('tables = ["dbo.items", "dbo.idle"]\n', "")
    file.write_text(text.replace("[sink.null]", f"{listed}[sink.null]"), "utf-8")
    return file
