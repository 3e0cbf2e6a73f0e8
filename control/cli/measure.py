"""`headrace bench` and `headrace demo`: what it does, and how fast, on this machine."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from control.cli.support import AsJson, reported
from libcore.errors import ConfigurationError


def bench(
    name: Annotated[str, typer.Argument(help="The measure: w1, w2, decode, steady, soak ...", show_default=False)],
    as_json: AsJson = False,
    items: Annotated[int, typer.Option(min=1000, help="Item events in the workload.")] = 1_000_000,
    pairs: Annotated[int, typer.Option(min=1, help="Ours and the peer in turn, so often; the median counts.")] = 5,
    processes: Annotated[int, typer.Option("--processes", "-n", min=1, help="Worker processes of ours.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long steady runs.")] = 30.0,
) -> None:
    """Run one measure, side by side with its peer where it has one.

    --json prints {"name", "value", "unit", "peer", "peer_value", "ratio", "peak_memory_mb", "equal"}.

    Examples:

        headrace bench w1

        headrace bench decode --json

        headrace bench steady --minutes 30
    """
    with reported():
        # By name, because nothing in the product may depend on its measures.
        try:
            module = importlib.import_module("bench.run")
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"the measures are not installed ({error}): run it in a checkout") from error
        raise typer.Exit(
            int(module.main(name, as_json, items=items, pairs=pairs, processes=processes, minutes=minutes))
        )


def demo(
    events: Annotated[int, typer.Option(min=1000, help="Item events to run through.")] = 200_000,
    processes: Annotated[int, typer.Option("--processes", "-n", min=1, help="Worker processes.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave servers and tables running until Enter is pressed.")
    ] = False,
) -> None:
    """Watch real change events run from a broker into a real PostgreSQL, then see the proof that they are equal.

    Starts PostgreSQL and a broker of its own (nothing of yours is touched), fills topics, runs the pipelines as
    `headrace run` does, compares the target with the truth row by row, prints the rate, and cleans up.

    Examples:

        headrace demo

        headrace demo --events 1000000 --processes 2
    """
    from control.demo import main

    with reported():
        raise typer.Exit(main(events, processes, keep=keep))
