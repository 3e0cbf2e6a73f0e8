"""Entity sets of OData services as tables: one source partition a set, as each has a delta queue of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import structlog
from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition
from connectors.base.database import Finding, SourceContext, SourceTable, TableBinding
from connectors.base.guardian import Pace
from connectors.base.items import Item
from connectors.sap.http import Gateway, GatewayError, told
from connectors.sap.odata_config import SapODataConfig
from connectors.sap.odata_doctor import examine
from connectors.sap.odata_metadata import SUBSCRIBED, TERMINATE, EntitySet, entity_sets
from connectors.sap.odata_reader import ODataReader
from libcore.errors import ConfigurationError, HeadraceError
from libcore.schema import Table

WHERE = "source.sap_odata"
_POLL_S_MAX = 0.25
_log = structlog.get_logger()


class SapODataChanges:
    """The entity sets of some services; see connectors.base.database.ChangeSource."""

    def __init__(self, config: SapODataConfig, context: SourceContext) -> None:
        self._config, self._context = config, context
        self._gateway = Gateway(config, WHERE)
        self._sets: dict[str, EntitySet] | None = None

    def names(self) -> Collection[str]:
        """SERVICE/EntitySet of every service that the pipeline file names; without ODP's lists of delta links."""
        return [name for name, entity in self._found().items() if not entity.is_list_of_links]

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """These entity sets, by the types of $metadata."""
        described = []
        for name in names:
            entity = self._entity(name)
            notes = entity.notes
            if self._config.follows(name) and not entity.tracks:
                notes += (f"{name}: nothing in $metadata says that it has deltas; the first load tells",)
            described.append(SourceTable(name, entity.table, notes, name))
        return described

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, Any], *, until_end: bool
    ) -> FixedPartitionedSource[Item, Any]:
        """See ChangeSource.source. Raises ConfigurationError where a table has no key."""
        wanted = {}
        for one in tables:
            if not one.table.key:
                raise ConfigurationError(f"{WHERE}: expected a key for {one.name}, found none: give it one by `key`")
            wanted[one.name] = (self._entity(one.name), one.table, bindings[one.name])
        return SapODataSource(self._config, self._context, wanted, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> Iterator[Item]:
        """All entities, page by page, without change tracking. The server's pages show no one moment."""
        alone = self._config.model_copy(update={"follow": "nothing"})
        for one in tables:
            reader = ODataReader(
                Gateway(alone, WHERE), alone, self._entity(one.name), one.table, bindings[one.name], (),
                pace=Pace(alone.guardian), flow=self._context.flow, until_end=True,
            )  # fmt: skip
            with closing(reader):
                yield from (item for piece in reader.pieces() if piece is not None for item in piece.items)

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """See ChangeSource.doctor."""
        return examine(self._gateway, self._config, [self._entity(table.name) for table in tables])

    def drop(self) -> list[str]:
        """End this user's ODP subscriptions to the services of the pipeline file, whose queues grow otherwise."""
        dropped = []
        with told():
            for name, entity in self._found().items():
                head, _, last = entity.path.rpartition("/")
                if entity.ends and b"true" in self._gateway.get(f"{head}/{SUBSCRIBED}{last}").body:
                    self._gateway.get(f"{head}/{TERMINATE}{last}")
                    dropped.append(f"subscription to {name}")
        return dropped

    def close(self) -> None:
        """See ChangeSource.close."""
        self._gateway.close()

    def _entity(self, name: str) -> EntitySet:
        found = self._found()
        if name not in found:
            raise ConfigurationError(f"{WHERE}: expected an entity set {name!r} as SERVICE/EntitySet, found none")
        return found[name]

    def _found(self) -> dict[str, EntitySet]:
        if self._sets is None:
            found: dict[str, EntitySet] = {}
            with told():
                for service, path in self._config.paths.items():
                    found |= described(self._gateway, service, path)
            self._sets = found
        return self._sets


def described(gateway: Gateway, service: str, path: str) -> dict[str, EntitySet]:
    """A service's entity sets. Raises ConfigurationError where there is no such service, TransientError."""
    try:
        document = gateway.get(f"{path}/$metadata", {"Accept": "application/xml"}).body
    except GatewayError as error:
        raise ConfigurationError(
            f"{WHERE}.services.{service}: expected a service at {path}: {error}; /IWFND/MAINT_SERVICE lists and "
            "activates them"
        ) from error
    return entity_sets(service, path, document)


class SapODataSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """Entity sets as a Bytewax source."""

    def __init__(
        self,
        config: SapODataConfig,
        context: SourceContext,
        wanted: Mapping[str, tuple[EntitySet, Table, TableBinding]],
        *,
        until_end: bool,
    ) -> None:
        self._config, self._context, self._wanted, self._until_end = config, context, wanted, until_end

    def list_parts(self) -> list[str]:
        """The entity sets' names."""
        return sorted(self._wanted)

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """A partition that goes on where `resume_state` says."""
        entity, table, binding = self._wanted[for_part]
        # shared by the readers of the partition: what the server asked to wait for outlives one of them
        gateway, pace = Gateway(self._config, WHERE), Pace(self._config.guardian)

        def open_reader(state: tuple[Any, ...]) -> ODataReader:
            try:
                return ODataReader(
                    gateway, self._config, entity, table, binding, state, pace=pace, flow=self._context.flow,
                    until_end=self._until_end,
                )  # fmt: skip
            except HeadraceError as error:  # in a cluster Bytewax loses the exception's text
                _log.error("source failed", partition=for_part, error=str(error))
                raise

        return BackgroundPartition(
            self._context.partition(for_part),
            open_reader,
            resume_state or (),
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
            poll_s=min(_POLL_S_MAX, self._config.poll_s),
            beat_s=1.0 if for_part in self._context.beating else 0.0,
        )
