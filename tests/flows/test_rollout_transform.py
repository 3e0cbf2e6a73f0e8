"""New rules and new kernels of a transform step: compared on every batch, promoted where equal, never served wrong."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from connectors.base.items import Item
from connectors.kafka.topics import produce
from flows import rollout_store, spec
from flows.operators.transform import Transform, TransformPlan
from flows.rollout import Candidate, transform_candidate
from flows.spec_steps import TransformStep
from flows.testing import run_flow
from flows.transform_plan import compile_transform
from flows.verify import verify
from libcore import transform
from libcore.change import ChangeBatch, Op, arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError
from libcore.rollout import DIFFERENCE
from libcore.schema import Column, Table, parse_type
from tests.flows.test_rollout import PIPELINE, fetch, headrace, items
from tests.flows.wrong_kernel import wrong

ITEMS = Table("items", tuple(Column(name, parse_type("int64")) for name in ("id", "quantity", "per_pallet")), ("id",))
HALF = '{ how = "divide", of = ["quantity", "per_pallet"], type = "decimal(18,0)" }'
RULES = f"transform = {{ pallets = {HALF} }}"
HALF_UP = HALF.replace(" }", ', rounding = "half_up" }')
TRUTH = "SELECT count(*), count(*) FILTER (WHERE pallets <> round(quantity / 48.0)) FROM items"


def candidate_of(
    step: str, state: Path, settings: str = "", table: Table = ITEMS
) -> tuple[Candidate | None, TransformPlan]:
    """The new version of a pipeline's step, and the present plan."""
    text = PIPELINE.replace("STEP", step).replace("[rollout]", f"[rollout]\n{settings}")
    pipeline = spec.parse(text, "x.toml")
    (wired,) = pipeline.wiring.steps
    assert isinstance(wired.spec, TransformStep)
    file = state / "x.toml"
    plan = compile_transform(wired.spec, table, "items", file)
    return transform_candidate(pipeline, wired, plan, file, state), plan


def started(candidate: Candidate | None, plan: TransformPlan) -> Callable[[list[Item]], list[Item]]:
    """The step with its new version beside it, as a process runs it."""
    assert candidate is not None
    rolling, old = candidate.start(0), candidate.old
    mapper = Transform("rolled", candidate.name, plan)
    mapper.beside(rolling.around if old is None else lambda _: rolling.around(old))
    return rolling.mapper(mapper)  # type: ignore[arg-type]


def batch(quantities: range, per_pallet: int = 2) -> ChangeBatch:
    """Upserts of ITEMS, whose ids are their quantities; one in fifty cannot be divided."""
    control = {"__op": int(Op.UPSERT), "__position": bytes(32), "__source_ts": None}
    rows = [
        {"id": one, "quantity": one, "per_pallet": 0 if one % 50 == 13 else per_pallet, **control} for one in quantities
    ]
    return ChangeBatch(ITEMS, pa.RecordBatch.from_pylist(rows, schema=arrow_schema(ITEMS)))


def answer(step: Callable[[list[Item]], list[Item]], rows: ChangeBatch) -> tuple[dict[int, Decimal], int]:
    """(pallets by id, number of dead letters)."""
    found = [item for item in step([rows]) if isinstance(item, ChangeBatch)]
    made = [row for one in found if one.table != DEAD_LETTERS for row in one.record.to_pylist()]
    return {row["id"]: row["pallets"] for row in made}, sum(one.row_count for one in found if one.table == DEAD_LETTERS)


def halves(quantities: range) -> dict[int, Decimal]:
    """The right answer: half, rounded half to even."""
    return {one: Decimal(round(Decimal(one) / 2)) for one in quantities if one % 50 != 13}


def test_equal_rules_are_promoted_and_refused_rows_are_no_difference(tmp_path: Path) -> None:
    """Two operations in place of one, through all stages; what both refuse is a dead letter once."""
    twice = f'once = {HALF}, pallets = {{ how = "multiply", of = ["once", 1], type = "decimal(18,0)" }}'
    present = f'transform = {{ once = {HALF}, pallets = {{ how = "add", of = ["once", 0], type = "decimal(18,0)" }} }}'
    candidate, plan = candidate_of(f"{present}\ncandidate = {{ transform = {{ {twice} }} }}", tmp_path)
    step = started(candidate, plan)
    for _ in range(12):
        assert answer(step, batch(range(100))) == (halves(range(100)), 2)
    assert rollout_store.read(tmp_path)[0].workers[0][0].promoted


def test_another_rounding_is_a_difference_and_is_not_served(tmp_path: Path) -> None:
    """Half up differs at every second half only: the batch that holds one goes on as the present rules have it."""
    candidate, plan = candidate_of(f"{RULES}\ncandidate = {{ transform = {{ pallets = {HALF_UP} }} }}", tmp_path)
    step = started(candidate, plan)
    for _ in range(3):
        assert answer(step, batch(range(0, 400, 2)))[0] == halves(range(0, 400, 2))
    for start in (1, 401):
        assert answer(step, batch(range(start, start + 400, 2)))[0] == halves(range(start, start + 400, 2))
    (shown,) = rollout_store.read(tmp_path)
    assert shown.rollback is not None and shown.rollback["reason"] == DIFFERENCE and shown.rows


def test_a_wrong_kernel_is_found_beside_its_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[rollout] kernels = ["transform"]: promoted while it is right, and not served at the first wrong digit."""
    candidate, plan = candidate_of(RULES, tmp_path, 'kernels = ["transform"]')
    step = started(candidate, plan)
    for _ in range(12):
        assert answer(step, batch(range(700, 800))) == (halves(range(700, 800)), 2)
    assert rollout_store.read(tmp_path)[0].workers[0][0].promoted
    monkeypatch.setattr(transform, "arithmetic", wrong)
    unguarded, _ = answer(Transform("rolled", "transform", plan), batch(range(700, 800)))
    assert unguarded[777] == halves(range(700, 800))[777] + 1
    assert answer(step, batch(range(700, 800))) == (halves(range(700, 800)), 2)
    assert rollout_store.read(tmp_path)[0].rollback is not None
    assert answer(step, batch(range(700, 800)))[0] == halves(range(700, 800))


def test_other_factors_are_another_version(tmp_path: Path) -> None:
    """A rollback says nothing about the same file of units with other factors."""
    unit = '{ how = "unit", of = "quantity", from = "unit", to = "PC", units = "units.csv", type = "decimal(9,0)" }'
    table = Table("items", (*ITEMS.columns, Column("unit", parse_type("string"))), ("id",))
    versions = []
    for factor in (1, 2, 1):
        (tmp_path / "units.csv").write_text(f"unit,dimension,numerator,denominator\nPC,pieces,{factor},1\n")
        rules = f"transform = {{ pallets = {unit} }}"
        candidate, _ = candidate_of(rules, tmp_path, 'kernels = ["transform"]', table)
        assert candidate is not None
        versions.append(candidate.version)
    assert versions[0] == versions[2] != versions[1]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (f"pieces = {HALF}", "expected the same columns ['pallets'], found ['pieces']"),
        (f"pallets = {HALF.replace('18,0', '18,1')}", "expected the same types in the same order, found others"),
        ('pallets = "trim"', "transform.pallets: expected a column of"),
    ],
)
def test_rules_that_do_not_fit_are_refused(new: str, message: str, tmp_path: Path) -> None:
    """Before the first row."""
    with pytest.raises(ConfigurationError) as caught:
        candidate_of(f"{RULES}\ncandidate = {{ transform = {{ {new} }} }}", tmp_path)
    assert message in str(caught.value)


def test_no_wrong_value_reaches_the_target(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that is wrong for one value in a thousand, in two processes: seen without a rollout, never with one."""
    monkeypatch.setenv("WAREHOUSE_DSN", postgres)
    name = topic(2)
    produce(broker, name, items(range(5000)))
    text = (
        PIPELINE.replace("STEP", f"transform = {{ pallets = {HALF_UP} }}")
        .replace("TOPIC", name)
        .replace("127.0.0.1:1", broker)
    )
    text = text.replace('name = "rolled"', 'name = "rolled"\nstate_dir = "state"')
    (tmp_path / "rolled.toml").write_text(text.replace("[rollout]", '[rollout]\nkernels = ["transform"]'))
    flow = f"tests.flows.wrong_kernel:flow('{tmp_path / 'rolled.toml'}', until_end=True)"
    assert run_flow(flow, tmp_path, processes=2) == [0, 0], (tmp_path / "process-0.log").read_text()[-3000:]
    assert fetch(postgres, TRUTH) == [(5000, 0)]
    (shown,) = headrace(tmp_path)
    assert shown["name"] == "transform-items" and shown["rollback"]["reason"] == DIFFERENCE
    kept = headrace(tmp_path, "rows")
    assert kept and all(row["input.quantity"] % 1000 == 777 for row in kept)
    assert verify(str(tmp_path / "rolled.toml")).equal
    (tmp_path / "rolled.toml").write_text(text)  # without the rollout
    produce(broker, name, items(range(5000, 6000)))
    assert run_flow(flow, tmp_path) == [0]
    assert fetch(postgres, TRUTH) == [(6000, 1)]
    assert not verify(str(tmp_path / "rolled.toml")).equal
