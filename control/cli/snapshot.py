"""`headrace snapshot FILE --table T`: ask a running pipeline to read a table again, and see how far it is."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from control.cli.support import File, err, out, quiet_logs, reported

_LOOK_S = 0.2
_PLAIN_EVERY_S = 2.0


def snapshot(
    file: File,
    table: Annotated[str, typer.Option("--table", help='The source\'s table, "schema.table".')],
    where: Annotated[str, typer.Option("--where", help="Only rows with this condition, in the source's SQL.")] = "",
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="Only this column, beside the key; more than once: these."),
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Which of several sources.")] = None,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for its end; 0: do not wait.")] = 0.0,
) -> None:
    """Ask a running pipeline to read a table again, beside its changes.

    The rows come in order among the table's changes, so the target ends right; rows that the source has lost are not
    deleted by it. With --column only those columns of rows that the target has are changed. While it waits it shows
    how far the flow is; so does `headrace status`. Exit codes: 0 asked (with --wait: done), 1 refused or not done in
    time, 78 no such pipeline.

    Examples:

        headrace snapshot orders.toml --table public.items

        headrace snapshot orders.toml --table public.items --where "order_id > 100" --wait 60

        headrace snapshot orders.toml --table public.items --column weight --column volume --wait 60
    """
    from control import requests
    from flows import build, json_file
    from libcore.errors import ConfigurationError

    with reported(), quiet_logs():
        pipeline = build.load(str(file))
        one = _asked(pipeline, source, str(file))
        state = build.state_directory(pipeline, str(file))
        state = state / "sources" / one.name if one.prefix else state
        if not state.is_dir():
            raise ConfigurationError(f"snapshot: expected the state directory {state}, found none: it has not run yet")
        name = uuid.uuid4().hex[:12]
        asked = requests.asked_file(state, name)
        asked.parent.mkdir(exist_ok=True)
        json_file.write(asked, {"table": table, "where": where, "columns": column or []})
        out.print(f"asked for {table}: request {name}", markup=False)
        if wait:
            out.print(f"done: {_awaited(state, name, table, wait):,} rows", markup=False)


def _awaited(state: Path, name: str, table: str, wait_s: float) -> int:
    """The rows that were read, once it is done. Raises DataError where it is refused or not done in time."""
    from control import requests
    from control.live_line import LiveLine
    from libcore.errors import DataError

    answer, deadline = requests.answer_file(state, name), time.monotonic() + wait_s
    with LiveLine(err, _PLAIN_EVERY_S) as line:
        while time.monotonic() < deadline and not answer.exists():
            line.show(requests.open_request(state, name, table).text(time.time()))
            time.sleep(_LOOK_S)
    if not answer.exists():
        raise DataError(f"snapshot: request {name} is not done after {wait_s:.0f} s; it goes on")
    words: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    if not words["done"]:
        raise DataError(f"snapshot: {words['error']}")
    return int(words["rows"])


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
