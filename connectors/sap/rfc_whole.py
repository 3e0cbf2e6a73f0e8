"""Whole rows of a table, however wide: read in several calls where a row of the function is too short, and rejoined.

Rows can change between the calls. Halves of two versions are never put together: either each call brings the version
column, which must be equal; or every call but the last is made a second time, and a row counts only where all of these
calls brought it twice with the same text: what was so before and after the last call was so during it. (A row that
changes and changes back between two calls escapes that; a version column tells it, too.) Rows that are not so are read
again by their keys, until they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.rows import Refused
from connectors.sap.rfc_dictionary import Amount
from connectors.sap.rfc_driver import TooWide
from connectors.sap.rfc_rows import KEY, Plans, Rows, WantedTable, key_tuples, letter, shifted, without
from connectors.sap.rfc_session import Session
from connectors.sap.rfc_table import Ability, Answer, attempts, read, texts
from connectors.sap.rfc_where import Key, of_keys
from connectors.sap.types import DdicField
from libcore.errors import ConfigurationError, TransientError
from libcore.sapfmt_rfc import calls, rejoin

_ATTEMPTS = 8
_CURRENCIES_MAX = 200_000  # kept in mind
_BAD, _STABLE = "bad {}", "stable {}"


class WholeRows:
    """Reads one table's rows; used by one thread.

    Args:
        session: to call by. able: the function. wanted: the table.
        where_max: characters of a WHERE clause.
    """

    def __init__(self, session: Session, able: Ability, wanted: WantedTable, *, where_max: int) -> None:
        self._session, self._able, self._wanted, self._where_max = session, able, wanted, where_max
        self._plans = Plans(wanted)
        self._room = able.characters
        self._currencies: dict[tuple[str, Key], str] = {}

    def where(self, clause: str, *, rows_max: int = 0, ordered: bool = False) -> Rows:
        """The rows of a clause, typed, amounts as what they are.

        rows_max: of an ordered answer the first so many; needs a function that reads a row in one call.
        """
        return self._with_amounts(self._stored(clause, rows_max, ordered, _ATTEMPTS))

    def of_keys(self, keys: Sequence[Key]) -> Iterator[Rows]:
        """The rows with these keys that are there, in as many calls as the clauses need."""
        for clause, _ in of_keys(self._wanted.found.key, keys, self._where_max):
            yield self.where(clause)

    def keys(self, clause: str, *, rows_max: int = 0) -> list[Key]:
        """Keys alone, in no order."""
        for attempt in attempts(self._able):
            answer = self._read(list(self._wanted.key_names), clause, rows_max=rows_max, attempt=attempt)
            if not answer.delimiter or not any(one.delimiter for one in self._plans.values(answer)[1]):
                return key_tuples(self._plans.keys(answer), self._wanted.found.key)
        raise ConfigurationError(f"source.sap_rfc: table {self._wanted.table.name}: every delimiter stands in a key")

    def count(self, clause: str, rows_max: int) -> int:
        """How many rows there are, up to so many."""
        return len(self._read(list(self._wanted.key_names), clause, rows_max=rows_max).rows)

    @property
    def one_call(self) -> bool:
        """Whether one call reads whole rows."""
        return len(self._parts()) == 1

    def _parts(self) -> list[list[str]]:
        names = self._wanted.names
        if not self._room:
            return [list(names)]
        parts = calls(self._wanted.lengths, self._wanted.shared, most=self._room)
        return [[names[index] for index in part] for part in parts]

    def _stored(self, clause: str, rows_max: int, ordered: bool, left: int) -> Rows:
        parts = self._parts()
        try:
            if len(parts) == 1:
                return self._narrow(parts[0], clause, rows_max, ordered)
            return self._wide(parts, clause, left)
        except TooWide:
            # the system counts more than the dictionary tells
            if self._room // 2 < sum(self._wanted.lengths[: self._wanted.shared]):
                raise
            self._room = self._room // 2
            return self._stored(clause, rows_max, ordered, left)

    def _read(
        self, names: list[str], clause: str, rows_max: int = 0, ordered: bool = False, attempt: int = 0
    ) -> Answer:
        table = self._wanted.found.name
        return read(
            self._session, self._able, table, names, clause, rows_max=rows_max, ordered=ordered, attempt=attempt
        )

    def _narrow(self, names: list[str], clause: str, rows_max: int, ordered: bool) -> Rows:
        for attempt in attempts(self._able):
            answer = self._read(names, clause, rows_max, ordered, attempt)
            record, bad = self._plans.values(answer)
            if not any(one.delimiter for one in bad):
                break
        keys = self._plans.keys(answer)
        letters = [letter(self._wanted, one, keys) for one in bad]
        last = key_tuples(keys.slice(keys.num_rows - 1), self._wanted.found.key)[0] if keys.num_rows else None
        return without(Rows(keys=keys, record=record, last=last), (one.row for one in bad), letters)

    def _wide(self, parts: list[list[str]], clause: str, left: int) -> Rows:
        first = [self._read(names, clause) for names in parts]
        again = [] if self._wanted.version else [self._read(names, clause) for names in parts[:-1]]
        tables, letters = [], []
        for number, answer in enumerate(first):
            stable = pc.is_in(answer.rows, value_set=again[number].rows) if number < len(again) else None
            table, bad = self._part(number, answer, stable)
            tables.append(table)
            letters += bad
        key = [KEY.format(name) for name in self._wanted.names[: self._wanted.shared]]
        joined, halves = rejoin(tables, key)
        sound, gone, unstable = self._judged(joined, len(parts), len(again))
        unstable += key_tuples(halves, self._wanted.found.key)
        rows = self._taken(sound)
        told = [one for one, number in letters if number in gone]
        rows = replace(rows, letters=tuple({one.key_text: one for one in told}.values()))
        return self._settled(rows, list(dict.fromkeys(unstable)), left)

    def _part(
        self, number: int, answer: Answer, stable: pa.BooleanArray | None
    ) -> tuple[pa.RecordBatch, list[tuple[Refused, Key]]]:
        """A call's rows as rejoin takes them, with what is bad and what is stable; and the letters by key."""
        wanted = self._wanted
        record, bad = self._plans.values(answer)
        keys = self._plans.keys(answer)
        flags = [False] * record.num_rows
        for one in bad:
            flags[one.row] = True
        own = [name for name in record.schema.names if number == 0 or name not in wanted.names[: wanted.shared]]
        arrays = {name: keys.column(name) for name in keys.schema.names}
        arrays |= {name: record.column(name) for name in own}
        arrays[_BAD.format(number)] = pa.array(flags, pa.bool_())
        if stable is not None:
            arrays[_STABLE.format(number)] = stable
        tuples = key_tuples(keys, wanted.found.key) if bad else []
        told = [(letter(wanted, one, keys), tuples[one.row]) for one in bad]
        return pa.RecordBatch.from_pydict(arrays), told

    def _judged(self, joined: pa.RecordBatch, parts: int, again: int) -> tuple[pa.RecordBatch, set[Key], list[Key]]:
        """Rows that are whole and good; the keys of those that are stable and bad; of those that are not stable."""
        stable = pa.array([True] * joined.num_rows, pa.bool_())
        for number in range(again):
            stable = pc.and_(stable, joined.column(_STABLE.format(number)))
        bad = pa.array([False] * joined.num_rows, pa.bool_())
        for number in range(parts):
            bad = pc.or_(bad, joined.column(_BAD.format(number)))
        fields = self._wanted.found.key
        gone = key_tuples(joined.filter(pc.and_(stable, bad)), fields)
        unstable = key_tuples(joined.filter(pc.invert(stable)), fields)
        return joined.filter(pc.and_(stable, pc.invert(bad))), set(gone), unstable

    def _taken(self, joined: pa.RecordBatch) -> Rows:
        keys = [KEY.format(name) for name in self._wanted.key_names]
        return Rows(joined.select(list(self._wanted.names)), joined.select(keys))

    def _settled(self, rows: Rows, unstable: list[Key], left: int) -> Rows:
        """The rows, with those that changed while they were read, read again."""
        if not unstable:
            return rows
        if not left:
            raise TransientError(
                f"source.sap_rfc: table {self._wanted.table.name}: {len(unstable)} rows changed whenever they were read"
            )
        found = [rows]
        for clause, _ in of_keys(self._wanted.found.key, unstable, self._where_max):
            found.append(self._stored(clause, 0, False, left - 1))
        record = pa.Table.from_batches([one.record for one in found]).combine_chunks().to_batches()
        keys = pa.Table.from_batches([one.keys.select(rows.keys.schema.names) for one in found])
        whole = record[0] if record else rows.record
        whole_keys = keys.combine_chunks().to_batches()[0] if record else rows.keys
        return Rows(whole, whole_keys, tuple(letter for one in found for letter in one.letters))

    def _with_amounts(self, rows: Rows) -> Rows:
        wanted = self._wanted
        if not wanted.amounts or not rows.record.num_rows:
            return rows
        currencies = {name: self._currency(rows.record, amount) for name, amount in wanted.amounts.items()}
        return shifted(wanted, rows, currencies)

    def _currency(self, record: pa.RecordBatch, amount: Amount) -> pa.Array:
        """The currency of each row, '' as NULL."""
        if amount.constant:
            return pa.array([amount.constant] * record.num_rows, pa.utf8())
        if amount.column:
            found = record.column(amount.column)
            return pc.if_else(pc.equal(found, ""), pa.scalar(None, pa.utf8()), found)
        keys: list[Key] = list(zip(*(_as_text(record.column(one.name), one) for one in amount.key), strict=True))
        known = self._looked_up(amount, keys)
        return pa.array([known.get(key) or None for key in keys], pa.utf8())

    def _looked_up(self, amount: Amount, keys: Sequence[Key]) -> dict[Key, str]:
        """The currencies of the rows of another table. A currency is not expected to change under its document."""
        if len(self._currencies) > _CURRENCIES_MAX:
            self._currencies.clear()
        missing = [key for key in dict.fromkeys(keys) if (amount.table, key) not in self._currencies]
        for clause, _ in of_keys(amount.key, missing, self._where_max):
            for key, currency in _texts(self._session, self._able, amount, clause):
                self._currencies[(amount.table, key)] = currency
        return {key: self._currencies.get((amount.table, key), "") for key in set(keys)}


def _texts(session: Session, able: Ability, amount: Amount, clause: str) -> Iterator[tuple[Key, str]]:
    names = [one.name for one in amount.key]
    for row in texts(session, able, amount.table, [*names, amount.field], clause):
        yield tuple(row[name] for name in names), row[amount.field]


def _as_text(column: pa.Array, field: DdicField) -> list[str]:
    """A column's values as a row has them: a number that the pipeline made of digits gets its zeros back."""
    text = column.cast(pa.utf8())
    return list((text if pa.types.is_string(column.type) else pc.utf8_lpad(text, field.length, "0")).to_pylist())
