"""The three stages of the join in plain Python over dicts, a row at a time: what the tests hold libcore.join against.

Row, FactRouter, Matcher and Latest are an oracle without stores: where no compiler exists, libcore.join serves itself,
on the reference of its stores, and takes only LatestRows from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from libcore.change import OP, SOURCE_TS, UNSET, Op
from libcore.join_plan import VERSION, JoinPlan
from libcore.reference.values import plain
from libcore.schema import Table

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """A change: values by column, NULL as None; the columns that it lacks; `new`: an upsert of an unknown fact."""

    op: int
    values: dict[str, Any]
    lacks: frozenset[str] = frozenset()
    version: int = 0
    source_ts: int | None = None
    new: bool = False

    def key(self, names: Iterable[str]) -> Key:
        """The values of these columns as a dict key: NaN equals NaN, -0.0 equals 0.0."""
        return tuple("NaN" if self.values[name] != self.values[name] else self.values[name] for name in names)


def rows_of(record: pa.RecordBatch, table: Table) -> list[Row]:
    """The rows of a batch of that table, of a ChangeBatch or of what travels between the stages."""
    names = [column.name for column in table.columns]
    columns = [plain(record.column(name)) for name in names]
    ops, stamps = record.column(OP).to_pylist(), plain(record.column(SOURCE_TS))
    count = record.num_rows
    versions = record.column(VERSION).to_pylist() if VERSION in record.schema.names else [0] * count
    bits = record.column(UNSET).to_pylist() if UNSET in record.schema.names else [bytes(len(names))] * count
    rows = []
    for row in range(count):
        lacks = frozenset(name for i, name in enumerate(names) if bits[row][i // 8] >> i % 8 & 1)
        lacks = frozenset() if ops[row] == Op.DELETE else lacks
        values = {name: None if name in lacks else column[row] for name, column in zip(names, columns, strict=True)}
        op = int(Op.DELETE) if ops[row] == Op.DELETE else int(Op.UPSERT)
        rows.append(Row(op, values, lacks, versions[row], stamps[row], ops[row] == Op.INSERT))
    return rows


def _filled(row: Row, old: Row | None, names: Iterable[str]) -> Row:
    """The row with what it lacks of these columns taken from the old one."""
    if old is None:
        return row
    found = {name: old.values[name] for name in names if name in row.lacks and name not in old.lacks}
    return replace(row, values={**row.values, **found}, lacks=row.lacks - set(found))


def _bare(row: Row, key: Iterable[str], table: Table) -> Row:
    """A delete with the row's version and time."""
    values = {column.name: row.values[column.name] if column.name in set(key) else None for column in table.columns}
    return Row(int(Op.DELETE), values, frozenset(), row.version, row.source_ts)


@dataclass
class FactRouter:
    """Stage (a). See libcore.join.FactRouter; rows come one at a time, each key at most once a call."""

    plan: JoinPlan
    known: dict[Key, Row] = field(default_factory=dict)
    version: int = 0

    def route(self, rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
        """(to stage (b), to stage (c)) of compacted changes."""
        plan = self.plan
        forgets, enters, direct = [], [], []
        for row in rows:
            self.version += 1
            key = row.key(plan.fact.key)
            old = self.known.get(key)
            row = replace(_filled(row, old, plan.held), version=self.version, new=old is None)
            at = _foreign(row, plan) if row.op == Op.UPSERT else None
            was = None if old is None else _foreign(old, plan)
            if old is not None and was is not None and was != at:
                left = replace(row, values={**row.values, **{name: old.values[name] for name in plan.foreign_key}})
                forgets.append(_bare(left, plan.place, plan.fact))
            if row.op == Op.DELETE:
                self.known.pop(key, None)
                direct.append(_bare(row, plan.fact.key, plan.result))
                continue
            self.known[key] = row
            if at is not None:
                enters.append(row)
            elif not plan.inner:
                direct.append(_beside(row, None, plan, row.new))
            elif was is not None:
                direct.append(_bare(row, plan.fact.key, plan.result))
        return forgets + enters, direct

    def truncate(self) -> tuple[list[Row], list[Row]]:
        """Every known fact deleted."""
        return self.route([Row(int(Op.DELETE), row.values) for row in self.known.values()])


def _foreign(row: Row, plan: JoinPlan) -> Key | None:
    key = row.key(plan.foreign_key)
    return None if None in key else key


def _beside(row: Row, partner: Row | None, plan: JoinPlan, new: bool) -> Row:
    """A result row: the fact and what is taken of its partner; `new`: no result of the fact was sent before."""
    taken = {here: None if partner is None else partner.values[there] for there, here in plan.take.items()}
    lacks = [here for there, here in plan.take.items() if partner is not None and there in partner.lacks]
    return replace(row, values={**row.values, **taken}, lacks=row.lacks | set(lacks), new=new)


@dataclass
class Matcher:
    """Stage (b). See libcore.join.Matcher; facts in the order they come, a dimension's key at most once a call."""

    plan: JoinPlan
    places: dict[Key, dict[Key, Row]] = field(default_factory=dict)
    partners: dict[Key, Row] = field(default_factory=dict)

    def facts(self, rows: Iterable[Row]) -> list[Row]:
        """The results of what routers sent."""
        plan = self.plan
        results = []
        for row in rows:
            key = row.key(plan.fact.key)
            here = self.places.setdefault(row.key(plan.foreign_key), {})
            if row.op == Op.DELETE:
                here.pop(key, None)
                continue
            here[key] = _filled(row, here.get(key), plan.fact_names)
            results.append(self._result(here[key], row.new))
        return [row for row in results if row is not None]

    def dimension(self, rows: Iterable[Row]) -> list[Row]:
        """The results of every fact whose partner came, went, or changed in a taken column."""
        plan, results = self.plan, []
        for row in rows:
            at = row.key(plan.dimension.key)
            old = self.partners.get(at)
            row = _filled(row, old, plan.partner)
            if row.op == Op.DELETE:
                self.partners.pop(at, None)
                same = old is None
            else:
                self.partners[at] = row
                same = old is not None and _taken(old, plan) == _taken(row, plan)
            if not same and None not in at:
                facts = [replace(fact, source_ts=row.source_ts) for fact in self.places.get(at, {}).values()]
                came = plan.inner and old is None
                results += [self._result(fact, False, came) for fact in facts]
        return [row for row in results if row is not None]

    def truncate_dimension(self) -> list[Row]:
        """The whole dimension deleted."""
        return self.dimension([Row(int(Op.DELETE), row.values) for row in self.partners.values()])

    def _result(self, fact: Row, new: bool, came: bool = False) -> Row | None:
        partner = self.partners.get(fact.key(self.plan.foreign_key))
        if partner is not None or not self.plan.inner:
            return _beside(fact, partner, self.plan, new or came)
        return None if new else _bare(fact, self.plan.fact.key, self.plan.result)


def _taken(row: Row, plan: JoinPlan) -> list[Any]:
    return [(repr(row.values[name]), name in row.lacks) for name in plan.take]


@dataclass
class Latest:
    """Stage (c). See libcore.join.Latest."""

    plan: JoinPlan
    seen: dict[Key, int] = field(default_factory=dict)

    def take(self, rows: Iterable[Row]) -> list[Row]:
        """The rows that pass, in order, as many as come of a key."""
        passed = []
        for row in rows:
            key = row.key(self.plan.result.key)
            if row.version >= self.seen.get(key, row.version):
                self.seen[key] = row.version
                passed.append(row)
        return passed

    def clear(self) -> None:
        """The epoch ends."""
        self.seen.clear()


@dataclass
class LatestRows:
    """The rules of include/libcore/join.h: which rows of a batch of keys and versions pass, and their positions."""

    seen: dict[Key, int] = field(default_factory=dict)
    counter: int = 0

    def take(self, record: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        """(rows that pass, a position for each)."""
        columns = [["NaN" if v != v else v for v in plain(column)] for column in record.columns[:-1]]
        passing = []
        for row, version in enumerate(record.columns[-1].to_pylist()):
            key = tuple(column[row] for column in columns)
            if version >= self.seen.get(key, version):
                self.seen[key] = version
                passing.append(row)
        positions = [(self.counter + 1 + i).to_bytes(32, "big") for i in range(len(passing))]
        self.counter += len(passing)
        return pa.array(passing, pa.int32()), pa.array(positions, pa.binary(32))

    def clear(self) -> None:
        """Forget the versions."""
        self.seen.clear()
