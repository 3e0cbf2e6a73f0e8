"""Windows in a dataflow: crashes and restarts change no result, and time moves only behind the rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import stop
from connectors.base.items import Tick, Truncate
from flows.aggregate import aggregate
from flows.operators.keyed import Context, Watermark
from flows.operators.watermarks import Progress, ProgressLogic, Seen, WatermarkSettings, watermarks
from flows.operators.window import window
from libcore.change import ChangeBatch, Op
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError
from libcore.schema import Table
from libcore.window import WindowPlan, plan_window
from tests.libcore.windows import SECOND, TABLE, History, Run, any_plan, apply_results, batch_of, comparable
from tests.simulate.ends import LateWrites

SLOTS = 8
STOP = "stop"


@pytest.fixture(autouse=True)
def _no_stop() -> Iterator[None]:
    yield
    stop.reset()


def flow_of(plan: WindowPlan, items: list[Any], out: list[Any], directory: Path) -> Dataflow:
    """One item an epoch: (batch or marker, Seen). The text "stop" asks the process to stop."""
    flow = Dataflow("windows")
    given_items = op.input("in", flow, TestingSource(items, batch_size=1))
    items_ = op.map("asked", given_items, _ask)
    up = op.map("up", items_, lambda pair: pair[0])
    seen = op.map("seen", items_, lambda pair: pair[1])
    chosen = WatermarkSettings(("p",), idle_after_s=3600)
    marks = [watermarks("watermark", seen, chosen)] if plan.bounded else []
    context = Context(slots=SLOTS, segments=directory / "segments")
    op.output("out", window("window", up, *marks, plan=plan, flow="flow", context=context), TestingSink(out))
    return flow


def _ask(pair: Any) -> Any:
    if pair == STOP:
        stop.request()
        return Tick(), Seen("p", 0, None)
    return pair


def run(plan: WindowPlan, items: list[Any], directory: Path) -> list[Any]:
    """Run to the end of the items, started again after every ABORT."""
    recovery = directory / "recovery"
    if not recovery.exists():
        recovery.mkdir()
        init_db_dir(recovery, 1)
    out: list[Any] = []
    for _ in range(1 + sum(isinstance(item, TestingSource.ABORT) for item in items)):
        flow = flow_of(plan, items, out, directory)  # a new one, as after a crash: no object lives on
        run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(recovery))
    return out


def target_of(out: list[Any], plan: WindowPlan) -> dict[Any, Any]:
    target: dict[Any, Any] = {}
    for batch in out:
        if batch.table == plan.result:
            apply_results(target, batch)
    return target


@pytest.mark.parametrize("kind", ["tumbling", "sliding", "session", "all"])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_crashes_change_no_result(kind: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A flow that crashed anywhere, as often as it likes, leaves what plain Python computes from the last rows."""
    r = Random(seed)
    plan = any_plan(r, kind)
    while not plan.by or any(a.column == "wide" for a in plan.aggregates):  # no sums that are refused
        plan = any_plan(r, kind)
    history, expected = History(r, TABLE), Run(plan)
    items: list[Any] = []
    for _ in range(r.randint(3, 9)):
        batch = history.batch()
        expected.apply(batch)
        items.append((batch, Seen("p", batch.row_count, None)))
        if r.random() < 0.4:
            items.append(TestingSource.ABORT())
    out = run(plan, items, tmp_path_factory.mktemp("flow"))
    assert comparable(target_of(out, plan)) == comparable(expected.reference.results)
    assert any(batch.table == DEAD_LETTERS for batch in out) == (expected.dead > 0)


FINAL = plan_window(
    TABLE, ["customer"], "at", "tumbling", {"n": "count(*)"}, size_us=60 * SECOND, emit="final", name="minutes"
)


def at(second: int, key: int) -> tuple[ChangeBatch, Seen]:
    """One row of that event time, as an epoch."""
    row = {column.name: None for column in TABLE.columns} | {"id": key, "customer": b"a", "at": second * SECOND}
    return batch_of([(Op.UPSERT, row, set())], TABLE, key), Seen("p", 1, second * SECOND)


def starts(out: list[Any]) -> list[int]:
    """The starts of the result windows in order, in seconds."""
    given_ = [batch.record.column("window_start").to_pylist() for batch in out if batch.table == FINAL.result]
    return [int(value.replace(tzinfo=UTC).timestamp()) for values in given_ for value in values]


def test_a_window_comes_in_the_epoch_behind(tmp_path: Path) -> None:
    """Rows of the epoch that moves time still count where they belong; the end of the input closes the rest, once."""
    tick = (Tick(), Seen("p", 0, None))
    items = [at(10, 1), at(70, 2), tick, at(50, 3), at(130, 4), tick, at(20, 5)]
    out = run(FINAL, items, tmp_path)
    assert starts(out) == [0, 60, 120]
    late = [batch for batch in out if batch.table == FINAL.late]
    assert [batch.record.column("id").to_pylist() for batch in late] == [[3], [5]]


def test_a_stop_keeps_windows_open(tmp_path: Path) -> None:
    """A stopped flow gives nothing that is not closed; the run after it goes on counting where it was."""
    items = [at(10, 1), at(70, 2), at(75, 3)]
    assert starts(run(FINAL, [*items, STOP], tmp_path)) == [0]
    stop.reset()
    out = run(FINAL, [*items, (Tick(), Seen("p", 0, None)), at(80, 4), at(300, 5)], tmp_path)
    assert starts(out) == [60, 300]


def test_a_crash_gives_a_closed_window_again_with_the_same_rows(tmp_path: Path) -> None:
    """What was given in an epoch that did not become durable comes again, and nothing of a closed window is lost."""
    items: list[Any] = [at(10, 1), at(20, 2), TestingSource.ABORT(), at(70, 3), at(75, 4), TestingSource.ABORT()]
    items += [at(140, 5), at(150, 6), TestingSource.ABORT(), at(300, 7)]
    out = run(FINAL, items, tmp_path)
    target = target_of(out, FINAL)
    assert {key[1] // SECOND: row[2] for key, row in target.items()} == {0: 2, 60: 2, 120: 2, 300: 1}


def test_a_truncate_empties_the_results(tmp_path: Path) -> None:
    """After a truncate only what comes later counts."""
    plan = plan_window(TABLE, ["customer"], "at", "tumbling", {"n": "count(*)"}, size_us=60 * SECOND, name="minutes")
    items = [at(10, 1), at(70, 2), (Truncate(TABLE.name, "t:0:3"), Seen("p", 0, None)), at(75, 3)]
    target = target_of(run(plan, items, tmp_path), plan)
    assert [key[1] // SECOND for key in target] == [60]
    assert [row[2] for row in target.values()] == [1]


class Quiet(FixedPartitionedSource[Any, int], StatefulSourcePartition[Any, int]):
    """Batches, each a while behind the one before; in between nothing but epochs."""

    def __init__(self, batches: list[tuple[float, list[Any]]]) -> None:
        self._batches, self._at = batches, monotonic()

    def list_parts(self) -> list[str]:
        """See FixedPartitionedSource."""
        return ["one"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Quiet:
        """See FixedPartitionedSource."""
        return self

    def next_batch(self) -> list[Any]:
        """See StatefulSourcePartition."""
        if not self._batches:
            raise StopIteration
        if monotonic() - self._at < self._batches[0][0]:
            return []
        self._at = monotonic()
        return self._batches.pop(0)[1]

    def snapshot(self) -> int:
        """See StatefulSourcePartition."""
        return 0


class Waiting(FixedPartitionedSink[Any, int], StatefulSinkPartition[Any, int]):
    """A sink of one part, which waits for state files in every epoch that brings it an item, as SpooledSink does."""

    def __init__(self, writes: LateWrites) -> None:
        self._writes, self.ticks, self.missing = writes, 0, 0

    def list_parts(self) -> list[str]:
        """See FixedPartitionedSink."""
        return ["0"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Waiting:
        """See FixedPartitionedSink."""
        self._writes.will_wait()
        return self

    def write_batch(self, values: list[Any]) -> None:
        """See StatefulSinkPartition; an item shows that all former epochs are durable."""
        self.ticks += sum(isinstance(value, Tick) for value in values)
        self.missing += len(self._writes._late)

    def snapshot(self) -> int:
        """See StatefulSinkPartition."""
        self._writes.wait()
        return 0


def test_time_moves_only_in_an_epoch_that_brings_the_sink_an_item(tmp_path: Path) -> None:
    """A partition that falls idle closes windows with the next Tick: else no sink part waits for the state's file."""
    plan = plan_window(
        TABLE, ["customer"], "at", "tumbling", {"n": "count(*)"}, size_us=SECOND, allowed_lateness_us=0, name="seconds"
    )
    rows = batch_of([(Op.UPSERT, _timed(n), set()) for n in range(200)], TABLE, 1)
    end = [(Tick(), Seen("p", 0, None)), (Tick(), Seen("q", 0, None))]
    batches = [[(Tick(), Seen("q", 1, None))], [(rows, Seen("p", 200, 199 * SECOND))], [end[0]], end, end]
    waits = [0.0, 1.0, 0.0, 2.0, 0.2]  # q falls idle in the third wait, and p not yet
    flow, context = Dataflow("windows"), Context(SLOTS, segments=tmp_path / "segments", writes=LateWrites())
    both = op.input("in", flow, Quiet(list(zip(waits, batches, strict=True))))
    up = op.map("up", both, lambda pair: pair[0])
    chosen = WatermarkSettings(("p", "q"), idle_after_s=1.5)
    marks = watermarks("watermark", op.map("seen", both, lambda pair: pair[1]), chosen)
    results = window("window", up, marks, plan=plan, flow="flow", context=context)
    sink = Waiting(context.writes)
    given_ = op.merge("all", results, op.filter("ticks", up, lambda item: isinstance(item, Tick)))
    op.output("out", op.map("keyed", given_, lambda item: ("0", item)), sink)
    (tmp_path / "recovery").mkdir()
    init_db_dir(tmp_path / "recovery", 1)
    run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(tmp_path / "recovery"))
    assert (sink.ticks, sink.missing) == (6, 0)


def _timed(second: int) -> dict[str, Any]:
    return {column.name: None for column in TABLE.columns} | {"id": second, "customer": b"a", "at": second * SECOND}


def test_watermarks_are_asked_for_where_they_are_needed() -> None:
    """A step whose windows close cannot be drawn without watermarks; it says so when the flow is built."""
    flow = Dataflow("windows")
    up = op.input("in", flow, TestingSource([]))
    with pytest.raises(ConfigurationError, match="expected 1 streams of watermarks for window minutes, found 0"):
        window("window", up, plan=FINAL, flow="flow", context=Context(slots=SLOTS))


def test_the_shape_of_a_pipeline_that_sums_up() -> None:
    """Source, window, sink: results and what belongs to other tables reach the sink, summed rows do not."""
    batches = [at(10, 1)[0], at(70, 2)[0]]
    other = ChangeBatch(Table("shop.other", TABLE.columns, TABLE.key), batches[0].record)
    out: list[Any] = []
    flow = aggregate(
        "sums",
        TestingSource([*batches, other, Tick()], batch_size=1),
        list,
        lambda items: [Seen("p", 1, 10 * SECOND) for item in items if isinstance(item, ChangeBatch)],
        WatermarkSettings(("p",)),
        FINAL,
        Context(slots=SLOTS),
        lambda items: [("0", item) for item in items],
        TestingSink(out),
    )
    run_main(flow, epoch_interval=timedelta(0))
    reached = [item for _, item in out]
    assert starts([item for item in reached if isinstance(item, ChangeBatch)]) == [0, 60]
    assert [item.table.name for item in reached if isinstance(item, ChangeBatch) and item.table != FINAL.result] == [
        "shop.other"
    ]
    assert any(isinstance(item, Tick) for item in reached)


def test_the_least_partition_decides() -> None:
    """The least partition decides, less what may be out of order; the watermark never falls, and is an epoch behind."""
    progress = Progress(WatermarkSettings(("a", "b"), out_of_order_us=5, idle_after_s=30), started_s=0)
    progress.see(Seen("a", 1, 100), 1)
    progress.epoch_ends()
    assert progress.rise(2) is None  # b has shown nothing yet
    progress.see(Seen("b", 1, 50), 3)
    assert progress.rise(3) is None  # the epoch is open
    progress.epoch_ends()
    assert progress.rise(3) == 45
    progress.see(Seen("b", 1, 20), 4)
    progress.epoch_ends()
    assert progress.rise(4) is None
    progress.see(Seen("b", 1, 500), 5)
    progress.epoch_ends()
    assert progress.rise(5) == 95


def test_an_idle_partition_is_left_out() -> None:
    """A partition without rows for long holds nothing back, one in its snapshot does; with all idle, time stands."""
    progress = Progress(WatermarkSettings(("a", "b"), idle_after_s=30), started_s=0)
    progress.see(Seen("a", 1, 100), 10)
    progress.epoch_ends()
    assert progress.rise(29) is None
    assert progress.rise(30) == 100
    progress.see(Seen("b", 7, None), 31)  # snapshot rows
    progress.see(Seen("a", 1, 200), 32)
    progress.epoch_ends()
    assert progress.rise(33) is None
    assert progress.rise(61) == 200
    progress.see(Seen("a", 0, None), 62)  # an epoch went by
    assert progress.rise(200) is None


def test_time_in_which_the_flow_stood_still_makes_nobody_idle() -> None:
    """While a full spool or a suspended machine keeps items from coming, no partition could show a row: none is idle.

    Else the first that is heard again would decide alone, and the rows of the others would be late. Nor does a clock
    that is put forward or back change who is idle.
    """
    now = [1e9]
    logic = ProgressLogic(WatermarkSettings(("a", "b"), clock=lambda: now[0]), None)
    logic.on_batch([Seen("a", 1, 100), Seen("b", 1, 50)])
    logic.snapshot()
    assert logic.on_batch([]) == ([Watermark(50)], False)
    for jump in (600.0, -7200.0, 1.0):
        now[0] += jump
        assert logic.on_batch([Seen("a", 1, 9000)]) == ([], False)
        logic.snapshot()
    found = []
    for _ in range(31):  # now time passes, and b stays silent
        now[0] += 1.0
        found += logic.on_batch([Seen("a", 1, 9000), Seen("b", 0, None)])[0]
        logic.snapshot()
    assert found == [Watermark(9000)]


def test_a_restart_says_the_watermark_again() -> None:
    """The state keeps each partition's time; the last watermark comes with the first item, and none that is lower."""
    now = [0.0]
    chosen = WatermarkSettings(("a",), clock=lambda: now[0])
    first = ProgressLogic(chosen, None)
    assert first.on_batch([Seen("a", 1, 100)]) == ([], False)
    first.snapshot()
    assert first.on_batch([Seen("a", 1, 300)]) == ([Watermark(100)], False)
    again = ProgressLogic(chosen, first.snapshot())
    assert again.on_batch([Seen("a", 1, 50)]) == ([Watermark(300)], False)
    assert again.on_batch([]) == ([], False)
    early = ProgressLogic(chosen, (1, (("a", None),), 70))
    assert early.on_batch([Seen("a", 1, 10)]) == ([Watermark(70)], False)
    early.snapshot()
    assert early.on_batch([]) == ([], False)
    now[0] = 31.0
    assert early.on_batch([Seen("a", 0, None)]) == ([], False)
    assert early.notify_at() is None
