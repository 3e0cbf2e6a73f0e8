"""`headrace bench` and `headrace demo`: what it does, and how fast, on this machine."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
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
    part: Annotated[str, typer.Option("--part", help="kafka, live, or all: first the one, then the other.")] = "all",
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="How long the ERP is written to; default: 15, on a terminal until Ctrl-C."),
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Write to the ERP until Ctrl-C.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an interrupted demo has left.")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where the ERP lies meanwhile; default: headrace-demo-UID for temporary files.")
    ] = None,
) -> None:
    """Watch real changes run from a broker, and from an ERP itself, into a real PostgreSQL; see the proof of equality.

    Starts PostgreSQL and a broker of its own (nothing of yours is touched). kafka: fills topics, and runs pipelines
    over them. live: an ERP whose orders are written meanwhile is read directly, with a join, into a second database.
    Pipelines run as `headrace run` does; every target is compared row by row, and the rate is printed.

    Ctrl-C while the ERP is written to: on a terminal (or with --forever) the writer ends and the rows are compared,
    with --seconds and outside of a terminal it stops at once. Either way ERP, target and position are kept, and the
    next `headrace demo` goes on from there. A demo that came to its end is removed: the next one begins anew.

    Examples:

        headrace demo

        headrace demo --events 1000000 --processes 2

        headrace demo --part live --forever
    """
    from control import demo_live
    from control.demo import main

    with reported():
        if part not in ("all", "kafka", "live"):
            raise ConfigurationError(f"--part: expected all, kafka or live, found {part!r}")
        endless = forever or (seconds is None and sys.stdout.isatty())
        live = demo_live.Options(
            items=max(1000, events // 4),
            processes=processes,
            seconds=None if endless else seconds or demo_live.SECONDS,
            directory=directory,
        )
        if fresh:
            demo_live.forget(live)
        parts = ("kafka", "live") if part == "all" else (part,)
        raise typer.Exit(main(events, processes, keep=keep, parts=parts, live=live))
