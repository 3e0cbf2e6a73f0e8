"""The command that looks into the state of a pipeline's steps: `headrace state FILE show | query "select ..."`."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any

import typer
from rich.table import Table

from control.cli.support import AsJson, File, out, quiet_logs, reported


class Action(str, Enum):  # noqa: UP042 - typer shows StrEnum members by name
    """What to do with the state."""

    show = "show"
    query = "query"


def state(
    file: File,
    action: Annotated[Action, typer.Argument(help="show: its tables; query: SQL over them.")] = Action.show,
    sql: Annotated[str | None, typer.Argument(help="For query: SQL, in DuckDB's words.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the durable state of a pipeline's steps, or ask it with SQL.

    Reads the recovery store and the segments only: it works while the pipeline runs, and after it ended. Exit codes: 0
    shown, 78 no state, or SQL that does not fit.

    Examples:

        headrace state orders.toml show

        headrace state orders.toml query "select count(*) from join_order_lines_orders_match_facts"
    """
    from control import pipeline
    from libcore.errors import ConfigurationError

    with reported(), quiet_logs():
        if (sql is None) == (action is Action.query):
            expected = 'SQL behind `query`: state FILE query "select ..."' if sql is None else "no SQL behind `show`"
            raise ConfigurationError(f"state: expected {expected}")
        if sql is None:
            shown = pipeline.state_tables(file)
            if as_json:
                typer.echo(json.dumps(shown))
                return
            out.print(_table(shown))
            return
        names, rows = pipeline.state_query(file, sql)
        if as_json:
            typer.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str))
            return
        answer = Table(*names, box=None)
        for row in rows:
            answer.add_row(*("NULL" if value is None else str(value) for value in row))
        out.print(answer)


def _table(shown: list[dict[str, Any]]) -> Table:
    table = Table("table", "rows", "slots", "bytes", "segments", "epoch", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for one in shown:
        counts = (f"{one[name]:,}" for name in ("rows", "slots", "bytes", "segments", "epoch"))
        table.add_row(one["table"], *counts)
    return table
