"""How far a request to read a table again has come, for who asked: DIRECTORY/run/request-ID.progress.json.

The file has {"table", "rows", "expected", "begun_at"}: rows read by this process, how many that will be about (null
where nobody knows), and Unix seconds of its first row's query. It is written at most once a second, and goes with the
answer.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from connectors.base import json_file

_EVERY_S = 1.0


def path(run: Path, identity: str) -> Path:
    """Where a request's file is, in the directory of answers."""
    return run / f"request-{identity}.progress.json"


class RequestProgress:
    """What was read of one request. Used by one thread.

    Args:
        run: where its file goes; None: nobody asks.
        expected: rows that are to be read, about; None: not known.
    """

    def __init__(self, run: Path | None, identity: str, table: str, expected: int | None) -> None:
        self._path = None if run is None else path(run, identity)
        self._words: dict[str, Any] = {"table": table, "rows": 0, "expected": expected, "begun_at": time.time()}
        self._write_at = 0.0
        self._told()

    @property
    def rows(self) -> int:
        """Rows read."""
        return int(self._words["rows"])

    def read(self, rows: int) -> None:
        """So many more were."""
        self._words["rows"] += rows
        self._told()

    def _told(self) -> None:
        if self._path is not None and time.monotonic() >= self._write_at:
            self._write_at = time.monotonic() + _EVERY_S
            self._path.parent.mkdir(parents=True, exist_ok=True)
            json_file.write(self._path, self._words)
