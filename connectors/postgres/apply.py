"""Brings one part's segments into PostgreSQL: one fenced transaction each, exactly once in effect.

The transaction begins with `UPDATE headrace_progress SET seq = n WHERE flow, part, store_id AND seq = n - 1`. If that
hits no row and the row says n, an earlier COMMIT had worked and only its answer was lost. Anything else means that
another process writes for this part, or the target was restored: fatal.

The fast way takes a whole segment at once. Where the database refuses a row, or rows wait in the ledger, the segment
goes the careful way: savepoints and halving single the refused rows out, the others go in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
import pyarrow as pa
import structlog

from connectors.base.items import ClearColumn, Truncate
from connectors.base.target import Applied, Progress, WaitForParts, markers_of
from connectors.postgres.careful import Careful
from connectors.postgres.config import PostgresConfig, TargetTable
from connectors.postgres.ddl import PROGRESS, TABLES, ensure
from connectors.postgres.dead_letters import Ledger, Letters, write_parquet
from connectors.postgres.direct import Direct
from connectors.postgres.plan import Plan, encode, prepare, put
from connectors.postgres.session import Connection, Refused, classify, connect, database_errors, literal, quote
from connectors.postgres.truncates import Markers
from connectors.postgres.work import Step, Unfit, order
from libcore.change import UNSET
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, FatalError
from libcore.pgcopy_types import Encoded
from libcore.schema import Table
from libcore.segment import Segment

_LOG = structlog.get_logger()


@dataclass(frozen=True)
class Binding:
    """What every part of a flow shares: names, limits, and where each source table goes."""

    config: PostgresConfig
    flow: str
    store_id: str
    parts: int
    targets: Mapping[str, TargetTable]

    def metadata(self, name: str) -> str:
        """SQL name of one of Headrace's own tables."""
        return f"{quote(self.config.metadata_schema)}.{name}"


class PostgresPart:
    """One part's session; connects on first use and again after an error."""

    def __init__(self, binding: Binding, part: int) -> None:
        self._binding, self._part = binding, part
        self._key = (binding.flow, part, binding.store_id)
        self._connection: Connection | None = None
        self._plans: dict[tuple[str, bool], Plan] = {}
        self._directs: dict[str, Direct] = {}  # by the plan's staging table, made with the plan
        self._ledger = Ledger(binding.config.metadata_schema, binding.flow, part, binding.config.dead_letters_max)
        self._markers = Markers(
            binding.config.metadata_schema, binding.flow, binding.store_id, part, binding.parts, binding.targets
        )
        self._progress = binding.metadata(PROGRESS)
        self._log = _LOG.bind(flow=binding.flow, part=part)

    def progress(self) -> Progress:
        """The part's row in headrace_progress; made with seq 0 where there is none."""
        with database_errors():
            connection = self._open()
            connection.execute(
                f"INSERT INTO {self._progress} (flow, part, store_id, seq) VALUES (%s, %s, %s, 0) "
                f"ON CONFLICT DO NOTHING",
                self._key,
            )
            row = connection.execute(
                f"SELECT seq, store_id FROM {self._progress} WHERE flow = %s AND part = %s", self._key[:2]
            ).fetchone()
            assert row is not None
            return Progress(*row)

    def apply(self, seq: int, segment: Segment) -> Applied:
        """Bring a segment in (contract: connectors/base/target.py)."""
        with database_errors():
            connection = self._open()
            names = [table.name for table, _ in segment.parts]
            if self._markers.holds(names) and not self._markers.settle(connection) and self._markers.holds(names):
                raise WaitForParts(f"segment {seq} holds a table whose marker is not done")
            try:
                return self._apply(connection, seq, segment)
            except psycopg.ProgrammingError:
                # Somebody changed the target under our statements: look at it again, once.
                self._plans, self._directs = {}, {}
                return self._apply(connection, seq, segment)

    def settle(self) -> bool:
        """Do this part's share of pending markers; True when none is left."""
        if self._markers.settled:
            return True
        with database_errors():
            return self._markers.settle(self._open())

    def ways_out(self, seq: int) -> str:
        """The commands for an operator whose target and state directory do not belong together."""
        flow = literal(self._binding.flow)
        tables = self._binding.metadata(TABLES)
        return (
            "(1) start with the state directory (recovery store and spool) that wrote this target; "
            f"(2) build the target anew from the start of the source: stop the flow, remove its state directory, set "
            f'mode = "replace", and run  DELETE FROM {self._progress} WHERE flow = {flow}; '
            f"DELETE FROM {tables} WHERE flow = {flow};  "
            f"(3) if you know that the target holds exactly segment {seq} of this part, as this state directory says:  "
            f"UPDATE {self._progress} SET seq = {seq}, store_id = {literal(self._binding.store_id)} "
            f"WHERE flow = {flow} AND part = {self._part};"
        )

    def close(self) -> None:
        """End the session."""
        connection, self._connection = self._connection, None
        self._plans, self._directs = {}, {}
        if connection is not None:
            connection.close()

    def _open(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self.close()
        connection = connect(self._binding.config, f"{self._binding.flow}/{self._part}")
        try:
            self._ledger.load(connection)
            self._markers.load(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _apply(self, connection: Connection, seq: int, segment: Segment) -> Applied:
        steps, unfit, letters = self._work(connection, segment)
        tables = [table for table, _ in segment.parts]
        if not unfit and not letters and not self._ledger.holds(tables):
            try:
                return self._fast(connection, seq, segment, steps)
            except psycopg.Error as error:
                refusal = classify(error)
                if not isinstance(refusal, Refused):
                    raise
                self._log.info("a row was refused: looking for it", seq=seq, error=str(refusal))
            except Refused as refusal:
                self._log.info("a row has no form in PostgreSQL: looking for it", seq=seq, error=str(refusal))
        return self._careful(connection, seq, segment, steps, unfit, letters)

    def _fast(self, connection: Connection, seq: int, segment: Segment, steps: Sequence[Step]) -> Applied:
        splits = [self._directs[step.plan.staging].split(step.record) for step in steps]
        encoded = [
            _encode(step.plan, step.record if split is None else split.others)
            for step, split in zip(steps, splits, strict=True)
        ]
        with connection.transaction():
            if not self._fence(connection, seq, _rows(steps)):
                return Applied(0, repeated=True)
            used: set[str] = set()
            for step, split, batch in zip(steps, splits, encoded, strict=True):
                if split is not None:
                    if not self._directs[step.plan.staging].copy(connection, split):
                        batch = _encode(step.plan, step.record)
                    elif split.others.num_rows == 0:
                        continue
                put(
                    connection, step.plan, batch, step.plan.statements_for(step.record), again=step.plan.staging in used
                )
                used.add(step.plan.staging)
            self._record_markers(connection, seq, segment)
        self._after(connection, segment)
        return Applied(_rows(steps))

    def _careful(
        self,
        connection: Connection,
        seq: int,
        segment: Segment,
        steps: Sequence[Step],
        unfit: Sequence[Unfit],
        passed: Sequence[pa.RecordBatch],
    ) -> Applied:
        letters = Letters(self._binding.flow)
        for record in passed:
            letters.pass_on(record)
        with connection.transaction():
            if not self._fence(connection, seq, _rows(steps)):
                self._ledger.load(connection)
                return Applied(0, repeated=True)
            careful = Careful(connection, self._ledger, letters, self._plan)
            careful.refuse(unfit)
            careful.run(steps)
            if letters.refused and self._binding.config.stop_at_refused:
                raise FatalError(_torn(self._binding.flow, seq, letters))
            self._ledger.write(connection, seq, letters, careful.settled)
            self._record_markers(connection, seq, segment)
            if self._binding.config.dead_letters_dir is not None:
                write_parquet(self._binding.config.dead_letters_dir, self._binding.flow, self._part, seq, letters)
        self._ledger.committed(connection, letters, reload=bool(careful.settled))
        self._after(connection, segment)
        for row in letters.rows[:1]:
            self._log.warning(
                "dead letters", seq=seq, count=len(letters.rows), table=row["table_name"], error=row["error"]
            )
        rows = _rows(steps) + sum(part.record.num_rows for part in unfit)
        return Applied(max(0, rows - letters.refused), letters.refused)

    def _fence(self, connection: Connection, seq: int, rows: int) -> bool:
        """Take the part's progress row from seq - 1 to seq; False where the segment is in the target already."""
        moved = connection.execute(
            f"UPDATE {self._progress} SET seq = %s, rows = rows + %s, updated_at = now() "
            f"WHERE flow = %s AND part = %s AND store_id = %s AND seq = %s",
            (seq, rows, *self._key, seq - 1),
            prepare=True,
        )
        if moved.rowcount == 1:
            return True
        row = connection.execute(
            f"SELECT seq, store_id FROM {self._progress} WHERE flow = %s AND part = %s", self._key[:2]
        ).fetchone()
        if row == (seq, self._binding.store_id):
            return False
        found = "no row" if row is None else f"segment {row[0]} of store {row[1]}"
        raise FatalError(
            f"flow {self._binding.flow}, part {self._part}: expected segment {seq - 1} of store "
            f"{self._binding.store_id} in {self._progress}, found {found}: another process writes for "
            "this part, or the target was restored"
        )

    def _record_markers(self, connection: Connection, seq: int, segment: Segment) -> None:
        markers = markers_of(segment.metadata)
        if not markers:
            return
        self._markers.record(connection, seq, markers)
        for marker in markers:
            if isinstance(marker, ClearColumn):
                self._ledger.clear_column(connection, marker.table, marker.column)
            elif isinstance(marker, Truncate):
                self._ledger.forget(connection, marker.table)

    def _after(self, connection: Connection, segment: Segment) -> None:
        if markers_of(segment.metadata):
            self._markers.load(connection)
            self._ledger.load(connection)

    def _work(self, connection: Connection, segment: Segment) -> tuple[list[Step], list[Unfit], list[pa.RecordBatch]]:
        """The segment as steps, in an order that foreign keys allow; what does not fit; letters passed on."""
        steps: list[Step] = []
        unfit: list[Unfit] = []
        letters: list[pa.RecordBatch] = []
        for table, record in segment.parts:
            if table.name == DEAD_LETTERS.name:
                letters.append(record)
                continue
            try:
                steps.append(Step(self._plan(connection, table, UNSET in record.schema.names), record))
            except ConfigurationError as error:
                self._log.error("the source's change does not fit the target", table=table.name, error=str(error))
                unfit.append(Unfit(table, record, str(error)))
        return order(steps), unfit, letters

    def _plan(self, connection: Connection, table: Table, with_unset: bool) -> Plan:
        key = (table.fingerprint, with_unset)
        if key not in self._plans:
            target = self._binding.targets.get(table.name)
            if target is None:
                raise FatalError(f"table {table.name} is not one of this flow's {sorted(self._binding.targets)}")
            row = connection.execute(
                f"SELECT made, single_part FROM {self._binding.metadata(TABLES)} "
                f"WHERE table_schema = %s AND table_name = %s",
                (target.schema, target.table),
            ).fetchone()
            if row is None:
                raise FatalError(
                    f"target {target.name} is not registered for flow {self._binding.flow}: run its preflight"
                )
            plan = Plan(table, ensure(connection, table, target, made=row[0], create=False), with_unset, row[1])
            prepare(connection, plan)
            self._plans[key], self._directs[plan.staging] = plan, Direct(plan)
        return self._plans[key]


def _encode(plan: Plan, record: pa.RecordBatch) -> Encoded:
    """COPY bytes of the rows. Raises Refused for the first row that has none."""
    encoded = encode(plan, record)
    if encoded.errors:
        raise Refused(encoded.errors[0].text, "")
    return encoded


def _torn(flow: str, seq: int, letters: Letters) -> str:
    row = letters.rows[-1]
    return (
        f"flow {flow}: the target refuses {letters.refused} rows of segment {seq}, the last of {row['table_name']}, "
        f"key {row['key_text']}: {row['error']}; a source transaction would go in without them, so nothing of the "
        'segment was applied. Ways out: let the target take them and start again, or [document] on_bad_row = "apply"'
    )


def _rows(steps: Sequence[Step]) -> int:
    return sum(step.record.num_rows for step in steps)
