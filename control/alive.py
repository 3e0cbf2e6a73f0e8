"""Is this worker alive? The probe of Kubernetes: exit 0 while epochs move, 1 with the reason where they stand still.

    python -m control.alive [--epoch-age SECONDS] [--start SECONDS]
    python -m control.alive --started

Reads state_dir/run/worker-N.json (HEADRACE_STATE_DIR, HEADRACE_WORKER or the number at the end of BYTEWAX_POD_NAME). A
worker that waits for room in the spool is alive: its epochs stand still because the target is down, and a restart would
not help. A status older than the bound is not believed: a stopped or frozen process writes none. `--started` is the
startup probe: 0 once the worker has spoken within the last 30 s.

Starts a few times a minute on every pod, so it imports little.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from control.status import WorkerStatus, read_worker, worker_path

EPOCH_AGE_SECONDS, START_SECONDS, FRESH_SECONDS = 120.0, 300.0, 30.0


def reason_dead(status: WorkerStatus | None, now: float, epoch_age_seconds: float, start_seconds: float) -> str | None:
    """Why a worker counts as dead; None where it lives.

    Args:
        status: its newest word; None where it has said nothing yet (the startup probe's matter, so not dead).
        now: Unix seconds.
        epoch_age_seconds: bound on the age of the newest epoch and of the status itself.
        start_seconds: the same before the first epoch, where a resume takes its time.
    """
    if status is None:
        return None
    bound = epoch_age_seconds if status.epochs else start_seconds
    if now - status.written_at > bound:
        return f"its last status is {now - status.written_at:.0f} s old (bound {bound:.0f} s)"
    if status.backpressure:
        return None
    age = status.epoch_age_seconds(now)
    return f"its last epoch is {age:.0f} s old (bound {bound:.0f} s)" if age > bound else None


def worker_index(environment: Mapping[str, str]) -> int:
    """This worker's number: the supervisor says it, or the pod's name ends with it; else 0."""
    pod = environment.get("BYTEWAX_POD_NAME", "").rpartition("-")[2]
    return int(environment.get("HEADRACE_WORKER") or (pod if pod.isdigit() else 0))


def main(arguments: list[str] | None = None) -> int:
    """Print one line, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m control.alive", description="Exit 0 while this worker's epochs move."
    )
    parser.add_argument("--epoch-age", type=float, default=EPOCH_AGE_SECONDS, help="seconds an epoch may take")
    parser.add_argument("--start", type=float, default=START_SECONDS, help="seconds before the first epoch")
    parser.add_argument("--started", action="store_true", help="only whether it has spoken lately")
    options = parser.parse_args(arguments)
    worker = worker_index(os.environ)
    directory = os.environ.get("HEADRACE_STATE_DIR")
    if not directory:
        print("HEADRACE_STATE_DIR: expected the pipeline's state directory, found nothing", file=sys.stderr)
        return 78
    status, now = read_worker(worker_path(Path(directory), worker)), time.time()
    if options.started:
        spoken = status is not None and now - status.written_at < FRESH_SECONDS
        found = None if spoken else "it has not spoken yet"
    else:
        found = reason_dead(status, now, options.epoch_age, options.start)
    print(f"worker {worker}: {found or 'alive'}")
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
