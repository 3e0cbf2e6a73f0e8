"""SQL Server followed where it is hard: one order over tables, long transactions, every type, faults.

The ODBC driver and the wire are real; behind them is the double of tests/doubles/sqlserver.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pyodbc
import pytest

from connectors.base.database import SourceContext
from connectors.base.guardian import Guardian, Pace
from connectors.formats.binding import TopicBinding
from connectors.sqlserver import catalog
from connectors.sqlserver.change_tables import ChangeTablesReader
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.instances import InstanceKeeper
from connectors.sqlserver.session import Session
from connectors.sqlserver.state import Read, State, border, lsn_behind
from libcore.change import POSITION, SOURCE_TS
from libcore.errors import ConfigurationError, FatalError
from libcore.position import split
from tests.connectors.contract_source import Followed, some_rows
from tests.connectors.sqlserver_parts import DRIVERS, SqlServerSystem, asked, cleaned, equal
from tests.doubles.sqlserver import SqlServerDouble


class TestOneLog:
    """What comes out of the change tables, piece by piece."""

    def _reader(self, system: SqlServerSystem, **settings: Any) -> ChangeTablesReader:
        config = SqlServerConfig(dsn="env:ERP_DSN", **settings)
        names = ("dbo.items", "dbo.idle")
        with closing(Session(config, snapshot=False)) as session:
            found = {name: catalog.describe(session, name) for name in names}
        wanted = {name: catalog.wanted(one, one.source.table, TopicBinding(name)) for name, one in found.items()}
        state = State().packed()
        return ChangeTablesReader(config, SourceContext("erp"), wanted, state, Pace(Guardian()), until_end=False)

    def _changes(self, reader: ChangeTablesReader, count: int) -> list[list[dict[str, Any]]]:
        """Rows of each piece with a position, until there are so many."""
        found: list[list[dict[str, Any]]] = []
        for piece in reader.pieces():
            items: list[Any] = [] if piece is None else piece.items
            rows = [row | {"table": item.table.name} for item in items for row in item.record.to_pylist()]
            if rows and split(rows[0][POSITION])[1]:
                found.append(rows)
            if sum(map(len, found)) == count:
                return found
        raise AssertionError("the reader ended")

    def test_several_tables_come_in_one_order_with_their_commits_time(self, captured: SqlServerSystem) -> None:
        """Transactions over two tables: each whole in one piece, in commit order, with the time in UTC."""
        with closing(self._reader(captured, batch_rows_max=6)) as reader:
            next(piece for piece in reader.pieces() if piece is None)  # everything that was there is read
            before = datetime.now(UTC)
            for number in range(10):
                captured.run(
                    f"INSERT INTO dbo.items (id) VALUES ({number})",
                    f"INSERT INTO dbo.idle (id) VALUES ({number}), ({number + 100})",
                )
            pieces = self._changes(reader, 30)
        commits = [{split(row[POSITION])[1] for row in piece} for piece in pieces]
        assert [max(one) < min(other) for one, other in pairwise(commits)] == [True] * (len(pieces) - 1)
        assert all(len(piece) == 3 * len(one) <= 6 for piece, one in zip(pieces, commits, strict=True))
        for piece in pieces:
            for row in piece:
                assert before - timedelta(seconds=1) <= row[SOURCE_TS] <= datetime.now(UTC) + timedelta(seconds=1)

    def test_what_was_cleaned_up_while_it_was_read_is_noticed(self, captured: SqlServerSystem) -> None:
        """An instance keeps what is read as long as its changes begin at or before the next LSN, and not behind."""
        captured.write({1: (1, "a", None)})
        (newest,) = asked(captured, "SELECT sys.fn_cdc_get_max_lsn()")[0]
        with closing(Session(SqlServerConfig(dsn="env:ERP_DSN"))) as session:
            used = {name: one[0] for name, one in catalog.instances(session).items()}
            keeper = InstanceKeeper(SqlServerConfig(dsn="env:ERP_DSN"), {})
            for position in (lsn_behind(newest, -1), lsn_behind(newest, -2)):
                assert keeper.kept(session, used, State(), position)
            cleaned(captured, "items")
            assert keeper.kept(session, used, State(), lsn_behind(newest, -1))
            assert not keeper.kept(session, used, State(), lsn_behind(newest, -2))


def test_an_instance_that_the_capture_job_has_not_seen_is_waited_for(captured: SqlServerSystem, tmp_path: Path) -> None:
    """A new capture instance has no first LSN for a moment: its table waits, the others go on."""
    ((first,),) = asked(captured, "SELECT start_lsn FROM cdc.change_tables WHERE capture_instance = 'dbo_items'")
    captured.run("UPDATE cdc.change_tables SET start_lsn = 0x00000000000000000000 WHERE capture_instance = 'dbo_items'")
    captured.write(some_rows(Random(13), 0, 10))
    captured.run("INSERT INTO dbo.idle (id) VALUES (1)")
    followed = Followed(captured.pipeline(), tmp_path / "state")
    followed.until(lambda: len(followed.rows("idle")) == 1)
    assert followed.rows() == {}
    captured.run(f"UPDATE cdc.change_tables SET start_lsn = 0x{first.hex()} WHERE capture_instance = 'dbo_items'")
    equal(followed, captured)
    followed.close()
    assert len(followed.rows()) == 10


def test_a_transaction_larger_than_an_epoch(captured: SqlServerSystem, tmp_path: Path) -> None:
    """500 rows of one transaction come in epochs of at most 40, and a crash in the middle loses and doubles none."""
    followed = Followed(captured.pipeline(batch_rows_max=40), tmp_path / "state")
    followed.epoch()
    captured.write(some_rows(Random(8), 0, 500))
    sizes: list[int] = []

    def read(rows: int) -> None:
        while len(followed.rows()) < rows:
            sizes.append(followed.epoch())

    read(120)
    followed.crash()
    read(300)
    followed.crash()
    read(500)
    equal(followed, captured)
    followed.close()
    assert 0 < max(sizes) <= 40


def test_a_text_that_did_not_change_is_kept(captured: SqlServerSystem, tmp_path: Path) -> None:
    """An update beside a large value leaves it; one that sets it to NULL clears it."""
    captured.write({1: (1, "x" * 50_000, None), 2: (2, "y" * 50_000, None)})
    followed = Followed(captured.pipeline(), tmp_path / "state")
    equal(followed, captured)
    captured.run("UPDATE dbo.items SET price = 5 WHERE id = 1")
    captured.run("UPDATE dbo.items SET name = NULL WHERE id = 2")
    equal(followed, captured)
    followed.close()
    assert (len(followed.rows()[1][1] or ""), followed.rows()[2][1]) == (50_000, None)


_TYPES = {
    "bi bigint": (-(2**63), "-9223372036854775808"),
    "si smallint": (-32768, "-32768"),
    "ti tinyint": (255, "255"),
    "bo bit": (True, "1"),
    "de decimal(38,10)": (
        Decimal("1234567890123456789012345678.0123456789"),
        "1234567890123456789012345678.0123456789",
    ),
    "mo money": (Decimal("922337203685477.5807"), "922337203685477.5807"),
    "mn money": (Decimal("-922337203685477.5808"), "-922337203685477.5808"),
    "sm smallmoney": (Decimal("-214748.3648"), "-214748.3648"),
    "re real": (0.1, "0.1"),
    "fl float": (0.1, "0.1"),
    "da date": (date(1, 1, 1), "'0001-01-01'"),
    "sd smalldatetime": (datetime(2079, 6, 6, 23, 59), "'2079-06-06 23:59:00'"),
    "dt datetime": (datetime(1753, 1, 1, 0, 0, 0, 3000), "'1753-01-01 00:00:00.003'"),
    "d6 datetime2(6)": (datetime(9999, 12, 31, 23, 59, 59, 999999), "'9999-12-31 23:59:59.999999'"),
    "d7 datetime2(7)": ("9999-12-31 23:59:59.9999999", "'9999-12-31 23:59:59.9999999'"),
    "o3 datetimeoffset(3)": (datetime(2026, 1, 1, 6, 30, 0, 123000, UTC), "'2026-01-01 12:00:00.123 +05:30'"),
    "o7 datetimeoffset(7)": ("2026-01-01 12:00:00.1234567 -08:00", "'2026-01-01 12:00:00.1234567 -08:00'"),
    "tm time(3)": (time(23, 59, 59, 999000), "'23:59:59.999'"),
    "gu uniqueidentifier": ("6f9619ff-8b86-d011-b42d-00c04fc964ff", "'6F9619FF-8B86-D011-B42D-00C04FC964FF'"),
    "bn binary(4)": (b"\x01\x02\x00\x00", "0x0102"),
    "vb varbinary(max)": (b"\x00\xff\x10", "0x00FF10"),
    "im image": (b"\x00\x01", "0x0001"),
    "ch char(4)": ("ab  ", "N'ab'"),
    "vc varchar(40)": ("Grüße", "N'Grüße'"),
    "nv nvarchar(max)": ("ü€😀", "N'ü€😀'"),
    "nt ntext": ("ü€😀", "N'ü€😀'"),
    "xm xml": ("<a>1</a>", "N'<a>1</a>'"),
    "hy hierarchyid": ("/1/2.5/", "N'/1/2.5/'"),
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_type_arrives_exactly(
    driver: str, sqlserver: SqlServerDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshot and change tables bring the same exact values of each type, and NULLs; nothing is refused."""
    system = SqlServerSystem(sqlserver, tmp_path, "cdc", driver)
    monkeypatch.setenv("ERP_DSN", system.dsn)
    listed = ", ".join(f"{one} NULL" for one in _TYPES)
    names = ", ".join(["id", *(one.partition(" ")[0] for one in _TYPES)])
    system.run(f"CREATE TABLE dbo.types (id int NOT NULL PRIMARY KEY, {listed}, rv rowversion)")
    system.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'types', @role_name = NULL")
    values = ", ".join(text for _, text in _TYPES.values())
    system.run(f"INSERT INTO dbo.types ({names}) VALUES (1, {values})", "INSERT INTO dbo.types (id) VALUES (2)")
    file = system.pipeline()
    file.write_text(file.read_text("utf-8").replace('"dbo.idle"', '"dbo.types"'), "utf-8")
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: len(followed.tables.get("types", {})) == 2)
    assert followed.tables["types"][(2,)][1:-1] == (None,) * len(_TYPES)
    system.run(f"INSERT INTO dbo.types ({names}) VALUES (3, {values})", "DELETE FROM dbo.types WHERE id = 2")
    followed.until(lambda: sorted(followed.tables["types"]) == [(1,), (3,)])
    followed.close()
    expected = tuple(pytest.approx(value, rel=1e-7) if value == 0.1 else value for value, _ in _TYPES.values())
    versions = asked(system, "SELECT CONVERT(binary(8), rv) FROM dbo.types ORDER BY id")
    found = [followed.tables["types"][(number,)][1:] for number in (1, 3)]
    assert found == [(*expected, *version) for version in versions]
    assert followed.letters == [] and len(set(versions)) == 2


def test_a_chunk_goes_on_behind_keys_of_several_types(captured: SqlServerSystem, tmp_path: Path) -> None:
    """A snapshot in chunks of three rows by a key of text, moment and amount leaves no row out, also behind crashes."""
    columns = "a varchar(20) NOT NULL, b datetime NOT NULL, c decimal(9,2) NOT NULL, v int, PRIMARY KEY (a, b, c)"
    captured.run(f"CREATE TABLE dbo.keys ({columns})")
    captured.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'keys', @role_name = NULL")
    for number in range(40):
        moment = f"2026-01-0{number % 3 + 1} 00:00:00.00{number % 2 * 3}"
        captured.run(f"INSERT INTO dbo.keys VALUES ('k{number % 4}', '{moment}', {number}.25, {number})")
    file = captured.pipeline(chunk_rows=3)
    file.write_text(file.read_text("utf-8").replace('"dbo.idle"', '"dbo.keys"'), "utf-8")
    followed = Followed(file, tmp_path / "state")
    for _ in range(4):
        followed.epoch()
        followed.crash()
    followed.until(lambda: len(followed.tables.get("keys", {})) == 40)
    followed.close()
    assert sorted(row[3] for row in followed.tables["keys"].values()) == list(range(40))


def test_a_guardian_holds_the_snapshot_and_not_the_changes(captured: SqlServerSystem, tmp_path: Path) -> None:
    """Outside of the hours no row is read and changes go on; with a bound on rows a second the rest comes later."""
    captured.write(some_rows(Random(9), 0, 40))
    file = captured.pipeline(chunk_rows=10)
    text = file.read_text("utf-8").replace("[sink.null]", "[source.sqlserver.guardian]\n{}\n[sink.null]")
    hours = 'business_hours = { begin = "00:00", end = "23:59:59.999999", zone = "UTC", days = ["DAY"] }'
    weekday = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[datetime.now(UTC).weekday()]
    file.write_text(text.replace("{}", hours.replace("DAY", weekday)), "utf-8")
    followed = Followed(file, tmp_path / "state")
    for number in range(100, 500):
        captured.write({number: (number, "a change", None)})
        for _ in range(5):
            followed.epoch()
        if followed.rows():
            break
    followed.close()
    assert followed.rows() and min(followed.rows()) >= 100
    file.write_text(text.replace("{}", "rows_per_second_max = 100"), "utf-8")
    bounded = Followed(file, tmp_path / "later")
    equal(bounded, captured)
    bounded.close()


def test_a_text_that_is_no_unicode_is_a_dead_letter(captured: SqlServerSystem, tmp_path: Path) -> None:
    """Half a surrogate pair, which SQL Server keeps, in snapshot and change: its row is refused, others go on."""
    captured.run("INSERT INTO dbo.items (id, name) VALUES (1, N'a'), (2, NCHAR(55296)), (3, N'c')")
    followed = Followed(captured.pipeline(), tmp_path / "state")
    followed.until(lambda: len(followed.rows()) == 2 and len(followed.letters) == 1)
    captured.run("INSERT INTO dbo.items (id, name) VALUES (4, NCHAR(56320) + N'x'), (5, N'e')")
    followed.until(lambda: len(followed.rows()) == 3 and len(followed.letters) == 2)
    followed.close()
    assert [letter["key_text"] for letter in followed.letters] == ['{"id": 2}', '{"id": 4}']
    assert r"column name: expected string, found '\ud800'" in followed.letters[0]["error"]


def test_a_server_that_restarts_is_waited_for(
    sqlserver: SqlServerDouble, captured: SqlServerSystem, tmp_path: Path
) -> None:
    """Killed and started again, the server is asked again from the last position on; nothing is lost or doubled."""
    captured.write(some_rows(Random(10), 0, 50))
    followed = Followed(captured.pipeline(), tmp_path / "state")
    equal(followed, captured)
    sqlserver.stop()
    for _ in range(20):
        followed.epoch()
    sqlserver.start()
    with closing(pyodbc.connect(captured.dsn, autocommit=True)) as connection:
        connection.execute("UPDATE dbo.items SET name = N'after' WHERE id < 10")
        connection.execute("DELETE FROM dbo.items WHERE id = 20")
    followed.until(lambda: 20 not in followed.rows() and followed.rows()[9][1] == "after")
    followed.close()
    assert (len(followed.rows()), followed.letters) == (49, [])


def test_a_restored_database_stops_the_flow(captured: SqlServerSystem, tmp_path: Path) -> None:
    """Where the newest LSN lies before the position nothing is guessed: the message says so, and names a way out."""
    captured.write(some_rows(Random(11), 0, 5))
    followed = Followed(captured.pipeline(), tmp_path / "state")
    equal(followed, captured)
    followed.close()
    place = border(b"\x7f" * 10)
    reads = tuple(Read(f"dbo.{name}", place[0], ("id", "name", "price"), None) for name in ("items", "idle"))
    followed._states["sqlserver"] = State("cdc", place, reads).packed()
    followed.open()
    with pytest.raises(FatalError, match="the database was restored"):
        followed.until(lambda: False)
    followed.close()


def test_snapshot_isolation_that_is_off_refuses_the_start(captured: SqlServerSystem, tmp_path: Path) -> None:
    """The message names the statement that turns it on."""
    captured.run("ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION OFF")
    followed = Followed(captured.pipeline(), tmp_path / "state")
    with pytest.raises(ConfigurationError, match="SET ALLOW_SNAPSHOT_ISOLATION ON"):
        followed.until(lambda: len(followed.rows()) == 1)
    followed.close()
