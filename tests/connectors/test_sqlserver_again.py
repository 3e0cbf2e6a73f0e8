"""SQL Server tables that are read anew: a column came, the cleanup job was faster, the table was truncated.

The ODBC driver and the wire are real; behind them is the double of tests/doubles/sqlserver.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random
from time import sleep
from typing import Any

import pyodbc
import pytest

from connectors.formats.binding import TopicBinding
from connectors.sqlserver import catalog
from connectors.sqlserver.catalog import Instance
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.instances import InstanceKeeper
from connectors.sqlserver.session import Session
from connectors.sqlserver.state import State, border
from libcore.errors import FatalError
from tests.connectors.contract_source import Followed, some_rows
from tests.connectors.sqlserver_parts import SqlServerSystem, asked, cleaned, equal

_INSTANCES = "SELECT capture_instance FROM cdc.change_tables WHERE capture_instance LIKE 'dbo_items%'"


def _with_extra(system: SqlServerSystem) -> dict[int, tuple[Any, ...]]:
    return {row[0]: row for row in asked(system, "SELECT id, name, price, extra FROM dbo.items")}


def _extras(followed: Followed) -> dict[int, tuple[Any, ...]]:
    return {key[0]: row for key, row in followed.tables.get("items", {}).items()}


class TestNewColumns:
    """A table gains a column, and with it a second capture instance."""

    def test_the_gap_of_a_new_column_is_filled(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """Values written before the second instance captured the column are there, too, also behind a crash."""
        captured.write(some_rows(Random(1), 0, 60))
        followed = Followed(captured.pipeline(batch_rows_max=25), tmp_path / "state")
        equal(followed, captured)
        captured.run("ALTER TABLE dbo.items ADD extra int NULL")
        captured.run("UPDATE dbo.items SET extra = id * 2 WHERE id < 30")  # nobody captures this value
        equal(followed, captured)
        followed.crash()
        captured.run(
            "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'items', "
            "@role_name = NULL, @capture_instance = N'dbo_items_2'"
        )
        captured.run("UPDATE dbo.items SET extra = 7 WHERE id = 40")
        captured.run("DELETE FROM dbo.items WHERE id = 41")
        followed.until(lambda: _extras(followed) == _with_extra(captured))
        followed.crash()
        captured.run("UPDATE dbo.items SET extra = NULL WHERE id = 5")
        followed.until(lambda: _extras(followed) == _with_extra(captured))
        followed.close()
        assert (_extras(followed)[10][3], _extras(followed)[40][3], followed.letters) == (20, 7, [])

    def test_capture_instances_rotate_by_themselves(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """With "made" a second instance is made and the first one dropped once it is not needed any more."""
        captured.write(some_rows(Random(2), 0, 20))
        file = captured.pipeline(capture_instances='"made"')
        followed = Followed(file, tmp_path / "state")
        equal(followed, captured)
        captured.run("ALTER TABLE dbo.items ADD extra int NULL")
        captured.run("UPDATE dbo.items SET extra = id")

        def instances() -> list[str]:
            return [row[0] for row in asked(captured, _INSTANCES)]

        followed.until(lambda: instances() == ["dbo_items", "dbo_items_2"])
        captured.run("UPDATE dbo.items SET extra = 1000 WHERE id = 3")
        followed.until(lambda: _extras(followed) == _with_extra(captured))
        followed.until(lambda: instances() == ["dbo_items_2"])
        captured.run("UPDATE dbo.items SET extra = 2000 WHERE id = 4")
        followed.until(lambda: _extras(followed) == _with_extra(captured))
        followed.close()
        assert _extras(followed)[4][3] == 2000

    def test_a_column_that_goes_and_comes_again(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """A lost column keeps its values in the target, no row is refused; under its old name it is a new column."""
        captured.run("ALTER TABLE dbo.items ADD extra int NOT NULL DEFAULT 5")
        table = "@source_schema = N'dbo', @source_name = N'items'"
        captured.run(
            f"EXEC sys.sp_cdc_enable_table {table}, @role_name = NULL, @capture_instance = N'dbo_items_2'",
            f"EXEC sys.sp_cdc_disable_table {table}, @capture_instance = N'dbo_items'",
        )
        captured.write(some_rows(Random(14), 0, 30))
        followed = Followed(captured.pipeline(capture_instances='"made"'), tmp_path / "state")
        followed.until(lambda: _extras(followed) == _with_extra(captured))
        captured.run("ALTER TABLE dbo.items DROP COLUMN extra")
        captured.run("UPDATE dbo.items SET name = N'behind' WHERE id < 10")
        equal(followed, captured)
        assert ({row[3] for row in _extras(followed).values()}, followed.letters) == ({5}, [])
        captured.run("ALTER TABLE dbo.items ADD extra int NOT NULL DEFAULT 6")
        captured.run("UPDATE dbo.items SET extra = id WHERE id < 20")
        followed.until(lambda: len(asked(captured, _INSTANCES)) == 2)
        captured.run("UPDATE dbo.items SET extra = 8 WHERE id = 7")
        followed.until(lambda: _extras(followed) == _with_extra(captured))
        followed.close()
        assert followed.letters == []

    def test_a_column_that_becomes_another(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """A column of another type under the old name stops the flow, before any row of it; the next start reads it."""
        captured.write(some_rows(Random(15), 0, 10))
        file = captured.pipeline(capture_instances='"made"')
        followed = Followed(file, tmp_path / "state")
        equal(followed, captured)
        captured.run("ALTER TABLE dbo.items DROP COLUMN price")
        captured.run("ALTER TABLE dbo.items ADD price bigint NULL")
        captured.run("UPDATE dbo.items SET price = id + 5000000000")
        with pytest.raises(FatalError, match=r"column price: expected decimal .* found bigint .*the next start"):
            followed.until(lambda: False)
        followed.close()
        followed.open()
        captured.run("UPDATE dbo.items SET price = NULL WHERE id = 3")
        equal(followed, captured)
        followed.close()
        assert (followed.rows()[4][2], followed.letters) == (5000000004, [])

    def test_a_tracked_table_gains_a_column(self, tracked: SqlServerSystem, tmp_path: Path) -> None:
        """With change tracking the next start reads the table's rows again for it."""
        tracked.write(some_rows(Random(16), 0, 30))
        followed = Followed(tracked.pipeline(chunk_rows=10), tmp_path / "state")
        equal(followed, tracked)
        followed.epoch()
        followed.close()
        tracked.run("ALTER TABLE dbo.items ADD extra int NULL")
        tracked.run("UPDATE dbo.items SET extra = id WHERE id < 3")
        tracked.run("ALTER TABLE dbo.items ADD other int NOT NULL DEFAULT 4")
        followed.open()
        wanted = {row[0]: row for row in asked(tracked, "SELECT id, name, price, extra, other FROM dbo.items")}
        followed.until(lambda: _extras(followed) == wanted)
        assert {row[4] for row in _extras(followed).values()} == {4}
        followed.close()


class TestAway:
    """A table is out of sight for a while, and its changes with it."""

    @pytest.mark.parametrize("mode", ["cdc", "change_tracking"])
    def test_a_table_that_the_file_left_out(self, request: pytest.FixtureRequest, tmp_path: Path, mode: str) -> None:
        """What changed while the pipeline did without a table, rows deleted too, is in the target once it is back."""
        system: SqlServerSystem = request.getfixturevalue("captured" if mode == "cdc" else "tracked")
        system.write(some_rows(Random(9), 0, 30))
        file = system.pipeline()
        whole = file.read_text("utf-8")
        followed = Followed(file, tmp_path / "state")
        equal(followed, system)
        file.write_text(whole.replace('"dbo.items", ', ""), "utf-8")
        followed.edited()
        system.write({40: (40, "new", None), 5: (5, "other", None)}, (1, 2))
        system.run("INSERT INTO dbo.idle (id) VALUES (1)")
        followed.until(lambda: len(followed.rows("idle")) == 1)
        followed.epoch()
        file.write_text(whole, "utf-8")
        followed.edited()
        followed.crash()
        equal(followed, system)
        system.write({41: (41, "newer", None)}, (3,))
        equal(followed, system)
        assert 3 not in followed.rows("items") and 41 in followed.rows("items")
        followed.close()

    def test_an_instance_that_shows_no_first_lsn_any_more(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """A login that lost the instance's role sees no first LSN: the position does not pass the table's changes."""
        captured.write(some_rows(Random(10), 0, 10))
        followed = Followed(captured.pipeline(), tmp_path / "state")
        equal(followed, captured)
        first = "SELECT start_lsn FROM cdc.change_tables WHERE capture_instance = 'dbo_items'"
        ((shown,),) = asked(captured, first)
        hide = "UPDATE cdc.change_tables SET start_lsn = 0x{} WHERE capture_instance = 'dbo_items'"
        captured.run(hide.format("00" * 10))
        captured.write({20: (20, "unseen", None)}, (1,))
        captured.run("INSERT INTO dbo.idle (id) VALUES (1)")
        for _ in range(30):
            followed.epoch()
            sleep(0.01)
        captured.run(hide.format(shown.hex()))
        equal(followed, captured)
        followed.until(lambda: len(followed.rows("idle")) == 1)
        assert 20 in followed.rows("items") and 1 not in followed.rows("items")
        followed.close()

    def test_the_first_instance_stays_until_the_second_shows_its_begin(self, captured: SqlServerSystem) -> None:
        """While the capture job has not come to a second instance the first one, which is read, is not dropped."""
        captured.run(
            "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'items', "
            "@role_name = NULL, @capture_instance = N'dbo_items_2'"
        )
        second = "SELECT start_lsn FROM cdc.change_tables WHERE capture_instance = 'dbo_items_2'"
        ((begin,),) = asked(captured, second)
        captured.write(some_rows(Random(11), 0, 3))
        set_to = "UPDATE cdc.change_tables SET start_lsn = 0x{} WHERE capture_instance = 'dbo_items_2'"
        config = SqlServerConfig(dsn="env:ERP_DSN", capture_instances="made", poll_s=0.01)
        with closing(Session(config)) as session:
            found = catalog.describe(session, "dbo.items")
            wanted = catalog.wanted(found, found.source.table, TopicBinding("dbo.items"))
            (newest,) = asked(captured, "SELECT sys.fn_cdc_get_max_lsn()")[0]
            for shown, left in (("00" * 10, ["dbo_items", "dbo_items_2"]), (begin.hex(), ["dbo_items_2"])):
                captured.run(set_to.format(shown))
                keeper = InstanceKeeper(config, {"dbo.items": wanted})
                keeper.durable(State(place=border(newest)))
                assert [one.name for one in keeper.look(session)["dbo.items"]] == left


class TestCleanup:
    """The cleanup job removes changes, read or not."""

    def test_what_cleanup_took_is_read_anew(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """Changes that were removed while nobody read: the table is read anew, rows deleted meanwhile go."""
        captured.write(some_rows(Random(3), 0, 80))
        followed = Followed(captured.pipeline(batch_rows_max=30), tmp_path / "state")
        equal(followed, captured)
        followed.epoch()
        followed.close()
        captured.write(some_rows(Random(4), 40, 60), tuple(range(20)))
        captured.write({500: (500, "last", None)})
        cleaned(captured, "items", "idle")
        followed.open()
        equal(followed, captured)
        captured.write({501: (501, "and on", None)})
        equal(followed, captured)
        followed.close()
        assert 0 not in followed.rows() and 501 in followed.rows()

    def test_an_idle_table_is_overtaken_too(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """Whoever lies behind the low watermark of a table without changes cannot know that: it alone is read anew."""
        captured.run("INSERT INTO dbo.idle (id, name) VALUES (1, N'one'), (2, N'two')")
        captured.write({100: (100, "not read again", None)})
        followed = Followed(captured.pipeline(), tmp_path / "state")
        followed.until(lambda: len(followed.rows("idle")) == 2 and len(followed.rows()) == 1)
        followed.epoch()
        followed.close()
        del followed.tables["items"][(100,)]
        captured.run("DELETE FROM dbo.idle WHERE id = 1")
        captured.write(some_rows(Random(5), 0, 10))
        cleaned(captured, "idle")
        followed.open()
        followed.until(lambda: list(followed.rows("idle")) == [2] and len(followed.rows()) == 10)
        for _ in range(10):
            followed.epoch()
        followed.close()
        # the other table went on by its changes alone
        assert (followed.rows(), followed.letters) == (some_rows(Random(5), 0, 10), [])

    def test_changes_of_others_move_an_idle_table_on(self, captured: SqlServerSystem, tmp_path: Path) -> None:
        """A position that follows the newest LSN is not overtaken by a cleanup of what was read."""
        captured.run("INSERT INTO dbo.idle (id) VALUES (1)")
        followed = Followed(captured.pipeline(), tmp_path / "state")
        followed.until(lambda: len(followed.rows("idle")) == 1)
        captured.write(some_rows(Random(6), 0, 50))
        equal(followed, captured)
        for _ in range(3):
            followed.epoch()
        brought = 0
        cleaned(captured, "items", "idle")
        followed.close()
        followed.open()
        for _ in range(30):
            brought += max(0, followed.epoch())
        captured.write({7: (7, "seen", None)})
        equal(followed, captured)
        followed.close()
        assert (brought, len(followed.rows("idle"))) == (0, 1)

    def test_a_cleanup_that_takes_all_there_was(
        self, captured: SqlServerSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Changes that go between the look at the instances and the reading leave nothing to read: that is noticed."""
        captured.run("CREATE TABLE dbo.other (id int NOT NULL PRIMARY KEY)")
        captured.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'other', @role_name = NULL")
        captured.write(some_rows(Random(8), 0, 20))
        followed = Followed(captured.pipeline(), tmp_path / "state")
        equal(followed, captured)
        followed.epoch()
        followed.close()
        captured.write({30: (30, "new", None)}, (1, 2))
        captured.run("INSERT INTO dbo.other VALUES (1)")  # the newest transaction stays, and nobody follows it
        captured.run("EXEC sys.sp_cdc_scan")
        look, cleanups = InstanceKeeper.look, ["items", "idle"]

        def slow(keeper: InstanceKeeper, session: Session) -> dict[str, list[Instance]]:
            found = look(keeper, session)
            while cleanups:
                cleaned(captured, cleanups.pop())
            return found

        monkeypatch.setattr(InstanceKeeper, "look", slow)
        followed.open()
        equal(followed, captured)
        followed.close()
        assert not cleanups

    def test_what_tracking_forgot_is_read_anew(self, tracked: SqlServerSystem, tmp_path: Path) -> None:
        """Versions that were cleaned up while nobody read: the table is read anew, rows deleted meanwhile go."""
        tracked.write(some_rows(Random(12), 0, 40))
        followed = Followed(tracked.pipeline(), tmp_path / "state")
        equal(followed, tracked)
        followed.epoch()
        followed.close()
        tracked.write({50: (50, "new", None)}, tuple(range(15)))
        tracked.write({51: (51, "newer", None)})
        with closing(pyodbc.connect(tracked.dsn, autocommit=True)) as connection:
            connection.execute("EXEC sys.sp_flush_CT_internal_table_on_demand 'dbo.items'")
        followed.open()
        equal(followed, tracked)
        followed.close()
        assert sorted(followed.rows())[0] == 15

    def test_tracking_is_read_anew_behind_a_truncate(self, tracked: SqlServerSystem, tmp_path: Path) -> None:
        """TRUNCATE TABLE ends what change tracking knows: the table is emptied, and read anew."""
        tracked.write(some_rows(Random(7), 0, 30))
        followed = Followed(tracked.pipeline(), tmp_path / "state")
        equal(followed, tracked)
        tracked.run("TRUNCATE TABLE dbo.items")
        tracked.write({3: (3, "new", None)})
        equal(followed, tracked)
        followed.close()
        assert list(followed.rows()) == [3]
