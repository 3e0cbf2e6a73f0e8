"""Which way a table's rows go, and a fence where they went another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connectors.base.items import Fence
from connectors.base.target import PREFLIGHT_S
from flows.operators.shape import Shaper, TableShape
from flows.routes import Routes
from flows.state import store as stores
from flows.state.store import Store, open_store
from libcore.change import ChangeBatch
from libcore.errors import TransientError
from libcore.schema import Column, Table, parse_type
from tests.connectors.changes import batch

T, U, V = (Table(name, (Column("id", parse_type("int64")),), ("id",)) for name in "tuv")


class Target:
    """Ties some tables, or is down."""

    def __init__(self, *tied: str, down: bool = False) -> None:
        self.tied, self.down = frozenset(tied), down
        self.asked: list[tuple[str, float]] = []

    def preflight(self, tables: list[Table], *, wait_s: float) -> None:
        """Notes the question."""
        self.asked.append((tables[0].name, wait_s))
        if self.down:
            raise TransientError("no answer")

    def single_part_tables(self, tables: list[Table]) -> frozenset[str]:
        """The tied ones."""
        return self.tied


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new state directory."""
    return open_store(tmp_path, "p", "null", 64, 4)


def test_a_fence_stands_until_it_is_durable(store: Store) -> None:
    """Each start whose target ties a table by now fences it, until the fence's epoch is durable; then none is due."""
    assert Routes(Target(), store)(T, False) == (False, None)
    for _ in range(2):  # the second: after a crash before that epoch was durable
        routes = Routes(Target("t"), store)
        alone, fence = routes(T, False)
        assert alone and fence is not None and (fence.table, fence.single_part) == ("t", True)
    routes.passed(fence)
    assert Routes(Target("t"), store)(T, False) == (True, None)
    alone, back = Routes(Target(), store)(T, False)
    assert not alone and back is not None and back.identity != fence.identity and not back.single_part


@pytest.mark.parametrize(("wanted", "together"), [(True, False), (False, True)])
def test_the_file_may_send_a_table_another_way(store: Store, wanted: bool, together: bool) -> None:
    """`single_part` and `[document]` that come to a file fence the table as a key at the target does."""
    assert Routes(Target(), store)(T, False) == (False, None)
    alone, fence = Routes(Target(), store, together=together)(T, wanted)
    assert alone and fence is not None


def test_the_fence_stands_in_front_of_the_first_rows(store: Store) -> None:
    """Every part gets it, once, right in front of the rows that go the new way."""
    store.remember_route("t", False)
    shaper = Shaper("p", lambda name: TableShape(), 64, 3, Routes(Target("t"), store))
    assert shaper([batch(T, [])]) == []
    found = shaper([batch(T, [{"id": 1}]), batch(T, [{"id": 2}])])
    assert [part for part, _ in found] == ["0", "1", "2", "0", "0"]
    assert len({item for _, item in found[:3] if isinstance(item, Fence)}) == 1
    assert all(isinstance(item, ChangeBatch) for _, item in found[3:])


def test_a_target_that_is_down_is_answered_for(store: Store) -> None:
    """Its former word on a table serves, so the flow starts and spools; without one the start waits for it.

    Tables with a former word wait for a moment once, not each, and never keep one without a word from being asked.
    """
    target = Target(down=True)
    ask = Routes(target, store)
    with pytest.raises(TransientError):
        ask(T, False)
    store.remember_route("t", True)
    store.remember_route("u", False)
    assert [ask(table, False) for table in (T, U, T)] == [(True, None), (False, None), (True, None)]
    with pytest.raises(TransientError):
        ask(V, False)
    assert [name for name, _ in target.asked] == ["t", "t", "v"]
    assert target.asked[1][1] < target.asked[0][1] == target.asked[2][1] == PREFLIGHT_S


def test_ways_that_are_kept_at_once_are_all_kept(tmp_path: Path) -> None:
    """What several processes learn of different tables at the same moment is there at the next start."""

    def remember(name: str) -> None:
        open_store(tmp_path, "p", "null", 64, 4).remember_route(name, True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remember, "abcdefgh"))
    assert all(open_store(tmp_path, "p", "null", 64, 4).route(name) for name in "abcdefgh")


def test_a_full_disk_costs_a_fence_not_the_flow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A way that cannot be kept is logged; the next start fences the table once more."""
    assert Routes(Target(), store)(T, False) == (False, None)
    routes = Routes(Target("t"), store)
    _, fence = routes(T, False)
    assert fence is not None

    def full(path: Path, value: object, *, durably: bool) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(stores.json_file, "write", full)
        routes.passed(fence)
    assert store.route("t") is False
