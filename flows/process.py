"""What a worker process says about itself: run/worker-N.json twice a second, and /metrics where a port is asked for."""

from __future__ import annotations

import argparse
import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import start_http_server
from prometheus_client.metrics import MetricWrapperBase

from connectors.base import json_file, metrics, stop
from libcore.errors import ConfigurationError

INTERVAL_S = 0.5
WORKER_ENVIRONMENT = "HEADRACE_WORKER"
PORT_ENVIRONMENT = "HEADRACE_METRICS_PORT"

_LOG = structlog.get_logger()
_started: set[str] = set()


def worker_index(arguments: Iterable[str] = (), environment: dict[str, str] | None = None) -> int:
    """This process's number among the flow's processes: the runner says it, or Bytewax's own arguments do; else 0."""
    values = os.environ if environment is None else environment
    if WORKER_ENVIRONMENT in values:
        return int(values[WORKER_ENVIRONMENT])
    if (given := _option(arguments, "-i", "--process-id", values.get("BYTEWAX_PROCESS_ID"))) is not None:
        return int(given)
    pod = values.get("BYTEWAX_POD_NAME", "")
    ordinal = pod.rpartition("-")[2]
    return int(ordinal) if ordinal.isdigit() else 0


def worker_count(arguments: Iterable[str] = (), environment: dict[str, str] | None = None) -> int:
    """How many processes the flow runs in, from the arguments and environment that `python -m bytewax.run` knows.

    Raises: ConfigurationError for more than one worker a process: threads would share what belongs to one of them.
    """
    values = os.environ if environment is None else environment
    workers = _option(arguments, "-w", "--workers-per-process", values.get("BYTEWAX_WORKERS_PER_PROCESS") or "1")
    if workers != "1":
        raise ConfigurationError(f"-w: expected one worker a process, found {workers}: run more processes instead")
    hosts = _option(arguments, "-a", "--addresses", values.get("BYTEWAX_ADDRESSES"))
    if not hosts and (file := values.get("BYTEWAX_HOSTFILE_PATH")):
        hosts = ";".join(Path(file).read_text(encoding="utf-8").split())
    return len([host for host in (hosts or "").split(";") if host.strip()]) or 1


def backup_interval_s(arguments: Iterable[str] = (), environment: dict[str, str] | None = None) -> float:
    """Seconds that older snapshots are kept for, from -b; freed state segments stay as long."""
    values = os.environ if environment is None else environment
    found = _option(arguments, "-b", "--backup-interval", values.get("BYTEWAX_RECOVERY_BACKUP_INTERVAL"))
    return float(found or "0")


def _option(arguments: Iterable[str], short: str, long: str, default: str | None) -> str | None:
    """An option of `python -m bytewax.run`, in any of the ways in which it may be written."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(short, long, dest="found", default=default)
    found: str | None = parser.parse_known_args(list(arguments))[0].found
    return found


def serve_metrics(worker: int) -> int | None:
    """Serve /metrics on HEADRACE_METRICS_PORT + worker, in a pod on that port itself; None where no port is asked for.

    Raises ConfigurationError where the port is no number or taken.
    """
    text = os.environ.get(PORT_ENVIRONMENT)
    if not text:
        return None
    # A pod has an address of its own, so all pods serve on the same port.
    offset = 0 if os.environ.get("BYTEWAX_POD_NAME") else worker
    if not text.isdigit() or not 0 < int(text) + offset < 65536:
        raise ConfigurationError(f"{PORT_ENVIRONMENT}: expected a port from 1 to 65535, found {text!r}")
    port = int(text) + offset
    if f"metrics:{port}" not in _started:
        try:
            start_http_server(port)
        except OSError as error:
            raise ConfigurationError(f"{PORT_ENVIRONMENT}: port {port} of worker {worker}: {error.strerror}") from error
        _started.add(f"metrics:{port}")
    return port


def snapshot(worker: int, started_at: float, *, ended: bool = False) -> dict[str, Any]:
    """The worker's status as plain data; counters count from the start of this process, times are Unix seconds."""
    now = time.time()
    epoch_at = total(metrics.EPOCH_AT)
    return {
        "worker": worker,
        "pid": os.getpid(),
        "state": "ended" if ended else "stopping" if stop.requested() else "running",
        "written_at": now,
        "started_at": started_at,
        "epoch_at": epoch_at,
        "epoch_age_ms": int(1000 * (now - max(epoch_at, started_at))),
        "epochs": int(total(metrics.EPOCHS)),
        "events": int(total(metrics.EVENTS)),
        "rows_applied": int(total(metrics.ROWS_APPLIED)),
        "lag_offsets": int(total(metrics.LAG_OFFSETS)),
        "lag_ms": int(max(_values(metrics.LAG_MS), default=0)),
        "spool_bytes": int(total(metrics.SPOOL_BYTES)),
        "dead_letters": int(total(metrics.DEAD_LETTERS)),
        "backpressure": any(_values(metrics.SPOOL_WAITING)),
        "position_age_s": round(max(_values(metrics.POSITION_AGE), default=0.0), 1),
        "retained_bytes": int(total(metrics.RETAINED_BYTES)),
        "failed_sources": sorted(
            sample.labels["source"]
            for family in metrics.SOURCE_FAILED.collect()
            for sample in family.samples
            if sample.value
        ),
        "document_consistent": bool(total(metrics.DOCUMENT_CONSISTENT)),
        "document_pending_rows": int(total(metrics.DOCUMENT_PENDING_ROWS)),
        "document_wait_s": round(total(metrics.DOCUMENT_WAIT), 1),
    }


def write_status(directory: Path, status: dict[str, Any]) -> None:
    """Replace run/worker-N.json at once, so that no reader sees half of it."""
    json_file.write(directory / f"worker-{status['worker']}.json", status)


def start_status_writer(directory: Path, worker: int, each_time: Callable[[], None] = lambda: None) -> None:
    """Write the status every half second from a thread of its own, and once more when the process ends.

    Args:
        directory: the state directory's run/. worker: this process's number.
        each_time: called after each write; again half a second later where it raises OSError.
    """
    if f"status:{directory}" in _started:
        return
    _started.add(f"status:{directory}")
    started_at, ended = time.time(), threading.Event()

    def run() -> None:
        while not ended.wait(INTERVAL_S):
            _try_write(directory, worker, started_at)
            try:
                each_time()
            except OSError as error:  # a worker whose status gets old is taken for one that hangs
                _LOG.warning("what goes with the status could not be done", error=str(error))

    def last() -> None:
        ended.set()
        _try_write(directory, worker, started_at, ended=True)

    _try_write(directory, worker, started_at)
    threading.Thread(target=run, name="status", daemon=True).start()
    atexit.register(last)


def _try_write(directory: Path, worker: int, started_at: float, *, ended: bool = False) -> None:
    """A full disk must not stop the flow for the sake of its status: it is logged, and tried again in half a second."""
    try:
        write_status(directory, snapshot(worker, started_at, ended=ended))
    except OSError as error:
        _LOG.warning("the status could not be written", directory=str(directory), error=str(error))


def _values(metric: MetricWrapperBase) -> list[float]:
    """The values over all labels; of a counter its total, not the time it was made."""
    return [
        sample.value for family in metric.collect() for sample in family.samples if not sample.name.endswith("_created")
    ]


def total(metric: MetricWrapperBase) -> float:
    """The sum over all labels."""
    return sum(_values(metric))
