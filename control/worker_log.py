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
_TAIL_BYTES = 64_000
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_IMPORTANT = re.compile(
    r'\[(warning|error|critical)\s*\]|"level": ?"(warning|error|critical)"|^(WARNING|ERROR|CRITICAL)\b'
)
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
        return self.kind in ("FatalError", "CapacityError", "CorruptionError")

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
    for line in lines:
        match = _RAISED.search(line)
        if match:
            kind = match[1].rpartition(".")[2]
            if kind not in _ECHOES:
                yield kind, match[2].strip()


def _plain(line: bytes) -> str:
    return _ESCAPES.sub("", line.decode("utf-8", errors="replace"))
