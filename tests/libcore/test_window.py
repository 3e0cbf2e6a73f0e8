"""Windows: both stages together hold, at every moment, what plain Python computes anew from all rows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libcore import window_values
from libcore.change import OP, ChangeBatch, Op
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type
from libcore.window import Aggregates, Contributions, WindowPlan, plan_window
from tests.examples import TIMES
from tests.libcore.batches import values
from tests.libcore.windows import KEYLESS, SECOND, TABLE, TYPES, History, Run, any_plan, any_row, batch_of, comparable

SEEDS = st.integers(0, 2**32)
SOME = settings(max_examples=25 * TIMES)
KINDS = ["tumbling", "sliding", "session", "all"]


def check(run: Run) -> None:
    assert comparable(run.target) == comparable(run.reference.results)
    assert run.late == run.expected_late()
    assert run.dead == len(run.reference.dead)


@pytest.mark.parametrize("kind", KINDS)
@SOME
@given(seed=SEEDS)
def test_results_equal_the_rows(kind: str, seed: int) -> None:
    """After any batch the target equals SQL over the table, whatever came, moved, went or was not sent."""
    r = Random(seed)
    run, history = Run(any_plan(r, kind)), History(r, TABLE)
    for _ in range(r.randint(1, 12)):
        run.apply(history.batch(), cuts=r.choice((1, 1, 2, 5)))
        check(run)
        if r.random() < 0.4:
            run.save()
        if r.random() < 0.2:
            run.move()


@pytest.mark.parametrize("kind", KINDS)
@SOME
@given(seed=SEEDS)
@example(seed=27318)  # kind "all": count(*) alone, which reads no column
def test_keyless_rows_count_by_their_copies(kind: str, seed: int) -> None:
    """Copies of a keyless table come and go, and the results with them."""
    r = Random(seed)
    run, history = Run(any_plan(r, kind, keyless=True)), History(r, KEYLESS)
    for _ in range(r.randint(1, 10)):
        run.apply(history.batch())
        check(run)


@pytest.mark.parametrize("emit", ["changes", "final"])
@pytest.mark.parametrize("kind", ["tumbling", "sliding", "session"])
@SOME
@given(seed=SEEDS)
def test_a_bound_on_lateness(kind: str, emit: str, seed: int) -> None:
    """Closed windows stay as they are, late rows come out as late, and open windows equal the rows that count."""
    r = Random(seed)
    plan = any_plan(r, kind, bounded=True, final=emit == "final", keyless=r.random() < 0.2)
    run, history = Run(plan), History(r, plan.source)
    for _ in range(r.randint(1, 15)):
        run.apply(history.batch())
        check(run)
        if r.random() < 0.5:
            run.advance((history.now_s - r.choice((0, 10, 40))) * SECOND + r.choice((0, 1)))
            check(run)
        if r.random() < 0.4:
            run.save()
        if r.random() < 0.2:
            run.move()
    run.advance((history.now_s + 1000) * SECOND)
    check(run)
    assert run.second.stores["windows"].rows == 0


def test_windows_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all windows share the hash that their values are found by, each still sees its own values only."""
    monkeypatch.setattr(window_values, "bag", lambda record, _: pa.array([7] * record.num_rows, pa.int64()))
    for kind in KINDS:
        r = Random(5)
        plan = plan_window(
            TABLE, ["customer"], None if kind == "all" else "at", kind, {"least": "min(amount)", "most": "max(note)"},
            size_us=60 * SECOND, slide_us=20 * SECOND, gap_us=5 * SECOND, name="t",
        )  # fmt: skip
        run, history = Run(plan), History(r, TABLE)
        for _ in range(10):
            run.apply(history.batch())
            check(run)


SQL = {
    "tumbling": "SELECT *, time_bucket(INTERVAL 60 SECOND, t) AS s, s + INTERVAL 60 SECOND AS e FROM orders",
    "sliding": "SELECT *, unnest(generate_series(time_bucket(INTERVAL 10 SECOND, t) - INTERVAL 20 SECOND, t, "
    "INTERVAL 10 SECOND)) AS s, s + INTERVAL 30 SECOND AS e FROM orders",
    "session": "SELECT *, min(t) OVER w AS s, max(t) OVER w + INTERVAL 5 SECOND AS e FROM (SELECT *, sum(opens) "
    "OVER (PARTITION BY customer ORDER BY t, opens DESC ROWS UNBOUNDED PRECEDING) AS n FROM (SELECT *, coalesce(t - "
    "lag(t) OVER (PARTITION BY customer ORDER BY t) >= INTERVAL 5 SECOND, true)::INT AS opens FROM orders)) "
    "WINDOW w AS (PARTITION BY customer, n)",
}


@pytest.mark.parametrize("kind", sorted(SQL))
@settings(max_examples=8 * TIMES)
@given(seed=SEEDS)
def test_duckdb_gives_the_same(kind: str, seed: int) -> None:
    """Another engine's SQL over the last rows, each row in all its windows, gives the results."""
    r = Random(seed)
    aggregates = {"n": "count(*)", "revenue": "sum(amount)", "least": "min(amount)", "notes": "count(distinct note)"}
    sizes = {"size_us": 30 * SECOND if kind == "sliding" else 60 * SECOND, "slide_us": 10 * SECOND}
    plan = plan_window(TABLE, ["customer"], "at", kind, aggregates, gap_us=5 * SECOND, name="t", **sizes)
    run, history = Run(plan), History(r, TABLE)
    for _ in range(8):
        run.apply(history.batch())
    good = [row for row in history.rows.values() if row["at"] is not None and row["at"] < 2**60]
    connection = duckdb.connect()
    connection.register("rows_", batch_of([(Op.UPSERT, row, set()) for row in good], TABLE, 1).record)
    connection.execute('CREATE TABLE orders AS SELECT *, "at" AS t FROM rows_')
    found = connection.execute(
        "SELECT customer, epoch_us(s), epoch_us(e), count(*), sum(amount), min(amount), count(DISTINCT note) "
        f"FROM ({SQL[kind]}) GROUP BY customer, s, e"
    ).fetchall()
    expected = {
        (None if customer is None else customer.encode(), start): [
            start, end, count, *(None if value is None else int(value.scaleb(4)) for value in (total, least)), notes
        ]
        for customer, start, end, count, total, least, notes in found
    }  # fmt: skip
    assert comparable(run.target) == comparable(expected)


ORDERS = Table(
    "shop.orders",
    (
        Column("id", parse_type("int64"), False),
        Column("customer", parse_type("string")),
        Column("at", parse_type("timestamptz")),
        Column("amount", parse_type("decimal(10,2)")),
    ),
    ("id",),
)
HOUR = 3600 * SECOND


def hourly(**settings: Any) -> WindowPlan:
    wanted = {"kind": "tumbling", "aggregates": {"n": "count(*)", "revenue": "sum(amount)", "mean": "avg(amount)"}}
    return plan_window(ORDERS, ["customer"], "at", size_us=HOUR, name="hourly", **(wanted | settings))


def orders(*rows: tuple[int, str, str, int] | int) -> ChangeBatch:
    """(id, customer, "hour:minute", cents) each, or the id of an order that is deleted."""
    changes = []
    for row in rows:
        if isinstance(row, int):
            changes.append((Op.DELETE, {"id": row, "customer": None, "at": None, "amount": None}, set()))
            continue
        hour, minute = row[2].split(":")
        us = (int(hour) * 60 + int(minute)) * 60 * SECOND
        changes.append((Op.UPSERT, {"id": row[0], "customer": row[1].encode(), "at": us, "amount": row[3]}, set()))
    return batch_of(changes, ORDERS, 1)


def shown(batch: ChangeBatch | None) -> list[tuple[Any, ...]]:
    """(op, customer, hour of the start, then the aggregates) of each result."""
    rows = [] if batch is None else batch.record.to_pylist()
    names = [] if batch is None else [c.name for c in batch.table.columns][3:]
    return [
        (Op(row[OP]).name, row["customer"], row["window_start"].hour, *(row[name] for name in names)) for row in rows
    ]


def test_an_order_that_moves() -> None:
    """An order of 9 o'clock is corrected to 10: the earlier hour goes, as nothing is left in it, the other grows."""
    first, second = Contributions(hourly()), Aggregates(hourly())

    def given_by(changes: ChangeBatch) -> list[tuple[Any, ...]]:
        rows = first.apply(changes).rows
        return [] if rows is None else sorted(shown(second.apply(rows).results))

    assert given_by(orders((1, "ann", "9:10", 500), (2, "ann", "10:20", 101))) == [
        ("UPSERT", "ann", 9, 1, Decimal("5.00"), Decimal("5.000000")),
        ("UPSERT", "ann", 10, 1, Decimal("1.01"), Decimal("1.010000")),
    ]
    assert given_by(orders((1, "ann", "10:10", 500))) == [
        ("DELETE", "ann", 9, None, None, None),
        ("UPSERT", "ann", 10, 2, Decimal("6.01"), Decimal("3.005000")),
    ]
    assert given_by(orders((1, "ann", "10:11", 500))) == []  # another minute of the same hour changes no result
    assert given_by(orders(1, 7)) == [("UPSERT", "ann", 10, 1, Decimal("1.01"), Decimal("1.010000"))]


def test_final_windows_come_once() -> None:
    """An hour comes when the watermark reaches its end and the lateness is over; later rows of it come out as late."""
    plan = hourly(emit="final", allowed_lateness_us=60 * SECOND, aggregates={"n": "count(*)"})
    first, second = Contributions(plan), Aggregates(plan)

    def apply(changes: ChangeBatch) -> Any:
        found = first.apply(changes)
        assert found.rows is None or second.apply(found.rows).results is None
        return found.late

    def advance(us: int) -> list[tuple[Any, ...]]:
        first.advance(us)
        return [row for given in second.advance(us) for row in shown(given.results)]

    apply(orders((1, "ann", "0:10", 1), (2, "ann", "0:50", 1), (3, "bob", "1:10", 1)))
    assert advance(HOUR + 60 * SECOND - 1) == []
    assert advance(HOUR + 60 * SECOND) == [("UPSERT", "ann", 0, 2)]
    late = apply(orders((4, "bob", "0:20", 1), (1, "ann", "5:00", 1), 2))
    assert [(row["id"], row["late_change"]) for row in late.record.to_pylist()] == [
        (4, "add"),
        (1, "add"),
        (2, "remove"),
    ]
    assert late.record.column("late_watermark")[0].as_py() == datetime.fromisoformat("1970-01-01T01:01:00+00:00")
    assert first.late_rows == 3
    assert advance(HOUR + 60 * SECOND) == []
    assert [row for given in second.close() for row in shown(given.results)] == [("UPSERT", "bob", 1, 1)]


def test_a_moved_slot_knows_what_is_closed() -> None:
    """Whoever takes over a slot whose window was purged knows the watermark, so a late row cannot open it again."""
    run = Run(hourly(emit="final", aggregates={"n": "count(*)"}))
    run.apply(orders((1, "ann", "0:10", 1)))
    run.advance(HOUR)
    run.save()
    fresh = Contributions(run.plan, run.slots), Aggregates(run.plan, run.slots)
    for stage, name, record in run.saved:
        fresh[stage].stores[name].load(record)
    assert [stage.watermark_us for stage in fresh] == [HOUR, HOUR]
    late = fresh[0].apply(orders((1, "ann", "5:00", 1), (2, "ann", "0:20", 1)))
    assert late.rows is None and late.late is not None and late.late.row_count == 2
    early = Contributions(run.plan, run.slots).apply(orders((3, "ann", "0:20", 1)))  # one that has not heard of time
    found = fresh[1].apply(early.rows)
    assert found.late is not None and found.late.record.column("id").to_pylist() == [3]
    assert fresh[1].late_rows == 1 and fresh[1].stores["windows"].rows == 0


def test_a_session_is_merged_and_split() -> None:
    """An order between two sessions makes them one, which goes under the earlier start; without it they are two."""
    plan = plan_window(ORDERS, ["customer"], "at", "session", {"n": "count(*)"}, gap_us=HOUR, name="visits")
    first, second = Contributions(plan), Aggregates(plan)

    def given_by(changes: ChangeBatch) -> list[tuple[Any, ...]]:
        return shown(second.apply(first.apply(changes).rows).results)

    assert given_by(orders((1, "ann", "9:00", 1), (2, "ann", "10:00", 1))) == [
        ("UPSERT", "ann", 9, 1), ("UPSERT", "ann", 10, 1)
    ]  # fmt: skip
    assert given_by(orders((3, "ann", "9:30", 1))) == [("DELETE", "ann", 10, None), ("UPSERT", "ann", 9, 3)]
    assert given_by(orders(3)) == [("UPSERT", "ann", 9, 1), ("UPSERT", "ann", 10, 1)]


def test_a_sum_that_does_not_fit_is_refused_and_comes_back() -> None:
    """A sum of more than 38 digits names its group and window; when it fits again it is right, as no digit was lost."""
    plan = plan_window(TABLE, ["customer"], "at", "tumbling", {"wide": "sum(wide)"}, size_us=HOUR, name="t")
    first, second = Contributions(plan), Aggregates(plan)
    row = any_row(Random(1), 5, 1) | {"customer": b"a", "at": 5 * SECOND, "wide": 10**38 - 1}
    other = row | {"id": 2, "wide": 1}
    assert second.apply(first.apply(batch_of([(Op.UPSERT, row, set())], TABLE, 1)).rows).refused is None
    given = second.apply(first.apply(batch_of([(Op.UPSERT, other, set())], TABLE, 2)).rows)
    assert given.results is None and given.refused is not None
    assert "customer=a" in given.refused[1][0] and "window_start=1970" in given.refused[1][0]
    given = second.apply(first.apply(batch_of([(Op.DELETE, other, set())], TABLE, 3)).rows)
    assert given.refused is None and str(given.results.record.column("wide")[0]) == "9" * 36 + ".99"


def test_a_row_without_a_time_counts_nowhere() -> None:
    """An order whose time becomes NULL, or infinity, is taken out of its window, and comes out to be parked."""
    plan = hourly()
    first, second = Contributions(plan), Aggregates(plan)
    second.apply(first.apply(orders((1, "ann", "9:10", 500))).rows)
    for us in (None, 2**63 - 1):
        gone = batch_of([(Op.UPSERT, {"id": 1, "customer": b"ann", "at": us, "amount": 5}, set())], ORDERS, 2)
        found = first.apply(gone)
        assert found.dead is not None and found.dead.record.column("id").to_pylist() == [1]
        if us is None:
            assert shown(second.apply(found.rows).results) == [("DELETE", "ann", 9, None, None, None)]
        else:
            assert found.rows is None


def test_columns_that_are_not_read_may_change() -> None:
    """A new column is passed over; another type of a column that is read is refused, as is another key."""
    first = Contributions(hourly())
    wide = Table(ORDERS.name, (*ORDERS.columns, Column("note", parse_type("string"))), ORDERS.key)
    row = {"id": 1, "customer": b"ann", "at": 0, "amount": 5, "note": b"x"}
    assert first.apply(batch_of([(Op.UPSERT, row, set())], wide, 1)).rows.num_rows == 1
    other = Table(ORDERS.name, (*ORDERS.columns[:3], Column("amount", parse_type("int64"))), ORDERS.key)
    with pytest.raises(ConfigurationError, match=r"amount: expected decimal\(10,2\), found int64"):
        first.apply(batch_of([(Op.UPSERT, row, set())], other, 1))
    with pytest.raises(ConfigurationError, match="expected the key"):
        first.apply(ChangeBatch(Table(ORDERS.name, ORDERS.columns), orders((1, "a", "0:0", 1)).record))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "hopping"}, "kind: expected one of tumbling, sliding, session, all"),
        ({"kind": "session"}, "gap: expected a duration above 0"),
        ({"kind": "sliding", "slide_us": 2 * HOUR}, "slide: expected at most the size"),
        ({"emit": "often"}, "emit: expected"),
        ({"allowed_lateness_us": -1}, "allowed_lateness: expected 0 or more"),
        ({"aggregates": {}}, "aggregate: expected at least one"),
        ({"aggregates": {"x": "median(amount)"}}, "aggregate x: expected sum"),
        ({"aggregates": {"x": "sum(note)"}}, "expected a column of"),
        ({"aggregates": {"x": "sum(customer)"}}, "sum of customer: expected one of int16"),
        ({"aggregates": {"x": "sum(distinct amount)"}}, "distinct and . go with count"),
        ({"aggregates": {"x": "avg(amount, 40)"}}, "expected a scale of 0 to 20"),
        ({"aggregates": {"customer": "count(*)"}}, "found 'customer' again"),
    ],
)
def test_a_step_that_cannot_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    """Each setting that does not fit says what was expected and found, under the step's name."""
    with pytest.raises(ConfigurationError, match=f"window hourly: .*{message}"):
        hourly(**wrong)


def test_times_of_all_kinds() -> None:
    """Dates, and nanoseconds before 1970, fall into the windows that their moment lies in."""
    for kind, times, starts in (("date", [-1, 0], [-24, 0]), ("timestamp_ns", [-1, 10**9], [-1, 0])):
        table = Table("t", (Column("id", parse_type("int64")), Column("at", parse_type(kind))), ("id",))
        plan = plan_window(table, [], "at", "tumbling", {"n": "count(*)"}, size_us=HOUR, name="t")
        changes = batch_of([(Op.UPSERT, {"id": i, "at": at}, set()) for i, at in enumerate(times)], table, 1)
        found = Aggregates(plan).apply(Contributions(plan).apply(changes).rows).results
        hours = [start // HOUR for start in found.record.column("window_start").cast(pa.int64()).to_pylist()]
        assert hours == starts


@pytest.mark.parametrize(
    "kind",
    ["int16", "int64", "float32", "float64", "decimal(5,2)", "decimal(38,0)", "decimal(76,3)", "date", "time",
     "time_ns", "timestamp", "timestamptz", "timestamp_ns", "string", "uuid", "bytes", "bool"],
)  # fmt: skip
@settings(max_examples=5 * TIMES)
@given(data=st.data())
def test_values_of_every_type(kind: str, data: st.DataObject) -> None:
    """Least, greatest and different values of any type that allows it follow upserts and deletes."""
    table = Table("t", (Column("id", parse_type("int64")), Column("v", parse_type(kind))), ("id",))
    wanted = {"n": "count(distinct v)"} | ({} if kind == "bool" else {"least": "min(v)", "most": "max(v)"})
    run = Run(plan_window(table, [], None, "all", wanted, name="t"))
    for start in range(0, 40, 10):
        found = data.draw(st.lists(st.none() | values(table.columns[1].type.arrow), min_size=8, max_size=8))
        changes = [
            (Op.DELETE if i % 3 == start % 3 else Op.UPSERT, {"id": i, "v": v}, set()) for i, v in enumerate(found)
        ]
        run.apply(batch_of(changes, table, start))
        check(run)


def test_a_truncate_takes_back_all_results() -> None:
    """An emptied source table deletes every result, and counting begins anew."""
    run, history = Run(any_plan(Random(3), "tumbling")), History(Random(3), TABLE)
    for _ in range(4):
        run.apply(history.batch())
    assert run.target
    run.first.truncate()
    for applied in run.second.truncate():
        run._take(applied)
    assert not run.target
    assert all(store.rows == 0 for held in (run.first, run.second) for store in held.stores.values())
    assert set(TYPES) == {column.name for column in TABLE.columns}
