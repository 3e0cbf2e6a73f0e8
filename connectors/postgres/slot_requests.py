"""Tables read beside the stream: those that joined the pipeline later, and those that a person asked to read again.

A chunk is read while the stream waits, in the snapshot of a temporary slot, so its place in the log is known exactly:
it shows every transaction that committed before, also one that the stream has brought while its session was not yet
done. What the stream brings next are changes that the chunk may have already; they come in order, up to and beyond
its place, so the table ends right. Of a table without a key they are passed over instead. Between two chunks the
stream goes on for at least as long as the last one took.

Where the server has no slot to give, or no walsender, the stream's own position is the chunk's place: while the stream
waits there, the transactions that are open are waited for, and a snapshot taken then shows at least all that the
stream has brought. This is DBLog's low watermark. There is no high one, behind which rows that changed meanwhile are
left out: a change does not bring the large values that it left alone, so a row must come before its changes, never
not at all.

How a person asks stands in connectors/base/requests.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import psycopg
import structlog

from connectors.base.guardian import Pace
from connectors.base.items import Item, Truncate
from connectors.base.requests import Request, Requests, behind, without
from connectors.postgres import slot as slots
from connectors.postgres.session import Connection
from connectors.postgres.snapshot import Chunk, ChunkPart, ChunkReader, View, next_bound
from connectors.postgres.source_catalog import CatalogTable
from connectors.postgres.source_session import LoginRefused, failed
from connectors.postgres.source_state import SlotState
from libcore.errors import ConfigurationError, TransientError

CHUNK_ROWS = 50_000  # a tenth of a second, in which the stream waits
NEW = "new:"
_WAIT_S = 1.0  # how long the stream waits for transactions that are open at the source
_AGAIN_S = 0.05
_log = structlog.get_logger()


class SlotRequests:
    """What one slot is asked to read beside its stream.

    Args:
        tables: those of the slot. names: of their batches.
        open_walsender: a session that can make slots; None where there is none.
        open_reader: (view, commit LSN) -> a ChunkReader, not yet open.
        directory: the pipeline's state directory; None: nobody can ask.
        answered: ids of requests whose end is durable. pace: when and how fast rows may be read.
    """

    def __init__(
        self,
        tables: Mapping[str, CatalogTable],
        names: Mapping[str, str],
        open_walsender: Callable[[], Connection] | None,
        open_reader: Callable[[View, int], ChunkReader],
        directory: Path | None,
        *,
        slot: str,
        rows_max: int,
        answered: Callable[[], tuple[str, ...]],
        others: frozenset[str] = frozenset(),
        pace: Pace,
    ) -> None:
        self._tables, self._names = tables, names
        self._open_walsender, self._open_reader = open_walsender, open_reader
        self._slot, self._rows_max, self._answered = slot, rows_max, answered
        self._pace = pace
        self._others = others
        self._turn_at = 0.0
        self._asked = Requests(directory, self._takes)

    def pending(self, state: SlotState) -> bool:
        """Whether something is still to be read."""
        return bool(state.requests or self._new(state))

    def step(self, state: SlotState) -> Iterator[tuple[SlotState, ChunkPart | None]]:
        """The next chunk, where there is one and it is its turn: the state behind each part; no part: wait.

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
            yield from self._chunk(state, request)
        except (ConfigurationError, psycopg.Error) as error:
            ours = failed(error, f"read {request[1]}") if isinstance(error, psycopg.Error) else error
            if request[0].startswith(NEW) or isinstance(ours, TransientError | LoginRefused):
                raise ours from error
            self._asked.refuse(request, str(ours))
            yield replace(state, requests=without(state.requests, request)), ChunkPart([], 0, 0, True)
        self._turn_at = time.monotonic() + (time.monotonic() - now)

    def _new(self, state: SlotState) -> list[Request]:
        known = {request[0] for request in state.requests}
        names = [name for name in sorted(self._tables) if name not in state.done and NEW + name not in known]
        return [(NEW + name, name, "", None) for name in names]

    def _chunk(self, state: SlotState, request: Request) -> Iterator[tuple[SlotState, ChunkPart | None]]:
        if self._open_walsender is None:
            yield from self._without_slot(state, request, "there is no walsender")
            return
        try:
            yield from self._in_slot(state, request, self._open_walsender)
        except slots.NoSlotFree as error:
            yield from self._without_slot(state, request, str(error))

    def _without_slot(
        self, state: SlotState, request: Request, why: str
    ) -> Iterator[tuple[SlotState, ChunkPart | None]]:
        identity, name, where, after = request
        if not self._tables[name].key:
            raise ConfigurationError(f"table {name} has no key, and is read by means of a slot only: {why}")
        # behind each commit that the stream has brought, before each that it will bring
        place, begun = state.resume_lsn - 1, time.monotonic()
        reader = self._open_reader(View(place), 0 if identity.startswith(NEW) else place)
        try:
            connection = reader.open()
            hidden = slots.writing(connection)
            while hidden & slots.writing(connection):
                if time.monotonic() - begun > _WAIT_S:
                    return  # as with a slot
                time.sleep(_AGAIN_S)
                yield state, None
            reader.close()
            connection = reader.open()
            until = next_bound(connection, self._tables[name], CHUNK_ROWS, after, where)
            made = slots.Made(slots.reached(connection), "")
            yield from self._parts(reader, state, request, Chunk(self._tables[name], after, until), made)
        finally:
            reader.close()

    def _in_slot(
        self, state: SlotState, request: Request, open_walsender: Callable[[], Connection]
    ) -> Iterator[tuple[SlotState, ChunkPart | None]]:
        identity, name, where, after = request
        table = self._tables[name]
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
            commit_lsn = 0 if identity.startswith(NEW) else made.consistent_lsn
            reader = self._open_reader(View(made.consistent_lsn, made.snapshot), commit_lsn)
            try:
                connection = reader.open()
                until = next_bound(connection, table, CHUNK_ROWS, after, where)
                yield from self._parts(reader, state, request, Chunk(table, after, until), made)
            finally:
                reader.close()
        finally:
            walsender.close()

    def _parts(
        self, reader: ChunkReader, state: SlotState, request: Request, chunk: Chunk, made: slots.Made
    ) -> Iterator[tuple[SlotState, ChunkPart | None]]:
        identity, name, where, _ = request
        state = state.seen(made.consistent_lsn)
        if not chunk.table.key:
            starts = {**dict(state.starts), self._names[name]: made.consistent_lsn}
            state = replace(state, starts=tuple(sorted(starts.items())))
            marker: list[Item] = [Truncate(self._names[name], f"{self._slot}:{made.consistent_lsn}:{name}:{identity}")]
            yield state, ChunkPart(marker, 0, 0, False, alone=True)
        for part in reader.read(chunk, self._rows_max, lambda: False, where):
            self._asked.read(request, part.rows)
            self._pace.read(part.rows)
            if part.ended:
                state = self._behind(state, request, chunk)
            yield state, part

    def _behind(self, state: SlotState, request: Request, chunk: Chunk) -> SlotState:
        identity, name, *_ = request
        if chunk.last and identity.startswith(NEW):
            _log.info("table read beside the stream", table=name)
            return replace(state, requests=without(state.requests, request), done=(*state.done, name))
        requests, answered = behind(state.requests, state.answered, request, chunk.until)
        return replace(state, requests=requests, answered=answered)

    def _takes(self, name: str, where: str) -> bool:
        if name in self._others:
            return False
        if name not in self._tables:
            raise ConfigurationError(f"expected a table of slot {self._slot}, found {name!r}")
        if where and not self._tables[name].key:
            raise ConfigurationError(f"table {name} has no key: it is read again whole, without a condition")
        return True
