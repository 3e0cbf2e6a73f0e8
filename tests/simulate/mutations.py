"""Faults put in on purpose: each must be found, or the simulation looks at nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc

from flows.operators import join, keyed
from flows.state.log import StateLog
from flows.state.segments import SegmentStore
from libcore.change import OP, UNSET, ChangeBatch, Op
from libcore.join import FORGET, VERSION, FactRouter, Latest, Matcher
from libcore.table import RowStore
from libcore.window import Aggregates, Contributions
from libcore.window_plan import SIGN
from tests.simulate.ends import PlannedPartition, TargetPart


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
}
"""A sentence for each fault, and what puts it in."""

SEEDS: dict[str, int] = {
    "versions are not compared": 15,
    "versions are all the same": 15,
    "forget is ignored": 11,
    "unset columns are taken as NULL": 12,
    "a dimension's delete is ignored": 2,
    "a truncated fact table is kept": 3,
    "a truncated dimension is kept": 5,
    "a slot loses its state at a start": 1,
    "versions begin anew at a start": 5,
    "touched slots are not awoken": 1,
    "deletes are missing in state files": 2,
    "the target is not restored": 1,
    "a direct result is lost": 2,
    "a row that goes is not taken out of its window": 0,
    "a truncated table is kept in windows": 41,
    "a state file goes while another worker needs it": 2,
    "the source counts a message too many": 16,
}
"""A seed that finds each, as `python -m tests.simulate.mutations` prints them."""


def main() -> None:
    """Print for each fault the first seed that finds it."""
    from tests.simulate.__main__ import faults_of
    from tests.simulate.draw import draw
    from tests.simulate.run import quiet, run_kernel

    with quiet():
        for name, fault in FAULTS.items():
            for seed in range(1000):
                with fault():
                    found = faults_of(draw(seed), run_kernel)
                if found and not faults_of(draw(seed), run_kernel):
                    print(f'    "{name}": {seed},', flush=True)
                    break


if __name__ == "__main__":
    main()
