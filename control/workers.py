"""The worker processes of one pipeline: N times `python -m bytewax.run`, started and ended together.

Each has one Bytewax worker (threads made everything slower), listens on a port of its own that it keeps over restarts,
and writes to state_dir/run/worker-N.log. A worker cannot outlive its supervisor: it is killed with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from control.status import RUN
from control.tied import command
from control.worker_log import LogTail
from flows.ports import free_ports

CONFIGURATION_EXIT_CODE = 78
FATAL_EXIT_CODE = 70
"""An applier that met a fatal error ends its process with it."""
_KILL_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.02


class Workers:
    """All worker processes of a pipeline.

    Args:
        flow: what to run, as Bytewax's import string: "flows.build:flow('orders.toml')".
        state_dir: the pipeline's state directory.
        count: how many processes.
        environment: variables added to this process's own.
    """

    def __init__(self, flow: str, state_dir: Path, count: int, *, environment: Mapping[str, str] | None = None) -> None:
        self._flow, self._state_dir, self._count = flow, state_dir, count
        self._environment = dict(environment or {})
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
        self._processes: list[subprocess.Popen[bytes]] = []
        (state_dir / RUN).mkdir(parents=True, exist_ok=True)
        self.tails = [LogTail(self.log_path(index)) for index in range(count)]
        self.started_at = 0.0

    def log_path(self, index: int) -> Path:
        """Where worker N's output goes."""
        return self._state_dir / RUN / f"worker-{index}.log"

    def arguments(self, index: int) -> list[str]:
        """The command line of worker N."""
        arguments = [sys.executable, "-m", "bytewax.run", self._flow]
        arguments += ["-r", str(self._state_dir / "recovery"), "-s", "0", "-b", "0"]
        if self._count > 1:
            arguments += ["-i", str(index), "-a", ";".join(self._addresses)]
        return arguments

    def start(self) -> None:
        """Start all; their statuses and tails begin anew."""
        assert not self._processes, "the former ones must be ended first"
        self.started_at = time.time()
        for path in (self._state_dir / RUN).glob("worker-*.json"):
            path.unlink()
        self.tails = [LogTail(self.log_path(index)) for index in range(self._count)]
        for index in range(self._count):
            self._processes.append(self._start_one(index))

    def _start_one(self, index: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **self._environment,
            "HEADRACE_WORKER": str(index),
            "HEADRACE_STATE_DIR": str(self._state_dir),
        }
        with self.log_path(index).open("ab") as log:
            return subprocess.Popen(
                command(self.arguments(index)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                # Ctrl-C reaches the supervisor alone, which then ends the workers at a batch border.
                start_new_session=True,
            )

    @property
    def pids(self) -> list[int]:
        """Process ids, by index."""
        return [process.pid for process in self._processes]

    def exit_codes(self) -> list[int | None]:
        """Exit code of each, None where it runs; the negative signal number where a signal ended it."""
        return [process.poll() for process in self._processes]

    def terminate(self) -> None:
        """Ask all to end at a batch border. All get it: one alone would wait for the others."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End all at once and forget them."""
        self._send(signal.SIGKILL)
        for process in self._processes:
            process.wait(_KILL_WAIT_SECONDS)
        self._processes = []

    def wait(self, seconds: float) -> Sequence[int | None]:
        """Wait until all have ended, at most so long; their exit codes."""
        deadline = time.monotonic() + seconds
        while None in self.exit_codes() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return self.exit_codes()

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)
