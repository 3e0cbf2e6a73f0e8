"""Bring a source's changes into the form of the target's tables, and split them over the sink's parts.

Per table: `where`, `drop`, `rename`; then the key's hash, its slot, and the slot's part, so that all changes of a key
go through one part in order, whatever the number of processes. Stateless: a batch's answer depends on the batch alone.
Columns only: no row is touched by Python, but those that become dead letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.base.items import ClearColumn, Fence, Item, Truncate
from flows.operators import unset as unset_bits
from flows.operators.dead_letters import dead_letters
from flows.operators.where import Predicate, columns_of, compile_where
from libcore.change import OP, UNSET, ChangeBatch, Op, arrow_schema, op_is, unset_bytes
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, HeadraceError
from libcore.hashing import hash_rows
from libcore.schema import Column, Table
from libcore.slots import scatter

Routed = tuple[str, Item]
"""(sink part, item), as a Bytewax keyed stream wants it."""
Route = tuple[bool, Fence | None]
"""(all rows of a table go through one part, what must stand in front of them)."""

_LOG = structlog.get_logger()
DEAD_LETTER_PART = "0"
SINGLE_PART = "0"


def as_wanted(table: Table, wanted: bool) -> Route:
    """The way of a table that no target is asked about."""
    return wanted, None


@dataclass(frozen=True)
class TableShape:
    """What a pipeline wants of one source table.

    Args:
        rename: source column -> target column.
        drop: source columns that are not written.
        where: SQL over source columns, or None.
        single_part: all rows through part 0, whatever the target says.
        follow: columns may go away at the source: a name in `rename` or `drop` that the table lacks is passed over.
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    where: str | None = None
    single_part: bool = False
    follow: bool = False


@dataclass(frozen=True)
class TablePlan:
    """A TableShape made ready for one exact Table; a changed schema gets a plan of its own."""

    source: Table
    target: Table
    predicate: Predicate | None
    kept: tuple[int, ...]
    single_part: bool

    @cached_property
    def is_identity(self) -> bool:
        """Whether the columns stay as they are."""
        return self.source == self.target


def plan_table(table: Table, shape: TableShape) -> TablePlan:
    """Fit a shape to a table. Raises ConfigurationError naming the column that does not fit."""
    names = [column.name for column in table.columns]
    for setting, wanted in (("rename", shape.rename), ("drop", shape.drop)):
        if unknown := [name for name in wanted if name not in names and not shape.follow]:
            raise ConfigurationError(
                f"table {table.name}: {setting}: expected columns of {names}, found {unknown[0]!r}"
            )
    if key := [name for name in table.key if name in shape.drop]:
        raise ConfigurationError(
            f"table {table.name}: drop: expected columns outside of the key, found key column {key[0]!r}"
        )
    kept = tuple(index for index, name in enumerate(names) if name not in shape.drop)
    if not kept:
        raise ConfigurationError(
            f"table {table.name}: drop: expected at least one column to be left, found all dropped"
        )
    renamed = [shape.rename.get(names[index], names[index]) for index in kept]
    columns = tuple(
        Column(name, table.columns[i].type, table.columns[i].nullable) for name, i in zip(renamed, kept, strict=True)
    )
    target = Table(table.name, columns, tuple(shape.rename.get(name, name) for name in table.key))
    predicate = None if shape.where is None else compile_where(shape.where, table)
    return TablePlan(table, target, predicate, kept, shape.single_part)


class Shaper:
    """The mapper of the shape step: items of any tables in, (part, item) out.

    Args:
        flow: the pipeline's name, for dead letters.
        shape_of: the shape wanted for a source table's name.
        slots: key-hash slots, fixed for the pipeline's life.
        parts: sink parts, fixed too; part = slot mod parts.
        route: asked once a table (in its target form), with whether the shape wants all of its rows in part 0. Answers
            whether they go there, because rows of different keys depend on each other (a second unique key, a foreign
            key), and with a fence where earlier rows may have gone another way (see flows/routes.py).
    """

    def __init__(
        self,
        flow: str,
        shape_of: Callable[[str], TableShape],
        slots: int,
        parts: int,
        route: Callable[[Table, bool], Route] = as_wanted,
    ) -> None:
        assert 1 <= parts <= min(slots, 256), (parts, slots)
        self._flow, self._shape_of = flow, shape_of
        self._slots, self._part_names = slots, [str(part) for part in range(parts)]
        self._part_of_slot = bytes(slot % parts for slot in range(slots))
        self._route = route
        self._plans: dict[Table, TablePlan] = {}
        self._alone: dict[Table, bool] = {}
        self._fences: dict[str, Fence] = {}  # that wait for the first rows

    def __call__(self, items: Iterable[Item]) -> list[Routed]:
        """Shape and route; order is kept within a part. Raises what a plan refuses, logged with the table."""
        routed: list[Routed] = []
        for item in items:
            if isinstance(item, ClearColumn):
                cleared = self.cleared(item)
                routed += [] if cleared is None else [(part, cleared) for part in self._part_names]
            elif not isinstance(item, ChangeBatch):
                routed += [(part, item) for part in self._part_names]
            elif item.table == DEAD_LETTERS:
                routed.append((DEAD_LETTER_PART, item))
            elif item.row_count:
                routed += self._batch(item)
        return routed

    def shaped_items(self, items: Iterable[Item]) -> list[Item]:
        """Shape without routing, for the steps behind; dead letters and control items pass. Raises as a call does."""
        out: list[Item] = []
        for item in items:
            if isinstance(item, ClearColumn):
                cleared = self.cleared(item)
                out += [] if cleared is None else [cleared]
            elif not isinstance(item, ChangeBatch) or item.table == DEAD_LETTERS:
                out.append(item)
            elif item.row_count:
                shaped, letters = self._logged(item, self.shaped)
                out += [batch for batch in (shaped, letters) if batch is not None and batch.row_count]
        return out

    def plan(self, table: Table) -> TablePlan:
        """The plan of that exact table, made once. Raises ConfigurationError."""
        if table not in self._plans:
            self._plans[table] = plan_table(table, self._shape_of(table.name))
        return self._plans[table]

    def routed_alone(self, plan: TablePlan) -> bool:
        """Whether all rows of the table go through one part. Raises what the target refuses."""
        if plan.target not in self._alone:
            # asked in any case: the question also makes the target prepare the table
            self._alone[plan.target], fence = self._route(plan.target, plan.single_part)
            if fence is not None:
                self._fences[fence.table] = fence
        return self._alone[plan.target]

    def shaped(self, batch: ChangeBatch) -> tuple[ChangeBatch, ChangeBatch | None]:
        """(rows in the target table's form, dead letters or None)."""
        plan = self.plan(batch.table)
        letters = None
        if plan.predicate is not None:
            batch, letters = self._filtered(batch, plan.predicate)
        return _projected(batch, plan), letters

    def cleared(self, item: ClearColumn) -> ClearColumn | None:
        """A column that was dropped at the source, under its target name; None where it is not written.

        Raises ConfigurationError, logged, where the table's `where` asks for it: no row can be decided any more.
        """
        shape = self._shape_of(item.table)
        if shape.where is not None and item.column in columns_of(shape.where):
            error = ConfigurationError(
                f"table {item.table}: where {shape.where!r}: expected its columns at the source, found that "
                f"{item.column} was dropped there ({item.identity}); change the `where` and start again"
            )
            _LOG.error("a column is gone", flow=self._flow, step="shape", table=item.table, error=str(error))
            raise error
        if item.column in shape.drop:
            return None
        return ClearColumn(item.table, shape.rename.get(item.column, item.column), item.identity)

    def _batch(self, batch: ChangeBatch) -> list[Routed]:
        shaped, letters = self._logged(batch, self.shaped)
        single_part = self._logged(batch, lambda found: self.routed_alone(self.plan(found.table)))
        routed: list[Routed] = [] if letters is None else [(DEAD_LETTER_PART, letters)]
        if not shaped.row_count:
            return routed
        if fence := self._fences.pop(shaped.table.name, None):
            routed += [(part, fence) for part in self._part_names]
        if len(self._part_names) == 1 or single_part:
            return [*routed, (SINGLE_PART, shaped)]
        hashes = hash_rows(shaped.record, shaped.table.key_indexes)
        pieces = scatter(shaped.record, hashes, self._slots, self._part_of_slot)
        return routed + [(self._part_names[part], ChangeBatch(shaped.table, record)) for part, record in pieces]

    def _logged(self, batch: ChangeBatch, function: Callable[[ChangeBatch], Any]) -> Any:
        try:
            return function(batch)
        except HeadraceError as error:  # several processes lose the text of what a worker raises
            _LOG.error(
                "a table cannot be shaped", flow=self._flow, step="shape", table=batch.table.name, error=str(error)
            )
            raise

    def _filtered(self, batch: ChangeBatch, predicate: Predicate) -> tuple[ChangeBatch, ChangeBatch | None]:
        """Rows that are in stay; those that are out become deletes of their key, or go where there is no key."""
        undecided = _undecided(batch, predicate)
        letters = None
        if undecided:
            sentence = f"where {predicate.text!r}: expected its columns in the change, found one that was not sent"
            letters = dead_letters(self._flow, "shape", batch, undecided, [sentence] * len(undecided))
            left = sorted(set(range(batch.row_count)) - set(undecided))
            batch = ChangeBatch(batch.table, batch.record.take(pa.array(left, pa.int64())))
        inside = predicate.mask(batch.record)
        if not batch.table.key:
            return ChangeBatch(batch.table, batch.record.filter(inside)), letters
        leaves = pc.and_(pc.invert(op_is(batch.record, Op.DELETE)), pc.invert(inside))
        return (_deleted(batch, leaves) if pc.any(leaves).as_py() else batch), letters


def _undecided(batch: ChangeBatch, predicate: Predicate) -> list[int]:
    """Upserts that lack a value the predicate asks for."""
    if not batch.has_unset:
        return []
    names = [column.name for column in batch.table.columns]
    bitmap = batch.record.column(UNSET)
    lacks = pa.array([False] * batch.row_count)
    for name in predicate.columns:
        lacks = pc.or_(lacks, unset_bits.bits(bitmap, names.index(name)))
    lacks = pc.and_(lacks, pc.invert(op_is(batch.record, Op.DELETE)))
    return [row.as_py() for row in pc.indices_nonzero(lacks)]


def _deleted(batch: ChangeBatch, rows: pa.BooleanArray) -> ChangeBatch:
    """The batch with those rows turned into deletes of their key; what they held is not passed on."""
    table, record = batch.table, batch.record
    columns = list(record.columns)
    for index, column in enumerate(table.columns):
        if column.name not in table.key:
            columns[index] = pc.if_else(rows, pa.scalar(None, columns[index].type), columns[index])
    position = record.schema.get_field_index(OP)
    columns[position] = pc.if_else(rows, pa.scalar(int(Op.DELETE), pa.int8()), columns[position])
    if batch.has_unset:
        position = record.schema.get_field_index(UNSET)
        none = pa.scalar(bytes(unset_bytes(table)), columns[position].type)
        columns[position] = pc.if_else(rows, none, columns[position])
    return ChangeBatch(table, pa.RecordBatch.from_arrays(columns, schema=record.schema))


def _projected(batch: ChangeBatch, plan: TablePlan) -> ChangeBatch:
    """Dropped columns gone, kept ones under their new names; nothing is copied but the bitmap."""
    if plan.is_identity:
        return batch
    record, width = batch.record, len(plan.source.columns)
    columns: Sequence[pa.Array] = [record.column(index) for index in plan.kept] + list(
        record.columns[width : width + 3]
    )
    if batch.has_unset:
        bitmap = record.column(UNSET)
        if len(plan.kept) < width:
            bitmap = unset_bits.kept(bitmap, plan.kept)
        if unset_bits.any_bit(bitmap):
            schema = arrow_schema(plan.target, with_unset=True)
            return ChangeBatch(plan.target, pa.RecordBatch.from_arrays([*columns, bitmap], schema=schema))
    return ChangeBatch(plan.target, pa.RecordBatch.from_arrays(list(columns), schema=arrow_schema(plan.target)))


def shape_items(items: Iterable[Item], shaper: Shaper) -> list[Item]:
    """Shape without routing: what verification folds."""
    shaped: list[Item] = []
    for item in items:
        if isinstance(item, Truncate):
            shaped.append(item)
        elif isinstance(item, ClearColumn):
            cleared = shaper.cleared(item)
            shaped += [] if cleared is None else [cleared]
        elif isinstance(item, ChangeBatch) and item.table != DEAD_LETTERS:
            shaped.append(shaper.shaped(item)[0])
    return shaped
