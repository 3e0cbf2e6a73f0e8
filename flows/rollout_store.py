"""The rollouts of a pipeline in its state directory: each process's state, a rollback for all, the differing rows.

    rollout/NAME/VERSION/worker-N.json        how far process N has come
    rollout/NAME/VERSION/rolled-back.json     any process's rollback, which is everybody's
    rollout/NAME/VERSION/rows-N-K.parquet     rows that differed: `differs`, `input.X`, `old.X`, `new.X`
    rollout/NAME/VERSION.reset-K/             the same, put aside by a person's reset

VERSION tells the pair of old and new version, so that another candidate begins anew, and no file speaks for another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import structlog

from connectors.base import json_file
from libcore.errors import ConfigurationError, CorruptionError
from libcore.rollout import State

FOLDER = "rollout"
_MARKER = "rolled-back.json"
_LOG = structlog.get_logger()


class RolloutStore:
    """One rollout as one process keeps it.

    Args:
        state: the state directory.
        name: the rollout's. version: of the pair of versions. process: this process's number.
        hidden_in, hidden_out: columns of the input and of the answer that nobody may read in clear: kept rows lack
            them. What a new version made of a hidden column may show it, so that is left out, too.
    """

    def __init__(
        self,
        state: Path,
        name: str,
        version: str,
        process: int,
        hidden_in: Collection[str] = (),
        hidden_out: Collection[str] = (),
    ) -> None:
        self.name, self._process = name, process
        self._hidden = {"input": hidden_in, "old": hidden_out, "new": {*hidden_in, *hidden_out}}
        self._folder = state / FOLDER / name / version
        self._file, self._marker = self._folder / f"worker-{process}.json", self._folder / _MARKER
        self._folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> State:
        """Where this process stood; from the beginning where nothing is known, or what is there cannot be read.

        Whether another process rolled back is `rollback`'s answer. Raises OSError.
        """
        try:
            found = State.from_data(json.loads(self._file.read_text("utf-8"))["state"])
        except FileNotFoundError:
            found = State()
        except (ValueError, KeyError, TypeError, CorruptionError) as error:
            _LOG.warning("a rollout begins again: its state cannot be read", rollout=self.name, error=str(error))
            found = State()
        if found.rolled_back:
            self.roll_back(found, None)  # perhaps the others could not be told when it happened
        return found

    def save(self, state: State) -> None:
        """Keep this process's state; a crash may lose the newest, which costs clean batches only. Raises OSError."""
        self._write(self._file, {"state": state.as_data(), "at": _now(), "pid": os.getpid()})

    def rollback(self) -> tuple[str, str] | None:
        """(reason, why) of a rollback in any process; None where there is none, or a person reset it."""
        if not self._marker.exists():
            return None
        try:
            about = json.loads(self._marker.read_text("utf-8"))
            return str(about["reason"]), str(about["why"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return "error", "rolled back; why cannot be read"

    def roll_back(self, state: State, kept: pa.RecordBatch | None) -> None:
        """Keep the rows, then tell all processes, durably; the first one's reason stays. Raises OSError."""
        if kept is not None and kept.num_rows:
            self._keep(kept)
        if self._marker.exists():
            return
        about = {"reason": state.reason, "why": state.why, "at": _now(), "process": self._process}
        self._write(self._marker, about, durably=True)

    def _keep(self, rows: pa.RecordBatch) -> None:
        names = [name for name in rows.schema.names if not self._is_hidden(name)]
        self._folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self._folder.glob(f"rows-{self._process}-*.parquet")))
        path = self._folder / f"rows-{self._process}-{number}.parquet"
        draft = path.with_suffix(".draft")
        try:
            parquet.write_table(pa.Table.from_batches([rows.select(names)]), draft)
            draft.replace(path)
        except (pa.ArrowException, OSError) as error:  # the rollback matters more than its evidence
            _LOG.error("differing rows could not be kept", rollout=self.name, error=str(error))

    def _is_hidden(self, name: str) -> bool:
        whose, _, column = name.partition(".")
        return column in self._hidden.get(whose, ())

    def _write(self, path: Path, data: dict[str, Any], durably: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        json_file.write(path, data, durably=durably)


@dataclass(frozen=True)
class Shown:
    """One rollout as its files say.

    Args:
        name, version: whose.
        rollback: reason, why, at, process; None: it goes on.
        workers: process -> its state and when that was written, ISO 8601.
        rows: files of differing rows.
        folder: where all that is.
    """

    name: str
    version: str
    rollback: dict[str, Any] | None
    workers: dict[int, tuple[State, str]]
    rows: tuple[Path, ...]
    folder: Path

    @property
    def newest(self) -> str:
        """When a process last wrote its state; empty where none did."""
        return max((at for _, at in self.workers.values()), default="")


def read(state: Path) -> list[Shown]:
    """The rollouts in a state directory: of each name the version that last ran. Reads only, beside a running flow."""
    found: dict[str, Shown] = {}
    for folder in sorted((state / FOLDER).glob("*/*")):
        if ".reset-" in folder.name or not folder.is_dir():
            continue
        shown = _shown(folder)
        if shown.name not in found or shown.newest > found[shown.name].newest:
            found[shown.name] = shown
    return list(found.values())


def reset(state: Path, name: str | None = None) -> list[str]:
    """Put rollbacks aside, so that the new versions begin again at the first stage, in running processes too.

    Args:
        name: of one rollout; None: all that are rolled back.
    Returns: the names.
    Raises: ConfigurationError where nothing of that is rolled back.
    """
    done = []
    for shown in read(state):
        if shown.rollback is None or name not in (None, shown.name):
            continue
        number = 1 + len(list(shown.folder.parent.glob(f"{shown.version}.reset-*")))
        # a quarantine for crashes of the new version would roll it back again at the next start
        (state / "user-functions" / f"{shown.name}-candidate.quarantined").unlink(missing_ok=True)
        shown.folder.rename(shown.folder.with_name(f"{shown.version}.reset-{number}"))
        done.append(shown.name)
    if not done:
        wanted = "a rollout that is rolled back" if name is None else f"rollout {name!r} to be rolled back"
        names = [f"{shown.name} ({'rolled back' if shown.rollback else 'not'})" for shown in read(state)]
        raise ConfigurationError(f"reset: expected {wanted}, found {', '.join(names) or 'no rollout'}")
    return done


def _shown(folder: Path) -> Shown:
    workers: dict[int, tuple[State, str]] = {}
    for file in folder.glob("worker-*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, CorruptionError):
            data = json.loads(file.read_text("utf-8"))
            workers[int(file.stem.removeprefix("worker-"))] = (State.from_data(data["state"]), str(data["at"]))
    rollback = None
    if (marker := folder / _MARKER).exists():
        try:
            rollback = json.loads(marker.read_text("utf-8"))
        except (OSError, ValueError):
            rollback = {"reason": "error", "why": "cannot be read", "at": "", "process": -1}
    rows = tuple(sorted(folder.glob("rows-*.parquet")))
    return Shown(folder.parent.name, folder.name, rollback, dict(sorted(workers.items())), rows, folder)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
