"""What was brought of the newest rows: one that a signal names again, and that is the same, is not brought again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from connectors.sap.rfc_rows import Rows, WantedTable, key_tuples
from connectors.sap.rfc_where import Key
from libcore.digest import digest_rows

_ROWS_MAX = 200_000
_GONE = b""


class Recent:
    """Digests of the rows that were brought last, by table and key; in memory, for one reader.

    It may forget: a row is then brought twice, which changes nothing.
    """

    def __init__(self) -> None:
        self._marks: OrderedDict[tuple[str, Key], bytes] = OrderedDict()

    def fresh(self, wanted: WantedTable, rows: Rows) -> Rows:
        """The rows, good and bad, that are other than they were brought."""
        table = wanted.table
        good = key_tuples(rows.keys, wanted.found.key)
        marks = digest_rows(rows.record.select([column.name for column in table.columns])).to_pylist() if good else []
        kept = [self._new(table.name, key, mark) for key, mark in zip(good, marks, strict=True)]
        letters = tuple(
            one
            for one in rows.letters
            if self._new(table.name, (one.key_text or "",), f"{one.error}{one.raw!r}".encode())
        )
        if not all(kept):
            mask = pa.array(kept, pa.bool_())
            rows = replace(rows, record=rows.record.filter(mask), keys=rows.keys.filter(mask))
        return replace(rows, letters=letters)

    def forget(self, wanted: WantedTable, rows: Rows) -> None:
        """Parts of these rows were brought: what a signal names of them is brought, whatever it is."""
        for key in rows.all_keys(wanted):
            self._marks.pop((wanted.table.name, key), None)

    def gone(self, wanted: WantedTable, keys: Sequence[Key]) -> list[Key]:
        """The keys whose delete was not brought last."""
        return [key for key in keys if self._new(wanted.table.name, key, _GONE)]

    def _new(self, table: str, key: Key, mark: bytes) -> bool:
        place = table, key
        if self._marks.get(place) == mark:
            self._marks.move_to_end(place)
            return False
        self._marks[place] = mark
        self._marks.move_to_end(place)
        if len(self._marks) > _ROWS_MAX:
            self._marks.popitem(last=False)
        return True
