"""What writers of the killing runs do to two tables, whatever the system: changes by key, and the rows they lead to.

A script knows its tables itself, so that a run is not compared with what a double says of its own rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = {"items": ("order_id", "line_no", "quantity", "note"), "ledger": ("account", "text")}
KEY_COLUMNS = {"items": 2, "ledger": 1}
"""How many of the columns, from the first on, are the key."""
BEAT = (0, 0)
"""The key of the item whose quantity is the writer's beat."""
Row = tuple[Any, ...]
_MOVED, _LARGE = 1_000_000, 2_000_000
_LARGE_ROWS = 400


@dataclass(frozen=True)
class Change:
    """Keys of a table that go, and rows that come behind that."""

    table: str
    deleted: Sequence[Row]
    upserts: Sequence[Row]

    @property
    def named_keys(self) -> list[dict[str, Any]]:
        """What goes, by the key's columns."""
        return [dict(zip(COLUMNS[self.table], key, strict=False)) for key in self.deleted]

    @property
    def named_rows(self) -> list[dict[str, Any]]:
        """What comes, by the columns."""
        return [dict(zip(COLUMNS[self.table], row, strict=True)) for row in self.upserts]


class Script:
    """Transactions without an end, and the tables as they are behind the last one.

    Args:
        rows: items that are there at the beginning, four to an order, and a fourth as many rows of the ledger.
        note_characters: of long notes.
    """

    def __init__(self, rows: int, chance: random.Random, note_characters: int) -> None:
        self._chance, self._orders, self._note = chance, rows // 4, "m" * note_characters
        self._long = "n" * (note_characters * 3 // 4)
        items = [
            (order, line, order, self._long if order % 10 == 0 and line == 0 else "n")
            for order in range(1, self._orders + 1)
            for line in range(4)
        ]
        ledger = [(account, "l") for account in range(1, self._orders + 1)]
        self.tables: dict[str, dict[Row, Row]] = {
            "items": {row[:2]: row for row in [(*BEAT, 0, "beat"), *items]},
            "ledger": {row[:1]: row for row in ledger},
        }
        self._makers: dict[str, list[tuple[Callable[[int, int], Change], float]]] = {
            "items": [
                (self._counted, 10), (self._gone, 3), (self._again, 6), (self._moved, 3), (self._large, 0.2),
            ],
            "ledger": [(self._entries, 5), (self._entry_again, 3)],
        }  # fmt: skip

    def initial(self) -> Iterator[Change]:
        """What fills the tables."""
        for name, rows in self.tables.items():
            yield Change(name, [], list(rows.values()))

    def beat(self) -> Change:
        """The next beat."""
        _, _, count, note = self.tables["items"][BEAT]
        return self._done(Change("items", [], [(*BEAT, count + 1, note)]))

    def transaction(self, *tables: str) -> Iterator[Change]:
        """One to four changes of these tables, in order; each is in `tables` once it is given."""
        makers = [one for name in tables for one in self._makers[name]]
        for _ in range(self._chance.randint(1, 4)):
            order, line = self._chance.randint(1, self._orders), self._chance.randint(0, 3)
            make = self._chance.choices([one for one, _ in makers], [weight for _, weight in makers])[0]
            yield self._done(make(order, line))

    def _done(self, change: Change) -> Change:
        rows, width = self.tables[change.table], KEY_COLUMNS[change.table]
        for key in change.deleted:
            rows.pop(key, None)
        for row in change.upserts:
            rows[row[:width]] = row
        return change

    def _lines(self, order: int) -> list[Row]:
        items = self.tables["items"]
        return [items[order, line] for line in range(4) if (order, line) in items]

    def _counted(self, order: int, line: int) -> Change:
        """An order's quantities rise."""
        return Change("items", [], [(*row[:2], row[2] + 1, row[3]) for row in self._lines(order)])

    def _gone(self, order: int, line: int) -> Change:
        return Change("items", [(order, line)], [])

    def _again(self, order: int, line: int) -> Change:
        """A line goes and comes again with a long note."""
        return Change("items", [(order, line)], [(order, line, 1, self._note)])

    def _moved(self, order: int, line: int) -> Change:
        """An order's lines get another key."""
        lines = self._lines(order)
        return Change("items", [row[:2] for row in lines], [(row[0] + _MOVED, *row[1:]) for row in lines])

    def _large(self, order: int, line: int) -> Change:
        return Change("items", [], [(order + _LARGE, number, 1, "large") for number in range(_LARGE_ROWS)])

    def _entries(self, order: int, line: int) -> Change:
        """Some neighbouring accounts get a text."""
        accounts = range(max(1, order - 4), order + 1)
        return Change("ledger", [], [(account, f"w{line}") for account in accounts])

    def _entry_again(self, order: int, line: int) -> Change:
        return Change("ledger", [(order,)], [(order, "again")])
