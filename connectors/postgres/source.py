"""Read a PostgreSQL database directly: the rows that are there, then the changes of a replication slot, without a gap.

A slot is one source partition, one ordered log. Its first start makes publication and slot, reads the tables in the
snapshot that the slot exports, and follows the slot from there. A crash in the middle goes on with later snapshots:
the slot repeats every change since its begin, in order, so that older changes that meet newer rows end right.

State: see source_state.py.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import psycopg
from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition
from connectors.base.database import Finding, SourceContext, SourceTable
from connectors.base.guardian import Pace
from connectors.base.items import Item
from connectors.postgres import slot as slots
from connectors.postgres import source_catalog as catalog
from connectors.postgres.chunks import chunks
from connectors.postgres.session import Connection
from connectors.postgres.slot_reader import SlotReader
from connectors.postgres.snapshot import ChunkReader, View
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_login import Logins
from connectors.postgres.source_session import connect, failed
from connectors.postgres.source_state import SlotState, unpacked
from libcore.errors import ConfigurationError

_BEAT_S = 1.0


class PostgresChanges:
    """A PostgreSQL database under one login; see connectors.base.database.ChangeSource."""

    def __init__(self, config: PostgresSourceConfig, context: SourceContext) -> None:
        default = re.sub(r"[^a-z0-9_]", "_", f"headrace_{context.owner}".lower())[:63]
        self._config = config.model_copy(
            update={
                "slot": config.slot or default,
                "publication": config.publication or default,
                "parallel": min(config.parallel, config.guardian.parallel_max),
            }
        )
        self._context = context
        self._connection: Connection | None = None

    def names(self) -> Collection[str]:
        """See ChangeSource.names."""
        try:
            return catalog.names(self._ask())
        except psycopg.Error as error:
            raise failed(error, "list tables") from error

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """See ChangeSource.describe."""
        found = self._grouped_tables(names)
        slot_of = {name: slot for slot, members in grouped(self._config, names).items() for name in members}
        return [replace(found[name].described(), partition=slot_of[name]) for name in names]

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, Any], *, until_end: bool
    ) -> FixedPartitionedSource[Item, Any]:
        """See ChangeSource.source."""
        return PostgresSource(self._config, self._context, tables, bindings, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> Iterator[Item]:
        """See ChangeSource.rows."""
        found = self._grouped_tables([table.name for table in tables])
        reader = ChunkReader(
            self._config,
            self._decoder(),
            bound(tables, bindings),
            flow=self._context.flow,
            slot=str(self._config.slot),
            view=View(1),
        )
        connection = reader.open()
        try:
            for table in tables:
                for chunk in chunks(connection, found[table.name], 1 << 62, None):
                    for part in reader.read(chunk, self._config.batch_rows_max, threading.Event().is_set):
                        yield from part.items
        finally:
            reader.close()

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """See ChangeSource.doctor."""
        from connectors.postgres.doctor import examine

        try:
            found: dict[Finding, None] = {}
            # without a table that is there, server, role and slot can be looked over all the same
            by_slot = grouped(self._config, [table.name for table in tables]) or {str(self._config.slot): []}
            for slot, names in by_slot.items():
                config = of_slot(self._config, slot)
                there = list(self._tables(names, str(config.publication)).values())
                found |= dict.fromkeys(examine(self._ask(), config, there, spool_bytes=self._context.spool_bytes))
            order = ("error", "warning", "note")
            return sorted(found, key=lambda finding: order.index(finding.severity))
        except psycopg.Error as error:
            raise failed(error, "look over the source") from error

    def drop(self) -> list[str]:
        """Drop slots and publications; what was dropped."""
        connection = self._ask()
        dropped: list[str] = []
        for name in [str(self._config.slot), *(f"{self._config.slot}_{suffix}"[:63] for suffix in self._config.slots)]:
            one = of_slot(self._config, name)
            if slots.find(connection, name) is not None:
                for _ in slots.drop(connection, name):
                    continue
                dropped.append(f"slot {name}")
            slots.drop_publication(connection, str(one.publication))
            dropped.append(f"publication {one.publication}")
        return dropped

    def close(self) -> None:
        """See ChangeSource.close."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._config, "catalog")
        return self._connection

    def _grouped_tables(self, names: Sequence[str]) -> dict[str, catalog.CatalogTable]:
        found: dict[str, catalog.CatalogTable] = {}
        for slot, members in grouped(self._config, names).items():
            found |= self._tables(members, str(of_slot(self._config, slot).publication))
        return found

    def _tables(self, names: Sequence[str], publication: str) -> dict[str, catalog.CatalogTable]:
        try:
            return catalog.tables(self._ask(), names, publication)
        except psycopg.Error as error:
            raise failed(error, "describe tables") from error

    def _decoder(self) -> Any:
        assert self._context.decoder is not None, "a source needs a decoder"
        return self._context.decoder("pgoutput")


def bound(tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> dict[str, Any]:
    """The bindings with each table's key in it: with REPLICA IDENTITY FULL the stream says nothing of it."""
    return {table.name: replace(bindings[table.name], key=table.table.key) for table in tables}


def grouped(config: PostgresSourceConfig, names: Sequence[str]) -> dict[str, list[str]]:
    """Table names by slot; the first pattern that fits decides."""
    groups: dict[str, list[str]] = {}
    for name in names:
        fitting = [
            suffix for suffix, patterns in config.slots.items() if any(fnmatchcase(name, one) for one in patterns)
        ]
        groups.setdefault(f"{config.slot}_{fitting[0]}"[:63] if fitting else str(config.slot), []).append(name)
    return groups


def of_slot(config: PostgresSourceConfig, slot: str) -> PostgresSourceConfig:
    """The configuration as one of the slots has it."""
    return config.model_copy(
        update={"slot": slot, "publication": f"{config.publication}{slot.removeprefix(str(config.slot))}"[:63]}
    )


class PostgresSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """A slot as a Bytewax source of Items; the arguments are those of ChangeSource.source."""

    def __init__(
        self,
        config: PostgresSourceConfig,
        context: SourceContext,
        tables: Sequence[SourceTable],
        bindings: Mapping[str, Any],
        *,
        until_end: bool,
    ) -> None:
        self._config, self._context, self._until_end = config, context, until_end
        self._bindings = bound(tables, bindings)
        self._groups = grouped(config, [table.name for table in tables])
        if len(self._groups) > 1 and any(binding.transactions for binding in self._bindings.values()):
            raise ConfigurationError(
                "source.postgres.slots: expected one slot beside [document], found more: the order of transactions is "
                "known within a slot only"
            )

    def list_parts(self) -> list[str]:
        """The names of the slots."""
        return sorted(self._groups)

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """A partition that goes on where `resume_state` says, or begins with a new slot."""
        config, pace = of_slot(self._config, for_part), Pace(self._config.guardian)
        bindings = {name: self._bindings[name] for name in self._groups[for_part]}
        others, logins = frozenset(self._bindings) - frozenset(bindings), Logins(self._context.partition(for_part))

        def open_reader(state: tuple[Any, ...]) -> SlotReader:
            read = unpacked(state)
            return SlotReader(
                config, self._context, bindings, read, pace, logins, until_end=self._until_end, others=others
            )

        return BackgroundPartition(
            self._context.partition(for_part),
            open_reader,
            SlotState().packed() if resume_state is None else resume_state,
            rows_max=config.batch_rows_max,
            queued_bytes_max=config.queued_bytes_max,
            poll_s=0.0,
            beat_s=_BEAT_S if self._context.beating else 0.0,
        )
