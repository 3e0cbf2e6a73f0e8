"""`headrace run`: a pipeline with all its processes, supervised."""

from __future__ import annotations

from typing import Annotated

import typer

from control.cli.support import CONFIGURATION_EXIT_CODE, File, err, reported


def run(
    file: File,
    processes: Annotated[
        int, typer.Option("--processes", "-n", min=1, help="Worker processes; may differ from the last run's.")
    ] = 1,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="End when every topic is read to the end it had at the start.")
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve /metrics: worker i listens on this port + i.")
    ] = None,
    restarts_max: Annotated[
        int, typer.Option(min=0, help="Restarts in a row that get nowhere before the run fails.")
    ] = 10,
    stop_grace_seconds: Annotated[
        float, typer.Option(min=0, help="From SIGTERM until workers that did not end are killed.")
    ] = 60.0,
    hang_seconds: Annotated[
        float, typer.Option(min=1, help="Age of the last epoch from which a worker counts as hung.")
    ] = 120.0,
) -> None:
    """Run a pipeline until its topics end (--until-end) or it is stopped.

    All processes are watched: when one dies or hangs, all start again together from the last durable epoch. Ctrl-C or
    SIGTERM ends at a batch border with exit code 0; a second one at once. Either way the next run goes on where this
    one stopped.

    Exit codes: 0 ended or stopped, 78 the file, the environment or the target must be changed, 1 any other failure.

    Examples:

        headrace run orders.toml

        headrace run orders.toml --processes 4 --metrics-port 9464

        headrace run orders.toml --until-end && headrace verify orders.toml
    """
    from control import pipeline, runner
    from control.progress import Progress, summary_text

    with reported():
        plan = pipeline.start_plan(file, until_end=until_end, metrics_port=metrics_port, processes=processes)
        bounds = runner.Bounds(
            restarts_max=restarts_max, stop_grace_seconds=stop_grace_seconds, hang_seconds=hang_seconds
        )
        err.print(f"{plan.name}: {processes} processes, state in {plan.state_dir}", markup=False)
        with Progress(err) as progress:
            result = runner.run(
                plan.flow,
                plan.state_dir,
                processes,
                environment=plan.environment,
                bounds=bounds,
                display=progress,
                describe=lambda: {"file": str(file.resolve()), "name": plan.name},
            )
        err.print(f"{plan.name}: {summary_text(result)}", markup=False)
        if result.exit_code == CONFIGURATION_EXIT_CODE:
            pipeline.plan(file)  # where the file is to blame, this says it whole, with every line
        raise typer.Exit(result.exit_code)
