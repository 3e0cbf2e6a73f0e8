"""Commands for what a pipeline has at its source: `headrace source drop FILE`, `headrace snapshot FILE --table T`."""

from __future__ import annotations

import json
import time
import uuid
from typing import Annotated, Any

import typer

from control.cli.support import File, out, quiet_logs, reported

app = typer.Typer(help="What a pipeline has at its source: slots and publications.", no_args_is_help=True)


@app.command("drop")
def drop(
    file: File,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Drop the slot and the publication that a pipeline made at its source.

    Stop the pipeline first. A later start needs a new state directory, and takes a new snapshot. Exit codes: 0 dropped,
    1 the slot is in use, 78 a source without such things.

    Examples:

        headrace source drop orders.toml --yes
    """
    from flows import build, direct
    from libcore.errors import ConfigurationError

    with reported(), quiet_logs():
        pipeline = build.load(str(file))
        if pipeline.source.kafka is not None:
            raise ConfigurationError("source drop: a Kafka topic keeps nothing for its readers", file=str(file))
        if not yes:
            typer.confirm(f"Drop what {pipeline.name} keeps at its source, with all it has not read?", abort=True)
        for what in direct.drop(pipeline, str(file)):
            out.print(f"dropped: {what}", markup=False)


def snapshot(
    file: File,
    table: Annotated[str, typer.Option("--table", help='The source\'s table, "schema.table".')],
    where: Annotated[str, typer.Option("--where", help="Only rows with this condition, in the source's SQL.")] = "",
    source: Annotated[str | None, typer.Option("--source", help="Which of several sources.")] = None,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for its end; 0: do not wait.")] = 0.0,
) -> None:
    """Ask a running pipeline to read a table again, beside its changes.

    The rows come in order among the table's changes, so the target ends right; rows that the source has lost are not
    deleted by it. Exit codes: 0 asked (with --wait: done), 1 refused or not done in time, 78 no such pipeline.

    Examples:

        headrace snapshot orders.toml --table public.items

        headrace snapshot orders.toml --table public.items --where "order_id > 100" --wait 60
    """
    from flows import build, json_file
    from libcore.errors import ConfigurationError, DataError

    with reported(), quiet_logs():
        pipeline = build.load(str(file))
        one = _asked(pipeline, source, str(file))
        state = build.state_directory(pipeline, str(file))
        state = state / "sources" / one.name if one.prefix else state
        if not state.is_dir():
            raise ConfigurationError(f"snapshot: expected the state directory {state}, found none: it has not run yet")
        name = uuid.uuid4().hex[:12]
        requests, answer = state / "requests", state / "run" / f"request-{name}.json"
        requests.mkdir(exist_ok=True)
        json_file.write(requests / f"{name}.json", {"table": table, "where": where})
        out.print(f"asked for {table}: request {name}", markup=False)
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and not answer.exists():
            time.sleep(0.2)
        if wait == 0:
            return
        if not answer.exists():
            raise DataError(f"snapshot: request {name} is not done after {wait:.0f} s; it goes on")
        words: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        if not words["done"]:
            raise DataError(f"snapshot: {words['error']}")
        out.print(f"done: {words['rows']:,} rows", markup=False)


def _asked(pipeline: Any, source: str | None, file: str) -> Any:
    """The source that is meant. Raises ConfigurationError where there is none that reads tables again."""
    from flows import direct
    from libcore.errors import ConfigurationError

    able = direct.rereading()
    known = [one for one in pipeline.source.all if one.kind in able and source in (None, one.name)]
    if not known:
        there = (f"{one.kind}.{one.name}" if one.prefix else one.kind for one in pipeline.source.all)
        found = ", ".join(f"[source.{one}]" for one in there) + ("" if source is None else f" and --source {source}")
        raise ConfigurationError(
            f"snapshot: expected a source that reads a table again ({', '.join(able)}), found {found}: to read all of "
            "it again, begin with a new state directory",
            file=file,
        )
    if len(known) > 1:
        names = ", ".join(one.name for one in known)
        raise ConfigurationError(f"snapshot: expected --source with one of {names}, found none", file=file)
    return known[0]
