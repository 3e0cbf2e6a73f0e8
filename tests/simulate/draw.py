"""A seed becomes a scenario: tables, steps over them, and what happens to them; the same for ever for the same seed.

Domains are small, so that keys come back, foreign keys meet and values repeat.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from libcore.schema import Column, Table, parse_type
from tests.simulate.history import Layout, Manner, draw_events, draw_layout
from tests.simulate.model import Due, Join, Scenario, Step, Topic, Window

KEYS = (("int64",), ("int32",), ("string",), ("int32", "string"), ("int64", "int64"), ("string", "date"))
PAYLOADS = (
    "int32",
    "int64",
    "string",
    "string",
    "decimal(12,2)",
    "decimal(20,4)",
    "bool",
    "date",
    "timestamp",
    "bytes",
)
SUMMED = ("int32", "int64", "decimal(12,2)", "decimal(20,4)")
ORDERED = (*SUMMED, "date", "timestamp", "string")
GROUPED = ("int32", "int64", "string", "decimal(12,2)", "bool", "date")
ZONES = ("UTC", "Europe/Istanbul", "America/New_York")
MINUTE_US = 60_000_000


@dataclass(frozen=True)
class Relation:
    """A table or a step's result: `roots` is the source table whose key it has, `links` its foreign keys."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    root: str
    links: tuple[tuple[tuple[str, ...], str], ...] = ()


@dataclass
class Draft:
    """What is drawn so far."""

    relations: dict[str, Relation] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(seed)
    document = rng.random() < 0.14
    rising = not document and rng.random() < 0.4
    draft = Draft()
    topics = _draw_tables(rng, draft)
    for number in range(rng.choice((0, 1, 1, 2) if document else (0, 1, 1, 1, 2, 2, 3))):
        _draw_join(rng, draft, f"j{number + 1}")
    if not document and rng.random() < 0.2:
        _draw_due(rng, draft, "u1")
        if rng.random() < 0.3:
            _draw_join(rng, draft, "j9")
    for number in range(rng.choice((1, 1, 2) if rising else (0, 0, 1, 1, 2)) if draft.steps or document else 1):
        _draw_window(rng, draft, f"w{number + 1}", rising)
    workers = rng.choice((1, 1, 2, 3))
    steps = tuple(draft.steps)
    bounded = [step for step in steps if isinstance(step, Window) and step.bounded]
    clock = any(isinstance(step, Due) for step in steps)
    manner = Manner(rising, document, clock, frozenset(step.table for step in bounded))
    return Scenario(
        seed=seed,
        topics=topics,
        steps=steps,
        events=draw_events(rng, topics, draft.layouts, manner),
        workers=workers,
        slots=rng.choice((2, 3, 5, 8)),
        inline_rows=rng.choice((0, 5, 64)),
        entries=rng.choice((2, 3, 16)),
        document=document,
        snapshot=rng.choice((0, 0, 1, 3)) if bounded else 0,
    )


def _draw_tables(rng: random.Random, draft: Draft) -> tuple[Topic, ...]:
    """The dimensions, later ones perhaps pointing at earlier ones, then the fact, pointing at all."""
    topics = []
    names = [f"d{number + 1}" for number in range(rng.choice((1, 1, 2, 3)))]
    for name in [*names, "f"]:
        earlier = [other for other in names if other in draft.relations]
        targets = earlier if name == "f" else [other for other in earlier if rng.random() < 0.5]
        table, links = _draw_table(rng, draft, name, targets)
        topics.append(Topic(*_draw_growth(rng, table, rng.choice((1, 1, 2, 3)))))
        table = topics[-1].table
        known = topics[-1].narrow.columns  # steps name those that are there at first
        draft.relations[name] = Relation(
            name, {column.name: str(column.type) for column in known}, table.key, name, links
        )
        draft.layouts[name] = draw_layout(rng, table, links, draft.layouts)
    return tuple(topics)


def _draw_table(
    rng: random.Random, draft: Draft, name: str, targets: list[str]
) -> tuple[Table, tuple[tuple[tuple[str, ...], str], ...]]:
    key = {f"{name}_k{index}": kind for index, kind in enumerate(rng.choice(KEYS))}
    columns, links = dict(key), []
    for target in targets:
        other = draft.relations[target]
        if rng.random() < 0.1 and [*key.values()] == [other.columns[column] for column in other.key]:
            links.append((tuple(key), target))  # 1:1 by key
            continue
        pointers = {f"{name}_{column}": other.columns[column] for column in other.key}
        narrow = rng.random() < 0.2
        columns |= {column: "int32" if narrow and kind == "int64" else kind for column, kind in pointers.items()}
        links.append((tuple(pointers), target))
    if rng.random() < 0.25:
        pointers = {f"{name}_up_{column}": kind for column, kind in key.items()}
        columns |= pointers
        links.append((tuple(pointers), name))
    columns |= {f"{name}_c{index}": rng.choice(PAYLOADS) for index in range(rng.randint(1, 4))}
    if name == "f" or rng.random() < 0.3:
        columns[f"{name}_at"] = "timestamp"
    order = list(columns)
    if rng.random() < 0.3:
        rng.shuffle(order)
    made = tuple(Column(column, parse_type(columns[column]), column not in key) for column in order)
    return Table(name, made, tuple(key)), tuple(links)


def _draw_growth(rng: random.Random, table: Table, partitions: int) -> tuple[Table, int, int | None]:
    """The table with a column or two that are added in mid-stream, its partitions, and how many columns are there."""
    if rng.random() > 0.25:
        return table, partitions, None
    added = (
        Column(f"{table.name}_g{index}", parse_type(rng.choice(PAYLOADS))) for index in range(rng.choice((1, 2, 4)))
    )
    return Table(table.name, (*table.columns, *added), table.key), partitions, len(table.columns)


def _draw_due(rng: random.Random, draft: Draft, out: str) -> None:
    """A flag by a date or time of any relation, joins preferred."""
    choices = [
        (relation, name)
        for relation in draft.relations.values()
        for name, kind in relation.columns.items()
        if kind in ("date", "timestamp")
    ]
    if not choices:
        return
    relation, at = rng.choice(choices)
    draft.steps.append(Due(relation.name, at, f"{out}_due", rng.choice(ZONES), out))
    columns = relation.columns | {f"{out}_due": "bool"}
    draft.relations[out] = Relation(out, columns, relation.key, relation.root, relation.links)


def _draw_join(rng: random.Random, draft: Draft, out: str) -> None:
    """One more join, of any relation with any that its foreign key can mean."""
    choices = [
        (fact, link, dimension)
        for fact in draft.relations.values()
        for link in fact.links
        for dimension in draft.relations.values()
        if dimension.root == link[1]
    ]
    if not choices:
        return
    chained = [choice for choice in choices if choice[0].name.startswith("j") or choice[2].name.startswith("j")]
    fact, (pointers, _), dimension = rng.choice(chained if chained and rng.random() < 0.6 else choices)
    on = tuple(zip(pointers, dimension.key, strict=True))
    wanted = [name for name in dimension.columns if rng.random() < 0.6] or [next(iter(dimension.columns))]
    take = {name: f"{out}_{name}" if name in fact.columns or rng.random() < 0.5 else name for name in wanted}
    draft.steps.append(Join(fact.name, dimension.name, on, tuple(take.items()), rng.choice(("inner", "left")), out))
    links = [
        (tuple(take[column] for column in columns), target)
        for columns, target in dimension.links
        if all(column in take for column in columns)
    ]
    columns = fact.columns | {renamed: dimension.columns[name] for name, renamed in take.items()}
    draft.relations[out] = Relation(out, columns, fact.key, fact.root, (*fact.links, *links))


def _draw_window(rng: random.Random, draft: Draft, out: str, rising: bool) -> None:
    """Aggregates over any relation but another window's result, joins preferred; windows may close where times rise."""
    closing = rising and rng.random() < 0.8
    relations = [r for r in draft.relations.values() if not closing or any(name.endswith("_at") for name in r.columns)]
    joined = [relation for relation in relations if relation.name[0] in "ju"]
    relation = rng.choice(joined if joined and rng.random() < (0.3 if closing else 0.6) else relations)
    times = [
        name
        for name, kind in relation.columns.items()
        if kind == "timestamp" and name not in relation.key and (not closing or name.endswith("_at"))
    ]
    kind = rng.choice(("tumbling", "sliding", "session", "all")[: 3 if closing else 4]) if times else "all"
    closing = closing and kind != "all"
    emit = rng.choice(("changes", "final")) if closing else "changes"
    by = [name for name, kind in relation.columns.items() if kind in GROUPED]
    rng.shuffle(by)
    size = rng.choice((1, 7, 60, 1440)) * MINUTE_US
    aggregates = {"n": "count(*)"} | dict(
        _draw_aggregate(rng, relation, f"a{index}") for index in range(rng.randint(0, 3))
    )
    draft.steps.append(
        Window(
            table=relation.name,
            by=tuple(by[: rng.choice((0, 1, 1, 2))]) if kind != "all" else tuple(by[: rng.choice((1, 1, 2))]),
            time=None if kind == "all" else rng.choice(times),
            kind=kind,
            size_us=size if kind in ("tumbling", "sliding") else 0,
            slide_us=size * 2 // rng.choice((2, 3, 4, 5, 8)) if kind == "sliding" else 0,
            gap_us=rng.choice((1, 5, 60)) * MINUTE_US if kind == "session" else 0,
            aggregates=tuple(aggregates.items()),
            emit=emit,
            out=out,
            lateness_us=rng.choice((0, 0, 1, 10, 60)) * MINUTE_US if closing else None,
            out_of_order_us=rng.choice((0, 0, 1, 10)) * MINUTE_US if closing else 0,
        )
    )


def _draw_aggregate(rng: random.Random, relation: Relation, name: str) -> tuple[str, str]:
    function = rng.choice(("sum", "sum", "avg", "min", "max", "count", "count distinct"))
    allowed = {"sum": SUMMED, "avg": SUMMED, "min": ORDERED, "max": ORDERED}.get(function, (*GROUPED, "timestamp"))
    columns = [column for column, kind in relation.columns.items() if kind in allowed]
    if not columns:
        return name, "count(*)"
    column = rng.choice(columns)
    return name, f"count(distinct {column})" if function == "count distinct" else f"{function}({column})"
