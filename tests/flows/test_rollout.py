"""A step's new version in a flow: a wrong one reaches no target, is rolled back everywhere, and leaves its rows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from typer.testing import CliRunner

import libcore.mask
from connectors.kafka.topics import produce
from control import runner
from control.cli.main import app
from flows import rollout_store, spec
from flows.mask_plan import compile_mask, replanned
from flows.operators.mask import Mask
from flows.operators.rollout import Rolling
from flows.operators.select import Select, plan_select
from flows.rollout import mask_candidate
from flows.rollout_store import RolloutStore
from flows.spec_steps import MaskStep
from flows.testing import run_flow
from flows.verify import verify
from libcore.change import ChangeBatch, Op, arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError
from libcore.rollout import DIFFERENCE, ERROR, Settings, State
from libcore.schema import Column, Table, parse_type
from tests.flows.debezium import change
from tests.libcore.strategies import EXAMPLES
from tests.libcore.user_functions import PALLETS, library

ITEMS = Table("items", (Column("id", parse_type("int64"), False), Column("quantity", parse_type("int64"))), ("id",))
PIPELINE = """
name = "rolled"
[source.kafka]
servers = "127.0.0.1:1"
format = "debezium-json"
start = "earliest"
batch_rows_max = 100
[tables.items]
topic = "TOPIC"
key = ["id"]
[tables.items.columns]
id = "int64"
quantity = "int64"
per_pallet = "int64"
[[step]]
STEP
of = "items"
[rollout]
clean_batches = 3
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
parts = 1
"""
CALL = """call = "libpallets.so:pallets"
take = ["quantity", "per_pallet"]
gives = { pallets = "int64" }
candidate = { call = "libnew.so:pallets" }"""
ROUNDED = "values[row] = pieces[row] / fit[row] + (pieces[row] % fit[row] != 0);"
ONE_IN_A_THOUSAND = (
    "values[row] = pieces[row] / fit[row] + (pieces[row] % fit[row] != 0) + (pieces[row] % 1000 == 777);"
)
CRASHES = "values[row] = pieces[row] % 1000 == 777 ? (abort(), 0) : 0;"
TRUTH = "SELECT count(*), count(*) FILTER (WHERE pallets <> (quantity + 47) / 48) FROM items"


def batch(ids: range, deleted: int | None = None) -> ChangeBatch:
    """Upserts of ITEMS whose quantity is their id."""
    rows = [
        {"id": one, "quantity": one, "__op": int(Op.UPSERT), "__position": bytes(32), "__source_ts": None}
        for one in ids
    ]
    if deleted is not None:
        rows.append({**rows[0], "id": deleted, "quantity": None, "__op": int(Op.DELETE)})
    return ChangeBatch(ITEMS, pa.RecordBatch.from_pylist(rows, schema=arrow_schema(ITEMS)))


class Process:
    """A select step with a candidate, as one process runs it."""

    def __init__(self, state: Path, number: int, new: str, old: str = "quantity + 1", **settings: Any) -> None:
        self.store = RolloutStore(state, "select-items", "v1", number)
        mapper = Select("flow", "select-items", plan_select(ITEMS, {"x": new}, {"x": "int64"}, (), "items"))
        wanted = Settings(**{"clean_batches": 2, **settings})
        rolling = Rolling(wanted, self.store, mapper.answer, lambda: 0)
        plan = plan_select(ITEMS, {"x": old}, {"x": "int64"}, (), "items")
        present = Select("flow", "select-items", plan)
        present.beside(rolling.around)
        self.step = rolling.mapper(present)

    def run(self, ids: range, deleted: int | None = None) -> tuple[dict[int, int], list[str]]:
        """(x by id, keys of dead letters) of one batch."""
        found = [item for item in self.step([batch(ids, deleted)]) if isinstance(item, ChangeBatch)]
        rows = [row for one in found if one.table != DEAD_LETTERS for row in one.record.to_pylist()]
        letters = [row["key_text"] for one in found if one.table == DEAD_LETTERS for row in one.record.to_pylist()]
        return {row["id"]: row["x"] for row in rows}, letters

    @property
    def state(self) -> State:
        """What is on disk."""
        return self.store.load()


def shown(metric: str, **labels: str) -> float | None:
    """What /metrics says of the rollout."""
    return REGISTRY.get_sample_value(f"headrace_rollout_{metric}", {"rollout": "select-items", **labels})


def plus(batch: ChangeBatch, more: int = 1) -> ChangeBatch:
    """The right step: quantity + 1."""
    made = pc.add(batch.record.column("quantity"), pa.scalar(more, pa.int64()))
    return ChangeBatch(batch.table, batch.record.set_column(1, batch.record.schema.field(1), made))


@settings(max_examples=EXAMPLES // 8, deadline=None)
@given(
    course=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["clean", "clean", "clean", "wrong", "raises", "restart", "reset"]),
            st.integers(0, 500),
        ),
        max_size=20,
    )
)
def test_any_course_of_three_processes(course: list[tuple[int, str, int]]) -> None:
    """Restarts, resets, faults in any order: answers are right, and after a rollback nobody asks the new version."""
    asked: list[int] = []
    doing = ["clean"]

    def new(batch: ChangeBatch) -> ChangeBatch:
        asked.append(batch.row_count)
        if doing[0] == "raises":
            raise RuntimeError("no")
        return plus(batch, 2 if doing[0] == "wrong" else 1)

    with tempfile.TemporaryDirectory() as folder:

        def start(number: int) -> Any:
            rolling = Rolling(Settings(clean_batches=1), RolloutStore(Path(folder), "x", "v", number), new, lambda: 0)
            step = rolling.around(plus)
            return rolling.mapper(lambda found: [step(one) for one in found if isinstance(one, ChangeBatch)])

        steps = [start(number) for number in range(3)]
        for number, kind, first in course:
            before = rollout_store.read(Path(folder))
            rolled = bool(before) and before[0].rollback is not None
            if kind == "reset":
                if rolled:
                    rollout_store.reset(Path(folder))
                continue
            if kind == "restart":
                steps[number] = start(number)
                continue
            doing[0] = kind
            asked.clear()
            (found,) = steps[number]([batch(range(first, first + 30))])
            assert found.record.column("quantity").to_pylist() == list(range(first + 1, first + 31))
            (after,) = rollout_store.read(Path(folder))
            assert not (rolled and asked)
            assert (after.rollback is not None) == (rolled or (kind != "clean" and bool(asked)))


def test_a_candidate_is_promoted_and_a_restart_goes_on(tmp_path: Path) -> None:
    """Two clean batches a stage, in two lives of the process; deletes and refused rows are no difference."""
    old = "CASE quantity % 50 WHEN 7 THEN error('no') ELSE quantity + 1 END"
    new = "CASE quantity % 50 WHEN 7 THEN error('another') ELSE 1 + quantity END"
    process = Process(tmp_path, 0, new, old)
    for number in range(10):
        if number == 5:
            before = process.state
            process = Process(tmp_path, 0, new, old)
            assert process.state == before and before.stage == 2 and before.clean == 1
        found, letters = process.run(range(30), deleted=1000)
        assert found == {**{one: one + 1 for one in range(30) if one != 7}, 1000: None}
        assert letters == ['{"id": 7}']
    assert process.state.promoted and process.state.percent == 100 and process.state.clean == 2
    assert process.run(range(777, 778))[0] == {777: 778}
    assert (shown("percent"), shown("clean_batches")) == (100, 3)


def test_one_process_rolls_back_all_and_a_reset_lets_all_begin_again(tmp_path: Path) -> None:
    """The other serves the old version with its next batch, so does a restart; a reset is seen while they run."""
    new = "quantity + 1 + CASE quantity WHEN 777 THEN 1 ELSE 0 END"
    here, there = (Process(tmp_path, number, new, clean_batches=1) for number in (0, 1))
    found_before = shown("rollbacks_total", reason=DIFFERENCE) or 0
    for process in (here, there):
        for _ in range(4):
            process.run(range(100))
    assert here.run(range(700, 800))[0] == {one: one + 1 for one in range(700, 800)}
    assert here.state.reason == DIFFERENCE and here.state.why == "1 of 100 rows differ, in x"
    assert (shown("percent"), shown("rollbacks_total", reason=DIFFERENCE)) == (0, found_before + 1)
    assert there.run(range(777, 778))[0] == {777: 778}
    assert there.state.reason == DIFFERENCE
    late = Process(tmp_path, 2, new)  # begins after the rollback
    assert late.run(range(777, 778))[0] == {777: 778} and late.state.rolled_back
    (found,) = rollout_store.read(tmp_path)
    assert found.rollback is not None and found.rollback["process"] == 0 and len(found.rows) == 1
    (row,) = pa.parquet.read_table(found.rows[0]).to_pylist()
    assert (row["differs"], row["input.id"], row["old.x"], row["new.x"]) == ("x", 777, 778, 779)
    assert rollout_store.reset(tmp_path) == ["select-items"]
    for process in (here, there, late):
        process.run(range(100))
        assert not process.state.rolled_back and process.state.percent == 25 - 20 * (process is late)
    assert list((tmp_path / "rollout" / "select-items").glob("v1.reset-1/rows-0-0.parquet"))
    with pytest.raises(ConfigurationError, match=r"expected a rollout that is rolled back, found select-items \(not\)"):
        rollout_store.reset(tmp_path)


def test_a_rollback_that_cannot_be_written_holds_all_the_same(tmp_path: Path) -> None:
    """A full disk: this process serves the old version, and tells the others as soon as it can."""
    process = Process(tmp_path, 0, "quantity + 2")
    folder = tmp_path / "rollout" / "select-items" / "v1"
    folder.rename(tmp_path / "away")
    folder.parent.rmdir()
    folder.parent.write_text("in the way")
    ids = range(200)
    for _ in range(3):
        assert process.run(ids)[0] == {one: one + 1 for one in ids}
    folder.parent.unlink()
    assert process.run(ids)[0] == {one: one + 1 for one in ids}
    assert process.store.rollback() == (DIFFERENCE, process.state.why) and process.state.rolled_back


def test_hidden_columns_are_not_kept(tmp_path: Path) -> None:
    """Kept rows lack what a mask step hides, in the input and in what the new version made of it."""
    store = RolloutStore(tmp_path, "mask-items", "v", 0, {"name"}, {"city"})
    names = ["differs", "input.name", "input.city", "old.name", "old.city", "new.name", "new.city", "new.id"]
    rows = pa.RecordBatch.from_arrays([pa.array(["x"])] * len(names), names)
    store.roll_back(State(reason=DIFFERENCE, why="x"), rows)
    (path,) = rollout_store.read(tmp_path)[0].rows
    assert pa.parquet.read_table(path).schema.names == ["differs", "input.city", "old.name", "new.id"]


def test_a_kernel_is_rolled_out_beside_its_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[rollout] kernels: the reference is right; its kernel is promoted where it is equal, and not served where not."""
    monkeypatch.setenv("K", "a secret of sixteen bytes")
    text = PIPELINE.replace("STEP", 'mask = { quantity = { how = "bucket", width = 7 } }')
    pipeline = spec.parse(text.replace("[rollout]", '[rollout]\nkernels = ["mask"]'), "x.toml")
    (wired,) = pipeline.wiring.steps
    assert isinstance(wired.spec, MaskStep)
    plan = compile_mask(wired.spec, ITEMS, "items")
    candidate = mask_candidate(pipeline, wired, plan, tmp_path)
    assert candidate is not None and candidate.old is not None
    rolling = candidate.start(0)
    mapper = Mask("flow", wired.id, plan, replanned(plan))
    old = candidate.old
    mapper.beside(lambda _: rolling.around(old))
    step = rolling.mapper(mapper)

    def run() -> list[int]:
        (found,) = step([batch(range(100))])
        assert isinstance(found, ChangeBatch)
        return list(found.record.column("quantity").to_pylist())

    truth = [one // 7 * 7 for one in range(100)]
    for _ in range(12):
        assert run() == truth
    assert rollout_store.read(tmp_path)[0].workers[0][0].promoted
    monkeypatch.setattr(libcore.mask, "mask_column", lambda column, rule, name: column)
    assert run() == truth
    assert rollout_store.read(tmp_path)[0].rollback is not None and run() == truth


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ('select = { x = "quantity" }\ncandidate = { select = { y = "quantity" } }', "expected the same columns ['x']"),
        (
            'select = { x = "quantity" }\ncandidate = { call = "x.so:f" }',
            "step.0.candidate.select: expected this setting, found nothing",
        ),
        ('mask = { id = "hash" }\nkey = "env:K"\ncandidate = { mask = { quantity = "null" } }', "the same columns"),
    ],
)
def test_a_candidate_that_does_not_fit_is_refused(
    step: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the step, what was expected and what was found."""
    from control import pipeline

    monkeypatch.setenv("K", "a secret of sixteen bytes")
    file = tmp_path / "rolled.toml"
    file.write_text(PIPELINE.replace("STEP", step))
    with pytest.raises(ConfigurationError) as caught:
        pipeline.check(file)
    assert expected in str(caught.value)


def test_the_section_reads_back() -> None:
    """[rollout] and candidates survive being written and read."""
    pipeline = spec.parse(PIPELINE.replace("STEP", CALL), "x.toml")
    assert spec.parse(spec.dumps(pipeline), "y.toml") == pipeline and pipeline.rollout.clean_batches == 3


def built(tmp_path: Path, line: str) -> bool:
    """libpallets.so, and libnew.so with that line in place of the computation; False where no compiler is."""
    if library(PALLETS, tmp_path) is None:
        return False
    text = PALLETS.read_text("utf-8")
    assert ROUNDED in text
    source = tmp_path / "new.c"
    source.write_text(text.replace(ROUNDED, line), "utf-8")
    assert library(source, tmp_path) is not None
    return True


def flow_of(tmp_path: Path, topic: str, broker: str) -> str:
    """The pipeline file beside its libraries, as an import string."""
    text = PIPELINE.replace("STEP", CALL).replace("TOPIC", topic).replace("127.0.0.1:1", broker)
    (tmp_path / "rolled.toml").write_text(text.replace('name = "rolled"', 'name = "rolled"\nstate_dir = "state"'))
    return f"flows.build:flow('{tmp_path / 'rolled.toml'}', until_end=True)"


def items(ids: range) -> list[Any]:
    """Messages of rows whose quantity is their id."""
    return [change("c", None, {"id": one, "quantity": one, "per_pallet": 48}, ["id"]) for one in ids]


def fetch(dsn: str, query: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def headrace(tmp_path: Path, *arguments: str) -> Any:
    """What `headrace rollout FILE ... --json` prints."""
    result = CliRunner().invoke(app, ["rollout", str(tmp_path / "rolled.toml"), *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_wrong_kernel_reaches_no_target(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A C function that is wrong for one value in a thousand, in two processes: the target is the truth, always."""
    if not built(tmp_path, ONE_IN_A_THOUSAND):
        assert ONE_IN_A_THOUSAND != ROUNDED
        return
    monkeypatch.setenv("WAREHOUSE_DSN", postgres)
    name = topic(2)
    produce(broker, name, items(range(5000)))
    flow = flow_of(tmp_path, name, broker)
    assert run_flow(flow, tmp_path, processes=2) == [0, 0], (tmp_path / "process-0.log").read_text()[-3000:]
    assert fetch(postgres, TRUTH) == [(5000, 0)]
    (shown,) = headrace(tmp_path)
    assert shown["name"] == "call-items" and shown["rollback"]["reason"] == DIFFERENCE
    assert [worker["percent"] for worker in shown["workers"]] == [0, 0]
    kept = headrace(tmp_path, "rows")
    assert kept and all(
        row["input.quantity"] % 1000 == 777 and row["new.pallets"] == row["old.pallets"] + 1 for row in kept
    )
    produce(broker, name, items(range(5000, 6000)))  # a restart: it serves no more
    assert run_flow(flow, tmp_path) == [0]
    assert fetch(postgres, TRUTH) == [(6000, 0)] and headrace(tmp_path)[0]["rollback"] == shown["rollback"]
    assert verify(str(tmp_path / "rolled.toml")).equal
    assert headrace(tmp_path, "reset", "call-items") == ["call-items"] and headrace(tmp_path) == []


def test_a_new_version_that_crashes_is_rolled_back_at_the_restart(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path
) -> None:
    """The worker dies with its batch, which is read again and served by the old version."""
    if not built(tmp_path, CRASHES.replace(" : 0;", " : " + ROUNDED.removeprefix("values[row] = "))):
        assert CRASHES != ROUNDED
        return
    name = topic(1)
    produce(broker, name, items(range(3000)))
    result = runner.run(flow_of(tmp_path, name, broker), tmp_path / "state", environment={"WAREHOUSE_DSN": postgres})
    assert result.exit_code == 0 and result.restarts == 1, result.cause
    assert fetch(postgres, TRUTH) == [(3000, 0)]
    (shown,) = rollout_store.read(tmp_path / "state")
    assert shown.rollback is not None and shown.rollback["reason"] == ERROR
    assert "it crashed (Fatal Python error: Aborted)" in shown.rollback["why"]
