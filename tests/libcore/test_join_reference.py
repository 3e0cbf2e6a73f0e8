"""Join: each call of each stage gives what the plain reference gives, however strange the rows."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import IMPLEMENTATION
from libcore.change import POSITION, UNSET, ChangeBatch, Op
from libcore.compact import compact
from libcore.join import VERSION, FactRouter, JoinPlan, Latest, Matcher, latest_core
from libcore.reference import join as reference
from libcore.schema import Table
from tests.examples import TIMES
from tests.libcore.batches import TYPES, build, check_sound, values
from tests.libcore.join_world import PLANS, SLOTS, Event, Rows, batch, concatenated, value

SEEDS = st.integers(0, 2**32 - 1)
FEWER = settings(max_examples=25 * TIMES)


def _wild(rng: random.Random, of: Table) -> ChangeBatch:
    """Changes of a table as no sane source sends them: any op on any key, any column unset, known or not."""
    events = []
    for _ in range(rng.randint(1, 6)):
        op = rng.choice([Op.UPSERT, Op.INSERT, Op.UPSERT, Op.DELETE])
        values = {c.name: value(rng, c) if c.name in of.key or rng.random() < 0.8 else None for c in of.columns}
        free = [c.name for c in of.columns if c.name not in of.key]
        lacks = frozenset(rng.sample(free, rng.randint(0, len(free)))) if rng.random() < 0.4 else frozenset()
        if op == Op.DELETE:
            values, lacks = {name: values[name] for name in of.key}, frozenset()
        events.append(Event(of, op, {name: None if name in lacks else v for name, v in values.items()}, lacks))
    return batch(events)


def _told(rows: list[reference.Row]) -> list[str]:
    """Rows in an order of their own."""
    return sorted(repr((r.version, sorted(r.values.items()), r.op, sorted(r.lacks), r.source_ts, r.new)) for r in rows)


def _same(found: list[pa.RecordBatch], expected: list[reference.Row], of: Table) -> None:
    for record in found:
        check_sound(record)
    assert _told([row for record in found for row in reference.rows_of(record, of)]) == _told(expected)


@pytest.mark.parametrize("name", PLANS)
@FEWER
@given(seed=SEEDS)
def test_each_call_agrees_with_the_reference(name: str, seed: int) -> None:
    """Facts and dimension rows with any column unset, truncates, batches joined together: the reference's rows."""
    rng, plan = random.Random(seed), PLANS[name]
    router, matcher = FactRouter(plan, SLOTS), Matcher(plan, SLOTS, rows_max=rng.randint(1, 9))
    plain_router, plain_matcher = reference.FactRouter(plan), reference.Matcher(plan)
    waiting: list[pa.RecordBatch] = []
    for _ in range(rng.randint(1, 12)):
        choice = rng.random()
        if choice < 0.05:
            pairs, expected = list(router.truncate()), plain_router.truncate()
            # Slot after slot: the versions are dealt out in another order than the reference's.
            assert sorted(k for pair in pairs for k in _keys(pair[1], plan)) == sorted(
                repr(row.key(plan.fact.key)) for row in expected[1]
            )
            waiting, plain_matcher.places = [*waiting, *(p[0] for p in pairs if p[0])], plain_matcher.places
        elif choice < 0.1:
            _same(list(matcher.truncate_dimension()), plain_matcher.truncate_dimension(), plan.result)
        elif choice < 0.5:
            change = _wild(rng, plan.dimension)
            compacted = reference.rows_of(compact(change.record, plan.dimension), plan.dimension)
            _same(list(matcher.dimension(change)), plain_matcher.dimension(compacted), plan.result)
        else:
            change = _wild(rng, plan.fact)
            routed, direct = router.route(change)
            compacted = reference.rows_of(compact(change.record, plan.fact), plan.fact)
            to_matcher, to_latest = plain_router.route(compacted)
            _same([routed] if routed else [], to_matcher, plan.fact)
            _same([direct] if direct else [], to_latest, plan.result)
            waiting += [routed] if routed else []
        if waiting and rng.random() < 0.7:
            record = waiting[0]
            for other in waiting[1:]:
                record = concatenated(record, other)
            waiting = []
            plain = plain_matcher.facts(reference.rows_of(record, plan.fact))
            _same(list(matcher.facts(record)), plain, plan.result)


def _sorted(records: Iterable[pa.RecordBatch | None]) -> list[str]:
    """Rows in an order of their own; __unset without a bit is as none."""
    rows = [row for record in records if record is not None for row in record.to_pylist()]
    return sorted(repr({name: v for name, v in row.items() if name != UNSET or (v and any(v))}) for row in rows)


def _stored(stage: FactRouter | Matcher) -> dict[str, tuple[list[str], list[str]]]:
    return {name: (_sorted([s.whole()]), _sorted([s.changed()[0]])) for name, s in stage.stores.items()}


@pytest.mark.parametrize("name", PLANS)
@FEWER
@given(seed=SEEDS)
def test_c_agrees_with_the_columns(name: str, seed: int) -> None:
    """Each call in C gives the rows, and leaves the stores, that the columnar stages do; slices and marks included."""
    rng, plan = random.Random(seed), PLANS[name]
    routers, matchers = (
        [kind(plan, SLOTS) for _ in range(2)]
        for kind in (FactRouter, Matcher)  # type: ignore[var-annotated]
    )
    for stage in (routers[1], matchers[1]):
        stage.in_c = False
    for _ in range(rng.randint(1, 10)):
        change = _wild(rng, rng.choice([plan.fact, plan.dimension]))
        change = change.slice(rng.randint(0, len(change) // 2))
        if change.table == plan.dimension:
            found = [list(matcher.dimension(change)) for matcher in matchers]
            assert _sorted(found[0]) == _sorted(found[1])
        if change.table == plan.fact:
            routed = [router.route(change) for router in routers]
            for side in (0, 1):
                assert _sorted([routed[0][side]]) == _sorted([routed[1][side]])
            if (entering := routed[0][0]) is not None:
                found = [list(matcher.facts(entering)) for matcher in matchers]
                for record in (*found[0], *(r for r in routed[0] if r is not None)):
                    check_sound(record)
                assert _sorted(found[0]) == _sorted(found[1])
        assert _stored(routers[0]) == _stored(routers[1])
        assert _stored(matchers[0]) == _stored(matchers[1])
        if rng.random() < 0.2:
            for stage in (*routers, *matchers):
                for store in stage.stores.values():
                    store.mark()


def test_a_number_that_no_key_can_be_has_no_partner() -> None:
    """65537 fits in no int16: such a fact does not meet the dimension's row whose key is NULL, nor one of its width."""
    plan = PLANS["narrow"]
    router, matcher = FactRouter(plan, SLOTS), Matcher(plan, SLOTS)
    list(matcher.dimension(batch([Event(plan.dimension, Op.INSERT, {"id": id_, "label": "x"}) for id_ in (None, 1)])))
    routed, _ = router.route(batch([Event(plan.fact, Op.INSERT, {"id": 7, "boss": 65537})]))
    assert routed is not None
    assert [r.column("label").to_pylist() for r in matcher.facts(routed)] == [[None]]


def test_other_columns_are_refused() -> None:
    """A batch whose types are not the plan's raises ValueError: C sees bytes, not types."""
    plan = PLANS["inner"]
    change = batch([Event(plan.fact, Op.INSERT, {"id": 1, "order_id": 1})])
    record = change.record.set_column(1, "order_id", pa.array([1], pa.int64()))
    if IMPLEMENTATION == "c":  # the columns see types by themselves
        with pytest.raises(ValueError, match="order_id int32"):
            FactRouter(plan, SLOTS).route(ChangeBatch(plan.fact, record))


def _keys(record: pa.RecordBatch | None, plan: JoinPlan) -> list[str]:
    rows = [] if record is None else reference.rows_of(record, plan.result)
    return [repr(row.key(plan.result.key)) for row in rows]


@FEWER
@given(seed=SEEDS)
def test_latest_agrees_with_the_reference(seed: int) -> None:
    """What passes in an epoch leaves a target as the reference's rows do; positions rise for the object's life."""
    rng, plan = random.Random(seed), PLANS["left"]
    latest, plain = Latest(plan), reference.Latest(plan)
    found, expected, last = Rows(), Rows(), b""
    for _ in range(rng.randint(1, 6)):
        change = _wild(rng, plan.result)
        versions = pa.array([rng.randint(1, 4) for _ in range(len(change))], pa.int64())
        record = change.record.set_column(len(plan.result.columns) + 1, VERSION, versions)
        passed = latest.take(record)
        for row in plain.take(reference.rows_of(record, plan.result)):
            key = row.key(plan.result.key)
            old = expected.pop(key, {})
            if row.op != Op.DELETE:
                expected[key] = {name: old.get(name) if name in row.lacks else v for name, v in row.values.items()}
        if passed is not None:
            positions = passed.record.column(POSITION).to_pylist()
            assert sorted(positions) == positions and positions[0] > last
            last = positions[-1]
            _apply_plain(found, passed.record, plan.result)
        assert found == expected
        if rng.random() < 0.3:
            latest.clear()
            plain.clear()


def _apply_plain(target: Rows, record: pa.RecordBatch, of: Table) -> None:
    for row in reference.rows_of(record, of):
        old = target.pop(row.key(of.key), {})
        if row.op != Op.DELETE:
            target[row.key(of.key)] = {
                name: old.get(name) if name in row.lacks else v for name, v in row.values.items()
            }


@settings(max_examples=60 * TIMES)
@given(st.data())
def test_what_passes_agrees_with_the_reference(data: st.DataObject) -> None:
    """Keys of every type, NULLs and slices included: the same rows pass, with the same positions, in C and Python."""
    types = data.draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3))
    names = [f"c{i}" for i in range(len(types))]
    schema = pa.schema([*zip(names, types, strict=True), (VERSION, pa.int64())])
    pools = [data.draw(st.lists(st.none() | values(kind), min_size=1, max_size=3)) for kind in types]
    core, plain = latest_core(schema), reference.LatestRows()
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(st.integers(0, 12))
        arrays = [
            build(kind, data.draw(st.lists(st.sampled_from(pool), min_size=rows, max_size=rows)))
            for kind, pool in zip(types, pools, strict=True)
        ]
        arrays.append(pa.array(data.draw(st.lists(st.integers(-3, 3), min_size=rows, max_size=rows)), pa.int64()))
        record = pa.RecordBatch.from_arrays(arrays, schema=schema)
        record = record.slice(data.draw(st.integers(0, rows)))
        found, expected = core.take(record), plain.take(record)
        assert [column.to_pylist() for column in found] == [column.to_pylist() for column in expected]
        if data.draw(st.booleans()):
            core.clear()
            plain.clear()
