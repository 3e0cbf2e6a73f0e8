"""Random histories of rows and DDL at a real PostgreSQL, read directly and killed at will: the target is the source.

`HEADRACE_EXAMPLES=50 pytest tests/connectors/test_postgres_histories.py` tries fifty times as many.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.base.items import Item
from tests.connectors.slot_parts import Flow, Target
from tests.examples import TIMES
from tests.fold import Fold

Connection = psycopg.Connection[Any]
_KEYED, _KEYLESS = "items", "log"
_SETTINGS = {"on_schema_change": "follow", "on_truncate": "apply", "clears": True}
_ADDED = [
    "int",
    "int DEFAULT 7",
    "text DEFAULT md5(random()::text)",
    "int GENERATED ALWAYS AS IDENTITY",
    "numeric(9,2)",
]


class Folded(Target):
    """A target whose rows are by column, as a database has them; a column that the source dropped stays, NULL."""

    def __init__(self) -> None:
        super().__init__()
        self.fold = Fold()

    def apply(self, items: list[Item]) -> None:
        """Apply an epoch."""
        for item in items:
            self.fold.apply(item)

    def shown(self, table: str, names: list[str]) -> Counter[tuple[str, ...]]:
        """The table's rows in the source's columns."""
        found = Counter[tuple[str, ...]]()
        for row, count in self.fold.rows(table).items():
            found[tuple(str(dict(row).get(name)) for name in names)] += count
        return found


class History:
    """Who writes at the source, and alters its tables."""

    def __init__(self, connection: Connection, chance: random.Random) -> None:
        self._connection, self._chance, self._count = connection, chance, 0
        self._turned: set[str] = set()  # tables with a column of another type by now
        self._run("CREATE TABLE items (id int PRIMARY KEY, a text, b int)")
        self._run("CREATE TABLE log (id int, a text, b int)")
        self._run("ALTER TABLE log REPLICA IDENTITY FULL")
        for table in (_KEYED, _KEYLESS):
            self._run(f"INSERT INTO {table} SELECT g, g::text, g FROM generate_series(1, 60) g")

    def write(self) -> None:
        """A transaction."""
        with self._connection.transaction():
            for _ in range(self._chance.choice((1, 3, 12))):
                self._change(self._chance.choice((_KEYED, _KEYED, _KEYLESS)))

    def alter(self) -> None:
        """A statement of DDL; now and then two, with nothing between them."""
        for _ in range(self._chance.choice((1, 1, 2))):
            table = self._chance.choice((_KEYED, _KEYED, _KEYLESS))
            names, self._count = self.columns(table)[1:], self._count + 1
            new, some = f"c{self._count}", self._chance.choice(names) if names else ""
            statements = [f"ADD {new} {self._chance.choice(_ADDED)}"] * 3
            # of one that is dropped and added as the last no relation tells (decision 0008)
            statements += [f"DROP {some}", f"RENAME {some} TO {new}", f"ALTER {some} SET DEFAULT NULL"] if some else []
            if "b" in names and table not in self._turned:  # once: back at the type that was seen before, none tells
                statements += [f"ALTER b TYPE {self._chance.choice(('bigint USING b * 3', 'numeric(12,1)'))}"]
            if " TYPE " in (statement := self._chance.choice(statements)):
                self._turned.add(table)
            if "IDENTITY" not in statement or table == _KEYED:
                try:
                    self._run(f"ALTER TABLE {table} {statement}")
                except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.SyntaxError):
                    continue  # the default of an identity

    def truncate(self) -> None:
        """All rows go."""
        self._run(f"TRUNCATE {self._chance.choice((_KEYED, _KEYLESS))}")

    def columns(self, table: str) -> list[str]:
        """As they are now."""
        cursor = self._connection.execute(f"SELECT * FROM {table} LIMIT 0".encode())
        return [column.name for column in cursor.description or ()]

    def _change(self, table: str) -> None:
        number = self._chance.randrange(90)
        where = (
            f"WHERE id = {number}"
            if table == _KEYED
            else f"WHERE ctid = (SELECT min(ctid) FROM log WHERE id > {number})"
        )
        names = [name for name in self.columns(table) if name in ("a", "b")]
        changes = [f"DELETE FROM {table} {where}", f"INSERT INTO {table} (id) VALUES ({number})"]
        changes[1] += " ON CONFLICT DO NOTHING" if table == _KEYED else ""
        changes += [f"UPDATE {table} SET {name} = '{number}' {where}" for name in names]
        self._run(self._chance.choice(changes))

    def _run(self, statement: str) -> None:
        self._connection.execute(statement.encode())


@pytest.fixture
def source(postgres: str) -> Iterator[Connection]:
    """A session with the source database."""
    with psycopg.connect(postgres, autocommit=True, prepare_threshold=None) as connection:
        yield connection


@pytest.mark.parametrize("seed", range(3 * TIMES))
def test_rows_and_ddl_in_any_order(source: Connection, postgres: str, tmp_path: Path, seed: int) -> None:
    """Rows changed, columns added, dropped and renamed, tables emptied, the flow killed: in the end both are equal."""
    chance = random.Random(seed)
    history = History(source, chance)
    tables = ["public.items", "public.log"]
    flow = Flow(postgres, tmp_path, tables, bindings=_SETTINGS, batch_rows_max=chance.choice((5, 40, 1000)))
    target = flow.target = Folded()
    flow.run(chance.choice((1, 3, 1000)))
    for _ in range(18):
        step = chance.choice((history.write, history.write, history.alter, None, None, history.truncate))
        if step is not None and (step != history.truncate or chance.random() < 0.3):
            step()
        elif step is None:
            flow.run(chance.choice((1, 2, 5, 1000)))
    history.write()
    source.execute("INSERT INTO items (id) VALUES (1000)")  # of a DDL the log tells with the next change
    source.execute("INSERT INTO log (id) VALUES (1000)")
    while not flow.run(500):
        continue
    for table in (_KEYED, _KEYLESS):
        rows = source.execute(f"SELECT * FROM {table}".encode()).fetchall()
        wanted = Counter(tuple(str(value) for value in row) for row in rows)
        assert target.shown(f"public.{table}", history.columns(table)) == wanted, table
    assert target.fold.letters == []
    flow.close()
