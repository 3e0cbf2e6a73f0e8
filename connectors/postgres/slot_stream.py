"""A slot's changes as pieces of a flow: received, decoded up to a commit border, confirmed once they are durable."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.pq import ExecStatus

from connectors.base.background import Piece
from connectors.base.items import ClearColumn, Item, Truncate
from connectors.base.metrics import LAG_MS
from connectors.postgres.session import Connection, quote
from connectors.postgres.slot_moved import MovedRows
from connectors.postgres.slot_peek import Peeks
from connectors.postgres.slot_requests import SlotRequests
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_session import CommandRefused, command, lsn_text, refused
from connectors.postgres.source_state import SlotState
from connectors.postgres.source_wire import Taken, wire
from libcore.change import POSITION, SOURCE_TS, ChangeBatch
from libcore.errors import ConfigurationError, FatalError, TransientError
from libcore.pgoutput_messages import EPOCH_US
from libcore.position import COMMIT_BYTES, GENERATION_BYTES, make
from libcore.transaction_mark import TRANSACTION_MARKS, Mark, from_batch, to_batch

_WAIT_MS = 100
_BYTES_AT_ONCE = 8 << 20
# Of a transaction whose commit has not come so much is held: few rows may be gigabytes, more than one batch takes.
_HELD_BYTES = 64 << 20
_CONFIRM_S, _ANSWER_S = 1.0, 10.0  # how often a new position is told, and an old one again
# Behind that many messages at once more come at once: each decoding of a handful costs a millisecond of Python.
_MANY, _GATHER_S = 1_000, 0.01
_IDLE_S = 1.0  # how often the position of an idle slot goes into the recovery store


class Walsender:
    """START_REPLICATION and what goes back over it; its answers go out even while nothing is taken.

    Args:
        confirmed: what the source may forget, told with every answer.
    """

    def __init__(self, connection: Connection, config: PostgresSourceConfig) -> None:
        self._connection, self._libpq = connection, connection.pgconn
        self._wire = wire(connection, config.reader)
        self._lock = threading.Lock()  # around each use of the connection
        self._closed = threading.Event()
        self._told_at, self._told_lsn, self._seen_lsn = time.monotonic(), 0, 0
        self.confirmed = 0
        self._many = False
        self._thread: threading.Thread | None = None

    def start(self, slot: str, lsn: int, options: str) -> Iterator[None]:
        """Begin to stream. Raises what the server says of slot or publication."""
        text = f"START_REPLICATION SLOT {quote(slot)} LOGICAL {lsn_text(lsn)} ({options})"
        try:
            for row in command(self._connection, text):
                if row is None:
                    yield None
        except CommandRefused as error:
            raise _explained(error, slot) from error
        self._thread = threading.Thread(target=self._answer, name="walsender answers", daemon=True)
        self._thread.start()

    def take(self, rows_max: int) -> Taken:
        """What came, within a tenth of a second; answers where one is due. Raises TransientError, FatalError."""
        if self._many:
            time.sleep(_GATHER_S)
        with self._lock:
            taken = self._wire.stream(rows_max, _BYTES_AT_ONCE, _WAIT_MS)
            self._many = taken.messages is not None and taken.messages.num_rows >= min(_MANY, rows_max)
            self._seen_lsn = max(self._seen_lsn, taken.wal_end)
            now = time.monotonic()
            due = self.confirmed > self._told_lsn and now - self._told_at >= _CONFIRM_S
            if not taken.ended and (taken.reply or due or now - self._told_at >= _ANSWER_S):
                self._tell(now)
        return taken

    def ended(self, slot: str) -> Exception:
        """Why the server ended the stream."""
        with self._lock:
            result = self._libpq.get_result()
        if result is None or result.status in (ExecStatus.COMMAND_OK, ExecStatus.COPY_IN, ExecStatus.TUPLES_OK):
            return TransientError("source.postgres: the server ended the stream: it is shutting down")
        error = refused(result, "stream")
        return _explained(error, slot) if isinstance(error, CommandRefused) else error

    def close(self) -> None:
        """End the session."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self._connection.close()

    def _tell(self, now: float) -> None:
        confirmed = self.confirmed
        seen = max(self._seen_lsn, confirmed)
        micros = int(time.time() * 1e6) - EPOCH_US
        try:
            self._libpq.put_copy_data(struct.pack(">cqqqqb", b"r", seen, confirmed, confirmed, micros, 0))
            self._libpq.flush()
        except psycopg.Error as error:
            raise TransientError(f"source.postgres: {str(error).strip()}") from error
        self._told_at, self._told_lsn = now, confirmed

    def _answer(self) -> None:
        """While the flow takes nothing, because its target is slow, the server must hear that we live."""
        while not self._closed.wait(_ANSWER_S / 2):
            with self._lock:
                if time.monotonic() - self._told_at < _ANSWER_S:
                    continue
                try:
                    self._tell(time.monotonic())
                except TransientError:
                    return  # `take` meets it, too


def _explained(error: CommandRefused, slot: str) -> Exception:
    if error.sqlstate == "55006":
        return TransientError(
            f"source.postgres: slot {slot} is in use by another session: another flow reads it, or one that died has "
            f"not been noticed yet: {error.text}"
        )
    again = "`headrace source drop FILE` forgets slot and position, so that the next start takes a new snapshot"
    if "can no longer" in error.text or "invalidat" in error.text or error.sqlstate == "58P01":
        return FatalError(f"source.postgres: slot {slot} is invalidated: {error.text}; {again}")
    if "does not exist" in error.text and "slot" in error.text:
        return FatalError(f"source.postgres: {error.text}; {again}")
    if error.sqlstate == "42501":
        return ConfigurationError(
            f"source.postgres: expected a role that may stream, found: {error.text}; ALTER ROLE ... REPLICATION"
        )
    return ConfigurationError(f"source.postgres: {error.text}")


class SlotStream:
    """Pieces of a slot from a state on.

    Args:
        decoder: a PgoutputDecoder that goes on behind the state.
        tables: what changes and states call a table, by its name at the source.
        partition: its name in metrics.
        end_mark: content of the logical message to end at; "": follow.
        moved: completes rows whose key changed; see slot_moved.py.
        requests: what is to be read beside the stream; see slot_requests.py.
    """

    def __init__(
        self,
        walsender: Walsender | Peeks,
        decoder: Any,
        state: SlotState,
        *,
        tables: Mapping[str, str],
        slot: str,
        partition: str,
        rows_max: int,
        end_mark: str,
        moved: MovedRows,
        requests: SlotRequests,
    ) -> None:
        self._walsender, self._decoder, self.state = walsender, decoder, state
        self._slot, self._rows_max, self._end_mark, self._moved = slot, rows_max, end_mark, moved
        self._requests, self._tables = requests, tables
        self._held: list[pa.RecordBatch] = []  # the begin of a transaction whose rest has not come
        self._starts = dict(state.starts)
        self._idle_at = 0.0
        self._lag_ms = LAG_MS.labels(partition, "0")
        self._ended = False

    def pieces(self) -> Iterator[Piece | None]:
        """Pieces; None where nothing came. Ends behind the end mark."""
        while not self._ended or self._requests.pending(self.state):
            held = sum(batch.num_rows for batch in self._held)
            taken = self._walsender.take(max(1, self._rows_max - held))
            for messages in self._cut(taken, held):
                yield from self._decoded(messages)
            if taken.ended:
                raise self._walsender.ended(self._slot)
            if taken.messages is None and not self._held:
                self._lag_ms.set(0.0)
                if taken.keepalive_lsn >= 0:
                    self._decoder.idle_at(taken.keepalive_lsn)
                now = time.monotonic()
                if self._decoder.resume_lsn > self.state.resume_lsn and now - self._idle_at > _IDLE_S:
                    self._idle_at = now
                    self.state = replace(self.state, decoder=self._decoder.state)
                    yield Piece([], 0, self.state.packed())
                    continue
            if taken.messages is None:
                yield None
            if self._decoder.at_border:
                yield from self._asked_for()

    def _asked_for(self) -> Iterator[Piece | None]:
        """The next chunk of what was asked for, where it is its turn; the stream waits for it."""
        for state, part in self._requests.step(self.state):
            if part is None:
                yield None
                continue
            self.state, self._starts = state, {**self._starts, **dict(state.starts)}
            yield Piece(list(part.items), part.rows, state.packed(), part.size, part.alone)

    def _cut(self, taken: Taken, held: int) -> Iterator[pa.RecordBatch]:
        """The messages to decode now: whole transactions, or of one that is larger rows_max messages, or fewer."""
        if taken.messages is None:
            return
        messages = taken.messages
        if taken.last_commit >= 0:
            open_tail = taken.last_begin > taken.last_commit
        else:
            open_tail = taken.last_begin >= 0 or held > 0 or not self._decoder.at_border
        border = messages.num_rows
        if open_tail and (taken.last_commit >= 0 or self._may_wait(messages, held)):
            border = taken.last_commit + 1
        if border > 0:
            self._held.append(messages.slice(0, border))
            whole = self._held[0] if len(self._held) == 1 else pa.concat_batches(self._held)
            self._held = []
            yield whole
        if border < messages.num_rows:
            self._held.append(messages.slice(border))

    def _may_wait(self, messages: pa.RecordBatch, held: int) -> bool:
        """Whether a transaction's end is worth waiting for: it is still of few messages, and of few bytes."""
        size = messages.nbytes + sum(batch.nbytes for batch in self._held)
        return held + messages.num_rows < self._rows_max and size < _HELD_BYTES

    def _decoded(self, messages: pa.RecordBatch) -> Iterator[Piece | None]:
        start = 0
        while start < messages.num_rows:
            items, consumed = self._decoder.decode(messages.slice(start))
            start += consumed
            if self._end_mark and any(heard.content == self._end_mark.encode() for heard in self._decoder.heard):
                self._ended = True
            items = yield from self._moved.filled(self._passed(items), self._decoder.xids)
            state = self.state.seen(self._moved.seen_lsn)
            self.state = replace(state, decoder=self._decoder.state, starts=tuple(sorted(self._starts.items())))
            if self._decoder.gained:
                self.state = self._requests.filled(self.state, self._decoder.gained)
            rows = max(consumed, sum(item.row_count for item in items if isinstance(item, ChangeBatch)))
            size = sum(item.record.nbytes for item in items if isinstance(item, ChangeBatch))
            alone = any(isinstance(item, Truncate | ClearColumn) for item in items)
            newest = _newest(items)
            yield Piece(items, min(rows, self._rows_max), self.state.packed(), size, alone, newest)
            if newest:
                self._lag_ms.set(max(0.0, (time.time() - newest) * 1000))

    def _passed(self, items: Sequence[Item]) -> list[Item]:
        """Without changes that a table's rows, read later than the slot's begin, have in them already."""
        if not self._starts:
            return list(items)
        out: list[Item] = []
        for item in items:
            if isinstance(item, Truncate):  # it comes alone, so the decoder's position is its own
                after: bytes = self._decoder.state[1]
                if _commit_of(after) >= _commit_of(make(0, self._starts.get(item.table, 0), 0)):
                    out.append(item)
                continue
            if isinstance(item, ChangeBatch) and item.table.name == TRANSACTION_MARKS.name:
                marks = [mark for mark in from_batch(item) if not self._is_passed(mark)]
                out += [to_batch(marks)] if marks else []
                continue
            start = self._starts.get(item.table.name) if isinstance(item, ChangeBatch) else None
            if start is None:
                out.append(item)
                continue
            assert isinstance(item, ChangeBatch)
            positions = item.record.column(POSITION).cast(pa.binary())
            commits = pc.binary_slice(positions, GENERATION_BYTES, GENERATION_BYTES + COMMIT_BYTES)
            late = pc.greater_equal(commits, pa.scalar(_commit_of(make(0, start, 0))))
            record = item.record.filter(late)
            if record.num_rows:
                out.append(ChangeBatch(item.table, record))
        resume = self._decoder.resume_lsn
        self._starts = {table: lsn for table, lsn in self._starts.items() if lsn > resume}
        return out

    def _is_passed(self, mark: Mark) -> bool:
        """Whether a transaction's mark is of a table whose changes in it are passed over: no step may wait for them."""
        called, commit_lsn = mark.collection or "", mark.transaction.rpartition(":")[2]
        return bool(commit_lsn) and int(commit_lsn) < self._starts.get(self._tables.get(called, called), 0)


def _commit_of(position: bytes) -> bytes:
    return position[GENERATION_BYTES : GENERATION_BYTES + COMMIT_BYTES]


def _newest(items: Sequence[Item]) -> float:
    """Unix seconds of the newest commit; 0 where there is none."""
    newest = [item.record.column(SOURCE_TS)[-1].as_py() for item in items if isinstance(item, ChangeBatch)]
    return max((moment.timestamp() for moment in newest if moment is not None), default=0.0)
