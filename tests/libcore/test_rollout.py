"""Rollout: whatever a new version does, no wrong value is served; only clean batches promote it, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.change import OP, POSITION, SOURCE_TS, Op, arrow_schema
from libcore.compact import compact
from libcore.errors import CorruptionError
from libcore.hashing import hash_rows
from libcore.reference.compact import compact as reference_compact
from libcore.reference.values import plain
from libcore.rollout import DIFFERENCE, ERROR, SLOTS, SLOW, STAGES, Served, Settings, State, counted, serve
from libcore.rollout_compare import difference, equal_values
from libcore.schema import Column, Table, parse_type
from libcore.slots import slot_of
from tests.libcore.batches import TYPES, build, values
from tests.libcore.strategies import EXAMPLES

REFUSED = 13  # the old version raises for it
KINDS = ("clean", "clean", "clean", "clean", "wrong", "raises", "slow", "shape", "few")


def batch(ids: Sequence[int]) -> pa.RecordBatch:
    """Rows of one column, `id`."""
    return pa.RecordBatch.from_arrays([pa.array(ids, pa.int64())], names=["id"])


def truth(number: int) -> int:
    """What both versions must compute."""
    return number * 3 - 1


def right(record: pa.RecordBatch) -> pa.RecordBatch:
    """The right answer; raises where a row is refused."""
    ids = record.column(0).to_pylist()
    if REFUSED in [number % 50 for number in ids]:
        raise ValueError("refused")
    return pa.RecordBatch.from_arrays([record.column(0), pa.array([truth(i) for i in ids], pa.int64())], ["id", "x"])


@dataclass
class World:
    """A rollout as an operator runs it: batches are halved where rows are refused, and counted as a whole."""

    wanted: Settings
    state: State = field(default_factory=State)
    seen: list[int] = field(default_factory=list)
    kind: str = "clean"
    spoilt: bool = False

    def old(self, record: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        """The old version."""
        return right(record), 1000

    def new(self, record: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        """The new version, which does what `kind` says, and remembers what it was asked for."""
        self.seen += record.column(0).to_pylist()
        if self.kind == "clean":
            return right(record), 1000
        self.spoilt = True
        ids = record.column(0).to_pylist()
        made = [truth(number) for number in ids]
        if self.kind == "raises":
            raise RuntimeError("no")
        if self.kind == "wrong":
            made[-1] += 1
        if self.kind == "few":
            ids, made = ids[1:], made[1:]
        kind = pa.int32() if self.kind == "shape" else pa.int64()
        found = pa.RecordBatch.from_arrays([pa.array(ids, pa.int64()), pa.array(made, kind)], ["id", "x"])
        return found, 10**12 if self.kind == "slow" else 1000

    def run(self, ids: Sequence[int]) -> tuple[dict[int, int], int]:
        """(answers by id, rows compared) of one batch."""
        answers, compared = self._piece(batch(ids))
        self.state = counted(self.state, self.wanted, compared)
        return answers, compared

    def _piece(self, record: pa.RecordBatch) -> tuple[dict[int, int], int]:
        slots = slot_of(hash_rows(record, [0]), SLOTS)
        served = serve(self.state, self.wanted, record, slots, self.old, self.new)
        self.state = served.state
        if served.record is not None:
            rows = served.record.to_pylist()
            assert [row["id"] for row in rows] == record.column(0).to_pylist()  # in order
            return {row["id"]: row["x"] for row in rows}, served.compared
        if record.num_rows == 1:
            return {}, served.compared
        half = record.num_rows // 2
        first, count = self._piece(record.slice(0, half))
        second, more = self._piece(record.slice(half))
        return first | second, served.compared + count + more


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(
    plan=st.lists(
        st.tuples(
            st.sampled_from(KINDS), st.lists(st.integers(0, 400), min_size=1, max_size=40, unique=True), st.booleans()
        ),
        max_size=24,
    ),
    needed=st.integers(1, 3),
)
def test_no_wrong_value_is_ever_served(plan: list[tuple[str, list[int], bool]], needed: int) -> None:
    """Any sequence: answers are the truth, promotion takes N clean batches, after a rollback it serves no more."""
    world = World(Settings(clean_batches=needed, slower_by_ns=10**9))
    clean = 0
    for kind, ids, reset in plan:
        if reset and world.state.rolled_back:
            world.state = State()  # a person says: again
            clean = 0
        before, world.kind, world.spoilt, world.seen = world.state, kind, False, []
        answers, compared = world.run(ids)
        after = world.state
        assert answers == {number: truth(number) for number in ids if number % 50 != REFUSED}
        if before.rolled_back:
            assert after == before and not world.seen
            continue
        slots = slot_of(hash_rows(batch(ids), [0]), SLOTS).to_pylist()
        mine = {number for number, slot in zip(ids, slots, strict=True) if slot < before.percent}
        assert set(world.seen) <= mine
        if world.spoilt:
            # a row that both versions refuse says nothing against the new one
            assert after.rolled_back or mine <= {number for number in ids if number % 50 == REFUSED}
        else:
            assert not after.rolled_back
        if after.rolled_back:
            assert after.percent == 0 and after.why
            continue
        clean += compared > 0
        assert (after.stage, after.clean) == (
            (clean // needed, clean % needed)
            if clean < len(STAGES) * needed
            else (len(STAGES), clean - len(STAGES) * needed)
        )
        assert State.from_data(after.as_data()) == after


@pytest.mark.parametrize(
    ("kind", "reason"), [("wrong", DIFFERENCE), ("raises", ERROR), ("slow", SLOW), ("shape", DIFFERENCE)]
)
@pytest.mark.parametrize("stage", range(len(STAGES) + 1))
def test_each_fault_rolls_back_in_each_stage(kind: str, reason: str, stage: int) -> None:
    """At once, the promoted stage included, and the differing rows are given for keeping."""
    world = World(Settings(), State(stage=stage), kind=kind)
    record = batch([number for number in range(1000) if number % 50 != REFUSED])
    served = serve(world.state, world.wanted, record, slot_of(hash_rows(record, [0]), SLOTS), world.old, world.new)
    assert served.state.reason == reason and served.state.percent == 0
    assert served.record is not None and served.record.equals(right(record))
    assert served.state == replace(world.state, reason=reason, why=served.state.why, **_times(served.state))
    assert (served.kept is None) == (kind == "slow")
    if kind == "wrong":
        assert served.kept is not None
        (row,) = served.kept.to_pylist()
        assert row["differs"] == "x" and row["old.x"] == truth(row["input.id"]) and row["new.x"] == row["old.x"] + 1


def _times(state: State) -> dict[str, int]:
    return {"old_ns": state.old_ns, "new_ns": state.new_ns, "rows": state.rows}


def test_alone_means_without_the_old_one() -> None:
    """Where the settings say so, a promoted version serves by itself; before that it does not."""

    def never(record: pa.RecordBatch) -> Any:
        raise AssertionError("asked")

    record, wanted = batch([1, 2]), Settings(alone=True, clean_batches=1)
    slots = pa.array([0, 99], pa.int32())
    world = World(wanted)
    assert _answer(serve(State(stage=4), wanted, record, slots, never, world.new)) == [2, 5]
    assert _answer(serve(State(stage=3), wanted, record, slots, world.old, world.new)) == [2, 5]
    assert isinstance(serve(State(stage=3), wanted, record, slots, never, world.new).error, AssertionError)
    assert counted(State(stage=4), wanted, 2) == State(stage=4)


def _answer(served: Served) -> Any:
    assert served.record is not None
    return served.record.column("x").to_pylist()


def test_a_row_that_only_the_old_one_refuses_is_a_difference() -> None:
    """Even a row that the new version could save: the old one is right by definition."""

    def takes_all(record: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        return record.append_column("x", pa.array([0] * record.num_rows, pa.int64())), 1

    world = World(Settings(), State(stage=3))
    served = serve(world.state, world.wanted, batch([REFUSED]), pa.array([0], pa.int32()), world.old, takes_all)
    assert served.record is None and isinstance(served.error, ValueError)
    assert served.state.reason == DIFFERENCE and served.kept is not None
    assert served.kept.to_pylist()[0]["input.id"] == REFUSED


def _keyed(record: pa.RecordBatch, shift: int = 0) -> pa.RecordBatch:
    """The last row of each key, biggest key first: not row by row."""
    last = {row["id"] % 7: row["id"] + shift for row in record.to_pylist()}
    pairs = sorted(last.items(), reverse=True)
    return pa.record_batch({"key": pa.array([k for k, _ in pairs], pa.int64()), "v": [v for _, v in pairs]})


def test_answers_by_key_are_compared_by_key() -> None:
    """Another order of keys is equal; another value, a key too many or too few is not."""
    record = batch(range(20))
    expected = _keyed(record)
    assert difference(expected, expected.take(pa.array(list(reversed(range(7))))), ["key"]) is None
    wrong = difference(expected, _keyed(record, 1), ["key"])
    assert wrong is not None and wrong.columns == ("v",) and len(wrong.pairs) == 7
    fewer = difference(expected, expected.slice(1), ["key"])
    assert fewer is not None and fewer.pairs == ((0, None),)
    more = difference(expected.slice(2), expected, ["key"])
    assert more is not None and more.pairs == ((None, 0), (None, 1))
    twice = pa.record_batch({"key": pa.array([1, 1], pa.int64()), "v": [1, 2]})
    assert difference(twice, twice.take(pa.array([1, 0])), ["key"]) is not None  # a key's changes have an order


def test_answers_by_key_are_served_whole() -> None:
    """What the new version made of its slots and the old one of the others are together the whole answer."""
    record = batch(range(100))
    slots = slot_of(hash_rows(pa.record_batch({"k": pa.array([i % 7 for i in range(100)], pa.int64())}), [0]), SLOTS)
    calls: list[int] = []

    def version(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        calls.append(rows.num_rows)
        return _keyed(rows), 1

    served = serve(State(stage=1), Settings(), record, slots, version, version, ["key"])
    assert served.record is not None and difference(_keyed(record), served.record, ["key"]) is None
    assert 0 < served.compared < 100 and calls == [served.compared, served.compared, 100 - served.compared]


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(ids=st.lists(st.integers(0, 30), min_size=1, max_size=60), stage=st.integers(0, 4), wrong=st.booleans())
def test_a_kernel_of_c_is_rolled_out_beside_its_reference(ids: list[int], stage: int, wrong: bool) -> None:
    """compact(): what is served is the reference's answer, whether the kernel's equals it or not."""
    table = Table("t", (Column("id", parse_type("int64"), False), Column("x", parse_type("string"))), ("id",))
    rows = [
        {"id": one, "x": str(row), OP: int(Op.UPSERT), POSITION: row.to_bytes(32, "big"), SOURCE_TS: None}
        for row, one in enumerate(ids)
    ]
    record = pa.RecordBatch.from_pylist(rows, schema=arrow_schema(table))

    def kernel(part: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        found = compact(part, table)
        return (found.slice(1) if wrong else found), 1  # a key is lost

    def plainly(part: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        return reference_compact(part, table), 1

    slots = slot_of(hash_rows(record, [0]), SLOTS)
    served = serve(State(stage=stage), Settings(), record, slots, plainly, kernel, ["id"])
    assert served.record is not None and difference(reference_compact(record, table), served.record, ["id"]) is None
    assert served.state.rolled_back == (wrong and served.compared > 0)


@pytest.mark.parametrize("kind", TYPES, ids=str)
@settings(max_examples=EXAMPLES // 20, deadline=None)
@given(st.data())
def test_values_are_compared_exactly(kind: pa.DataType, data: st.DataObject) -> None:
    """Equal where the plain values are: NULL only NULL, NaN only NaN, -0.0 only -0.0, whatever lies under a NULL."""
    cells = st.none() | values(kind)
    pair = st.tuples(cells, cells) | cells.map(lambda value: (value, value))
    pairs = data.draw(st.lists(pair, max_size=12))
    left, right_ = (build(kind, [one[side] for one in pairs]) for side in (0, 1))
    start = data.draw(st.integers(0, len(pairs)))
    found = equal_values(left.slice(start), right_.slice(start)).to_pylist()
    texts = [[repr(value) for value in plain(column.slice(start))] for column in (left, right_)]
    assert found == [a == b for a, b in zip(*texts, strict=True)]


def test_a_state_that_is_none_is_refused() -> None:
    """What is not the data of a state is an error, not another state."""
    for wrong in ({}, {**State().as_data(), "stage": 9}, {**State().as_data(), "clean": -1}):
        with pytest.raises(CorruptionError):
            State.from_data(wrong)


def test_only_so_many_rows_are_kept() -> None:
    """A version that is wrong everywhere does not fill the disk."""

    def off(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        return right(rows).set_column(1, "x", rows.column(0)), 1

    world = World(Settings(rows_max=5), State(stage=3))
    record = batch(range(14, 60))
    served = serve(world.state, world.wanted, record, pa.array([1] * 46, pa.int32()), world.old, off)
    assert served.kept is not None and served.kept.num_rows == 5
    assert served.state.why == "46 of 46 rows differ, in x"
