"""Change batches, segments and targets in few words, for the tests of the sink side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.base.items import Marker, Truncate
from connectors.base.target import with_markers
from connectors.postgres.config import PostgresConfig, TargetTable
from connectors.postgres.target import PostgresTarget
from libcore import segment
from libcore.change import ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.position import make
from libcore.schema import Column, Table, parse_type

FLOW, STORE = "flow", "store-1"
_OPS = {"u": Op.UPSERT, "d": Op.DELETE, "c": Op.INSERT}


def table(name_: str = "public.items", key: Sequence[str] = ("id",), /, **types: str) -> Table:
    """A table with a column for each keyword, of the type said."""
    columns = types or {"id": "int64", "name": "string"}
    return Table(name_, tuple(Column(name, parse_type(text)) for name, text in columns.items()), tuple(key))


def batch(of: Table, rows: Iterable[Mapping[str, Any]], first_order: int = 1) -> ChangeBatch:
    """Changes from dicts; "op" is "u" (default), "d" or "c" (an insert), "unset" a set of columns without a value."""
    rows = list(rows)
    with_unset = any(row.get("unset") for row in rows)
    schema = arrow_schema(of, with_unset)
    width = unset_bytes(of)
    data = []
    for number, row in enumerate(rows):
        bits = sum(1 << index for index, column in enumerate(of.columns) if column.name in row.get("unset", ()))
        data.append(
            {
                **{column.name: row.get(column.name) for column in of.columns},
                "__op": int(_OPS[row.get("op", "u")]),
                "__position": make(0, 1, first_order + number),
                "__unset": bits.to_bytes(width, "little"),
            }
        )
    return ChangeBatch(of, pa.RecordBatch.from_pylist(data, schema=schema))


def segment_of(
    *batches: ChangeBatch, truncates: Sequence[tuple[str, str]] = (), markers: Sequence[Marker] = ()
) -> segment.Segment:
    """A segment, through its bytes."""
    metadata = with_markers({}, [*(Truncate(*pair) for pair in truncates), *markers])
    return segment.read(segment.write([(item.table, item.record) for item in batches], metadata))


def config(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> PostgresConfig:
    """The settings of a target whose dsn is a secret in the environment."""
    monkeypatch.setenv("HEADRACE_TEST_DSN", dsn)
    return PostgresConfig(dsn="env:HEADRACE_TEST_DSN", **settings)


def target(
    settings: PostgresConfig, *tables: Table, parts: int = 1, store: str = STORE, flow: str = FLOW, **modes: Any
) -> PostgresTarget:
    """A target that sends each table to one of the same name, after its preflight."""
    made = PostgresTarget(settings, flow, store, parts, {each.name: TargetTable(each.name, **modes) for each in tables})
    made.preflight(tables)
    return made
