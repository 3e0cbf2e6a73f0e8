"""Received IDocs -> rows of their segments' tables, as pieces of a flow, in the order of their arrival.

State: (1, seq): the newest IDoc of the spool that was read. One that was read and is not durable yet is read again
after a crash: its rows have the same keys. Once durable, its sender is told by an audit IDoc (where one is wanted), and
then its body goes. Told twice is possible (a crash between the two), told never is not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.base.background import Piece
from connectors.base.items import Item
from connectors.base.rows import Refused, change_batch, refused_rows
from connectors.sap.idoc_config import SapIdocConfig
from connectors.sap.idoc_listener import Listener
from connectors.sap.idoc_spool import Spool, Waiting
from connectors.sap.idoc_status import StatusSender
from libcore.change import ChangeBatch, Op
from libcore.errors import ConfigurationError, FatalError
from libcore.idoc import CONTROL, IdocPlan, read_idoc_flat, read_idoc_xml
from libcore.schema import Table

STATE_VERSION = 1
FIRST: tuple[Any, ...] = (STATE_VERSION, 0)
_IDOCS_AT_ONCE, _BYTES_AT_ONCE = 500, 8 << 20
_log = structlog.get_logger()


@dataclass
class _Parsed:
    """Rows by segment, each with its IDoc's place in the batch, and what was refused: (IDoc, why)."""

    kinds: dict[str, list[tuple[pa.RecordBatch, pa.Array]]] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def add(self, name: str, record: pa.RecordBatch, places: pa.Array) -> None:
        if record.num_rows:
            self.kinds.setdefault(name, []).append((record, places))


class IdocReader:
    """Reads a spool from a state on; see connectors.base.background.PieceReader.

    Args:
        tables: the tables that the pipeline wants, by segment, as it wants them.
        generations: of each table. flow: for dead letters.
    """

    def __init__(
        self,
        config: SapIdocConfig,
        directory: Path,
        tables: dict[str, Table],
        generations: dict[str, int],
        state: tuple[Any, ...],
        *,
        flow: str,
        until_end: bool,
    ) -> None:
        if len(state) != len(FIRST) or state[0] != STATE_VERSION:
            raise ConfigurationError(
                f"source.sap_idoc: expected recovery state of version {STATE_VERSION}, found {state[:1]}: it was "
                "written by another version of headrace"
            )
        self._config, self._tables, self._generations = config, tables, generations
        self._flow, self._until_end, self._seq = flow, until_end, int(state[1])
        self._plan, self._durable, self._settled = config.plan, 0, 0
        self._spool = Spool(directory, bytes_max=config.spool_bytes_max, kept=config.docnums_kept)
        if (last := self._spool.last) < self._seq:
            self._spool.close()
            raise FatalError(
                f"source.sap_idoc.spool: {directory}: expected the spool of which the recovery store has read "
                f"{self._seq} IDocs, found one of {last}: put the former folder back; where it is lost, begin anew "
                "with another state_dir, as nobody knows which IDocs waited in it"
            )
        self._status = None if config.status is None else StatusSender(config.status)
        self._listener = None if until_end else Listener(config, self._spool)

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader.pieces."""
        end = self._spool.last if self._until_end else None
        while end is None or self._seq < end:
            self._settle()
            waiting = self._spool.waiting(self._seq, _IDOCS_AT_ONCE, _BYTES_AT_ONCE)
            if waiting:
                yield from self._read(waiting)
            elif end is not None:
                return
            else:
                yield None

    def durable(self, state: tuple[Any, ...]) -> None:
        """What the sender may be told of next."""
        self._durable = int(state[1])

    def close(self) -> None:
        """See PieceReader.close."""
        if self._listener is not None:
            self._listener.close()
        if self._status is not None:
            self._status.close()
        self._spool.close()

    def _settle(self) -> None:
        """Of what is durable the senders are told, and then the bodies go."""
        up_to = self._durable
        if up_to <= self._settled:
            return
        if self._status is not None:
            up_to = self._status.tell(self._spool.settled(up_to, _IDOCS_AT_ONCE))
        if up_to:
            self._spool.done(up_to)
            self._settled = up_to

    def _read(self, waiting: Sequence[Waiting]) -> Iterator[Piece]:
        parsed = parse(self._plan, waiting)
        objects = self._objects(parsed, waiting)
        gone = self._without_control(parsed, waiting) | self._overtaken(objects, waiting)
        batches, first, commit = [], 0, waiting[0].seq
        for name, table in self._tables.items():
            for record, places in parsed.kinds.get(name, []):
                kept = pc.invert(pc.is_in(places, value_set=pa.array(sorted(gone), pa.int64())))
                columns = _columns(table, record, places, objects)
                columns = [column.filter(kept) for column in columns] if gone else columns
                if not len(columns[0]):
                    continue
                generation = self._generations[name]
                batches.append(
                    change_batch(table, columns, Op.UPSERT, generation=generation, commit=commit, first=first)
                )
                first += len(columns[0])
        letters: list[Item] = []
        if parsed.faults:
            self._spool.refuse([(waiting[place].seq, text) for place, text in parsed.faults])
            refused = [_refused(waiting[place], text) for place, text in parsed.faults]
            letters = [refused_rows(refused, flow=self._flow, table=CONTROL, commit=commit, first=first)]
        yield from self._pieces(batches, letters, waiting[-1])

    def _pieces(self, batches: Sequence[ChangeBatch], letters: list[Item], last: Waiting) -> Iterator[Piece]:
        """The batches, at most an epoch's rows a piece; the state goes on with the last one."""
        before, rows_max = (STATE_VERSION, self._seq), self._config.batch_rows_max
        self._seq = last.seq
        parts = [
            batch.slice(start, min(rows_max, len(batch) - start))
            for batch in batches
            for start in range(0, len(batch), rows_max)
        ]
        held: list[ChangeBatch] = []
        for part in parts:
            if held and sum(map(len, held)) + len(part) > rows_max:
                yield _piece(held, [], before, last.at)
                held = []
            held.append(part)
        yield _piece(held, letters, (STATE_VERSION, self._seq), last.at)

    def _objects(self, parsed: _Parsed, waiting: Sequence[Waiting]) -> list[str | None]:
        """Each IDoc's business object; None where none is told."""
        found: list[str | None] = [None] * len(waiting)
        if self._config.object is not None:
            segment, _, name = self._config.object.partition(".")
            for record, places in parsed.kinds.get(segment, []):
                for place, value in zip(places.to_pylist(), record.column(name).to_pylist(), strict=True):
                    found[place] = str(value) if found[place] is None and value is not None else found[place]
        return found

    def _overtaken(self, objects: Sequence[str | None], waiting: Sequence[Waiting]) -> set[int]:
        """IDocs whose object has a newer one already."""
        told = [(place, name) for place, name in enumerate(objects) if name is not None]
        asked = [(name, waiting[place].seq, waiting[place].order) for place, name in told]
        older = self._spool.overtaken(asked) if told else []
        found = {place for (place, _), late in zip(told, older, strict=True) if late}
        if found:
            _log.info("overtaken IDocs change nothing", docnums=[waiting[place].docnum for place in sorted(found)][:20])
        return found

    def _without_control(self, parsed: _Parsed, waiting: Sequence[Waiting]) -> set[int]:
        """Documents that are no IDoc, or have no number: none of their segments is kept."""
        known = {place for _, places in parsed.kinds.get(CONTROL, []) for place in places.to_pylist()}
        faulty = {place for place, _ in parsed.faults}
        found = {place for place, one in enumerate(waiting) if place not in known or not one.docnum}
        parsed.faults += [
            (place, f"expected an IDoc with a control record {CONTROL} and a DOCNUM, found none")
            for place in sorted(found - faulty)
        ]
        return found


def parse(plan: IdocPlan, waiting: Sequence[Waiting]) -> _Parsed:
    """The segments of some IDocs; what cannot be read is told by the IDoc's place."""
    parsed = _Parsed()
    trees = [place for place, one in enumerate(waiting) if one.form == "xml"]
    if trees:
        read = read_idoc_xml(plan, pa.array([waiting[place].body for place in trees], pa.binary()))
        of_tree = pa.array(trees, pa.int64())
        for name, kind in read.kinds.items():
            parsed.add(name, kind.record, of_tree.take(kind.lines))
        parsed.faults += [(trees[error.line], error.text) for error in read.errors]
    for place, one in enumerate(waiting):
        if one.form == "flat":
            if (text := _broken(plan, one.body)) is not None:
                parsed.faults.append((place, text))
                continue
            fixed = read_idoc_flat(plan, one.body, final=True)
            for name, kind in fixed.kinds.items():
                parsed.add(name, kind.record, pa.repeat(pa.scalar(place, pa.int64()), kind.record.num_rows))
            parsed.faults += [(place, error.text) for error in fixed.errors]
    return parsed


_LINE = rb"EDI_DC40|(?![^\r\n]{0,28} [^ \r\n])[!-~][^\r\n]{29}[^ \r\n]{4}[^\r\n]{15}[0-9 ]{5}[0-9]"
"""How a line of a flat IDoc begins: SEGNAM of 30, MANDT of 3, DOCNUM of 16, SEGNUM, a number of 6."""
_IS_LINE = re.compile(_LINE)
_STRAY = re.compile(rb"(?:\A|\r\n?|\n)(?!" + _LINE + rb"|[\r\n]|\Z)")


def _broken(plan: IdocPlan, body: bytes) -> str | None:
    """Why no segment of a flat IDoc can be kept: a line end inside of one that is wanted, whose rest would be lost."""
    if _STRAY.search(body) is None:
        return None
    names = {CONTROL.encode(), *(segment.definition.encode() for segment in plan.segments)}
    last = CONTROL.encode()
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", body), 1):
        if _IS_LINE.match(line):
            last = CONTROL.encode() if line.startswith(CONTROL.encode()) else line[:30].rstrip(b" ")
        elif line.strip(b" \x1a") and last in names:
            return (
                f"line {number}: expected {CONTROL} or a segment's name, client and number, found "
                f"{line[:40].decode('utf-8', 'backslashreplace')!r}: a line end inside of {last.decode()}?"
            )
    return None


def _columns(table: Table, record: pa.RecordBatch, places: pa.Array, objects: list[str | None]) -> list[pa.Array]:
    """The table's columns: of the segment, and its IDoc's object."""
    names = set(record.schema.names)
    of_objects = pa.array(objects, pa.utf8())
    return [
        (record.column(column.name) if column.name in names else of_objects.take(places)).cast(column.type.arrow)
        for column in table.columns
    ]


def _refused(one: Waiting, text: str) -> Refused:
    return Refused(f"IDoc {one.docnum or 'without a number'}", one.seq, text, one.body)


def _piece(batches: Sequence[ChangeBatch], letters: list[Item], state: tuple[Any, ...], at: float) -> Piece:
    rows = sum(map(len, batches))
    return Piece(
        [*batches, *letters], rows, state, sum(batch.record.nbytes for batch in batches), at=min(at, time.time())
    )
