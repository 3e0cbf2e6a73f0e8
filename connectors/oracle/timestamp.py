"""Mode timestamp: rows whose time column is later than what was read. Deletes are not seen.

A transaction sets the column before it commits, so each look goes back by an overlap; rows of it that were brought
already are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.background import Piece
from connectors.oracle import sql
from connectors.oracle.catalog import WantedTable
from connectors.oracle.polling import PollingReader, arrow_fields
from connectors.oracle.rows import exact
from connectors.oracle.snapshot import row_items
from connectors.oracle.types import OracleColumn
from libcore.change import Op
from libcore.errors import ConfigurationError

_FIRST = "0001-01-01 00:00:00.000000"
_FORMAT = "%Y-%m-%d %H:%M:%S.%f"


class TimestampReader(PollingReader):
    """Follows a time column."""

    def begin(self) -> None:
        """The tables must have the column; where it stands now is where the follower begins."""
        self._brought: dict[str, pa.Array] = {}  # keys and times of the rows within the overlap
        if not self.config.timestamp_column:
            raise ConfigurationError('source.oracle.timestamp_column: expected a column beside mode = "timestamp"')
        marks = dict(self.state.marks)
        for name, wanted in self.tables.items():
            column = self._column(wanted)
            if name not in marks:
                text = sql.newest(wanted.found.owner, wanted.found.name, column.name, sql.TIMESTAMP)
                marks[name] = _trimmed(self.session.one(text)[0])
        self.state = replace(self.state, marks=tuple(sorted(marks.items())))

    def _column(self, wanted: WantedTable) -> OracleColumn:
        column = wanted.found.by_name.get(self.config.timestamp_column)
        if column is None or not column.data_type.startswith(("DATE", "TIMESTAMP")) or "ZONE" in column.data_type:
            raise ConfigurationError(
                f"source.oracle.timestamp_column: table {wanted.table.name}: expected a DATE or TIMESTAMP column "
                f"{self.config.timestamp_column}, found {'none' if column is None else column.data_type}"
            )
        return column

    def changed(self, wanted: WantedTable) -> Iterator[Piece]:
        """Rows set since, and those of the overlap that were not brought."""
        name, column = wanted.table.name, sql.PLAIN.format(column=sql.quote(self.config.timestamp_column))
        mark = dict(self.state.marks)[name]
        since = _earlier(mark, self.config.timestamp_overlap_s)
        told = [sql.TIMESTAMP.format(column=sql.quote(self.config.timestamp_column))]
        told += [text for text, _ in wanted.key_forms]
        expressions = [*(one.expression for one in wanted.readings), *told]
        where = f"{column} >= {sql.KEY_TIMESTAMP.format(bind='k0')}"
        text = sql.rows(wanted.found.owner, wanted.found.name, expressions, scn=False, where=where)
        width = len(wanted.readings)
        fields = [(f"C{width + index}", pa.utf8()) for index in range(len(told))]
        schema = pa.schema([*arrow_fields(wanted), *fields])
        met: list[pa.Array] = []
        for batch in self.session.arrow(text, schema, {"k0": since}, self.config.batch_rows_max):
            times = pc.utf8_trim_whitespace(batch.column(width))
            marks = pc.binary_join_element_wise(times, *batch.columns[width + 1 :], "\n")
            met.append(marks)
            new = batch.filter(pc.invert(pc.is_in(marks, value_set=self._brought.get(name, pa.array([], pa.utf8())))))
            if len(new):
                rows = exact(wanted, new.select(list(range(width))), 0)
                commit = self.state.rows + 1
                mark = max(mark, pc.max(times).as_py())
                yield self.piece(row_items(wanted, rows, Op.UPSERT, commit=commit, first=0, flow=self.flow), len(new))
        kept = _earlier(mark, self.config.timestamp_overlap_s)
        all_met = pa.concat_arrays(met) if met else pa.array([], pa.utf8())
        self._brought[name] = all_met.filter(pc.greater_equal(all_met, kept))
        if mark != dict(self.state.marks)[name]:
            self.state = replace(self.state, marks=tuple(sorted({**dict(self.state.marks), name: mark}.items())))
            yield self.piece([], 0)


def _trimmed(text: str | None) -> str:
    """A time as `sql.TIMESTAMP` gives it, in the way that the marks are written."""
    return _FIRST if text is None else text.strip()


def _earlier(mark: str, seconds: float) -> str:
    moment = datetime.strptime(mark[:26], _FORMAT)
    if moment - datetime.min < timedelta(days=366, seconds=seconds):
        return _FIRST
    return (moment - timedelta(seconds=seconds)).strftime(_FORMAT)
