"""oracle-logminer: redo rows a second that [source.oracle] makes decoded batches of, beside the aim, on one core.

Nothing but the connector is measured: V$LOGMNR_CONTENTS comes from the simulator in tests/doubles, whose rows were made
beforehand and are handed over as slices of mapped memory; it is asked how fast it can do that, too. No database server
takes part, and what the network to one costs is not in the number.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from bench import redo
from bench.measure import MemoryProbe, Result, one_core

AIM = 200_000.0
ROWS_MAX = 1_000_000
TRANSACTION_ROWS = 10
SCN_FIRST = 10_000
_TABLE = "ERP.ITEMS"
_ORACLE = {
    "int64": "NUMBER(18)",
    "int32": "NUMBER(9)",
    "string": "VARCHAR2(100)",
    "decimal(18,4)": "NUMBER(18,4)",
    "decimal(5,4)": "NUMBER(5,4)",
    "timestamp": "TIMESTAMP(6)",
}


def mined(count: int, schema: pa.Schema) -> pa.Table:
    """So many rows of V$LOGMNR_CONTENTS: transactions of ten changes and a commit, two open at a time, one SCN each."""
    chance = random.Random(7)
    rows: dict[str, list[Any]] = {name: [] for name in ("SCN", "OPERATION_CODE", "XID", "SQL_REDO")}
    number = changed = 0
    while number < count:
        pair = (number // (2 * (TRANSACTION_ROWS + 1)) * 2).to_bytes(7, "big")
        for place in range(2 * (TRANSACTION_ROWS + 1)):
            ends = place >= 2 * TRANSACTION_ROWS
            text = "commit" if ends else redo.statement(changed, chance)
            rows["SCN"].append(SCN_FIRST + number // 4)
            rows["OPERATION_CODE"].append(7 if ends else {"i": 1, "d": 2, "u": 3}[text[0]])
            rows["XID"].append(bytes([place % 2]) + pair)
            rows["SQL_REDO"].append(text)
            changed, number = changed + (not ends), number + 1
    of_row = [None if code == 7 else "ERP" for code in rows["OPERATION_CODE"]]
    fixed = {
        "CSF": 0, "ROLLBACK": 0, "STATUS": 0, "THREAD#": 1, "ROW_ID": "AAAR3sAAEAAAACXAAA", "TIMESTAMP": 1_767_225_600,
        "DATA_OBJ#": 70_000,
    }  # fmt: skip
    columns = []
    for field in schema:
        if field.name in ("SEG_OWNER", "TABLE_NAME"):
            values = of_row if field.name == "SEG_OWNER" else [one and "ITEMS" for one in of_row]
        else:
            values = rows.get(field.name, [fixed.get(field.name)] * number)
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _database(path: Path, rows: pa.Table) -> None:
    """A database whose one table is empty before the first of the rows was logged."""
    from tests.doubles.oracle import bulk
    from tests.doubles.oracle.database import OracleDatabase

    with closing(OracleDatabase(path)) as database:
        columns = [(name, _ORACLE[kind]) for name, kind in redo.COLUMNS.items()]
        database.create_table(_TABLE, columns, redo.KEY)
        database.connection.execute("UPDATE clock SET scn = ?", [SCN_FIRST - 10])
    bulk.keep(path, rows)


def _log_to(path: Path, scn: int) -> None:
    """The redo is there: the clock stands behind its last SCN."""
    from tests.doubles.oracle import store

    with closing(store.connect(path)) as connection:
        connection.execute("UPDATE clock SET scn = ?", [scn + 10])


def _source(directory: Path) -> Any:
    """The source's one partition, its reader not begun."""
    from connectors.base.database import SourceContext
    from connectors.formats.binding import TopicBinding
    from connectors.oracle.config import OracleConfig
    from connectors.oracle.source import OracleChanges

    for name, value in (("dsn", str(directory / "oracle.db")), ("user", "c##bench"), ("password", "x")):
        (directory / name).write_text(value, "utf-8")
    login = {name: f"file:{directory / name}" for name in ("dsn", "user", "password")}
    config = OracleConfig.model_validate({**login, "settle_s": 0.0, "window_scns_min": 20_000})
    changes = OracleChanges(config, SourceContext(flow="bench", directory=directory))
    tables = changes.describe([_TABLE])
    return changes.source(tables, {_TABLE: TopicBinding(_TABLE)}, until_end=True)


def _read(source: Any, path: Path, last_scn: int) -> tuple[int, float]:
    """Changes that came out of the redo, and the seconds; the snapshot of the empty table is read before."""
    with patch("connectors.oracle.source.BackgroundPartition", lambda name, reader, state, **_: (reader, state)):
        open_reader, state = source.build_part("source", source.list_parts()[0], None)
    reader = open_reader(state)
    count, began = 0, 0.0
    try:
        for piece in reader.pieces():
            if not began and piece is not None and piece.state[1] == "stream":
                _log_to(path, last_scn)
                began = time.perf_counter()
            count += sum(len(item) for item in piece.items) if piece is not None else 0
    finally:
        reader.close()
    return count, time.perf_counter() - began


def _served(path: Path, rows: int) -> float:
    """Seconds in which the simulator hands all rows over."""
    from connectors.oracle import sql
    from tests.doubles.oracle.bulk import opened

    made = opened(path)
    assert made is not None
    began = time.perf_counter()
    frames = made.frames({"low": 0, "high": 1 << 60}, 20_000, sql.CONTENTS_SCHEMA)
    assert sum(len(frame.combine_chunks()) for frame in frames) == rows
    return time.perf_counter() - began


def oracle_logminer(items: int, pairs: int, processes: int) -> Result:
    """Redo rows a second; equal where each of the changes came out once."""
    try:
        from tests.doubles.oracle.install import driver
    except ModuleNotFoundError:
        raise SystemExit("bench: oracle-logminer needs the simulator in tests/: run it in a checkout") from None
    from connectors.oracle import sql

    one_core()
    rows = mined(min(items, ROWS_MAX), sql.CONTENTS_SCHEMA)
    changes = rows.column("SEG_OWNER").length() - rows.column("SEG_OWNER").null_count
    last, rates, equal = rows.column("SCN")[-1].as_py(), [], True
    shim = patch.dict(sys.modules, {"oracledb": driver()})
    with shim, redirect_stdout(sys.stderr), MemoryProbe(os.getpid()) as probe:
        for _ in range(pairs):
            with tempfile.TemporaryDirectory(prefix="oracle-") as text:
                path = Path(text) / "oracle.db"
                _database(path, rows)
                served_s = _served(path, len(rows))
                count, seconds = _read(_source(Path(text)), path, last)
            equal = equal and count == changes
            rates.append(len(rows) / seconds)
            told = f"simulator {len(rows) / served_s:,.0f} rows/s, connector {rates[-1]:,.0f} rows/s"
            print(f"  oracle-logminer: {told}, {count:,} of {changes:,} changes", file=sys.stderr, flush=True)
    rate = sorted(rates)[len(rates) // 2]
    return Result("oracle-logminer", rate, "redo rows/s", "aim", AIM, rate / AIM, probe.peak_mb, equal)
