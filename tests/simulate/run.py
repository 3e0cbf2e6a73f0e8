"""Run a scenario through real dataflows and say where its results differ from the truth."""

from __future__ import annotations

import decimal
import os
import pickle
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import structlog
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from connectors.base import stop
from flows.operators.keyed import Context
from flows.state import log, merge
from flows.testing import run_flow
from tests.simulate import truth
from tests.simulate.ends import Ending, Killed, Results, contents
from tests.simulate.engine import Engine, Store
from tests.simulate.flow import dataflow
from tests.simulate.model import Restart, Row, Run, Scenario, runs

PROCESSES_MAX, RESTARTS_MAX = 3, 2


def run_kernel(scenario: Scenario) -> Results:
    """The results by the simulated engine: any number of workers in this thread."""
    rng, store = random.Random(scenario.seed), Store()
    with _directory() as directory, _tuned(scenario):
        for run in runs(scenario):
            ending = Ending(run.restart)

            def build(worker: int, run: Run = run, ending: Ending = ending) -> Dataflow:
                context = Context(scenario.slots, run.workers, worker, directory / "segments")
                return dataflow(scenario, run, ending, context)[0]

            engine = Engine(build, run.workers, rng, store, ending)
            with suppress(Killed):
                engine.run()
            stop.reset()
        return contents(part.tables for part in engine.ends())


def run_bytewax(scenario: Scenario) -> Results:
    """The results by Bytewax with its recovery store, one worker in this process, killed by an exception."""
    with _directory() as directory, _tuned(scenario):
        (directory / "recovery").mkdir()
        init_db_dir(directory / "recovery", 1)
        for run in runs(scenario):
            context = Context(scenario.slots, 1, 0, directory / "segments")
            flow, target = dataflow(scenario, run, Ending(run.restart), context)
            recovery = RecoveryConfig(str(directory / "recovery"), timedelta(0))
            try:
                with _silent() if run.restart else nullcontext():
                    run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
            except Exception as error:
                if not _killed(error):
                    raise
            stop.reset()
        return contents(part.tables for part in target.built)


def _killed(error: BaseException | None) -> bool:
    """Whether a Killed is what the error came from."""
    while error is not None and not isinstance(error, Killed):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def _silent() -> Iterator[None]:
    """Without the engine's trace of a panic, which it writes to the file descriptor itself."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="simulate-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _tuned(scenario: Scenario) -> Iterator[None]:
    """State files and merges for little state: by the bounds of the real ones a small history would see neither.

    A kill inside a process loses nothing that was written, so files are not synced.
    """
    with (
        patch.object(log, "_INLINE_ROWS_MAX", scenario.inline_rows),
        patch.object(merge, "_ENTRIES_MAX", scenario.entries),
        patch.object(os, "fsync", lambda descriptor: None),
    ):
        yield


def differences(scenario: Scenario, run: Callable[[Scenario], Results]) -> list[str]:
    """What is wrong with the results, a line a row; empty where they equal the truth."""
    found, expected = run(scenario), truth.truth(scenario)
    lines = []
    for name, (columns, rows) in expected.items():
        have = _chosen(found.get(name, (columns, [])), columns)
        want = Counter(_comparable(row) for row in rows)
        got = Counter(_comparable(row) for row in have)
        lines += [f"{name} lacks {dict(zip(columns, row, strict=True))}" for row in (want - got).elements()]
        lines += [f"{name} has   {dict(zip(columns, row, strict=True))}" for row in (got - want).elements()]
    return lines


def _chosen(table: tuple[tuple[str, ...], list[Row]], names: tuple[str, ...]) -> list[Row]:
    columns, rows = table
    places = [columns.index(name) for name in names]
    return [tuple(row[place] for place in places) for row in rows]


def _comparable(row: Row) -> Row:
    """Numbers without the difference of their types."""
    return tuple(value.normalize() if isinstance(value, decimal.Decimal) else value for value in row)


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines: a killed worker says much."""
    before, configured = structlog.get_config(), structlog.is_configured()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    try:
        yield
    finally:
        structlog.reset_defaults()
        if configured:
            structlog.configure(**before)


def run_processes(scenario: Scenario) -> Results:
    """The results by Bytewax in real processes, killed with SIGKILL; files are synced.

    A start of a process takes seconds, so there are at most two restarts, and three processes at a time.
    """
    scenario = _lighter(scenario)
    with _directory() as directory:
        (directory / "scenario.pickle").write_bytes(pickle.dumps(scenario))
        for number, run in enumerate(runs(scenario)):
            codes = run_flow(
                f"tests.simulate.worker:flow({str(directory)!r}, {number})", directory, processes=run.workers
            )
            ended = all(code == 0 for code in codes)
            if ended == (run.restart is not None and run.restart.where != "stop"):
                logs = [path.read_text(errors="replace")[-2000:] for path in sorted(directory.glob("process-*.log"))]
                raise RuntimeError(f"start {number} ended with {codes}; the logs end with {' | '.join(logs)}")
        return contents(pickle.loads(path.read_bytes()) for path in sorted(directory.glob("part-*.pickle")))


def _lighter(scenario: Scenario) -> Scenario:
    """With fewer processes and restarts."""
    restarts = [place for place, event in enumerate(scenario.events) if isinstance(event, Restart)]
    kept = [
        replace(event, workers=min(event.workers, PROCESSES_MAX)) if isinstance(event, Restart) else event
        for place, event in enumerate(scenario.events)
        if place not in restarts[RESTARTS_MAX:]
    ]
    return replace(scenario, workers=min(scenario.workers, PROCESSES_MAX), events=tuple(kept))


MODES: dict[str, Callable[[Scenario], Results]] = {
    "kernel": run_kernel,
    "bytewax": run_bytewax,
    "processes": run_processes,
}
"""What can run a scenario."""
