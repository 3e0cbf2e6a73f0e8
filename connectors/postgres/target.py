"""PostgreSQL as a target: takes tables over at the start, and opens a session for each sink part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from connectors.base import retry
from connectors.base.target import PREFLIGHT_S
from connectors.postgres.apply import Binding, PostgresPart
from connectors.postgres.catalog import TargetShape, inspect
from connectors.postgres.config import PostgresConfig, TargetTable
from connectors.postgres.ddl import PROGRESS, TABLES, create_metadata, ensure, lock
from connectors.postgres.session import Connection, connect, database_errors, literal, quote
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError
from libcore.schema import Table

_LOG = structlog.get_logger()


class PostgresTarget:
    """Tables of one database, written by one flow.

    Args:
        flow_name, store_id, parts: as in SpooledSink. tables: where each source table goes.
    """

    def __init__(
        self, config: PostgresConfig, flow_name: str, store_id: str, parts: int, tables: Mapping[str, TargetTable]
    ) -> None:
        self._binding = Binding(config, flow_name, store_id, parts, dict(tables))
        self._single: dict[str, bool] = {}
        places: dict[tuple[str, str], str] = {}
        for source, target in tables.items():
            other = places.setdefault((target.schema, target.table), source)
            if other != source:
                raise ConfigurationError(f"target {target.name}: expected one source table, found {other} and {source}")

    def preflight(self, tables: Sequence[Table], *, wait_s: float = PREFLIGHT_S) -> None:
        """Make or check every table, and register it for this flow (contract: connectors/base/target.py)."""
        retry.call("reach the target", lambda: self._preflight(tables), total_s=wait_s)

    def single_part_tables(self, tables: Sequence[Table]) -> frozenset[str]:
        """Source tables whose target has a second unique key or a foreign key; after preflight."""
        return frozenset(table.name for table in tables if self._single.get(table.name, False))

    def open(self, part: int) -> PostgresPart:
        """A session for a part; it connects on first use."""
        return PostgresPart(self._binding, part)

    def _preflight(self, tables: Sequence[Table]) -> None:
        binding = self._binding
        with database_errors():
            connection = connect(binding.config, f"{binding.flow}/preflight")
            try:
                with connection.transaction():
                    lock(connection, "metadata")
                    create_metadata(connection, binding.config.metadata_schema)
                    self._check_parts(connection)
                for table in tables:
                    if table.name != DEAD_LETTERS.name:
                        self._take_over(connection, table)
            finally:
                connection.close()

    def _check_parts(self, connection: Connection) -> None:
        binding = self._binding
        progress = binding.metadata(PROGRESS)
        rows = connection.execute(
            f"SELECT count(*), max(part) FROM {progress} WHERE flow = %s AND store_id = %s",
            (binding.flow, binding.store_id),
        ).fetchone()
        assert rows is not None
        # In one transaction, so that a start that is killed here leaves all rows or none, and two see each other's.
        if rows[0] not in (0, binding.parts) or (rows[1] is not None and rows[1] >= binding.parts):
            raise ConfigurationError(
                f"flow {binding.flow}: expected {binding.parts} parts in {progress}, found {rows[0]}; parts are "
                f"fixed for a flow's life: set parts = {rows[0]}, or start anew with another state directory"
            )
        if rows[0]:
            return  # not touched: a part that applies a long segment holds its own
        for part in range(binding.parts):
            connection.execute(
                f"INSERT INTO {progress} (flow, part, store_id, seq) VALUES (%s, %s, %s, 0) ON CONFLICT DO NOTHING",
                (binding.flow, part, binding.store_id),
            )

    def _take_over(self, connection: Connection, table: Table) -> None:
        binding = self._binding
        target = binding.targets.get(table.name)
        if target is None:
            raise ConfigurationError(
                f"table {table.name}: expected a target table for it, found {sorted(binding.targets)}"
            )
        with connection.transaction():
            lock(connection, target.name)
            row = connection.execute(
                f"SELECT flow, store_id, made, single_part FROM {binding.metadata(TABLES)} "
                f"WHERE table_schema = %s AND table_name = %s",
                (target.schema, target.table),
            ).fetchone()
            there = inspect(connection, target.schema, target.table)
            ours = row is not None and row[:2] == (binding.flow, binding.store_id) and there is not None
            if not ours and isinstance(there, TargetShape):
                self._check_owner(connection, there, target, None if row is None else (row[0], row[1]))
            made = bool(row is not None and row[2]) or there is None
            shape = ensure(connection, table, target, made=made, create=True)
            tied = shape.ties_rows(table.key)
            if ours and row is not None and tied and not row[3]:
                raise ConfigurationError(
                    f"target {target.name}: it has got a second unique key or a foreign key since this flow took it "
                    f"over, and its rows are spread over {binding.parts} parts for good: drop the constraint, "
                    f'or start anew with another state directory and mode = "replace"'
                )
            self._single[table.name] = bool(ours and row is not None and row[3]) or tied
            self._register(connection, table, target, made)

    def _check_owner(
        self, connection: Connection, there: TargetShape, target: TargetTable, owner: tuple[str, str] | None
    ) -> None:
        """An existing table that is not ours yet: refuse it while it is filled, or empty it, as the mode says."""
        binding = self._binding
        if owner is not None and owner[0] != binding.flow:
            raise ConfigurationError(
                f"target {target.name}: it belongs to flow {owner[0]}; two flows must not write one table. If "
                f"that flow is gone: DELETE FROM {binding.metadata(TABLES)} "
                f"WHERE table_schema = {literal(target.schema)} AND table_name = {literal(target.table)};"
            )
        filled = connection.execute(f"SELECT EXISTS (SELECT 1 FROM {there.sql})").fetchone() == (True,)
        if not filled or target.mode == "adopt":
            return
        if target.mode == "create":
            raise ConfigurationError(
                f"target {target.name}: expected no table or an empty one, found a filled one; "
                f'mode = "adopt" goes on with its rows, mode = "replace" removes them'
            )
        _LOG.warning("replacing the rows of a filled target", flow=binding.flow, target=target.name)
        connection.execute(f"DELETE FROM {there.sql}" if there.referenced else f"TRUNCATE {there.sql}")

    def _register(self, connection: Connection, table: Table, target: TargetTable, made: bool) -> None:
        binding = self._binding
        names = ("table_schema", "table_name", "flow", "store_id", "source_table", "mode", "made", "single_part")
        values = (
            target.schema,
            target.table,
            binding.flow,
            binding.store_id,
            table.name,
            target.mode,
            made,
            self._single[table.name],
        )
        sets = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in names[2:])
        connection.execute(
            f"INSERT INTO {binding.metadata(TABLES)} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))}) "
            f"ON CONFLICT (table_schema, table_name) DO UPDATE SET {sets}",
            values,
        )
