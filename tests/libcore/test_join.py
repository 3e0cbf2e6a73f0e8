"""Join: whatever the interleaving, the end is the SQL join; and each call gives what the plain reference gives."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.change import OP, UNSET, Op
from libcore.errors import ConfigurationError, FatalError
from libcore.join import ENTER, FORGET, VERSION, FactRouter, JoinPlan, Latest, Matcher, plan_join
from libcore.schema import Column, Table
from tests.examples import TIMES
from tests.libcore.join_world import (
    CUSTOMERS,
    ITEMS,
    ORDERS,
    PLANS,
    SLOTS,
    Cluster,
    Event,
    Rows,
    Source,
    batch,
    sql_join,
    table,
)

SEEDS = st.integers(0, 2**32 - 1)
FEWER = settings(max_examples=25 * TIMES)
CHAIN = [
    plan_join(ITEMS, ORDERS, {"order_id": "id"}, {"customer": "customer", "status": "status"}, "inner", "lines"),
]
CHAIN.append(plan_join(CHAIN[0].result, CUSTOMERS, {"customer": "name"}, {"region": "region"}, "left", "full"))


def _batches(rng: random.Random, events: list[Event]) -> list[Any]:
    """Events of several tables as batches of random borders, a table's in order, tables against each other in any."""
    found: list[list[Event]] = []
    for event in events:
        last = next((group for group in reversed(found) if group[0].table == event.table), None)
        if last is None or rng.random() < 0.4:
            found.append([event])
        else:
            last.append(event)
    return [batch(group, start=100 * place) for place, group in enumerate(found)]


def _history(rng: random.Random, source: Source, plans: list[JoinPlan], changes: int) -> list[Event]:
    tables: dict[str, tuple[Table, tuple[str, ...], tuple[str, ...]]] = {}
    for plan in reversed(plans):
        tables[plan.dimension.name] = (plan.dimension, (), tuple(c.name for c in plan.dimension.columns))
        tables[plan.fact.name] = (plan.fact, plan.foreign_key, plan.held)
    for plan in plans[:-1]:
        del tables[plan.name]
    return [
        event for _ in range(changes) for event in source.change(*tables[rng.choice(sorted(tables))])
    ]  # fmt: skip


def _expected(plans: list[JoinPlan], source: Source) -> Rows:
    rows = source.rows.get(plans[0].fact.name, {})
    for plan in plans:
        rows = sql_join(plan, rows, source.rows.get(plan.dimension.name, {}))
    return rows


def _moved(rng: random.Random, old: Cluster, processes: int) -> Cluster:
    """All state exported by slot and loaded into another number of processes."""
    new = Cluster(rng, old.plans, processes, old.target)
    for join in range(len(old.plans)):
        for stage in ("routers", "matchers"):
            for process in getattr(old, stage):
                for name, store in process[join].stores.items():
                    for slot in range(SLOTS):
                        getattr(new, stage)[new.owner[slot]][join].load(name, store.whole(slot))
    return new


def _check_history(plans: list[JoinPlan], seed: int) -> None:
    rng = random.Random(seed)
    source, target = Source(rng), Rows()
    cluster = Cluster(rng, plans, rng.randint(1, 3), target)
    for _ in range(rng.randint(1, 4)):
        for change in _batches(rng, _history(rng, source, plans, rng.randint(1, 30))):
            cluster.source(change)
        cluster.run()
        assert target == _expected(plans, source)
        if rng.random() < 0.5:
            cluster = _moved(rng, cluster, rng.randint(1, 3))


@pytest.mark.parametrize("name", PLANS)
@FEWER
@given(seed=SEEDS)
def test_ends_as_the_sql_join(name: str, seed: int) -> None:
    """Any history, batch borders, interleaving of channels, and moves of slots: after each epoch the SQL join."""
    _check_history([PLANS[name]], seed)


@FEWER
@given(seed=SEEDS)
def test_a_chain_ends_as_the_sql_join(seed: int) -> None:
    """Two joins, one behind the other, as well."""
    _check_history(CHAIN, seed)


def test_an_example() -> None:
    """A line waits for its order, follows it through a change, moves to another one, and goes."""
    plan = PLANS["inner"]
    router, matcher, latest = FactRouter(plan, SLOTS), Matcher(plan, SLOTS), Latest(plan)

    def told(records: list[pa.RecordBatch]) -> list[tuple[int, int, str | None]]:
        passed = [latest.take(record) for record in records]
        latest.clear()
        rows = [row for change in passed if change for row in change.record.to_pylist()]
        return [(row[OP], row["id"], row["status"]) for row in rows]

    def line(op: Op, **values: Any) -> list[pa.RecordBatch]:
        routed, direct = router.route(batch([Event(ITEMS, op, {"id": 7, **values})]))
        results = list(matcher.facts(routed)) if routed else []
        return [*results, direct] if direct else results

    def order(op: Op, **values: Any) -> list[pa.RecordBatch]:
        return list(matcher.dimension(batch([Event(ORDERS, op, values)])))

    assert told(line(Op.INSERT, order_id=1, note="x")) == []
    assert told(order(Op.INSERT, id=1, status="open")) == [(Op.INSERT, 7, "open")]
    assert told(order(Op.UPSERT, id=1, status="open", customer="not taken")) == []
    assert told(order(Op.UPSERT, id=1, status="sent")) == [(Op.UPSERT, 7, "sent")]
    assert told(line(Op.UPSERT, order_id=2, note="x")) == [(Op.DELETE, 7, None)]
    assert told(order(Op.UPSERT, id=1, status="paid")) == []
    assert told(order(Op.INSERT, id=2, status="new")) == [(Op.INSERT, 7, "new")]
    assert told(line(Op.UPSERT, order_id=None)) == [(Op.DELETE, 7, None)]
    assert told(line(Op.UPSERT, order_id=2)) == [(Op.UPSERT, 7, "new")]
    assert told(order(Op.DELETE, id=2)) == [(Op.DELETE, 7, None)]
    assert told(line(Op.DELETE)) == [(Op.DELETE, 7, None)]


def test_a_moved_fact_keeps_what_its_source_left_out() -> None:
    """An unchanged text that the source leaves out goes with the fact to its new order."""
    plan = PLANS["left"]
    router = FactRouter(plan, SLOTS)
    router.route(batch([Event(ITEMS, Op.INSERT, {"id": 1, "order_id": 1, "note": "a long text", "quantity": 5})]))
    lacks = frozenset(["note", "quantity"])
    routed, _ = router.route(batch([Event(ITEMS, Op.UPSERT, {"id": 1, "order_id": 2}, lacks)]))
    assert routed.column("note").to_pylist() == [None, "a long text"]
    assert routed.column(OP).to_pylist() == [FORGET, ENTER]
    assert routed.column(UNSET).to_pylist() == [b"\0", b"\x08"]  # quantity is of fixed width: nobody keeps it here


def test_versions_move_with_their_slots() -> None:
    """A router that got a slot from another process gives greater versions than that one gave for its keys."""
    plan = PLANS["inner"]
    old = FactRouter(plan, SLOTS)
    for _ in range(20):
        routed, _ = old.route(batch([Event(ITEMS, Op.UPSERT, {"id": id_, "order_id": 1}) for id_ in range(5)]))
    keys = routed.select(["id"])
    for slot in range(SLOTS):
        new = FactRouter(plan, SLOTS)
        for name, store in old.stores.items():
            new.load(name, store.whole(slot))
        own = keys.filter(pa.compute.equal(old.stores["keys"].slots_of(keys), slot))
        if own.num_rows:
            again, _ = new.route(
                batch([Event(ITEMS, Op.UPSERT, {"id": id_, "order_id": 1}) for id_ in own[0].to_pylist()])
            )
            assert min(again.column(VERSION).to_pylist()) > max(routed.column(VERSION).to_pylist())


def test_a_hot_order_comes_in_pieces() -> None:
    """10,000 lines of one order are given again in batches of at most rows_max, each line once."""
    plan = PLANS["inner"]
    router, matcher = FactRouter(plan, SLOTS), Matcher(plan, SLOTS, rows_max=999)
    events = [Event(ITEMS, Op.INSERT, {"id": id_, "order_id": 1}) for id_ in range(10_000)]
    routed, _ = router.route(batch(events))
    assert list(matcher.facts(routed)) == []
    pieces = list(matcher.dimension(batch([Event(ORDERS, Op.INSERT, {"id": 1, "status": "x"})])))
    assert [piece.num_rows for piece in pieces] == [999] * 10 + [10]
    assert sorted(id_ for piece in pieces for id_ in piece.column("id").to_pylist()) == list(range(10_000))


def test_a_result_must_be_read_before_the_next_call() -> None:
    """Row numbers hold until the store changes: reading on after another call is refused, not answered wrongly."""
    plan = PLANS["inner"]
    router, matcher = FactRouter(plan, SLOTS), Matcher(plan, SLOTS, rows_max=1)
    routed, _ = router.route(batch([Event(ITEMS, Op.INSERT, {"id": id_, "order_id": 1}) for id_ in range(2)]))
    list(matcher.facts(routed))
    results = matcher.dimension(batch([Event(ORDERS, Op.INSERT, {"id": 1})]))
    next(results)
    list(matcher.facts(routed))
    with pytest.raises(FatalError, match="join lines"):
        next(results)


def test_tables_may_gain_columns() -> None:
    """Old rows, older state and older batches lack the new columns, which is not NULL; other changes are refused."""
    plan = PLANS["left"]
    router, matcher = FactRouter(plan, SLOTS), Matcher(plan, SLOTS)
    old = Event(ITEMS, Op.INSERT, {"id": 1, "order_id": 1, "note": "x"})
    list(matcher.facts(router.route(batch([old]))[0]))
    stored = matcher.stores["facts"].whole()
    columns = [*ITEMS.columns[:2], *table("t", "size int32, colour string", "").columns, *ITEMS.columns[2:]]
    wider = Table(ITEMS.name, tuple(columns), ITEMS.key)
    new = Event(wider, Op.INSERT, {"id": 2, "order_id": 1, "size": 4, "colour": "red", "note": "y"})
    with pytest.raises(ConfigurationError, match=r"items: expected columns .*\['size', 'colour'\]"):
        router.route(batch([new]))
    router.replan(fact=wider)
    matcher.replan(fact=wider)
    assert "colour" in router.stores["keys"].schema.names
    list(matcher.facts(router.route(batch([new, old]))[0]))
    matcher.load("facts", stored)
    (piece,) = matcher.dimension(batch([Event(ORDERS, Op.INSERT, {"id": 1, "status": "s"})]))
    rows = {row["id"]: row for row in piece.to_pylist()}
    assert (rows[1]["colour"], rows[1]["note"], rows[1][UNSET]) == (None, "x", b"\x0c\0")
    assert (rows[2]["colour"], rows[2]["note"], rows[2][UNSET]) == ("red", "y", b"\0\0")
    changed, _ = matcher.stores["facts"].changed()
    assert changed.column("id").to_pylist() == [2]  # what was loaded is not changed
    narrower = Table(ITEMS.name, ITEMS.columns[:3], ITEMS.key)
    with pytest.raises(ConfigurationError, match="size: expected int32, found no such column"):
        router.replan(fact=narrower)


def test_moving_to_more_columns_keeps_what_is_to_be_saved() -> None:
    """Rows changed and deleted since the last mark are still to be saved after replan(), saved ones are not."""
    plan = PLANS["left"]
    matcher = Matcher(plan, SLOTS)
    list(matcher.dimension(batch([Event(ORDERS, Op.INSERT, {"id": id_}) for id_ in range(4)])))
    matcher.stores["dimension"].mark()
    list(
        matcher.dimension(
            batch([Event(ORDERS, Op.DELETE, {"id": 1}), Event(ORDERS, Op.UPSERT, {"id": 2, "status": "s"})])
        )
    )
    before = matcher.stores["dimension"].changed()[0].to_pylist()
    more = (*ORDERS.columns, *table("t", "extra int32", "").columns)
    taking = plan_join(ITEMS, Table("orders", more, ("id",)), plan.on, {**plan.take, "extra": "extra"}, "left", "lines")
    matcher.plan = taking
    matcher.replan(dimension=taking.dimension)
    after = matcher.stores["dimension"].changed()[0].to_pylist()
    assert [(row["id"], row["status"], row[OP]) for row in after] == [
        (row["id"], row["status"], row[OP]) for row in before
    ]
    assert len(after) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how": "outer"}, 'expected "inner" or "left", found \'outer\''),
        ({"fact": Table("items", ITEMS.columns)}, "table items: expected a key, found none"),
        ({"dimension": Table("orders", ORDERS.columns)}, "table orders: expected a key, found none"),
        ({"on": {"order": "id"}}, r"on: expected a column of items, one of \['id', .*, found 'order'"),
        ({"on": {"order_id": "nr"}}, r"on: expected a column of orders, one of .*, found 'nr'"),
        ({"on": {"note": "customer"}}, r"on: expected each key column of orders once, \['id'\], found \['customer'\]"),
        ({"on": {"order_id": "id", "quantity": "id"}}, r"once, \['id'\], found \['id', 'id'\]"),
        (
            {"on": {"note": "id"}},
            "note = id: expected one type on both sides, found string in items and int64 in orders",
        ),
        ({"on": {"price": "total"}}, r"found decimal\(18,4\) in items and decimal\(38,2\) in orders"),
        ({"take": {"state": "s"}}, "take: expected a column of orders, one of .*, found 'state'"),
        ({"take": {"status": "note"}}, "found 'note' for orders.status; give it another name"),
        ({"take": {"status": "x", "total": "x"}}, "found 'x' for orders.total"),
        ({"take": {"status": "__op"}}, "found '__op'"),
        ({"kept": ["nothing"]}, "kept: expected a column of items, one of .*, found 'nothing'"),
    ],
)
def test_a_wrong_join_is_refused(change: dict[str, Any], message: str) -> None:
    """The error names the join, what was expected and what was found."""
    right = {"fact": ITEMS, "dimension": ORDERS, "on": {"order_id": "id"}, "take": {}, "how": "inner", "name": "lines"}
    with pytest.raises(ConfigurationError, match=f"^join lines: .*{message}"):
        plan_join(**{**right, **change})


def test_the_result_table() -> None:
    """The fact's columns and key, then what is taken; in a left join that may be NULL."""
    strict = Table("orders", tuple(Column(c.name, c.type, nullable=False) for c in ORDERS.columns), ("id",))
    for how in ("inner", "left"):
        result = plan_join(ITEMS, strict, {"order_id": "id"}, {"status": "state"}, how, "lines").result
        assert (result.name, result.key) == ("lines", ("id",))
        assert [c.name for c in result.columns] == [*(c.name for c in ITEMS.columns), "state"]
        assert result.column("state").nullable == (how == "left")


def test_a_wider_record_is_refused_not_cut() -> None:
    """Results and routed facts of a process that already knows more columns need replan() here; nothing is dropped."""
    plan, more = PLANS["left"], Table("items", (*ITEMS.columns, *table("t", "size int32", "").columns), ("id",))
    router, matcher, latest = FactRouter(plan, SLOTS), Matcher(plan, SLOTS), Latest(plan)
    router.replan(fact=more)
    event = Event(more, Op.INSERT, {"id": 1, "order_id": 1, "size": 4})
    routed, _ = router.route(batch([event]))
    with pytest.raises(ConfigurationError, match=r"found \['size'\] beside; replan\(\) takes them"):
        matcher.facts(routed)
    matcher.replan(fact=more)
    (result,) = matcher.facts(routed)
    with pytest.raises(ConfigurationError, match=r"found \['size'\] beside"):
        latest.take(result)
    latest.replan(fact=more)
    passed = latest.take(result)
    assert passed is not None and passed.record.column("size").to_pylist() == [4]
    assert passed.table == latest.plan.result
