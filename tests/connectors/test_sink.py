"""The spooled sink without and with Bytewax: what is handed over when, bounds, errors, and a resumed flow."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from connectors.base import stop
from connectors.base.items import ClearColumn, Fence, Marker, Tick, Truncate
from connectors.base.metrics import SPOOL_BYTES, SPOOL_DISK_BYTES
from connectors.base.sink import SinkPart, SpooledSink
from connectors.null.config import NullConfig
from connectors.null.sink import NullTarget
from libcore.errors import CapacityError, ConfigurationError, FatalError
from tests.connectors.changes import batch, table
from tests.connectors.shelf import Shelf

ITEMS = table()
MIB = 1 << 20
TICK = [Tick()]


@pytest.fixture(autouse=True)
def _no_stop() -> Iterator[None]:
    yield
    stop.reset()


def changes(*ids: int, size: int = 1) -> Any:
    return batch(ITEMS, [{"id": number, "name": "x" * size} for number in ids])


def sink_at(folder: Path, target: Any, parts: int = 1, bytes_max: int = MIB) -> SpooledSink:
    return SpooledSink("flow", parts, folder, bytes_max, "store-1", target)


def part_of(sink: SpooledSink, state: Any = None, part: str = "0") -> SinkPart:
    return sink.build_part("sink", part, state)


def applied(part: SinkPart, seq: int) -> None:
    """Wait for the applier to have a segment in the target."""
    part._applier.wait_until(lambda: part._applier.applied >= seq, 5)


def test_a_segment_waits_until_its_epoch_is_durable(tmp_path: Path) -> None:
    """Nothing reaches the target before the write that proves the epoch of the rows durable."""
    shelf = Shelf()
    part = part_of(sink_at(tmp_path, shelf))
    part.write_batch([changes(1, 2)])
    state = part.snapshot()
    part.close()
    assert shelf.ids == [] and state[2] == 1
    part = part_of(sink_at(tmp_path, shelf), state)  # the epoch was durable: its state came back
    part.close()
    assert shelf.ids == [1, 2]


def test_a_replay_with_other_borders_loses_nothing(tmp_path: Path) -> None:
    """A crash after snapshot() and before the epoch is durable: the file is thrown away, the replay brings the rows."""
    shelf = Shelf()
    part = part_of(sink_at(tmp_path, shelf))
    part.write_batch([changes(1)])
    durable = part.snapshot()
    part.write_batch([changes(2, 3)])
    part.snapshot()  # never durable
    part.close()
    part = part_of(sink_at(tmp_path, shelf), durable)
    assert len(list(tmp_path.iterdir())) == 1
    for rows in (changes(2), changes(3, 4), None):
        part.write_batch(TICK if rows is None else [rows])
        part.snapshot()
    part.close()
    assert shelf.ids == [1, 2, 3, 4]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=12), st.sets(st.integers(0, 11)))
def test_any_crash_resumes_exactly(
    tmp_path_factory: pytest.TempPathFactory, epochs: list[list[int]], crashes: set[int]
) -> None:
    """Whatever epochs come and after whichever of them the process dies, each row is applied once, in order."""
    shelf, sink = Shelf(), None
    sink = sink_at(tmp_path_factory.mktemp("spool"), shelf)
    numbers = iter(range(1000))
    rows = [[next(numbers) for _ in epoch] for epoch in epochs]
    part, state = part_of(sink), None
    for index, ids in enumerate(rows):
        if index in crashes:
            part.write_batch([changes(*ids)] if ids else TICK)
            part.snapshot()  # an epoch that does not become durable
            part.close()
            part = part_of(sink, state)
        part.write_batch([changes(*ids), *TICK] if ids else TICK)
        state = part.snapshot()
    part.write_batch(TICK)
    part.snapshot()
    part.close()
    assert shelf.ids == [number for ids in rows for number in ids]


def test_files_go_when_no_durable_manifest_names_them(tmp_path: Path) -> None:
    """An applied segment's file outlives the epoch whose manifest still names it, by exactly one epoch."""
    part = part_of(sink_at(tmp_path, Shelf()))
    part.write_batch([changes(1)])
    part.snapshot()
    part.write_batch(TICK)
    applied(part, 1)
    assert len(list(tmp_path.iterdir())) == 1
    part.snapshot()
    assert len(list(tmp_path.iterdir())) == 1
    part.write_batch(TICK)
    part.close()  # waits for deletes under way, begins none
    assert list(tmp_path.iterdir()) == []


def test_the_metric_says_what_waits_for_the_target(tmp_path: Path) -> None:
    """Bytes wait from the writing of a segment until it is applied, over a restart too; then it is 0, files or not."""
    waiting, on_disk = SPOOL_BYTES.labels("0")._value.get, SPOOL_DISK_BYTES.labels("0")._value.get
    shelf = Shelf()
    sink = sink_at(tmp_path, shelf)
    part = part_of(sink)
    shelf.up.clear()
    for number in range(3):
        part.write_batch([changes(number)])
        state = part.snapshot()
        assert waiting() == on_disk() == sum(path.stat().st_size for path in tmp_path.iterdir()) > 0
    stop.request()  # or close() would wait for the target
    part.close()
    stop.reset()
    part = part_of(sink, state)
    assert waiting() == on_disk() > 0
    shelf.up.set()
    applied(part, 3)
    assert waiting() == 0 and on_disk() > 0
    part.close()


def test_changes_of_a_key_are_compacted(tmp_path: Path) -> None:
    """A segment has one row per key; a table without a key keeps equal rows that were added."""
    keyless = table("log", (), id="int64")
    shelf = Shelf()
    part = part_of(sink_at(tmp_path, shelf))
    part.write_batch([changes(1), changes(1, 2), batch(keyless, [{"id": 7}] * 2)])
    part.snapshot()
    part.write_batch(TICK)
    applied(part, 1)
    part.close()
    assert shelf.ids == [1, 2, 7, 7]


def test_a_full_spool_waits_for_the_target(tmp_path: Path) -> None:
    """While the target is down the spool grows to its bound and no further; then write_batch waits, and goes on."""
    shelf = Shelf()
    part = part_of(sink_at(tmp_path, shelf, bytes_max=100_000))
    shelf.up.clear()
    done = threading.Event()
    most = 0

    def feed() -> None:
        for number in range(30):
            part.write_batch([changes(number, size=8000)])
            part.snapshot()
        done.set()

    thread = threading.Thread(target=feed)
    thread.start()
    for _ in range(40):
        if done.wait(0.02):
            break
        most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert not done.is_set() and 40_000 < most <= 100_000
    shelf.up.set()
    assert done.wait(15)
    thread.join()
    part.write_batch(TICK)
    part.close()
    assert shelf.ids == list(range(30))


def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    """A stop request while the target is down closes the epoch in hand; the spool keeps the rest for the next start."""
    shelf = Shelf()
    sink = sink_at(tmp_path, shelf, bytes_max=100_000)
    part = part_of(sink)
    shelf.up.clear()
    timer = threading.Timer(0.2, stop.request)
    timer.start()
    number = 0
    while not stop.requested():
        part.write_batch([changes(number, size=8000)])
        state = part.snapshot()
        number += 1
    part.write_batch(TICK)
    state = part.snapshot()
    part.close()
    stop.reset()
    shelf.up.set()
    part_of(sink, state).close()
    assert shelf.ids == list(range(number))


def test_a_segment_above_a_quarter_is_refused(tmp_path: Path) -> None:
    """A bound too small for one epoch stops the flow and names the setting."""
    part = part_of(sink_at(tmp_path, Shelf(), bytes_max=1000))
    part.write_batch([changes(1, size=5000)])
    with pytest.raises(CapacityError, match="spool_bytes_max"):
        part.snapshot()
    part.close()


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    """A segment that the disk does not take ends the flow with its reason in the log: a cluster loses the exception."""
    part = part_of(sink_at(tmp_path / "spool", Shelf()))
    (tmp_path / "spool").rmdir()
    part.write_batch([changes(1)])
    with capture_logs() as logs, pytest.raises(FileNotFoundError):
        part.snapshot()
    part.close()
    assert [one["event"] for one in logs] == ["a segment could not be spooled"]
    assert "No such file" in logs[0]["error"]


def test_a_foreign_target_refuses_the_start(tmp_path: Path) -> None:
    """A target of another state directory, ahead of it or behind it, is refused with the ways out."""
    with pytest.raises(FatalError, match=r"written from another state directory .* set the shelf to 0"):
        part_of(sink_at(tmp_path, Shelf("store-2")))
    ahead = Shelf()
    ahead.seqs[0] = 3
    with pytest.raises(FatalError, match="the target is ahead: it holds segment 3, this state directory ends at 0"):
        part_of(sink_at(tmp_path, ahead))
    with pytest.raises(FatalError, match=r"the target is behind: it holds segment 0, and segment 1 is no longer"):
        part_of(sink_at(tmp_path, Shelf()), (1, "store-1", 5, ()))


def test_a_fatal_error_of_the_applier_stops_the_flow(tmp_path: Path) -> None:
    """What ends the applier is raised by the part's next write."""
    shelf = Shelf()
    part = part_of(sink_at(tmp_path, shelf))
    part.write_batch([changes(1)])
    part.snapshot()
    shelf.broken = FatalError("the shelf broke")
    part.write_batch(TICK)
    with pytest.raises(FatalError, match="the shelf broke"):
        part._applier.wait_until(lambda: False, 5)
    with pytest.raises(FatalError, match="the shelf broke"):
        part.write_batch(TICK)
    part.close()


@pytest.mark.parametrize(
    "marker",
    [Truncate(ITEMS.name, "t:0:1"), ClearColumn(ITEMS.name, "name", "t:0:1"), Fence(ITEMS.name, "t:0:1", True)],
    ids=repr,
)
def test_rows_behind_a_marker_go_to_the_next_segment(tmp_path: Path, marker: Marker) -> None:
    """A truncate, a cleared column or a fence ends its segment: later rows of that table come in another."""
    sink = sink_at(tmp_path, Shelf())
    part = part_of(sink)
    part.write_batch([changes(1), marker, changes(2)])
    seqs = [file[0] for file in part.snapshot()[3]]
    part.write_batch(TICK)
    part.close()
    assert seqs == [1, 2] and sink._target.ids == [1, 2] and sink._target.recorded == {"t:0:1": {0}}


def test_a_fence_is_told_when_its_epoch_is_durable(tmp_path: Path) -> None:
    """Not at its snapshot, which a crash may undo, but at the write behind it; once."""
    told: list[Fence] = []
    sink = SpooledSink("flow", 1, tmp_path, MIB, "store-1", Shelf(), passed=told.append)
    part, fence = part_of(sink), Fence(ITEMS.name, "route:1", True)
    part.write_batch([changes(1), fence, *TICK])
    part.snapshot()
    assert told == []
    part.write_batch(TICK)
    part.snapshot()
    part.write_batch(TICK)
    part.close()
    assert told == [fence]


def test_a_part_with_a_marker_alone_writes_a_segment(tmp_path: Path) -> None:
    """A part that has no rows in the epoch says all the same that it came so far."""
    shelf = Shelf()
    part = part_of(sink_at(tmp_path, shelf))
    part.write_batch([ClearColumn(ITEMS.name, "name", "t:0:1:name"), *TICK])
    part.snapshot()
    part.write_batch(TICK)
    part.close()
    assert shelf.recorded == {"t:0:1:name": {0}} and shelf.seqs == {0: 1}


def test_a_full_spool_and_a_truncate_do_not_lock(tmp_path: Path) -> None:
    """A part at its bound that waits for another part of the same worker lets that part go on."""
    shelf = Shelf()
    shelf.parts = 2
    sink = sink_at(tmp_path, shelf, parts=2, bytes_max=200_000)
    first, second = part_of(sink, part="0"), part_of(sink, part="1")
    epochs = [
        [Truncate(ITEMS.name, "t:0:1"), changes(0, size=20_000)],
        [changes(1, size=10_000)] * 4,  # above the backlog's bound as it comes, one row when it is compacted
        TICK,
        TICK,
    ]
    for items in epochs:
        for part in (first, second):  # as Bytewax does: one thread, part by part
            part.write_batch(items)
        for part in (first, second):
            part.snapshot()
    for part in (first, second):
        part.close()
    assert sorted(shelf.ids) == [0, 0, 1, 1]


def marked(kind: type[Marker], worker: int) -> Marker:
    """What a worker says in front of its rows of a table."""
    if kind is Fence:
        return Fence(ITEMS.name, f"w{worker}", False)
    named = f"t{worker}"
    return ClearColumn(named, "name", named) if kind is ClearColumn else Truncate(named, named)


@pytest.mark.parametrize("kind", [Fence, ClearColumn, Truncate], ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(st.permutations(range(3)), min_size=3, max_size=3))
def test_markers_that_parts_meet_in_different_orders_do_not_lock(
    tmp_path: Path, kind: type[Marker], orders: list[list[int]]
) -> None:
    """Three workers mark their tables, or the same table, in one epoch: all rows arrive, whichever comes first."""
    shelf = Shelf()
    shelf.parts = 3
    sink = sink_at(tmp_path / secrets.token_hex(4), shelf, parts=3)
    parts = [part_of(sink, part=str(number)) for number in range(3)]
    for number, (part, order) in enumerate(zip(parts, orders, strict=True)):
        for worker in order:
            mark = marked(kind, worker)
            rows = batch(table(mark.table), [{"id": number * 3 + worker, "name": "x"}])
            part.write_batch([mark, rows])
    for part in parts:
        part.snapshot()
    for part in parts:
        part.write_batch(TICK)
    for part in parts:
        applied(part, 2)
    assert sorted(shelf.ids) == list(range(9))
    for part in parts:
        part.close()


def test_parts_are_routed_by_number(tmp_path: Path) -> None:
    """Part 10 is part 10, although Bytewax indexes the sorted names."""
    sink = sink_at(tmp_path, Shelf(), parts=12)
    names = sorted(sink.list_parts())
    assert [names[sink.part_fn(str(part))] for part in range(12)] == [str(part) for part in range(12)]
    with pytest.raises(ConfigurationError, match="parts of at least 1"):
        sink_at(tmp_path, Shelf(), parts=0)


@pytest.mark.parametrize("target", ["null", "shelf"])
def test_a_bytewax_flow_resumes_exactly(tmp_path: Path, target: str) -> None:
    """A flow that aborts twice and goes on from its recovery store brings each row once."""
    init_db_dir(tmp_path, 1)
    shelf = Shelf()
    null = NullTarget(NullConfig(progress_dir=tmp_path / "null"), "flow", "store-1", 2)
    null.preflight([])
    sink = sink_at(tmp_path / "spool", null if target == "null" else shelf, parts=2)
    epochs: list[Any] = [[(str(number % 2), changes(number)), ("0", Tick()), ("1", Tick())] for number in range(10)]
    epochs += [[("0", Tick()), ("1", Tick())]] * 2

    def build(inputs: list[Any]) -> Dataflow:
        flow = Dataflow("resumes")
        lists = op.input("in", flow, TestingSource(inputs, batch_size=1))
        op.output("out", op.flat_map("items", lists, lambda items: items), sink)
        return flow

    for abort_at in (3, 7, None):
        # A list with one ABORT a run: TestingSource does not count one that it has behind it.
        inputs = epochs if abort_at is None else [*epochs[:abort_at], TestingSource.ABORT(), *epochs[abort_at:]]
        run_main(build(inputs), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(tmp_path)))
    assert sorted(shelf.ids) == (list(range(10)) if target == "shelf" else [])
    assert target == "shelf" or null.rows == 10
