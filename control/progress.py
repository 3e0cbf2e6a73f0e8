"""The live line of a run: events/s, rows applied, lag, spool, dead letters; plain lines outside of a terminal."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console

from control.live_line import LiveLine, clock
from control.runner import Display, Result
from control.status import Totals

_RATE_WINDOW_SECONDS = 5.0


class Rate:
    """Events a second over the last few seconds."""

    def __init__(self, window_seconds: float = _RATE_WINDOW_SECONDS) -> None:
        self._window = window_seconds
        self._points: deque[tuple[float, int]] = deque()

    def add(self, seconds: float, count: int) -> float:
        """The rate, given the count at a time; 0 before there are two points."""
        self._points.append((seconds, count))
        while len(self._points) > 2 and seconds - self._points[1][0] >= self._window:
            self._points.popleft()
        first, last = self._points[0], self._points[-1]
        return max(0.0, (last[1] - first[1]) / (last[0] - first[0])) if last[0] > first[0] else 0.0


def progress_text(present: Totals, rate: float, seconds: float, restarts: int) -> str:
    """One line for a person."""
    parts = [
        f"{clock(seconds)}",
        f"{rate:,.0f} events/s",
        f"{present.events:,} events",
        f"{present.rows_applied:,} rows applied",
        f"lag {present.lag_offsets:,} messages, {present.lag_ms / 1000:,.1f} s",
        f"spool {present.spool_bytes / 1e6:,.1f} MB" + (" (waiting for the target)" if present.backpressure else ""),
        f"{present.dead_letters:,} dead letters",
    ]
    parts += [f"source {name} FAILED" for name in present.failed_sources]
    if restarts:
        parts.append(f"{restarts} restarts")
    return "  ".join(parts)


def summary_text(result: Result) -> str:
    """The last line of a run."""
    sums = result.totals
    rate = sums.events / result.seconds if result.seconds > 0 else 0.0
    end = "ended" if result.exit_code == 0 else f"failed with {result.cause}"
    return (
        f"{end} after {clock(result.seconds)}: {sums.events:,} events ({rate:,.0f} events/s with the start included), "
        f"{sums.rows_applied:,} rows applied, {sums.dead_letters:,} dead letters, {result.restarts} restarts"
    )


class Progress(Display):
    """Shows a run on a console: one live line on a terminal, a plain line every five seconds elsewhere.

    Args:
        console: where to; rich decides by it whether this is a terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._line = LiveLine(console or Console(stderr=True))
        self._rate = Rate()

    def __enter__(self) -> Self:
        self._line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, trace)

    def update(self, present: Totals, seconds: float, restarts: int) -> None:
        """Show the totals so far."""
        self._line.show(progress_text(present, self._rate.add(seconds, present.events), seconds, restarts))

    def line(self, worker: int | None, text: str) -> None:
        """Show a line above the live one."""
        self._line.print(text if worker is None else f"worker {worker}: {text}")
