"""What a target would hold of what a source brings: rows by column, folded item by item."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from connectors.base.items import ClearColumn, Item, Tick, Truncate
from libcore.change import OP, UNSET, ChangeBatch, Op
from libcore.dead_letter import DEAD_LETTERS

Named = tuple[tuple[str, Any], ...]


@dataclass
class Fold:
    """Tables by name; a column that a row has not is NULL, as one is that the table gained or lost.

    Args:
        tables: rows by key. loose: of tables without a key, how often a row is there, told by its values that are not
            NULL; below zero where one was deleted that was not there. letters: why rows were refused.
    """

    tables: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    loose: dict[str, Counter[Named]] = field(default_factory=dict)
    letters: list[str] = field(default_factory=list)

    def apply(self, item: Item) -> None:
        """Take one item."""
        if isinstance(item, Truncate):
            self.tables.pop(item.table, None)
            self.loose.pop(item.table, None)
        elif isinstance(item, ClearColumn):
            self._clear(item)
        elif not isinstance(item, Tick):
            self._batch(item)

    def rows(self, name: str) -> Counter[Named]:
        """The rows of a table, and how often each is there."""
        if name in self.loose:
            return self.loose[name]
        return Counter(tuple(row.items()) for row in self.tables.get(name, {}).values())

    def _clear(self, item: ClearColumn) -> None:
        for row in self.tables.get(item.table, {}).values():
            row[item.column] = None
        cleared = Counter[Named]()
        for named, count in self.loose.pop(item.table, Counter()).items():
            cleared[tuple(one for one in named if one[0] != item.column)] += count
        if cleared:
            self.loose[item.table] = cleared

    def _batch(self, batch: ChangeBatch) -> None:
        if batch.table == DEAD_LETTERS:
            self.letters += [str(row["error"]) for row in batch.record.select(["error"]).to_pylist()]
            return
        table, names = batch.table, [column.name for column in batch.table.columns]
        for row in batch.record.to_pylist():
            unset = int.from_bytes(row.get(UNSET) or b"", "little")
            values = {name: row[name] for index, name in enumerate(names) if not unset >> index & 1}
            if not table.key:
                named = tuple(sorted((name, value) for name, value in values.items() if value is not None))
                self.loose.setdefault(table.name, Counter())[named] += -1 if row[OP] == Op.DELETE else 1
                continue
            key = tuple(row[name] for name in table.key)
            rows = self.tables.setdefault(table.name, {})
            if row[OP] == Op.DELETE:
                rows.pop(key, None)
            elif row[OP] != Op.UPDATE or key in rows:
                rows[key] = rows.get(key, {}) | values
