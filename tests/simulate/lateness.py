"""What windows must be whose results depend on when rows came: which changes may be late, and what then counts.

A watermark known at the end of an epoch travels in the next one, beside that epoch's rows: a row that only this one
makes late is late or not. So the table of late rows says what was late, and is held to what may be and what must be:

    straight     over a source table: each key's changes are followed, epoch by epoch, along all ways that they can go;
                 one of these must tell the late rows that were told, and what counts along it gives the windows by SQL
    behind a join, or where epochs are not known: a key that was never late counts with its last row. Windows that no
                 other key can touch equal SQL over the final rows; a late key must have had a time that can be late
"""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from tests.simulate import truth
from tests.simulate.ends import Results
from tests.simulate.flow import origin
from tests.simulate.history import EPOCH_START
from tests.simulate.model import (
    Change,
    Join,
    Message,
    Partition,
    Restart,
    Row,
    Scenario,
    Topic,
    Window,
    key_of,
    messages,
    put,
    reads,
    runs,
)

MICROSECOND = datetime.timedelta(microseconds=1)
WAYS_MAX = 2000


def wrong(scenario: Scenario, found: Results, exact: bool) -> list[str]:
    """What is wrong with windows that close, a line each.

    Args:
        found: the target's tables. exact: epochs were as planned.
    """
    lines = []
    topics = {topic.table.name for topic in scenario.topics}
    for step in scenario.steps:
        if isinstance(step, Window) and step.bounded:
            straight = exact and step.table in topics
            lines += (_Straight if straight else _Loose)(scenario, step, found).wrong()
    return lines


@dataclass(frozen=True)
class Epochs:
    """What a scenario's epochs bring: `ends`, the offsets to which each partition is read; `again`, which a start may
    bring once more."""

    held: Mapping[Partition, Sequence[Message]]
    ends: Sequence[Mapping[Partition, int]]
    again: frozenset[int]

    def of(self, partition: Partition) -> Iterator[tuple[int, int, int]]:
        """(epoch, from offset, to offset) of a partition."""
        start = 0
        for number, offsets in enumerate(self.ends):
            yield number, start, offsets[partition]
            start = offsets[partition]


def epochs_of(scenario: Scenario) -> Epochs:
    """The epochs of all runs, one after the other."""
    ends: list[Mapping[Partition, int]] = []
    again = set()
    for run in runs(scenario):
        ends += run.plan[1:] if ends and run.plan[0] == ends[-1] else run.plan
        if isinstance(run.restart, Restart):
            again.add(len(ends) - 1)
    return Epochs(messages(scenario), ends, frozenset(again))


def time_us(value: Any) -> int | None:
    """Microseconds since 1970."""
    return None if value is None else (value - EPOCH_START) // MICROSECOND


def watermarks(scenario: Scenario, step: Window, epochs: Epochs) -> list[int | None]:
    """What the watermark is when an epoch has ended, None before there is one."""
    assert step.time is not None
    table, column = origin(scenario, step.table, step.time)
    topic = scenario.topic(table)
    place = _place(topic, column)
    parts = [where for where in epochs.held if where[0] == table]
    times: dict[Partition, int | None] = dict.fromkeys(parts)
    seen = {where: {number: (start, end) for number, start, end in epochs.of(where)} for where in parts}
    found: list[int | None] = []
    for number in range(len(epochs.ends)):
        for where in parts:
            start, end = seen[where][number]
            for offset in range(start, end):
                message = epochs.held[where][offset]
                assert isinstance(message, Change)
                snapshot = offset < scenario.snapshot and message.op == "insert"
                us = None if message.op == "truncate" or snapshot else time_us(message.row[place])
                before = times[where]
                if us is not None:
                    times[where] = us if before is None else max(us, before)
        least = None if None in times.values() else min(us for us in times.values() if us is not None)
        risen = found[-1] if found else None
        mark = None if least is None else least - step.out_of_order_us
        found.append(mark if risen is None or (mark is not None and mark > risen) else risen)
    return found


def _place(topic: Topic, column: str) -> int:
    return [other.name for other in topic.table.columns].index(column)


def is_late(step: Window, us: int | None, mark: int | None) -> bool:
    """Whether the last window with a place for that time is closed."""
    if us is None or mark is None:
        return False
    lateness = step.lateness_us or 0
    if step.kind == "session":
        return us + step.gap_us + lateness <= mark
    slide = step.slide_us or step.size_us
    return us // slide * slide + step.size_us + lateness <= mark


State = tuple[str, Row] | None
"""What a key is: not there, "counted", "held" (it counts nowhere), "closed" (counted, windows closed); and its row."""


@dataclass(frozen=True)
class Way:
    """One way that a key's changes can go: what was told late ("add", "remove"), what counts (sign, epoch, row)."""

    state: State = None
    late: tuple[str, ...] = ()
    counted: tuple[tuple[int, int, Row], ...] = ()


class _Straight:
    """A window over a source table, in epochs that are known."""

    def __init__(self, scenario: Scenario, step: Window, found: Results) -> None:
        self._step, self._found = step, found
        self._topic = scenario.topic(step.table)
        self._epochs = epochs_of(scenario)
        self._marks = watermarks(scenario, step, self._epochs)
        self._time = _place(self._topic, step.time or "")

    def wrong(self) -> list[str]:
        """What is wrong, a line each."""
        step, table = self._step, self._topic.table
        names, rows = self._found.get(step.late, (tuple(column.name for column in table.columns), []))
        told: dict[Row, Counter[str]] = defaultdict(Counter)
        for row in rows:
            told[tuple(row[names.index(name)] for name in table.key)][row[names.index("late_change")]] += 1
        lines, counted, doubtful = [], list[tuple[int, int, Row]](), list[Row]()
        changes = self._changes()
        for key in {**changes, **told}:
            ways = [way for way in self._ways(changes.get(key, []), told[key]) if Counter(way.late) == told[key]]
            if not ways:
                lines.append(f"{step.late} tells of {key}: {dict(told[key])}, which cannot be")
            elif len({way.counted for way in ways}) > 1:
                doubtful += [row for way in ways for _, _, row in way.counted]
            else:
                counted += ways[0].counted
        return lines or self._compared(counted, doubtful)

    def _changes(self) -> dict[Row, list[tuple[int, list[Change]]]]:
        """Of each key the changes of each batch, with its epoch: a batch ends with the epoch, or where columns come."""
        found: dict[Row, dict[tuple[int, int], list[Change]]] = defaultdict(dict)
        for where, held in self._epochs.held.items():
            batch, width = 0, 0
            for number, start, end in self._epochs.of(where) if where[0] == self._step.table else ():
                for message in held[start:end]:
                    assert isinstance(message, Change)
                    batch, width = batch + (width != len(message.row)), len(message.row)
                    key = key_of(self._topic.table, message.row)
                    found[key].setdefault((number, batch), []).append(message)
        return {key: [(number, of) for (number, _), of in batches.items()] for key, batches in found.items()}

    def _ways(self, changes: Sequence[tuple[int, list[Change]]], told: Counter[str]) -> list[Way]:
        """All ways that a key's changes can go, as far as they tell nothing that was not told."""
        ways = {Way(): None}
        for number, of_batch in changes:
            steps = (after for way in ways for after in self._steps(way, number, of_batch))
            ways = {after: None for after in steps if Counter(after.late) <= told}
            assert len(ways) <= WAYS_MAX, (self._step, "too many ways")
        return list(ways)

    def _steps(self, way: Way, number: int, changes: Sequence[Change]) -> Iterator[Way]:
        """What an epoch's changes of a key, which count as the last of them, can come to."""
        table, old = self._topic.table, way.state[1] if way.state else None
        rows = {} if old is None else {key_of(table, old): old}
        for change in changes:
            put(table, rows, change)
        new = next(iter(rows.values()), None)
        marks = [self._marks[at] if at >= 0 else None for at in (number - 1, number - 2)]
        if number in self._epochs.again:
            marks.append(None)  # slots that moved may not know a watermark yet
        marks = list(dict.fromkeys(marks))
        for first, closing, out, into in product(marks, repeat=4):
            yield self._step_of(way, number, new, (first, closing, out, into))

    def _step_of(self, way: Way, number: int, new: Row | None, marks: Sequence[int | None]) -> Way:
        first, closing, out, into = marks
        state, late, counted = way.state, list(way.late), list(way.counted)
        kind, old = state or ("", ())
        if kind == "counted" and is_late(self._step, self._us(old), closing):
            kind = "closed"
        if kind == "closed":
            late.append("remove" if new is None else "add")
            return Way(None if new is None else ("closed", old), tuple(late), way.counted)
        now = "held"
        if new is not None and is_late(self._step, self._us(new), first):
            late.append("add")
        elif new is not None and self._us(new) is not None:
            now = "counted"
        same = now == kind == "counted" and new is not None and self._carried(new) == self._carried(old)
        if kind == "counted" and not same:
            if is_late(self._step, self._us(old), out):
                late.append("remove")
            else:
                counted.append((-1, number, self._last(counted, old)))
        if new is not None and now == "counted" and not same:
            if is_late(self._step, self._us(new), into):
                late.append("add")
            else:
                counted.append((1, number, new))
        return Way(None if new is None else (now, new), tuple(late), tuple(counted))

    def _us(self, row: Row) -> int | None:
        return time_us(row[self._time])

    def _last(self, counted: Sequence[tuple[int, int, Row]], old: Row) -> Row:
        """The row as it was counted; what the step does not read may have changed since."""
        return next((row for sign, _, row in reversed(counted) if sign > 0 and self._same(row, old)), old)

    def _same(self, one: Row, other: Row) -> bool:
        return self._carried(one) == self._carried(other)

    def _carried(self, row: Row) -> Row:
        names = {*self._topic.table.key, *self._step.by, self._step.time}
        names |= {text[text.index("(") + 1 : -1].removeprefix("distinct ") for _, text in self._step.aggregates}
        return tuple(v for column, v in zip(self._topic.table.columns, row, strict=True) if column.name in names)

    def _compared(self, counted: Sequence[tuple[int, int, Row]], doubtful: Sequence[Row]) -> list[str]:
        """The windows against SQL over the rows that counted."""
        step = self._step
        rows = Counter[Row]()
        for sign, _, row in counted:
            rows[row] += sign
        if minus := [row for row, count in rows.items() if count < 0]:
            return [f"{step.out}: {minus[0]} is taken out, but never counted"]
        name = f"counted_{step.out}"
        truth.register(name, self._topic.table, list(rows.elements()))
        times = {us for row in doubtful if (us := self._us(row)) is not None}
        groups = self._split(counted, doubtful) if step.kind == "session" else set()
        partly = {start for _, number, row in counted for start in self._closed(number, row)}
        return _compared(step, name, self._found, times, groups, lambda start, end: start in partly)

    def _closed(self, number: int, row: Row) -> Iterator[int]:
        """Starts of sliding windows that a row has a place in, and that may be closed when it comes: it is not late."""
        step, us = self._step, self._us(row)
        mark = self._marks[number - 1] if number else None
        if step.kind != "sliding" or us is None or mark is None:
            return
        start = us // step.slide_us * step.slide_us
        while start + step.size_us > us:
            if start + step.size_us + (step.lateness_us or 0) <= mark:
                yield start
            start -= step.slide_us

    def _split(self, counted: Sequence[tuple[int, int, Row]], doubtful: Sequence[Row]) -> set[Row]:
        """Groups in which a row came beside a session that may have been closed before: a new one begins there.

        And those of doubtful rows, which may join two sessions.
        """
        step = self._step
        places = [_place(self._topic, name) for name in step.by]
        found = {tuple(row[place] for place in places) for row in doubtful}
        of_group: dict[Row, list[tuple[int, int]]] = defaultdict(list)
        for _, number, row in counted:
            of_group[tuple(row[place] for place in places)].append((number, self._us(row) or 0))
        for group, came in of_group.items():
            for number, us in came:
                edge = self._marks[number - 1] if number else None
                near = (other for at, other in came if at <= number and other < us < other + step.gap_us)
                if any(is_late(step, other, edge) for other in near):
                    found.add(group)
        return found


class _Loose:
    """A window over joined rows, or in epochs that are not known."""

    def __init__(self, scenario: Scenario, step: Window, found: Results) -> None:
        self._scenario, self._step, self._found = scenario, step, found

    def wrong(self) -> list[str]:
        """What is wrong, a line each."""
        step, scenario = self._step, self._scenario
        assert step.time is not None
        table, column = origin(scenario, step.table, step.time)
        topic = scenario.topic(table)
        times = {
            time_us(change.row[_place(topic, column)])
            for change in scenario.events
            if isinstance(change, Change) and change.table == table and change.op in ("insert", "upsert")
        } - {None}
        names, rows = self._found.get(step.late, ((), []))
        mark = watermarks(scenario, step, epochs_of(scenario))[-1]  # which does not depend on epochs
        if rows and not any(is_late(step, us, mark) for us in times):
            return [f"{step.late} has {dict(zip(names, rows[0], strict=True))}, where nothing can be late"]
        key, _ = self._root()
        late = {tuple(row[names.index(name)] for name in key) for row in rows}
        possible = self._possible(table, column, late) if rows else set()
        # A row that came beside a session which was closed begins a new one; where it did cannot be told behind a join.
        if step.kind == "session" and (rows or any(is_late(step, us, mark) for us in times)):
            return []

        def closed(start: int, end: int) -> bool:  # a row counts in those that are open, without being late
            return step.kind == "sliding" and mark is not None and end + (step.lateness_us or 0) <= mark

        return _compared(step, step.table, self._found, possible, set(), closed)

    def _root(self) -> tuple[tuple[str, ...], bool]:
        """(key of the rows that count, whether the time is their own and not a partner's)."""
        step, steps, own = self._step, {step.out: step for step in self._scenario.steps}, True
        table, column = step.table, step.time
        while (made := steps.get(table)) is not None:
            own = own and not (isinstance(made, Join) and column in dict(made.take).values())
            table = reads(made)[0]
        return self._scenario.topic(table).table.key, own

    def _possible(self, table: str, column: str, late: set[Row]) -> set[int]:
        """Times that rows of the late keys may have had: their own, or any where the time is a partner's."""
        topic, own = self._scenario.topic(table), self._root()[1]
        return {
            us
            for change in self._scenario.events
            if isinstance(change, Change) and change.table == table and change.op in ("insert", "upsert")
            if not own or key_of(topic.table, change.row) in late
            if (us := time_us(change.row[_place(topic, column)])) is not None
        }


def _compared(
    step: Window,
    source: str,
    found: Results,
    times: set[int],
    groups: set[Row],
    skipped: Callable[[int, int], bool],
) -> list[str]:
    """The windows against SQL over `source`, without those that have one of the times, the groups, and the skipped."""
    columns, rows = truth.answer(replace(step, table=source), None)
    names, have = found.get(step.out, (columns, []))

    def kept(names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        by = [names.index(name) for name in step.by]
        left = []
        for row in rows:
            start, end = (time_us(row[names.index(name)]) or 0 for name in ("window_start", "window_end"))
            touched = skipped(start, end) or any(start <= us < end for us in times)
            if not touched and tuple(row[at] for at in by) not in groups:
                left.append(row)
        return left

    return truth.compared(step.out, (names, kept(names, have)), (columns, kept(columns, rows)))
