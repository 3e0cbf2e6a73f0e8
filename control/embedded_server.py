"""What every embedded server has: a directory, a port, a log, one process, a wait until it answers, a clean stop."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from flows.ports import free_port
from libcore.errors import HeadraceError

_POLL_SECONDS = 0.02


class ServerError(HeadraceError):
    """An embedded server did not start or stop; the message ends with the last lines of its log."""


class Server(ABC):
    """One server process on 127.0.0.1.

    Args:
        directory: where data and log live; None makes a temporary directory, removed by `close`.
        port: TCP port; None takes a free one and keeps it over restarts.
        start_seconds: how long `start` waits for the first answer.
    """

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path | None = None, *, port: int | None = None, start_seconds: float = 60.0) -> None:
        self._temporary = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix=f"headrace-{self.name}-")) if directory is None else directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port is None else port
        self.log_path = self.directory / f"{self.name}.log"
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The command line that runs the server in the foreground."""

    @abstractmethod
    def _answers(self) -> bool:
        """True once the server serves requests."""

    def _prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Make the data directory where it is missing; called before each start."""

    def _environment(self) -> Mapping[str, str] | None:
        return None

    @property
    def pid(self) -> int:
        """Process id of the running server; ServerError where it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self.name} does not run{self._log_tail()}")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and wait for the first answer; a second start on the same data goes on with it."""
        if self.running:
            raise ServerError(f"{self.name} runs already, as process {self.pid}")
        self._prepare()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                list(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self._environment(),
                start_new_session=True,
            )
        self._wait_ready()
        return self

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None:
                code = self._process.returncode
                raise ServerError(f"{self.name} ended with code {code} at its start{self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.name} gave no answer for {self._start_seconds:.0f} s{self._log_tail()}")
            time.sleep(_POLL_SECONDS)

    def stop(self, *, grace_seconds: float = 30.0) -> None:
        """Ask the server to end, wait, kill after the grace; nothing happens where it does not run."""
        self._end(self.stop_signal, grace_seconds)

    def kill(self) -> None:
        """End the server at once with kill -9, as a crash does; the data stay."""
        self._end(signal.SIGKILL, 10.0)

    def _end(self, number: signal.Signals, grace_seconds: float) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10.0)
        self._process = None

    def close(self) -> None:
        """Stop, and remove the directory if it was a temporary one."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _log_tail(self, lines: int = 20) -> str:
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "; end of its log:\n" + "\n".join(text)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
