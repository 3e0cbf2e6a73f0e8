"""Mode trigger_log: triggers write the keys of changed rows into a log; the rows that it names are read as they are.

Numbers of the log are not in the order of commits, so it is read as a heap: whatever is in it is brought, and removed
once that is durable. An entry that comes twice brings a row twice, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.background import Piece
from connectors.base.items import Item
from connectors.base.rows import change_batch
from connectors.oracle import sql
from connectors.oracle.catalog import WantedTable
from connectors.oracle.polling import PollingReader, arrow_fields
from connectors.oracle.rows import exact
from connectors.oracle.snapshot import row_items
from connectors.oracle.state import unpacked
from connectors.oracle.types import converted
from libcore.change import Op
from libcore.errors import ConfigurationError

_ENTRIES = 4_000


class TriggerLogReader(PollingReader):
    """Follows the logs that triggers keep."""

    _owner = ""
    _durable_rows = 0

    def begin(self) -> None:
        """The logs must be there: what they hold from now on is brought after the snapshot."""
        self._taken: dict[str, dict[int, int]] = {name: {} for name in self.tables}  # entry -> rows brought with it
        self._owner = str(self.session.one(sql.OWN_NAME)[0])
        for wanted in self.tables.values():
            found = wanted.found
            try:
                self.session.all(sql.log_entries(self._owner, found.object_id), entries_max=1)
            except ConfigurationError as error:
                keys = [(name, found.by_name[name].declared) for name in wanted.table.key]
                made = sql.log_statements(self._owner, found.owner, found.name, found.object_id, keys)
                raise ConfigurationError(
                    f"source.oracle.mode: expected the log of table {wanted.table.name}, found none; once, as its "
                    f"owner: {'; '.join(made)}"
                ) from error

    def durable(self, state: tuple[Any, ...]) -> None:
        """See PieceReader.durable."""
        super().durable(state)
        self._durable_rows = unpacked(state).rows

    def changed(self, wanted: WantedTable) -> Iterator[Piece]:
        """Rows that the log names, and deletes of those that are gone."""
        taken, number = self._taken[wanted.table.name], wanted.found.object_id
        done = [entry for entry, rows in taken.items() if rows <= self._durable_rows]
        if done:
            self.session.run_many(sql.log_delete(self._owner, number), [{"seq": entry} for entry in done])
            for entry in done:
                del taken[entry]
        text, most = sql.log_entries(self._owner, number), len(taken) + _ENTRIES
        new = [int(seq) for (seq,) in self.session.all(text, entries_max=most) if int(seq) not in taken]
        if not new:
            return
        yield from self._named(wanted, min(new), max(new))
        taken |= dict.fromkeys(new, self.state.rows)

    def _named(self, wanted: WantedTable, first: int, last: int) -> Iterator[Piece]:
        """The rows behind entries first..last, as one statement sees them."""
        names = [column.name for column in wanted.table.columns]
        keys = [wanted.readings[names.index(name)] for name in wanted.table.key]
        text = sql.log_rows(
            self._owner,
            wanted.found.object_id,
            wanted.found.owner,
            wanted.found.name,
            [one.expression for one in wanted.readings],
            [(name, one.expression) for name, one in zip(wanted.table.key, keys, strict=True)],
        )
        fields = [(f"L{index}", one.arrow) for index, one in enumerate(keys)]
        schema = pa.schema([*fields, ("FOUND", pa.int8()), *arrow_fields(wanted)])
        binds = {"first": first, "last": last}
        for batch in self.session.arrow(text, schema, binds, self.config.batch_rows_max):
            if len(batch):
                yield self._piece(wanted, batch)

    def _piece(self, wanted: WantedTable, batch: pa.RecordBatch) -> Piece:
        width, commit = len(wanted.table.key), self.state.rows + 1
        here = pc.equal(batch.column(width), pa.scalar(1, pa.int8()))
        there = batch.filter(here).select([f"C{index}" for index in range(len(wanted.readings))])
        items: list[Item] = []
        if len(there):
            rows = exact(wanted, there, 0)
            items += row_items(wanted, rows, Op.UPSERT, commit=commit, first=0, flow=self.flow)
        gone = batch.filter(pc.invert(here))
        if len(gone):
            columns = _deleted(wanted, gone)
            items.append(
                change_batch(
                    wanted.table, columns, Op.DELETE, generation=wanted.generation, commit=commit, first=len(there)
                )
            )
        return self.piece(items, len(batch))


def _deleted(wanted: WantedTable, gone: pa.RecordBatch) -> list[pa.Array]:
    """The columns of deletes: the keys, and NULL."""
    columns = []
    for column, reading in zip(wanted.table.columns, wanted.readings, strict=True):
        if column.name in wanted.table.key:
            found = gone.column(f"L{wanted.table.key.index(column.name)}")
            columns.append(converted(found, reading, column)[0])
        else:
            columns.append(pa.nulls(len(gone), column.type.arrow))
    return columns
