"""What the workers of a pipeline say about themselves: state_dir/run/worker-N.json, read, checked, added up.

Each worker replaces its file every half second; `written_at` says how far it can be believed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

RUN = "run"
SUPERVISOR = "supervisor.json"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker's newest word about itself; counters count from the start of its process.

    Args:
        worker: index, from 0.
        pid: its process.
        written_at: Unix seconds of this status.
        started_at: Unix seconds of the process's start.
        epoch_at: Unix seconds of the newest epoch closed here; 0 before the first.
        epochs: epochs closed.
        events: messages read.
        rows_applied: rows written to the target.
        lag_offsets: messages behind the end of this worker's partitions.
        lag_ms: age of the oldest of its partitions' newest change, 0 when all are at their end.
        spool_bytes: bytes of segments that wait for the target; 0 when all are applied.
        dead_letters: rows that became dead letters.
        backpressure: whether the flow waits for room in the spool, for the target or for the broker.
        position_age_s: age of the oldest durable position of its sources that are read directly.
        retained_bytes: log that they keep for this flow.
        failed_sources: of several sources, those that have failed; the others go on.
        document_consistent: its newest rows were whole transactions.
        document_pending_rows: rows that wait for theirs. document_wait_s: how long the next one has been incomplete.
    """

    worker: int
    pid: int = 0
    written_at: float = 0.0
    started_at: float = 0.0
    epoch_at: float = 0.0
    epochs: int = 0
    events: int = 0
    rows_applied: int = 0
    lag_offsets: int = 0
    lag_ms: int = 0
    spool_bytes: int = 0
    dead_letters: int = 0
    backpressure: bool = False
    position_age_s: float = 0.0
    retained_bytes: int = 0
    failed_sources: tuple[str, ...] = ()
    document_consistent: bool = False
    document_pending_rows: int = 0
    document_wait_s: float = 0.0

    def epoch_age_seconds(self, now: float) -> float:
        """Seconds since the newest epoch, or since the start where there was none."""
        return max(0.0, now - max(self.epoch_at, self.started_at))


@dataclass(frozen=True, slots=True)
class Totals:
    """All workers of a pipeline together; sums, and the worst lag in time."""

    workers: int = 0
    events: int = 0
    rows_applied: int = 0
    lag_offsets: int = 0
    lag_ms: int = 0
    spool_bytes: int = 0
    dead_letters: int = 0
    backpressure: bool = False
    failed_sources: tuple[str, ...] = ()

    def with_former(self, former: Totals) -> Totals:
        """These totals plus what workers that have ended had counted; the present state stays the present one's."""
        return replace(
            self,
            events=self.events + former.events,
            rows_applied=self.rows_applied + former.rows_applied,
            dead_letters=self.dead_letters + former.dead_letters,
        )


def dropped_slots(state_dir: Path) -> list[str]:
    """What the flow says of slots that it dropped for the log that they kept, a sentence each."""
    found = [*(state_dir / RUN).glob("slot-*.json"), *state_dir.glob(f"sources/*/{RUN}/slot-*.json")]
    return [str(json.loads(path.read_text(encoding="utf-8"))["error"]) for path in sorted(found)]


def failed_sources(state_dir: Path) -> dict[str, str]:
    """Of several sources those that have failed since the last start, with the error; the others go on."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted((state_dir / RUN).glob("source-*.json")))
    return {str(one["source"]): str(one["error"]) for one in found}


def worker_path(state_dir: Path, worker: int) -> Path:
    """Where worker N writes its status."""
    return state_dir / RUN / f"worker-{worker}.json"


def read_worker(path: Path) -> WorkerStatus | None:
    """The status in a file; None where there is none yet."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    known = {field.name for field in fields(WorkerStatus)}
    return WorkerStatus(**{name: value for name, value in data.items() if name in known})


def read_workers(state_dir: Path) -> list[WorkerStatus]:
    """The status of every worker that ever wrote one, by index; a worker of a former, larger run may be among them."""
    found = (read_worker(path) for path in (state_dir / RUN).glob("worker-*.json"))
    return sorted((status for status in found if status is not None), key=lambda status: status.worker)


def totals(workers: Iterable[WorkerStatus]) -> Totals:
    """The sums over workers."""
    found = list(workers)
    return Totals(
        workers=len(found),
        events=sum(status.events for status in found),
        rows_applied=sum(status.rows_applied for status in found),
        lag_offsets=sum(status.lag_offsets for status in found),
        lag_ms=max((status.lag_ms for status in found), default=0),
        spool_bytes=sum(status.spool_bytes for status in found),
        dead_letters=sum(status.dead_letters for status in found),
        backpressure=any(status.backpressure for status in found),
        failed_sources=tuple(sorted({name for status in found for name in status.failed_sources})),
    )


def read_supervisor(state_dir: Path) -> dict[str, Any] | None:
    """What the newest `headrace run` wrote about itself; None where there was none, `running` says whether it lives."""
    try:
        data: dict[str, Any] = json.loads((state_dir / RUN / SUPERVISOR).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    data["running"] = "ended_at" not in data and _lives(int(data["pid"]))
    data["age_seconds"] = time.time() - float(data["started_at"])
    return data


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and belongs to somebody else
        return True
    return True
