"""What the results must be: SQL over the final source tables, made from the same steps, run by DuckDB."""

from __future__ import annotations

import decimal
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from libcore.schema import Table
from tests.simulate.ends import Results
from tests.simulate.model import Due, Join, Row, Scenario, Step, Time, Window, final_rows


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    """One for the process: to open one takes longer than a scenario's queries."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def truth(scenario: Scenario, transactions: int | None = None) -> Results:
    """Each step's result, windows' averages as exact decimals; not of windows for which it matters when rows come.

    Args:
        transactions: after so many transactions of the source only.
    """
    found: Results = {}
    rows = final_rows(scenario, transactions)
    for topic in scenario.topics:
        register(topic.table.name, topic.table, rows[topic.table.name])
    now_us = max((event.us for event in scenario.events if isinstance(event, Time)), default=None)
    for step in scenario.steps:
        if not (isinstance(step, Window) and step.bounded):
            found[step.out] = answer(step, now_us)
    return found


def register(name: str, table: Table, rows: Sequence[Row]) -> None:
    """Make a table known to SQL."""
    schema = pa.schema([(column.name, column.type.arrow) for column in table.columns])
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    _connection().register(name, pa.Table.from_arrays(arrays, schema=schema))


def answer(step: Step, now_us: int | None) -> tuple[tuple[str, ...], list[Row]]:
    """The step's result over what is known to SQL, and from then on known itself. `now_us`: the time for due steps."""
    connection = _connection()
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {step.out} AS {sql(step, now_us)}")
    asked = connection.execute(f"SELECT * FROM {step.out}")
    return _averages([column[0] for column in asked.description], asked.fetchall())


def sql(step: Step, now_us: int | None = None) -> str:
    """The step as a SELECT. An average is given as two columns, its sum and its count."""
    if isinstance(step, Due):
        return _due(step, now_us)
    return _join(step) if isinstance(step, Join) else _window(step)


def _due(step: Due, now_us: int | None) -> str:
    day = f"CASE WHEN typeof({step.at}) = 'DATE' THEN INTERVAL 1 DAY ELSE INTERVAL 0 DAY END"
    moment = f"timezone('{step.zone}', CAST({step.at} AS TIMESTAMP) + {day})"
    passed = "false" if now_us is None else f"coalesce({moment} <= make_timestamptz({now_us}), false)"
    return f"SELECT *, {passed} AS {step.flag} FROM {step.table}"


def compared(
    name: str, found: tuple[tuple[str, ...], list[Row]] | None, expected: tuple[tuple[str, ...], list[Row]]
) -> list[str]:
    """What one table lacks and has too much, a line a row; a column that never came is NULL."""
    columns, rows = expected
    names, have = found or (columns, [])
    places = [names.index(column) if column in names else None for column in columns]
    want = Counter(_comparable(row) for row in rows)
    got = Counter(_comparable(tuple(None if at is None else row[at] for at in places)) for row in have)
    lines = [f"{name} lacks {dict(zip(columns, row, strict=True))}" for row in (want - got).elements()]
    return lines + [f"{name} has   {dict(zip(columns, row, strict=True))}" for row in (got - want).elements()]


def _comparable(row: Row) -> Row:
    """Numbers without the difference of their types."""
    return tuple(value.normalize() if isinstance(value, decimal.Decimal) else value for value in row)


def _join(step: Join) -> str:
    taken = ", ".join(f"d.{name} AS {renamed}" for name, renamed in step.take)
    condition = " AND ".join(f"f.{fact} = d.{dimension}" for fact, dimension in step.on)
    return f"SELECT f.*, {taken} FROM {step.fact} f {step.how.upper()} JOIN {step.dimension} d ON {condition}"


def _window(step: Window) -> str:
    groups = list(step.by)
    aggregates = []
    for name, expression in step.aggregates:
        if expression.startswith("avg("):
            inner = expression[4:-1]
            aggregates += [f"sum({inner}) AS {name}__sum", f"count({inner}) AS {name}__count"]
        else:
            aggregates.append(f"{expression} AS {name}")
    source = step.table
    if step.kind != "all":
        source = f"({_assigned(step)})"
        groups += ["start_us", "end_us"]
    shown = [
        f"make_timestamp({name}) AS window_{name[:-3]}" if name in ("start_us", "end_us") else name for name in groups
    ]
    return f"SELECT {', '.join([*shown, *aggregates])} FROM {source} GROUP BY {', '.join(groups)}"


def _assigned(step: Window) -> str:
    """The rows with the start of each window that they are in; rows without a time are in none."""
    at = f"epoch_us({step.time})"
    if step.kind == "session":
        partition = f"PARTITION BY {', '.join(step.by)}" if step.by else ""
        before = f"lag({at}) OVER ({partition} ORDER BY {step.time})"
        starts = f"SELECT *, {before} IS NULL OR {at} - {before} >= {step.gap_us} AS opens FROM {step.table}"
        order = f"ORDER BY {step.time}, opens DESC ROWS UNBOUNDED PRECEDING"
        numbered = (
            f"SELECT *, sum(opens::INT) OVER ({partition} {order}) AS number FROM ({starts} WHERE {at} IS NOT NULL)"
        )
        session = ", ".join((*step.by, "number"))
        over = f"OVER (PARTITION BY {session})"
        bounds = f"min({at}) {over} AS start_us, max({at}) {over} + {step.gap_us} AS end_us"
        return f"SELECT *, {bounds} FROM ({numbered})"
    slide = step.slide_us or step.size_us
    floor = f"({at} - (({at} % {slide}) + {slide}) % {slide})"
    spread = f"SELECT *, {floor} - unnest(range(0, {step.size_us}, {slide})) AS start_us FROM {step.table}"
    kept = f"({spread} WHERE {at} IS NOT NULL) WHERE start_us + {step.size_us} > {at}"
    return f"SELECT *, start_us + {step.size_us} AS end_us FROM {kept}"


def _averages(names: list[str], rows: list[Row]) -> tuple[tuple[str, ...], list[Row]]:
    """Each pair of sum and count as an average with four digits more than the sum, half to even."""
    kept = [name.removesuffix("__sum") for name in names if not name.endswith("__count")]

    def average(row: Row, name: str) -> Any:
        if name in names:
            return row[names.index(name)]
        total, count = row[names.index(f"{name}__sum")], row[names.index(f"{name}__count")]
        if not count:
            return None
        with decimal.localcontext(prec=80, rounding=decimal.ROUND_HALF_EVEN):
            total = decimal.Decimal(total)
            return (total / count).quantize(decimal.Decimal(1).scaleb(int(total.as_tuple().exponent) - 4))

    return tuple(kept), [tuple(average(row, name) for name in kept) for row in rows]
