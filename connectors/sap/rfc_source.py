"""An SAP system as a source, read by remote function calls: its tables described, and one partition that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition
from connectors.base.database import Finding, SourceContext, SourceTable, TableBinding
from connectors.base.guardian import Pace
from connectors.base.items import Item
from connectors.sap.rfc_bapi import Bapis
from connectors.sap.rfc_config import SapRfcConfig
from connectors.sap.rfc_dictionary import PARTITION, amounts, currency_decimals, describe, names, source_table
from connectors.sap.rfc_doctor import examine
from connectors.sap.rfc_reader import FIRST, Durable, SapRfcReader
from connectors.sap.rfc_rows import WantedTable
from connectors.sap.rfc_session import Session
from connectors.sap.rfc_table import Ability, found
from libcore.errors import ConfigurationError


class SapRfcChanges:
    """The tables of one system and client; see connectors.base.database.ChangeSource."""

    def __init__(self, config: SapRfcConfig, context: SourceContext) -> None:
        self._config, self._context = config, context
        self._session = Session(config)
        self._known: Ability | None = None

    def names(self) -> list[str]:
        """The dictionary's tables and views, or what `names` picks of them."""
        return names(self._session, self._able(), self._config)

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """These tables, by DDIF_FIELDINFO_GET."""
        return [source_table(describe(self._session, self._able(), name)) for name in names]

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding], *, until_end: bool
    ) -> SapRfcSource:
        """See ChangeSource.source. Raises ConfigurationError where a table cannot be followed."""
        wanted = self._wanted(tables, bindings)
        self.close()  # the partition's reader has a session of its own
        for name, one in wanted.items():
            if self._config.signal_of(name) != "none":
                _check_followed(one)
        return SapRfcSource(self._config, self._context, wanted, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding]) -> Iterator[Item]:
        """All rows, a range of keys after the other; no view spans several calls, so nobody should write meanwhile."""
        alone = self._config.model_copy(update={"signal": "none", "signals": {}})
        wanted = self._wanted(tables, bindings)
        reader = SapRfcReader(
            alone, wanted, FIRST, flow=self._context.flow, directory=None, until_end=True,
            pace=Pace(self._config.guardian), durable=Durable(),
        )  # fmt: skip
        with closing(reader):
            yield from (item for piece in reader.pieces() if piece is not None for item in piece.items)

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """The routes that there are, which is best, and what is missing for it."""
        return examine(self._session, self._config, [table.name for table in tables])

    def call(self, function: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """A function of `bapi_allowed`; see Bapis.call."""
        with closing(Bapis(self._config)) as bapis:
            return bapis.call(function, **parameters)

    def close(self) -> None:
        """Log off."""
        self._session.close()

    def _able(self) -> Ability:
        self._known = self._known or found(self._session, self._config.function)
        return self._known

    def _wanted(self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding]) -> dict[str, WantedTable]:
        session, config, able = self._session, self._config, self._able()
        decimals: dict[str, int] | None = None
        wanted = {}
        for one in tables:
            described = describe(session, able, one.name)
            columns = [column.name for column in one.table.columns]
            places = amounts(session, able, described, columns, config.currency)
            if places and decimals is None:
                decimals = currency_decimals(session, able)
            wanted[one.name] = WantedTable(
                one.table, described, places, decimals or {}, config.version.get(one.name, ""), config.initial_null,
                config.alpha == "external", bindings[one.name].generation, config.client, bindings[one.name].whole,
                bindings[one.name].dropped,
            )  # fmt: skip
        return wanted


def _check_followed(wanted: WantedTable) -> None:
    """A delete has the system's key alone."""
    key = {one.name for one in wanted.found.fields if one.key}
    if not wanted.table.key or not set(wanted.table.key) <= key:
        raise ConfigurationError(
            f"source.sap_rfc: table {wanted.table.name}: expected key columns among {sorted(key)}, found "
            f'{list(wanted.table.key) or "none"}: a row that is gone is known by these alone; or use signal = "none"'
        )


class SapRfcSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """A system as a Bytewax source: one partition, as it is read in one session."""

    def __init__(
        self, config: SapRfcConfig, context: SourceContext, wanted: dict[str, WantedTable], *, until_end: bool
    ) -> None:
        self._config, self._context, self._wanted, self._until_end = config, context, wanted, until_end

    def list_parts(self) -> list[str]:
        """One."""
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """The partition, going on where `resume_state` says."""
        open_reader = partial(
            SapRfcReader,
            self._config,
            self._wanted,
            flow=self._context.flow,
            directory=self._context.directory,
            until_end=self._until_end,
            pace=Pace(self._config.guardian),
            durable=Durable(resume_state or FIRST),
        )
        return BackgroundPartition(
            self._context.partition(for_part),
            open_reader,
            resume_state or FIRST,
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
            poll_s=self._config.poll_s,
            beat_s=1.0 if self._context.beating else 0.0,
        )
