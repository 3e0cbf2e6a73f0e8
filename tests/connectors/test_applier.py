"""The applier: it waits out a target that is down, stops the flow on fatal errors, and ends when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from connectors.base import stop
from connectors.base.applier import EXIT_CODE, Applier
from connectors.base.spool import Manifest, Spool
from libcore.errors import FatalError, TransientError
from tests.connectors.changes import STORE, batch, segment_of, table
from tests.connectors.shelf import Shelf

ITEMS = table()


@pytest.fixture(autouse=True)
def _no_stop() -> Iterator[None]:
    yield
    stop.reset()


def spooled(folder: Path, count: int) -> tuple[Spool, Manifest]:
    """A spool with that many segments of one row, 1 to count, and the manifest that names them."""
    spool = Spool(folder, "flow", 0, 1 << 24)
    files = []
    for seq in range(1, count + 1):
        parts = segment_of(batch(ITEMS, [{"id": seq}])).parts
        files.append(spool.write(seq, parts, {"truncates": []}))
    return spool, Manifest(STORE, count, tuple(files))


def test_segments_are_applied_in_order_through_an_outage(tmp_path: Path) -> None:
    """A target that goes down and comes back gets every segment once, in order."""
    shelf = Shelf()
    shelf.up.clear()
    applier = Applier(*spooled(tmp_path, 20), shelf.open(0))
    applier.start(0.05)
    assert applier.applied == -1 and shelf.ids == []
    shelf.up.set()
    assert applier.wait_until(lambda: applier.applied == 20, 30)
    applier.close()
    assert shelf.ids == list(range(1, 21)) and applier.backlog_bytes == 0


def test_what_the_target_has_already_is_skipped(tmp_path: Path) -> None:
    """A manifest names segments that were applied after it was written; they are not applied again."""
    shelf = Shelf()
    shelf.seqs[0] = 3
    applier = Applier(*spooled(tmp_path, 5), shelf.open(0))
    applier.start(5)
    applier.close()
    assert shelf.ids == [4, 5]


def test_an_error_that_nobody_notices_ends_the_process(tmp_path: Path) -> None:
    """An idle flow writes no batch that could raise, so the process must not live on without its applier."""
    shelf, statuses, ended = Shelf(), [], threading.Event()

    def exit_process(status: int) -> None:
        statuses.append(status)
        ended.set()

    spool, manifest = spooled(tmp_path, 1)
    applier = Applier(spool, Manifest(STORE), shelf.open(0), notice_s=0.05, exit_process=exit_process)
    applier.start(5)
    shelf.broken = FatalError("the shelf broke")
    applier.hand_over(manifest.files)
    assert ended.wait(10) and statuses == [EXIT_CODE]


def test_an_unexpected_error_is_fatal_too(tmp_path: Path) -> None:
    """A fault in our own code stops the flow like any other; it is not retried for ever."""
    shelf = Shelf()
    spool, manifest = spooled(tmp_path, 1)
    applier = Applier(spool, Manifest(STORE), shelf.open(0))
    applier.start(5)
    shelf.broken = ZeroDivisionError("ours")
    applier.hand_over(manifest.files)
    with pytest.raises(ZeroDivisionError):
        applier.close()


def test_an_error_ends_the_flow_though_its_log_cannot_be_written(tmp_path: Path) -> None:
    """A full disk or a closed pipe under the log: the error still reaches the worker thread, and close() returns."""
    unwritable = (tmp_path / "log").open("w")
    unwritable.close()
    former = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(unwritable))
    try:
        shelf = Shelf()
        spool, manifest = spooled(tmp_path, 1)
        applier = Applier(spool, Manifest(STORE), shelf.open(0))
        applier.start(5)
        shelf.broken = FatalError("the shelf broke")
        applier.hand_over(manifest.files)
        with pytest.raises(FatalError, match="the shelf broke"):
            applier.close()
    finally:
        structlog.configure(**former)


def test_a_stop_leaves_what_a_dead_target_does_not_take(tmp_path: Path) -> None:
    """After a stop request close() does not wait for a target that is down; nothing is lost, and nothing is raised."""
    shelf = Shelf()
    applier = Applier(*spooled(tmp_path, 3), shelf.open(0))
    shelf.up.clear()
    applier.start(0.05)
    stop.request()
    applier.close()
    assert len(list(tmp_path.iterdir())) == 3


def test_an_end_with_a_dead_target_is_an_error(tmp_path: Path) -> None:
    """At the end of the data the target must have everything: if it does not answer, the flow ends with an error."""
    shelf = Shelf()
    shelf.up.clear()
    applier = Applier(*spooled(tmp_path, 3), shelf.open(0), close_s=0.2)
    applier.start(0.05)
    with pytest.raises(TransientError, match="3 segments left"):
        applier.close()
