"""The page of Oracle: its commands work against the double; what it says of Debezium's topics is so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.formats.binding import TopicBinding
from connectors.formats.debezium import DebeziumDecoder
from connectors.formats.declared import DeclaredColumn
from libcore.change import POSITION, UNSET, ChangeBatch
from libcore.position import split
from libcore.schema import parse_type
from tests.connectors.debezium_parts import drain, raw
from tests.connectors.test_source_pages import run_page
from tests.doubles.oracle.database import OracleDatabase
from tests.doubles.oracle.install import environment

UNAVAILABLE = "__debezium_unavailable_value"


def test_the_page_runs(postgres: str, tmp_path: Path) -> None:
    """check, doctor, a run and a verification that finds all equal, as they stand on the page."""
    database = OracleDatabase(tmp_path / "oracle.db", threads=2)
    columns = [("ID", "NUMBER(10)"), ("STATUS", "VARCHAR2(20)"), ("TOTAL", "NUMBER"), ("PLACED", "DATE")]
    database.create_table("ERP.ORDERS", columns, ["ID"])
    rows = [{"ID": n, "STATUS": "open", "TOTAL": f"{n}.25", "PLACED": "2026-01-02 03:04:05"} for n in range(200)]
    database.write("ERP.ORDERS", rows)
    database.close()
    login = {name.replace("ORACLE", "ERP"): value for name, value in environment(tmp_path / "oracle.db").items()}
    assert run_page("oracle", tmp_path, {"WAREHOUSE_DSN": postgres, **login}) == 1


def event(before: dict[str, Any], after: dict[str, Any], scn: int, commit_scn: int) -> dict[str, Any]:
    """What Debezium's Oracle connector writes for an update."""
    source = {
        "version": "3.2.0.Final", "connector": "oracle", "name": "erp", "ts_ms": 1760000000123, "snapshot": "false",
        "db": "erp", "sequence": None, "ts_us": 1760000000123456, "schema": "DEBEZIUM", "table": "T",
        "txId": "6.28.807", "scn": str(scn), "commit_scn": str(commit_scn), "lcr_position": None,
        "rs_id": "001234.00012345.0124", "ssn": 1, "redo_thread": 1, "user_name": "u", "row_id": "AAASgjAAMAAAACnAAA",
    }  # fmt: skip
    return {"before": before, "after": after, "source": source, "op": "u", "ts_ms": 1760000000200}


@pytest.mark.parametrize("wrapped", [False, True])
def test_debeziums_oracle_envelopes_are_read(wrapped: bool) -> None:
    """Rows come in the order of their commit's SCN, which is told as text; a LOB that is not in the redo is unset."""
    events = [
        event({"id": 1, "c": "a"}, {"id": 1, "c": "b"}, 2122185, 2122189),
        event({"id": 1, "c": UNAVAILABLE}, {"id": 1, "c": UNAVAILABLE}, 2122187, 2122190),
    ]
    columns = (DeclaredColumn("id", parse_type("int64"), False), DeclaredColumn("c", parse_type("string"), True))
    binding = TopicBinding("T", columns, ("id",))
    messages = raw([({"id": 1}, {"schema": None, "payload": one} if wrapped else one) for one in events])
    batches = [item for item in drain(DebeziumDecoder("erp.DEBEZIUM.T", 0, binding), messages)]
    assert all(isinstance(item, ChangeBatch) for item in batches)
    rows = [row for item in batches for row in item.record.to_pylist()]
    assert [(row["id"], row["c"]) for row in rows] == [(1, "b"), (1, None)]
    assert [split(row[POSITION])[1] for row in rows] == [2122189, 2122190]
    assert [row.get(UNSET, b"\0") for row in rows] == [b"\0", b"\2"]
