"""Watermarks: how far event time has come, from what each source partition has shown.

A partition's time is the greatest event time of its rows, less what may be out of order; rows of a snapshot do not
count, they come in no order. The watermark is the least of all partitions: one that has shown nothing yet holds it
back, and so does one in its snapshot. A partition without rows for `idle_after` is left out until it has some again;
time in which the flow stood still does not count.
It never falls. What is known at the end of epoch e comes out in epoch e+1: the barrier between epochs has then brought
all rows of e through every step, joins included, so the watermark may go past them, straight to the windows.

State: partition -> time, and the last watermark; a few bytes a partition, in the recovery store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.operators import StatefulBatchLogic

from flows.operators.keyed import Watermark

STATE_VERSION = 1
_KEY = "watermark"
# A longer pause between two items was not spent in silence: the flow stood still (a full spool, a suspended machine),
# and no partition could show a row.
_GAP_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a source partition had in an epoch.

    Args:
        partition: its name, unique in the flow.
        rows: rows of any table; 0 tells that the partition is there, and that an epoch went by.
        us: the greatest event time among those that are of no snapshot, microseconds since 1970; None: there is none.
    """

    partition: str
    rows: int
    us: int | None


@dataclass(frozen=True)
class WatermarkSettings:
    """How a watermark is made.

    Args:
        partitions: those that the source has: the watermark waits for each, as long as it is not idle.
        out_of_order_us: event times within a partition may be this much out of order.
        idle_after_s: a partition without rows for so long is left out.
        clock: in seconds.
    """

    partitions: tuple[str, ...] = ()
    out_of_order_us: int = 0
    idle_after_s: float = 30.0
    clock: Callable[[], float] = monotonic


@dataclass
class Progress:
    """The rule, without Bytewax: what partitions show goes in, the watermark comes out.

    Args:
        settings: see there.
        started_s: from when on a silent partition is waited for.
        times: partition -> greatest event time, None where it has shown none.
        risen_us: the last watermark.
    """

    settings: WatermarkSettings
    started_s: float
    times: dict[str, int | None] = field(default_factory=dict)
    risen_us: int | None = None
    _heard_s: dict[str, float] = field(default_factory=dict)
    _closed: dict[str, int | None] = field(default_factory=dict)  # times at the end of the last epoch

    def __post_init__(self) -> None:
        self.times = dict.fromkeys(self.settings.partitions) | self.times
        self._closed = dict(self.times)

    def see(self, seen: Seen, now_s: float) -> None:
        """Rows of a partition."""
        old = self.times.setdefault(seen.partition, None)
        if seen.rows:
            self._heard_s[seen.partition] = now_s
        if seen.us is not None and (old is None or seen.us > old):
            self.times[seen.partition] = seen.us

    def epoch_ends(self) -> None:
        """What was seen so far may count from now on."""
        self._closed = dict(self.times)

    def rise(self, now_s: float) -> int | None:
        """The watermark where it is above the last one, else None."""
        busy = [us for partition, us in self._closed.items() if self.idle_at_s(partition) > now_s]
        times = [us for us in busy if us is not None]
        if not times or len(times) < len(busy):
            return None
        us = min(times) - self.settings.out_of_order_us
        if self.risen_us is not None and us <= self.risen_us:
            return None
        self.risen_us = us
        return us

    def idle_at_s(self, partition: str) -> float:
        """When the partition is left out unless it has rows before."""
        return self._heard_s.get(partition, self.started_s) + self.settings.idle_after_s


@operator
def watermarks(step_id: str, up: Stream[Seen], settings: WatermarkSettings) -> Stream[Watermark]:
    """Watermarks from what all partitions show, in one place.

    Args:
        step_id: unique name of the step; part of the recovery store.
        up: Seen items of all source partitions; at least one in the epoch behind one with rows.
        settings: see there.
    """
    keyed = op.key_on("key", up, _one_key)
    return op.map("out", op.stateful_batch("progress", keyed, _Builder(settings)), _without_key)


def _one_key(_seen: Seen) -> str:
    return _KEY


def _without_key(item: tuple[str, Watermark]) -> Watermark:
    return item[1]


class _Builder:
    def __init__(self, settings: WatermarkSettings) -> None:
        self._settings = settings

    def __call__(self, state: tuple[Any, ...] | None) -> ProgressLogic:
        return ProgressLogic(self._settings, state)


class ProgressLogic(StatefulBatchLogic):
    """Progress as Bytewax sees it. After a restart the last watermark comes again, as slots may have moved.

    Time that passes shows with the next Seen, of which idle partitions bring one a second: a timer's watermark would
    change the windows' state in an epoch that brings the sink nothing, and nobody would wait for the state's file.
    """

    def __init__(self, settings: WatermarkSettings, state: tuple[Any, ...] | None) -> None:
        self._clock = settings.clock
        times, risen = (dict(state[1]), state[2]) if state is not None else ({}, None)
        self._now_s, self._seen_s = 0.0, self._clock()  # time that counts, see _GAP_S_MAX
        self._progress = Progress(settings, self._now_s, times, risen)
        self._again = risen

    def on_batch(self, values: Iterable[Seen]) -> tuple[list[Watermark], bool]:
        """First what former epochs allow, then what this one shows."""
        self._count_time()
        found = self._risen()
        for seen in values:
            self._progress.see(seen, self._now_s)
        return found, False

    def snapshot(self) -> tuple[Any, ...]:
        """The end of an epoch."""
        self._progress.epoch_ends()
        return (STATE_VERSION, tuple(self._progress.times.items()), self._progress.risen_us)

    def _count_time(self) -> None:
        now_s = self._clock()
        self._now_s += min(max(0.0, now_s - self._seen_s), _GAP_S_MAX)
        self._seen_s = now_s

    def _risen(self) -> list[Watermark]:
        us, again = self._progress.rise(self._now_s), self._again
        self._again = None
        found = us if us is not None else again
        return [] if found is None else [Watermark(found)]
