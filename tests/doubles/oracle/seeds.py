"""Whether a seed is equal to the truth; a failure is told with the smallest history that fails too."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import structlog

from tests.doubles.oracle.play import run
from tests.doubles.oracle.schedule import Schedule, draw, show

_LINES_MAX = 6
Run = Callable[[Schedule], list[str]]


def faults_of(schedule: Schedule, run: Run = run) -> list[str]:
    """What is wrong, a line each; an exception is one line."""
    structlog.configure(processors=[_drop])
    try:
        return run(schedule)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return [f"{type(error).__name__}: {error} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"]
    finally:
        structlog.reset_defaults()


def _drop(*_: object) -> dict[str, object]:
    raise structlog.DropEvent


def equal(seed: int, shrink_s: float = 0.0) -> bool:
    """Run a seed; what is wrong is printed."""
    schedule = draw(seed)
    faults = faults_of(schedule)
    if faults:
        print(f"seed {seed} fails; again: python -m tests.doubles.oracle --seed {seed}")
        print("\n".join(f"  {line}" for line in faults[:_LINES_MAX]))
        if shrink_s > 0:
            small = shrink(schedule, lambda smaller: _same(faults, faults_of(smaller)), shrink_s)
            print(f"smallest that fails, {len(small.events)} of {len(schedule.events)} events:\n{show(small)}")
            print("\n".join(f"  {line}" for line in faults_of(small)[:_LINES_MAX]))
    return not faults


def _same(faults: list[str], others: list[str]) -> bool:
    """Whether both begin with the same word, so that another fault does not take the first one's place."""
    return bool(others) and faults[0].split()[0] == others[0].split()[0]


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool], seconds_max: float) -> Schedule:
    """The smallest history found that still fails: runs of events are left out, halves first, single ones last."""
    until, small, size = time.monotonic() + seconds_max, schedule, max(1, len(schedule.events) // 2)
    while size and time.monotonic() < until:
        start, before = 0, small
        while start < len(small.events) and time.monotonic() < until:
            fewer = replace(small, events=small.events[:start] + small.events[start + size :])
            if fails(fewer):
                small = fewer
            else:
                start += size
        size = size if size == 1 and small != before else size // 2
    return small
