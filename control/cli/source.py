"""Commands for what a pipeline has at its source: `headrace source drop FILE`."""

from __future__ import annotations

from typing import Annotated

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
