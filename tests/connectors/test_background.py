"""A source's reading thread: what an epoch takes of it, a reader made anew, bounds of what is read ahead."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import background
from connectors.base.background import BackgroundPartition, Piece, snapshot_share
from connectors.base.items import Tick
from libcore.errors import TransientError


@given(st.lists(st.tuples(st.integers(1, 20_000), st.integers(1, 8 << 20)), min_size=1), st.integers(1, 20_000))
def test_an_epoch_of_a_snapshot_is_bounded_in_rows_and_bytes(pieces: list[tuple[int, int]], rows_max: int) -> None:
    """Whatever pieces fill a quota: five batches of rows and 32 MB at most, but for a piece that is more by itself."""
    pieces = [(min(rows, rows_max), size) for rows, size in pieces]
    shares = [snapshot_share(rows, size, rows_max) for rows, size in pieces]
    assert all(1 <= share <= rows for share, (rows, _) in zip(shares, pieces, strict=True))
    taken = sum(1 for total in itertools.accumulate(shares) if total <= rows_max)
    assert sum(rows for rows, _ in pieces[:taken]) <= 5 * rows_max
    # a row is a share at least: rows too wide for the bytes' bound come one batch an epoch, as changes do
    narrow = [size for (rows, size), share in zip(pieces[:taken], shares, strict=False) if share < rows]
    assert sum(narrow) <= 32 << 20


def test_a_snapshot_takes_five_narrow_batches_or_two_wide_ones() -> None:
    """By example: 2 MB a batch of 20,000 rows, and 16 MB a batch."""
    assert snapshot_share(20_000, 2 << 20, 20_000) == 4_000
    assert snapshot_share(20_000, 16 << 20, 20_000) == 10_000


class Numbers:
    """A reader of numbers, which fails transiently now and then, and tells what was durable."""

    told: list[int]

    def __init__(self, state: tuple[Any, ...], told: list[int], failing: set[int]) -> None:
        self._next, self.told, self._failing = state[1], told, failing

    def pieces(self) -> Any:
        while self._next < 60:
            if self._next in self._failing:
                self._failing.discard(self._next)
                raise TransientError("not now")
            self._next += 1
            yield Piece([], 1, (1, self._next), size=10)

    def durable(self, state: tuple[Any, ...]) -> None:
        self.told.append(state[1])

    def close(self) -> None:
        self._next = 1000


ROWS = Tick("rows")


class Fast:
    """A reader of rows that come faster than epochs are worth it: 2,000 a millisecond, or what the machine can."""

    def __init__(self, pieces: int) -> None:
        self._left = pieces

    def pieces(self) -> Any:
        while self._left:
            self._left -= 1
            time.sleep(0.001)
            yield Piece([ROWS], 2_000, (1, self._left), size=10)

    def durable(self, state: tuple[Any, ...]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def test_fast_rows_come_in_few_epochs_and_all_of_them() -> None:
    """An epoch waits a moment for its quota of 20,000 rows where they come at over 50,000 a second, and for no more."""
    partition = BackgroundPartition(
        "n", lambda state: Fast(100), (1, 0), rows_max=20_000, queued_bytes_max=1 << 20, poll_s=0.01
    )
    epochs: list[int] = []
    while True:
        try:
            pieces = sum(item is ROWS for item in partition.next_batch())
        except StopIteration:
            break
        epochs += [pieces] if pieces else []
        partition.snapshot()
        time.sleep(0.0005)  # an epoch's own time: without a wait each would bring a piece or two
    partition.close()
    assert sum(epochs) == 100
    assert max(epochs) <= 10
    assert len(epochs) <= 50, epochs


def test_a_partition_goes_on_after_transient_errors_and_tells_durable_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost or doubled by a reader made anew; a state is told two epochs after its own, never sooner."""
    monkeypatch.setattr(background, "_RETRY_S_MIN", 0.001)
    told: list[int] = []
    failing = {5, 23, 24}
    partition = BackgroundPartition(
        "n", lambda state: Numbers(state, told, failing), (1, 0), rows_max=7, queued_bytes_max=50, poll_s=0.01
    )
    snapshots: list[int] = []
    while True:
        try:
            partition.next_batch()
        except StopIteration:
            break
        assert told == [] or told[-1] <= (snapshots[-2] if len(snapshots) > 1 else -1)
        snapshots.append(partition.snapshot()[1])
        time.sleep(0.001)
    partition.close()
    assert snapshots == sorted(snapshots)
    assert (snapshots[-1], failing) == (60, set())
    assert all(after - before <= 7 for before, after in itertools.pairwise(snapshots))


_FAILING = """
import sys, time
from connectors.base.background import BackgroundPartition, Piece

class Endless:
    def pieces(self):
        while True:
            time.sleep(0.01)
            yield Piece([], 1, (1,))
    def durable(self, state): pass
    def close(self): print("closed", flush=True)

part = BackgroundPartition("p", lambda state: Endless(), (1,), rows_max=1, queued_bytes_max=1 << 20, poll_s=1)
time.sleep(0.1)
sys.exit("the flow failed")
"""


def test_a_process_that_fails_ends_its_readers_first() -> None:
    """No reading thread is left in C code when the interpreter is taken down, though nobody closed the partition."""
    ended = subprocess.run([sys.executable, "-c", _FAILING], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.returncode) == ("closed\n", 1)


class Leaving(BackgroundPartition):
    """Its reader leaves between any two looks at it."""

    @property
    def _reader(self) -> Any:
        found, self._held = self._held, None
        return found

    @_reader.setter
    def _reader(self, reader: Any) -> None:
        self._held = reader


def test_a_reader_that_leaves_when_it_is_to_be_told() -> None:
    """The reading thread may give its reader up while the worker tells it what is durable: that ends nothing."""
    told: list[int] = []
    partition = Leaving(
        "n", lambda state: Numbers(state, told, set()), (1, 0), rows_max=7, queued_bytes_max=50, poll_s=0.01
    )
    time.sleep(0.05)  # it waits for room
    for _ in range(3):
        partition.next_batch()
        partition.snapshot()
    partition.close()
    assert len(told) == 1


def test_a_full_queue_holds_the_reader_and_a_stop_frees_it() -> None:
    """No more is read ahead than the bound in bytes; close ends a reader that waits for room."""
    before = threading.active_count()
    partition = BackgroundPartition(
        "n", lambda state: Numbers(state, [], set()), (1, 0), rows_max=7, queued_bytes_max=50, poll_s=0.01
    )
    time.sleep(0.05)
    assert partition._queue._bytes == 50
    partition.close()
    assert threading.active_count() == before
