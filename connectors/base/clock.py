"""Time as an item: a source of one part that says what time it is, at the start and then on every full minute.

No operator looks at a clock: what it does follows from the items it got, so that it can be replayed and tested. Time
never goes back, whatever the machine's clock does and through restarts: the part's state is the greatest time given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time_ns
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.base import stop
from connectors.base.source import Pacing
from libcore.errors import ConfigurationError

STATE_VERSION = 1
PART = "clock"
MINUTE_US = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """It is `us` microseconds since 1970, or later."""

    us: int


def system_us() -> int:
    """The machine's time in microseconds since 1970."""
    return time_ns() // 1000


def standing_at(text: str) -> Callable[[], int]:
    """A clock that stands at a time, for tests and rehearsals.

    Args:
        text: ISO 8601, as "2026-03-01T00:00:00Z"; without an offset it is UTC.
    Raises: ConfigurationError for another text.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"clock: expected a time such as 2026-03-01T00:00:00Z, found {text!r}") from error
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    delta = found - _EPOCH
    us = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    return lambda: us


class ClockSource(FixedPartitionedSource[Any, tuple[int, int]]):
    """A Clock at the start, then one whenever a multiple of `every_us` since 1970 has passed; Ticks as every source.

    Args:
        every_us: microseconds between two Clocks.
        until_end: one Clock, then the end.
        now: gives microseconds since 1970.
    """

    def __init__(
        self, every_us: int = MINUTE_US, *, until_end: bool = False, now: Callable[[], int] = system_us
    ) -> None:
        if every_us <= 0:
            raise ConfigurationError(f"clock: expected more than 0 us between two times, found {every_us}")
        self._every_us, self._until_end, self._now = every_us, until_end, now

    def list_parts(self) -> list[str]:
        """The one part there is."""
        return [PART]

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[int, int] | None) -> ClockPart:
        """The part, which goes on at the greatest time that it gave."""
        if resume_state is not None and resume_state[0] != STATE_VERSION:
            raise ConfigurationError(
                f"clock: expected recovery state of version {STATE_VERSION}, found {resume_state[0]!r}: "
                "it was written by another version of headrace"
            )
        newest_us = None if resume_state is None else resume_state[1]
        return ClockPart(self._every_us, self._until_end, self._now, newest_us)


class ClockPart(StatefulSourcePartition[Any, tuple[int, int]]):
    """The part inside a worker. Made by ClockSource."""

    def __init__(self, every_us: int, until_end: bool, now: Callable[[], int], newest_us: int | None) -> None:
        self._every_us, self._until_end, self._now = every_us, until_end, now
        self._newest_us = newest_us
        self._given = False  # in this run
        self._pacing = Pacing(1)

    def next_batch(self) -> list[Any]:
        """A Clock and its Tick where one is due, else what Pacing says; StopIteration after the end."""
        if stop.requested() or (self._until_end and self._given):
            return self._pacing.ending()
        now_us = self._now()
        if self._pacing.room == 0 or (self._given and not self._has_passed(now_us)):
            return self._pacing.idle()
        self._newest_us = now_us if self._newest_us is None else max(now_us, self._newest_us)
        self._given = True
        items: list[Any] = [Clock(self._newest_us)]
        return self._pacing.rows(items, 1)

    def next_awake(self) -> datetime | None:
        """See Pacing.next_awake."""
        return self._pacing.next_awake()

    def snapshot(self) -> tuple[int, int] | None:  # type: ignore[override]
        """(1, the greatest time given), None before the first; closes the epoch."""
        self._pacing.closed()
        return None if self._newest_us is None else (STATE_VERSION, self._newest_us)

    def _has_passed(self, now_us: int) -> bool:
        assert self._newest_us is not None
        return now_us // self._every_us > self._newest_us // self._every_us


class SourceWithClock(FixedPartitionedSource[Any, Any]):
    """A source and a clock as one source, so that one step makes the epochs of both.

    With two input steps the busy one waits at every epoch's end for the idle one to awake: 64 epochs in 3 s, where the
    two as one source make 400,000, as many as the busy one alone (empty flow, one process).
    """

    def __init__(self, source: FixedPartitionedSource[Any, Any], clock: ClockSource) -> None:
        self._source, self._clock = source, clock

    def list_parts(self) -> list[str]:
        """The source's parts and the clock's. Raises ConfigurationError where one of the source's has its name."""
        parts, own = self._source.list_parts(), self._clock.list_parts()
        if taken := [part for part in own if part in parts]:
            raise ConfigurationError(
                f"expected no partition {taken[0]!r} in a source beside a `due` step, whose clock has that name, found "
                "one: its rows would never be read; give the source a name, [source.KIND.NAME]"
            )
        return [*parts, *own]

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> StatefulSourcePartition[Any, Any]:
        """The part of either."""
        builder: FixedPartitionedSource[Any, Any] = self._clock if for_part == PART else self._source
        return builder.build_part(step_id, for_part, resume_state)
