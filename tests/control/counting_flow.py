"""A small durable flow for the runner's tests: it copies numbers into files, exactly once, and fails where told to.

Not a test: it is what `python -m bytewax.run` is given, in place of a pipeline.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
import structlog
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.base import stop
from control.status import worker_path
from flows import json_file
from libcore.errors import ConfigurationError, FatalError

PARTS = ("0", "1", "2")
_BATCH = 5
_ERRORS = {"configuration": ConfigurationError, "fatal": FatalError, "value": ValueError}


class _Numbers(StatefulSourcePartition[tuple[str, int], int]):
    """Counts from 0 to the end, a few at a time; says how it is in the worker's status."""

    def __init__(self, part: str, end: int, failure: str, first: int) -> None:
        self._part, self._end, self._failure, self._next = part, end, failure, first
        self._started_at, self._epochs = time.time(), 0
        self._awake = datetime.now(UTC)

    def next_batch(self) -> list[tuple[str, int]]:
        if self._next >= self._end or stop.requested():
            raise StopIteration
        if self._failure in _ERRORS and self._next >= self._end // 2:
            error = _ERRORS[self._failure](f"part {self._part} cannot go past {self._next}")
            structlog.get_logger().error("source failed", error=f"{type(error).__name__}: {error}")
            raise error
        if self._failure == "hang" and self._next >= self._end // 2 and not Path(os.environ["HUNG_ONCE"]).exists():
            Path(os.environ["HUNG_ONCE"]).touch()
            time.sleep(600)
        numbers = range(self._next, min(self._end, self._next + _BATCH))
        self._next = numbers.stop
        self._awake = datetime.now(UTC) + timedelta(milliseconds=10)
        return [(self._part, number) for number in numbers]

    def next_awake(self) -> datetime:
        return self._awake

    def snapshot(self) -> int:
        self._epochs += 1
        self._tell()
        return self._next

    def _tell(self) -> None:
        worker = int(os.environ["HEADRACE_WORKER"])
        now = time.time()
        status = {"worker": worker, "pid": os.getpid(), "written_at": now, "started_at": self._started_at}
        counts = {"epochs": self._epochs, "epoch_at": now, "events": self._epochs * _BATCH}
        json_file.write(worker_path(Path(os.environ["HEADRACE_STATE_DIR"]), worker), {**status, **counts})


class _Source(FixedPartitionedSource[tuple[str, int], int]):
    def __init__(self, end: int, failure: str) -> None:
        self._end, self._failure = end, failure

    def list_parts(self) -> list[str]:
        return list(PARTS)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Numbers:
        return _Numbers(for_part, self._end, self._failure, resume_state or 0)


class _Lines(StatefulSinkPartition[int, int]):
    """Appends lines; what was written behind the last durable epoch is cut off at a resume."""

    def __init__(self, path: Path, size: int) -> None:
        path.touch()
        os.truncate(path, size)
        self._file = path.open("ab")

    def write_batch(self, items: list[int]) -> None:
        self._file.write("".join(f"{item}\n" for item in items).encode())
        self._file.flush()

    def snapshot(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class _Sink(FixedPartitionedSink[int, int]):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def list_parts(self) -> list[str]:
        return list(PARTS)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Lines:
        return _Lines(self._directory / for_part, resume_state or 0)

    def part_fn(self, item_key: str) -> int:
        return int(item_key)


def numbers_in(directory: Path) -> dict[str, list[int]]:
    """What the flow has written, by part."""
    return {part: [int(line) for line in (directory / part).read_text().split()] for part in PARTS}


def flow(directory: str, end: int, failure: str = "") -> Dataflow:
    """Numbers 0 to `end` of three parts into three files; `failure` names what goes wrong half way."""
    if failure == "build":
        raise SystemExit(78)
    stop.install()
    dataflow = Dataflow("counting")
    numbers = op.input("numbers", dataflow, _Source(end, failure))
    op.output("lines", numbers, _Sink(Path(directory)))
    return dataflow
