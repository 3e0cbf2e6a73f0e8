"""What the tests of windows that close share: the step, what is closed, and a flow that is killed once it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from connectors.base import json_file
from flows.testing import run_flow


def hourly(table: str, by: str, time: str) -> str:
    """A step that counts a table's rows an hour, told once an hour is over, into the table `hourly`."""
    return f"""
[[step]]
window = "{table}"
by = ["{by}"]
time = "{time}"
size = "1h"
aggregate = {{ orders = "count(*)" }}
emit = "final"
as = "hourly"
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
"""


def found(dsn: str, query: str) -> list[tuple[Any, ...]]:
    """Rows of a query at the target; none while there is no such table or column."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            return list(connection.execute(query))  # type: ignore[arg-type]
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return []


def closed(dsn: str, by: str) -> list[tuple[Any, ...]]:
    """(who, begin, rows) of the windows that were told."""
    return found(dsn, f'SELECT "{by}", window_start::time::text, orders FROM hourly ORDER BY 1, 2')


def has_read(directory: Path) -> bool:
    """Whether the flow has read something: what is written now comes behind its snapshot."""
    return bool(json_file.read(directory / "state" / "run" / "worker-0.json", {"events": 0})["events"])


def run_until(file: Path, dsn: str, ready: Callable[[], bool], **environment: str) -> None:
    """Run one process until that is so, and then kill it."""
    flow, given = f"flows.build:flow({str(file)!r})", {"WAREHOUSE_DSN": dsn, **environment}
    assert run_flow(flow, file.parent, kill_after_s=0.5, ready=ready, environment=given) == [-9]
