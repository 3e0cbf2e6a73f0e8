"""What every source keeps: the decoder's contract, and the pacing of epochs and ticks.

With an epoch interval of 0 a `next_batch` is an epoch. The rules below hold under any other interval too:

- an epoch with rows ends with one Tick, so every sink part is awoken and writes its segment;
- an epoch with rows is followed by an epoch with a Tick even if no rows come, so that the segment is applied;
- at most `rows_max` rows an epoch, whatever its length, so memory in flight is bounded;
- at the end (of the data, or at a stop request): one more epoch with a Tick, then StopIteration.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from time import monotonic, time
from typing import Protocol

import pyarrow as pa

from connectors.base.items import Item, Tick
from connectors.base.metrics import EPOCH_AT, EPOCHS

RAW_SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
    ]
)
"""Raw messages as a reader hands them to a decoder; timestamp_ms is -1 where the broker keeps none."""

IDLE_MS_MIN, IDLE_MS_MAX = 12.5, 50.0


class Decoder(Protocol):
    """Raw messages of one source partition -> items. Deterministic: its state and its input decide its output."""

    @property
    def state(self) -> object:
        """What a decoder of the same partition needs to go on after the messages consumed so far.

        Immutable and picklable, and small: it is written to the recovery store in every epoch.
        """

    def decode(self, messages: pa.RecordBatch) -> tuple[list[Item], int]:
        """Items of the first messages, and how many messages they are; the caller brings the rest again.

        A Truncate comes alone, a ClearColumn in front of all rows. Consumed is at least 1 where there is a message.
        Raises an error of libcore.errors, logged, where going on is not allowed.
        """


class Pacing:
    """Counts one source partition's rows per epoch and says when a Tick is due.

    Args:
        rows_max: rows (messages) an epoch may bring.
        partition: the source partition's name, for its Ticks.
        beat_s: an idle partition brings a Tick that often, for a step that watches time; 0: never.
    """

    def __init__(self, rows_max: int, *, beat_s: float = 0.0, partition: str = "") -> None:
        self._tick = Tick(partition)
        self._rows_max = rows_max
        self._beat_s, self._beat_at = beat_s, 0.0
        self._spent = 0  # messages taken in the open epoch
        self._fresh = True  # no item but a Tick came in the open epoch
        self._alone = False  # the open epoch takes nothing more, whatever its rows
        self._tick_owed = False  # the newest epoch with rows is not yet followed by one with a Tick
        self._ended = False
        self._idle_ms = IDLE_MS_MIN
        self._awake: datetime | None = None

    @property
    def room(self) -> int:
        """Rows that the open epoch may still take."""
        return 0 if self._alone or self._ended else max(0, self._rows_max - self._spent)

    @property
    def fresh(self) -> bool:
        """Whether the open epoch has brought nothing yet but perhaps a Tick."""
        return self._fresh

    def rows(self, items: list[Item], count: int, *, alone: bool = False) -> list[Item]:
        """The items of `count` messages, closed by a Tick; `alone`: nothing else may follow in this epoch."""
        self._spent += count
        self._fresh = False
        self._alone = self._alone or alone
        self._idle_ms, self._awake = IDLE_MS_MIN, None
        return [*items, self._tick]

    def nothing(self, count: int) -> list[Item]:
        """What to return for `count` messages that rightly gave no item: they use up room, but owe no Tick."""
        self._spent += count
        self._awake = None
        return self._owed()

    def idle(self) -> list[Item]:
        """What to return when nothing is queued: the Tick that is owed, or nothing."""
        self._awake = _grid(self._idle_ms)
        self._idle_ms = min(IDLE_MS_MAX, self._idle_ms * 2)
        return self._owed()

    def wait(self, seconds: float) -> list[Item]:
        """What to return where an epoch's rows come in a moment: nothing, not even the Tick that is owed."""
        self._awake = datetime.now(UTC) + timedelta(seconds=seconds)
        return []

    def ending(self) -> list[Item]:
        """What to return at the end: waits for the open epoch, then one Tick. Raises StopIteration after that."""
        if self._ended:
            raise StopIteration
        if not self.fresh:
            self._awake = _grid(IDLE_MS_MIN)
            return []
        self._ended, self._awake = True, None
        return [self._tick]

    def closed(self) -> None:
        """The epoch is over: to be called in snapshot()."""
        self._tick_owed = self._tick_owed or not self._fresh
        self._spent, self._fresh, self._alone = 0, True, False
        EPOCHS.inc()
        EPOCH_AT.set_to_current_time()

    def _owed(self) -> list[Item]:
        beat = self._beat_s > 0 and monotonic() - self._beat_at >= self._beat_s
        if (self._tick_owed or beat) and self.fresh:
            self._tick_owed, self._beat_at = False, monotonic()
            return [self._tick]
        return []

    def next_awake(self) -> datetime | None:
        """When next_batch is to be called again; None: at once after items, else as Bytewax sees fit."""
        return self._awake


def _grid(wait_ms: float) -> datetime:
    """The next multiple of `wait_ms` on the wall clock: idle partitions awake together, in one epoch, not in many."""
    step = wait_ms / 1000
    return datetime.fromtimestamp((math.floor(time() / step) + 1) * step, UTC)
