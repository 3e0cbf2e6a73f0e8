"""One line about something that goes on: live on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

_PLAIN_EVERY_S = 5.0


class LiveLine:
    """Shown while it is open.

    Args:
        console: where to; rich decides by it whether this is a terminal.
        plain_every_s: how often a line is printed where it is none.
    """

    def __init__(self, console: Console, plain_every_s: float = _PLAIN_EVERY_S) -> None:
        self._console, self._plain_every_s = console, plain_every_s
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._printed_at = float("-inf")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, text: str) -> None:
        """What it says now."""
        if self._live is not None:
            self._live.update(Text(text), refresh=True)
        elif time.monotonic() - self._printed_at >= self._plain_every_s:
            self._printed_at = time.monotonic()
            self.print(text)

    def print(self, text: str) -> None:
        """A line above it."""
        self._console.print(Text(text), soft_wrap=True)


def clock(seconds: float) -> str:
    """So many seconds as M:SS, or H:MM:SS."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
