"""The command about new versions of steps: `headrace rollout FILE show | rows | reset`."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from control.cli.support import AsJson, File, out, quiet_logs, reported

if TYPE_CHECKING:
    from flows.rollout_store import Shown

ROWS_SHOWN = 20


class Action(str, Enum):  # noqa: UP042 - typer shows StrEnum members by name
    """What to do with the rollouts."""

    show = "show"
    rows = "rows"
    reset = "reset"


def rollout(
    file: File,
    action: Annotated[
        Action, typer.Argument(help="show: how far; rows: those that differed; reset: begin again after a rollback.")
    ] = Action.show,
    name: Annotated[str | None, typer.Argument(help="Only this rollout, as `show` names it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far new versions of steps have come, what made them roll back, or let them begin again.

    Reads the state directory only: it works while the pipeline runs, and after it ended. A reset is seen by running
    processes with their next batch. Exit codes: 0 done, 78 no such rollout, or nothing to reset.

    Examples:

        headrace rollout orders.toml

        headrace rollout orders.toml rows call-items

        headrace rollout orders.toml reset call-items
    """
    from control import pipeline
    from flows import rollout_store
    from libcore.errors import ConfigurationError

    with reported(), quiet_logs():
        state = pipeline.plan(file).state_dir
        if action is Action.reset:
            names = rollout_store.reset(state, name)
            out.print(json.dumps(names) if as_json else f"begins again: {', '.join(names)}", markup=False)
            return
        found = rollout_store.read(state)
        shown = [one for one in found if name in (None, one.name)]
        if name is not None and not shown:
            names = [one.name for one in found]
            raise ConfigurationError(f"rollout: expected one of {names or 'none'}, found {name!r}")
        if action is Action.rows:
            _rows(shown, as_json)
        elif as_json:
            typer.echo(json.dumps([_data(one) for one in shown]))
        elif not shown:
            out.print("no rollout: no step with a `candidate` has run")
        else:
            out.print(_table(shown))
            for one in shown:
                if one.rollback is not None:
                    text = f"{one.name}: rolled back {one.rollback['at']} by process {one.rollback['process']}: "
                    out.print(text + one.rollback["why"], markup=False)


def _data(one: Shown) -> dict[str, Any]:
    workers = [
        {"worker": worker, "at": at, "percent": state.percent, "promoted": state.promoted, **state.as_data()}
        for worker, (state, at) in one.workers.items()
    ]
    rows = [str(path) for path in one.rows]
    return {"name": one.name, "version": one.version, "rollback": one.rollback, "workers": workers, "rows": rows}


def _table(shown: list[Shown]) -> Table:
    table = Table(
        "rollout", "version", "process", "stage", "clean batches", "rows compared", "time, new : old", box=None
    )
    for column in table.columns[4:]:
        column.justify = "right"
    for one in shown:
        for worker, (state, _) in one.workers.items():
            stage = "rolled back" if one.rollback else f"{state.percent} %{', promoted' if state.promoted else ''}"
            ratio = f"{state.new_ns / state.old_ns:.2f}" if state.old_ns else ""
            counts = (f"{state.clean:,}", f"{state.rows:,}", ratio)
            table.add_row(one.name, one.version, str(worker), stage, *counts)
    return table


def _rows(shown: list[Shown], as_json: bool) -> None:
    import pyarrow.parquet as parquet

    found = [(path, parquet.read_table(path).to_pylist()) for one in shown for path in one.rows]
    if as_json:
        typer.echo(json.dumps([row for _, rows in found for row in rows], default=str))
        return
    if not found:
        out.print("no rows that differ")
    for path, rows in found:
        out.print(f"{path}: {len(rows)} rows", markup=False)
        table = Table(*rows[0], box=None) if rows else Table()
        for row in rows[:ROWS_SHOWN]:
            table.add_row(*(Text("NULL" if value is None else str(value)) for value in row.values()))
        out.print(table)
