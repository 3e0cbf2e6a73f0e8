"""The messages of one PostgreSQL slot (pgoutput) -> batches of changes, truncates, transaction marks, dead letters.

libcore.pgoutput does the rows; this module knows the relations and their tables, answers what stops it, and keeps what
a restart needs. Rows of a table keep their order; between two markers they are gathered, so the order between tables is
only that of their positions. A streamed transaction waits in a StreamStore until its commit.

State: (1, position of the last change, LSN behind the last whole transaction, table shapes as text). The slot sends the
transaction that was open again from its beginning; its changes up to that position are dropped. Nothing else is kept:
with a new connection PostgreSQL describes each relation again, and sends what was streamed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.base.batches import gathered
from connectors.base.dead_letters import Failure, raw_messages
from connectors.base.items import ClearColumn, Item, Truncate
from connectors.base.metrics import BATCHES, DECODE_ERRORS, EVENTS, REDELIVERED
from connectors.base.source import RAW_SCHEMA
from connectors.formats import pgoutput_relations as relations
from connectors.formats.binding import TopicBinding
from connectors.formats.pgoutput_relations import SlotTable
from connectors.formats.pgoutput_streams import MemoryStreams, Streams, StreamStore
from libcore import pgoutput_messages as words
from libcore.change import ChangeBatch
from libcore.errors import ConfigurationError, DataError, FatalError
from libcore.pgoutput import ChangeError, PgoutputDecoded, PgoutputPlan, PgoutputState, RelationPlan, decode_pgoutput
from libcore.pgoutput_messages import LogicalMessage
from libcore.transaction_mark import END, LOST, Mark, to_batch

__all__ = ["MemoryStreams", "PgoutputDecoder", "StreamStore"]

STATE_VERSION = 1
_COMMITS = pa.array([b"C", b"c"], pa.binary())

_log = structlog.get_logger()


class PgoutputDecoder:
    """Messages of one slot -> items. Deterministic: its state and its input decide its output.

    Args:
        slot: names the slot in dead letters, logs and the identities of markers.
        bindings: "schema.table" at the source -> its table and policies; changes of others are passed over. The key of
            a table with REPLICA IDENTITY FULL stands in its binding, else the table counts as one without a key.
        state: a former decoder's state, None at the first start.
        generation: the source's generation (libcore/position.py).
        transactions: rows carry their transaction, and END marks follow (the document step).
        streams: where streamed transactions wait; in memory by default.
        batch_rows_max: messages of a streamed transaction that one call decodes.
    """

    def __init__(
        self,
        slot: str,
        bindings: Mapping[str, TopicBinding],
        state: object | None = None,
        *,
        flow: str = "",
        generation: int = 0,
        transactions: bool = False,
        streams: StreamStore | None = None,
        batch_rows_max: int = 65_536,
    ) -> None:
        self._slot, self._bindings, self._flow = slot, dict(bindings), flow
        self._rows_max, self._transactions = batch_rows_max, transactions
        self._streams = Streams(MemoryStreams() if streams is None else streams)
        self._tables: dict[str, SlotTable] = {}
        self._names: dict[int, str] = {}  # relation -> "schema.table"
        self._named: dict[int, str] = {}  # types by oid, where they are of pg_catalog
        self._state, self._resume_lsn = PgoutputState(), 0
        self._plan = PgoutputPlan(generation=generation, transactions=transactions)
        self._streamed = replace(self._plan, streamed=True)
        self.heard: list[LogicalMessage] = []
        """Logical messages that the last call of decode met, in order; not of rolled back transactions."""
        self.xids: set[int] = set()
        """The transactions that the last call of decode met, as their BEGIN has them."""
        self.gained: dict[str, dict[str, bool]] = {}
        """By table, columns that it gained in the last call of decode: see pgoutput_relations.gained."""
        if state is not None:
            self._resume(state)
        self._kept = tuple(table.text() for table in self._tables.values())

    def _resume(self, state: Any) -> None:
        if state[0] != STATE_VERSION:
            raise ConfigurationError(f"slot {self._slot}: expected decoder state {STATE_VERSION}, found {state[0]!r}")
        _, after, self._resume_lsn, texts = state
        self._state = PgoutputState(after)
        by_table = {binding.table: name for name, binding in self._bindings.items()}
        for table in map(relations.read, texts):
            if table.table.name in by_table:  # a refusal is judged anew: the settings may be others now
                self._tables[by_table[table.table.name]] = replace(table, refused="")

    @property
    def state(self) -> object:
        """Small, immutable, picklable; see the module's first lines."""
        return (STATE_VERSION, self._state.after, self._resume_lsn, self._kept)

    @property
    def resume_lsn(self) -> int:
        """END of the last transaction that was consumed whole: where to start the slot, and what to confirm once the
        state is durable."""
        return self._resume_lsn

    @property
    def at_border(self) -> bool:
        """Whether no transaction is open: what was given so far are whole transactions."""
        return not self._state.open and self._streams.commit is None

    def idle_at(self, lsn: int) -> None:
        """The server says (keepalive) that up to that LSN nothing is for this slot; only at a border with no stream."""
        if self.at_border and self._streams.open is None:
            self._resume_lsn = max(self._resume_lsn, lsn)

    def decode(self, messages: pa.RecordBatch, *, whole: bool = False) -> tuple[list[Item], int]:
        """Items of the first messages (by pgoutput_types.MESSAGES), and how many messages they are.

        The caller brings the rest again, also where none was consumed: then items came, or more are to come, of the
        message that stands first. A Truncate comes alone, a ClearColumn in front of all rows.

        Args:
            whole: end behind the last commit in `messages`, where there is one; without one all are consumed.
        Raises: FatalError at a truncate that stops and for a broken stream, ConfigurationError where no table fits.
        """
        self.heard, self.xids, self.gained = [], set(), {}
        if whole and self._streams.commit is None:
            borders = pc.indices_nonzero(pc.is_in(pc.binary_slice(messages.column(0), 0, 1), _COMMITS))
            messages = messages.slice(0, borders[-1].as_py() + 1) if len(borders) else messages
        out: list[Item] = []
        start, count = 0, messages.num_rows
        while start < count:
            if self._streams.open is not None:
                start = self._stream(messages, start)
                continue
            if self._streams.commit is not None:
                ended, paused = self._replay(out)
                if paused:
                    break
                start += ended
                continue
            done = decode_pgoutput(self._plan, messages, start, self._state)
            self._take(self._plan, done, messages, out)
            start = done.consumed
            if done.stop is not None:
                start, paused = self._answer(done.stop, messages, start, out)
                if paused:
                    break
        return self._gathered(out), start

    # ---- what the kernel gives ----

    def _take(self, plan: PgoutputPlan, done: PgoutputDecoded, messages: pa.RecordBatch, out: list[Item]) -> None:
        self._state = done.state
        out += done.batches
        if done.redelivered:
            REDELIVERED.labels(self._slot).inc(done.redelivered)
        for index in done.events:
            self.heard.append(words.read_message(messages.column(0)[index].as_py(), plan.streamed))
        if done.stop == "broken":
            raise self._fatal(messages, done.consumed, done.errors[-1].text)
        if done.errors:
            out += self._letters(done.errors, messages)
        if self._state.open:
            self.xids.add(self._state.xid)
        if done.commits.num_rows:
            self.xids.update(done.commits.column("xid").to_pylist())
            if self._transactions:
                self._mark(plan, done, out)
            self._resume_lsn = max(self._resume_lsn, done.commits.column("end_lsn")[-1].as_py())

    def _mark(self, plan: PgoutputPlan, done: PgoutputDecoded, out: list[Item]) -> None:
        parts: dict[int, list[tuple[str, int]]] = {}
        for commit, relation, count in zip(*(column.to_pylist() for column in done.shares.columns), strict=True):
            oid = plan.relations[relation].oid
            if plan.relations[relation].table is not None or plan.relations[relation].refused:
                parts.setdefault(commit, []).append((self._names[oid], count))
        marks: list[Mark] = []
        for index, commit in enumerate(done.commits.to_pylist()):
            if index in parts and commit["end_lsn"] > self._resume_lsn:  # else it was told before
                name = f"{commit['xid']}:{commit['commit_lsn']}"
                marks += _end_marks(name, parts[index], commit["commit_us"])
        if marks:
            out.append(to_batch(marks))

    def _letters(self, errors: Sequence[ChangeError], messages: pa.RecordBatch) -> list[Item]:
        count = messages.num_rows
        raw = pa.RecordBatch.from_arrays(
            [
                pa.nulls(count, pa.binary()),
                messages.column(0),
                messages.column(1),
                pa.repeat(pa.scalar(-1, pa.int64()), count),
            ],
            schema=RAW_SCHEMA,
        )
        items: list[Item] = []
        by_table: dict[str, list[ChangeError]] = {}
        for error in errors:
            assert error.oid is not None  # the others break the stream
            by_table.setdefault(self._bindings[self._names[error.oid]].table, []).append(error)
        for table, found in by_table.items():
            DECODE_ERRORS.labels(table).inc(len(found))
            if self._transactions:
                texts = [f"{error.code.name}: {error.text}" for error in found]
                pairs = zip(found, texts, strict=True)
                items.append(
                    to_batch([Mark(LOST, e.transaction, table, number=e.number, error=text) for e, text in pairs])
                )
            failures = [
                Failure(error.message, f"{error.code.name}: {error.text}", error.byte_position) for error in found
            ]
            items.append(
                raw_messages(failures, raw, flow=self._flow, step="decode", table=table, topic=self._slot, partition=0)
            )
        return items

    def _gathered(self, items: list[Item]) -> list[Item]:
        """Where nothing but batches stands between two of a table, they are one; marks stay last."""
        out = items if self._transactions else gathered(items)  # the document step gathers by itself
        for item in out:
            if isinstance(item, ChangeBatch):
                EVENTS.labels(item.table.name).inc(item.row_count)
                BATCHES.labels(item.table.name).inc()
        return out

    # ---- what stops it ----

    def _answer(self, stop: str, messages: pa.RecordBatch, at: int, out: list[Item]) -> tuple[int, bool]:
        """(message to go on with, whether this call ends)."""
        payload = messages.column(0)[at].as_py()
        try:
            if stop == "relation":
                return self._described(payload, messages, at, out, streamed=False)
            if stop == "truncate":
                lsn = messages.column(1)[at].as_py()
                paused = bool(out) or self._truncated(words.read_truncate(payload), lsn, out)
                return at + (not paused), paused
            if stop == "stream" and not self._state.open:
                return self._border(payload, at), False
        except DataError as error:
            raise self._fatal(messages, at, error.message) from error
        if stop == "prepared":
            raise ConfigurationError(f"slot {self._slot}: expected a slot made with TWO_PHASE false")
        raise self._fatal(messages, at, f"a message that cannot stand here ({stop}): {payload[:40]!r}")

    def _described(
        self, payload: bytes, messages: pa.RecordBatch, at: int, out: list[Item], *, streamed: bool
    ) -> tuple[int, bool]:
        """Take a relation or a type on."""
        if payload[:1] == b"Y":
            oid, schema, name = words.read_type(payload, streamed)
            if schema == "pg_catalog":
                self._named[oid] = name
            return at + 1, False
        relation, place = words.read_relation(payload, streamed), f"{self._slot}:{messages.column(1)[at].as_py()}"
        name = f"{relation.schema}.{relation.name}"
        binding = self._bindings.get(name)
        self._names[relation.oid] = name
        description = words.description(payload, streamed)
        if binding is None:
            self._replan(RelationPlan(relation.oid, None, (), description))
            return at + 1, False
        accepted = self._tables.get(name)
        lost = relations.lost(binding, relation, accepted) if binding.clears else ()
        if lost and out:
            return at, True  # what came before goes out first, under the old shape
        table = relations.resolve(binding, relation, self._named, accepted, place)
        if accepted is not None and table.table == accepted.table:
            table = replace(table, table=accepted.table)  # one object, so that its batches can be joined
        if new := relations.gained(relation, accepted, table):
            self.gained[name] = self.gained.get(name, {}) | new
        self._tables[name] = table
        self._kept = tuple(known.text() for known in self._tables.values())
        self._replan(relations.plan(relation, description, self._named, table))
        out += [ClearColumn(binding.table, column, f"{place}:{column}") for column in lost]
        return at + 1, False

    def _replan(self, relation: RelationPlan) -> None:
        others = tuple(known for known in self._plan.relations if known.oid != relation.oid)
        self._plan = replace(self._plan, relations=(*others, relation))

    def _truncated(self, oids: Sequence[int], lsn: int, out: list[Item]) -> bool:
        """Answer a T; False where it is done, True where another call must go on with it."""
        counted = self._state.counted(lsn)
        for index, oid in enumerate(oids):
            binding = self._bindings.get(self._names.get(oid, ""))
            position = counted.position(self._plan.generation, second=index)
            if binding is None or position <= self._state.after:
                continue
            place = f"{self._slot}:{lsn}:{binding.table}"
            if binding.on_truncate == "stop":
                text = (
                    f'table {binding.table}: TRUNCATE at {place}; on_truncate = "ignore" passes over it, "apply" '
                    "empties the target"
                )
                _log.error("truncate", table=binding.table, at=place, error=text)
                raise FatalError(text)
            if binding.on_truncate == "ignore":
                _log.warning("truncate ignored", table=binding.table, at=place)
                continue
            self._state = replace(self._state, after=position)
            out.append(Truncate(binding.table, place))
            return True
        self._state = counted
        return False

    def _fatal(self, messages: pa.RecordBatch, at: int, text: str) -> FatalError:
        text = f"slot {self._slot} at LSN {messages.column(1)[at].as_py()}: the stream cannot be read: {text}"
        _log.error("broken stream", slot=self._slot, error=text)
        return FatalError(text)

    # ---- streamed transactions ----

    def _border(self, payload: bytes, at: int) -> int:
        """Answer S, A or c; the message to go on with (c stays until all of its transaction was given)."""
        kind = payload[:1]
        if kind == b"S":
            self._streams.open = words.read_stream_start(payload)
        elif kind == b"A":
            self._streams.abort(*words.read_stream_abort(payload))
        elif kind == b"c":
            commit = words.read_stream_commit(payload)
            self._streams.begins(commit)
            self._state = self._state.begun(commit.xid, commit.commit_lsn, commit.commit_us)
            return at
        else:
            raise DataError("E without S")
        return at + 1

    def _stream(self, messages: pa.RecordBatch, start: int) -> int:
        """Keep the messages of the open block; behind its E, or behind all."""
        assert self._streams.open is not None
        end = pc.index(pc.binary_slice(messages.column(0).slice(start), 0, 1), pa.scalar(b"E", pa.binary())).as_py()
        count = messages.num_rows - start if end < 0 else end
        if count:
            self._streams.store.append(self._streams.open, messages.slice(start, count))
        if end < 0:
            return messages.num_rows
        self._streams.open = None
        return start + end + 1

    def _replay(self, out: list[Item]) -> tuple[int, bool]:
        """Decode some of a committed streamed transaction: (1 where all of it is done, whether this call ends)."""
        commit = self._streams.commit
        assert commit is not None
        messages = self._streams.store.read(commit.xid, self._streams.given, self._rows_max)
        if messages.num_rows == 0:
            self._finish(out)
            return 1, False
        aborted = frozenset(self._streams.aborted.get(commit.xid, ()))
        plan = self._streamed
        if plan.relations is not self._plan.relations or plan.aborted != aborted:
            plan = self._streamed = replace(self._plan, streamed=True, aborted=aborted)
        done = decode_pgoutput(plan, messages, 0, self._state)
        self._take(plan, done, messages, out)
        self._streams.given += done.consumed
        if done.stop is None:
            return 0, bool(out)
        payload, lsn = messages.column(0)[done.consumed].as_py(), messages.column(1)[done.consumed].as_py()
        try:
            if done.stop == "relation":
                reached, paused = self._described(payload, messages, done.consumed, out, streamed=True)
                self._streams.given += reached - done.consumed
                return 0, paused
            if done.stop == "truncate":
                paused = bool(out) or self._truncated(words.read_truncate(payload, True), lsn, out)
                self._streams.given += not paused
                return 0, paused
        except DataError as error:
            raise self._fatal(messages, done.consumed, error.message) from error
        raise self._fatal(messages, done.consumed, f"a streamed message that cannot stand here: {payload[:40]!r}")

    def _finish(self, out: list[Item]) -> None:
        """The commit of a streamed transaction, once all of its changes were given."""
        commit = self._streams.commit
        assert commit is not None
        read = {relation.oid for relation in self._plan.relations if relation.table is not None or relation.refused}
        parts = [(self._names[oid], count) for oid, count in self._state.changes if oid in read]
        if self._transactions and parts and commit.end_lsn > self._resume_lsn:
            out.append(to_batch(_end_marks(self._state.transaction, parts, commit.commit_us)))
        self._resume_lsn = max(self._resume_lsn, commit.end_lsn)
        self._state = self._state.ended()
        self._streams.ends()


def _end_marks(name: str, parts: Sequence[tuple[str, int]], commit_us: int) -> list[Mark]:
    """The END of a transaction: all its changes, then those of each table."""
    total = Mark(END, name, None, sum(count for _, count in parts), time_us=commit_us)
    return [total, *(Mark(END, name, collection, count, time_us=commit_us) for collection, count in parts)]
