"""Tables read beside the stream: those that joined the pipeline later, columns that one gained with values in rows that
were there, and what a person asked to read again.

A turn reads some chunks at the same time, each in a session of its own, in one and the same snapshot: that of a
temporary slot, so its place in the log is known exactly. It shows every transaction that committed before, also one
that the stream has brought while its session was not yet done. The stream waits for the whole turn, so no chunk is
older than what the stream has brought, however many are read ahead, and they are handed over in the key's order, so
what is read is one key. What the stream brings next are changes that the chunks may have already; they come in order,
up to and beyond their place, so the table ends right. Of a table without a key they are passed over instead. Between
two turns the stream goes on for at least as long as the last one took.

Where the server has no slot to give, or no walsender, the stream's own position is the chunk's place: while the stream
waits there, the transactions that are open are waited for, and snapshots taken then, one a session, show at least all
that the stream has brought. This is DBLog's low watermark. There is no high one, behind which rows that changed
meanwhile are left out: a change does not bring the large values that it left alone, so a row must come before its
changes, never not at all.

Where only some columns were asked for, the rows are updates of them (connectors/base/columns.py): one that the stream
has not brought yet is nothing to the target, and comes whole by its insert.

How a person asks stands in connectors/base/requests.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import structlog

from connectors.base.columns import checked, refuse_of_whole
from connectors.base.guardian import Pace
from connectors.base.items import Item, Truncate
from connectors.base.requests import Request, Requests, behind, without
from connectors.postgres import slot as slots
from connectors.postgres import source_catalog as catalog
from connectors.postgres.chunks import Chunk, expected_rows, next_bound
from connectors.postgres.session import Connection
from connectors.postgres.snapshot import ChunkPart, ChunkReader, Snapshot, View
from connectors.postgres.source_catalog import CatalogTable
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_session import LoginRefused, failed
from connectors.postgres.source_state import FILL, LEFT, NEW, OWN, SlotState
from libcore.errors import ConfigurationError, TransientError

CHUNK_ROWS = 50_000  # a tenth of a second, in which the stream waits
_WAIT_S = 1.0  # how long the stream waits for transactions that are open at the source
_AGAIN_S = 0.05
_log = structlog.get_logger()

Step = tuple[SlotState, ChunkPart | None]


class SlotRequests:
    """What one slot is asked to read beside its stream.

    Args:
        config: the slot's. connection: what plans and describes, in autocommit.
        tables: those of the slot, as they were at the start. bindings: of them, by name.
        open_walsender: a session that can make slots; None where there is none.
        open_reader: (view, commit LSN) -> a ChunkReader, not yet open.
        directory: the pipeline's state directory; None: nobody can ask.
        answered: ids of requests whose end is durable. pace: when and how fast rows may be read.
    """

    def __init__(
        self,
        config: PostgresSourceConfig,
        connection: Connection,
        tables: Mapping[str, CatalogTable],
        bindings: Mapping[str, Any],
        open_walsender: Callable[[], Connection] | None,
        open_reader: Callable[[View, int], ChunkReader],
        directory: Path | None,
        *,
        answered: Callable[[], tuple[str, ...]],
        others: frozenset[str] = frozenset(),
        pace: Pace,
    ) -> None:
        self._config, self._connection, self._slot = config, connection, str(config.slot)
        self._tables, self._bindings = tables, bindings
        self._open_walsender, self._open_reader = open_walsender, open_reader
        self._answered, self._pace = answered, pace
        self._others = others
        self._turn_at = 0.0
        self._asked = Requests(directory, self._takes)

    def pending(self, state: SlotState) -> bool:
        """Whether something is still to be read."""
        return bool(state.requests or self._new(state))

    def step(self, state: SlotState) -> Iterator[Step]:
        """The next chunks, where there are some and it is their turn: the state behind each part; no part: wait.

        Raises ConfigurationError where a table cannot be read, TransientError.
        """
        now = time.monotonic()
        if now < self._turn_at:
            return
        known = (*state.requests, *self._new(state))
        state = replace(state, requests=self._asked.joined(known, state.answered, self._answered()))
        if not state.requests or not self._pace.allowed or self._pace.wait_s > 0:
            return
        request = state.requests[0]
        try:
            for behind_it, part in self._turn(state, request):
                state = behind_it
                yield state, part
        except (ConfigurationError, psycopg.Error) as error:
            ours = failed(error, f"read {request[1]}") if isinstance(error, psycopg.Error) else error
            if request[0].startswith(NEW) or isinstance(ours, TransientError | LoginRefused):
                raise ours from error
            if request[0].startswith(FILL):
                state = self._without_gone(state, request, ours)
            else:
                self._asked.refuse(request, str(ours))
                state = replace(state, requests=without(state.requests, request))
            yield state, ChunkPart([], 0, 0, True)
        self._turn_at = time.monotonic() + (time.monotonic() - now)

    def filled(self, state: SlotState, gained: Mapping[str, Mapping[str, bool]]) -> SlotState:
        """With what is to be read as tables gained columns: rows that were there may have values in them, such as a
        default, of which no change tells. Raises psycopg.Error.

        Args:
            gained: see PgoutputDecoder.gained.
        """
        for name, columns in gained.items():
            known, binding = self._tables[name], self._bindings[name]
            written = {column: is_sure for column, is_sure in columns.items() if column not in binding.dropped}
            there = catalog.filled(self._connection, known.oid, written)
            found = tuple(column for column, is_filled in there.items() if is_filled or written[column])
            if known.key and found:
                request = (f"{FILL}{name}:{','.join(found)}", name, "", None, () if binding.whole else found, 0)
                state = replace(state, requests=(*without(state.requests, request), request))
            elif name in state.done and not known.key and self._config.snapshot == "initial":
                if not found and len(there) == len(written):
                    continue  # where one is gone again, deletes before told rows with values that nobody knows
                done = (*(one for one in state.done if one != name), LEFT + name)
                state = replace(state, done=done)
            else:
                continue
            _log.info("new columns have values in rows that were there", table=name, columns=found)
        return state

    def _without_gone(self, state: SlotState, request: Request, error: Exception) -> SlotState:
        """With no more to read of new columns that are gone again. Raises the error where all are there."""
        identity, name, where, after, columns, rows = request
        there = tuple(catalog.filled(self._connection, self._tables[name].oid, columns))
        if len(there) == len(columns):
            raise error
        left: Request = (identity, name, where, after, there, rows)
        _log.info("new columns are gone again", table=name, columns=sorted({*columns} - {*there}))
        others = without(state.requests, request)
        return replace(state, requests=(left, *others) if there else others)

    def _new(self, state: SlotState) -> list[Request]:
        known = {request[0] for request in state.requests}
        names = [name for name in sorted(self._tables) if name not in state.done and NEW + name not in known]
        return [(NEW + name, name, "", None, (), 0) for name in names]

    def _turn(self, state: SlotState, request: Request) -> Iterator[Step]:
        if self._open_walsender is None:
            yield from self._without_slot(state, request, "there is no walsender")
            return
        try:
            yield from self._in_slot(state, request, self._open_walsender)
        except slots.NoSlotFree as error:
            yield from self._without_slot(state, request, str(error))

    def _without_slot(self, state: SlotState, request: Request, why: str) -> Iterator[Step]:
        identity, name, *_ = request
        if not self._tables[name].key:
            raise ConfigurationError(f"table {name} has no key, and is read by means of a slot only: {why}")
        # behind each commit that the stream has brought, before each that it will bring
        place, begun = state.resume_lsn - 1, time.monotonic()
        make_reader = partial(self._open_reader, View(place), 0 if identity.startswith(NEW) else place)
        hidden = slots.writing(self._connection)
        while hidden & slots.writing(self._connection):
            if time.monotonic() - begun > _WAIT_S:
                return  # as with a slot
            time.sleep(_AGAIN_S)
            yield state, None
        wanted = self._planned(request)
        if _was_away(state, request):
            state, marker = self._emptied(state, request, place)
            yield state, marker
        # the sessions that read have their snapshots behind the wait, and before it is asked what they may show
        yield from self._read(state, request, wanted, make_reader, partial(slots.reached, self._connection))

    def _in_slot(self, state: SlotState, request: Request, open_walsender: Callable[[], Connection]) -> Iterator[Step]:
        walsender = open_walsender()
        try:
            made: slots.Made | None = None
            begun = time.monotonic()
            slot = f"{self._slot[:40]}_{walsender.info.backend_pid}_part"
            for step in slots.create(walsender, slot, export=True, failover=False, temporary=True):
                made = step
                if made is None and time.monotonic() - begun > _WAIT_S:
                    return  # the stream shall not wait for them; a later turn asks again
                yield state, None
            assert made is not None
            place = made.consistent_lsn
            make_reader = partial(
                self._open_reader, View(place, made.snapshot), 0 if request[0].startswith(NEW) else place
            )
            wanted = self._planned(request)
            if not wanted[0].table.key or _was_away(state, request):
                state, marker = self._emptied(state, request, place)
                yield state, marker
            yield from self._read(state, request, wanted, make_reader, lambda: place)
        finally:
            walsender.close()

    def _planned(self, request: Request) -> list[Chunk]:
        """The next chunks, as many as are read at a time; the last of them is the table's where no more rows follow.

        Their bounds are of this moment, not of the view that they are read in: any will do.
        """
        identity, name, where, after, columns, _ = request
        table = self._described(name, columns)
        if not identity.startswith(OWN):
            self._asked.begin(request, lambda: expected_rows(self._connection, table, after, where))
        parallel = self._config.parallel
        rows = max(1, self._pace.most(CHUNK_ROWS * parallel) // parallel)
        found: list[Chunk] = []
        while len(found) < parallel and not (found and found[-1].last):
            until = next_bound(self._connection, table, rows, after, where)
            found.append(Chunk(table, after, until, where, columns))
            after = until
        return found

    def _described(self, name: str, columns: tuple[str, ...]) -> CatalogTable:
        """The table as it is now: columns may have joined it since the start."""
        known, binding = self._tables[name], self._bindings[name]
        there = catalog.tables(self._connection, [name], str(self._config.publication))[name]
        if binding.columns is None and binding.new_column != "add":
            former = {column.name for column in known.columns}
            there = replace(there, columns=tuple(column for column in there.columns if column.name in former))
        is_open = binding.columns is None or binding.new_column == "add"
        declared = None if is_open else {column.name for column in binding.columns}
        taken = [column.name for column in there.columns if declared is None or column.name in declared]
        checked(name, columns, taken, known.key, dropped=binding.dropped)
        return replace(there, key=known.key)

    def _emptied(self, state: SlotState, request: Request, place: int) -> tuple[SlotState, ChunkPart]:
        """A table is read anew; without a key, what its rows show already is passed over in the stream."""
        identity, name, *_ = request
        table = self._bindings[name].table
        starts = dict(state.starts)
        if not self._tables[name].key:
            starts[table] = place
        marker: list[Item] = [Truncate(table, f"{self._slot}:{place}:{name}:{identity}")]
        done = tuple(one for one in state.done if one != LEFT + name)
        state = replace(state.seen(place), starts=tuple(sorted(starts.items())), done=done)
        return state, ChunkPart(marker, 0, 0, False, alone=True)

    def _read(
        self,
        state: SlotState,
        request: Request,
        wanted: list[Chunk],
        make_reader: Callable[[], ChunkReader],
        seen_lsn: Callable[[], int],
    ) -> Iterator[Step]:
        """The chunks, read at the same time, in the key's order.

        Args:
            seen_lsn: asked once all sessions have their snapshots: they show nothing that was committed behind it.
        """
        snapshot = Snapshot(
            make_reader,
            parallel=len(wanted),
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
        )
        try:
            snapshot.open()
            state = state.seen(seen_lsn())
            for found in snapshot.parts(iter(wanted)):
                if found is None:
                    yield state, None
                    continue
                chunk, part = found
                self._pace.read(part.rows)
                if not request[0].startswith(OWN):
                    self._asked.read(request, part.rows)
                if part.ended:
                    state = self._behind(state, request, chunk)
                yield state, part
        finally:
            snapshot.close()

    def _behind(self, state: SlotState, request: Request, chunk: Chunk) -> SlotState:
        identity, name, *_ = request
        if chunk.last and identity.startswith(NEW):
            _log.info("table read beside the stream", table=name)
            return replace(state, requests=without(state.requests, request), done=(*state.done, name))
        if chunk.last and identity.startswith(FILL):
            _log.info("new columns read beside the stream", table=name, columns=request[4])
            return replace(state, requests=without(state.requests, request))
        requests, answered = behind(state.requests, state.answered, request, chunk.until)
        return replace(state, requests=requests, answered=answered)

    def _takes(self, request: Request) -> bool:
        _, name, where, _, columns, _ = request
        if name in self._others:
            return False
        if name not in self._tables:
            raise ConfigurationError(f"expected a table of slot {self._slot}, found {name!r}")
        if (where or columns) and not self._tables[name].key:
            raise ConfigurationError(
                f"table {name} has no key: it is read again whole, without a condition and with all columns"
            )
        refuse_of_whole(name, columns, self._bindings[name].whole)
        return True


def _was_away(state: SlotState, request: Request) -> bool:
    return request[0].startswith(NEW) and LEFT + request[1] in state.done
