"""The call step: the worked example in a flow, rows that its function refuses, and a function that crashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from connectors.kafka.topics import produce
from control import runner
from flows.operators.user_function import Call, plan_call
from flows.testing import run_flow
from flows.user_function_marker import DEATHS_MAX, Marker
from flows.verify import verify
from libcore.change import ChangeBatch, Op, arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, FatalError
from libcore.schema import Column, Table, parse_type
from tests.flows.debezium import change
from tests.libcore.user_functions import MISBEHAVING, PALLETS, library

ITEMS = Table("items", tuple(Column(name, parse_type("int64")) for name in ("id", "quantity", "per_pallet")), ("id",))
PIPELINE = """
name = "calls"
[source.kafka]
servers = "127.0.0.1:1"
format = "debezium-json"
start = "earliest"
batch_rows_max = 25
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
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
parts = 1
"""
EXAMPLE = 'call = "libpallets.so:pallets"\ntake = ["quantity", "per_pallet"]\ngives = { pallets = "int64" }'
CRASHES = 'call = "libmisbehaving.so:crashes_at_13"\ntake = ["id"]\ngives = { t = "string" }'


def batch(*rows: dict[str, Any]) -> ChangeBatch:
    """Changes of ITEMS; upserts where nothing else is said."""
    control = {"__op": int(Op.UPSERT), "__position": bytes(32), "__source_ts": None}
    whole = [{"quantity": None, "per_pallet": None, **control, **row} for row in rows]
    return ChangeBatch(ITEMS, pa.RecordBatch.from_pylist(whole, schema=arrow_schema(ITEMS)))


def flow_of(tmp_path: Path, step: str, topic: str, broker: str) -> str:
    """The pipeline file beside its libraries, as an import string."""
    file = tmp_path / "calls.toml"
    file.write_text(PIPELINE.replace("STEP", step).replace("TOPIC", topic))
    return f"flows.build:flow('{file}', until_end=True, source__kafka__servers='{broker}')"


def items(*ids: int, quantity: int = 100) -> list[Any]:
    """Messages of rows with a pallet of 48."""
    return [change("c", None, {"id": one, "quantity": quantity, "per_pallet": 48}, ["id"]) for one in ids]


def fetch(dsn: str, query: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def log_of(tmp_path: Path) -> str:
    """The end of the worker's log."""
    return (tmp_path / "process-0.log").read_text()[-4000:]


def test_rows_that_it_refuses_are_dead_letters_and_deletes_are_not_shown(tmp_path: Path) -> None:
    """The neighbours go on; each letter has the function's own error."""
    path = library(PALLETS, tmp_path)
    if path is None:
        assert not EXAMPLE.startswith("[")
        return
    plan = plan_call(
        ITEMS, str(path), "pallets", ("quantity", "per_pallet"), {"pallets": "int64"}, ("per_pallet",), "r"
    )
    rows = [{"id": number, "quantity": 100 - number * 60, "per_pallet": 48} for number in range(3)]
    found = Call("flow", "call", plan)([batch(*rows, {"id": 9, "__op": int(Op.DELETE)})])
    made = [row for one in found if one.table != DEAD_LETTERS for row in one.record.to_pylist()]  # type: ignore
    letters = [row for one in found if one.table == DEAD_LETTERS for row in one.record.to_pylist()]  # type: ignore
    assert [(row["id"], row["pallets"]) for row in made] == [(0, 3), (1, 1), (9, None)]
    assert [(row["key_text"], row["error"][:32]) for row in letters] == [
        ('{"id": 2}', "DataError: expected a quantity f")
    ]
    assert [column.name for column in plan.result.columns] == ["id", "quantity", "pallets"]


def test_an_answer_of_another_shape_stops_the_flow(tmp_path: Path) -> None:
    """No row of the batch goes on, and none becomes a dead letter: a person must act."""
    path = library(MISBEHAVING, tmp_path)
    if path is None:
        assert not CRASHES.startswith("[")
        return
    plan = plan_call(ITEMS, str(path), "too_few_rows", ("id",), {"t": "string"}, (), "r")
    with pytest.raises(FatalError, match="expected 2 rows, as many as came in, found 1: nothing of the batch goes on"):
        Call("flow", "call", plan)([batch({"id": 1}, {"id": 2})])


def test_a_column_that_became_another_type_stops_the_flow(tmp_path: Path) -> None:
    """The function was made ready for the type before; the restart asks for the new one, so no row is set aside."""
    path = library(PALLETS, tmp_path)
    if path is None:
        assert not EXAMPLE.startswith("[")
        return
    narrow = Table("items", (ITEMS.columns[0], Column("quantity", parse_type("int32")), ITEMS.columns[2]), ("id",))
    plan = plan_call(narrow, str(path), "pallets", ("quantity", "per_pallet"), {"pallets": "int64"}, (), "r")
    with pytest.raises(FatalError, match=r"table items: column quantity: expected int32, as .* found int64"):
        Call("flow", "call", plan)([batch({"id": 1, "quantity": 100, "per_pallet": 48})])


@pytest.mark.parametrize(
    ("take", "gives", "drop", "message"),
    [
        (("nothing",), {"t": "string"}, (), "take: expected columns of"),
        ((), {"id": "int64"}, (), "expected columns outside of the key, found key column 'id'"),
        ((), {"t": "string"}, ("id",), "expected columns outside of the key"),
        ((), {"t": "text"}, (), "type 'text': expected one of"),
        ((), {"t": "string"}, (), "expected a shared library with good()"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(take: Any, gives: Any, drop: Any, message: str, tmp_path: Path) -> None:
    """The error names table, setting, what was expected and what was found."""
    with pytest.raises(ConfigurationError) as caught:
        plan_call(ITEMS, str(tmp_path / "none.so"), "good", take, gives, drop, "r")
    assert message in str(caught.value)


def test_a_process_that_is_killed_is_not_a_crash_at_once(tmp_path: Path) -> None:
    """Killed from outside twice it is tried again, at the third time it is quarantined; another build is free again."""
    build = tmp_path / "lib.so"
    build.write_bytes(b"one build")

    running = []  # a context that is collected would be left in good order

    def dies() -> Marker:
        marker = Marker(tmp_path, "call", "lib.so:f", build, 0)
        running.append(marker.running())
        running[-1].__enter__()
        return marker

    assert [dies().quarantine for _ in range(DEATHS_MAX)] == [None] * DEATHS_MAX
    told = Marker(tmp_path, "call", "lib.so:f", build, 0)
    assert told.quarantine is not None and "killed or ended 3 times in a row" in told.quarantine
    assert Marker(tmp_path, "call", "lib.so:f", build, 1).quarantine == told.quarantine
    build.write_bytes(b"another build")
    assert Marker(tmp_path, "call", "lib.so:f", build, 0).quarantine is None


def test_an_error_or_a_good_call_is_no_death(tmp_path: Path) -> None:
    """After an exception, and after calls that went well, a restart finds nothing to hold against the function."""
    build = tmp_path / "lib.so"
    build.write_bytes(b"one build")
    for _ in range(2 * DEATHS_MAX):
        marker = Marker(tmp_path, "call", "lib.so:f", build, 0)
        with marker.running():
            pass
        with pytest.raises(ValueError), marker.running():
            raise ValueError
        assert marker.quarantine is None
    assert not marker.quarantine_file.exists()


def test_the_example_runs_in_a_flow(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built by its build line: rows computed, a refused one aside, and verification agrees."""
    if library(PALLETS, tmp_path) is None:
        assert not EXAMPLE.startswith("[")
        return
    monkeypatch.setenv("WAREHOUSE_DSN", postgres)
    name = topic(1)
    produce(broker, name, [*items(*range(60)), *items(77, quantity=-1)])
    codes = run_flow(flow_of(tmp_path, EXAMPLE, name, broker), tmp_path, environment={"WAREHOUSE_DSN": postgres})
    assert codes == [0], log_of(tmp_path)
    assert fetch(postgres, "SELECT count(*), min(pallets), max(pallets) FROM items") == [(60, 3, 3)]
    assert fetch(postgres, "SELECT step, key_text FROM headrace_dead_letters") == [("call-items", '{"id": 77}')]
    produce(broker, name, [change("d", {"id": 77, "quantity": -1, "per_pallet": 48}, None, ["id"])])
    report = verify(str(tmp_path / "calls.toml"), source__kafka__servers=broker, state_dir=str(tmp_path / "state"))
    assert report.equal


def test_a_crash_ends_the_worker_and_quarantines_the_function(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path
) -> None:
    """The supervisor restarts it, the restart names the function and stops; another build goes on where it stood."""
    path = library(MISBEHAVING, tmp_path)
    if path is None:
        assert not CRASHES.startswith("[")
        return
    name, environment = topic(1), {"WAREHOUSE_DSN": postgres}
    produce(broker, name, items(*range(100, 130), 13, *range(200, 210)))
    flow, state = flow_of(tmp_path, CRASHES, name, broker), tmp_path / "state"
    result = runner.run(flow, state, environment=environment)
    assert result.exit_code == 78 and result.restarts == 1 and result.cause is not None
    assert "libmisbehaving.so:crashes_at_13 is quarantined" in str(result.cause)
    assert "it crashed (Fatal Python error: Segmentation fault)" in str(result.cause)
    assert fetch(postgres, "SELECT count(*) FROM items WHERE id >= 200 OR id = 13") == [(0,)]
    fixed = tmp_path / "fixed.c"
    fixed.write_text(MISBEHAVING.read_text().replace("if (values[row] == 13) *nowhere = 1;", "(void)nowhere;"))
    built = library(fixed, tmp_path)
    assert built is not None
    built.replace(path)
    result = runner.run(flow, state, environment=environment)
    assert result.exit_code == 0, result.cause
    assert fetch(postgres, "SELECT count(*), count(t) FROM items") == [(41, 41)]


def test_a_quarantined_function_can_be_parked(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path
) -> None:
    """With on_crash = "park" the flow goes on by itself: the rows become dead letters that name the quarantine."""
    if library(MISBEHAVING, tmp_path) is None:
        assert not CRASHES.startswith("[")
        return
    name = topic(1)
    produce(broker, name, items(13, *range(200, 205)))
    flow = flow_of(tmp_path, CRASHES + '\non_crash = "park"', name, broker)
    result = runner.run(flow, tmp_path / "state", environment={"WAREHOUSE_DSN": postgres})
    assert result.exit_code == 0 and result.restarts == 1, result.cause
    letters = fetch(
        postgres, "SELECT count(*), bool_and(error LIKE '%is quarantined since%') FROM headrace_dead_letters"
    )
    assert letters == [(6, True)]
