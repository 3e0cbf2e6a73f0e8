"""What a table's new shape changes against the accepted one: taken on, or refused by name.

Additive changes lose nothing and are taken on: a new nullable column, a wider integer, float or decimal, NOT NULL
lifted or set. All others (dropped, narrowed, another type, another key, a new column that is NOT NULL, whose default
the older rows of the target lack) are refused, unless the table follows every change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from libcore.decode_types import WireColumn
from libcore.schema import ColumnType, Table

_WIDER = {
    "int16": ("int32", "int64"),
    "int32": ("int64",),
    "float32": ("float64",),
    "decimal": ("numeric",),
}


@dataclass(frozen=True)
class Evolution:
    """The answer.

    Args:
        columns: the columns to decode from now on, the accepted ones first and in their order.
        taken: additive changes, one sentence each.
        refused: all other changes, one sentence each.
    """

    columns: tuple[WireColumn, ...]
    taken: tuple[str, ...]
    refused: tuple[str, ...]


def evolve(accepted: Table, columns: Sequence[WireColumn], key: tuple[str, ...]) -> Evolution:
    """Compare a new shape with the accepted table. `columns` may come in any order."""
    new = {column.column.name: column for column in columns}
    kept: list[WireColumn] = []
    taken: list[str] = []
    refused: list[str] = []
    if set(key) != set(accepted.key):
        refused.append(f"the key changed from {list(accepted.key)} to {list(key)}")
    for old in accepted.columns:
        wire = new.pop(old.name, None)
        if wire is None:
            refused.append(f"column {old.name} was dropped")
            continue
        if wire.column.type != old.type:
            change = f"column {old.name} changed from {old.type} to {wire.column.type}"
            (taken if widened(old.type, wire.column.type) else refused).append(change)
        kept.append(replace(wire, column=replace(wire.column, nullable=wire.column.nullable or old.nullable)))
    for name, wire in new.items():
        if wire.column.nullable:
            taken.append(f"column {name} {wire.column.type} was added")
        else:
            refused.append(
                f"column {name} {wire.column.type} was added as NOT NULL, which older rows of the target cannot be"
            )
        kept.append(replace(wire, column=replace(wire.column, nullable=True)))
    return Evolution(tuple(kept), tuple(taken), tuple(refused))


def dropped_columns(former: Sequence[str], names: Sequence[str], *, ordered: bool) -> tuple[str, ...]:
    """Columns whose former values are gone at the source, in their former order: dropped, or dropped and added again.

    Args:
        former: the columns of the rows before. names: those of the rows from now on, perhaps among others.
        ordered: the source adds columns at the end only (PostgreSQL), so that one which stands behind a column that
            it stood in front of was dropped and added again, and with it all behind it. Without it, or where it was
            the last one, a column that came back between two messages cannot be told from one that stayed.
    """
    place = {name: index for index, name in enumerate(former)}
    gone = {name for name in former if name not in set(names)}
    common = [name for name in names if name in place]
    for index in range(1, len(common) if ordered else 0):
        if place[common[index]] < place[common[index - 1]]:
            gone.update(common[index:])
            break
    return tuple(name for name in former if name in gone)


def widened(old: ColumnType, new: ColumnType) -> bool:
    """Whether every value of the old type is one of the new type, with the same digits."""
    if old.name == "decimal" and new.name == "decimal":
        return new.scale >= old.scale and new.precision - new.scale >= old.precision - old.scale
    if old.item is not None and new.item is not None:
        return old.item == new.item or widened(old.item, new.item)
    return new.name in _WIDER.get(old.name, ())
