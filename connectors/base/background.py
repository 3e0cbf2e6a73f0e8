"""A source partition whose reader works in a thread of its own, so that next_batch never waits for the other side.

The reader's pieces wait in a queue bounded in bytes. Its state behind each piece is what the recovery store keeps. A
TransientError costs the reader, not the flow: a new one begins behind the last piece that was queued.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import structlog
from bytewax.inputs import StatefulSourcePartition

from connectors.base import stop
from connectors.base.items import Item
from connectors.base.metrics import POSITION_AGE
from connectors.base.source import Pacing
from libcore.errors import TransientError

_RETRY_S_MIN, _RETRY_S_MAX = 0.1, 10.0
_JOIN_S = 10.0
_EXIT_S = 2.0
_SNAPSHOT_BATCHES, _SNAPSHOT_BYTES = 5, 32 << 20  # what an epoch of a snapshot takes
# From that many rows a second on an epoch waits so long for its quota: an epoch costs a synced file for each part of a
# sink, and a slot's backlog came in epochs of 2,000 rows (150,000 a second), which took half of the worker's time.
_FAST_PER_S, _MORE_S, _MORE_S_MIN = 50_000, 0.1, 0.002
_log = structlog.get_logger()
_running: weakref.WeakSet[BackgroundPartition] = weakref.WeakSet()


@dataclass(frozen=True)
class Piece:
    """What a reader found next.

    Args:
        items: batches, and perhaps a marker; none where only the state went on.
        rows: how many rows they use up of an epoch's quota; at most what the reader was told an epoch takes.
        state: what a reader needs to go on behind this piece: plain values, small, beginning with a version.
        size: bytes that it holds in memory.
        alone: nothing else may come in its epoch (a Truncate).
        at: Unix seconds of the newest change up to there, as the source has it; 0: now.
    """

    items: list[Item]
    rows: int
    state: tuple[Any, ...]
    size: int = 0
    alone: bool = False
    at: float = 0.0


def snapshot_share(rows: int, size: int, rows_max: int) -> int:
    """How much of an epoch's quota rows of a snapshot use up: less than a change each, as nobody waits for the first.

    An epoch costs a synced file for each part of the sink, whatever it brings: with five batches each, 3 M rows came
    at 0.67 of a bare COPY's rate instead of 0.42.

    Args:
        rows, size: of a piece, size in bytes. rows_max: an epoch's quota.
    """
    share = max(rows / _SNAPSHOT_BATCHES, size * rows_max / _SNAPSHOT_BYTES)
    return min(rows_max, rows, math.ceil(share))


class PieceReader(Protocol):
    """Reads one ordered log. Used by one thread, but for `durable`."""

    def pieces(self) -> Iterator[Piece | None]:
        """Pieces in order; None: nothing now, ask again in a moment. Ends at the end of the data.

        Raises TransientError to be made anew, any other error of libcore.errors to stop the flow.
        """

    def durable(self, state: tuple[Any, ...]) -> None:
        """This state is in the recovery store: nothing before it will be asked for again. Called from another thread.

        The source may be told so (a slot's confirmed position), files kept for a restart may go.
        """

    def close(self) -> None:
        """Give everything back; called by the reading thread."""


class PositionAge:
    """How old a partition's durable position is. Told by two threads, asked by any.

    Args:
        now: the clock, in Unix seconds. A process begins with an age of 0.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._queued = self._durable = 0  # pieces
        self._durable_at = self._end_at = now()

    def queued(self) -> None:
        """One more piece was read."""
        self._queued += 1

    def at_end(self) -> None:
        """The reader found nothing more."""
        self._end_at = self._now()

    def durable(self, pieces: int, at: float) -> None:
        """So many pieces are durable, up to a change of that moment."""
        self._durable, self._durable_at = pieces, max(at, self._durable_at)

    def seconds(self) -> float:
        """The age; grows while something waits to become durable, or while nobody reads."""
        at = self._durable_at if self._durable < self._queued else max(self._durable_at, self._end_at)
        return max(0.0, self._now() - at)


class BackgroundPartition(StatefulSourcePartition[Item, tuple[Any, ...]]):
    """One source partition inside a worker.

    Args:
        name: the partition's, for Ticks and logs.
        open_reader: makes a reader that goes on behind a state.
        state: where to begin.
        rows_max: rows of one epoch.
        queued_bytes_max: bytes of pieces read ahead; one piece is taken however large it is.
        poll_s: how long to wait after a reader had nothing.
        beat_s: see Pacing.
    """

    def __init__(
        self,
        name: str,
        open_reader: Callable[[tuple[Any, ...]], PieceReader],
        state: tuple[Any, ...],
        *,
        rows_max: int,
        queued_bytes_max: int,
        poll_s: float,
        beat_s: float = 0.0,
    ) -> None:
        self._name, self._open_reader, self._poll_s = name, open_reader, poll_s
        self._pacing = Pacing(rows_max, beat_s=beat_s, partition=name)
        self._state = state  # behind what was brought
        # of the newest closed epochs, oldest first: state, pieces taken, the newest one's moment
        self._closed_states: deque[tuple[tuple[Any, ...], int, float]] = deque(maxlen=2)
        self._taken, self._at = 0, 0.0
        self._rows_max, self._per_s, self._opened_at = rows_max, 0.0, 0.0  # of epochs with rows
        self._age = PositionAge()
        POSITION_AGE.labels(name).set_function(self._age.seconds)
        self._queue = _Queue(queued_bytes_max)
        self._reader: PieceReader | None = None
        self._thread = threading.Thread(target=self._read, args=(state,), name=f"source {name}", daemon=True)
        self._thread.start()
        _running.add(self)

    def next_batch(self) -> list[Item]:
        """Items of one epoch, or none; StopIteration after the end. Raises what the reader raised."""
        try:
            return self._next()
        except StopIteration:
            raise
        except Exception as error:  # in a cluster Bytewax loses the exception's text
            _log.error("source failed", partition=self._name, error=f"{type(error).__name__}: {error}")
            raise

    def next_awake(self) -> datetime | None:
        """See Pacing.next_awake."""
        return self._pacing.next_awake()

    def snapshot(self) -> tuple[Any, ...]:
        """The reader's state behind what was brought; closes the epoch."""
        self._pacing.closed()
        self._closed_states.append((self._state, self._taken, self._at))
        return self._state

    def close(self) -> None:
        """Ends the reading thread."""
        self._queue.stop()
        self._thread.join(_JOIN_S)
        with suppress(KeyError):
            POSITION_AGE.remove(self._name)

    def _next(self) -> list[Item]:
        if len(self._closed_states) == 2:
            # A source closes its second epoch only after the first is durable, and a third is open now.
            state, pieces, at = self._closed_states[0]
            self._age.durable(pieces, at)
            reader = self._reader  # looked at once: its thread may give it up meanwhile
            if reader is not None:
                reader.durable(state)
        if stop.requested():
            return self._pacing.ending()
        fresh = self._pacing.fresh
        if fresh and (wait_s := self._wait_for_more_s()) > 0:
            return self._pacing.wait(wait_s)
        items: list[Item] = []
        rows, taken, alone = 0, 0, False
        while not alone and (piece := self._queue.take(self._fits(rows, taken))) is not None:
            items += piece.items
            rows, taken, alone, self._state = rows + piece.rows, taken + 1, piece.alone, piece.state
            self._at = piece.at
        self._taken += taken
        if fresh and rows:
            now = time.monotonic()
            self._per_s, self._opened_at = rows / max(now - self._opened_at, 1e-6), now
        if taken:
            return self._pacing.rows(items, rows, alone=alone) if items else self._pacing.nothing(rows)
        return self._pacing.ending() if self._queue.finished() else self._pacing.idle()

    def _wait_for_more_s(self) -> float:
        """How long an epoch that is to begin now had better wait, as rows come fast; 0: not at all."""
        left_s = self._opened_at + _MORE_S - time.monotonic()
        missing = self._rows_max - self._queue.rows
        if self._per_s < _FAST_PER_S or left_s <= 0 or missing <= 0 or not self._queue.has_room:
            return 0.0
        return max(_MORE_S_MIN, min(left_s, missing / self._per_s))

    def _fits(self, rows: int, taken: int) -> Callable[[Piece], bool]:
        def fits(piece: Piece) -> bool:
            first = not taken and self._pacing.fresh
            if piece.alone:
                return first
            return piece.rows <= self._pacing.room - rows or (first and self._pacing.room > 0)

        return fits

    def _read(self, state: tuple[Any, ...]) -> None:
        wait_s = _RETRY_S_MIN
        while not self._queue.stopped:
            try:
                reader = self._open_reader(state)
                self._reader = reader
                try:
                    for piece in reader.pieces():
                        if piece is None:
                            self._age.at_end()
                            if self._queue.pause(self._poll_s):
                                return
                            continue
                        self._age.queued()
                        if not self._queue.put(piece if piece.at else replace(piece, at=time.time())):
                            return
                        state, wait_s = piece.state, _RETRY_S_MIN
                finally:
                    self._reader = None
                    reader.close()
                self._queue.finish(None)
                return
            except TransientError as error:
                _log.warning("source does not answer", partition=self._name, error=str(error), again_in_s=wait_s)
                self._queue.pause(wait_s)
                wait_s = min(_RETRY_S_MAX, wait_s * 2)
            except BaseException as error:
                self._queue.finish(error)
                return


@atexit.register
def _end_threads() -> None:
    """A process that fails closes no partition, and takes the interpreter down under the threads that still run.

    One that is in C then may end the process by a signal, which hides the error: Arrow's aggregations come back for the
    interpreter's lock.
    """
    running, until = list(_running), time.monotonic() + _EXIT_S
    for partition in running:
        partition._queue.stop()
    for partition in running:
        partition._thread.join(max(0.0, until - time.monotonic()))


class _Queue:
    """Pieces between the reading thread and the worker; bounded in bytes, woken at a stop."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self.rows = 0
        self._pieces: deque[Piece] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = self.stopped = False

    def put(self, piece: Piece) -> bool:
        """Wait for room and add it; False at a stop."""
        with self._changed:
            while self._pieces and self._bytes + piece.size > self._bytes_max and not self.stopped:
                self._changed.wait()
            if not self.stopped:
                self._pieces.append(piece)
                self._bytes += piece.size
                self.rows += piece.rows
            return not self.stopped

    def take(self, fits: Callable[[Piece], bool]) -> Piece | None:
        """The next piece, where there is one and it fits."""
        with self._changed:
            if not self._pieces or not fits(self._pieces[0]):
                return None
            piece = self._pieces.popleft()
            self._bytes -= piece.size
            self.rows -= piece.rows
            self._changed.notify_all()
            return piece

    @property
    def has_room(self) -> bool:
        """Whether it is worth waiting for more: it may come, and the queue is less than half full."""
        return not self._ended and self._bytes < self._bytes_max // 2

    def finish(self, error: BaseException | None) -> None:
        """No piece comes any more."""
        with self._changed:
            self._ended, self._error = True, error

    def finished(self) -> bool:
        """Whether all pieces are taken and none comes any more. Raises what the reader raised."""
        with self._changed:
            if self._pieces or not self._ended:
                return False
            if self._error is not None:
                raise self._error
            return True

    def pause(self, seconds: float) -> bool:
        """Wait; True at a stop, which ends the wait."""
        with self._changed:
            return self._changed.wait_for(lambda: self.stopped, seconds)

    def stop(self) -> None:
        """Wake and end the reading thread."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()
