"""Debezium messages without a schema part, as a PostgreSQL connector writes them, for small tests."""

from __future__ import annotations

import itertools
import json
from typing import Any

_LSN = itertools.count(1000)


def change(
    op: str, before: dict[str, Any] | None, after: dict[str, Any] | None, key: list[str]
) -> tuple[bytes | None, bytes]:
    """(key, value) of one change; the key is that of the row it is about."""
    row = after or before
    assert row is not None
    lsn = next(_LSN)
    source = {"snapshot": "false", "ts_ms": 1_795_233_611_000, "sequence": f'["{lsn}","{lsn}"]', "lsn": lsn}
    value = {"before": before, "after": after, "source": source, "op": op, "ts_ms": 1_795_233_611_001}
    text = json.dumps({name: row[name] for name in key}).encode() if key else None
    return text, json.dumps(value).encode()
