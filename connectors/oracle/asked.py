"""Tables that a person asked to read again, a chunk of the key a turn, beside the changes.

A chunk is read as the table is now, and its place is that of the changes which were brought: whatever happened since
comes behind it, in order, so older changes that meet newer rows end right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from connectors.base.background import Piece
from connectors.base.columns import updates
from connectors.base.guardian import Pace
from connectors.base.requests import Request, Requests, behind, keyed, without
from connectors.oracle import sql
from connectors.oracle.catalog import WantedTable
from connectors.oracle.config import OracleConfig
from connectors.oracle.rows import chunk_of
from connectors.oracle.session import QUERY_TOO_LONG, SNAPSHOT_GONE, Refused, Session
from connectors.oracle.snapshot import row_items
from connectors.oracle.state import State
from libcore.change import ChangeBatch, Op
from libcore.errors import ConfigurationError, TransientError


class AskedRows:
    """Reads what a state's requests ask for; used by one thread.

    Args:
        tables: those of the pipeline, as they were at the start: which of them can be asked for.
        directory: where requests are; None: nobody can ask.
        pace: when and how fast rows may be read. flow: the pipeline's name, for dead letters.
    """

    def __init__(
        self,
        session: Session,
        config: OracleConfig,
        tables: Mapping[str, WantedTable],
        directory: Path | None,
        pace: Pace,
        flow: str,
    ) -> None:
        self._session, self._config, self._pace, self._flow = session, config, pace, flow
        self._files = Requests(directory, keyed(tables))

    def next(
        self, state: State, tables: Mapping[str, WantedTable], commit: int, durable: tuple[str, ...]
    ) -> Iterator[tuple[State, Piece]]:
        """The next chunk, where one is wanted and may be read now, and the state behind each of its pieces.

        Args:
            tables: as they are now. commit: behind which changes the rows stand.
            durable: ids of requests whose end the recovery store knows.
        """
        state = replace(state, requests=self._files.joined(state.requests, state.answered, durable))
        if not state.requests or not self._pace.allowed or self._pace.wait_s > 0:
            return
        request = state.requests[0]
        try:
            for behind_it, piece in self._chunk(state, request, tables[request[1]], commit):
                state = behind_it
                yield state, piece
        except (Refused, ConfigurationError) as error:
            slow = isinstance(error, Refused) and error.code in QUERY_TOO_LONG | SNAPSHOT_GONE
            if slow and not request[2]:  # without a condition smaller chunks help
                self._pace.too_long()
                raise TransientError(str(error)) from error
            self._files.refuse(request, str(error))
            state = replace(state, requests=without(state.requests, request))
            yield state, Piece([], 0, state.packed())

    def _chunk(self, state: State, request: Request, whole: WantedTable, commit: int) -> Iterator[tuple[State, Piece]]:
        _, _, where, after, columns, _ = request
        wanted = whole.part(columns)
        self._files.begin_table(request, lambda: self._count(whole))
        size, count = self._pace.most(self._config.chunk_rows), 0
        for rows in chunk_of(self._session, self._config, wanted, after, size, scn=None, where=where):
            count += rows.count
            requests, answered = behind(state.requests, state.answered, request, rows.last, count)
            state = replace(state, requests=requests, answered=answered, rows=state.rows + rows.count)
            self._pace.read(rows.count)
            self._files.read(request, rows.count)
            first = state.rows - rows.count
            items = row_items(wanted, rows, Op.UPSERT, commit=commit, first=first, flow=self._flow)
            bytes_held = sum(item.record.nbytes for item in items if isinstance(item, ChangeBatch))
            piece = Piece(items, rows.count, state.packed(), bytes_held)
            yield state, updates(piece, whole.table) if columns else piece
        if count < size:
            requests, answered = behind(state.requests, state.answered, request, None)
            state = replace(state, requests=requests, answered=answered)
            yield state, Piece([], 0, state.packed())

    def _count(self, wanted: WantedTable) -> int | None:
        """About how many rows it has, by its statistics; None where there are none."""
        found = self._session.all(sql.TABLE_ROWS, owner=wanted.found.owner, name=wanted.found.name)
        return None if not found or found[0][0] is None else int(found[0][0])
