"""A relation as pgoutput describes it -> the table of its rows: types by the catalog's numbers, evolution, refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from connectors.formats.binding import TopicBinding
from connectors.formats.evolution import dropped_columns, evolve, widened
from connectors.formats.shape import SchemaChangeRefused, unknown_column
from libcore.decode_types import Encoding, WireColumn
from libcore.errors import ConfigurationError
from libcore.pgoutput_catalog import source_type
from libcore.pgoutput_messages import Relation, RelationColumn
from libcore.pgoutput_types import FILLS, TEXTS, Kind, RelationPlan, Wire
from libcore.schema import Column, ColumnType, Table, parse_type

_log = structlog.get_logger()

_BITS = {"int16": 16, "int32": 32, "int64": 64, "interval_us": 64}


@dataclass(frozen=True)
class SlotTable:
    """A table of a slot as its rows are decoded now.

    Args:
        table: the table of the rows.
        carried: the relation's columns when it was last seen, in its order.
        refused: why its rows are not decoded any more, "" while they are.
    """

    table: Table
    carried: tuple[str, ...]
    refused: str = ""

    def text(self) -> str:
        """Compact JSON for the recovery store; `read` is its inverse."""
        columns = [[column.name, str(column.type), column.nullable] for column in self.table.columns]
        return json.dumps([self.table.name, self.table.key, columns, self.carried, self.refused], separators=(",", ":"))


def read(text: str) -> SlotTable:
    """What SlotTable.text wrote."""
    name, key, columns, carried, refused = json.loads(text)
    found = tuple(Column(column, parse_type(type_text), nullable) for column, type_text, nullable in columns)
    return SlotTable(Table(name, found, tuple(key)), tuple(carried), refused)


def lost(binding: TopicBinding, relation: Relation, accepted: SlotTable | None) -> tuple[str, ...]:
    """Columns that the rows before had and that are gone at the source, perhaps added again since."""
    if accepted is None or not binding.follows:
        return ()
    names = [column.name for column in relation.columns]
    gone = dropped_columns(accepted.carried, names, ordered=True)
    return tuple(name for name in gone if name not in accepted.table.key)


def gained(relation: Relation, accepted: SlotTable | None, now: SlotTable) -> dict[str, bool]:
    """Columns that the rows have from here on and had not before, or had of another type, and of each whether rows that
    were there surely may have values in it: it was there, perhaps under another name."""
    if accepted is None or now.refused:
        return {}
    names = [column.name for column in relation.columns]
    gone = dropped_columns(accepted.carried, names, ordered=True)
    carried = set(accepted.carried).difference(gone)
    before = {column.name: column.type for column in accepted.table.columns}
    found = dict[str, bool]()
    for column in now.table.columns:
        if column.name in names and column.name not in carried:
            found[column.name] = bool(gone)
        elif before.get(column.name, column.type) != column.type and column.name not in now.table.key:
            found[column.name] = True  # USING may make any values of the former ones
    return found


def resolve(
    binding: TopicBinding, relation: Relation, named: Mapping[int, str], accepted: SlotTable | None, place: str
) -> SlotTable:
    """The table of the relation's rows from now on, given the accepted one.

    A change that is not taken on gives the accepted table with `refused`. Raises ConfigurationError where there is no
    accepted table and none can be made.
    """
    carried = tuple(column.name for column in relation.columns)
    try:
        columns = _columns(binding, relation, named, accepted)
        key = _key(binding, relation, columns)
        if accepted is None:
            return SlotTable(Table(binding.table, columns, key), carried)
        return SlotTable(_evolved(binding, columns, key, accepted.table, place), carried)
    except SchemaChangeRefused as refusal:
        if accepted is None:
            raise ConfigurationError(f"table {binding.table}, {place}: {refusal}") from refusal
        _log.error("schema change refused", table=binding.table, at=place, error=str(refusal))
        return replace(accepted, refused=str(refusal))


def plan(relation: Relation, description: bytes, named: Mapping[int, str], slot_table: SlotTable) -> RelationPlan:
    """How the relation's changes fill the table."""
    if slot_table.refused:
        return RelationPlan(relation.oid, None, (), description, slot_table.refused)
    places = {column.name: (index, column) for index, column in enumerate(slot_table.table.columns)}
    wire = []
    for column in relation.columns:
        kind, found = source_type(column.type_oid, column.typmod, named)
        index, target = places.get(column.name, (-1, None))
        fitted = kind if target is None else _fit(target.type, found, kind)
        wire.append(Wire(kind, -1) if fitted is None or target is None else Wire(fitted, index))
    return RelationPlan(relation.oid, slot_table.table, tuple(wire), description)


def _evolved(
    binding: TopicBinding, columns: tuple[Column, ...], key: tuple[str, ...], accepted: Table, place: str
) -> Table:
    if binding.columns is not None and binding.new_column != "add":
        return Table(binding.table, columns, key)  # what the pipeline file declares is the table
    evolution = evolve(accepted, [WireColumn(column, Encoding.STRING) for column in columns], key)
    if evolution.refused and not binding.follows:
        raise SchemaChangeRefused(
            f'table {binding.table}: {"; ".join(evolution.refused)}; on_schema_change = "follow" accepts such changes'
        )
    if evolution.taken or evolution.refused:
        changes = [*evolution.taken, *evolution.refused]
        _log.warning("schema change taken on", table=binding.table, at=place, changes=changes)
    kept = tuple(wire.column for wire in evolution.columns)
    return Table(binding.table, kept, accepted.key if set(key) == set(accepted.key) else key)


def _columns(
    binding: TopicBinding, relation: Relation, named: Mapping[int, str], accepted: SlotTable | None
) -> tuple[Column, ...]:
    found = {column.name: _column(column, named) for column in relation.columns}
    if binding.columns is None:
        if accepted is None or binding.new_column == "add":
            return tuple(found.values())
        known = {column.name for column in accepted.table.columns}
        _refuse_news(binding, [name for name in found if name not in known])
        return tuple(column for name, column in found.items() if name in known)
    kinds = {column.name: source_type(column.type_oid, column.typmod, named) for column in relation.columns}
    columns = []
    for declared in binding.columns:
        column = found.pop(declared.name, None)
        if column is None and not binding.follows:
            raise SchemaChangeRefused(
                f"table {binding.table}: column {declared.name} is declared, but the source has only {list(kinds)}"
            )
        if column is not None:
            kind, source = kinds[declared.name]
            if _fit(declared.type, source, kind) is None:
                raise SchemaChangeRefused(
                    f"table {binding.table}: column {declared.name}: declared {declared.type}, but the source has "
                    f"{source}, which does not fit into it"
                )
        columns.append(Column(declared.name, declared.type, declared.nullable))
    _refuse_news(binding, list(found))
    return (*columns, *found.values()) if binding.new_column == "add" else tuple(columns)


def _refuse_news(binding: TopicBinding, names: list[str]) -> None:
    if names and binding.new_column == "refuse":
        raise SchemaChangeRefused(unknown_column(binding, names[0]))


def _column(column: RelationColumn, named: Mapping[int, str]) -> Column:
    _, column_type = source_type(column.type_oid, column.typmod, named)
    return Column(column.name, column_type)


def _key(binding: TopicBinding, relation: Relation, columns: tuple[Column, ...]) -> tuple[str, ...]:
    names = {column.name for column in columns}
    key = binding.key
    if key is None:  # FULL says nothing of a key: all columns are flagged
        flagged = relation.identity in ("d", "i")
        key = tuple(column.name for column in relation.columns if column.is_key) if flagged else ()
    if missing := [name for name in key if name not in names]:
        raise SchemaChangeRefused(f"table {binding.table}: key column {missing[0]!r} is not among {sorted(names)}")
    told = {column.name for column in relation.columns if column.is_key}  # what an old key has a value of
    if untold := [name for name in key if told and name not in told]:
        raise SchemaChangeRefused(
            f"table {binding.table}: key column {untold[0]!r} is not in the replica identity {sorted(told)}: where it "
            "changes, the old row would stay; REPLICA IDENTITY FULL works with any key"
        )
    return key


def _fit(declared: ColumnType, found: ColumnType, kind: Kind) -> Kind | None:
    """The kind that fills the declared type from the source's, None where values could be lost."""
    if declared.name in TEXTS:
        return kind if kind not in FILLS else Kind.OTHER  # any type's text
    if declared.name not in FILLS.get(kind, ()):
        return None
    if declared.name in _BITS and kind is Kind.INT:
        return kind if _BITS[found.name] <= _BITS[declared.name] else None
    if declared.name == "decimal" and found.name == "decimal":
        return kind if widened(found, declared) else None
    return None if (declared.name, found.name) == ("float32", "float64") else kind
