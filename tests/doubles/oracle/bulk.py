"""Mined rows made beforehand, served as slices: what the connector can do is measured, not what the double can."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa


def file_of(path: Path) -> Path:
    """Where the rows for a database lie."""
    return path.with_suffix(".arrow")


def keep(path: Path, rows: pa.Table) -> None:
    """Keep mined rows, in the order of their SCN, with every column that is asked for."""
    with pa.OSFile(str(file_of(path)), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


def opened(path: Path) -> Bulk | None:
    """The rows made beforehand for a database; None: there are none."""
    return Bulk(file_of(path)) if file_of(path).exists() else None


class Bulk:
    """Mined rows, in memory that is mapped."""

    def __init__(self, path: Path) -> None:
        self._rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()

    def frames(self, binds: Mapping[str, Any], size: int, wanted: pa.Schema | None) -> Iterator[pa.Table]:
        """Rows with an SCN in (low, high], of the columns wanted."""
        low, high = (int(binds[name]) for name in ("low", "high"))
        first, last = self._behind(low), self._behind(high)
        rows = self._rows if wanted is None else self._rows.select(wanted.names).cast(wanted)
        if first == last:
            yield rows.slice(0, 0)
        for start in range(first, last, size):
            yield rows.slice(start, min(size, last - start))

    def _behind(self, scn: int) -> int:
        """The first row behind an SCN."""
        column = self._rows.column("SCN")
        return bisect.bisect_right(range(len(column)), scn, key=lambda place: column[place].as_py())
