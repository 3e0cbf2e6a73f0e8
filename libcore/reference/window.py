"""Windows in plain Python: all rows in a dict, every result computed anew from all of them. What the tests believe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from libcore.reference.window_kernels import _half_even as half_even
from libcore.window_plan import Aggregate, WindowPlan

Row = Mapping[str, Any]
Key = tuple[Any, ...]
_TIME_MAX = 2**61


@dataclass(eq=False)
class _Counted:
    """A row that counts: its values, its time in microseconds, how often (-1: a keyless row taken away)."""

    row: Row
    us: int
    times: int = 1


@dataclass
class Windows:
    """Both stages in one. Values are plain (reference/values.py): decimals unscaled, times as integers of their unit.

    results: what a target holds that applied everything given so far. late: (row, "add" or "remove") in order.
    dead: rows without a time.
    """

    plan: WindowPlan
    late: list[tuple[Row, str]] = field(default_factory=list)
    dead: list[Row] = field(default_factory=list)
    results: dict[Key, list[Any]] = field(default_factory=dict)
    _rows: dict[Key, _Counted] = field(default_factory=dict)
    _held: dict[Key, Row] = field(default_factory=dict)  # known rows that count nowhere: without a time, or late
    _frozen: set[Key] = field(default_factory=set)  # keys of rows that counted, and whose windows are all closed
    _purged: list[_Counted] = field(default_factory=list)  # what still counts in an open session
    _copies: list[_Counted] = field(default_factory=list)  # rows of a keyless table
    _us: int | None = None

    def apply(self, changes: Iterable[tuple[bool, Row, set[str]]]) -> None:
        """Changes as (deleted, row, names of columns that were not sent), one a key, or any of a keyless table."""
        for deleted, row, unset in changes:
            if self.plan.source.key:
                self._change(deleted, dict(row), unset)
            else:
                self._copy(deleted, row)
        self._settle()

    def _change(self, deleted: bool, row: dict[str, Any], unset: set[str]) -> None:
        key = tuple(same(row[name]) for name in self.plan.source.key)
        old = self._rows[key].row if key in self._rows else self._held.get(key)
        if deleted:
            if key in self._frozen:
                self._frozen.discard(key)
                self.late.append((row, "remove"))
            self._rows.pop(key, None)
            self._held.pop(key, None)
            return
        if old is not None:
            row |= {name: old[name] for name in unset}
        us = self._time(row)
        if key in self._frozen:
            self.late.append((row, "add"))
            return
        self._rows.pop(key, None)
        if us is None or self._is_late(us):
            self._held[key] = row
            if us is None:
                self.dead.append(row)
            else:
                self.late.append((row, "add"))
            return
        self._held.pop(key, None)
        self._rows[key] = _Counted(row, us)

    def _copy(self, deleted: bool, row: Row) -> None:
        us = self._time(row)
        if us is None:
            self.dead.append(row)
        elif self._is_late(us):
            self.late.append((row, "remove" if deleted else "add"))
        else:
            self._copies.append(_Counted(row, us, -1 if deleted else 1))

    def advance(self, us: int) -> None:
        """Take a watermark."""
        if not self.plan.bounded or (self._us is not None and us < self._us):
            return
        still = self._windows()  # of the rows as they are, at the old watermark
        self._us = us
        for window, counted in still.items():
            if self._is_closed(window):
                if self.plan.final:
                    self._give(window, counted)
                gone = {id(one) for one in counted}
                if self.plan.kind == "session":
                    self._purged = [one for one in self._purged if id(one) not in gone]
                    self._copies = [one for one in self._copies if id(one) not in gone]
        for key, one in list(self._rows.items()):
            if self._is_late(one.us):
                del self._rows[key]
                self._frozen.add(key)
                if not any(one in counted and self._is_closed(window) for window, counted in still.items()):
                    self._purged.append(one)

    def _settle(self) -> None:
        """Bring the results of open windows to what the rows say."""
        if self.plan.final:
            return
        open_windows = self._windows()
        for key in [key for key in self.results if not self._is_closed_key(key)]:
            del self.results[key]
        for window, counted in open_windows.items():
            self._give(window, counted)

    def _give(self, window: Key, counted: list[_Counted]) -> None:
        if sum(one.times for one in counted) > 0:
            group, start, end = window
            times = () if start is None else (start, end)
            values = [_fitting(_aggregate(a, counted, self.plan), a) for a in self.plan.aggregates]
            self.results[(*group, *(() if start is None else (start,)))] = [*times, *values]

    def _is_closed_key(self, key: Key) -> bool:
        if self._us is None or not self.plan.timed:
            return False
        end = self.results[key][1]
        return end + (self.plan.allowed_lateness_us or 0) <= self._us

    def _is_closed(self, window: Key) -> bool:
        _, _, end = window
        return self._us is not None and end is not None and end + (self.plan.allowed_lateness_us or 0) <= self._us

    def _is_late(self, us: int) -> bool:
        if self._us is None or not self.plan.bounded:
            return False
        plan = self.plan
        end = us + plan.gap_us if plan.kind == "session" else us // plan.slide_us * plan.slide_us + plan.size_us
        return end + (plan.allowed_lateness_us or 0) <= self._us

    def _time(self, row: Row) -> int | None:
        """Microseconds since 1970; 0 where the plan has no time."""
        if self.plan.time is None:
            return 0
        value = row[self.plan.time]
        if value is None:
            return None
        kind = self.plan.source.column(self.plan.time).type.name
        us = value * 86_400_000_000 if kind == "date" else value // 1000 if kind == "timestamp_ns" else value
        return us if abs(us) <= _TIME_MAX else None

    def _windows(self) -> dict[Key, list[_Counted]]:
        """The rows of each open window, as (group, start, end)."""
        plan = self.plan
        groups: dict[Key, list[_Counted]] = {}
        for one in [*self._rows.values(), *self._purged, *self._copies]:
            groups.setdefault(tuple(same(one.row[name]) for name in plan.by), []).append(one)
        found: dict[Key, list[_Counted]] = {}
        for group, counted in groups.items():
            if plan.kind == "session":
                found |= {(group, start, end): rows for start, end, rows in _sessions(counted, plan.gap_us)}
                continue
            for one in counted:
                for start, end in _places(one.us, plan):
                    if not self._is_closed((group, start, end)):
                        found.setdefault((group, start, end), []).append(one)
        return found


def same(value: Any) -> Any:
    """A value as a key: NaN equal to itself."""
    return "NaN" if isinstance(value, float) and value != value else value


def _places(us: int, plan: WindowPlan) -> list[tuple[int | None, int | None]]:
    """Start and end of each window that a time lies in."""
    if not plan.timed:
        return [(None, None)]
    last = us // plan.slide_us
    starts = [n * plan.slide_us for n in range(last - plan.size_us // plan.slide_us, last + 1)]
    return [(start, start + plan.size_us) for start in starts if start <= us < start + plan.size_us]


def _sessions(counted: list[_Counted], gap: int) -> list[tuple[int, int, list[_Counted]]]:
    """Runs of times less than gap apart; copies of a keyless row that cancel out are not there."""
    copies: dict[int, int] = {}
    for one in counted:
        copies[one.us] = copies.get(one.us, 0) + one.times
    runs: list[list[_Counted]] = []
    for one in sorted((one for one in counted if copies[one.us] > 0), key=lambda one: one.us):
        if runs and one.us - runs[-1][-1].us < gap:
            runs[-1].append(one)
        else:
            runs.append([one])
    return [(run[0].us, run[-1].us + gap, run) for run in runs]


def _fitting(value: Any, aggregate: Aggregate) -> Any:
    """NULL for a number of more digits than the result has: such a row is refused."""
    exact = aggregate.type.name == "decimal" and aggregate.function in ("sum", "avg") and value is not None
    return None if exact and abs(value) >= 10**aggregate.type.precision else value


def _aggregate(aggregate: Aggregate, counted: list[_Counted], plan: WindowPlan) -> Any:
    """SQL's aggregate of the rows, as a plain value of the result's type."""
    name = aggregate.column
    if name is None:
        return sum(one.times for one in counted)
    values = [(one.row[name], one.times) for one in counted if one.row[name] is not None]
    count = sum(times for _, times in values)
    if aggregate.function == "count":
        return count
    if aggregate.function in ("min", "max", "distinct"):
        return _of_distinct(aggregate.function, values)
    if count <= 0:
        return None
    if aggregate.type.name == "float64":
        total = _float_sum(values)
        return total / count if aggregate.function == "avg" else total
    whole = sum(value * times for value, times in values)
    if aggregate.function == "sum":
        return whole
    shift = aggregate.type.scale - plan.source.column(name).type.scale
    return half_even(whole * 10 ** max(shift, 0), count * 10 ** max(-shift, 0))


def _of_distinct(function: str, values: list[tuple[Any, int]]) -> Any:
    copies: dict[Any, int] = {}
    for value, times in values:
        copies[same(value)] = copies.get(same(value), 0) + times
    there = [value for value, times in copies.items() if times > 0]
    if function == "distinct":
        return len(there)
    if not there:
        return None
    found = (min if function == "min" else max)(
        there, key=lambda value: (value == "NaN", 0 if value == "NaN" else value)
    )
    return float("nan") if found == "NaN" else found


def _float_sum(values: list[tuple[float, int]]) -> float:
    """IEEE 754's sum, but exact; copies of NaN and infinities that cancel out are not there."""
    nan, plus, minus = (
        sum(times for value, times in values if repr(value) == text) > 0 for text in ("nan", "inf", "-inf")
    )
    if nan or (plus and minus):
        return float("nan")
    if plus or minus:
        return float("inf") if plus else float("-inf")
    return float(sum((Fraction(value) * times for value, times in values if math.isfinite(value)), Fraction(0)))
