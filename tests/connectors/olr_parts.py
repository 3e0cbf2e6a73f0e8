"""Tables in Oracle as OpenLogReplicator tells of them: each change under its settings `column` and `message`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from random import Random
from typing import Any

from connectors.formats.binding import TopicBinding
from connectors.formats.declared import declared_column

COLUMNS = {"ID": "int64", "NAME": "string", "PRICE": "decimal(18,4)", "AT": "timestamp", "RAW": "bytes"}
TABLES = ("ERP.ITEMS", "ERP.ORDERS")
Row = dict[str, Any]


def binding(name: str, columns: Mapping[str, str] = COLUMNS, **more: Any) -> TopicBinding:
    """A table by ID."""
    declared = tuple(declared_column(column, kind) for column, kind in columns.items())
    return TopicBinding(**{"table": name, "columns": declared, "key": ("ID",), **more})


def written(row: Mapping[str, Any]) -> str:
    """A row as it is written: numbers with all their digits, bytes in hexadecimal, each slash escaped."""
    return "{" + ",".join(f"{json.dumps(name)}:{_value(value)}" for name, value in row.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    given = value.hex().upper() if isinstance(value, bytes) else value
    return json.dumps(given, ensure_ascii=False).replace("/", "\\/")


class Replicated:
    """Two tables by ID, written at random; `messages` is what OpenLogReplicator has written of them.

    Args:
        column: 0: changed columns and the key, without NULLs in new and deleted rows; 1: with these; 2: all columns.
        whole: a message for each transaction; else for each change, and for its begin and commit.
    """

    def __init__(self, random: Random, column: int = 0, *, whole: bool = False) -> None:
        self._random, self._column, self._whole = random, column, whole
        self.rows: dict[str, dict[int, Row]] = {name: {} for name in TABLES}
        self.messages: list[str] = []
        self._scn = 17_958_200

    def transactions(self, count: int) -> list[str]:
        """So many of them; the messages, which are kept, too."""
        first = len(self.messages)
        for _ in range(count):
            changes = [self._change() for _ in range(self._random.choice((1, 1, 2, 9)))]
            parts = [changes] if self._whole else [['{"op":"begin"}'], *([one] for one in changes), ['{"op":"commit"}']]
            for index, part in enumerate(parts):
                self._scn += 1
                head = f'"scn":{self._scn},"tm":1651384800000000000,' if index == 0 else ""
                ids = f'"c_scn":{self._scn},"c_idx":{index},"xid":"0x0002.012.{self._scn:08x}"'
                self.messages.append(f'{{{head}{ids},"payload":[{",".join(part)}]}}')
        return self.messages[first:]

    def _change(self) -> str:
        table, number = self._random.choice(TABLES), self._random.randrange(40)
        rows = self.rows[table]
        old = rows.get(number)
        if old is None:
            rows[number] = new = self._row(number)
            return self._told("c", table, {}, new)
        if self._random.random() < 0.25:
            del rows[number]
            return self._told("d", table, old, {})
        new = old | dict(self._random.sample(list(self._row(number).items()), 2)) | {"ID": number}
        if self._column == 2 and self._random.random() < 0.2 and (moved := self._random.randrange(40)) not in rows:
            new["ID"] = moved
            del rows[number]
        rows[new["ID"]] = new
        return self._told("u", table, old, new)

    def _row(self, number: int) -> Row:
        r = self._random
        return {
            "ID": number,
            "NAME": r.choice((None, "a/b", 'q"\\', "ü😀", "line\nend")),
            "PRICE": r.choice((None, Decimal(r.randrange(-(10**9), 10**9)) / 10_000, Decimal(5))),
            "AT": r.choice((None, f"9999-12-31T23:59:{r.randrange(60):02d}.{r.randrange(10**6):06d}000Z")),
            "RAW": r.choice((None, r.randbytes(3))),
        }

    def _told(self, op: str, table: str, old: Row, new: Row) -> str:
        owner, _, name = table.partition(".")
        images = [f'"{side}":{written(row)}' for side, row in self._images(op, old, new)]
        return f'{{"op":"{op}","schema":{{"owner":"{owner}","table":"{name}"}},{",".join(images)}}}'

    def _images(self, op: str, old: Row, new: Row) -> Iterable[tuple[str, Row]]:
        if op != "u":
            row = new if op == "c" else old
            given = row if self._column else {name: value for name, value in row.items() if value is not None}
            return [("after" if op == "c" else "before", given)]
        names = [name for name in new if self._column == 2 or name == "ID" or old[name] != new[name]]
        return [(side, {name: row[name] for name in names}) for side, row in (("before", old), ("after", new))]
