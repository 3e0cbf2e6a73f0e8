"""Rows that a step cannot pass on, as a ChangeBatch of the dead letter table: they travel like every other change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from connectors.base.metrics import DEAD_LETTERS as COUNTED
from libcore.change import OP, POSITION, SOURCE_TS, ChangeBatch, Op, arrow_schema
from libcore.dead_letter import DEAD_LETTERS

_SCHEMA = arrow_schema(DEAD_LETTERS)


def dead_letters(flow: str, step: str, batch: ChangeBatch, rows: Sequence[int], errors: Sequence[str]) -> ChangeBatch:
    """One dead letter a row.

    Args:
        flow, step: where it failed.
        batch: the batch as the step got it.
        rows: 0-based rows of the batch that failed.
        errors: one sentence a row.
    Returns: a batch of libcore.dead_letter.DEAD_LETTERS; `raw_value` holds the row as an Arrow IPC stream.
    """
    now = datetime.now(UTC)
    letters = []
    for row, error in zip(rows, errors, strict=True):
        one = batch.record.take(pa.array([row], pa.int64()))  # a slice would write its neighbours' bytes, too
        key = one.select(list(batch.table.key)).to_pylist()[0] if batch.table.key else None
        letters.append(
            {
                "flow": flow,
                "step": step,
                "table_name": batch.table.name,
                "key_text": None if key is None else json.dumps(key, default=str, ensure_ascii=False),
                "reason": "data",
                "error": error,
                "byte_position": -1,
                "raw_value": _ipc(one),
                "failed_at": now,
                OP: int(Op.UPSERT),
                POSITION: one.column(POSITION)[0].as_py(),
                SOURCE_TS: one.column(SOURCE_TS)[0].as_py(),
            }
        )
    COUNTED.labels(step).inc(len(letters))
    return ChangeBatch(DEAD_LETTERS, pa.RecordBatch.from_pylist(letters, schema=_SCHEMA))


def _ipc(record: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, record.schema) as writer:
        writer.write_batch(record)
    return sink.getvalue().to_pybytes()
