"""LogMiner's windows as pieces of a flow: whole transactions, DDL between them, and what has to be read beside."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.base.background import Piece
from connectors.base.items import ClearColumn, Item, Truncate
from connectors.base.metrics import LAG_MS
from connectors.oracle import sql
from connectors.oracle.again import items_again
from connectors.oracle.catalog import WantedTable, describe
from connectors.oracle.changes import Changes
from connectors.oracle.config import OracleConfig
from connectors.oracle.logs import LogLost, logs_of
from connectors.oracle.mining import Mining
from connectors.oracle.session import Session
from connectors.oracle.shapes import reshaped
from connectors.oracle.snapshot import Snapshot, starting_point
from connectors.oracle.state import State
from connectors.oracle.transactions import Commit, Committed, Told, Transactions
from libcore.change import SOURCE_TS, ChangeBatch
from libcore.errors import FatalError

_IDLE_S = 1.0  # how often a position without rows of the pipeline's goes into the recovery store
_QUIET_S = 1.0  # the same where nothing at all was logged
_TRUNCATE = re.compile(r"\s*truncate\s+table\b", re.I)
_SHAPES = re.compile(r"\s*(alter|rename|drop|create)\b", re.I)
_REPLACED = re.compile(r"\s*(drop\s+table\b|rename\b|alter\s+table\b.*\brename\s+to\b)", re.I | re.S)
_PARTITION = re.compile(r"\s*alter\s+table\b.*\b(truncate|drop|exchange)\s+(?:sub)?partition", re.I | re.S)
# rows that were there have values in a column of which no redo tells
_VALUES = re.compile(r"\bdefault\b|\bidentity\b|\brename\s+column\b|\bvisible\b", re.I)
_DROPS = re.compile(r"\b(?:drop|set\s+unused)\s*(?:\(|column\b)(.*)", re.I | re.S)
_NAMED = re.compile(r'"([^"]+)"|([\w$#]+)')
_log = structlog.get_logger()


class Stream:
    """Pieces of the redo from a state on; used by one thread.

    Args:
        tables: by what they are called; a changed shape replaces one. bindings: what the pipeline file says of them.
        catalog: a session where the tables are. mining: one that may use LogMiner.
        directory: for large open transactions.
        snapshot: reads what a state lacks. asked: the next chunk of what a person asked for, behind an SCN.
        until_end: end behind what is there at the start.
    """

    def __init__(
        self,
        config: OracleConfig,
        tables: Mapping[str, WantedTable],
        bindings: Mapping[str, Any],
        state: State,
        *,
        catalog: Session,
        mining: Session,
        directory: Path,
        flow: str,
        snapshot: Callable[[Mapping[str, WantedTable], State], Snapshot],
        asked: Callable[[Mapping[str, WantedTable], State, int], Iterator[tuple[State, Piece]]],
        until_end: bool,
    ) -> None:
        self._config, self._tables, self._bindings = config, dict(tables), bindings
        self._catalog, self._session, self._directory = catalog, mining, directory
        self._flow, self._snapshot, self._asked, self._until_end = flow, snapshot, asked, until_end
        self.state = state
        self._changes: Changes | None = None
        self._mining: Mining | None = None
        self._transactions: Transactions | None = None
        self._idle_at = 0.0
        self._lag_ms = LAG_MS.labels("oracle", "0")

    def pieces(self) -> Iterator[Piece | None]:
        """Pieces; None where nothing came."""
        yield from self._read_beside()
        while True:
            try:
                yield from self._mined()
                return
            except LogLost as error:
                yield from self._lost(str(error))
                yield from self._read_beside()

    def close(self) -> None:
        """End LogMiner and remove what is on disk."""
        if self._mining is not None:
            self._mining.close()
        if self._transactions is not None:
            self._transactions.close()

    # -- windows

    def _mined(self) -> Iterator[Piece | None]:
        named = {(one.found.owner, one.found.name): one for one in self._tables.values()}
        offset_s = _seconds(str(self._session.one(sql.SERVER_OFFSET)[0]))
        changes = self._changes = Changes(
            named,
            dict(self.state.floors),
            flow=self._flow,
            offset_s=offset_s,
            trusts_lobs=self._config.mode == "logminer",
            resumed=None if self.state.part is None else self.state.part[0],
        )
        mining = self._mining = Mining(self._session, self._config, self.state.resume_scn)
        transactions = self._transactions = Transactions(
            self._directory,
            self._config.transaction_bytes_max,
            lambda commit: self.state.given(commit.thread, commit.scn, commit.xid),
        )
        end = int(self._session.one(sql.CURRENT_SCN)[0]) if self._until_end else None
        while end is None or mining.low < end or self.state.requests:
            asked = yield from self._asked_for(mining.low)
            high = mining.window()
            if high <= mining.low:
                yield from () if asked else (None,)
                continue
            logged = 0
            for batch in mining.rows(sorted(named), high):
                logged += len(batch)
                for step in transactions.take(batch):
                    yield from self._told(step) if isinstance(step, Told) else self._given(step, changes)
            oldest = transactions.oldest_scn
            resume = high if oldest is None else min(high, oldest - 1)
            yield from self._reached(min(resume, mining.first), _IDLE_S if logged else _QUIET_S)
            if mining.caught_up and not asked:
                yield None

    def _asked_for(self, low: int) -> Generator[Piece, None, bool]:
        """The next chunk that a person asked for, once all that was given out before a restart lies behind.

        Returns whether there was one.
        """
        before = self.state
        if all(scn <= low for _, scn, _ in self.state.commits):
            for state, piece in self._asked(self._tables, self.state, low):
                self.state = state
                yield piece
        return self.state is not before

    def _reached(self, resume: int, every_s: float) -> Iterator[Piece]:
        now = time.monotonic()
        self.state = replace(self.state, resume_scn=max(self.state.resume_scn, resume))
        if now - self._idle_at > every_s:
            self._idle_at = now
            yield Piece([], 0, self.state.packed())

    # -- transactions

    def _given(self, committed: Committed, changes: Changes) -> Iterator[Piece | None]:
        committed = _behind_part(committed, self.state.part)
        first, count = 0, len(committed.commits)
        for start, end, until in _cuts(committed, self._config.batch_rows_max):
            # commits without a row may stand in front of one that goes on
            last = committed.numbers[end - 1].as_py() if end > start else until - 1
            part = Committed(
                committed.commits[first : max(until, last + 1)],
                committed.rows.slice(start, end - start),
                pc.subtract(committed.numbers.slice(start, end - start), first),
                committed.orders.slice(start, end - start),
                ended=until > last and (until < count or committed.ended),
            )
            first = until
            yield from self._piece(part, changes)

    def _piece(self, part: Committed, changes: Changes) -> Iterator[Piece | None]:
        decoded = changes.decoded(part)
        begins = self._begun(part.commits)
        again = items_again(self._catalog, decoded, begins, part.commits[-1].scn, flow=self._flow)
        items = [*decoded.items, *again]
        if part.ended:
            self.state = self.state.behind((one.thread, one.scn, one.xid) for one in part.commits)
        elif len(part.rows):
            counted = (part.commits[-1].xid, part.orders[-1].as_py() + 1, tuple(sorted(self._tables)))
            self.state = replace(self.state, part=counted)
        self.state = self.state.anew(decoded.anew)  # in the same state: a restart behind it would not know of it
        rows = sum(len(item) for item in items if isinstance(item, ChangeBatch))
        size = sum(item.record.nbytes for item in items if isinstance(item, ChangeBatch))
        at = _newest(items)
        yield Piece(items, min(rows, self._config.batch_rows_max), self.state.packed(), size, at=at)
        if at:
            self._lag_ms.set(max(0.0, (time.time() - at) * 1000))
        if decoded.anew:
            yield from self._read_beside()

    def _begun(self, commits: Sequence[Commit]) -> tuple[int, int]:
        """SCNs as of which stood what the target holds of rows that the first of the commits changed, and later ones.

        Those at the first one's SCN changed other rows than each other, but a later one's may be theirs, and what was
        given out of that SCN was read as of it: a whole transaction, or a part of this one.
        """
        begin = min(one.scn for one in commits)
        is_given = self.state.part is not None or any(scn == begin for _, scn, _ in self.state.commits)
        return begin - 1, begin if is_given else begin - 1

    # -- DDL, gaps, and what is read beside

    def _told(self, told: Told) -> Iterator[Piece | None]:
        called = {(one.found.owner, one.found.name): name for name, one in self._tables.items()}
        name = called.get((told.owner, told.name), "")
        if self.state.given(told.thread, told.scn, b"DDL") or (told.statement and not name):
            return
        self.state = self.state.behind([(told.thread, told.scn, b"DDL")])
        if not told.statement:
            yield from self._lost(f"LogMiner tells of a gap (MISSING_SCN) at SCN {told.scn}")
        elif _TRUNCATE.match(told.statement):
            if told.scn > dict(self.state.floors).get(name, 0):
                yield from self._truncated(self._tables[name], told)
        elif (partition := _PARTITION.match(told.statement)) is not None:
            self._partition(self._tables[name], told, is_exchanged=partition[1].lower() == "exchange")
        elif _SHAPES.match(told.statement):
            yield from self._reshaped(name, told)
        yield from self._read_beside()

    def _truncated(self, wanted: WantedTable, told: Told) -> Iterator[Piece]:
        name = wanted.table.name
        if wanted.on_truncate == "stop":
            raise FatalError(
                f"source.oracle: table {name} was truncated at SCN {told.scn}, and on_truncate is stop; set it to "
                "apply or ignore"
            )
        if wanted.on_truncate == "apply":
            item = Truncate(name, f"{self.state.database[0]}:{told.scn}:{name}")
            yield Piece([item], 1, self.state.packed(), alone=True)

    def _reshaped(self, name: str, told: Told) -> Iterator[Piece]:
        """The table from here on as the dictionary has it now."""
        lost = self._describe(name)
        _log.info("a table's shape", table=name, scn=told.scn, statement=told.statement[:200], lost=lost)
        is_known = told.scn <= dict(self.state.floors).get(name, 0)
        if _REPLACED.match(told.statement) and not is_known:
            # the dictionary has a table of the name: it is another one, and no redo tells that the former's rows went
            self._anew(name)
        elif is_known or _VALUES.search(told.statement) or _is_back(told.statement, self._tables[name]):
            # rows that were read since the DDL, but before it was known, lack the column
            self._reread(name)
        # its state tells what is to be read: a restart behind it passes over the DDL
        if lost and self._bindings[name].clears:
            items: list[Item] = [ClearColumn(name, column, f"{told.scn}:{name}:{column}") for column in lost]
            yield Piece(items, 1, self.state.packed(), alone=True)

    def _partition(self, wanted: WantedTable, told: Told, *, is_exchanged: bool) -> None:
        """Rows went with a partition that was dropped, truncated or exchanged, or came with it: no redo tells which."""
        name = wanted.table.name
        if told.scn <= dict(self.state.floors).get(name, 0):
            return
        _log.info("a table's partition", table=name, scn=told.scn, statement=told.statement[:200])
        if wanted.on_truncate == "stop":
            raise FatalError(
                f"source.oracle: table {name} lost rows with a partition at SCN {told.scn}, and on_truncate is stop; "
                "set it to apply, which reads the table anew, or to ignore"
            )
        if wanted.on_truncate == "apply":
            self._anew(name)
        elif is_exchanged:
            self._reread(name)

    def _anew(self, name: str) -> None:
        """All rows of a table are to be removed and read as they are now."""
        self.state = self.state.anew([name])

    def _reread(self, name: str) -> None:
        """All rows of a table are to be read as they are now, over those that were brought."""
        if not self._tables[name].table.key:  # over them: beside them
            self._anew(name)
            return
        done = tuple(one for one in self.state.done if one != name)
        _, scn = starting_point(self._catalog)
        self.state = replace(self.state, done=done, table=name, after=None, read_scn=scn)

    def _describe(self, name: str) -> list[str]:
        """Know a table as the dictionary has it now; columns that it lost of what was brought."""
        found = describe(self._catalog, name, self._config.default_schema)
        after = self._tables[name] = reshaped(self._tables[name], found, self._bindings[name])
        if self._changes is not None:
            self._changes.know(after)
        # of what was brought: a reader that began since the DDL knows the table only as it is behind it
        now = {column.name for column in after.table.columns}
        lost = [column for column in dict(self.state.shapes).get(name, ()) if column not in now]
        self.state = self.state.shaped({name: after.table}, anew=True)
        return lost

    def _lost(self, what: str) -> Iterator[None]:
        """Changes are lost: stop, or read everything anew. Raises FatalError."""
        if self._config.on_lost == "stop":
            raise FatalError(
                f'source.oracle: {what}: changes are lost; set on_lost = "snapshot" to empty the tables and read them '
                "anew, or keep archived logs for longer and begin with an empty state directory"
            )
        _log.warning("changes are lost: all tables are read anew", reason=what)
        begin, scn = starting_point(self._catalog)
        while not self._is_logged(begin):  # a transaction is open whose own beginning is lost: its end is awaited
            yield None
            begin, scn = starting_point(self._catalog)
        for name in self._tables:
            self._describe(name)  # a DDL up to there is not heeded any more
        self.state = replace(self.state.anew(self._tables), scn=scn, resume_scn=begin, part=None)

    def _is_logged(self, low: int) -> bool:
        try:
            return bool(logs_of(self._session, low))
        except LogLost:
            return False

    def _read_beside(self) -> Iterator[Piece | None]:
        """Tables that joined, or must be read anew; the stream waits for them."""
        if all(name in self.state.done and name not in self.state.again for name in self._tables):
            return
        snapshot = self._snapshot(self._tables, self.state)
        yield from snapshot.pieces()
        self.state = snapshot.state
        if self._changes is not None:
            self._changes.floors = dict(self.state.floors)


def _is_back(statement: str, now: WantedTable) -> bool:
    """Whether a column that the DDL drops is there: another one by now, and no redo tells that the values went."""
    dropped = _DROPS.search(statement)
    named = _NAMED.findall(dropped[1]) if dropped is not None else []
    columns = {column.name for column in now.table.columns}
    return any((quoted or plain.upper()) in columns for quoted, plain in named)


def _behind_part(committed: Committed, part: Sequence[Any] | None) -> Committed:
    """Without the rows of a large transaction that are given out already."""
    if part is None or all(one.xid != part[0] for one in committed.commits):
        return committed
    number = next(place for place, one in enumerate(committed.commits) if one.xid == part[0])
    mine = pc.equal(committed.numbers, number)
    keep = pc.invert(pc.and_(mine, pc.less(committed.orders, part[1])))
    return replace(
        committed,
        rows=committed.rows.filter(keep),
        numbers=committed.numbers.filter(keep),
        orders=committed.orders.filter(keep),
    )


def _cuts(committed: Committed, rows_max: int) -> Iterator[tuple[int, int, int]]:
    """(first row, row behind, commit behind) of pieces: whole transactions, or whole statements of one larger one."""
    numbers, csf, total = committed.numbers, committed.rows.column("CSF"), len(committed.rows)
    start = 0
    while total - start > rows_max:
        number = numbers[start + rows_max].as_py()
        end = pc.index(numbers, pa.scalar(number, pa.int64())).as_py()
        if end <= start:
            end = start + rows_max
            while end < total and csf[end - 1].as_py():
                end += 1
            number = numbers[end].as_py() if end < total else len(committed.commits)
        yield start, end, number
        start = end
    if start < total or not total:
        yield start, total, len(committed.commits)


def _newest(items: list[Item]) -> float:
    """Unix seconds of the newest commit; 0 where there is none."""
    newest = [item.record.column(SOURCE_TS)[-1].as_py() for item in items if isinstance(item, ChangeBatch)]
    return max((moment.timestamp() for moment in newest if moment is not None), default=0.0)


def _seconds(offset: str) -> int:
    """'+01:00' in seconds."""
    hours, minutes = offset.strip().lstrip("+-").split(":")
    seconds = timedelta(hours=int(hours), minutes=int(minutes)).total_seconds()
    return int(-seconds if offset.strip().startswith("-") else seconds)
