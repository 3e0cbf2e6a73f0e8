"""Look into the state of a pipeline's steps from outside: what the recovery store names, as Arrow tables.

Works beside a running flow: manifests are read in one transaction of the recovery store, segments never change, and
one that a flow deletes between the two is looked for again with newer manifests. Never inside a worker: two SQLite
libraries in one process break each other's locks.
"""

from __future__ import annotations

import io
import pickle
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from connectors.base.clock import PART
from flows.state.log import STATE_VERSION
from flows.state.merge import concatenated, latest
from flows.state.segments import SegmentStore, slot_rows
from libcore import segment
from libcore.change import OP
from libcore.errors import ConfigurationError, FatalError

_TRIES = 5
KEYED = ".state"
"""How the ids of keyed steps end in the recovery store (flows/operators/keyed.py)."""


@dataclass(frozen=True)
class StepState:
    """The durable state of one keyed step.

    Args:
        step: its id without the flow's name.
        manifests: slot -> entries, as flows.state.log writes them.
        epoch: the newest epoch that changed it.
    """

    step: str
    manifests: Mapping[int, tuple[str | bytes, ...]]
    epoch: int

    @property
    def files(self) -> frozenset[str]:
        """The segment files named."""
        return frozenset(entry for entries in self.manifests.values() for entry in entries if isinstance(entry, str))


def read_manifests(recovery: Path, flow: str) -> list[StepState]:
    """What the newest durable epoch says of each keyed step.

    Args:
        recovery: Bytewax's recovery store. flow: the flow's name.
    Raises: ConfigurationError where there is no recovery store, or one of another release.
    """
    if not _partitions(recovery):
        raise ConfigurationError(f"{recovery}: expected a recovery store, found none: this pipeline has not run yet")
    states = []
    for step, changes in sorted(_durable(recovery, flow).items()):
        manifests: dict[int, tuple[str | bytes, ...]] = {}
        for _, change in changes.values() if step.endswith(KEYED) else ():
            try:
                if (state := None if change is None else _plain(change)) is not None:  # a step may keep nothing
                    manifests.update([_manifest(state)])
            except ValueError as error:
                raise ConfigurationError(
                    f"{recovery}: step {step}: expected manifests of version {STATE_VERSION}, plain values only, "
                    f"found {error}: another release wrote it, or nothing of Headrace"
                ) from error
        if manifests:
            newest = max(epoch for epoch, _ in changes.values())
            states.append(StepState(step.removeprefix(f"{flow}."), manifests, newest))
    return states


def read_clock(recovery: Path, flow: str) -> int | None:
    """The greatest time that a durable epoch of the flow was told, in microseconds since 1970; None for none."""
    told = [
        state[1]
        for changes in _durable(recovery, flow).values()
        if PART in changes and (change := changes[PART][1]) is not None and (state := _plain(change)) is not None
    ]
    return max(told, default=None)


def read_positions(recovery: Path, flow: str) -> dict[str, tuple[Any, ...]]:
    """The newest durable state of each source partition, by its name; {} where the flow has not run."""
    found: dict[str, tuple[Any, ...]] = {}
    for step, changes in _durable(recovery, flow).items():
        if step != f"{flow}.source":
            continue
        for part, (_, change) in changes.items():
            if change is not None and isinstance(state := _plain(change), tuple):
                found[part] = state
    return found


def _partitions(recovery: Path) -> list[Path]:
    return sorted(recovery.glob("part-*.sqlite3"))


def _durable(recovery: Path, flow: str) -> dict[str, dict[str, tuple[int, bytes | None]]]:
    """{step: {key: (epoch, snapshot)}} of the flow, as of its newest durable epoch."""
    executions: dict[int, list[int]] = {}
    rows: list[tuple[str, str, int, bytes | None]] = []
    for path in _partitions(recovery):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            connection.execute("BEGIN")
            for number, frontier in connection.execute("SELECT ex_num, worker_frontier FROM fronts"):
                executions.setdefault(number, []).append(frontier)
            rows += connection.execute(
                "SELECT step_id, state_key, snap_epoch, ser_change FROM snaps ORDER BY snap_epoch"
            ).fetchall()
    durable = min(executions[max(executions)]) if executions else 0
    found: dict[str, dict[str, tuple[int, bytes | None]]] = {}
    for step, key, epoch, change in rows:
        if epoch < durable and step.startswith(f"{flow}."):
            found.setdefault(step, {})[key] = (epoch, change)
    return found


def _manifest(state: Any) -> tuple[int, tuple[str | bytes, ...]]:
    """(slot, entries) of a keyed step's snapshot. Raises ValueError with what was found where it is none."""
    if not isinstance(state, tuple) or len(state) != 3 or state[0] != STATE_VERSION:
        raise ValueError(repr(state)[:80])
    _, slot, entries = state
    plain = isinstance(entries, tuple) and all(isinstance(entry, str | bytes) for entry in entries)
    if not isinstance(slot, int) or not plain:
        raise ValueError(repr(state)[:80])
    return slot, entries


def _plain(data: bytes) -> Any:
    """Unpickles plain values only: a recovery store from elsewhere must not run code here. Raises ValueError."""

    class Refusing(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            raise ValueError(f"{module}.{name}")

    try:
        return Refusing(io.BytesIO(data)).load()
    except Exception as error:  # damaged bytes make pickle raise nearly anything
        raise ValueError(str(error)) from error


def stores_of(state: StepState, flow: str, location: str) -> dict[str, tuple[pa.Table, int]]:
    """The live rows of each store of a step, and the number of slots that have some.

    Keys are not known here, so the last row of a key is told by the store's own key, which every segment carries.
    Raises: FatalError where a segment is missing or damaged.
    """
    files = SegmentStore(location, f"{flow}.{state.step}", 0, make=False)
    opened: dict[str, segment.Segment] = {}
    found: dict[str, list[pa.RecordBatch]] = {}
    for slot, entries in sorted(state.manifests.items()):
        parts: dict[str, list[pa.RecordBatch]] = {}
        keys: dict[str, tuple[int, ...]] = {}
        for entry in entries:
            if isinstance(entry, str) and entry not in opened:
                opened[entry] = files.read(entry)
            one = opened[entry] if isinstance(entry, str) else segment.read(entry)
            for name, record in slot_rows(one, slot):
                parts.setdefault(name, []).append(record)
                keys[name] = tuple(one.metadata["keys"][name])  # of the newest rows, which are the widest
        for name, records in parts.items():
            rows = latest(records, keys[name], drop_deletes=True)
            found.setdefault(name, []).append(rows.drop_columns([OP]))
    return {
        name: (pa.Table.from_batches([concatenated(records)]), sum(1 for one in records if one.num_rows))
        for name, records in found.items()
    }


def read_state(recovery: Path, flow: str, location: str) -> list[tuple[StepState, dict[str, tuple[pa.Table, int]]]]:
    """Each step with {store: (rows, slots with rows)}, of the newest durable epoch.

    Raises: ConfigurationError where the pipeline has not run, FatalError where a segment is missing.
    """
    for attempt in range(_TRIES):
        try:
            states = read_manifests(recovery, flow)
            return [(state, stores_of(state, flow, location)) for state in states]
        except FatalError:
            if attempt == _TRIES - 1:  # gone for good, not merged away beside us
                raise
    raise AssertionError("unreachable")


def view_name(step: str, store: str) -> str:
    """What a store is called in SQL: letters, digits and underscores."""
    return re.sub(r"\W+", "_", f"{step.removesuffix(KEYED)}_{store}").strip("_").lower()
