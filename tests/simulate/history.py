"""What happens to the tables of a scenario, and in which order the topics' partitions bring it."""

from __future__ import annotations

import datetime
import decimal
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from libcore.schema import Table
from tests.simulate.model import (
    UNSET,
    Change,
    Commit,
    Epoch,
    Event,
    Message,
    Redeliver,
    Restart,
    Row,
    Time,
    Topic,
    key_of,
)

EPOCH_START = datetime.datetime(1970, 1, 1)
VARIABLE = ("string", "bytes")
"""Types whose values a source may leave out of an update (PostgreSQL's unchanged TOAST)."""

TEXTS = ("", "a", "b", "ab", "ä", "long " * 12, "x" * 300, "NULL", "日本")
HOURS = (-49, -24, -3, -1, 0, 0, 1, 1, 2, 3, 21, 22, 24, 45, 48, 480_000, 480_024, 490_896, 490_897)
"""Of a clock, since 1970: about the dates and times that rows have."""
PLACES = ("source", "stage", "stage", "sink", "snapshot", "stop")


@dataclass(frozen=True)
class Layout:
    """What rows of a table look like: the keys there can be, and its foreign keys with the keys that these can name."""

    table: Table
    keys: tuple[Row, ...]
    links: tuple[tuple[tuple[str, ...], tuple[Row, ...]], ...]


@dataclass(frozen=True)
class Manner:
    """How a history goes.

    Args:
        rising: event times rise as it goes on, so that windows close. document: in transactions.
        clock: the time passes. never_truncated: tables that no truncate empties.
    """

    rising: bool = False
    document: bool = False
    clock: bool = False
    never_truncated: frozenset[str] = frozenset()


def draw_layout(
    rng: random.Random,
    table: Table,
    links: Sequence[tuple[tuple[str, ...], str]],
    layouts: Mapping[str, Layout],
) -> Layout:
    """The domains of a table: its own keys, and for each foreign key that has columns of its own the target's."""
    types = [str(table.column(name).type) for name in table.key]
    shared = [target for columns, target in links if columns == table.key]
    count = rng.choice((2, 3, 6)) if table.name != "f" else rng.choice((3, 8, 20))
    keys: dict[Row, None] = dict.fromkeys(layouts[shared[0]].keys[:count]) if shared else {}
    for _ in range(20 * count):
        if len(keys) >= count:
            break
        keys[tuple(draw_value(rng, kind) for kind in types)] = None
    own = tuple(keys)
    foreign = tuple(
        (columns, own if target == table.name else layouts[target].keys)
        for columns, target in links
        if columns != table.key
    )
    return Layout(table, own, foreign)


def draw_value(rng: random.Random, kind: str) -> Any:
    """A value of a type's small domain, never None."""
    match kind:
        case "int16" | "int32":
            return rng.choice((-1, 0, 1, 2, 7, 2**15 - 1))
        case "int64":
            return rng.choice((-5, 0, 1, 2, 3, 2**31 - 1, 1000))
        case "string":
            return rng.choice(TEXTS)
        case "bytes":
            return rng.choice(TEXTS).encode()
        case "bool":
            return rng.random() < 0.5
        case "date":
            return datetime.date(1970, 1, 1) + datetime.timedelta(rng.choice((-1, 0, 1, 20_000)))
        case "timestamp":
            start = rng.choice((0, 0, 0, -3600, 1_767_225_600))
            seconds = start + rng.choice((0, 59, 60, 61, 420, 3600, rng.randrange(7200)))
            return EPOCH_START + datetime.timedelta(seconds=seconds, microseconds=rng.choice((0, 0, 1, 999_999)))
        case _:
            scale = int(kind.rstrip(")").split(",")[1])
            return decimal.Decimal(rng.choice((-350, 0, 1, 5, 99_999, 1234))).scaleb(-scale)


def draw_events(
    rng: random.Random, topics: Sequence[Topic], layouts: Mapping[str, Layout], manner: Manner
) -> tuple[Event, ...]:
    """Changes in an order of reading, with epoch borders, redeliveries and restarts among them."""
    changes = _draw_changes(rng, topics, layouts, rng.choice((4, 10, 25, 60, 120)), manner)
    sent: list[Message] = list(changes)
    if manner.document:
        sent = repeated(rng, in_transactions(rng, changes))
    ordered = _interleave(rng, sent)
    border, again = rng.choice((0.03, 0.1, 0.3)), rng.choice((0.0, 0.0, 0.02, 0.08))
    restarts = rng.choice((0, 1, 1, 2, 3))
    events: list[Event] = []
    for change in ordered:
        events.append(change)
        if rng.random() < again and not manner.document:
            events.append(Redeliver(change.table, change.partition, rng.randint(1, 8)))
        if rng.random() < border:
            events.append(Epoch())
    for _ in range(restarts):
        kill = Restart(rng.choice(PLACES), rng.choice((1, 2, 5, 10, 20, 40)), rng.choice((1, 1, 2, 3, 4)))
        events.insert(rng.randint(0, len(events)), kill)
    if manner.clock:
        times = _draw_times(rng)
        for place, time in zip(sorted(rng.randint(0, len(events)) for _ in times), times, strict=True):
            events.insert(place, time)
    return tuple(events)


def _draw_times(rng: random.Random) -> list[Time]:
    """What a clock shows, now and then an earlier time: days that rows have, and moments in and beside them."""
    hours = rng.choices(HOURS, k=rng.randint(1, 8))
    if rng.random() < 0.8:
        hours.sort()
    return [Time(hour * 3_600_000_000 + rng.choice((-1, 0, 0, 60_000_000, 900_000_000))) for hour in hours]


def in_transactions(rng: random.Random, changes: Sequence[Change]) -> list[Message]:
    """The changes in transactions of the source, each with the mark of its end behind it."""
    sent: list[Message] = []
    at, number = 0, 0
    while at < len(changes):
        size = rng.choice((1, 1, 2, 3, 5, 12))
        counts: dict[str, int] = {}
        for change in changes[at : at + size]:
            counts[change.table] = counts.get(change.table, 0) + 1
            sent.append(replace(change, transaction=number, order=counts[change.table]))
        sent.append(Commit(number, tuple(counts.items())))
        at, number = at + size, number + 1
    return sent


def repeated(rng: random.Random, sent: list[Message]) -> list[Message]:
    """The same with a connector that goes back now and then, to the begin of a transaction, and sends all again."""
    found: list[Message] = []
    often = rng.choice((0.0, 0.05, 0.2))
    for at, message in enumerate(sent):
        found.append(message)
        if len(found) < 2 * len(sent) and rng.random() < often:
            newest: int = message.transaction  # type: ignore[union-attr,assignment]
            back = newest - rng.choice((0, 1, 2, 4))
            found += [replace(old, again=True) for old in sent[: at + 1] if old.transaction >= back]  # type: ignore
    return found


def _draw_changes(
    rng: random.Random, topics: Sequence[Topic], layouts: Mapping[str, Layout], count: int, manner: Manner
) -> list[Change]:
    """The source's history, in its own order."""
    rows: dict[str, dict[Row, Row]] = {topic.table.name: {} for topic in topics}
    weights = [3 if topic.table.name == "f" else 1 for topic in topics]
    unset = rng.choice((0.0, 0.3, 0.7))
    nulls = rng.choice((0.05, 0.2))
    grows = {topic.table.name: rng.randrange(count) for topic in topics if topic.first is not None}
    step_s = rng.choice((20, 60, 600, 3600)) if manner.rising else None
    changes: list[Change] = []
    while len(changes) < count:
        topic = rng.choices(topics, weights)[0]
        layout, live = layouts[topic.table.name], rows[topic.table.name]
        now_s = None if step_s is None else len(changes) * step_s
        chance, key = rng.random(), rng.choice(layout.keys)
        widths = (topic.first if len(changes) < grows.get(topic.table.name, 0) else None, len(layout.table.columns))
        width = widths[0] or widths[1]

        def put(op: str, row: Row, topic: Topic = topic, width: int = width) -> None:
            changes.append(_change(topic, op, row[:width]))

        if chance < 0.025 and topic.partitions == 1 and not manner.document:
            if topic.table.name not in manner.never_truncated:
                live.clear()
                changes.append(Change(topic.table.name, 0, "truncate"))
        elif key not in live:
            live[key] = _narrowed(_draw_row(rng, layout, key, nulls, now_s), width)
            put(rng.choice(("insert", "insert", "upsert")), live[key])
        elif chance < 0.2:
            former = live.pop(key)
            put("delete", former)
            free = [other for other in layout.keys if other not in live and other != key]
            if free and rng.random() < 0.4:  # the key changes: the row goes on under another one
                moved = _with_key(topic.table, former, rng.choice(free))
                live[key_of(topic.table, moved)] = moved
                put("upsert", moved)
        else:
            former, live[key] = live[key], _narrowed(_updated(rng, layout, live[key], nulls, now_s), width)
            put("upsert", _left_out(rng, topic.table, former, live[key], unset))
    return changes


def _narrowed(row: Row, width: int) -> Row:
    """The row as it is while the table has so many columns only."""
    return (*row[:width], *[None] * (len(row) - width))


def _draw_row(rng: random.Random, layout: Layout, key: Row, nulls: float, now_s: int | None) -> Row:
    table = layout.table
    values = {
        column.name: None if rng.random() < nulls else draw_value(rng, str(column.type)) for column in table.columns
    }
    if now_s is not None:
        for name in [name for name in values if name.endswith("_at") and values[name] is not None]:
            values[name] = _draw_time(rng, now_s)
    for columns, targets in layout.links:
        values |= _pointer(rng, table, columns, targets, nulls)
    values |= dict(zip(table.key, key, strict=True))
    return tuple(values[column.name] for column in table.columns)


def _draw_time(rng: random.Random, now_s: int) -> datetime.datetime:
    """About now, mostly; some are late."""
    seconds = now_s + rng.choice((0, 0, 0, 0, 1, 30, -30, -60, -600, -3600))
    return EPOCH_START + datetime.timedelta(seconds=seconds, microseconds=rng.choice((0, 0, 1, 999_999)))


def _pointer(
    rng: random.Random, table: Table, columns: tuple[str, ...], targets: Sequence[Row], nulls: float
) -> dict[str, Any]:
    """A foreign key: mostly one that the target can have, sometimes NULL in part, sometimes one that never comes."""
    chosen = list(rng.choice(targets))
    if rng.random() < 0.1:
        chosen[rng.randrange(len(chosen))] = draw_value(rng, str(table.column(columns[0]).type))
    for index, name in enumerate(columns):
        value, kind = chosen[index], str(table.column(name).type)
        fits = isinstance(value, type(draw_value(rng, kind))) and not (kind == "int32" and abs(value) >= 2**31)
        if rng.random() < nulls:
            chosen[index] = None
        elif not fits:
            chosen[index] = draw_value(rng, kind)
    return dict(zip(columns, chosen, strict=True))


def _updated(rng: random.Random, layout: Layout, row: Row, nulls: float, now_s: int | None) -> Row:
    """The row with some columns drawn anew."""
    fresh = _draw_row(rng, layout, key_of(layout.table, row), nulls, now_s)
    share = rng.choice((0.1, 0.4, 1.0))
    return tuple(new if rng.random() < share else old for old, new in zip(row, fresh, strict=True))


def _left_out(rng: random.Random, table: Table, former: Row, row: Row, share: float) -> Row:
    """The update as a source sends it: large values that did not change may be left out."""
    return tuple(
        UNSET
        if new == old and str(column.type) in VARIABLE and column.name not in table.key and rng.random() < share
        else new
        for column, old, new in zip(table.columns, former, row, strict=True)
    )


def _with_key(table: Table, row: Row, key: Row) -> Row:
    changed = dict(zip(table.key_indexes, key, strict=True))
    return tuple(changed.get(index, value) for index, value in enumerate(row))


def _change(topic: Topic, op: str, row: Row) -> Change:
    """A change in the partition that its key's hash says, as a producer does it."""
    key = key_of(topic.table, row)
    if op == "delete":
        row = _with_key(topic.table, (None,) * len(row), key)
    return Change(topic.table.name, zlib.crc32(repr(key).encode()) % topic.partitions, op, row)


def _interleave(rng: random.Random, changes: list[Message]) -> list[Message]:
    """An order of reading: each partition keeps its own, how they mix is drawn."""
    mode = rng.choice(("source", "random", "one by one", "runs"))
    if mode == "source":
        return changes
    queues: dict[tuple[str, int], list[Message]] = {}
    for change in changes:
        queues.setdefault((change.table, change.partition), []).append(change)
    for queue in queues.values():
        queue.reverse()
    ordered: list[Message] = []
    waiting = list(queues.values())
    rng.shuffle(waiting)
    while waiting:
        # the marks of transactions' ends are often read later than their rows
        weights = [0.2 if queue[-1].table == "transactions" else 1.0 for queue in waiting]
        queue = waiting[0] if mode == "one by one" else rng.choices(waiting, weights)[0]
        for _ in range(rng.randint(1, 10) if mode == "runs" else 1):
            if queue:
                ordered.append(queue.pop())
        waiting = [queue for queue in waiting if queue]
    return ordered
