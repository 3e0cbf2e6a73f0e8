"""Keyed steps: each row reaches the process of its slot; whatever breaks that stops the flow before it is durable."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.items import Truncate
from flows.operators.keyed import Context, Hub, Lazy, Parcel, Route, SlotLogic
from flows.state.look import read_state
from flows.state.slots import slot_names, worker_of
from flows.testing import run_flow
from libcore.errors import FatalError
from libcore.hashing import hash_rows
from libcore.slots import slot_of
from libcore.table import RowStore
from tests.flows import keyed_flow
from tests.flows.joined import History, fill, log, pipeline_text, read_lines
from tests.simulate.ends import LateWrites

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.utf8())])
SLOTS = 16


class Keep:
    """The plainest stage: rows by key; it gives back what it took."""

    def __init__(self) -> None:
        self.stores: Mapping[str, RowStore] = {"rows": RowStore(SCHEMA, (0,), slots=SLOTS)}
        self.ends = 0

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """Rows of the state."""
        self.stores[store].load(record)

    def on_items(self, items: Sequence[Any]) -> Iterable[Any]:
        """Put rows into the store."""
        for parcel in items:
            if parcel.record.column(1).null_count:
                raise ValueError("a row without a text")
            self.stores["rows"].upsert(parcel.record)
            yield parcel

    def epoch_ends(self) -> None:
        """Nothing to do."""

    def input_ends(self) -> Iterable[Any]:
        """Counted."""
        self.ends += 1
        return ()


def rows(ids: Iterable[int]) -> pa.RecordBatch:
    """Rows with these ids."""
    return pa.RecordBatch.from_pylist([{"id": number, "text": f"text {number}"} for number in ids], schema=SCHEMA)


def slots_of(record: pa.RecordBatch, slots: int) -> list[Any]:
    """The slot of each row."""
    return slot_of(hash_rows(record, [0]), slots).to_pylist()


def nothing() -> Keep:
    """No stage is made for routing alone."""
    raise AssertionError


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.one_of(st.none(), st.lists(st.integers(0, 10_000), max_size=400)), max_size=4),
    slots=st.sampled_from([1, 5, 16, 64]),
    workers=st.integers(1, 8),
)
def test_each_row_goes_to_the_process_of_its_slot(batches: list[list[int] | None], slots: int, workers: int) -> None:
    """Each row arrives once, at the worker of its slot; each slot that rows touch is awoken there; a Truncate goes
    everywhere."""
    context = Context(slots, workers)
    route = Route(Lazy("step", nothing, context), {"row": ("id",)}, context)
    records = [None if ids is None else rows(ids) for ids in batches]
    items = [Truncate("t", "p") if one is None else Parcel("row", None, one) for one in records]
    routed = route(items)
    names = slot_names(slots)
    busy = {worker_of(name, workers) for name in names}
    arrived: list[int] = []
    truncated: Counter[int] = Counter()
    for key, (slot, item) in routed:
        worker = worker_of(key, workers)
        assert key == names[slot]
        if isinstance(item, Parcel):
            assert {worker_of(names[one], workers) for one in slots_of(item.record, slots)} == {worker}
            arrived += item.record.column(0).to_pylist()
        elif isinstance(item, Truncate):
            truncated[worker] += 1
    assert sorted(arrived) == sorted(number for ids in batches for number in ids or ())
    assert truncated == Counter({worker: batches.count(None) for worker in busy if None in batches})
    touched = {slot for one in records if one is not None and one.num_rows for slot in slots_of(one, slots)}
    awoken = {slot for _, (slot, _) in routed}
    assert awoken >= (set(range(slots)) if None in batches else touched)


def hub(directory: Path, context: Context | None = None) -> Hub:
    """A hub of one process."""
    return Hub("step", Keep(), context or Context(SLOTS, segments=str(directory)))


def deliver(there: Hub, logics: dict[int, SlotLogic], record: pa.RecordBatch, awoken: Iterable[int]) -> None:
    """One epoch: the rows under slot 0, the others awoken, everybody's snapshot taken."""
    for slot in sorted({0, *awoken}):
        logic = logics.setdefault(slot, SlotLogic(there, None))
        logic.on_batch([(slot, Parcel("row", None, record) if slot == 0 else None)])
    for slot in {0, *awoken}:
        logics[slot].snapshot()


def test_a_slot_that_was_not_awoken_stops_the_flow(tmp_path: Path) -> None:
    """A slot that changed and will give no manifest is named before any manifest of the epoch is given."""
    record = rows(range(100))
    there, logics = hub(tmp_path), dict[int, SlotLogic]()
    everybody = set(slots_of(record, SLOTS))
    deliver(there, logics, record, everybody)
    with pytest.raises(FatalError, match=r"step step: slots \[3\] changed in an epoch that did not awake them"):
        deliver(there, logics, record, everybody - {3})


def test_state_that_comes_late_stops_the_flow(tmp_path: Path) -> None:
    """A slot with state after the first item would be without its rows: it is refused."""
    there, logics = hub(tmp_path), dict[int, SlotLogic]()
    deliver(there, logics, rows([1]), range(SLOTS))
    with pytest.raises(FatalError, match="step step: slot 5 came with state after the first item"):
        SlotLogic(there, (1, 5, ()))


def test_an_exception_is_logged_with_step_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a stage raises goes on, and its text stands in the log with step and slot."""
    record = pa.RecordBatch.from_pylist([{"id": 1, "text": None}], schema=SCHEMA)
    logic = SlotLogic(hub(tmp_path), None)
    with pytest.raises(ValueError, match="a row without a text"):
        logic.on_batch([(0, Parcel("row", None, record))])
    shown = capsys.readouterr().out
    assert "a step failed" in shown and "ValueError: a row without a text" in shown and "step" in shown


def test_a_real_end_is_told_once_and_only_in_the_first_call(tmp_path: Path) -> None:
    """Every slot of a process hears of the end; the stage hears of it once."""
    there, logics = hub(tmp_path), dict[int, SlotLogic]()
    deliver(there, logics, rows(range(50)), range(SLOTS))
    for logic in logics.values():
        assert logic.on_eof() == ([], False)
    assert isinstance(there.stage, Keep) and there.stage.ends == 1


def test_state_is_written_before_its_epoch_can_be_durable(tmp_path: Path) -> None:
    """Its file may be written behind the snapshot where the sink waits for it; an epoch without it is an error."""
    context = Context(SLOTS, segments=str(tmp_path), writes=LateWrites())
    context.writes.will_wait()
    there, logics = hub(tmp_path, context), dict[int, SlotLogic]()
    deliver(there, logics, rows(range(100)), range(SLOTS))
    assert not list(tmp_path.glob("*.seg"))
    context.writes.wait()
    assert len(list(tmp_path.glob("*.seg"))) == 1
    deliver(there, logics, rows(range(100, 200)), range(SLOTS))
    with pytest.raises(FatalError, match=r"its epoch became durable before .* was written"):
        deliver(there, logics, rows([1]), range(SLOTS))


def test_state_of_the_end_is_written_at_once(tmp_path: Path) -> None:
    """What the end of the input changes is durable at the snapshot: no item may come to the sink that waited for it."""
    context = Context(SLOTS, segments=str(tmp_path), writes=LateWrites())
    context.writes.will_wait()
    there, logics = hub(tmp_path, context), dict[int, SlotLogic]()
    for slot in range(SLOTS):
        logics[slot] = SlotLogic(there, None)
        logics[slot].on_batch([(slot, Parcel("row", None, rows(range(100))) if slot == 0 else None)])
        logics[slot].on_eof()
    for logic in logics.values():
        logic.snapshot()
    assert len(list(tmp_path.glob("*.seg"))) == 1


def counts(directory: Path) -> dict[int, int]:
    """Rows by key in the durable state of tests/flows/keyed_flow.py."""
    ((_, stores),) = read_state(directory / "recovery", keyed_flow.NAME, str(directory / "segments"))
    table, _ = stores["counts"]
    return dict(zip(table.column("key").to_pylist(), table.column("count").to_pylist(), strict=True))


def seen(directory: Path, processes: int) -> list[set[int]]:
    """The slots whose rows each process saw."""
    return [set(json.loads((directory / f"slots-{number}.json").read_text("utf-8"))) for number in range(processes)]


def expected(first: int, until: int, processes: int) -> list[set[int]]:
    """The slots of the rows in these batches, by process."""
    keys = {
        key for part in keyed_flow.PARTS for batch in range(first, until) for key in keyed_flow.numbers(part, batch)
    }
    record = pa.record_batch([pa.array(sorted(keys), pa.int64())], schema=keyed_flow.ROW)
    there, names = set(slots_of(record, keyed_flow.SLOTS)), slot_names(keyed_flow.SLOTS)
    return [{slot for slot in there if worker_of(names[slot], processes) == number} for number in range(processes)]


@pytest.mark.timeout(180)
def test_state_moves_with_the_number_of_processes(tmp_path: Path) -> None:
    """Killed on one process, then on 3, 2 and 4, each count stays right, and rows go to their slots' owners."""
    codes = run_flow(
        f"tests.flows.keyed_flow:flow('{tmp_path}', until=100_000)",
        tmp_path,
        kill_after_s=0.3,
        ready=(tmp_path / "slots-0.json").exists,
    )
    assert codes == [-9], log(tmp_path)
    reached = sum(counts(tmp_path).values())
    assert reached > 0
    until = reached // keyed_flow.ROWS + 20
    for step, processes in enumerate((3, 2, 4), 1):
        flow = f"tests.flows.keyed_flow:flow('{tmp_path}', until={step * until})"
        assert run_flow(flow, tmp_path, processes=processes) == [0] * processes, log(tmp_path)
        assert counts(tmp_path) == keyed_flow.truth(step * until), processes
        assert seen(tmp_path, processes) == expected(step * until - until, step * until, processes)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("told", [1, 3])
def test_a_wrong_number_of_workers_stops_the_flow(told: int, tmp_path: Path) -> None:
    """Two processes of which each is told another number: both end, the log says why, and nothing became durable."""
    flow = f"tests.flows.keyed_flow:flow('{tmp_path}', until=40, told_workers={told})"
    codes = run_flow(flow, tmp_path, processes=2)
    assert all(codes), codes
    assert "the number of workers is not what this process was told" in log(tmp_path)
    assert read_state(tmp_path / "recovery", keyed_flow.NAME, str(tmp_path / "segments")) == []
    again = f"tests.flows.keyed_flow:flow('{tmp_path}', until=40)"
    assert run_flow(again, tmp_path, processes=2) == [0, 0], log(tmp_path)
    assert counts(tmp_path) == keyed_flow.truth(40)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("fails_at=7", "ValueError: this stage does not like 7"),
        ("forgets=True", "changed in an epoch that did not awake them"),
    ],
)
def test_a_fault_stops_all_processes_and_is_logged(fault: str, expected: str, tmp_path: Path) -> None:
    """An exception in one process ends both; its text and step are in the log; without the fault the flow goes on."""
    codes = run_flow(f"tests.flows.keyed_flow:flow('{tmp_path}', until=40, {fault})", tmp_path, processes=2)
    text = log(tmp_path)
    assert all(codes), codes
    assert "a step failed" in text and expected in text and f"{keyed_flow.NAME}.{keyed_flow.STEP}" in text
    again = f"tests.flows.keyed_flow:flow('{tmp_path}', until=40)"
    assert run_flow(again, tmp_path, processes=2) == [0, 0], log(tmp_path)
    assert counts(tmp_path) == keyed_flow.truth(40)


@pytest.mark.timeout(180)
def test_a_step_above_its_bound_stops_the_flow(broker: str, postgres: str, tmp_path: Path) -> None:
    """A join whose state outgrows state_bytes ends with an error that names the step; with a higher one it goes on."""
    history = History(5, f"bound-{uuid.uuid4().hex[:8]}", note_bytes=4_000)
    file = tmp_path / "joined.toml"
    fill(broker, history, history.messages(1_000))
    flow, environment = f"flows.build:flow('{file}', until_end=True)", {"TARGET_DSN": postgres}
    file.write_text(pipeline_text(history, broker, settings="state_bytes = 1_000_000"), "utf-8")
    codes = run_flow(flow, tmp_path, environment=environment)
    text = log(tmp_path)
    assert codes != [0]
    bound = "in this process, above its bound of 1,000,000: run more processes, raise state_bytes"
    assert re.search(rf"step joined.join-order_lines-orders.\w+: its state takes [\d,]+ bytes of memory {bound}", text)
    file.write_text(pipeline_text(history, broker, settings="state_bytes = 100_000_000"), "utf-8")
    assert run_flow(flow, tmp_path, environment=environment) == [0], log(tmp_path)
    assert read_lines(postgres) == history.lines()
