"""What the results must be: SQL over the final source tables, made from the same steps, run by DuckDB."""

from __future__ import annotations

import decimal
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from tests.simulate.ends import Results
from tests.simulate.model import Join, Row, Scenario, Step, Window, final_rows


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    """One for the process: to open one takes longer than a scenario's queries."""
    return duckdb.connect(":memory:", config={"threads": 1})


def truth(scenario: Scenario) -> Results:
    """Each step's result, windows' averages as exact decimals."""
    found: Results = {}
    rows, connection = final_rows(scenario), _connection()
    for topic in scenario.topics:
        table = topic.table
        schema = pa.schema([(column.name, column.type.arrow) for column in table.columns])
        columns = zip(*rows[table.name], strict=True) if rows[table.name] else [()] * len(schema)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        connection.register(table.name, pa.Table.from_arrays(arrays, schema=schema))
    for step in scenario.steps:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {step.out} AS {sql(step)}")
        answer = connection.execute(f"SELECT * FROM {step.out}")
        names = [column[0] for column in answer.description]
        found[step.out] = _averages(names, answer.fetchall())
    return found


def sql(step: Step) -> str:
    """The step as a SELECT. An average is given as two columns, its sum and its count."""
    return _join(step) if isinstance(step, Join) else _window(step)


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
