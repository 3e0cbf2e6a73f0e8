"""A target that counts rows and keeps none, with the same progress and fence as a real one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.base.target import PREFLIGHT_S, Applied, Progress
from connectors.null.config import NullConfig
from libcore.errors import FatalError
from libcore.schema import Table
from libcore.segment import Segment


class NullTarget:
    """Counts rows a part.

    Args:
        flow_name, store_id, parts: as in SpooledSink. tables: where rows would go; not used.
    """

    def __init__(
        self,
        config: NullConfig,
        flow_name: str,
        store_id: str,
        parts: int,
        tables: Mapping[str, Any] | None = None,
    ) -> None:
        self._config, self._flow_name, self._store_id, self._parts = config, flow_name, store_id, parts
        self._tables = dict(tables or {})
        self._lock = threading.Lock()
        self._rows: dict[int, int] = {}

    @property
    def rows(self) -> int:
        """Rows applied in this process."""
        with self._lock:
            return sum(self._rows.values())

    def preflight(self, tables: Sequence[Table], *, wait_s: float = PREFLIGHT_S) -> None:
        """Make the progress directory where there is one."""
        if self._config.progress_dir is not None:
            self._config.progress_dir.mkdir(parents=True, exist_ok=True)

    def single_part_tables(self, tables: Sequence[Table]) -> frozenset[str]:
        """None: nothing can stand in a row's way."""
        return frozenset()

    def open(self, part: int) -> NullPart:
        """A session for a part."""
        folder = self._config.progress_dir
        path = None if folder is None else folder / f"{self._flow_name}-{part}.json"
        return NullPart(self, path, self._store_id, part)

    @contextmanager
    def counting(self, part: int) -> Iterator[Callable[[int], None]]:
        """One session at a time: gives what adds rows to a part's count."""

        def add(rows: int) -> None:
            self._rows[part] = self._rows.get(part, 0) + rows

        with self._lock:
            yield add


class NullPart:
    """One part's session."""

    def __init__(self, target: NullTarget, path: Path | None, store_id: str, part: int) -> None:
        self._target, self._path, self._store_id, self._part = target, path, store_id, part
        self._seq: int | None = None

    def progress(self) -> Progress | None:
        """What the file says; None without one, where the manifest decides."""
        return None if self._path is None else self._read(self._path)

    def apply(self, seq: int, segment: Segment) -> Applied:
        """Count the rows and keep the seq."""
        rows = segment.row_count
        with self._target.counting(self._part) as add:
            found = self._seq if self._path is None else self._read(self._path).seq
            if found == seq:
                return Applied(0, repeated=True)
            if found is not None and found != seq - 1:
                raise FatalError(f"null target, part {self._part}: expected segment {found + 1}, found {seq}")
            if self._path is not None:
                draft = self._path.with_suffix(".draft")
                draft.write_text(json.dumps({"seq": seq, "store_id": self._store_id}), "utf-8")
                os.replace(draft, self._path)
            self._seq = seq
            add(rows)
        return Applied(rows)

    def _read(self, path: Path) -> Progress:
        if not path.exists():
            return Progress(0, self._store_id)
        saved = json.loads(path.read_text("utf-8"))
        return Progress(int(saved["seq"]), str(saved["store_id"]))

    def settle(self) -> bool:
        """Nothing is owed: there are no tables to empty."""
        return True

    def ways_out(self, seq: int) -> str:
        """Remove the progress file."""
        return f"remove {self._path}, or start with the state directory that wrote it"

    def close(self) -> None:
        """Nothing to end."""
