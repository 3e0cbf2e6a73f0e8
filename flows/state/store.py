"""The state directory of a pipeline: what it holds, what it is bound to, and the refusal to mix two of them up.

    headrace.json     format, store_id, name, sink, slots, parts; written once, by whichever process comes first
    topics.json       topics that were read in a durable epoch
    steps.json        what the steps were in a durable epoch
    routes.json       tables whose rows all go through one sink part
    tables.json       columns and key of tables that steps read, with every column that they had once
    recovery/         Bytewax's recovery store
    segments/         the steps' state
    spool/            segments on their way to the target
    run/              worker-N.json: what each worker says about itself
    dead-letters/     Parquet files
    rollout/          how far new versions of steps have come, and rows that differed

Every process of a flow must see the same directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from connectors.base import json_file
from connectors.base.durable import make_directory, sync_directory
from libcore.errors import ConfigurationError
from libcore.schema import Table
from libcore.segment import table_as_json, table_from_json

FORMAT = 1
_FILE = "headrace.json"


@dataclass(frozen=True)
class Store:
    """An opened state directory. `slots` and `parts` are fixed for its life: they say where a key's changes wait."""

    directory: Path
    store_id: str
    slots: int
    parts: int

    @property
    def spool(self) -> Path:
        """Where segments lie."""
        return self.directory / "spool"

    @property
    def run(self) -> Path:
        """Where workers write their status."""
        return self.directory / "run"

    @property
    def dead_letters(self) -> Path:
        """Where dead letters lie as Parquet files."""
        return self.directory / "dead-letters"

    def topics(self) -> frozenset[str]:
        """Topics that the flow has read before."""
        return frozenset(json_file.read(self.directory / "topics.json", []))

    def remember_topics(self, topics: Iterable[str]) -> None:
        """Add topics that were read in a durable epoch."""
        json_file.write(self.directory / "topics.json", sorted(self.topics() | set(topics)), durably=True)

    def steps(self) -> dict[str, Any] | None:
        """What the pipeline's steps were at the newest durable epoch of a run; None where none was."""
        found: dict[str, Any] | None = json_file.read(self.directory / "steps.json", None)
        return found

    def remember_steps(self, steps: Mapping[str, Any]) -> None:
        """Keep what they are, for the next start."""
        if self.steps() != steps:
            json_file.write(self.directory / "steps.json", steps, durably=True)

    def route(self, table: str) -> bool | None:
        """Whether the table's rows all go through one part; None where it is not known yet."""
        return json_file.read(self.directory / "routes.json", {}).get(table)

    def remember_route(self, table: str, single_part: bool) -> None:
        """Keep it, for a start while the target is down, and to see a change of it."""
        with self._alone():
            routes = json_file.read(self.directory / "routes.json", {})
            if routes.get(table) != single_part:
                json_file.write(self.directory / "routes.json", {**routes, table: single_part}, durably=True)

    def table(self, name: str) -> Table | None:
        """The table of that name as it was last seen by a step; None where none was."""
        found = json_file.read(self.directory / "tables.json", {}).get(name)
        return None if found is None else table_from_json(found)

    def remember_table(self, table: Table) -> None:
        """Keep a table that a step reads, and of what is kept of it already every column: state may have its values."""
        with self._alone():  # two processes may see two tables grow at the same moment
            tables = json_file.read(self.directory / "tables.json", {})
            known = tables.get(table.name)
            wanted = table if known is None else grown(table_from_json(known), table)
            if known != table_as_json(wanted):
                tables[table.name] = table_as_json(wanted)
                json_file.write(self.directory / "tables.json", tables, durably=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process is in here."""
        with (self.directory / "tables.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def grown(table: Table, other: Table) -> Table:
    """The table with those columns of another shape of it that it lacks, behind its own; not every row has them."""
    names = {column.name for column in table.columns}
    more = tuple(replace(column, nullable=True) for column in other.columns if column.name not in names)
    return Table(table.name, (*table.columns, *more), table.key) if more else table


@dataclass(frozen=True)
class _Record:
    format: int
    store_id: str
    name: str
    sink: str
    slots: int
    parts: int


def open_store(directory: Path, name: str, sink: str, slots: int, parts: int) -> Store:
    """Make or open a state directory; several processes may do so at once.

    Args:
        directory: made where missing.
        name, sink: the pipeline's, and its sink's, name. slots, parts: as the pipeline file has them.
    Raises: ConfigurationError where the directory belongs to another pipeline or sink, or to other slots or parts.
    """
    wanted = _Record(FORMAT, secrets.token_hex(8), name, sink, slots, parts)
    try:
        for part in (directory, directory / "spool", directory / "run", directory / "dead-letters"):
            make_directory(part)
        found = _first(directory / _FILE, wanted)
    except OSError as error:
        raise ConfigurationError(
            f"state_dir {directory}: expected a writable directory, found: {error.strerror}"
        ) from error
    for field in ("format", "name", "sink", "slots", "parts"):
        if getattr(found, field) != getattr(wanted, field):
            raise ConfigurationError(
                f"state_dir {directory}: expected {field} {getattr(wanted, field)!r} as this pipeline says, found "
                f"{getattr(found, field)!r}; it is fixed for a pipeline's life: change it back, or begin anew with "
                "another state_dir and an empty target"
            )
    return Store(directory, found.store_id, slots, parts)


def _first(path: Path, wanted: _Record) -> _Record:
    """What the file says; written as wanted where it is missing, whole or not at all, by exactly one process."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(asdict(wanted), file)
            file.flush()
            os.fsync(file.fileno())
        try:
            with suppress(FileExistsError):  # another process was first: its record counts
                os.link(draft, path)  # unlike a rename it never replaces
        finally:
            draft.unlink()
        sync_directory(path.parent)
    try:
        return _Record(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}: expected a headrace.json of format {FORMAT}, found: {error}") from error
