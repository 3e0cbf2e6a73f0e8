"""An Oracle database as a source: its tables described, and one partition that reads them all, in commit order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition, PieceReader
from connectors.base.database import Finding, SourceContext, SourceTable
from connectors.base.guardian import Pace
from connectors.base.items import Item
from connectors.oracle import catalog
from connectors.oracle.config import OracleConfig
from connectors.oracle.reader import OracleReader
from connectors.oracle.session import Session, judged
from connectors.oracle.snapshot import Snapshot, starting_point
from connectors.oracle.state import State
from connectors.oracle.timestamp import TimestampReader
from connectors.oracle.trigger_log import TriggerLogReader
from libcore.schema import Table

_READERS: Mapping[str, Callable[..., PieceReader]] = {"trigger_log": TriggerLogReader, "timestamp": TimestampReader}


class OracleChanges:
    """An Oracle database under one login; see connectors.base.database.ChangeSource."""

    def __init__(self, config: OracleConfig, context: SourceContext) -> None:
        self._config, self._context = config, context
        self._session: Session | None = None

    def names(self) -> Collection[str]:
        """See ChangeSource.names."""
        with judged():
            return list(catalog.names(self._ask(), self._config.default_schema))

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """See ChangeSource.describe."""
        with judged():
            found = catalog.describe_all(self._ask(), names, self._config.default_schema)
        return [found[name].described() for name in names]

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, Any], *, until_end: bool
    ) -> FixedPartitionedSource[Item, Any]:
        """See ChangeSource.source."""
        wanted = {table.name: table.table for table in tables}
        return OracleSource(self._config, self._context, wanted, bindings, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> Iterator[Item]:
        """All rows as of one SCN."""
        session = self._ask()
        with judged():
            found = catalog.describe_all(session, [table.name for table in tables], self._config.default_schema)
            wanted = {
                table.name: catalog.wanted_table(table.table, found[table.name], bindings[table.name])
                for table in tables
            }
            is_mined = self._config.mode.startswith("logminer")
            state = State("snapshot", scn=starting_point(session)[1] if is_mined else 0)
            snapshot = Snapshot(
                session, self._config, wanted, state, Pace(self._config.guardian), flow=self._context.flow
            )
            for piece in snapshot.pieces():
                yield from () if piece is None else piece.items

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """See ChangeSource.doctor."""
        from connectors.oracle.doctor import examine

        with judged():
            found = catalog.describe_all(self._ask(), [table.name for table in tables], self._config.default_schema)
            return examine(self._ask(), self._config, list(found.values()))

    def close(self) -> None:
        """See ChangeSource.close."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _ask(self) -> Session:
        if self._session is None:
            self._session = Session(self._config, pdb=self._config.pdb)
        return self._session


class OracleSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """A database as a Bytewax source of Items; one partition, as it has one order of commits."""

    def __init__(
        self,
        config: OracleConfig,
        context: SourceContext,
        tables: Mapping[str, Table],
        bindings: Mapping[str, Any],
        *,
        until_end: bool,
    ) -> None:
        self._config, self._context, self._until_end = config, context, until_end
        self._tables, self._bindings = tables, bindings

    def list_parts(self) -> list[str]:
        """One."""
        return [catalog.PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """The partition, going on where `resume_state` says, or beginning with a snapshot."""
        pace, reader = Pace(self._config.guardian), _READERS.get(self._config.mode, OracleReader)

        def open_reader(state: tuple[Any, ...]) -> PieceReader:
            return reader(
                self._config, self._context, self._tables, self._bindings, state, pace, until_end=self._until_end
            )

        return BackgroundPartition(
            self._context.partition(for_part),
            open_reader,
            State().packed() if resume_state is None else resume_state,
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
            poll_s=self._config.poll_s,
            beat_s=1.0 if self._context.beating else 0.0,
        )
