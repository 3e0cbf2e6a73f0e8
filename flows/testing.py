"""Run a flow in real processes, kill it with SIGKILL, start it again: what a test of a durable flow needs.

assert run_flow("my_flow:flow('x.toml', until_end=True)", tmp_path, kill_after_s=0.8) == [-9]
assert run_flow("my_flow:flow('x.toml', until_end=True)", tmp_path, processes=2) == [0, 0]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from flows import recovery_store
from flows.ports import free_ports


def run_flow(
    flow: str,
    directory: Path,
    *,
    processes: int = 1,
    kill_after_s: float | None = None,
    ready: Callable[[], bool] = lambda: True,
    victims: Sequence[int] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> list[int]:
    """Start a flow, wait for its end, and return each process's exit code (-9: killed by SIGKILL).

    Args:
        flow: as for `python -m bytewax.run`: "module:flow", "module:flow('x.toml')".
        directory: holds recovery/ (made where missing), the state directory state/, and process-N.log.
        processes: how many, one worker each.
        kill_after_s: seconds after which processes are killed with SIGKILL; None lets the flow end by itself.
        ready: the seconds count from when it first says true, at most timeout_s after the start.
        victims: which processes are killed then; None: all. The others end by themselves, with an error.
        environment: variables besides this process's own.
        timeout_s: seconds after which all are killed and TimeoutError is raised.
    """
    store = directory / "recovery"
    recovery_store.prepare(store)
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(processes))
    variables = {**os.environ, "HEADRACE_STATE_DIR": str(directory / "state"), **(environment or {})}
    with ExitStack() as stack:
        started = []
        for index in range(processes):
            log = stack.enter_context((directory / f"process-{index}.log").open("ab"))
            command = [sys.executable, "-m", "bytewax.run", flow, "-r", str(store), "-s", "0", "-b", "0"]
            command += ["-i", str(index), "-a", addresses] if processes > 1 else []
            started.append(
                subprocess.Popen(
                    command, stdout=log, stderr=log, env={**variables, "HEADRACE_WORKER": str(index)}, cwd=os.getcwd()
                )
            )
            stack.callback(_end, started[-1])
        if kill_after_s is not None:
            deadline = time.monotonic() + timeout_s
            while not ready() and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(kill_after_s)
            for index in range(processes) if victims is None else victims:
                started[index].send_signal(signal.SIGKILL)
        return _wait(started, directory, timeout_s)


def run_killed_and_resumed(
    flow: str,
    directory: Path,
    kills_after_s: Sequence[float],
    *,
    processes: int = 1,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> list[list[int]]:
    """Start and kill a flow once for each number of seconds, then let it run to its end; exit codes of each start."""
    kills: list[float | None] = [*kills_after_s, None]
    return [
        run_flow(
            flow, directory, processes=processes, kill_after_s=seconds, environment=environment, timeout_s=timeout_s
        )
        for seconds in kills
    ]


def _wait(started: Sequence[subprocess.Popen[bytes]], directory: Path, timeout_s: float) -> list[int]:
    deadline = time.monotonic() + timeout_s
    for process in started:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the flow did not end within {timeout_s:.0f} s; its logs are in {directory}") from None
    return [process.returncode for process in started]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
