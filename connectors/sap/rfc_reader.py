"""Reads one SAP system: all rows in ranges of keys, then the rows that a signal names, as they are by then.

State: (2, done, open, position, rows, number, pointers, compared, requests, answered): `done` are (table, mark) of
tables that were read, `open` (table, mark, behind which key) of the one that is being read; a mark is the table's
fingerprint and what it is followed by (in older states the fingerprint alone), or AWAY. `position` is where the signal
goes on, `rows` counts, `number` rises with each look, `pointers` are change pointers to be marked once this is durable,
`compared` is the number of the newest comparison of all keys, `requests` and `answered` are what a person asked for.

The signal's position is taken before the first row is read, so what changes meanwhile comes again, as it is then. A row
is brought as it is when it is asked for, so its own older documents bring nothing that is older.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from connectors.base.background import Piece
from connectors.base.columns import updates
from connectors.base.guardian import Pace
from connectors.base.items import Truncate
from connectors.base.requests import Request, Requests, behind, keyed, without
from connectors.sap.rfc_config import SapRfcConfig, Signal
from connectors.sap.rfc_driver import TooMuch
from connectors.sap.rfc_keys import KeyLog, forget
from connectors.sap.rfc_pages import key_pages, pages
from connectors.sap.rfc_recent import Recent
from connectors.sap.rfc_rows import Rows, WantedTable, deletes, piece
from connectors.sap.rfc_session import Session
from connectors.sap.rfc_signals import STAMP, Changed, ChangeDocuments, ChangePointers, looked_from
from connectors.sap.rfc_stamps import changed_since
from connectors.sap.rfc_table import Ability, found
from connectors.sap.rfc_where import Key
from connectors.sap.rfc_whole import WholeRows
from libcore.change import Op
from libcore.errors import ConfigurationError, HeadraceError, TransientError

STATE_VERSION = 2
FIRST: tuple[Any, ...] = (STATE_VERSION, (), None, "", 0, 0, (), 0, (), ())
_WAIT_S = 0.2
AWAY = ":away"
"""Mark of a table that was read and that the pipeline does without by now."""
_FOLLOWED_BY: dict[Signal, str] = {
    "change_documents": "position",  # one for both, so that a table may go from one to the other
    "timestamp": "position",
    "change_pointers": "pointers",
    "none": "nothing",
}
_KEYS_AT_ONCE = 5_000
_log = structlog.get_logger()


@dataclass
class Durable:
    """The newest state that is known to be in the recovery store; told by one thread, read by another."""

    state: tuple[Any, ...] = FIRST


class SapRfcReader:
    """One system's tables as pieces; see PieceReader.

    Args:
        config: how it is read. wanted: the tables by name.
        state: where to go on. flow: the pipeline's name, for dead letters.
        directory: where keys are kept; None: no comparison.
        until_end: end behind what there is at the start.
        pace: the guardian's bounds. durable: what the recovery store is known to hold. Both outlive a reader.
    """

    def __init__(
        self,
        config: SapRfcConfig,
        wanted: dict[str, WantedTable],
        state: tuple[Any, ...],
        *,
        flow: str,
        directory: Path | None,
        until_end: bool,
        pace: Pace,
        durable: Durable,
    ) -> None:
        if len(state) != len(FIRST) or state[0] != STATE_VERSION:
            raise ConfigurationError(
                f"source.sap_rfc: expected recovery state of version {STATE_VERSION}, found {state[:1]}: it was "
                "written by another version of headrace"
            )
        self._config, self._wanted, self._flow, self._until_end = config, wanted, flow, until_end
        _, done, self._open, self._position, self._rows, self._number, self._pointers, self._compared, *asked = state
        self._requests, self._answered = asked
        self._files = Requests(directory, keyed(wanted))
        self._done: dict[str, str] = {name: self._as_now(name, mark) for name, mark in done}
        if self._open is not None:
            name, mark, begin = self._open
            self._open = (name, self._as_now(name, mark), begin) if name in wanted else None
            self._done |= {} if name in wanted else {name: AWAY}
        self._pace = pace
        self._session = Session(config)
        self._recent = Recent()
        self._durable = durable  # `state` itself may only be queued
        self._whole: dict[str, WholeRows] = {}
        self._parts: dict[tuple[str, tuple[str, ...]], WholeRows] = {}  # of tables that are asked for by column
        self._logs: dict[str, KeyLog] = {}
        if directory is not None:
            compared = [name for name in wanted if config.compared(name)]
            self._logs = {name: KeyLog(directory / "sap_rfc", name, durable.state[7]) for name in compared}
            for name in wanted.keys() - self._logs.keys():
                forget(directory / "sap_rfc", name)
        self._stamped_at = ""  # the clock at the last look at days of change
        self._compare_at = 0.0 if until_end else time.monotonic() + config.compare_s

    @property
    def _state(self) -> tuple[Any, ...]:
        done = tuple(self._done.items())
        return (
            STATE_VERSION, done, self._open, self._position, self._rows, self._number, self._pointers, self._compared,
            self._requests, self._answered,
        )  # fmt: skip

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader."""
        try:
            yield from self._pieces()
        except TooMuch:
            self._pace.too_long()
            raise

    def durable(self, state: tuple[Any, ...]) -> None:
        """See PieceReader."""
        self._durable.state = state

    def close(self) -> None:
        """See PieceReader."""
        self._session.close()

    def _pieces(self) -> Iterator[Piece | None]:
        able = found(self._session, self._config.function)
        where_max = self._config.where_characters_max
        for name, wanted in self._wanted.items():
            self._whole[name] = WholeRows(self._session, able, wanted, where_max=where_max)
        documents, pointers = self._documents(able), self._change_pointers()
        if not self._position and (documents is not None or self._under("timestamp")):
            self._position = self._session.clock().strftime(STAMP)
        yield from self._snapshot(able)
        while True:
            before = self._rows
            self._settle(pointers)
            # first, as it does not move the position where documents do
            yield from self._stamped(able, alone=documents is None)
            if documents is not None:
                yield from self._named(documents.changes(self._position))
            if pointers is not None:
                yield from self._named(pointers.changes())
            yield from self._comparison()
            yield from self._asked_for(able)
            if self._until_end and not self._requests and (pointers is None or pointers.idle):
                return
            if self._rows == before:
                yield None

    def _under(self, signal: Signal) -> dict[str, WantedTable]:
        return {name: one for name, one in self._wanted.items() if self._config.signal_of(name) == signal}

    def _documents(self, able: Ability) -> ChangeDocuments | None:
        tables = self._under("change_documents")
        return ChangeDocuments(self._session, able, tables, self._config) if tables else None

    def _change_pointers(self) -> ChangePointers | None:
        tables = self._under("change_pointers")
        if not tables:
            return None
        pointers = ChangePointers(self._session, tables, self._config)
        # what a former reader brought and did not live to mark
        pointers.pending |= dict.fromkeys(self._pointers)
        return pointers

    # -- the snapshot

    def _snapshot(self, able: Ability) -> Iterator[Piece | None]:
        for name, wanted in self._wanted.items():
            if reason := self._unknown(name):
                _log.warning("a table is emptied and read again", table=name, reason=reason)
                self._done.pop(name, None)
                self._open = None
                self._rows += 1
                yield Piece([Truncate(name, f"sap_rfc:{name}:{self._rows}")], 1, self._state, alone=True)
                while self._durable.state[4] < self._rows:
                    yield None  # a crash before that must not find a file of some keys, as if none were lost
            mark, fingerprint = self._mark(name), self._done.get(name, "").partition(":")[0]
            if self._config.signal_of(name) == "none" and fingerprint == wanted.table.fingerprint:
                self._done[name] = mark  # followed no more: its rows are read
            if self._done.get(name) != mark:
                yield from self._table(able, name, wanted)

    def _as_now(self, name: str, mark: str) -> str:
        """A mark of the recovery store; an older one is of a table that was followed as it is now."""
        if name not in self._wanted:
            return AWAY
        return mark if ":" in mark else f"{mark}:{self._followed_by(name)}"

    def _mark(self, name: str) -> str:
        return f"{self._wanted[name].table.fingerprint}:{self._followed_by(name)}"

    def _followed_by(self, name: str) -> str:
        return _FOLLOWED_BY[self._config.signal_of(name)]

    def _unknown(self, name: str) -> str:
        """Why nobody knows what was changed or deleted of a table since its rows were read; "" where it is known."""
        is_open = self._open is not None and self._open[0] == name
        mark = self._open[1] if is_open else self._done.get(name)
        if mark is None:
            return ""
        if mark == AWAY:
            return "the pipeline did without it for a while"
        if self._followed_by(name) not in (mark.partition(":")[2], "nothing"):
            return "it has another signal"
        return "its keys are lost" if name in self._logs and not self._logs[name].exists else ""

    def _table(self, able: Ability, name: str, wanted: WantedTable) -> Iterator[Piece | None]:
        mark = self._mark(name)
        begin: Key | None = None
        if self._open is not None and self._open[:2] == (name, mark):
            begin = self._open[2]
        op, commit = (Op.INSERT, 0) if not self._number else (Op.UPSERT, self._number)
        yield from self._hours()
        for rows, until in pages(self._whole[name], able, wanted, begin, self._page_rows):
            self._keep(wanted, rows)
            self._open = (name, mark, until)
            if until is None:
                self._done[name], self._open = mark, None
            yield from self._brought(wanted, rows, op, commit)
            self._pace.read(len(rows))
            while (wait_s := self._pace.wait_s) > 0:
                time.sleep(min(_WAIT_S, wait_s))
                yield None
            yield from self._hours()

    def _page_rows(self) -> int:
        # a page may come out twice as large, where the function answers in no order
        most = min(self._config.chunk_rows, max(1, self._config.batch_rows_max // 2))
        return max(1, self._pace.most(2 * most) // 2)

    def _hours(self) -> Iterator[None]:
        while not self._pace.allowed:
            time.sleep(_WAIT_S)
            yield None

    # -- what comes later

    def _named(self, changes: Iterator[Changed]) -> Iterator[Piece]:
        """The rows that a signal names, as they are now; those that are gone as deletes."""
        for changed in changes:
            if changed.keys:
                self._number += 1
            held: Piece | None = None
            for name, keys in changed.keys.items():
                for one in self._rows_of(name, keys):
                    if held is not None:
                        yield held
                    held = one
            self._pointers = (*self._pointers, *changed.pointers)
            position = changed.position or self._position
            if self._stamped_at:
                position = min(position, self._stamped_at)  # what was written between the two looks, the next one finds
            moved = position != self._position or bool(changed.pointers)
            self._position = position
            # the signal goes on behind these keys only with the last piece
            if held is not None:
                yield replace(held, state=self._state)
            elif moved:
                yield Piece([], 0, self._state)

    def _rows_of(self, name: str, keys: Sequence[Key], *, sure: bool = True) -> Iterator[Piece]:
        wanted = self._wanted[name]
        step = min(_KEYS_AT_ONCE, max(1, self._config.batch_rows_max // 2))
        for start in range(0, len(keys), step):
            asked = keys[start : start + step]
            there: set[Key] = set()
            for rows in self._whole[name].of_keys(asked):
                there |= set(rows.all_keys(wanted))
                yield from self._upserts(wanted, rows, sure=sure)
            yield from self._deletes(wanted, [key for key in asked if key not in there])

    def _upserts(self, wanted: WantedTable, rows: Rows, *, sure: bool = True) -> Iterator[Piece]:
        fresh = self._recent.fresh(wanted, rows)
        if len(fresh) or not sure:
            # a comparison's file may lack one that is as it was brought before: deleted then, and written again
            self._keep(wanted, fresh if sure else rows, sure=sure)
        if len(fresh):
            yield from self._brought(wanted, fresh, Op.UPSERT, self._number)

    def _deletes(self, wanted: WantedTable, keys: Sequence[Key]) -> Iterator[Piece]:
        gone = self._recent.gone(wanted, keys)
        if gone:
            first, self._rows = self._rows, self._rows + len(gone)
            made = deletes(wanted, gone, commit=self._number, first=first, state=self._state)
            if made is not None:
                yield made

    def _brought(self, wanted: WantedTable, rows: Rows, op: Op, commit: int) -> Iterator[Piece]:
        first, self._rows = self._rows, self._rows + len(rows)
        yield piece(wanted, rows, op, commit=commit, first=first, flow=self._flow, state=self._state)

    def _stamped(self, able: Ability, *, alone: bool) -> Iterator[Piece]:
        """Rows whose day of change is not older than the last look; `alone`: nothing else moves the position."""
        tables = self._under("timestamp")
        if not tables:
            return
        now = self._session.clock()
        self._stamped_at = now.strftime(STAMP)
        since = looked_from(self._position, now, self._config)
        self._number += 1
        for name, wanted in tables.items():
            clause = changed_since(wanted, self._config.changed_on.get(name), since)
            for rows, _ in pages(self._whole[name], able, wanted, None, self._page_rows, clause):
                yield from self._upserts(wanted, rows)
        if alone and self._position != self._stamped_at:
            self._position = self._stamped_at
            yield Piece([], 0, self._state)

    def _asked_for(self, able: Ability) -> Iterator[Piece]:
        """Pages of tables that a person asked to read again, for as long as the signals are not asked."""
        self._requests = self._files.joined(self._requests, self._answered, self._durable.state[9])
        ends_at = time.monotonic() + self._config.poll_s
        while self._requests and self._pace.allowed and self._pace.wait_s <= 0 and time.monotonic() < ends_at:
            yield from self._page_of(able, self._requests[0])

    def _page_of(self, able: Ability, request: Request) -> Iterator[Piece]:
        _, name, where, after, columns, _ = request
        whole, also = self._wanted[name], f"( {where} )" if where else ""
        try:
            wanted = whole.part(columns)
            self._files.begin_table(request, lambda: self._session.row_count(name))
            reader = self._reader(able, wanted, columns) if columns else self._whole[name]
            rows, until = next(pages(reader, able, wanted, after, self._page_rows, also))
        except HeadraceError as error:
            # a condition that makes the call too much is refused, too: it would be so for ever
            if isinstance(error, TransientError) and not (where and isinstance(error, TooMuch)):
                raise
            self._files.refuse(request, str(error))
            self._requests = without(self._requests, request)
            yield Piece([], 0, self._state)
            return
        self._number += 1
        if columns:
            self._recent.forget(whole, rows)
        else:
            self._recent.fresh(whole, rows)  # all are brought; what a signal names again need not be
            self._keep(whole, rows)
        self._requests, self._answered = behind(self._requests, self._answered, request, until, len(rows))
        self._files.read(request, len(rows))
        self._pace.read(len(rows))
        for one in self._brought(wanted, rows, Op.UPSERT, self._number):
            yield updates(one, whole.table) if columns else one

    def _reader(self, able: Ability, wanted: WantedTable, columns: tuple[str, ...]) -> WholeRows:
        """What reads some columns of a table; kept, as it learns how long a row may be, and currencies."""
        mark = wanted.table.name, columns
        if mark not in self._parts:
            where_max = self._config.where_characters_max
            self._parts[mark] = WholeRows(self._session, able, wanted, where_max=where_max)
        return self._parts[mark]

    # -- all keys against all keys

    def _keep(self, wanted: WantedTable, rows: Rows, *, sure: bool = True) -> None:
        if (log := self._logs.get(wanted.table.name)) is not None:
            log.add(rows.all_keys(wanted), sure=sure)

    def _comparison(self) -> Iterator[Piece]:
        if not self._logs or time.monotonic() < self._compare_at:
            return
        self._number += 1
        number = self._compared + 1
        for name, log in self._logs.items():
            wanted, there = self._wanted[name], set[Key]()
            for keys in key_pages(self._whole[name], wanted, self._config.chunk_rows):
                there.update(keys)
            sure, perhaps = log.all()
            log.compared(there, number)
            yield from self._rows_of(name, sorted(there - sure), sure=False)
            yield from self._rows_of(name, sorted((sure | perhaps) - there), sure=False)
        self._compared = number
        self._compare_at = time.monotonic() + self._config.compare_s
        yield Piece([], 0, self._state)

    def _settle(self, pointers: ChangePointers | None) -> None:
        """What is durable: pointers are marked, files of comparisons take their place."""
        state = self._durable.state
        for log in self._logs.values():
            log.durable(state[7])
        if pointers is None:
            return
        pointers.mark([one for one in state[6] if one in pointers.pending])
        self._pointers = tuple(one for one in self._pointers if one in pointers.pending)
