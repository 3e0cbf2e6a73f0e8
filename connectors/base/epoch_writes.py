"""Files that an epoch's end writes in threads of their own, while the worker goes on with what is left of the epoch.

A keyed step's snapshot comes before that of the sink, in every epoch: the sink closes an epoch only after every step on
every worker has, and the recovery store only after the sink has. So a state file may be written while the worker
gathers what the next step and the sink have to write; the sink's parts wait for all of this worker's files before they
give their manifests. A crash in between finds the epoch open, and the files unnamed.

Where no part of the sink lives in this worker, nobody would wait: then a file is written at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_THREADS = 4  # most of their time is the disk's


class EpochWrites:
    """One worker's. Used by the worker thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "epoch-write")
        self._waited_for = False
        self._open: list[Future[Any]] = []

    def will_wait(self) -> None:
        """Say that a sink part of this worker calls `wait` at the end of every epoch that brought an item."""
        self._waited_for = True

    def write(self, function: Callable[..., T], *arguments: Any, at_once: bool = False) -> Future[T]:
        """Call a function that writes; done at the latest when `wait` returns.

        Args:
            at_once: the epoch may bring no item to the sink: done when this returns.
        Returns: its answer. What it raises is raised here where it is done at once, else by `wait`.
        """
        if at_once or not self._waited_for:
            done: Future[T] = Future()
            done.set_result(function(*arguments))
            return done
        future = self._pool.submit(function, *arguments)
        self._open.append(future)
        return future

    def together(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Call a function in a thread, of which the caller himself waits for the answer."""
        return self._pool.submit(function, *arguments)

    def wait(self) -> None:
        """Wait until every file of this epoch is written. Raises what the first that failed raised."""
        open_, self._open = self._open, []
        for future in open_:
            future.result()
