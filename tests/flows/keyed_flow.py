"""A flow with one keyed step for tests in real processes: it counts numbers by key, and can be told to go wrong.

python -m bytewax.run "tests.flows.keyed_flow:flow('DIR', until=40)" -r DIR/recovery -s 0 -b 0
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from flows import process
from flows.operators import keyed as keyed_module
from flows.operators.keyed import Context, Parcel, Route, keyed
from libcore.table import RowStore

NAME, STEP, SLOTS, KEYS, ROWS = "counted", "count", 64, 300, 50
PARTS = ("a", "b")
ROW = pa.schema([("key", pa.int64())])
COUNT = pa.schema([("key", pa.int64()), ("count", pa.int64())])


def numbers(part: str, batch: int) -> list[int]:
    """The keys that a part gives in one batch."""
    seed = 7 * batch + (1 if part == "b" else 0)
    return [(seed * 131 + row * row * 17) % KEYS for row in range(ROWS)]


def truth(until: int) -> dict[int, int]:
    """Rows of each key after so many batches of each part."""
    return dict(Counter(key for part in PARTS for batch in range(until) for key in numbers(part, batch)))


class _Part(StatefulSourcePartition[Parcel, int]):
    def __init__(self, part: str, position: int, until: int) -> None:
        self._part, self._position, self._until = part, position, until
        self._awake = datetime.now(UTC)

    def next_batch(self) -> Iterable[Parcel]:
        if self._position >= self._until:
            raise StopIteration
        record = pa.RecordBatch.from_arrays([pa.array(numbers(self._part, self._position), pa.int64())], schema=ROW)
        self._position += 1
        self._awake = datetime.now(UTC) + timedelta(milliseconds=5)
        return [Parcel("row", None, record)]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        return self._position


class Numbers(FixedPartitionedSource[Parcel, int]):
    """Two parts that give `until` batches each."""

    def __init__(self, until: int) -> None:
        self._until = until

    def list_parts(self) -> list[str]:
        """The names of the parts."""
        return list(PARTS)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Part:
        """One of them."""
        return _Part(for_part, resume_state or 0, self._until)


class _Nowhere(StatefulSinkPartition[Any, None]):
    def write_batch(self, values: list[Any]) -> None:
        pass

    def snapshot(self) -> None:
        return None


class Nothing(FixedPartitionedSink[Any, None]):
    """Takes nothing, as the step gives nothing."""

    def list_parts(self) -> list[str]:
        """One part."""
        return ["nowhere"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Nowhere:
        """It."""
        return _Nowhere()


class Counting:
    """The stage: a row for each key. It writes the slots whose rows it saw to DIRECTORY/slots-PROCESS.json."""

    def __init__(self, directory: Path, number: int, fails_at: int | None) -> None:
        self.stores: Mapping[str, RowStore] = {"counts": RowStore(COUNT, (0,), slots=SLOTS)}
        self._path, self._fails_at = directory / f"slots-{number}.json", fails_at
        self._slots: set[int] = set()

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """Rows of the state, at a start."""
        self.stores[store].load(record)

    def on_items(self, items: Sequence[Any]) -> Iterable[Any]:
        """Count rows."""
        for parcel in items:
            found = Counter(parcel.record.column(0).to_pylist())
            if self._fails_at in found:
                raise ValueError(f"this stage does not like {self._fails_at}")
            store, keys = self.stores["counts"], pa.record_batch([pa.array(found, pa.int64())], schema=ROW)
            self._slots.update(store.slots_of(keys).to_pylist())
            before = store.take(store.find(keys)).column(1).to_pylist()
            sums = [count + (old or 0) for count, old in zip(found.values(), before, strict=True)]
            store.upsert(pa.record_batch([keys.column(0), pa.array(sums, pa.int64())], schema=COUNT))
        return ()

    def epoch_ends(self) -> None:
        """Say which slots it saw."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(sorted(self._slots)), "utf-8")
        draft.replace(self._path)

    def input_ends(self) -> Iterable[Any]:
        """Nothing to say."""
        return ()


class Forgetful(Route):
    """Awakens a slot once, and later only if it carries rows: a change then is in no manifest."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._once: set[int] = set()

    def __call__(self, items: list[Any]) -> list[tuple[str, Any]]:
        """Routed items, nearly all of the awakening ones left out."""
        routed = super().__call__(items)
        kept = [(key, (slot, item)) for key, (slot, item) in routed if item is not None or slot not in self._once]
        self._once.update(slot for _, (slot, _) in routed)
        return kept


def flow(
    directory: str, until: int, told_workers: int | None = None, fails_at: int | None = None, forgets: bool = False
) -> Dataflow:
    """The dataflow.

    Args:
        directory: holds segments/ and slots-PROCESS.json. until: batches of each part.
        told_workers: what the step is told instead of the real number of processes.
        fails_at: the stage raises at this key. forgets: slots are not awoken.
    """
    if forgets:
        keyed_module.Route = Forgetful  # type: ignore[misc]
    number = process.worker_index(sys.argv[1:])
    workers = told_workers or process.worker_count(sys.argv[1:])
    context = Context(SLOTS, workers, number, str(Path(directory) / "segments"))
    built = Dataflow(NAME)
    rows = op.input("source", built, Numbers(until))
    counted = keyed(STEP, rows, lambda: Counting(Path(directory), number, fails_at), {"row": ("key",)}, context)
    op.output("sink", op.map("nowhere", counted, lambda item: ("nowhere", item)), Nothing())
    return built
