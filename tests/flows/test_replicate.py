"""The main path on real parts: recorded Debezium streams through broker and flow into PostgreSQL, value by value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from control.embedded import Tansu
from flows.testing import run_flow, run_killed_and_resumed
from flows.verify import verify
from tests.flows.recorded import ALLTYPES, fill, make_truth, pipeline_text

LOST = {
    # (table, key, column): what the message no longer tells. "*": the whole row.
    ("customers", "1", "vip"): "trap 1: NULL in a column with a default arrives as the default",
    ("orders", "12", "*"): "trap 3: the date infinity arrives as a day that PostgreSQL does not have: a dead letter",
    ("alltypes", "1", "ttz"): "trap 6: timetz is moved to UTC",
    (
        "alltypes",
        "9223372036854775807",
        "*",
    ): "trap 10: an array of two dimensions arrives as its Java name: a dead letter",
    (
        "alltypes",
        "1",
        "vb",
    ): "bit varying: B'101', B'0101' and B'00000101' are the same message, BQ==, and the schema part has the longest "
    "length allowed, 8, for all: a value arrives with zeros in front up to that length",
}
LOST_IN = {
    "ns": LOST,
    "sp": LOST | {("alltypes", "1", "iv"): "trap 6: an interval in microseconds, a year of 365.25 days"},
}
# Forms of the same value: (table, column) -> (expression over the truth t, expression over the target p).
FORMS = {
    ("alltypes", "m"): ("t.m::numeric", "p.m"),
    ("alltypes", "pt"): ("t.pt::text", "point((p.pt->>'x')::float8, (p.pt->>'y')::float8)::text"),
    ("alltypes", "h"): ("hstore_to_jsonb(t.h)", "p.h"),
    ("alltypes", "jj"): ("t.jj::text", "p.jj::text"),
}
KEYS = {
    "customers": ["id"], "orders": ["id"], "items": ["order_id", "line_no"], "alltypes": ["id"], "full_ident": ["id"],
    "Odd_Name-_": ["Key Col"], "truncme": ["id"], "heartbeat_t": ["id"], "dbz_signal": ["id"],
}  # fmt: skip
TRUTH_NAMES = {"Odd_Name-_": "Odd Name-Ü"}


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    """A broker with both recorded streams."""
    with Tansu() as broker:
        fill(broker.servers, "ns")
        fill(broker.servers, "sp")
        yield broker.servers


def differences(connection: psycopg.Connection[Any], table: str) -> set[tuple[str, str, str]]:
    """(table, key, column) wherever target and truth are not the same value; column "*" for a row on one side only."""
    truth, key = f'truth."{TRUTH_NAMES.get(table, table)}"', KEYS[table]
    on = " AND ".join(f't."{name}" = p."{name}"' for name in key)
    key_text = " || ',' || ".join(f'coalesce(t."{name}", p."{name}")::text' for name in key)
    joined = f'{truth} t FULL JOIN public."{table}" p ON {on}'
    found = set()
    one_sided = f't."{key[0]}" IS NULL OR p."{key[0]}" IS NULL'
    for (text,) in connection.execute(f"SELECT {key_text} FROM {joined} WHERE {one_sided}"):
        found.add((table, text, "*"))
    columns = _columns(connection, f'public."{table}"')
    assert {name for name, _ in columns} == {name for name, _ in _columns(connection, truth)}
    for name, kind in columns:
        expected, actual = FORMS.get((table, name), (f't."{name}"::{kind}', f'p."{name}"'))
        unequal = f"SELECT {key_text} FROM {joined} WHERE NOT ({one_sided}) AND {expected} IS DISTINCT FROM {actual}"
        found |= {(table, text, name) for (text,) in connection.execute(unequal)}
    return found


def _columns(connection: psycopg.Connection[Any], table: str) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        (table,),
    ).fetchall()


def compare(dsn: str, stream: str, passing: frozenset[tuple[str, str]] = frozenset()) -> None:
    """Every table of the target against a PostgreSQL on which the recorded SQL was run.

    `passing`: dead letters of rows that are deleted later on, seen where no batch holds both.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        make_truth(connection, stream)
        found = set().union(*(differences(connection, table) for table in KEYS))
        assert found == set(LOST_IN[stream])
        keyless = [
            sorted(connection.execute(f"SELECT a, b FROM {schema}.nokey").fetchall()) for schema in ("public", "truth")
        ]
        assert keyless[0] == keyless[1] == [(1, "z"), (3, "c")]
        letters = connection.execute(
            "SELECT DISTINCT table_name, key_text FROM public.headrace_dead_letters"
        ).fetchall()
        assert {(table.rpartition(".")[2], key.replace(" ", "")) for table, key in letters} - passing == {
            ("alltypes", '{"id":9223372036854775807}'),
            ("orders", '{"id":12}'),
        }


@pytest.mark.parametrize(("stream", "processes"), [("ns", 1), ("sp", 2)])
def test_recorded_streams_equal_the_sql_that_made_them(
    stream: str, processes: int, servers: str, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value of each table is what the SQL made, but for those that the messages have lost, each named."""
    file = tmp_path / "recorded.toml"
    file.write_text(pipeline_text(stream, servers), encoding="utf-8")
    flow = f"flows.build:flow('{file}', until_end=True)"
    codes = run_flow(flow, tmp_path, processes=processes, environment={"TARGET_DSN": postgres})
    assert codes == [0] * processes, (tmp_path / "process-0.log").read_text()[-4000:]
    compare(postgres, stream)
    monkeypatch.setenv("TARGET_DSN", postgres)
    report = verify(str(file))
    assert {table.source.rpartition(".")[2]: table.unreadable for table in report.tables if table.unreadable} == {
        "alltypes": 2,
        "orders": 1,
    }
    assert all(table.difference.is_equal for table in report.tables), list(report.lines())


def test_killed_and_resumed_it_is_the_same(servers: str, postgres: str, tmp_path: Path) -> None:
    """Killed with SIGKILL at three moments and resumed, the tables are the same, the keyless one too."""
    file = tmp_path / "recorded.toml"
    file.write_text(pipeline_text("sp", servers), encoding="utf-8")
    flow = f"flows.build:flow('{file}', until_end=True, source__kafka__batch_rows_max=3)"
    codes = run_killed_and_resumed(flow, tmp_path, [1.2, 1.5, 2.0], environment={"TARGET_DSN": postgres})
    assert codes[-1] == [0], (tmp_path / "process-0.log").read_text()[-4000:]
    assert [-9] in codes
    compare(postgres, "sp", frozenset({("alltypes", '{"id":3}')}))


def test_a_truncate_stops_the_flow_unless_told(servers: str, postgres: str, tmp_path: Path) -> None:
    """Where nothing is said of truncates, one stops the flow, and the log names topic and way out."""
    file = tmp_path / "recorded.toml"
    file.write_text(pipeline_text("sp", servers).replace('on_truncate = "apply"', ""), encoding="utf-8")
    codes = run_flow(f"flows.build:flow('{file}', until_end=True)", tmp_path, environment={"TARGET_DSN": postgres})
    log = (tmp_path / "process-0.log").read_text()
    assert codes[0] != 0
    assert "sp.public.truncme" in log and "on_truncate" in log


def test_every_type_of_the_recording_is_declared() -> None:
    """The declared columns of alltypes are those the table has: none is left out of the comparison."""
    assert len(ALLTYPES) == 50
