"""Received IDocs as tables: the control record's, and one for each segment type that the pipeline file names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog
from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition
from connectors.base.database import Finding, SourceContext, SourceTable
from connectors.base.items import Item
from connectors.sap.http import Gateway, GatewayError
from connectors.sap.idoc_config import SapIdocConfig
from connectors.sap.idoc_reader import FIRST, IdocReader
from connectors.sap.idoc_spool import Spool
from connectors.sap.odata_doctor import NOTE
from libcore.errors import ConfigurationError, HeadraceError
from libcore.schema import Table

PARTITION = "idocs"
_POLL_S = 0.02
_log = structlog.get_logger()


class SapIdocChanges:
    """A place that receives IDocs; see connectors.base.database.ChangeSource."""

    def __init__(self, config: SapIdocConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    def names(self) -> Collection[str]:
        """EDI_DC40 and the segments of the pipeline file."""
        return list(self._config.tables)

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """These tables, as the pipeline file has their columns."""
        tables = self._config.tables
        if missing := [name for name in names if name not in tables]:
            raise ConfigurationError(f"source.sap_idoc.segments: expected {missing[0]!r} among them, found none")
        return [SourceTable(name, tables[name], (), PARTITION) for name in names]

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, Any], *, until_end: bool
    ) -> FixedPartitionedSource[Item, Any]:
        """See ChangeSource.source; until_end: what waits in the spool, without listening.

        Raises ConfigurationError where a table has no key: IDocs that are read again behind a crash would double in it.
        """
        if bare := [one.name for one in tables if not one.table.key]:
            raise ConfigurationError(
                f"source.sap_idoc: expected a key for {bare[0]}, found none: without `key` it is DOCNUM and SEGNUM"
            )
        generations = {one.name: bindings[one.name].generation for one in tables}
        wanted = {one.name: one.table for one in tables}
        return SapIdocSource(self._config, self._context, wanted, generations, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> Iterator[Item]:
        """Never: raises ConfigurationError."""
        raise ConfigurationError("source.sap_idoc: IDocs come once and are not kept: there is nothing to compare with")

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """See ChangeSource.doctor."""
        found = list(self._security())
        if self._context.directory is not None or self._config.spool is not None:
            with closing(_spool(self._config, self._context)) as spool:
                part = spool.bytes_waiting / self._config.spool_bytes_max
                if part > 0.5:
                    found.append(
                        Finding(
                            "warning", "spool", "room for what comes while the target is away",
                            f"{part:.0%} of spool_bytes_max in use", "raise spool_bytes_max, or see to the target",
                        )
                    )  # fmt: skip
        found += self._reached()
        wanted = f"a permitted one: IDocs, OData, RFC table reads; not ODP by RFC (RODPS_REPL_*, {NOTE})"
        found.append(
            Finding("note", "route", wanted, "IDocs by HTTP: changes as SAP's partner profiles (WE20) send them")
        )
        return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.severity))

    def close(self) -> None:
        """Nothing is held between calls."""

    def _security(self) -> Iterator[Finding]:
        if self._config.user is None:
            yield Finding("warning", "login", "user and password, as anybody could post IDocs", "none")
        if self._config.tls_certificate is None and not self._config.listen.startswith("127."):
            yield Finding("warning", "listen", "tls_certificate and tls_key", "http", "or a proxy that speaks https")

    def _reached(self) -> Iterator[Finding]:
        if self._config.status is None:
            yield Finding("note", "status", "a [source.sap_idoc.status] to tell what became of IDocs", "none")
            return
        with closing(Gateway(self._config.status, "source.sap_idoc.status")) as gateway:
            try:
                gateway.get(self._config.status.path, {"Accept": "*/*"})
            except GatewayError:
                return  # it answers, though not to a GET
            except HeadraceError as error:
                yield Finding("error", "status", "a SAP system that answers", str(error))


class SapIdocSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """The spool as a Bytewax source; one partition, as it has one order."""

    def __init__(
        self,
        config: SapIdocConfig,
        context: SourceContext,
        tables: dict[str, Table],
        generations: dict[str, int],
        *,
        until_end: bool,
    ) -> None:
        self._config, self._context, self._tables = config, context, tables
        self._generations, self._until_end = generations, until_end

    def list_parts(self) -> list[str]:
        """One."""
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """The partition, going on where `resume_state` says; it listens from here on."""

        def open_reader(state: tuple[Any, ...]) -> IdocReader:
            try:
                return IdocReader(
                    self._config, _folder(self._config, self._context), self._tables, self._generations, state,
                    flow=self._context.flow, until_end=self._until_end,
                )  # fmt: skip
            except HeadraceError as error:  # in a cluster Bytewax loses the exception's text
                _log.error("source failed", partition=for_part, error=str(error))
                raise

        return BackgroundPartition(
            self._context.partition(for_part),
            open_reader,
            resume_state or FIRST,
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
            poll_s=_POLL_S,
            beat_s=1.0 if self._context.beating else 0.0,
        )


def _folder(config: SapIdocConfig, context: SourceContext) -> Path:
    if config.spool is not None:
        return context.base / config.spool
    if context.directory is None:
        raise ConfigurationError("source.sap_idoc.spool: expected a folder, as this flow has no state directory")
    return context.directory / "idocs"


def _spool(config: SapIdocConfig, context: SourceContext) -> Spool:
    return Spool(_folder(config, context), bytes_max=config.spool_bytes_max, kept=config.docnums_kept)
