"""Run a scenario through real dataflows and say where its results differ from the truth."""

from __future__ import annotations

import os
import pickle
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
from tests.simulate import lateness, truth, visible
from tests.simulate.ends import Ending, Found, Killed, LateWrites, TargetPart, contents
from tests.simulate.engine import Engine, Store
from tests.simulate.flow import dataflow
from tests.simulate.model import Epoch, Restart, Run, Scenario, runs

PROCESSES_MAX, RESTARTS_MAX, EPOCHS_MAX = 3, 2, 20


def run_kernel(scenario: Scenario) -> Found:
    """The results by the simulated engine: any number of workers in this thread."""
    rng, store = random.Random(scenario.seed), Store()
    with _directory() as directory, _tuned(scenario):
        for run in runs(scenario):
            ending = Ending(run.restart)

            def build(worker: int, run: Run = run, ending: Ending = ending) -> Dataflow:
                context = Context(scenario.slots, run.workers, worker, directory / "segments", writes=LateWrites())
                return dataflow(scenario, run, ending, context, directory)[0]

            engine = Engine(build, run.workers, rng, store, ending)
            with suppress(Killed):
                engine.run()
            stop.reset()
        return _found(engine.ends())


def _found(parts: Sequence[TargetPart]) -> Found:
    """What the parts hold; all that whole transactions change goes through the first."""
    states = next((part.states for part in parts if part.tables), [])
    return Found(contents([part.tables for part in parts]), states)


def run_bytewax(scenario: Scenario) -> Found:
    """The results by Bytewax with its recovery store, one worker in this process, killed by an exception."""
    with _directory() as directory, _tuned(scenario):
        (directory / "recovery").mkdir()
        init_db_dir(directory / "recovery", 1)
        for run in runs(scenario):
            context = Context(scenario.slots, 1, 0, directory / "segments", writes=LateWrites())
            flow, target = dataflow(scenario, run, Ending(run.restart), context, directory)
            recovery = RecoveryConfig(str(directory / "recovery"), timedelta(0))
            try:
                with _silent() if run.restart else nullcontext():
                    run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
            except Exception as error:
                if not _killed(error):
                    raise
            stop.reset()
        return _found(target.built)


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
    # in memory where there is such a place: state is synced at every epoch, and no power fails here
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="simulate-", dir=shared, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _tuned(scenario: Scenario) -> Iterator[None]:
    """State files and merges for little state: by the bounds of the real ones a small history would see neither.

    A kill inside a process loses nothing that was written, so files are not synced.
    """
    with (
        patch.object(log, "_INLINE_ROWS_MAX", scenario.inline_rows),
        patch.object(log, "_ROWS_A_SLOT", scenario.seed % 3),
        patch.object(merge, "_ENTRIES_MAX", scenario.entries),
        patch.object(os, "fsync", lambda descriptor: None),
    ):
        yield


def differences(scenario: Scenario, run: Callable[[Scenario], Found]) -> list[str]:
    """What is wrong with the results, a line a row; empty where they equal the truth."""
    found = run(scenario)
    expected = truth.truth(scenario)
    lines = [line for name in expected for line in truth.compared(name, found.tables.get(name), expected[name])]
    lines += lateness.wrong(scenario, found.tables, exact=run is not run_processes)
    return lines + (visible.wrong(scenario, found.states) if scenario.document else [])


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


def run_processes(scenario: Scenario) -> Found:
    """The results by Bytewax in real processes, killed with SIGKILL; files are synced.

    A start of a process takes seconds, and so do many epochs of several that share few cores: there are at most two
    restarts, three processes at a time, and a border is kept of every few.
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
        parts = [pickle.loads(path.read_bytes()) for path in sorted(directory.glob("part-*.pickle"))]
        return Found(contents([tables for tables, _ in parts]), next((seen for tables, seen in parts if tables), []))


def _lighter(scenario: Scenario) -> Scenario:
    """With fewer processes, restarts and epochs."""
    restarts = [place for place, event in enumerate(scenario.events) if isinstance(event, Restart)]
    epochs = [place for place, event in enumerate(scenario.events) if isinstance(event, Epoch)]
    fewer = set(epochs[:: len(epochs) // EPOCHS_MAX + 1])
    left_out = {*restarts[RESTARTS_MAX:], *(place for place in epochs if place not in fewer)}
    kept = [
        replace(event, workers=min(event.workers, PROCESSES_MAX)) if isinstance(event, Restart) else event
        for place, event in enumerate(scenario.events)
        if place not in left_out
    ]
    return replace(scenario, workers=min(scenario.workers, PROCESSES_MAX), events=tuple(kept))


MODES: dict[str, Callable[[Scenario], Found]] = {
    "kernel": run_kernel,
    "bytewax": run_bytewax,
    "processes": run_processes,
}
"""What can run a scenario."""
