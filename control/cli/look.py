"""Commands that look and change nothing: check, status, verify, version."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from control.cli.support import AsJson, File, out, quiet_logs, reported


def check(
    file: File,
    connect: Annotated[bool, typer.Option("--connect", help="Also ask the broker whether the topics exist.")] = False,
) -> None:
    """Find the errors of a pipeline file without running it.

    Prints every error with file, line, what was expected and what was found. Exit codes: 0 no error, 78 otherwise.

    Examples:

        headrace check orders.toml

        headrace check orders.toml --connect
    """
    from control import pipeline

    with reported(), quiet_logs():
        out.print(f"{file}: no errors; {pipeline.check(file, connect=connect)}", markup=False)


def status(file: File, as_json: AsJson = False) -> None:
    """Show what a pipeline's processes do: rates, lag, spool, dead letters, and whether they live.

    Reads the state directory only: it works while the pipeline runs, and after it ended. Exit codes: 0 shown, 78 no
    such pipeline.

    Examples:

        headrace status orders.toml

        headrace status orders.toml --json
    """
    from control import pipeline
    from control.requests import open_requests
    from control.status import dropped_slots, failed_sources, read_supervisor, read_workers, totals

    with reported():
        plan = pipeline.plan(file)
        workers, supervisor = read_workers(plan.state_dir), read_supervisor(plan.state_dir)
        sums = totals(workers)
        if as_json:
            document: dict[str, Any] = {"name": plan.name, "state_dir": str(plan.state_dir), "supervisor": supervisor}
            document["dropped_slots"] = dropped_slots(plan.state_dir)
            document["failed_sources"] = failed_sources(plan.state_dir)
            document["requests"] = [asdict(one) for one in open_requests(plan.state_dir)]
            document |= {"totals": asdict(sums), "workers": [asdict(worker) for worker in workers]}
            typer.echo(json.dumps(document))
            return
        out.print(f"{plan.name}: {_supervisor_text(supervisor)}; state in {plan.state_dir}", markup=False)
        for text in dropped_slots(plan.state_dir):
            out.print(text, style="red", markup=False)
        for name, text in failed_sources(plan.state_dir).items():
            out.print(f"source {name} has failed, the others go on: {text}", style="red", markup=False)
        for request in open_requests(plan.state_dir):
            out.print(f"read again: {request.text(time.time())}; request {request.request}", markup=False)
        if not workers:
            out.print("no worker has run yet")
            return
        out.print(_worker_table([asdict(worker) for worker in workers], asdict(sums), time.time()))
        if plan.pipeline.source.kafka is None:
            age_s = max(worker.position_age_s for worker in workers)
            out.print(
                f"{plan.pipeline.source.title}: position {age_s:,.1f} s old, "
                f"{sum(worker.retained_bytes for worker in workers) / 1e6:,.1f} MB of log kept at the source"
            )
        if plan.pipeline.document is not None:
            whole = any(worker.document_consistent for worker in workers)
            out.print(
                f"whole transactions: {'yes' if whole else 'not yet: the newest rows are of a snapshot'}; "
                f"{sum(worker.document_pending_rows for worker in workers):,} rows wait, the next transaction for "
                f"{max(worker.document_wait_s for worker in workers):,.1f} s"
            )


def _supervisor_text(supervisor: dict[str, Any] | None) -> str:
    if supervisor is None:
        return "not run by `headrace run` yet"
    if supervisor["running"]:
        return f"running as process {supervisor['pid']} for {supervisor['age_seconds']:,.0f} s"
    if "exit_code" in supervisor:
        return f"ended with code {supervisor['exit_code']} after {supervisor['restarts']} restarts"
    return "its supervisor was killed"


def _worker_table(workers: list[dict[str, Any]], sums: dict[str, Any], now: float) -> Table:
    columns = {
        "events": "events",
        "rows applied": "rows_applied",
        "lag, messages": "lag_offsets",
        "lag, ms": "lag_ms",
        "spool, bytes": "spool_bytes",
        "dead letters": "dead_letters",
    }
    table = Table("worker", "process", *columns, "epoch age, s", "waits", box=None)
    for column in table.columns:
        column.justify = "right"
    for worker in workers:
        age = now - max(worker["epoch_at"], worker["started_at"])
        row = [str(worker["worker"]), str(worker["pid"]), *(f"{worker[name]:,}" for name in columns.values())]
        table.add_row(*row, f"{age:,.1f}", "yes" if worker["backpressure"] else "no")
    table.add_row("all", "", *(f"{sums[name]:,}" for name in columns.values()), "", "")
    return table


def verify(
    file: File,
    source_dsn: Annotated[
        str | None,
        typer.Option(help="Compare with this source database instead of the topics: env:NAME or file:/path."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the target with its source, row by row, and print equal, missing, extra and different rows.

    The truth is what the topics say at this moment (every key's last change), or a source database. Stop the changes
    or the pipeline first, or expect the rows in flight to show. The digest is of the rows that the target must hold,
    in any order: equal targets with the same digest hold the same rows. Exit codes: 0 equal, 1 not equal, 78 a wrong
    file.

    Examples:

        headrace verify orders.toml

        headrace verify orders.toml --source-dsn env:ERP_DSN
    """
    with reported(), quiet_logs():
        from flows.verify import verify as compare

        report = compare(str(file), source_dsn)
        if as_json:
            typer.echo(json.dumps(report.as_dict()))
        else:
            for line in report.lines():
                out.print(line, markup=False)
        raise typer.Exit(0 if report.equal else 1)


def version(as_json: AsJson = False) -> None:
    """Print the versions that matter for a report of a problem.

    Example:

        headrace version
    """
    from importlib.metadata import version as of

    import libcore

    packages = ("bytewax", "pyarrow", "polars", "confluent-kafka", "psycopg")
    found = {"headrace": libcore.__version__, "core": libcore.IMPLEMENTATION, "python": platform.python_version()}
    found |= {name: _installed(of, name) for name in packages}
    typer.echo(json.dumps(found) if as_json else "\n".join(f"{name} {text}" for name, text in found.items()))


def _installed(of: Any, name: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return str(of(name))
    except PackageNotFoundError:
        return "not installed"
