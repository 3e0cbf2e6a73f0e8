"""The runner ends with all data written once, whatever dies, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.runner import Bounds, Display, Result, run
from control.status import Totals, WorkerStatus, read_supervisor, read_workers, totals, worker_path
from control.worker_log import Cause, LogTail, Repeats, cause, important
from flows import json_file
from libcore.errors import ConfigurationError
from tests.control.counting_flow import PARTS, numbers_in

_ROOT = Path(__file__).parents[2]
_QUICK = Bounds(restarts_max=3, stop_grace_seconds=10.0)


class _Seen(Display):
    """Keeps what a run shows, and calls back at each update."""

    def __init__(self, on_update: Callable[[Totals], None] = lambda present: None) -> None:
        self.lines: list[str] = []
        self._on_update = on_update

    def update(self, present: Totals, seconds: float, restarts: int) -> None:
        self._on_update(present)

    def line(self, worker: int | None, text: str) -> None:
        self.lines.append(text)


def _expression(tmp_path: Path, end: int, failure: str = "") -> str:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return f"tests.control.counting_flow:flow({str(out)!r}, {end}, {failure!r})"


def _all(end: int) -> dict[str, list[int]]:
    return {part: list(range(end)) for part in PARTS}


def _gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


def _until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


@given(st.lists(st.builds(WorkerStatus, worker=st.integers(0, 9), events=st.integers(0), lag_ms=st.integers(0))))
def test_totals_are_sums_and_the_worst_lag(statuses: list[WorkerStatus]) -> None:
    """Counters add up over workers; the pipeline's lag is that of its slowest worker."""
    found = totals(statuses)
    assert found.events == sum(status.events for status in statuses)
    assert found.lag_ms == max([0, *(status.lag_ms for status in statuses)])
    assert found.with_former(found).events == 2 * found.events


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_ends_with_its_data(tmp_path: Path, processes: int) -> None:
    """Any number of processes writes every number once, in order, and exits with 0."""
    result = run(_expression(tmp_path, 50), tmp_path / "state", processes, bounds=_QUICK)
    assert (result.exit_code, result.restarts) == (0, 0)
    assert numbers_in(tmp_path / "out") == _all(50)
    supervisor = read_supervisor(tmp_path / "state")
    assert supervisor is not None and (supervisor["running"], supervisor["exit_code"]) == (False, 0)


def test_a_killed_worker_restarts_all_and_nothing_is_lost(tmp_path: Path) -> None:
    """kill -9 of one of two workers: both start again from the last epoch, and the files come out right."""
    killed: list[int] = []

    def kill_one(present: Totals) -> None:
        statuses = read_workers(tmp_path / "state")
        if not killed and present.events > 40 and statuses:
            killed.append(statuses[-1].pid)
            os.kill(statuses[-1].pid, signal.SIGKILL)

    display = _Seen(kill_one)
    result = run(_expression(tmp_path, 600), tmp_path / "state", 2, bounds=_QUICK, display=display)
    assert killed and (result.exit_code, result.restarts) == (0, 1)
    assert any("was ended by signal 9" in line for line in display.lines)
    assert numbers_in(tmp_path / "out") == _all(600)


def test_a_stop_ends_at_a_batch_border_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """A stop exits with 0 behind a durable epoch; a later run with another process count writes exactly the rest."""
    stopping = threading.Event()
    display = _Seen(lambda present: stopping.set() if present.events > 40 else None)
    flow = _expression(tmp_path, 600)
    result = run(flow, tmp_path / "state", 2, bounds=_QUICK, display=display, stopping=stopping)
    assert (result.exit_code, result.restarts) == (0, 0)
    so_far = numbers_in(tmp_path / "out")
    assert all(numbers == list(range(len(numbers))) for numbers in so_far.values())
    assert 0 < sum(map(len, so_far.values())) < 3 * 600
    assert run(flow, tmp_path / "state", 1, bounds=_QUICK).exit_code == 0
    assert numbers_in(tmp_path / "out") == _all(600)


@pytest.mark.parametrize(
    ("failure", "processes", "code"), [("configuration", 1, 78), ("build", 2, 78), ("fatal", 2, 1)]
)
def test_what_a_person_must_mend_is_not_retried(tmp_path: Path, failure: str, processes: int, code: int) -> None:
    """A configuration error ends with 78 and a fatal one with 1, both without another start."""
    result = run(_expression(tmp_path, 50, failure), tmp_path / "state", processes, bounds=_QUICK)
    assert (result.exit_code, result.restarts) == (code, 0)
    assert result.cause is not None and (result.cause.is_fatal or result.cause.is_configuration)


def test_another_error_is_retried_within_a_bound_and_told(tmp_path: Path) -> None:
    """An error that stays is tried again `restarts_max` times, and the original exception reaches the person."""
    display = _Seen()
    bounds = Bounds(restarts_max=1)
    result = run(_expression(tmp_path, 50, "value"), tmp_path / "state", 1, bounds=bounds, display=display)
    assert (result.exit_code, result.restarts) == (1, 1)
    assert result.cause is not None and result.cause.kind == "ValueError"
    assert any("cannot go past 25" in line for line in display.lines)


def test_a_hung_worker_is_killed_and_all_go_on(tmp_path: Path) -> None:
    """A worker whose epochs stand still is ended; the next generation finishes the work."""
    flow = _expression(tmp_path, 50, "hang")
    bounds = Bounds(hang_seconds=1.0, start_seconds=10.0)
    environment = {"HUNG_ONCE": str(tmp_path / "hung")}
    result = run(flow, tmp_path / "state", 1, bounds=bounds, environment=environment)
    assert (result.exit_code, result.restarts) == (0, 1)
    assert numbers_in(tmp_path / "out") == _all(50)


def _supervisor(tmp_path: Path, end: int) -> subprocess.Popen[str]:
    program = (
        "import sys; from pathlib import Path; from control.runner import run\n"
        "sys.exit(run(sys.argv[1], Path(sys.argv[2]), 2).exit_code)"
    )
    arguments = [sys.executable, "-c", program, _expression(tmp_path, end), str(tmp_path / "state")]
    return subprocess.Popen(arguments, cwd=_ROOT, text=True)


def test_workers_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """kill -9 of the supervisor takes its workers along, and another run may start at once and ends right."""
    supervisor = _supervisor(tmp_path, 400)
    assert _until(lambda: len(read_workers(tmp_path / "state")) == 2)
    pids = [status.pid for status in read_workers(tmp_path / "state")]
    supervisor.kill()
    supervisor.wait(10)
    assert _until(lambda: all(_gone(pid) for pid in pids), 5)
    assert run(_expression(tmp_path, 400), tmp_path / "state", 1, bounds=_QUICK).exit_code == 0
    assert numbers_in(tmp_path / "out") == _all(400)


def test_sigterm_ends_a_run_cleanly_and_a_second_run_is_refused(tmp_path: Path) -> None:
    """While a run holds the state no other may start; SIGTERM ends it with 0."""
    supervisor = _supervisor(tmp_path, 100_000)
    assert _until(lambda: len(read_workers(tmp_path / "state")) == 2)
    with pytest.raises(ConfigurationError, match=f"runs already, as process {supervisor.pid}"):
        run(_expression(tmp_path, 1), tmp_path / "state", 1)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert all(numbers == list(range(len(numbers))) for numbers in numbers_in(tmp_path / "out").values())


def test_no_processes_is_refused(tmp_path: Path) -> None:
    """A process count below 1 is a configuration error and makes no state."""
    with pytest.raises(ConfigurationError, match="at least 1, found 0"):
        run("x:flow", tmp_path / "state", 0)
    assert not (tmp_path / "state").exists()


def test_the_cause_is_the_original_exception() -> None:
    """Peers' panics and Bytewax's wrapping hide nothing: the named error wins, ours before others."""
    echo = ["PanicException: Send thread panic: Any { .. }", "bytewax.errors.BytewaxRuntimeError: (src/run.rs) error"]
    assert cause([echo, [*echo, "psycopg.OperationalError: gone"]]) == Cause("OperationalError", "gone")
    own = "libcore.errors.ConfigurationError: orders.toml:3: expected a, found b"
    assert cause([["ValueError: x"], [own]]).is_configuration
    odd = ["Traceback (most recent call last):", '  File "x.py", line 1', "    f()", "ffi.error: undefined type", "^"]
    assert cause([[*echo, *odd]]) == Cause("error", "undefined type")
    assert cause([echo]) == Cause() and str(Cause()) == "no error in its log"


@given(st.lists(st.tuples(st.sampled_from(["a 1", "a 2", "b"]), st.floats(0, 20)), max_size=60))
def test_repeated_lines_are_held_back_and_counted(lines: list[tuple[str, float]]) -> None:
    """Each line is either shown or counted in a later one; the same one is shown at most once in 30 s."""
    repeats, now, shown_at, held = Repeats(30.0), 0.0, dict[str, float](), dict[str, int]()
    for line, pause in lines:
        now += pause
        form, text = line[0], repeats.text(line, now)
        if text is None:
            assert now - shown_at[form] < 30
            held[form] = held.get(form, 0) + 1
        else:
            assert now - shown_at.get(form, float("-inf")) >= 30
            assert text == (f"{line} (and {held[form]} times before)" if held.get(form) else line)
            shown_at[form], held[form] = now, 0


def test_log_tail_gives_whole_lines_once(tmp_path: Path) -> None:
    """Half a line waits for its end, colours go, a log that starts anew is read from its start."""
    path = tmp_path / "worker-0.log"
    path.write_bytes(b"of an earlier run\n")
    tail = LogTail(path)
    with path.open("ab") as log:
        log.write(b"2026 [\x1b[31merror    \x1b[0m] bad\nhal")
        log.flush()
        assert list(important(tail.lines())) == ["2026 [error    ] bad"]
        log.write(b"f\n")
        log.flush()
        assert (tail.lines(), tail.lines()) == (["half"], [])
    path.write_bytes(b"new\n")
    assert tail.lines() == ["new"]


def test_a_status_is_never_seen_half(tmp_path: Path) -> None:
    """A reader beside a writer that never rests always finds a whole status."""
    (tmp_path / "run").mkdir()
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            json_file.write(worker_path(tmp_path, 0), {"worker": 0, "events": 7, "of_a_later_version": "x" * 5000})

    writer = threading.Thread(target=write)
    writer.start()
    found = [read_workers(tmp_path) for _ in range(300)]
    done.set()
    writer.join()
    assert {status.events for statuses in found for status in statuses} <= {7}
    assert read_workers(tmp_path)[0].events == 7


def test_a_result_knows_its_counters() -> None:
    """A run's result is plain data that compares by value."""
    assert Result(0, Totals(events=1), 2.0, 0) == Result(0, Totals(events=1), 2.0, 0)
