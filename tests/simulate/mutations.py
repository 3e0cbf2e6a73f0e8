"""Faults put in on purpose: each must be found, or the simulation looks at nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc

import libcore.window
from flows.operators import join, keyed
from flows.operators.document import Documents
from flows.operators.document_state import Keeper
from flows.operators.pending import Pending
from flows.operators.watermarks import Progress, ProgressLogic
from flows.operators.window import AggregatesStage
from flows.state import merge
from flows.state.log import StateLog
from flows.state.segments import SegmentStore
from libcore import window_contributions
from libcore.change import OP, UNSET, ChangeBatch, Op
from libcore.due import Due
from libcore.join import FORGET, VERSION, FactRouter, Latest, Matcher
from libcore.join_stage import Stage
from libcore.table import RowStore
from libcore.window import Aggregates, Contributions
from libcore.window_plan import SIGN
from tests.simulate import flow
from tests.simulate.ends import LateWrites, PlannedPartition, TargetPart


@contextmanager
def _around(owner: Any, name: str, changed: Callable[..., Any]) -> Iterator[None]:
    """Replace a method by `changed(real, self, *arguments)`."""
    real = getattr(owner, name)
    with patch.object(owner, name, lambda *arguments: changed(real, *arguments)):
        yield


def _forgetful(real: Any, latest: Latest, record: pa.RecordBatch) -> ChangeBatch | None:
    latest.clear()
    return real(latest, record)


def _deaf(real: Any, matcher: Matcher, record: pa.RecordBatch) -> Any:
    return real(matcher, record.filter(pc.not_equal(record.column(OP), FORGET)))


def _same_version(real: Any, router: FactRouter, batch: ChangeBatch) -> Any:
    def leveled(record: pa.RecordBatch | None) -> pa.RecordBatch | None:
        if record is None:
            return None
        place = record.schema.get_field_index(VERSION)
        return record.set_column(place, record.schema.field(place), pa.nulls(len(record), pa.int64()).fill_null(1))

    to_matcher, direct = real(router, batch)
    return leveled(to_matcher), leveled(direct)


def _unfilled(real: Any, router: FactRouter, batch: ChangeBatch) -> Any:
    if not batch.has_unset:
        return real(router, batch)
    return real(router, ChangeBatch(batch.table, batch.record.drop_columns([UNSET])))


def _undeleted(real: Any, matcher: Matcher, batch: ChangeBatch) -> Any:
    return real(
        matcher, ChangeBatch(batch.table, batch.record.filter(pc.not_equal(batch.record.column(OP), Op.DELETE)))
    )


def _lost_slot(real: Any, log: StateLog, slot: int, state: Any) -> None:
    real(log, slot, None if slot == 1 else state)


def _lost_counter(real: Any, store: RowStore, record: pa.RecordBatch) -> None:
    if "slot_key" not in store.schema.names:
        real(store, record)


def _asleep(real: Any, route: keyed.Route, items: list[Any]) -> list[Any]:
    return [(key, (slot, item)) for key, (slot, item) in real(route, items) if item is not None]


def _no_deletes(real: Any, store: RowStore) -> tuple[pa.RecordBatch, list[tuple[int, int, int]]]:
    record, _ = real(store)
    kept = record.filter(pc.equal(record.column(OP), Op.UPSERT))
    slots = store.slots_of(kept.select(list(store.key))).to_pylist()
    return kept, [(slot, slots.index(slot), slots.count(slot)) for slot in dict.fromkeys(slots)]


def _skips(real: Any, partition: PlannedPartition) -> int:
    return max(real(partition) - 1, 0) if partition._epoch == 1 else real(partition) + (partition._epoch == 2)


def _kept_in(real: Any, contributions: Contributions, changes: ChangeBatch) -> Any:
    found = real(contributions, changes)
    if found.rows is None:
        return found
    return replace(found, rows=found.rows.filter(pc.greater(found.rows.column(SIGN), 0)))


def _in_time(plan: Any, times: pa.Int64Array, us: int) -> pa.BooleanArray:
    return pa.repeat(pa.scalar(False), len(times))


@contextmanager
def _all(*faults: Any) -> Iterator[None]:
    """Several at once."""
    with ExitStack() as stack:
        for fault in faults:
            stack.enter_context(fault)
        yield


def _untold(real: Any, stage: Any, rows: Any) -> Any:
    return replace(real(stage, rows), late=None)


def _thawed(real: Any, contributions: Contributions, store: RowStore, keys: pa.RecordBatch) -> None:
    store.delete(keys)


def _hasty(real: Any, progress: Progress, now_s: float) -> int | None:
    greatest = max((us for us in progress._closed.values() if us is not None), default=None)
    progress._closed = dict.fromkeys(progress._closed, greatest)
    return real(progress, now_s)


def _early(real: Any, logic: ProgressLogic, values: Any) -> Any:
    seen = list(values)
    for one in seen:
        logic._progress.see(one, 0.0)
    logic._progress.epoch_ends()
    return real(logic, seen)


def _asleep_rows(real: Any, due: Due) -> set[int]:
    due._waiting = set() if due._waiting is None else due._waiting
    return real(due)


def _still(real: Any, due: Due, us: int) -> Iterator[Any]:
    due._clock.rise(us)
    return iter(())


def _padded(real: Any, record: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    names = record.schema.names
    columns = [record.column(f.name) if f.name in names else pa.nulls(len(record), f.type) for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _in_order_of_coming(real: Any, pending: Pending, ordinals: Any) -> Any:
    parts = []
    for number in sorted(pending.chunks):
        chunk = pending.chunks[number]
        if any(name in ordinals for name in chunk.names):
            parts.append((chunk.table, pending._take(number, chunk, ordinals)))
    for name in ordinals:
        pending.transactions.pop(name, None)
    return parts


def _torn(real: Any, stage: Documents, items: Any) -> Any:
    out, held = real(stage, items), getattr(stage, "held_back", [])
    batches = [item for item in out if isinstance(item, ChangeBatch)]
    stage.held_back = batches[1:]  # type: ignore[attr-defined]
    return [*held, *(item for item in out if item not in batches[1:])]


def came_again_is_newer() -> Any:
    """A fault for which a history is written by hand: seeds find it, but seldom."""
    return _around(Pending, "take", _in_order_of_coming)


FAULTS: dict[str, Callable[[], Any]] = {
    "versions are not compared": lambda: _around(Latest, "take", _forgetful),
    "versions are all the same": lambda: _around(FactRouter, "route", _same_version),
    "forget is ignored": lambda: _around(Matcher, "facts", _deaf),
    "unset columns are taken as NULL": lambda: _around(FactRouter, "route", _unfilled),
    "a dimension's delete is ignored": lambda: _around(Matcher, "dimension", _undeleted),
    "a truncated fact table is kept": lambda: _around(FactRouter, "truncate", lambda real, router: iter(())),
    "a truncated dimension is kept": lambda: _around(Matcher, "truncate_dimension", lambda real, matcher: iter(())),
    "a slot loses its state at a start": lambda: _around(StateLog, "attach", _lost_slot),
    "versions begin anew at a start": lambda: _around(RowStore, "load", _lost_counter),
    "touched slots are not awoken": lambda: _around(keyed.Route, "__call__", _asleep),
    "deletes are missing in state files": lambda: _around(RowStore, "changed", _no_deletes),
    "the target is not restored": lambda: _around(
        TargetPart, "__init__", lambda real, part, state, *others: real(part, None, *others)
    ),
    "a direct result is lost": lambda: _around(
        join.RouteStage, "on_items", lambda real, stage, items: [p for p in real(stage, items) if p.kind == join.ENTER]
    ),
    "a row that goes is not taken out of its window": lambda: _around(Contributions, "apply", _kept_in),
    "a truncated table is kept in windows": lambda: _around(Aggregates, "truncate", lambda real, sums: iter(())),
    "a state file goes while another worker needs it": lambda: _around(
        SegmentStore, "free", lambda real, files, name, *slots: files.delete([name])
    ),
    "the source counts a message too many": lambda: _around(PlannedPartition, "snapshot", _skips),
    "late rows count": lambda: _all(
        patch.object(libcore.window, "is_late", _in_time), patch.object(window_contributions, "is_late", _in_time)
    ),
    "late rows are not told": lambda: _all(
        _around(Contributions, "apply", _untold), _around(Aggregates, "apply", _untold)
    ),
    "rows of closed windows are forgotten": lambda: _around(Contributions, "_freeze", _thawed),
    "the fastest partition makes the watermark": lambda: _around(Progress, "rise", _hasty),
    "a watermark comes in its own epoch": lambda: _around(ProgressLogic, "on_batch", _early),
    "open windows are not told at the end": lambda: _around(AggregatesStage, "input_ends", lambda real, stage: ()),
    "a changed row counts as before": lambda: _around(
        Contributions, "_moved", lambda real, rows, columns, old: pc.and_(real(rows, columns, old), False)
    ),
    "time turns no flag": lambda: _around(Due, "advance", _still),
    "waiting rows are forgotten at a start": lambda: _around(Due, "_buckets", _asleep_rows),
    "merged files have bits of other columns": lambda: patch.object(merge, "_widened", partial(_padded, None)),
    "a start knows nothing of new columns": lambda: patch.object(flow, "remembering", lambda mapper, *_: mapper),
    "older state is taken as it is": lambda: _around(
        Stage, "load", lambda real, stage, store, record: stage.stores[store].load(record)
    ),
    "transactions are released in part": lambda: _around(Documents, "_lacks", lambda real, stage, end, table: False),
    "a table of a transaction comes an epoch later": lambda: _around(Documents, "on_items", _torn),
    "transactions that wait are lost at a start": lambda: _around(Keeper, "restore", lambda real, *arguments: None),
    "the sink does not wait for state files": lambda: _around(LateWrites, "wait", lambda real, writes: None),
}
"""A sentence for each fault, and what puts it in."""

SEEDS_MAX = 100
SEEDS: dict[str, int] = {
    "versions are not compared": 0,
    "versions are all the same": 0,
    "forget is ignored": 3,
    "unset columns are taken as NULL": 4,
    "a dimension's delete is ignored": 4,
    "a truncated fact table is kept": 27,
    "a truncated dimension is kept": 3,
    "a slot loses its state at a start": 5,
    "versions begin anew at a start": 37,
    "touched slots are not awoken": 0,
    "deletes are missing in state files": 15,
    "the target is not restored": 5,
    "a direct result is lost": 3,
    "a row that goes is not taken out of its window": 0,
    "a truncated table is kept in windows": 46,
    "a state file goes while another worker needs it": 46,
    "the source counts a message too many": 0,
    "late rows count": 29,
    "late rows are not told": 15,
    "rows of closed windows are forgotten": 86,
    "the fastest partition makes the watermark": 50,
    "a watermark comes in its own epoch": 29,
    "open windows are not told at the end": 26,
    "a changed row counts as before": 0,
    "time turns no flag": 99,
    "waiting rows are forgotten at a start": 99,
    "merged files have bits of other columns": 99,
    "a start knows nothing of new columns": 5,
    "older state is taken as it is": 10,
    "transactions are released in part": 1,
    "a table of a transaction comes an epoch later": 14,
    "transactions that wait are lost at a start": 14,
    "the sink does not wait for state files": 0,
}
"""A seed that finds each, as `python -m tests.simulate.mutations` prints them."""


def main() -> None:
    """Print for each fault the first seed that finds it."""
    from tests.simulate.__main__ import faults_of
    from tests.simulate.draw import draw
    from tests.simulate.run import quiet, run_kernel

    with quiet():
        for name, fault in FAULTS.items():
            if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
                continue
            for seed in range(SEEDS_MAX):
                with fault():
                    found = faults_of(draw(seed), run_kernel)
                if found and not faults_of(draw(seed), run_kernel):
                    print(f'    "{name}": {seed},', flush=True)
                    break
            else:
                print(f"    {name}: no seed below {SEEDS_MAX} finds it", flush=True)


if __name__ == "__main__":
    main()
