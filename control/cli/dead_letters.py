"""`headrace dead-letters`: list, show and export the rows that could not pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from control.cli.support import AsJson, File, out, reported

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(no_args_is_help=True, help="Rows that could not pass: list them, show one whole, export them.")

OfTable = Annotated[str | None, typer.Option("--table", help="Only those of this source table.")]
OfReason = Annotated[str | None, typer.Option(help="Only data, parked or conflict.")]


def _letters(file: Path, table: str | None, reason: str | None) -> pl.DataFrame:
    from control import dead_letters, pipeline

    return dead_letters.read(pipeline.plan(file).dead_letters, table=table, reason=reason)


@app.command("list")
def list_(
    file: File,
    table: OfTable = None,
    reason: OfReason = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest last: where each came from, the step and the error.

    Examples:

        headrace dead-letters list orders.toml

        headrace dead-letters list orders.toml --table public.items --limit 500
    """
    from control.dead_letters import plain

    with reported():
        found = _letters(file, table, reason)
        shown = found.tail(limit)
        if as_json:
            typer.echo(json.dumps(plain(shown).to_dicts(), default=str))
            return
        if shown.is_empty():
            out.print("no dead letters")
            return
        lines = Table("letter", "failed at", "table", "step", "reason", "key", "error", box=None)
        for row in shown.iter_rows(named=True):
            names = ("letter", "failed_at", "table_name", "step", "reason", "key_text", "error")
            lines.add_row(*(Text(_short(row[name])) for name in names))
        out.print(lines)
        out.print(f"{shown.height} of {found.height} dead letters")


@app.command()
def show(
    file: File,
    letter: Annotated[str, typer.Argument(help="topic:partition:offset, as `list` prints it.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter whole: its error, the byte it is about, and the message as it came.

    Example:

        headrace dead-letters show orders.toml erp.public.items:3:81250
    """
    from control.dead_letters import find, plain

    with reported():
        frame = _letters(file, None, None)
        if as_json:
            typer.echo(json.dumps(find(plain(frame), letter), default=str))
            return
        for row in find(frame, letter):
            for name, value in row.items():
                out.print(_line(name, value), markup=False)


@app.command()
def export(
    file: File,
    target: Annotated[Path, typer.Argument(help="A new file; .ndjson, .csv or .parquet.", show_default=False)],
    table: OfTable = None,
    reason: OfReason = None,
) -> None:
    """Write dead letters into a file, for a spreadsheet, a ticket or a fix at the source.

    Example:

        headrace dead-letters export orders.toml letters.csv --reason data
    """
    from control.dead_letters import export as write

    with reported():
        found = _letters(file, table, reason)
        write(found, target)
        out.print(f"{found.height} dead letters in {target}", markup=False)


def _short(value: Any, characters: int = 100) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _line(name: str, value: Any) -> str:
    from control.dead_letters import text_of

    return f"{name + ':':<16}{text_of(value) if isinstance(value, bytes) else 'NULL' if value is None else value}"
