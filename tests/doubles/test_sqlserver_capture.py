"""The double's change data capture: what change tables hold, in which order, and when."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pyodbc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.doubles.conftest import DRIVERS
from tests.doubles.sqlserver import SqlServerDouble
from tests.examples import TIMES

Rows = list[tuple[Any, ...]]
_ORDER = "[__$start_lsn], [__$command_id], [__$seqval], [__$operation]"
_ENABLE = "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N't', @role_name = NULL"


def _table(connection: pyodbc.Connection, columns: str = "id int NOT NULL PRIMARY KEY, n int, s nvarchar(max)") -> None:
    connection.execute(f"CREATE TABLE dbo.t ({columns})")
    connection.execute(_ENABLE)


def _ask(connection: pyodbc.Connection, query: str, *values: object) -> Rows:
    return [tuple(row) for row in connection.execute(query, *values).fetchall()]


def _changes(connection: pyodbc.Connection, columns: str = "id, n, s", instance: str = "dbo_t") -> Rows:
    connection.execute("EXEC sys.sp_cdc_scan")
    return _ask(
        connection, f"SELECT [__$operation], [__$update_mask], {columns} FROM cdc.{instance}_CT ORDER BY {_ORDER}"
    )


def test_each_kind_of_change(connection: pyodbc.Connection) -> None:
    """An insert is 2, an update the pair 3 and 4 with the mask of what differs, a key's move 1 and 2, a delete 1."""
    _table(connection)
    connection.execute("INSERT INTO dbo.t VALUES (1, 10, N'a')")
    connection.execute("UPDATE dbo.t SET n = 11 WHERE id = 1")
    connection.execute("UPDATE dbo.t SET s = N'b', n = 11 WHERE id = 1")
    connection.execute("UPDATE dbo.t SET n = 11 WHERE id = 1")
    connection.execute("UPDATE dbo.t SET id = 2, n = 12 WHERE id = 1")
    connection.execute("DELETE FROM dbo.t WHERE id = 2")
    assert _changes(connection) == [
        (2, b"\x07", 1, 10, "a"),
        (3, b"\x02", 1, 10, None),  # a MAX column that the update did not touch
        (4, b"\x02", 1, 11, None),
        (3, b"\x04", 1, 11, "a"),
        (4, b"\x04", 1, 11, "b"),
        (1, b"\x07", 1, 11, "b"),
        (2, b"\x07", 2, 12, "b"),
        (1, b"\x07", 2, 12, "b"),
    ]


def test_the_mask_has_its_first_column_in_the_last_byte(connection: pyodbc.Connection) -> None:
    """Of ten columns the first is the lowest bit of the last byte; the functions agree with it."""
    _table(connection, ", ".join(["id int NOT NULL PRIMARY KEY", *(f"c{number} int" for number in range(2, 11))]))
    connection.execute("INSERT INTO dbo.t (id) VALUES (1)")
    connection.execute("UPDATE dbo.t SET c10 = 1, c3 = 1")
    connection.execute("EXEC sys.sp_cdc_scan")
    bits = ", ".join(
        f"sys.fn_cdc_is_bit_set(sys.fn_cdc_get_column_ordinal(N'dbo_t', N'{name}'), [__$update_mask])"
        for name in ("c2", "c3", "c10")
    )
    found = _ask(connection, f"SELECT [__$update_mask], {bits} FROM cdc.dbo_t_CT WHERE [__$operation] = 4")
    assert found == [(b"\x02\x04", False, True, True)]


def test_a_transaction_has_one_lsn_and_its_commands_have_numbers(connection: pyodbc.Connection) -> None:
    """Rows of a transaction share the LSN of its commit, which the next one's is behind; commands count from 1."""
    _table(connection)
    connection.execute("BEGIN TRANSACTION; INSERT INTO dbo.t (id) VALUES (1), (2); DELETE FROM dbo.t; COMMIT")
    connection.execute("BEGIN TRANSACTION; INSERT INTO dbo.t (id) VALUES (3); ROLLBACK")
    connection.execute("INSERT INTO dbo.t (id) VALUES (4)")
    connection.execute("EXEC sys.sp_cdc_scan")
    rows = _ask(
        connection, f"SELECT [__$start_lsn], [__$command_id], [__$seqval], id FROM cdc.dbo_t_CT ORDER BY {_ORDER}"
    )
    assert [(command, key) for _, command, _, key in rows] == [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4)]
    first, last = rows[0][0], rows[-1][0]
    assert [row[0] for row in rows] == [first] * 4 + [last]
    assert first < last
    assert [row[2] for row in rows] == sorted({row[2] for row in rows})
    mapped = _ask(connection, "SELECT start_lsn FROM cdc.lsn_time_mapping WHERE tran_id <> 0x00 ORDER BY start_lsn")
    assert mapped == [(first,), (last,)]


def test_the_functions_know_the_range(connection: pyodbc.Connection) -> None:
    """get_all_changes gives a range with or without rows of 3, and error 313 for one that is not kept (any more)."""
    _table(connection)
    connection.execute("INSERT INTO dbo.t (id, n) VALUES (1, 1)")
    connection.execute("UPDATE dbo.t SET n = 2")
    connection.execute("EXEC sys.sp_cdc_scan")
    ((low, high, unknown),) = _ask(
        connection, "SELECT sys.fn_cdc_get_min_lsn('dbo_t'), sys.fn_cdc_get_max_lsn(), sys.fn_cdc_get_min_lsn('x')"
    )
    query = (
        "SELECT [__$operation] FROM cdc.fn_cdc_get_all_changes_dbo_t(?, ?, N'{}') ORDER BY [__$seqval], [__$operation]"
    )
    assert _ask(connection, query.format("all"), low, high) == [(2,), (4,)]
    assert _ask(connection, query.format("all update old"), low, high) == [(2,), (3,), (4,)]
    assert unknown == bytes(10)
    connection.execute("EXEC sys.sp_cdc_cleanup_change_table @capture_instance = N'dbo_t', @low_water_mark = ?", high)
    assert _ask(connection, "SELECT sys.fn_cdc_get_min_lsn('dbo_t')") == [(high,)]
    assert _ask(connection, query.format("all"), high, high) == [(4,)]
    for first, last in ((low, high), (high, b"\xff" * 10)):
        with pytest.raises(pyodbc.Error, match="313"):
            _ask(connection, query.format("all"), first, last)


def test_a_second_instance_knows_a_new_column(connection: pyodbc.Connection) -> None:
    """A second capture instance tells of a new column, and of nothing from before; a third one is refused."""
    _table(connection)
    connection.execute("EXEC sys.sp_cdc_stop_job @job_type = N'capture'")
    connection.execute("INSERT INTO dbo.t (id) VALUES (1)")  # captured when the second instance is there
    connection.execute("ALTER TABLE dbo.t ADD extra nvarchar(10) NULL CONSTRAINT d DEFAULT N'old' WITH VALUES")
    connection.execute(_ENABLE + ", @capture_instance = N'dbo_t_2'")
    connection.execute("UPDATE dbo.t SET extra = N'new', n = 5")
    assert _changes(connection)[1:] == [(3, b"\x02", 1, None, None), (4, b"\x02", 1, 5, None)]
    assert _changes(connection, "id, n, extra", "dbo_t_2") == [(3, b"\x0a", 1, None, "old"), (4, b"\x0a", 1, 5, "new")]
    with pytest.raises(pyodbc.Error, match="22926"):
        connection.execute(_ENABLE + ", @capture_instance = N'dbo_t_3'")
    commands = _ask(connection, "SELECT ddl_command FROM cdc.ddl_history")
    assert [command[:25] for (command,) in commands] == ["ALTER TABLE dbo.t ADD ext"]
    connection.execute(
        "EXEC sys.sp_cdc_disable_table @source_schema = N'dbo', @source_name = N't', @capture_instance = N'dbo_t'"
    )
    with pytest.raises(pyodbc.Error, match="208"):
        _changes(connection)


def test_an_idle_database_goes_on(connection: pyodbc.Connection) -> None:
    """What the capture job writes when there is nothing to capture moves the newest LSN, and is no transaction."""
    _table(connection)
    connection.execute("INSERT INTO dbo.t (id) VALUES (1)")
    connection.execute("EXEC sys.sp_cdc_scan")
    ((before,),) = _ask(connection, "SELECT sys.fn_cdc_get_max_lsn()")
    connection.execute("EXEC sys.sp_cdc_scan @is_from_job = 1")
    ((after,),) = _ask(connection, "SELECT sys.fn_cdc_get_max_lsn()")
    assert before < after
    assert _ask(connection, "SELECT MAX(start_lsn) FROM cdc.lsn_time_mapping WHERE tran_id <> 0x00") == [(before,)]


def test_nothing_is_seen_before_the_capture_job_has_run(sql_server: SqlServerDouble, database: str) -> None:
    """While the job stands still, the newest LSN stays; when it runs, whole transactions appear."""
    with closing(sql_server.connect(database=database)) as connection:
        _table(connection)
        connection.execute("EXEC sys.sp_cdc_stop_job @job_type = N'capture'")
        connection.execute("INSERT INTO dbo.t (id) VALUES (1)")
        time.sleep(0.1)
        assert _ask(connection, "SELECT sys.fn_cdc_get_max_lsn()") == [(None,)]
        connection.execute("EXEC sys.sp_cdc_start_job @job_type = N'capture'")
        deadline = time.monotonic() + 20
        while _ask(connection, "SELECT COUNT(*) FROM cdc.dbo_t_CT") != [(1,)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


_STEP = st.tuples(st.sampled_from("IIUUKDT"), st.integers(0, 12), st.integers(0, 3))
_TEXT = (None, "", "a", "b" * 50)


def _statement(step: tuple[str, int, int]) -> str:
    kind, key, value = step
    text = "NULL" if _TEXT[value] is None else f"N'{_TEXT[value]}'"
    free = "NOT EXISTS (SELECT 1 FROM dbo.t WHERE id = {})"
    return {
        "I": f"INSERT INTO dbo.t SELECT {key}, {value}, {text} WHERE {free.format(key)}",
        "U": f"UPDATE dbo.t SET n = {value}, s = {text} WHERE id >= {key} AND id < {key + 3}",
        "K": f"UPDATE dbo.t SET id = id + 100 WHERE id = {key} AND {free.format(key + 100)}",
        "D": f"DELETE FROM dbo.t WHERE id = {key}",
        "T": f"UPDATE dbo.t SET n = n + 1 WHERE id = {key}",
    }[kind]


@settings(max_examples=12 * TIMES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(_STEP, min_size=1, max_size=5), st.booleans()), max_size=8))
def test_replayed_changes_are_the_table(
    sql_server: SqlServerDouble, transactions: list[tuple[list[tuple[str, int, int]], bool]]
) -> None:
    """Whatever transactions did, or undid: their changes, applied in order with unset values kept, give the table."""
    name = f"replay{time.monotonic_ns()}"
    sql_server.create_database(name)
    with closing(sql_server.connect(DRIVERS[0], name)) as connection:
        connection.execute("EXEC sys.sp_cdc_enable_db")
        _table(connection)
        for steps, committed in transactions:
            end = "COMMIT" if committed else "ROLLBACK"
            connection.execute("; ".join(["SET NOCOUNT ON", "BEGIN TRAN", *map(_statement, steps), end]))
        held: dict[int, tuple[Any, ...]] = {}
        for operation, mask, *row in _changes(connection):
            if operation == 1:
                del held[row[0]]
            elif operation == 3:
                assert held[row[0]][:2] == tuple(row[:2])
            else:
                assert (operation == 2) == (row[0] not in held)
                text = row[2] if mask[0] & 4 else held[row[0]][2]
                held[row[0]] = (*row[:2], text)
        assert sorted(held.values()) == sorted(_ask(connection, "SELECT id, n, s FROM dbo.t"))
