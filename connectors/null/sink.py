"""A target that counts rows and keeps none, with the same progress and fence as a real one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.base.target import Applied, Progress
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

    def preflight(self, tables: Sequence[Table]) -> None:
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

    def count(self, part: int, rows: int) -> None:
        """Add rows; called by the part's thread."""
        with self._lock:
            self._rows[part] = self._rows.get(part, 0) + rows


class NullPart:
    """One part's session."""

    def __init__(self, target: NullTarget, path: Path | None, store_id: str, part: int) -> None:
        self._target, self._path, self._store_id, self._part = target, path, store_id, part
        self._seq: int | None = None

    def progress(self) -> Progress | None:
        """What the file says; None without one, where the manifest decides."""
        if self._path is None:
            return None
        if not self._path.exists():
            self._seq = 0
            return Progress(0, self._store_id)
        saved = json.loads(self._path.read_text("utf-8"))
        self._seq = int(saved["seq"])
        return Progress(self._seq, str(saved["store_id"]))

    def apply(self, seq: int, segment: Segment) -> Applied:
        """Count the rows and keep the seq."""
        if self._seq == seq:
            return Applied(0, repeated=True)
        if self._seq is not None and self._seq != seq - 1:
            raise FatalError(f"null target, part {self._part}: expected segment {self._seq + 1}, found {seq}")
        rows = sum(record.num_rows for _, record in segment.parts)
        if self._path is not None:
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps({"seq": seq, "store_id": self._store_id}), "utf-8")
            os.replace(draft, self._path)
        self._seq = seq
        self._target.count(self._part, rows)
        return Applied(rows)

    def settle(self) -> bool:
        """Nothing is owed: there are no tables to empty."""
        return True

    def ways_out(self, seq: int) -> str:
        """Remove the progress file."""
        return f"remove {self._path}, or start with the state directory that wrote it"

    def close(self) -> None:
        """Nothing to end."""
