"""Make a failing scenario small: leave out whatever it fails without, until nothing more can go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.simulate.model import UNSET, Change, Commit, Event, Restart, Row, Scenario, key_of, reads

Fails = Callable[[Scenario], bool]


def shrink(scenario: Scenario, fails: Fails, seconds_max: float = 60.0) -> Scenario:
    """The smallest scenario found that still fails.

    Args:
        scenario: one that fails.
        fails: runs a scenario. seconds_max: after which the smallest so far is given.
    """
    until = time.monotonic() + seconds_max
    small = scenario
    while time.monotonic() < until:
        before = small
        for cut in (_fewer_steps, _fewer_events, _simpler):
            small = _cut(small, cut, fails, until)
        if small == before:
            break
    return small


def _cut(scenario: Scenario, cut: Callable[[Scenario], Iterator[Scenario]], fails: Fails, until: float) -> Scenario:
    """Take the first smaller candidate that fails, and begin anew with that, as long as there is one."""
    found = True
    while found and time.monotonic() < until:
        found = False
        for candidate in cut(scenario):
            if time.monotonic() >= until:
                break
            if candidate != scenario and fails(candidate):
                scenario, found = candidate, True
                break
    return scenario


def _fewer_steps(scenario: Scenario) -> Iterator[Scenario]:
    """Without one step that no other reads; without the topics that no step reads."""
    for step in reversed(scenario.steps):
        left = tuple(other for other in scenario.steps if other != step)
        if left and all(step.out not in reads(other) for other in left):
            yield replace(scenario, steps=left)
    read = {name for step in scenario.steps for name in reads(step)}
    topics = tuple(topic for topic in scenario.topics if topic.table.name in read)
    if len(topics) < len(scenario.topics):
        names = {topic.table.name for topic in topics}
        events = tuple(event for event in scenario.events if getattr(event, "table", None) in (*names, None))
        yield replace(scenario, topics=topics, events=events)


def _fewer_events(scenario: Scenario) -> Iterator[Scenario]:
    """Without a run of events: halves, quarters, ... single ones."""
    events, size = scenario.events, max(1, len(scenario.events) // 2)
    while size:
        for start in range(0, len(events), size):
            yield replace(scenario, events=mended(scenario, events[:start] + events[start + size :]))
        size //= 2


def _simpler(scenario: Scenario) -> Iterator[Scenario]:
    """One worker, two slots, one partition, no files, restarts on as many workers as before."""
    yield replace(scenario, workers=1)
    yield replace(scenario, slots=2)
    yield replace(scenario, inline_rows=64, entries=16)
    yield replace(
        scenario,
        events=tuple(replace(e, workers=scenario.workers) if isinstance(e, Restart) else e for e in scenario.events),
    )
    yield replace(scenario, snapshot=0)
    for topic in scenario.topics:
        if topic.partitions > 1:
            topics = tuple(replace(other, partitions=1) if other == topic else other for other in scenario.topics)
            events = tuple(
                replace(event, partition=0) if getattr(event, "table", None) == topic.table.name else event
                for event in scenario.events
            )
            yield replace(scenario, topics=topics, events=events)
    for place, event in enumerate(scenario.events):
        if isinstance(event, Change) and event.op != "truncate":
            for row in _plainer(scenario, event):
                changed = (*scenario.events[:place], replace(event, row=row), *scenario.events[place + 1 :])
                yield replace(scenario, events=mended(scenario, changed))


def _plainer(scenario: Scenario, change: Change) -> Iterator[Row]:
    """The row with one column more NULL; key columns stay, and what is NULL or unset already."""
    key = scenario.topic(change.table).table.key_indexes
    for index, value in enumerate(change.row):
        if index not in key and value is not None and value is not UNSET:
            yield (*change.row[:index], None, *change.row[index + 1 :])


def mended(scenario: Scenario, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Events as a source can have them: a value is only left out of a row that is there; transactions are whole."""
    tables = {topic.table.name: topic.table for topic in scenario.topics}
    there: set[tuple[str, Row]] = set()
    found: list[Event] = []
    for event in events:
        if isinstance(event, Change) and not event.again:
            if event.op == "truncate":
                there = {known for known in there if known[0] != event.table}
            else:
                key = (event.table, key_of(tables[event.table], event.row))
                if event.op == "delete":
                    there.discard(key)
                elif key not in there:
                    there.add(key)
                    event = replace(event, row=tuple(None if value is UNSET else value for value in event.row))
        found.append(event)
    return tuple(_whole(found) if scenario.document else found)


def _whole(events: Sequence[Event]) -> Iterator[Event]:
    """Transactions that end only, their changes numbered anew, and of messages that come again those that came."""
    ended = {event.transaction for event in events if isinstance(event, Commit) and not event.again}
    left = [e for e in events if isinstance(e, Change) and not e.again and e.transaction in ended]
    counts: dict[int | None, dict[str, int]] = {}
    fresh: dict[tuple[int | None, str, int], Change] = {}
    for change in sorted(left, key=lambda change: change.order):
        of = counts.setdefault(change.transaction, {})
        of[change.table] = of.get(change.table, 0) + 1
        fresh[change.transaction, change.table, change.order] = replace(change, order=of[change.table])
    for event in events:
        if isinstance(event, Commit):
            if event.transaction in counts:
                yield replace(event, counts=tuple(counts[event.transaction].items()))
        elif not isinstance(event, Change):
            yield event
        elif (made := fresh.get((event.transaction, event.table, event.order))) is not None:
            yield replace(made, again=event.again)
