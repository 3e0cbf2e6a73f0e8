"""A step with a new version beside it: both answer for some slots, the new one serves what was found equal.

libcore/rollout.py decides; this operator hands it the versions with the time that they took, counts whole batches, and
tells the keeper, who shares a rollback with the other processes. Rows that the old version refuses are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pyarrow as pa
import structlog

from connectors.base import metrics
from connectors.base.items import Item
from flows.operators.batch import BatchFunction
from libcore import rollout
from libcore.change import ChangeBatch
from libcore.errors import DataError, RowsError
from libcore.hashing import hash_rows
from libcore.rollout import Settings, State
from libcore.schema import Table
from libcore.slots import slot_of

_LOG = structlog.get_logger()


class Keeper(Protocol):
    """Where a rollout's state is kept, for this process and for all."""

    @property
    def name(self) -> str:
        """The rollout's name."""

    def load(self) -> State:
        """The state to begin with."""

    def save(self, state: State) -> None:
        """Keep this process's state."""

    def rollback(self) -> tuple[str, str] | None:
        """(reason, why) where any process has rolled back, and nobody has reset it since. Asked for every batch."""

    def roll_back(self, state: State, kept: pa.RecordBatch | None) -> None:
        """Tell all processes, and keep the rows that differ. Raises OSError."""


class Rolling:
    """A rollout in one process.

    Args:
        settings: when to promote and to roll back.
        keeper: where the state is.
        new: the new version.
        now: a monotonic clock, in nanoseconds.
    """

    def __init__(self, settings: Settings, keeper: Keeper, new: BatchFunction, now: Callable[[], int]) -> None:
        self._settings, self._keeper, self._new, self._now = settings, keeper, new, now
        self._state = keeper.load()
        self._compared = 0
        self._owed: tuple[State, pa.RecordBatch | None] | None = None
        self._told = False
        self._show()

    def around(self, old: BatchFunction) -> BatchFunction:
        """The function that serves: the step's own one with the new version beside it."""

        def served(batch: ChangeBatch) -> ChangeBatch:
            return self._served(old, batch)

        return served

    def mapper(self, inner: Callable[[Sequence[Item]], list[Item]]) -> Callable[[Sequence[Item]], list[Item]]:
        """The step's mapper, whose batches are counted."""

        def counted(items: Sequence[Item]) -> list[Item]:
            out: list[Item] = []
            for item in items:
                self._begin()
                out += inner([item])
                self._end()
            return out

        return counted

    def _begin(self) -> None:
        """Do as the other processes do: one's rollback is everybody's, and so is a reset."""
        if self._owed is not None:
            self._tell(*self._owed)
        elsewhere = self._keeper.rollback()
        if elsewhere is not None:
            self._told = True
            if not self._state.rolled_back:
                _LOG.warning("another process rolled back", rollout=self._keeper.name, reason=elsewhere[0])
                self._state = rollout.rolled_back(self._state, *elsewhere)
                self._save()
        elif self._told and self._state.rolled_back and self._owed is None:
            self._told, self._state = False, State()
            _LOG.info("a rollout begins again", rollout=self._keeper.name)
            self._save()

    def _end(self) -> None:
        if self._compared:
            state = rollout.counted(self._state, self._settings, self._compared)
            if state.percent != self._state.percent or state.promoted != self._state.promoted:
                _LOG.info(
                    "a new version serves more", rollout=self._keeper.name, percent=state.percent, done=state.promoted
                )
            self._state, self._compared = state, 0
            self._save()

    def _served(self, old: BatchFunction, batch: ChangeBatch) -> ChangeBatch:
        if self._state.rolled_back:
            answer: ChangeBatch = old(batch)
            return answer
        tables: list[Table] = []
        slots = slot_of(hash_rows(batch.record, batch.table.key_indexes), rollout.SLOTS)
        served = rollout.serve(
            self._state,
            self._settings,
            batch.record,
            slots,
            self._version(old, batch.table, tables),
            self._version(self._new, batch.table, tables),
        )
        self._state = served.state
        self._compared += served.compared
        if served.state.rolled_back:
            self._compared = 0
            _LOG.error(
                "a new version is rolled back",
                rollout=self._keeper.name,
                reason=served.state.reason,
                why=served.state.why,
            )
            metrics.ROLLOUT_ROLLBACKS.labels(self._keeper.name, served.state.reason).inc()
            self._tell(served.state, served.kept)
        if served.record is None:
            assert served.error is not None
            if isinstance(served.error, RowsError):  # it counts the rows of some slots; each alone is to be compared
                raise DataError(str(served.error)) from served.error
            raise served.error
        return ChangeBatch(tables[0], served.record)

    def _version(self, function: BatchFunction, table: Table, tables: list[Table]) -> rollout.Version:
        def version(record: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
            start = self._now()
            answer: Any = function(ChangeBatch(table, record))
            took = self._now() - start
            tables.append(answer.table)  # the first one asked is the one that is right
            return answer.record, took

        return version

    def _tell(self, state: State, kept: pa.RecordBatch | None) -> None:
        """Tell the others; this process has rolled back even where they cannot be told yet."""
        try:
            self._keeper.roll_back(state, kept)
            self._owed, self._told = None, True
        except OSError as error:
            _LOG.error("a rollback could not be written", rollout=self._keeper.name, error=str(error))
            self._owed = (state, kept)
        self._save()

    def _save(self) -> None:
        self._show()
        try:
            self._keeper.save(self._state)
        except OSError as error:  # it costs clean batches at the next start, and no more
            _LOG.warning("a rollout's state could not be written", rollout=self._keeper.name, error=str(error))

    def _show(self) -> None:
        metrics.ROLLOUT_PERCENT.labels(self._keeper.name).set(self._state.percent)
        metrics.ROLLOUT_CLEAN.labels(self._keeper.name).set(self._state.clean)
