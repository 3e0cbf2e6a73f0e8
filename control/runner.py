"""Runs a pipeline: starts its worker processes, watches them, restarts all together, ends them at a batch border.

The rules:
- all processes make one Bytewax cluster: when one ends badly, all are ended and start again from the last epoch;
- restarts wait 0.5, 1, 2 ... 30 s, and end for good after `restarts_max` in a row that got nowhere; a TransientError
  (broker or target do not answer) is waited out for ever, as a running pipeline does;
- a ConfigurationError (exit code 78) and a FatalError are never retried: a person must act;
- a worker whose epoch does not move, while none waits for target or spool, hangs (a stopped process, a partitioned
  peer): all restart;
- SIGTERM, SIGINT and SIGHUP end the run: every worker gets SIGTERM and ends behind a durable epoch; after the grace
  time it is killed, which loses nothing either; a second signal kills at once.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from control.status import RUN, SUPERVISOR, Totals, WorkerStatus, read_supervisor, read_workers, totals
from control.worker_log import Cause, Repeats, cause, important
from control.workers import CONFIGURATION_EXIT_CODE, FATAL_EXIT_CODE, Workers
from flows import json_file, recovery_store
from libcore.errors import ConfigurationError

_TICK_SECONDS = 0.05
_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long the supervisor waits, and how often it tries again.

    Args:
        restarts_max: restarts in a row without a row applied in between; then the run ends with an error.
        healthy_seconds: workers that lived so long got somewhere too, even without a row.
        stop_grace_seconds: from SIGTERM to kill -9.
        hang_seconds: age of the newest epoch from which a worker counts as hung.
        start_seconds: the same before the first epoch, where connections and a resume take their time.
    """

    restarts_max: int = 10
    healthy_seconds: float = 60.0
    stop_grace_seconds: float = 60.0
    hang_seconds: float = 120.0
    start_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    Args:
        exit_code: 0 after the end of the data or a wanted stop, 78 for a configuration error, 1 otherwise.
        totals: the counters of all workers, over restarts.
        seconds: from the first start to the end.
        restarts: how often all workers were started again.
        cause: why it failed; None where it did not.
    """

    exit_code: int
    totals: Totals
    seconds: float
    restarts: int
    cause: Cause | None = None


class Display:
    """What a run shows; this one shows nothing. The command line's stands in progress.py."""

    def update(self, present: Totals, seconds: float, restarts: int) -> None:
        """Called about twice a second with the totals so far."""

    def line(self, worker: int | None, text: str) -> None:
        """Called with a line a person must see; `worker` None means the supervisor itself."""


@dataclass(slots=True)
class Supervisor:
    """One run of one pipeline; `run` does it all."""

    workers: Workers
    state_dir: Path
    bounds: Bounds = field(default_factory=Bounds)
    display: Display = field(default_factory=Display)
    stopping: threading.Event = field(default_factory=threading.Event)
    restarts: int = 0
    _repeats: Repeats = field(default_factory=Repeats)
    _former: Totals = field(default_factory=Totals)
    _present: Totals = field(default_factory=Totals)
    _failures: int = 0
    _shown_at: float = 0.0
    _kill_now: bool = False
    _term_sent_at: float | None = None
    _started: float = 0.0

    def run(self) -> Result:
        """Run until the data end, a stop is asked for, or going on makes no sense."""
        self._started = time.monotonic()
        try:
            with self._signals():
                return self._generations()
        finally:
            self.workers.kill()

    def _generations(self) -> Result:
        while True:
            self._begin()
            failure = self._watch()
            self._show(force=True)
            if failure is None:
                return self._result(0)
            self.workers.kill()
            if self.stopping.is_set():
                # A kill loses nothing: the next start goes on from the last durable epoch.
                return self._result(0 if self._term_sent_at is not None else 1, failure)
            if failure.is_configuration:
                return self._result(CONFIGURATION_EXIT_CODE, failure)
            worn_out = self._failures >= self.bounds.restarts_max and not failure.is_transient
            if failure.is_fatal or worn_out:
                return self._result(1, failure)
            self._former = self._present.with_former(self._former)
            self._back_off()
            if self.stopping.is_set():
                return self._result(0)

    def _begin(self) -> None:
        self._present = Totals()
        self._term_sent_at = None
        self.workers.start()

    def _watch(self) -> Cause | None:
        """Watch one generation of workers to its end; None where all ended well."""
        while True:
            codes = self.workers.exit_codes()
            self._forward()
            if all(code == 0 for code in codes):
                return None
            bad = [index for index, code in enumerate(codes) if code not in (None, 0)]
            if bad:
                return self._cause_of_end()
            if self._kill_now:
                return Cause("", "killed by a second signal")
            if self.stopping.is_set() and self._overdue():
                return Cause("", f"did not end within {self.bounds.stop_grace_seconds:.0f} s and was killed")
            hung = self._hung(codes)
            if hung is not None:
                return hung
            self._show()
            time.sleep(_TICK_SECONDS)

    def _overdue(self) -> bool:
        """Pass the stop on at the first call; True once the grace time is over."""
        if self._term_sent_at is None:
            self._term_sent_at = time.monotonic()
            self.workers.terminate()
        return time.monotonic() - self._term_sent_at > self.bounds.stop_grace_seconds

    def _cause_of_end(self) -> Cause:
        # Peers of a dead worker end within a second and write why; the one that raised may not be the first to be gone.
        codes = self.workers.wait(1.0)
        self._forward()
        index, code = min(
            ((index, code) for index, code in enumerate(codes) if code), key=lambda end: (_is_echo(end[1]), end[0])
        )
        found = cause(tail.newest() for tail in self.workers.tails)
        if code == CONFIGURATION_EXIT_CODE and not found.is_configuration:
            found = Cause("ConfigurationError", found.text or f"see {self.workers.log_path(index)}")
        if code == FATAL_EXIT_CODE and not found.is_fatal:
            found = Cause("FatalError", str(found))
        if not self.stopping.is_set():
            ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            self.display.line(None, f"worker {index} {ended}; {found}")
        return found

    def _hung(self, codes: list[int | None]) -> Cause | None:
        now = time.time()
        statuses = {status.worker: status for status in read_workers(self.state_dir)}
        if any(self._waits(status, now) for status in statuses.values()):
            return None
        for index, code in enumerate(codes):
            status = statuses.get(index)
            age = now - self.workers.started_at if status is None else status.epoch_age_seconds(now)
            young = status is None or status.epochs == 0
            bound = self.bounds.start_seconds if young else self.bounds.hang_seconds
            if code is None and age > bound:
                text = f"worker {index} closed no epoch for {age:.0f} s (bound {bound:.0f} s)"
                self.display.line(None, f"{text}: all workers are killed and start again")
                return Cause("", text)
        return None

    def _waits(self, status: WorkerStatus, now: float) -> bool:
        # The word of a worker that no longer speaks is not worth anything: it may be the hung one.
        return status.backpressure and now - status.written_at < self.bounds.hang_seconds

    def _forward(self) -> None:
        for index, tail in enumerate(self.workers.tails):
            for line in important(tail.lines()):
                text = self._repeats.text(line, time.monotonic())
                if text is not None:
                    self.display.line(index, text)
            tail.bound()

    def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if now - self._shown_at < 0.5 and not force:
            return
        self._shown_at = now
        statuses = read_workers(self.state_dir)
        if not statuses:
            return
        self._present = totals(statuses)
        if self._present.rows_applied or time.time() - self.workers.started_at > self.bounds.healthy_seconds:
            # It got somewhere, so the next failure is a new one.
            self._failures = 0
        self.display.update(self._present.with_former(self._former), now - self._started, self.restarts)

    def _back_off(self) -> None:
        seconds = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)]
        self._failures += 1
        self.restarts += 1
        self.display.line(
            None, f"all workers start again from the last epoch in {seconds:g} s (restart {self.restarts})"
        )
        self.stopping.wait(seconds)

    def _result(self, exit_code: int, failure: Cause | None = None) -> Result:
        sums = self._present.with_former(self._former)
        return Result(exit_code, sums, time.monotonic() - self._started, self.restarts, failure if exit_code else None)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The stop signals set `stopping`; outside the main thread Python allows no handlers and the caller sets it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._kill_now = self.stopping.is_set()
        self.stopping.set()


def _is_echo(code: int) -> bool:
    """Whether an exit code is what a peer of a dead worker ends with, too: 1, or an abort."""
    return code in (1, -signal.SIGABRT)


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory: two runs of one pipeline at a time would fence each other off."""
    path = state_dir / RUN / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = (read_supervisor(state_dir) or {}).get("pid", "unknown")
            raise ConfigurationError(f"{state_dir}: this pipeline runs already, as process {other}") from error
        yield


def run(
    flow: str,
    state_dir: Path,
    processes: int = 1,
    *,
    environment: Mapping[str, str] | None = None,
    bounds: Bounds | None = None,
    display: Display | None = None,
    stopping: threading.Event | None = None,
    describe: Callable[[], Mapping[str, Any]] = dict,
) -> Result:
    """Run a flow with N processes until its data end or it is stopped.

    Args:
        flow: Bytewax's import string: "flows.build:flow('orders.toml')".
        state_dir: the pipeline's state directory; made where it is missing, with its recovery store.
        processes: worker processes, at least 1; may differ from the last run's.
        environment: variables for the workers.
        bounds: how long to wait, how often to try again.
        display: shows progress and important lines.
        stopping: set it to stop the run from another thread; signals do the same in the main thread.
        describe: more entries for state_dir/run/supervisor.json, such as the pipeline's file.
    Raises: ConfigurationError where the pipeline runs already or the count is below 1.
    """
    if processes < 1:
        raise ConfigurationError(f"processes: expected at least 1, found {processes}")
    state_dir = state_dir.resolve()
    with _only_one(state_dir):
        recovery_store.prepare(state_dir / "recovery")
        workers = Workers(flow, state_dir, processes, environment=environment)
        supervisor = Supervisor(
            workers, state_dir, bounds or Bounds(), display or Display(), stopping or threading.Event()
        )
        about = {"pid": os.getpid(), "processes": processes, "started_at": time.time(), **describe()}
        json_file.write(state_dir / RUN / SUPERVISOR, about)
        result = supervisor.run()
        ended = {"ended_at": time.time(), "exit_code": result.exit_code, "restarts": result.restarts}
        json_file.write(state_dir / RUN / SUPERVISOR, {**about, **ended})
        return result
