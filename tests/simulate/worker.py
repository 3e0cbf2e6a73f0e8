"""What a worker process of a simulated run imports: `python -m bytewax.run "tests.simulate.worker:flow('DIR', 0)"`."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

from bytewax.dataflow import Dataflow

from connectors.base import stop
from flows.operators.keyed import Context
from flows.state import log, merge
from tests.simulate.ends import Ending
from tests.simulate.flow import dataflow
from tests.simulate.model import runs


def flow(directory: str, start: int) -> Dataflow:
    """The dataflow of this process.

    Args:
        directory: holds scenario.pickle; state segments and the target's rows are put there.
        start: which of the scenario's runs this is.
    """
    scenario = pickle.loads((Path(directory) / "scenario.pickle").read_bytes())
    run = runs(scenario)[start]
    log._INLINE_ROWS_MAX, merge._ENTRIES_MAX = scenario.inline_rows, scenario.entries
    log._ROWS_A_SLOT = scenario.seed % 3
    if run.restart is not None and run.restart.where == "stop":
        stop.request()  # as the signal does it, in all processes, also in those without a partition
    context = Context(scenario.slots, run.workers, int(os.environ["HEADRACE_WORKER"]), Path(directory) / "segments")
    ending = Ending(run.restart, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return dataflow(scenario, run, ending, context, Path(directory), Path(directory))[0]
