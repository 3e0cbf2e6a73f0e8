"""Mode timestamp: rows whose time column is later than what was read. Deletes are not seen.

A transaction sets the column before it commits, and two may set the same time, so each look goes back by an overlap;
rows of it that were brought as they are already are left out. How far was read never lies ahead of the database's own
clock: a row that is dated into the future would hide all that come behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.background import Piece
from connectors.oracle import sql
from connectors.oracle.asked import AskedRows
from connectors.oracle.catalog import WantedTable
from connectors.oracle.polling import PollingReader, arrow_fields
from connectors.oracle.rows import exact
from connectors.oracle.snapshot import row_items
from libcore.change import Op
from libcore.digest import digest_rows
from libcore.errors import ConfigurationError

_FIRST = "0001-01-01 00:00:00"
_NONE = pa.table({"time": pa.array([], pa.utf8()), "digest": pa.array([], pa.binary())})


class TimestampReader(PollingReader):
    """Follows a time column."""

    def begin(self) -> None:
        """The tables must have the column; where it stands now is where the follower begins."""
        self._brought: dict[str, pa.Table] = {}  # times and digests of the rows within the overlap
        if not self.config.timestamp_column:
            raise ConfigurationError('source.oracle.timestamp_column: expected a column beside mode = "timestamp"')
        marks = dict(self.state.marks)
        for name, wanted in self.tables.items():
            form, _ = self._forms(wanted)
            if name not in marks:
                text = sql.newest(wanted.found.owner, wanted.found.name, self.config.timestamp_column, form)
                newest = self.session.one(text)[0]
                marks[name] = _FIRST if newest is None else min(newest.strip(), self._now())
        self.state = replace(self.state, marks=tuple(sorted(marks.items())))

    def again(self, asked: AskedRows) -> Iterator[Piece]:
        """The next rows that a person asked for; they say no more what was brought last."""
        for piece in super().again(asked):
            self._brought.clear()
            yield piece

    def _forms(self, wanted: WantedTable) -> tuple[str, str]:
        """How the column's text is asked for, and how that text goes back."""
        column = wanted.found.by_name.get(self.config.timestamp_column)
        kind = "none" if column is None else column.data_type
        if kind == "DATE":
            return sql.DATE, sql.KEY_DATE
        if not kind.startswith("TIMESTAMP") or "ZONE" in kind:
            raise ConfigurationError(
                f"source.oracle.timestamp_column: table {wanted.table.name}: expected a DATE or TIMESTAMP column "
                f"{self.config.timestamp_column}, found {kind}"
            )
        return sql.TIMESTAMP, sql.KEY_TIMESTAMP

    def _now(self) -> str:
        return str(self.session.one(sql.NOW)[0]).strip()

    def changed(self, wanted: WantedTable) -> Iterator[Piece]:
        """Rows set since, and those of the overlap that were not brought as they are."""
        name, (form, bind) = wanted.table.name, self._forms(wanted)
        before, now = dict(self.state.marks)[name], self._now()
        mark, met = before, [_NONE]
        for times, batch in self._since(wanted, form, bind, before):
            digests = digest_rows(batch).cast(pa.binary())
            met.append(pa.table({"time": times, "digest": digests}))
            known = self._brought.get(name, _NONE).column("digest").combine_chunks()
            new = batch.filter(pc.invert(pc.is_in(digests, value_set=known)))
            mark = max(mark, min(now, pc.max(times).as_py()))
            if len(new):
                rows, commit = exact(wanted, new, 0), self.state.rows + 1
                yield self.piece(row_items(wanted, rows, Op.UPSERT, commit=commit, first=0, flow=self.flow), len(new))
        found = pa.concat_tables(met)
        kept = pc.greater_equal(found.column("time"), _earlier(mark, self.config.timestamp_overlap_s, form))
        self._brought[name] = found.filter(kept)
        if mark != before:
            self.state = replace(self.state, marks=tuple(sorted({**dict(self.state.marks), name: mark}.items())))
            yield self.piece([], 0)

    def _since(
        self, wanted: WantedTable, form: str, bind: str, mark: str
    ) -> Iterator[tuple[pa.StringArray, pa.RecordBatch]]:
        """Times and rows from the overlap before a mark on."""
        column, width = sql.quote(self.config.timestamp_column), len(wanted.readings)
        expressions = [*(one.expression for one in wanted.readings), form.format(column=column)]
        where = f"{sql.PLAIN.format(column=column)} >= {bind.format(bind='k0')}"
        text = sql.rows(wanted.found.owner, wanted.found.name, expressions, scn=False, where=where)
        schema = pa.schema([*arrow_fields(wanted), (f"C{width}", pa.utf8())])
        binds = {"k0": _earlier(mark, self.config.timestamp_overlap_s, form)}
        for batch in self.session.arrow(text, schema, binds, self.config.batch_rows_max):
            if len(batch):
                yield pc.utf8_trim_whitespace(batch.column(width)), batch.select(list(range(width)))


def _earlier(mark: str, seconds: float, form: str) -> str:
    """A time that lies so far before a mark, or the first that there is, as the form writes it."""
    moment = datetime.min if mark.startswith("-") else datetime.fromisoformat(mark[:26])
    if moment - datetime.min < timedelta(days=366, seconds=seconds):
        moment = datetime.min
    else:
        moment -= timedelta(seconds=seconds)
    return moment.isoformat(" ", "seconds" if form == sql.DATE else "microseconds")
