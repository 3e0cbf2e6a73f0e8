"""The measures of the stateful flows: the joined truth, the pipeline file, the steady world, the state's life."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from bench import crash, generate, state, steady, truth, w2, workload
from bench.measure import Result
from bench.w1 import without_start
from flows.spec import load


def fold(directory: Path, table: str) -> dict[bytes, dict[str, Any]]:
    """The rows that a plain reading of the events leaves."""
    rows: dict[bytes, dict[str, Any]] = {}
    for key, value in generate.read(directory / f"{table}.tsv"):
        rows.pop(key, None)
        if (after := json.loads(value)["after"]) is not None:
            rows[key] = after
    return rows


def joined(directory: Path) -> list[tuple[int, int, str, int, str]]:
    """(order, line, status, customer, customer's name) of the inner join, by dicts."""
    orders = {row["id"]: row for row in fold(directory, "orders").values()}
    customers = {row["id"]: row for row in fold(directory, "customers").values()}
    found = []
    for item in fold(directory, "items").values():
        order = orders.get(item["order_id"])
        customer = order and customers.get(order["customer_id"])
        if order and customer:
            found.append((item["order_id"], item["line_no"], order["status"], customer["id"], customer["name"]))
    return sorted(found)


def expected(directory: Path) -> list[tuple[int, int, str, int, str]]:
    """The same columns of bench/truth.py's rows."""
    rows = truth.final(directory, w2.RESULT)
    names = ("order_id", "line_no", "status", "customer_id", "customer_name")
    texts = zip(*(rows[name].to_pylist() for name in names), strict=True)
    return sorted((int(order), int(line), status, int(customer), name) for order, line, status, customer, name in texts)


@pytest.mark.parametrize("hard", [False, True])
def test_the_joined_truth_is_the_inner_join(tmp_path: Path, hard: bool) -> None:
    """order_lines holds exactly the items whose order and customer are there, with their columns."""
    generate.write(tmp_path, 3000, hard)
    rows = joined(tmp_path)
    assert expected(tmp_path) == rows
    items = len(fold(tmp_path, "items"))
    assert (0.5 * items < len(rows) < items) if hard else len(rows) == items


def test_the_joined_rows_are_compared_as_postgresql_prints_them(tmp_path: Path, postgres: str) -> None:
    """Rows written by plain INSERTs are equal to the truth; a customer's other name in one row is seen."""
    generate.write(tmp_path, 300, hard=True)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(truth.ddl(w2.RESULT))
        rows = truth.final(tmp_path, w2.RESULT)
        values = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
        marks = ", ".join(["%s"] * rows.num_columns)
        connection.cursor().executemany(f"INSERT INTO {w2.RESULT} VALUES ({marks})", values)
        assert truth.check(connection, w2.RESULT, tmp_path, w2.RESULT).equal
        one = f"(SELECT min(line_no) FROM {w2.RESULT})"
        connection.execute(f"UPDATE {w2.RESULT} SET customer_name = 'another' WHERE line_no = {one}")
        assert truth.check(connection, w2.RESULT, tmp_path, w2.RESULT).missing == 1


def test_the_pipeline_writes_the_result_alone(tmp_path: Path) -> None:
    """The file has two joins in a row, of which only the last one's result goes to the target."""
    pipeline = load(w2.pipeline(tmp_path, "127.0.0.1:9092", w2.TOPICS, source="batch_rows_max = 500"))
    assert [step.result for step in pipeline.step] == ["items", w2.RESULT]
    assert [node.name for node in pipeline.wiring.written] == [w2.RESULT]


def test_a_wrapped_message_is_the_same_one_without_nulls(tmp_path: Path) -> None:
    """Pathway's messages hold the same events, and an empty text where a row has a NULL."""
    generate.write(tmp_path, 200)
    for key, value in generate.read(tmp_path / "items.tsv"):
        wrapped_key, wrapped_value = map(json.loads, w2.wrapped(key, value))
        event = json.loads(value)
        for side in ("before", "after"):
            if event[side] is not None and event[side]["note"] is None:
                event[side]["note"] = ""
        assert (wrapped_key["payload"], wrapped_value["payload"]) == (json.loads(key), event)


def test_the_steady_world_is_the_fold_of_its_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the world says is left is what its events lead to, and its size stays about what it was."""
    for name, count in (("CUSTOMERS", 20), ("ORDERS", 100), ("ITEMS", 400)):
        monkeypatch.setattr(steady, name, count)
    world = steady.World()
    events = world.load()
    loaded = len(events)
    while len(events) < 20_000:
        events += world.change()
    world.write(tmp_path / "left")
    (tmp_path / "all").mkdir()
    for table in workload.TABLES:
        lines = "".join(f"{key}\t{value}\n" for name, key, value in events if name == table)
        (tmp_path / "all" / f"{table}.tsv").write_text(lines, "utf-8")
        assert fold(tmp_path / "left", table) == fold(tmp_path / "all", table)
    assert Counter(json.loads(value)["op"] for _, _, value in events).keys() == {"c", "u", "d"}
    left = sum(len(fold(tmp_path / "left", table)) for table in workload.TABLES)
    assert 0.8 * loaded < left < 1.2 * loaded
    assert expected(tmp_path / "left") == joined(tmp_path / "left")


def test_an_item_of_the_steady_world_moves_by_a_delete_and_a_create(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moved item's two events have two keys of one line, the old one's delete first."""
    monkeypatch.setattr(steady, "ITEMS", 1)
    world = steady.World()
    moves = [events for events in (world.item(0) for _ in range(200)) if len(events) == 2]
    assert moves
    for (_, old, gone), (_, new, made) in moves:
        assert [json.loads(event)["op"] for event in (gone, made)] == ["d", "c"]
        assert json.loads(old)["line_no"] == json.loads(new)["line_no"] == 0


def test_a_load_that_has_not_settled_is_not_called_flat() -> None:
    """Memory that falls by a tenth is as far from flat as memory that rises by one; a line without slope is flat."""

    def judged(*heights: float) -> Result:
        samples = steady.Samples.__new__(steady.Samples)
        samples.memory = samples.state = [(float(second), height) for second, height in enumerate(heights)]
        pacer = steady.Pacer.__new__(steady.Pacer)
        pacer.events, pacer.late_s = 1, 0.0
        return steady.judge(samples, pacer, 0.0, truth.Comparison(1, 1, 0, 0))

    rising = [1e6 + 1e3 * second for second in range(100)]
    assert judged(*rising).value == pytest.approx(judged(*rising[::-1]).value, rel=0.1)
    assert judged(*rising).ratio < 1 and judged(*rising[::-1]).ratio < 1
    assert judged(*[1e6] * 100).ratio > 1


def test_a_run_as_short_as_a_start_gives_no_rate() -> None:
    """Where taking off the start leaves nothing, the measure stops instead of printing a rate below zero."""
    assert without_start(5.0, 2.0) == 3.0
    with pytest.raises(SystemExit, match=r"found 2\.00 s and 6\.00 s"):
        without_start(2.0, 6.0)


def test_rows_of_the_state_change_by_turn() -> None:
    """The same numbers give the same keys, and in another turn other quantities."""
    source, numbers = state.Rows(), pa.array(range(500), pa.int64())
    first, again, later = (source.make(numbers, turn) for turn in (1, 1, 2))
    assert first.equals(again)
    assert first.drop_columns("quantity").equals(later.drop_columns("quantity"))
    assert not first.column("quantity").equals(later.column("quantity"))
    assert 0.6 < first.column("note").null_count / 500 < 0.8


def test_a_state_lives_on_from_its_manifests(tmp_path: Path) -> None:
    """After some epochs a new hub has the same rows; with an older manifest of one slot it has not."""
    source, chance, manifests = state.Rows(), random.Random(1), dict[int, bytes]()
    numbers = list(range(2000))
    life = state.Life(tmp_path, source.make(pa.array([0], pa.int64()), 0).schema)
    life.attach({})
    life.epoch(source.make(pa.array(numbers, pa.int64()), 0), manifests)
    older = dict(manifests)
    for turn in range(1, 4):
        taken_ms, busy_ms, size = life.epoch(
            source.make(pa.array(chance.sample(numbers, 300), pa.int64()), turn), manifests
        )
        assert taken_ms > 0 and busy_ms > 0 and size > 1000
    before = life.content()
    life.close()
    resumed = state.Life(tmp_path, before.schema)
    resumed.attach(manifests)
    assert resumed.content().equals(before)
    resumed.close()
    stale = state.Life(tmp_path, before.schema)
    stale.attach({**manifests, 7: older[7]})
    assert stale.content().num_rows == 2000 and not stale.content().equals(before)
    stale.close()


def test_a_killing_run_of_the_join_is_compared_with_the_join() -> None:
    """A run of w2 is equal only if order_lines was compared, and its rig compares it with the joined truth."""
    same = truth.Comparison(10, 10, 0, 0)
    assert crash.JoinRig.tables == (w2.RESULT,)
    assert crash.Outcome(1, [2], crash.JoinRig.tables, compared={w2.RESULT: same}).equal
    assert not crash.Outcome(1, [2], crash.JoinRig.tables, compared={"items": same}).equal
    assert not crash.Outcome(1, [2], crash.JoinRig.tables).equal


def test_the_naive_peer_is_right(tmp_path: Path, broker: str, postgres: str) -> None:
    """The row-by-row peer ends with the truth of the hard workload: it is no straw man."""
    generate.write(tmp_path, 5000, hard=True)
    topics = {table: f"naive-{table}-{tmp_path.name}" for table in workload.TABLES}
    count = sum(generate.produce(broker, tmp_path, topics, 2).values())
    script = Path(w2.__file__).parent / "peers" / "naive_bytewax.py"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(truth.ddl(w2.RESULT))
        arguments = [sys.executable, str(script), "--servers", broker, "--topics", json.dumps(topics)]
        done = subprocess.run([*arguments, "--dsn", postgres], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["events"] == count
        assert truth.check(connection, w2.RESULT, tmp_path, w2.RESULT).equal
