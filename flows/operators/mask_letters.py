"""Dead letters of rows that a mask step has not seen yet: what it hides is taken out of them before they are kept.

A letter with a row keeps the row, with NULL in the hidden columns. A letter with a message as it came keeps partition,
offset and byte position, by which the message is found at its source, and neither its bytes nor, where the key is
hidden, its key. What an error says it found is left out. Stateless.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import pyarrow as pa

from connectors.base.items import Item
from libcore.change import ChangeBatch, arrow_schema
from libcore.dead_letter import DEAD_LETTERS

Places = Mapping[tuple[str, str], frozenset[str]]
"""(step, table) of a dead letter -> columns that are hidden; step "": all that happens in front of the steps."""


def all_of(parts: Iterable[Places]) -> dict[tuple[str, str], frozenset[str]]:
    """The places of several mask steps as one."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for part in parts:
        for place, columns in part.items():
            found[place] = found.get(place, frozenset()) | columns
    return found


class Withhold:
    """The mapper: dead letters are gone over, all other items pass."""

    def __init__(self, places: Places) -> None:
        self._places = dict(places)
        self._steps = {step for step, _ in places}

    def __call__(self, items: Iterable[Item]) -> list[Item]:
        """The same items in the same order."""
        return [self._letters(item) if _are_letters(item) else item for item in items]

    def _letters(self, batch: ChangeBatch) -> ChangeBatch:
        letters = batch.record.to_pylist()
        for letter in letters:
            place = (letter["step"], letter["table_name"])
            if place not in self._places:
                place = ("", letter["table_name"])
            if place in self._places and (place[0] or letter["step"] not in self._steps):
                _scrub(letter, self._places[place])
        return ChangeBatch(DEAD_LETTERS, pa.RecordBatch.from_pylist(letters, schema=arrow_schema(DEAD_LETTERS)))


def _are_letters(item: Item) -> TypeGuard[ChangeBatch]:
    return isinstance(item, ChangeBatch) and item.table == DEAD_LETTERS


def _scrub(letter: dict[str, Any], hidden: frozenset[str]) -> None:
    """Take hidden columns out of one letter, in place."""
    row = _row(letter["raw_value"])
    names = ", ".join(sorted(hidden))
    if row is None:
        letter["raw_value"] = None
        # of a key that is no JSON nobody knows which columns it has
        if letter["key_text"] is None or _names_one(letter["key_text"], hidden):
            letter |= {"raw_key": None, "key_text": None}
    else:
        columns = [
            pa.nulls(row.num_rows, column.type) if name in hidden else column
            for name, column in zip(row.schema.names, row.columns, strict=True)
        ]
        fields = [pa.field(one.name, one.type) for one in row.schema]
        letter["raw_value"] = _ipc(pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields)))
        if _names_one(letter["key_text"] or "", hidden):
            letter["key_text"] = None
    letter["error"] = f"{_expected(letter['error'])} (withheld, as masked: {names})"


def _names_one(key_text: str, hidden: frozenset[str]) -> bool:
    return any(
        f"{json.dumps(name, ensure_ascii=ascii_only)}:" in key_text for name in hidden for ascii_only in (False, True)
    )


def _expected(error: str | None) -> str:
    """What was expected; what was found may be what nobody shall read."""
    sentence = error or ""
    head, found, _ = sentence.partition(", found")
    return head if found and sentence.startswith("expected ") else "the row could not pass"


def _row(value: bytes | None) -> pa.RecordBatch | None:
    """The row of a letter that a step made; None for a message as it came."""
    if value is None:
        return None
    try:
        with pa.ipc.open_stream(value) as reader:
            return reader.read_next_batch()
    except (pa.ArrowInvalid, OSError, StopIteration):
        return None


def _ipc(record: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, record.schema) as writer:
        writer.write_batch(record)
    return sink.getvalue().to_pybytes()
