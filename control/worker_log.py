"""Reads the workers' logs as they grow: which lines a person must see, and what a dead worker died of.

In a cluster Bytewax loses the text of an exception: the process that raised it and its peers all end with a panic about
a closed channel. The cause comes from the logs: the error a worker logged before raising, or the end of a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LOG_BYTES_MAX = 64_000_000
_FORMS_MAX = 1000
_DIGITS = re.compile(r"\d+")
_TAIL_BYTES = 64_000
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_IMPORTANT = re.compile(
    r'\[(warning|error|critical)\s*\]|"level": ?"(warning|error|critical)"|^(WARNING|ERROR|CRITICAL)\b'
)
_TRACEBACK = "Traceback (most recent call last):"
_LAST_LINE = re.compile(r"((?:\w+\.)*\w+)(?:: (.*))?$")
_RAISED = re.compile(r"\b((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)): ?(.*)")
# What peers say when one of them has ended, and what Bytewax wraps around the true error.
_ECHOES = ("PanicException", "BytewaxRuntimeError", "SystemExit")
_OWN = ("ConfigurationError", "CorruptionError", "CapacityError", "FatalError", "DataError", "TransientError")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a worker ended.

    Args:
        kind: the exception's class, without its module; "" where the log holds none.
        text: its message.
    """

    kind: str = ""
    text: str = ""

    @property
    def is_configuration(self) -> bool:
        """Whether another start would end the same way until a person changes file, environment or target."""
        return self.kind == "ConfigurationError"

    @property
    def is_fatal(self) -> bool:
        """Whether a person must act before another start."""
        return self.kind in ("FatalError", "CapacityError", "CorruptionError", "ImportError", "ModuleNotFoundError")

    @property
    def is_transient(self) -> bool:
        """Whether the other side is down: it passes without anything being changed here."""
        return self.kind == "TransientError"

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.kind else "no error in its log"


class LogTail:
    """Follows one log from where it ended when this object was made.

    Args:
        path: the log; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self._newest = b""

    def lines(self) -> list[str]:
        """Whole lines since the last call, without colours."""
        if not self._path.exists():
            return []
        if self._path.stat().st_size < self._position:
            self._position = 0
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        self._position += len(data)
        self._newest = (self._newest + data)[-_TAIL_BYTES:]
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [_plain(line) for line in whole]

    def newest(self) -> list[str]:
        """The last 64 kB seen by `lines`, for a search after the end."""
        return [_plain(line) for line in self._newest.split(b"\n")]

    def bound(self) -> None:
        """Keep the log below its limit: what it holds moves to `<name>.1`, and it starts again at 0.

        The worker goes on writing through its open descriptor, which appends.
        """
        if self._path.exists() and self._path.stat().st_size > LOG_BYTES_MAX:
            self._path.with_suffix(".log.1").write_bytes(self._path.read_bytes())
            with self._path.open("r+b") as file:
                file.truncate(0)
            self._position = 0


class Repeats:
    """Lets a line through once in a while: a client that reconnects says the same thing several times a second.

    Two lines are the same where they differ in digits only (times, ports, attempts).

    Args:
        quiet_seconds: how long a line that was shown is only counted.
    """

    def __init__(self, quiet_seconds: float = 30.0) -> None:
        self._quiet = quiet_seconds
        self._seen: dict[str, tuple[float, int]] = {}

    def text(self, line: str, now: float) -> str | None:
        """The line, with how often it was held back since it was last shown; None while it is held back."""
        form = _DIGITS.sub("", line)
        shown_at, held = self._seen.get(form, (float("-inf"), 0))
        if now - shown_at < self._quiet:
            self._seen[form] = (shown_at, held + 1)
            return None
        if len(self._seen) >= _FORMS_MAX:
            self._seen = {key: value for key, value in self._seen.items() if now - value[0] < self._quiet}
            if len(self._seen) >= _FORMS_MAX:
                self._seen.clear()
        self._seen[form] = (now, 0)
        return f"{line} (and {held} times before)" if held else line


def important(lines: Iterable[str]) -> Iterator[str]:
    """Lines of level warning and above."""
    return (line for line in lines if _IMPORTANT.search(line))


def cause(logs: Iterable[list[str]]) -> Cause:
    """The cause of an end, from every worker's newest lines: our own errors first, then the first other one."""
    found = [Cause(kind, text) for lines in logs for kind, text in _raised(lines)]
    for name in _OWN:
        for candidate in found:
            if candidate.kind == name:
                return candidate
    return found[0] if found else Cause()


def _raised(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(class without its module, message) of every exception that a log names, in any line or behind a traceback."""
    in_traceback = False
    for line in lines:
        at_end = in_traceback and line != "" and not line[0].isspace()
        match = _LAST_LINE.match(line) if at_end else _RAISED.search(line)
        in_traceback = line.startswith(_TRACEBACK) or (in_traceback and not at_end)
        if match:
            kind = match[1].rpartition(".")[2]
            if kind not in _ECHOES:
                yield kind, (match[2] or "").strip()


def _plain(line: bytes) -> str:
    return _ESCAPES.sub("", line.decode("utf-8", errors="replace"))
