"""Quarantine of a user's C function: who called it when a process died is known after the restart, and why.

Beside each call a few bytes of a file say that the function runs; they need no sync, as a dead process's writes stay
with the kernel. A signal that a fault raises (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT) is written down by Python's
faulthandler. At the next start:

    it ran, and a fault was written down    the function crashed: quarantined at once
    it ran, and nothing was written down    the process was killed, or ended, meanwhile: quarantined at the third time
    it did not run                          all is well

A quarantine names the library's build, so that another build is tried by itself.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import structlog

from connectors.base import json_file

FOLDER = "user-functions"
DEATHS_MAX = 3
_RUNS, _RESTS = b"runs ", b"rests"
_WITNESS = "user_function.py"  # the frame that a fault inside the function is written down with

_LOG = structlog.get_logger()
# (open for the process's life, as faulthandler knows the descriptor only; what the former process wrote)
_faults: dict[Path, tuple[IO[bytes], str]] = {}


class Marker:
    """The word of one process about one function; `quarantine` says why it must not be called.

    Args:
        directory: the state directory.
        step: the step's id. function: "libmine.so:f". library: the shared library's path.
        process: this process's number.
    """

    def __init__(self, directory: Path, step: str, function: str, library: Path, process: int) -> None:
        folder = directory / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._step, self._function, self._build = step, function, build_of(library)
        self.quarantine_file = folder / f"{step}.quarantined"
        self._path, self._fault = folder / f"{step}.{process}", _former_fault(folder / f"process-{process}.fault")
        self._deaths = self._former_deaths()
        self.quarantine = self._quarantined()
        self._file = self._path.open("wb", buffering=0)
        self._write()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Say that the function runs, while it does."""
        self._file.seek(0)
        self._file.write(_RUNS)
        try:
            yield
        finally:  # an exception is no crash
            self._file.seek(0)
            self._file.write(_RESTS)
        if self._deaths:
            self._deaths = 0
            self._write()

    def _write(self) -> None:
        self._file.seek(0)
        self._file.write(_RESTS + json.dumps({"build": self._build, "deaths": self._deaths}).encode() + b" " * 8)

    def _former_deaths(self) -> int:
        """How often in a row a process with this number died while this build of the function ran."""
        try:
            text = self._path.read_bytes()
            former: dict[str, Any] = json.loads(text[len(_RUNS) :] or b"{}")
        except (FileNotFoundError, ValueError):
            return 0
        if former.get("build") != self._build or not text.startswith(_RUNS):
            return 0
        deaths = int(former.get("deaths", 0)) + 1
        if _WITNESS in self._fault:
            self._write_quarantine(f"it crashed ({self._fault.splitlines()[0]})")
        elif deaths >= DEATHS_MAX:
            self._write_quarantine(f"the process was killed or ended {deaths} times in a row while it ran")
        _LOG.warning("a process died while a user's function ran", step=self._step, function=self._function)
        return deaths

    def _write_quarantine(self, why: str) -> None:
        about = {"function": self._function, "build": self._build, "why": why, "at": datetime.now(UTC).isoformat()}
        json_file.write(self.quarantine_file, about, durably=True)
        _LOG.error("a user's function is quarantined", step=self._step, function=self._function, why=why)

    def _quarantined(self) -> str | None:
        try:
            about = json.loads(self.quarantine_file.read_text("utf-8"))
        except FileNotFoundError:
            return None
        if about["build"] != self._build:
            self.quarantine_file.unlink(missing_ok=True)  # another build is another function
            return None
        return f"{about['function']} is quarantined since {about['at'][:19]}: {about['why']}"


def _former_fault(path: Path) -> str:
    """What the former process with that number died of; from now on this one's end is written there."""
    if path not in _faults:
        text = path.read_text("utf-8", "replace") if path.exists() else ""
        _faults[path] = (path.open("wb", buffering=0), text)
        faulthandler.enable(_faults[path][0], all_threads=False)
    return _faults[path][1]


def build_of(library: Path) -> str:
    """Tells two builds of a library apart."""
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]
