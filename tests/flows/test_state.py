"""Incremental state: what is loaded is what was durable, whatever was killed, merged or moved to other processes."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.state import log as log_module
from flows.state import merge
from flows.state.log import StateLog
from flows.state.segments import SegmentStore
from flows.state.slots import find_slot_names, slot_names, slot_workers, worker_of
from libcore.change import OP
from libcore.errors import CapacityError, FatalError
from libcore.join_columns import widened
from libcore.table import RowStore

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.utf8())])
SLOTS = 8


class Stage:
    """Two stores, as a join's stage has them."""

    def __init__(self, schema: pa.Schema = SCHEMA) -> None:
        key = [schema.get_field_index("id")]
        self.stores = {name: RowStore(schema, key, slots=SLOTS) for name in ("facts", "dimension")}

    def load(self, store: str, record: pa.RecordBatch) -> None:
        names = self.stores[store].schema.names
        self.stores[store].load(widened(record, self.stores[store].schema).select([*names, OP]))


class Cluster:
    """Some processes over one directory, and the recovery store's last durable manifests."""

    def __init__(
        self, directory: Path | str, workers: int, manifests: dict[int, tuple[Any, ...]], schema: pa.Schema = SCHEMA
    ) -> None:
        self.manifests = dict(manifests)
        self.owner = slot_workers(SLOTS, workers)
        self.stages = [Stage(schema) for _ in range(workers)]
        self.logs = []
        for worker, stage in enumerate(self.stages):
            log = StateLog("step", SegmentStore(directory, "step", worker), stage)
            self.logs.append(log)
            mine = [slot for slot in range(SLOTS) if self.owner[slot] == worker]
            for slot in mine:
                log.attach(slot, manifests.get(slot))
            log.attached(mine)

    def change(self, store: str, rows: list[tuple[int, str | None]]) -> None:
        """Upserts, and deletes where the text is None, each where its slot lives."""
        record = pa.RecordBatch.from_pylist([{"id": key, "text": text} for key, text in rows], schema=SCHEMA)
        slots = self.stages[0].stores[store].slots_of(record.select(["id"])).to_pylist()
        for worker, stage in enumerate(self.stages):
            for row, slot in enumerate(slots):
                if self.owner[slot] == worker and rows[row][1] is not None:
                    stage.stores[store].upsert(record.slice(row, 1))
                elif self.owner[slot] == worker:
                    stage.stores[store].delete(record.slice(row, 1).select(["id"]))

    def epoch(self, durable: bool) -> None:
        """Everything is snapshotted; not durable: the crash came before the recovery store had it."""
        found = {}
        for log in self.logs:
            log.check_saved()
            log.durable()
        for worker, log in enumerate(self.logs):
            log.write()
            for slot in range(SLOTS):
                if self.owner[slot] == worker:
                    found[slot] = log.manifest(slot)
        if durable:
            self.manifests = found

    def content(self) -> dict[str, dict[int, str]]:
        """All rows of all processes."""
        rows: dict[str, dict[int, str]] = {}
        for stage in self.stages:
            for name, store in stage.stores.items():
                rows.setdefault(name, {}).update({row["id"]: row["text"] for row in store.whole().to_pylist()})
        return rows

    def close(self) -> None:
        for log in self.logs:
            log.close()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_was_durable_comes_back(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """After any epochs, crashes, merges and rescales the stores hold the last durable content, and no file is left."""
    check_life(seed, tmp_path_factory.mktemp("state"))


def check_life(seed: int, directory: Path | str) -> None:
    """A life of two stores with crashes and rescales, at a place of their own; asserts what the tests claim."""
    with patch.object(log_module, "_ROWS_A_SLOT", seed % 3):
        _live(Random(seed), seed, directory)


def _live(random: Random, seed: int, directory: Path | str) -> None:
    cluster = Cluster(directory, random.randint(1, 3), {})
    live: dict[str, dict[int, str]] = {"facts": {}, "dimension": {}}
    durable = {name: dict(rows) for name, rows in live.items()}
    for _ in range(random.randint(1, 40)):
        for name in random.sample(["facts", "dimension"], random.randint(0, 2)):
            rows = {random.randrange(60): random.choice([None, "x" * random.randrange(200)]) for _ in range(30)}
            if random.random() < 0.5:
                rows = dict(list(rows.items())[:2])
            cluster.change(name, list(rows.items()))
            for key, text in rows.items():
                live[name].pop(key, None)
                if text is not None:
                    live[name][key] = text
        crash = random.random() < 0.15
        reached = not crash or random.random() < 0.5
        cluster.epoch(durable=reached)
        if reached:
            durable = {name: dict(rows) for name, rows in live.items()}
        if crash:
            cluster.close()
            cluster = Cluster(directory, random.randint(1, 3), cluster.manifests)
            live = cluster.content()
            live = {name: live.get(name, {}) for name in durable}
            assert live == durable, seed
    for _ in range(3):  # what was freed goes once the epoch that freed it is durable
        _settle(cluster)
        cluster.epoch(durable=True)
    cluster.close()
    named = {entry for manifest in cluster.manifests.values() for entry in manifest[2] if isinstance(entry, str)}
    again = Cluster(directory, 1, cluster.manifests)
    assert again.content() == {name: live[name] for name in again.content()}
    again.close()
    assert set(SegmentStore(directory, "step", 0).names()) == named


def _settle(cluster: Cluster) -> None:
    for log in cluster.logs:
        while log._merger._running is not None and not log._merger._running[1].done():
            time.sleep(0.001)


def test_slots_are_spread_within_one_over_up_to_eight_workers() -> None:
    """Each worker of 1 to 8 has the same number of slots as every other, or one more."""
    for slots in (1, 7, 64, 100):
        names = slot_names(slots)
        assert len(set(names)) == slots
        for workers in range(1, 9):
            counts = [0] * workers
            for name in names:
                counts[worker_of(name, workers)] += 1
            assert max(counts) - min(counts) <= 1


def test_slot_names_are_for_life() -> None:
    """The first names are those that recovery stores hold."""
    assert slot_names(64) == find_slot_names(64) == slot_names(100)[:64]
    assert slot_names(64)[:8] == ("89", "505", "48", "598", "1440", "256", "2035", "496")


def test_many_small_epochs_leave_few_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot's manifest stays short under a trickle of changes, as merges take its entries together."""
    monkeypatch.setattr(merge, "_ENTRIES_MAX", 8)
    cluster = Cluster(tmp_path, 1, {})
    for number in range(200):
        cluster.change("facts", [(number % 50, f"text {number}" * 20)])
        _settle(cluster)
        cluster.epoch(durable=True)
    cluster.close()
    assert max(len(manifest[2]) for manifest in cluster.manifests.values()) <= merge._ENTRIES_MAX + 8
    assert len(SegmentStore(tmp_path, "step", 0).names()) <= SLOTS * 16


def test_rows_of_an_older_shape_are_merged_by_their_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a table gained a column in front of its key, a merge of rows that were written before keeps each."""
    monkeypatch.setattr(merge, "_ENTRIES_MAX", 2)
    cluster = Cluster(tmp_path, 1, {})
    for number in range(3):
        cluster.change("facts", [(key, f"text {number}") for key in range(number, 40)])
        cluster.epoch(durable=True)
    wide = pa.schema([("note", pa.utf8()), ("text", pa.utf8()), ("id", pa.int64())])
    cluster.close()
    cluster = Cluster(tmp_path, 1, cluster.manifests, wide)
    expected = {0: "text 0", 1: "text 1"} | dict.fromkeys(range(2, 40), "text 2")
    for _ in range(3 * merge.GROUPS):
        _settle(cluster)
        cluster.epoch(durable=True)
    assert cluster.content()["facts"] == expected
    assert max(len(manifest[2]) for manifest in cluster.manifests.values()) == 1
    cluster.close()
    again = Cluster(tmp_path, 1, cluster.manifests, wide)
    assert again.content()["facts"] == expected
    again.close()


def test_files_go_while_merges_never_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a load that keeps a merge in hand in every epoch, what is no longer named is deleted all the same."""
    monkeypatch.setattr(merge, "_ENTRIES_MAX", 8)
    cluster, most = Cluster(tmp_path, 1, {}), 0
    for number in range(150):
        cluster.change("facts", [(key, f"{number} {'x' * 100}") for key in range(200)])
        _settle(cluster)
        assert all(log.to_awake is not None for log in cluster.logs)  # as the route asks, before the epoch's first item
        cluster.epoch(durable=True)
        most = max(most, len(SegmentStore(tmp_path, "step", 0).names()))
    cluster.close()
    assert most <= 64


@pytest.mark.parametrize("rows", [20, 300])
def test_files_of_a_state_that_never_grows_stay_as_large(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under changes of the same rows again and again files hold at most 3.5 times the live ones, and steadily."""
    monkeypatch.setattr(log_module, "_SPARE_BYTES_MIN", 1000)
    monkeypatch.setattr(log_module, "_INLINE_ROWS_MAX", 0)
    random, cluster, kept = Random(1), Cluster(tmp_path, 1, {}), []
    cluster.change("facts", [(number, "x" * 100) for number in range(1000)])
    for _ in range(1500 // rows * 4):
        cluster.change("facts", [(number, "x" * 100) for number in random.sample(range(1000), rows)])
        _settle(cluster)
        cluster.epoch(durable=True)
        kept.append(sum(cluster.logs[0]._rows.values()))
    cluster.close()
    settled = kept[len(kept) // 2 :]
    assert max(kept) <= 3500 and min(settled) >= 1000 and max(settled) - min(settled) <= 200 + 6 * rows, kept


def test_a_state_that_grows_is_not_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While every row is live no merge runs, as it would win nothing, until a slot has many entries."""
    monkeypatch.setattr(log_module, "_SPARE_BYTES_MIN", 1000)
    cluster = Cluster(tmp_path, 1, {})
    for epoch in range(merge._ENTRIES_MAX):
        cluster.change("facts", [(100 * epoch + number, "x" * 100) for number in range(100)])
        cluster.epoch(durable=True)
        assert not cluster.logs[0]._merger.busy
    cluster.close()


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    """A start whose recovery store names a file that is not there is refused."""
    cluster = Cluster(tmp_path, 1, {})
    cluster.change("facts", [(number, "x" * 300) for number in range(200)])
    cluster.epoch(durable=True)
    for path in tmp_path.glob("*.seg"):
        path.unlink()
    with pytest.raises(FatalError, match="found none; every process must see the state directory"):
        Cluster(tmp_path, 1, cluster.manifests)


def test_state_above_its_bound_is_refused(tmp_path: Path) -> None:
    """The message names the bytes, the bound, and what to do."""
    stage = Stage()
    log = StateLog("step", SegmentStore(tmp_path, "step", 0), stage, bytes_max=1000)
    for slot in range(SLOTS):
        log.attach(slot, None)
    rows = [{"id": number, "text": "x" * 100} for number in range(1000)]
    stage.stores["facts"].upsert(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    with pytest.raises(CapacityError, match=r"above its bound of 1,000: run more processes, raise state_bytes"):
        log.write()


def test_an_unknown_slot_is_refused(tmp_path: Path) -> None:
    """Rows of a slot that another process has show a wrong worker count, and are not written."""
    stage = Stage()
    log = StateLog("step", SegmentStore(tmp_path, "step", 0), stage)
    stage.stores["facts"].upsert(pa.RecordBatch.from_pylist([{"id": 1, "text": "a"}], schema=SCHEMA))
    with pytest.raises(FatalError, match="number of workers is not what this process was told"):
        log.write()
