"""What the tests of the worked pipelines share: small tables with a history, as Debezium messages, and SQL truth."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.kafka.topics import create_topics, produce
from flows import pipelines, spec
from flows.testing import run_flow
from flows.verify import Report, verify
from tests.flows.debezium import change

PIPELINES = Path(pipelines.__file__).parent
_EPOCH_DAY = date(1970, 1, 1)
_SQL = {
    "int32": "integer", "int64": "bigint", "string": "text", "date": "date", "timestamp": "timestamp",
}  # fmt: skip


@dataclass
class Erp:
    """The source: tables as they are now, and topics with all that happened; a flow over them, and its target.

    Args:
        name: of the pipeline file in flows/pipelines.
        servers: the broker.
        dsn: the target database; the truth is computed there, too, in the schema `erp`.
        directory: of the flow's state.
    """

    name: str
    servers: str
    dsn: str
    directory: Path
    partitions: int = 2
    rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = PIPELINES / f"{self.name}.toml"
        self.tables = spec.load(self.file).tables
        mark = uuid.uuid4().hex[:8]
        self.topics = {table: f"{mark}.public.{table}" for table in self.tables}
        create_topics(self.servers, dict.fromkeys(self.topics.values(), self.partitions))
        self.rows = {table: {} for table in self.tables}

    def put(self, table: str, *rows: Mapping[str, Any]) -> None:
        """Insert or update rows, given whole or in the columns that change."""
        messages = []
        for row in rows:
            key = tuple(row[name] for name in self.tables[table].key or ())
            before = self.rows[table].get(key)
            after = {**dict.fromkeys(self.tables[table].columns or ()), **(before or {}), **row}
            self.rows[table][key] = after
            messages.append(self._message(table, "c" if before is None else "u", before, after))
        produce(self.servers, self.topics[table], messages)

    def remove(self, table: str, *keys: tuple[Any, ...]) -> None:
        """Delete rows."""
        messages = [self._message(table, "d", self.rows[table].pop(key), None) for key in keys]
        produce(self.servers, self.topics[table], messages)

    def run(self, processes: int = 1, **environment: str) -> None:
        """Run the flow to the topics' end."""
        codes = run_flow(
            self._call("flow", until_end=True), self.directory, processes=processes, environment=self._with(environment)
        )
        assert codes == [0] * processes, (self.directory / "process-0.log").read_text()[-4000:]

    def start(self, seconds: float, processes: int = 1, **environment: str) -> None:
        """Run the flow and kill it after that time."""
        codes = run_flow(
            self._call("flow"),
            self.directory,
            processes=processes,
            kill_after_s=seconds,
            environment=self._with(environment),
        )
        assert -9 in codes, (self.directory / "process-0.log").read_text()[-4000:]

    def verify(self, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Report:
        """What `headrace verify` says."""
        for name, value in self._with(environment).items():
            monkeypatch.setenv(name, value)
        return verify(str(self.file), **self.overrides)

    @property
    def overrides(self) -> dict[str, str]:
        """Broker and topics of this test."""
        topics = {f"tables__{table}__topic": topic for table, topic in self.topics.items()}
        return {"source__kafka__servers": self.servers, **topics}

    def found(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives, over the target's tables and those of the source in the schema `erp`."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            self._mirror(connection)
            return connection.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]

    def check(self, table: str, truth: str) -> int:
        """Fail unless the target's table holds exactly the rows of a query over `erp`; how many they are."""
        missing = self.found(f"({truth}) EXCEPT ALL SELECT * FROM {table}")
        extra = self.found(f"SELECT * FROM {table} EXCEPT ALL ({truth})")
        ((count,),) = self.found(f"SELECT count(*) FROM {table}")
        assert not missing and not extra, f"missing {missing[:5]}\nextra   {extra[:5]}"
        return int(count)

    def _mirror(self, connection: psycopg.Connection[Any]) -> None:
        """The source's tables as they are now, in the schema `erp`."""
        connection.execute("DROP SCHEMA IF EXISTS erp CASCADE; CREATE SCHEMA erp")
        for table, rows in self.rows.items():
            columns = {name: str(kind) for name, kind in (self.tables[table].columns or {}).items()}
            types = {name: _SQL.get(kind, kind.replace("decimal", "numeric")) for name, kind in columns.items()}
            ddl = ", ".join(f"{name} {kind}" for name, kind in types.items())
            connection.execute(f"CREATE TABLE erp.{table} ({ddl})")  # type: ignore[call-overload]
            with connection.cursor().copy(f"COPY erp.{table} FROM STDIN") as copy:  # type: ignore[call-overload]
                for row in rows.values():
                    copy.write_row([row[name] for name in columns])

    def _message(
        self, table: str, op: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> tuple[bytes | None, bytes]:
        return change(op, _wired(before), _wired(after), list(self.tables[table].key or ()))

    def _call(self, function: str, **options: Any) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in {**options, **self.overrides}.items())
        return f"flows.build:{function}('{self.file}'{arguments})"

    def _with(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {"WAREHOUSE_DSN": self.dsn, "HEADRACE_STATE_DIR": str(self.directory / "state"), **environment}


def _wired(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {name: _wire(value) for name, value in row.items()}


def _wire(value: Any) -> Any:
    """As Debezium writes it: days, microseconds, decimals as text."""
    if isinstance(value, datetime):
        return round((value - datetime(1970, 1, 1)).total_seconds() * 1_000_000)
    if isinstance(value, date):
        return (value - _EPOCH_DAY).days
    return str(value) if isinstance(value, Decimal) else value
