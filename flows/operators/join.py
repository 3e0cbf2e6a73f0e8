"""The join of two change streams by foreign key, as three keyed steps; the result is an upsert log by the fact's key.

    fact ──> route (slot of the fact) ──> match (slot of the foreign key) ──> latest (slot of the fact) ──> result
                   └──────── deleted, or no foreign key ──────────────────────────^
    dimension ───────────────────────────────^

After all input is consumed the result equals the SQL join, whatever the order in which the two streams came, whatever
was restarted, and on how many processes (libcore/join.py says why three steps).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Stream, operator

from connectors.base.items import Truncate
from flows.operators.keyed import Context, Parcel, keyed
from libcore.change import ChangeBatch
from libcore.join import FactRouter, JoinPlan, Latest, Matcher
from libcore.schema import Table
from libcore.table import RowStore

FACT, DIMENSION, ENTER, RESULT = "fact", "dimension", "enter", "result"


@operator
def join(
    step_id: str, facts: Stream[Any], dimensions: Stream[Any], plan: JoinPlan, context: Context
) -> Stream[ChangeBatch]:
    """Join two streams.

    Args:
        step_id: unique name of the step; part of the recovery store.
        facts: ChangeBatch and Truncate items of plan.fact; anything else is left out.
        dimensions: the same of plan.dimension. May be the same stream, for a self-join.
        plan: from libcore.join.plan_join.
        context: slots, processes, where state lies.
    Returns: batches of plan.result.
    """
    routed = keyed(
        "route",
        op.flat_map_batch("facts", facts, Pick(FACT, plan.fact.name)),
        lambda: RouteStage(plan, context),
        {FACT: plan.fact.key},
        context,
    )
    partners = op.flat_map_batch("dimensions", dimensions, Pick(DIMENSION, plan.dimension.name))
    matched = keyed(
        "match",
        op.merge("meet", op.flat_map_batch("enter", routed, _only(ENTER)), partners),
        lambda: MatchStage(plan, context),
        {ENTER: plan.foreign_key, DIMENSION: plan.dimension.key},
        context,
    )
    return keyed(
        "latest",
        op.merge("results", matched, op.flat_map_batch("direct", routed, _only(RESULT))),
        lambda: LatestStage(plan),
        {RESULT: plan.fact.key},
        context,
        keeps=False,
    )


class Pick:
    """The mapper that makes parcels of one table's batches; its truncates pass, other items are left out."""

    def __init__(self, kind: str, table: str) -> None:
        self._kind, self._table = kind, table

    def __call__(self, items: Iterable[Any]) -> list[Any]:
        """Parcels and Truncates of the table."""
        picked: list[Any] = []
        for item in items:
            if isinstance(item, ChangeBatch) and item.table.name == self._table and item.row_count:
                picked.append(Parcel(self._kind, item.table, item.record))
            elif isinstance(item, Truncate) and item.table == self._table:
                picked.append(item)
        return picked


class _only:
    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __call__(self, items: list[Parcel]) -> list[Parcel]:
        return [item for item in items if item.kind == self._kind]


class RouteStage:
    """Stage (a): facts go on to the slot of their foreign key."""

    def __init__(self, plan: JoinPlan, context: Context) -> None:
        self._router = FactRouter(plan, context.slots)

    @property
    def stores(self) -> Mapping[str, RowStore]:
        """See Stage.stores."""
        return self._router.stores

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """See Stage.load."""
        self._router.load(store, record)

    def on_items(self, items: Sequence[Any]) -> Iterator[Parcel]:
        """Facts in; entering and leaving facts, and results that need no partner, out."""
        for item in items:
            if isinstance(item, Parcel):
                assert item.table is not None
                if _has_more(item.table, self._router.plan.fact):
                    self._router.replan(fact=item.table)
                pairs: Iterable[Any] = (self._router.route(ChangeBatch(item.table, item.record)),)
            else:
                pairs = self._router.truncate()
            for entering, direct in pairs:
                yield from _parcels(ENTER, self._router.plan.fact, entering)
                yield from _parcels(RESULT, self._router.plan.result, direct)

    def epoch_ends(self) -> None:
        """Nothing to do."""

    def input_ends(self) -> Iterable[Any]:
        """Nothing comes of it."""
        return ()


class MatchStage:
    """Stage (b): facts meet their partner; a partner that changes brings out every fact that points at it."""

    def __init__(self, plan: JoinPlan, context: Context) -> None:
        self._matcher = Matcher(plan, context.slots)

    @property
    def stores(self) -> Mapping[str, RowStore]:
        """See Stage.stores."""
        return self._matcher.stores

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """See Stage.load."""
        self._matcher.load(store, record)

    def on_items(self, items: Sequence[Any]) -> Iterator[Parcel]:
        """Facts and dimension rows in, joined rows with their fact's version out."""
        for item in items:
            if not isinstance(item, Parcel):
                records: Iterable[pa.RecordBatch | None] = self._matcher.truncate_dimension()
            elif item.kind == ENTER:
                if _has_more(item.table, self._matcher.plan.fact):
                    self._matcher.replan(fact=item.table)
                records = self._matcher.facts(item.record)
            else:
                assert item.table is not None
                if _has_more(item.table, self._matcher.plan.dimension):
                    self._matcher.replan(dimension=item.table)
                records = self._matcher.dimension(ChangeBatch(item.table, item.record))
            for record in records:
                yield from _parcels(RESULT, self._matcher.plan.result, record)

    def epoch_ends(self) -> None:
        """Nothing to do."""

    def input_ends(self) -> Iterable[Any]:
        """Nothing comes of it."""
        return ()


class LatestStage:
    """Stage (c): of one epoch's answers about a fact only those of its latest version pass."""

    stores: Mapping[str, RowStore] = {}

    def __init__(self, plan: JoinPlan) -> None:
        self._latest = Latest(plan)

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """There is nothing to load."""

    def on_items(self, items: Sequence[Any]) -> Iterator[ChangeBatch]:
        """Joined rows in, the result's changes out."""
        for item in items:
            if not isinstance(item, Parcel):
                continue
            if item.table is not None and _has_more(item.table, self._latest.plan.result):
                self._latest.plan = replace(self._latest.plan, result=item.table)
            if (batch := self._latest.take(item.record)) is not None:
                yield batch

    def epoch_ends(self) -> None:
        """The barrier has emptied all channels: no older version can come any more."""
        self._latest.clear()

    def input_ends(self) -> Iterable[Any]:
        """Nothing comes of it."""
        return ()


def _parcels(kind: str, table: Table, record: pa.RecordBatch | None) -> Iterator[Parcel]:
    if record is not None and record.num_rows:
        yield Parcel(kind, table, record)


def _has_more(table: Table | None, known: Table) -> bool:
    """Whether a table that came has columns which the plan has not; what else changed is refused where it is used."""
    if table is None or table is known or table == known:
        return False
    names = {column.name for column in known.columns}
    return any(column.name not in names for column in table.columns)
