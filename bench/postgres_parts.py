"""What the measures of [source.postgres] share: a table and its changes, a flow, both ends compared by SQL."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import rig, truth

COLUMNS = (
    "order_id int, line_no int, sku text, quantity int, unit_price numeric(18,4), discount numeric(5,2), "
    "note text, created_at timestamptz"
)
NAMES = ("order_id", "line_no", "sku", "quantity", "unit_price", "discount", "note", "created_at")
DDL = f"CREATE TABLE items ({COLUMNS}, PRIMARY KEY (order_id, line_no))"
_VALUES = (
    "'SKU-' || g % 9973, g % 100, (g % 99991) * 0.0137, (g % 30) * 0.01, "
    "CASE WHEN g % 4 = 0 THEN NULL ELSE repeat('n', g % 40) END, now() FROM generate_series({first}, {last}) g"
)
ROWS = "SELECT g / 4, g % 4, " + _VALUES
TRANSACTION_ROWS = 1000
_PIPELINE = """
name = "bench"
[source.postgres]
dsn = "env:BENCH_SOURCE_DSN"
{source}
[tables.items]
topic = "public.items"
[sink.{sink}]
{settings}
"""


def fill(connection: Any, first: int, last: int) -> None:
    """Insert rows with the numbers first..last, a thousand in a transaction."""
    for start in range(first, last + 1, TRANSACTION_ROWS):
        connection.execute("INSERT INTO items " + ROWS.format(first=start, last=min(start + 999, last)))


def change(connection: Any, first: int, transactions: int) -> int:
    """Write transactions of a thousand changes (800 inserts, 150 updates, 50 deletes); how many changes it were.

    Args:
        first: the first one's number, which no other transaction and no row of `fill` has.
    """
    for number in range(first, first + transactions):
        order = -1 - number  # apart from the rows of `fill`
        rows = f"INSERT INTO items SELECT {order}, g, " + _VALUES.format(first=0, last=799)
        with connection.transaction():
            connection.execute(rows)
            connection.execute(f"UPDATE items SET quantity = -1 WHERE order_id = {order} AND line_no < 150")
            connection.execute(f"DELETE FROM items WHERE order_id = {order} AND line_no >= 750")
    return transactions * TRANSACTION_ROWS


def drop_slot(connection: Any, slot: str, seconds_max: float = 30.0) -> None:
    """Drop a slot that may have a reader, whose session lives a moment longer than its connection.

    Raises SystemExit where it stays in use.
    """
    import psycopg

    there = "FROM pg_replication_slots WHERE slot_name = %s"
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        connection.execute(f"SELECT pg_terminate_backend(active_pid) {there} AND active_pid IS NOT NULL", (slot,))
        try:
            connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {there}", (slot,))
            return
        except psycopg.errors.ObjectInUse:
            time.sleep(0.1)
    raise SystemExit(f"bench: slot {slot} stays in use for {seconds_max:.0f} s")


class Flow:
    """A pipeline file from database to database, or to nowhere, with a state directory of its own.

    Args:
        directory: where the file, the state and the log lie. source, target: DSNs; target "": the null sink.
        source_settings, sink_settings: more lines of the two sections; the source's may end with more sections.
    """

    def __init__(
        self,
        directory: Path,
        source: str,
        target: str,
        *,
        source_settings: str = "",
        sink_settings: str = "",
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.file, self.state, self.log = directory / "pipeline.toml", directory / "state", directory / "run.log"
        sink, settings = ("postgres", 'dsn = "env:BENCH_DSN"\n' + sink_settings) if target else ("null", sink_settings)
        self.file.write_text(_PIPELINE.format(source=source_settings, sink=sink, settings=settings), "utf-8")
        self.source, self.target = source, target

    def command(self, processes: int, *, until_end: bool) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of `headrace run`."""
        arguments, environment = rig.headrace_run(self.file, self.target, processes, until_end=until_end)
        return arguments, environment | {"BENCH_SOURCE_DSN": self.source, "HEADRACE_STATE_DIR": str(self.state)}

    def run(self, processes: int = 1, seconds_max: float = 3600.0) -> rig.Run:
        """Up to the end of what is there. Raises SystemExit with the log's end where it fails or takes too long."""
        arguments, environment = self.command(processes, until_end=True)
        try:
            return rig.run(arguments, self.log, environment, seconds_max)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"bench: `headrace run` took over {seconds_max:.0f} s:\n{self.log_end()}") from None

    def start(self, processes: int = 1) -> subprocess.Popen[bytes]:
        """Without an end."""
        arguments, environment = self.command(processes, until_end=False)
        return rig.start(arguments, self.log, environment)

    def log_end(self) -> str:
        """The last lines of its log."""
        return self.log.read_text("utf-8", "replace")[-4000:] if self.log.exists() else ""


def compared(source: Any, target: Any, table: str, names: Sequence[str]) -> truth.Comparison:
    """Two tables on two servers: how many rows, and the sum of all rows' hashes; counted out only where they differ."""
    row = f"hashtextextended(ROW({', '.join(names)})::text, 0)"
    digest = f"SELECT count(*), coalesce(sum({row}::numeric), 0) FROM {table}"
    wanted, there = (connection.execute(digest).fetchone() for connection in (source, target))
    if wanted == there:
        return truth.Comparison(wanted[0], there[0], 0, 0)
    expected, found = (Counter(h for (h,) in c.execute(f"SELECT {row} FROM {table}")) for c in (source, target))
    return truth.counted(expected, found)
