"""Which version of a function serves which rows: compared with the old one, promoted and rolled back by itself.

The old version is right by definition. The new one is asked for the rows of some slots only (5, 25, 75, then all), the
old one for the same rows beside it, and the new one's answer is served only where it was found equal on that very
batch: so a wrong value never leaves.

    5 % --N clean batches--> 25 % --N--> 75 % --N--> 100 % --N--> promoted (100 %)
    any of them --a difference, an error, too slow--> rolled back: the old version serves, until a person resets it

A promoted version is compared on, unless the settings say `alone`: then it serves without the old one, and without the
promise. No clock, file or log here: versions say how long they took, and the state is returned as plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from libcore.errors import CorruptionError
from libcore.rollout_compare import Difference, difference

STAGES = (5, 25, 75, 100)
"""Percent of the slots that each stage serves."""
SLOTS = 100
"""A rollout has slots of its own, one a percent: slot = hash of the key mod 100."""
DIFFERENCE, ERROR, SLOW = "difference", "error", "slow"

Version = Callable[[pa.RecordBatch], tuple[pa.RecordBatch, int]]
"""Rows -> (answer, nanoseconds that it took)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """When a version is promoted or rolled back.

    Args:
        clean_batches: batches without a difference, in a stage, that lead to the next one.
        slower_than: within a stage the new version may take so many times the old one's time ...
        slower_by_ns: ... and so much more.
        alone: once promoted it serves without being compared.
        rows_max: differing rows that are kept, of one batch.
    """

    clean_batches: int = 100
    slower_than: float = 2.0
    slower_by_ns: int = 1_000_000_000
    alone: bool = False
    rows_max: int = 1000


@dataclass(frozen=True, slots=True)
class State:
    """How far a version has come.

    Args:
        stage: index into STAGES; len(STAGES): promoted.
        clean: clean batches in this stage.
        old_ns, new_ns: nanoseconds that both versions took in this stage, for the same rows.
        rows: rows compared since the beginning.
        reason: DIFFERENCE, ERROR or SLOW where it was rolled back; empty where not. why: a sentence, without values.
    """

    stage: int = 0
    clean: int = 0
    old_ns: int = 0
    new_ns: int = 0
    rows: int = 0
    reason: str = ""
    why: str = ""

    @property
    def rolled_back(self) -> bool:
        """Whether the old version serves all."""
        return bool(self.reason)

    @property
    def promoted(self) -> bool:
        """Whether it went through all stages."""
        return self.stage == len(STAGES) and not self.rolled_back

    @property
    def percent(self) -> int:
        """Slots that the new version serves, in percent."""
        return 0 if self.rolled_back else STAGES[min(self.stage, len(STAGES) - 1)]

    def as_data(self) -> dict[str, Any]:
        """Numbers and texts by name."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> State:
        """The inverse of as_data; unknown names are passed over. Raises CorruptionError."""
        known: dict[str, Any] = {field.name: data.get(field.name) for field in fields(cls)}
        texts = all(isinstance(known[name], str) for name in ("reason", "why"))
        counts = [value for name, value in known.items() if name not in ("reason", "why")]
        if not texts or not all(type(count) is int and count >= 0 for count in counts):
            raise CorruptionError(f"expected the state of a rollout, found {dict(data)!r}"[:300])
        found = cls(**known)
        if found.stage > len(STAGES):
            raise CorruptionError(f"expected a stage up to {len(STAGES)}, found {found.stage}")
        return found


@dataclass(frozen=True, slots=True)
class Served:
    """What comes of a batch.

    Args:
        record: the answer for all rows; None where the old version refused them: `error` is its error.
        state: the state afterwards.
        compared: rows that both versions were asked for.
        kept: rows that differ, with both answers (see `kept_rows`); None where nothing was found wrong.
    """

    record: pa.RecordBatch | None
    state: State
    compared: int = 0
    kept: pa.RecordBatch | None = None
    error: Exception | None = None


def serve(
    state: State,
    settings: Settings,
    record: pa.RecordBatch,
    slots: pa.Array,
    old: Version,
    new: Version,
    key: Sequence[str] | None = None,
) -> Served:
    """The answer for a batch; of the new version where it may serve and was found equal.

    Args:
        slots: the slot of each row, 0 to 99, by a stable hash of its key.
        old, new: the versions. An Exception of the old one is given back in `error`: who halves batches to find the
            rows that fail comes again with the halves. One of the new one, for rows that the old one took, is an ERROR;
            a row alone that both refuse is equal.
        key: columns by which the answer's rows belong together; None: an answer has a row for each row, in order.
    """
    if state.rolled_back or (state.promoted and settings.alone):
        return _of_one(state, record, old if state.rolled_back else new)
    chosen = pc.indices_nonzero(pc.less(slots, pa.scalar(state.percent, slots.type)))
    if not len(chosen):
        return _of_one(state, record, old)
    if len(chosen) == record.num_rows:
        return _compared(state, settings, record, old, new, key)
    served = _compared(state, settings, record.take(chosen), old, new, key)
    if served.record is None:
        return served
    others = pc.indices_nonzero(pc.greater_equal(slots, pa.scalar(state.percent, slots.type)))
    try:
        rest, _ = old(record.take(others))
        if not rest.schema.equals(served.record.schema):  # it depends on the rows: they cannot be told apart
            return replace(served, record=old(record)[0])
    except Exception as error:
        return replace(served, record=None, error=error)
    merged = pa.Table.from_batches([served.record, rest]).combine_chunks().to_batches()
    if not merged:
        return served
    if key is not None:  # a key's rows are all in one slot, so they keep their order
        return replace(served, record=merged[0])
    place = pc.sort_indices(pa.concat_arrays([chosen, others]))
    return replace(served, record=merged[0].take(place))


def counted(state: State, settings: Settings, compared: int) -> State:
    """The state after a whole batch, of which so many rows were compared; where none were, it says nothing."""
    if not compared or state.rolled_back or (state.promoted and settings.alone):
        return state
    if state.promoted or state.clean + 1 < settings.clean_batches:
        return replace(state, clean=state.clean + 1)
    return replace(state, stage=state.stage + 1, clean=0, old_ns=0, new_ns=0)


def rolled_back(state: State, reason: str, why: str) -> State:
    """The state after a rollback; the first reason stays."""
    return state if state.rolled_back else replace(state, reason=reason, why=why)


def _of_one(state: State, record: pa.RecordBatch, version: Version) -> Served:
    try:
        return Served(version(record)[0], state)
    except Exception as error:
        return Served(None, state, error=error)


def _compared(
    state: State, settings: Settings, rows: pa.RecordBatch, old: Version, new: Version, key: Sequence[str] | None
) -> Served:
    """Both versions' answers for the same rows: the new one's where it is equal and fast enough, else the old one's."""
    count = rows.num_rows
    try:
        expected, old_ns = old(rows)
        if key is None and expected.num_rows != count:
            raise ValueError(f"expected an answer of {count} rows, as many as came in, found {expected.num_rows}")
    except Exception as error:
        return _both_refuse(state, settings, rows, error, new)
    found: pa.RecordBatch | None = None
    try:
        found, new_ns = new(rows)
        unequal = difference(expected, found, key)
    except Exception as error:
        why = f"the new version failed: {type(error).__name__}"
        unequal = Difference(why, tuple((row, None) for row in range(expected.num_rows)))
        kept = kept_rows(rows if key is None else None, expected, None, unequal, settings.rows_max)
        return Served(expected, rolled_back(state, ERROR, why), count, kept)
    if unequal is not None:
        kept = kept_rows(rows if key is None else None, expected, found, unequal, settings.rows_max)
        return Served(expected, rolled_back(state, DIFFERENCE, unequal.sentence), count, kept)
    state = replace(state, old_ns=state.old_ns + old_ns, new_ns=state.new_ns + new_ns, rows=state.rows + rows.num_rows)
    if state.new_ns > settings.slower_than * state.old_ns + settings.slower_by_ns:
        why = f"the new version took {state.new_ns / 1e6:.1f} ms where the old one took {state.old_ns / 1e6:.1f} ms"
        return Served(expected, rolled_back(state, SLOW, why), count)
    return Served(found, state, count)


def _both_refuse(state: State, settings: Settings, rows: pa.RecordBatch, error: Exception, new: Version) -> Served:
    """The old version refuses these rows: one row alone must be refused by the new one, too."""
    if rows.num_rows > 1:
        return Served(None, state, error=error)
    try:
        found, _ = new(rows)
    except Exception:
        return Served(None, replace(state, rows=state.rows + 1), 1, error=error)
    why = f"the new version gave an answer for a row that the old one refuses ({type(error).__name__})"
    kept = kept_rows(rows, None, found if found.num_rows == 1 else None, Difference(why, ((0, 0),)), settings.rows_max)
    return Served(None, rolled_back(state, DIFFERENCE, why), 1, kept, error)


def kept_rows(
    rows: pa.RecordBatch | None,
    expected: pa.RecordBatch | None,
    found: pa.RecordBatch | None,
    unequal: Difference,
    rows_max: int,
) -> pa.RecordBatch:
    """Rows that differ, to be looked at.

    Args:
        rows: what both versions got, where the answers' rows stand in the same order; else None.
        expected, found: the old and the new version's answer; None: there is none.
        rows_max: so many at most.
    Returns: columns `differs` (names of all columns that differ, one text), `input.X`, `old.X`, `new.X`; NULL where
        there is no such row.
    """
    pairs = unequal.pairs[:rows_max]
    left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    names, arrays = ["differs"], [pa.array([", ".join(unequal.columns) or unequal.sentence] * len(pairs), pa.utf8())]
    for prefix, record, places in (("input", rows, left), ("old", expected, left), ("new", found, right)):
        if record is not None:
            taken = record.take(pa.array(places, pa.int64()))
            names += [f"{prefix}.{name}" for name in taken.schema.names]
            arrays += taken.columns
    return pa.RecordBatch.from_arrays(arrays, names=names)
