"""Committed rows of LogMiner -> batches of changes: one call of the redo parser a table, for all transactions at once.

A row whose value does not stand in the redo (most LOBs, an XML document, a long string, an unsupported one) is read
again by its key or ROWID, as it was at the last of the commits, and follows as an upsert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.base.items import Item
from connectors.base.metrics import BATCHES, EVENTS
from connectors.base.rows import Refused, refused_rows
from connectors.oracle.catalog import WantedTable
from connectors.oracle.large import key_texts, keys_of_touched
from connectors.oracle.lobs import LARGE, GoesOn, put_together
from connectors.oracle.rows import positions_of
from connectors.oracle.taken import taken_keys
from connectors.oracle.transactions import Commit, Committed
from libcore.change import UNSET, ChangeBatch, arrow_schema
from libcore.redo import Redo, parse_redo

_INSERT, _DELETE, _UPDATE, _UNSUPPORTED = 1, 2, 3, 255
_DML = pa.array([_INSERT, _DELETE, _UPDATE], pa.int16())
_NOT_STATED = "OBJ#"
_log = structlog.get_logger()


@dataclass(frozen=True)
class Untold:
    """Changes of a table of which LogMiner tells no more than the ROWIDs.

    Args:
        ids: the ROWIDs. first: those of them that the first of the transactions changed (did not insert), or another
            one of that SCN. later: those that later ones changed.
        written: the table's columns of what other statements of the transactions wrote at these ROWIDs.
    """

    wanted: WantedTable
    ids: list[str]
    first: list[str]
    later: list[str]
    written: list[pa.Array]


@dataclass
class Decoded:
    """What some transactions did.

    Args:
        items: batches and dead letters. reread: (table, keys as texts) whose rows are to be read again.
        untold: rows to be read again by their ROWIDs. anew: tables that must be read anew as a whole.
    """

    items: list[Item] = field(default_factory=list)
    reread: list[tuple[WantedTable, list[tuple[str, ...]]]] = field(default_factory=list)
    untold: list[Untold] = field(default_factory=list)
    anew: dict[str, None] = field(default_factory=dict)


class Changes:
    """Decodes rows of some tables.

    Args:
        tables: by (owner, name); replaced by `know` where a table gets another shape.
        floors: table -> SCN up to which its commits are passed over.
        offset_s: of the server's clock from UTC.
        trusts_lobs: whether LOBs are put together from their writes, where all of them are there.
        resumed: the transaction of which a part was given out before a restart.
    """

    def __init__(
        self,
        tables: Mapping[tuple[str, str], WantedTable],
        floors: Mapping[str, int],
        *,
        flow: str,
        offset_s: int,
        trusts_lobs: bool,
        resumed: bytes | None,
    ) -> None:
        self._tables, self.floors, self._flow, self._offset_s = dict(tables), dict(floors), flow, offset_s
        self._trusts_lobs, self._resumed = trusts_lobs, resumed
        # by table, the transaction whose last rows were writes of a LOB, and the one with writes of an unknown row
        self._writing: dict[str, tuple[bytes, GoesOn]] = {}
        self._lost: dict[str, bytes] = {}
        self._moved: dict[str, bytes] = {}  # by table, the last transaction in a given part of which a row's key moved
        self._given: bytes | None = None  # the transaction of which the call before gave out a part

    def know(self, wanted: WantedTable) -> None:
        """From here on the table has that shape."""
        self._tables[wanted.found.owner, wanted.found.name] = wanted

    def decoded(self, committed: Committed) -> Decoded:
        """The changes of transactions, in their order."""
        out = Decoded()
        if len(committed.rows):
            self._decode(committed, out)
        self._given = None if committed.ended else committed.commits[-1].xid
        if self._lost or self._resumed is not None:
            self._end({one.xid: one.scn for one in committed.commits[: None if committed.ended else -1]}, out)
        return out

    def _end(self, scns: Mapping[bytes, int], out: Decoded) -> None:
        """These transactions are over; by their XIDs the SCNs of the commits."""
        self._resumed = None if self._resumed in scns else self._resumed
        for name in [name for name, xid in self._lost.items() if xid in scns]:
            if scns[self._lost.pop(name)] > self.floors.get(name, 0):  # it changed no row that could be the LOB's
                out.anew[name] = None

    def _decode(self, committed: Committed, out: Decoded) -> None:
        owners, tables = committed.rows.column("SEG_OWNER"), committed.rows.column("TABLE_NAME")
        named = pc.binary_join_element_wise(owners, tables, "\n")
        encoded = pc.dictionary_encode(pc.fill_null(named, ""))
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            owner, _, table = name.partition("\n")
            mine = committed
            if len(encoded.dictionary) > 1:
                mine = _picked(committed, pc.equal(encoded.indices, pa.scalar(code, encoded.indices.type)))
            if table.startswith(_NOT_STATED):
                self._not_stated(mine, out)
            elif (wanted := self._tables.get((owner, table))) is not None:
                self._of_table(wanted, mine, out)

    def _of_table(self, wanted: WantedTable, committed: Committed, out: Decoded) -> None:
        floor = self.floors.get(wanted.table.name, 0)
        if floor and any(one.scn <= floor for one in committed.commits):
            later = pa.array([one.scn > floor for one in committed.commits])
            committed = _picked(committed, later.take(committed.numbers))
            if not len(committed.rows):
                return
        committed, lost = self._without_large(wanted, committed, out)
        codes, status = committed.rows.column("OPERATION_CODE"), committed.rows.column("STATUS")
        stated = pc.and_(pc.is_in(codes, value_set=_DML), pc.equal(status, pa.scalar(0, pa.int32())))
        untold, redo = None, None
        if pc.any(pc.invert(stated)).as_py():
            untold, committed = _picked(committed, pc.invert(stated)), _picked(committed, stated)
        if len(committed.rows):
            redo = self._statements(wanted, committed, lost, out)
        elif lost:
            self._lost_rows(wanted, committed, lost, None, out)
        if untold is not None:
            self._untold(wanted, untold, committed, redo, out)

    def _without_large(
        self, wanted: WantedTable, committed: Committed, out: Decoded
    ) -> tuple[Committed, frozenset[int]]:
        """The rows without those of large values; which transactions wrote LOBs of rows that nothing names."""
        name, first, last = wanted.table.name, committed.commits[0].xid, committed.commits[-1].xid
        writing, open_end = self._writing.pop(name, (b"", ""))
        goes_on = open_end if writing == first else ""
        lost = frozenset([0] if first in (self._lost.pop(name, None), self._resumed) and wanted.has_large else [])
        is_large = pc.is_in(committed.rows.column("OPERATION_CODE"), value_set=LARGE)
        if goes_on != "doubtful" and not pc.any(is_large).as_py():
            return committed, lost
        found = put_together(wanted, committed, trusts=self._trusts_lobs, goes_on=goes_on)
        self._touched(wanted, found.touched, out)
        if found.goes_on:
            self._writing[name] = (last, found.goes_on)
        return found.committed, lost | found.lost

    def _lost_rows(
        self, wanted: WantedTable, committed: Committed, lost: frozenset[int], redo: Redo | None, out: Decoded
    ) -> None:
        """LOBs were written, and no row tells of which row: it is one of those that the transaction changed."""
        numbers = pa.array([], pa.int64()) if redo is None else committed.numbers.take(redo.rows)
        unknown = lost - set(numbers.to_pylist())
        last = len(committed.commits) - 1
        if not committed.ended and last in lost:
            self._lost[wanted.table.name] = committed.commits[-1].xid
            unknown -= {last}
        if unknown or not wanted.key_forms:
            _log.warning("a LOB was written, and of which row is not told: all are read anew", table=wanted.table.name)
            out.anew[wanted.table.name] = None
        elif redo is not None:
            mine = pc.is_in(numbers, value_set=pa.array(sorted(lost), pa.int64()))
            out.reread.append((wanted, key_texts(wanted, redo.record.filter(mine))))

    def _untold(
        self, wanted: WantedTable, untold: Committed, stated: Committed, redo: Redo | None, out: Decoded
    ) -> None:
        """Rows without a statement, beside those with one and what these did."""
        first = untold.commits[0].xid
        goes_on = first == self._resumed or (first == self._given and first == self._moved.get(wanted.table.name))
        if goes_on and untold.numbers[0].as_py() == 0:
            out.anew[wanted.table.name] = None  # a part that was given out may have moved one of them to a key
        written: list[pa.Array] = []
        if redo is not None and len(redo.record):
            at = stated.rows.column("ROW_ID").take(redo.rows)
            mine = pc.and_(pc.invert(redo.before), pc.is_in(at, value_set=untold.rows.column("ROW_ID")))
            written = redo.record.filter(mine).columns[: len(wanted.table.columns)]
        _unsupported(wanted, untold, written, out)

    def _statements(self, wanted: WantedTable, committed: Committed, lost: frozenset[int], out: Decoded) -> Redo:
        pieces = [committed.rows.column("SQL_REDO"), committed.rows.column("CSF")]
        redo = parse_redo(wanted.plan, pa.RecordBatch.from_arrays(pieces, names=["statement", "csf"]))
        if len(redo.record):
            out.items.append(self._batch(wanted, committed, redo))
            _look_again(wanted, redo, out)
            self._taken(wanted, committed, redo, out)
        if lost:
            self._lost_rows(wanted, committed, lost, redo, out)
        if redo.errors:
            out.items.append(self._refused(wanted, committed, redo))
        if not committed.ended and pc.any(redo.before).as_py():
            self._moved[wanted.table.name] = committed.commits[-1].xid
        return redo

    def _taken(self, wanted: WantedTable, committed: Committed, redo: Redo, out: Decoded) -> None:
        """Keys that a row of the transaction may have taken before another one left them."""
        continued = committed.commits[0].xid in (self._given, self._resumed)
        places = taken_keys(wanted, committed, redo, continued=continued)
        if len(places):
            _read_again(wanted, redo.record.take(places), out)

    def _batch(self, wanted: WantedTable, committed: Committed, redo: Redo) -> ChangeBatch:
        numbers = committed.numbers.take(redo.rows)
        scns = pa.array([one.scn for one in committed.commits], pa.int64()).take(numbers)
        times = pa.array([self._unix_us(one) for one in committed.commits], pa.timestamp("us", tz="UTC")).take(numbers)
        # the old row of a key that moves stands before its new one
        orders = pc.add(pc.shift_left(committed.orders.take(redo.rows), 1), pc.invert(redo.before).cast(pa.int64()))
        table, has_unset = wanted.table, UNSET in redo.record.schema.names
        columns = [*redo.record.columns[: len(table.columns) + 1], positions_of(wanted.generation, scns, orders), times]
        if has_unset:
            columns.append(redo.record.column(UNSET))
        BATCHES.labels(table.name).inc()
        EVENTS.labels(table.name).inc(len(redo.record))
        return ChangeBatch(table, pa.RecordBatch.from_arrays(columns, schema=arrow_schema(table, has_unset)))

    def _unix_us(self, commit: Commit) -> int | None:
        return None if commit.at is None else (commit.at - self._offset_s) * 1_000_000

    def _refused(self, wanted: WantedTable, committed: Committed, redo: Redo) -> ChangeBatch:
        name, statements = wanted.table.name, committed.rows.column("SQL_REDO")
        refused = []
        for error in redo.errors:
            commit = committed.commits[committed.numbers[error.row].as_py()]
            text = f"table {name}: {error.text} (transaction {commit.xid.hex()}, SCN {commit.scn})"
            raw = (statements[error.row].as_py() or "").encode()
            refused.append(Refused(name, commit.scn, text, raw, None, error.byte_position))
        scn = committed.commits[-1].scn
        first = committed.orders[redo.errors[0].row].as_py()
        return refused_rows(
            refused, flow=self._flow, table=name, generation=wanted.generation, commit=scn, first=2 * first
        )

    def _touched(self, wanted: WantedTable, rows: pa.RecordBatch, out: Decoded) -> None:
        if not len(rows):
            return
        keys = keys_of_touched(wanted, rows) if wanted.key_forms else None
        if keys is None:
            _log.warning("a table with large values and no key that can be bound is read anew", table=wanted.table.name)
            out.anew[wanted.table.name] = None
        else:
            out.reread.append((wanted, keys))

    def _not_stated(self, committed: Committed, out: Decoded) -> None:
        """Rows that LogMiner told by number alone: it has forgotten how the table was before a DDL."""
        by_number = {wanted.found.object_id: wanted for wanted in self._tables.values()}
        numbers = committed.rows.column("DATA_OBJ#")
        for number in pc.unique(numbers).to_pylist():
            if (wanted := by_number.get(number)) is not None:
                later = pa.array([one.scn > self.floors.get(wanted.table.name, 0) for one in committed.commits])
                mine = _picked(committed, pc.and_(pc.equal(numbers, number), later.take(committed.numbers)))
                large = pc.is_in(mine.rows.column("OPERATION_CODE"), value_set=LARGE)
                if pc.any(large).as_py():  # whose it is, is told by numbers, too
                    out.anew[wanted.table.name] = None
                _unsupported(wanted, _picked(mine, pc.invert(large)), [], out)


def _picked(committed: Committed, mask: pa.BooleanArray) -> Committed:
    return replace(
        committed,
        rows=committed.rows.filter(mask),
        numbers=committed.numbers.filter(mask),
        orders=committed.orders.filter(mask),
    )


def _unsupported(wanted: WantedTable, untold: Committed, written: list[pa.Array], out: Decoded) -> None:
    """Rows without a statement: what their ROWIDs hold is read again; without a key, the whole table."""
    rows = untold.rows
    if not len(rows):
        return
    _log.warning(
        "LogMiner cannot tell some changes: their rows are read again",
        table=wanted.table.name,
        rows=len(rows),
        info=rows.column("SQL_REDO")[0].as_py(),
    )
    if not wanted.key_forms:
        out.anew[wanted.table.name] = None
    else:
        ids = rows.column("ROW_ID")
        changed = pc.is_in(rows.column("OPERATION_CODE"), value_set=pa.array([_DELETE, _UPDATE], pa.int16()))
        begin = min(one.scn for one in untold.commits)
        is_first = pa.array([one.scn == begin for one in untold.commits]).take(untold.numbers)
        masks = [pc.and_(changed, is_first), pc.and_(changed, pc.invert(is_first))]
        first, later = (pc.unique(ids.filter(mask)).to_pylist() for mask in masks)
        out.untold.append(Untold(wanted, pc.unique(ids).to_pylist(), first, later, written))


def _look_again(wanted: WantedTable, redo: Redo, out: Decoded) -> None:
    """Rows that lack a value which their statement does not say, or which moved to another key without it."""
    if UNSET not in redo.record.schema.names or not wanted.table.key:
        return
    lacking = pc.not_equal(redo.record.column(UNSET), pa.scalar(bytes(redo.record.column(UNSET).type.byte_width)))
    moved = pc.equal(pc.pairwise_diff(redo.rows), 0)
    places = pc.and_(lacking, pc.or_(redo.unavailable, pc.fill_null(moved, False)))
    if pc.any(places).as_py():
        _read_again(wanted, redo.record.filter(places), out)


def _read_again(wanted: WantedTable, record: pa.RecordBatch, out: Decoded) -> None:
    """What the table holds under the keys of rows; all of it where a key cannot be asked for."""
    if wanted.key_forms:
        out.reread.append((wanted, key_texts(wanted, record)))
    else:
        out.anew[wanted.table.name] = None
